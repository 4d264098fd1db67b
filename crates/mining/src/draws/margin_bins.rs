//! Hard and easy pairs equally often (TAS-Balanced, Hofstätter et al. 2021, arXiv 2104.06967).
//!
//! The range of the teacher's margins T(q, p) − T(q, n) over the list is cut into bins of equal width; a bin that is not empty is drawn
//! uniformly, then a candidate in it. The positive's score only shifts and mirrors the margins, so bins of T(q, n) are the same bins. A
//! cross-encoder's margins are those of its logits: of probabilities nearly all would lie in the first bin.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::weighted::completed;
use super::{Draw, DrawContext, Needs};
use crate::candidate::Candidate;

/// Bins of equal width. Candidates without teacher score come last; a list without any is drawn from uniformly.
#[derive(Debug, Clone, Copy)]
pub struct MarginBins {
    /// How many, at least 1.
    pub bins: usize,
    /// The teacher's scores are probabilities, whose logits are cut into bins.
    pub probabilities: bool,
}

impl MarginBins {
    /// Positions by bin, without the empty bins.
    fn fill(&self, pool: &[Candidate]) -> Vec<Vec<usize>> {
        let score = |score: f32| if self.probabilities { logit(score) } else { f64::from(score) };
        let scored: Vec<(usize, f64)> = (0..pool.len()).filter_map(|place| Some((place, score(pool[place].teacher?)))).collect();
        let lowest = scored.iter().map(|it| it.1).fold(f64::INFINITY, f64::min);
        let highest = scored.iter().map(|it| it.1).fold(f64::NEG_INFINITY, f64::max);
        let mut bins = vec![Vec::new(); self.bins];
        for (place, score) in scored {
            // Equal scores have no width to divide, and 0/0 becomes bin 0; the highest belongs to the last bin.
            let bin = ((score - lowest) / (highest - lowest) * self.bins as f64) as usize;
            bins[bin.min(self.bins - 1)].push(place);
        }
        bins.retain(|bin| !bin.is_empty());
        bins
    }
}

/// The logit of a probability; what rounded to 0 or 1 lies at the end of what f32 can tell from it.
fn logit(probability: f32) -> f64 {
    let inside = f64::from(probability).clamp(f64::from(f32::MIN_POSITIVE), 1.0 - f64::from(f32::EPSILON) / 4.0);
    (inside / (1.0 - inside)).ln()
}

impl Draw for MarginBins {
    fn name(&self) -> &'static str {
        "margin-bins"
    }

    fn needs(&self) -> Needs {
        Needs { teacher: true, ..Needs::default() }
    }

    fn order(&self, generator: &mut ChaCha8Rng, _: &DrawContext<'_>, pool: &[Candidate]) -> Vec<usize> {
        let mut bins = self.fill(pool);
        let mut order = Vec::with_capacity(pool.len());
        while !bins.is_empty() {
            let bin = generator.random_range(0..bins.len());
            let at = generator.random_range(0..bins[bin].len());
            order.push(bins[bin].swap_remove(at));
            if bins[bin].is_empty() {
                bins.remove(bin);
            }
        }
        completed(order, pool.len(), generator)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_follows, context, firsts, pool};
    use super::*;

    fn taught(scores: &[Option<f32>]) -> Vec<Candidate> {
        pool(&vec![0.0; scores.len()]).into_iter().zip(scores).map(|(it, &teacher)| Candidate { teacher, ..it }).collect()
    }

    #[test]
    fn bins_are_drawn_uniformly_and_candidates_uniformly_inside() {
        // Width 1: bins 0, 1, 3 and 9 have 2, 1, 3 and 2 candidates; 10 lies on the upper end.
        let scores = [0.0, 0.9, 1.0, 3.1, 3.5, 3.9, 9.5, 10.0].map(Some);
        let weights = [1.0 / 2.0, 1.0 / 2.0, 1.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 2.0, 1.0 / 2.0];
        assert_follows(&firsts(&bins(10), context(0, f32::NAN), &taught(&scores), 10_000), &weights);
    }

    /// Logits -4, -3.9, -1.9 and 4 lie in the first, first, second and last of four bins; their probabilities .02, .02, .13 and .98 in two.
    #[test]
    fn of_probabilities_the_logits_are_cut_into_bins() {
        let scores = [-4.0f32, -3.9, -1.9, 4.0].map(|logit| Some(1.0 / (1.0 + (-logit).exp())));
        let draw = MarginBins { bins: 4, probabilities: true };
        assert_follows(&firsts(&draw, context(0, f32::NAN), &taught(&scores), 10_000), &[0.5, 0.5, 1.0, 1.0]);
        assert_follows(&firsts(&bins(4), context(0, f32::NAN), &taught(&scores), 10_000), &[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 1.0]);
        for edge in [0.0, f32::MIN_POSITIVE / 2.0, 1.0] {
            assert!(logit(edge).is_finite());
        }
    }

    fn bins(bins: usize) -> MarginBins {
        MarginBins { bins, probabilities: false }
    }

    #[test]
    fn equal_scores_and_missing_scores_are_drawn_uniformly() {
        for scores in [vec![Some(2.5); 6], vec![None; 6]] {
            assert_follows(&firsts(&bins(10), context(0, f32::NAN), &taught(&scores), 6000), &[1.0; 6]);
        }
        let scores = [None, Some(1.0), None, Some(2.0)];
        assert_follows(&firsts(&bins(3), context(0, f32::NAN), &taught(&scores), 2000), &[0.0, 1.0, 0.0, 1.0]);
        assert!(bins(10).order(&mut context(0, 0.0).generator_of(0), &context(0, 0.0), &[]).is_empty());
    }
}
