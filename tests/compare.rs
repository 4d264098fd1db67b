//! A comparison is stopped, asked for again, and says what its runs say.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::collections::animals;
use crate::command::{failure, json, run, stderr, trainer};

const REQUEST: [&str; 13] = [
    "compare",
    "--recipes",
    "in-batch,ance",
    "--seeds",
    "2",
    "--budget",
    "20steps",
    "--set",
    "batch.queries=32",
    "--device",
    "cpu",
    "--out",
    "c",
];

fn compare(folder: &Path) -> Value {
    let mut arguments = REQUEST.to_vec();
    arguments.push("--json");
    json(folder, &arguments)
}

fn figure(path: &Path, key: &str, metric: &str) -> f64 {
    let metrics: Value = serde_json::from_str(&fs::read_to_string(path.join("evaluation/metrics.json")).unwrap()).unwrap();
    metrics[key][metric].as_f64().unwrap()
}

fn row<'a>(table: &'a Value, name: &str) -> &'a Value {
    table["rows"].as_array().unwrap().iter().find(|row| row["name"] == name).expect("the row is there")
}

#[test]
fn seconds_are_a_budget_for_recipes_with_rounds_too() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["compare", "--recipes", "in-batch,adore", "--seeds", "1", "--budget", "3s", "--device", "cpu", "--out", "c", "--json"];
    let table = json(folder.path(), &arguments);
    for name in ["in-batch", "adore"] {
        let row = row(&table, name);
        let spent = ["training_seconds", "mining_seconds"].map(|key| row[key]["mean"].as_f64().unwrap());
        assert!((3.0..30.0).contains(&(spent[0] + spent[1])), "{row}");
        assert!(row["quality"]["ndcg@10"]["mean"].as_f64().or(row["quality"]["ndcg"]["mean"].as_f64()).unwrap() > 0.1, "{row}");
        // In-batch and retrieved columns have a rate of false negatives as mined ones do.
        let rate = row["false_negative_rate"]["mean"].as_f64().unwrap();
        assert!(rate > 0.0 && rate < 0.2, "{row}");
    }
    let log = fs::read_to_string(folder.path().join("c/adore-seed1/run.jsonl")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("\"event\":\"round\"")).count(), 1);
}

#[test]
fn a_budget_that_the_first_round_uses_up_is_said_and_one_that_makes_no_sense_refused() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["train", "--recipe", "adore", "--set", "train.seconds=0.001", "--device", "cpu", "--out", "r"];
    let output = run(folder.path(), &arguments);
    assert!(output.status.success() && stderr(&output).contains("used up in round 1 of 2"), "{}", stderr(&output));
    let (code, message) = failure(folder.path(), &["train", "--set", "train.seconds=5", "--set", "train.warmup=20", "--out", "s"]);
    assert!(code == 2 && message.contains("train.warmup counts steps"), "{message}");
}

