//! Texts that a language model wrote as negatives: outside the corpus, never indexed and never evaluated.
//!
//! Their ids follow those of the corpus: text `i` has the id `documents.len() + i`, so that lists and batches need no second kind
//! of id. No text here equals a document of the corpus. Reading is `read/generated.rs`.

use std::path::Path;

use serde::Serialize;

use crate::{collection::Collection, error::CorpusError, negatives::NegativeLists, read, texts::Texts};

/// Generated negatives of the queries of one collection (SyNeg, arXiv 2412.17250; arXiv 2504.21015).
#[derive(Debug, Clone, Default)]
pub struct Generated {
    /// Number of documents in the corpus, hence the id of the first text here.
    pub offset: u32,
    /// The texts, each once. [`Tokens::prepare`](crate::Tokens::prepare) tokenises them as it does the corpus;
    /// [`Tokens::row_beyond`](crate::Tokens::row_beyond) finds a row under either kind of id.
    pub texts: Texts,
    /// What the file says about each text (`attr`), empty where it says nothing.
    pub attributes: Texts,
    /// Generated negatives by query, under ids from `offset` on, in the order of the file and without scores.
    pub lists: NegativeLists,
    /// What was read and what was left out.
    pub counts: GeneratedCounts,
}

/// What a file of generated negatives held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct GeneratedCounts {
    /// Rows of the file.
    pub rows: usize,
    /// Negatives taken, over all queries.
    pub negatives: usize,
    /// Left out: the text of a document judged relevant for its query.
    pub copied_positives: usize,
    /// Left out: the text of another document. It is no text outside the corpus, and masks know it by its own id.
    pub copied_documents: usize,
    /// Left out: the text of the query itself.
    pub copied_queries: usize,
    /// Left out: given a second time for the same query.
    pub repeated: usize,
    /// Rows whose `query` is not the text that the collection has under their id. Many mean the wrong collection.
    pub other_texts: usize,
}

impl Generated {
    /// Reads JSON lines `{"qid": "…", "neg_synth": [{"text": "…", "attr": …}]}`, plain or gzipped; `attr`, of any kind, and
    /// `query` may be missing, and other fields are not looked at. Several rows of one query are joined. Equal texts share one id
    /// and keep the first attribute. A text that stands in the corpus, or is the query's own, is left out and counted: models copy
    /// what they are shown, and a copied positive would teach the wrong thing.
    ///
    /// # Errors
    /// When the file cannot be read, a row is faulty, a text is empty, or a query is unknown to the collection; the message names
    /// file and line.
    pub fn read(path: &Path, collection: &Collection) -> Result<Self, CorpusError> {
        read::generated(path, collection)
    }

    /// Whether an id is that of a text here.
    pub fn contains(&self, id: u32) -> bool {
        id.checked_sub(self.offset).is_some_and(|at| (at as usize) < self.texts.len())
    }

    /// The text with this id.
    ///
    /// # Panics
    /// When the id is none of those here.
    pub fn text(&self, id: u32) -> &str {
        assert!(self.contains(id), "text {id} of {} from {} on", self.texts.len(), self.offset);
        self.texts.get(id - self.offset)
    }

    /// What the file says about the text with this id: a string as it is, anything else as JSON; empty where it says nothing.
    ///
    /// # Panics
    /// When the id is none of those here.
    pub fn attribute(&self, id: u32) -> &str {
        assert!(self.contains(id), "text {id} of {} from {} on", self.texts.len(), self.offset);
        self.attributes.get(id - self.offset)
    }
}
