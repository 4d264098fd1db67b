//! The embedding bag of sentence-transformers' `StaticEmbedding`: a text is the mean of its tokens' vectors ([`layers::bag`]).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use kernels::layers;

use crate::batch::TokenBatch;
use crate::names;
use crate::weights::{Collector, Weights};

/// One vector per token of the vocabulary.
#[derive(Module, Debug)]
pub(crate) struct StaticEmbedding {
    embedding: Param<Tensor<2>>,
    vocabulary: usize,
    dimension: usize,
}

impl StaticEmbedding {
    pub(crate) fn new(vocabulary: usize, dimension: usize, weights: &mut Weights, device: &Device) -> Self {
        Self { embedding: weights.table(names::BAG, vocabulary, dimension, device), vocabulary, dimension }
    }

    pub(crate) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    pub(crate) fn dimension(&self) -> usize {
        self.dimension
    }

    /// Means of token vectors, `[rows, dimension]`.
    pub(crate) fn forward(&self, batch: &TokenBatch) -> Tensor<2> {
        layers::bag(self.embedding.val(), batch.ids(), batch.lengths())
    }

    /// Token vectors, `[rows, width, dimension]`.
    pub(crate) fn hidden(&self, batch: &TokenBatch) -> Tensor<3> {
        layers::embedding(self.embedding.val(), &batch.padded(batch.ids())).reshape([batch.rows(), batch.width(), self.dimension])
    }

    pub(crate) fn collect(&self, into: &mut Collector) {
        into.param(names::BAG.to_owned(), &self.embedding);
    }
}
