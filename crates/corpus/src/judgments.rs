//! Relevance judgments of one split: which document was judged how for which query.
//!
//! Compressed rows by query, each sorted by document; immutable once built. External ids, files and their errors are the
//! readers' business.

/// Graded judgments over dense query and document ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgments {
    /// Row `q` is `entries[offsets[q]..offsets[q + 1]]`.
    offsets: Vec<usize>,
    /// `(document, grade)`.
    entries: Vec<(u32, i32)>,
}

impl Judgments {
    /// Judgments over `queries` queries from `(query, document, grade)` in any order. The last of several grades for
    /// one pair counts. A query id beyond `queries` widens the table.
    pub fn from_pairs(queries: usize, mut pairs: Vec<(u32, u32, i32)>) -> Self {
        // Stable: equal pairs stay in the order given, so that "the last" has a meaning.
        pairs.sort_by_key(|&(query, document, _)| (query, document));
        let rows = pairs.last().map_or(0, |&(query, ..)| query as usize + 1).max(queries);
        let mut offsets = vec![0; rows + 1];
        let mut entries: Vec<(u32, i32)> = Vec::with_capacity(pairs.len());
        let mut previous = None;
        for (query, document, grade) in pairs {
            if previous == Some((query, document)) {
                if let Some(last) = entries.last_mut() {
                    last.1 = grade;
                }
                continue;
            }
            previous = Some((query, document));
            entries.push((document, grade));
            offsets[query as usize + 1] += 1;
        }
        for row in 0..rows {
            offsets[row + 1] += offsets[row];
        }
        Self { offsets, entries }
    }

    /// Queries with at least one positive, ascending.
    pub fn queries(&self) -> impl Iterator<Item = u32> {
        (0..self.offsets.len() as u32 - 1).filter(|&query| self.positives(query).next().is_some())
    }

    /// Everything judged for a query as `(document, grade)`, by document; empty for a query unknown here.
    pub fn judged(&self, query: u32) -> &[(u32, i32)] {
        match self.offsets.get(query as usize..query as usize + 2) {
            Some(bounds) => &self.entries[bounds[0]..bounds[1]],
            None => &[],
        }
    }

    /// Documents of grade above 0 for a query, ascending.
    pub fn positives(&self, query: u32) -> impl Iterator<Item = u32> {
        self.judged(query).iter().filter(|&&(_, grade)| grade > 0).map(|&(document, _)| document)
    }

    /// Whether anything was judged relevant: without, there is nothing to train on and nothing to evaluate.
    pub fn has_positives(&self) -> bool {
        self.entries.iter().any(|&(_, grade)| grade > 0)
    }

    /// The grade of a pair, `None` when it was not judged.
    pub fn grade(&self, query: u32, document: u32) -> Option<i32> {
        let row = self.judged(query);
        row.binary_search_by_key(&document, |&(judged, _)| judged).ok().map(|at| row[at].1)
    }

    /// Whether the pair was judged with a grade above 0.
    pub fn is_positive(&self, query: u32, document: u32) -> bool {
        self.grade(query, document).is_some_and(|grade| grade > 0)
    }

    /// All positive pairs `(query, document)`, by query, then document.
    pub fn pairs(&self) -> Vec<(u32, u32)> {
        self.iter().filter(|&(.., grade)| grade > 0).map(|(query, document, _)| (query, document)).collect()
    }

    /// All judgments `(query, document, grade)`, by query, then document.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, i32)> {
        (0..self.offsets.len() as u32 - 1)
            .flat_map(|query| self.judged(query).iter().map(move |&(document, grade)| (query, document, grade)))
    }

    /// These judgments with grade 0 for every positive pair `(query, document)` that `keep` refuses, and how many those are:
    /// a pair that failed a test, such as the round trip through a ranking (Promptagator, arXiv 2209.11755), is no positive any
    /// more, and being in doubt it is no negative either. `keep` is asked once for each positive pair, by query, then document.
    #[must_use]
    pub fn keep_pairs(&self, mut keep: impl FnMut(u32, u32) -> bool) -> (Self, usize) {
        let mut kept = self.clone();
        let mut refused = 0;
        for query in 0..self.rows() {
            for (document, grade) in &mut kept.entries[self.offsets[query]..self.offsets[query + 1]] {
                if *grade > 0 && !keep(query as u32, *document) {
                    *grade = 0;
                    refused += 1;
                }
            }
        }
        (kept, refused)
    }

    /// Number of queries that the table spans.
    pub(crate) fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of judgments, of any grade.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was judged.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Default for Judgments {
    fn default() -> Self {
        Self::from_pairs(0, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_the_last_grade_counts() {
        let judgments = Judgments::from_pairs(4, vec![(2, 9, 1), (0, 5, 0), (2, 3, 2), (2, 9, 0), (0, 1, 1), (3, 0, -1)]);
        assert_eq!(judgments.judged(0), [(1, 1), (5, 0)]);
        assert_eq!(judgments.judged(1), []);
        assert_eq!(judgments.judged(2), [(3, 2), (9, 0)]);
        assert_eq!(judgments.judged(4_000_000_000), []);
        assert_eq!(judgments.queries().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(judgments.pairs(), [(0, 1), (2, 3)]);
        assert_eq!(judgments.len(), 5);
        assert!(judgments.has_positives());
        assert!(!Judgments::from_pairs(1, vec![(0, 1, 0), (0, 2, -1)]).has_positives() && !Judgments::default().has_positives());
        assert!(judgments.is_positive(2, 3) && !judgments.is_positive(2, 9) && !judgments.is_positive(1, 3));
        assert_eq!(judgments.grade(3, 0), Some(-1));
    }

    #[test]
    fn a_refused_pair_is_neither_positive_nor_unjudged() {
        let judgments = Judgments::from_pairs(3, vec![(0, 1, 2), (0, 5, 0), (1, 4, 1), (2, 3, 1), (2, 9, 1)]);
        let mut asked = Vec::new();
        let (kept, refused) = judgments.keep_pairs(|query, document| {
            asked.push((query, document));
            document != 4 && document != 9
        });
        assert_eq!(asked, judgments.pairs());
        assert_eq!((kept.pairs(), refused), (vec![(0, 1), (2, 3)], 2));
        assert_eq!((kept.grade(1, 4), kept.grade(2, 9), kept.grade(0, 1)), (Some(0), Some(0), Some(2)));
        assert_eq!(kept.queries().collect::<Vec<_>>(), [0, 2]);
        let (same, refused) = kept.keep_pairs(|_, _| true);
        assert_eq!((same, refused), (kept, 0));
        assert_eq!(Judgments::default().keep_pairs(|_, _| false), (Judgments::default(), 0));
    }

    #[test]
    fn a_query_beyond_the_count_widens_the_table() {
        let judgments = Judgments::from_pairs(1, vec![(7, 1, 1)]);
        assert_eq!(judgments.pairs(), [(7, 1)]);
        assert!(Judgments::default().is_empty());
        assert_eq!(Judgments::default().queries().count(), 0);
    }
}
