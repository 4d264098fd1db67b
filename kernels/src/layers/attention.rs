//! Attention on the CPU, one sequence and one head at a time, forward and backward.
//!
//! Heads are read and written where they lie, queries, keys and values side by side in `[tokens, 3 hidden]`: nothing is split, transposed or merged in memory. A block of queries meets all keys of
//! its sequence; padding keys are left out, not masked, and so are those beyond the window of all queries of a block. Of the probabilities nothing is kept but one logarithm per query: the backward pass makes them again. A bias by distance
//! lies so that what a query adds to the scores of all keys, one behind the other, is a piece of it, and so does its gradient.

#![allow(unsafe_code)]

use std::ops::Range;

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::mask::Dropout;
use super::mixed::{halved, rounded, scale_of, scale_of_all};
use super::product::{Target, View, product};
use super::wide::{Lanes, dot, exponential, largest, total, widest};
use super::{AttentionShape, Precision, numbers, tensor};

/// Queries of a block: with 512 keys, its probabilities take 64 KiB.
const BLOCK: usize = 32;

/// Widths of scores are multiples of this, so that no vector is cut.
const ROUND: usize = 16;

/// One call of attention, but for its tensors.
#[derive(Clone, Debug)]
pub(crate) struct Attending {
    pub(super) shape: AttentionShape,
    /// Of the probabilities.
    pub(super) dropout: Option<Dropout>,
    /// Whether scores have a bias by distance; what comes in its place is not looked at otherwise.
    pub(super) relative: bool,
}

impl Attending {
    /// Distances between a query and a key: numbers of a head's bias.
    pub(super) fn distances(&self) -> usize {
        (2 * self.shape.sequences.width()).saturating_sub(1)
    }

    /// The shape of the gradient of the bias; a number that means nothing when there is none.
    pub(super) fn relative_shape(&self) -> [usize; 2] {
        if self.relative { [self.shape.heads, self.distances()] } else { [1, 1] }
    }
}

/// What one head reads.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    /// `[tokens, 3 hidden]`.
    joint: &'a [f32],
    /// `[heads, distances]`.
    relative: Option<&'a [f32]>,
    attending: &'a Attending,
    hidden: usize,
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

/// Where a head's rows begin, in `[tokens, hidden]` and in `[tokens, 3 hidden]`, and what else a task must know.
struct Place {
    queries: usize,
    keys: usize,
    size: usize,
    /// In a tensor of one part.
    single: usize,
    /// Of the query in the joint tensor; key and value lie `hidden` and twice that behind it.
    joint: usize,
    /// The first row of its mask.
    mask_row: usize,
    /// Where its biases by distance begin.
    biases: usize,
}

/// The mixed values `[tokens, hidden]`, in mixed precision rounded as the next product reads them, and the logarithm of the sum of exponentials of every (row, head, query), `[tokens * heads]`, row by row and in each head by
/// head.
pub(super) fn forward(joint: &FlexTensor, relative: &FlexTensor, attending: &Attending) -> (FlexTensor, FlexTensor) {
    let shape = &attending.shape;
    let (joint, relative) = (as_given(joint, shape.precision), attending.relative.then(|| relative.to_contiguous()));
    let inputs = Inputs::of(&joint, relative.as_ref(), attending);
    let mut output = vec![0.0; inputs.joint.len() / 3];
    let mut logarithms = vec![0.0; shape.queries()];
    if !output.is_empty() {
        let into = Shared(output.as_mut_ptr());
        let run = |scratch: &mut Scratch, (task, logarithms): (usize, &mut [f32])| head_forward(&inputs, task, logarithms, into, scratch);
        shape
            .by_task(&mut logarithms)
            .into_par_iter()
            .enumerate()
            .with_min_len(shape.tasks_at_least(inputs.hidden))
            .for_each_init(Scratch::default, run);
    }
    let count = logarithms.len();
    let output = tensor(output, [shape.sequences.tokens(), inputs.hidden]);
    let output = if shape.precision == Precision::Mixed { rounded(output, 1.0) } else { output };
    (output, tensor(logarithms, [count]))
}

