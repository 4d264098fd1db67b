//! What is known about which document may be a negative for which query: judgments, and which texts are the same.
//!
//! Texts are compared exactly, once, when this is built: afterwards sameness is equality of two numbers. The collection itself
//! is not kept.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use corpus::{Collection, Judgments, Texts};

use crate::error::MiningError;

/// The class of a query whose text is no document's.
const NO_CLASS: u32 = u32::MAX;

/// Judgments of the training split and classes of identical texts.
#[derive(Debug, Clone)]
pub struct Knowledge {
    judgments: Judgments,
    documents: usize,
    /// First document with the same text, by document; generated documents behind those of the corpus.
    class: Vec<u32>,
    /// First document with the query's text, by query.
    query_class: Vec<u32>,
    /// Documents judged with grade 0 or less may be served.
    keep_nonrelevant: bool,
}

impl Knowledge {
    /// Compares all texts of `collection`. With `keep_nonrelevant`, a document judged as not relevant counts as unjudged.
    ///
    /// # Errors
    /// When a judgment names a query or document beyond the collection.
    pub fn new(collection: &Collection, judgments: &Judgments, keep_nonrelevant: bool) -> Result<Self, MiningError> {
        let (documents, queries) = (collection.documents.len(), collection.queries.len());
        for (query, document, _) in judgments.iter() {
            if query as usize >= queries {
                return Err(MiningError::Beyond { side: "query", id: query, count: queries });
            }
            if document as usize >= documents {
                return Err(MiningError::Beyond { side: "document", id: document, count: documents });
            }
        }
        let hasher = RandomState::new();
        // First document of each hash; documents that share a hash but not the text go to the overflow.
        let mut first: HashMap<u64, u32> = HashMap::with_capacity(documents);
        let mut overflow: Vec<u32> = Vec::new();
        let text = |document: u32| collection.documents.text(document);
        let mut class = Vec::with_capacity(documents);
        for document in 0..documents as u32 {
            let own = *first.entry(hasher.hash_one(text(document))).or_insert(document);
            let found = if text(own) == text(document) {
                own
            } else {
                let found = overflow.iter().copied().find(|&other| text(other) == text(document));
                if found.is_none() {
                    overflow.push(document);
                }
                found.unwrap_or(document)
            };
            class.push(found);
        }
        let query_class = (0..queries as u32)
            .map(|query| {
                let wanted = collection.queries.text(query);
                let own = first.get(&hasher.hash_one(wanted)).copied();
                own.into_iter().chain(overflow.iter().copied()).find(|&document| text(document) == wanted).unwrap_or(NO_CLASS)
            })
            .collect();
        Ok(Self { judgments: judgments.clone(), documents, class, query_class, keep_nonrelevant })
    }

    /// Adds generated documents: their ids follow those of the corpus, in the order of `texts`. They replace any added before.
    pub(crate) fn add_generated(&mut self, collection: &Collection, texts: &Texts) {
        self.class.truncate(self.documents);
        for class in self.query_class.iter_mut().filter(|class| **class as usize >= self.documents) {
            *class = NO_CLASS;
        }
        let mut first: HashMap<&str, u32> = HashMap::with_capacity(texts.len());
        for (text, id) in texts.iter().zip(self.documents as u32..) {
            first.entry(text).or_insert(id);
        }
        // A document of the corpus or a query with the same text comes before.
        for (document, text) in
            (0..self.documents as u32).rev().zip((0..self.documents as u32).rev().map(|it| collection.documents.text(it)))
        {
            if let Some(class) = first.get_mut(text) {
                *class = self.class[document as usize];
            }
        }
        for (query, class) in self.query_class.iter_mut().enumerate() {
            if let Some(&generated) = first.get(collection.queries.text(query as u32)) {
                *class = generated;
            }
        }
        self.class.extend(texts.iter().map(|text| first[text]));
    }

    /// The judgments.
    pub fn judgments(&self) -> &Judgments {
        &self.judgments
    }

