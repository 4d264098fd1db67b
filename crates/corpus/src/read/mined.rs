//! Mined negatives in the project's own form, read back against the collection that they were mined from.
//!
//! `write/own.rs` writes it: a header line with provenance, then one row per query and positive. Rows of one query become one
//! list in rank order; a document that several rows name counts once, at its best rank.

use std::{collections::HashSet, path::Path};

use serde::Deserialize;

use super::{
    entry::Missing,
    json::{self, Id},
    lines::Lines,
};
use crate::{
    collection::Collection,
    error::{CorpusError, Side},
    negatives::{Listed, NegativeLists},
    write::own::{FORMAT, VERSION},
};

const ROW: &str = r#"{"query_id": "…", "positive_id": "…", "positive_score": 0.5, "negatives": [{"id": "…", "score": 0.4, "rank": 1}]}"#;

#[derive(Deserialize)]
struct Header {
    format: String,
    version: u32,
    provenance: serde_json::Value,
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    query_id: Id<'a>,
    #[serde(borrow)]
    positive_id: Id<'a>,
    positive_score: Option<f32>,
    #[serde(borrow)]
    negatives: Vec<Negative<'a>>,
}

#[derive(Deserialize)]
struct Negative<'a> {
    #[serde(borrow)]
    id: Id<'a>,
    score: Option<f32>,
    rank: u32,
}

/// The provenance that the writer was given.
///
/// # Errors
/// When the file cannot be read or its first line is no header of this form.
pub fn read_provenance(path: &Path) -> Result<serde_json::Value, CorpusError> {
    header(path, &mut Lines::open(path)?)
}

/// Reads mined negatives as lists over the dense ids of `collection`.
///
/// # Errors
/// When the file cannot be read, is no file of this form, or names queries or documents that the collection lacks.
pub fn read_own(path: &Path, collection: &Collection) -> Result<NegativeLists, CorpusError> {
    let mut lines = Lines::open(path)?;
    header(path, &mut lines)?;
    let (mut missing_queries, mut missing_documents) = (Missing::default(), Missing::default());
    let mut negatives: Vec<Vec<(u32, Listed)>> = vec![Vec::new(); collection.queries.len()];
    let mut positives: Vec<Vec<Listed>> = vec![Vec::new(); collection.queries.len()];
    while let Some(line) = lines.next()? {
        let row: Row<'_> = json::row(line, ROW)?;
        let Some(query) = collection.queries.find(&row.query_id.0) else {
            missing_queries.note(&row.query_id.0, line.number);
            continue;
        };
        let mut find = |id: &Id<'_>| {
            let found = collection.documents.find(&id.0);
            if found.is_none() {
                missing_documents.note(&id.0, line.number);
            }
            found
        };
        if let Some(document) = find(&row.positive_id)
            && row.positive_score.is_some()
        {
            positives[query as usize].push(Listed { document, score: row.positive_score });
        }
        for negative in &row.negatives {
            if let Some(document) = find(&negative.id) {
                negatives[query as usize].push((negative.rank, Listed { document, score: negative.score }));
            }
        }
    }
    missing_queries.check(path, Side::Query)?;
    missing_documents.check(path, Side::Document)?;

    let mut seen = HashSet::new();
    let rows = negatives.into_iter().map(|mut row| {
        // Stable, so that unranked files keep their order.
        row.sort_by_key(|&(rank, _)| rank);
        seen.clear();
        row.into_iter().map(|(_, listed)| listed).filter(|listed| seen.insert(listed.document)).collect()
    });
    let rows = rows.collect();
    for row in &mut positives {
        row.sort_by_key(|listed| listed.document);
        row.dedup_by_key(|listed| listed.document);
    }
    Ok(NegativeLists::from_rows(rows).with_positive_scores(positives))
}

fn header(path: &Path, lines: &mut Lines) -> Result<serde_json::Value, CorpusError> {
    let wrong = |problem: String| CorpusError::MinedHeader { path: path.to_owned(), problem };
    let line = lines.first("a header line, then one row per query and positive")?;
    let header: Header = serde_json::from_str(line.text).map_err(|error| wrong(format!("the first line is no header ({error})")))?;
    if header.format != FORMAT {
        return Err(wrong(format!("the header says format `{}`, not `{FORMAT}`", header.format)));
    }
    if header.version != VERSION {
        return Err(wrong(format!("the file has version {}, this program reads version {VERSION}", header.version)));
    }
    Ok(header.provenance)
}
