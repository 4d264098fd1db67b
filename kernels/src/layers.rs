//! Layers of an encoder and of its losses, fused: linear (`projection`), attention, rotary positions, GELU with and without a gate, dropout, residual connection and norm; tables, sums and bags; normalised rows; the logarithm of a sum of
//! exponentials and the cross-entropy.
//!
//! A backend extension (`extension`) for Flex and for CubeCL's devices (`cube`), with hand-written gradients (`autodiff`); for numbers that it is not made for (all take f32, what lies between
//! layers on a GPU may be f16) each function is the composition of tensor operations that it stands for, except [`attention()`] and [`rotary()`], which ask for [`attends`] first. On the CPU a layer reads its operands where they
//! lie, makes no temporaries but what its backward pass needs, and runs on all cores with the widest instructions that the processor has (`wide`). On a GPU it is one
//! kernel, or a few where sums cross cubes; linear layers are burn's there. Dropout is a function of a key (`mask`): [`seed`] decides it, and threads do not.

// Loops over indices, because adapters with closures are not always inlined into the function that has the wide instructions.
#![allow(clippy::needless_range_loop)]

mod attention;
mod autodiff;
pub(crate) mod cube;
mod dropout;
mod embedding;
mod extension;
mod feed_forward;
mod gate;
mod gelu;
mod heads;
mod linear;
mod mask;
mod mixed;
mod norm;
mod normalize;
mod panels;
pub(crate) mod product;
mod projection;
#[cfg(test)]
mod reference;
mod rotary;
mod sequences;
mod softmax;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod wide;
mod window;

use std::sync::Arc;

use burn::backend::tensor::IntTensor;
use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::activation::{gelu as plain_gelu, silu};
use burn::tensor::module::{embedding as plain_embedding, layer_norm};
use burn::tensor::{Bool, Bytes, DType, Device, Distribution, IndexingUpdateOp, Int, Shape, Tensor, TensorData};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

use attention::Attending;
use embedding::{Factors, Lists};
use extension::Layers;
use heads::Heads;
use mask::Dropout;
use norm::Norm;
use rotary::Turning;
use softmax::{MASKED, Scaled};

pub use gate::Gate;
pub use heads::Grouping;
pub use mask::seed;
pub use mixed::{Precision, PrecisionError};
pub use projection::{Projection, feed_forward, linear, linear_for_attention, linear_for_norm, similarities};
pub use sequences::Sequences;
pub use window::Window;

/// What attention must know beside its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Where the tokens of each sequence lie, and which are padding. A sequence without any token mixes to zeros.
    pub sequences: Arc<Sequences>,
    /// Heads, side by side.
    pub heads: usize,
    /// How far a query sees; all of its sequence where there is no limit. A query that sees none mixes to zeros.
    pub window: Option<Window>,
    /// What to multiply in. In mixed precision operands are rounded on the CPU and where a GPU has matrix units to multiply them; one that has none computes in f32, from and to what it is given.
    pub precision: Precision,
}

impl AttentionShape {
    /// Every (row, head, query).
    fn queries(&self) -> usize {
        self.sequences.tokens() * self.heads
    }

    /// Without a window that reaches every token from every other.
    fn seeing(mut self) -> Self {
        self.window = self.window.filter(|window| !window.is_all_of(self.sequences.width()));
        self
    }
}

/// Whether the device is the CPU.
pub(crate) fn on_cpu(device: &Device) -> bool {
    matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_))
}

/// Whether the layers are fused on this device, with or without autodiff.
#[must_use]
pub fn fused(device: &Device) -> bool {
    matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_) | DispatchDevice::Cube(_))
}

/// Whether [`attention()`] is fused on this device for heads of that width. Opens the device.
#[must_use]
pub fn attends(device: &Device, head: usize) -> bool {
    match crate::adapters::cube_device(device) {
        Some(device) => cube::attends(&device.client(), head),
        None => fused(device),
    }
}

pub(crate) fn fused_for<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.dtype() == DType::F32 && fused(&tensor.device())
}

