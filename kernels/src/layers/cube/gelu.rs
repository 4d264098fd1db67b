//! GELU in its exact form on GPUs, by the tail function of `gelu.rs`, forward and backward.

#![allow(unsafe_code)]
#![allow(clippy::excessive_precision, clippy::approx_constant, reason = "the constants of the CPU path, as kernels take them")]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::{UNITS, cubes, empty, matrix, vector_width};

/// e^x for x of at most 0: `wide::exponential`, step by step, for devices promise little about their own.
#[cube]
pub(super) fn exponential(x: f32) -> f32 {
    let mut x = x;
    if x < -87.3f32 {
        x = -87.3f32;
    }
    let power = (x * 1.442_695f32).round();
    let rest = fma(power, -0.693_359_4f32, x);
    let rest = fma(power, 2.121_944_4e-4f32, rest);
    let mut tail = fma(1.381_463_6e-3f32, rest, 8.368_716e-3f32);
    tail = fma(tail, rest, 4.166_838_7e-2f32);
    tail = fma(tail, rest, 0.166_665_2f32);
    tail = fma(tail, rest, 0.499_999_93f32);
    let mantissa = fma(rest * rest, tail, rest) + 1.0f32;
    let exponent = u32::reinterpret(i32::cast_from(power) + 127i32) << 23u32;
    mantissa * f32::reinterpret(exponent)
}

/// q(a) e^(a^2 / 2), q the tail of the normal distribution: the fit of `gelu.rs`.
#[cube]
fn tail(a: f32) -> f32 {
    let t = 1.0f32 / fma(0.21f32, a, 1.0f32);
    let x = fma(2.0f32, t, -1.0f32);
    let mut sum = f32::new(-2.799_073_3e-4);
    sum = fma(sum, x, -2.372_415_7e-5f32);
    sum = fma(sum, x, 2.511_131_8e-3f32);
    sum = fma(sum, x, 1.080_895_9e-2f32);
    sum = fma(sum, x, 2.927_067_2e-2f32);
    sum = fma(sum, x, 5.998_035_3e-2f32);
    sum = fma(sum, x, 9.937_688e-2f32);
    sum = fma(sum, x, 0.137_378_63f32);
    sum = fma(sum, x, 0.160_977_01f32);
    t * sum
}

#[cube]
fn gelu(x: f32) -> f32 {
    let mut a = x.abs();
    if a > 14.0f32 {
        a = 14.0f32;
    }
    let mut above = 0.0f32;
    if x > 0.0f32 {
        above = x;
    }
    above - a * (exponential(-0.5f32 * a * a) * tail(a))
}

/// P(X < x) + x times the density at x.
#[cube]
fn slope(x: f32) -> f32 {
    let mut a = x.abs();
    let mut density = x * 0.398_942_3f32;
    if a > 14.0f32 {
        a = 14.0f32;
        density = 0.0f32;
    }
    let bell = exponential(-0.5f32 * a * a);
    let beyond = bell * tail(a);
    let mut below = beyond;
    if x > 0.0f32 {
        below = 1.0f32 - beyond;
    }
    fma(density, bell, below)
}

/// GELU of the numbers of a vector.
#[cube]
pub(super) fn gelus<N: Size>(values: Vector<f32, N>) -> Vector<f32, N> {
    let mut values = values;
    #[unroll]
    for lane in 0..N::value() {
        values.insert(lane, gelu(values.extract(lane)));
    }
    values
}

/// The slopes at the numbers of a vector.
#[cube]
pub(super) fn slopes<N: Size>(values: Vector<f32, N>) -> Vector<f32, N> {
    let mut values = values;
    #[unroll]
    for lane in 0..N::value() {
        values.insert(lane, slope(values.extract(lane)));
    }
    values
}

#[cube(launch_unchecked)]
fn gelu_kernel<N: Size>(input: &[Vector<f32, N>], output: &mut [Vector<f32, N>], count: u32) {
    if ABSOLUTE_POS < count as usize {
        output[ABSOLUTE_POS] = gelus::<N>(input[ABSOLUTE_POS]);
    }
}

#[cube(launch_unchecked)]
fn gelu_backward_kernel<N: Size>(gradient: &[Vector<f32, N>], input: &[Vector<f32, N>], output: &mut [Vector<f32, N>], count: u32) {
    if ABSOLUTE_POS < count as usize {
        output[ABSOLUTE_POS] = gradient[ABSOLUTE_POS] * slopes::<N>(input[ABSOLUTE_POS]);
    }
}

pub(super) fn forward(input: CubeTensor) -> CubeTensor {
    let input = into_contiguous(input);
    let [rows, width] = matrix(&input);
    let output = empty(&input, [rows, width]);
    let (client, lanes) = (input.client.clone(), vector_width(width));
    let count = rows * width / lanes;
    if count > 0 {
        // SAFETY: both buffers have `count` vectors, and no unit beyond touches them.
        unsafe {
            gelu_kernel::launch_unchecked(
                &client,
                cubes(&client, count.div_ceil(UNITS)),
                CubeDim::new_1d(UNITS as u32),
                lanes,
                input.into_buffer_arg(),
                output.clone().into_buffer_arg(),
                count as u32,
            );
        }
    }
    output
}

/// The gradient of the input.
pub(super) fn backward(gradient: CubeTensor, input: CubeTensor) -> CubeTensor {
    let [gradient, input] = [gradient, input].map(into_contiguous);
    let [rows, width] = matrix(&input);
    let output = empty(&input, [rows, width]);
    let (client, lanes) = (input.client.clone(), vector_width(width));
    let count = rows * width / lanes;
    if count > 0 {
        // SAFETY: as above, for three buffers.
        unsafe {
            gelu_backward_kernel::launch_unchecked(
                &client,
                cubes(&client, count.div_ceil(UNITS)),
                CubeDim::new_1d(UNITS as u32),
                lanes,
                gradient.into_buffer_arg(),
                input.into_buffer_arg(),
                output.clone().into_buffer_arg(),
                count as u32,
            );
        }
    }
    output
}
