//! Rows divided by their Euclidean norms, on the CPU: forward a row is read twice while it is in the cache, backward too.
//!
//! With y = x / |x|, the gradient of x is what is left of that of y across y, over the norm: `(g - y (g . y)) / |x|`. A norm below [`LEAST`] counts as it, and is constant.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::wide::{Lanes, dot, times_plus, widest};
use super::{numbers, owned, tensor};

/// The smallest norm that a row is divided by, as in PyTorch's `normalize`.
pub(super) const LEAST: f32 = 1e-12;

/// Numbers of a task, about.
const TASK: usize = 1 << 14;

/// The rows, in the memory of the input when nothing else uses that, and what each was divided by, `[rows, 1]`.
pub(super) fn forward(input: FlexTensor) -> (FlexTensor, FlexTensor) {
    let shape = [input.layout().shape()[0], input.layout().shape()[1]];
    let (mut output, mut norms) = (owned(input, shape), vec![0.0; shape[0]]);
    let lines = (TASK / shape[1].max(1)).max(1);
    let tasks = output.storage_mut::<f32>().par_chunks_mut((lines * shape[1]).max(1)).zip(norms.par_chunks_mut(lines));
    tasks.for_each(|(rows, norms)| rows_forward(rows, norms));
    (output, tensor(norms, [shape[0], 1]))
}

/// The gradient of the input, in the memory of the output's when nothing else uses that.
pub(super) fn backward(gradient: FlexTensor, output: &FlexTensor, norms: &FlexTensor) -> FlexTensor {
    let [output, norms] = [output, norms].map(FlexTensor::to_contiguous);
    let shape = [gradient.layout().shape()[0], gradient.layout().shape()[1]];
    let mut gradient = owned(gradient, shape);
    let lines = (TASK / shape[1].max(1)).max(1);
    let size = (lines * shape[1]).max(1);
    let tasks = gradient.storage_mut::<f32>().par_chunks_mut(size).zip(numbers(&output).par_chunks(size));
    tasks.zip(numbers(&norms).par_chunks(lines)).for_each(|((gradient, output), norms)| rows_backward(gradient, output, norms));
    gradient
}

widest!(fn rows_forward(rows: &mut [f32], norms: &mut [f32]) = rows_forward_body);
widest!(fn rows_backward(gradient: &mut [f32], output: &[f32], norms: &[f32]) = rows_backward_body);

#[inline(always)]
fn rows_forward_body<L: Lanes>(rows: &mut [f32], norms: &mut [f32]) {
    let width = rows.len() / norms.len();
    for (row, norm) in norms.iter_mut().enumerate() {
        let row = &mut rows[row * width..][..width];
        let squares = dot::<L>(row, row);
        // Not `max`, which would lose NaN.
        let length = if squares < LEAST * LEAST { LEAST } else { squares.sqrt() };
        for x in row {
            *x /= length;
        }
        *norm = length;
    }
}

#[inline(always)]
fn rows_backward_body<L: Lanes>(gradient: &mut [f32], output: &[f32], norms: &[f32]) {
    let width = gradient.len() / norms.len();
    for (row, &norm) in norms.iter().enumerate() {
        let (gradient, output) = (&mut gradient[row * width..][..width], &output[row * width..][..width]);
        let along = if norm == LEAST { 0.0 } else { -dot::<L>(gradient, output) };
        for place in 0..width {
            gradient[place] = times_plus::<L>(along, output[place], gradient[place]) / norm;
        }
    }
}
