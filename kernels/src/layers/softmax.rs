//! What losses take of the softmax of each row, on the CPU: the logarithm of its sum of exponentials, and the cross-entropy with one column, the target. Neither makes a matrix of
//! exponentials beside that of the scores, and the cross-entropy makes none of scores scaled or masked.
//!
//! Forward a row is read twice while it is in the cache, backward once: the gradient of a number is its share, `exp(number - logarithm)`, times that of the row; of a target, less the latter.

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

/// Stands for the scaled number of a masked cell. Not an infinity, which makes NaN when it meets another one.
pub(super) const MASKED: f32 = -1e30;

/// What a cross-entropy does to the numbers first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scaled {
    /// What they are multiplied by.
    pub(super) scale: f32,
    /// Whether there is a mask.
    pub(super) masked: bool,
}

const UNSCALED: Scaled = Scaled { scale: 1.0, masked: false };

/// Which cells of a matrix count for nothing, if any: row by row, those that are not 0.
fn marks(mask: &FlexTensor, by: Scaled) -> Option<FlexTensor> {
    by.masked.then(|| mask.to_contiguous())
}

fn bytes(marks: Option<&FlexTensor>) -> &[u8] {
    marks.map_or(&[], |marks| &marks.bytes()[marks.layout().start_offset()..][..marks.layout().num_elements()])
}

fn places(targets: &FlexTensor) -> &[i32] {
    targets.as_slice().expect("targets are contiguous 32-bit integers")
}

/// `[rows, 1]`.
pub(super) fn log_sum_exp(input: &FlexTensor) -> FlexTensor {
    let input = input.to_contiguous();
    let [rows, width] = [input.layout().shape()[0], input.layout().shape()[1]];
    tensor(logarithms(numbers(&input), &[], [rows, width], 1.0), [rows, 1])
}

/// The gradient of the input, in its memory when nothing else uses that.
pub(super) fn log_sum_exp_backward(gradient: &FlexTensor, input: FlexTensor, logarithms: &FlexTensor) -> FlexTensor {
    shares(gradient, input, None, None, logarithms, UNSCALED)
}

/// The cross-entropy of each row with its target, and the logarithm of its sum of exponentials, `[rows, 1]` each.
pub(super) fn cross_entropy(input: &FlexTensor, mask: &FlexTensor, targets: &FlexTensor, by: Scaled) -> (FlexTensor, FlexTensor) {
    let [input, targets] = [input, targets].map(FlexTensor::to_contiguous);
    let [rows, width] = [input.layout().shape()[0], input.layout().shape()[1]];
    let marks = marks(mask, by);
    assert!(places(&targets).iter().all(|&target| (0..width as i64).contains(&i64::from(target))), "a target beyond the {width} columns");
    let (input, targets) = (numbers(&input), places(&targets));
    let logarithms = logarithms(input, bytes(marks.as_ref()), [rows, width], by.scale);
    let losses = logarithms.iter().zip(targets).enumerate();
    let losses = losses.map(|(row, (logarithm, &target))| logarithm - input[row * width + target as usize] * by.scale).collect();
    (tensor(losses, [rows, 1]), tensor(logarithms, [rows, 1]))
}

/// The gradient of the input, in its memory when nothing else uses that.
pub(super) fn cross_entropy_backward(
    gradient: &FlexTensor,
    input: FlexTensor,
    mask: &FlexTensor,
    targets: &FlexTensor,
    logarithms: &FlexTensor,
    by: Scaled,
) -> FlexTensor {
    shares(gradient, input, marks(mask, by).as_ref(), Some(targets), logarithms, by)
}

fn logarithms(input: &[f32], marks: &[u8], [rows, width]: [usize; 2], scale: f32) -> Vec<f32> {
    let mut logarithms = vec![0.0; rows];
    let lines = (TASK / width.max(1)).max(1);
    let part = |row: usize| if marks.is_empty() { marks } else { &marks[row * width..(row + lines).min(rows) * width] };
    let tasks = logarithms.par_chunks_mut(lines).zip(input.par_chunks((lines * width).max(1))).enumerate();
    tasks.for_each(|(task, (logarithms, input))| rows_forward(logarithms, input, part(task * lines), scale));
    logarithms
}

