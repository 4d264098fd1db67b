//! The best candidates, the same ones at every visit.

use rand_chacha::ChaCha8Rng;

use super::{Draw, DrawContext};
use crate::candidate::Candidate;

/// Best first.
#[derive(Debug, Clone, Copy)]
pub struct Top;

impl Draw for Top {
    fn name(&self) -> &'static str {
        "top"
    }

    fn order(&self, _: &mut ChaCha8Rng, _: &DrawContext<'_>, pool: &[Candidate]) -> Vec<usize> {
        (0..pool.len()).collect()
    }
}
