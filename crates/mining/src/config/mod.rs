//! `[negatives]` of a run's configuration: sources, filters, the draw, and what happens to short rows.
//!
//! Reading refuses unknown keys; `validate` (`check`) refuses values that make no sense, before anything is built. Building the parts is
//! `Miner::new`.

mod check;
mod draw;
mod filter;
mod ramp;
mod short;
mod source;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use draw::{DiverseBy, DrawConfig};
pub use filter::{FilterConfig, WindowOrder};
pub use ramp::{Line, Ramp};
pub use short::Short;
pub use source::{Model, ScoredBy, SourceConfig, SourceKind};

/// The deepest list that exact search gives.
pub(crate) const DEEPEST: usize = kernels::MAX_K;

/// Where negatives come from and which are served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NegativesConfig {
    /// Where candidates come from.
    pub source: Vec<SourceConfig>,
    /// What is dropped from the lists, in this order.
    pub filter: Vec<FilterConfig>,
    /// How negatives are chosen from a list.
    pub draw: DrawConfig,
    /// How the lists of several sources come together.
    pub merge: Merge,
    /// What becomes of a row with too few candidates.
    pub short: Short,
    /// Parts into which corpus and training queries are cut for `refresh = "rolling N steps"`.
    pub slices: usize,
    /// When `refresh = "on decay …"` replaces the negatives of a query.
    pub decay: DecayConfig,
    /// Whether judged documents and their copies are removed even when no filter says so. Only experiments turn it off.
    pub remove_judged: bool,
}

impl Default for NegativesConfig {
    fn default() -> Self {
        Self {
            source: Vec::new(),
            filter: Vec::new(),
            draw: DrawConfig::default(),
            merge: Merge::default(),
            short: Short::default(),
            slices: 10,
            decay: DecayConfig::default(),
            remove_judged: true,
        }
    }
}

/// How the lists of several sources come together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Merge {
    /// Each source gives its share of the negatives of a visit, drawn from its own list.
    #[default]
    Shares,
    /// One draw from the union of all lists, each text once, best rank first. Sources without lists keep their share.
    Union,
}

/// When negatives have become too easy (Li et al. 2024, arXiv 2408.15710): factor · s < s0 and |s| < below, s being their mean cosine
/// now and s0 when they were installed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecayConfig {
    /// What the mean cosine is multiplied by, at least 1.
    pub factor: f64,
    /// The absolute mean cosine from which nothing is replaced.
    pub below: f64,
}

impl Default for DecayConfig {
    fn default() -> Self {
        Self { factor: 1.15, below: 0.8 }
    }
}

impl DecayConfig {
    /// Whether negatives that had the mean cosine `installed` have decayed at `current`.
    pub(crate) fn fires(&self, installed: f32, current: f32) -> bool {
        self.factor * f64::from(current) < f64::from(installed) && f64::from(current).abs() < self.below
    }
}

impl NegativesConfig {
    /// Whether the other queries' positives are negatives.
    pub fn in_batch(&self) -> bool {
        self.source.iter().any(|source| matches!(source.kind, SourceKind::InBatch {}))
    }

    /// Depth of the search of a frozen document matrix at every step, when that is a source.
    pub fn per_step(&self) -> Option<usize> {
        self.source.iter().find_map(|source| match source.kind {
            SourceKind::PerStep { depth } => Some(depth),
            _ => None,
        })
    }

    /// Rows and first step of the queue of earlier batches' documents, when that is a source.
    pub fn queue(&self) -> Option<(usize, usize)> {
        self.source.iter().find_map(|source| match source.kind {
            SourceKind::Queue { size, start_after } => Some((size, start_after)),
            _ => None,
        })
    }

    /// Whether a refresh may be a part of one, a source's lists being refreshed part by part.
    pub fn is_rolling(&self) -> bool {
        self.source.iter().any(|source| source.kind.refresh().is_some_and(crate::Schedule::rolls))
    }

    /// The file of generated texts, when that is a source.
    pub fn generated(&self) -> Option<&Path> {
        self.source.iter().find_map(|source| match &source.kind {
            SourceKind::Generated { path, .. } => Some(path.as_path()),
            _ => None,
        })
    }

    /// The first file whose scores are a teacher's.
    pub fn teacher_file(&self) -> Option<&Path> {
        self.source.iter().find_map(|source| match &source.kind {
            SourceKind::File { scored_by: ScoredBy::Teacher, path: Some(path), .. } => Some(path.as_path()),
            _ => None,
        })
    }

    /// Whether some lists carry a teacher's scores.
    pub fn teaches(&self) -> bool {
        self.source.iter().any(|source| matches!(source.kind, SourceKind::File { scored_by: ScoredBy::Teacher, .. }))
    }

    /// Whether a filter or the draw reads a teacher's scores.
    pub fn reads_teacher(&self) -> bool {
        let filter = |filter: &FilterConfig| matches!(filter, FilterConfig::Teacher { .. });
        self.filter.iter().any(filter) || self.draws().any(|draw| matches!(draw, DrawConfig::MarginBins { .. }))
    }

    /// How negatives are chosen from any list.
    fn draws(&self) -> impl Iterator<Item = &DrawConfig> {
        std::iter::once(&self.draw).chain(self.source.iter().filter_map(|source| source.draw.as_ref()))
    }

    /// Whether a filter compares a teacher's scores with fixed thresholds.
    pub fn thresholds_of_teacher(&self) -> bool {
        self.filter.iter().any(|filter| matches!(filter, FilterConfig::Teacher { .. }))
    }

    /// Candidates that the narrowest rank window leaves of a query at most.
    pub fn narrowest_window(&self) -> Option<usize> {
        let width = |filter: &FilterConfig| match filter {
            FilterConfig::RankWindow { skip, until, .. } => until.map(|until| until.saturating_sub(*skip)),
            _ => None,
        };
        self.filter.iter().filter_map(width).min()
    }

    /// The same with the loss's temperature where the draw's is left open: the constants of `simans` and `trisampler` are those of logits, and
    /// the loss decides what scores are as logits.
    pub fn tempered(&self, loss: f64) -> Self {
        let mut config = self.clone();
        for draw in std::iter::once(&mut config.draw).chain(config.source.iter_mut().filter_map(|source| source.draw.as_mut())) {
            if let DrawConfig::Simans { temperature, .. } | DrawConfig::Trisampler { temperature, .. } = draw {
                temperature.get_or_insert(loss);
            }
        }
        config
    }

    /// Whether any source offers candidates.
    pub fn offers_candidates(&self) -> bool {
        self.source.iter().any(|source| source.share().highest() > 0.0)
    }
}
