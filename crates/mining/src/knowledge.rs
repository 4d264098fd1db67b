//! What is known about which document may be a negative for which query: judgments, and which texts are the same.
//!
//! Texts are compared exactly, once, when this is built: afterwards sameness is equality of two numbers. The collection itself
//! is not kept. What is judged for a query is judged for every query of the same text: such queries share one list, however many they are.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use corpus::{Collection, Judgments, Texts};

use crate::error::MiningError;

/// The class of a query whose text is no document's.
const NO_CLASS: u32 = u32::MAX;
/// Documents judged for queries of one text together that a search leaves out for each of them, at most: it takes a list of its own for every query.
const MOST_EXCLUDED: usize = 1024;

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
    /// Place in `groups`, by query; of queries that share their text with another one alone.
    group_of: HashMap<u32, u32>,
    groups: Vec<Group>,
}

/// What is judged for any of the queries of one text.
#[derive(Debug, Clone)]
struct Group {
    /// The documents, ascending.
    judged: Vec<u32>,
    /// The classes of their texts, ascending.
    texts: Vec<u32>,
}

impl Knowledge {
    /// Compares all texts of `collection`. With `keep_nonrelevant`, a document judged as not relevant counts as unjudged.
    ///
    /// # Errors
    /// When a judgment names a query or document beyond the collection.
    pub fn new(collection: &Collection, judgments: &Judgments, keep_nonrelevant: bool) -> Result<Self, MiningError> {
        Self::among(collection, [judgments; 2], keep_nonrelevant)
    }

