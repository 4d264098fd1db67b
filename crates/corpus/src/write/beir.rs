//! A collection as a BEIR folder: `corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv`, and `truth.tsv` where truth is known.
//!
//! Titles are part of our texts, so `title` is written empty. Negatives that came with a collection have no place in BEIR and
//! are left out. The folder appears whole or not at all.

use std::{fs, path::Path};

use serde::Serialize;

use super::{atomic, json_line};
use crate::{collection::Collection, error::CorpusError, judgments::Judgments, records::Records};

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "_id")]
    id: &'a str,
    title: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct Query<'a> {
    #[serde(rename = "_id")]
    id: &'a str,
    text: &'a str,
}

/// Writes `collection` to `folder`, which must not exist or be empty.
///
/// # Errors
/// When the folder is not empty, cannot be written, or an id or split name does not fit a tab-separated file.
pub fn beir(folder: &Path, collection: &Collection) -> Result<(), CorpusError> {
    for split in collection.splits.keys() {
        if split.is_empty() || split.starts_with('.') || split.contains(['/', '\\', '\0']) {
            return Err(CorpusError::Unwritable {
                path: folder.to_owned(),
                what: format!("the split `{}`: its name is no file name", split.escape_debug()),
                remedy: "rename the split",
            });
        }
    }
    atomic::folder(folder, |folder| {
        atomic::file(&folder.join("corpus.jsonl"), |out| {
            let path = folder.join("corpus.jsonl");
            let documents = &collection.documents;
            (0..documents.len() as u32)
                .try_for_each(|at| json_line(out, &path, &Document { id: documents.id(at), title: "", text: documents.text(at) }))
        })?;
        atomic::file(&folder.join("queries.jsonl"), |out| {
            let path = folder.join("queries.jsonl");
            let queries = &collection.queries;
            (0..queries.len() as u32).try_for_each(|at| json_line(out, &path, &Query { id: queries.id(at), text: queries.text(at) }))
        })?;
        let qrels = folder.join("qrels");
        fs::create_dir(&qrels).map_err(CorpusError::io(&qrels))?;
        for (split, judgments) in &collection.splits {
            write_judgments(&qrels.join(format!("{split}.tsv")), collection, judgments)?;
        }
        match &collection.truth {
            Some(truth) => write_judgments(&folder.join("truth.tsv"), collection, truth),
            None => Ok(()),
        }
    })
}

fn write_judgments(path: &Path, collection: &Collection, judgments: &Judgments) -> Result<(), CorpusError> {
    atomic::file(path, |out| {
        out.write_all(b"query-id\tcorpus-id\tscore\n").map_err(CorpusError::io(path))?;
        for (query, document, grade) in judgments.iter() {
            let (query, document) = (column(path, &collection.queries, query)?, column(path, &collection.documents, document)?);
            writeln!(out, "{query}\t{document}\t{grade}").map_err(CorpusError::io(path))?;
        }
        Ok(())
    })
}

/// An id that fits a column of a tab-separated file.
fn column<'a>(path: &Path, records: &'a Records, index: u32) -> Result<&'a str, CorpusError> {
    let id = records.id(index);
    if id.contains(['\t', '\n', '\r']) {
        return Err(CorpusError::Unwritable {
            path: path.to_owned(),
            what: format!("the id `{}`: it contains a tab or a line break", id.escape_debug()),
            remedy: "rename the record",
        });
    }
    Ok(id)
}
