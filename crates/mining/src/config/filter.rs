//! One reason to drop a candidate, as it is written.

use serde::{Deserialize, Serialize};

/// One reason to drop a candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FilterConfig {
    /// It is judged for the query.
    Judged {
        /// Keep documents judged with grade 0 or less: they are known not to be relevant.
        #[serde(default)]
        keep_nonrelevant: bool,
    },
    /// It has the text of the query or of a judged document.
    IdenticalText {},
    /// It contains an answer of the query.
    Answer {},
    /// It lies outside a window of ranks.
    RankWindow {
        /// The best ranks that are dropped.
        #[serde(default)]
        skip: usize,
        /// The last rank that is kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<usize>,
        /// Which ranks are meant.
        #[serde(default)]
        order: WindowOrder,
    },
    /// Its score lies outside fixed bounds.
    Score {
        /// Lowest score kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        /// Highest score kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
    },
    /// Its score comes too close to the lowest score of a positive.
    Margin {
        /// Dropped above p − |p|·relative.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        relative: Option<f64>,
        /// Dropped above p − absolute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        absolute: Option<f64>,
    },
    /// Its teacher score lies outside fixed bounds.
    Teacher {
        /// Lowest score kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        /// Highest score kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
        /// Scores from here on are dropped (RocketQA: 0.1, exclusive).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        below: Option<f64>,
        /// Drop candidates that no teacher scored.
        #[serde(default)]
        drop_unscored: bool,
        /// When fewer than this many stay, the lowest scores between `min` and `ceiling` stay instead, and when those are too few, the
        /// highest up to `ceiling` (InDi, with 84 and 0.95).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_least: Option<usize>,
        /// Bound of what `at_least` brings back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ceiling: Option<f64>,
    },
    /// Its angle to the query differs too much from the positive's.
    Angle {
        /// The largest difference kept.
        #[serde(default = "sixty")]
        degrees: f64,
    },
    /// Its cosine is not below the mean of its list.
    Sieve {},
}

fn sixty() -> f64 {
    60.0
}

/// Which ranks a window counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowOrder {
    /// Ranks of the source's list, judged documents included (FlagEmbedding).
    Before,
    /// Places among the candidates that pass all other filters (sentence-transformers).
    #[default]
    After,
}
