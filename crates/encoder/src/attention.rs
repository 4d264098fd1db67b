//! Multi-head self-attention with an additive score bias (padding mask, relative positions).
//!
//! Hidden states are kept flat, `[tokens, hidden]`, between layers: the linear products then are single large matrix
//! products. Where the device can, the heads run fused (`kernels::layers`) over tokens without padding, relative positions
//! as one bias for each distance; elsewhere they are a composition of tensor operations, `[rows * width, heads x head width]`, heads
//! split by strided views. Of a decoder, heads of keys and values serve several of queries.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use kernels::layers::{self, AttentionShape, Grouping, Precision, Sequences, Window};

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
    /// Scales of the norms that heads of query and of key have in some decoders.
    pub(crate) head_norms: Option<[Param<Tensor<1>>; 2]>,
    dropout: Dropout,
    heads: usize,
    #[module(skip)]
    grouping: Option<Grouping>,
}

impl SelfAttention {
    pub(crate) fn new(joint: Linear, head_norms: Option<[Param<Tensor<1>>; 2]>, a: &Architecture) -> Self {
        let Architecture { heads, head, .. } = *a;
        let grouping = a.grouped.map(|grouped| Grouping { heads, key_heads: grouped.key_heads, head, epsilon: a.epsilon });
        Self { joint, head_norms, dropout: DropoutConfig::new(a.attention_dropout).init(), heads, grouping }
    }

    /// `[tokens, hidden]` to `[tokens, heads x head width]`.
    pub(crate) fn forward(&self, x: Tensor<2>, mask: &Mask, precision: Precision) -> Tensor<2> {
        let turned = |joint: Tensor<2>, precision: Precision| match &mask.turns {
            Some(turns) => layers::rotary(joint, turns.angles.clone(), turns.positions.clone(), self.heads, precision),
            None => joint,
        };
        match &mask.seen {
            Seen::Places { shape, places, relative } => {
                let joint = match self.grouping {
                    None => turned(linear_for_attention(&self.joint, x, precision), precision),
                    Some(grouping) => self.spread(linear_for_attention(&self.joint, x, precision), mask, grouping, precision),
                };
                let dropout = active(&self.dropout, &joint.device());
                layers::attention(joint, relative.as_deref().cloned(), places.clone(), shape.clone(), dropout)
            }
            Seen::Bias { rows, width, bias } => {
                let joint = linear(&self.joint, x, precision);
                let joint = match self.grouping {
                    None => turned(joint, Precision::F32),
                    Some(grouping) => self.spread(joint, mask, grouping, Precision::F32),
                };
                self.composed(&joint, *rows, *width, bias.clone())
            }
        }
    }

    /// Heads normed and turned, and each with a key and a value of its own.
    fn spread(&self, projection: Tensor<2>, mask: &Mask, grouping: Grouping, precision: Precision) -> Tensor<2> {
        let Turns { angles, positions } = mask.turns.as_ref().expect("decoders have rotary positions: `Architecture::from_config`");
        let norms = self.head_norms.as_ref().map(|norms| norms.each_ref().map(Param::val));
        layers::spread_heads(projection, norms, angles.clone(), positions.clone(), grouping, precision)
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

/// What attention knows beside states.
pub(crate) struct Mask {
    pub(crate) seen: Seen,
    /// Positions, where they are turns.
    pub(crate) turns: Option<Turns>,
}

/// Rotary positions (arXiv 2104.09864), as `kernels::layers::rotary` reads them.
pub(crate) struct Turns {
    /// Cosines of each position's angles, then sines: `[positions, head width]`.
    pub(crate) angles: Tensor<2>,
    /// Of each token, padding included.
    pub(crate) positions: Tensor<1, Int>,
}

impl Turns {
    /// Of the first `count` positions: angle `i` of a head is `position / base^(2 i / head)`, in the precision that transformers has them in.
    pub(crate) fn angles(count: usize, head: usize, base: f64, device: &Device) -> Tensor<2> {
        let step = |place: usize| (1.0 / base.powf(2.0 * place as f64 / head as f64)) as f32;
        let steps: Vec<f32> = (0..head / 2).map(step).collect();
        let mut angles = Vec::with_capacity(count * head);
        for position in 0..count {
            let turns = || steps.iter().map(move |step| f64::from(position as f32 * step));
            angles.extend(turns().map(|angle| angle.cos() as f32));
            angles.extend(turns().map(|angle| angle.sin() as f32));
        }
        Tensor::from_data(TensorData::new(angles, [count, head]), (device, DType::F32))
    }

    pub(crate) fn positions(sequences: &Sequences, device: &Device) -> Tensor<1, Int> {
        let positions: Vec<i32> = sequences.places().map(|(_, position)| position as i32).collect();
        let count = positions.len();
        Tensor::from_data(TensorData::new(positions, [count]), (device, DType::I32))
    }
}

/// Which keys a query may see, and what is added to its scores.
pub(crate) enum Seen {
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

/// `[rows, 1, width, width]`: 0 for tokens within the query's window, [`MASKED`] on others and on padding.
pub(crate) fn window_bias(batch: &TokenBatch, window: Window, device: &Device) -> Tensor<4> {
    let (rows, width) = (batch.rows(), batch.width());
    let mut bias = vec![MASKED; rows * width * width];
    for (row, &length) in bias.chunks_exact_mut(width * width).zip(batch.lengths()) {
        for (query, row) in row.chunks_exact_mut(width).enumerate() {
            row[window.seen(query, length)].fill(0.0);
        }
    }
    Tensor::from_data(TensorData::new(bias, [rows, 1, width, width]), device)
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
    fn window_bias_marks_what_is_far_and_padding() {
        let batch = TokenBatch::new(&[&[1, 2, 3], &[4]], 0);
        let bias = window_bias(&batch, Window::around(1), &Device::flex()).into_data();
        let open: Vec<bool> = bias.iter::<f32>().map(|bias| bias == 0.0).collect();
        let (yes, no) = (true, false);
        assert_eq!(open, [yes, yes, no, yes, yes, yes, no, yes, yes, yes, no, no, yes, no, no, no, no, no]);
    }

    #[test]
    fn padding_bias_marks_padding_only() {
        let batch = TokenBatch::new(&[&[1, 2, 3], &[4]], 0);
        let bias = padding_bias(&batch, &Device::flex()).unwrap().into_data();
        assert_eq!(bias.iter::<f32>().collect::<Vec<_>>(), [0.0, 0.0, 0.0, 0.0, MASKED, MASKED]);
        assert!(padding_bias(&TokenBatch::new(&[&[1, 2]], 0), &Device::flex()).is_none());
    }
}