#[test]
fn a_stopped_comparison_goes_on_and_its_table_is_that_of_its_runs() {
    let folder = tempfile::tempdir().unwrap();
    let whole = compare(folder.path());
    let place = folder.path().join("c");
    let runs = ["in-batch-seed1", "ance-seed1", "in-batch-seed2", "ance-seed2"];

    // As if it had been killed: one run unfinished with a checkpoint, one not begun, one killed before its configuration was written.
    fs::remove_file(place.join("ance-seed1/evaluation/metrics.json")).unwrap();
    fs::remove_dir_all(place.join("in-batch-seed2")).unwrap();
    fs::remove_dir_all(place.join("ance-seed2")).unwrap();
    fs::create_dir_all(place.join("ance-seed2/checkpoints")).unwrap();
    fs::write(place.join("ance-seed2/.config.toml.partial"), "[encoder").unwrap();
    let changed = |run: &str| fs::metadata(place.join(run).join("model/modules.json")).unwrap().modified().unwrap();
    let kept = changed("in-batch-seed1");
    let table = compare(folder.path());
    assert_eq!(changed("in-batch-seed1"), kept, "a finished run is not made again");
    let log = fs::read_to_string(place.join("ance-seed1/run.jsonl")).unwrap();
    assert!(log.contains(r#""event":"resume""#), "an unfinished run is resumed");

    for metric in ["ndcg@10", "mrr@10", "recall@100"] {
        for (position, recipe) in ["in-batch", "ance"].into_iter().enumerate() {
            let values = [1, 2].map(|seed| figure(&place.join(format!("{recipe}-seed{seed}")), "after", metric));
            let row = row(&table, recipe);
            assert_eq!(row["quality"][metric]["values"], serde_json::json!(values), "{recipe} {metric}");
            assert!((row["quality"][metric]["mean"].as_f64().unwrap() - (values[0] + values[1]) / 2.0).abs() < 1e-12);
            let deviation = (values[0] - values[1]).abs() / 2.0f64.sqrt();
            assert!((row["quality"][metric]["deviation"].as_f64().unwrap() - deviation).abs() < 1e-12);
            // The same request gives the same figures however often it was stopped.
            assert_eq!(row["quality"], whole["rows"][position + 2]["quality"]);
        }
        assert_eq!(row(&table, "BM25")["quality"][metric]["mean"], figure(&place.join("ance-seed1"), "bm25", metric));
        let before = [1, 2].map(|seed| figure(&place.join(format!("ance-seed{seed}")), "before", metric));
        assert_eq!(row(&table, "untrained")["quality"][metric]["values"], serde_json::json!(before));
    }
    let means = ["in-batch", "ance"].map(|name| row(&table, name)["quality"]["ndcg@10"]["mean"].as_f64().unwrap());
    let against = &row(&table, "ance")["against_first"]["ndcg@10"];
    assert!((against["difference"].as_f64().unwrap() - (means[1] - means[0])).abs() < 1e-9, "{against}");
    assert_eq!(against["queries"], 500);
    assert!((0.0..=1.0).contains(&against["p_randomisation"].as_f64().unwrap()));
    assert!(row(&table, "in-batch")["against_first"].is_null());
    assert_eq!(row(&table, "in-batch")["mining_seconds"]["mean"].to_string(), "0.0");
    assert!(row(&table, "ance")["mining_seconds"]["mean"].as_f64().unwrap() > 0.0);
    assert!(row(&table, "ance")["false_negative_rate"]["mean"].is_f64());
    for (seed, start) in table["starts"].as_array().unwrap().iter().enumerate() {
        for recipe in ["in-batch", "ance"] {
            let log = fs::read_to_string(place.join(format!("{recipe}-seed{}/run.jsonl", seed + 1))).unwrap();
            assert!(log.lines().next().unwrap().contains(start["model_fingerprint"].as_str().unwrap()), "{recipe} starts elsewhere");
        }
    }
    assert_eq!(table["starts"].as_array().unwrap().len(), 2);
    assert_eq!(table["steps"], 20);

    // What a person gets, out of finished runs alone.
    let output = run(folder.path(), &REQUEST);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["nDCG@10", "BM25", "untrained", "in-batch", "ance", "±", "randomisation test", "c/compare.svg"] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert_eq!(serde_json::from_str::<Value>(&fs::read_to_string(place.join("compare.json")).unwrap()).unwrap(), table);
    assert!(fs::read_to_string(place.join("compare.md")).unwrap().contains("| ance |"));
    let svg = fs::read_to_string(place.join("compare.svg")).unwrap();
    assert_eq!(svg.matches("<circle").count(), 2);
    assert!(fs::read_to_string(place.join("compare.html")).unwrap().contains(&svg));

    // Another request is not mixed in.
    let mut other = REQUEST;
    other[4] = "3";
    let (code, line) = failure(folder.path(), &other);
    assert_eq!(code, 2);
    assert!(line.contains("seeds: 2 there, 3 asked") && line.contains("--out"), "{line}");

    // Runs that start from other weights are not set side by side.
    let log = place.join("ance-seed2/run.jsonl");
    let foreign = fs::read_to_string(&log).unwrap().replacen(r#""model_fingerprint":""#, r#""model_fingerprint":"0"#, 1);
    fs::write(&log, foreign).unwrap();
    let (code, line) = failure(folder.path(), &REQUEST);
    assert_eq!(code, 1);
    assert!(line.contains("seed 2: in-batch and ance do not start alike: start weights"), "{line}");
    assert!(runs.iter().all(|run| place.join(run).is_dir()));
}

#[test]
fn a_recipe_that_fails_has_a_row_and_the_first_recipe_sets_the_steps() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let request = [
        "compare",
        "--recipes",
        "in-batch,static-dense,bm25",
        "--seeds",
        "1",
        "--data",
        "data",
        "--device",
        "cpu",
        "--set",
        "train.epochs=2",
        "--set",
        "batch.queries=16",
    ];
    // Something that is no run lies where one is to be made.
    fs::create_dir_all(folder.path().join("runs/compare-1/static-dense-seed1/mine")).unwrap();
    fs::write(folder.path().join("runs/compare-1/static-dense-seed1/mine/precious"), "x").unwrap();
    fs::write(
        folder.path().join("runs/compare-1/compare.toml"),
        "recipes = [\"in-batch\", \"static-dense\", \"bm25\"]\ndata = \"data\"\nseeds = 1\ndevice = \"cpu\"\nset = [\"train.epochs=2\", \"batch.queries=16\"]\n",
    )
    .unwrap();
    let mut arguments = request.to_vec();
    arguments.push("--json");
    let output = run(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).trim_end().lines().last().unwrap().contains("1 of 3 configurations failed: static-dense"),
        "{}",
        stderr(&output)
    );
    let table: Value = serde_json::from_slice(&output.stdout).unwrap();
    // 96 pairs, 16 a step, twice.
    assert_eq!(table["steps"], 12);
    assert!(row(&table, "static-dense")["failure"].as_str().unwrap().contains("not empty"));
    assert!(row(&table, "static-dense")["quality"].is_null());
    for recipe in ["in-batch", "bm25"] {
        assert_eq!(row(&table, recipe)["runs"][0]["cost"]["steps"], 12, "{recipe}");
        assert!(row(&table, recipe)["quality"]["ndcg@10"]["deviation"].is_null(), "one seed has no spread");
    }
    assert!(folder.path().join("runs/compare-1/static-dense-seed1/mine/precious").is_file());

    // With the obstacle gone, the same command makes the missing run and no other.
    fs::remove_dir_all(folder.path().join("runs/compare-1/static-dense-seed1")).unwrap();
    let table = json(folder.path(), &arguments);
    assert_eq!(table["folder"], "runs/compare-1");
    assert!(table["rows"].as_array().unwrap().iter().all(|row| row["failure"].is_null()));
}

#[test]
fn files_and_variants_are_compared_like_recipes() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own.toml");
    fs::write(&own, "[loss]\nkind = \"info-nce\"\ntemperature = 0.07\n[[negatives.source]]\nfrom = \"in-batch\"\n").unwrap();
    let variant = "own.toml: loss.temperature=0.2; train.clip=2.5";
    let mut arguments = vec!["compare", "--recipes", "in-batch,own.toml", "--variant", variant, "--seeds", "1", "--budget", "8steps"];
    arguments.extend(["--device", "cpu", "--set", "batch.queries=16", "--out", "c", "--json"]);
    let table = json(folder.path(), &arguments);
    let written = |run: &str| fs::read_to_string(folder.path().join("c").join(run).join("config.toml")).unwrap();
    for (name, run, temperature) in [
        ("own.toml", "own-seed1", "temperature = 0.07"),
        (variant, "own.toml_loss.temperature_0.2_train.clip_2.5-seed1", "temperature = 0.2"),
    ] {
        assert!(row(&table, name)["quality"]["ndcg@10"]["mean"].is_f64(), "{name}");
        assert!(written(run).contains(temperature), "{}", written(run));
        assert_eq!(written(run).contains("clip = 2.5"), name == variant);
    }
    // Finished runs belong to the text that they were made from.
    fs::write(&own, fs::read_to_string(&own).unwrap().replace("0.07", "0.08")).unwrap();
    let (code, message) = failure(folder.path(), &arguments);
    assert!(code == 2 && message.contains("own.toml has changed since"), "{message}");
}

