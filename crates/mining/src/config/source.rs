//! One source of candidates: what it is, and what all sources have in common (share and curriculum).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::DrawConfig;
use super::ramp::Ramp;
use crate::schedule::Schedule;

/// One source of candidates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceConfig {
    /// What it is, with its own settings. The unknown keys of a source are refused there.
    #[serde(flatten)]
    pub kind: SourceKind,
    /// Weight among the sources that offer candidates, 1 by default; may change linearly over the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Ramp>,
    /// Draws take from this many best candidates of a list only; all without it. May change linearly over the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Ramp>,
    /// How negatives are chosen from its list, where that is not how they are from all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draw: Option<DrawConfig>,
}

/// What a source is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SourceKind {
    /// Documents drawn uniformly from the corpus, anew at every visit.
    Random {},
    /// The other queries' positives: columns of the batch, no candidates.
    InBatch {},
    /// The best documents of a frozen document matrix, searched at every step: columns of the batch, no candidates.
    PerStep {
        /// Documents per query.
        #[serde(default = "depth")]
        depth: usize,
    },
    /// Documents of earlier batches: columns of the batch, no candidates.
    Queue {
        /// Rows that it holds.
        size: usize,
        /// Steps of the round before it serves.
        #[serde(default)]
        start_after: usize,
    },
    /// The best documents by BM25.
    Bm25 {
        /// Documents kept per query, besides judged ones.
        #[serde(default = "depth")]
        depth: usize,
        /// `once` or `on decay …`: lexical lists do not change.
        #[serde(default)]
        refresh: Schedule,
    },
    /// The best documents by an encoder.
    Dense {
        /// Documents kept per query, besides judged ones.
        #[serde(default = "depth")]
        depth: usize,
        /// When the corpus is encoded and searched anew.
        #[serde(default)]
        refresh: Schedule,
        /// Which encoder.
        #[serde(default, skip_serializing_if = "is_current")]
        model: Model,
        /// Search only below the bounds of `margin` and `score` filters: what they would drop uses up no depth. Without it a weak encoder, which
        /// ranks many documents above the positive, leaves hardly any candidate. Ranks are then those below the bounds.
        #[serde(default, skip_serializing_if = "is_false")]
        below_margin: bool,
    },
    /// Lists from a file.
    File {
        /// A file written by `trainer mine` or another tool's list of negatives; without it, the negatives that came with the data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<PathBuf>,
        /// Documents kept per query; all without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        depth: Option<usize>,
        /// `once` or `on decay …`: a file does not change.
        #[serde(default)]
        refresh: Schedule,
        /// Whose scores the file has.
        #[serde(default)]
        scored_by: ScoredBy,
    },
    /// Texts written for a query by a generator, outside the corpus; at most one such source.
    Generated {
        /// The file with the texts.
        path: PathBuf,
        /// The lists stay the same; `every …` has the filters count anew, with the weights of the moment, how many texts they would drop, and
        /// gives the draw new similarities. Not `rolling …` or `on decay …`.
        #[serde(default)]
        refresh: Schedule,
    },
}

/// Whose scores a file has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScoredBy {
    /// The miner that wrote it.
    #[default]
    Miner,
    /// A teacher (a cross-encoder, for instance): the scores are teacher scores of the candidates too.
    Teacher,
}

/// The encoder that a dense source searches with.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Model {
    /// The one in training, with the weights that it has at the refresh.
    #[default]
    Current,
    /// The one in training, with the weights that it started from.
    Start,
    /// What came out of the round of training before.
    PreviousRound,
    /// A folder or hub id; it does not change.
    Named(String),
}

impl Model {
    /// As it is written.
    pub fn name(&self) -> &str {
        match self {
            Self::Current => "current",
            Self::Start => "start",
            Self::PreviousRound => "previous-round",
            Self::Named(name) => name,
        }
    }

    /// Whether its weights never change in the life of a miner.
    pub(crate) fn is_fixed(&self) -> bool {
        *self != Self::Current
    }
}

impl From<String> for Model {
    fn from(name: String) -> Self {
        match name.as_str() {
            "current" => Self::Current,
            "start" => Self::Start,
            "previous-round" => Self::PreviousRound,
            _ => Self::Named(name),
        }
    }
}

impl From<Model> for String {
    fn from(model: Model) -> Self {
        model.name().to_owned()
    }
}

fn depth() -> usize {
    200
}

fn is_false(it: &bool) -> bool {
    !it
}

fn is_current(it: &Model) -> bool {
    *it == Model::Current
}

impl SourceConfig {
    /// A source with the common settings as they are by default.
    pub fn new(kind: SourceKind) -> Self {
        Self { kind, share: None, pool: None, draw: None }
    }

    /// Weight among the sources that offer candidates; 0 for one that offers none.
    pub(crate) fn share(&self) -> Ramp {
        if self.kind.offers_candidates() { self.share.unwrap_or(Ramp::Fixed(1.0)) } else { Ramp::Fixed(0.0) }
    }

    /// The encoder that it searches with.
    pub(crate) fn model(&self) -> Option<&Model> {
        match &self.kind {
            SourceKind::Dense { model, .. } => Some(model),
            _ => None,
        }
    }
}

impl SourceKind {
    /// Whether it offers candidates rather than columns of the batch.
    pub(crate) fn offers_candidates(&self) -> bool {
        !matches!(self, Self::InBatch {} | Self::PerStep { .. } | Self::Queue { .. })
    }

    /// When its lists are refreshed; `None` for a source without lists.
    pub(crate) fn refresh(&self) -> Option<Schedule> {
        match self {
            Self::Random {} | Self::InBatch {} | Self::PerStep { .. } | Self::Queue { .. } => None,
            Self::Bm25 { refresh, .. } | Self::Dense { refresh, .. } | Self::File { refresh, .. } | Self::Generated { refresh, .. } => {
                Some(*refresh)
            }
        }
    }

    pub(crate) fn depth(&self) -> Option<usize> {
        match self {
            Self::Bm25 { depth, .. } | Self::Dense { depth, .. } => Some(*depth),
            Self::File { depth, .. } => *depth,
            _ => None,
        }
    }
}
