//! The losses: their common trait, their settings, and the table that names them.
//!
//! A loss is one file below `loss/` with a type that implements [`Loss`] and a `build` function, plus one line in `TABLE`.
//! Everything else (configuration, error messages, documentation of the known kinds) follows from the table.

mod info_nce;
mod pairwise;

use std::fmt;

use burn::tensor::Tensor;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use crate::candidates::Embedded;
pub use info_nce::InfoNce;
pub use pairwise::Pairwise;

/// Something to minimise over one embedded batch.
pub trait Loss: fmt::Debug + Send + Sync {
    /// The loss of the batch, `[1]`, in f32. Differentiable in queries and documents.
    ///
    /// # Panics
    /// When [`Embedded::validate`] would find fault.
    fn value(&self, batch: &Embedded) -> Tensor<1>;
}

/// Makes a loss from its settings, or says which setting it cannot honour.
type Build = fn(&LossConfig) -> Result<Box<dyn Loss>, LossError>;

/// Every loss there is. A new one is a file and a line here.
const TABLE: &[(&str, Build)] = &[("info-nce", info_nce::build), ("pairwise", pairwise::build)];

/// The name of a loss, one of [`names`](Self::names).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossKind(&'static str);

impl LossKind {
    /// Finds a loss by its name.
    ///
    /// # Errors
    /// [`LossError::UnknownKind`], which lists the names there are.
    pub fn named(name: &str) -> Result<Self, LossError> {
        match TABLE.iter().find(|(known, _)| *known == name) {
            Some((known, _)) => Ok(Self(known)),
            None => Err(LossError::UnknownKind { name: name.to_owned() }),
        }
    }

    /// The name, as it stands in a configuration.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// All names, in the order of the table.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|&(name, _)| name)
    }

    fn build(self) -> Build {
        let entry = TABLE.iter().find(|(name, _)| *name == self.0);
        entry.expect("a LossKind is only made from an entry of the table").1
    }
}

impl Serialize for LossKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for LossKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::named(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl fmt::Display for LossKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The settings of the loss, as written in a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// `info-nce` (default) or `pairwise`.
    pub kind: LossKind,
    /// Scores are divided by it. 0.05 suits cosine scores; plain dot products want 1.
    pub temperature: f64,
    /// `info-nce` only: average query-to-document and document-to-query.
    pub symmetric: bool,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self { kind: LossKind(TABLE[0].0), temperature: 0.05, symmetric: false }
    }
}

/// A loss that cannot be built as configured.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum LossError {
    /// No loss of that name.
    #[error("there is no loss `{name}`; known: {}", LossKind::names().collect::<Vec<_>>().join(", "))]
    UnknownKind {
        /// The name asked for.
        name: String,
    },
    /// A temperature that scores cannot be divided by.
    #[error("loss.temperature is {got}, expected a positive number such as 0.05 (cosine scores) or 1 (dot products)")]
    Temperature {
        /// The temperature given.
        got: f64,
    },
    /// A setting that this loss does not have.
    #[error("loss.{setting} cannot be used with loss.kind = \"{kind}\"; remove it or choose another loss")]
    Unsupported {
        /// The setting.
        setting: &'static str,
        /// The loss.
        kind: &'static str,
    },
}

impl LossConfig {
    /// The loss these settings describe.
    ///
    /// # Errors
    /// The first setting out of range, or one that the chosen loss does not have.
    pub fn build(&self) -> Result<Box<dyn Loss>, LossError> {
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return Err(LossError::Temperature { got: self.temperature });
        }
        self.kind.build()(self)
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn validate(&self) -> Result<(), LossError> {
        self.build().map(drop)
    }

    /// The loss of a batch, `[1]`.
    ///
    /// # Panics
    /// When [`validate`](Self::validate) or [`Embedded::validate`] would find fault: both are checked before training starts.
    pub fn loss(&self, batch: &Embedded) -> Tensor<1> {
        match self.build() {
            Ok(loss) => loss.value(batch),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Panics with the reason when a batch is malformed: the tensor library's own message would name neither query nor column.
fn assert_valid(batch: &Embedded) {
    if let Err(error) = batch.validate() {
        panic!("{error}");
    }
}
