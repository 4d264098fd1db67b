//! MS MARCO folders: tab-separated collection, queries and judgments, each plain or gzipped.
//!
//! Passages: `collection.tsv` (`pid<tab>text`), `queries.<split>.tsv`, `qrels.<split>.tsv`. Documents: `msmarco-docs.tsv`
//! (`docid<tab>url<tab>title<tab>body`), `msmarco-doc<split>-queries.tsv`, `msmarco-doc<split>-qrels.tsv`. Query files may
//! overlap (`dev` and `dev.small` do) as long as they agree on the text.

use std::path::Path;

use super::{
    entry::{enter_split, joined, push},
    folder::{Folder, split_among},
    lines::Lines,
    trec::{self, columns, wrong_columns},
};
use crate::{
    collection::Collection,
    error::{CorpusError, Side},
    records::Records,
};

const PASSAGE: &str = "`passage-id<tab>text`";
const DOCUMENT: &str = "`document-id<tab>url<tab>title<tab>body`";
const QUERY: &str = "`query-id<tab>text`";

pub(super) fn open(folder: &Folder, texts: &Path, with_titles: bool) -> Result<Collection, CorpusError> {
    let mut collection = Collection { documents: documents(texts, with_titles)?, ..Collection::default() };
    for (_, path) in split_files(folder, "queries") {
        queries(&path, &mut collection.queries)?;
    }
    let qrels = split_files(folder, "qrels");
    for (name, path) in &qrels {
        let judgments = trec::judgments(path, &collection.queries, &collection.documents)?;
        let split = split_among(name, qrels.iter().map(|(name, _)| name.as_str()));
        enter_split(&mut collection.splits, split, judgments, path)?;
    }
    if collection.splits.is_empty() {
        collection.notes.push(format!("{} has no qrels.<split>.tsv: there is nothing to train on or to evaluate", folder.path().display()));
    }
    Ok(collection)
}

/// Files `<kind>.<split>.tsv` and `msmarco-doc<split>-<kind>.tsv` with their splits.
fn split_files(folder: &Folder, kind: &str) -> Vec<(String, std::path::PathBuf)> {
    let split = |stem: &str| {
        let passages = stem.strip_prefix(kind).and_then(|rest| rest.strip_prefix('.'));
        let documents = stem.strip_prefix("msmarco-doc").and_then(|rest| rest.strip_suffix(kind)?.strip_suffix('-'));
        passages.or(documents).filter(|split| !split.is_empty()).map(str::to_owned)
    };
    folder.with_extension(&["tsv", "txt"]).into_iter().filter_map(|(stem, path)| Some((split(&stem)?, path))).collect()
}

fn documents(path: &Path, with_titles: bool) -> Result<Records, CorpusError> {
    let mut records = Records::new();
    let mut scratch = String::new();
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let (id, title, text) = if with_titles {
            let [id, _, title, body] = columns(line.text.split('\t')).map_err(|got| wrong_columns(line, got, DOCUMENT))?;
            (id, title, body)
        } else {
            let [id, text] = columns(line.text.split('\t')).map_err(|got| wrong_columns(line, got, PASSAGE))?;
            (id, "", text)
        };
        push(&mut records, Side::Document, id, joined(&mut scratch, title, text), || line.place())?;
    }
    if records.is_empty() {
        return Err(CorpusError::EmptyFile { path: path.to_owned(), expected: if with_titles { DOCUMENT } else { PASSAGE } });
    }
    Ok(records)
}

fn queries(path: &Path, records: &mut Records) -> Result<(), CorpusError> {
    let before = records.len() as u32;
    let mut lines = Lines::open(path)?;
    let mut rows = 0;
    while let Some(line) = lines.next()? {
        rows += 1;
        let [id, text] = columns(line.text.split('\t')).map_err(|got| wrong_columns(line, got, QUERY))?;
        match records.find(id) {
            Some(known) if known < before && records.text(known) == text => {}
            Some(known) if known < before => {
                return Err(CorpusError::TwoTexts { place: line.place(), side: Side::Query, id: id.to_owned() });
            }
            _ => {
                push(records, Side::Query, id, text, || line.place())?;
            }
        }
    }
    if rows == 0 {
        return Err(CorpusError::EmptyFile { path: path.to_owned(), expected: QUERY });
    }
    Ok(())
}
