//! Every candidate of the list with the same probability, without replacement.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Draw, DrawContext};
use crate::candidate::Candidate;

/// A uniformly random order.
#[derive(Debug, Clone, Copy)]
pub struct Uniform;

impl Draw for Uniform {
    fn name(&self) -> &'static str {
        "uniform"
    }

    fn order(&self, generator: &mut ChaCha8Rng, _: &DrawContext<'_>, pool: &[Candidate]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..pool.len()).collect();
        order.shuffle(generator);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_follows, context, firsts, pool};
    use super::*;

    #[test]
    fn every_candidate_comes_first_equally_often() {
        assert_follows(&firsts(&Uniform, context(0, 0.0), &pool(&[0.5; 8]), 8000), &[1.0; 8]);
    }
}
