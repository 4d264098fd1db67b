//! Candidates that score about like the positive: neither surely wrong nor surely easy (SimANS, Zhou et al. 2022, arXiv 2210.11773).
//!
//! p(n) ∝ exp(−a·(s_n/τ − s_p/τ − b)²), without replacement, p being the positive of the visit. The released code has the other sign
//! before b, and for MS MARCO passages exp(−3·|s_n − s_p|), which is `absolute` with a = 3. With τ, the constants of the paper, tuned on
//! dot products, hold for scores of unit rows.

use rand_chacha::ChaCha8Rng;

use super::weighted::{by_weight, completed};
use super::{Draw, DrawContext, Needs, Uniform};
use crate::candidate::Candidate;

/// Weights by distance from the positive's score. Candidates without score come last; without the positive's score all is uniform.
#[derive(Debug, Clone, Copy)]
pub struct Ambiguous {
    /// How narrow.
    pub a: f64,
    /// Where the middle lies, from the positive's score.
    pub b: f64,
    /// τ.
    pub temperature: f64,
    /// The distance itself instead of its square.
    pub absolute: bool,
}

impl Ambiguous {
    /// Logarithm of the weight of a candidate that scores `score`, up to a constant.
    pub fn log_weight(&self, score: f32, positive: f32) -> f64 {
        let distance = (f64::from(score) - f64::from(positive)) / self.temperature - self.b;
        -self.a * if self.absolute { distance.abs() } else { distance * distance }
    }
}

impl Draw for Ambiguous {
    fn name(&self) -> &'static str {
        "simans"
    }

    fn needs(&self) -> Needs {
        Needs { similarity: true, ..Needs::default() }
    }

    fn order(&self, generator: &mut ChaCha8Rng, context: &DrawContext<'_>, pool: &[Candidate]) -> Vec<usize> {
        if context.positive_score.is_nan() {
            return Uniform.order(generator, context, pool);
        }
        let weights: Vec<f64> = pool.iter().map(|it| self.log_weight(it.similarity, context.positive_score)).collect();
        let order = by_weight(generator, &weights);
        completed(order, pool.len(), generator)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_follows, context, firsts, pool};
    use super::*;

    const PLAIN: Ambiguous = Ambiguous { a: 0.5, b: 0.0, temperature: 1.0, absolute: false };
    const SCORES: [f32; 6] = [3.0, 2.0, 1.5, 1.0, 0.0, -0.5];

    #[test]
    fn frequencies_follow_the_formula() {
        for (a, b, temperature, absolute) in
            [(0.5, 0.0, 1.0, false), (0.5, 1.0, 1.0, false), (1.0, -0.5, 2.0, false), (0.7, 0.0, 1.0, true)]
        {
            let draw = Ambiguous { a, b, temperature, absolute };
            let weights = SCORES.map(|score| {
                let distance = (f64::from(score) - 1.25) / temperature - b;
                if absolute { (-a * distance.abs()).exp() } else { (-a * distance.powi(2)).exp() }
            });
            assert_follows(&firsts(&draw, context(0, 1.25), &pool(&SCORES), 10_000), &weights);
        }
    }

    #[test]
    fn without_width_it_is_uniform_and_with_much_of_it_the_nearest_score() {
        let draw = Ambiguous { a: 0.0, ..PLAIN };
        assert_follows(&firsts(&draw, context(0, 1.25), &pool(&SCORES), 6000), &[1.0; 6]);
        let draw = Ambiguous { a: 1e6, b: 0.7, ..PLAIN };
        assert_eq!(firsts(&draw, context(0, 1.25), &pool(&SCORES), 200), [0.0, 200.0, 0.0, 0.0, 0.0, 0.0]);
        // An unknown positive: nothing to be near to.
        assert_follows(&firsts(&PLAIN, context(0, f32::NAN), &pool(&SCORES), 6000), &[1.0; 6]);
    }

    #[test]
    fn a_temperature_is_another_a_and_another_b() {
        let (a, b, temperature) = (0.5, -1.5, 0.02);
        let tempered = Ambiguous { a, b, temperature, absolute: false };
        let plain = Ambiguous { a: a / (temperature * temperature), b: b * temperature, ..PLAIN };
        // The released code's sign.
        let code = |score: f64, positive: f64, b: f64| -a * (score - positive + b).powi(2);
        for score in SCORES {
            let (one, other) = (tempered.log_weight(score, 1.25), plain.log_weight(score, 1.25));
            assert!((one - other).abs() <= 1e-9 * one.abs().max(1.0), "{one} {other}");
            let paper = Ambiguous { a, b, ..PLAIN }.log_weight(score, 1.25);
            assert!((paper - code(f64::from(score), 1.25, -b)).abs() < 1e-12);
        }
    }

    #[test]
    fn candidates_without_score_come_last() {
        let order = PLAIN.order(&mut context(0, 0.0).generator_of(4), &context(4, 0.5), &pool(&[f32::NAN, 0.4, f32::NAN, 0.1]));
        let mut parts = (order[..2].to_vec(), order[2..].to_vec());
        parts.0.sort_unstable();
        parts.1.sort_unstable();
        assert_eq!(parts, (vec![1, 3], vec![0, 2]));
    }
}
