//! Gated linear units (Shazeer 2020, arXiv 2002.05202) on the CPU: one half of a row, through a nonlinearity, times the other.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::gelu::{gelu, slope as gelu_slope};
use super::wide::{Lanes, exponential, times_plus, widest};
use super::{numbers, owned, tensor};

/// What the gating half goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// `x P(X < x)`, exact (GEGLU).
    Gelu,
    /// `x / (1 + e^-x)` (SwiGLU).
    Silu,
}

/// Numbers of a task.
const CHUNK: usize = 1 << 14;

/// `1 / (1 + e^-x)`: both signs through an exponential of at most 1.
#[inline(always)]
fn sigmoid<L: Lanes>(x: f32) -> f32 {
    let small = exponential::<L>(-x.abs());
    let share = 1.0 / (1.0 + small);
    if x > 0.0 { share } else { small * share }
}

#[inline(always)]
fn silu<L: Lanes>(x: f32) -> f32 {
    x * sigmoid::<L>(x)
}

#[inline(always)]
fn silu_slope<L: Lanes>(x: f32) -> f32 {
    let share = sigmoid::<L>(x);
    // 1 - share as the sigmoid of -x, so that it keeps its digits.
    share * times_plus::<L>(x, sigmoid::<L>(-x), 1.0)
}

/// `gate(left) x right` of rows that have both halves side by side, `[rows, 2 width]`: `[rows, width]`.
pub(super) fn forward(input: &FlexTensor, gate: Gate) -> FlexTensor {
    let input = input.to_contiguous();
    let [rows, width] = [input.layout().shape()[0], input.layout().shape()[1] / 2];
    let mut output = vec![0.0; rows * width];
    output.par_chunks_mut(width.max(1)).zip(numbers(&input).par_chunks(2 * width.max(1))).with_min_len(CHUNK / width.max(1) + 1).for_each(
        |(output, input)| match gate {
            Gate::Gelu => row_by_gelu(output, input),
            Gate::Silu => row_by_silu(output, input),
        },
    );
    tensor(output, [rows, width])
}

/// The gradient of both halves.
pub(super) fn backward(gradient: &FlexTensor, input: FlexTensor, gate: Gate) -> FlexTensor {
    let gradient = gradient.to_contiguous();
    let shape = [input.layout().shape()[0], input.layout().shape()[1]];
    let mut input = owned(input, shape);
    let width = shape[1] / 2;
    input
        .storage_mut::<f32>()
        .par_chunks_mut(2 * width.max(1))
        .zip(numbers(&gradient).par_chunks(width.max(1)))
        .with_min_len(CHUNK / width.max(1) + 1)
        .for_each(|(input, gradient)| match gate {
            Gate::Gelu => row_back_by_gelu(input, gradient),
            Gate::Silu => row_back_by_silu(input, gradient),
        });
    input
}

widest!(fn row_by_gelu(output: &mut [f32], input: &[f32]) = row_by_gelu_body);
widest!(fn row_by_silu(output: &mut [f32], input: &[f32]) = row_by_silu_body);
widest!(fn row_back_by_gelu(input: &mut [f32], gradient: &[f32]) = row_back_by_gelu_body);
widest!(fn row_back_by_silu(input: &mut [f32], gradient: &[f32]) = row_back_by_silu_body);

#[inline(always)]
fn row_by_gelu_body<L: Lanes>(output: &mut [f32], input: &[f32]) {
    row(output, input, gelu::<L>);
}

#[inline(always)]
fn row_by_silu_body<L: Lanes>(output: &mut [f32], input: &[f32]) {
    row(output, input, silu::<L>);
}

#[inline(always)]
fn row_back_by_gelu_body<L: Lanes>(input: &mut [f32], gradient: &[f32]) {
    row_back(input, gradient, gelu::<L>, gelu_slope::<L>);
}

#[inline(always)]
fn row_back_by_silu_body<L: Lanes>(input: &mut [f32], gradient: &[f32]) {
    row_back(input, gradient, silu::<L>, silu_slope::<L>);
}

#[inline(always)]
fn row(output: &mut [f32], input: &[f32], function: impl Fn(f32) -> f32) {
    let (left, right) = input.split_at(output.len());
    for place in 0..output.len() {
        output[place] = function(left[place]) * right[place];
    }
}

#[inline(always)]
fn row_back(input: &mut [f32], gradient: &[f32], function: impl Fn(f32) -> f32, slope: impl Fn(f32) -> f32) {
    let (left, right) = input.split_at_mut(gradient.len());
    for place in 0..gradient.len() {
        let (x, gate) = (left[place], right[place]);
        left[place] = gradient[place] * gate * slope(x);
        right[place] = gradient[place] * function(x);
    }
}
