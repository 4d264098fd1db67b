//! Retrieval metrics with trec_eval's definitions.
//!
//! | part | holds |
//! |---|---|
//! | [`Qrels`], [`Run`] | judgments and rankings; TREC and BEIR files in, TREC runs out |
//! | [`evaluate()`] → [`Evaluation`] | what each query's ranking found, kept so that any [`Measure`] can be asked for afterwards |
//! | [`Measure`] | every measure by name (`ndcg@10`, or trec_eval's own `ndcg_cut_10`), with its formula |
//! | [`significance`] | is a difference between two runs more than luck |
//! | [`report`], [`trec_eval_text`] | the forms other tools read: BEIR json, sentence-transformers csv, trec_eval's lines |
//!
//! Nothing here knows tensors, models or collections. Conventions, held everywhere: linear gains, discount log2(rank + 1), ties
//! broken by document id in descending byte order, a document is relevant from grade 1 on, identical ids are kept unless asked.

mod error;
mod evaluate;
mod interner;
mod lines;
mod measure;
mod qrels;
mod query;
pub mod report;
mod run;
pub mod significance;
mod trec_eval;

pub use error::ReadError;
pub use evaluate::{Evaluation, Options, evaluate};
pub use measure::{Measure, UnknownMeasure};
pub use qrels::Qrels;
pub use query::QueryMetrics;
pub use run::Run;
pub use trec_eval::trec_eval_text;
