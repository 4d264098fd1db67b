//! Keeps ranks `skip + 1 ..= until`: the top of a list is where unlabelled positives are.
//!
//! Libraries disagree on which ranks. FlagEmbedding counts the raw list, where a positive uses up a place (`before`);
//! sentence-transformers counts what all other filters leave (`after`).

use super::{Filter, FilterContext, Scored};
use crate::config::WindowOrder;

/// A window of ranks.
#[derive(Debug, Clone, Copy)]
pub struct RankWindow {
    /// The best ranks that are dropped.
    pub skip: usize,
    /// The last rank that is kept; no end without it.
    pub until: Option<usize>,
    /// Which ranks are counted.
    pub order: WindowOrder,
}

impl Filter for RankWindow {
    fn name(&self) -> &'static str {
        "rank-window"
    }

    fn keep(&self, context: &FilterContext<'_>, it: &Scored) -> bool {
        let rank = match self.order {
            WindowOrder::Before => it.candidate.rank as usize,
            WindowOrder::After => context.survivors + 1,
        };
        rank > self.skip && self.until.is_none_or(|until| rank <= until)
    }

    fn counts_survivors(&self) -> bool {
        self.order == WindowOrder::After
    }

    /// Their places are those of a file.
    fn spares_generated(&self) -> bool {
        true
    }
}
