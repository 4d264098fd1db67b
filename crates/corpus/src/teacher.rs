//! A teacher's scores of (query, document) pairs, for losses and filters that ask for the score of any pair.
//!
//! Compressed rows by query, sorted by document: 8 bytes a pair and 8 a query.

use std::path::Path;

use crate::{collection::Collection, error::CorpusError, negatives::NegativeLists, read};

/// Scores of pairs over dense ids, positives and negatives alike.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TeacherScores {
    /// End of each query's row; the start is the end of the row before.
    ends: Vec<usize>,
    documents: Vec<u32>,
    scores: Vec<f32>,
}

impl TeacherScores {
    /// All scores in `lists` of the queries `0..queries`. Where a document stands in a list more than once, its score as a positive
    /// counts, else its first.
    pub fn from_lists(queries: usize, lists: &NegativeLists) -> Self {
        let mut scores = Self { ends: Vec::with_capacity(queries), ..Self::default() };
        let mut row: Vec<(u32, f32)> = Vec::new();
        for query in 0..queries as u32 {
            row.clear();
            let listed = lists.positive_scores(query).iter().chain(lists.row(query));
            row.extend(listed.filter_map(|listed| Some((listed.document, listed.score?))));
            // Stable: positives stand first.
            row.sort_by_key(|&(document, _)| document);
            row.dedup_by_key(|&mut (document, _)| document);
            scores.documents.extend(row.iter().map(|&(document, _)| document));
            scores.scores.extend(row.iter().map(|&(_, score)| score));
            scores.ends.push(scores.documents.len());
        }
        scores.documents.shrink_to_fit();
        scores.scores.shrink_to_fit();
        scores
    }

    /// Reads the scores of a file of any form that [`read_lists`](crate::read_lists) knows.
    ///
    /// # Errors
    /// As [`read_lists`](crate::read_lists), and when no row has a score.
    pub fn read(path: &Path, collection: &Collection) -> Result<Self, CorpusError> {
        let scores = Self::from_lists(collection.queries.len(), &read::read_lists(path, collection)?);
        if scores.is_empty() {
            return Err(CorpusError::NoScores { path: path.to_owned() });
        }
        Ok(scores)
    }

    /// The score of a pair, `None` when the teacher did not score it.
    pub fn score(&self, query: u32, document: u32) -> Option<f32> {
        let (documents, scores) = self.row(query);
        documents.binary_search(&document).ok().map(|at| scores[at])
    }

    /// The documents scored for a query, ascending, and their scores; empty for a query unknown here.
    pub fn row(&self, query: u32) -> (&[u32], &[f32]) {
        let query = query as usize;
        let Some(&end) = self.ends.get(query) else { return (&[], &[]) };
        let start = if query == 0 { 0 } else { self.ends[query - 1] };
        (&self.documents[start..end], &self.scores[start..end])
    }

    /// Number of scored pairs.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether no pair is scored.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::Listed;

    fn listed(row: &[(u32, Option<f32>)]) -> Vec<Listed> {
        row.iter().map(|&(document, score)| Listed { document, score }).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_scored_pair_is_found_and_no_other(
            negatives in prop::collection::vec(prop::collection::vec((0..12_u32, prop::option::of(-9.0..9.0_f32)), 0..8), 0..6),
            positives in prop::collection::vec(prop::collection::vec((0..12_u32, prop::option::of(-9.0..9.0_f32)), 0..4), 0..6),
            queries in 0..8_usize,
        ) {
            let rows = |rows: &[Vec<_>]| rows.iter().map(|row| listed(row)).collect::<Vec<_>>();
            let lists = NegativeLists::from_rows(rows(&negatives)).with_positive_scores(rows(&positives));
            let scores = TeacherScores::from_lists(queries, &lists);
            let mut expected = HashMap::new();
            for query in 0..queries {
                for &(document, score) in positives.get(query).into_iter().chain(negatives.get(query)).flatten() {
                    if let Some(score) = score {
                        expected.entry((query as u32, document)).or_insert(score);
                    }
                }
            }
            for query in 0..9 {
                for document in 0..13 {
                    prop_assert_eq!(scores.score(query, document), expected.get(&(query, document)).copied());
                }
                let (documents, row) = scores.row(query);
                prop_assert!(documents.is_sorted() && documents.len() == row.len());
            }
            prop_assert_eq!(scores.len(), expected.len());
            prop_assert_eq!(scores.is_empty(), expected.is_empty());
        }
    }

    #[test]
    fn a_pair_costs_eight_bytes() {
        let row = |_| (0..100).rev().map(|document| Listed { document, score: Some(0.5) }).collect();
        let scores = TeacherScores::from_lists(50, &NegativeLists::from_rows((0..50).map(row).collect()));
        assert_eq!(scores.len(), 5000);
        let held = scores.documents.capacity() * 4 + scores.scores.capacity() * 4;
        assert!(held <= 8 * scores.len(), "{held} bytes");
    }
}
