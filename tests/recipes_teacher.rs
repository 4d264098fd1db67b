//! What distinguishes the recipes with a cross-encoder of their own, checked on short runs of the real command.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use corpus::Collection;
use serde_json::Value;

use crate::collections::animals;
use crate::command::{run as command, stderr, trainer, weights};
use crate::matrix::{Matrix, log_loss};
use crate::parts::resume;
use crate::recipes_dynamic::runs::{Run, TEMPERATURE, alike, dot, encode_texts, mean, train};

/// A reranker that is trained for a moment.
const SHORT: [&str; 4] = ["reranker.lists=4", "reranker.length=64", "reranker.depth=100", "data.limit=256"];

/// How long after the round before ended a reranker in training is killed.
const KILL_AFTER: Duration = Duration::from_millis(100);

fn short<'a>(set: &[&'a str]) -> Vec<&'a str> {
    SHORT.iter().chain(set).copied().collect()
}

/// Weights of the reranker of a round, from 1.
fn reranker(run: &Run, round: usize) -> Vec<u8> {
    fs::read(run.path.join(format!("rerankers/round-{round}/model.safetensors"))).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn rocketqa() {
    let folder = tempfile::tempdir().unwrap();
    // Three rounds of three steps.
    let run = train(folder.path(), "rocketqa", "run", &short(&["train.steps=9", "reranker.steps=60", "round.2.train.augment.depth=3"]));
    assert_eq!(run.events("round").len(), 2);
    let trained = run.events("reranker");
    assert_eq!(trained.iter().map(|event| (event["step"].as_u64(), event["steps"].as_u64())).collect::<Vec<_>>(), [(Some(3), Some(60))]);
    assert!(number(&trained[0]["last_loss"]) < number(&trained[0]["first_loss"]), "{}", trained[0]);
    assert_eq!(reranker(&run, 2), reranker(&run, 3), "the third round asks the same one");
    assert!(!run.path.join("rerankers/round-1").exists(), "the first round asks nobody");
    // What was kept has a probability below .1, or fills a short row from deeper ranks.
    let refreshes = run.events("refresh");
    let source = &refreshes[0]["by_source"][0];
    let asked = source["removed"]["teacher"].as_u64().unwrap();
    assert!(asked > 0, "{source}");
    let lists = fs::read_to_string(run.path.join("negatives/version-1.jsonl")).unwrap();
    let (mut kept, mut filled) = (0, 0);
    for row in lists.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        for it in row["negatives"].as_array().unwrap() {
            if it["source"] == "fill" {
                assert!((51..=1000).contains(&it["rank"].as_u64().unwrap()), "{it}");
                filled += 1;
            } else {
                assert!(number(&it["teacher"]) < 0.1 && it["rank"].as_u64().unwrap() <= 51, "{it}");
                kept += 1;
            }
        }
    }
    assert_eq!(kept + filled, 4 * 256);
    // It was trained on this collection for a moment, and finds more of the relevant than chance would.
    let hits = source["removed_relevant"]["teacher"].as_u64().unwrap();
    assert!(hits > 0 && hits < asked, "{source}");
    let share = number(&source["filled_share"]);
    assert!((share - f64::from(filled) / f64::from(kept + filled)).abs() < 1e-9, "{share}");
    // The 3,744 queries that the limit leaves out are without a label, and some of the labels that they get are right.
    let augmented = &run.events("augmented")[0];
    assert_eq!(augmented["unlabelled"], 4000 - 256, "{augmented}");
    assert!(augmented["right"].as_u64().unwrap() <= augmented["accepted"].as_u64().unwrap());
    let queries = |steps: std::ops::Range<usize>| -> BTreeSet<String> {
        run.drawn().into_iter().filter(|row| steps.contains(&row.step)).map(|row| row.query).collect()
    };
    let accepted = augmented["accepted"].as_u64().unwrap();
    assert_eq!(refreshes[1]["queries"].as_u64(), Some(256 + accepted));
    if accepted > 256 {
        assert!(queries(6..9).difference(&queries(0..6)).count() > 32, "new queries are trained on");
    }
}

