//! Reasons to drop a candidate: one filter, one file.
//!
//! A filter sees candidates and what is known about their query, never the source: one candidate at a time, or the whole list where it
//! must. `Chain` runs them in order and counts what each one dropped; windows over survivors run last, whatever their place in the
//! configuration. Generated texts are exempt from filters that suspect unlabelled positives: what would have dropped them is counted.

mod angle;
mod answer;
mod identical_text;
mod judged;
mod margin;
mod rank_window;
mod score;
mod sieve;
mod teacher;

use std::collections::BTreeMap;
use std::sync::Arc;

use corpus::Judgments;

use crate::candidate::Candidate;
use crate::config::{FilterConfig, NegativesConfig};
use crate::knowledge::Knowledge;

pub use angle::Angle;
pub use answer::{Answer, AnswerTexts, Answers, DocumentTexts};
pub use identical_text::IdenticalText;
pub use judged::Judged;
pub use margin::Margin;
pub use rank_window::RankWindow;
pub use score::Score;
pub use sieve::Sieve;
pub use teacher::Teacher;

/// A candidate as filters see it.
#[derive(Debug, Clone, Copy)]
pub struct Scored {
    /// The candidate.
    pub candidate: Candidate,
    /// Its score on the scale of `lowest_positive`; NaN when unknown.
    pub similarity: f32,
    /// Its cosine to the query; NaN unless a filter reads cosines.
    pub cosine: f32,
}

/// What a filter is told about the query.
#[derive(Debug, Clone, Copy)]
pub struct FilterContext<'a> {
    /// The query.
    pub query: u32,
    /// The lowest score among the query's positives; NaN when unknown.
    pub lowest_positive: f32,
    /// Cosines of the query's positives; empty unless a filter reads cosines.
    pub positive_cosines: &'a [f32],
    /// Candidates of this list that passed all filters before.
    pub survivors: usize,
}

/// A rule that keeps or drops.
pub trait Filter: Send + Sync {
    /// Name in configuration and reports.
    fn name(&self) -> &'static str;

    /// Whether the candidate stays.
    fn keep(&self, context: &FilterContext<'_>, it: &Scored) -> bool;

    /// Which candidates of the whole list stay, for a rule that compares them; `None` when each one decides for itself.
    fn keep_of_list(&self, _context: &FilterContext<'_>, _list: &[Scored]) -> Option<Vec<bool>> {
        None
    }

    /// Whether `similarity` is looked at, so that unscored candidates have to be scored.
    fn reads_similarity(&self) -> bool {
        false
    }

    /// Whether cosines are looked at.
    fn reads_cosine(&self) -> bool {
        false
    }

    /// Whether teacher scores are looked at, so that candidates which come so far have to be judged.
    fn reads_teacher(&self) -> bool {
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

    /// Whether it drops what is known to be no negative, so that it holds for fills as well.
    fn is_identity(&self) -> bool {
        false
    }

    /// Whether generated texts are exempt: a score says nothing about a text that was written to be a negative, and no search gave it a rank.
    fn spares_generated(&self) -> bool {
        false
    }
}

/// Filters in their order.
pub(crate) struct Chain {
    filters: Vec<Box<dyn Filter>>,
    /// All that is relevant, where it is known: to count what filters did to it.
    truth: Option<Judgments>,
}

/// What a chain left of a list, and why the rest is gone.
#[derive(Debug, Default)]
pub(crate) struct Filtered {
    pub(crate) kept: Vec<Scored>,
    pub(crate) removed: Removed,
    /// Of these, relevant documents that are not judged so.
    pub(crate) removed_relevant: Removed,
    /// The best of the list that are gone, each with the filter that dropped it; judged documents and copies left out: no filter
    /// chose them.
    pub(crate) dropped: Vec<Dropped>,
    /// Generated candidates that stayed although a filter would have dropped them.
    pub(crate) spared: Removed,
}

/// A candidate that a filter dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dropped {
    pub(crate) document: u32,
    pub(crate) rank: u32,
    /// On the scale that it was compared with the positive; NaN when unknown.
    pub(crate) similarity: f32,
    pub(crate) filter: &'static str,
}

/// Dropped candidates kept of a list: enough to see why, little beside what stays.
const MOST_DROPPED: usize = 10;

impl Chain {
    /// No filter at all.
    pub(crate) fn empty() -> Self {
        Self { filters: Vec::new(), truth: None }
    }

