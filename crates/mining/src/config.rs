//! `[negatives]` of a run's configuration: sources, filters, the draw, and what happens to short rows.
//!
//! Reading refuses unknown keys; `validate` refuses values that make no sense, before anything is built. Building the parts is
//! `Miner::new`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::ConfigError;
use crate::schedule::Schedule;

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
    /// What becomes of a row with too few candidates.
    pub short: Short,
    /// Whether judged documents and their copies are removed even when no filter says so. Only experiments turn it off.
    pub remove_judged: bool,
}

impl Default for NegativesConfig {
    fn default() -> Self {
        Self { source: Vec::new(), filter: Vec::new(), draw: DrawConfig::default(), short: Short::default(), remove_judged: true }
    }
}

/// One source of candidates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SourceConfig {
    /// Documents drawn uniformly from the corpus, anew at every visit.
    Random {
        /// Weight among the sources that offer candidates.
        #[serde(default = "whole")]
        share: f64,
    },
    /// The other queries' positives: columns of the batch, no candidates.
    InBatch {},
    /// The best documents by BM25.
    Bm25 {
        /// Documents kept per query, besides judged ones.
        #[serde(default = "depth")]
        depth: usize,
        /// Weight among the sources that offer candidates.
        #[serde(default = "whole")]
        share: f64,
        /// Only `once`: lexical lists do not change.
        #[serde(default)]
        refresh: Schedule,
    },
    /// The best documents by the encoder that is being trained.
    Dense {
        /// Documents kept per query, besides judged ones.
        #[serde(default = "depth")]
        depth: usize,
        /// Weight among the sources that offer candidates.
        #[serde(default = "whole")]
        share: f64,
        /// When the corpus is encoded and searched anew.
        #[serde(default)]
        refresh: Schedule,
        /// Search only below the bounds of `margin` and `score` filters: what they would drop uses up no depth. Without it a weak encoder, which
        /// ranks many documents above the positive, leaves hardly any candidate. Ranks are then those below the bounds.
        #[serde(default, skip_serializing_if = "is_false")]
        below_margin: bool,
    },
    /// Lists from a file.
    File {
        /// A file written by `trainer mine`; without it, the negatives that came with the data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<PathBuf>,
        /// Documents kept per query; all without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        depth: Option<usize>,
        /// Weight among the sources that offer candidates.
        #[serde(default = "whole")]
        share: f64,
        /// Only `once`: a file does not change.
        #[serde(default)]
        refresh: Schedule,
    },
}

fn whole() -> f64 {
    1.0
}

fn is_false(it: &bool) -> bool {
    !it
}

fn depth() -> usize {
    200
}

impl SourceConfig {
    /// Weight among the sources that offer candidates; 0 for one that offers none.
    pub(crate) fn share(&self) -> f64 {
        match self {
            Self::InBatch {} => 0.0,
            Self::Random { share } | Self::Bm25 { share, .. } | Self::Dense { share, .. } | Self::File { share, .. } => *share,
        }
    }

    /// When its lists are refreshed; `None` for a source without lists.
    pub(crate) fn refresh(&self) -> Option<Schedule> {
        match self {
            Self::Random { .. } | Self::InBatch {} => None,
            Self::Bm25 { refresh, .. } | Self::Dense { refresh, .. } | Self::File { refresh, .. } => Some(*refresh),
        }
    }

    fn depth(&self) -> Option<usize> {
        match self {
            Self::Random { .. } | Self::InBatch {} => None,
            Self::Bm25 { depth, .. } | Self::Dense { depth, .. } => Some(*depth),
            Self::File { depth, .. } => *depth,
        }
    }
}

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

/// How negatives are chosen from a filtered list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DrawConfig {
    /// The best.
    Top {},
    /// Uniformly, without replacement, anew at every visit.
    Uniform {},
}

impl Default for DrawConfig {
    fn default() -> Self {
        Self::Uniform {}
    }
}

/// What becomes of a row with fewer candidates than asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Short {
    /// It serves what there is.
    #[default]
    Fewer,
    /// It serves nothing.
    Drop,
    /// Random documents fill it, tagged as such.
    Random,
}

impl NegativesConfig {
    /// Whether the other queries' positives are negatives.
    pub fn in_batch(&self) -> bool {
        self.source.iter().any(|source| matches!(source, SourceConfig::InBatch {}))
    }

