//! The whole loop on a software Vulkan driver: mining, training and evaluation on the GPU path. Runs when DREDGE_TEST_DEVICE is `software`.

#![allow(clippy::print_stderr)]

use serde_json::Value;

use crate::collections::{SHORT_RUN, animals};
use crate::command::{stderr, trainer};

/// Losses of the first steps, and the result.
fn train(folder: &std::path::Path, out: &str, software: bool) -> (Vec<f64>, Value) {
    let mut command = trainer(folder);
    command.args(["train", "--json", "--out", out]).args(SHORT_RUN).args(["--set", "train.steps=12", "--set", "train.evaluate_every=0"]);
    if software {
        // An explicit --set wins over the flag --device of the short run.
        command.args(["--set", "train.device=\"auto\""]).env("DREDGE_DEVICE", "software");
        command.env("XDG_RUNTIME_DIR", std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_else(|| folder.into()));
    }
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{}", stderr(&output));
    let log = std::fs::read_to_string(folder.join(out).join("run.jsonl")).unwrap();
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let losses = events.filter(|event| event["event"] == "step").map(|event| event["loss"].as_f64().unwrap()).collect();
    (losses, serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn a_software_gpu_is_warmed_up_and_says_where_its_tuning_is_kept() {
    if std::env::var("DREDGE_TEST_DEVICE").as_deref() != Ok("software") {
        eprintln!("skipped: software GPU (DREDGE_TEST_DEVICE is not software)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let mut command = trainer(folder.path());
    command.args(["warmup", "--json", "--data", "data", "--set", "batch.queries=16", "--steps", "2"]).env("DREDGE_DEVICE", "software");
    command.env("XDG_RUNTIME_DIR", std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_else(|| folder.path().into()));
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{}", stderr(&output));
    let warmed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(warmed["steps"], 2);
    assert!(std::path::Path::new(warmed["kept"].as_str().unwrap()).is_file(), "{warmed}");
}

#[test]
fn a_software_gpu_mines_and_trains_like_the_cpu() {
    if std::env::var("DREDGE_TEST_DEVICE").as_deref() != Ok("software") {
        eprintln!("skipped: software GPU (DREDGE_TEST_DEVICE is not software)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let (expected, _) = train(folder.path(), "cpu", false);
    let (losses, result) = train(folder.path(), "gpu", true);
    assert!(result["device"].as_str().unwrap().contains("wgsl"), "{result}");
    assert_eq!(losses.len(), expected.len());
    // Rounding differs from the first step on; before the first refresh it can change no negative.
    for (step, (loss, expected)) in losses.iter().zip(&expected).take(10).enumerate() {
        assert!((loss - expected).abs() < 1e-3 * (1.0 + expected), "step {step}: loss {loss}, on the CPU {expected}");
    }
    let figure = |key: &str| result[key]["ndcg@10"].as_f64().unwrap();
    assert!(figure("after") > figure("before") + 0.3, "{result}");
}
