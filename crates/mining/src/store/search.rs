//! Searching a store: the best documents, and how many score how high.

use burn::tensor::{DType, Tensor};
use kernels::{Bins, Exclusions, SearchRequest, Store, TopK};

use super::{EmbeddingStore, StorePrecision};
use crate::config::DEEPEST;
use crate::error::MiningError;

impl EmbeddingStore {
    /// The `k` documents with the highest inner product for each row of `queries`, `[q, dimension]`.
    ///
    /// # Errors
    /// When the store is not filled, the depth is beyond what search offers, or search fails.
    pub fn search(
        &self,
        queries: Tensor<2>,
        k: usize,
        exclusions: Option<&Exclusions>,
        ceiling: Option<&[f32]>,
    ) -> Result<TopK, MiningError> {
        if k > DEEPEST {
            return Err(MiningError::Depth { needed: k, most: DEEPEST });
        }
        Ok(kernels::search(SearchRequest { exclusions, ceiling, ..self.request(queries, k)? })?)
    }

    /// For each row of `queries`, how many documents that are not excluded score in each of `bins`: `[q, counters]`, see [`Bins`].
    ///
    /// # Errors
    /// When the store is not filled, or search fails.
    pub fn count_scores(&self, queries: Tensor<2>, exclusions: Option<&Exclusions>, bins: Bins) -> Result<Vec<u32>, MiningError> {
        Ok(kernels::search(SearchRequest { exclusions, bins: Some(bins), ..self.request(queries, 1)? })?.counts)
    }

    fn request(&self, queries: Tensor<2>, k: usize) -> Result<SearchRequest<'_>, MiningError> {
        self.answers()?;
        let queries = queries.cast(if self.half_queries() { DType::F16 } else { DType::F32 });
        let store = match &self.file {
            Some(file) => Store::Disk(file.filled()?),
            None => Store::Shards(&self.shards),
        };
        Ok(SearchRequest::new(queries, store, k))
    }

    /// Queries as a search multiplies them, so that other scores of theirs, of positives and of what a margin is measured from, are on its scale: equal but for the order in which products are added.
    pub(crate) fn as_searched(&self, queries: Tensor<2>) -> Tensor<2> {
        if self.half_queries() { queries.cast(DType::F16).cast(DType::F32) } else { queries }
    }

    /// Whether queries are rounded to 16 bits as the rows are: where matrix units multiply the two at several times the rate of 32 bits.
    fn half_queries(&self) -> bool {
        self.precision == StorePrecision::F16 && kernels::describe(&self.device).is_some_and(|limits| limits.matrix_units.is_ok())
    }
}
