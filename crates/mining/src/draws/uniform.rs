//! Every candidate of the list with the same probability, without replacement.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::Draw;
use crate::candidate::Candidate;

/// A uniformly random order.
#[derive(Debug, Clone, Copy)]
pub struct Uniform;

impl Draw for Uniform {
    fn name(&self) -> &'static str {
        "uniform"
    }

    fn order(&self, generator: &mut ChaCha8Rng, pool: &[Candidate]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..pool.len()).collect();
        order.shuffle(generator);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::{Purpose, generator};

    #[test]
    fn every_candidate_comes_first_equally_often() {
        let pool: Vec<Candidate> = (0..8).map(|document| Candidate::found(document, 0, document + 1, 0.0)).collect();
        let mut first = [0_u32; 8];
        for visit in 0..8000 {
            let order = Uniform.order(&mut generator(3, 1, visit, Purpose::Source(0)), &pool);
            first[order[0]] += 1;
        }
        // 1000 each; 5 standard deviations are 148.
        assert!(first.iter().all(|&count| count.abs_diff(1000) < 148), "{first:?}");
    }
}
