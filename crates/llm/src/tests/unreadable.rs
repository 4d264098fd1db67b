//! Models that answer what nobody can read: when that ends a job, and when it does not.

use std::path::Path;

use corpus::{Collection, Judgments, Listed, NegativeLists};

use super::{
    context,
    double::{Double, Play, Request},
    model, queries, session,
};
use crate::{
    Limits, Model, Outcome, Stop,
    jobs::{
        Context,
        relabel::{Method, Relabel},
    },
    prompts,
};

/// Two lines, where one is asked for.
const UNREADABLE: Play = Play::Says("I am\nnot sure");
/// What a model says that has nothing to say.
const EMPTY: &str = r#"{"choices":[{"message":{"content":null},"finish_reason":"stop"}]}"#;

/// Sixty documents on birds.
fn birds() -> Collection {
    let mut collection = Collection { name: "birds".into(), ..Collection::default() };
    for at in 0..60 {
        let text = format!("The bird number {at} sings in the morning, and sleeps in the top of a tree.");
        collection.documents.push(&format!("d{at}"), &text).unwrap();
    }
    collection
}

/// Whether a request is about one of the first `count` documents.
fn among_the_first(count: usize, request: &Request) -> bool {
    let text = request.text();
    (0..count).any(|at| text.contains(&format!("The bird number {at} ")))
}

/// Writes queries for the birds in `folder`, one after the other; the requests that it took.
fn write(folder: &Path, double: &Double, model: &Model, concurrency: usize) -> (Outcome, usize) {
    let (before, collection, session) = (double.requests(), birds(), session(folder, Limits::default()));
    let outcome = queries(&collection).run(&Context { concurrency, ..context(&session, model, &collection) });
    (outcome, double.requests() - before)
}

fn why(outcome: &Outcome) -> &str {
    match &outcome.stop {
        Some(Stop::Unreadable(why)) => why,
        other => panic!("it went on: {other:?}"),
    }
}

/// Forty questions, each sent back once. Everything that was paid is kept; a run that goes on asks ten before it ends, as something may have been mended,
/// and to the end once it has been.
#[test]
fn a_model_that_never_gives_the_form_ends_the_job() {
    let (folder, double) = (tempfile::tempdir().unwrap(), Double::start(|_| UNREADABLE));
    let (outcome, requests) = write(folder.path(), &double, &model(&double), 1);
    let told = why(&outcome);
    assert!(told.starts_with(&format!("model stand-in at {}/chat/completions: 40 questions in a row (queries)", double.url)), "{told}");
    assert!(told.contains("it has 2 lines, not one (it begins `I am not sure`); look at") && told.lines().count() == 1, "{told}");
    assert_eq!((requests, outcome.rows.len(), outcome.rejected.len(), outcome.open), (80, 0, 80, 20));
    assert_eq!(session(folder.path(), Limits::default()).answers(), 80);

    let (outcome, requests) = write(folder.path(), &double, &model(&double), 1);
    assert!(why(&outcome).contains("50 questions in a row"), "{}", why(&outcome));
    assert_eq!((requests, outcome.rejected.len(), outcome.open), (20, 100, 10));

    let mended = Double::start(|_| Play::Good);
    let (outcome, requests) = write(folder.path(), &mended, &model(&mended), 1);
    assert!(outcome.stop.is_none(), "{:?}", outcome.stop);
    assert_eq!((requests, outcome.rows.len(), outcome.rejected.len(), outcome.open), (10, 10, 100, 0));
}

/// With several at once those under way are waited for, and no more are sent.
#[test]
fn no_more_are_asked_than_were_under_way() {
    let (folder, double) = (tempfile::tempdir().unwrap(), Double::start(|_| UNREADABLE));
    let (outcome, requests) = write(folder.path(), &double, &model(&double), 4);
    why(&outcome);
    assert!((80..=80 + 3 * 2).contains(&requests), "{requests}");
    assert_eq!(session(folder.path(), Limits::default()).answers(), requests);
}

#[test]
fn one_answer_that_can_be_read_is_enough_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|request| if request.text().contains("The bird number 39 ") { Play::Good } else { UNREADABLE });
    let (outcome, requests) = write(folder.path(), &double, &model(&double), 1);
    assert!(outcome.stop.is_none(), "{:?}", outcome.stop);
    assert_eq!((requests, outcome.rows.len(), outcome.open), (59 * 2 + 1, 1, 0));

    // One in the journal is enough as well: of ten documents, then of all.
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|request| if among_the_first(10, request) { Play::Good } else { UNREADABLE });
    let (collection, model) = (birds(), model(&double));
    let mut job = queries(&collection);
    job.documents.truncate(10);
    job.run(&context(&session(folder.path(), Limits::default()), &model, &collection));
    let (outcome, requests) = write(folder.path(), &double, &model, 1);
    assert!(outcome.stop.is_none(), "{:?}", outcome.stop);
    assert_eq!((requests, outcome.rows.len(), outcome.open), (50 * 2, 10, 0));
}

