//! Where candidates come from: one source, one file.
//!
//! A source with lists is asked block by block at a refresh; `random` is asked at every visit; `in-batch`, `queue` and `per-step` are never
//! asked, their negatives are columns that the batch gets anyway. Sources do not filter: judged documents may be among what they return.

pub mod bm25;
mod dense;
mod file;
mod generated;
mod in_batch;
mod per_step;
mod queue;
mod random;

use burn::tensor::Tensor;
use corpus::{Collection, NegativeLists};
use rand_chacha::ChaCha8Rng;

use crate::candidate::Candidate;
use crate::config::{SourceConfig, SourceKind};
use crate::error::MiningError;
use crate::knowledge::Knowledge;
use crate::store::EmbeddingStore;

pub use bm25::Bm25;
pub use dense::Dense;
pub use file::File;
pub use generated::Generated;
pub use in_batch::InBatch;
pub use per_step::PerStep;
pub use queue::Queue;
pub use random::Random;

/// Some training queries, and what a refresh knows about them.
#[derive(Debug)]
pub struct Block<'a> {
    /// The queries.
    pub queries: &'a [u32],
    /// Documents of each query that may not be served by judgment, ascending; of very many, not all.
    pub judged: &'a [Vec<u32>],
    /// The encoder's view; `None` when no part of the configuration needs it.
    pub embedded: Option<Embedded<'a>>,
}

/// Rows of a block of queries beside the rows of all documents.
#[derive(Debug)]
pub struct Embedded<'a> {
    /// `[queries, dimension]`.
    pub queries: &'a Tensor<2>,
    /// All documents.
    pub store: &'a EmbeddingStore,
    /// Similarity of each document in `judged`, in its order.
    pub judged: &'a [Vec<f32>],
    /// The highest similarity that the filters let pass, by query.
    pub ceilings: &'a [f32],
}

/// On which scale a source's scores are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// The encoder's similarity.
    Encoder,
    /// Its own, with scores of positives on the same scale.
    Own,
    /// Its own, without scores of positives: margins need the encoder.
    Foreign,
}

/// A supply of candidates.
pub trait Source: Send + Sync {
    /// Name in configuration and reports.
    fn name(&self) -> &'static str;

    /// On which scale its scores are.
    fn scale(&self) -> Scale {
        Scale::Foreign
    }

    /// The lowest positive score of a query on [`Scale::Own`]; NaN when unknown.
    fn lowest_positive(&self, _query: u32) -> f32 {
        f32::NAN
    }

    /// The score of one positive of a query on [`Scale::Own`]; NaN when unknown.
    fn positive_score(&self, _query: u32, _document: u32) -> f32 {
        f32::NAN
    }

    /// Candidates of each query of the block, best first.
    ///
    /// # Errors
    /// When search fails.
    fn candidates(&self, block: &Block<'_>) -> Result<Vec<Vec<Candidate>>, MiningError> {
        Ok(vec![Vec::new(); block.queries.len()])
    }

    /// Candidates for one visit: up to `wanted` different documents that `permits` allows. Only for a source without lists.
    fn visit(&self, _generator: &mut ChaCha8Rng, _wanted: usize, _permits: &dyn Fn(u32) -> bool) -> Vec<Candidate> {
        Vec::new()
    }
}

/// The source that the configuration names; `number` is its place there.
pub(crate) fn build(
    config: &SourceConfig,
    number: u8,
    collection: &Collection,
    knowledge: &Knowledge,
    training: &[u32],
) -> Result<Box<dyn Source>, MiningError> {
    Ok(match &config.kind {
        SourceKind::Random {} => Box::new(Random::new(knowledge.documents(), number)),
        SourceKind::InBatch {} => Box::new(InBatch),
        SourceKind::PerStep { .. } => Box::new(PerStep),
        SourceKind::Queue { .. } => Box::new(Queue),
        SourceKind::Bm25 { depth, .. } => Box::new(Bm25::new(collection, training, *depth, number)?),
        SourceKind::Dense { depth, below_margin, .. } => Box::new(Dense::new(*depth, *below_margin, number)),
        SourceKind::File { path, depth, scored_by, .. } => {
            Box::new(File::open(collection, path.as_deref(), *depth, number)?.scored_by(*scored_by))
        }
        SourceKind::Generated { .. } => Box::new(Generated::new(NegativeLists::default(), number)),
    })
}
