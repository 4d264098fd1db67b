//! A run that is interrupted at any moment goes on and ends with the weights of one that was left alone, bit for bit.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use crate::collections::{SHORT_RUN, animals};
use crate::command::{failure, json, run, trainer, weights};

const CHECKPOINTS: [&str; 2] = ["--set", "train.checkpoint_every=3"];

fn reference(folder: &Path) -> Vec<u8> {
    let mut arguments = vec!["train", "--json", "--out", "alone"];
    arguments.extend(SHORT_RUN);
    arguments.extend(CHECKPOINTS);
    json(folder, &arguments);
    weights(&folder.join("alone/model"))
}

fn start(folder: &Path) -> std::process::Child {
    let mut command = trainer(folder);
    command.args(["train", "--out", "run"]).args(SHORT_RUN).args(CHECKPOINTS);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the command starts")
}

#[test]
fn killed_at_any_moment_and_resumed_it_ends_with_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let expected = reference(folder.path());
    let mut child = start(folder.path());
    let mut kills = 0;
    // Lines of the log after which it is killed: in its start, behind refreshes, steps, checkpoints and evaluations, however fast the machine is.
    for lines in [0, 1, 6, 13, 21, 30, 40] {
        let written = || fs::read_to_string(folder.path().join("run/run.jsonl")).map_or(0, |log| log.lines().count());
        let ended = loop {
            if child.try_wait().expect("the process can be asked").is_some() {
                break true;
            }
            if folder.path().join("run/config.toml").is_file() && written() >= lines {
                break false;
            }
            sleep(Duration::from_millis(1));
        };
        if ended {
            break;
        }
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        kills += 1;
        let mut command = trainer(folder.path());
        child = command.args(["train", "--resume", "run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the command starts");
    }
    child.wait().expect("it ends");
    assert!(kills > 0, "the run ended before it could be killed");
    if !folder.path().join("run/evaluation/metrics.json").is_file() {
        let output = run(folder.path(), &["train", "--resume", "run"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(weights(&folder.path().join("run/model")) == expected, "after {kills} kills the weights differ");
    let steps = |run: &str| {
        let log = fs::read_to_string(folder.path().join(run).join("run.jsonl")).unwrap();
        log.lines().filter(|line| line.contains(r#""event":"step""#)).count()
    };
    assert_eq!(steps("run"), steps("alone"), "every step stands in the log once");
}

#[test]
#[cfg(unix)]
fn ctrl_c_writes_a_checkpoint_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let mut command = trainer(folder.path());
    // Long enough that it cannot end before the signal.
    command.args(["train", "--out", "run"]).args(SHORT_RUN).args([
        "--set",
        "train.steps=100000",
        "--set",
        "train.checkpoint_every=0",
        "--set",
        "train.evaluate_every=0",
    ]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the command starts");
    let log = folder.path().join("run/run.jsonl");
    for _ in 0..600 {
        if fs::metadata(&log).is_ok_and(|data| data.len() > 2000) {
            break;
        }
        sleep(Duration::from_millis(50));
    }
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("trainer train --resume run"), "{text}");
    assert!(fs::read_dir(folder.path().join("run/checkpoints")).unwrap().next().is_some());
    // The unfinished run can be exported already.
    let exported = json(folder.path(), &["export", "run", "--output", "model", "--json"]);
    assert!(exported["from"].as_str().unwrap().contains("step"), "{exported}");
    assert!(folder.path().join("model/modules.json").is_file());
}

#[test]
fn a_finished_run_is_not_resumed() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    reference(folder.path());
    let (code, line) = failure(folder.path(), &["train", "--resume", "alone"]);
    assert_eq!(code, 2);
    assert!(line.contains("finished"), "{line}");
}

#[test]
fn a_run_is_not_gone_on_with_from_elsewhere_by_two_or_from_what_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    reference(folder.path());
    let run = folder.path().join("alone");
    // As if it had been killed before its end.
    fs::remove_file(run.join("evaluation/metrics.json")).unwrap();
    let refused = |from: &Path, part: &str| {
        let (_, line) = failure(from, &["train", "--resume", run.to_str().unwrap(), "--device", "cpu"]);
        assert!(line.contains(part), "expected {part:?} in: {line}");
    };
    let elsewhere = tempfile::tempdir().unwrap();
    refused(elsewhere.path(), "seen from the folder in which the run began");
    let lock = fs::File::create(run.join(".lock")).unwrap();
    lock.lock().unwrap();
    refused(folder.path(), "another process is at work");
    drop(lock);
    let log = fs::read(run.join("run.jsonl")).unwrap();
    fs::write(run.join("run.jsonl"), &log[..100]).unwrap();
    refused(folder.path(), "has 100 bytes");
    assert_eq!(fs::read(run.join("run.jsonl")).unwrap(), log[..100], "what is left of a log stays");
    for checkpoint in fs::read_dir(run.join("checkpoints")).unwrap() {
        fs::write(checkpoint.unwrap().path().join("weights.safetensors"), "x").unwrap();
    }
    refused(folder.path(), "no checkpoint in");
}
