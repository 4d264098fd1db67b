//! Rows divided by their Euclidean norms on GPUs, and the gradient.
//!
//! [`LANES`] units share a row and [`ROWS`] rows a cube, as in `norm`.

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skip work there.
#![allow(clippy::collapsible_if)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::columns::LANES;
use super::norm::{ROWS, across, gathered};
use super::{cubes, empty, matrix, vector_width};
use crate::layers::normalize::LEAST;

/// Widths are in vectors here and below.
#[cube(launch_unchecked)]
fn normalize_kernel<N: Size>(
    input: &[Vector<f32, N>],
    output: &mut [Vector<f32, N>],
    norms: &mut [f32],
    rows: u32,
    width: u32,
    least: f32,
) {
    let (rows, width) = (rows as usize, width as usize);
    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let first = unit - lane;
    let row = CUBE_POS * ROWS + unit / LANES;
    let start = row * width;
    let mut parts = Shared::<[f32]>::new_slice(LANES * ROWS);

    let mut squares = Vector::<f32, N>::from_int(0);
    if row < rows {
        let mut column = lane;
        while column < width {
            let values = input[start + column];
            squares += values * values;
            column += LANES;
        }
    }
    parts[unit] = across(squares);
    sync_cube();
    let sum = gathered(&parts, first);
    // Where the norm is NaN, it stays.
    let mut norm = sum.sqrt();
    if sum < least * least {
        norm = least;
    }

    if row < rows {
        let by = Vector::new(norm);
        let mut column = lane;
        while column < width {
            output[start + column] = input[start + column] / by;
            column += LANES;
        }
        if lane == 0 {
            norms[row] = norm;
        }
    }
}

#[cube(launch_unchecked)]
fn normalize_backward_kernel<N: Size>(
    gradient: &[Vector<f32, N>],
    output: &[Vector<f32, N>],
    norms: &[f32],
    input: &mut [Vector<f32, N>],
    rows: u32,
    width: u32,
    least: f32,
) {
    let (rows, width) = (rows as usize, width as usize);
    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let first = unit - lane;
    let row = CUBE_POS * ROWS + unit / LANES;
    let start = row * width;
    let mut parts = Shared::<[f32]>::new_slice(LANES * ROWS);

    let mut products = Vector::<f32, N>::from_int(0);
    if row < rows {
        let mut column = lane;
        while column < width {
            products += gradient[start + column] * output[start + column];
            column += LANES;
        }
    }
    parts[unit] = across(products);
    sync_cube();

    if row < rows {
        let norm = norms[row];
        let mut along = gathered(&parts, first);
        if norm == least {
            along = 0.0f32;
        }
        let (along, by) = (Vector::new(along), Vector::new(norm));
        let mut column = lane;
        while column < width {
            input[start + column] = (gradient[start + column] - along * output[start + column]) / by;
            column += LANES;
        }
    }
}

/// The rows, and what each was divided by, `[rows, 1]`.
pub(super) fn forward(input: CubeTensor) -> (CubeTensor, CubeTensor) {
    let input = into_contiguous(input);
    let [rows, width] = matrix(&input);
    let (output, norms) = (empty(&input, [rows, width]), empty(&input, [rows, 1]));
    let (client, lanes) = (input.client.clone(), vector_width(width));
    if rows * width > 0 {
        // SAFETY: input and output have `rows` x `width` numbers, and there is a norm for each row; rows and columns beyond are left out.
        unsafe {
            normalize_kernel::launch_unchecked(
                &client,
                cubes(&client, rows.div_ceil(ROWS)),
                CubeDim::new_1d((LANES * ROWS) as u32),
                lanes,
                input.into_buffer_arg(),
                output.clone().into_buffer_arg(),
                norms.clone().into_buffer_arg(),
                rows as u32,
                (width / lanes) as u32,
                LEAST,
            );
        }
    }
    (output, norms)
}

/// The gradient of the input.
pub(super) fn backward(gradient: CubeTensor, output: CubeTensor, norms: CubeTensor) -> CubeTensor {
    let [gradient, output, norms] = [gradient, output, norms].map(into_contiguous);
    let [rows, width] = matrix(&output);
    let input = empty(&output, [rows, width]);
    let (client, lanes) = (output.client.clone(), vector_width(width));
    if rows * width > 0 {
        // SAFETY: gradient, output and input have `rows` x `width` numbers, and there is a norm for each row; rows and columns beyond are left out.
        unsafe {
            normalize_backward_kernel::launch_unchecked(
                &client,
                cubes(&client, rows.div_ceil(ROWS)),
                CubeDim::new_1d((LANES * ROWS) as u32),
                lanes,
                gradient.into_buffer_arg(),
                output.into_buffer_arg(),
                norms.into_buffer_arg(),
                input.clone().into_buffer_arg(),
                rows as u32,
                (width / lanes) as u32,
                LEAST,
            );
        }
    }
    input
}
