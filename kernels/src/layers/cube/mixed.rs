//! The linear layer in mixed precision on GPUs: operands rounded by own kernels, products by burn's, which has matrix units where the device has them.

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#![allow(clippy::collapsible_if)]
#![allow(clippy::manual_clamp, reason = "NaN must stay")]

use burn::backend::cubecl::dtype_to_elem_type;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;

use super::survey::{surveyed, unscaled};
use super::{UNITS, cubes, empty_in, matrix, vector_width};
use crate::layers::mixed::Leaves;

/// A number as far as 16 bits reach. What is infinite stays so, to be seen.
#[cube]
pub(super) fn held(value: f32) -> f32 {
    let mut value = value;
    if value > 65504.0f32 {
        if value <= 3.402_823_5e38f32 {
            value = 65504.0f32;
        }
    }
    if value < -65504.0f32 {
        if value >= -3.402_823_5e38f32 {
            value = -65504.0f32;
        }
    }
    value
}

/// Numbers in 16 bits, as far as those reach.
#[cube]
pub(super) fn narrowed<H: Float, N: Size>(values: Vector<f32, N>) -> Vector<H, N> {
    let mut values = values;
    #[unroll]
    for lane in 0..N::value() {
        values.insert(lane, held(values.extract(lane)));
    }
    Vector::cast_from(values)
}

/// The numbers times `by[0]` when `scaled`, as far as the format reaches.
#[cube(launch_unchecked)]
fn round_kernel<H: Float, N: Size>(
    input: &[Vector<f32, N>],
    by: &[f32],
    output: &mut [Vector<H, N>],
    count: u32,
    #[comptime] scaled: bool,
    #[define(H)] _half: ElemType,
) {
    if ABSOLUTE_POS < count as usize {
        let mut values = input[ABSOLUTE_POS];
        if comptime!(scaled) {
            values *= Vector::new(by[0]);
        }
        output[ABSOLUTE_POS] = narrowed::<H, N>(values);
    }
}

#[cube(launch_unchecked)]
fn bias_kernel<H: Float, N: Size>(
    output: &mut [Vector<H, N>],
    bias: &[Vector<f32, N>],
    count: u32,
    width: u32,
    #[comptime] half: bool,
    #[define(H)] _format: ElemType,
) {
    if ABSOLUTE_POS < count as usize {
        let sum = Vector::<f32, N>::cast_from(output[ABSOLUTE_POS]) + bias[ABSOLUTE_POS % width as usize];
        if comptime!(half) {
            output[ABSOLUTE_POS] = narrowed::<H, N>(sum);
        } else {
            output[ABSOLUTE_POS] = Vector::cast_from(sum);
        }
    }
}

/// Rounded to the format, times the first of `scales` where there are any. What has the format already is taken as it is.
pub(super) fn rounded(input: CubeTensor, scales: Option<&CubeTensor>, half: DType) -> CubeTensor {
    let input = into_contiguous(input);
    if input.dtype == half && scales.is_none() {
        return input;
    }
    let shape = matrix(&input);
    let output = empty_in(&input, shape, half);
    let (client, lanes) = (input.client.clone(), vector_width(shape[1]));
    let count = shape[0] * shape[1] / lanes;
    // SAFETY: both buffers have `count` vectors, and no unit beyond touches them; a kernel that does not scale reads no scale.
    unsafe {
        round_kernel::launch_unchecked(
            &client,
            cubes(&client, count.div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            lanes,
            input.clone().into_buffer_arg(),
            scales.unwrap_or(&input).clone().into_buffer_arg(),
            output.clone().into_buffer_arg(),
            count as u32,
            scales.is_some(),
            dtype_to_elem_type(half),
        );
    }
    output
}

/// A product in a format, added up in f32.
pub(super) fn product(left: CubeTensor, right: CubeTensor, format: DType) -> CubeTensor {
    into_contiguous(matmul(left, right, None, MatmulStrategy::default(), format).expect("matrices of one format that fit each other"))
}

pub(super) fn transposed(matrix: CubeTensor) -> CubeTensor {
    CubeBackend::float_swap_dims(matrix, 0, 1)
}

/// What the layer leaves, and the rounded operands.
pub(super) fn forward(input: CubeTensor, weight: CubeTensor, bias: CubeTensor, half: DType, leaves: Leaves) -> [CubeTensor; 3] {
    let [input, weight] = [input, weight].map(|operand| rounded(operand, None, half));
    let format = if leaves == Leaves::Half { half } else { DType::F32 };
    let output = product(input.clone(), weight.clone(), format);
    if leaves == Leaves::Open {
        return [output, input, weight];
    }
    let ([rows, width], client) = (matrix(&output), output.client.clone());
    let lanes = vector_width(width);
    let count = rows * width / lanes;
    // SAFETY: the output has rows x width numbers, the bias `width`; no unit beyond touches them.
    unsafe {
        bias_kernel::launch_unchecked(
            &client,
            cubes(&client, count.div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            lanes,
            output.clone().into_buffer_arg(),
            into_contiguous(bias).into_buffer_arg(),
            count as u32,
            (width / lanes) as u32,
            leaves == Leaves::Half,
            dtype_to_elem_type(format),
        );
    }
    [output, input, weight]
}

/// The gradients of input, weight and bias.
pub(super) fn backward(gradient: CubeTensor, input: CubeTensor, weight: CubeTensor) -> [CubeTensor; 3] {
    let [gradient, scales, to_bias] = surveyed(gradient, None, weight.dtype);
    let to_input = unscaled(product(gradient.clone(), transposed(weight), DType::F32), &scales);
    let to_weight = unscaled(product(transposed(input), gradient, DType::F32), &scales);
    [to_input, to_weight, to_bias]
}