/// Multi-head attention: per sequence and head, `dropout(softmax(Q K' / sqrt(head width) + bias)) V` over the keys that are no padding and within the window, if there is one. Query, key and value come side by side in
/// `[tokens, 3 heads x head]`, heads side by side in each, in f32 or as [`linear_for_attention`] gives them; the result is `[tokens, heads x head]` in the same format. `places` is
/// [`Sequences::on_device`]. The bias, f32, is one by distance, of relative positions: `relative[head, width - 1 + key - query]`, `[heads, 2 width - 1]` with the sequences' width.
/// `dropout` is the probability to apply now: 0 outside training.
///
/// # Panics
/// When the tensors or the places do not fit the shape, when [`attends`] says no, when there are both a window and a bias, or when the numbers have another format.
pub fn attention(joint: Tensor<2>, relative: Option<Tensor<2>>, places: Tensor<1, Int>, shape: AttentionShape, dropout: f64) -> Tensor<2> {
    let [tokens, width] = joint.dims();
    let sequences = &shape.sequences;
    assert!(takes(&joint, shape.precision), "attention is fused for some formats on some devices only; ask `attends` first");
    assert!(
        places.dims() == [2 * sequences.rows() + 1] && places.dtype() == DType::I32,
        "places of other sequences: ask `on_device` for them"
    );
    assert!(tokens == sequences.tokens(), "{tokens} rows, and sequences of {} tokens", sequences.tokens());
    assert!(
        shape.heads > 0 && width.is_multiple_of(3 * shape.heads),
        "query, key and value of {} heads do not lie side by side in {width} numbers",
        shape.heads
    );
    assert!(shape.window.is_none() || relative.is_none(), "a window and a bias by distance are not fused together");
    let shape = shape.seeing();
    let attending = Attending { dropout: Dropout::draw(dropout, &joint.device()), relative: relative.is_some(), shape };
    if let Some(relative) = &relative {
        assert!(
            relative.dims() == attending.relative_shape() && relative.dtype() == DType::F32,
            "a bias by distance of {:?}, and {:?} are needed in f32",
            relative.dims(),
            attending.relative_shape()
        );
    }
    let relative = relative.unwrap_or_else(|| joint.clone().detach());
    let (joint, relative) = (joint.into_dispatch(), relative.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Layers>::attention_layer(joint, relative, places.into_dispatch(), attending))
}

/// Rotary positions (Su et al. 2021, arXiv 2104.09864): numbers `i` and `i + head / 2` of each head of query and key, as [`attention()`] reads them, are turned as the coordinates of a point, by the angle of
/// the token's position. `angles` has the cosines of a position's angles and behind them the sines, `[positions, head width]`, `positions` the position of each token, `[tokens]`. The format stays.
///
/// # Panics
/// When the shapes do not fit, the width of heads is odd, or the numbers have another format than [`attention()`] reads. A position beyond the angles turns nothing on a GPU.
pub fn rotary(joint: Tensor<2>, angles: Tensor<2>, positions: Tensor<1, Int>, heads: usize, precision: Precision) -> Tensor<2> {
    let ([tokens, width], [_, head]) = (joint.dims(), angles.dims());
    assert!(takes(&joint, precision), "rotary positions are fused for some formats on some devices only; ask `attends` first");
    assert!(
        width == 3 * heads * head && head.is_multiple_of(2) && angles.dtype() == DType::F32,
        "query, key and value of {heads} heads do not lie side by side in {width} numbers, with angles for {head}"
    );
    assert!(
        positions.dims() == [tokens] && positions.dtype() == DType::I32,
        "{:?} positions of {tokens} tokens, in {:?}",
        positions.dims(),
        positions.dtype()
    );
    let turning = Turning { heads, back: false };
    let (joint, angles) = (joint.into_dispatch(), angles.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Layers>::rotary_layer(joint, angles, positions.into_dispatch(), turning))
}

