//! Jobs for language models behind OpenAI-compatible endpoints (llama.cpp, vLLM, Ollama, hosted ones): they write queries, triples and hard
//! negatives for training, and judge mined negatives.
//!
//! | part | owns |
//! |---|---|
//! | [`Endpoint`], [`Key`] | HTTP, and what a failure means; the key, which nobody sees |
//! | [`Backoff`], `pace` | when a request is made again; how many at once where an endpoint sends some away |
//! | [`Limits`], [`Spent`] | the budget: set aside before, settled after |
//! | `journal` | every request and answer, on disk before anything depends on it |
//! | [`Session`], [`Model`] | one question: from the journal, else from the endpoint, and repaired once |
//! | `form`, `cuts` | what all answers together tell: that a model never gives the form asked for, that an endpoint cuts prompts |
//! | [`Prompt`], [`prompts`], [`Attributes`] | what is asked; ours are files of this crate |
//! | [`Quality`], `words` | what a written text must be; what a word is, with and without blanks |
//! | [`jobs`] | queries, triples, negatives, gecko, relabel: questions, checks, rows |
//! | [`Folder`] | what lies on disk |
//!
//! A job is a function of its questions' answers, and answers are kept in the journal under a hash of the question. A job that was stopped, by
//! whatever, is simply run again: what is answered is not asked, and the rows come out as if nothing had happened. Nothing here knows
//! tensors or retrieval.

mod answers;
mod budget;
mod chat;
mod cuts;
mod drive;
mod endpoint;
mod error;
mod form;
pub mod jobs;
mod journal;
mod key;
mod output;
mod pace;
mod prompt;
pub mod prompts;
mod quality;
mod retry;
mod session;
#[cfg(test)]
mod tests;
mod words;

pub use budget::{Lack, Limits, Spent};
pub use chat::Sampling;
pub use endpoint::Endpoint;
pub use error::LlmError;
pub use jobs::{Context, Estimate, Outcome, Progress, Rejected};
pub use key::Key;
pub use output::Folder;
pub use prompt::Prompt;
pub use prompts::Attributes;
pub use quality::Quality;
pub use retry::Backoff;
pub use session::{Model, Session, Stop};
