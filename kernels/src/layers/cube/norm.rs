//! Dropout, residual connection and norm on GPUs: layer norm, or by the root mean square alone.
//!
//! [`LANES`] units share a row and [`ROWS`] rows a cube. Each unit adds up its part and then, behind one barrier, all parts, in one order. The gradients of scale and shift are
//! sums over rows (`columns`).

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#![allow(clippy::collapsible_if)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::columns::{DOWN, Division, LANES, SUMMED, gather, summed, total, totals};
use super::mask::{factor, row_key, words};
use super::{UNITS, cubes, empty, matrix, vector_width};
use crate::layers::norm::Norm;

/// Rows of a cube.
pub(super) const ROWS: usize = 4;

/// The sum of the parts of the row that starts at `first`.
#[cube]
pub(super) fn gathered(parts: &Shared<[f32]>, first: usize) -> f32 {
    let mut sum = 0.0f32;
    for lane in 0..LANES {
        sum += parts[first + lane];
    }
    sum
}

/// The sum of the numbers of a vector.
#[cube]
pub(super) fn across<N: Size>(values: Vector<f32, N>) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for lane in 0..N::value() {
        sum += values.extract(lane);
    }
    sum
}

/// Widths are in vectors here and in the kernels below. What is kept: the rows before scale and shift, behind them a vector of each row with what it was multiplied by.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn norm_kernel<N: Size>(
    input: &[Vector<f32, N>],
    bias: &[Vector<f32, N>],
    residual: &[Vector<f32, N>],
    gamma: &[Vector<f32, N>],
    beta: &[Vector<f32, N>],
    output: &mut [Vector<f32, N>],
    kept: &mut [Vector<f32, N>],
    rows: u32,
    width: u32,
    epsilon: f32,
    threshold: u32,
    scale: f32,
    key_low: u32,
    key_high: u32,
    #[comptime] biased: bool,
    #[comptime] dropped: bool,
    #[comptime] alone: bool,
    #[comptime] centered: bool,
    #[comptime] keeping: bool,
) {
    let (rows, width) = (rows as usize, width as usize);
    let count = f32::cast_from((width * N::value()) as u32);
    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let first = unit - lane;
    let row = CUBE_POS * ROWS + unit / LANES;
    let start = row * width;
    let mut sums = Shared::<[f32]>::new_slice(LANES * ROWS);
    let mut squares = Shared::<[f32]>::new_slice(LANES * ROWS);

    let mut sum = Vector::<f32, N>::from_int(0);
    if row < rows {
        let (low, high) = row_key(row as u32, key_low, key_high);
        let mut column = lane;
        while column < width {
            let mut values = input[start + column];
            if comptime!(biased) {
                values += bias[column];
            }
            if comptime!(dropped) {
                values *= factors::<N>(column, low, high, threshold, scale);
            }
            if comptime!(!alone) {
                values += residual[start + column];
            }
            // Its own unit reads it again; an input that is alone lies there as it is.
            if comptime!(!alone) {
                output[start + column] = values;
            }
            sum += values;
            column += LANES;
        }
    }
    let mut mean = Vector::<f32, N>::from_int(0);
    if comptime!(centered) {
        sums[unit] = across(sum);
        sync_cube();
        mean = Vector::new(gathered(&sums, first) / count);
    }

    let mut square = Vector::<f32, N>::from_int(0);
    if row < rows {
        let mut column = lane;
        while column < width {
            let mut values = input[start + column];
            if comptime!(!alone) {
                values = output[start + column];
            }
            let distance = values - mean;
            square += distance * distance;
            column += LANES;
        }
    }
    squares[unit] = across(square);
    sync_cube();
    let by = Vector::new(1.0f32 / (gathered(&squares, first) / count + epsilon).sqrt());

    if row < rows {
        let mut column = lane;
        while column < width {
            let mut values = input[start + column];
            if comptime!(!alone) {
                values = output[start + column];
            }
            values = (values - mean) * by;
            if comptime!(keeping) {
                kept[start + column] = values;
            }
            output[start + column] = values * gamma[column] + beta[column];
            column += LANES;
        }
        if comptime!(keeping) {
            if lane == 0 {
                kept[rows * width + row] = by;
            }
        }
    }
}

