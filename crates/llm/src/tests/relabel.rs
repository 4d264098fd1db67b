//! Decisions on mined negatives: by one model, by two, by ranking.

use std::collections::{HashMap, HashSet};

use corpus::{Listed, NegativeLists};
use serde_json::json;

use super::{
    animals, context,
    double::{Double, Oracle, Play},
    model, session,
};
use crate::{
    Limits,
    jobs::relabel::{Method, Relabel},
    prompts,
};

fn lists() -> NegativeLists {
    let row = |documents: &[u32]| documents.iter().map(|document| Listed { document: *document, score: None }).collect();
    NegativeLists::from_rows(vec![row(&[1, 3, 0, 4, 5]), row(&[7, 8]), row(&[])])
}

fn oracle(error_rates: Vec<(String, f64)>) -> Oracle {
    let collection = animals();
    let text = |document: u32| collection.documents.text(document).to_owned();
    // The fox query is also answered by the hen and the cat.
    let relevant = HashMap::from([
        ("where does the fox eat".to_owned(), HashSet::from([text(0), text(1), text(4)])),
        ("how long do young owls stay".to_owned(), HashSet::from([text(2)])),
    ]);
    Oracle { relevant, error_rates }
}

/// Query, document and decision of a row.
fn pair(row: &serde_json::Value) -> ((String, String), String) {
    let [query, document, decision] = ["qid", "pid", "decision"].map(|name| row[name].as_str().unwrap().to_owned());
    ((query, document), decision)
}

fn decisions(method: Method, double: &Double, strong: bool) -> (HashMap<(String, String), String>, usize) {
    let folder = tempfile::tempdir().unwrap();
    let (collection, session, model) = (animals(), session(folder.path(), Limits::default()), model(double));
    let context = context(&session, &model, &collection);
    let job = Relabel::new(&lists(), collection.split("train").unwrap(), 10, 3, method);
    let outcome = job.run(&context);
    assert!(outcome.stop.is_none() && outcome.open == 0, "{:?}", outcome.stop);
    assert!(outcome.rejected.iter().all(|it| it.repaired == Some(true)), "{:?}", outcome.rejected);
    // Either all or none of the answers in these tests were sent back.
    let repair = (!outcome.rejected.is_empty()).then(|| prompts::repair(None).unwrap().version);
    assert!(outcome.rows.iter().all(|row| row.get("repair_prompt").and_then(|it| it.as_str()) == repair.as_deref()), "{:?}", outcome.rows);
    let output = crate::Folder::open(folder.path(), &json!({})).unwrap();
    output.write_outcome("decisions.jsonl", &outcome).unwrap();
    corpus::Decisions::read(&folder.path().join("decisions.jsonl"), &collection).unwrap();
    let found: HashMap<_, _> = outcome.rows.iter().map(pair).collect();
    let asked = double.records().iter().filter(|record| record.request.body["model"] == if strong { "strong" } else { "stand-in" }).count();
    (found, asked)
}

fn expected(relevant: &str) -> HashMap<(String, String), String> {
    [("q0", "d1"), ("q0", "d3"), ("q0", "d4"), ("q0", "d5"), ("q1", "d7"), ("q1", "d8")]
        .map(|(query, document)| {
            let decision = if query == "q0" && ["d1", "d4"].contains(&document) { relevant } else { "neg" };
            ((query.to_owned(), document.to_owned()), decision.to_owned())
        })
        .into()
}

