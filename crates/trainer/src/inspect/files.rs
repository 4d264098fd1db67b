//! The files of a run that tell of its negatives: those of `negatives/`, a version each, and batches.jsonl, a step a line. They are read line by line, since those of a large
//! collection do not fit into memory.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::runlog;

/// What a run was trained on, step by step.
pub(super) struct Visits {
    pub(super) path: PathBuf,
    /// The other queries' positives are negatives too.
    pub(super) in_batch: bool,
}

impl Visits {
    /// Calls `row` with step, row and all positives of the step for every row of the file. The last line of a run that was killed may be cut short.
    pub(super) fn each(&self, mut row: impl FnMut(u64, &Value, &[&str])) -> Result<()> {
        let reading = || format!("reading {}", self.path.display());
        for line in BufReader::with_capacity(1 << 18, File::open(&self.path).with_context(reading)?).split(b'\n') {
            let Ok(line) = serde_json::from_slice::<Value>(&line.with_context(reading)?) else { continue };
            let Some(step) = line["step"].as_u64() else { continue };
            let rows = || line["rows"].as_array().into_iter().flatten();
            let positives: Vec<&str> = rows().filter_map(|row| row["positive"].as_str()).collect();
            rows().for_each(|it| row(step, it, &positives));
        }
        Ok(())
    }
}

/// One file of `negatives/`.
pub(super) struct VersionFile {
    pub(super) number: u64,
    pub(super) step: Option<u64>,
    pub(super) path: PathBuf,
}

/// The files `version-N.jsonl` of a run, in order, each with the step that its header or the log names.
pub(super) fn versions(root: &Path) -> Result<Vec<VersionFile>> {
    let folder = root.join("negatives");
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    let events = runlog::read(&root.join("run.jsonl")).unwrap_or_default();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(number) = name.strip_prefix("version-").and_then(|it| it.strip_suffix(".jsonl")?.parse().ok()) else { continue };
        let logged = events.iter().rfind(|event| event["event"] == "refresh" && event["version"] == number);
        let step = step_of_header(&path)?.or_else(|| logged?["step"].as_u64());
        found.push(VersionFile { number, step, path });
    }
    found.sort_by_key(|version| version.number);
    Ok(found)
}

/// The latest refresh of any source that the first line of a file tells of.
fn step_of_header(path: &Path) -> Result<Option<u64>> {
    let mut line = String::new();
    let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    BufReader::new(file).read_line(&mut line).with_context(|| format!("reading {}", path.display()))?;
    let header: Value = serde_json::from_str(&line).unwrap_or_default();
    let sources = header["provenance"]["sources"].as_array();
    Ok(sources.into_iter().flatten().filter_map(|source| source["refreshed"]["step"].as_u64()).max())
}

/// Calls `row` with number and text of every line after the header until it says that it has seen enough.
pub(super) fn each_row(path: &Path, mut row: impl FnMut(usize, &str) -> Result<bool>) -> Result<()> {
    let reading = || format!("reading {}", path.display());
    let mut lines = BufReader::with_capacity(1 << 18, File::open(path).with_context(reading)?);
    let mut line = String::new();
    for number in 1.. {
        line.clear();
        if lines.read_line(&mut line).with_context(reading)? == 0 {
            break;
        }
        if number > 1 && !line.trim().is_empty() && !row(number, &line)? {
            break;
        }
    }
    Ok(())
}
