//! What a training step optimises, and how: losses over embedded batches, gradient caching, clipping, AdamW, the schedule.
//!
//! | part | owns |
//! |---|---|
//! | [`candidates`] | one embedded batch: rows, targets, which candidates are blocked |
//! | [`loss`] | the table of losses and their settings; one file per loss below it |
//! | [`mod@reference`] | every loss again, in plain `f64` Rust: the oracle of the tests |
//! | [`gradient_cache`] | one step over chunks with exactly the whole batch's gradients |
//! | [`clip`] | the global gradient norm |
//! | [`adamw`] | the optimiser, its state keyed by parameter path |
//! | [`schedule`] | the learning rate of each step |
//!
//! Nothing here knows a corpus, a tokeniser or an encoder: the crate sees tensors and modules only, so every part of it can be
//! checked against a few lines of arithmetic. No function in the path of a step waits for the device.

pub mod adamw;
pub mod candidates;
pub mod clip;
pub mod gradient_cache;
pub mod loss;
mod path;
pub mod reference;
pub mod schedule;
#[cfg(test)]
mod tests;

pub use adamw::{AdamW, AdamWConfig, OptimizerError, ParameterGroup, Treatment};
pub use candidates::{BatchError, Embedded};
pub use clip::{clip_global_norm, global_norm};
pub use loss::{Loss, LossConfig, LossError, LossKind};
pub use schedule::{Schedule, ScheduleError, ScheduleKind, Warmup};
