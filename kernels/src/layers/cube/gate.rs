//! Gated linear units on GPUs: one half of a row, through a nonlinearity, times the other, forward and backward.

#![allow(unsafe_code)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::gelu::{exponential, gelus, slopes};
use super::{UNITS, cubes, empty, matrix, vector_width};
use crate::layers::gate::Gate;

/// `1 / (1 + e^-x)`, as on the CPU.
#[cube]
fn sigmoid(x: f32) -> f32 {
    let small = exponential(0.0f32 - x.abs());
    let mut share = 1.0f32 / (1.0f32 + small);
    if x <= 0.0f32 {
        share *= small;
    }
    share
}

/// The gate of the numbers of a vector.
#[cube]
fn through<N: Size>(values: Vector<f32, N>, #[comptime] gate: Gate) -> Vector<f32, N> {
    let mut values = values;
    if comptime!(gate == Gate::Gelu) {
        values = gelus::<N>(values);
    } else {
        #[unroll]
        for lane in 0..N::value() {
            let x = values.extract(lane);
            values.insert(lane, x * sigmoid(x));
        }
    }
    values
}

/// Its slopes at these numbers.
#[cube]
fn slopes_through<N: Size>(values: Vector<f32, N>, #[comptime] gate: Gate) -> Vector<f32, N> {
    let mut values = values;
    if comptime!(gate == Gate::Gelu) {
        values = slopes::<N>(values);
    } else {
        #[unroll]
        for lane in 0..N::value() {
            let x = values.extract(lane);
            values.insert(lane, sigmoid(x) * fma(x, sigmoid(0.0f32 - x), 1.0f32));
        }
    }
    values
}

/// Widths, in vectors, are those of a half.
#[cube(launch_unchecked)]
fn gated_kernel<N: Size>(input: &[Vector<f32, N>], output: &mut [Vector<f32, N>], count: u32, width: u32, #[comptime] gate: Gate) {
    let width = width as usize;
    if ABSOLUTE_POS < count as usize {
        let at = ABSOLUTE_POS / width * 2 * width + ABSOLUTE_POS % width;
        output[ABSOLUTE_POS] = through::<N>(input[at], gate) * input[at + width];
    }
}

#[cube(launch_unchecked)]
fn backward_kernel<N: Size>(
    gradient: &[Vector<f32, N>],
    input: &[Vector<f32, N>],
    output: &mut [Vector<f32, N>],
    count: u32,
    width: u32,
    #[comptime] gate: Gate,
) {
    let width = width as usize;
    if ABSOLUTE_POS < count as usize {
        let at = ABSOLUTE_POS / width * 2 * width + ABSOLUTE_POS % width;
        let given = gradient[ABSOLUTE_POS];
        output[at] = given * input[at + width] * slopes_through::<N>(input[at], gate);
        output[at + width] = given * through::<N>(input[at], gate);
    }
}

/// `gate(left) x right` of rows that have both halves side by side, `[rows, 2 width]`: `[rows, width]`.
pub(super) fn forward(input: CubeTensor, gate: Gate) -> CubeTensor {
    let input = into_contiguous(input);
    let [rows, both] = matrix(&input);
    let width = both / 2;
    let output = empty(&input, [rows, width]);
    let (client, lanes) = (input.client.clone(), vector_width(width));
    let count = rows * width / lanes;
    if count > 0 {
        // SAFETY: the output has `count` vectors, the input twice as many, and no unit beyond touches them.
        unsafe {
            gated_kernel::launch_unchecked(
                &client,
                cubes(&client, count.div_ceil(UNITS)),
                CubeDim::new_1d(UNITS as u32),
                lanes,
                input.into_buffer_arg(),
                output.clone().into_buffer_arg(),
                count as u32,
                (width / lanes) as u32,
                gate,
            );
        }
    }
    output
}

/// The gradient of both halves.
pub(super) fn backward(gradient: CubeTensor, input: CubeTensor, gate: Gate) -> CubeTensor {
    let [gradient, input] = [gradient, input].map(into_contiguous);
    let [rows, both] = matrix(&input);
    let width = both / 2;
    let output = empty(&input, [rows, both]);
    let (client, lanes) = (input.client.clone(), vector_width(width));
    let count = rows * width / lanes;
    if count > 0 {
        // SAFETY: the gradient has `count` vectors, input and output twice as many, and no unit beyond touches them.
        unsafe {
            backward_kernel::launch_unchecked(
                &client,
                cubes(&client, count.div_ceil(UNITS)),
                CubeDim::new_1d(UNITS as u32),
                lanes,
                gradient.into_buffer_arg(),
                input.into_buffer_arg(),
                output.clone().into_buffer_arg(),
                count as u32,
                (width / lanes) as u32,
                gate,
            );
        }
    }
    output
}