/// Query, key and value of heads in groups (Ainslie et al. 2023, arXiv 2305.13245) as [`attention()`] reads them, `[tokens, 3 heads x head]`: every head of keys and of values is there as often as it has heads of queries. Queries and keys are turned
/// as by [`rotary()`]; with `norms`, the scales `[head]` of queries and of keys, each head of either is divided by its root mean square first (as [`rms_norm`]). The format stays.
///
/// # Panics
/// When the shapes do not fit, the width of heads is odd, the heads of keys do not divide those of queries, or the numbers have another format than [`attention()`] reads. A position beyond the angles turns nothing on a GPU.
pub fn spread_heads(
    projection: Tensor<2>,
    norms: Option<[Tensor<1>; 2]>,
    angles: Tensor<2>,
    positions: Tensor<1, Int>,
    grouping: Grouping,
    precision: Precision,
) -> Tensor<2> {
    let Grouping { heads, key_heads, head, .. } = grouping;
    let [tokens, width] = projection.dims();
    assert!(takes(&projection, precision), "heads are spread for some formats on some devices only; ask `attends` first");
    assert!(
        key_heads > 0 && heads.is_multiple_of(key_heads) && head.is_multiple_of(2) && width == grouping.width(),
        "{heads} heads of queries and {key_heads} of keys and values, {head} wide, do not lie side by side in {width} numbers"
    );
    assert!(angles.dims()[1] == head && angles.dtype() == DType::F32, "angles {:?} for heads {head} wide", angles.dims());
    assert!(
        positions.dims() == [tokens] && positions.dtype() == DType::I32,
        "{:?} positions of {tokens} tokens, in {:?}",
        positions.dims(),
        positions.dtype()
    );
    let heads = Heads { grouping, normed: norms.is_some() };
    let [projection, angles] = [projection, angles.detach()].map(Tensor::into_dispatch);
    let [query, key] = match norms {
        Some(norms) => norms.map(|scale| {
            assert!(scale.dims() == [head], "a scale {:?} of heads {head} wide", scale.dims());
            scale.into_dispatch()
        }),
        None => [angles.clone(), angles.clone()],
    };
    Tensor::from_dispatch(<Dispatch as Layers>::heads_layer(projection, query, key, angles, positions.into_dispatch(), heads))
}

/// Rows of a table `[rows, width]` by number: `[ids, width]`. On the CPU burn's own gather. A table of 16-bit floats, as attention gives them in mixed precision on a GPU, has a gradient in 32 bits.
///
/// # Panics
/// When a number is no row.
pub fn embedding(table: Tensor<2>, ids: &[i32]) -> Tensor<2> {
    let (device, [rows, width]) = (table.device(), table.dims());
    assert!(ids.iter().all(|&id| (0..rows as i64).contains(&i64::from(id))), "an id beyond the {rows} rows of the table");
    let taken = fused(&device) && matches!(table.dtype(), DType::F32 | DType::F16);
    if on_cpu(&device) || !taken {
        let numbers = TensorData::new(ids.to_vec(), [1, ids.len()]);
        return plain_embedding(table, Tensor::<2, Int>::from_data(numbers, &device)).reshape([ids.len(), width]);
    }
    let lists = if table.is_tracked() { Lists::of(ids, rows) } else { Lists::none(rows) };
    let (ids, numbers) = (integers(ids.to_vec(), &device), integers(lists.numbers, &device));
    Tensor::from_dispatch(<Dispatch as Layers>::embedding_layer(table.into_dispatch(), ids, numbers, lists.extent))
}

/// Sums of the rows of `[rows, width]` that have the same owner, each row times its weight: `[count, width]`, zeros for an owner without rows.
///
/// # Panics
/// When there is not one owner below `count` and one weight for each row.
pub fn sums(input: Tensor<2>, weights: &[f32], owners: &[i32], count: usize) -> Tensor<2> {
    let rows = input.dims()[0];
    assert!(rows == owners.len() && rows == weights.len(), "{rows} rows, {} owners and {} weights", owners.len(), weights.len());
    assert!(owners.iter().all(|&owner| (0..count as i64).contains(&i64::from(owner))), "an owner beyond the {count}");
    let back = || Lists::new(0..rows, rows, |row| owners[row]);
    list_sums(input, weights.to_vec(), Factors::OfRows, Lists::of(owners, count), back)
}

/// The embedding bag: means of the rows of a table `[rows, width]` over the tokens of each text, `[texts, width]`, zeros for a text without tokens. `ids` are the tokens of the texts one behind the other,
/// `lengths` of each.
///
/// # Panics
/// When the lengths are not those of all tokens together, or a number is no row.
pub fn bag(table: Tensor<2>, ids: &[i32], lengths: &[usize]) -> Tensor<2> {
    let rows = table.dims()[0];
    assert!(ids.iter().all(|&id| (0..rows as i64).contains(&i64::from(id))), "an id beyond the {rows} rows of the table");
    assert!(lengths.iter().sum::<usize>() == ids.len(), "texts of {} tokens, and {} tokens", lengths.iter().sum::<usize>(), ids.len());
    let shares = lengths.iter().map(|&length| 1.0 / length.max(1) as f32).collect();
    let texts = || lengths.iter().enumerate().flat_map(|(text, &length)| std::iter::repeat_n(text, length));
    let lists = Lists::new(texts(), lengths.len(), |place| ids[place]);
    let back = || {
        let texts: Vec<i32> = texts().map(|text| text as i32).collect();
        Lists::new(ids.iter().map(|&id| id as usize), rows, |place| texts[place])
    };
    list_sums(table, shares, Factors::OfSums, lists, back)
}

