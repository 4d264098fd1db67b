//! The losses: their common trait and the table that names them.
//!
//! A loss is one file below `loss/` with a type that implements `Loss` and an `ENTRY`, plus one line in `TABLE`. Everything else
//! (configuration, error messages, documentation of the known kinds) follows from the table. What all losses share lies beside them:
//!
//! | part | owns |
//! |---|---|
//! | `config` | the settings as written, and which of them fit together; `settings` those of a single loss |
//! | `evaluate` | the weighted sum of losses, over truncated embeddings too |
//! | `by_rows` | the same a few rows of the score matrix at a time |
//! | `matrix` | the score matrix a loss reads: documents, extra blocks and mixed columns, with what is excluded |
//! | `blocks` | which texts stand in a column, and when a cell of an extra block is excluded |
//! | `masks` | rules that exclude cells by score |
//! | `mixing` | synthetic columns between embeddings |
//! | `temperature` | fixed, scheduled or learned; `state` is the learned one's optimiser |

mod adversarial;
mod blocks;
mod by_rows;
mod ccr;
mod config;
mod debiased;
mod error;
mod evaluate;
mod hcl;
mod info_nce;
mod kl;
mod lambda_mrr;
mod lce;
mod margin_mse;
mod masks;
mod matrix;
pub(crate) mod mixing;
mod pairwise;
mod passage_centric;
mod settings;
mod state;
mod temperature;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use blocks::Block;
pub use config::{LossConfig, TermConfig};
pub use error::LossError;
pub use evaluate::{Evaluated, Now};
pub use masks::{MaskConfig, MaskRule};
#[cfg(test)]
pub(crate) use matrix::ScoreMatrix;
use matrix::Scored;
pub use mixing::MixingConfig;
pub use settings::Needs;
use settings::Settings;
pub use state::LossState;
pub use temperature::Temperature;

/// Something to minimise over one embedded batch.
trait Loss: fmt::Debug + Send + Sync {
    /// The loss of the batch, `[1]`, in f32. Differentiable in queries and documents.
    fn value(&self, scored: &Scored<'_>) -> Evaluated;
}

/// One row of the table.
struct Entry {
    name: &'static str,
    /// Makes the loss from its settings, or says which value it cannot use.
    build: fn(&Settings) -> Result<Box<dyn Loss>, LossError>,
    /// The settings it has beside weight and temperature.
    settings: &'static [&'static str],
    reach: Reach,
    /// Side information without which it cannot be taken.
    needs: Needs,
    /// A plain mean over queries of something that reads one row of the score matrix: it may be taken a few rows at a time.
    by_query: bool,
}

/// Which cells a loss reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// Cells labelled by a teacher or a rank, or a matrix of its own: no mask and no extra column has a say there.
    Labelled,
    /// The query's own group, under the masks.
    Group,
    /// All columns, extra blocks and mixed ones included, under the masks.
    All,
}

/// Every loss there is. A new one is a file and a line here.
const TABLE: &[Entry] = &[
    info_nce::ENTRY,
    pairwise::ENTRY,
    lce::ENTRY,
    margin_mse::ENTRY,
    kl::ENTRY,
    adversarial::ENTRY,
    lambda_mrr::ENTRY,
    debiased::ENTRY,
    hcl::ENTRY,
    ccr::ENTRY,
    passage_centric::ENTRY,
];

/// The name of a loss, one of [`names`](Self::names).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossKind(&'static str);

impl LossKind {
    /// Finds a loss by its name.
    ///
    /// # Errors
    /// [`LossError::UnknownKind`], which lists the names there are.
    pub fn named(name: &str) -> Result<Self, LossError> {
        match TABLE.iter().find(|entry| entry.name == name) {
            Some(entry) => Ok(Self(entry.name)),
            None => Err(LossError::UnknownKind { name: name.to_owned() }),
        }
    }

    /// The name, as it stands in a configuration.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// All names, in the order of the table.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|entry| entry.name)
    }

    fn entry(self) -> &'static Entry {
        let entry = TABLE.iter().find(|entry| entry.name == self.0);
        entry.expect("a LossKind is only made from an entry of the table")
    }
}

impl Default for LossKind {
    fn default() -> Self {
        Self(TABLE[0].name)
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
