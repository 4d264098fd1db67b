//! The embedding bag of sentence-transformers' `StaticEmbedding`: a text is the mean of its tokens' vectors.
//!
//! The mean is computed as `counts [rows, u] x distinct [u, width]`, where u is the number of distinct tokens of the
//! batch and `counts` holds occurrences / length. Both directions are then one matrix product and one gather of u rows:
//! no `[rows, width, dimension]` tensor is ever made, and no two updates of the gradient meet in the same row, so the
//! result does not depend on the order in which a device adds.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};

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
    pub(crate) fn forward(&self, batch: &TokenBatch, device: &Device) -> Tensor<2> {
        let bags = Bags::new(batch, self.vocabulary);
        let distinct = bags.tokens.len();
        let tokens = Tensor::<1, Int>::from_data(TensorData::new(bags.tokens, [distinct]), device);
        let counts = Tensor::<2>::from_data(TensorData::new(bags.counts, [batch.rows, distinct]), device);
        counts.matmul(self.embedding.val().select(0, tokens))
    }

    /// Token vectors, `[rows, width, dimension]`.
    pub(crate) fn hidden(&self, batch: &TokenBatch, device: &Device) -> Tensor<3> {
        let ids = TensorData::new(batch.ids.clone(), [batch.rows * batch.width]);
        let ids = Tensor::<1, Int>::from_data(ids, device);
        self.embedding.val().select(0, ids).reshape([batch.rows, batch.width, self.dimension])
    }

    pub(crate) fn collect(&self, into: &mut Collector) {
        into.param(names::BAG.to_owned(), &self.embedding);
    }
}

/// The distinct tokens of a batch and, for each row, the share that each of them has.
struct Bags {
    tokens: Vec<i32>,
    counts: Vec<f32>,
}

impl Bags {
    fn new(batch: &TokenBatch, vocabulary: usize) -> Self {
        let mut column = vec![u32::MAX; vocabulary];
        for row in 0..batch.rows {
            for &token in batch.row(row) {
                column[token as usize] = 0;
            }
        }
        // Ascending order makes the gather read memory forwards.
        let mut tokens = Vec::new();
        for (token, slot) in column.iter_mut().enumerate() {
            if *slot == 0 {
                *slot = tokens.len() as u32;
                tokens.push(token as i32);
            }
        }
        let mut counts = vec![0.0; batch.rows * tokens.len()];
        for (row, shares) in counts.chunks_exact_mut(tokens.len().max(1)).enumerate() {
            let share = 1.0 / batch.lengths[row] as f32;
            for &token in batch.row(row) {
                shares[column[token as usize] as usize] += share;
            }
        }
        Self { tokens, counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bags_hold_shares_of_distinct_tokens() {
        let bags = Bags::new(&TokenBatch::new(&[&[4, 2, 4, 4], &[2]], 0), 6);
        assert_eq!(bags.tokens, [2, 4]);
        assert_eq!(bags.counts, [0.25, 0.75, 1.0, 0.0]);
    }
}