/// Sums over lists, with factors; `back` gives the transposed lists.
fn list_sums(input: Tensor<2>, factors: Vec<f32>, which: Factors, lists: Lists, back: impl Fn() -> Lists) -> Tensor<2> {
    let (device, count) = (input.device(), factors.len());
    let factors = Tensor::<1>::from_data(TensorData::new(factors, [count]), (&device, DType::F32));
    if !fused_for(&input) {
        return plain_sums(input, factors, which, &lists);
    }
    let back = if input.is_tracked() { back() } else { Lists::none(input.dims()[0]) };
    let extents = [lists.extent, back.extent];
    let [lists, back] = [lists, back].map(|lists| integers(lists.numbers, &device));
    let [input, factors] = [input.into_dispatch(), factors.into_dispatch()];
    Tensor::from_dispatch(<Dispatch as Layers>::list_layer(input, factors, lists, back, extents, which))
}

/// [`list_sums`] by tensor operations.
fn plain_sums(input: Tensor<2>, factors: Tensor<1>, which: Factors, lists: &Lists) -> Tensor<2> {
    let (device, width) = (input.device(), input.dims()[1]);
    let [owners, rows] = lists.pairs().map(|numbers| Tensor::<1, Int>::from_dispatch(integers(numbers, &device)));
    let factors = factors.unsqueeze_dim::<2>(1).cast(input.dtype());
    let input = if which == Factors::OfRows { input * factors.clone() } else { input };
    let zeros = Tensor::zeros([lists.extent.height, width], (&device, input.dtype()));
    let sums = zeros.select_assign(0, owners, input.select(0, rows), IndexingUpdateOp::Add);
    if which == Factors::OfSums { sums * factors } else { sums }
}

/// Integers of 32 bits on a device.
fn integers(numbers: Vec<i32>, device: &Device) -> IntTensor<Dispatch> {
    let count = numbers.len();
    Tensor::<1, Int>::from_data(TensorData::new(numbers, [count]), (device, DType::I32)).into_dispatch()
}

/// Whether a layer in that precision is fused for the tensor: for f32, and on a GPU for what another such layer left in 16 bits.
fn takes(tensor: &Tensor<2>, precision: Precision) -> bool {
    let half = Some(tensor.dtype()) == precision.half() && !on_cpu(&tensor.device());
    fused(&tensor.device()) && (tensor.dtype() == DType::F32 || half)
}

/// GELU, exact form.
pub fn gelu(input: Tensor<2>) -> Tensor<2> {
    if !fused_for(&input) {
        return plain_gelu(input);
    }
    Tensor::from_dispatch(<Dispatch as Layers>::gelu_layer(input.into_dispatch()))
}

/// `gate(left) x right` of rows that have both halves side by side (Shazeer 2020, arXiv 2002.05202): `[rows, 2 width]` to `[rows, width]`.
///
/// # Panics
/// When the rows have no halves.
pub fn gated(input: Tensor<2>, gate: Gate) -> Tensor<2> {
    let [_, both] = input.dims();
    assert!(both.is_multiple_of(2), "rows of {both} numbers have no halves");
    if !fused_for(&input) {
        let [left, right] = [0, both / 2].map(|from| input.clone().narrow(1, from, both / 2));
        return right
            * match gate {
                Gate::Gelu => plain_gelu(left),
                Gate::Silu => silu(left),
            };
    }
    Tensor::from_dispatch(<Dispatch as Layers>::gated_layer(input.into_dispatch(), gate))
}

/// `log sum exp` of each row of `[rows, width]`: `[rows, 1]`. Of a row without columns it means nothing.
pub fn log_sum_exp(input: Tensor<2>) -> Tensor<2> {
    if !fused_for(&input) {
        let largest = input.clone().detach().max_dim(1);
        return (input - largest.clone()).exp().sum_dim(1).log() + largest;
    }
    Tensor::from_dispatch(<Dispatch as Layers>::log_sum_exp_layer(input.into_dispatch()))
}

