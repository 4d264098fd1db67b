//! The configuration of a training run: as written, merged, checked.
//!
//! Three stages: a file or recipe, the flags and every `--set` are merged into one TOML table; unknown keys are refused with the
//! nearest known one; `validate` checks values that need no file and no device. What only the data or the model can decide
//! (learning rate, lengths, steps) stays open here and is filled in by `train`, and the resolved form is saved with the run.

mod checks;
mod merge;
#[cfg(test)]
mod tests;

use mining::NegativesConfig;
use objective::{LossConfig, ScheduleKind};
use serde::{Deserialize, Serialize};

pub(crate) use merge::{merge, read, split_set};

/// The whole configuration. Every section and key but `[[negatives.source]]` has a default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The recipe that a configuration changes: what it leaves out is as it is there. `merge` puts the two together, so what was merged has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recipe: Option<String>,
    pub(crate) encoder: EncoderConfig,
    pub(crate) data: DataConfig,
    pub(crate) batch: BatchConfig,
    pub(crate) loss: LossConfig,
    pub(crate) train: TrainConfig,
    pub(crate) output: OutputConfig,
    pub(crate) negatives: NegativesConfig,
    /// The encoder whose similarities `[[loss.mask]]` with `rule = "guide"` reads.
    pub(crate) guide: OtherEncoder,
    /// The model whose scores filters, draws and losses with a teacher read, where `data.teacher` gives none.
    pub(crate) teacher: TeacherConfig,
    /// The cross-encoder behind `teacher.model = "reranker"`.
    pub(crate) reranker: RerankerConfig,
    /// The steps are divided into as many rounds, evenly or by their [`ROUND_SHARE`]; each entry holds what its round changes in the sections of [`ROUND_SECTIONS`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) round: Vec<toml::Table>,
    /// Nobody wrote `loss.temperature`: `train` chooses it by the kind of encoder.
    #[serde(skip)]
    pub(crate) open_temperature: bool,
}

/// Sections that a round may change.
const ROUND_SECTIONS: [&str; 8] = ["batch", "encoder", "guide", "loss", "negatives", "reranker", "teacher", "train"];

/// Beside its sections a round may say how much of the steps, or of the seconds, it gets: 1 is what every other one has.
const ROUND_SHARE: &str = "share";

/// Of sections that are not all a round's own, the keys that it may change: the others are settled when the run begins.
const ROUND_KEYS: [(&str, &[&str]); 2] = [
    ("encoder", &["documents", "momentum"]),
    ("train", &["augment", "clip", "learning_rate", "rate_factor", "restart", "round_trip", "schedule", "warmup", "weight_decay"]),
];

/// A model beside the encoder in training.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OtherEncoder {
    /// `start`, `previous-round`, a model folder or a hub id.
    pub(crate) model: Option<String>,
}

/// Whose scores are distilled.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TeacherConfig {
    /// `start`, `previous-round`, a model folder or a hub id of an encoder; or `reranker`.
    pub(crate) model: Option<String>,
    /// Another encoder for other queries' documents, of which a loss with `in_batch` asks: a cross-encoder would have to read every pair of
    /// the batch (TAS-Balanced, Hofstätter et al. 2021, arXiv 2104.06967).
    pub(crate) in_batch: Option<String>,
}

/// A cross-encoder, trained by the run itself on what its retriever finds, or ready-made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RerankerConfig {
    /// What it starts as: `start`, the run's start encoder under a new head; `retriever`, the encoder of the round before under one; or a folder or hub
    /// id of a cross-encoder.
    pub(crate) model: String,
    /// Whether a round begins with that again, where an earlier one has had a reranker, or goes on with what it left.
    pub(crate) restart: bool,
    /// Training steps before the round begins; 0 = as it is.
    pub(crate) steps: usize,
    /// Trained at every step of the round as well, on the negatives of the step (RocketQAv2, Ren et al. 2021, arXiv 2110.07367).
    pub(crate) jointly: bool,
    /// Lists of one training step: each a query's positive and its negatives.
    pub(crate) lists: usize,
    /// Negatives of a list, drawn uniformly from what the encoder of the round before finds: the ranker must see the retriever's own
    /// distribution (RocketQA, Qu et al. 2021, arXiv 2010.08191).
    pub(crate) negatives: usize,
    /// How deep that is.
    pub(crate) depth: usize,
    /// `lce` over lists, or `binary-cross-entropy` over pairs, whose sigmoid is a probability that thresholds can read.
    pub(crate) loss: teacher::ListLoss,
    /// Left out: 3e-5; 1e-3 for one made from the word vectors of a static encoder.
    pub(crate) learning_rate: Option<f64>,
    /// Longest pair in tokens. Left out: what the model says of itself, and 160 for one made here.
    pub(crate) length: Option<usize>,
}

impl Default for RerankerConfig {
    fn default() -> Self {
        Self {
            model: "start".into(),
            restart: true,
            steps: 0,
            jointly: false,
            lists: 16,
            negatives: 4,
            depth: 200,
            loss: teacher::ListLoss::BinaryCrossEntropy,
            learning_rate: None,
            length: None,
        }
    }
}

