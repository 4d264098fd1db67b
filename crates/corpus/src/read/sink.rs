//! Where rows of queries, positives and negatives go, so that a format is read in one place whatever becomes of its rows.
//!
//! A collection in the making (`inline.rs`) appends what it does not know; lists over a collection that is there (`listing.rs`)
//! look everything up in it.

use std::path::Path;

use crate::error::{CorpusError, Place};

/// Takes the rows of one or more files.
pub(crate) trait Sink {
    /// The query with this id or, without id, with this text; `field` names the text in messages. `None`: pass over its row.
    fn query(&mut self, id: Option<&str>, field: &str, text: &str, place: impl Fn() -> Place) -> Result<Option<u32>, CorpusError>;

    /// The document with this id or, without id, with this text. `None`: pass over it.
    fn document(&mut self, id: Option<&str>, field: &str, text: &str, place: impl Fn() -> Place) -> Result<Option<u32>, CorpusError>;

    /// A document of which a row gives the id alone. `None`: there is none, pass over it.
    fn known_document(&mut self, id: &str, line: u64) -> Option<u32>;

    /// Scores that are no finite numbers count as none, here and in [`Self::negative`].
    fn positive(&mut self, query: u32, document: u32, score: Option<f32>);

    /// A document that the row gives as a negative.
    fn negative(&mut self, query: u32, document: u32, score: Option<f32>);

    /// A pair with a score, which the row calls neither positive nor negative.
    fn scored(&mut self, query: u32, document: u32, score: f64) -> Result<(), String>;

    /// Reports which column of a file plays which part.
    fn assigned(&mut self, file: &Path, assignment: String);

    /// Adds a warning, once.
    fn note(&mut self, note: String);
}

/// The problem with a label that is no judgment.
pub(crate) fn not_binary(label: f64) -> String {
    format!("the label {label} is neither 0 nor 1 (graded similarity is no judgment)")
}
