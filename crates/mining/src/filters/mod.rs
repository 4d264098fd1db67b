//! Reasons to drop a candidate: one filter, one file.
//!
//! A filter sees one candidate at a time and what is known about its query, never the source. `Chain` runs them in order and counts what
//! each one dropped; windows over survivors run last, whatever their place in the configuration.

mod identical_text;
mod judged;
mod margin;
mod rank_window;
mod score;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::candidate::Candidate;
use crate::config::{FilterConfig, NegativesConfig};
use crate::knowledge::Knowledge;

pub use identical_text::IdenticalText;
pub use judged::Judged;
pub use margin::Margin;
pub use rank_window::RankWindow;
pub use score::Score;

/// What a filter is told beside the candidate.
#[derive(Debug, Clone, Copy)]
pub struct FilterContext {
    /// The query.
    pub query: u32,
    /// The candidate's score on the scale of `lowest_positive`; NaN when unknown.
    pub similarity: f32,
    /// The lowest score among the query's positives; NaN when unknown.
    pub lowest_positive: f32,
    /// Candidates of this list that passed all filters before.
    pub survivors: usize,
}

/// A rule that keeps or drops.
pub trait Filter: Send + Sync {
    /// Name in configuration and reports.
    fn name(&self) -> &'static str;

    /// Whether the candidate stays.
    fn keep(&self, context: &FilterContext, candidate: &Candidate) -> bool;

    /// Whether `similarity` is looked at, so that unscored candidates have to be scored.
    fn reads_similarity(&self) -> bool {
        false
    }

    /// The highest similarity that can stay, as far as that is known before the search.
    fn ceiling(&self, _lowest_positive: f32) -> f32 {
        f32::MAX
    }

    /// Whether `survivors` is looked at, so that all others must run before.
    fn counts_survivors(&self) -> bool {
        false
    }
}

/// Filters in their order.
pub(crate) struct Chain {
    filters: Vec<Box<dyn Filter>>,
}

impl Chain {
    /// The configured filters. Those against judged documents and their copies come first, and are added when not configured, unless
    /// the configuration turns that off.
    pub(crate) fn new(config: &NegativesConfig, knowledge: &Arc<Knowledge>) -> Self {
        let mut filters: Vec<Box<dyn Filter>> = Vec::new();
        if config.remove_judged {
            filters.push(Box::new(Judged::new(Arc::clone(knowledge))));
            filters.push(Box::new(IdenticalText::new(Arc::clone(knowledge))));
        }
        for filter in &config.filter {
            match *filter {
                FilterConfig::Judged { .. } | FilterConfig::IdenticalText {} if config.remove_judged => {}
                FilterConfig::Judged { .. } => filters.push(Box::new(Judged::new(Arc::clone(knowledge)))),
                FilterConfig::IdenticalText {} => filters.push(Box::new(IdenticalText::new(Arc::clone(knowledge)))),
                FilterConfig::RankWindow { skip, until, order } => filters.push(Box::new(RankWindow { skip, until, order })),
                FilterConfig::Score { min, max } => filters.push(Box::new(Score::new(min, max))),
                FilterConfig::Margin { relative, absolute } => filters.push(Box::new(Margin::new(relative, absolute))),
            }
        }
        // Stable: otherwise as written.
        filters.sort_by_key(|filter| filter.counts_survivors());
        Self { filters }
    }

    pub(crate) fn reads_similarity(&self) -> bool {
        self.filters.iter().any(|filter| filter.reads_similarity())
    }

    /// The highest similarity that all filters can let pass.
    pub(crate) fn ceiling(&self, lowest_positive: f32) -> f32 {
        self.filters.iter().map(|filter| filter.ceiling(lowest_positive)).fold(f32::MAX, f32::min)
    }

    /// Names of all filters with a count of zero.
    pub(crate) fn counters(&self) -> Removed {
        Removed(self.filters.iter().map(|filter| (filter.name(), 0)).collect())
    }

    /// Candidates that pass, in their order, each with its similarity. `scored` is `(candidate, similarity)`, best first.
    pub(crate) fn run(
        &self,
        query: u32,
        lowest_positive: f32,
        scored: impl Iterator<Item = (Candidate, f32)>,
        removed: &mut Removed,
    ) -> Vec<(Candidate, f32)> {
        // Survivors of all but the windows over survivors, counted per window: one window's drops move the next one's places.
        let mut survivors = vec![0; self.filters.len()];
        let mut kept = Vec::new();
        for (candidate, similarity) in scored {
            let dropped = self.filters.iter().enumerate().find(|(place, filter)| {
                let context = FilterContext { query, similarity, lowest_positive, survivors: survivors[*place] };
                survivors[*place] += 1;
                !filter.keep(&context, &candidate)
            });
            match dropped {
                Some((_, filter)) => removed.count(filter.name()),
                None => kept.push((candidate, similarity)),
            }
        }
        kept
    }
}

/// How many candidates each filter dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Removed(BTreeMap<&'static str, u64>);

impl Removed {
    fn count(&mut self, filter: &'static str) {
        *self.0.entry(filter).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (filter, count) in &other.0 {
            *self.0.entry(filter).or_default() += count;
        }
    }

    pub(crate) fn into_map(self) -> BTreeMap<String, u64> {
        self.0.into_iter().map(|(filter, count)| (filter.to_owned(), count)).collect()
    }
}
