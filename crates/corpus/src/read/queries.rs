//! Queries written for documents: `{"_id", "text", "positive": [id], "negatives"?: [id], "logprob"?}` on each line.
//!
//! The same file is read in two ways: as queries to be entered, and as lists of negatives over queries that are there.

use std::{collections::HashSet, path::Path};

use serde::Deserialize;

use super::{
    entry::{Missing, push},
    json::{self, Id, Text},
    lines::Lines,
    listing::Listing,
    sink::Sink,
};
use crate::{
    collection::Collection,
    error::{CorpusError, Side, excerpt},
    queries::{Written, WrittenRow},
};

const ROW: &str = r#"{"_id": "…", "text": "…", "positive": ["document id"], "negatives": ["document id"] (optional)} on each line"#;

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow, rename = "_id")]
    id: Id<'a>,
    #[serde(borrow)]
    text: Text<'a>,
    #[serde(borrow)]
    positive: Vec<Id<'a>>,
    #[serde(borrow, default)]
    negatives: Option<Vec<Id<'a>>>,
    #[serde(default)]
    logprob: Option<f64>,
}

/// Reads queries that are to be entered into `collection`, which they must not be part of yet.
pub(crate) fn queries(path: &Path, collection: &Collection) -> Result<Written, CorpusError> {
    let mut written = Written::default();
    let mut missing = Missing::default();
    let mut seen = HashSet::new();
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let row: Row<'_> = json::row(line, ROW)?;
        let id = &*row.id.0;
        if let Some(first) = collection.queries.find(id) {
            let first = u64::from(first) + 1;
            return Err(CorpusError::DuplicateId { place: line.place(), side: Side::Query, id: id.to_owned(), first });
        }
        push(&mut written.records, Side::Query, id, &row.text.0, || line.place())?;
        let mut known = |id: &Id<'_>| {
            let found = collection.documents.find(&id.0);
            if found.is_none() {
                missing.note(&id.0, line.number);
            }
            found
        };
        if row.positive.is_empty() {
            let problem = format!("the query `{}` has no positive", excerpt(id));
            return Err(CorpusError::Row { place: line.place(), problem, expected: ROW });
        }
        seen.clear();
        let positives: Vec<u32> = row.positive.iter().filter_map(&mut known).filter(|&document| seen.insert(document)).collect();
        let listed: Vec<u32> = row.negatives.iter().flatten().filter_map(&mut known).collect();
        written.contradicted += listed.iter().filter(|document| positives.contains(document)).count();
        // A document that is listed twice, or as a positive too, has been seen.
        let negatives = listed.into_iter().filter(|&document| seen.insert(document)).collect();
        written.rows.push(WrittenRow { positives, negatives, logprob: row.logprob, line: line.number });
    }
    if written.rows.is_empty() {
        return Err(CorpusError::EmptyFile { path: path.to_owned(), expected: ROW });
    }
    missing.check(path, Side::Document)?;
    Ok(written)
}

/// Reads the negatives of queries that the collection has into `listing`.
pub(super) fn rows(path: &Path, listing: &mut Listing<'_>) -> Result<(), CorpusError> {
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let row: Row<'_> = json::row(line, ROW)?;
        let Some(query) = listing.query(Some(&*row.id.0), "text", &row.text.0, || line.place())? else { continue };
        for id in &row.positive {
            if let Some(document) = listing.known_document(&id.0, line.number) {
                listing.positive(query, document, None);
            }
        }
        for id in row.negatives.iter().flatten() {
            if let Some(document) = listing.known_document(&id.0, line.number) {
                listing.negative(query, document, None);
            }
        }
    }
    Ok(())
}