/// What the numbers of a vector are multiplied by.
#[cube]
fn factors<N: Size>(column: usize, low: u32, high: u32, threshold: u32, scale: f32) -> Vector<f32, N> {
    let mut factors = Vector::<f32, N>::new(scale);
    #[unroll]
    for lane in 0..N::value() {
        factors.insert(lane, factor((column * N::value() + lane) as u32, low, high, threshold, scale));
    }
    factors
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn norm_backward_kernel<N: Size>(
    gradient: &[Vector<f32, N>],
    gamma: &[Vector<f32, N>],
    kept: &[Vector<f32, N>],
    residual: &mut [Vector<f32, N>],
    input: &mut [Vector<f32, N>],
    rows: u32,
    width: u32,
    threshold: u32,
    scale: f32,
    key_low: u32,
    key_high: u32,
    #[comptime] dropped: bool,
    #[comptime] centered: bool,
) {
    let (rows, width) = (rows as usize, width as usize);
    let count = f32::cast_from((width * N::value()) as u32);
    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let first = unit - lane;
    let row = CUBE_POS * ROWS + unit / LANES;
    let start = row * width;
    let mut sums = Shared::<[f32]>::new_slice(LANES * ROWS);
    let mut slopes = Shared::<[f32]>::new_slice(LANES * ROWS);

    let mut sum = Vector::<f32, N>::from_int(0);
    let mut slope = Vector::<f32, N>::from_int(0);
    if row < rows {
        let mut column = lane;
        while column < width {
            let scaled = gradient[start + column] * gamma[column];
            sum += scaled;
            slope += scaled * kept[start + column];
            column += LANES;
        }
    }
    sums[unit] = across(sum);
    slopes[unit] = across(slope);
    sync_cube();
    let mut mean = Vector::<f32, N>::from_int(0);
    if comptime!(centered) {
        mean = Vector::new(gathered(&sums, first) / count);
    }
    let slope = Vector::new(gathered(&slopes, first) / count);

    if row < rows {
        let by = kept[rows * width + row];
        let (low, high) = row_key(row as u32, key_low, key_high);
        let mut column = lane;
        while column < width {
            let scaled = gradient[start + column] * gamma[column];
            let values = by * (scaled - (kept[start + column] * slope + mean));
            residual[start + column] = values;
            if comptime!(dropped) {
                input[start + column] = values * factors::<N>(column, low, high, threshold, scale);
            }
            column += LANES;
        }
    }
}

/// Sums over a part of the rows, `[parts, 2, width]`: of the gradient times the normal rows, and of the gradient.
#[cube(launch_unchecked)]
fn columns_kernel<N: Size>(gradient: &[Vector<f32, N>], kept: &[Vector<f32, N>], parts: &mut [f32], rows: u32, width: u32, height: u32) {
    let (rows, width, height) = (rows as usize, width as usize, height as usize);
    let unit = UNIT_POS as usize;
    let column = CUBE_POS_X as usize * LANES + unit % LANES;
    let part = CUBE_POS_Y as usize;
    let mut scales = Shared::<[Vector<f32, N>]>::new_slice(UNITS);
    let mut shifts = Shared::<[Vector<f32, N>]>::new_slice(UNITS);
    let mut end = (part + 1) * height;
    if end > rows {
        end = rows;
    }
    let mut scale = Vector::<f32, N>::from_int(0);
    let mut shift = Vector::<f32, N>::from_int(0);
    if column < width {
        let mut row = part * height + unit / LANES;
        while row < end {
            let values = gradient[row * width + column];
            scale += values * kept[row * width + column];
            shift += values;
            row += DOWN;
        }
    }
    gather(scale, &mut scales, parts, (part * 2 * width + column) * N::value(), column < width);
    gather(shift, &mut shifts, parts, ((part * 2 + 1) * width + column) * N::value(), column < width);
}

/// The sums of the parts. The width is in numbers.
#[cube(launch_unchecked)]
fn parts_kernel(parts: &[f32], scale: &mut [f32], shift: &mut [f32], count: u32, width: u32) {
    let (count, width) = (count as usize, width as usize);
    let mut own = Shared::<[f32]>::new_slice(UNITS);
    let first = total(parts, &mut own, 0usize, 2 * width, count, width);
    let second = total(parts, &mut own, width, 2 * width, count, width);
    if (UNIT_POS as usize) < SUMMED {
        if summed() < width {
            scale[summed()] = first;
            shift[summed()] = second;
        }
    }
}

/// Numbers that are kept of so many rows.
pub(in crate::layers) fn kept(rows: usize, width: usize) -> usize {
    rows * (width + vector_width(width))
}

/// The output, and when asked to keep it what [`norm_kernel()`] says.
pub(super) fn forward(inputs: [CubeTensor; 5], norm: Norm, keeping: bool) -> (CubeTensor, CubeTensor) {
    let [input, bias, residual, gamma, beta] = inputs.map(into_contiguous);
    let [rows, width] = matrix(&input);
    let output = empty(&input, [rows, width]);
    let kept = empty(&input, [if keeping { kept(rows, width) } else { vector_width(width) }]);
    if rows * width > 0 {
        let (threshold, scale, low, high) = words(norm.dropout);
        let (client, lanes) = (input.client.clone(), vector_width(width));
        // SAFETY: matrices have `rows` x `width` numbers, lines `width`, what is kept a vector for each row more than a matrix; rows beyond and columns beyond are left out. What is not kept is not written, and a residual that is none is not read.
        unsafe {
            norm_kernel::launch_unchecked(
                &client,
                cubes(&client, rows.div_ceil(ROWS)),
                CubeDim::new_1d((LANES * ROWS) as u32),
                lanes,
                input.into_buffer_arg(),
                bias.into_buffer_arg(),
                residual.into_buffer_arg(),
                gamma.into_buffer_arg(),
                beta.into_buffer_arg(),
                output.clone().into_buffer_arg(),
                kept.clone().into_buffer_arg(),
                rows as u32,
                (width / lanes) as u32,
                norm.epsilon as f32,
                threshold,
                scale,
                low,
                high,
                norm.biased,
                norm.dropout.is_some(),
                norm.alone,
                norm.centered,
                keeping,
            );
        }
    }
    (output, kept)
}

/// Gradients of input, residual, scale and shift.
pub(super) fn backward(gradient: CubeTensor, gamma: CubeTensor, kept: CubeTensor, norm: Norm) -> [CubeTensor; 4] {
    let Norm { dropout, centered, .. } = norm;
    let [gradient, gamma] = [gradient, gamma].map(into_contiguous);
    let [rows, width] = matrix(&gradient);
    let residual = empty(&gradient, [rows, width]);
    let input = empty(&gradient, [if dropout.is_some() { rows } else { 1 }, width]);
    let [to_gamma, to_beta] = [(); 2].map(|()| empty(&gradient, [width]));
    let (division, lanes) = (Division::of(rows, width), vector_width(width));
    let parts = empty(&gradient, [division.parts.max(1), 2, width]);
    let (threshold, scale, low, high) = words(dropout);
    let client = gradient.client.clone();
    // SAFETY: matrices have `rows` x `width` numbers, lines `width`, what is kept a vector for each row more than a matrix, the parts as many times 2 x `width`; a cube leaves out what
    // lies beyond. Without dropout the gradient of the input is not written.
    unsafe {
        if rows * width > 0 {
            norm_backward_kernel::launch_unchecked(
                &client,
                cubes(&client, rows.div_ceil(ROWS)),
                CubeDim::new_1d((LANES * ROWS) as u32),
                lanes,
                gradient.clone().into_buffer_arg(),
                gamma.into_buffer_arg(),
                kept.clone().into_buffer_arg(),
                residual.clone().into_buffer_arg(),
                input.clone().into_buffer_arg(),
                rows as u32,
                (width / lanes) as u32,
                threshold,
                scale,
                low,
                high,
                dropout.is_some(),
                centered,
            );
            columns_kernel::launch_unchecked(
                &client,
                division.cubes(),
                CubeDim::new_1d(UNITS as u32),
                lanes,
                gradient.into_buffer_arg(),
                kept.into_buffer_arg(),
                parts.clone().into_buffer_arg(),
                rows as u32,
                (width / lanes) as u32,
                division.height as u32,
            );
        }
        parts_kernel::launch_unchecked(
            &client,
            totals(width.max(1)),
            CubeDim::new_1d(UNITS as u32),
            parts.into_buffer_arg(),
            to_gamma.clone().into_buffer_arg(),
            to_beta.clone().into_buffer_arg(),
            division.parts as u32,
            width as u32,
        );
    }
    let input = if dropout.is_some() { input } else { residual.clone() };
    [input, residual, to_gamma, to_beta]
}
