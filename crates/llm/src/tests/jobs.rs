//! What the jobs that write ask, and make of the answers.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::AtomicBool},
};

use rand::seq::SliceRandom;
use serde_json::json;

use super::{
    IMPATIENT, animals, context,
    double::{Double, Play},
    model, queries, session,
};
use crate::{
    Attributes, Limits, Model, Quality, Session, Stop,
    jobs::{
        Context,
        gecko::{Gecko, Retrieve},
        negatives::{Negatives, queries_of},
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
    job.prompt = job.prompt.with_examples("Document:\nan example\nQuery: its query\n\n").unwrap();
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

/// An endpoint without log-probabilities: the rows are there, and whoever is to choose among them by these hears of it now.
#[test]
fn missing_log_probabilities_are_told() {
    let said = r#"{"choices":[{"message":{"content":"what is it about animals"}}]}"#;
    let double = Double::start(move |request| if request.text().contains("The fox") { Play::Status(200, None, said) } else { Play::Good });
    let folder = tempfile::tempdir().unwrap();
    let (collection, session, mut model) = (animals(), session(folder.path(), Limits::default()), model(&double));
    let notes = |model: &Model| queries(&collection).run(&context(&session, model, &collection)).notes;
    assert!(notes(&model).is_empty());
    model.sampling.logprobs = true;
    let notes = notes(&model);
    assert!(
        notes.len() == 1 && notes[0].contains("no log-probability for 1 of 12 rows") && notes[0].contains("data.queries_keep"),
        "{notes:?}"
    );
}

/// Parts of a triple that repeat each other or the prompt, by more than case and signs.
#[test]
fn triples_do_not_repeat_themselves() {
    let positive = "The fox sleeps by day and eats what it finds at night.";
    let triple =
        |query: &str, positive: &str, negative: &str| json!({ "query": query, "positive": positive, "negative": negative }).to_string();
    let job = triples(1, 1);
    let written = |answer: String| {
        let answer: &'static str = Box::leak(answer.into_boxed_str());
        let double = Double::start(move |request| if request.text().contains("JSON list of") { Play::Good } else { Play::Says(answer) });
        let folder = tempfile::tempdir().unwrap();
        let (collection, session, model) = (animals(), session(folder.path(), Limits::default()), model(&double));
        let outcome = job.run(&context(&session, &model, &collection));
        outcome.rejected.first().map(|it| it.reason.split(':').next().unwrap().to_owned())
    };
    let negative = "Owls sit in a tree until the sun has gone down.";
    assert_eq!(written(triple("when do foxes sleep", positive, negative)), None);
    let other = "the FOX sleeps by day and eats what it sees at night";
    for (query, positive, negative) in [
        (positive.to_uppercase().as_str(), positive, negative),
        ("when do foxes sleep", positive, other),
        (
            "when do foxes sleep",
            positive,
            &format!("In the old tales that are told here and there in many lands the owl and the bear say: {positive}"),
        ),
        ("when do foxes sleep, and what do they eat at night", positive, "When do foxes sleep and what do they eat at night?"),
        ("when do foxes sleep", "You write data for the training of a search engine.", negative),
        ("when do foxes sleep", positive, "You write data for the training of a search engine."),
    ] {
        assert_eq!(written(triple(query, positive, negative)).as_deref(), Some("copied"), "{query} | {positive} | {negative}");
    }
    // Texts without blanks have words as well.
    assert_eq!(written(triple("狐狸什么时候睡觉？", "狐狸白天睡觉，夜里出来找东西吃。", "猫头鹰坐在树上，等太阳下山。")), None);
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
    let made = |row: &serde_json::Value| row["model"] == "stand-in" && [&row["prompt"], &row["task_prompt"]] == [&prompts[0], &prompts[1]];
    assert!(outcome.rows.iter().all(made));
    let tasks: HashSet<_> = outcome.rows.iter().map(|row| row["task"].as_str().unwrap()).collect();
    assert_eq!(tasks.len(), 25);
    let records = double.records();
    let german = records.iter().filter(|record| record.request.text().contains("Language: German")).count();
    assert!((10..=40).contains(&german), "{german} of 50 in German");
    // Three difficulties in each of two languages: neither decides the other.
    let drawn = |text: String| {
        let (before, behind) = text.split_once(" to read. Language: ")?;
        Some((before.rsplit(", ").next()?.to_owned(), behind.split('.').next()?.to_owned()))
    };
    let pairs: HashSet<_> = records.iter().filter_map(|record| drawn(record.request.text())).collect();
    assert_eq!(pairs.len(), 6, "{pairs:?}");
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
    assert!(
        outcome.notes.len() == 1 && outcome.notes[0].starts_with("1 of 3 queries have fewer than the 3 negatives"),
        "{:?}",
        outcome.notes
    );
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

fn gecko(model: &Model, documents: Vec<u32>) -> Gecko {
    Gecko {
        documents,
        candidates: 4,
        query_prompt: prompts::gecko_query(None).unwrap(),
        score_prompts: [prompts::gecko_relevance(None).unwrap(), prompts::gecko_likelihood(None).unwrap()],
        judge: Model { sampling: crate::Sampling { temperature: 0.0, ..model.sampling.clone() }, ..model.clone() },
        quality: Quality::QUERIES,
    }
}

/// Searching can take longer than all that was asked until then: whoever stops the queries does not wait for it.
#[test]
fn gecko_does_not_search_once_it_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|_| Play::Good);
    let (collection, model) = (animals(), model(&double));
    let before = session(folder.path(), Limits::default());
    let retrieve = |texts: &[String], k: usize| Ok(texts.iter().map(|_| [5, 1, 0, 3][..k].to_vec()).collect());
    let outcome = gecko(&model, vec![0]).run(&context(&before, &model, &collection), &retrieve).unwrap();
    assert!(outcome.stop.is_none() && outcome.rows.len() == 1, "{:?}", outcome.rejected);
    drop(before);
    // One of two queries is known, and could be searched for.
    let stopped = Session::open(folder.path(), Limits::default(), IMPATIENT, Arc::new(AtomicBool::new(true))).unwrap();
    let search = |_: &[String], _: usize| Err("it searches".to_owned());
    let outcome = gecko(&model, vec![0, 2]).run(&context(&stopped, &model, &collection), &search).unwrap();
    assert!(matches!(outcome.stop, Some(Stop::Interrupted)) && outcome.open == 1, "{:?}", outcome.stop);
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
    let job = gecko(&model, vec![0, 2]);
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
    let cold = double.records().iter().filter(|record| record.request.body["temperature"] == 0.0).count();
    assert_eq!(cold, 4, "queries are written at the model's temperature, passages judged at the judge's");
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

/// A retriever that ranks the same passages otherwise, as one does that was trained a little more: nothing is paid again, in whatever order they come.
#[test]
fn gecko_asks_nothing_anew_where_ranks_swap() {
    let (folder, double) = (tempfile::tempdir().unwrap(), Double::start(|_| Play::Good));
    let (collection, session, model) = (animals(), session(folder.path(), Limits::default()), model(&double));
    let (context, job) = (context(&session, &model, &collection), gecko(&model, vec![0, 2, 4]));
    let shown = |found: [u32; 4]| {
        let retrieve = |texts: &[String], _: usize| Ok(texts.iter().map(|_| found.to_vec()).collect());
        let (estimate, before) = (job.estimate(&context, &retrieve).unwrap(), double.requests());
        let outcome = job.run(&context, &retrieve).unwrap();
        assert_eq!(outcome.rows.len(), 3, "{:?}", outcome.rejected);
        let passages: Vec<_> = outcome.rows.iter().map(|row| row["passages"].clone()).collect();
        (estimate.requests as usize, double.requests() - before, passages)
    };
    // The cat takes the owl's place for its own query, the owl stands third for the others.
    let (_, asked, first) = shown([5, 1, 0, 2]);
    assert_eq!((asked, double.requests()), (9, 9));
    for found in [[1, 5, 0, 2], [0, 1, 2, 5], [5, 1, 2, 0], [2, 0, 1, 5]] {
        // Of the cat's own query, which it is not found for, the last is another one now and then.
        let same = found[3] == 2;
        let (estimate, asked, again) = shown(found);
        assert_eq!(estimate, asked, "{found:?}");
        assert_eq!(again[..2], first[..2], "{found:?}");
        assert!(if same { asked == 0 && again == first } else { asked <= 2 }, "{found:?}: {asked}");
    }
}

/// Versions before this one showed passages shuffled as they were ranked. Their answers serve as long as the ranks are those; with others the passages are
/// asked about once more, and from then on whatever the ranks.
#[test]
fn gecko_goes_on_with_what_earlier_versions_asked() {
    let (double, collection, seed) = (Double::start(|_| Play::Good), animals(), 1);
    let (model, alone, old) = (model(&double), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let job = gecko(&model, vec![0, 2]);
    let run = |folder: &std::path::Path, found: [u32; 4]| {
        let (session, before) = (session(folder, Limits::default()), double.requests());
        let retrieve = |texts: &[String], _: usize| Ok(texts.iter().map(|_| found.to_vec()).collect());
        let outcome = job.run(&Context { seed, ..context(&session, &model, &collection) }, &retrieve).unwrap();
        assert_eq!(outcome.rows.len(), 2, "{:?}", outcome.rejected);
        (outcome.rows, double.requests() - before)
    };
    let found = [5, 2, 0, 1];
    let (rows, asked) = run(alone.path(), found);
    assert_eq!(asked, 6);

    // The journal of an earlier version: the same queries, and questions about passages in its order.
    let journal = std::fs::read_to_string(alone.path().join("journal.jsonl")).unwrap();
    let queries = journal.lines().filter(|line| line.contains("\"stage\":\"queries\""));
    std::fs::write(old.path().join("journal.jsonl"), queries.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let session_of_old = session(old.path(), Limits::default());
    let context_of_old = Context { seed, ..context(&session_of_old, &model, &collection) };
    let mut orders = Vec::new();
    for (row, document) in rows.iter().zip([0, 2]) {
        let (task, query) = (row["task"].as_str().unwrap(), row["text"].as_str().unwrap());
        let mut order = found.to_vec();
        order.shuffle(&mut prompts::random(seed, query));
        for which in 0..2 {
            let question = job.score_question(&context_of_old, which, document, (task, query), &order);
            session_of_old.ask(&job.judge, &question, |_| Ok(())).unwrap();
        }
        orders.push(json!(order.iter().map(|at| format!("d{at}")).collect::<Vec<_>>()));
    }
    assert!(orders.iter().zip(&rows).any(|(order, row)| *order != row["passages"]), "another order than that of this version: {orders:?}");
    drop(session_of_old);

    let (again, asked) = run(old.path(), found);
    assert_eq!(asked, 0, "what an earlier version has asked is answered");
    assert_eq!(again.iter().map(|row| row["passages"].clone()).collect::<Vec<_>>(), orders);
    let swapped = [2, 5, 0, 1];
    let (_, asked) = run(old.path(), swapped);
    assert_eq!(asked, 4, "in the order of this version");
    for found in [swapped, [0, 1, 2, 5], found] {
        assert_eq!(run(old.path(), found).1, 0, "{found:?}");
    }
}
