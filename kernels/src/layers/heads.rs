//! Heads in groups (Ainslie et al. 2023, arXiv 2305.13245), of decoders: fewer heads of keys and values than of queries, each of which serves a group of these. On the CPU: heads are normed (RMSNorm) where they have norms, turned by
//! the angles of their positions (rotary positions) and laid where attention reads them, all while a token's row is in the cache. Nothing is kept for the backward pass but the row.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::wide::{Lanes, dot, times_plus, widest};
use super::{numbers, tensor};

/// Heads of a projection `[tokens, (heads + 2 key_heads) head]`, queries first, then keys, then values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grouping {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys, and of values; divides the heads of queries.
    pub key_heads: usize,
    /// Width of a head.
    pub head: usize,
    /// Of the norms of heads, where there are any.
    pub epsilon: f64,
}

impl Grouping {
    /// Numbers of a token in the projection.
    pub(super) fn width(&self) -> usize {
        (self.heads + 2 * self.key_heads) * self.head
    }

    /// Numbers of a token as attention reads it.
    pub(super) fn joint_width(&self) -> usize {
        3 * self.heads * self.head
    }

    /// Heads of queries that a head of keys and one of values serve.
    pub(super) fn group(&self) -> usize {
        self.heads / self.key_heads
    }

    /// Where a head of the projection's queries and keys goes: the part, 0 for queries and 1 for keys, its first head there, and how often it is there.
    fn place(&self, source: usize) -> (usize, usize, usize) {
        if source < self.heads { (0, source, 1) } else { (1, (source - self.heads) * self.group(), self.group()) }
    }
}

/// One call, but for its tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub(crate) grouping: Grouping,
    /// Whether heads of queries and of keys have norms; scales are not looked at otherwise.
    pub(crate) normed: bool,
}

impl Heads {
    /// The shape of the gradient of a scale; a number that means nothing when there is none.
    pub(super) fn scale_shape(&self) -> [usize; 1] {
        [if self.normed { self.grouping.head } else { 1 }]
    }
}

/// What tokens are computed with.
#[derive(Clone, Copy)]
struct Of<'a> {
    grouping: Grouping,
    normed: bool,
    /// Of queries and of keys.
    scales: [&'a [f32]; 2],
    /// Cosines, then sines, of each position, `[positions, head]`.
    angles: &'a [f32],
}

/// Tokens of a task. Fixed, so that sums over tokens do not depend on the number of threads.
const TOKENS: usize = 32;

pub(super) fn forward(
    projection: &FlexTensor,
    scales: [&FlexTensor; 2],
    angles: &FlexTensor,
    positions: &FlexTensor,
    heads: Heads,
) -> FlexTensor {
    let [projection, angles, positions] = [projection, angles, positions].map(FlexTensor::to_contiguous);
    let scales = scales.map(FlexTensor::to_contiguous);
    let positions = positions.as_slice::<i32>().expect("positions are contiguous and i32");
    let Heads { grouping, normed } = heads;
    let of = Of { grouping, normed, scales: scales.each_ref().map(numbers), angles: numbers(&angles) };
    let (width, joint) = (grouping.width(), grouping.joint_width());
    let mut output = vec![0.0; positions.len() * joint];
    output
        .par_chunks_mut((TOKENS * joint).max(1))
        .zip(numbers(&projection).par_chunks((TOKENS * width).max(1)))
        .zip(positions.par_chunks(TOKENS))
        .for_each(|((output, rows), positions)| tokens_forward(output, rows, positions, of));
    tensor(output, [positions.len(), joint])
}

/// The gradients of the projection and of both scales. Without norms neither is looked at.
pub(super) fn backward(
    gradient: &FlexTensor,
    projection: &FlexTensor,
    scales: [&FlexTensor; 2],
    angles: &FlexTensor,
    positions: &FlexTensor,
    heads: Heads,
) -> [FlexTensor; 3] {
    let [gradient, projection, angles, positions] = [gradient, projection, angles, positions].map(FlexTensor::to_contiguous);
    let scales = scales.map(FlexTensor::to_contiguous);
    let positions = positions.as_slice::<i32>().expect("positions are contiguous and i32");
    let Heads { grouping, normed } = heads;
    let of = Of { grouping, normed, scales: scales.each_ref().map(numbers), angles: numbers(&angles) };
    let (width, joint) = (grouping.width(), grouping.joint_width());
    let projection = if normed { numbers(&projection) } else { &[] };
    let mut output = vec![0.0; positions.len() * width];
    let sums: Vec<[Vec<f32>; 2]> = output
        .par_chunks_mut((TOKENS * width).max(1))
        .zip(numbers(&gradient).par_chunks((TOKENS * joint).max(1)))
        .zip(positions.par_chunks(TOKENS))
        .enumerate()
        .map(|(task, ((output, gradient), positions))| {
            let rows = if normed { &projection[task * TOKENS * width..][..output.len()] } else { &[] };
            tokens_backward(output, gradient, rows, positions, of)
        })
        .collect();
    let to_scales = [0, 1].map(|part| {
        let mut all = vec![0.0; heads.scale_shape()[0]];
        for sums in &sums {
            all.iter_mut().zip(&sums[part]).for_each(|(all, sum)| *all += sum);
        }
        tensor(all, heads.scale_shape())
    });
    let [to_query, to_key] = to_scales;
    [tensor(output, [positions.len(), width]), to_query, to_key]
}

