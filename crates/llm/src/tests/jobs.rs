//! What each job asks and makes of the answers.

use std::collections::{HashMap, HashSet};

use corpus::{Listed, NegativeLists};
use serde_json::json;

use super::{
    animals, context,
    double::{Double, Oracle, Play},
    model, queries, session,
};
use crate::{
    Attributes, Limits, Quality,
    jobs::{
        Context,
        gecko::{Gecko, Retrieve},
        negatives::{Negatives, queries_of},
        relabel::{Method, Relabel},
        triples::Triples,
    },
    prompts,
};

#[test]
fn queries_have_log_probabilities_and_samples_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|_| Play::Good);
    let (collection, session) = (animals(), session(folder.path(), Limits::default()));
    let mut model = model(&double);
    model.sampling.logprobs = true;
    let context = context(&session, &model, &collection);
    let mut job = queries(&collection);
    job.per_document = 2;
    job.examples = "Document:\nan example\nQuery: its query\n\n".into();
    job.quality.min_logprob = Some(-0.5);
    let before = job.estimate(&context);
    assert_eq!((before.requests, before.answered), (24, 0));
    let outcome = job.run(&context);
    assert_eq!(outcome.rows.len() + outcome.rejected.len(), 24);
    assert!(outcome.rows.iter().all(|row| (-0.5..=0.0).contains(&row["logprob"].as_f64().unwrap())));
    assert!(outcome.rows.iter().all(|row| row["model"] == "stand-in" && row["prompt"] == job.prompt.version.as_str()));
    assert!(!outcome.rejected.is_empty() && outcome.rejected.iter().all(|it| it.reason.contains("below -0.5")), "{:?}", outcome.rejected);
    let after = job.estimate(&context);
    assert_eq!((after.requests, after.answered, after.most_tokens), (0, 24, 0));
    assert!(session.spent().tokens <= before.most_tokens);
    let shown = double.records();
    assert!(shown.iter().all(|record| record.request.text().contains("an example\nQuery: its query\n\nDocument:\nThe ")));
    let seeds: HashSet<_> = shown.iter().map(|record| record.request.body["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds.len(), 24, "each sample has a seed of its own");
}

/// A job that goes on with log-probabilities asks again for what was answered without them, and once only.
#[test]
fn log_probabilities_are_asked_for_where_they_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|_| Play::Good);
    let collection = animals();
    let mut model = model(&double);
    for (logprobs, requests) in [(false, 12), (true, 24), (true, 24), (false, 24)] {
        model.sampling.logprobs = logprobs;
        let session = session(folder.path(), Limits::default());
        let context = context(&session, &model, &collection);
        assert_eq!(queries(&collection).estimate(&context).requests as usize, requests - double.requests());
        let outcome = queries(&collection).run(&context);
        assert_eq!((outcome.rows.len(), double.requests()), (12, requests));
        assert!(!logprobs || outcome.rows.iter().all(|row| row["logprob"].is_f64()));
    }
}

/// Rounds of tasks that say the same: they are numbered, and what is said twice is rejected with the reason.
#[test]
fn tasks_that_come_twice_are_told() {
    let tasks = json!((0..20).map(|at| format!("Task number {at}")).collect::<Vec<_>>()).to_string();
    let tasks: &'static str = Box::leak(tasks.into_boxed_str());
    let double = Double::start(move |request| if request.text().contains("JSON list of") { Play::Says(tasks) } else { Play::Good });
    let folder = tempfile::tempdir().unwrap();
    let (collection, session, model) = (animals(), session(folder.path(), Limits::default()), model(&double));
    let outcome = triples(25, 1).run(&context(&session, &model, &collection));
    assert_eq!((outcome.rows.len(), outcome.rejected.len()), (20, 20));
    assert!(outcome.rejected.iter().all(|it| it.stage == "tasks" && it.reason.starts_with("duplicate") && it.sources["round"] == 2));
    let asked: Vec<String> = double.records()[..2].iter().map(|record| record.request.text()).collect();
    assert!(asked.iter().any(|text| text.contains("list 1 of 2")) && asked.iter().any(|text| text.contains("list 2 of 2")), "{asked:?}");
}

fn triples(tasks: usize, per_task: u32) -> Triples {
    Triples {
        tasks,
        per_task,
        topic: "animals".into(),
        languages: vec!["English".into(), "German".into()],
        task_prompt: prompts::triple_tasks(None).unwrap(),
        prompt: prompts::triples(None).unwrap(),
        attributes: Attributes::of_triples(None).unwrap(),
        queries: Quality::QUERIES,
        passages: Quality::PASSAGES,
    }
}

