//! Relabelling decisions: what a model said about listed negatives, and what judgments become of it.
//!
//! A negative that is found to be relevant is a false negative. RLHN (arXiv 2505.16967) and ARHN (arXiv 2604.11092) have a
//! language model decide, offline, and leave a file of (query, document, decision). Reading it is `read/decisions.rs`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{collection::Collection, error::CorpusError, judgments::Judgments, read};

/// What was decided about a listed negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// It is a negative.
    #[serde(rename = "neg")]
    Negative,
    /// It is neither a clear negative nor a clear positive.
    #[serde(rename = "drop")]
    Drop,
    /// It is relevant: a false negative.
    #[serde(rename = "pos")]
    Positive,
}

/// What becomes of flagged documents: those decided `drop`, and those decided `pos` that are not judged relevant yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// A query with a flagged document loses all its judgments: it is trained on no more.
    DropQuery,
    /// Flagged documents are judged with grade 0: never positives, and never negatives (unless judged non-relevant documents may
    /// be served).
    Remove,
    /// `pos` becomes a positive of grade 1, `drop` is judged with grade 0.
    Promote,
}

/// Decisions by query and document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    /// By query, then document, each pair once.
    entries: Vec<(u32, u32, Decision)>,
}

/// What [`Decisions::apply`] changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Relabelled {
    /// Queries that lost all judgments ([`Policy::DropQuery`]).
    pub dropped_queries: usize,
    /// Documents recorded with grade 0 that were not judged positive.
    pub removed: usize,
    /// Documents that became positives ([`Policy::Promote`]).
    pub promoted: usize,
    /// Positives that a `drop` brought down to grade 0.
    pub demoted: usize,
    /// Positives that were decided `neg`: they stay positives.
    pub disputed: usize,
    /// Decisions about queries without a judgment here (another split's): they change nothing.
    pub elsewhere: usize,
    /// Queries that had positives and have none any more, dropped ones not counted.
    pub without_positives: usize,
}

impl Decisions {
    /// From `(query, document, decision)` in any order; the last of several decisions about one pair counts.
    pub fn from_pairs(mut pairs: Vec<(u32, u32, Decision)>) -> Self {
        pairs.sort_by_key(|&(query, document, _)| (query, document));
        // Keeps the last of equal pairs: the order is stable, and `dedup_by` keeps the first, given that one's decision.
        pairs.dedup_by(|later, first| {
            let same = (later.0, later.1) == (first.0, first.1);
            if same {
                first.2 = later.2;
            }
            same
        });
        Self { entries: pairs }
    }

    /// Reads JSON lines `{"qid": "…", "pid": "…", "decision": "pos"}` (also `query_id`, `document_id`), or a table
    /// `query-id<tab>document-id<tab>decision`; plain or gzipped. A decision is one of `neg`, `drop`, `pos`.
    ///
    /// # Errors
    /// When the file cannot be read, a row is faulty, a pair has two different decisions, or queries or documents are unknown to
    /// the collection; the message names file and line.
    pub fn read(path: &Path, collection: &Collection) -> Result<Self, CorpusError> {
        read::decisions(path, collection)
    }

    /// The decision about a pair.
    pub fn get(&self, query: u32, document: u32) -> Option<Decision> {
        self.entries.binary_search_by_key(&(query, document), |&(query, document, _)| (query, document)).ok().map(|at| self.entries[at].2)
    }

