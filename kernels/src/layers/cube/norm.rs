//! Dropout, residual connection and layer norm on GPUs.
//!
//! [`LANES`] units share a row and [`ROWS`] rows a cube. Each unit adds up its part and then, behind one barrier, all parts, in one order. The gradients of scale and shift are
//! sums over rows: cubes add up parts of them, and a second kernel the parts.

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#![allow(clippy::collapsible_if)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::mask::{factor, row_key, words};
use super::{UNITS, cubes, empty, matrix};
use crate::layers::mask::Dropout;
use crate::layers::norm::Norm;

/// Units of a row, and columns of a cube that adds up columns.
const LANES: usize = 32;

/// Rows of a cube.
const ROWS: usize = 4;

/// Parts that columns are added up in, at most.
const PARTS: usize = 64;

/// The sum of the parts of the row that starts at `first`.
#[cube]
fn gathered(parts: &Shared<[f32]>, first: usize) -> f32 {
    let mut sum = 0.0f32;
    for lane in 0..LANES {
        sum += parts[first + lane];
    }
    sum
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn norm_kernel(
    input: &[f32],
    bias: &[f32],
    residual: &[f32],
    gamma: &[f32],
    beta: &[f32],
    output: &mut [f32],
    kept: &mut [f32],
    rows: u32,
    width: u32,
    epsilon: f32,
    threshold: u32,
    scale: f32,
    key_low: u32,
    key_high: u32,
    #[comptime] biased: bool,
    #[comptime] dropped: bool,
    #[comptime] keeping: bool,
) {
    let (rows, width) = (rows as usize, width as usize);
    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let first = unit - lane;
    let row = CUBE_POS * ROWS + unit / LANES;
    let start = row * width;
    let mut sums = Shared::<[f32]>::new_slice(LANES * ROWS);
    let mut squares = Shared::<[f32]>::new_slice(LANES * ROWS);

    let mut sum = 0.0f32;
    if row < rows {
        let (low, high) = row_key(row as u32, key_low, key_high);
        let mut column = lane;
        while column < width {
            let mut value = input[start + column];
            if comptime!(biased) {
                value += bias[column];
            }
            if comptime!(dropped) {
                value *= factor(column as u32, low, high, threshold, scale);
            }
            value += residual[start + column];
            // Its own unit reads it again.
            output[start + column] = value;
            sum += value;
            column += LANES;
        }
    }
    sums[unit] = sum;
    sync_cube();
    let mean = gathered(&sums, first) / width as f32;

    let mut square = 0.0f32;
    if row < rows {
        let mut column = lane;
        while column < width {
            let distance = output[start + column] - mean;
            square += distance * distance;
            column += LANES;
        }
    }
    squares[unit] = square;
    sync_cube();
    let by = 1.0f32 / (gathered(&squares, first) / width as f32 + epsilon).sqrt();

    if row < rows {
        let mut column = lane;
        while column < width {
            let value = (output[start + column] - mean) * by;
            if comptime!(keeping) {
                kept[start + column] = value;
            }
            output[start + column] = value * gamma[column] + beta[column];
            column += LANES;
        }
        if comptime!(keeping) {
            if lane == 0 {
                kept[rows * width + row] = by;
            }
        }
    }
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn norm_backward_kernel(
    gradient: &[f32],
    gamma: &[f32],
    kept: &[f32],
    residual: &mut [f32],
    input: &mut [f32],
    rows: u32,
    width: u32,
    threshold: u32,
    scale: f32,
    key_low: u32,
    key_high: u32,
    #[comptime] dropped: bool,
) {
    let (rows, width) = (rows as usize, width as usize);
    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let first = unit - lane;
    let row = CUBE_POS * ROWS + unit / LANES;
    let start = row * width;
    let mut sums = Shared::<[f32]>::new_slice(LANES * ROWS);
    let mut slopes = Shared::<[f32]>::new_slice(LANES * ROWS);

    let mut sum = 0.0f32;
    let mut slope = 0.0f32;
    if row < rows {
        let mut column = lane;
        while column < width {
            let scaled = gradient[start + column] * gamma[column];
            sum += scaled;
            slope += scaled * kept[start + column];
            column += LANES;
        }
    }
    sums[unit] = sum;
    slopes[unit] = slope;
    sync_cube();
    let mean = gathered(&sums, first) / width as f32;
    let slope = gathered(&slopes, first) / width as f32;

    if row < rows {
        let by = kept[rows * width + row];
        let (low, high) = row_key(row as u32, key_low, key_high);
        let mut column = lane;
        while column < width {
            let scaled = gradient[start + column] * gamma[column];
            let value = by * (scaled - (kept[start + column] * slope + mean));
            residual[start + column] = value;
            if comptime!(dropped) {
                input[start + column] = value * factor(column as u32, low, high, threshold, scale);
            }
            column += LANES;
        }
    }
}

/// Sums over a part of the rows, `[parts, 2, width]`: of the gradient times the normal rows, and of the gradient.
#[cube(launch_unchecked)]
fn columns_kernel(gradient: &[f32], kept: &[f32], parts: &mut [f32], rows: u32, width: u32, height: u32) {
    let (rows, width, height) = (rows as usize, width as usize, height as usize);
    let across = UNITS / LANES;
    let unit = UNIT_POS as usize;
    let lane = unit / LANES;
    let column = CUBE_POS_X as usize * LANES + unit % LANES;
    let part = CUBE_POS_Y as usize;
    let mut scales = Shared::<[f32]>::new_slice(UNITS);
    let mut shifts = Shared::<[f32]>::new_slice(UNITS);
    let mut end = (part + 1) * height;
    if end > rows {
        end = rows;
    }
    let mut scale = 0.0f32;
    let mut shift = 0.0f32;
    if column < width {
        let mut row = part * height + lane;
        while row < end {
            let value = gradient[row * width + column];
            scale += value * kept[row * width + column];
            shift += value;
            row += across;
        }
    }
    scales[unit] = scale;
    shifts[unit] = shift;
    sync_cube();
    if lane == 0 {
        if column < width {
            let mut scale = 0.0f32;
            let mut shift = 0.0f32;
            for other in 0..across {
                scale += scales[other * LANES + unit];
                shift += shifts[other * LANES + unit];
            }
            parts[part * 2 * width + column] = scale;
            parts[(part * 2 + 1) * width + column] = shift;
        }
    }
}

/// The sums of the parts.
#[cube(launch_unchecked)]
fn parts_kernel(parts: &[f32], scale: &mut [f32], shift: &mut [f32], count: u32, width: u32) {
    let (count, width) = (count as usize, width as usize);
    let column = ABSOLUTE_POS;
    if column < width {
        let mut first = 0.0f32;
        let mut second = 0.0f32;
        for part in 0..count {
            first += parts[part * 2 * width + column];
            second += parts[(part * 2 + 1) * width + column];
        }
        scale[column] = first;
        shift[column] = second;
    }
}

/// The output, and when asked to keep them the rows before scale and shift, and behind them what each was multiplied by.
pub(super) fn forward(inputs: [CubeTensor; 5], norm: Norm, keeping: bool) -> (CubeTensor, CubeTensor) {
    let [input, bias, residual, gamma, beta] = inputs.map(into_contiguous);
    let [rows, width] = matrix(&input);
    let output = empty(&input, [rows, width]);
    let kept = empty(&input, [if keeping { rows * (width + 1) } else { 1 }]);
    if rows * width > 0 {
        let (threshold, scale, low, high) = words(norm.dropout);
        let client = input.client.clone();
        // SAFETY: matrices have `rows` x `width` numbers, vectors `width`, what is kept `rows` more than a matrix; rows beyond and columns beyond are left out. What is not kept is not written.
        unsafe {
            norm_kernel::launch_unchecked(
                &client,
                cubes(&client, rows.div_ceil(ROWS)),
                CubeDim::new_1d((LANES * ROWS) as u32),
                input.into_buffer_arg(),
                bias.into_buffer_arg(),
                residual.into_buffer_arg(),
                gamma.into_buffer_arg(),
                beta.into_buffer_arg(),
                output.clone().into_buffer_arg(),
                kept.clone().into_buffer_arg(),
                rows as u32,
                width as u32,
                norm.epsilon as f32,
                threshold,
                scale,
                low,
                high,
                norm.biased,
                norm.dropout.is_some(),
                keeping,
            );
        }
    }
    (output, kept)
}

/// Gradients of input, residual, scale and shift.
pub(super) fn backward(
    gradient: CubeTensor,
    gamma: CubeTensor,
    kept: CubeTensor,
    dropout: Option<Dropout>,
) -> [CubeTensor; 4] {
    let [gradient, gamma] = [gradient, gamma].map(into_contiguous);
    let [rows, width] = matrix(&gradient);
    let residual = empty(&gradient, [rows, width]);
    let input = empty(&gradient, if dropout.is_some() { [rows, width] } else { [1, 1] });
    let [to_gamma, to_beta] = [(); 2].map(|()| empty(&gradient, [width]));
    // As few parts as keep a cube busy, so that the second kernel is short.
    let height = rows.div_ceil(PARTS).max(UNITS / LANES);
    let count = rows.div_ceil(height);
    let parts = empty(&gradient, [count.max(1), 2, width]);
    let (threshold, scale, low, high) = words(dropout);
    let client = gradient.client.clone();
    // SAFETY: matrices have `rows` x `width` numbers, vectors `width`, what is kept `rows` more than a matrix, the parts `count` x 2 x `width`; a cube leaves out what lies beyond. There are at most
    // `PARTS` cubes down and `width` / `LANES` across. Without dropout the gradient of the input is not written.
    unsafe {
        if rows * width > 0 {
            norm_backward_kernel::launch_unchecked(
                &client,
                cubes(&client, rows.div_ceil(ROWS)),
                CubeDim::new_1d((LANES * ROWS) as u32),
                gradient.clone().into_buffer_arg(),
                gamma.into_buffer_arg(),
                kept.clone().into_buffer_arg(),
                residual.clone().into_buffer_arg(),
                input.clone().into_buffer_arg(),
                rows as u32,
                width as u32,
                threshold,
                scale,
                low,
                high,
                dropout.is_some(),
            );
            columns_kernel::launch_unchecked(
                &client,
                CubeCount::Static(width.div_ceil(LANES) as u32, count as u32, 1),
                CubeDim::new_1d(UNITS as u32),
                gradient.into_buffer_arg(),
                kept.into_buffer_arg(),
                parts.clone().into_buffer_arg(),
                rows as u32,
                width as u32,
                height as u32,
            );
        }
        parts_kernel::launch_unchecked(
            &client,
            cubes(&client, width.div_ceil(UNITS).max(1)),
            CubeDim::new_1d(UNITS as u32),
            parts.into_buffer_arg(),
            to_gamma.clone().into_buffer_arg(),
            to_beta.clone().into_buffer_arg(),
            count as u32,
            width as u32,
        );
    }
    let input = if dropout.is_some() { input } else { residual.clone() };
    [input, residual, to_gamma, to_beta]
}
