//! BEIR folders: `corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv`, each plain or gzipped.
//!
//! A document's text is `title + " " + text` when it has a title. Beyond BEIR: a `truth.tsv` beside the corpus, in qrels
//! form, holds complete judgments (our writer puts it there), and `hard-negatives.jsonl` negatives (see `gpl.rs`). Without
//! `qrels/` the collection has no splits, and says so. `qrels/validation.tsv` is the split `dev`, as everywhere (`folder.rs`).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{
    entry::{enter_split, joined, push},
    folder::{Folder, split_among, split_of},
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
    let files = folder.inside(qrels)?.with_extension(&["tsv", "txt"]);
    for (name, path) in &files {
        let judgments = trec::judgments(path, &collection.queries, &collection.documents)?;
        let split = split_among(name, files.iter().map(|(name, _)| name.as_str()));
        enter_split(&mut collection.splits, split, judgments, path)?;
    }
    if collection.splits.is_empty() {
        let hint =
            astray(folder).map(|path| format!("; {} looks like judgments: move it to {qrels}/<split>.tsv in this folder", path.display()));
        collection.notes.push(format!(
            "{} has no {qrels}/<split>.tsv: there is nothing to train on or to evaluate{}",
            folder.path().display(),
            hint.unwrap_or_default()
        ));
    }
    if let Some(path) = folder.text_file("truth.tsv") {
        collection.truth = Some(trec::judgments(&path, &collection.queries, &collection.documents)?);
    }
    if let Some(path) = folder.text_file("hard-negatives.jsonl") {
        collection.negatives = Some(gpl::hard_negatives(&path, &collection)?);
    }
    Ok(collection)
}

/// Judgments that lie where they are not looked for: beside the corpus, or one folder above.
fn astray(folder: &Folder) -> Option<PathBuf> {
    let is_named_so = |stem: &str| stem.contains("qrels") || split_of(stem).is_some();
    let beside = folder.with_extension(&["tsv", "txt"]).into_iter().find(|(stem, _)| is_named_so(stem));
    if let Some((_, path)) = beside {
        return Some(path);
    }
    // A relative path such as `.` has its parent only in its full form.
    let full = folder.path().canonicalize().ok()?;
    let above = full.parent()?;
    ["qrels.tsv", "qrels.txt", "qrels"].into_iter().map(|name| above.join(name)).find(|path| path.exists())
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