fn shares(
    gradient: &FlexTensor,
    input: FlexTensor,
    marks: Option<&FlexTensor>,
    targets: Option<&FlexTensor>,
    logarithms: &FlexTensor,
    by: Scaled,
) -> FlexTensor {
    let [gradient, logarithms] = [gradient, logarithms].map(FlexTensor::to_contiguous);
    let [rows, width] = [input.layout().shape()[0], input.layout().shape()[1]];
    let (mut output, marks) = (owned(input, [rows, width]), bytes(marks));
    let lines = (TASK / width.max(1)).max(1);
    let part = |row: usize| if marks.is_empty() { marks } else { &marks[row * width..(row + lines).min(rows) * width] };
    let tasks = output.storage_mut::<f32>().par_chunks_mut((lines * width).max(1));
    let tasks = tasks.zip(numbers(&gradient).par_chunks(lines)).zip(numbers(&logarithms).par_chunks(lines)).enumerate();
    let targets = targets.map(FlexTensor::to_contiguous);
    let targets: &[i32] = targets.as_ref().map_or(&[], places);
    tasks.for_each(|(task, ((output, gradient), logarithms))| {
        let row = task * lines;
        rows_backward(output, gradient, logarithms, part(row), by.scale);
        for (row, (target, gradient)) in targets.iter().skip(row).zip(gradient).enumerate() {
            output[row * width + *target as usize] -= gradient * by.scale;
        }
    });
    output
}

widest!(fn rows_forward(logarithms: &mut [f32], input: &[f32], marks: &[u8], scale: f32) = rows_forward_body);
widest!(fn rows_backward(output: &mut [f32], gradient: &[f32], logarithms: &[f32], marks: &[u8], scale: f32) = rows_backward_body);

/// e^x for x of at most about 0, and 0 far below.
#[inline(always)]
fn share<L: Lanes>(x: f32) -> f32 {
    let exponential = exponential::<L>(x);
    if x < FARTHEST { 0.0 } else { exponential }
}

/// The numbers of a block, scaled and masked.
#[inline(always)]
fn scaled(block: &[f32], marks: &[u8], scale: f32, into: &mut [f32; BLOCK]) {
    for place in 0..block.len() {
        into[place] = block[place] * scale;
    }
    for place in 0..marks.len() {
        into[place] = if marks[place] != 0 { MASKED } else { into[place] };
    }
}

#[inline(always)]
fn rows_forward_body<L: Lanes>(logarithms: &mut [f32], input: &[f32], marks: &[u8], scale: f32) {
    let width = input.len() / logarithms.len();
    let mut numbers = [0.0; BLOCK];
    for (row, logarithm) in logarithms.iter_mut().enumerate() {
        let marks = if marks.is_empty() { marks } else { &marks[row * width..][..width] };
        let row = &input[row * width..][..width];
        let mut most = f32::NEG_INFINITY;
        for (at, block) in row.chunks(BLOCK).enumerate() {
            scaled(block, marks.chunks(BLOCK).nth(at).unwrap_or(&[]), scale, &mut numbers);
            let largest = largest::<L>(&numbers[..block.len()]);
            most = if most > largest { most } else { largest };
        }
        let mut sum = 0.0;
        for (at, block) in row.chunks(BLOCK).enumerate() {
            scaled(block, marks.chunks(BLOCK).nth(at).unwrap_or(&[]), scale, &mut numbers);
            let shares = &mut numbers[..block.len()];
            for share_of in shares.iter_mut() {
                *share_of = share::<L>(*share_of - most);
            }
            sum += total::<L>(shares);
        }
        *logarithm = most + sum.ln();
    }
}

#[inline(always)]
fn rows_backward_body<L: Lanes>(output: &mut [f32], gradient: &[f32], logarithms: &[f32], marks: &[u8], scale: f32) {
    let width = output.len() / gradient.len();
    for (row, (&gradient, &logarithm)) in gradient.iter().zip(logarithms).enumerate() {
        let marks = if marks.is_empty() { marks } else { &marks[row * width..][..width] };
        let (row, gradient) = (&mut output[row * width..][..width], gradient * scale);
        for x in row.iter_mut() {
            *x = gradient * share::<L>(*x * scale - logarithm);
        }
        for place in 0..marks.len() {
            row[place] = if marks[place] != 0 { 0.0 } else { row[place] };
        }
    }
}