/// Pseudo-labels for queries without a label.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Augment {
    /// The teacher's lowest score of a new positive, exclusive.
    pub(crate) above: f64,
    /// Documents of the retriever that the teacher looks at.
    #[serde(default = "fifty")]
    pub(crate) depth: usize,
}

fn fifty() -> usize {
    50
}

/// What to start from, and what to change about it. Keys left out keep what the model folder says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EncoderConfig {
    /// A model folder, a hub id, or `builtin:tiny`.
    pub(crate) model: String,
    pub(crate) pooling: Option<encoder::Pooling>,
    pub(crate) normalize: Option<bool>,
    pub(crate) query_prompt: Option<String>,
    pub(crate) document_prompt: Option<String>,
    /// Longest query in tokens, special tokens included.
    pub(crate) query_length: Option<usize>,
    /// Longest document in tokens, special tokens included.
    pub(crate) document_length: Option<usize>,
    /// Which encoder makes the document rows of a training step.
    pub(crate) documents: DocumentEncoder,
    /// With `documents = "momentum"`: how much of itself the document encoder keeps at each step (m of He et al. 2020, arXiv 1911.05722).
    pub(crate) momentum: f64,
}

/// Which encoder makes the document rows of a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DocumentEncoder {
    /// The trained one; gradients flow through both sides.
    Shared,
    /// The one that the round started from, its rows computed once: only the query side learns (ADORE, Zhan et al. 2021, arXiv 2104.08051).
    Frozen,
    /// A moving average of the trained one, without gradient (MoCo, He et al. 2020, arXiv 1911.05722).
    Momentum,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self {
            model: "builtin:tiny".into(),
            pooling: None,
            normalize: None,
            query_prompt: None,
            document_prompt: None,
            query_length: None,
            document_length: None,
            documents: DocumentEncoder::Shared,
            momentum: 0.999,
        }
    }
}

/// The collection and which of its splits does what.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DataConfig {
    pub(crate) path: String,
    pub(crate) train: String,
    /// Evaluated while training; the best model is chosen by it. Skipped when the collection lacks it.
    pub(crate) evaluate: String,
    /// Evaluated before and after training. Falls back to `evaluate`.
    pub(crate) test: String,
    /// Share of the training queries that are kept from training and evaluated on instead, where the collection has neither of the two splits.
    pub(crate) hold_out: f64,
    /// Train on this many (query, positive) pairs, drawn by the seed; 0 = all.
    pub(crate) limit: usize,
    /// Teacher scores of (query, document) pairs: any list of negatives with scores, or lines of query, document, score.
    pub(crate) teacher: Option<String>,
    /// Answer strings of queries, for the filter `answer`.
    pub(crate) answers: Option<String>,
    /// The group of each query, for `batch.compose = "groups"`.
    pub(crate) groups: Option<String>,
    /// Further training queries that a language model wrote for documents of the collection, with their positives.
    pub(crate) queries: Option<String>,
    /// Whether they are added to the training split or take its place.
    pub(crate) queries_use: corpus::QueryUse,
    /// Train only on so many of them, those with the highest `logprob` (InPars, Bonifacio et al. 2022, arXiv 2202.05144).
    pub(crate) queries_keep: Option<usize>,
    /// Decisions of a relabelling (RLHN, Thakur et al. 2025, arXiv 2505.16967).
    pub(crate) decisions: Option<String>,
    /// What becomes of negatives that a relabelling found relevant; left out: they become positives.
    pub(crate) decision_policy: Option<corpus::Policy>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            path: "builtin:demo".into(),
            train: "train".into(),
            evaluate: "dev".into(),
            test: "test".into(),
            hold_out: 0.1,
            limit: 0,
            teacher: None,
            answers: None,
            groups: None,
            queries: None,
            queries_use: corpus::QueryUse::Add,
            queries_keep: None,
            decisions: None,
            decision_policy: None,
        }
    }
}

/// How rows are put together into one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Compose {
    /// Pairs in seeded random order.
    Random,
    /// The same, but no text of a positive and no query stands twice in one batch; a clashing pair waits for the next batch.
    NoDuplicates,
    /// Pairs whose queries are of one topic: clusters of the encoder's own rows (`[batch.topics]`).
    Topics,
    /// Pairs of one group, named by `data.groups`: one data set a batch.
    Groups,
}

/// How topics are found, and how batches are drawn from them (Hofstätter et al. 2021, arXiv 2104.06967).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TopicsConfig {
    /// Clusters; 0 = one for every 200 queries, as in the paper, and at least 8.
    pub(crate) clusters: usize,
    /// Clustered anew, with the weights of the moment, after so many epochs; 0 = once, at the start of the round.
    pub(crate) every_epochs: usize,
    /// Whose rows are clustered.
    pub(crate) by: TopicSide,
    /// How batches are drawn.
    pub(crate) draw: mining::TopicDraw,
}