#[test]
fn triples_come_of_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|_| Play::Good);
    let (collection, session, model) = (animals(), session(folder.path(), Limits::default()), model(&double));
    let context = context(&session, &model, &collection);
    let job = triples(25, 2);
    assert_eq!(job.estimate(&context).requests, 2 + 50);
    let outcome = job.run(&context);
    // The second round asks for more than are lacking, as some could say the same: 15 of its tasks are not used.
    assert_eq!((outcome.rows.len(), double.requests()), (50, 52), "{:?}", outcome.rejected);
    let after = job.estimate(&context);
    assert_eq!((after.requests, after.answered, after.most_tokens), (0, 52, 0));
    let prompts = [&job.prompt.version, &job.task_prompt.version].map(|version| json!(version));
    assert!(outcome.rows.iter().all(|row| [&row["prompt"], &row["task_prompt"]] == [&prompts[0], &prompts[1]]));
    let tasks: HashSet<_> = outcome.rows.iter().map(|row| row["task"].as_str().unwrap()).collect();
    assert_eq!(tasks.len(), 25);
    let records = double.records();
    let german = records.iter().filter(|record| record.request.text().contains("Language: German")).count();
    assert!((10..=40).contains(&german), "{german} of 50 in German");
    assert!(records.iter().all(|record| !record.request.text().contains("{{")), "every placeholder is filled");
    // The rows are a collection of their own.
    let folder = tempfile::tempdir().unwrap();
    let output = crate::Folder::open(folder.path(), &json!({})).unwrap();
    output.write_outcome("triples.jsonl", &outcome).unwrap();
    output.write_columns("collection/train.jsonl", &outcome, &["query", "positive", "negative"]).unwrap();
    let read = corpus::Collection::open(folder.path().join("collection").to_str().unwrap()).unwrap();
    assert_eq!((read.queries.len(), read.documents.len()), (50, 100));
    assert_eq!(read.split("train").unwrap().len(), 50);
}

#[test]
fn negatives_are_drawn_reflected_on_and_read_back() {
    let reflected = r#"{"negatives": [{"text": "The fox of the story eats grapes that hang high.", "answers": false},
        {"text": "The fox eats in field number zero.", "why": "it does", "answers": true}, {"text": "Too short"}]}"#;
    let double =
        Double::start(move |request| if request.text().contains("Query: where does the fox") { Play::Says(reflected) } else { Play::Good });
    let folder = tempfile::tempdir().unwrap();
    let (collection, session, model) = (animals(), session(folder.path(), Limits::default()), model(&double));
    let context = context(&session, &model, &collection);
    let split = collection.split("train").unwrap();
    let mut job = Negatives {
        queries: queries_of(&collection, split, true),
        per_query: 3,
        prompt: prompts::negatives_pair(None).unwrap(),
        attributes: Attributes::of_negatives(None).unwrap(),
        quality: Quality::PASSAGES,
    };
    let outcome = job.run(&context);
    assert_eq!(outcome.rows.len(), 3);
    assert_eq!(outcome.rows[0]["neg_synth"].as_array().unwrap().len(), 1);
    assert_eq!(outcome.rows[0]["pos"], json!(["d0"]));
    assert_eq!(outcome.rejected[0].sources, json!({ "query": "q0", "positives": ["d0"] }));
    assert_eq!(outcome.rows[1]["neg_synth"].as_array().unwrap().len(), 3);
    assert!(outcome.rows.iter().all(|row| row["model"] == "stand-in" && row["prompt"] == job.prompt.version.as_str()));
    assert!(outcome.rows[1]["neg_synth"][0]["attr"].as_str().unwrap().contains("length: "));
    let reasons: Vec<_> = outcome.rejected.iter().map(|it| it.reason.split([':', ' ']).next().unwrap()).collect();
    assert_eq!(reasons, ["on", "too"]);
    assert!(double.records().iter().any(|record| record.request.text().contains("[1] The fox eats what it finds")));

    let output = crate::Folder::open(folder.path(), &json!({})).unwrap();
    output.write_outcome("generated.jsonl", &outcome).unwrap();
    let read = corpus::Generated::read(&folder.path().join("generated.jsonl"), &collection).unwrap();
    assert_eq!((read.counts.rows, read.counts.negatives, read.counts.other_texts), (3, 7, 0));

    // From the query alone the positives are not shown.
    job.queries = queries_of(&collection, split, false);
    job.prompt = prompts::negatives_query(None).unwrap();
    let before = double.requests();
    let outcome = job.run(&context);
    assert!(double.records()[before..].iter().all(|record| !record.request.text().contains("The fox eats what it finds")));
    assert!(outcome.rows.iter().all(|row| row["pos"] == json!([])));
}

