//! What a refresh did to the lists of one source.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::filters::Removed;
use crate::report::Quantiles;
use crate::score_histogram::ScoreHistogram;

/// One source at one refresh. Of a rolling one, figures about mining are those of the slices mined, figures about lists those of all lists.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceReport {
    /// Its position in the configuration.
    pub number: u8,
    /// What it is.
    pub name: String,
    /// The encoder that searched, for a dense source.
    pub model: Option<String>,
    /// Queries mined.
    pub queries: usize,
    /// Candidates that the source gave.
    pub found: u64,
    /// Candidates in its lists now.
    pub candidates: usize,
    /// Candidates dropped, by filter.
    pub removed: BTreeMap<String, u64>,
    /// The same as shares of `found`.
    pub removed_shares: BTreeMap<String, f64>,
    /// Of the candidates found, those that are relevant but not judged so: false negatives; known only where complete judgments are.
    pub found_relevant: Option<u64>,
    /// Of the candidates dropped, those that are: by filter, its hits. Over `removed` they are its precision, over `found_relevant` its recall.
    pub removed_relevant: Option<BTreeMap<String, u64>>,
    /// Of generated texts, those that stayed although a filter would have dropped them, by filter; every filter that they are exempt from is
    /// there. Empty for other sources.
    pub spared: BTreeMap<String, u64>,
    /// Similarities of the candidates kept, on the scale that margins are measured on.
    pub scores: Option<Quantiles>,
    /// Lowest positive similarity of the query less the candidate's, on that scale.
    pub score_differences: Option<Quantiles>,
    /// Scores of all documents beside those of candidates and positives, for a sample of the queries mined; `None` unless an encoder searched for some query.
    pub score_histogram: Option<ScoreHistogram>,
    /// Candidates kept by rank: entry i counts ranks 2^i to 2^(i + 1) − 1.
    pub ranks: Vec<u64>,
    /// Queries with fewer candidates than a visit asks for.
    pub short_rows: usize,
    /// Share of the candidates that fill a short row from deeper ranks.
    pub filled_share: f64,
    /// Share of the lists that was not there before; `None` for first lists.
    pub turnover: Option<f64>,
    /// Steps since the oldest row that was searched was encoded.
    pub row_age_steps: Option<usize>,
    /// Share of the candidates that are relevant but not judged so; known only where complete judgments are.
    pub false_negative_rate: Option<f64>,
    /// Queries whose negatives were replaced because they had become too easy; `None` unless the schedule looks for that.
    pub replaced: Option<usize>,
}

/// What adds up over the blocks of a pass.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) queries: usize,
    pub(crate) found: u64,
    pub(crate) found_relevant: u64,
    pub(crate) removed: Removed,
    pub(crate) removed_relevant: Removed,
    pub(crate) spared: Removed,
    pub(crate) scores: Vec<f32>,
    pub(crate) differences: Vec<f32>,
}

/// Counts `ranks` by powers of two: entry i counts ranks 2^i to 2^(i + 1) − 1; 0 is no rank.
pub fn rank_histogram(ranks: impl Iterator<Item = u32>) -> Vec<u64> {
    let mut counts = Vec::new();
    for rank in ranks.filter(|&rank| rank > 0) {
        let bin = rank.ilog2() as usize;
        if counts.len() <= bin {
            counts.resize(bin + 1, 0);
        }
        counts[bin] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_counted_by_powers_of_two() {
        assert_eq!(rank_histogram([1, 2, 3, 4, 7, 8, 0, 33].into_iter()), [1, 2, 2, 1, 0, 1]);
        assert!(rank_histogram([].into_iter()).is_empty());
    }
}
