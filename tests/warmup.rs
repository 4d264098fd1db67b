//! `trainer warmup`: trains on batches of the configured shape and leaves nothing behind.

use std::path::Path;

use crate::collections::animals;
use crate::command::{failure, json};

/// What is in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

#[test]
fn a_warm_up_makes_its_steps_and_leaves_no_run() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    // Mined, guided, taught, grouped by topics, retrieved in the step, of several rounds with a reranker: none of it has to be made for a warm-up.
    for recipe in ["in-batch", "ance", "gistembed", "margin-mse", "tas-b", "adore", "rocketqa"] {
        let flags = ["--data", "data", "--device", "cpu", "--set", "batch.queries=16", "--steps", "3", "--json"];
        let arguments: Vec<&str> = ["warmup", "--recipe", recipe].into_iter().chain(flags).collect();
        let warmed = json(folder.path(), &arguments);
        assert_eq!((warmed["device"].as_str(), warmed["steps"].as_u64()), (Some("cpu"), Some(3)), "{recipe}");
        assert!(warmed["kept"].is_null(), "{recipe}: a CPU keeps nothing");
        let seconds = warmed["step_seconds"].as_array().unwrap();
        assert!(seconds.len() == 3 && seconds.iter().all(|seconds| seconds.as_f64().unwrap() > 0.0), "{recipe}: {warmed}");
        assert_eq!(names(folder.path()), ["cache", "data"], "{recipe}: nothing but the token cache is written");
    }
}

#[test]
fn a_warm_up_of_no_steps_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (code, line) = failure(folder.path(), &["warmup", "--device", "cpu", "--steps", "0"]);
    assert_eq!(code, 2);
    assert!(line.contains("--steps 0"), "{line}");
}