/// What is left out for its quality has the form: how much that is, is for the user to say.
#[test]
fn an_answer_that_is_not_good_enough_can_be_read() {
    let (folder, double) = (tempfile::tempdir().unwrap(), Double::start(|_| Play::Says("what")));
    let (outcome, requests) = write(folder.path(), &double, &model(&double), 1);
    assert!(outcome.stop.is_none(), "{:?}", outcome.stop);
    assert!(outcome.rejected.iter().all(|it| it.reason.starts_with("too short")), "{:?}", outcome.rejected);
    assert_eq!((requests, outcome.rows.len(), outcome.open), (60, 0, 0));
}

/// Cut off at a length that is too short for any answer: a greater one asks for all of them again, in the same folder.
#[test]
fn answers_that_are_all_cut_off_end_the_job() {
    let double = Double::start(|request| if request.body["max_tokens"].as_u64() < Some(100) { Play::Cut } else { Play::Good });
    let (folder, mut model) = (tempfile::tempdir().unwrap(), model(&double));
    model.sampling.max_answer_tokens = 50;
    let (outcome, requests) = write(folder.path(), &double, &model, 1);
    assert!(why(&outcome).contains("cut off: it may have 50 tokens") && why(&outcome).contains("--max-answer-tokens"), "{}", why(&outcome));
    assert_eq!((requests, outcome.open), (40, 20));
    model.sampling.max_answer_tokens = 100;
    let (outcome, requests) = write(folder.path(), &double, &model, 1);
    assert!(outcome.stop.is_none(), "{:?}", outcome.stop);
    assert_eq!((requests, outcome.rows.len(), outcome.open), (60, 60, 0));
}

/// Empty answers are paid and count; what the endpoint does not take costs nothing, and others it may take.
#[test]
fn empty_answers_count_and_refusals_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|request| if among_the_first(1, request) { UNREADABLE } else { Play::Status(200, None, EMPTY) });
    let (outcome, requests) = write(folder.path(), &double, &model(&double), 1);
    assert!(why(&outcome).contains("40 questions in a row") && why(&outcome).contains("an empty answer"), "{}", why(&outcome));
    // Each is tried twice, and the first was sent back. An empty answer is none: it stays open.
    assert_eq!((requests, outcome.open), (40 * 2, 59));

    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|request| if among_the_first(1, request) { UNREADABLE } else { Play::Status(400, None, "too long") });
    let (outcome, requests) = write(folder.path(), &double, &model(&double), 1);
    assert!(outcome.stop.is_none(), "{:?}", outcome.stop);
    assert_eq!((requests, outcome.open), (2 + 59, 59));
}

/// The cheap model answers as it should, the strong one never does: its questions end the job, and what it was asked about stays dropped.
#[test]
fn each_kind_of_question_counts_for_itself() {
    let mut collection = birds();
    for at in 0..45 {
        collection.queries.push(&format!("q{at}"), &format!("where does bird {at} sing")).unwrap();
    }
    collection.splits.insert("train".into(), Judgments::from_pairs(45, (0..45).map(|at| (at, at, 1)).collect()));
    let lists = NegativeLists::from_rows((0..45).map(|at| vec![Listed { document: at + 10, score: None }]).collect());
    let double = Double::start(|request| if request.body["model"] == "strong" { UNREADABLE } else { Play::Says(r#"{"relevant": [1]}"#) });
    let (folder, cheap) = (tempfile::tempdir().unwrap(), model(&double));
    let strong = Model { name: "strong".into(), ..cheap.clone() };
    let method = Method::Verdict { prompt: prompts::relabel(None).unwrap(), strong: Some(strong) };
    let session = session(folder.path(), Limits::default());
    let job = Relabel::new(&lists, collection.split("train").unwrap(), 10, 3, method);
    let outcome = job.run(&Context { concurrency: 1, ..context(&session, &cheap, &collection) });
    let told = why(&outcome);
    assert!(told.starts_with("model strong at ") && told.contains("40 questions in a row (second verdicts)"), "{told}");
    assert!(told.contains("it is not the JSON asked for"), "{told}");
    let asked = |name: &str| double.records().iter().filter(|record| record.request.body["model"] == name).count();
    assert_eq!((asked("stand-in"), asked("strong")), (41, 80));
    assert_eq!((outcome.rows.len(), outcome.open), (40, 5));
    assert!(outcome.rows.iter().all(|row| row["decision"] == "drop"), "{:?}", outcome.rows);
}
