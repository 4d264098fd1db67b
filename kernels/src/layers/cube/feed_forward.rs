//! Two linear layers with GELU between them in mixed precision on GPUs: between the products everything is 16 bits and one pass each way.
//!
//! The inner product is kept without its bias; the pass behind it adds that, applies GELU and rounds. Backward, the pass between the products multiplies by the slope, adds up the gradient of the inner
//! bias and rounds. Both read and write 16-bit numbers, a third of what passes of their own in f32 would move. One scale serves all gradients here: see `feed_forward::reaching`.

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#![allow(clippy::collapsible_if)]

use burn::backend::cubecl::dtype_to_elem_type;
use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::columns::{DOWN, Division, LANES, SUMMED, gather, summed, total, totals};
use super::gelu::{gelus, slopes};
use super::mixed::{narrowed, product, rounded, transposed};
use super::survey::{surveyed, unscaled};
use super::{UNITS, cubes, empty, empty_in, matrix, vector_width};

/// GELU of the input and the bias of its column, in the format.
#[cube(launch_unchecked)]
fn gelu_kernel<H: Float, N: Size>(
    input: &[Vector<H, N>],
    bias: &[Vector<f32, N>],
    output: &mut [Vector<H, N>],
    count: u32,
    width: u32,
    #[define(H)] _half: ElemType,
) {
    if ABSOLUTE_POS < count as usize {
        let sum = Vector::<f32, N>::cast_from(input[ABSOLUTE_POS]) + bias[ABSOLUTE_POS % width as usize];
        output[ABSOLUTE_POS] = narrowed::<H, N>(gelus::<N>(sum));
    }
}

/// The gradient times the slope of GELU, in the format, and its sums over a part of the rows, `[parts, width]`, before rounding. Widths are in vectors here.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn slope_kernel<H: Float, N: Size>(
    gradient: &[Vector<H, N>],
    input: &[Vector<H, N>],
    bias: &[Vector<f32, N>],
    output: &mut [Vector<H, N>],
    parts: &mut [f32],
    rows: u32,
    width: u32,
    height: u32,
    #[define(H)] _half: ElemType,
) {
    let (rows, width, height) = (rows as usize, width as usize, height as usize);
    let unit = UNIT_POS as usize;
    let column = CUBE_POS_X as usize * LANES + unit % LANES;
    let part = CUBE_POS_Y as usize;
    let mut sums = Shared::<[Vector<f32, N>]>::new_slice(UNITS);
    let mut end = (part + 1) * height;
    if end > rows {
        end = rows;
    }
    let mut sum = Vector::<f32, N>::from_int(0);
    if column < width {
        let own = bias[column];
        let mut row = part * height + unit / LANES;
        while row < end {
            let at = row * width + column;
            let values = slopes::<N>(Vector::<f32, N>::cast_from(input[at]) + own) * Vector::cast_from(gradient[at]);
            sum += values;
            output[at] = narrowed::<H, N>(values);
            row += DOWN;
        }
    }
    gather(sum, &mut sums, parts, (part * width + column) * N::value(), column < width);
}

/// The sums of the parts, times `scales[1]`.
#[cube(launch_unchecked)]
fn sums_kernel(parts: &[f32], scales: &[f32], sums: &mut [f32], count: u32, width: u32) {
    let (count, width) = (count as usize, width as usize);
    let mut own = Shared::<[f32]>::new_slice(UNITS);
    let sum = total(parts, &mut own, 0usize, width, count, width);
    if (UNIT_POS as usize) < SUMMED {
        if summed() < width {
            sums[summed()] = sum * scales[1];
        }
    }
}

/// The output without its bias, and in the format: input, inner product, hidden numbers, inner and outer weights.
pub(super) fn forward(input: CubeTensor, inner: CubeTensor, bias: CubeTensor, outer: CubeTensor, half: DType) -> [CubeTensor; 6] {
    let [input, inner, outer] = [input, inner, outer].map(|operand| rounded(operand, None, half));
    let middle = product(input.clone(), inner.clone(), half);
    let [rows, width] = matrix(&middle);
    let hidden = empty_in(&middle, [rows, width], half);
    let (client, lanes) = (middle.client.clone(), vector_width(width));
    let count = rows * width / lanes;
    if count > 0 {
        // SAFETY: product and hidden numbers are rows x width, the bias `width`, and no unit beyond touches them.
        unsafe {
            gelu_kernel::launch_unchecked(
                &client,
                cubes(&client, count.div_ceil(UNITS)),
                CubeDim::new_1d(UNITS as u32),
                lanes,
                middle.clone().into_buffer_arg(),
                into_contiguous(bias).into_buffer_arg(),
                hidden.clone().into_buffer_arg(),
                count as u32,
                (width / lanes) as u32,
                dtype_to_elem_type(half),
            );
        }
    }
    let output = product(hidden.clone(), outer.clone(), DType::F32);
    [output, input, middle, hidden, inner, outer]
}

/// The gradients of input, inner weights and bias, outer weights and bias.
pub(super) fn backward(
    gradient: CubeTensor,
    input: CubeTensor,
    middle: CubeTensor,
    hidden: CubeTensor,
    [inner, outer]: [CubeTensor; 2],
    bias: CubeTensor,
) -> [CubeTensor; 5] {
    let half = outer.dtype;
    let [gradient, scales, to_outer_bias] = surveyed(gradient, Some(&outer), half);
    let to_outer = unscaled(product(transposed(hidden), gradient.clone(), DType::F32), &scales);
    let to_hidden = product(gradient, transposed(outer), half);
    let [rows, width] = matrix(&middle);
    let (division, lanes) = (Division::of(rows, width), vector_width(width));
    let to_middle = empty_in(&middle, [rows, width], half);
    let (parts, to_inner_bias) = (empty(&scales, [division.parts * width]), empty(&scales, [width]));
    let client = middle.client.clone();
    // SAFETY: matrices are rows x width, the bias and its gradient `width`, the parts as many times `width`; what lies beyond is left out.
    unsafe {
        slope_kernel::launch_unchecked(
            &client,
            division.cubes(),
            CubeDim::new_1d(UNITS as u32),
            lanes,
            to_hidden.into_buffer_arg(),
            middle.into_buffer_arg(),
            into_contiguous(bias).into_buffer_arg(),
            to_middle.clone().into_buffer_arg(),
            parts.clone().into_buffer_arg(),
            rows as u32,
            (width / lanes) as u32,
            division.height as u32,
            dtype_to_elem_type(half),
        );
        sums_kernel::launch_unchecked(
            &client,
            totals(width),
            CubeDim::new_1d(UNITS as u32),
            parts.into_buffer_arg(),
            scales.clone().into_buffer_arg(),
            to_inner_bias.clone().into_buffer_arg(),
            division.parts as u32,
            width as u32,
        );
    }
    let to_inner = unscaled(product(transposed(input), to_middle.clone(), DType::F32), &scales);
    let to_input = unscaled(product(to_middle, transposed(inner), DType::F32), &scales);
    [to_input, to_inner, to_inner_bias, to_outer, to_outer_bias]
}
