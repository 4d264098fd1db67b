//! Layers of a transformer encoder, fused for the CPU: linear, attention, GELU, and dropout with residual connection and norm.
//!
//! A backend extension for Flex, with hand-written gradients (`autodiff`); on every other device, and for numbers other than f32, each function is the
//! composition of tensor operations that it stands for, except [`attention()`], which asks for [`fused`] first. A layer here reads its operands where they
//! lie, makes no temporaries but what its backward pass needs, and runs on all cores with the widest instructions that the processor has (`wide`).
//! Dropout is a function of a key drawn from the device's generator (`mask`): seeding the device decides it, and threads do not.

// Loops over indices, because adapters with closures are not always inlined into the function that has the wide instructions.
#![allow(clippy::needless_range_loop)]

mod attention;
mod autodiff;
mod dropout;
mod gelu;
mod linear;
mod mask;
mod norm;
pub(crate) mod product;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
pub(crate) mod wide;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchDevice, Flex, backend_extension};
use burn::tensor::activation::gelu as plain_gelu;
use burn::tensor::module::{layer_norm, linear as plain_linear};
use burn::tensor::{Bytes, DType, Device, Distribution, Shape, Tensor};
use burn_flex::{FlexTensor, Layout};

use mask::Dropout;

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

/// The layers on one backend.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait Layers: Backend {
    fn attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        shape: AttentionShape,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self>;

    fn linear_layer(input: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;

    fn gelu_layer(input: FloatTensor<Self>) -> FloatTensor<Self>;

    fn dropout_layer(input: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self>;

    fn residual_norm(
        input: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self>;
}

impl Layers for Flex {
    fn attention(query: FlexTensor, key: FlexTensor, value: FlexTensor, shape: AttentionShape, dropout: Option<Dropout>) -> FlexTensor {
        attention::forward(&query, &key, &value, &shape, dropout).0
    }

    fn linear_layer(input: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        linear::forward(&input, &weight, &bias)
    }

    fn gelu_layer(input: FlexTensor) -> FlexTensor {
        gelu::forward(input)
    }

    fn dropout_layer(input: FlexTensor, dropout: Dropout) -> FlexTensor {
        dropout::apply(input, dropout)
    }

    fn residual_norm(
        input: FlexTensor,
        residual: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        epsilon: f64,
        dropout: Option<Dropout>,
    ) -> FlexTensor {
        norm::forward(input, &residual, [&gamma, &beta], epsilon, dropout, false).0
    }
}

/// Whether the layers are fused on this device, with or without autodiff.
#[must_use]
pub fn fused(device: &Device) -> bool {
    matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_))
}

pub(crate) fn fused_for<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.dtype() == DType::F32 && fused(&tensor.device())
}

/// Multi-head attention: per sequence and head, `dropout(softmax(Q K' / sqrt(head width))) V` over the keys that are no padding. All tensors are
/// `[rows * width, hidden]`, heads side by side. `dropout` is the probability to apply now: 0 outside training.
///
/// # Panics
/// When the tensors or the lengths do not fit the shape, or when the device is not one of [`fused`] or the numbers are not f32.
pub fn attention(query: Tensor<2>, key: Tensor<2>, value: Tensor<2>, shape: AttentionShape, dropout: f64) -> Tensor<2> {
    let [tokens, hidden] = query.dims();
    assert!(fused_for(&query), "attention is fused for f32 on the CPU only; ask `fused` first");
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
    let output = <Dispatch as Layers>::attention(query.into_dispatch(), key.into_dispatch(), value.into_dispatch(), shape, dropout);
    Tensor::from_dispatch(output)
}

/// `input x weight + bias`: `[rows, in]`, `[in, out]`, `[out]`.
///
/// # Panics
/// When the shapes do not fit.
pub fn linear(input: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    if !fused_for(&input) {
        return plain_linear(input, weight, Some(bias));
    }
    assert!(
        input.dims()[1] == weight.dims()[0] && bias.dims()[0] == weight.dims()[1],
        "linear layer: {:?} x {:?} + {:?}",
        input.dims(),
        weight.dims(),
        bias.dims()
    );
    Tensor::from_dispatch(<Dispatch as Layers>::linear_layer(input.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()))
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