/// Inside the second and the third round, at the boundary between them, and killed while its reranker is trained: the same bits.
#[test]
fn rocketqa_resumes_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    // Half of the queries are without a label.
    let set = ["--data", "data", "data.limit=48", "batch.queries=16", "train.steps=9", "reranker.steps=200", "reranker.lists=4"];
    let set = [&set[..], &["reranker.length=32", "reranker.depth=50", "train.checkpoint_every=1", "train.keep_checkpoints=20"]].concat();
    let run = train(folder.path(), "rocketqa", "run", &set);
    assert_eq!(run.events("augmented").len(), 1);
    let bits = |path: &Path| {
        let reranker = |round: usize| fs::read(path.join(format!("rerankers/round-{round}/model.safetensors"))).unwrap();
        [weights(&path.join("model")), weights(&path.join("rounds/round-2")), reranker(2), reranker(3)]
    };
    let whole = bits(&run.path);
    let told = || fs::read_to_string(run.path.join("run.jsonl")).unwrap().matches(r#""event":"reranker""#).count();
    assert_eq!(told(), 1);
    // What a kill at that moment would not have left behind goes too.
    for (step, later) in [(7, &[][..]), (6, &["rerankers/round-3"]), (4, &["rerankers/round-3", "rounds/round-2"]), (3, &[])] {
        for folder in later {
            fs::remove_dir_all(run.path.join(folder)).unwrap();
        }
        resume(folder.path(), "run", step);
        assert!(bits(&run.path) == whole, "resumed after step {step} it has other weights");
        // After step 3 the second round begins anew, with a reranker that is there already.
        assert_eq!(told(), 1, "resumed after step {step}");
    }

    let killed = folder.path().join("killed");
    let mut started = trainer(folder.path());
    started.args(["train", "--recipe", "rocketqa", "--out", "killed", "--device", "cpu", "--data", "data"]);
    for value in set[2..].iter().chain(&["train.evaluate_every=0", "train.log_batches=true"]) {
        started.args(["--set", value]);
    }
    let mut child = started.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // The model of the first round is written right before the reranker of the second is trained.
    while !killed.join("rounds/round-1").is_dir() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        sleep(Duration::from_millis(1));
    }
    sleep(KILL_AFTER);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!killed.join("rerankers/round-2").exists(), "the reranker was finished before the kill");
    let output = command(folder.path(), &["train", "--resume", "killed", "--device", "cpu", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(bits(&killed) == whole, "killed in the training of the reranker it has other weights");
}

#[test]
fn rocketqa_v2() {
    let folder = tempfile::tempdir().unwrap();
    let set = short(&["train.steps=8", "reranker.steps=10", "train.checkpoint_every=1", "train.keep_checkpoints=9", "batch.negatives=3"]);
    let run = train(folder.path(), "rocketqa-v2", "run", &set);
    // Trained before the round, then at each of its four steps.
    assert_eq!(run.events("reranker")[0]["steps"], 10);
    let folders: BTreeSet<_> = fs::read_dir(run.path.join("rerankers")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(
        folders,
        ["round-2", "round-2-end", "round-2.json"].map(Into::into).into(),
        "what it began with, what became of it, and an account"
    );
    // One list a query, its own alone: a positive and what was drawn.
    assert!(run.batches[4..].iter().all(|line| line["rows"].as_array().unwrap().len() == 16));
    let steps = run.events("step");
    assert!(steps[4..].iter().all(|step| number(&step["loss"]) > 0.0));
    // What the ranker learns beside it is logged, in its round: the positive among four, about as hard as chance for so young a ranker.
    let ranked: Vec<f64> = steps.iter().filter_map(|step| step["reranker_loss"].as_f64()).collect();
    assert!(ranked.len() == 4 && ranked.iter().all(|&loss| loss > 0.0 && loss < 2.0 * 4_f64.ln()), "{ranked:?}");
    assert!(steps[4..].iter().all(|step| number(&step["reranker_gradient_norm"]) > 0.0) && steps[3]["reranker_loss"].is_null());
    // What the retriever follows is a distribution over its query's own list. That of a ranker made so flat that its scores do not matter is known: the
    // loss of the first step of the round, by hand.
    let flat = train(folder.path(), "rocketqa-v2", "flat", &[&set[..], &["round.1.loss={teacher_temperature=1e9}"]].concat());
    assert_eq!(flat.batches[4]["rows"], run.batches[4]["rows"]);
    let matrix = Matrix::new(folder.path(), "flat/rounds/round-1", &flat, 4);
    let expected = mean(matrix.rows().map(|row| {
        let list: Vec<f64> = matrix.own(row).into_iter().map(|column| matrix.score(row, column)).collect();
        assert_eq!(list.len(), 3);
        // Of four shares of a quarter: the logarithms of the student's are those of the positive's and how far the others lie from it.
        let loss = log_loss(matrix.target(row), &list);
        let logs = list.iter().map(|score| (score - matrix.target(row)) / TEMPERATURE - loss).chain([-loss]);
        mean(logs.map(|log| 0.25_f64.ln() - log))
    }));
    assert!(alike(flat.losses()[4], expected, 1e-3), "{} and {expected}", flat.losses()[4]);
    assert!(!alike(run.losses()[4], expected, 1e-3), "the ranker's own scores do matter");
    // The same bits when it is interrupted in the second round: the ranker's state is in the checkpoint.
    let end = |run: &Run| fs::read(run.path.join("rerankers/round-2-end/model.safetensors")).unwrap();
    let (whole, ranker, learned) = (weights(&run.path.join("model")), reranker(&run, 2), end(&run));
    assert!(ranker != learned);
    // Before the second round it begins again with what that round began with, though the end of it was kept before the kill.
    for step in [6, 3] {
        resume(folder.path(), "run", step);
        assert!(weights(&run.path.join("model")) == whole, "after step {step} the retriever has other weights");
        assert!(reranker(&run, 2) == ranker && end(&run) == learned, "after step {step} the ranker has other weights");
    }
    // Without joint training the ranker stays what it was.
    let alone = train(folder.path(), "rocketqa-v2", "alone", &[set.as_slice(), &["reranker.jointly=false"]].concat());
    assert!(reranker(&alone, 2) == ranker && !alone.path.join("rerankers/round-2-end").exists());
    assert!(alone.events("step").iter().all(|step| step["reranker_loss"].is_null()));
}

/// A later round that goes on with a ranker that was trained with the retriever takes what became of it.
#[test]
fn a_jointly_trained_ranker_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let recipe = String::from_utf8(command(folder.path(), &["recipes", "rocketqa-v2"]).stdout).unwrap();
    let third = "\n[[round]]\ntrain.restart = false\nreranker = { restart = false, steps = 0 }\n";
    fs::write(folder.path().join("three.toml"), recipe + third).unwrap();
    let mut arguments = vec!["train", "three.toml", "--data", "data", "--out", "three", "--device", "cpu", "--json"];
    for value in ["train.steps=6", "train.evaluate_every=0", "batch.negatives=3", "reranker.steps=5", "reranker.length=32"] {
        arguments.extend(["--set", value]);
    }
    let output = command(folder.path(), &arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let of = |name: &str| fs::read(folder.path().join("three/rerankers").join(name).join("model.safetensors")).unwrap();
    assert!(of("round-3") == of("round-2-end") && of("round-2-end") != of("round-2"));
}

#[test]
fn pair() {
    let folder = tempfile::tempdir().unwrap();
    let set = [
        "train.steps=9",
        "round.1.reranker.steps=30",
        "round.1.train.augment.depth=3",
        "round.2.train.augment.depth=3",
        "negatives.source.1.depth=20",
    ];
    let run = train(folder.path(), "pair", "run", &short(&set));
    let steps = run.events("step");
    let has = |step: usize| !steps[step]["passage-centric"].is_null();
    assert!((0..9).all(|step| has(step) == (3..6).contains(&step)), "the passage-centric term belongs to the second round");
    let augmented = run.events("augmented");
    assert_eq!(augmented.len(), 2);
    assert_eq!(augmented[0]["unlabelled"], 4000 - 256);
    assert_eq!(reranker(&run, 2), reranker(&run, 3));
    assert_eq!(run.events("round").iter().map(|event| event["restart"].as_bool().unwrap()).collect::<Vec<_>>(), [true, false]);
}

/// Nobody is surer than 1, and everybody is surer than 0.
#[test]
fn pseudo_labels_follow_their_threshold() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let short = [
        "--data",
        "data",
        "data.limit=48",
        "batch.queries=16",
        "train.steps=9",
        "reranker.lists=4",
        "reranker.length=32",
        "reranker.depth=50",
    ];
    let with = |recipe: &str, out: &str, more: &[&str]| train(folder.path(), recipe, out, &[&short[..], more].concat());
    let pairs = |run: &Run, steps: std::ops::Range<usize>| -> BTreeSet<(String, String)> {
        run.drawn().into_iter().filter(|row| steps.contains(&row.step)).map(|row| (row.query, row.positive)).collect()
    };
    let counts = |run: &Run| -> Vec<(u64, u64)> {
        let events = run.events("augmented");
        events.iter().map(|event| (event["unlabelled"].as_u64().unwrap(), event["accepted"].as_u64().unwrap())).collect()
    };
    let none = with("rocketqa", "none", &["reranker.steps=3", "round.2.train.augment={above=1.0,depth=1}"]);
    assert_eq!(counts(&none), [(48, 0)]);
    let labelled = pairs(&none, 0..6);
    assert!(labelled.len() == 48 && pairs(&none, 6..9).is_subset(&labelled));
    let of_pair = ["round.1.reranker.steps=3", "round.1.train.augment={above=1.0,depth=1}", "round.2.train.augment={above=1.0,depth=1}"];
    assert_eq!(counts(&with("pair", "pair", &of_pair)), [(48, 0), (48, 0)]);

    let all = with("rocketqa", "all", &["reranker.steps=3", "round.2.train.augment={above=0.0,depth=1}"]);
    assert_eq!(counts(&all), [(48, 48)]);
    assert_eq!(pairs(&all, 0..6), labelled);
    // The one document that the ranker was asked about: the first that the model of the second round finds.
    let new: BTreeSet<_> = pairs(&all, 6..9).difference(&labelled).cloned().collect();
    assert!(new.len() > 8, "{} new pairs", new.len());
    let collection = Collection::open(folder.path().join("data").to_str().unwrap()).unwrap();
    let texts = |records: &corpus::Records| -> Vec<(String, String)> {
        (0..records.len() as u32).map(|number| (records.id(number).to_owned(), records.text(number).to_owned())).collect()
    };
    let queries = encode_texts(folder.path(), "all/rounds/round-2", "query", &texts(&collection.queries));
    let documents = encode_texts(folder.path(), "all/rounds/round-2", "document", &texts(&collection.documents));
    for (query, positive) in new {
        let score = |document: &String| dot(&queries[&query], &documents[document]);
        let best = documents.keys().map(score).fold(f64::NEG_INFINITY, f64::max);
        assert!(score(&positive) > best - 1e-6, "{query}: {positive}");
    }

    // What a round trip refuses in the same round stays refused: its queries are not without a label.
    let trip = ["reranker.steps=3", "round.2.train.round_trip=10", "round.2.train.augment={above=0.0,depth=1}"];
    let both = with("rocketqa", "both", &trip);
    let refused = both.events("round_trip")[0]["refused"].as_u64().unwrap();
    assert!(refused > 0 && refused < 96, "{refused} of 96 refused");
    let unlabelled = (96 - refused).saturating_sub(48);
    assert_eq!(counts(&both), [(unlabelled, unlabelled)]);
}

#[test]
fn ar2() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["train.steps=8", "reranker.steps=5", "round.1.reranker.steps=10", "batch.negatives=3", "reranker.negatives=3"];
    let run = train(folder.path(), "ar2", "run", &short(&set));
    // Turns: the ranker, a refresh with the weights of now, the retriever.
    let trained: Vec<_> =
        run.events("reranker").iter().map(|event| (event["step"].as_u64().unwrap(), event["steps"].as_u64().unwrap())).collect();
    assert_eq!(trained, [(2, 10), (4, 5), (6, 5)]);
    let refreshed: Vec<_> = run.events("refresh").iter().map(|event| event["step"].as_u64().unwrap()).collect();
    assert_eq!(refreshed, [2, 4, 6]);
    assert!(reranker(&run, 2) != reranker(&run, 3) && reranker(&run, 3) != reranker(&run, 4));
    let steps = run.events("step");
    for (step, event) in steps.iter().enumerate() {
        let parts = [&event["kl"], &event["adversarial"]];
        assert!(parts.iter().all(|part| part.is_null() == (step < 2)), "{event}");
        if step >= 2 {
            let sum = 0.5 * number(parts[0]) + 0.5 * number(parts[1]);
            assert!((sum - number(&event["loss"])).abs() < 1e-4, "{event}");
        }
    }
    assert!(run.events("round").iter().all(|event| event["restart"] == false));
    // A ready ranker is what the turns begin with and go on from.
    let ready = [&set[..], &["reranker.model=run/rerankers/round-4"]].concat();
    let run = train(folder.path(), "ar2", "ready", &short(&ready));
    let from: Vec<_> = run.events("reranker").iter().map(|event| event["model"].as_str().unwrap().to_owned()).collect();
    assert_eq!(from, ["run/rerankers/round-4", "ready/rerankers/round-2", "ready/rerankers/round-3"]);
}

