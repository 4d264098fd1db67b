//! BEIR folders: `corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv`, each plain or gzipped.
//!
//! A document's text is `title + " " + text` when it has a title. Beyond BEIR: a `truth.tsv` beside the corpus, in qrels
//! form, holds complete judgments (our writer puts it there), and `hard-negatives.jsonl` negatives (see `gpl.rs`). Without
//! `qrels/` the collection has no splits, and says so.

use std::path::Path;

use serde::Deserialize;

use super::{
    entry::{joined, push},
    folder::Folder,
    gpl,
    json::{self, Id, Text},
    lines::Lines,
    trec,
};
use crate::{
    collection::Collection,
    error::{CorpusError, Side},
    records::Records,
};

/// What a line of a corpus looks like.
pub(super) const DOCUMENT: &str = r#"{"_id": "…", "title": "…" (optional), "text": "…"} on each line"#;
const QUERY: &str = r#"{"_id": "…", "text": "…"} on each line"#;

/// A document or a query as BEIR writes it.
#[derive(Deserialize)]
pub(super) struct Row<'a> {
    #[serde(borrow, rename = "_id")]
    pub(super) id: Id<'a>,
    #[serde(borrow, default)]
    pub(super) title: Text<'a>,
    #[serde(borrow)]
    pub(super) text: Text<'a>,
}

/// Opens a folder; `qrels` names the sub-folder of its judgments.
pub(super) fn open(folder: &Folder, corpus: &Path, queries: &Path, qrels: &str) -> Result<Collection, CorpusError> {
    let mut collection =
        Collection { documents: records(corpus, Side::Document)?, queries: records(queries, Side::Query)?, ..Collection::default() };
    for (split, path) in folder.inside(qrels)?.with_extension(&["tsv", "txt"]) {
        let judgments = trec::judgments(&path, &collection.queries, &collection.documents)?;
        collection.splits.insert(split, judgments);
    }
    if collection.splits.is_empty() {
        collection
            .notes
            .push(format!("{} has no {qrels}/<split>.tsv: there is nothing to train on or to evaluate", folder.path().display()));
    }
    if let Some(path) = folder.text_file("truth.tsv") {
        collection.truth = Some(trec::judgments(&path, &collection.queries, &collection.documents)?);
    }
    if let Some(path) = folder.text_file("hard-negatives.jsonl") {
        collection.negatives = Some(gpl::hard_negatives(&path, &collection)?);
    }
    Ok(collection)
}

/// Reads `corpus.jsonl` or `queries.jsonl`.
fn records(path: &Path, side: Side) -> Result<Records, CorpusError> {
    let expected = match side {
        Side::Document => DOCUMENT,
        Side::Query => QUERY,
    };
    let mut records = Records::new();
    let mut scratch = String::new();
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let row: Row<'_> = json::row(line, expected)?;
        let title = if side == Side::Document { &*row.title.0 } else { "" };
        push(&mut records, side, &row.id.0, joined(&mut scratch, title, &row.text.0), || line.place())?;
    }
    if records.is_empty() {
        return Err(CorpusError::EmptyFile { path: path.to_owned(), expected });
    }
    Ok(records)
}
