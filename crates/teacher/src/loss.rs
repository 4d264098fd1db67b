//! Losses of a reranker over lists of one positive and some negatives.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Put in the place of a missing document: its share of a softmax is exactly 0 in f32, and it is finite.
const ABSENT: f32 = -1e9;

/// How the scores of a list become a loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListLoss {
    /// Cross-entropy of the positive among its list, mean over lists: `log sum_j exp(s_j) - s+` (Gao et al. 2021, arXiv 2101.08751; the
    /// ranker of AR2, arXiv 2110.03611, and of RocketQAv2, arXiv 2110.07367).
    #[default]
    Lce,
    /// Binary cross-entropy of every pair by itself, mean over pairs: `softplus(-s+)`, `softplus(s_j)` (RocketQA, arXiv 2010.08191).
    /// Its sigmoid is a probability of relevance, which thresholds need.
    BinaryCrossEntropy,
}

impl ListLoss {
    /// The loss, `[1]`, of `logits` `[pairs]`, list after list, each with its positive first; `sizes` are the documents of the lists.
    ///
    /// # Panics
    /// When the sizes do not add up to the pairs, or a list is empty.
    pub fn value(self, logits: Tensor<1>, sizes: &[usize], device: &Device) -> Tensor<1> {
        let pairs = logits.dims()[0];
        assert!(sizes.iter().sum::<usize>() == pairs && sizes.iter().all(|&size| size > 0), "lists {sizes:?} do not make {pairs} pairs");
        match self {
            Self::Lce => list_log_probabilities(logits, sizes, device).narrow(1, 0, 1).mean().neg(),
            Self::BinaryCrossEntropy => {
                let signs: Vec<f32> = sizes.iter().flat_map(|&size| (0..size).map(|place| if place == 0 { -1.0 } else { 1.0 })).collect();
                let wrong = logits * Tensor::<1>::from_data(TensorData::new(signs, [pairs]), device);
                // softplus, in a form that overflows nowhere and whose gradient at 0 is 1/2: `max(x, 0)` has 0 or 1 there.
                let size = wrong.clone().abs();
                ((wrong + size.clone()).mul_scalar(0.5) + size.neg().exp().log1p()).mean()
            }
        }
    }
}

/// Log-probabilities of each list's softmax, `[lists, longest list]`: what distillation reads too. Places behind the end of a shorter
/// list hold about -1e9. Arguments as in [`ListLoss::value`].
pub fn list_log_probabilities(logits: Tensor<1>, sizes: &[usize], device: &Device) -> Tensor<2> {
    let (lists, width) = (sizes.len(), sizes.iter().copied().max().unwrap_or(0));
    if sizes.iter().all(|&size| size == width) {
        return log_softmax(logits.reshape([lists, width]), 1);
    }
    let mut places = vec![0i32; lists * width];
    let mut absent = vec![ABSENT; lists * width];
    let mut next = 0;
    for (list, &size) in sizes.iter().enumerate() {
        for place in 0..size {
            places[list * width + place] = next;
            absent[list * width + place] = 0.0;
            next += 1;
        }
    }
    let places = Tensor::<1, Int>::from_data(TensorData::new(places, [lists * width]), device);
    let absent = Tensor::<2>::from_data(TensorData::new(absent, [lists, width]), device);
    log_softmax(logits.select(0, places).reshape([lists, width]) + absent, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().iter::<f32>().collect()
    }

    #[test]
    fn losses_and_their_gradients_equal_the_reference() {
        let device = Device::flex().autodiff();
        for (logits, sizes) in [
            (vec![0.3f32, -1.0, 2.0, 0.1, 0.2, -0.5], vec![3usize, 3]),
            (vec![0.3, -1.0, 2.0, 0.1, 5.0, -0.5], vec![2, 4]),
            (vec![100.0, -100.0, -100.0, 100.0, 0.0], vec![2, 3]),
            (vec![1.0, 2.0], vec![2]),
        ] {
            let exact: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
            for (loss, expected) in [
                (ListLoss::Lce, reference::lce as fn(&[f64], &[usize]) -> f64),
                (ListLoss::BinaryCrossEntropy, reference::binary_cross_entropy),
            ] {
                let leaf = Tensor::<1>::from_data(TensorData::new(logits.clone(), [logits.len()]), &device).require_grad();
                let value = loss.value(leaf.clone(), &sizes, &device);
                let got = value.clone().into_scalar::<f32>();
                let want = expected(&exact, &sizes);
                assert!((f64::from(got) - want).abs() < 1e-5 * (1.0 + want.abs()), "{loss:?} {sizes:?}: {got} against {want}");
                let gradient = floats(leaf.grad(&value.backward()).unwrap());
                for (place, got) in gradient.iter().enumerate() {
                    let moved = |by: f64| {
                        let mut moved = exact.clone();
                        moved[place] += by;
                        expected(&moved, &sizes)
                    };
                    let want = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    assert!((f64::from(*got) - want).abs() < 1e-5, "{loss:?} {sizes:?} [{place}]: {got} against {want}");
                }
            }
        }
    }

    #[test]
    fn a_place_behind_the_end_of_a_list_has_no_share() {
        let device = Device::flex();
        let logits = Tensor::<1>::from_data([1.0f32, 1.0, 0.0, 0.0, 0.0], &device);
        let shares = floats(list_log_probabilities(logits, &[2, 3], &device).exp());
        for (got, expected) in shares.iter().zip([0.5, 0.5, 0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]) {
            assert!((got - expected).abs() < 1e-6, "{shares:?}");
        }
    }
}
