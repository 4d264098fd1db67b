//! The negatives of a query over a run, against the files that the run wrote.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::command::{failure, json, run, stderr};

/// A run on the built-in collection whose negatives are refreshed at steps 0 and 10.
fn train(folder: &Path) {
    let arguments = [
        "train",
        "--recipe",
        "ance",
        "--out",
        "run",
        "--device",
        "cpu",
        "--json",
        "--set",
        "train.steps=20",
        "--set",
        "batch.queries=32",
        "--set",
        "negatives.source.1.refresh=\"every 10 steps\"",
    ];
    json(folder, &arguments);
}

/// The rows of one version of the negatives.
fn rows(folder: &Path, version: u64) -> Vec<Value> {
    let text = fs::read_to_string(folder.join(format!("run/negatives/version-{version}.jsonl"))).unwrap();
    text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(row: &Value) -> Vec<&str> {
    row["negatives"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect()
}

#[test]
fn the_negatives_of_a_query_are_shown_as_they_were_mined() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path());
    let (first, second) = (rows(folder.path(), 1), rows(folder.path(), 2));
    let find = |rows: &[Value], query: &str| rows.iter().find(|row| row["query_id"] == query).cloned().unwrap();

    let result = json(folder.path(), &["inspect", "run", "--query", "q00007", "--limit", "0", "--json"]);
    assert_eq!((&result["versions"], &result["complete_judgments"]), (&2.into(), &true.into()));
    let query = &result["queries"][0];
    assert_eq!(query["id"], "q00007");
    assert_eq!(query["positives"][0]["id"], find(&first, "q00007")["positive_id"]);
    let (one, two) = (find(&first, "q00007"), find(&second, "q00007"));
    for (shown, (written, step)) in query["versions"].as_array().unwrap().iter().zip([(&one, 0), (&two, 10)]) {
        assert_eq!(shown["step"], step);
        assert_eq!(ids(shown), ids(written));
        for (shown, written) in shown["negatives"].as_array().unwrap().iter().zip(written["negatives"].as_array().unwrap()) {
            for field in ["score", "rank", "source"] {
                assert_eq!(shown[field], written[field]);
            }
        }
    }
    let new: Vec<&str> = ids(&two).into_iter().filter(|id| !ids(&one).contains(id)).collect();
    let marked = query["versions"][1]["negatives"].as_array().unwrap().iter().filter(|it| it["new"] == true);
    assert_eq!(marked.map(|it| it["id"].as_str().unwrap()).collect::<Vec<_>>(), new);
    assert!(!new.is_empty());
    assert_eq!(query["versions"][1]["new"], new.len());
    assert_eq!(query["versions"][1]["dropped"], ids(&one).iter().filter(|id| !ids(&two).contains(id)).count());

    // Over all queries, the false negatives shown are those that the run counted.
    let log = fs::read_to_string(folder.path().join("run/run.jsonl")).unwrap();
    let refresh: Value =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).rfind(|event| event["event"] == "refresh").unwrap();
    let counted = (refresh["false_negative_rate"].as_f64().unwrap() * refresh["candidates"].as_f64().unwrap()).round() as u64;
    let all = json(folder.path(), &["inspect", "run", "--queries", "4000", "--limit", "1", "--json"]);
    let last = |query: &Value| query["versions"][1]["false_negatives"].as_u64().unwrap();
    let queries = all["queries"].as_array().unwrap();
    assert_eq!((queries.len(), queries.iter().map(last).sum::<u64>()), (4000, counted));
    assert!(counted > 0, "the collection hides relevant documents");
    let shown = queries.iter().flat_map(|query| query["versions"][1]["negatives"].as_array().unwrap());
    assert_eq!(shown.filter(|it| it["relevant"] == true).count() as u64, counted, "false negatives are shown beyond the limit");
    // Most changed first.
    let changes: Vec<u64> =
        queries.iter().map(|query| ["new", "dropped"].iter().map(|key| query["versions"][1][*key].as_u64().unwrap()).sum()).collect();
    assert!(changes.is_sorted_by(|a, b| a >= b));

    // A person finds the query by its words, and the lines fit a terminal.
    let words = query["text"].as_str().unwrap().to_uppercase();
    let output = run(folder.path(), &["inspect", "run", "--query", &words, "--limit", "5"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in
        ["2 versions", "q00007", "positive", "version 1, step 0: 100 candidates", "version 2, step 10: 100 candidates", "dropped: d"]
    {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert_eq!(text.matches("  dense  ").count(), 10, "{text}");

    // Wrong requests name the way out.
    let (code, line) = failure(folder.path(), &["inspect", "run", "--query", "q99999"]);
    assert!(code == 2 && line.contains("nearest") && line.contains("q0"), "{line}");
    let (code, line) = failure(folder.path(), &["inspect", "run", "--query", "q04999"]);
    assert!(code == 2 && line.contains("not trained on"), "{line}");
    let (code, line) = failure(folder.path(), &["inspect", "nowhere"]);
    assert!(code == 2 && line.contains("nowhere is no run folder"), "{line}");
}

#[test]
fn what_filters_took_out_is_shown_with_filter_and_score() {
    let folder = tempfile::tempdir().unwrap();
    let filter = "negatives.filter=[{rule=\"margin\",relative=0.05},{rule=\"rank-window\",skip=2}]";
    let arguments = ["train", "--recipe", "ance", "--out", "run", "--device", "cpu", "--json", "--set", "train.steps=2", "--set", filter];
    json(folder.path(), &[&arguments[..], &["--set", "negatives.source.1.below_margin=false"]].concat());
    let shown = json(folder.path(), &["inspect", "run", "--queries", "4000", "--limit", "1", "--json"]);
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for version in shown["queries"].as_array().unwrap().iter().map(|query| &query["versions"][0]) {
        let positive = version["positive_score"].as_f64().unwrap();
        let removed = version["removed"].as_array().unwrap();
        assert!(removed.is_sorted_by_key(|it| it["rank"].as_u64().unwrap()) && removed.len() <= 10);
        for it in removed {
            let above = it["score"].as_f64().unwrap() > positive - 0.05 * positive.abs();
            assert_eq!(it["filter"] == "margin", above, "{it} with the positive at {positive}");
            *counts.entry(it["filter"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    let log = fs::read_to_string(folder.path().join("run/run.jsonl")).unwrap();
    let refresh = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|event| event["event"] == "refresh").unwrap();
    // Of many dropped candidates the best ten of a query are kept.
    assert!(counts["margin"] > 1000 && counts["margin"] <= refresh["removed"]["margin"].as_u64().unwrap() as usize, "{counts:?}");
    assert!(counts["rank-window"] > 20, "{counts:?}");
    let output = run(folder.path(), &["inspect", "run", "--queries", "3"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("positive at ") && text.contains("removed by margin: d"), "{text}");
}

#[test]
fn a_run_without_lists_is_shown_by_visits() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["train", "--out", "run", "--device", "cpu", "--json", "--set", "train.steps=16", "--set", "train.log_batches=true"];
    json(folder.path(), &[&arguments[..], &["--recipe", "random", "--set", "data.limit=256", "--set", "batch.queries=32"]].concat());
    let batches = fs::read_to_string(folder.path().join("run/batches.jsonl")).unwrap();
    let batches: Vec<Value> = batches.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let query = batches[0]["rows"][3]["query"].as_str().unwrap();
    let shown = json(folder.path(), &["inspect", "run", "--query", query, "--limit", "0", "--json"]);
    let visits = shown["queries"][0]["versions"].as_array().unwrap();
    let written: Vec<(&Value, &Value)> = batches
        .iter()
        .flat_map(|line| line["rows"].as_array().unwrap().iter().map(move |row| (&line["step"], row)))
        .filter(|it| it.1["query"] == query)
        .collect();
    assert!(written.len() == 2 && visits.len() == 2, "two visits in two epochs of eight steps");
    for (visit, (step, row)) in visits.iter().zip(written) {
        assert_eq!(&visit["step"], step);
        assert_eq!(ids(visit), ids(row));
    }
    let output = run(folder.path(), &["inspect", "run", "--query", query]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("no lists of negatives; by visit") && text.contains("visit 2, step "), "{text}");
    // In-batch negatives are the other queries' positives.
    json(
        folder.path(),
        &[
            "train",
            "--recipe",
            "in-batch",
            "--out",
            "b",
            "--device",
            "cpu",
            "--json",
            "--set",
            "train.steps=2",
            "--set",
            "train.log_batches=true",
        ],
    );
    let shown = json(folder.path(), &["inspect", "b", "--limit", "0", "--json"]);
    let visit = &shown["queries"][0]["versions"][0];
    assert!(visit["candidates"].as_u64().unwrap() > 50, "{visit}");
    assert!(visit["negatives"].as_array().unwrap().iter().all(|it| it["source"] == "in-batch"));
}

#[test]
fn a_run_without_mined_negatives_says_so() {
    let folder = tempfile::tempdir().unwrap();
    json(folder.path(), &["train", "--recipe", "in-batch", "--out", "run", "--device", "cpu", "--json", "--set", "train.steps=2"]);
    let (code, line) = failure(folder.path(), &["inspect", "run"]);
    assert!(code == 2 && line.contains("no lists of negatives") && line.contains("in-batch"), "{line}");
}
