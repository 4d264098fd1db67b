//! Attention on the CPU, one sequence and one head at a time, forward and backward.
//!
//! Heads are read and written where they lie in `[tokens, hidden]`: nothing is split, transposed or merged in memory. A block of queries meets all keys of
//! its sequence; padding keys are left out, not masked. Of the probabilities nothing is kept but one logarithm per query: the backward pass makes them again.

#![allow(unsafe_code)]

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::mask::Dropout;
use super::mixed::{halved, rounded, scale as power};
use super::product::{Target, View, product};
use super::wide::{Lanes, dot, exponential, largest, total, widest};
use super::{AttentionShape, Precision, numbers, tensor};

/// Queries of a block: with 512 keys, its probabilities take 64 KiB.
const BLOCK: usize = 32;

/// Widths of scores are multiples of this, so that no vector is cut.
const ROUND: usize = 16;

/// What one head reads.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    query: &'a [f32],
    key: &'a [f32],
    value: &'a [f32],
    shape: &'a AttentionShape,
    hidden: usize,
    dropout: Option<Dropout>,
}

/// A tensor that heads write side by side, each to its own columns.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: tasks write to disjoint columns and rows, and read none of it but their own.
unsafe impl Sync for Shared {}
// SAFETY: as above; the buffer outlives the parallel section.
unsafe impl Send for Shared {}

/// Memory of a task, used again by the next one on the same thread.
#[derive(Default)]
struct Scratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    probabilities: Vec<f32>,
    kept: Vec<f32>,
    gradients: Vec<f32>,
}

/// The mixed values `[tokens, hidden]`, and the logarithm of the sum of exponentials of every (row, head, query), `[rows * heads * width]`.
pub(super) fn forward(
    query: &FlexTensor,
    key: &FlexTensor,
    value: &FlexTensor,
    shape: &AttentionShape,
    dropout: Option<Dropout>,
) -> (FlexTensor, FlexTensor) {
    let [query, key, value] = [query, key, value].map(|input| as_given(input, shape.precision));
    let hidden = query.layout().shape()[1];
    let inputs = Inputs { query: numbers(&query), key: numbers(&key), value: numbers(&value), shape, hidden, dropout };
    let mut output = vec![0.0; inputs.query.len()];
    let mut logarithms = vec![0.0; shape.queries()];
    if !output.is_empty() {
        let into = Shared(output.as_mut_ptr());
        let run = |scratch: &mut Scratch, (task, logarithms): (usize, &mut [f32])| head_forward(&inputs, task, logarithms, into, scratch);
        logarithms
            .par_chunks_mut(shape.sequences.width())
            .enumerate()
            .with_min_len(shape.tasks_at_least(hidden))
            .for_each_init(Scratch::default, run);
    }
    let count = logarithms.len();
    (tensor(output, [shape.sequences.tokens(), hidden]), tensor(logarithms, [count]))
}

/// The gradients of query, key and value.
pub(super) fn backward(
    gradient: &FlexTensor,
    [query, key, value]: [&FlexTensor; 3],
    logarithms: &FlexTensor,
    shape: &AttentionShape,
    dropout: Option<Dropout>,
) -> [FlexTensor; 3] {
    let [query, key, value] = [query, key, value].map(|input| as_given(input, shape.precision));
    let gradient = gradient.to_contiguous();
    let hidden = query.layout().shape()[1];
    // In mixed precision the gradient comes times a power of two, and so do the results.
    let by = match shape.precision {
        Precision::F32 => 1.0,
        Precision::Mixed => power(numbers(&gradient).par_iter().map(|x| x.abs()).reduce(|| 0.0, f32::max)),
    };
    let gradient = if shape.precision == Precision::Mixed { rounded(gradient, by) } else { gradient };
    let inputs = Inputs { query: numbers(&query), key: numbers(&key), value: numbers(&value), shape, hidden, dropout };
    let mut outputs = [(); 3].map(|()| vec![0.0; inputs.query.len()]);
    if !inputs.query.is_empty() {
        let into = outputs.each_mut().map(|output| Shared(output.as_mut_ptr()));
        let gradient = numbers(&gradient);
        let run =
            |scratch: &mut Scratch, (task, logarithms): (usize, &[f32])| head_backward(&inputs, task, logarithms, gradient, into, scratch);
        let logarithms = numbers(logarithms).par_chunks(shape.sequences.width()).enumerate();
        logarithms.with_min_len(shape.tasks_at_least(hidden)).for_each_init(Scratch::default, run);
    }
    if by != 1.0 {
        for output in &mut outputs {
            output.par_iter_mut().for_each(|x| *x *= 1.0 / by);
        }
    }
    outputs.map(|output| tensor(output, [shape.sequences.tokens(), hidden]))
}

