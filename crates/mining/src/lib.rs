//! Negatives: where they come from, which are kept, which are drawn, and when they are found anew.
//!
//! | part | owns |
//! |---|---|
//! | [`Candidate`] | one document that may be served as a negative, with where it came from |
//! | [`RowEncoder`], [`Encoders`], [`EmbeddingStore`] | the encoder as mining sees it, several by name; document rows on the device |
//! | [`sources`], [`filters`], [`draws`], [`Schedule`] | the four parts of a technique, one file each |
//! | [`NegativesConfig`] | `[negatives]` of a run's configuration |
//! | [`Miner`], [`Visit`], [`RefreshReport`] | the filtered lists of a training run, their refreshes and what each one did |
//! | [`Shortcut`] | how well generated texts can be told from others by their rows alone |
//! | [`mine()`] | one-shot mining with the semantics of sentence-transformers' `mine_hard_negatives` |
//! | [`cluster()`], [`Topics`] | clusters of rows; batches whose queries share a topic |
//! | [`Waiting`] | pairs in line for batches in which no text stands twice |
//! | [`Queue`], [`momentum_update`] | rows of past steps as further columns; the slow encoder that may fill them |
//! | [`Retrieval`] | negatives retrieved at every step from documents that stay as they are |
//! | [`bm25_run`], [`bm25_of_texts`] | the lexical baseline |
//!
//! Nothing here knows a network, a loss or a file format. Every choice is a function of (seed, query, visit): neither threads
//! nor the order of calls change a draw.

mod candidate;
mod chance;
mod config;
pub mod draws;
mod encoders;
mod error;
pub mod filters;
mod kmeans;
mod knowledge;
mod lists;
mod mine;
mod miner;
mod momentum;
mod probe;
mod queue;
mod report;
mod retrieval;
mod row_encoder;
mod schedule;
mod score_histogram;
mod source_report;
pub mod sources;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod topics;
mod waiting;

pub use candidate::Candidate;
pub use config::{
    DecayConfig, DiverseBy, DrawConfig, FilterConfig, Line, Merge, Model, NegativesConfig, Ramp, ScoredBy, Short, SourceConfig, SourceKind,
    WindowOrder,
};
pub use encoders::{Encoders, Only, PairScorer};
pub use error::{ConfigError, EncodeError, MiningError};
pub use filters::{AnswerTexts, Answers, DocumentTexts};
pub use kmeans::{Clusters, cluster};
pub use knowledge::{Knowledge, TextPlaces};
pub use mine::{MineOptions, MineReport, Mined, mine};
pub use miner::{Miner, Shortcut, Visit};
pub use momentum::momentum_update;
pub use queue::Queue;
pub use report::{Quantiles, RefreshReport};
pub use retrieval::{Retrieval, Retrieved};
pub use row_encoder::RowEncoder;
pub use schedule::{Moment, Schedule};
pub use score_histogram::ScoreHistogram;
pub use source_report::{SourceReport, rank_histogram};
pub use sources::bm25::{bm25_of_texts, bm25_run};
pub use store::{EmbeddingStore, StorePrecision};
pub use topics::{TopicBatches, TopicDraw, Topics};
pub use waiting::Waiting;
