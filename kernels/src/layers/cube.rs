//! The layers on GPUs, in CubeCL: one kernel per piece, values and gradients.
//!
//! Memory is what they wait for, so each reads its operands once where it can and writes its results once, and makes a mask or a probability again rather than read it. WebGPU
//! promises a kernel eight buffers, CubeCL takes one for the numbers; barriers stand outside every branch, as WGSL asks. Sums run in one fixed order, so a kernel gives
//! the same bits every time; products of matrices are burn's, of which tuning may choose another in another process.

#![allow(unsafe_code)]

mod attention;
mod columns;
mod embedding;
mod feed_forward;
mod gate;
mod gelu;
mod heads;
mod mask;
mod mixed;
mod norm;
mod normalize;
mod rotary;
mod softmax;
mod survey;

use burn::backend::TensorMetadata;
use burn::backend::ops::{FloatTensorOps, ModuleOps};
use burn::backend::tensor::{BoolTensor, FloatTensor, IntTensor};
use burn::tensor::{DType, FloatDType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::{CubeCount, CubeDim, calculate_cube_count_elemwise};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::attention::Attending;
use super::embedding::{Extent, Factors};
use super::extension::{Layers, Passes};
use super::gate::Gate;
use super::heads::Heads;
use super::mask::Dropout;
use super::mixed::Leaves;
use super::norm::Norm;
use super::rotary::Turning;
use super::softmax::Scaled;

/// Units of a cube that works through numbers one by one; WebGPU promises 256.
pub(crate) const UNITS: usize = 256;

/// Numbers that a unit reads and writes at once, of so many in a row. A card moves bytes at its full speed only when every unit waits for several.
pub(crate) fn vector_width(width: usize) -> usize {
    if width.is_multiple_of(4) { 4 } else { 1 }
}

/// At least so many cubes, in as many dimensions as the device asks for. A kernel must leave out those beyond.
///
/// # Panics
/// When these have more units than kernels count, 2^31: SPIR-V takes an index of 32 bits for one with a sign.
pub(crate) fn cubes(client: &Client, count: usize) -> CubeCount {
    assert!(count < (1 << 31) / UNITS, "a tensor of {} numbers or more, and kernels count to 2^31: make smaller batches", count * UNITS);
    calculate_cube_count_elemwise(client, count, CubeDim::new_single())
}

/// A new contiguous buffer of another tensor's kind, not written yet.
pub(crate) fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    empty_in(like, shape, like.dtype)
}

/// As [`empty`], in a format.
pub(crate) fn empty_in<const D: usize>(like: &CubeTensor, shape: [usize; D], format: DType) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), Shape::from(shape), format)
}

pub(super) use norm::kept as kept_by_norm;

/// What has another format than f32, as the gradient of what was read otherwise than by a layer may have, is cast to it.
fn in_f32(tensor: CubeTensor) -> CubeTensor {
    if tensor.dtype == DType::F32 { tensor } else { CubeBackend::float_cast(tensor, FloatDType::F32) }
}

/// Contiguous, with memory that nothing else uses: the same memory when that is so.
pub(crate) fn owned(tensor: CubeTensor) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// Whether attention with heads of that width fits the device.
pub(super) fn attends(client: &Client, head: usize) -> bool {
    attention::fits(client, head)
}

/// Whether attention in mixed precision rounds its operands there.
#[cfg(test)]
pub(super) fn rounds_attention(device: &burn::tensor::Device, head: usize) -> bool {
    crate::adapters::cube_device(device).is_none_or(|device| attention::rounds(&device.client(), head))
}

/// Its rows and columns.
///
/// # Panics
/// When it has more numbers than kernels count, 2^31.
fn matrix(tensor: &CubeTensor) -> [usize; 2] {
    let shape = tensor.shape();
    assert!(
        shape[0] * shape[1] < 1 << 31,
        "a matrix of {} x {} numbers, and kernels count to 2^31: make smaller batches",
        shape[0],
        shape[1]
    );
    [shape[0], shape[1]]
}

impl Layers for CubeBackend {
    fn attention_layer(
        joint: FloatTensor<Self>,
        relative: FloatTensor<Self>,
        places: IntTensor<Self>,
        attending: Attending,
    ) -> FloatTensor<Self> {
        attention::forward(joint, relative, places, &attending)[0].clone()
    }

    fn rotary_layer(
        joint: FloatTensor<Self>,
        angles: FloatTensor<Self>,
        positions: IntTensor<Self>,
        turning: Turning,
    ) -> FloatTensor<Self> {
        rotary::turned(joint, angles, positions, turning)
    }

    fn heads_layer(
        projection: FloatTensor<Self>,
        query_scale: FloatTensor<Self>,
        key_scale: FloatTensor<Self>,
        angles: FloatTensor<Self>,
        positions: IntTensor<Self>,
        heads: Heads,
    ) -> FloatTensor<Self> {
        heads::forward(projection, [query_scale, key_scale], angles, positions, heads)
    }

    fn embedding_layer(table: FloatTensor<Self>, ids: IntTensor<Self>, _lists: IntTensor<Self>, _extent: Extent) -> FloatTensor<Self> {
        Self::float_select(table, 0, ids)
    }

    fn list_layer(
        input: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        lists: IntTensor<Self>,
        _transposed: IntTensor<Self>,
        [extent, _]: [Extent; 2],
        which: Factors,
    ) -> FloatTensor<Self> {
        embedding::sums(input, factors, which, lists, extent)
    }

    fn linear_layer(input: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::linear(input, weight, Some(bias))
    }

