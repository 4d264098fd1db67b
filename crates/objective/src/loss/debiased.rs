//! The debiased contrastive loss: the expected mass of hidden positives is taken off the negatives.
//!
//! With `e_j = exp(s_j / t)` over the `N` negatives and `p = exp(s+ / t)`:
//! `g = max( (sum_j e_j - tau_plus N p) / (1 - tau_plus), N exp(-1/t) )`, `loss = mean_i -log( p / (p + g) )` (Chuang et al. 2020, arXiv
//! 2007.00224). The floor is the least mass that cosines allow, so the loss is meant for cosine scores; on larger ones the floor is
//! capped at `N` times the row's largest exponential, which keeps it finite. Floor and cap are constants: where they are active the
//! negatives have no gradient, and `floor_share` says for how many queries.

use burn::tensor::{DType, Tensor};

use super::matrix::Scored;
use super::settings::Settings;
use super::{Entry, Evaluated, Loss, LossError, Needs, Reach};

pub(super) const ENTRY: Entry =
    Entry { name: "debiased", build, settings: &["tau_plus"], reach: Reach::All, needs: Needs::NOTHING, by_query: true };

/// See the head of the file.
#[derive(Debug)]
struct Debiased {
    tau_plus: f64,
}

fn build(settings: &Settings) -> Result<Box<dyn Loss>, LossError> {
    Ok(Box::new(Debiased { tau_plus: tau_plus(settings)? }))
}

/// The share of hidden positives.
pub(super) fn tau_plus(settings: &Settings) -> Result<f64, LossError> {
    let got = settings.tau_plus.unwrap_or(0.01);
    settings.number("tau_plus", got, (0.0..1.0).contains(&got), "a share from 0 and below 1, such as 0.01")
}

impl Loss for Debiased {
    fn value(&self, scored: &Scored<'_>) -> Evaluated {
        corrected(scored, self.tau_plus, |negatives, highest| (negatives - highest).exp().sum_dim(1))
    }
}

/// The loss with the mass of the negatives from `mass`, which is given their logits `[queries, width]` (others excluded) and the highest
/// logit of each row `[queries, 1]`, by whose exponential the mass must be divided. That keeps every exponential at or below 1.
pub(super) fn corrected(scored: &Scored<'_>, tau_plus: f64, mass: impl FnOnce(Tensor<2>, Tensor<2>) -> Tensor<2>) -> Evaluated {
    let negatives = scored.negative_logits();
    let target = scored.of_targets(&scored.document_logits());
    let highest = negatives.clone().inner().max_dim(1).max_pair(target.clone().inner());
    let count = scored.negatives();
    let positive = (target.clone() - highest.clone()).exp();
    let hidden = positive.clone() * count.clone().mul_scalar(tau_plus);
    let corrected = (mass(negatives, highest.clone()) - hidden).div_scalar(1.0 - tau_plus);
    let lowest = scored.divide(highest.full_like(-1.0));
    let floor = (lowest - highest.clone()).clamp_max(0.0).exp() * count;
    let floored = corrected.clone().inner().lower(floor.clone().inner());
    let kept = corrected.mask_where(floored.clone(), floor);
    let value = (positive + kept).log() + highest - target;
    Evaluated { value: value.mean(), parts: vec![("floor_share".into(), floored.float().cast(DType::F32).mean())] }
}
