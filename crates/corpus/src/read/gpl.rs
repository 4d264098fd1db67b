//! What GPL leaves in a BEIR folder: generated queries and hard negatives by id.
//!
//! `<prefix>-queries.jsonl` and `<prefix>-qrels/<split>.tsv` stand in for `queries.jsonl` and `qrels/`. `hard-negatives.jsonl`
//! has rows `{qid, pos: [id], neg: {system: [id, …]}}`, the form of sentence-transformers' MS MARCO negatives too: the lists
//! of all systems become one, rank by rank. `gpl-training-data.tsv` holds margins of pairs, which are no scores: not read.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use super::{
    folder::Folder,
    json::{self, Id, Text},
    lines::Lines,
    listing::{Listing, Unknown},
    sink::Sink,
};
use crate::{collection::Collection, error::CorpusError, judgments::Judgments, negatives::NegativeLists};

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

/// Reads `hard-negatives.jsonl` over the ids of `collection`; documents judged relevant are left out.
pub(super) fn hard_negatives(path: &Path, collection: &Collection) -> Result<NegativeLists, CorpusError> {
    let mut listing = Listing::new(collection, Unknown::Refuse);
    rows(path, &mut listing)?;
    for (query, document) in collection.splits.values().flat_map(Judgments::pairs) {
        listing.positive(query, document, None);
    }
    listing.finish(path).map(|(lists, _)| lists)
}

/// Reads rows of lists by system into `listing`.
pub(super) fn rows(path: &Path, listing: &mut Listing<'_>) -> Result<(), CorpusError> {
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let row: Row<'_> = json::row(line, ROW)?;
        let Some(query) = listing.known_query(&row.qid.0, line.number) else { continue };
        let deepest = row.neg.values().map(Vec::len).max().unwrap_or(0);
        for id in (0..deepest).flat_map(|rank| row.neg.values().filter_map(move |list| list.get(rank))) {
            if let Some(document) = listing.known_document(&id.0, line.number) {
                listing.negative(query, document, None);
            }
        }
    }
    Ok(())
}