/// The gradients of query, key and value, side by side, and that of the bias by distance.
pub(super) fn backward(
    gradient: &FlexTensor,
    joint: &FlexTensor,
    relative: &FlexTensor,
    logarithms: &FlexTensor,
    attending: &Attending,
) -> (FlexTensor, FlexTensor) {
    let shape = &attending.shape;
    let (joint, gradient) = (as_given(joint, shape.precision), gradient.to_contiguous());
    let relative = attending.relative.then(|| relative.to_contiguous());
    // In mixed precision the gradient comes times a power of two, and so do the results.
    let by = match shape.precision {
        Precision::F32 => 1.0,
        Precision::Mixed => scale_of_all(numbers(&gradient)),
    };
    let gradient = if shape.precision == Precision::Mixed { rounded(gradient, by) } else { gradient };
    let inputs = Inputs::of(&joint, relative.as_ref(), attending);
    let mut output = vec![0.0; inputs.joint.len()];
    // Of every (row, head), so that the sum does not depend on threads.
    let distances = if attending.relative { attending.distances() } else { 1 };
    let mut by_distance = vec![0.0; shape.sequences.rows() * shape.heads * distances];
    if !output.is_empty() {
        let into = Shared(output.as_mut_ptr());
        let gradient = numbers(&gradient);
        let logarithms = numbers(logarithms);
        let run = |scratch: &mut Scratch, (task, by_distance): (usize, &mut [f32])| {
            head_backward(&inputs, task, &logarithms[shape.of_task(task)], gradient, into, by_distance, scratch);
        };
        let tasks = by_distance.par_chunks_mut(distances).enumerate();
        tasks.with_min_len(shape.tasks_at_least(inputs.hidden)).for_each_init(Scratch::default, run);
    }
    let [heads, distances] = attending.relative_shape();
    let mut to_relative = vec![0.0; heads * distances];
    if !to_relative.is_empty() && attending.relative {
        for row in by_distance.chunks_exact(heads * distances) {
            to_relative.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
    }
    if by != 1.0 {
        output.par_iter_mut().chain(&mut to_relative).for_each(|x| *x *= 1.0 / by);
    }
    (tensor(output, [shape.sequences.tokens(), 3 * inputs.hidden]), tensor(to_relative, [heads, distances]))
}

/// An operand in one piece, rounded in mixed precision.
fn as_given(input: &FlexTensor, precision: Precision) -> FlexTensor {
    let input = input.to_contiguous();
    if precision == Precision::Mixed { rounded(input, 1.0) } else { input }
}

impl AttentionShape {
    /// Where the numbers of a (row, head) lie, one for each query.
    fn of_task(&self, task: usize) -> Range<usize> {
        let (row, head) = (task / self.heads, task % self.heads);
        let extent = self.sequences.extent(row);
        let first = self.sequences.starts()[row] * self.heads + head * extent;
        first..first + extent
    }

    /// The numbers of every (row, head).
    fn by_task<'a>(&self, mut numbers: &'a mut [f32]) -> Vec<&'a mut [f32]> {
        let mut tasks = Vec::with_capacity(self.sequences.rows() * self.heads);
        for task in 0..self.sequences.rows() * self.heads {
            let (own, rest) = numbers.split_at_mut(self.of_task(task).len());
            tasks.push(own);
            numbers = rest;
        }
        tasks
    }

    /// (Row, head) pairs that are worth a thread's while.
    fn tasks_at_least(&self, hidden: usize) -> usize {
        let width = self.sequences.width();
        (1 << 17) / (width * width * hidden / self.heads).max(1) + 1
    }
}

impl<'a> Inputs<'a> {
    /// Of operands in one piece.
    fn of(joint: &'a FlexTensor, relative: Option<&'a FlexTensor>, attending: &'a Attending) -> Self {
        let hidden = joint.layout().shape()[1] / 3;
        Self { joint: numbers(joint), relative: relative.map(numbers), attending, hidden }
    }

