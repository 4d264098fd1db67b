//! Documents drawn uniformly from the corpus, anew at every visit (the Rand-Neg of Zhan et al. 2021, arXiv 2104.08051).

use std::collections::HashSet;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::Source;
use crate::candidate::Candidate;

/// Misses in a row of rejection sampling after which all permitted documents are listed instead.
const PATIENCE: usize = 64;

/// Uniform over the corpus.
#[derive(Debug, Clone, Copy)]
pub struct Random {
    documents: usize,
    number: u8,
}

impl Random {
    /// Over this many documents; `number` tags the candidates.
    pub fn new(documents: usize, number: u8) -> Self {
        Self { documents, number }
    }
}

impl Source for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn visit(&self, generator: &mut ChaCha8Rng, wanted: usize, permits: &dyn Fn(u32) -> bool) -> Vec<Candidate> {
        let mut drawn = Vec::with_capacity(wanted.min(self.documents));
        if self.documents == 0 {
            return drawn;
        }
        let mut seen = HashSet::new();
        let mut misses = 0;
        while drawn.len() < wanted && misses < PATIENCE {
            let document = generator.random_range(0..self.documents as u32);
            if !seen.contains(&document) && permits(document) {
                seen.insert(document);
                drawn.push(Candidate::random(document, self.number));
                misses = 0;
            } else {
                misses += 1;
            }
        }
        if drawn.len() < wanted {
            // Hardly anything is permitted: choose among exactly that.
            let mut left: Vec<u32> = (0..self.documents as u32).filter(|document| !seen.contains(document) && permits(*document)).collect();
            let missing = (wanted - drawn.len()).min(left.len());
            let (chosen, _) = left.partial_shuffle(generator, missing);
            drawn.extend(chosen.iter().map(|&document| Candidate::random(document, self.number)));
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::{Purpose, generator};

    #[test]
    fn documents_are_drawn_once_and_only_when_permitted() {
        let source = Random::new(1000, 4);
        for visit in 0..50 {
            let mut chance = generator(1, 2, visit, Purpose::Source(4));
            let few = source.visit(&mut chance, 8, &|document| document % 3 == 0);
            assert_eq!(few.len(), 8);
            assert!(few.iter().all(|it| it.document % 3 == 0 && it.source == 4 && it.score.is_nan()));
            assert_eq!(few.iter().map(|it| it.document).collect::<HashSet<_>>().len(), 8);
            // Three of a thousand: found all the same, and not a fourth.
            let mut rare: Vec<u32> =
                source.visit(&mut chance, 9, &|document| [5, 700, 999].contains(&document)).iter().map(|it| it.document).collect();
            rare.sort_unstable();
            assert_eq!(rare, [5, 700, 999]);
        }
        assert!(Random::new(0, 0).visit(&mut generator(1, 1, 1, Purpose::Fill), 3, &|_| true).is_empty());
    }
}
