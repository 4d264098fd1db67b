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

use super::gelu::{gelu, slope};
use super::mixed::{LANES, division, held, product, rounded, surveyed, transposed, unscaled};
use super::{UNITS, cubes, empty, empty_in, matrix};

/// GELU of the input and the bias of its column, in the format.
#[cube(launch_unchecked)]
fn gelu_kernel<H: Float>(input: &[H], bias: &[f32], output: &mut [H], count: u32, width: u32, #[define(H)] _half: ElemType) {
    if ABSOLUTE_POS < count as usize {
        let sum = f32::cast_from(input[ABSOLUTE_POS]) + bias[ABSOLUTE_POS % width as usize];
        output[ABSOLUTE_POS] = H::cast_from(held(gelu(sum)));
    }
}

/// The gradient times the slope of GELU, in the format, and its sums over a part of the rows, `[parts, width]`, before rounding. A cube has a few columns of a part.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn slope_kernel<H: Float>(
    gradient: &[H],
    input: &[H],
    bias: &[f32],
    output: &mut [H],
    parts: &mut [f32],
    rows: u32,
    width: u32,
    height: u32,
    #[define(H)] _half: ElemType,
) {
    let (rows, width, height) = (rows as usize, width as usize, height as usize);
    let across = UNITS / LANES;
    let unit = UNIT_POS as usize;
    let lane = unit / LANES;
    let column = CUBE_POS_X as usize * LANES + unit % LANES;
    let part = CUBE_POS_Y as usize;
    let mut sums = Shared::<[f32]>::new_slice(UNITS);
    let mut end = (part + 1) * height;
    if end > rows {
        end = rows;
    }
    let mut sum = 0.0f32;
    if column < width {
        let own = bias[column];
        let mut row = part * height + lane;
        while row < end {
            let at = row * width + column;
            let value = f32::cast_from(gradient[at]) * slope(f32::cast_from(input[at]) + own);
            sum += value;
            output[at] = H::cast_from(held(value));
            row += across;
        }
    }
    sums[unit] = sum;
    sync_cube();
    if lane == 0 {
        if column < width {
            let mut sum = 0.0f32;
            for other in 0..across {
                sum += sums[other * LANES + unit];
            }
            parts[part * width + column] = sum;
        }
    }
}

/// The sums of the parts, times `scales[1]`.
#[cube(launch_unchecked)]
fn sums_kernel(parts: &[f32], scales: &[f32], sums: &mut [f32], count: u32, width: u32) {
    if ABSOLUTE_POS < width as usize {
        let mut sum = 0.0f32;
        for part in 0..count as usize {
            sum += parts[part * width as usize + ABSOLUTE_POS];
        }
        sums[ABSOLUTE_POS] = sum * scales[1];
    }
}

/// The output without its bias, and in the format: input, inner product, hidden numbers, inner and outer weights.
pub(super) fn forward(input: CubeTensor, inner: CubeTensor, bias: CubeTensor, outer: CubeTensor, half: DType) -> [CubeTensor; 6] {
    let [input, inner, outer] = [input, inner, outer].map(|operand| rounded(operand, None, half));
    let middle = product(input.clone(), inner.clone(), half);
    let [rows, width] = matrix(&middle);
    let hidden = empty_in(&middle, [rows, width], half);
    let client = middle.client.clone();
    if rows * width > 0 {
        // SAFETY: product and hidden numbers are rows x width, the bias `width`, and no unit beyond touches them.
        unsafe {
            gelu_kernel::launch_unchecked(
                &client,
                cubes(&client, (rows * width).div_ceil(UNITS)),
                CubeDim::new_1d(UNITS as u32),
                middle.clone().into_buffer_arg(),
                into_contiguous(bias).into_buffer_arg(),
                hidden.clone().into_buffer_arg(),
                (rows * width) as u32,
                width as u32,
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
    let [height, count, across] = division(rows, width);
    let to_middle = empty_in(&middle, [rows, width], half);
    let (parts, to_inner_bias) = (empty(&scales, [count * width]), empty(&scales, [width]));
    let client = middle.client.clone();
    // SAFETY: matrices are rows x width, the bias and its gradient `width`, the parts `count` x `width`; what lies beyond is left out.
    unsafe {
        slope_kernel::launch_unchecked(
            &client,
            CubeCount::Static(across as u32, count as u32, 1),
            CubeDim::new_1d(UNITS as u32),
            to_hidden.into_buffer_arg(),
            middle.into_buffer_arg(),
            into_contiguous(bias).into_buffer_arg(),
            to_middle.clone().into_buffer_arg(),
            parts.clone().into_buffer_arg(),
            rows as u32,
            width as u32,
            height as u32,
            dtype_to_elem_type(half),
        );
        sums_kernel::launch_unchecked(
            &client,
            cubes(&client, width.div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            parts.into_buffer_arg(),
            scales.clone().into_buffer_arg(),
            to_inner_bias.clone().into_buffer_arg(),
            count as u32,
            width as u32,
        );
    }
    let to_inner = unscaled(product(transposed(input), to_middle.clone(), DType::F32), &scales);
    let to_input = unscaled(product(to_middle, transposed(inner), DType::F32), &scales);
    [to_input, to_inner, to_inner_bias, to_outer, to_outer_bias]
}