/// An operand in one piece, rounded in mixed precision.
fn as_given(input: &FlexTensor, precision: Precision) -> FlexTensor {
    let input = input.to_contiguous();
    if precision == Precision::Mixed { rounded(input, 1.0) } else { input }
}

impl AttentionShape {
    /// (Row, head) pairs that are worth a thread's while.
    fn tasks_at_least(&self, hidden: usize) -> usize {
        let width = self.sequences.width();
        (1 << 17) / (width * width * hidden / self.heads).max(1) + 1
    }
}

impl<'a> Inputs<'a> {
    /// Queries, keys, head width, where the head begins, and the first row of its mask.
    fn place(&self, task: usize) -> [usize; 5] {
        let (row, head) = (task / self.shape.heads, task % self.shape.heads);
        let (size, sequences) = (self.hidden / self.shape.heads, &self.shape.sequences);
        let start = sequences.starts()[row] * self.hidden + head * size;
        [sequences.extent(row), sequences.lengths()[row], size, start, task * sequences.width()]
    }

    /// A head's numbers from some place on.
    fn view(&self, of: &'a [f32], at: usize) -> View {
        View { at: of[at..].as_ptr(), row: self.hidden, column: 1 }
    }

    fn scale(&self, size: usize) -> f32 {
        (1.0 / (size as f64).sqrt()) as f32
    }
}

/// The `count` rows of a head as columns, `width` of them with zeros behind, times `scale`.
#[inline(always)]
fn transposed(into: &mut Vec<f32>, from: &[f32], hidden: usize, count: usize, width: usize, size: usize, scale: f32) {
    into.resize(size * width, 0.0);
    for (column, into) in into.chunks_exact_mut(width).enumerate() {
        let (numbers, padding) = into.split_at_mut(count);
        for row in 0..count {
            numbers[row] = from[row * hidden + column] * scale;
        }
        padding.fill(0.0);
    }
}

