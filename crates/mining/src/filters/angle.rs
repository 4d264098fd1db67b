//! Drops candidates that lie at another angle to the query than the positive: too near ones are suspect, too far ones teach nothing.
//!
//! The boundary of TriSampler's quasi-triangular region (Yang et al. 2024, arXiv 2402.11855): |acos cos(q, p) − acos cos(q, n)| ≤ 60°.
//! Of several positives the nearest angle counts, so that the region is the union of their regions.

use super::{Filter, FilterContext, Scored};

/// A bound on the difference of angles. Where a cosine is unknown, a candidate stays.
#[derive(Debug, Clone, Copy)]
pub struct Angle {
    /// The largest difference kept, inclusive.
    pub degrees: f64,
}

impl Angle {
    /// Difference of the angles that belong to two cosines, in degrees.
    fn between(a: f32, b: f32) -> f64 {
        let angle = |cosine: f32| f64::from(cosine).clamp(-1.0, 1.0).acos();
        (angle(a) - angle(b)).abs().to_degrees()
    }
}

impl Filter for Angle {
    fn name(&self) -> &'static str {
        "angle"
    }

    fn keep(&self, context: &FilterContext<'_>, it: &Scored) -> bool {
        // `f64::min` passes over NaN, and no comparison with NaN holds.
        let nearest = context.positive_cosines.iter().map(|&positive| Self::between(positive, it.cosine)).fold(f64::NAN, f64::min);
        nearest.is_nan() || nearest <= self.degrees
    }

    fn reads_cosine(&self) -> bool {
        true
    }

    fn spares_generated(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidate::Candidate;

    #[test]
    fn angles_are_compared_in_degrees_and_the_nearest_positive_counts() {
        let angle = Angle { degrees: 60.0 };
        let keep = |cosine: f32, positives: &[f32]| {
            let context = FilterContext { query: 0, lowest_positive: f32::NAN, positive_cosines: positives, survivors: 0 };
            angle.keep(&context, &Scored { candidate: Candidate::found(1, 0, 1, cosine), similarity: f32::NAN, cosine })
        };
        // cos 30° and cos 89.9°, 90.1°.
        let thirty = 30.0_f32.to_radians().cos();
        assert!(keep(89.9_f32.to_radians().cos(), &[thirty]) && !keep(90.1_f32.to_radians().cos(), &[thirty]));
        assert!(keep(0.0, &[1.0, 0.3]) && !keep(0.0, &[1.0]));
        assert!(keep(1.0, &[1.000_001]), "rounding beyond 1");
        assert!(keep(f32::NAN, &[thirty]) && keep(-1.0, &[]) && keep(-1.0, &[f32::NAN]));
    }
}
