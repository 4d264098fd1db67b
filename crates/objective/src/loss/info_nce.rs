//! InfoNCE: the negative log-likelihood of the target among all candidates of a query.
//!
//! `mean_i ( log sum_j exp(s_ij / t) - s_i,target / t )` over the unblocked columns `j` (Henderson et al. 2017, arXiv 1705.00652;
//! Karpukhin et al. 2020, arXiv 2004.04906). The symmetric form averages it with the same quantity read down the columns: the
//! query of a positive among all queries. Negatives have no query of their own, so that direction uses the positives' columns only.

use burn::tensor::{Bool, Tensor, TensorData};

use super::{Loss, LossConfig, LossError, assert_valid};
use crate::candidates::{Embedded, exclude};

/// See the head of the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InfoNce {
    /// Divisor of the scores.
    pub temperature: f64,
    /// Whether document-to-query is averaged in.
    pub symmetric: bool,
}

pub(super) fn build(config: &LossConfig) -> Result<Box<dyn Loss>, LossError> {
    Ok(Box::new(InfoNce { temperature: config.temperature, symmetric: config.symmetric }))
}

impl Loss for InfoNce {
    fn value(&self, batch: &Embedded) -> Tensor<1> {
        assert_valid(batch);
        let logits = batch.scores().div_scalar(self.temperature);
        let logits = exclude(logits, batch.mask(|query, column| !batch.is_candidate(query, column)));
        let targets = batch.target_scores(&logits);
        let forward = (log_sum_exp(&logits, 1) - targets.clone()).mean();
        if !self.symmetric {
            return forward;
        }
        // Column i is the positive of query i, its rows are the queries it is compared with.
        let columns = exclude(logits.select(1, batch.target_indices()), repeated_targets(batch));
        let backward = (log_sum_exp(&columns, 0).transpose() - targets).mean();
        (forward + backward).div_scalar(2.0)
    }
}

/// `log sum exp` along `dimension`, which stays with length 1. The maximum is subtracted first and carries no gradient.
fn log_sum_exp(logits: &Tensor<2>, dimension: usize) -> Tensor<2> {
    let maximum = logits.clone().detach().max_dim(dimension);
    (logits.clone() - maximum.clone()).exp().sum_dim(dimension).log() + maximum
}

/// `[queries, queries]`, true where another query has the same document as its target: that query is a second right answer for the
/// document, not a wrong one. `None` when all targets differ.
fn repeated_targets(batch: &Embedded) -> Option<Tensor<2, Bool>> {
    let count = batch.targets.len();
    let mut repeated = vec![false; count * count];
    for (row, first) in batch.targets.iter().enumerate() {
        for (column, second) in batch.targets.iter().enumerate() {
            repeated[row * count + column] = row != column && first == second;
        }
    }
    repeated.contains(&true).then(|| Tensor::from_data(TensorData::new(repeated, [count, count]), &batch.queries.device()))
}