    /// As [`Knowledge::new`] for the first judgments, where the second are also known of queries of the same text: a query that is not trained on says as much of what is relevant.
    ///
    /// # Errors
    /// As [`Knowledge::new`].
    pub fn among(collection: &Collection, [judgments, all]: [&Judgments; 2], keep_nonrelevant: bool) -> Result<Self, MiningError> {
        let (documents, queries) = (collection.documents.len(), collection.queries.len());
        for (query, document, _) in judgments.iter().chain(all.iter()) {
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
        let (judgments, group_of, groups) = (judgments.clone(), HashMap::new(), Vec::new());
        let mut knowledge = Self { judgments, documents, class, query_class, keep_nonrelevant, group_of, groups };
        (knowledge.group_of, knowledge.groups) = knowledge.grouped(collection, all);
        Ok(knowledge)
    }

    /// Queries that share their text, where anything is judged for one of them.
    fn grouped(&self, collection: &Collection, all: &Judgments) -> (HashMap<u32, u32>, Vec<Group>) {
        let mut first: HashMap<&str, u32> = HashMap::with_capacity(self.queries());
        // All queries of a text, by the first of them.
        let mut alike: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for query in 0..self.queries() as u32 {
            let one = *first.entry(collection.queries.text(query)).or_insert(query);
            if one != query {
                alike.entry(one).or_insert_with(|| vec![one]).push(query);
            }
        }
        let (mut group_of, mut groups) = (HashMap::new(), Vec::new());
        for queries in alike.into_values() {
            let known = |query: u32| self.barring(&self.judgments, query).chain(self.barring(all, query));
            let judged = ascending(queries.iter().flat_map(|&query| known(query)));
            if judged.is_empty() {
                continue;
            }
            let texts = ascending(judged.iter().map(|&document| self.class(document)));
            group_of.extend(queries.into_iter().map(|query| (query, groups.len() as u32)));
            groups.push(Group { judged, texts });
        }
        (group_of, groups)
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

    fn group(&self, query: u32) -> Option<&Group> {
        self.group_of.get(&query).map(|&number| &self.groups[number as usize])
    }

    /// What bars by judgments of this very query, ascending.
    fn own(&self, query: u32) -> impl Iterator<Item = u32> {
        self.barring(&self.judgments, query)
    }

    /// What bars by these judgments of a query, ascending.
    fn barring<'a>(&'a self, judgments: &'a Judgments, query: u32) -> impl Iterator<Item = u32> + 'a {
        let graded = judgments.judged(query).iter();
        graded.filter(|&&(_, grade)| grade > 0 || !self.keep_nonrelevant).map(|&(document, _)| document)
    }

    /// Documents that must not be negatives of `query` by judgment, ascending: those judged for it, or for a query of the same text.
    pub fn judged(&self, query: u32) -> impl Iterator<Item = u32> {
        self.judged_up_to(query, usize::MAX)
    }

    /// Documents that a search for negatives of `query` leaves out, ascending: those of [`Self::judged`]; but its own alone where queries of its text have
    /// more than 1,024 together, so that the filters are left to drop the others.
    pub fn excluded(&self, query: u32) -> impl Iterator<Item = u32> {
        self.judged_up_to(query, MOST_EXCLUDED)
    }

    fn judged_up_to(&self, query: u32, most: usize) -> impl Iterator<Item = u32> {
        let group = self.group(query).filter(|group| group.judged.len() <= most);
        let own = group.is_none().then(|| self.own(query));
        own.into_iter().flatten().chain(group.into_iter().flat_map(|group| group.judged.iter().copied()))
    }

    /// How many documents are judged for queries of the text of `query`; 0 where no other query has it.
    pub(crate) fn judged_together(&self, query: u32) -> usize {
        self.group(query).map_or(0, |group| group.judged.len())
    }

    /// Whether `document` must not be a negative of `query` by judgment.
    pub fn is_judged(&self, query: u32, document: u32) -> bool {
        match self.group(query) {
            Some(group) => group.judged.binary_search(&document).is_ok(),
            None => self.judgments.grade(query, document).is_some_and(|grade| grade > 0 || !self.keep_nonrelevant),
        }
    }

    /// Whether `document` has the text of a document judged for the query.
    pub(crate) fn is_copy_of_judged(&self, query: u32, document: u32) -> bool {
        let class = self.class(document);
        match self.group(query) {
            Some(group) => group.texts.binary_search(&class).is_ok(),
            None => self.own(query).any(|judged| self.class(judged) == class),
        }
    }

    /// Whether `document` has the text of the query, or of a document judged for it.
    pub fn is_copy(&self, query: u32, document: u32) -> bool {
        self.query_class.get(query as usize) == Some(&self.class(document)) || self.is_copy_of_judged(query, document)
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
    /// Places of documents for which [`Knowledge::is_copy`] holds, in any order. One may come twice.
    pub fn copies(&self, query: u32) -> impl Iterator<Item = usize> {
        let knowledge = self.knowledge;
        let group = knowledge.group(query);
        // From the shorter side: queries of one text may have more judged documents together than there are here.
        let (long, short) = match group {
            Some(group) if group.texts.len() > self.of_class.len() => (Some(group), None),
            group => (None, group),
        };
        let held = move |group: &Group, class: &u32| group.texts.binary_search(class).is_ok();
        let there = long.into_iter().flat_map(move |group| self.of_class.keys().copied().filter(move |class| held(group, class)));
        let judged = short.into_iter().flat_map(|group| group.texts.iter().copied());
        let own = group.is_none().then(|| knowledge.own(query).map(move |judged| knowledge.class(judged))).into_iter().flatten();
        let text = knowledge.query_class.get(query as usize).copied();
        text.into_iter().chain(there).chain(judged).chain(own).flat_map(|class| self.of_class(class))
    }

    /// Places of documents that have the text of `document`.
    pub fn alike(&self, document: u32) -> impl Iterator<Item = usize> {
        self.of_class(self.knowledge.class(document))
    }

    fn of_class(&self, class: u32) -> impl Iterator<Item = usize> {
        self.of_class.get(&class).into_iter().flatten().copied()
    }
}

/// Each value once, ascending.
fn ascending(values: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut values: Vec<u32> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_judged_for_a_query_is_judged_for_every_query_of_its_text() {
        let mut collection = Collection::default();
        for (id, text) in [("a", "one"), ("b", "two"), ("c", "one"), ("d", "three"), ("e", "four")] {
            collection.documents.push(id, text).unwrap();
        }
        for (id, text) in [("q", "which"), ("r", "other"), ("s", "which"), ("t", "which")] {
            collection.queries.push(id, text).unwrap();
        }
        // Queries 0 and 2 share a text, and query 3, for which nothing is judged, has it too. Of the two grades of document 3 the one above 0 counts.
        let judgments = Judgments::from_pairs(4, vec![(0, 0, 1), (0, 3, 0), (2, 1, 1), (2, 3, 1), (1, 4, 1), (2, 4, 0)]);
        for (lenient, expected) in [(false, vec![0, 1, 3, 4]), (true, vec![0, 1, 3])] {
            let knowledge = Knowledge::new(&collection, &judgments, lenient).unwrap();
            let copies = |query: u32| (0..5).filter(|&document| knowledge.is_copy(query, document)).collect::<Vec<u32>>();
            for query in [0, 2, 3] {
                assert_eq!(knowledge.judged(query).collect::<Vec<_>>(), expected);
                assert_eq!(knowledge.excluded(query).collect::<Vec<_>>(), expected);
                assert!((0..5).all(|document| knowledge.is_judged(query, document) == expected.contains(&document)));
                // Document 2 is a copy of 0.
                assert!((0..5).all(|document| knowledge.is_copy(query, document) == (document == 2 || expected.contains(&document))));
            }
            assert_eq!((copies(1), knowledge.judged(1).collect::<Vec<_>>()), (vec![4], vec![4]));
            for documents in [vec![4, 3, 2, 1, 0, 2], vec![2, 2], vec![4]] {
                let places = knowledge.places(&documents);
                for query in 0..4 {
                    let found: std::collections::BTreeSet<usize> = places.copies(query).collect();
                    let known = (0..documents.len()).filter(|&place| knowledge.is_copy(query, documents[place]));
                    assert!(found.into_iter().eq(known), "query {query} among {documents:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_judged_for_a_query_that_is_not_trained_on_counts_for_its_text() {
        let mut collection = Collection::default();
        for (id, text) in [("a", "one"), ("b", "two")] {
            collection.documents.push(id, text).unwrap();
        }
        for (id, text) in [("q", "which"), ("r", "which"), ("s", "other")] {
            collection.queries.push(id, text).unwrap();
        }
        let trained = Judgments::from_pairs(3, vec![(0, 0, 1)]);
        let all = Judgments::from_pairs(3, vec![(0, 0, 1), (1, 1, 1), (2, 1, 1)]);
        let alone = Knowledge::new(&collection, &trained, false).unwrap();
        let knowledge = Knowledge::among(&collection, [&trained, &all], false).unwrap();
        assert!(!alone.is_judged(0, 1) && knowledge.is_judged(0, 1));
        assert_eq!(knowledge.judged(0).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(knowledge.judgments().positives(0).collect::<Vec<_>>(), [0], "what is trained on stays");
        // A query of another text that is not trained on says nothing.
        assert!(!knowledge.is_judged(2, 1));
    }

    #[test]
    fn many_queries_of_one_text_share_one_list() {
        let mut collection = Collection::default();
        for document in 0..40 * 40 {
            collection.documents.push(&format!("d{document}"), &format!("text {document}")).unwrap();
        }
        for query in 0..40 {
            collection.queries.push(&format!("q{query}"), "which").unwrap();
        }
        let pairs = (0..40 * 40).map(|document| (document / 40, document, 1)).collect();
        let knowledge = Knowledge::new(&collection, &Judgments::from_pairs(40, pairs), false).unwrap();
        assert_eq!(knowledge.groups.iter().map(|group| group.judged.len()).collect::<Vec<_>>(), [40 * 40]);
        // More than a search is told to leave out; whoever asks about one document knows them all.
        assert_eq!(knowledge.excluded(7).collect::<Vec<_>>(), (7 * 40..8 * 40).collect::<Vec<u32>>());
        assert!((0..40 * 40).all(|document| knowledge.is_judged(7, document)) && knowledge.judged(7).count() == 40 * 40);
        assert_eq!(knowledge.places(&[3, 1599]).copies(7).count(), 2);
    }

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
