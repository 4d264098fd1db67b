//! How negatives are chosen from a filtered list: one draw, one file.
//!
//! A draw orders a list by preference; the miner takes from the front what is not taken yet. Its randomness comes in as a
//! generator keyed by (seed, query, visit), so it keeps no state.

mod top;
mod uniform;

use rand_chacha::ChaCha8Rng;

use crate::candidate::Candidate;
use crate::config::DrawConfig;

pub use top::Top;
pub use uniform::Uniform;

/// A preference over the candidates of one list.
pub trait Draw: Send + Sync {
    /// Name in configuration and reports.
    fn name(&self) -> &'static str;

    /// Positions in `pool` (best first), each at most once, most preferred first.
    fn order(&self, generator: &mut ChaCha8Rng, pool: &[Candidate]) -> Vec<usize>;
}

/// The draw that the configuration names.
pub(crate) fn build(config: DrawConfig) -> Box<dyn Draw> {
    match config {
        DrawConfig::Top {} => Box::new(Top),
        DrawConfig::Uniform {} => Box::new(Uniform),
    }
}
