//! Tevatron training rows, with texts inside or as ids over a corpus file.
//!
//! Text form: `{query_id, query, positive_passages: [{docid, title, text}], negative_passages: […]}`. Id form:
//! `{query_id, query_text, positive_document_ids, negative_document_ids}` beside `corpus.jsonl` with `{docid, text}`.
//! An empty title adds no leading space here (it does in Tevatron itself). A passage may have a `score`.

use std::path::Path;

use serde::Deserialize;

use super::{
    entry::{joined, push},
    json::{self, Id, Text},
    lines::Lines,
    sink::Sink,
};
use crate::{
    error::{CorpusError, Side},
    records::Records,
};

const TEXT_ROW: &str =
    r#"{"query_id": "…", "query": "…", "positive_passages": [{"docid": "…", "text": "…"}], "negative_passages": […]} on each line"#;
const ID_ROW: &str = r#"{"query_id": "…", "query_text": "…", "positive_document_ids": ["…"], "negative_document_ids": ["…"]} on each line"#;
const CORPUS_ROW: &str = r#"{"docid": "…", "title": "…" (optional), "text": "…"} on each line"#;

#[derive(Deserialize)]
struct TextRow<'a> {
    #[serde(borrow, default)]
    query_id: Option<Id<'a>>,
    #[serde(borrow)]
    query: Text<'a>,
    #[serde(borrow)]
    positive_passages: Vec<Passage<'a>>,
    #[serde(borrow, default)]
    negative_passages: Option<Vec<Passage<'a>>>,
}

#[derive(Deserialize)]
struct Passage<'a> {
    #[serde(borrow, default)]
    docid: Option<Id<'a>>,
    #[serde(borrow, default)]
    title: Text<'a>,
    #[serde(borrow)]
    text: Text<'a>,
    /// Beyond Tevatron: what a miner or teacher gave it.
    #[serde(default)]
    score: Option<f32>,
}

#[derive(Deserialize)]
struct IdRow<'a> {
    #[serde(borrow)]
    query_id: Id<'a>,
    #[serde(borrow, alias = "query")]
    query_text: Text<'a>,
    #[serde(borrow)]
    positive_document_ids: Vec<Id<'a>>,
    #[serde(borrow, default)]
    negative_document_ids: Option<Vec<Id<'a>>>,
}

#[derive(Deserialize)]
struct CorpusRow<'a> {
    #[serde(borrow, alias = "_id", alias = "id")]
    docid: Id<'a>,
    #[serde(borrow, default)]
    title: Text<'a>,
    #[serde(borrow)]
    text: Text<'a>,
}

/// Reads rows with texts inside.
pub(super) fn text_rows<S: Sink>(path: &Path, sink: &mut S) -> Result<(), CorpusError> {
    let mut scratch = String::new();
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let place = || line.place();
        let row: TextRow<'_> = json::row(line, TEXT_ROW)?;
        let query = sink.query(row.query_id.as_ref().map(|id| &*id.0), "query", &row.query.0, place)?;
        if row.positive_passages.is_empty() {
            return Err(CorpusError::Row { place: place(), problem: "`positive_passages` is empty".into(), expected: TEXT_ROW });
        }
        let Some(query) = query else { continue };
        let mut enter = |sink: &mut S, field: &str, passage: &Passage<'_>| {
            let text = joined(&mut scratch, &passage.title.0, &passage.text.0);
            sink.document(passage.docid.as_ref().map(|id| &*id.0), field, text, place)
        };
        for passage in &row.positive_passages {
            if let Some(document) = enter(sink, "positive_passages", passage)? {
                sink.positive(query, document, passage.score);
            }
        }
        for passage in row.negative_passages.iter().flatten() {
            if let Some(document) = enter(sink, "negative_passages", passage)? {
                sink.negative(query, document, passage.score);
            }
        }
    }
    Ok(())
}

/// Reads the corpus of the id form.
pub(super) fn corpus(path: &Path) -> Result<Records, CorpusError> {
    let mut records = Records::new();
    let mut scratch = String::new();
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let row: CorpusRow<'_> = json::row(line, CORPUS_ROW)?;
        push(&mut records, Side::Document, &row.docid.0, joined(&mut scratch, &row.title.0, &row.text.0), || line.place())?;
    }
    if records.is_empty() {
        return Err(CorpusError::EmptyFile { path: path.to_owned(), expected: CORPUS_ROW });
    }
    Ok(records)
}

/// Reads rows that name documents of the corpus by id.
pub(super) fn id_rows(path: &Path, sink: &mut impl Sink) -> Result<(), CorpusError> {
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let row: IdRow<'_> = json::row(line, ID_ROW)?;
        let query = sink.query(Some(&row.query_id.0), "query_text", &row.query_text.0, || line.place())?;
        if row.positive_document_ids.is_empty() {
            return Err(CorpusError::Row { place: line.place(), problem: "`positive_document_ids` is empty".into(), expected: ID_ROW });
        }
        let Some(query) = query else { continue };
        for id in &row.positive_document_ids {
            if let Some(document) = sink.known_document(&id.0, line.number) {
                sink.positive(query, document, None);
            }
        }
        for id in row.negative_document_ids.iter().flatten() {
            if let Some(document) = sink.known_document(&id.0, line.number) {
                sink.negative(query, document, None);
            }
        }
    }
    Ok(())
}