    /// Number of decisions.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was decided.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The judgments that `policy` makes of `judgments`, and what changed.
    ///
    /// `neg` changes nothing. A document judged relevant stays so when it is decided `pos` or `neg`; decided `drop` it is treated as
    /// any flagged document. Only queries with a judgment here are touched, so that decisions about training queries add nothing to
    /// another split. Applying the same decisions a second time changes nothing.
    pub fn apply(&self, judgments: &Judgments, policy: Policy) -> (Judgments, Relabelled) {
        let mut counts = Relabelled { elsewhere: self.entries.len(), ..Relabelled::default() };
        let mut pairs = Vec::with_capacity(judgments.len() + self.entries.len());
        for query in 0..judgments.rows() as u32 {
            let judged = judgments.judged(query);
            if judged.is_empty() {
                continue;
            }
            let decided = self.row(query);
            counts.elsewhere -= decided.len();
            let positive = |document| judgments.is_positive(query, document);
            let flagged = || {
                let flagged = decided.iter().map(|&(_, document, decision)| (document, decision));
                flagged.filter(|&(document, decision)| match decision {
                    Decision::Negative => false,
                    Decision::Drop => true,
                    Decision::Positive => !positive(document),
                })
            };
            counts.disputed +=
                decided.iter().filter(|&&(_, document, decision)| decision == Decision::Negative && positive(document)).count();
            if policy == Policy::DropQuery && flagged().next().is_some() {
                counts.dropped_queries += 1;
                continue;
            }
            pairs.extend(judged.iter().map(|&(document, grade)| (query, document, grade)));
            let mut positives = judgments.positives(query).count();
            let had_positives = positives > 0;
            for (document, decision) in flagged() {
                let grade = i32::from(decision == Decision::Positive && policy == Policy::Promote);
                match (grade, judgments.grade(query, document)) {
                    (1, _) => {
                        counts.promoted += 1;
                        positives += 1;
                    }
                    (_, Some(before)) if before > 0 => {
                        counts.demoted += 1;
                        positives -= 1;
                    }
                    // Judged as not relevant already: its grade stays what it is.
                    (_, Some(_)) => continue,
                    (_, None) => counts.removed += 1,
                }
                pairs.push((query, document, grade));
            }
            counts.without_positives += usize::from(had_positives && positives == 0);
        }
        (Judgments::from_pairs(judgments.rows(), pairs), counts)
    }

