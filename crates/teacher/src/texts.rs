//! Texts by dense id, and lists of documents of one query.

use std::borrow::Cow;

use corpus::Collection;
use encoder::{CrossEncoder, PairTokens};

use crate::error::TeacherError;

/// Where the texts of pairs come from.
pub trait PairTexts: Sync {
    /// Text of a query; none when there is no such query.
    fn query(&self, id: u32) -> Option<Cow<'_, str>>;

    /// Text of a document, with its title in front when it has one; none when there is no such document.
    fn document(&self, id: u32) -> Option<Cow<'_, str>>;

    /// Both texts of a pair.
    ///
    /// # Errors
    /// [`TeacherError::UnknownId`] when one is not there.
    fn pair(&self, (query, document): (u32, u32)) -> Result<(Cow<'_, str>, Cow<'_, str>), TeacherError> {
        let query = self.query(query).ok_or(TeacherError::UnknownId { side: "query", id: query })?;
        let document = self.document(document).ok_or(TeacherError::UnknownId { side: "document", id: document })?;
        Ok((query, document))
    }
}

/// Titles are joined with their texts where collections are read.
impl PairTexts for Collection {
    fn query(&self, id: u32) -> Option<Cow<'_, str>> {
        ((id as usize) < self.queries.len()).then(|| Cow::Borrowed(self.queries.text(id)))
    }

    fn document(&self, id: u32) -> Option<Cow<'_, str>> {
        ((id as usize) < self.documents.len()).then(|| Cow::Borrowed(self.documents.text(id)))
    }
}

/// One query with a relevant document, which comes first, and others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// The query.
    pub query: u32,
    /// The positive, then the negatives.
    pub documents: Vec<u32>,
}

/// A list, tokenised: one row per document, the positive first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Rows of the pairs.
    pub pairs: Vec<PairTokens>,
}

/// Tokenises lists for a model, in parallel.
///
/// # Errors
/// An id has no text, or the tokenizer fails.
pub fn tokenize_lists(model: &CrossEncoder, texts: &dyn PairTexts, lists: &[List]) -> Result<Vec<Group>, TeacherError> {
    let ids = lists.iter().flat_map(|list| list.documents.iter().map(|&document| (list.query, document)));
    let pairs: Vec<_> = ids.map(|pair| texts.pair(pair)).collect::<Result<_, _>>()?;
    let mut rows = model.tokenize(&pairs)?.into_iter();
    Ok(lists.iter().map(|list| Group { pairs: rows.by_ref().take(list.documents.len()).collect() }).collect())
}
