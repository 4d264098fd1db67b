//! Runs the command `trainer` and takes its output apart.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// The command, on the CPU, with its token cache inside `folder`.
pub(crate) fn trainer(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
    command.current_dir(folder).env("DREDGE_CACHE", folder.join("cache")).env_remove("DREDGE_DEVICE");
    command
}

/// Runs to success and gives the JSON object on standard output.
pub(crate) fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{arguments:?} failed: {}", stderr(&output));
    let text = String::from_utf8(output.stdout).expect("output is UTF-8");
    assert_eq!(text.trim_end().lines().count(), 1, "--json prints one line, got: {text}");
    serde_json::from_str(&text).expect("output is JSON")
}

/// Runs to its end, however that is.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    trainer(folder).args(arguments).output().expect("the command starts")
}

/// What was said on standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs to a failure and gives its exit code and last line.
pub(crate) fn failure(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = run(folder, arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    let text = stderr(&output);
    assert!(!text.contains("panicked"), "{arguments:?} panicked: {text}");
    (output.status.code().expect("it ended by itself"), text.trim_end().lines().last().unwrap_or_default().to_owned())
}

/// The weights of a model folder, wherever its layout puts them.
pub(crate) fn weights(model: &Path) -> Vec<u8> {
    let found =
        ["model.safetensors", "0_StaticEmbedding/model.safetensors"].map(|name| model.join(name)).into_iter().find(|path| path.is_file());
    std::fs::read(found.expect("the model folder has weights")).expect("they can be read")
}
