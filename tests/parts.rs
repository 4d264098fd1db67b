//! Parts that no recipe has by default: groups, generated texts, answers, round trips, a learned temperature, a budget of seconds; and resuming runs of
//! several rounds, with a queue, with topics.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::json as object;

use crate::command::{run, stderr, weights};
use crate::recipes_dynamic::runs::{DEMO, Run, text, train};

/// Goes back to the checkpoint of `step` and resumes.
pub(crate) fn resume(folder: &Path, out: &str, step: usize) {
    let path = folder.join(out);
    fs::remove_file(path.join("evaluation/metrics.json")).unwrap();
    for entry in fs::read_dir(path.join("checkpoints")).unwrap() {
        let entry = entry.unwrap();
        let number: usize = entry.file_name().to_str().unwrap().strip_prefix("step-").unwrap().parse().unwrap();
        if number > step {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    let output = run(folder, &["train", "--resume", out, "--device", "cpu", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn runs_with_a_queue_topics_or_rounds_resume_to_the_same_bits() {
    for (recipe, step) in [("moco-queue", 5), ("tas-b", 3), ("tas-b", 6), ("cluster-batch", 5), ("ccr", 6), ("adore", 6)] {
        let folder = tempfile::tempdir().unwrap();
        let set = ["train.steps=8", "train.checkpoint_every=1", "train.keep_checkpoints=9", "batch.queries=32"];
        let first = train(folder.path(), recipe, "run", &set);
        let whole = weights(&first.path.join("model"));
        resume(folder.path(), "run", step);
        assert!(weights(&first.path.join("model")) == whole, "{recipe} resumed after step {step} has other weights");
        let log = fs::read_to_string(first.path.join("batches.jsonl")).unwrap();
        assert_eq!(log.lines().count(), 8, "{recipe}: every step stands once in the log of batches");
    }
}

#[test]
fn a_batch_holds_one_group() {
    let folder = tempfile::tempdir().unwrap();
    let mut groups = String::new();
    for (number, query) in (0..DEMO.queries.len() as u32).enumerate() {
        writeln!(groups, "{}\t{}", DEMO.queries.id(query), ["cats", "dogs"][number % 2]).unwrap();
    }
    fs::write(folder.path().join("groups.tsv"), groups).unwrap();
    let run = train(folder.path(), "in-batch", "run", &["train.steps=6", "batch.compose=groups", "data.groups=groups.tsv"]);
    for line in &run.batches {
        let groups: BTreeSet<_> = line["rows"].as_array().unwrap().iter().map(|row| row["topic"].as_u64().unwrap()).collect();
        assert_eq!(groups.len(), 1, "{line}");
    }
    let missing = crate::command::run(
        folder.path(),
        &["train", "--recipe", "in-batch", "--set", "batch.compose=groups", "--out", "x", "--device", "cpu"],
    );
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("data.groups"), "{}", stderr(&missing));
}

#[test]
fn generated_texts_are_negatives_of_their_query() {
    let folder = tempfile::tempdir().unwrap();
    let mut texts = String::new();
    for query in 0..DEMO.queries.len() as u32 {
        let id = DEMO.queries.id(query);
        writeln!(texts, "{}", object!({ "qid": id, "neg_synth": [{ "text": format!("an invented text for {id}") }] })).unwrap();
    }
    fs::write(folder.path().join("generated.jsonl"), texts).unwrap();
    let sources = "negatives.source=[{from=\"in-batch\"},{from=\"generated\",path=\"generated.jsonl\"}]";
    let run = train(folder.path(), "in-batch", "run", &["train.steps=3", "batch.negatives=1", sources]);
    for row in run.drawn() {
        assert!(row.negatives.len() == 1 && row.negatives[0].id.starts_with("generated:"), "{:?}", row.negatives);
    }
    assert_eq!(run.batches[0]["rows"][0]["negatives"][0]["source"], "generated");
}

#[test]
fn documents_with_an_answer_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let plain = train(folder.path(), "dpr", "plain", &["train.steps=1"]);
    // The whole text of each query's best lexical negative is an answer.
    let mut answers = String::new();
    let lists = plain.version(1);
    for (query, list) in &lists {
        let document = DEMO.documents.find(&list[0].id).unwrap();
        writeln!(answers, "{}", object!({ "query_id": query, "answers": [DEMO.documents.text(document)] })).unwrap();
    }
    fs::write(folder.path().join("answers.jsonl"), answers).unwrap();
    let run = train(folder.path(), "dpr", "run", &["train.steps=1", "data.answers=answers.jsonl"]);
    assert!(run.events("refresh")[0]["removed"]["answer"].as_u64().unwrap() >= lists.len() as u64);
    for (query, list) in run.version(1) {
        assert!(list.iter().all(|it| it.id != lists[&query][0].id), "{query}");
    }
}

#[test]
fn pairs_that_do_not_come_back_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[negatives.source]]\nfrom = \"in-batch\"\n[[round]]\nbatch.queries = 64\n[[round]]\ntrain.round_trip = 20\n";
    fs::write(folder.path().join("config.toml"), config).unwrap();
    let arguments =
        ["train", "config.toml", "--set", "train.steps=80", "--set", "train.log_batches=true", "--out", "run", "--device", "cpu"];
    let output = run(folder.path(), &arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    let said = said.lines().find(|line| line.contains("round trip:")).unwrap();
    let numbers: Vec<usize> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(numbers[0] > 0 && numbers[0] < numbers[1], "{said}");
}

#[test]
fn a_learned_temperature_moves_and_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let temperature = "loss.temperature={ learned = 0.15, min = 0.01, learning_rate = 0.05 }";
    let run: Run = train(folder.path(), "in-batch", "run", &["train.steps=6", temperature]);
    let temperatures = run.steps("temperature");
    assert!((temperatures[0] - 0.15).abs() < 1e-3 && temperatures.windows(2).all(|pair| pair[0] != pair[1]), "{temperatures:?}");
}

#[test]
fn a_learned_temperature_goes_on_where_the_weights_do() {
    let folder = tempfile::tempdir().unwrap();
    let temperature = "loss.temperature={ learned = 0.15, min = 0.01, learning_rate = 0.05 }";
    let with =
        |out: &str, rounds: &str| train(folder.path(), "in-batch", out, &["train.steps=8", temperature, rounds]).steps("temperature");
    let goes_on = with("on", "round=[{},{train={restart=false}}]");
    let again = with("again", "round=[{},{}]");
    assert_eq!(goes_on[..4], again[..4]);
    assert!((again[4] - 0.15).abs() < 1e-6, "{again:?}");
    // A step of Adam from where the first round had got to, whose last step is not in its log.
    assert!((goes_on[4] / goes_on[3]).ln().abs() < 0.1 && (goes_on[4] - 0.15).abs() > 1e-4, "{goes_on:?}");
    // A round that names another one begins with that.
    let named = with("named", "round=[{},{train={restart=false},loss={temperature={learned=0.3}}}]");
    assert!((named[4] - 0.3).abs() < 1e-6, "{named:?}");
}

#[test]
fn a_queue_waits_anew_in_every_round() {
    let folder = tempfile::tempdir().unwrap();
    let set =
        ["train.steps=10", "negatives.source.1.start_after=3", "round=[{},{}]", "train.checkpoint_every=1", "train.keep_checkpoints=11"];
    train(folder.path(), "memory-bank", "run", &set);
    let served = || -> Vec<bool> {
        let log = fs::read_to_string(folder.path().join("run/batches.jsonl")).unwrap();
        log.lines().map(|line| !serde_json::from_str::<serde_json::Value>(line).unwrap()["queue"].is_null()).collect()
    };
    let expected = [false, false, false, true, true].repeat(2);
    assert_eq!(served(), expected);
    // Gone on with in the second round, it knows when that began.
    resume(folder.path(), "run", 6);
    assert_eq!(served(), expected);
}

#[test]
fn a_budget_of_seconds_ends_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "in-batch", "run", &["train.seconds=1"]);
    let end = run.events("end")[0];
    let busy = end["training_seconds"].as_f64().unwrap() + end["mining_seconds"].as_f64().unwrap();
    assert!((1.0..30.0).contains(&busy), "{end}");
    let rates = run.steps("learning_rate");
    assert!(rates.len() > 3 && rates.last() < rates.iter().max_by(|a, b| a.total_cmp(b)), "the learning rate follows the time");
    assert_eq!(text(&run.events("end")[0]["event"]), "end");
}

