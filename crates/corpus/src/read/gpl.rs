//! What GPL leaves in a BEIR folder: generated queries and hard negatives by id.
//!
//! `<prefix>-queries.jsonl` and `<prefix>-qrels/<split>.tsv` stand in for `queries.jsonl` and `qrels/`. `hard-negatives.jsonl`
//! has rows `{qid, pos: [id], neg: {system: [id, …]}}`, the form of sentence-transformers' MS MARCO negatives too: the lists
//! of all systems become one, rank by rank. `gpl-training-data.tsv` holds margins of pairs, which are no scores: not read.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use serde::Deserialize;

use super::{
    entry::Missing,
    folder::Folder,
    json::{self, Id, Text},
    lines::Lines,
};
use crate::{
    collection::Collection,
    error::{CorpusError, Side},
    negatives::{Listed, NegativeLists},
};

const ROW: &str = r#"{"qid": "…", "pos": ["…"], "neg": {"system": ["…"]}} on each line"#;

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    qid: Id<'a>,
    /// Sorted by system, so that the order of keys in a row does not matter.
    #[serde(borrow)]
    neg: BTreeMap<Text<'a>, Vec<Id<'a>>>,
}

/// The prefix of the generated queries, when the folder has one.
pub(super) fn prefix(folder: &Folder) -> Option<String> {
    let files = folder.with_extension(&["jsonl"]);
    files.into_iter().find_map(|(stem, _)| stem.strip_suffix("-queries").map(str::to_owned))
}

/// Reads `hard-negatives.jsonl` over the ids of `collection`.
pub(super) fn hard_negatives(path: &Path, collection: &Collection) -> Result<NegativeLists, CorpusError> {
    let (mut missing_queries, mut missing_documents) = (Missing::default(), Missing::default());
    let mut rows: Vec<Vec<Listed>> = vec![Vec::new(); collection.queries.len()];
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let row: Row<'_> = json::row(line, ROW)?;
        let Some(query) = collection.queries.find(&row.qid.0) else {
            missing_queries.note(&row.qid.0, line.number);
            continue;
        };
        let deepest = row.neg.values().map(Vec::len).max().unwrap_or(0);
        for id in (0..deepest).flat_map(|rank| row.neg.values().filter_map(move |list| list.get(rank))) {
            match collection.documents.find(&id.0) {
                Some(document) => rows[query as usize].push(Listed { document, score: None }),
                None => missing_documents.note(&id.0, line.number),
            }
        }
    }
    missing_queries.check(path, Side::Query)?;
    missing_documents.check(path, Side::Document)?;
    let mut seen = HashSet::new();
    for (query, row) in rows.iter_mut().enumerate() {
        seen.clear();
        row.retain(|listed| {
            let positive = collection.splits.values().any(|judgments| judgments.is_positive(query as u32, listed.document));
            !positive && seen.insert(listed.document)
        });
    }
    Ok(NegativeLists::from_rows(rows))
}
