//! The retriever against the ranker: probability is drawn to the documents that the ranker takes for a positive.
//!
//! `mean_i Σ_j softplus(T_ij − T_i⁺) · −log softmax_j(s_ij / t)` over the own columns `j` with a known teacher score, target included: AR2's
//! `Σ_j log( e^{T⁺} / (e^{T⁺} + e^{T_j}) ) · log softmax_j` (Zhang et al. 2022, arXiv 2110.03611). The weights carry no gradient. The released code
//! sums over queries, so that there λ changes its meaning with the batch; here it is their mean. Queries whose target has no score, or with fewer
//! than two scored columns, leave both the sum and the denominator. AR2's loss is this and `kl`, each with weight 0.5.

use kernels::layers::log_sum_exp;

use super::matrix::{Scored, cells, exclude};
use super::settings::Settings;
use super::{Entry, Evaluated, Loss, LossError, Needs, Reach};
use crate::candidates::Embedded;

pub(super) const ENTRY: Entry = Entry {
    name: "adversarial",
    build,
    settings: &[],
    reach: Reach::Labelled,
    needs: Needs { own: true, teacher: true, ..Needs::NOTHING },
    by_query: false,
};

/// See the head of the file.
#[derive(Debug)]
struct Adversarial;

fn build(_: &Settings) -> Result<Box<dyn Loss>, LossError> {
    Ok(Box::new(Adversarial))
}

impl Loss for Adversarial {
    fn value(&self, scored: &Scored<'_>) -> Evaluated {
        let batch = scored.batch;
        let weights = weights(batch);
        let columns = batch.columns();
        let lists = weights.chunks(columns).filter(|row| row.iter().any(|weight| !weight.is_nan())).count();
        let unlisted = cells(batch, batch.rows(), columns, |row, column| weights[row * columns + column].is_nan());
        let logits = exclude(scored.document_logits(), unlisted.clone());
        let surprise = log_sum_exp(logits.clone()) - logits;
        // Outside the lists the surprise is about 1e30: filled, so that no such number meets the weight 0.
        let surprise = match unlisted {
            Some(unlisted) => surprise.mask_fill(unlisted, 0.0),
            None => surprise,
        };
        let weights = weights.iter().map(|weight| if weight.is_nan() { 0.0 } else { *weight as f32 }).collect();
        (surprise * scored.upload(weights)).sum().div_scalar(lists.max(1) as f64).into()
    }
}

/// `softplus(T_ij − T_i⁺)`, `[queries * columns]`; NaN outside the lists.
fn weights(batch: &Embedded) -> Vec<f64> {
    let cells = batch.cells();
    let columns = cells.columns();
    let mut weights = vec![f64::NAN; batch.rows() * columns];
    for (query, (row, &target)) in weights.chunks_exact_mut(columns).zip(&batch.targets).enumerate() {
        let Some(positive) = cells.teacher_score(query, target) else { continue };
        for (column, cell) in row.iter_mut().enumerate().filter(|&(column, _)| cells.is_own_candidate(query, column)) {
            *cell = cells.teacher_score(query, column).map_or(f64::NAN, |score| softplus(score - positive));
        }
        if row.iter().filter(|weight| !weight.is_nan()).count() < 2 {
            row.fill(f64::NAN);
        }
    }
    weights
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
