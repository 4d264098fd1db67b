//! A run from start to end, and everything it leaves behind.

#![allow(clippy::print_stderr)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use corpus::Collection;
use serde_json::Value;

use crate::collections::{SHORT_RUN, animals, animals_with_copies, written_for_animals};
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
    let data = &events[1];
    assert_eq!((&data["event"], &data["documents"]["texts"], &data["queries"]["texts"]), (&"data".into(), &144.into(), &144.into()));
    assert_eq!((&data["pairs"], &data["copies"]), (&96.into(), &0.into()));
    let report = fs::read_to_string(run_folder.join("report.html")).unwrap();
    let drawn: Vec<&str> = report.split("<h2>").find(|part| part.starts_with("Where the encoder")).unwrap().split("<h3>").skip(1).collect();
    assert!(drawn.len() == 2 && drawn[0].starts_with("dense, step 0") && drawn[1].starts_with("dense, step 30"), "{drawn:?}");

    // The run file scores the same when it is read back.
    let again = json(folder.path(), &["evaluate", "--data", "data", "--run", "run/evaluation/run.trec", "--json"]);
    assert_eq!(again, result["after"]);
    // So does the written model.
    let model = json(folder.path(), &["evaluate", "--data", "data", "--model", "run/model", "--device", "cpu", "--json"]);
    assert_eq!(model, result["after"]);
}

