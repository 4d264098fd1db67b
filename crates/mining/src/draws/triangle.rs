//! Candidates that score about like the positive and are closer to it than to the query (TriSampler, Yang et al. 2024, arXiv 2402.11855).
//!
//! A set is drawn with weights exp(−(s_n − s_p)²/4), and inside it candidates with weights ReLU(s(p, n) − s(q, n)). Where no weight of the
//! second kind is left, the order of the first draw holds. The angle that bounds the region is the filter `angle`.

use rand_chacha::ChaCha8Rng;

use super::weighted::by_weight;
use super::{Ambiguous, Draw, DrawContext, Needs};
use crate::candidate::Candidate;

/// Two draws, one inside the other.
#[derive(Debug, Clone, Copy)]
pub struct Triangle {
    /// Size of the set.
    pub candidates: usize,
    /// How the set is drawn.
    pub first: Ambiguous,
}

impl Draw for Triangle {
    fn name(&self) -> &'static str {
        "trisampler"
    }

    fn needs(&self) -> Needs {
        Needs { similarity: true, to_positive: true, ..Needs::default() }
    }

    fn order(&self, generator: &mut ChaCha8Rng, context: &DrawContext<'_>, pool: &[Candidate]) -> Vec<usize> {
        let mut set = self.first.order(generator, context, pool);
        let rest = set.split_off(self.candidates.min(set.len()));
        let weights: Vec<f64> = set
            .iter()
            .map(|&place| f64::from(pool[place].to_positive - pool[place].similarity))
            .map(|surplus| if surplus > 0.0 { surplus.ln() } else { f64::NEG_INFINITY })
            .collect();
        let inside = by_weight(generator, &weights);
        let mut drawn = vec![false; set.len()];
        inside.iter().for_each(|&at| drawn[at] = true);
        let left = (0..set.len()).filter(|&at| !drawn[at]).map(|at| set[at]);
        inside.iter().map(|&at| set[at]).chain(left).chain(rest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_follows, context, firsts, pool};
    use super::*;

    const FIRST: Ambiguous = Ambiguous { a: 0.25, b: 0.0, temperature: 1.0, absolute: false };
    const SCORES: [f32; 5] = [3.0, 1.5, 1.0, 0.0, -1.0];

    fn with_surplus(surplus: [f32; 5]) -> Vec<Candidate> {
        let near = |(it, surplus): (Candidate, f32)| Candidate { to_positive: it.similarity + surplus, ..it };
        pool(&SCORES).into_iter().zip(surplus).map(near).collect()
    }

    #[test]
    fn the_first_stage_follows_its_formula_and_is_the_ambiguous_draw() {
        // A set of one is the first stage alone; so is a second stage without weight.
        let weights = SCORES.map(|score| (-(f64::from(score) - 1.25).powi(2) / 4.0).exp());
        for (candidates, surplus) in [(1, [1.0; 5]), (5, [-1.0; 5]), (3, [0.0; 5])] {
            let draw = Triangle { candidates, first: FIRST };
            assert_follows(&firsts(&draw, context(0, 1.25), &with_surplus(surplus), 8000), &weights);
        }
        let draw = Triangle { candidates: 5, first: FIRST };
        for visit in 0..50 {
            let context = context(visit, 1.25);
            let two = draw.order(&mut context.generator_of(visit), &context, &with_surplus([f32::NAN; 5]));
            assert_eq!(two, FIRST.order(&mut context.generator_of(visit), &context, &pool(&SCORES)));
        }
    }

    #[test]
    fn the_second_stage_follows_the_surplus_over_the_query() {
        let draw = Triangle { candidates: 5, first: FIRST };
        let counts = firsts(&draw, context(0, 1.25), &with_surplus([0.5, -0.5, 1.0, 0.0, 2.0]), 8000);
        assert_follows(&counts, &[0.5, 0.0, 1.0, 0.0, 2.0]);
    }

    #[test]
    fn nothing_is_lost_and_the_set_comes_before_the_rest() {
        let pool = with_surplus([1.0, -1.0, 0.3, 0.0, f32::NAN]);
        for visit in 0..50 {
            let context = context(visit, 1.25);
            let first = FIRST.order(&mut context.generator_of(visit), &context, &pool);
            let order = Triangle { candidates: 3, first: FIRST }.order(&mut context.generator_of(visit), &context, &pool);
            let sorted = |places: &[usize]| {
                let mut places = places.to_vec();
                places.sort_unstable();
                places
            };
            assert_eq!((sorted(&order[..3]), &order[3..]), (sorted(&first[..3]), &first[3..]));
        }
    }
}
