//! Multi-head self-attention with an additive score bias (padding mask, relative positions).
//!
//! Hidden states are kept flat, `[tokens, hidden]`, between layers: the linear products then are single large matrix
//! products. Where the device can, the heads run fused (`kernels::layers`) over tokens without padding, relative positions
//! as one bias for each distance; elsewhere they are a composition of tensor operations, `[rows * width, hidden]`, heads
//! split by strided views.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

use kernels::layers::{self, AttentionShape, Precision};

use crate::architecture::Architecture;
use crate::batch::TokenBatch;
use crate::linear::{linear, linear_for_attention};

/// Added to the score of a padding column. Far below any real score, so its probability is exactly 0 in f32, and
/// finite, so no row can become NaN.
const MASKED: f32 = -1e9;

/// Query, key and value projections, side by side as one, and the product of the heads; the output projection belongs to the layer.
#[derive(Module, Debug)]
pub(crate) struct SelfAttention {
    pub(crate) joint: Linear,
    dropout: Dropout,
    heads: usize,
}

impl SelfAttention {
    pub(crate) fn new(joint: Linear, architecture: &Architecture) -> Self {
        Self { joint, dropout: DropoutConfig::new(architecture.attention_dropout).init(), heads: architecture.heads }
    }

    /// `[tokens, hidden]` to the same shape.
    pub(crate) fn forward(&self, x: Tensor<2>, mask: &Mask, precision: Precision) -> Tensor<2> {
        match mask {
            Mask::Places { shape, places, relative } => {
                let joint = linear_for_attention(&self.joint, x, precision);
                let dropout = active(&self.dropout, &joint.device());
                layers::attention(joint, relative.as_deref().cloned(), places.clone(), shape.clone(), dropout)
            }
            Mask::Bias { rows, width, bias } => self.composed(&linear(&self.joint, x, precision), *rows, *width, bias.clone()),
        }
    }

    fn composed(&self, joint: &Tensor<2>, rows: usize, width: usize, bias: Option<Tensor<4>>) -> Tensor<2> {
        let (tokens, hidden) = (joint.dims()[0], joint.dims()[1] / 3);
        let head = hidden / self.heads;
        let [query, key, value] = [0, 1, 2].map(|part| joint.clone().narrow(1, part * hidden, hidden));
        let split = |flat: Tensor<2>| flat.reshape([rows, width, self.heads, head]).swap_dims(1, 2);
        // Scaling the queries touches width * head numbers per head instead of width * width.
        let query = split(query.mul_scalar(1.0 / (head as f64).sqrt()));
        let mut scores = query.matmul(split(key).swap_dims(2, 3));
        if let Some(bias) = bias {
            scores = scores + bias;
        }
        let probabilities = self.dropout.forward(softmax(scores, 3));
        probabilities.matmul(split(value)).swap_dims(1, 2).reshape([tokens, hidden])
    }
}

/// Which keys a query may see, and what is added to its scores.
pub(crate) enum Mask {
    /// Where the tokens of each text lie, for the fused path, on the host and on the device; and what scores have added for the
    /// distance between their tokens, `[heads, 2 width - 1]`.
    Places { shape: AttentionShape, places: Tensor<1, Int>, relative: Option<Box<Tensor<2>>> },
    /// A bias that is broadcast to `[rows, heads, width, width]`: padding, relative positions or both.
    Bias { rows: usize, width: usize, bias: Option<Tensor<4>> },
}

/// The probability that the dropout layer applies now: only in training, and only where gradients can be.
pub(crate) fn active(dropout: &Dropout, device: &Device) -> f64 {
    if dropout.training.is_enabled() && device.is_autodiff() { dropout.prob } else { 0.0 }
}

/// `[rows, 1, 1, width]`: 0 on tokens, [`MASKED`] on padding. None when nothing is padded, which saves an addition over
/// all scores of every layer.
pub(crate) fn padding_bias(batch: &TokenBatch, device: &Device) -> Option<Tensor<4>> {
    if batch.is_full() {
        return None;
    }
    let mut bias = vec![MASKED; batch.rows() * batch.width()];
    for (row, &length) in bias.chunks_exact_mut(batch.width()).zip(batch.lengths()) {
        row[..length].fill(0.0);
    }
    Some(Tensor::from_data(TensorData::new(bias, [batch.rows(), 1, 1, batch.width()]), device))
}

/// Bucket of each distance from a query to a key, from `1 - width` to `width - 1`, as MPNet and T5 (arXiv 1910.10683) define
/// them: half the buckets for each direction, exact up to a quarter of all, then logarithmic up to distance 128.
pub(crate) fn relative_buckets(width: usize, buckets: usize) -> Vec<i32> {
    const FARTHEST: f32 = 128.0;
    let half = buckets / 2;
    let exact = (half / 2).max(1);
    let scale = (half - exact.min(half)) as f32;
    let near = |distance: usize| {
        if distance < exact {
            distance
        } else {
            let ratio = (distance as f32 / exact as f32).ln() / (FARTHEST / exact as f32).ln();
            (exact + (ratio * scale) as usize).min(half - 1)
        }
    };
    let before = (1..width).rev().map(near);
    before.chain((0..width).map(|distance| near(distance) + if distance > 0 { half } else { 0 })).map(|bucket| bucket as i32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_the_published_function() {
        // Computed by hand from the definition with 32 buckets: 8 exact per direction, then 8 logarithmic.
        let buckets = relative_buckets(200, 32);
        assert_eq!(buckets.len(), 399);
        let at = |query: usize, key: usize| buckets[199 + key - query];
        assert_eq!((at(5, 5), at(5, 4), at(5, 6), at(0, 7)), (0, 1, 17, 23));
        assert_eq!((at(8, 0), at(16, 0), at(32, 0), at(64, 0)), (8, 10, 12, 14));
        assert_eq!((at(127, 0), at(199, 0), at(0, 199)), (15, 15, 31));
    }

    #[test]
    fn padding_bias_marks_padding_only() {
        let batch = TokenBatch::new(&[&[1, 2, 3], &[4]], 0);
        let bias = padding_bias(&batch, &Device::flex()).unwrap().into_data();
        assert_eq!(bias.iter::<f32>().collect::<Vec<_>>(), [0.0, 0.0, 0.0, 0.0, MASKED, MASKED]);
        assert!(padding_bias(&TokenBatch::new(&[&[1, 2]], 0), &Device::flex()).is_none());
    }
}