#[test]
fn a_curriculum_moves_from_source_to_source_and_down_the_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let sources = "negatives.source=[{from=\"random\",share={from=1.0,to=0.0}},{from=\"bm25\",depth=100,share={from=0.0,to=1.0},pool={from=100,to=10}}]";
    let curriculum = ["batch.negatives=4", sources, "loss.temperature={from=0.2,to=0.1}"];
    let drawn = |run: &Run, steps: std::ops::Range<usize>| {
        let lines = run.batches.iter().filter(move |line| steps.contains(&(line["step"].as_u64().unwrap() as usize)));
        let rows = lines.flat_map(|line| line["rows"].as_array().unwrap().clone());
        rows.flat_map(|row| row["negatives"].as_array().unwrap().clone()).collect::<Vec<_>>()
    };
    let lexical = |run: &Run, steps: std::ops::Range<usize>| {
        let all = drawn(run, steps);
        all.iter().filter(|it| it["source"] == "bm25").count() as f64 / all.len() as f64
    };
    let run = train(folder.path(), "in-batch", "run", &[&["train.steps=40"], &curriculum[..]].concat());
    let shares: Vec<f64> = (0..4).map(|part| lexical(&run, 10 * part..10 * part + 10)).collect();
    // The middle of each stretch, give or take five standard deviations of 2,560 draws.
    for (part, share) in shares.iter().enumerate() {
        let expected = (10.0 * part as f64 + 4.5) / 40.0;
        assert!((share - expected).abs() < 0.05, "{share} instead of {expected}: {shares:?}");
    }
    let deepest = |steps: std::ops::Range<usize>| {
        drawn(&run, steps).iter().filter(|it| it["source"] == "bm25").map(|it| it["rank"].as_u64().unwrap()).max().unwrap()
    };
    assert!(deepest(0..20) > 70 && deepest(38..40) < 25, "{} {}", deepest(0..20), deepest(38..40));
    let temperatures = run.steps("temperature");
    let expected: Vec<f64> = (0..40).map(|step| 0.2 - 0.1 * step as f64 / 39.0).collect();
    assert!(temperatures.iter().zip(&expected).all(|(got, expected)| (got - expected).abs() < 1e-9), "{temperatures:?}");

    // Under a budget of seconds the same lines follow the time.
    let timed = train(folder.path(), "in-batch", "timed", &[&["train.seconds=3"], &curriculum[..]].concat());
    let temperatures = timed.steps("temperature");
    assert!(temperatures.is_sorted_by(|a, b| a >= b) && temperatures[0] > temperatures[temperatures.len() - 1] + 0.02, "{temperatures:?}");
    let progress: Vec<f64> = temperatures.iter().map(|temperature| (0.2 - temperature) / 0.1).collect();
    let expected = progress.iter().sum::<f64>() / progress.len() as f64;
    let got = lexical(&timed, 0..progress.len());
    // Batches are put together a few steps ahead.
    assert!((got - expected).abs() < 0.1, "{got} instead of {expected} over {} steps", progress.len());
}