widest!(fn tokens_forward(output: &mut [f32], rows: &[f32], positions: &[i32], of: Of<'_>) = tokens_forward_body);
widest!(
    fn tokens_backward(output: &mut [f32], gradient: &[f32], rows: &[f32], positions: &[i32], of: Of<'_>) -> [Vec<f32>; 2] = tokens_backward_body
);

/// What a head is divided by, inverted.
#[inline(always)]
fn inverse<L: Lanes>(row: &[f32], epsilon: f64) -> f32 {
    (1.0 / (f64::from(dot::<L>(row, row)) / row.len() as f64 + epsilon).sqrt()) as f32
}

#[inline(always)]
fn tokens_forward_body<L: Lanes>(output: &mut [f32], rows: &[f32], positions: &[i32], of: Of<'_>) {
    let Grouping { heads, key_heads, head, epsilon } = of.grouping;
    let (half, group) = (head / 2, of.grouping.group());
    for (token, &position) in positions.iter().enumerate() {
        let output = &mut output[token * of.grouping.joint_width()..][..of.grouping.joint_width()];
        let row = &rows[token * of.grouping.width()..][..of.grouping.width()];
        let (cosines, sines) = of.angles[position as usize * head..][..head].split_at(half);
        for source in 0..heads + key_heads {
            let from = &row[source * head..][..head];
            let (part, first, copies) = of.grouping.place(source);
            let at = (part * heads + first) * head;
            let (left, right) = from.split_at(half);
            let (x_into, y_into) = output[at..at + head].split_at_mut(half);
            if of.normed {
                let by = inverse::<L>(from, epsilon);
                let (x_scale, y_scale) = of.scales[part][..head].split_at(half);
                for place in 0..half {
                    let (x, y) = (left[place] * by * x_scale[place], right[place] * by * y_scale[place]);
                    x_into[place] = x * cosines[place] - y * sines[place];
                    y_into[place] = y * cosines[place] + x * sines[place];
                }
            } else {
                for place in 0..half {
                    let (x, y) = (left[place], right[place]);
                    x_into[place] = x * cosines[place] - y * sines[place];
                    y_into[place] = y * cosines[place] + x * sines[place];
                }
            }
            for copy in 1..copies {
                output.copy_within(at..at + head, at + copy * head);
            }
        }
        let values = &row[(heads + key_heads) * head..];
        for (into, copy) in output[2 * heads * head..].chunks_exact_mut(head).zip(0..) {
            into.copy_from_slice(&values[copy / group * head..][..head]);
        }
    }
}

/// Gives the sums over these tokens: gradients of the scales of queries and of keys.
#[inline(always)]
fn tokens_backward_body<L: Lanes>(output: &mut [f32], gradient: &[f32], rows: &[f32], positions: &[i32], of: Of<'_>) -> [Vec<f32>; 2] {
    let Grouping { heads, key_heads, head, epsilon } = of.grouping;
    let (half, group) = (head / 2, of.grouping.group());
    let mut sums = [vec![0.0; head], vec![0.0; head]];
    for (token, &position) in positions.iter().enumerate() {
        let output = &mut output[token * of.grouping.width()..][..of.grouping.width()];
        let gradient = &gradient[token * of.grouping.joint_width()..][..of.grouping.joint_width()];
        let (cosines, sines) = of.angles[position as usize * head..][..head].split_at(half);
        for source in 0..heads + key_heads {
            let (part, first, copies) = of.grouping.place(source);
            let into = &mut output[source * head..][..head];
            add_up(into, &gradient[(part * heads + first) * head..][..copies * head]);
            let (x_into, y_into) = into.split_at_mut(half);
            for place in 0..half {
                let (x, y) = (x_into[place], y_into[place]);
                x_into[place] = x * cosines[place] + y * sines[place];
                y_into[place] = y * cosines[place] - x * sines[place];
            }
            if of.normed {
                let from = &rows[token * of.grouping.width() + source * head..][..head];
                let by = inverse::<L>(from, epsilon);
                let (sums, scale) = (&mut sums[part][..head], &of.scales[part][..head]);
                for place in 0..head {
                    sums[place] = times_plus::<L>(into[place], from[place] * by, sums[place]);
                    into[place] *= scale[place];
                }
                let along = dot::<L>(into, from) * by / head as f32;
                for place in 0..head {
                    into[place] = by * (into[place] - from[place] * by * along);
                }
            }
        }
        let values = gradient[2 * heads * head..].chunks_exact(group * head);
        for (into, values) in output[(heads + key_heads) * head..].chunks_exact_mut(head).zip(values) {
            add_up(into, values);
        }
    }
    sums
}

/// The sum of rows as wide as `into`.
#[inline(always)]
fn add_up(into: &mut [f32], rows: &[f32]) {
    let width = into.len();
    into.copy_from_slice(&rows[..width]);
    for row in rows.chunks_exact(width).skip(1) {
        for place in 0..width {
            into[place] += row[place];
        }
    }
}
