//! Lists in the making over a collection that is there: every row is looked up in it, nothing is added.
//!
//! A record is found by its id where the row gives one, else by its text, compared exactly; of equal texts the first is meant.
//! A document that the file lists for one query as a positive and as a negative counts as the positive it is.

use std::{collections::HashSet, path::Path};

use serde::Serialize;

use super::{entry::Missing, sink::Sink};
use crate::{
    collection::Collection,
    error::{CorpusError, Place, Side},
    index::Index,
    negatives::{Listed, NegativeLists},
    records::Records,
};

/// What to do with rows about queries or documents that the collection lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unknown {
    /// They are an error that names them.
    #[default]
    Refuse,
    /// They are passed over and counted: the file is about a larger collection.
    Skip,
}

/// What a file of lists held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ListCounts {
    /// Negatives taken, over all queries.
    pub negatives: usize,
    /// Positives taken because they have a score.
    pub scored_positives: usize,
    /// Rows passed over because the collection lacks their query.
    pub unknown_queries: usize,
    /// Entries passed over because the collection lacks their document.
    pub unknown_documents: usize,
    /// Negatives left out because the file has them as positives of the same query too.
    pub contradicted: usize,
    /// Records that the file gives another text than the collection has under the same id. Many mean the wrong collection.
    pub other_texts: usize,
}

/// Takes rows and keeps what the collection knows.
pub(super) struct Listing<'c> {
    pub(super) collection: &'c Collection,
    unknown: Unknown,
    queries: Lookup<'c>,
    documents: Lookup<'c>,
    negatives: Vec<Vec<Listed>>,
    /// With `None` for a positive that has no score.
    positives: Vec<Vec<Listed>>,
    other_texts: usize,
    notes: HashSet<String>,
}

/// One side of the collection, with what was not found in it.
struct Lookup<'c> {
    side: Side,
    records: &'c Records,
    /// Made when the first text is looked up.
    by_text: Option<Index>,
    missing_ids: Missing,
    missing_texts: Missing,
}

impl<'c> Lookup<'c> {
    fn new(side: Side, records: &'c Records) -> Self {
        Self { side, records, by_text: None, missing_ids: Missing::default(), missing_texts: Missing::default() }
    }

    fn by_id(&mut self, id: &str, line: u64) -> Option<u32> {
        let found = self.records.find(id);
        if found.is_none() {
            self.missing_ids.note(id, line);
        }
        found
    }

    fn by_text(&mut self, field: &str, text: &str, place: impl Fn() -> Place) -> Result<Option<u32>, CorpusError> {
        if text.trim().is_empty() {
            return Err(CorpusError::EmptyText { place: place(), side: self.side, id: field.to_owned() });
        }
        let texts = self.records.texts();
        let found = self.by_text.get_or_insert_with(|| Index::over(texts)).find(texts, text);
        if found.is_none() {
            self.missing_texts.note(text, place().line);
        }
        Ok(found)
    }

    fn missing(&self) -> usize {
        self.missing_ids.count() + self.missing_texts.count()
    }

    fn check(self, path: &Path) -> Result<(), CorpusError> {
        self.missing_ids.check(path, self.side)?;
        self.missing_texts.check_texts(path, self.side)
    }
}

impl<'c> Listing<'c> {
    pub(super) fn new(collection: &'c Collection, unknown: Unknown) -> Self {
        let queries = collection.queries.len();
        Self {
            collection,
            unknown,
            queries: Lookup::new(Side::Query, &collection.queries),
            documents: Lookup::new(Side::Document, &collection.documents),
            negatives: vec![Vec::new(); queries],
            positives: vec![Vec::new(); queries],
            other_texts: 0,
            notes: HashSet::new(),
        }
    }

    /// A query of which a row gives the id alone. `None`: there is none, pass over it.
    pub(super) fn known_query(&mut self, id: &str, line: u64) -> Option<u32> {
        self.queries.by_id(id, line)
    }

    /// The lists of a file that was read to its end.
    pub(super) fn finish(mut self, path: &Path) -> Result<(NegativeLists, ListCounts), CorpusError> {
        let mut counts = ListCounts {
            unknown_queries: self.queries.missing(),
            unknown_documents: self.documents.missing(),
            other_texts: self.other_texts,
            ..ListCounts::default()
        };
        if self.unknown == Unknown::Refuse {
            self.queries.check(path)?;
            self.documents.check(path)?;
        }
        let mut seen = HashSet::new();
        for (negatives, positives) in self.negatives.iter_mut().zip(&mut self.positives) {
            // Of several entries for one document the first that has a score is kept.
            positives.sort_by_key(|listed| (listed.document, listed.score.is_none()));
            positives.dedup_by_key(|listed| listed.document);
            seen.clear();
            negatives.retain(|listed| {
                let first = seen.insert(listed.document);
                let positive = positives.binary_search_by_key(&listed.document, |positive| positive.document).is_ok();
                counts.contradicted += usize::from(first && positive);
                first && !positive
            });
            positives.retain(|listed| listed.score.is_some());
            counts.negatives += negatives.len();
            counts.scored_positives += positives.len();
        }
        Ok((NegativeLists::from_rows(self.negatives).with_positive_scores(self.positives), counts))
    }
}

impl Sink for Listing<'_> {
    fn query(&mut self, id: Option<&str>, field: &str, text: &str, place: impl Fn() -> Place) -> Result<Option<u32>, CorpusError> {
        let Some(id) = id else { return self.queries.by_text(field, text, place) };
        let found = self.queries.by_id(id, place().line);
        self.other_texts += usize::from(found.is_some_and(|query| !text.is_empty() && self.collection.queries.text(query) != text));
        Ok(found)
    }

    fn document(&mut self, id: Option<&str>, field: &str, text: &str, place: impl Fn() -> Place) -> Result<Option<u32>, CorpusError> {
        let Some(id) = id else { return self.documents.by_text(field, text, place) };
        let found = self.documents.by_id(id, place().line);
        self.other_texts += usize::from(found.is_some_and(|document| !text.is_empty() && self.collection.documents.text(document) != text));
        Ok(found)
    }

    fn known_document(&mut self, id: &str, line: u64) -> Option<u32> {
        self.documents.by_id(id, line)
    }

    fn positive(&mut self, query: u32, document: u32, score: Option<f32>) {
        let listed = Listed { document, score: score.filter(|score| score.is_finite()) };
        let row = &mut self.positives[query as usize];
        // Triplets repeat their positive on every row.
        if row.last() != Some(&listed) {
            row.push(listed);
        }
    }

    fn negative(&mut self, query: u32, document: u32, score: Option<f32>) {
        self.negatives[query as usize].push(Listed { document, score: score.filter(|score| score.is_finite()) });
    }

    fn scored(&mut self, query: u32, document: u32, score: f64) -> Result<(), String> {
        // The collection's judgments say what is relevant.
        if self.collection.splits.values().any(|judgments| judgments.is_positive(query, document)) {
            self.positive(query, document, Some(score as f32));
        } else {
            self.negative(query, document, Some(score as f32));
        }
        Ok(())
    }

    fn assigned(&mut self, file: &Path, assignment: String) {
        // Rows that were assigned wrongly name texts that the collection lacks, and are refused: this is for the log.
        tracing::info!(file = %file.display(), "{assignment}");
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            tracing::warn!("{note}");
            self.notes.insert(note);
        }
    }
}
