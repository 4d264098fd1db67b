//! What can be wrong with the settings of a loss.

use thiserror::Error;

use super::LossKind;

/// A loss that cannot be built as configured.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum LossError {
    /// No loss of that name.
    #[error("there is no loss `{name}`; known: {}", LossKind::names().collect::<Vec<_>>().join(", "))]
    UnknownKind {
        /// The name asked for.
        name: String,
    },
    /// A number out of its range.
    #[error("{setting} is {got}, expected {expected}")]
    Range {
        /// The setting, from the root of the configuration.
        setting: String,
        /// The number given.
        got: f64,
        /// The range it must lie in.
        expected: &'static str,
    },
    /// A setting that this loss does not have.
    #[error("{place}.{setting} cannot be used with {place}.kind = \"{kind}\"; remove it or choose another loss")]
    Unsupported {
        /// `loss`, or a term of it.
        place: String,
        /// The setting.
        setting: &'static str,
        /// The loss.
        kind: &'static str,
    },
    /// A part of the score matrix that none of the losses in the sum reads.
    #[error("loss.{setting} has no effect with loss.kind = \"{kind}\" and its terms; {advice}")]
    Unread {
        /// The setting.
        setting: &'static str,
        /// The main loss.
        kind: &'static str,
        /// Which losses read it.
        advice: &'static str,
    },
    /// Settings that exclude each other.
    #[error("{what}; {advice}")]
    Conflict {
        /// What does not go together.
        what: String,
        /// What to do.
        advice: &'static str,
    },
}
