//! The only source of chance in the built-in collection: ChaCha8 with a fixed seed.
//!
//! Draws are spelled out here rather than taken from `rand`'s distributions, whose mapping from bits to numbers may change
//! between versions; the collection may not.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number in `0..sides`; `sides` is at least 1. The bias is below `sides / 2^32`.
    pub(super) fn below(&mut self, sides: usize) -> usize {
        ((u64::from(self.0.next_u32()) * sides as u64) >> 32) as usize
    }

    /// True in `percent` of 100 throws.
    pub(super) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// One of the alternatives in `a|b|c`.
    pub(super) fn alternative<'a>(&mut self, alternatives: &'a str) -> &'a str {
        let count = alternatives.split('|').count();
        let chosen = self.below(count);
        alternatives.split('|').nth(chosen).unwrap_or(alternatives)
    }

    /// Fisher and Yates.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
