//! How negatives are chosen from a filtered list, as it is written. The rules themselves are in `draws`.

use serde::{Deserialize, Serialize};

/// How negatives are chosen from a filtered list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DrawConfig {
    /// The best.
    Top {},
    /// Uniformly, without replacement, anew at every visit.
    Uniform {},
    /// In proportion to exp(−a·(s_n/τ − s_p/τ − b)²): around the positive's score (SimANS).
    Simans {
        /// How narrow.
        #[serde(default = "half")]
        a: f64,
        /// Where the middle lies, from the positive's score.
        #[serde(default)]
        b: f64,
        /// τ, which makes logits of scores. Left out: the loss's temperature in training, else 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        temperature: Option<f64>,
        /// exp(−a·|s_n/τ − s_p/τ − b|) instead.
        #[serde(default)]
        absolute: bool,
    },
    /// A set around the positive's score, and inside it in proportion to ReLU(s(p, n) − s(q, n)) (TriSampler).
    Trisampler {
        /// Size of the set.
        #[serde(default = "set")]
        candidates: usize,
        /// How narrow the first stage is, as `a` of `simans`.
        #[serde(default = "quarter")]
        a: f64,
        /// τ of the first stage, as that of `simans`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        temperature: Option<f64>,
    },
    /// Ranks in proportion to a curve fitted on judged queries (RANCE). Lists of `dense` sources only; others are drawn from uniformly.
    RankCurve {
        /// k in (1 − rel(r)) / ln(r + k), more than 1.
        #[serde(default = "two")]
        gain_k: f64,
        /// The last rank drawn; all ranks of the list without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        depth: Option<usize>,
        /// The judged queries.
        #[serde(default = "dev")]
        split: String,
    },
    /// A bin of teacher scores uniformly, then a candidate in it uniformly (TAS-Balanced); uniformly where no teacher scored.
    MarginBins {
        /// Bins of equal width between the lowest and the highest.
        #[serde(default = "ten")]
        bins: usize,
    },
    /// A block of ranks, the next one at every visit, from the start again after the last.
    Window {
        /// Ranks in a block; as many as the visit asks for without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<usize>,
        /// The best candidates, which are never drawn.
        #[serde(default = "ten")]
        skip: usize,
    },
    /// The candidates nearest to the centres of clusters, made at the refresh; a part of them at every visit (InDi).
    Diverse {
        /// Candidates per visit.
        #[serde(default = "seven")]
        per_visit: usize,
        /// Visits until all have been drawn; `per_visit · visits` is the number of clusters.
        #[serde(default = "three")]
        visits: usize,
        /// What is clustered.
        #[serde(default)]
        by: DiverseBy,
        /// A random choice instead of clusters where the positive scores lower than the mean candidate by more than this (InDi: 5, on dot
        /// products).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        random_below: Option<f64>,
    },
}

/// What makes candidates different.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiverseBy {
    /// Their gradients. All are parallel to the query, so this is the number σ(s_n − s_p).
    #[default]
    Gradient,
    /// Their rows.
    Documents,
}

impl Default for DrawConfig {
    fn default() -> Self {
        Self::Uniform {}
    }
}

impl DrawConfig {
    /// The split whose judgments it reads, if it does.
    pub fn judged_split(&self) -> Option<&str> {
        match self {
            Self::RankCurve { split, .. } => Some(split),
            _ => None,
        }
    }
}

fn half() -> f64 {
    0.5
}

fn quarter() -> f64 {
    0.25
}

fn two() -> f64 {
    2.0
}

fn three() -> usize {
    3
}

fn seven() -> usize {
    7
}

fn ten() -> usize {
    10
}

fn set() -> usize {
    30
}

fn dev() -> String {
    "dev".to_owned()
}