    fn row(&self, query: u32) -> &[(u32, u32, Decision)] {
        let start = self.entries.partition_point(|entry| entry.0 < query);
        let length = self.entries[start..].partition_point(|entry| entry.0 == query);
        &self.entries[start..start + length]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Decision::{Drop, Negative, Positive};

    /// Query 0: positive 1, and 5 judged 0. Query 1: positives 2 and 3. Query 2: positive 4. Query 3: nothing.
    fn judgments() -> Judgments {
        Judgments::from_pairs(4, vec![(0, 1, 2), (0, 5, 0), (1, 2, 1), (1, 3, 1), (2, 4, 1)])
    }

    fn decisions() -> Decisions {
        Decisions::from_pairs(vec![
            (0, 6, Positive),
            (0, 5, Positive),
            (0, 1, Positive),
            (0, 8, Negative),
            (1, 7, Drop),
            (1, 2, Negative),
            (2, 9, Negative),
            (3, 1, Positive),
            (9, 1, Positive),
        ])
    }

    #[test]
    fn dropping_takes_every_judgment_of_a_flagged_query() {
        let (after, counts) = decisions().apply(&judgments(), Policy::DropQuery);
        assert_eq!(after.iter().collect::<Vec<_>>(), [(2, 4, 1)]);
        assert_eq!(counts, Relabelled { dropped_queries: 2, disputed: 1, elsewhere: 2, ..Relabelled::default() });
        // A `pos` about what is a positive already flags nothing.
        let agreed = Decisions::from_pairs(vec![(2, 4, Positive)]);
        assert_eq!(agreed.apply(&judgments(), Policy::DropQuery), (judgments(), Relabelled::default()));
    }

    #[test]
    fn removing_judges_flagged_documents_with_grade_zero() {
        let (after, counts) = decisions().apply(&judgments(), Policy::Remove);
        assert_eq!(after.judged(0), [(1, 2), (5, 0), (6, 0)]);
        assert_eq!(after.judged(1), [(2, 1), (3, 1), (7, 0)]);
        assert_eq!((after.judged(2), after.judged(3)), (&[(4, 1)][..], &[][..]));
        assert_eq!(counts, Relabelled { removed: 2, disputed: 1, elsewhere: 2, ..Relabelled::default() });
    }

    #[test]
    fn promoting_makes_false_negatives_positives() {
        let (after, counts) = decisions().apply(&judgments(), Policy::Promote);
        assert_eq!(after.judged(0), [(1, 2), (5, 1), (6, 1)]);
        assert_eq!(after.judged(1), [(2, 1), (3, 1), (7, 0)]);
        assert_eq!(counts, Relabelled { promoted: 2, removed: 1, disputed: 1, elsewhere: 2, ..Relabelled::default() });
    }

    #[test]
    fn a_dropped_positive_is_no_positive_and_its_query_may_have_none_left() {
        let drops = Decisions::from_pairs(vec![(1, 2, Drop), (2, 4, Drop)]);
        for policy in [Policy::Remove, Policy::Promote] {
            let (after, counts) = drops.apply(&judgments(), policy);
            assert_eq!((after.grade(1, 2), after.grade(2, 4)), (Some(0), Some(0)));
            assert_eq!(after.queries().collect::<Vec<_>>(), [0, 1]);
            assert_eq!(counts, Relabelled { demoted: 2, without_positives: 1, ..Relabelled::default() });
        }
    }

    #[test]
    fn the_last_decision_about_a_pair_counts() {
        let decisions = Decisions::from_pairs(vec![(1, 1, Positive), (0, 1, Drop), (1, 1, Negative), (1, 1, Drop)]);
        assert_eq!((decisions.len(), decisions.get(1, 1), decisions.get(0, 1), decisions.get(1, 0)), (2, Some(Drop), Some(Drop), None));
        assert!(Decisions::default().is_empty());
    }

    fn pairs<T: std::fmt::Debug>(values: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<(u32, u32, T)>> {
        prop::collection::vec((0..6_u32, 0..8_u32, values), 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_decided_each_pair_ends_as_its_policy_says(
            judged in pairs(-1..3_i32),
            decided in pairs(prop_oneof![Just(Negative), Just(Drop), Just(Positive)]),
            policy in prop_oneof![Just(Policy::DropQuery), Just(Policy::Remove), Just(Policy::Promote)],
        ) {
            let before = Judgments::from_pairs(6, judged);
            let decisions = Decisions::from_pairs(decided);
            let (after, counts) = decisions.apply(&before, policy);
            for query in 0..6 {
                let flagged = |document| match decisions.get(query, document) {
                    Some(Drop) => true,
                    Some(Positive) => !before.is_positive(query, document),
                    _ => false,
                };
                let known = !before.judged(query).is_empty();
                for document in 0..8 {
                    let (was, is) = (before.grade(query, document), after.grade(query, document));
                    let expected = match (policy, decisions.get(query, document)) {
                        _ if !known => None,
                        (Policy::DropQuery, _) if (0..8).any(flagged) => None,
                        (Policy::DropQuery, _) => was,
                        (Policy::Promote, Some(Positive)) => Some(was.filter(|&grade| grade > 0).unwrap_or(1)),
                        _ if flagged(document) => Some(was.map_or(0, |grade| grade.min(0))),
                        _ => was,
                    };
                    prop_assert_eq!(is, expected, "query {} document {}", query, document);
                }
            }
            let queries = before.queries().filter(|&query| after.positives(query).next().is_none()).count();
            let dropped = before.queries().filter(|&query| after.judged(query).is_empty()).count();
            prop_assert_eq!(queries, counts.without_positives + dropped);
            let (again, changes) = decisions.apply(&after, policy);
            prop_assert_eq!(again, after);
            prop_assert_eq!((changes.promoted, changes.removed, changes.demoted, changes.dropped_queries), (0, 0, 0, 0));
        }
    }
}
