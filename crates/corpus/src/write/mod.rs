//! Writers: mined negatives in the forms that trainers read, and collections as BEIR folders.
//!
//! Every file appears whole or not at all (`atomic.rs`). A row without a negative is dropped and counted, never written:
//! FlagEmbedding divides by the length of the list and Tevatron draws from it. Reading back the own form is
//! [`read_own`](crate::read_own).

mod atomic;
mod beir;
mod columns;
mod flagembedding;
pub(crate) mod own;
mod tevatron;

use std::{io::Write, path::Path};

use serde::Serialize;

pub use atomic::{Target, sync_folder};
pub use beir::beir;

use crate::{collection::Collection, error::CorpusError};

/// What was mined for one query. Ids are dense ids of the collection; an unknown score is NaN.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MinedRow {
    /// The query.
    pub query: u32,
    /// `(document, score)` of its positives.
    pub positives: Vec<(u32, f32)>,
    /// `(document, score, rank)` of its negatives, best first; ranks as the miner saw them, before filtering.
    pub negatives: Vec<(u32, f32, u32)>,
}

/// The forms of mined negatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinedFormat {
    /// JSON lines with ids, scores and ranks under a header with provenance; the only form that loses nothing.
    Own,
    /// Tevatron's text form.
    Tevatron,
    /// `{query, pos, neg, pos_scores, neg_scores}`.
    FlagEmbedding,
    /// Columns anchor, positive, negative: one row per positive and negative.
    Triplets,
    /// Columns anchor, positive, negative_1 … negative_n: one row per positive; rows short of `n` are dropped.
    Tuples {
        /// How many negatives a row has; at least 1.
        negatives: usize,
    },
}

/// What a writer wrote and what it left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WrittenSummary {
    /// Rows in the file, without header.
    pub rows: usize,
    /// Negatives in the file, over all rows.
    pub negatives: usize,
    /// Mined rows dropped because they have no negative or no positive.
    pub without_negatives: usize,
    /// Rows dropped because they have fewer negatives than a tuple needs.
    pub short: usize,
}

/// Writes mined negatives to `path`, which is replaced only when everything is written and synced.
///
/// `provenance` goes into the header of the own form; the other forms have no place for it. A file without any row is written
/// all the same: look at the summary.
///
/// # Errors
/// When the file cannot be written, an id is beyond the collection, or a tuple is asked to have no negatives.
pub fn write_mined(
    path: &Path,
    format: MinedFormat,
    collection: &Collection,
    provenance: &serde_json::Value,
    rows: &[MinedRow],
) -> Result<WrittenSummary, CorpusError> {
    if format == (MinedFormat::Tuples { negatives: 0 }) {
        return Err(CorpusError::Unwritable {
            path: path.to_owned(),
            what: "tuples of 0 negatives".into(),
            remedy: "ask for at least 1 negative",
        });
    }
    for row in rows {
        check_ids(path, collection, row)?;
    }
    atomic::file(path, |out| {
        let mut sink = Sink { out, path, collection, summary: WrittenSummary::default() };
        if format == MinedFormat::Own {
            own::header(&mut sink, provenance)?;
        }
        for row in rows {
            if row.negatives.is_empty() || row.positives.is_empty() {
                sink.summary.without_negatives += 1;
                continue;
            }
            match format {
                MinedFormat::Own => own::rows(&mut sink, row)?,
                MinedFormat::Tevatron => tevatron::rows(&mut sink, row)?,
                MinedFormat::FlagEmbedding => flagembedding::rows(&mut sink, row)?,
                MinedFormat::Triplets => columns::triplets(&mut sink, row)?,
                MinedFormat::Tuples { negatives } => columns::tuples(&mut sink, row, negatives)?,
            }
        }
        Ok(sink.summary)
    })
}

fn check_ids(path: &Path, collection: &Collection, row: &MinedRow) -> Result<(), CorpusError> {
    let documents = row.positives.iter().map(|&(document, _)| document).chain(row.negatives.iter().map(|&(document, ..)| document));
    let beyond = if row.query as usize >= collection.queries.len() {
        Some(("query", row.query))
    } else {
        documents.map(|id| ("document", id)).find(|&(_, id)| id as usize >= collection.documents.len())
    };
    match beyond {
        None => Ok(()),
        Some((side, id)) => Err(CorpusError::Unwritable {
            path: path.to_owned(),
            what: format!("{side} number {id}, which `{}` does not have", collection.name),
            remedy: "write rows with the collection that they were mined from",
        }),
    }
}

/// Where rows go: JSON lines with a running summary.
struct Sink<'a> {
    out: &'a mut dyn Write,
    path: &'a Path,
    collection: &'a Collection,
    summary: WrittenSummary,
}

impl Sink<'_> {
    fn line(&mut self, value: &impl Serialize) -> Result<(), CorpusError> {
        json_line(self.out, self.path, value)
    }

    /// Writes a row that holds `negatives` negatives.
    fn row(&mut self, value: &impl Serialize, negatives: usize) -> Result<(), CorpusError> {
        self.line(value)?;
        self.summary.rows += 1;
        self.summary.negatives += negatives;
        Ok(())
    }
}

fn json_line(out: &mut dyn Write, path: &Path, value: &impl Serialize) -> Result<(), CorpusError> {
    serde_json::to_writer(&mut *out, value).map_err(|error| CorpusError::io(path)(error.into()))?;
    out.write_all(b"\n").map_err(CorpusError::io(path))
}

/// A score for JSON, which has no NaN.
fn known(score: f32) -> Option<f32> {
    score.is_finite().then_some(score)
}

#[cfg(test)]
mod tests;
