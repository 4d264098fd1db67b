//! From hidden states to one vector per text: the six poolings of sentence-transformers, and normalisation.
//!
//! All but `cls` and `max` are weighted sums over tokens, so they share one batched product with weights made on the
//! host from the row lengths. Invariant: padding has weight 0.

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::batch::TokenBatch;

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

/// Shift of padding states before the maximum; far below any state and finite.
const LOWEST: f32 = -1e9;

/// Smallest norm by which a vector is divided, as in PyTorch's `normalize`.
const LEAST_NORM: f64 = 1e-12;

impl Pooling {
    /// Pools `hidden` `[rows, width, d]` of `batch` to `[rows, d]`.
    pub fn pool(self, hidden: Tensor<3>, batch: &TokenBatch, device: &Device) -> Tensor<2> {
        let (rows, width) = (batch.rows, batch.width);
        let dimension = hidden.dims()[2];
        match self {
            Self::Cls => hidden.narrow(1, 0, 1).reshape([rows, dimension]),
            Self::Max => {
                let masked = if batch.is_full() {
                    hidden
                } else {
                    let shift = per_token(batch, |_, _| 0.0, LOWEST);
                    hidden + Tensor::<3>::from_data(TensorData::new(shift, [rows, width, 1]), device)
                };
                masked.max_dim(1).reshape([rows, dimension])
            }
            _ => {
                let weights = per_token(batch, |position, length| self.weight(position, length), 0.0);
                let weights = Tensor::<3>::from_data(TensorData::new(weights, [rows, 1, width]), device);
                weights.matmul(hidden).reshape([rows, dimension])
            }
        }
    }

    /// Weight of the token at `position` of a row of `length` tokens.
    fn weight(self, position: usize, length: usize) -> f32 {
        let n = length as f64;
        let weight = match self {
            Self::Mean => 1.0 / n,
            Self::MeanSqrtLength => 1.0 / n.sqrt(),
            Self::WeightedMean => (position + 1) as f64 / (n * (n + 1.0) / 2.0),
            Self::LastToken => f64::from(u8::from(position + 1 == length)),
            Self::Cls => f64::from(u8::from(position == 0)),
            Self::Max => unreachable!("a maximum is no weighted sum"),
        };
        weight as f32
    }
}

/// `[rows * width]`: `token(position, length)` on tokens and `padding` elsewhere.
fn per_token(batch: &TokenBatch, token: impl Fn(usize, usize) -> f32, padding: f32) -> Vec<f32> {
    let mut values = vec![padding; batch.rows * batch.width];
    for (row, &length) in values.chunks_exact_mut(batch.width).zip(&batch.lengths) {
        for (position, value) in row[..length].iter_mut().enumerate() {
            *value = token(position, length);
        }
    }
    values
}

/// Divides every row by its Euclidean norm. A zero row stays zero, and its gradient is zero and not NaN, because the
/// clamp stands before the root.
pub fn normalize(rows: Tensor<2>) -> Tensor<2> {
    let norm = rows.clone().square().sum_dim(1).clamp_min(LEAST_NORM * LEAST_NORM).sqrt();
    rows / norm
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Pooling; 6] =
        [Pooling::Mean, Pooling::Cls, Pooling::Max, Pooling::WeightedMean, Pooling::LastToken, Pooling::MeanSqrtLength];

    /// One feature, two rows: tokens 1, 2, 6 and tokens -3, -5 with padding 100 that must not be seen.
    fn pooled(pooling: Pooling) -> Vec<f32> {
        let device = Device::flex();
        let batch = TokenBatch::new(&[&[1, 1, 1], &[1, 1]], 0);
        let hidden = Tensor::<3>::from_data(TensorData::new(vec![1.0f32, 2.0, 6.0, -3.0, -5.0, 100.0], [2, 3, 1]), &device);
        pooling.pool(hidden, &batch, &device).into_data().iter::<f32>().collect()
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
        for (pooling, expected) in ALL.into_iter().zip(expected) {
            let got = pooled(pooling);
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() < 1e-6, "{pooling:?}: {got} against {expected}");
            }
        }
    }

    #[test]
    fn normalised_rows_have_unit_norm_and_zero_stays_zero() {
        let device = Device::flex().autodiff();
        let rows = Tensor::<2>::from_data([[3.0f32, 4.0], [0.0, 0.0]], &device).require_grad();
        let unit = normalize(rows.clone());
        assert_eq!(unit.to_data().iter::<f32>().collect::<Vec<_>>(), [0.6, 0.8, 0.0, 0.0]);
        let gradients = unit.sum().backward();
        let gradient = rows.grad(&gradients).unwrap().into_data();
        assert!(gradient.iter::<f32>().all(f32::is_finite), "{gradient}");
    }
}
