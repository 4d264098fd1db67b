//! The logarithm of the sum of exponentials of each row, on the CPU: what a softmax is normalised by, without a matrix of exponentials beside that of the scores.
//!
//! Forward a row is read twice while it is in the cache, backward once: the gradient of a number is its share, `exp(number - logarithm)`, times that of the row.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::wide::{Lanes, exponential, largest, total, widest};
use super::{numbers, owned, tensor};

/// Numbers of a task, about.
const TASK: usize = 1 << 14;

/// Exponentials that are added up at a time.
const BLOCK: usize = 256;

/// Below it an exponential counts as zero, as beside the largest of a row, which is 1, it is nothing.
const FARTHEST: f32 = -87.3;

/// `[rows, 1]`.
pub(super) fn forward(input: &FlexTensor) -> FlexTensor {
    let input = input.to_contiguous();
    let [rows, width] = [input.layout().shape()[0], input.layout().shape()[1]];
    let mut logarithms = vec![0.0; rows];
    let lines = (TASK / width.max(1)).max(1);
    let tasks = logarithms.par_chunks_mut(lines).zip(numbers(&input).par_chunks((lines * width).max(1)));
    tasks.for_each(|(logarithms, input)| rows_forward(logarithms, input));
    tensor(logarithms, [rows, 1])
}

/// The gradient of the input, in its memory when nothing else uses that.
pub(super) fn backward(gradient: &FlexTensor, input: FlexTensor, logarithms: &FlexTensor) -> FlexTensor {
    let [gradient, logarithms] = [gradient, logarithms].map(FlexTensor::to_contiguous);
    let shape = [input.layout().shape()[0], input.layout().shape()[1]];
    let mut output = owned(input, shape);
    let lines = (TASK / shape[1].max(1)).max(1);
    let tasks = output.storage_mut::<f32>().par_chunks_mut((lines * shape[1]).max(1));
    let tasks = tasks.zip(numbers(&gradient).par_chunks(lines)).zip(numbers(&logarithms).par_chunks(lines));
    tasks.for_each(|((output, gradient), logarithms)| rows_backward(output, gradient, logarithms));
    output
}

widest!(fn rows_forward(logarithms: &mut [f32], input: &[f32]) = rows_forward_body);
widest!(fn rows_backward(output: &mut [f32], gradient: &[f32], logarithms: &[f32]) = rows_backward_body);

/// e^x for x of at most about 0, and 0 far below.
#[inline(always)]
fn share<L: Lanes>(x: f32) -> f32 {
    let exponential = exponential::<L>(x);
    if x < FARTHEST { 0.0 } else { exponential }
}

#[inline(always)]
fn rows_forward_body<L: Lanes>(logarithms: &mut [f32], input: &[f32]) {
    let width = input.len() / logarithms.len();
    for (row, logarithm) in logarithms.iter_mut().enumerate() {
        let row = &input[row * width..][..width];
        let most = largest::<L>(row);
        let (mut sum, mut shares) = (0.0, [0.0; BLOCK]);
        for block in row.chunks(BLOCK) {
            let shares = &mut shares[..block.len()];
            for place in 0..block.len() {
                shares[place] = share::<L>(block[place] - most);
            }
            sum += total::<L>(shares);
        }
        *logarithm = most + sum.ln();
    }
}

#[inline(always)]
fn rows_backward_body<L: Lanes>(output: &mut [f32], gradient: &[f32], logarithms: &[f32]) {
    let width = output.len() / gradient.len();
    for (row, (&gradient, &logarithm)) in gradient.iter().zip(logarithms).enumerate() {
        for x in &mut output[row * width..][..width] {
            *x = gradient * share::<L>(*x - logarithm);
        }
    }
}