widest!(fn head_forward(inputs: &Inputs<'_>, task: usize, logarithms: &mut [f32], into: Shared, scratch: &mut Scratch) = head_forward_body);

#[inline(always)]
fn head_forward_body<L: Lanes>(inputs: &Inputs<'_>, task: usize, logarithms: &mut [f32], into: Shared, scratch: &mut Scratch) {
    let [queries, keys, size, at, mask_row] = inputs.place(task);
    if keys == 0 {
        return;
    }
    let (hidden, width) = (inputs.hidden, keys.next_multiple_of(ROUND));
    transposed(&mut scratch.keys, &inputs.key[at..], hidden, keys, width, size, inputs.scale(size));
    scratch.probabilities.resize(BLOCK * width, 0.0);
    for (block, logarithms) in logarithms[..queries].chunks_mut(BLOCK).enumerate() {
        let (begin, count) = (block * BLOCK, logarithms.len());
        let at = at + begin * hidden;
        let scores = Target { at: scratch.probabilities.as_mut_ptr(), row: width, add: false };
        let columns = View { at: scratch.keys.as_ptr(), row: width, column: 1 };
        // SAFETY: the scratch has `size` and `BLOCK` rows of that width; queries are read within the sequence.
        unsafe { product::<L>([count, width, size], inputs.view(inputs.query, at), columns, scores) };
        for (query, logarithm) in logarithms.iter_mut().enumerate() {
            let row = &mut scratch.probabilities[query * width..][..width];
            row[keys..].fill(f32::NEG_INFINITY);
            let most = largest::<L>(row);
            for score in row.iter_mut() {
                *score = exponential::<L>(*score - most);
            }
            row[keys..].fill(0.0);
            let sum = total::<L>(row);
            *logarithm = most + sum.ln();
            let share = 1.0 / sum;
            match inputs.dropout.map(|dropout| dropout.row(mask_row + begin + query)) {
                None => {
                    for number in row.iter_mut() {
                        *number *= share;
                    }
                }
                Some(mask) => {
                    for column in 0..row.len() {
                        row[column] *= share * mask.factor(column as u32);
                    }
                }
            }
            if inputs.shape.precision == Precision::Mixed {
                halved(row, 1.0);
            }
        }
        let probabilities = View { at: scratch.probabilities.as_ptr(), row: width, column: 1 };
        // SAFETY: the output has the shape of the query, and these rows and columns are of this task alone.
        unsafe {
            let output = Target { at: into.0.add(at), row: hidden, add: false };
            product::<L>([count, size, keys], probabilities, inputs.view(inputs.value, at - begin * hidden), output);
        }
    }
}

widest!(
    fn head_backward(inputs: &Inputs<'_>, task: usize, logarithms: &[f32], gradient: &[f32], into: [Shared; 3], scratch: &mut Scratch) = head_backward_body
);

/// With probabilities P, mask M, output gradient G and scale s: dV = (P M)' G, dS = P (M (G V') - d) with d the row sums of P M (G V'), dQ = s dS K,
/// dK = s dS' Q (Dao et al. 2022, arXiv 2205.14135, appendix B).
#[inline(always)]
fn head_backward_body<L: Lanes>(
    inputs: &Inputs<'_>,
    task: usize,
    logarithms: &[f32],
    gradient: &[f32],
    into: [Shared; 3],
    scratch: &mut Scratch,
) {
    let [queries, keys, size, start, mask_row] = inputs.place(task);
    if keys == 0 {
        return;
    }
    let (hidden, width, scale) = (inputs.hidden, keys.next_multiple_of(ROUND), inputs.scale(size));
    let Scratch { keys: key_columns, values: value_columns, probabilities, kept, gradients } = scratch;
    transposed(key_columns, &inputs.key[start..], hidden, keys, width, size, scale);
    transposed(value_columns, &inputs.value[start..], hidden, keys, width, size, 1.0);
    probabilities.resize(BLOCK * width, 0.0);
    gradients.resize(BLOCK * width, 0.0);
    kept.resize(BLOCK * width, 0.0);
    for (block, logarithms) in logarithms[..queries].chunks(BLOCK).enumerate() {
        let (begin, count) = (block * BLOCK, logarithms.len());
        let at = start + begin * hidden;
        let from = View { at: gradient[at..].as_ptr(), row: hidden, column: 1 };
        let columns = |of: &[f32]| View { at: of.as_ptr(), row: width, column: 1 };
        let rows = |of: &mut [f32]| Target { at: of.as_mut_ptr(), row: width, add: false };
        // SAFETY: the scratch has `size` and `BLOCK` rows of that width; queries and gradients are read within the sequence.
        unsafe {
            product::<L>([count, width, size], inputs.view(inputs.query, at), columns(key_columns), rows(probabilities));
            product::<L>([count, width, size], from, columns(value_columns), rows(gradients));
        }
        for (query, &logarithm) in logarithms.iter().enumerate() {
            let part = query * width..(query + 1) * width;
            let (row, gradients) = (&mut probabilities[part.clone()], &mut gradients[part.clone()]);
            for score in row.iter_mut() {
                *score = exponential::<L>(*score - logarithm);
            }
            row[keys..].fill(0.0);
            if let Some(mask) = inputs.dropout.map(|dropout| dropout.row(mask_row + begin + query)) {
                let kept = &mut kept[part];
                for column in 0..width {
                    let factor = mask.factor(column as u32);
                    kept[column] = row[column] * factor;
                    gradients[column] *= factor;
                }
            }
            let mean = dot::<L>(row, gradients);
            for column in 0..width {
                gradients[column] = scale * row[column] * (gradients[column] - mean);
            }
            if inputs.shape.precision == Precision::Mixed {
                let largest = gradients.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
                halved(gradients, power(largest));
                halved(if inputs.dropout.is_some() { &mut kept[query * width..][..width] } else { row }, 1.0);
            }
        }
        let mixed = if inputs.dropout.is_some() { &*kept } else { &*probabilities };
        let across = |of: &[f32]| View { at: of.as_ptr(), row: 1, column: width };
        let [query_into, key_into, value_into] = into;
        // SAFETY: the outputs have the shape of the query, and these rows and columns are of this task alone; a block after the first adds to what that wrote.
        unsafe {
            let whole = |into: Shared| Target { at: into.0.add(start), row: hidden, add: begin > 0 };
            product::<L>([keys, size, count], across(mixed), from, whole(value_into));
            product::<L>([keys, size, count], across(gradients), inputs.view(inputs.query, at), whole(key_into));
            let target = Target { at: query_into.0.add(at), row: hidden, add: false };
            product::<L>([count, size, keys], columns(gradients), inputs.view(inputs.key, start), target);
        }
    }
}
