//! Mined negatives in FlagEmbedding's form, one row per query.
//!
//! Scores are written for a list only when all of them are known: FlagEmbedding reads them as aligned with the texts.

use serde::Serialize;

use super::{MinedRow, Sink, known};
use crate::error::CorpusError;

#[derive(Serialize)]
struct Row<'a> {
    query: &'a str,
    pos: Vec<&'a str>,
    neg: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pos_scores: Option<Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    neg_scores: Option<Vec<f32>>,
}

pub(super) fn rows(sink: &mut Sink<'_>, row: &MinedRow) -> Result<(), CorpusError> {
    let documents = &sink.collection.documents;
    let value = Row {
        query: sink.collection.queries.text(row.query),
        pos: row.positives.iter().map(|&(document, _)| documents.text(document)).collect(),
        neg: row.negatives.iter().map(|&(document, ..)| documents.text(document)).collect(),
        pos_scores: row.positives.iter().map(|&(_, score)| known(score)).collect(),
        neg_scores: row.negatives.iter().map(|&(_, score, _)| known(score)).collect(),
    };
    sink.row(&value, row.negatives.len())
}
