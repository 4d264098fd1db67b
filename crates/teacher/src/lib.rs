//! Rerankers at work: what a cross-encoder says about pairs, kept on disk, and how one is trained on mined lists.
//!
//! | part | owns |
//! |---|---|
//! | [`PairTexts`], [`List`] | texts by dense id; one query with a positive and negatives |
//! | [`ScoreCache`], [`ScoreKeys`] | scores on disk, by model, length and texts; whole after a crash |
//! | [`PairScorer`] | scores of pairs: out of the cache, else from the device, in batches by length |
//! | [`RerankerTraining`], [`ListLoss`] | settings of a training run; list-wise and point-wise losses |
//! | [`RerankerLearner`] | the state that a training step changes: one step at a time, or a whole run |
//! | [`reference`](mod@reference) | the losses again, in plain `f64` Rust: the oracle of the tests |
//!
//! A reranker that only serves to denoise and to teach should be trained on what the retriever ranks high and has no label (RocketQA,
//! arXiv 2010.08191): lists come from the caller, who mines them. Nothing here knows where negatives come from.

mod error;
mod learner;
mod loss;
pub mod reference;
mod scorer;
mod scores;
mod texts;
mod training;

pub use error::TeacherError;
pub use learner::{LearnerState, RerankerLearner, Stepped};
pub use loss::{ListLoss, list_log_probabilities};
pub use scorer::{Counts, PairScorer};
pub use scores::{ScoreCache, ScoreKey, ScoreKeys};
pub use texts::{Group, List, PairTexts, tokenize_lists};
pub use training::RerankerTraining;
