//! run.jsonl: one JSON object a line for every step, refresh, evaluation and checkpoint, each with its event name and step.
//!
//! The log is cut back to the checkpoint's length when a run is resumed, so a step stands in it once.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::tensorboard::Scalars;

pub(crate) struct RunLog {
    file: BufWriter<File>,
    length: u64,
    scalars: Scalars,
}

impl RunLog {
    /// Opens the log for appending after its first `length` bytes; what lies behind is dropped.
    pub(crate) fn open(path: &Path, tensorboard: &Path, length: u64) -> Result<Self> {
        let found = std::fs::metadata(path).map_or(0, |found| found.len());
        if found < length {
            anyhow::bail!(
                "{} has {found} bytes and the checkpoint counts on {length}: lines are lost; put the whole log back, or begin the run anew in another folder",
                path.display()
            );
        }
        let file = OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("opening {}", path.display()))?;
        file.set_len(length).with_context(|| format!("cutting {} to {length} bytes", path.display()))?;
        Ok(Self { file: BufWriter::new(file), length, scalars: Scalars::create(tensorboard)? })
    }

    /// Appends one line. Numbers at the top level of `fields` go to tensorboard as well.
    pub(crate) fn event(&mut self, event: &str, step: usize, fields: &impl Serialize) -> Result<()> {
        let mut line = Map::new();
        line.insert("event".into(), event.into());
        line.insert("step".into(), step.into());
        if let Value::Object(fields) = serde_json::to_value(fields).context("describing a log event")? {
            for (name, value) in &fields {
                if let Some(number) = value.as_f64() {
                    self.scalars.add(&format!("{event}/{name}"), step, number as f32)?;
                }
            }
            line.extend(fields);
        }
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        self.file.write_all(text.as_bytes()).context("writing run.jsonl")?;
        self.length += text.len() as u64;
        Ok(())
    }

    /// Makes everything written so far survive a crash, and tells its length in bytes.
    pub(crate) fn sync(&mut self) -> Result<u64> {
        self.file.flush().context("writing run.jsonl")?;
        self.file.get_ref().sync_data().context("writing run.jsonl")?;
        self.scalars.flush()?;
        Ok(self.length)
    }
}

/// All lines of a log. A last line that a crash cut short is left out.
pub(crate) fn read(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let mut events = Vec::new();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        match serde_json::from_str(line) {
            Ok(event) => events.push(event),
            Err(_) if !line.ends_with('\n') => break,
            Err(error) => anyhow::bail!("{}, line {}: {error}", path.display(), number + 1),
        }
    }
    Ok(events)
}
