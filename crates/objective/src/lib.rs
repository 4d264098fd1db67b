//! What a training step optimises, and how: losses over embedded batches, gradient caching, clipping, AdamW, the schedule.
//!
//! | part | owns |
//! |---|---|
//! | [`candidates`] | one embedded batch: rows, targets, which candidates are blocked, and what else is known about them |
//! | [`loss`] | the table of losses, their settings, the score matrix they read; one file per loss below it |
//! | [`mod@reference`] | every loss again, in plain `f64` Rust: the oracle of the tests |
//! | [`gradient_cache`] | one step over chunks with exactly the whole batch's gradients |
//! | [`clip`] | the global gradient norm |
//! | [`adamw`] | the optimiser, its state keyed by parameter path |
//! | [`schedule`] | the learning rate of each step |
//!
//! The losses, with `s` a score over the temperature, `+` the target, `j` a negative:
//!
//! | kind | value | reads | own settings |
//! |---|---|---|---|
//! | `info-nce` | `log sum exp(s) - s+` | all columns | `symmetric` |
//! | `pairwise` | mean over pairs of `softplus(s_j - s+)` | all columns | |
//! | `lce` | as `info-nce` | own group | |
//! | `margin-mse` | mean over pairs of `((s+ - s_j) - scale (T+ - T_j))^2` | own pairs with teacher scores | `in_batch`, `teacher_scale` |
//! | `kl` | `KL(softmax(T / u), softmax(s))` | own columns with teacher scores | `teacher_temperature` |
//! | `lambda-mrr` | mean over pairs of `abs(1/r+ - 1/r_j) softplus(s_j - s+)` | own group with ranks | `cut` |
//! | `debiased` | `-log(p / (p + g))`, hidden positives taken off `g` | all columns | `tau_plus` |
//! | `hcl` | the same with hard negatives weighted up | all columns | `beta`, `tau_plus` |
//! | `ccr` | `info-nce` + `beta` mean log share | all columns | `beta` |
//! | `passage-centric` | `info-nce` from the positive passage to its query | queries and hard negatives | |
//!
//! Masks reach the losses over "all columns" and the "own group" of `lce`; extra blocks and mixed columns those over all columns. Labelled
//! losses (a teacher, ranks) and `passage-centric` are left alone: a teacher's score says itself how false a negative is.
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
pub use candidates::{BatchError, Embedded, Guide, Marks, Side};
pub use clip::{Clipping, clip_global_norm};
pub use loss::{
    Block, Evaluated, LossConfig, LossError, LossKind, LossState, MaskConfig, MaskRule, MixingConfig, Needs, Now, Temperature, TermConfig,
};
pub use schedule::{Schedule, ScheduleError, ScheduleKind, Warmup};
