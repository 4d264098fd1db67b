//! One query's ranking, reduced to what measures look at, and the formulas of all measures.
//!
//! Kept are the ranks and grades of the judged documents found and how many documents have each grade; documents without judgment
//! are implied by the gaps. Invariant: ranks ascend and are at most `retrieved`. Definitions are trec_eval 10's; where it leaves a
//! case undefined (no relevant document, nothing retrieved) the value is 0.

use crate::measure::Measure;

/// A judged document in a ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Rank, from 1.
    pub(crate) rank: u32,
    /// Grade; below zero means in the pool but not judged.
    pub(crate) grade: i32,
}

/// What one query's ranking found. Any [`Measure`] can be taken from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryMetrics {
    retrieved: usize,
    hits: Vec<Hit>,
    /// (grade, number of judged documents with it), ascending, grades from 0.
    levels: Vec<(i32, usize)>,
    relevance_level: i32,
}

/// Keeps infAP finite before the first judged document (trec_eval's value).
const INFERRED_EPSILON: f64 = 1e-5;

/// Probability of looking at the next document in rank-biased precision.
const PERSISTENCE: f64 = 0.9;

impl QueryMetrics {
    pub(crate) fn new(retrieved: usize, hits: Vec<Hit>, levels: Vec<(i32, usize)>, relevance_level: i32) -> Self {
        Self { retrieved, hits, levels, relevance_level }
    }

    /// The value of a measure given by name, e.g. `ndcg@10`; None for an unknown name.
    pub fn get(&self, name: &str) -> Option<f64> {
        name.parse().ok().map(|measure| self.value(measure))
    }

    /// The value of a measure for this query. `gm_*` measures give the plain value; the geometry is in the mean.
    pub fn value(&self, measure: Measure) -> f64 {
        // An empty sum of floats is -0.0; adding 0.0 keeps that sign out of reports.
        self.formula(measure) + 0.0
    }

    fn formula(&self, measure: Measure) -> f64 {
        let relevant = self.relevant() as f64;
        match measure {
            Measure::Retrieved => self.retrieved as f64,
            Measure::Relevant => relevant,
            Measure::RelevantRetrieved => self.found(usize::MAX) as f64,
            Measure::NonrelevantRetrieved => (self.hits.iter().filter(|hit| hit.grade >= 0).count() - self.found(usize::MAX)) as f64,
            Measure::Map(cut) => ratio(self.precision_sum(cut.unwrap_or(usize::MAX)), relevant),
            Measure::GeometricMap => ratio(self.precision_sum(usize::MAX), relevant),
            Measure::CappedMap(k) => ratio(self.precision_sum(k), relevant.min(k as f64)),
            Measure::RPrecision => ratio(self.found(self.relevant()) as f64, relevant),
            Measure::Bpref | Measure::GeometricBpref => self.bpref(),
            Measure::ReciprocalRank(cut) => {
                self.relevant_ranks().next().filter(|&rank| rank <= cut.unwrap_or(usize::MAX)).map_or(0.0, |rank| 1.0 / rank as f64)
            }
            Measure::InterpolatedPrecision(level) => self.interpolated_precision(level),
            Measure::ElevenPoint => (0..=10).map(|tenth| self.interpolated_precision(tenth * 10)).sum::<f64>() / 11.0,
            Measure::Precision(k) => self.found(k) as f64 / k as f64,
            Measure::Recall(k) => ratio(self.found(k) as f64, relevant),
            Measure::RelativePrecision(k) => ratio(self.found(k) as f64, relevant.min(k as f64)),
            Measure::Success(k) => f64::from(self.found(k) > 0),
            Measure::InferredAp => self.inferred_ap(),
            Measure::RPrecisionMultiple(multiple) => {
                let cut = (f64::from(multiple) / 100.0 * relevant + 0.9) as usize;
                ratio(self.found(cut) as f64, cut as f64)
            }
            Measure::Utility => 2.0 * self.found(usize::MAX) as f64 - self.retrieved as f64,
            Measure::BinaryG => self.binary_g(),
            Measure::G => self.g(),
            Measure::Ndcg(cut) => self.ndcg(cut.unwrap_or(usize::MAX)),
            Measure::BinaryNdcg(k) => {
                let found: f64 = self.relevant_ranks().take_while(|&rank| rank <= k).map(discount).sum();
                ratio(found, (1..=k.min(self.relevant())).map(discount).sum())
            }
            Measure::NdcgRelevant => self.ndcg_at_relevant(),
            Measure::RNdcg => self.ndcg_at_levels(),
            Measure::SetPrecision => ratio(self.found(usize::MAX) as f64, self.retrieved as f64),
            Measure::SetRelativePrecision => ratio(self.found(usize::MAX) as f64, relevant.min(self.retrieved as f64)),
            Measure::SetRecall => ratio(self.found(usize::MAX) as f64, relevant),
            Measure::SetMap => ratio((self.found(usize::MAX) as f64).powi(2), self.retrieved as f64 * relevant),
            Measure::SetF => ratio(2.0 * self.found(usize::MAX) as f64, self.retrieved as f64 + relevant),
            Measure::RankBiasedPrecision => self.rank_biased_precision(),
            Measure::RankBiasedResidual => self.rank_biased_residual(),
            Measure::Unjudged(k) => (k.min(self.retrieved) - self.judged(k)) as f64 / k as f64,
        }
    }

