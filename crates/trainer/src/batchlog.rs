//! batches.jsonl: what every step was trained on. One line a step with each query, its positive, and the negatives drawn for it, each with its source
//! (all that list it, where lists are one), rank, score, and the teacher's score where there is one; with retrieval in the step what each query
//! retrieved, best first; with a queue the documents that it added as columns. Written when `train.log_batches` asks for it: it grows by a few
//! hundred bytes a query, and by about ten for every document retrieved or in the queue.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use corpus::Collection;
use mining::Candidate;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::batches::Batch;
use crate::compared::Seen;
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

    /// Appends a step; `seen` are its columns.
    pub(crate) fn write(&mut self, batch: &Batch, seen: Option<&Seen>, stage: &Stage, collection: &Collection) -> Result<()> {
        let (miner, ids) = (&stage.miner, |documents: &[u32]| documents.iter().map(|&it| document_id(collection, it)).collect::<Vec<_>>());
        let negative = |it: &Candidate| {
            let number = |score: f32| Some(score).filter(|score| score.is_finite());
            let mut line = json!({
                "id": document_id(collection, it.document), "source": miner.source_name(it.source), "rank": it.rank, "score": number(it.score),
            });
            if let Some(teacher) = it.teacher.and_then(number) {
                line["teacher"] = teacher.into();
            }
            let sources: Vec<_> = miner.sources_of(it).filter_map(|number| miner.source_name(number)).collect();
            if sources.len() > 1 {
                line["sources"] = sources.into();
            }
            line
        };
        let row = |(place, (&(query, positive), drawn)): (usize, (&(u32, u32), &Vec<Candidate>))| {
            let negatives: Vec<Value> = drawn.iter().map(negative).collect();
            let (query_id, positive) = (collection.queries.id(query), collection.documents.id(positive));
            let mut row = json!({ "query": query_id, "topic": stage.topic(query), "positive": positive, "negatives": negatives });
            if let Some(retrieved) = seen.and_then(|seen| seen.retrieved.get(place)) {
                row["retrieved"] = ids(retrieved).into();
            }
            row
        };
        let rows: Vec<Value> = batch.pairs.iter().zip(&batch.drawn).enumerate().map(row).collect();
        let mut line = json!({ "step": batch.step, "columns": batch.columns.len(), "rows": rows });
        if let Some(seen) = seen.filter(|seen| !seen.queue.is_empty()) {
            line["queue"] = ids(&seen.queue).into();
        }
        writeln!(self.file, "{line}").context("writing batches.jsonl")
    }

    /// Makes everything written so far survive a crash.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.file.flush().context("writing batches.jsonl")?;
        self.file.get_ref().sync_data().context("writing batches.jsonl")
    }
}

fn document_id(collection: &Collection, document: u32) -> String {
    if (document as usize) < collection.documents.len() {
        collection.documents.id(document).to_owned()
    } else {
        format!("generated:{}", document as usize - collection.documents.len())
    }
}