    /// Number of documents in the corpus.
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// Number of generated documents.
    pub fn generated(&self) -> usize {
        self.class.len() - self.documents
    }

    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.query_class.len()
    }

    /// The first document that has the same text.
    ///
    /// # Panics
    /// When there is no such document.
    pub fn class(&self, document: u32) -> u32 {
        self.class[document as usize]
    }

    /// Documents that must not be negatives of `query` by judgment, ascending.
    pub fn judged(&self, query: u32) -> impl Iterator<Item = u32> {
        let graded = self.judgments.judged(query).iter();
        graded.filter(|&&(_, grade)| grade > 0 || !self.keep_nonrelevant).map(|&(document, _)| document)
    }

    /// Whether `document` must not be a negative of `query` by judgment.
    pub fn is_judged(&self, query: u32, document: u32) -> bool {
        self.judgments.grade(query, document).is_some_and(|grade| grade > 0 || !self.keep_nonrelevant)
    }

    /// Whether `document` has the text of the query, or of a document judged for it.
    pub fn is_copy(&self, query: u32, document: u32) -> bool {
        let class = self.class(document);
        self.copied(query).any(|copied| copied == class)
    }

    /// The classes of the query's text and of documents judged for it. One may come twice, or be of no document.
    fn copied(&self, query: u32) -> impl Iterator<Item = u32> {
        self.query_class.get(query as usize).copied().into_iter().chain(self.judged(query).map(|judged| self.class(judged)))
    }

    /// Where each text stands among `documents`.
    pub fn places(&self, documents: &[u32]) -> TextPlaces<'_> {
        let mut of_class: HashMap<u32, Vec<usize>> = HashMap::with_capacity(documents.len());
        for (place, &document) in documents.iter().enumerate() {
            of_class.entry(self.class(document)).or_default().push(place);
        }
        TextPlaces { knowledge: self, of_class }
    }
}

/// Some documents by their texts, for questions about all of them at once: a query has few copies among many documents, and only these are looked at.
#[derive(Clone, Debug)]
pub struct TextPlaces<'a> {
    knowledge: &'a Knowledge,
    of_class: HashMap<u32, Vec<usize>>,
}

impl TextPlaces<'_> {
    /// Places of documents for which [`Knowledge::is_copy`] holds. One may come twice.
    pub fn copies(&self, query: u32) -> impl Iterator<Item = usize> {
        self.knowledge.copied(query).flat_map(|class| self.of_class(class))
    }

    /// Places of documents that have the text of `document`.
    pub fn alike(&self, document: u32) -> impl Iterator<Item = usize> {
        self.of_class(self.knowledge.class(document))
    }

    fn of_class(&self, class: u32) -> impl Iterator<Item = usize> {
        self.of_class.get(&class).into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_judged_documents_and_of_the_query_are_known_under_other_ids() {
        let mut collection = Collection::default();
        for (id, text) in [("a", "one"), ("b", "two"), ("c", "one"), ("d", "which"), ("e", "two ")] {
            collection.documents.push(id, text).unwrap();
        }
        collection.queries.push("q", "which").unwrap();
        collection.queries.push("r", "other").unwrap();
        let judgments = Judgments::from_pairs(2, vec![(0, 2, 1), (1, 1, 0)]);
        let knowledge = Knowledge::new(&collection, &judgments, false).unwrap();
        let copies = |query| (0..5).filter(|&document| knowledge.is_copy(query, document)).collect::<Vec<u32>>();
        assert_eq!(copies(0), [0, 2, 3]);
        assert_eq!(copies(1), [1]);
        let documents = [4, 3, 2, 1, 0, 2];
        let places = knowledge.places(&documents);
        for query in 0..2 {
            let found: std::collections::BTreeSet<usize> = places.copies(query).collect();
            assert!(found.into_iter().eq((0..6).filter(|&place| knowledge.is_copy(query, documents[place]))));
        }
        assert_eq!(places.alike(0).collect::<Vec<_>>(), [2, 4, 5]);
        assert!(knowledge.is_judged(0, 2) && !knowledge.is_judged(0, 0) && knowledge.is_judged(1, 1));
        // Generated texts: a copy of a judged document, one of the query, twice a new one.
        let mut generated = corpus::Records::new();
        for (id, text) in [("x", "one"), ("y", "other"), ("z", "new"), ("w", "new")] {
            generated.push(id, text).unwrap();
        }
        let mut more = knowledge.clone();
        for _ in 0..2 {
            more.add_generated(&collection, generated.texts());
            assert_eq!((more.documents(), more.generated()), (5, 4));
            assert_eq!([5, 6, 7, 8].map(|id| more.class(id)), [0, 6, 7, 7]);
            assert_eq!((5..9).filter(|&id| more.is_copy(0, id)).collect::<Vec<u32>>(), [5]);
            assert_eq!((5..9).filter(|&id| more.is_copy(1, id)).collect::<Vec<u32>>(), [6]);
            assert_eq!((0..5).filter(|&id| more.is_copy(0, id)).collect::<Vec<u32>>(), [0, 2, 3]);
        }
        let lenient = Knowledge::new(&collection, &judgments, true).unwrap();
        assert!(!lenient.is_judged(1, 1) && !lenient.is_copy(1, 1));

        let beyond = Judgments::from_pairs(2, vec![(0, 5, 1)]);
        let message = Knowledge::new(&collection, &beyond, false).unwrap_err().to_string();
        assert!(message.contains("document 5") && message.contains("has 5"), "{message}");
    }
}
