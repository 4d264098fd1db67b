//! InfoNCE with contrastive confidence regularisation: peaked predictions are rewarded, so that noise in single negatives is fitted less.
//!
//! With `p` the softmax over all columns of a row, target included: `mean_i ( -log p_target + beta mean_j log p_j )` (Wang et al. 2024,
//! arXiv 2401.00165). Beta is about 0.5 for cosines and 1e-4 to 1e-3 for dot products; to be switched on after ordinary training. The
//! regulariser has no lower bound on unbounded scores.

use kernels::layers::log_sum_exp;

use super::matrix::Scored;
use super::settings::Settings;
use super::{Entry, Evaluated, Loss, LossError, Needs, Reach};

pub(super) const ENTRY: Entry = Entry { name: "ccr", build, settings: &["beta"], reach: Reach::All, needs: Needs::NOTHING, by_query: true };

/// See the head of the file.
#[derive(Debug)]
struct Ccr {
    beta: f64,
}

fn build(settings: &Settings) -> Result<Box<dyn Loss>, LossError> {
    Ok(Box::new(Ccr { beta: settings.not_negative("beta", settings.beta.unwrap_or(0.5))? }))
}

impl Loss for Ccr {
    fn value(&self, scored: &Scored<'_>) -> Evaluated {
        let logits = scored.logits();
        let log_shares = logits.clone() - log_sum_exp(logits);
        let target = scored.of_targets(&log_shares);
        let mean = scored.fill_excluded(log_shares, 0.0).sum_dim(1) / scored.negatives().add_scalar(1.0);
        (mean.mul_scalar(self.beta) - target).mean().into()
    }
}
