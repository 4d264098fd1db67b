//! From hidden states to one vector per text: the six poolings of sentence-transformers.

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::batch::TokenBatch;
use crate::states::{States, Token};
use crate::transformer::Transformer;

/// How hidden states become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// Mean over tokens.
    Mean,
    /// State of the first token.
    Cls,
    /// Largest value of each feature over tokens.
    Max,
    /// Mean with weights 1, 2, …, n (arXiv 2202.08904).
    WeightedMean,
    /// State of the last token.
    LastToken,
    /// Sum over tokens divided by √n.
    MeanSqrtLength,
}

impl Pooling {
    /// One vector per text, `[rows, hidden]`. Where one token is the vector, nothing is done for the others behind the last attention.
    pub(crate) fn pool(self, transformer: &Transformer, batch: &TokenBatch, device: &Device) -> Tensor<2> {
        match self {
            Self::Cls => transformer.one_each(batch, None, Token::First, device),
            Self::LastToken => transformer.one_each(batch, None, Token::Last, device),
            _ => self.over(&transformer.forward(batch, device)),
        }
    }

    /// The same out of the states of all tokens.
    fn over(self, states: &States) -> Tensor<2> {
        match self {
            Self::Cls => states.one_each(Token::First),
            Self::LastToken => states.one_each(Token::Last),
            Self::Mean => states.weighted_sums(|_, n| 1.0 / n),
            Self::MeanSqrtLength => states.weighted_sums(|_, n| 1.0 / n.sqrt()),
            Self::WeightedMean => states.weighted_sums(|position, n| (position + 1) as f64 / (n * (n + 1.0) / 2.0)),
            Self::Max => {
                // A state that stands in place of padding is one of the text's own.
                let states = states.padded(states.lengths().iter().copied().max().unwrap_or(1));
                let [rows, _, hidden] = states.dims();
                states.max_dim(1).reshape([rows, hidden])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use burn::tensor::{Device, TensorData};
    use kernels::layers::Sequences;

    use super::*;

    const ALL: [Pooling; 6] =
        [Pooling::Mean, Pooling::Cls, Pooling::Max, Pooling::WeightedMean, Pooling::LastToken, Pooling::MeanSqrtLength];

    /// One feature, two rows: tokens 1, 2, 6 and tokens -3, -5, packed or with padding 100 that must not be seen; and the gradient of the sum of both, the second times 10.
    fn pooled(pooling: Pooling, packed: bool) -> [Vec<f32>; 2] {
        let device = Device::flex().autodiff();
        let (numbers, sequences) = if packed {
            (vec![1.0f32, 2.0, 6.0, -3.0, -5.0], Sequences::packed(vec![3, 2]))
        } else {
            (vec![1.0f32, 2.0, 6.0, -3.0, -5.0, 100.0], Sequences::padded(vec![3, 2], 3))
        };
        let count = numbers.len();
        let hidden = Tensor::<2>::from_data(TensorData::new(numbers, [count, 1]), &device).require_grad();
        let pooled = pooling.over(&States::new(hidden.clone(), Arc::new(sequences)));
        let gradients = (pooled.clone() * Tensor::<2>::from_data([[1.0f32], [10.0]], &device)).sum().backward();
        [pooled, hidden.grad(&gradients).unwrap()].map(|tensor| tensor.into_data().iter::<f32>().collect())
    }

    #[test]
    fn poolings_by_hand() {
        let expected = [
            [3.0, -4.0],
            [1.0, -3.0],
            [6.0, -3.0],
            [(1.0 + 4.0 + 18.0) / 6.0, (-3.0 - 10.0) / 3.0],
            [6.0, -5.0],
            [9.0 / 3f32.sqrt(), -8.0 / 2f32.sqrt()],
        ];
        let slopes = [
            [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 5.0, 5.0],
            [1.0, 0.0, 0.0, 10.0, 0.0],
            [0.0, 0.0, 1.0, 10.0, 0.0],
            [1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0, 10.0 / 3.0, 20.0 / 3.0],
            [0.0, 0.0, 1.0, 0.0, 10.0],
            [1.0 / 3f32.sqrt(), 1.0 / 3f32.sqrt(), 1.0 / 3f32.sqrt(), 10.0 / 2f32.sqrt(), 10.0 / 2f32.sqrt()],
        ];
        for ((pooling, expected), slopes) in ALL.into_iter().zip(expected).zip(slopes) {
            for packed in [true, false] {
                let [got, mut gradient] = pooled(pooling, packed);
                if !packed {
                    assert_eq!(gradient.pop(), Some(0.0), "{pooling:?}: the gradient of padding");
                }
                for (got, expected) in got.iter().chain(&gradient).zip(expected.iter().chain(&slopes)) {
                    assert!((got - expected).abs() < 1e-6, "{pooling:?}: {got} against {expected}");
                }
            }
        }
    }
}
