//! The own form of mined negatives: a header line with provenance, then one row per query and positive.
//!
//! Ids, never texts; score and rank per negative, score per positive. `read/mined.rs` is the reader.

use serde::Serialize;

use super::{MinedRow, Sink, known};
use crate::error::CorpusError;

/// Names the form in the header.
pub(crate) const FORMAT: &str = "dredge-negatives";
/// Counts incompatible changes of the form.
pub(crate) const VERSION: u32 = 1;

#[derive(Serialize)]
struct Header<'a> {
    format: &'static str,
    version: u32,
    provenance: &'a serde_json::Value,
}

#[derive(Serialize)]
struct Row<'a> {
    query_id: &'a str,
    positive_id: &'a str,
    positive_score: Option<f32>,
    negatives: &'a [Negative<'a>],
}

#[derive(Serialize)]
struct Negative<'a> {
    id: &'a str,
    score: Option<f32>,
    rank: u32,
}

pub(super) fn header(sink: &mut Sink<'_>, provenance: &serde_json::Value) -> Result<(), CorpusError> {
    sink.line(&Header { format: FORMAT, version: VERSION, provenance })
}

pub(super) fn rows(sink: &mut Sink<'_>, row: &MinedRow) -> Result<(), CorpusError> {
    let documents = &sink.collection.documents;
    let negatives: Vec<Negative<'_>> =
        row.negatives.iter().map(|&(document, score, rank)| Negative { id: documents.id(document), score: known(score), rank }).collect();
    for &(positive, score) in &row.positives {
        let value = Row {
            query_id: sink.collection.queries.id(row.query),
            positive_id: documents.id(positive),
            positive_score: known(score),
            negatives: &negatives,
        };
        sink.row(&value, negatives.len())?;
    }
    Ok(())
}