/// The positive is the candidate that both scores rank first by reciprocal ranks, and need not be the document written for.
#[test]
fn gecko_chooses_among_candidates() {
    let scores = |request: &super::double::Request, of: fn(&str) -> i32| {
        let text = request.text();
        let passages = text.rsplit_once("Passages:\n").unwrap().1;
        let scores: Vec<i32> = passages.lines().take_while(|line| line.starts_with('[')).map(of).collect();
        Play::Says(Box::leak(json!({ "scores": scores }).to_string().into_boxed_str()))
    };
    let double = Double::start(move |request| {
        let text = request.text();
        match () {
            // Relevance: hen, fox, owl, rest. Likelihood: fox, hen, owl, rest with the dog last.
            () if text.contains("How relevant") => scores(request, |it| {
                if it.contains("hen") {
                    9
                } else if it.contains("fox") {
                    8
                } else {
                    3 * i32::from(it.contains("owl"))
                }
            }),
            () if text.contains("How likely") => scores(request, |it| {
                if it.contains("hen") {
                    10
                } else if it.contains("fox") {
                    7
                } else if it.contains("dog") {
                    -1
                } else {
                    3 * i32::from(it.contains("owl"))
                }
            }),
            () => Play::Good,
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let (collection, session, model) = (animals(), session(folder.path(), Limits::default()), model(&double));
    let context = context(&session, &model, &collection);
    let job = Gecko {
        documents: vec![0, 2],
        candidates: 4,
        query_prompt: prompts::gecko_query(None).unwrap(),
        score_prompts: [prompts::gecko_relevance(None).unwrap(), prompts::gecko_likelihood(None).unwrap()],
        examples: String::new(),
        quality: Quality::QUERIES,
    };
    let retrieve = |texts: &[String], k: usize| Ok(texts.iter().map(|_| [5, 1, 0, 3][..k].to_vec()).collect());
    assert_eq!(job.estimate(&context, &retrieve).unwrap().requests, 6);
    // The owl is not found for its own query, and judged all the same.
    let outcome = job.run(&context, &retrieve).unwrap();
    assert_eq!(outcome.rows.len(), 2, "{:?}", outcome.rejected);
    assert_eq!((&outcome.rows[0]["positive"], &outcome.rows[0]["source"]), (&json!(["d1"]), &json!("d0")));
    // For the fox: dog 5, hen 1, fox 0, cow 3. The dog is last by likelihood and third by relevance (it was retrieved first), the cow fourth and third.
    // 1/3 + 1/4 each: equal, so the one retrieved later is last.
    assert_eq!(outcome.rows[0]["negatives"], json!(["d3"]));
    assert_eq!((&outcome.rows[1]["positive"], &outcome.rows[1]["negatives"]), (&json!(["d1"]), &json!(["d5"])));
    assert_eq!(outcome.rows[1]["task"], "given a question, find a passage");
    assert_eq!(outcome.rows[1]["score_prompts"], json!([job.score_prompts[0].version, job.score_prompts[1].version]));
    assert_eq!(double.requests(), 6);
    // Whoever reads a row finds who wrote it, with what, and which passages it was chosen among.
    for (row, passages) in outcome.rows.iter().zip([["d5", "d1", "d0", "d3"], ["d5", "d1", "d0", "d2"]]) {
        assert_eq!((&row["model"], &row["prompt"]), (&json!("stand-in"), &json!(job.query_prompt.version)));
        let shown: HashSet<_> = row["passages"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        assert_eq!(shown, HashSet::from(passages));
    }
    let after = |context: &Context<'_>, job: &Gecko, retrieve: &Retrieve<'_>| {
        let estimate = job.estimate(context, retrieve).unwrap();
        (estimate.requests, estimate.answered)
    };
    assert_eq!(after(&context, &job, &retrieve), (0, 6));
    // Whatever changes the passages that are shown is asked about again, and only that.
    assert_eq!(after(&Context { seed: 2, ..context }, &job, &retrieve), (4, 2));
    let other = |texts: &[String], k: usize| Ok(texts.iter().map(|_| [5, 1, 0, 7][..k].to_vec()).collect());
    assert_eq!(after(&context, &job, &other), (2, 4), "the owl takes the place of the last for its own query");
    let fewer = Gecko { candidates: 3, ..job };
    assert_eq!(after(&context, &fewer, &retrieve), (4, 2));
    let before = double.requests();
    fewer.run(&context, &retrieve).unwrap();
    assert_eq!(double.requests() - before, 4, "as estimated");
}

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
    let method = Method::Verdict { prompt: prompts::relabel(None).unwrap(), strong: Some(strong) };
    let job = Relabel::new(&lists(), collection.split("train").unwrap(), 10, 3, method);
    let outcome = job.run(&context);
    assert!(outcome.stop.is_none() && outcome.open == 0);
    let found: HashMap<_, _> = outcome.rows.iter().map(pair).collect();
    assert_eq!(found, expected("drop"));
    for row in outcome.rows.iter().filter(|row| row["decision"] == "drop") {
        assert_eq!((&row["model"], &row["first_model"]), (&json!("strong"), &json!("stand-in")), "{row}");
        assert!(row["unusable"].as_str().unwrap().contains("not the JSON"), "{row}");
    }
    // Both answers of each question are there, with what was wrong with them.
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