#[test]
fn verdicts_find_the_false_negatives_and_a_strong_model_looks_again() {
    let prompt = || prompts::relabel(None).unwrap();
    let double = Double::on(0, oracle(Vec::new()), |_| Play::Good);
    let (found, asked) = decisions(Method::Verdict { prompt: prompt(), strong: None }, &double, false);
    assert_eq!(found, expected("pos"));
    assert_eq!(asked, 3, "five candidates of q0, of which one is a positive, in two requests; two of q1 in one");

    // A cheap model that flags everything it should not, and a strong one that knows.
    let double = Double::on(0, oracle(vec![("stand-in".into(), 1.0)]), |request| match request.text().split_once("Passages to judge:") {
        Some((_, judged)) if request.body["model"] == "stand-in" && judged.contains("\n[2] ") => {
            Play::Says(r#"{"relevant": [1], "unsure": [2]}"#)
        }
        _ if request.body["model"] == "stand-in" => Play::Says(r#"{"relevant": [1]}"#),
        _ => Play::Good,
    });
    let mut strong = model(&double);
    strong.name = "strong".into();
    let (found, asked) = decisions(Method::Verdict { prompt: prompt(), strong: Some(strong) }, &double, true);
    assert!(asked == 3 && found.values().all(|it| it != "drop"), "{found:?}");
    assert!(
        found.iter().all(|(pair, decision)| decision == "neg" || expected("pos")[pair] == "pos"),
        "only what the strong model confirms"
    );
}

/// Each decision carries the model that made it, and the estimate knows what was answered, in both stages.
#[test]
fn decisions_name_who_made_them() {
    let double = Double::on(0, oracle(Vec::new()), |_| Play::Good);
    let folder = tempfile::tempdir().unwrap();
    let (collection, session, model) = (animals(), session(folder.path(), Limits::default()), model(&double));
    let context = context(&session, &model, &collection);
    let mut strong = model.clone();
    strong.name = "strong".into();
    let prompt = prompts::relabel(None).unwrap();
    let version = prompt.version.clone();
    let method = Method::Verdict { prompt, strong: Some(strong) };
    let job = Relabel::new(&lists(), collection.split("train").unwrap(), 10, 3, method);
    assert_eq!(job.estimate(&context).requests, 6, "a second look for each of three");
    let outcome = job.run(&context);
    // The hen and the cat are relevant for the fox's query: they alone were shown to the strong model.
    for row in &outcome.rows {
        let expected = if row["decision"] == "neg" { (json!("stand-in"), json!(null)) } else { (json!("strong"), json!("stand-in")) };
        assert_eq!((&row["model"], &row["first_model"]), (&expected.0, &expected.1), "{row}");
        assert_eq!(row["positives"], json!([if row["qid"] == "q0" { "d0" } else { "d2" }]), "{row}");
        assert_eq!(row["prompt"], version, "{row}");
    }
    let asked: Vec<_> = double.records().into_iter().filter(|record| record.request.body["model"] == "strong").collect();
    let after = job.estimate(&context);
    assert_eq!((after.requests, after.answered as usize), (0, 3 + asked.len()));
    assert!(!asked.is_empty() && asked.len() < 3);
}

/// Two models of one name at two endpoints: the second is asked also where it is shown what the first was shown.
#[test]
fn models_of_one_name_are_two() {
    let [cheap, strong] = [r#"{"relevant": [1, 2, 3]}"#, r#"{"relevant": []}"#].map(|says| Double::start(move |_| Play::Says(says)));
    let folder = tempfile::tempdir().unwrap();
    let (collection, session, first) = (animals(), session(folder.path(), Limits::default()), model(&cheap));
    let lists = NegativeLists::from_rows(vec![[1, 3, 4].map(|document| Listed { document, score: None }).into(), Vec::new(), Vec::new()]);
    let method = Method::Verdict { prompt: prompts::relabel(None).unwrap(), strong: Some(model(&strong)) };
    let job = Relabel::new(&lists, collection.split("train").unwrap(), 10, 3, method);
    let outcome = job.run(&context(&session, &first, &collection));
    assert_eq!((cheap.requests(), strong.requests()), (1, 1));
    assert!(outcome.rows.len() == 3 && outcome.rows.iter().all(|row| row["decision"] == "neg"), "{:?}", outcome.rows);
}

/// One model that looks twice, the second time with more thought. Each look is asked as its own settings say, and has an answer of its own.
#[test]
fn each_look_is_asked_as_its_model_says() {
    let double = Double::on(0, oracle(Vec::new()), |_| Play::Good);
    let folder = tempfile::tempdir().unwrap();
    let (collection, session, first) = (animals(), session(folder.path(), Limits::default()), model(&double));
    let sampling = |temperature: f64, body: serde_json::Value| crate::Sampling {
        temperature,
        body: body.as_object().unwrap().clone(),
        ..crate::Sampling::default()
    };
    let first = crate::Model { sampling: sampling(0.0, json!({ "top_p": 0.5 })), ..first };
    let strong = crate::Model { sampling: sampling(1.0, json!({ "reasoning_effort": "high", "max_tokens": 4000 })), ..first.clone() };
    let method = Method::Verdict { prompt: prompts::relabel(None).unwrap(), strong: Some(strong) };
    // The hen alone, which is relevant: both are shown the same.
    let lists = NegativeLists::from_rows(vec![vec![Listed { document: 1, score: None }], Vec::new(), Vec::new()]);
    let job = Relabel::new(&lists, collection.split("train").unwrap(), 10, 3, method);
    let context = context(&session, &first, &collection);
    let outcome = job.run(&context);
    assert_eq!((outcome.rows.len(), session.answers()), (1, 2), "{:?}", outcome.rows);
    let bodies: Vec<_> = double.records().into_iter().map(|record| record.request.body).collect();
    let said = |name: &str| bodies.iter().map(|body| body[name].clone()).collect::<Vec<_>>();
    assert_eq!(bodies[0]["messages"], bodies[1]["messages"]);
    assert_eq!(said("temperature"), [json!(0.0), json!(1.0)]);
    assert_eq!(said("top_p"), [json!(0.5), json!(null)]);
    assert_eq!(said("reasoning_effort"), [json!(null), json!("high")]);
    assert_eq!(said("max_tokens"), [json!(512), json!(4000)]);
    // Known to a run that goes on, however it samples.
    let estimate = job.estimate(&context);
    assert_eq!((estimate.requests, estimate.answered), (0, 2));
}

/// What the first model is sure of stays, where the stronger one gives no answer that can be used on the rest; that is neither negative nor
/// positive in training.
#[test]
fn what_the_stronger_model_does_not_settle_is_dropped() {
    let double = Double::on(0, oracle(Vec::new()), |request| match request.body["model"] == "strong" {
        true => Play::Says("I would rather not say."),
        false => Play::Good,
    });
    let folder = tempfile::tempdir().unwrap();
    let (collection, session, model) = (animals(), session(folder.path(), Limits::default()), model(&double));
    let context = context(&session, &model, &collection);
    let mut strong = model.clone();
    strong.name = "strong".into();
    let prompt = prompts::relabel(None).unwrap();
    let version = prompt.version.clone();
    let method = Method::Verdict { prompt, strong: Some(strong) };
    let job = Relabel::new(&lists(), collection.split("train").unwrap(), 10, 3, method);
    let outcome = job.run(&context);
    assert!(outcome.stop.is_none() && outcome.open == 0);
    let found: HashMap<_, _> = outcome.rows.iter().map(pair).collect();
    assert_eq!(found, expected("drop"));
    for row in outcome.rows.iter().filter(|row| row["decision"] == "drop") {
        assert_eq!((&row["model"], &row["first_model"]), (&json!("strong"), &json!("stand-in")), "{row}");
        assert!(row["unusable"].as_str().unwrap().contains("not the JSON"), "{row}");
    }
    // Both answers of each question are there, with what was wrong with them and whose they are.
    let by =
        |it: &crate::Rejected| (it.stage == "second verdicts", it.model.as_deref() == Some("strong"), it.prompt == Some(version.clone()));
    assert!(outcome.rejected.iter().all(|it| by(it) == (true, true, true)), "{:?}", outcome.rejected);
    let sent_back: Vec<_> = outcome.rejected.iter().map(|it| it.repaired).collect();
    assert!(!sent_back.is_empty() && sent_back.chunks(2).all(|both| both == [Some(false), None]), "{sent_back:?}");
    assert!(outcome.rejected.iter().all(|it| it.answer == "I would rather not say." && it.reason.contains("not the JSON")));

    let output = crate::Folder::open(folder.path(), &json!({})).unwrap();
    output.write_outcome("decisions.jsonl", &outcome).unwrap();
    let decisions = corpus::Decisions::read(&folder.path().join("decisions.jsonl"), &collection).unwrap();
    let judged = collection.split("train").unwrap();
    for policy in [corpus::Policy::Remove, corpus::Policy::Promote] {
        let (after, _) = decisions.apply(judged, policy);
        // Judged, with grade 0: no source serves it.
        assert_eq!((after.grade(0, 1), after.grade(0, 4)), (Some(0), Some(0)), "{policy:?}");
        assert_eq!((after.grade(0, 3), after.grade(0, 5)), (None, None), "{policy:?}");
    }
}

#[test]
fn what_is_unsure_is_dropped_and_numbers_out_of_range_are_repaired() {
    let double = Double::start(|request| {
        let repaired = request.text().contains("there is no passage 9");
        if repaired { Play::Says(r#"{"relevant": [1], "unsure": [1]}"#) } else { Play::Says(r#"{"relevant": [9]}"#) }
    });
    let (found, asked) = decisions(Method::Verdict { prompt: prompts::relabel(None).unwrap(), strong: None }, &double, false);
    assert_eq!(found.values().filter(|it| *it == "drop").count(), 3, "{found:?}");
    assert_eq!(asked, 6);
}

/// Ranked above the positive: a positive. Below it with an answer: dropped.
#[test]
fn rankings_move_what_is_above_and_drop_what_answers_below() {
    let method = || Method::Ranking { answers: prompts::answers(None).unwrap(), ranking: prompts::ranking(None).unwrap() };
    let numbers = |request: &super::double::Request, first: &'static [&'static str]| {
        let text = request.text();
        let passages: Vec<String> =
            text.rsplit_once("Passages:\n").unwrap().1.lines().take_while(|it| it.starts_with('[')).map(str::to_owned).collect();
        let mut order: Vec<usize> = (1..=passages.len()).collect();
        order.sort_by_key(|at| first.iter().position(|word| passages[at - 1].contains(word)).unwrap_or(99));
        Play::Says(Box::leak(json!({ "ranking": order }).to_string().into_boxed_str()))
    };
    let double = Double::on(0, oracle(Vec::new()), move |request| {
        // The hen is ranked above the fox, which is the positive; the cat below.
        if request.text().contains("Rank the") { numbers(request, &["hen", "fox", "owl", "cat"]) } else { Play::Good }
    });
    let (found, asked) = decisions(method(), &double, false);
    let mut right = expected("drop");
    right.insert(("q0".into(), "d1".into()), "pos".into());
    assert_eq!(found, right);
    assert_eq!(asked, 6);
}