/// A model whose rows have any length: what it is trained by is what it is compared by, and a command that ranks by products says so where its folder says otherwise.
#[test]
fn rows_of_any_length_are_compared_by_inner_product() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let mut arguments = vec!["train", "--out", "run", "--set", "encoder.normalize=false"];
    arguments.extend(SHORT_RUN);
    assert!(run(folder.path(), &arguments).status.success());
    let model = folder.path().join("run/model");
    let settings = model.join("config_sentence_transformers.json");
    let text = fs::read_to_string(&settings).unwrap();
    assert!(text.contains("\"similarity_fn_name\": \"dot\""), "{text}");
    let evaluate = |more: &[&str]| {
        let output =
            run(folder.path(), &[&["evaluate", "--data", "data", "--model", "run/model", "--device", "cpu", "--json"], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        (stderr(&output).contains("--normalize makes cosines"), output.stdout)
    };
    let (warned, by_product) = evaluate(&[]);
    assert!(!warned);
    fs::write(&settings, text.replace("\"dot\"", "\"cosine\"")).unwrap();
    assert_eq!(evaluate(&[]), (true, by_product.clone()));
    let (warned, by_cosine) = evaluate(&["--normalize"]);
    assert!(!warned && by_cosine != by_product, "word vectors of different lengths rank otherwise");
    let (_, prompted) = evaluate(&["--query-prompt", "crimson hound "]);
    assert!(prompted != by_product, "words in front of every query count");
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
fn evaluations_change_nothing_and_lend_their_rows_to_a_refresh_at_the_same_step() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let train = |out: &str, every: &str| {
        let mut arguments = vec!["train", "--json", "--out", out, "--set", every, "--set", "train.keep=last"];
        arguments.extend(SHORT_RUN);
        let result = json(folder.path(), &arguments);
        // The first line has the time.
        let lists = |version| {
            let path = folder.path().join(format!("{out}/negatives/version-{version}.jsonl"));
            fs::read_to_string(path).unwrap().lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        let log = fs::read_to_string(folder.path().join(out).join("run.jsonl")).unwrap();
        let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lent: Vec<bool> =
            events.filter(|event| event["event"] == "refresh").map(|event| event["lent_rows"].as_bool().unwrap()).collect();
        // The first comes right behind the measurement before training.
        let together = every == "train.evaluate_every=10";
        assert_eq!(lent, [true, together, together, together], "{out}");
        (weights(&folder.path().join(out).join("model")), (1..=4).map(lists).collect::<Vec<_>>(), result["after"].clone())
    };
    // Refreshes come every ten steps.
    let alone = train("alone", "train.evaluate_every=0");
    for (out, every) in [("together", "train.evaluate_every=10"), ("between", "train.evaluate_every=7")] {
        let (weights, lists, after) = train(out, every);
        assert!(lists == alone.1, "{out}: other lists");
        assert!(weights == alone.0, "{out}: other weights");
        assert_eq!(after, alone.2);
    }
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

/// The texts that are no negatives of a row of batches.jsonl: those of its positive and of whatever else is judged, and the query's own.
fn known<'a>(collection: &'a Collection, row: &Value) -> BTreeSet<&'a str> {
    let text = |document: u32| collection.documents.text(document);
    let positive = collection.documents.find(row["positive"].as_str().unwrap()).unwrap();
    let mut known = BTreeSet::from([text(positive)]);
    // A written query is judged nowhere else, and its text is not in the collection.
    if let Some(query) = collection.queries.find(row["query"].as_str().unwrap()) {
        known.extend(collection.split("train").unwrap().judged(query).iter().map(|&(document, _)| text(document)));
        known.insert(collection.queries.text(query));
    }
    known
}

/// No negative of a run is known to be none; and where columns are counted, no more are open than are left without those. Returns how many cells
/// those are, beside the positives themselves.
fn barred(collection: &Collection, run: &Path) -> usize {
    let lines = |name: &str| -> Vec<Value> {
        let text = fs::read_to_string(run.join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let steps: Vec<Value> = lines("run.jsonl").into_iter().filter(|event| event["event"] == "step").collect();
    let text = |id: &str| collection.documents.find(id).map(|document| collection.documents.text(document));
    let id = |value: &'_ Value| value.as_str().unwrap().to_owned();
    let mut all = 0;
    for line in lines("batches.jsonl") {
        let rows = line["rows"].as_array().unwrap();
        let negatives = |row: &Value| row["negatives"].as_array().unwrap().iter().map(|it| id(&it["id"])).collect::<Vec<_>>();
        let of_rows: BTreeSet<String> = rows.iter().flat_map(|row| [negatives(row), vec![id(&row["positive"])]].concat()).collect();
        let queue = line["queue"].as_array().into_iter().flatten().map(id);
        let columns: Vec<String> = of_rows.into_iter().chain(queue).collect();
        let mut left = 0;
        for row in rows {
            let known = known(collection, row);
            let is_known = |id: &String| text(id).is_some_and(|text| known.contains(text));
            assert!(!negatives(row).iter().any(is_known), "{}: {row}", run.display());
            let count = columns.iter().filter(|id| is_known(id)).count();
            left += columns.len() - count;
            all += count - 1;
        }
        // What is retrieved in the step are other columns.
        let retrieves = !rows[0]["retrieved"].is_null();
        let counted = steps[line["step"].as_u64().unwrap() as usize]["compared"].as_object().filter(|_| !retrieves);
        let open: u64 = counted.into_iter().flatten().map(|(_, cells)| cells["open"].as_u64().unwrap()).sum();
        assert!(open as usize <= left, "{}: {open} cells are open, {left} may be: {line}", run.display());
    }
    all
}

/// And none of them takes what is known to be no negative for one.
#[test]
fn every_recipe_trains() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    animals_with_copies(&data);
    let collection = Collection::open(data.to_str().unwrap()).unwrap();
    let mine =
        ["mine", "--data", "data", "--model", "builtin:tiny", "--negatives", "5", "--output", "lists.jsonl", "--device", "cpu", "--json"];
    json(folder.path(), &mine);
    written_for_animals(folder.path());
    let recipes = json(folder.path(), &["recipes", "--json"]);
    let mut in_the_way = 0;
    for recipe in recipes["recipes"].as_array().unwrap() {
        let name = recipe["name"].as_str().unwrap();
        let mut arguments = vec!["train", "--recipe", name, "--out", name, "--json", "--data", "data", "--device", "cpu"];
        let mut set = vec!["batch.queries=16", "train.steps=12", "train.log_batches=true", "reranker.steps=3", "reranker.lists=4"];
        // What a recipe says it needs.
        match name {
            "margin-mse" => set.push("negatives.source.0.path=lists.jsonl"),
            "kl-distill" | "e5-synthetic" => set.push("negatives.source.1.path=lists.jsonl"),
            // A teacher that has learned something: from a cross-encoder with a head drawn at random, what comes out is chance.
            "gpl" => set.extend(["data.queries=queries.jsonl", "teacher.model=bm25/model", "loss.teacher_scale=1.0"]),
            "inpars" | "gecko" => set.push("data.queries=queries.jsonl"),
            "promptagator" => set.extend(["data.queries=queries.jsonl", "round.1.train.round_trip=20"]),
            "pair" | "ar2" => set.push("round.1.reranker.steps=3"),
            "rlhn" | "arhn" => set.push("data.decisions=decisions.jsonl"),
            _ => {}
        }
        set.iter().for_each(|value| arguments.extend(["--set", value]));
        let result = json(folder.path(), &arguments);
        assert!(result["after"]["ndcg@10"].as_f64().unwrap() > 0.0, "{name}: {result}");
        in_the_way += barred(&collection, &folder.path().join(name));
    }
    assert!(in_the_way > 1000, "{in_the_way} cells had to be barred");
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
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/tiny-bert");
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
    // A round that goes on from the one before does so in the same precision. Each has one step, at a rate of 0.
    let second = |precision: &str| {
        let (out, precision) = (format!("two-{precision}"), format!("train.precision={precision}"));
        let mut arguments = vec!["train", "--recipe", "in-batch", "--out", &out, "--model", model, "--set", &precision];
        arguments.extend(&SHORT_RUN[..6]);
        arguments.extend(["--set", "train.steps=2", "--set", "train.evaluate_every=0", "--set", "round=[{},{train={restart=false}}]"]);
        let output = run(folder.path(), &arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        let log = fs::read_to_string(folder.path().join(&out).join("run.jsonl")).unwrap();
        let mut events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.find(|event| event["event"] == "step" && event["step"] == 1).unwrap()["loss"].as_f64().unwrap()
    };
    let (loss, mixed) = (second("f32"), second("mixed"));
    assert!(mixed != loss && (mixed - loss).abs() < 0.02 * loss, "{mixed} and {loss}");
}

#[test]
fn a_search_needs_documents_alone() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    fs::create_dir(folder.path().join("corpus")).unwrap();
    fs::copy(folder.path().join("data/corpus.jsonl"), folder.path().join("corpus/corpus.jsonl")).unwrap();
    let found = |data: &str| {
        json(folder.path(), &["search", "--data", data, "--model", "builtin:tiny", "--device", "cpu", "--json", "an animal"])["hits"]
            .clone()
    };
    let hits = found("corpus");
    assert_eq!(hits.as_array().unwrap().len(), 10);
    assert_eq!(hits, found("corpus/corpus.jsonl"));
}

#[test]
fn a_file_of_pairs_is_enough_and_evaluate_measures_on_what_was_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let rows = (0..60).map(|number| format!("{{\"query\": \"find {number}\", \"positive\": \"here is {number}\"}}\n"));
    fs::write(folder.path().join("pairs.jsonl"), rows.collect::<String>()).unwrap();
    fs::write(folder.path().join("my.toml"), "recipe = \"in-batch\"\n[batch]\nqueries = 8\n[train]\nsteps = 3\n").unwrap();
    let trained = json(folder.path(), &["train", "my.toml", "--data", "pairs.jsonl", "--out", "run", "--device", "cpu", "--json"]);
    let evaluate = ["evaluate", "--data", "pairs.jsonl", "--model", "run/model", "--device", "cpu", "--json"];
    let measured = json(folder.path(), &evaluate);
    assert_eq!((&trained["split"], &measured), (&"test".into(), &trained["after"]));
    assert_eq!((&trained["steps"], &measured["queries"]), (&3.into(), &3.into()));
    let more = json(folder.path(), &[&evaluate[..], &["--hold-out", "0.2"]].concat());
    assert_eq!(more["queries"], 6);
    // Another name of a split is that split: for who measures, and where it chooses the weights too.
    let [dev, validation] = ["dev", "validation"].map(|split| json(folder.path(), &[&evaluate[..], &["--split", split]].concat()));
    assert_eq!((&dev["queries"], &dev), (&3.into(), &validation));
    fs::create_dir(folder.path().join("split")).unwrap();
    for (name, numbers) in [("train", 0..50), ("dev", 50..60)] {
        let rows = numbers.map(|number| format!("{{\"query\": \"find {number}\", \"positive\": \"here is {number}\"}}\n"));
        fs::write(folder.path().join(format!("split/{name}.jsonl")), rows.collect::<String>()).unwrap();
    }
    let same = ["train", "my.toml", "--data", "split", "--set", "data.test=validation", "--out", "same", "--device", "cpu"];
    let output = run(folder.path(), &same);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("on the split `validation`, which also chooses the best weights"), "{}", stderr(&output));

    // Written queries change nothing about what is measured on.
    let measured_on = |run: &str| -> BTreeSet<String> {
        let lines = fs::read_to_string(folder.path().join(run).join("evaluation/run.trec")).unwrap();
        lines.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    let document =
        json(folder.path(), &["search", "--data", "pairs.jsonl", "--model", "run/model", "--device", "cpu", "--json", "here is 7"]);
    let positive = document["hits"][0]["id"].as_str().unwrap();
    let written =
        (0..60).map(|number| format!("{{\"_id\": \"w{number}\", \"text\": \"written {number}\", \"positive\": [\"{positive}\"]}}\n"));
    fs::write(folder.path().join("written.jsonl"), written.collect::<String>()).unwrap();
    let more =
        ["train", "my.toml", "--data", "pairs.jsonl", "--set", "data.queries=written.jsonl", "--out", "more", "--device", "cpu", "--json"];
    assert_eq!(json(folder.path(), &more)["after"]["queries"], 3);
    assert_eq!(measured_on("more"), measured_on("run"));
}
