//! Drops candidates that score too close to the positive: unlabelled positives score like positives.
//!
//! Moreira et al. 2024 (NV-Retriever, arXiv 2407.15831), `margin_pos` and `perc_pos`, against the LOWEST positive. The relative form is
//! p − |p|·m, so that a negative positive score is not turned into a looser bound.

use super::{Filter, FilterContext, Scored};

/// Margins below the lowest positive score. Where either score is unknown, a candidate stays.
#[derive(Debug, Clone, Copy)]
pub struct Margin {
    relative: Option<f32>,
    absolute: Option<f32>,
}

impl Margin {
    /// Each margin applies where it is given.
    pub fn new(relative: Option<f64>, absolute: Option<f64>) -> Self {
        Self { relative: relative.map(|margin| margin as f32), absolute: absolute.map(|margin| margin as f32) }
    }

    /// Whether `score` keeps its distance from the `lowest` positive score.
    pub fn admits(&self, score: f32, lowest: f32) -> bool {
        let near = |bound: Option<f32>| bound.is_some_and(|bound| score > bound);
        !near(self.relative.map(|margin| lowest - lowest.abs() * margin)) && !self.absolute.is_some_and(|margin| score + margin > lowest)
    }
}

impl Filter for Margin {
    fn name(&self) -> &'static str {
        "margin"
    }

    fn keep(&self, context: &FilterContext<'_>, it: &Scored) -> bool {
        self.admits(it.similarity, context.lowest_positive)
    }

    fn ceiling(&self, lowest: f32) -> f32 {
        // `f32::min` passes over NaN, so an unknown positive score sets no bound.
        let relative = self.relative.map_or(f32::MAX, |margin| lowest - lowest.abs() * margin);
        let absolute = self.absolute.map_or(f32::MAX, |margin| lowest - margin);
        f32::MAX.min(relative).min(absolute)
    }

    fn reads_similarity(&self) -> bool {
        true
    }

    fn spares_generated(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_of_the_positive_score_does_not_turn_the_margin_around() {
        let half = Margin::new(Some(0.5), None);
        // lowest positive, score, kept
        let cases = [(0.8, 0.4, true), (0.8, 0.41, false), (-0.8, -1.2, true), (-0.8, -1.1, false), (-0.8, -0.5, false), (0.0, 0.0, true)];
        for (lowest, score, kept) in cases {
            assert_eq!(half.admits(score, lowest), kept, "{score} against {lowest}");
        }
        let absolute = Margin::new(None, Some(0.1));
        assert!(absolute.admits(-0.95, -0.8) && !absolute.admits(-0.85, -0.8));
        assert!(half.admits(f32::NAN, 0.5) && half.admits(0.9, f32::NAN));
    }

    #[test]
    fn a_relative_margin_of_nothing_is_an_absolute_margin_of_nothing() {
        let (relative, absolute) = (Margin::new(Some(0.0), None), Margin::new(None, Some(0.0)));
        for lowest in [-1.5_f32, -0.2, 0.0, 0.3, 7.0] {
            for score in [-2.0_f32, -1.5, -0.2, 0.0, 0.29, 0.3, 0.31, 7.0, 8.0] {
                assert_eq!(relative.admits(score, lowest), absolute.admits(score, lowest), "{score} against {lowest}");
            }
        }
    }

    #[test]
    fn a_tighter_margin_keeps_a_subset() {
        for lowest in [-1.0_f32, -0.1, 0.0, 0.4, 1.0] {
            for step in -200..200 {
                let score = step as f32 * 0.01;
                let kept = |margin| Margin::new(Some(margin), None).admits(score, lowest);
                assert!(!kept(0.2) || kept(0.05), "{score} against {lowest}");
            }
        }
    }
}