    fn linear_mixed(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        half: DType,
        leaves: Leaves,
    ) -> FloatTensor<Self> {
        let [output, ..] = mixed::forward(input, weight, bias, half, leaves);
        output
    }

    fn feed_forward(
        input: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        inner_bias: FloatTensor<Self>,
        outer: FloatTensor<Self>,
        _outer_bias: FloatTensor<Self>,
        half: DType,
    ) -> FloatTensor<Self> {
        let [output, ..] = feed_forward::forward(input, inner, inner_bias, outer, half);
        output
    }

    fn gelu_layer(input: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::forward(input)
    }

    fn gated_layer(input: FloatTensor<Self>, gate: Gate) -> FloatTensor<Self> {
        gate::forward(input, gate)
    }

    fn log_sum_exp_layer(input: FloatTensor<Self>) -> FloatTensor<Self> {
        softmax::log_sum_exp(input)
    }

    fn cross_entropy_layer(
        input: FloatTensor<Self>,
        mask: BoolTensor<Self>,
        targets: IntTensor<Self>,
        scaled: Scaled,
    ) -> FloatTensor<Self> {
        softmax::cross_entropy(input, mask, targets, scaled).0
    }

    fn normalize_layer(input: FloatTensor<Self>) -> FloatTensor<Self> {
        normalize::forward(input).0
    }

    fn dropout_layer(input: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        mask::apply(input, dropout)
    }

    fn residual_norm(
        input: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        norm: Norm,
    ) -> FloatTensor<Self> {
        norm::forward([input, bias, residual, gamma, beta], norm, false).0
    }
}

impl Passes for CubeBackend {
    fn attention_keeping(
        joint: FloatTensor<Self>,
        relative: FloatTensor<Self>,
        places: IntTensor<Self>,
        attending: Attending,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        attention::forward(joint, relative, places, &attending).into()
    }

    fn attention_backward(
        gradient: FloatTensor<Self>,
        joint: FloatTensor<Self>,
        relative: FloatTensor<Self>,
        output: FloatTensor<Self>,
        logarithms: FloatTensor<Self>,
        places: IntTensor<Self>,
        attending: Attending,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        attention::backward(in_f32(gradient), joint, relative, [output, logarithms], places, &attending).into()
    }

    fn heads_backward(
        gradient: FloatTensor<Self>,
        projection: FloatTensor<Self>,
        query_scale: FloatTensor<Self>,
        key_scale: FloatTensor<Self>,
        angles: FloatTensor<Self>,
        positions: IntTensor<Self>,
        heads: Heads,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        heads::backward(in_f32(gradient), projection, [query_scale, key_scale], angles, positions, heads).into()
    }

    fn list_sums(
        input: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        lists: IntTensor<Self>,
        extent: Extent,
        which: Factors,
    ) -> FloatTensor<Self> {
        embedding::sums(in_f32(input), factors, which, lists, extent)
    }

    fn linear_input_backward(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::linear_x_backward(weight, gradient)
    }

    fn linear_mixed_keeping(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        half: DType,
        leaves: Leaves,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        mixed::forward(input, weight, bias, half, leaves).into()
    }

    fn linear_mixed_backward(
        gradient: FloatTensor<Self>,
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        mixed::backward(in_f32(gradient), input, weight).into()
    }

    fn feed_forward_keeping(
        input: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        inner_bias: FloatTensor<Self>,
        outer: FloatTensor<Self>,
        half: DType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        feed_forward::forward(input, inner, inner_bias, outer, half).into()
    }

    fn feed_forward_backward(
        gradient: FloatTensor<Self>,
        input: FloatTensor<Self>,
        product: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        outer: FloatTensor<Self>,
        inner_bias: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        feed_forward::backward(gradient, input, product, hidden, [inner, outer], inner_bias).into()
    }

    fn gelu_gradient(gradient: FloatTensor<Self>, input: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::backward(gradient, input)
    }

    fn gated_gradient(gradient: FloatTensor<Self>, input: FloatTensor<Self>, gate: Gate) -> FloatTensor<Self> {
        gate::backward(gradient, input, gate)
    }

    fn log_sum_exp_gradient(gradient: FloatTensor<Self>, input: FloatTensor<Self>, logarithms: FloatTensor<Self>) -> FloatTensor<Self> {
        softmax::log_sum_exp_backward(gradient, input, logarithms)
    }

    fn cross_entropy_keeping(
        input: FloatTensor<Self>,
        mask: BoolTensor<Self>,
        targets: IntTensor<Self>,
        scaled: Scaled,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        softmax::cross_entropy(input, mask, targets, scaled)
    }

    fn cross_entropy_gradient(
        gradient: FloatTensor<Self>,
        input: FloatTensor<Self>,
        mask: BoolTensor<Self>,
        targets: IntTensor<Self>,
        logarithms: FloatTensor<Self>,
        scaled: Scaled,
    ) -> FloatTensor<Self> {
        softmax::cross_entropy_backward(gradient, input, mask, targets, logarithms, scaled)
    }

    fn normalize_keeping(input: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        normalize::forward(input)
    }

    fn normalize_gradient(gradient: FloatTensor<Self>, output: FloatTensor<Self>, norms: FloatTensor<Self>) -> FloatTensor<Self> {
        normalize::backward(gradient, output, norms)
    }

    fn residual_norm_keeping(
        input: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        norm: Norm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        norm::forward([input, bias, residual, gamma, beta], norm, true)
    }

    fn residual_norm_backward(
        gradient: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        kept: FloatTensor<Self>,
        norm: Norm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        norm::backward(gradient, gamma, kept, norm).into()
    }
}