    fn place(&self, task: usize) -> Place {
        let AttentionShape { sequences, heads, .. } = &self.attending.shape;
        let (row, head) = (task / heads, task % heads);
        let size = self.hidden / heads;
        let first = sequences.starts()[row];
        Place {
            queries: sequences.extent(row),
            keys: sequences.lengths()[row],
            size,
            single: first * self.hidden + head * size,
            joint: first * 3 * self.hidden + head * size,
            mask_row: task * sequences.width(),
            biases: head * self.attending.distances(),
        }
    }

    /// What is added to the scores of a head's query for its first `keys` keys, one behind the other.
    fn biases(&self, place: &Place, query: usize) -> Option<&'a [f32]> {
        Some(&self.relative?[place.biases + self.nearest(query)..][..place.keys])
    }

    /// The first of a head's distances that a query has to a key: that to the sequence's first.
    fn nearest(&self, query: usize) -> usize {
        self.attending.shape.sequences.width() - 1 - query
    }

    /// Keys that some query of a block sees, as columns of its scores: whole vectors.
    fn columns(&self, place: &Place, begin: usize, count: usize) -> Range<usize> {
        let Some(window) = self.attending.shape.window else { return 0..place.keys.next_multiple_of(ROUND) };
        let end = window.seen(begin + count - 1, place.keys).end.next_multiple_of(ROUND);
        (window.seen(begin, place.keys).start / ROUND * ROUND).min(end)..end
    }

    /// Which of these columns are keys that a query sees.
    fn seen(&self, place: &Place, query: usize, columns: &Range<usize>) -> Range<usize> {
        let keys = place.keys.min(columns.end) - columns.start.min(place.keys);
        let Some(window) = self.attending.shape.window else { return 0..keys };
        let seen = window.seen(query, place.keys);
        let end = seen.end.saturating_sub(columns.start).min(keys);
        seen.start.saturating_sub(columns.start).min(end)..end
    }

    /// A head's numbers of the joint tensor from some place on.
    fn view(&self, at: usize) -> View {
        View { at: self.joint[at..].as_ptr(), row: 3 * self.hidden, column: 1 }
    }

    fn scale(&self, size: usize) -> f32 {
        (1.0 / (size as f64).sqrt()) as f32
    }
}

/// The `count` rows of a head as columns, `width` of them with zeros behind, times `scale`.
#[inline(always)]
fn transposed(into: &mut Vec<f32>, from: &[f32], stride: usize, count: usize, width: usize, size: usize, scale: f32) {
    into.resize(size * width, 0.0);
    for (column, into) in into.chunks_exact_mut(width).enumerate() {
        let (numbers, padding) = into.split_at_mut(count);
        for row in 0..count {
            numbers[row] = from[row * stride + column] * scale;
        }
        padding.fill(0.0);
    }
}