    /// Whether any source offers candidates.
    pub fn offers_candidates(&self) -> bool {
        self.source.iter().any(|source| source.share() > 0.0)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first value that makes no sense.
    pub fn validate(&self) -> Result<(), ConfigError> {
        // One number is kept for random fills.
        if self.source.len() >= usize::from(u8::MAX) {
            return Err(wrong("source", self.source.len(), "at most 254 sources"));
        }
        for (index, source) in self.source.iter().enumerate() {
            check_source(&format!("source.{index}"), source)?;
        }
        if self.source.iter().filter(|source| matches!(source, SourceConfig::InBatch {})).count() > 1 {
            return Err(wrong("source", "\"in-batch\" twice", "each batch column once"));
        }
        for (index, filter) in self.filter.iter().enumerate() {
            check_filter(&format!("filter.{index}"), filter)?;
            if let FilterConfig::RankWindow { skip, order, .. } = filter {
                let below = self.source.iter().any(|source| matches!(source, SourceConfig::Dense { below_margin: true, .. }));
                if below && *order == WindowOrder::Before {
                    let expected = "\"after\": a source with below_margin does not know the ranks before";
                    return Err(wrong(&format!("filter.{index}.order"), "\"before\"", expected));
                }
                let shallow = self.source.iter().filter_map(SourceConfig::depth).find(|depth| depth <= skip);
                if let Some(depth) = shallow {
                    return Err(wrong(
                        &format!("filter.{index}.skip"),
                        skip,
                        &format!("less than the depth of every source, which is {depth}"),
                    ));
                }
            }
        }
        Ok(())
    }
}

fn check_source(field: &str, source: &SourceConfig) -> Result<(), ConfigError> {
    let share = source.share();
    let offers = !matches!(source, SourceConfig::InBatch {});
    if offers && (!share.is_finite() || share <= 0.0) {
        return Err(wrong(&format!("{field}.share"), share, "a number above 0"));
    }
    let most = if matches!(source, SourceConfig::File { .. }) { usize::MAX } else { DEEPEST };
    if let Some(depth) = source.depth().filter(|&depth| depth == 0 || depth > most) {
        return Err(wrong(&format!("{field}.depth"), depth, &format!("1 to {most}")));
    }
    let fixed = matches!(source, SourceConfig::Bm25 { .. } | SourceConfig::File { .. });
    if let Some(refresh) = source.refresh().filter(|&refresh| fixed && refresh != Schedule::Once) {
        return Err(wrong(
            &format!("{field}.refresh"),
            format!("\"{refresh}\""),
            "\"once\": these lists do not change while the encoder is trained; only those of from = \"dense\" do",
        ));
    }
    Ok(())
}

fn check_filter(field: &str, filter: &FilterConfig) -> Result<(), ConfigError> {
    let finite = |name: &str, value: &Option<f64>, least: f64| match value {
        Some(value) if !value.is_finite() || *value < least => {
            let expected = if least == 0.0 { "a number from 0 up" } else { "a finite number" };
            Err(wrong(&format!("{field}.{name}"), value, expected))
        }
        _ => Ok(()),
    };
    match filter {
        FilterConfig::Judged { .. } | FilterConfig::IdenticalText {} => Ok(()),
        FilterConfig::RankWindow { skip: 0, until: None, .. } => Err(wrong(field, "a window without bounds", "skip, until, or both")),
        FilterConfig::RankWindow { skip, until, .. } => match until {
            Some(until) if until <= skip => Err(wrong(&format!("{field}.until"), until, &format!("more than skip, which is {skip}"))),
            _ => Ok(()),
        },
        FilterConfig::Score { min: None, max: None } => Err(wrong(field, "no bounds", "min, max, or both")),
        FilterConfig::Score { min, max } => {
            finite("min", min, f64::MIN)?;
            finite("max", max, f64::MIN)?;
            match (min, max) {
                (Some(min), Some(max)) if min > max => Err(wrong(&format!("{field}.min"), min, &format!("at most max, which is {max}"))),
                _ => Ok(()),
            }
        }
        FilterConfig::Margin { relative: None, absolute: None } => Err(wrong(field, "no margin", "relative, absolute, or both")),
        FilterConfig::Margin { relative, absolute } => {
            finite("relative", relative, 0.0)?;
            finite("absolute", absolute, 0.0)
        }
    }
}

fn wrong(field: &str, got: impl std::fmt::Display, expected: &str) -> ConfigError {
    ConfigError { field: field.to_owned(), got: got.to_string(), expected: expected.to_owned() }
}
