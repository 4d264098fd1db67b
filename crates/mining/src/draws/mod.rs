//! How negatives are chosen from a filtered list: one draw, one file.
//!
//! A draw orders a list by preference; the miner takes from the front what is not taken yet. Its randomness comes in as a
//! generator keyed by (seed, query, visit), so it keeps no state. What it needs beyond document and rank it says (`needs`), and the refresh
//! provides it; a draw that needs less than the whole list says so at the refresh too (`reduce`).

mod ambiguous;
mod diverse;
mod margin_bins;
mod rank_curve;
mod top;
mod triangle;
mod uniform;
mod weighted;
mod window;

use rand_chacha::ChaCha8Rng;

use crate::candidate::Candidate;
use crate::chance::{Purpose, generator};
use crate::config::DrawConfig;
use crate::error::MiningError;
use crate::store::EmbeddingStore;

pub use ambiguous::Ambiguous;
pub use diverse::Diverse;
pub use margin_bins::MarginBins;
pub use rank_curve::{RankCurve, rank_curve};
pub use top::Top;
pub use triangle::Triangle;
pub use uniform::Uniform;
pub use window::Window;

/// What a draw is told beside the list.
#[derive(Debug, Clone, Copy)]
pub struct DrawContext<'a> {
    /// The run's seed.
    pub seed: u64,
    /// The query.
    pub query: u32,
    /// The positive that it is trained with.
    pub positive: u32,
    /// Makes visits differ: the epoch, or how often the query's negatives were replaced.
    pub visit: u64,
    /// Negatives that the visit asks for.
    pub wanted: usize,
    /// Source of the list.
    pub source: u8,
    /// Score of the positive on the scale of the candidates' similarities; NaN when unknown.
    pub positive_score: f32,
    /// Weight of each rank of the source's lists, the first one's first; empty unless the draw needs it.
    pub curve: &'a [f32],
}

impl DrawContext<'_> {
    /// A generator for something that several visits have in common.
    pub fn generator_of(&self, visit: u64) -> ChaCha8Rng {
        generator(self.seed, self.query, visit, Purpose::Source(self.source))
    }
}

/// What a draw needs to know of candidates beyond document and rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Similarities, of candidates and positives on one scale.
    pub similarity: bool,
    /// Similarities of candidates to positives, beside similarities to the query by the same encoder.
    pub to_positive: bool,
    /// A weight for every rank, from judged queries.
    pub curve: bool,
    /// Rows of documents, at the refresh.
    pub rows: bool,
    /// A teacher's scores of candidates.
    pub teacher: bool,
}

/// What is known of a list when it is reduced at a refresh.
#[derive(Debug, Clone, Copy)]
pub struct Reduction<'a> {
    /// The run's seed.
    pub seed: u64,
    /// The query.
    pub query: u32,
    /// Source of the list.
    pub source: u8,
    /// The lowest positive score on the scale of the candidates' similarities; NaN when unknown.
    pub lowest_positive: f32,
    /// Rows of documents, where the draw needs them.
    pub store: Option<&'a EmbeddingStore>,
}

/// A preference over the candidates of one list.
pub trait Draw: Send + Sync {
    /// Name in configuration and reports.
    fn name(&self) -> &'static str;

    /// Positions in `pool` (best first), each at most once, most preferred first; a position that is left out is never drawn.
    fn order(&self, generator: &mut ChaCha8Rng, context: &DrawContext<'_>, pool: &[Candidate]) -> Vec<usize>;

    /// What it reads.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Positions of the candidates that the list keeps, ascending; `None` for all of them.
    ///
    /// # Errors
    /// When rows cannot be read or clustered.
    fn reduce(&self, _context: &Reduction<'_>, _pool: &[Candidate]) -> Result<Option<Vec<usize>>, MiningError> {
        Ok(None)
    }
}

/// The draw that the configuration names.
pub(crate) fn build(config: &DrawConfig) -> Box<dyn Draw> {
    match *config {
        DrawConfig::Top {} => Box::new(Top),
        DrawConfig::Uniform {} => Box::new(Uniform),
        DrawConfig::Simans { a, b, temperature, absolute } => {
            Box::new(Ambiguous { a, b, temperature: temperature.unwrap_or(1.0), absolute })
        }
        DrawConfig::Trisampler { candidates, a, temperature } => {
            let first = Ambiguous { a, b: 0.0, temperature: temperature.unwrap_or(1.0), absolute: false };
            Box::new(Triangle { candidates, first })
        }
        DrawConfig::RankCurve { depth, .. } => Box::new(RankCurve { depth: depth.unwrap_or(usize::MAX) }),
        DrawConfig::MarginBins { bins } => Box::new(MarginBins { bins, probabilities: false }),
        DrawConfig::Window { size, skip } => Box::new(Window { size, skip }),
        DrawConfig::Diverse { per_visit, visits, by, random_below } => Box::new(Diverse { per_visit, visits, by, random_below }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Candidates in this order with these similarities.
    pub(crate) fn pool(similarities: &[f32]) -> Vec<Candidate> {
        let candidate =
            |(&similarity, document): (&f32, u32)| Candidate { similarity, ..Candidate::found(document, 0, document + 1, similarity) };
        similarities.iter().zip(0..).map(candidate).collect()
    }

    pub(crate) fn context(visit: u64, positive_score: f32) -> DrawContext<'static> {
        DrawContext { seed: 3, query: 1, positive: 99, visit, wanted: 4, source: 0, positive_score, curve: &[] }
    }

    /// How often each candidate comes first in `visits` visits.
    pub(crate) fn firsts(draw: &dyn Draw, context: DrawContext<'_>, pool: &[Candidate], visits: u64) -> Vec<f64> {
        let mut first = vec![0.0; pool.len()];
        for visit in 0..visits {
            let context = DrawContext { visit, ..context };
            let order = draw.order(&mut context.generator_of(visit), &context, pool);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert!(sorted.len() == order.len() && sorted.iter().all(|&place| place < pool.len()), "{order:?}");
            first[order[0]] += 1.0;
        }
        first
    }

    /// Refuses counts that the weights would bring about with a probability below about 1e-4: a chi-squared test with the Wilson-Hilferty
    /// approximation.
    pub(crate) fn assert_follows(counts: &[f64], weights: &[f64]) {
        let (all, sum): (f64, f64) = (counts.iter().sum(), weights.iter().sum());
        let (mut chi, mut degrees) = (0.0, -1.0);
        for (count, weight) in counts.iter().zip(weights) {
            let expected = all * weight / sum;
            if expected == 0.0 {
                assert_eq!(*count, 0.0, "{counts:?} {weights:?}");
                continue;
            }
            assert!(expected > 5.0, "too few visits for this test: {expected}");
            chi += (count - expected).powi(2) / expected;
            degrees += 1.0;
        }
        let spread = 2.0 / (9.0 * degrees);
        let normal = ((chi / degrees).cbrt() - (1.0 - spread)) / f64::sqrt(spread);
        assert!(normal < 3.7, "chi squared {chi} with {degrees} degrees of freedom: {counts:?} for {weights:?}");
    }

    #[test]
    #[should_panic(expected = "chi squared")]
    fn the_test_of_frequencies_can_fail() {
        assert_follows(&[570.0, 430.0], &[1.0, 1.0]);
    }
}
