//! InfoNCE: the negative log-likelihood of the target among all candidates of a query.
//!
//! `mean_i ( log sum_j exp(s_ij / t) - s_i,target / t )` over the columns `j` that are not excluded (Henderson et al. 2017, arXiv
//! 1705.00652; Karpukhin et al. 2020, arXiv 2004.04906). The symmetric form averages it with the same quantity read down the columns:
//! the query of a positive among all queries. Negatives, blocks and mixed vectors have no query of their own, so that direction uses
//! the positives' columns only.

use burn::tensor::{Bool, Tensor};
use kernels::layers::log_sum_exp;

use super::matrix::{Scored, cells, exclude};
use super::{Entry, Evaluated, Loss, Needs, Reach};
use crate::candidates::Embedded;

pub(super) const ENTRY: Entry = Entry {
    name: "info-nce",
    build: |settings| Ok(Box::new(InfoNce { symmetric: settings.symmetric })),
    settings: &["symmetric"],
    reach: Reach::All,
    needs: Needs::NOTHING,
    by_query: true,
};

/// See the head of the file.
#[derive(Debug)]
struct InfoNce {
    /// Whether document-to-query is averaged in.
    symmetric: bool,
}

impl Loss for InfoNce {
    fn value(&self, scored: &Scored<'_>) -> Evaluated {
        if !self.symmetric {
            return scored.cross_entropy().mean().into();
        }
        let logits = scored.logits();
        let targets = scored.of_targets(&logits);
        let forward = (log_sum_exp(logits.clone()) - targets.clone()).mean();
        // Column i is the positive of query i, its rows are the queries it is compared with.
        let columns = exclude(logits.select(1, scored.matrix.targets.clone()), repeated_targets(scored.batch));
        let backward = (log_sum_exp(columns.transpose()) - targets).mean();
        (forward + backward).div_scalar(2.0).into()
    }
}

/// `[queries, queries]`, true where another query has the same document as its target: that query is a second right answer for the
/// document, not a wrong one. `None` when all targets differ.
fn repeated_targets(batch: &Embedded) -> Option<Tensor<2, Bool>> {
    let (targets, count) = (&batch.targets, batch.rows());
    cells(batch, count, count, |row, column| row != column && targets[row] == targets[column])
}
