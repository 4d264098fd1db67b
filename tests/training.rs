//! A run from start to end, and everything it leaves behind.

#![allow(clippy::print_stderr)]

use std::fs;

use serde_json::Value;

use crate::collections::{SHORT_RUN, animals, written_for_animals};
use crate::command::{json, run, stderr, weights};

#[test]
fn a_run_learns_and_leaves_a_complete_folder() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let mut arguments = vec!["train", "--json", "--out", "run"];
    arguments.extend(SHORT_RUN);
    let result = json(folder.path(), &arguments);
    for key in ["bm25", "before", "after"] {
        for metric in ["ndcg@10", "mrr@10", "recall@100", "map@100"] {
            let value = result[key][metric].as_f64().unwrap_or(-1.0);
            assert!((0.0..=1.0).contains(&value), "{key} {metric}: {result}");
        }
        assert_eq!(result[key]["queries"], 24);
    }
    let figure = |key: &str| result[key]["ndcg@10"].as_f64().unwrap();
    assert!(figure("after") > figure("before") + 0.3, "training must show: {result}");
    assert_eq!(result["steps"], 40);
    assert_eq!(result["device"], "cpu");
    let run_folder = folder.path().join("run");
    for file in ["config.toml", "run.jsonl", "report.html", "model/modules.json", "evaluation/run.trec", "evaluation/metrics.json"] {
        assert!(run_folder.join(file).is_file(), "{file} is missing");
    }
    assert!(fs::read_dir(run_folder.join("tensorboard")).unwrap().next().is_some());
    assert!(fs::read_dir(run_folder.join("negatives")).unwrap().count() >= 4, "one list for each refresh");

    let log = fs::read_to_string(run_folder.join("run.jsonl")).unwrap();
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<u64> = events.iter().filter(|event| event["event"] == "step").map(|event| event["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (0..40).collect::<Vec<u64>>());
    let refreshes: Vec<u64> =
        events.iter().filter(|event| event["event"] == "refresh").map(|event| event["step"].as_u64().unwrap()).collect();
    assert_eq!(refreshes, [0, 10, 20, 30], "the refresh really happens when the schedule says");

    // The run file scores the same when it is read back.
    let again = json(folder.path(), &["evaluate", "--data", "data", "--run", "run/evaluation/run.trec", "--json"]);
    assert_eq!(again, result["after"]);
    // So does the written model.
    let model = json(folder.path(), &["evaluate", "--data", "data", "--model", "run/model", "--device", "cpu", "--json"]);
    assert_eq!(model, result["after"]);
}

#[test]
fn the_saved_configuration_runs_again_to_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let mut arguments = vec!["train", "--json", "--out", "first"];
    arguments.extend(SHORT_RUN);
    json(folder.path(), &arguments);
    json(folder.path(), &["train", "first/config.toml", "--out", "second", "--json"]);
    let weights = |run: &str| weights(&folder.path().join(run).join("model"));
    assert!(weights("first") == weights("second"), "same configuration, same seed, other weights");
}

#[test]
fn gradient_caching_trains_to_nearly_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let train = |out: &str, chunk: &str| {
        let mut arguments = vec!["train", "--json", "--out", out, "--set", chunk];
        arguments.extend(SHORT_RUN);
        json(folder.path(), &arguments)["after"]["ndcg@10"].as_f64().unwrap()
    };
    let (whole, cached) = (train("whole", "batch.chunk=0"), train("cached", "batch.chunk=5"));
    assert!((whole - cached).abs() < 0.05, "nDCG@10 {whole} whole, {cached} in chunks");
}

#[test]
fn every_recipe_trains() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let mine =
        ["mine", "--data", "data", "--model", "builtin:tiny", "--negatives", "5", "--output", "lists.jsonl", "--device", "cpu", "--json"];
    json(folder.path(), &mine);
    written_for_animals(folder.path());
    let recipes = json(folder.path(), &["recipes", "--json"]);
    for recipe in recipes["recipes"].as_array().unwrap() {
        let name = recipe["name"].as_str().unwrap();
        let mut arguments = vec!["train", "--recipe", name, "--out", name, "--json", "--data", "data", "--device", "cpu"];
        arguments.extend([
            "--set",
            "batch.queries=16",
            "--set",
            "train.steps=12",
            "--set",
            "reranker.steps=3",
            "--set",
            "reranker.lists=4",
        ]);
        // What a recipe says it needs.
        match name {
            "margin-mse" => arguments.extend(["--set", "negatives.source.0.path=lists.jsonl"]),
            "kl-distill" => arguments.extend(["--set", "negatives.source.1.path=lists.jsonl"]),
            "gpl" => arguments.extend(["--set", "data.queries=queries.jsonl", "--set", "reranker.model=start"]),
            "inpars" | "gecko" => arguments.extend(["--set", "data.queries=queries.jsonl"]),
            "promptagator" => arguments.extend(["--set", "data.queries=queries.jsonl", "--set", "round.1.train.round_trip=20"]),
            "e5-synthetic" => arguments.extend(["--set", "negatives.source.1.path=lists.jsonl"]),
            "pair" | "ar2" => arguments.extend(["--set", "round.1.reranker.steps=3"]),
            _ => {}
        }
        let result = json(folder.path(), &arguments);
        assert!(result["after"]["ndcg@10"].as_f64().unwrap() > 0.0, "{name}: {result}");
    }
}

#[test]
fn the_human_output_has_a_table_and_the_next_command() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let mut arguments = vec!["train", "--out", "run"];
    arguments.extend(SHORT_RUN);
    let output = run(folder.path(), &arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["nDCG@10", "BM25", "before training", "after training", "run/model", "run/report.html", "search --data data"] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn mixed_precision_rounds_operands_and_the_log_says_so() {
    let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/tiny-bert");
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let first = |precision: &str, model: &str| {
        let precision = format!("train.precision={precision}");
        let mut arguments = vec!["train", "--out", precision.as_str(), "--model", model, "--set", precision.as_str()];
        arguments.extend(SHORT_RUN);
        arguments.extend(["--set", "train.steps=2", "--set", "train.evaluate_every=0"]);
        let output = run(folder.path(), &arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        let log = fs::read_to_string(folder.path().join(&precision).join("run.jsonl")).unwrap();
        let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let event = |name: &str| events.iter().find(|event| event["event"] == name).unwrap().clone();
        fs::remove_dir_all(folder.path().join(&precision)).unwrap();
        (event("start")["precision"].clone(), event("step")["loss"].as_f64().unwrap(), stderr(&output))
    };
    let (said, loss, note) = first("f32", "builtin:tiny");
    assert_eq!((&said["asked"], &said["linear_layers"], &said["rows_of_negatives"]), (&"f32".into(), &"f32".into(), &"f32".into()));
    assert!(!note.contains("mixed precision"), "{note}");
    // No linear layers: only the rows of negatives are rounded.
    let (said, mixed, note) = first("mixed", "builtin:tiny");
    assert_eq!((&said["asked"], &said["rows_of_negatives"], &said["rest"]), (&"mixed".into(), &"f16".into(), &"f32".into()));
    assert!(note.contains("mixed precision: 16-bit operands"), "{note}");
    assert!((mixed - loss).abs() < 0.05 * loss, "{mixed} and {loss}");
    if !model.is_dir() {
        eprintln!("skipped: mixed precision of a transformer (../shared is not there)");
        return;
    }
    let model = model.to_str().unwrap();
    let ((_, loss, _), (_, mixed, _)) = (first("f32", model), first("mixed", model));
    assert!(mixed != loss && (mixed - loss).abs() < 0.02 * loss, "{mixed} and {loss}");
}