#[test]
fn simlm() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["train.steps=6", "reranker.steps=10", "batch.negatives=3", "reranker.negatives=3"];
    let run = train(folder.path(), "simlm", "run", &short(&set));
    let source = |step: usize| run.batches[step]["rows"][0]["negatives"][0]["source"].as_str().unwrap().to_owned();
    assert_eq!([source(0), source(2), source(4)], ["bm25", "dense", "dense"]);
    let trained: Vec<_> = run.events("reranker").iter().map(|event| event["step"].as_u64().unwrap()).collect();
    assert_eq!(trained, [4], "one ranker, for the last round");
    for (step, event) in run.events("step").iter().enumerate() {
        assert_eq!(event["kl"].is_null(), step < 4, "{event}");
        if step >= 4 {
            let sum = number(&event["kl"]) + 0.2 * number(&event["info-nce"]);
            assert!(number(&event["kl"]) > 0.0 && (sum - number(&event["loss"])).abs() < 1e-4, "{event}");
        }
    }
    assert!(run.events("round").iter().all(|event| event["restart"] == true));
}

/// Recipes whose teacher can be a file take one at work: losses follow it, and nothing else does.
#[test]
fn teachers_at_work() {
    for (recipe, source) in [
        ("margin-mse", r#"negatives.source=[{from="dense",model="start",depth=50}]"#),
        ("kl-distill", r#"negatives.source=[{from="in-batch"},{from="dense",model="start",depth=50}]"#),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let run = |name: &str, steps: &str| {
            let set = [
                source,
                "teacher.model=reranker",
                "reranker.model=retriever",
                "reranker.negatives=3",
                "train.steps=2",
                "batch.queries=16",
                steps,
            ];
            train(folder.path(), recipe, name, &short(&set))
        };
        let (one, other) = (run("one", "reranker.steps=5"), run("other", "reranker.steps=15"));
        assert_eq!(one.events("reranker").len(), 1);
        assert!(reranker(&one, 1) != reranker(&other, 1));
        assert_eq!(one.batches[0]["rows"], other.batches[0]["rows"], "{recipe}: both draw the same");
        let of_teacher = if recipe == "kl-distill" { "kl" } else { "loss" };
        let values = [&one, &other].map(|run| number(&run.events("step")[0][of_teacher]));
        assert!(values[0] != values[1] && values.iter().all(|value| value.is_finite()), "{recipe}: {values:?}");
    }
}

/// InDi's band, as its recipe sets it: candidates whose probability lies outside it are dropped; where fewer than 84 lie inside, the 84 lowest from .1
/// to .95 stay, and where these are too few the highest 84 up to .95.
#[test]
fn the_band_of_a_cross_encoder() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let with = |name: &str, more: &[&str]| {
        let data = ["--data", "data", "data.limit=32", "batch.queries=16", "train.steps=1", "reranker.length=32"];
        let reranker = ["teacher.model=reranker", "reranker.model=retriever", "reranker.negatives=3", "reranker.steps=10"];
        train(folder.path(), "indi", name, &short(&[&data[..], &reranker, more].concat()))
    };
    let (filter, uniform) =
        ("negatives.filter=[{rule=\"teacher\",min=0.1,max=0.6,at_least=84,ceiling=0.95}]", "negatives.draw={rule=\"uniform\"}");
    let run = with("run", &[filter]);
    let (pool, whole) = (with("pool", &[filter, uniform]), with("whole", &["negatives.filter=[{rule=\"teacher\",min=0.0}]", uniform]));
    assert!(reranker(&run, 1) == reranker(&pool, 1) && reranker(&pool, 1) == reranker(&whole, 1));
    let (chosen, kept) = (run.lists(1), pool.lists(1));
    let (mut inside, mut refilled) = (0, 0);
    for (query, scores) in whole.lists(1) {
        assert_eq!(scores.len(), 143, "{query}: the other documents are all there");
        let mut scores: Vec<f64> = scores.into_values().filter(|&score| score <= 0.95).collect();
        scores.sort_by(f64::total_cmp);
        let from = |lowest: f64| scores.partition_point(|&score| score < lowest);
        let band = &scores[from(0.1)..scores.partition_point(|&score| score <= 0.6)];
        let expected = match scores.len() - from(0.1) {
            _ if band.len() >= 84 => band,
            enough if enough >= 84 => &scores[from(0.1)..from(0.1) + 84],
            _ => &scores[scores.len().saturating_sub(84)..],
        };
        inside += usize::from(band.len() >= 84);
        refilled += usize::from(band.len() < 84);
        let mut got: Vec<f64> = kept.get(&query).into_iter().flat_map(|list| list.values().copied()).collect();
        got.sort_by(f64::total_cmp);
        assert_eq!(got, expected, "{query}: {} of {}", got.len(), scores.len());
        // The recipe's own draw takes from these.
        let few = chosen.get(&query).into_iter().flatten();
        assert!(few.clone().count() <= 21 && few.clone().all(|(id, score)| kept[&query].get(id) == Some(score)), "{query}");
    }
    assert!(inside > 0 && refilled > 0, "{inside} bands with enough, {refilled} without");
}