/// The cross-entropy of the softmax of each row of `[rows, width]`, its numbers multiplied by `scale`, with one of its columns, the target `[rows]`: `log sum exp(scale x) - scale x[target]`, `[rows, 1]`.
/// Cells that are true in the mask, `[rows, width]`, count for nothing and have no gradient; a target must not be one.
///
/// # Panics
/// When the shapes do not fit, the scale is not above zero, or, on the CPU, a target is no column; on a GPU its number counts as 0 then.
pub fn cross_entropy(input: Tensor<2>, mask: Option<Tensor<2, Bool>>, targets: Tensor<1, Int>, scale: f64) -> Tensor<2> {
    let [rows, width] = input.dims();
    let fits = mask.as_ref().is_none_or(|mask| mask.dims() == [rows, width]) && targets.dims() == [rows];
    assert!(
        fits && scale > 0.0,
        "cross-entropy of {rows} x {width}: mask {:?}, targets {:?}, scale {scale}",
        mask.as_ref().map(Tensor::dims),
        targets.dims()
    );
    if !fused_for(&input) {
        let scaled = input.mul_scalar(scale);
        let scaled = match mask {
            Some(mask) => scaled.mask_fill(mask, MASKED),
            None => scaled,
        };
        return log_sum_exp(scaled.clone()) - scaled.gather(1, targets.unsqueeze_dim(1));
    }
    let scaled = Scaled { scale: scale as f32, masked: mask.is_some() };
    let device = input.device().without_autodiff();
    let mask = mask.unwrap_or_else(|| Tensor::from_data([[false]], &device));
    let targets = targets.cast(DType::I32);
    let [mask, targets] = [mask.into_dispatch(), targets.into_dispatch()];
    Tensor::from_dispatch(<Dispatch as Layers>::cross_entropy_layer(input.into_dispatch(), mask, targets, scaled))
}

/// Rows of `[rows, width]` divided by their Euclidean norms, or by 1e-12 if that is more, as in PyTorch's `normalize`: a zero row of f32 stays zero, and has no gradient of NaN.
pub fn normalize(rows: Tensor<2>) -> Tensor<2> {
    if rows.dims().contains(&0) {
        return rows;
    }
    if !fused_for(&rows) {
        // The clamp stands before the root, whose slope at zero is infinite.
        let least = f64::from(normalize::LEAST);
        let norm = rows.clone().square().sum_dim(1).clamp_min(least * least).sqrt();
        return rows / norm;
    }
    Tensor::from_dispatch(<Dispatch as Layers>::normalize_layer(rows.into_dispatch()))
}

/// Dropout with this probability, to apply now: 0 outside training.
pub fn dropout(input: Tensor<2>, probability: f64) -> Tensor<2> {
    if !fused_for(&input) {
        return plain_dropout(input, probability);
    }
    match Dropout::draw(probability, &input.device()) {
        Some(mask) => Tensor::from_dispatch(<Dispatch as Layers>::dropout_layer(input.into_dispatch(), mask)),
        None => input,
    }
}

/// `norm(dropout(input) + residual)` over rows: `[rows, width]`, scale and shift `[width]`. `dropout` is the probability to apply now: 0 outside training.
///
/// # Panics
/// When the shapes do not fit.
pub fn residual_norm(
    input: impl Into<Projection>,
    residual: Tensor<2>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    dropout: f64,
) -> Tensor<2> {
    let Projection { product: input, bias } = input.into();
    if !fused_for(&input) {
        assert!(bias.is_none(), "only fused layers leave a bias to be added");
        return layer_norm(plain_dropout(input, dropout) + residual, gamma, Some(beta), epsilon);
    }
    let width = input.dims()[1];
    assert!(
        input.dims() == residual.dims() && gamma.dims() == [width] && beta.dims() == [width],
        "layer norm: {:?} + {:?}, scale {:?}, shift {:?}",
        input.dims(),
        residual.dims(),
        gamma.dims(),
        beta.dims()
    );
    let norm = Norm { epsilon, dropout: Dropout::draw(dropout, &input.device()), biased: bias.is_some(), alone: false, centered: true };
    Tensor::from_dispatch(<Dispatch as Layers>::residual_norm(
        input.into_dispatch(),
        bias.unwrap_or_else(|| beta.clone()).into_dispatch(),
        residual.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        norm,
    ))
}