widest!(fn head_forward(inputs: &Inputs<'_>, task: usize, logarithms: &mut [f32], into: Shared, scratch: &mut Scratch) = head_forward_body);

#[inline(always)]
fn head_forward_body<L: Lanes>(inputs: &Inputs<'_>, task: usize, logarithms: &mut [f32], into: Shared, scratch: &mut Scratch) {
    let place = inputs.place(task);
    let Place { queries, keys, size, single, joint, mask_row, .. } = place;
    if keys == 0 {
        return;
    }
    let (hidden, width) = (inputs.hidden, keys.next_multiple_of(ROUND));
    transposed(&mut scratch.keys, &inputs.joint[joint + hidden..], 3 * hidden, keys, width, size, inputs.scale(size));
    scratch.probabilities.resize(BLOCK * width, 0.0);
    for (block, logarithms) in logarithms[..queries].chunks_mut(BLOCK).enumerate() {
        let (begin, count) = (block * BLOCK, logarithms.len());
        let columns = inputs.columns(&place, begin, count);
        let (first, span) = (columns.start, columns.len());
        if span == 0 {
            continue;
        }
        let scores = Target { at: scratch.probabilities.as_mut_ptr(), row: span, add: false };
        let key_columns = View { at: scratch.keys[first..].as_ptr(), row: width, column: 1 };
        // SAFETY: the scratch has `size` and `BLOCK` rows of `width`, and the columns lie within; queries are read within the sequence.
        unsafe { product::<L>([count, span, size], inputs.view(joint + begin * 3 * hidden), key_columns, scores) };
        for (query, logarithm) in logarithms.iter_mut().enumerate() {
            let row = &mut scratch.probabilities[query * span..][..span];
            let seen = inputs.seen(&place, begin + query, &columns);
            if seen.is_empty() {
                row.fill(0.0);
                continue;
            }
            add(row, inputs.biases(&place, begin + query));
            row[..seen.start].fill(f32::NEG_INFINITY);
            row[seen.end..].fill(f32::NEG_INFINITY);
            let most = largest::<L>(row);
            for score in row.iter_mut() {
                *score = exponential::<L>(*score - most);
            }
            row[..seen.start].fill(0.0);
            row[seen.end..].fill(0.0);
            let sum = total::<L>(row);
            *logarithm = most + sum.ln();
            let share = 1.0 / sum;
            match inputs.attending.dropout.map(|dropout| dropout.row(mask_row + begin + query)) {
                None => {
                    for number in row.iter_mut() {
                        *number *= share;
                    }
                }
                Some(mask) => {
                    for column in 0..row.len() {
                        row[column] *= share * mask.factor((first + column) as u32);
                    }
                }
            }
            if inputs.attending.shape.precision == Precision::Mixed {
                halved(row, 1.0);
            }
        }
        let probabilities = View { at: scratch.probabilities.as_ptr(), row: span, column: 1 };
        // SAFETY: the output has a row of `hidden` for each token, and these rows and columns are of this task alone; values are read within the sequence.
        unsafe {
            let output = Target { at: into.0.add(single + begin * hidden), row: hidden, add: false };
            let values = inputs.view(joint + 2 * hidden + first * 3 * hidden);
            product::<L>([count, size, keys.min(columns.end) - first], probabilities, values, output);
        }
    }
}

/// Adds a query's biases, if there are any, to its scores.
#[inline(always)]
fn add(scores: &mut [f32], biases: Option<&[f32]>) {
    if let Some(biases) = biases {
        let scores = &mut scores[..biases.len()];
        for column in 0..biases.len() {
            scores[column] += biases[column];
        }
    }
}

widest!(
    fn head_backward(inputs: &Inputs<'_>, task: usize, logarithms: &[f32], gradient: &[f32], into: Shared, by_distance: &mut [f32], scratch: &mut Scratch) = head_backward_body
);

/// With probabilities P, mask M, output gradient G and scale s: dV = (P M)' G, dS = P (M (G V') - d) with d the row sums of P M (G V'), dQ = s dS K,
/// dK = s dS' Q (Dao et al. 2022, arXiv 2205.14135, appendix B), and the gradient of a bias is the sum of dS over its distance.
#[inline(always)]
fn head_backward_body<L: Lanes>(
    inputs: &Inputs<'_>,
    task: usize,
    logarithms: &[f32],
    gradient: &[f32],
    into: Shared,
    by_distance: &mut [f32],
    scratch: &mut Scratch,
) {
    let place = inputs.place(task);
    let Place { queries, keys, size, single, joint, mask_row, .. } = place;
    if keys == 0 {
        return;
    }
    let (hidden, width, scale) = (inputs.hidden, keys.next_multiple_of(ROUND), inputs.scale(size));
    let Scratch { keys: key_columns, values: value_columns, probabilities, kept, gradients } = scratch;
    transposed(key_columns, &inputs.joint[joint + hidden..], 3 * hidden, keys, width, size, scale);
    transposed(value_columns, &inputs.joint[joint + 2 * hidden..], 3 * hidden, keys, width, size, 1.0);
    probabilities.resize(BLOCK * width, 0.0);
    gradients.resize(BLOCK * width, 0.0);
    kept.resize(BLOCK * width, 0.0);
    for (block, logarithms) in logarithms[..queries].chunks(BLOCK).enumerate() {
        let (begin, count) = (block * BLOCK, logarithms.len());
        let seen_by_block = inputs.columns(&place, begin, count);
        let (first, span) = (seen_by_block.start, seen_by_block.len());
        if span == 0 {
            continue;
        }
        let own = joint + begin * 3 * hidden;
        let from = View { at: gradient[single + begin * hidden..].as_ptr(), row: hidden, column: 1 };
        let columns = |of: &[f32]| View { at: of[first..].as_ptr(), row: width, column: 1 };
        let rows = |of: &mut [f32]| Target { at: of.as_mut_ptr(), row: span, add: false };
        // SAFETY: the scratch has `size` and `BLOCK` rows of `width`, and the columns lie within; queries and gradients are read within the sequence.
        unsafe {
            product::<L>([count, span, size], inputs.view(own), columns(key_columns), rows(probabilities));
            product::<L>([count, span, size], from, columns(value_columns), rows(gradients));
        }
        for (query, &logarithm) in logarithms.iter().enumerate() {
            let part = query * span..(query + 1) * span;
            let (row, gradients) = (&mut probabilities[part.clone()], &mut gradients[part.clone()]);
            let seen = inputs.seen(&place, begin + query, &seen_by_block);
            add(row, inputs.biases(&place, begin + query));
            for score in row.iter_mut() {
                *score = exponential::<L>(*score - logarithm);
            }
            row[..seen.start].fill(0.0);
            row[seen.end..].fill(0.0);
            let dropout = inputs.attending.dropout;
            if let Some(mask) = dropout.map(|dropout| dropout.row(mask_row + begin + query)) {
                let kept = &mut kept[part];
                for column in 0..span {
                    let factor = mask.factor((first + column) as u32);
                    kept[column] = row[column] * factor;
                    gradients[column] *= factor;
                }
            }
            let mean = dot::<L>(row, gradients);
            if inputs.relative.is_some() {
                let sums = &mut by_distance[inputs.nearest(begin + query)..][..keys];
                let (row, gradients) = (&row[..keys], &gradients[..keys]);
                for column in 0..keys {
                    sums[column] += row[column] * (gradients[column] - mean);
                }
            }
            for column in 0..span {
                gradients[column] = scale * row[column] * (gradients[column] - mean);
            }
            if inputs.attending.shape.precision == Precision::Mixed {
                halved(gradients, scale_of(gradients));
                halved(if dropout.is_some() { &mut kept[query * span..][..span] } else { row }, 1.0);
            }
        }
        let mixed = if inputs.attending.dropout.is_some() { &*kept } else { &*probabilities };
        let across = |of: &[f32]| View { at: of.as_ptr(), row: 1, column: span };
        let met = keys.min(seen_by_block.end) - first;
        // SAFETY: the output has the shape of the joint tensor, and these rows and columns are of this task alone. A block after the first adds to what that wrote, and where blocks see different keys each
        // adds to the zeros that were there.
        unsafe {
            let add = begin > 0 || inputs.attending.shape.window.is_some();
            let whole = |part: usize| Target { at: into.0.add(joint + part * hidden + first * 3 * hidden), row: 3 * hidden, add };
            product::<L>([met, size, count], across(mixed), from, whole(2));
            product::<L>([met, size, count], across(gradients), inputs.view(own), whole(1));
            let target = Target { at: into.0.add(own), row: 3 * hidden, add: false };
            let row_of = |of: &[f32]| View { at: of.as_ptr(), row: span, column: 1 };
            product::<L>([count, size, met], row_of(gradients), inputs.view(joint + hidden + first * 3 * hidden), target);
        }
    }
}