#[test]
fn a_budget_of_seconds_is_divided_among_rounds() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "adore", "run", &["train.seconds=4", "train.checkpoint_every=3", "train.keep_checkpoints=999"]);
    let rounds = run.events("round");
    assert_eq!(rounds.len(), 1, "the second begins once");
    let boundary = rounds[0]["step"].as_u64().unwrap() as usize;
    let steps = run.events("step").len();
    assert!(boundary > 3 && steps > boundary + 3, "{boundary} of {steps}");
    // Each round has its own learning rate from its start to its end.
    let rates = run.steps("learning_rate");
    let highest = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
    assert!(rates[boundary - 1] < 0.5 * highest(&rates[..boundary]), "{rates:?}");
    assert!(rates[steps - 1] < 0.5 * highest(&rates[boundary..]), "{rates:?}");
    assert!(run.path.join("rounds/round-1").is_dir() && run.path.join("document-model").is_dir());
    let end = run.events("end")[0];
    let busy = end["training_seconds"].as_f64().unwrap() + end["mining_seconds"].as_f64().unwrap();
    assert!((4.0..40.0).contains(&busy), "{end}");
    // Killed in the second round, it goes on there.
    let in_second = (boundary / 3 + 1) * 3;
    resume(folder.path(), "run", in_second);
    let log = fs::read_to_string(run.path.join("run.jsonl")).unwrap();
    let again: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(again.iter().filter(|event| event["event"] == "round").count(), 1);
    assert!(again.iter().filter(|event| event["event"] == "step").count() >= in_second);
}

#[test]
fn a_rolling_refresh_by_the_clock_spreads_over_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let rolling = "negatives.source=[{from=\"in-batch\"},{from=\"dense\",depth=20,refresh=\"rolling 2 s\"}]";
    let run = train(folder.path(), "in-batch", "run", &["train.seconds=3", "train.epochs=99", "batch.negatives=1", rolling]);
    let refreshes = run.events("refresh");
    let steps: Vec<u64> = refreshes.iter().map(|event| event["step"].as_u64().unwrap()).collect();
    assert!(steps.len() > 2 && steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
    let lists = |event: &serde_json::Value| event["by_source"][0]["queries"].as_u64().unwrap();
    assert!(refreshes[1..].iter().any(|event| lists(event) < lists(refreshes[0])), "slices, not all lists each time");
    let logged = run.steps("loss").len() as u64;
    assert_eq!(Some(logged), run.batches.last().map(|batch| batch["step"].as_u64().unwrap() + 1), "no step is lost or done twice");
}