/// Whose rows are clustered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TopicSide {
    Queries,
    /// Each query's first positive.
    Positives,
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self { clusters: 0, every_epochs: 0, by: TopicSide::Queries, draw: mining::TopicDraw::default() }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BatchConfig {
    pub(crate) queries: usize,
    /// Hard negatives of each query, drawn from `[negatives]`.
    pub(crate) negatives: usize,
    pub(crate) compose: Compose,
    /// With `compose = "topics"` or `"groups"`.
    pub(crate) topics: TopicsConfig,
    /// Whether the hard negatives of one query are columns for all queries of the batch.
    pub(crate) share_negatives: bool,
    /// Texts encoded at a time with gradient caching; 0 = the whole batch at once.
    pub(crate) chunk: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { queries: 32, negatives: 0, compose: Compose::NoDuplicates, topics: TopicsConfig::default(), share_negatives: true, chunk: 0 }
    }
}

/// Number format of the arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Precision {
    /// 32-bit floats throughout.
    F32,
    /// 16-bit operands of the linear layers and of the search for negatives, sums in 32 bits; weights, optimiser, loss and everything else stay in 32 bits. Evaluation searches in 32 bits. On the
    /// CPU the same roundings, for comparison, and no gain.
    Mixed,
}

impl Precision {
    /// Of the encoder's linear layers.
    pub(crate) fn layers(self) -> kernels::layers::Precision {
        match self {
            Self::F32 => kernels::layers::Precision::F32,
            Self::Mixed => kernels::layers::Precision::Mixed,
        }
    }

    /// Of the rows that negatives are searched in.
    pub(crate) fn rows(self) -> mining::StorePrecision {
        match self {
            Self::F32 => mining::StorePrecision::F32,
            Self::Mixed => mining::StorePrecision::F16,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TrainConfig {
    /// Optimiser steps. Wins over `epochs`.
    pub(crate) steps: Option<usize>,
    /// Stop after this many seconds of training and mining (evaluation not counted); the learning rate follows the time. `steps` is then the most
    /// steps that are done.
    pub(crate) seconds: Option<f64>,
    /// Train only on pairs whose positive the model of the round before (or the start encoder) ranks among the first so many: round-trip consistency
    /// (Promptagator, Dai et al. 2022, arXiv 2209.11755).
    pub(crate) round_trip: Option<usize>,
    /// Give queries without a label the document that the teacher is sure of: `{ above = 0.9, depth = 50 }`.
    pub(crate) augment: Option<Augment>,
    /// Whether each `[[round]]` after the first starts from the start weights, or from where the round before ended.
    pub(crate) restart: bool,
    /// Passes over the pairs; left out: 1 for a transformer, 20 for a static encoder.
    pub(crate) epochs: Option<f64>,
    /// Peak learning rate; left out: 2e-5 for a transformer, 0.02 for a static encoder.
    pub(crate) learning_rate: Option<f64>,
    /// Factor on the learning rate, for a round that fine-tunes what another one made.
    pub(crate) rate_factor: f64,
    pub(crate) schedule: ScheduleKind,
    /// Below 1: share of the steps; else a number of steps.
    pub(crate) warmup: f64,
    pub(crate) weight_decay: f64,
    /// Largest global gradient norm; 0 = no clipping.
    pub(crate) clip: f64,
    pub(crate) seed: u64,
    /// f32 or mixed.
    pub(crate) precision: Precision,
    /// auto, gpu, gpu:N or cpu; the flag --device wins.
    pub(crate) device: String,
    /// Evaluate on `data.evaluate` every so many steps; 0 = never, and the last weights are kept. Left out: five times a run.
    pub(crate) evaluate_every: Option<usize>,
    /// Write a checkpoint every so many steps; 0 = only when interrupted. Left out: ten times a run.
    pub(crate) checkpoint_every: Option<usize>,
    /// Complete checkpoints to keep.
    pub(crate) keep_checkpoints: usize,
    /// Keep the model that was best on `data.evaluate`, or the last one.
    pub(crate) keep: Keep,
    /// Lines of the log: one every so many steps.
    pub(crate) log_every: usize,
    /// Write batches.jsonl: every query, positive and drawn negative of every step.
    pub(crate) log_batches: bool,
}

/// Which weights a run ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Keep {
    Best,
    Last,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: None,
            seconds: None,
            round_trip: None,
            augment: None,
            restart: true,
            epochs: None,
            learning_rate: None,
            rate_factor: 1.0,
            schedule: ScheduleKind::Linear,
            warmup: 0.1,
            weight_decay: 0.01,
            clip: 1.0,
            seed: 1,
            precision: Precision::F32,
            device: "auto".into(),
            evaluate_every: None,
            checkpoint_every: None,
            keep_checkpoints: 2,
            keep: Keep::Best,
            log_every: 1,
            log_batches: false,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OutputConfig {
    /// The run folder. Left out: runs/COLLECTION-RECIPE-NUMBER.
    pub(crate) folder: Option<String>,
}