    /// The first `length` documents as a string: the grade, `-` without judgment, `.` in the pool but not judged, `>` for grades
    /// above 9 (trec_eval's `relstring`).
    pub fn relevance_string(&self, length: usize) -> String {
        let mut text = vec!['-'; length.min(self.retrieved)];
        for hit in self.hits.iter().filter(|hit| hit.rank as usize <= length) {
            text[hit.rank as usize - 1] = match u32::try_from(hit.grade) {
                Ok(grade) => char::from_digit(grade, 10).unwrap_or('>'),
                Err(_) => '.',
            };
        }
        text.into_iter().collect()
    }

    fn is_relevant(&self, grade: i32) -> bool {
        grade >= 0 && grade >= self.relevance_level
    }

    /// Number of relevant documents there are.
    fn relevant(&self) -> usize {
        self.levels.iter().filter(|&&(grade, _)| self.is_relevant(grade)).map(|&(_, count)| count).sum()
    }

    /// Ranks of the relevant documents found, ascending.
    fn relevant_ranks(&self) -> impl Iterator<Item = usize> {
        self.hits.iter().filter(|hit| self.is_relevant(hit.grade)).map(|hit| hit.rank as usize)
    }

    /// Relevant documents among the first `k`.
    fn found(&self, k: usize) -> usize {
        self.relevant_ranks().take_while(|&rank| rank <= k).count()
    }

    /// Documents with a grade among the first `k`.
    fn judged(&self, k: usize) -> usize {
        self.hits.iter().take_while(|hit| hit.rank as usize <= k).filter(|hit| hit.grade >= 0).count()
    }

    fn precision_sum(&self, k: usize) -> f64 {
        self.relevant_ranks().take_while(|&rank| rank <= k).zip(1_usize..).map(|(rank, found)| found as f64 / rank as f64).sum()
    }

    fn bpref(&self) -> f64 {
        let relevant = self.relevant();
        let nonrelevant: usize = self.levels.iter().filter(|&&(grade, _)| !self.is_relevant(grade)).map(|&(_, count)| count).sum();
        let (mut above, mut sum) = (0_usize, 0.0);
        for hit in self.hits.iter().filter(|hit| hit.grade >= 0) {
            if !self.is_relevant(hit.grade) {
                above += 1;
            } else if above == 0 {
                sum += 1.0;
            } else {
                sum += 1.0 - above.min(relevant) as f64 / nonrelevant.min(relevant) as f64;
            }
        }
        ratio(sum, relevant as f64)
    }

    fn inferred_ap(&self) -> f64 {
        let (mut relevant_above, mut nonrelevant_above, mut pool_above, mut sum) = (0.0, 0.0, 0.0, 0.0);
        for hit in &self.hits {
            if hit.grade < 0 {
                pool_above += 1.0;
            } else if !self.is_relevant(hit.grade) {
                nonrelevant_above += 1.0;
            } else {
                let above = f64::from(hit.rank - 1);
                sum += 1.0 / (above + 1.0);
                if above > 0.0 {
                    let in_pool = (relevant_above + nonrelevant_above + pool_above) / above;
                    let precision = (relevant_above + INFERRED_EPSILON) / (relevant_above + nonrelevant_above + 2.0 * INFERRED_EPSILON);
                    sum += above / (above + 1.0) * in_pool * precision;
                }
                relevant_above += 1.0;
            }
        }
        ratio(sum, self.relevant() as f64)
    }

    /// Highest precision at or after the rank where `level` hundredths of the relevant documents are found.
    fn interpolated_precision(&self, level: u16) -> f64 {
        let needed = (f64::from(level) / 100.0 * self.relevant() as f64).round() as usize;
        self.relevant_ranks()
            .zip(1_usize..)
            .skip(needed.saturating_sub(1))
            .map(|(rank, found)| found as f64 / rank as f64)
            .fold(0.0, f64::max)
    }