/// Layer norm over rows `[rows, width]`, scale and shift `[width]`; without a shift it is zero, and has no gradient.
///
/// # Panics
/// When the shapes do not fit.
pub fn norm(input: Tensor<2>, gamma: Tensor<1>, beta: Option<Tensor<1>>, epsilon: f64) -> Tensor<2> {
    if !fused_for(&input) {
        return layer_norm(input, gamma, beta, epsilon);
    }
    norm_alone(input, gamma, beta, epsilon, true)
}

/// Rows of `[rows, width]` divided by the root of their mean square plus `epsilon`, times a scale `[width]` (RMSNorm, Zhang and Sennrich 2019, arXiv 1910.07467).
///
/// # Panics
/// When the shapes do not fit.
pub fn rms_norm(input: Tensor<2>, gamma: Tensor<1>, epsilon: f64) -> Tensor<2> {
    if !fused_for(&input) {
        let square = input.clone().square().mean_dim(1);
        return input / square.add_scalar(epsilon).sqrt() * gamma.unsqueeze_dim::<2>(0);
    }
    norm_alone(input, gamma, None, epsilon, false)
}

/// A norm without dropout and residual.
fn norm_alone(input: Tensor<2>, gamma: Tensor<1>, beta: Option<Tensor<1>>, epsilon: f64, centered: bool) -> Tensor<2> {
    let width = input.dims()[1];
    let beta = beta.unwrap_or_else(|| Tensor::zeros([width], &input.device()));
    assert!(
        gamma.dims() == [width] && beta.dims() == [width],
        "norm: {:?}, scale {:?}, shift {:?}",
        input.dims(),
        gamma.dims(),
        beta.dims()
    );
    let norm = Norm { epsilon, dropout: None, biased: false, alone: true, centered };
    let [bias, residual] = [beta.clone().detach(), beta.clone().detach()];
    let (bias, residual) = (bias.into_dispatch(), residual.reshape([1, width]).into_dispatch());
    Tensor::from_dispatch(<Dispatch as Layers>::residual_norm(
        input.into_dispatch(),
        bias,
        residual,
        gamma.into_dispatch(),
        beta.into_dispatch(),
        norm,
    ))
}

/// Dropout by tensor operations.
fn plain_dropout(input: Tensor<2>, probability: f64) -> Tensor<2> {
    if probability == 0.0 {
        return input;
    }
    let mask = input.random_like(Distribution::Bernoulli(1.0 - probability));
    input * mask * (1.0 / (1.0 - probability))
}

/// The numbers of a contiguous tensor.
pub(crate) fn numbers(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("the tensor is contiguous and f32")
}

/// A tensor of these numbers.
fn tensor<const D: usize>(numbers: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(numbers), Layout::contiguous(Shape::from(shape)), DType::F32)
}

/// The tensor with memory of its own, in its shape.
pub(crate) fn owned_flat(input: FlexTensor) -> FlexTensor {
    let shape = input.layout().shape().clone();
    let count = shape.num_elements();
    let input = if input.is_contiguous() { input } else { input.to_contiguous() };
    if input.is_unique() && input.layout().start_offset() == 0 && input.bytes().len() == 4 * count {
        return input;
    }
    FlexTensor::new(Bytes::from_elems(numbers(&input).to_vec()), Layout::contiguous(shape), DType::F32)
}

/// The tensor with memory of its own, exactly its numbers in order: the same memory when nothing else uses it.
fn owned(input: FlexTensor, shape: [usize; 2]) -> FlexTensor {
    let count = shape[0] * shape[1];
    let input = if input.is_contiguous() { input } else { input.to_contiguous() };
    if input.is_unique() && input.layout().start_offset() == 0 && input.bytes().len() == 4 * count {
        return input;
    }
    let mut copy = vec![0.0; count];
    copy.par_chunks_mut(COPIED).zip(numbers(&input).par_chunks(COPIED)).for_each(|(copy, input)| copy.copy_from_slice(input));
    tensor(copy, shape)
}

/// Numbers that a task copies.
const COPIED: usize = 1 << 16;
