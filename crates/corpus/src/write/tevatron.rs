//! Mined negatives in Tevatron's text form, one row per query.
//!
//! The passages carry no `title`: Tevatron joins `title + " " + text` whenever the key is there, so an empty one would put a
//! space before every text. Our texts have their titles inside already.

use serde::Serialize;

use super::{MinedRow, Sink};
use crate::error::CorpusError;

#[derive(Serialize)]
struct Row<'a> {
    query_id: &'a str,
    query: &'a str,
    positive_passages: Vec<Passage<'a>>,
    negative_passages: Vec<Passage<'a>>,
}

#[derive(Serialize)]
struct Passage<'a> {
    docid: &'a str,
    text: &'a str,
}

pub(super) fn rows(sink: &mut Sink<'_>, row: &MinedRow) -> Result<(), CorpusError> {
    let (queries, documents) = (&sink.collection.queries, &sink.collection.documents);
    let passage = |document| Passage { docid: documents.id(document), text: documents.text(document) };
    let value = Row {
        query_id: queries.id(row.query),
        query: queries.text(row.query),
        positive_passages: row.positives.iter().map(|&(document, _)| passage(document)).collect(),
        negative_passages: row.negatives.iter().map(|&(document, ..)| passage(document)).collect(),
    };
    sink.row(&value, row.negatives.len())
}
