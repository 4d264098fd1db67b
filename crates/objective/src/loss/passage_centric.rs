//! The passage-centric term of PAIR: a positive passage must be closer to its query than to other queries and to hard negatives.
//!
//! With `d_i` the target of query `i`: `mean_i -log( exp(s(d_i, q_i) / t) / sum_x exp(s(d_i, x) / t) )`, `x` over all queries of the batch
//! and all documents that are nobody's target (Ren et al. 2021, 2021.findings-acl.191, which weighs it 0.1 and the ordinary loss 0.9).
//! A query `k` is left out when it has the same target or may not have `d_i` as a candidate; a document when it is no candidate of
//! query `i`. Meant for one encoder on both sides.

use burn::tensor::{Int, Tensor, TensorData};
use kernels::layers::{log_sum_exp, similarities};

use super::matrix::{Scored, cells, exclude};
use super::{Entry, Evaluated, Loss, Needs, Reach};

pub(super) const ENTRY: Entry = Entry {
    name: "passage-centric",
    build: |_| Ok(Box::new(PassageCentric)),
    settings: &[],
    reach: Reach::Labelled,
    needs: Needs::NOTHING,
    by_query: false,
};

/// See the head of the file.
#[derive(Debug)]
struct PassageCentric;

impl Loss for PassageCentric {
    fn value(&self, scored: &Scored<'_>) -> Evaluated {
        let (batch, matrix) = (scored.batch, scored.matrix);
        let (rows, targets) = (batch.rows(), &batch.targets);
        let known = batch.cells();
        let mut is_target = vec![false; known.columns()];
        targets.iter().for_each(|&target| is_target[target] = true);
        let negatives: Vec<usize> = (0..known.columns()).filter(|&column| !is_target[column]).collect();
        let passages = matrix.documents.clone().select(0, matrix.targets.clone());
        let mut scores = similarities(passages.clone(), matrix.queries.clone());
        if !negatives.is_empty() {
            let indices: Vec<i32> = negatives.iter().map(|&column| column as i32).collect();
            let indices = Tensor::from_data(TensorData::new(indices, [negatives.len()]), &matrix.targets.device());
            let others = matrix.documents.clone().select(0, indices);
            scores = Tensor::cat(vec![scores, similarities(passages, others)], 1);
        }
        let excluded = cells(batch, rows, rows + negatives.len(), |row, column| match column.checked_sub(rows) {
            Some(negative) => !known.is_candidate(row, negatives[negative]),
            None => row != column && (targets[row] == targets[column] || !known.is_candidate(column, targets[row])),
        });
        let logits = exclude(scored.divide(scores), excluded);
        let diagonal: Vec<i32> = (0..rows as i32).collect();
        let diagonal = Tensor::<2, Int>::from_data(TensorData::new(diagonal, [rows, 1]), &matrix.targets.device());
        (log_sum_exp(logits.clone()) - logits.gather(1, diagonal)).mean().into()
    }
}
