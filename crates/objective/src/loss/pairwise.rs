//! The pairwise loss of ANCE and STAR: a two-way softmax for every (query, negative) pair.
//!
//! `mean over pairs of softplus((s_negative - s_target) / t)` (Xiong et al. 2021, arXiv 2007.00808; Zhan et al. 2021, arXiv
//! 2104.08051). It is not a joint softmax over the negatives: every pair weighs the same, however many a query has. Excluded pairs
//! leave both the sum and the denominator. Without a temperature, cosine scores keep every pair's weight between 0.12 and 0.88 however
//! easy it is.

use burn::tensor::activation::softplus;

use super::matrix::Scored;
use super::{Entry, Evaluated, Loss, Needs, Reach};

pub(super) const ENTRY: Entry =
    Entry { name: "pairwise", build: |_| Ok(Box::new(Pairwise)), settings: &[], reach: Reach::All, needs: Needs::NOTHING, by_query: false };

/// See the head of the file.
#[derive(Debug)]
struct Pairwise;

impl Loss for Pairwise {
    fn value(&self, scored: &Scored<'_>) -> Evaluated {
        let logits = scored.logits();
        let margins = logits.clone() - scored.of_targets(&logits);
        // The softplus of an excluded margin is exactly 0, and so is its gradient: no weights are needed. A batch without any pair
        // has loss 0 rather than 0/0.
        let pairs = scored.negatives().sum().clamp_min(1.0);
        (softplus(scored.exclude_non_negatives(margins), 1.0).sum() / pairs).into()
    }
}
