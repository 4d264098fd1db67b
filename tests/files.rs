//! The other commands, from files to files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::Value;

use crate::collections::{SHORT_RUN, animals};
use crate::command::{failure, json, run, stderr, weights};

/// A folder with the collection `data` and a trained model `run/model`.
fn trained(folder: &Path) {
    animals(&folder.join("data"));
    let mut arguments = vec!["train", "--json", "--out", "run"];
    arguments.extend(SHORT_RUN);
    json(folder, &arguments);
}

fn rows(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn encode_keeps_the_input_order_and_search_agrees_with_it() {
    let folder = tempfile::tempdir().unwrap();
    trained(folder.path());
    let result = json(
        folder.path(),
        &["encode", "--model", "run/model", "--input", "data/corpus.jsonl", "--output", "rows.safetensors", "--device", "cpu", "--json"],
    );
    assert_eq!(result["rows"], 144);
    let bytes = fs::read(folder.path().join("rows.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("embeddings").unwrap();
    assert_eq!(tensor.shape()[0], 144);
    let width = tensor.shape()[1];
    let values: Vec<f32> = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    for row in values.chunks(width) {
        let norm: f32 = row.iter().map(|value| value * value).sum();
        assert!((norm - 1.0).abs() < 1e-4, "rows have unit length, got {norm}");
    }
    let ids = fs::read_to_string(folder.path().join("rows.safetensors.ids")).unwrap();
    assert_eq!(ids.lines().next(), Some("d0"));
    assert_eq!(ids.lines().count(), 144);

    // A compressed input gives the same rows.
    let mut packed =
        flate2::write::GzEncoder::new(fs::File::create(folder.path().join("corpus.jsonl.gz")).unwrap(), flate2::Compression::default());
    packed.write_all(&fs::read(folder.path().join("data/corpus.jsonl")).unwrap()).unwrap();
    packed.finish().unwrap();
    json(
        folder.path(),
        &["encode", "--model", "run/model", "--input", "corpus.jsonl.gz", "--output", "again.safetensors", "--device", "cpu", "--json"],
    );
    assert!(fs::read(folder.path().join("again.safetensors")).unwrap() == bytes);

    // Search answers with the document whose row has the largest product with the query's row.
    fs::write(folder.path().join("query.jsonl"), "{\"_id\": \"q\", \"text\": \"where in the south is the azure hound\"}\n").unwrap();
    json(
        folder.path(),
        &[
            "encode",
            "--model",
            "run/model",
            "--input",
            "query.jsonl",
            "--output",
            "query.safetensors",
            "--kind",
            "query",
            "--device",
            "cpu",
            "--json",
        ],
    );
    let bytes = fs::read(folder.path().join("query.safetensors")).unwrap();
    let query: Vec<f32> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensor("embeddings")
        .unwrap()
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let score = |row: &[f32]| row.iter().zip(&query).map(|(a, b)| a * b).sum::<f32>();
    let best = values.chunks(width).map(score).enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    let found = json(
        folder.path(),
        &[
            "search",
            "--data",
            "data",
            "--model",
            "run/model",
            "--device",
            "cpu",
            "--json",
            "--k",
            "3",
            "where in the south is the azure hound",
        ],
    );
    let hits = found["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 3);
    assert_eq!(hits[0]["id"], format!("d{}", best.0));
    assert!((hits[0]["score"].as_f64().unwrap() - f64::from(best.1)).abs() < 1e-5);
}

#[test]
fn mine_writes_every_format_and_never_a_judged_document() {
    let folder = tempfile::tempdir().unwrap();
    trained(folder.path());
    for format in ["own", "tevatron", "flagembedding", "triplets", "tuples"] {
        let output = format!("{format}.jsonl");
        let arguments = [
            "mine",
            "--data",
            "data",
            "--model",
            "run/model",
            "--output",
            &output,
            "--negatives",
            "3",
            "--format",
            format,
            "--device",
            "cpu",
            "--json",
        ];
        let result = json(folder.path(), &arguments);
        assert!(result["rows"].as_u64().unwrap() > 0, "{format}: {result}");
        let written = rows(&folder.path().join(&output));
        assert!(!written.is_empty(), "{format}");
        match format {
            "flagembedding" => {
                for row in &written {
                    let negatives = row["neg"].as_array().unwrap();
                    assert_eq!(negatives.len(), 3);
                    assert!(!negatives.contains(&row["pos"][0]), "{row}");
                }
            }
            "triplets" => assert!(written.iter().all(|row| row["positive"] != row["negative"])),
            "tuples" => assert!(written.iter().all(|row| row.get("negative_3").is_some() && row.get("negative_4").is_none())),
            _ => {}
        }
    }
    // A margin that nothing passes leaves no row, and says so instead of writing empty lists.
    let arguments = [
        "mine",
        "--data",
        "data",
        "--model",
        "run/model",
        "--output",
        "none.jsonl",
        "--negatives",
        "2",
        "--max-score",
        "-1",
        "--format",
        "flagembedding",
        "--device",
        "cpu",
        "--json",
    ];
    let result = json(folder.path(), &arguments);
    assert_eq!(result["rows"], 0);
    assert!(result["dropped"].as_u64().unwrap() > 0, "{result}");
}

#[test]
fn rows_in_a_file_mine_and_evaluate_the_same() {
    let folder = tempfile::tempdir().unwrap();
    trained(folder.path());
    fs::create_dir(folder.path().join("rows")).unwrap();
    let run = |arguments: &[&str], more: &[&str]| {
        let common = ["--data", "data", "--model", "run/model", "--device", "cpu", "--json"];
        json(folder.path(), &[arguments, &common, more].concat())
    };
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let ways = [
        ("memory", &[][..]),
        ("file", &["--rows-in", "rows"]),
        ("half", &["--half-rows"]),
        ("half-file", &["--rows-in", "rows", "--half-rows"]),
    ];
    for (name, more) in ways {
        run(&["mine", "--negatives", "3", "--relative-margin", "0.05", "--output", &format!("{name}.jsonl")], more);
        run(&["evaluate", "--output", name], more);
    }
    for (one, other) in [("memory", "file"), ("half", "half-file")] {
        assert_eq!(read(&format!("{one}.jsonl")), read(&format!("{other}.jsonl")));
        for name in ["metrics.json", "run.trec"] {
            assert_eq!(read(&format!("{one}/{name}")), read(&format!("{other}/{name}")), "{name}");
        }
    }
    // 16 bits move scores in the fourth digit: the documents found are nearly the same, and the scores are not.
    let found = |name: &str| -> BTreeMap<(String, String), f64> {
        let rows = read(&format!("{name}/run.trec"));
        let fields = rows.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        fields.map(|row| ((row[0].clone(), row[2].clone()), row[4].parse().unwrap())).collect()
    };
    let (whole, half) = (found("memory"), found("half"));
    let both: Vec<f64> = whole.iter().filter_map(|(pair, score)| half.get(pair).map(|half| (score - half).abs())).collect();
    assert!(both.len() as f64 > 0.98 * whole.len() as f64, "{} of {}", both.len(), whole.len());
    let furthest = both.iter().copied().fold(0.0, f64::max);
    assert!(furthest > 0.0 && furthest < 2e-3, "{furthest}");
    assert_eq!(fs::read_dir(folder.path().join("rows")).unwrap().count(), 0);
    let none = ["evaluate", "--data", "data", "--model", "run/model", "--device", "cpu", "--rows-in", "nowhere"];
    let (_, message) = failure(folder.path(), &none);
    assert!(message.contains("nowhere"), "{message}");
}

#[test]
fn a_query_that_a_run_file_lacks_counts_as_zero_and_a_foreign_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    trained(folder.path());
    let whole =
        json(folder.path(), &["evaluate", "--data", "data", "--model", "run/model", "--output", "all", "--device", "cpu", "--json"]);
    let lines = fs::read_to_string(folder.path().join("all/run.trec")).unwrap();
    let first = lines.split_whitespace().next().unwrap().to_owned();
    let kept = |line: &&str| line.split_whitespace().next() != Some(&first);
    fs::write(folder.path().join("part.trec"), lines.lines().filter(kept).collect::<Vec<_>>().join("\n")).unwrap();
    let evaluate = |file: &str| run(folder.path(), &["evaluate", "--data", "data", "--run", file, "--json"]);
    let complete = json(folder.path(), &["evaluate", "--data", "data", "--run", "all/run.trec", "--json"]);
    assert_eq!(complete, whole);
    let part = evaluate("part.trec");
    let told: Value = serde_json::from_slice(&part.stdout).unwrap();
    let queries = whole["queries"].as_f64().unwrap();
    assert_eq!(told["queries"], whole["queries"]);
    let recall = |told: &Value| told["recall@100"].as_f64().unwrap();
    assert!((recall(&told) - (recall(&whole) - 1.0 / queries)).abs() < 1e-9, "{told} {whole}");
    assert!(stderr(&part).contains(&format!("lacks 1 of the {queries} judged queries")), "{}", stderr(&part));
    fs::write(folder.path().join("foreign.trec"), "other Q0 d1 1 0.5 x\n").unwrap();
    let (code, line) = failure(folder.path(), &["evaluate", "--data", "data", "--run", "foreign.trec"]);
    assert!(code == 2 && line.contains("its first one is other"), "{code}: {line}");
}

#[test]
fn a_run_with_an_encoder_of_its_own_for_documents_is_measured_with_both() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let set = ["--set", "batch.queries=16", "--set", "train.steps=20", "--set", "train.evaluate_every=0", "--set", "train.rate_factor=1.0"];
    let train = ["train", "--recipe", "adore", "--data", "data", "--device", "cpu", "--out", "run", "--json"];
    let told = json(folder.path(), &[&train[..], &set].concat());
    let evaluate = ["evaluate", "--data", "data", "--model", "run/model", "--device", "cpu", "--json"];
    let document_model = told["document_model"].as_str().unwrap();
    assert_eq!(json(folder.path(), &[&evaluate[..], &["--document-model", document_model]].concat()), told["after"]);
    let documents = |more: &[&str]| {
        let search = ["search", "--data", "data", "--model", "run/model", "--device", "cpu", "--json", "where is the azure hound"];
        json(folder.path(), &[&search[..], more].concat())["hits"].clone()
    };
    assert_ne!(documents(&[]), documents(&["--document-model", document_model]));
    // Of a run whose words are others.
    fs::write(folder.path().join("pairs.jsonl"), "{\"a\": \"one\", \"b\": \"two\"}\n{\"a\": \"three\", \"b\": \"four\"}\n").unwrap();
    let pairs = ["train", "--recipe", "in-batch", "--data", "pairs.jsonl", "--device", "cpu", "--out", "other", "--json"];
    json(folder.path(), &[&pairs[..], &["--set", "data.test=train", "--set", "train.steps=1"]].concat());
    let (code, line) = failure(folder.path(), &[&evaluate[..], &["--document-model", "other/model"]].concat());
    assert!(code == 2 && line.contains("belong to different runs"), "{code}: {line}");
}

#[test]
fn a_finished_run_exports_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    trained(folder.path());
    json(folder.path(), &["export", "run", "--output", "model", "--json"]);
    assert!(weights(&folder.path().join("model")) == weights(&folder.path().join("run/model")));
    fs::remove_file(folder.path().join("run/report.html")).unwrap();
    json(folder.path(), &["report", "run", "--json"]);
    let html = fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    for part in ["<svg", "BM25", "Refreshes of the negatives", "temperature"] {
        assert!(html.contains(part), "{part:?} is missing in the report");
    }
}

#[test]
fn devices_always_lists_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let devices = json(folder.path(), &["devices", "--json"]);
    assert_eq!(devices["devices"][0]["device"], "cpu");
    let output = run(folder.path(), &["devices"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("auto takes"), "{}", stderr(&output));
}

#[test]
fn a_run_is_scored_as_other_tools_would() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir_all(folder.path().join("data/qrels")).unwrap();
    // The query is a document of the collection, as in ArguAna; the other relevant document is worth more.
    write(
        "data/corpus.jsonl",
        "{\"_id\": \"a\", \"text\": \"ant\"}\n{\"_id\": \"b\", \"text\": \"bee\"}\n{\"_id\": \"c\", \"text\": \"cat\"}\n",
    );
    write("data/queries.jsonl", "{\"_id\": \"a\", \"text\": \"ant\"}\n");
    write("data/qrels/test.tsv", "query-id\tcorpus-id\tscore\na\tb\t1.0\na\tc\t2\n");
    write("run.trec", "a Q0 a 1 0.9 x\na Q0 b 2 0.8 x\na Q0 c 3 0.7 x\n");
    let mrr = |flags: &[&str]| {
        let arguments = ["evaluate", "--data", "data", "--run", "run.trec", "--json", "--output", "out"];
        json(folder.path(), &[&arguments[..], flags].concat())["mrr@10"].as_f64().unwrap()
    };
    let ranks = [&[][..], &["--drop-identical"], &["--relevance-level", "2"], &["--drop-identical", "--relevance-level", "2"]].map(mrr);
    assert_eq!(ranks, [1.0 / 2.0, 1.0, 1.0 / 3.0, 1.0 / 2.0]);
    let beir: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.path().join("out/beir.json")).unwrap()).unwrap();
    assert_eq!(beir["mrr"]["MRR@10"], 0.5);
}
