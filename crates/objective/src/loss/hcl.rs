//! The hardness-reweighted contrastive loss: [`debiased`](super::debiased) with negatives weighted by their own score.
//!
//! `w_j = e_j^beta`, mass `sum_j w_j e_j / mean_j w_j` in the place of `sum_j e_j` (Robinson et al. 2021, arXiv 2010.04592). Gradient flows
//! through the weights. `beta = 0` is the debiased loss; in the paper 1 to 2 is best and 6 hurts.

use kernels::layers::log_sum_exp;

use super::debiased::{corrected, tau_plus};
use super::matrix::{BLOCKED_SCORE, Scored};
use super::settings::Settings;
use super::{Entry, Evaluated, Loss, LossError, Needs, Reach};

pub(super) const ENTRY: Entry =
    Entry { name: "hcl", build, settings: &["beta", "tau_plus"], reach: Reach::All, needs: Needs::NOTHING, by_query: true };

/// See the head of the file.
#[derive(Debug)]
struct Hcl {
    beta: f64,
    tau_plus: f64,
}

fn build(settings: &Settings) -> Result<Box<dyn Loss>, LossError> {
    let beta = settings.not_negative("beta", settings.beta.unwrap_or(1.0))?;
    Ok(Box::new(Hcl { beta, tau_plus: tau_plus(settings)? }))
}

impl Loss for Hcl {
    fn value(&self, scored: &Scored<'_>) -> Evaluated {
        corrected(scored, self.tau_plus, |negatives, highest| {
            let count = scored.negatives();
            // Excluded again: with beta = 0 the weight of an excluded column would be 1.
            let weights = scored.exclude_non_negatives(negatives.clone().mul_scalar(self.beta));
            let weighted = scored.exclude_non_negatives(negatives.mul_scalar(1.0 + self.beta));
            let log = log_sum_exp(weighted) - log_sum_exp(weights) + count.clone().clamp_min(1.0).log() - highest;
            // A row without negatives has no mass, and whatever stands in its logarithm must not reach the exponential.
            log.mask_fill(count.lower_scalar(0.5), BLOCKED_SCORE).exp()
        })
    }
}
