//! batches.jsonl: what every step was trained on. One line a step with each query, its positive, and the negatives drawn for it, each with its source,
//! rank and score. Written when `train.log_batches` asks for it: it grows by a few hundred bytes a query.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use corpus::Collection;
use serde::Deserialize;
use serde_json::json;

use crate::batches::Batch;
use crate::runfolder::write_whole;
use crate::stage::Stage;

pub(crate) struct BatchLog {
    file: BufWriter<File>,
}

#[derive(Deserialize)]
struct Line {
    step: usize,
}

impl BatchLog {
    /// Opens the log for appending from step `step` on; lines of later steps, from before an interruption, are dropped.
    pub(crate) fn open(path: &Path, step: usize) -> Result<Self> {
        if path.exists() {
            let mut kept = Vec::new();
            for line in BufReader::new(File::open(path).with_context(|| format!("reading {}", path.display()))?).split(b'\n') {
                let line = line.with_context(|| format!("reading {}", path.display()))?;
                // The last line of an interrupted run may be cut short.
                if serde_json::from_slice::<Line>(&line).is_ok_and(|it| it.step < step) {
                    kept.extend(line);
                    kept.push(b'\n');
                }
            }
            write_whole(path, &kept)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("opening {}", path.display()))?;
        Ok(Self { file: BufWriter::new(file) })
    }

    /// Appends a step.
    pub(crate) fn write(&mut self, batch: &Batch, stage: &Stage, collection: &Collection) -> Result<()> {
        let rows = batch.pairs.iter().zip(&batch.drawn).map(|(&(query, positive), drawn)| {
            let negatives = drawn.iter().map(|it| {
                let score = Some(it.score).filter(|score| score.is_finite());
                json!({ "id": document_id(collection, it.document), "source": stage.miner.source_name(it.source), "rank": it.rank, "score": score })
            });
            json!({ "query": collection.queries.id(query), "topic": stage.topic(query), "positive": collection.documents.id(positive), "negatives": negatives.collect::<Vec<_>>() })
        });
        let line = json!({ "step": batch.step, "columns": batch.columns.len(), "rows": rows.collect::<Vec<_>>() });
        writeln!(self.file, "{line}").context("writing batches.jsonl")
    }

    /// Everything written so far reaches the file.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.file.flush().context("writing batches.jsonl")
    }
}

fn document_id(collection: &Collection, document: u32) -> String {
    if (document as usize) < collection.documents.len() {
        collection.documents.id(document).to_owned()
    } else {
        format!("generated:{}", document as usize - collection.documents.len())
    }
}