#[test]
fn wrong_requests_for_a_reranker_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |set: &[&str], part: &str| {
        let mut arguments = vec!["train", "--recipe", "rocketqa", "--out", "x", "--device", "cpu"];
        set.iter().for_each(|value| arguments.extend(["--set", value]));
        let output = command(folder.path(), &arguments);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    };
    refused(&["reranker.lists=0"], "reranker.lists");
    refused(&["reranker.steps=0"], "learned nothing");
    refused(&["train.steps=2"], "number of rounds");
    // Of a later round too before the first one is trained.
    refused(&["reranker.model=./nothere"], "reranker.model: model \"./nothere\"");
    refused(&["teacher.model=./nothere", "round.2.train={restart=true}"], "teacher.model: model \"./nothere\"");
    refused(&["reranker.model=previous-round"], "reranker.restart = false");
    refused(&["teacher.model=retriever", "round.2.train={restart=true}"], "teacher.model: model \"retriever\"");
    fs::create_dir(folder.path().join("pairs")).unwrap();
    fs::write(folder.path().join("pairs/config.json"), r#"{"architectures": ["BertForSequenceClassification"]}"#).unwrap();
    refused(&["teacher.model=pairs", "round.2.train={restart=true}"], "reads pairs");
    refused(&["reranker.jointly=true"], "reranker.jointly");
    refused(&["reranker.learning_rate=0"], "reranker.learning_rate");
    refused(&["reranker.loss=\"hinge\""], "binary-cross-entropy");
    refused(&["teacher.model=start", "round.2.train={augment={above=0.9}}"], "train.augment");
    // TAS-B's second term compares with other queries' documents, about which no reranker is asked.
    for (set, part) in
        [("train.clip=1", "teacher.in_batch"), ("train.clip=1", "loss.term"), ("teacher.in_batch=reranker", "takes an encoder")]
    {
        let arguments = ["train", "--recipe", "tas-b", "--out", "x", "--device", "cpu", "--set", "teacher.model=reranker", "--set", set];
        let output = command(folder.path(), &arguments);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
    assert!(!folder.path().join("x").exists());
}
