//! Everything that can be wrong with a cache, a pair, a list or the settings, with the place and the remedy.

use std::io;
use std::path::PathBuf;

use encoder::EncoderError;
use objective::{OptimizerError, ScheduleError};

/// Why pairs could not be scored or a reranker could not be trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TeacherError {
    /// The cache of scores cannot be read or written.
    #[error("score cache {}: {source}; free the disk or remove the file, scores are then computed anew", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{} is no score cache: it starts with other bytes than one does; remove it, and its scores are computed again", path.display())]
    NoCache {
        /// The file.
        path: PathBuf,
    },
    /// Another process writes into the cache.
    #[error("score cache {} is in use by another process; wait for it", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// An id for which there is no text.
    #[error("{side} {id} has no text; ids of pairs must be dense ids of the collection")]
    UnknownId {
        /// `query` or `document`.
        side: &'static str,
        /// The id.
        id: u32,
    },
    /// A list or a batch of lists that no loss can be taken over.
    #[error("list {list} has {got} documents, expected a positive and at least one negative")]
    ShortList {
        /// Its place in the batch.
        list: usize,
        /// How many documents it has.
        got: usize,
    },
    /// A step without lists.
    #[error("a training step got no lists; expected at least one")]
    NoLists,
    /// A setting out of its range.
    #[error("reranker setting {setting} is {got}, expected {expected}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// The value given.
        got: String,
        /// The range it must lie in.
        expected: &'static str,
    },
    /// The model or its folder.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The optimiser or its state.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// The learning-rate schedule.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The loss of a step is not finite.
    #[error("the loss of step {step} is {got}: lower the learning rate, or check the weights training started from")]
    Diverged {
        /// The step, from 0.
        step: usize,
        /// Its loss.
        got: f32,
    },
    /// A tensor could not be read from the device.
    #[error("the device did not deliver a loss: {message}")]
    Device {
        /// What the device reported.
        message: String,
    },
}
