//! Layers of a transformer encoder, fused: linear, attention, GELU, and dropout with residual connection and norm.
//!
//! A backend extension (`extension`) for Flex and for CubeCL's devices (`cube`), with hand-written gradients (`autodiff`); for numbers other than f32 each function is
//! the composition of tensor operations that it stands for, except [`attention()`], which asks for [`attends`] first. On the CPU a layer reads its operands where they
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
mod gelu;
mod linear;
mod mask;
mod mixed;
mod norm;
pub(crate) mod product;
#[cfg(test)]
mod reference;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod wide;

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::activation::gelu as plain_gelu;
use burn::tensor::module::{embedding as plain_embedding, layer_norm, linear as plain_linear};
use burn::tensor::{Bytes, DType, Device, Distribution, Int, Shape, Tensor, TensorData};
use burn_flex::{FlexTensor, Layout};

use embedding::Lists;
use extension::Layers;
use mask::Dropout;

pub use mask::seed;
pub use mixed::{Precision, PrecisionError};

/// How rows of tokens lie in `[rows * width, hidden]`, and which of them are padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Sequences.
    pub rows: usize,
    /// Tokens of a sequence, with padding.
    pub width: usize,
    /// Heads, which divide the hidden size.
    pub heads: usize,
    /// Tokens of each sequence, without padding, which stands at the end. A sequence without any token mixes to zeros.
    pub lengths: Vec<usize>,
}

impl AttentionShape {
    /// The lengths as attention wants them on this device. Once per batch, for all its layers.
    #[must_use]
    pub fn lengths_on(&self, device: &Device) -> Tensor<1, Int> {
        let lengths: Vec<i32> = self.lengths.iter().map(|&length| length as i32).collect();
        Tensor::from_data(TensorData::new(lengths, [self.rows]), (device, DType::I32))
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

/// Multi-head attention: per sequence and head, `dropout(softmax(Q K' / sqrt(head width))) V` over the keys that are no padding. All tensors are
/// `[rows * width, hidden]`, heads side by side; `lengths` is [`AttentionShape::lengths_on`] the device. `dropout` is the probability to apply now: 0 outside training.
///
/// # Panics
/// When the tensors or the lengths do not fit the shape, when [`attends`] says no, or when the numbers are not f32.
pub fn attention(
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    lengths: Tensor<1, Int>,
    shape: AttentionShape,
    dropout: f64,
) -> Tensor<2> {
    let [tokens, hidden] = query.dims();
    assert!(fused_for(&query), "attention is fused for f32 on some devices only; ask `attends` first");
    assert!(lengths.dims() == [shape.rows] && lengths.dtype() == DType::I32, "lengths of another shape: ask `lengths_on` for them");
    assert!(key.dims() == [tokens, hidden] && value.dims() == [tokens, hidden], "query, key and value differ in shape");
    assert!(tokens == shape.rows * shape.width, "{tokens} tokens are not {} rows of {}", shape.rows, shape.width);
    assert!(shape.heads > 0 && hidden.is_multiple_of(shape.heads), "{} heads do not divide {hidden}", shape.heads);
    assert!(
        shape.lengths.len() == shape.rows && shape.lengths.iter().all(|&length| length <= shape.width),
        "expected {} lengths of at most {}",
        shape.rows,
        shape.width
    );
    let dropout = Dropout::draw(dropout, &query.device());
    let [query, key, value] = [query, key, value].map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as Layers>::attention_layer(query, key, value, lengths.into_dispatch(), shape, dropout))
}

/// Rows of a table `[rows, width]` by number, one for each token, padding included: `[ids, width]`. `lengths` tokens of each sequence count for the gradient, for nothing
/// comes back to padding. On the CPU burn's own gather.
///
/// # Panics
/// When a number is no row, or when lengths and ids do not fit each other.
pub fn embedding(table: Tensor<2>, ids: &[i32], lengths: &[usize]) -> Tensor<2> {
    let (device, [rows, width]) = (table.device(), table.dims());
    let places = ids.len() / lengths.len().max(1);
    assert!(
        lengths.len() * places == ids.len() && lengths.iter().all(|&length| length <= places),
        "{} ids in {} sequences",
        ids.len(),
        lengths.len()
    );
    assert!(ids.iter().all(|&id| (0..rows as i64).contains(&i64::from(id))), "an id beyond the {rows} rows of the table");
    if on_cpu(&device) || !fused_for(&table) {
        let ids = TensorData::new(ids.to_vec(), [lengths.len(), places]);
        return plain_embedding(table, Tensor::<2, Int>::from_data(ids, &device)).reshape([lengths.len() * places, width]);
    }
    let lists = Lists::new(if table.is_tracked() { ids } else { &[] }, |place| place % places < lengths[place / places]);
    let integers = |numbers: Vec<i32>| {
        let count = numbers.len();
        Tensor::<1, Int>::from_data(TensorData::new(numbers, [count]), (&device, DType::I32)).into_dispatch()
    };
    let (ids, numbers) = (integers(ids.to_vec()), integers(lists.numbers));
    Tensor::from_dispatch(<Dispatch as Layers>::embedding_layer(table.into_dispatch(), ids, numbers, lists.rows, lists.chunks))
}

/// `input x weight + bias`: `[rows, in]`, `[in, out]`, `[out]`. Mixed precision is for f32 operands; [`Precision::check`] says whether the device has it.
///
/// # Panics
/// When the shapes do not fit.
pub fn linear(input: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, precision: Precision) -> Tensor<2> {
    let half = precision.half().filter(|_| fused_for(&input));
    if half.is_none() && (input.dtype() != DType::F32 || !on_cpu(&input.device())) {
        return plain_linear(input, weight, Some(bias));
    }
    assert!(
        input.dims()[1] == weight.dims()[0] && bias.dims()[0] == weight.dims()[1],
        "linear layer: {:?} x {:?} + {:?}",
        input.dims(),
        weight.dims(),
        bias.dims()
    );
    let (input, weight, bias) = (input.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(match half {
        Some(half) => <Dispatch as Layers>::linear_mixed(input, weight, bias, half),
        None => <Dispatch as Layers>::linear_layer(input, weight, bias),
    })
}

/// GELU, exact form.
pub fn gelu(input: Tensor<2>) -> Tensor<2> {
    if !fused_for(&input) {
        return plain_gelu(input);
    }
    Tensor::from_dispatch(<Dispatch as Layers>::gelu_layer(input.into_dispatch()))
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
pub fn residual_norm(input: Tensor<2>, residual: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64, dropout: f64) -> Tensor<2> {
    if !fused_for(&input) {
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
    let dropout = Dropout::draw(dropout, &input.device());
    Tensor::from_dispatch(<Dispatch as Layers>::residual_norm(
        input.into_dispatch(),
        residual.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        epsilon,
        dropout,
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
    tensor(numbers(&input).to_vec(), shape)
}
