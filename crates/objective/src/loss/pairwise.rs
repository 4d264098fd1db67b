//! The pairwise loss of ANCE and STAR: a two-way softmax for every (query, negative) pair.
//!
//! `mean over unblocked pairs of softplus((s_negative - s_target) / t)` (Xiong et al. 2021, arXiv 2007.00808; Zhan et al. 2021, arXiv
//! 2104.08051). It is not a joint softmax over the negatives: every pair weighs the same, however many a query has. Blocked pairs
//! leave both the sum and the denominator.

use burn::tensor::Tensor;
use burn::tensor::activation::softplus;

use super::{Loss, LossConfig, LossError, assert_valid};
use crate::candidates::{Embedded, exclude};

/// See the head of the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pairwise {
    /// Divisor of the scores. Without one, cosine scores keep every pair's weight between 0.12 and 0.88 however easy it is.
    pub temperature: f64,
}

pub(super) fn build(config: &LossConfig) -> Result<Box<dyn Loss>, LossError> {
    if config.symmetric {
        return Err(LossError::Unsupported { setting: "symmetric", kind: "pairwise" });
    }
    Ok(Box::new(Pairwise { temperature: config.temperature }))
}

impl Loss for Pairwise {
    fn value(&self, batch: &Embedded) -> Tensor<1> {
        assert_valid(batch);
        let is_pair = |query: usize, column: usize| batch.targets[query] != column && batch.is_candidate(query, column);
        let (rows, columns) = (batch.rows(), batch.columns());
        let pairs = (0..rows).map(|query| (0..columns).filter(|&column| is_pair(query, column)).count()).sum::<usize>();
        let scores = batch.scores().div_scalar(self.temperature);
        let margins = scores.clone() - batch.target_scores(&scores);
        // The softplus of an excluded margin is exactly 0, and so is its gradient: no weights are needed. A batch without any pair
        // has loss 0 rather than 0/0.
        let margins = exclude(margins, batch.mask(|query, column| !is_pair(query, column)));
        softplus(margins, 1.0).sum().div_scalar(pairs.max(1) as f64)
    }
}
