//! Random numbers as a function of what they are for.
//!
//! The key of a generator is (seed, query, visit, purpose) itself, so a draw depends on nothing else: not on threads, not on
//! the order of draws, not on a state that would have to be saved.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What random numbers are used for; each purpose of each visit has its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// How many negatives each source gives.
    Shares,
    /// Choice from the list of one source, or random documents of one source.
    Source(u8),
    /// Random documents for a short row.
    Fill,
    /// Choice from the union of all lists.
    Union,
    /// What a filter leaves to chance.
    Filter,
    /// Deep ranks of one source for a short row, at a refresh.
    Beyond(u8),
    /// Start of the clusters of one list, at a refresh.
    Clusters(u8),
    /// Which texts the shortcut check compares.
    Shortcut,
}

/// A generator for one purpose at one visit of one query.
pub(crate) fn generator(seed: u64, query: u32, visit: u64, purpose: Purpose) -> ChaCha8Rng {
    let purpose: u64 = match purpose {
        Purpose::Shares => 0,
        Purpose::Fill => 1,
        Purpose::Source(source) => 2 + u64::from(source),
        Purpose::Union => 1 << 8 | 2,
        Purpose::Filter => 1 << 8 | 3,
        Purpose::Shortcut => 1 << 8 | 4,
        Purpose::Beyond(source) => 2 << 8 | u64::from(source),
        Purpose::Clusters(source) => 3 << 8 | u64::from(source),
    };
    let mut key = [0; 32];
    for (part, number) in key.chunks_exact_mut(8).zip([seed, u64::from(query), visit, purpose]) {
        part.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
