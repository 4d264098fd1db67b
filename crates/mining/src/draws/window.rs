//! One block of ranks per visit, the next block at the next visit.
//!
//! With `refresh = "on decay …"` the visit is the number of replacements, so block i serves after i replacements (Conan-embedding, Li et
//! al. 2024, arXiv 2408.15710). Blocks are half-open (the paper's end points overlap by one): block i of n ranks behind the first `skip` is
//! `skip + i·n + 1 ..= skip + (i + 1)·n`. Behind the last block the first one follows. Generated texts have no rank to be skipped for.

use rand_chacha::ChaCha8Rng;

use super::{Draw, DrawContext};
use crate::candidate::Candidate;

/// A sliding window.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Candidates in a block; as many as the visit asks for without it.
    pub size: Option<usize>,
    /// The best candidates, which are never drawn.
    pub skip: usize,
}

impl Draw for Window {
    fn name(&self) -> &'static str {
        "window"
    }

    /// From the block of the visit on, round to its start: what a block lacks the next one gives.
    fn order(&self, _: &mut ChaCha8Rng, context: &DrawContext<'_>, pool: &[Candidate]) -> Vec<usize> {
        let mut found = 0;
        let open = |place: &usize| {
            found += usize::from(!pool[*place].synthetic);
            pool[*place].synthetic || found > self.skip
        };
        let mut order: Vec<usize> = (0..pool.len()).filter(open).collect();
        let size = self.size.unwrap_or(context.wanted).max(1);
        if !order.is_empty() {
            let blocks = order.len().div_ceil(size) as u64;
            order.rotate_left((context.visit % blocks) as usize * size);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{context, pool};
    use super::*;

    #[test]
    fn visits_walk_down_the_ranks_block_by_block_and_start_again() {
        let pool = pool(&[0.5; 21]);
        let draw = Window { size: Some(4), skip: 10 };
        let order = |visit| draw.order(&mut context(0, 0.0).generator_of(0), &context(visit, 0.0), &pool);
        assert_eq!(&order(0)[..4], [10, 11, 12, 13]);
        assert_eq!(&order(1)[..4], [14, 15, 16, 17]);
        // The last block is short; the first one follows.
        assert_eq!(order(2), [18, 19, 20, 10, 11, 12, 13, 14, 15, 16, 17]);
        assert_eq!(order(3), order(0));
        assert_eq!(order(u64::MAX).len(), 11);
        // Without size, as many as are wanted: four.
        let draw = Window { size: None, skip: 10 };
        assert_eq!(draw.order(&mut context(0, 0.0).generator_of(0), &context(1, 0.0), &pool), order(1));
        assert!(draw.order(&mut context(0, 0.0).generator_of(0), &context(1, 0.0), &pool[..10]).is_empty());
    }
}