    /// Gains of the ideal ranking: all positive grades, descending.
    fn ideal_gains(&self) -> impl Iterator<Item = f64> {
        self.levels.iter().rev().filter(|&&(grade, _)| grade > 0).flat_map(|&(grade, count)| std::iter::repeat_n(f64::from(grade), count))
    }

    /// Ranks and gains of the documents found that have a positive grade.
    fn gains(&self) -> impl Iterator<Item = (usize, f64)> {
        self.hits.iter().filter(|hit| hit.grade > 0).map(|hit| (hit.rank as usize, f64::from(hit.grade)))
    }

    fn dcg(&self, k: usize) -> f64 {
        self.gains().take_while(|&(rank, _)| rank <= k).map(|(rank, gain)| gain * discount(rank)).sum()
    }

    fn ideal_dcg(&self, k: usize) -> f64 {
        self.ideal_gains().take(k).zip(1..).map(|(gain, rank)| gain * discount(rank)).sum()
    }

    fn ndcg(&self, k: usize) -> f64 {
        ratio(self.dcg(k), self.ideal_dcg(k))
    }

    /// Mean nDCG over the positive documents, each at its rank, those not found at the end of the ranking.
    fn ndcg_at_relevant(&self) -> f64 {
        let positive = self.ideal_gains().count() as f64;
        let (mut found, mut dcg, mut ideal, mut sum) = (0.0, 0.0, 0.0, 0.0);
        let mut ideal_gains = self.ideal_gains().zip(1_usize..).peekable();
        for (rank, gain) in self.gains() {
            dcg += gain * discount(rank);
            while let Some((gain, at)) = ideal_gains.next_if(|&(_, at)| at <= rank) {
                ideal += gain * discount(at);
            }
            sum += dcg / ideal;
            found += 1.0;
        }
        ratio(sum + (positive - found) * self.ndcg(usize::MAX), positive)
    }

    /// Mean nDCG at the ranks after which the ideal gain drops, and at the end of a ranking that goes on behind the last of them.
    fn ndcg_at_levels(&self) -> f64 {
        let (mut rank, mut points, mut sum) = (0, 0.0, 0.0);
        for &(_, count) in self.levels.iter().rev().filter(|&&(grade, _)| grade > 0) {
            rank += count;
            sum += self.ndcg(rank);
            points += 1.0;
        }
        if self.relevant() == 0 {
            return 0.0;
        }
        if rank + 1 < self.retrieved {
            sum += self.ndcg(usize::MAX);
            points += 1.0;
        }
        ratio(sum, points)
    }

    fn binary_g(&self) -> f64 {
        // Two more than the number of documents above that are not relevant.
        let sum: f64 = self.relevant_ranks().zip(1_usize..).map(|(rank, found)| 1.0 / ((2 + rank - found) as f64).log2()).sum();
        ratio(sum, self.relevant() as f64)
    }

    fn g(&self) -> f64 {
        let (mut gained, mut cost, mut read, mut sum) = (0.0, 0.0, 0_usize, 0.0);
        let mut ideal = self.ideal_gains();
        for (rank, gain) in self.gains() {
            while read < rank {
                cost += ideal.next().unwrap_or(0.0).max(1.0);
                read += 1;
            }
            gained += gain;
            sum += gain / (2.0 + cost - gained).log2();
        }
        ratio(sum, self.ideal_gains().sum())
    }

    fn rank_biased_precision(&self) -> f64 {
        let top = self.levels.last().map_or(1, |&(grade, _)| grade.max(1));
        let sum: f64 = self.gains().map(|(rank, gain)| gain / f64::from(top) * persistence(rank - 1)).sum();
        (1.0 - PERSISTENCE) * sum
    }

    fn rank_biased_residual(&self) -> f64 {
        let judged = self.hits.iter().filter(|hit| hit.grade >= 0);
        if judged.clone().count() == self.retrieved {
            return 0.0;
        }
        // Summed over all ranks (1 - p) p^(rank - 1) is 1, so the unjudged share is 1 minus the judged one.
        1.0 - (1.0 - PERSISTENCE) * judged.map(|hit| persistence(hit.rank as usize - 1)).sum::<f64>()
    }
}

/// Weight of a rank in discounted cumulative gain.
fn discount(rank: usize) -> f64 {
    1.0 / ((rank + 1) as f64).log2()
}

fn persistence(steps: usize) -> f64 {
    PERSISTENCE.powf(steps as f64)
}

/// `value / of`, 0 when there is nothing to divide by.
fn ratio(value: f64, of: f64) -> f64 {
    if of > 0.0 { value / of } else { 0.0 }
}