#[test]
fn wrong_comparisons_end_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--recipes", "in-batch,anse"], &["`ance`", "trainer recipes"]),
        (&["--recipes", "ance,ance"], &["twice"]),
        (&["--recipes", "ance", "--seeds", "0"], &["one seed"]),
        (&["--recipes", "ance", "--budget", "5 epochs"], &["500steps or 120s"]),
        (&["--recipes", "ance", "--set", "train.seed=4"], &["--seeds"]),
        (&["--recipes", "ance,in-batch", "--set", "negatives.source.1.depth=50"], &["recipe in-batch", "negatives.source.1.depth=50"]),
        (&["--recipes", "ance", "--data", "nowhere"], &["nowhere"]),
        (&["--recipes", "ance", "--device", "cuda"], &["auto, gpu, gpu:N or cpu"]),
        // What only the data can tell, of an arm that is not the first.
        (&["--recipes", "in-batch,margin-mse"], &["margin-mse", "negatives.source.0.path"]),
    ];
    for (arguments, parts) in cases {
        let (code, line) = failure(folder.path(), &[&["compare", "--out", "c"], *arguments].concat());
        assert_eq!(code, 2, "{arguments:?}: {line}");
        for part in *parts {
            assert!(line.contains(part), "{arguments:?}: expected {part:?} in: {line}");
        }
        assert!(!folder.path().join("c").exists(), "{arguments:?} left a folder");
    }
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_the_whole_comparison_with_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let mut command = trainer(folder.path());
    // Long enough that it cannot end before the signal.
    command.args(["compare", "--recipes", "in-batch,bm25", "--budget", "100000steps", "--data", "data", "--device", "cpu", "--out", "c"]);
    command.args(["--set", "batch.queries=16", "--set", "train.evaluate_every=0", "--set", "train.checkpoint_every=0"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the command starts");
    let log = folder.path().join("c/in-batch-seed1/run.jsonl");
    for _ in 0..600 {
        if fs::metadata(&log).is_ok_and(|data| data.len() > 2000) {
            break;
        }
        sleep(Duration::from_millis(50));
    }
    let signal = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(signal.success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.trim_end().lines().last().unwrap().contains("the same command goes on"), "{text}");
    assert!(fs::read_dir(folder.path().join("c/in-batch-seed1/checkpoints")).unwrap().next().is_some());
    assert!(!folder.path().join("c/bm25-seed1").exists(), "no other run is begun");
}