    /// The configured filters. Those against judged documents and their copies come first, and are added when not configured, unless
    /// the configuration turns that off.
    pub(crate) fn new(
        config: &NegativesConfig,
        knowledge: &Arc<Knowledge>,
        answers: Option<&Arc<AnswerTexts>>,
        truth: Option<&Judgments>,
        seed: u64,
    ) -> Self {
        let judged = || Box::new(Judged::new(Arc::clone(knowledge)));
        let identical = || Box::new(IdenticalText::new(Arc::clone(knowledge)));
        let mut filters: Vec<Box<dyn Filter>> = Vec::new();
        if config.remove_judged {
            filters.push(judged());
            filters.push(identical());
        }
        for filter in &config.filter {
            match *filter {
                FilterConfig::Judged { .. } | FilterConfig::IdenticalText {} if config.remove_judged => {}
                FilterConfig::Judged { .. } => filters.push(judged()),
                FilterConfig::IdenticalText {} => filters.push(identical()),
                FilterConfig::Answer {} => filters.push(Box::new(Answer::new(answers.map(Arc::clone)))),
                FilterConfig::RankWindow { skip, until, order } => filters.push(Box::new(RankWindow { skip, until, order })),
                FilterConfig::Score { min, max } => filters.push(Box::new(Score::new(min, max))),
                FilterConfig::Margin { relative, absolute } => filters.push(Box::new(Margin::new(relative, absolute))),
                FilterConfig::Teacher { min, max, below, drop_unscored, at_least, ceiling } => {
                    filters.push(Box::new(Teacher { min, max, below, drop_unscored, refill: at_least.zip(ceiling) }));
                }
                FilterConfig::Angle { degrees } => filters.push(Box::new(Angle { degrees })),
                FilterConfig::Sieve {} => filters.push(Box::new(Sieve { seed })),
            }
        }
        // Stable: otherwise as written.
        filters.sort_by_key(|filter| filter.counts_survivors());
        Self { filters, truth: truth.cloned() }
    }

    pub(crate) fn reads_similarity(&self) -> bool {
        self.filters.iter().any(|filter| filter.reads_similarity())
    }

    pub(crate) fn reads_cosine(&self) -> bool {
        self.filters.iter().any(|filter| filter.reads_cosine())
    }

    pub(crate) fn reads_teacher(&self) -> bool {
        self.filters.iter().any(|filter| filter.reads_teacher())
    }

    /// Places of `list` that the first filter which reads teacher scores will see.
    pub(crate) fn reach_teacher(&self, context: FilterContext<'_>, list: &[Scored]) -> Vec<usize> {
        let mut places: Vec<usize> = (0..list.len()).collect();
        for filter in self.filters.iter().take_while(|filter| !filter.reads_teacher()) {
            let left: Vec<Scored> = places.iter().map(|&place| list[place]).collect();
            let of_list = filter.keep_of_list(&context, &left);
            let mut at = 0;
            places.retain(|_| {
                let keep =
                    of_list.as_ref().map_or_else(|| filter.keep(&FilterContext { survivors: at, ..context }, &left[at]), |mask| mask[at]);
                at += 1;
                keep || (left[at - 1].candidate.synthetic && filter.spares_generated())
            });
        }
        places
    }

    /// The highest similarity that all filters can let pass.
    pub(crate) fn ceiling(&self, lowest_positive: f32) -> f32 {
        self.filters.iter().map(|filter| filter.ceiling(lowest_positive)).fold(f32::MAX, f32::min)
    }

    /// Names of all filters with a count of zero.
    pub(crate) fn counters(&self) -> Removed {
        Removed(self.filters.iter().map(|filter| (filter.name(), 0)).collect())
    }

    /// Names of the filters that generated texts are exempt from, with a count of zero.
    pub(crate) fn exemptions(&self) -> Removed {
        Removed(self.filters.iter().filter(|filter| filter.spares_generated()).map(|filter| (filter.name(), 0)).collect())
    }

    /// Candidates of `list` (best first) that pass, in their order.
    pub(crate) fn run(&self, context: FilterContext<'_>, list: Vec<Scored>) -> Filtered {
        let mut filtered = Filtered { kept: list, ..Filtered::default() };
        for filter in &self.filters {
            let of_list = filter.keep_of_list(&context, &filtered.kept);
            let mut place = 0;
            let (removed, spared, relevant) = (&mut filtered.removed, &mut filtered.spared, &mut filtered.removed_relevant);
            let dropped = &mut filtered.dropped;
            let truth = self.truth.as_ref().filter(|_| !filter.is_identity());
            filtered.kept.retain(|it| {
                let keep = match &of_list {
                    Some(mask) => mask[place],
                    None => filter.keep(&FilterContext { survivors: place, ..context }, it),
                };
                place += 1;
                if keep {
                    return true;
                }
                let exempt = it.candidate.synthetic && filter.spares_generated();
                if exempt {
                    spared.count(filter.name());
                } else {
                    removed.count(filter.name());
                    if !filter.is_identity() {
                        let (document, rank) = (it.candidate.document, it.candidate.rank);
                        dropped.push(Dropped { document, rank, similarity: it.similarity, filter: filter.name() });
                    }
                    if truth.is_some_and(|truth| truth.is_positive(context.query, it.candidate.document)) {
                        relevant.count(filter.name());
                    }
                }
                exempt
            });
        }
        filtered.dropped.sort_by_key(|it| it.rank);
        filtered.dropped.truncate(MOST_DROPPED);
        filtered
    }

    /// Candidates of these ranks that may fill a short row: only what is known to be no negative is left out.
    pub(crate) fn reserve(&self, context: FilterContext<'_>, list: &[Scored], ranks: std::ops::RangeInclusive<usize>) -> Vec<Scored> {
        let open = |it: &&Scored| self.filters.iter().filter(|filter| filter.is_identity()).all(|filter| filter.keep(&context, it));
        list.iter().filter(|it| ranks.contains(&(it.candidate.rank as usize))).filter(open).copied().collect()
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
