//! Mined negatives in the project's own form, read back against the collection that they were mined from.
//!
//! `write/own.rs` writes it: a header line with provenance, then one row per query and positive. Rows of one query become one
//! list in rank order; a document that several rows name counts once, at its best rank.

use std::path::Path;

use serde::Deserialize;

use super::{
    json::{self, Id},
    lines::Lines,
    listing::{Listing, Unknown},
    sink::Sink,
    words::problem,
};
use crate::{
    collection::Collection,
    error::CorpusError,
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
    let mut listing = Listing::new(collection, Unknown::Refuse);
    rows(path, &mut listing)?;
    listing.finish(path).map(|(lists, _)| lists)
}

/// Reads a file of the own form into `listing`.
pub(super) fn rows(path: &Path, listing: &mut Listing<'_>) -> Result<(), CorpusError> {
    let mut lines = Lines::open(path)?;
    header(path, &mut lines)?;
    let mut negatives: Vec<Vec<(u32, Listed)>> = vec![Vec::new(); listing.collection.queries.len()];
    while let Some(line) = lines.next()? {
        let row: Row<'_> = json::row(line, ROW)?;
        let Some(query) = listing.known_query(&row.query_id.0, line.number) else { continue };
        if let Some(document) = listing.known_document(&row.positive_id.0, line.number) {
            listing.positive(query, document, row.positive_score);
        }
        for negative in &row.negatives {
            if let Some(document) = listing.known_document(&negative.id.0, line.number) {
                negatives[query as usize].push((negative.rank, Listed { document, score: negative.score }));
            }
        }
    }
    for (query, mut row) in negatives.into_iter().enumerate() {
        // Stable, so that unranked files keep their order.
        row.sort_by_key(|&(rank, _)| rank);
        for (_, listed) in row {
            listing.negative(query as u32, listed.document, listed.score);
        }
    }
    Ok(())
}

fn header(path: &Path, lines: &mut Lines) -> Result<serde_json::Value, CorpusError> {
    let wrong = |problem: String| CorpusError::MinedHeader { path: path.to_owned(), problem };
    let line = lines.first("a header line, then one row per query and positive")?;
    let header: Header =
        serde_json::from_str(line.text).map_err(|error| wrong(format!("the first line is no header ({})", problem(line.text, &error))))?;
    if header.format != FORMAT {
        return Err(wrong(format!("the header says format `{}`, not `{FORMAT}`", header.format)));
    }
    if header.version != VERSION {
        return Err(wrong(format!("the file has version {}, this program reads version {VERSION}", header.version)));
    }
    Ok(header.provenance)
}
