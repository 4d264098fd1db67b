//! The backward kernels of attention by matrix units: one that surveys, one by blocks of queries, one by blocks of keys.

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#![allow(clippy::collapsible_if)]

use burn::tensor::f16;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::cmma::Matrix;
use burn_cubecl::cubecl::prelude::*;

use super::super::distances::{add_block, clear, leave, sums_at};
use super::super::pieces::{bias, bias_at, first_step, known_block, last_step, place, sees};
use super::{ALIGNMENT, SURVEYORS, Tile, fill, left, mix, product, write, zeros};
use crate::layers::Window;
use crate::layers::cube::gelu::exponential;
use crate::layers::cube::mask::{factor, row_key};
use crate::layers::cube::mixed::held;
use crate::layers::cube::survey::{scale_back, scale_of};

/// Units that share a row of a survey.
const READERS: usize = 8;

/// What the backward kernels read beside vectors, in one buffer: what `prepare_kernel` leaves for those of plain units, but products with the gradient times its scale; and
/// four numbers of each (row, head): the power of two that brings the largest number of its gradient to [2^13, 2^14), the one that then keeps gradients of scores below 2^14, and
/// the inverse of each. A cube has one (row, head).
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(in super::super) fn survey_kernel(
    joint: &[f16],
    gradient: &[f32],
    output: &[f16],
    logarithms: &[f32],
    places: &[i32],
    facts: &mut [f32],
    tasks: u32,
    tokens: u32,
    width: u32,
    heads: u32,
    most_kept: f32,
    #[comptime] size: usize,
) {
    let (tasks, width, heads) = (tasks as usize, width as usize, heads as usize);
    let rows = tasks / heads;
    let count = tokens as usize * heads;
    let unit = UNIT_POS as usize;
    let task = CUBE_POS;
    let mut base = 0usize;
    let mut start = 0usize;
    let mut extent = 0usize;
    let mut length = 0usize;
    let hidden = heads * size;
    if task < tasks {
        let (first, rows_of_it, tokens_of_it) = place(places, rows, task / heads, tokens as usize, width);
        base = first * hidden + task % heads * size;
        start = first;
        extent = rows_of_it;
        length = tokens_of_it;
    }
    // Units beside each other read numbers beside each other.
    let mut largest = 0.0f32;
    let mut largest_value = 0.0f32;
    let mut place = unit;
    while place < extent * size {
        let line = place / size;
        let column = place % size;
        let given = gradient[base + line * hidden + column].abs();
        if given > largest {
            largest = given;
        }
        if line < length {
            let value = f32::cast_from(joint[base + 2 * start * hidden + (3 * line + 2) * hidden + column]).abs();
            if value > largest_value {
                largest_value = value;
            }
        }
        place += SURVEYORS;
    }
    let mut gradients = Shared::<[f32]>::new_slice(SURVEYORS);
    let mut values = Shared::<[f32]>::new_slice(SURVEYORS);
    gradients[unit] = largest;
    values[unit] = largest_value;
    sync_cube();
    for other in 0..SURVEYORS {
        if gradients[other] > largest {
            largest = gradients[other];
        }
        if values[other] > largest_value {
            largest_value = values[other];
        }
    }
    let by = scale_of(largest);
    // A few units share a row, and one adds up what they found, in one order. All go round as often, for the barriers.
    let mut parts = Shared::<[f32]>::new_slice(SURVEYORS);
    for turn in 0..extent.div_ceil(comptime!(SURVEYORS / READERS)) {
        let line = turn * comptime!(SURVEYORS / READERS) + unit / READERS;
        let mut sum = 0.0f32;
        if line < extent {
            let at = base + line * hidden;
            let mut number = unit % READERS;
            while number < size {
                let rounded = f32::cast_from(f16::cast_from(held(gradient[at + number] * by)));
                sum += rounded * f32::cast_from(output[at + number]);
                number += READERS;
            }
        }
        parts[unit] = sum;
        sync_cube();
        if unit / READERS * READERS == unit {
            if line < extent {
                let mut sum = 0.0f32;
                for other in 0..READERS {
                    sum += parts[unit + other];
                }
                let kept = (start + line) * heads + task % heads;
                facts[kept] = logarithms[kept];
                facts[count + kept] = sum;
            }
        }
        sync_cube();
    }
    if task < tasks {
        if unit == 0 {
            // The first head writes what is the row's.
            if task / heads * heads == task {
                facts[2 * count + task / heads] = f32::cast_from(start as u32);
                facts[2 * count + rows + task / heads] = f32::cast_from(extent as u32);
                facts[2 * count + 2 * rows + task / heads] = f32::cast_from(length as u32);
            }
            // With values up to v and gradients up to 2^14, products of a head's numbers are below size x 2^14 x v, and so is their mean; kept ones are larger by `most_kept`.
            let bits = comptime!(size.next_power_of_two().trailing_zeros() + 15);
            let at = 2 * count + 3 * rows + 4 * task;
            facts[at] = by;
            facts[at + 1] = scale_back(largest);
            facts[at + 2] = scale_of(largest_value * most_kept) * comptime!(1.0 / (1u32 << bits) as f32);
            facts[at + 3] = scale_back(largest_value * most_kept) * comptime!((1u32 << bits) as f32);
        }
    }
}

/// Brings what is known of `lines` queries of a task from `first` on into shared memory, zeros from `end` on, and the keys of their rows of the mask, of which `at` is the first.
#[cube]
#[allow(clippy::too_many_arguments)]
fn know(
    facts: &[f32],
    logarithms: &mut Shared<[f32]>,
    means: &mut Shared<[f32]>,
    lows: &mut Shared<[u32]>,
    highs: &mut Shared<[u32]>,
    at: usize,
    kept: usize,
    heads: usize,
    first: usize,
    end: usize,
    count: usize,
    key_low: u32,
    key_high: u32,
    #[comptime] lines: usize,
    #[comptime] tile: Tile,
) {
    let mut line = UNIT_POS as usize;
    while line < lines {
        let mut logarithm = 0.0f32;
        let mut mean = 0.0f32;
        if first + line < end {
            logarithm = facts[kept + (first + line) * heads];
            mean = facts[count + kept + (first + line) * heads];
        }
        logarithms[line] = logarithm;
        means[line] = mean;
        let (low, high) = row_key((at + first + line) as u32, key_low, key_high);
        lows[line] = low;
        highs[line] = high;
        line += comptime!(tile.units());
    }
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(in super::super) fn query_kernel<N: Size>(
    joint: &[Vector<f16, N>],
    gradient: &[Vector<f32, N>],
    relative: &[f32],
    facts: &[f32],
    to_joint: &mut [f32],
    to_biases: &mut [f32],
    tasks: u32,
    width: u32,
    heads: u32,
    count: u32,
    scaling: f32,
    threshold: u32,
    scale: f32,
    key_low: u32,
    key_high: u32,
    #[comptime] size: usize,
    #[comptime] tile: Tile,
    #[comptime] dropped: bool,
    #[comptime] biased: bool,
    #[comptime] window: Option<Window>,
) {
    let (m, n) = comptime!((tile.one.m, tile.one.n));
    let columns = comptime!(tile.columns());
    let (tasks, width, heads) = (tasks as usize, width as usize, heads as usize);
    let plane = UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;
    let hidden = heads * size;
    let stride = 3 * hidden;
    let rows = comptime!(tile.rows());
    let count = count as usize;
    let own_block = known_block(facts, tasks, width, heads, count, rows, size);
    let (task, begin, base, single, end) = (own_block.task, own_block.begin, own_block.base, own_block.single, own_block.end);
    let mut keys = own_block.keys;
    let at = 2 * count + 3 * (tasks / heads) + 4 * task;
    let (by, back, by_score, back_score) = (facts[at], facts[at + 1], facts[at + 2], facts[at + 3]);
    if begin >= end {
        keys = 0;
    }

    let mut slab = Shared::<[f16]>::new_aligned_slice(comptime!(tile.slab(size)), ALIGNMENT);
    let mut scores = Shared::<[f32]>::new_aligned_slice(comptime!(tile.stages()), ALIGNMENT);
    let mut backs = Shared::<[f32]>::new_aligned_slice(comptime!(tile.stages()), ALIGNMENT);
    let mut weights = Shared::<[f16]>::new_aligned_slice(comptime!(tile.weights()), ALIGNMENT);
    let mut logarithms = Shared::<[f32]>::new_slice(rows);
    let mut means = Shared::<[f32]>::new_slice(rows);
    let mut lows = Shared::<[u32]>::new_slice(rows);
    let mut highs = Shared::<[u32]>::new_slice(rows);
    let stage_at = plane * comptime!(tile.stage());
    let weights_at = plane * comptime!(m * tile.weight_stride());

    know(
        facts,
        &mut logarithms,
        &mut means,
        &mut lows,
        &mut highs,
        task * width,
        own_block.kept,
        heads,
        begin,
        end,
        count,
        key_low,
        key_high,
        rows,
        tile,
    );
    fill::<f16, N>(joint, &mut slab, 0usize, base, stride, begin, end, 1.0f32, false, rows, size, tile);
    sync_cube();
    let mut queries = Sequence::<Matrix<f16>>::new();
    left(&slab, plane * m, &mut queries, size, tile);
    sync_cube();
    fill::<f32, N>(gradient, &mut slab, 0usize, single, hidden, begin, end, by, true, rows, size, tile);
    sync_cube();
    let mut gradients = Sequence::<Matrix<f16>>::new();
    left(&slab, plane * m, &mut gradients, size, tile);
    let mut sums = Sequence::<Matrix<f32>>::new();
    zeros(&mut sums, size, tile);
    let nearest = bias_at(task % heads, width);
    let parts = comptime!(tile.parts());
    let own_sums = sums_at(CUBE_POS, width, parts);
    let mut open = Shared::<[f32]>::new_slice(comptime!(if biased { parts.ring() } else { 1 }));
    if comptime!(biased) {
        clear(&mut open, parts);
    }
    sync_cube();

    for step in first_step(begin, columns, window)..last_step(begin, keys, rows, columns, window) {
        let first = step * columns;
        fill::<f16, N>(joint, &mut slab, 0usize, base + hidden, stride, first, keys, 1.0f32, false, columns, size, tile);
        fill::<f16, N>(joint, &mut slab, columns, base + 2 * hidden, stride, first, keys, 1.0f32, false, columns, size, tile);
        sync_cube();
        #[unroll]
        for j in 0..comptime!(columns / n) {
            product(&queries, &slab, comptime!(j * n), &mut scores, stage_at, size, tile);
            product(&gradients, &slab, comptime!(columns + j * n), &mut backs, stage_at, size, tile);
            sync_plane();
            for turn in 0..comptime!((m * n).div_ceil(tile.one.plane)) {
                let at = turn * tile.one.plane + lane;
                let from = stage_at + at / n * comptime!(tile.stage_stride()) + at % n;
                let line = plane * m + at / n;
                let column = j * n + at % n;
                let mut weight = 0.0f32;
                if begin + line < end {
                    if first + column < keys {
                        let mut given = backs[from];
                        if comptime!(dropped) {
                            given *= factor((first + column) as u32, lows[line], highs[line], threshold, scale);
                        }
                        let mut score = scores[from] * scaling;
                        if comptime!(biased) {
                            score += bias(relative, nearest, begin + line, first + column, end, keys);
                        }
                        if sees(begin + line, first + column, window) {
                            weight = exponential(score - logarithms[line]) * (given - means[line]) * by_score;
                        }
                    }
                }
                weights[weights_at + (at / n) * comptime!(tile.weight_stride()) + column] = f16::cast_from(weight);
            }
            sync_plane();
        }
        mix(&weights, weights_at, &slab, 0usize, &sums, size, tile);
        if comptime!(biased) {
            // Of all planes.
            sync_cube();
            add_block(&weights, &mut open, to_biases, own_sums, first, parts);
        }
        sync_cube();
    }
    if comptime!(biased) {
        if begin < end {
            leave(&open, to_biases, own_sums, keys.div_ceil(columns) * columns, parts);
        }
    }
    let mut line = UNIT_POS as usize;
    while line < rows {
        means[line] = back * scaling;
        line += comptime!(tile.units());
    }
    sync_cube();
    write::<f32>(&sums, &mut scores, &means, back_score, to_joint, base, stride, begin, end, false, size, tile);
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(in super::super) fn key_kernel<N: Size>(
    joint: &[Vector<f16, N>],
    gradient: &[Vector<f32, N>],
    relative: &[f32],
    facts: &[f32],
    to_joint: &mut [f32],
    tasks: u32,
    width: u32,
    heads: u32,
    count: u32,
    scaling: f32,
    threshold: u32,
    scale: f32,
    key_low: u32,
    key_high: u32,
    #[comptime] size: usize,
    #[comptime] tile: Tile,
    #[comptime] dropped: bool,
    #[comptime] biased: bool,
    #[comptime] window: Option<Window>,
) {
    let (m, n) = comptime!((tile.one.m, tile.one.n));
    let columns = comptime!(tile.columns());
    let (tasks, width, heads) = (tasks as usize, width as usize, heads as usize);
    let plane = UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;
    let hidden = heads * size;
    let stride = 3 * hidden;
    let rows = comptime!(tile.rows());
    let count = count as usize;
    let own_block = known_block(facts, tasks, width, heads, count, rows, size);
    let (task, begin, base, single, end) = (own_block.task, own_block.begin, own_block.base, own_block.single, own_block.end);
    let keys = own_block.keys;
    let at = 2 * count + 3 * (tasks / heads) + 4 * task;
    let (by, back, by_score, back_score) = (facts[at], facts[at + 1], facts[at + 2], facts[at + 3]);
    // A block of padding has no queries, and its gradients are zeros.
    let mut queries = end;
    if begin >= keys {
        queries = 0;
    }

    let mut slab = Shared::<[f16]>::new_aligned_slice(comptime!(tile.slab(size)), ALIGNMENT);
    let mut scores = Shared::<[f32]>::new_aligned_slice(comptime!(tile.stages()), ALIGNMENT);
    let mut backs = Shared::<[f32]>::new_aligned_slice(comptime!(tile.stages()), ALIGNMENT);
    let mut weights = Shared::<[f16]>::new_aligned_slice(comptime!(tile.weights()), ALIGNMENT);
    let mut kept = Shared::<[f16]>::new_aligned_slice(comptime!(tile.weights()), ALIGNMENT);
    let mut logarithms = Shared::<[f32]>::new_slice(columns);
    let mut means = Shared::<[f32]>::new_slice(columns);
    let mut lows = Shared::<[u32]>::new_slice(columns);
    let mut highs = Shared::<[u32]>::new_slice(columns);
    let mut factors = Shared::<[f32]>::new_slice(rows);
    let stage_at = plane * comptime!(tile.stage());
    let weights_at = plane * comptime!(m * tile.weight_stride());

    fill::<f16, N>(joint, &mut slab, 0usize, base + hidden, stride, begin, keys, 1.0f32, false, rows, size, tile);
    sync_cube();
    let mut own_keys = Sequence::<Matrix<f16>>::new();
    left(&slab, plane * m, &mut own_keys, size, tile);
    sync_cube();
    fill::<f16, N>(joint, &mut slab, 0usize, base + 2 * hidden, stride, begin, keys, 1.0f32, false, rows, size, tile);
    sync_cube();
    let mut own_values = Sequence::<Matrix<f16>>::new();
    left(&slab, plane * m, &mut own_values, size, tile);
    let mut key_sums = Sequence::<Matrix<f32>>::new();
    let mut value_sums = Sequence::<Matrix<f32>>::new();
    zeros(&mut key_sums, size, tile);
    zeros(&mut value_sums, size, tile);
    let nearest = bias_at(task % heads, width);
    sync_cube();

    let seen_from = comptime!(window.map(Window::reversed));
    for step in first_step(begin, columns, seen_from)..last_step(begin, queries, rows, columns, seen_from) {
        let first = step * columns;
        fill::<f16, N>(joint, &mut slab, 0usize, base, stride, first, queries, 1.0f32, false, columns, size, tile);
        fill::<f32, N>(gradient, &mut slab, columns, single, hidden, first, queries, by, true, columns, size, tile);
        know(
            facts,
            &mut logarithms,
            &mut means,
            &mut lows,
            &mut highs,
            task * width,
            own_block.kept,
            heads,
            first,
            queries,
            count,
            key_low,
            key_high,
            columns,
            tile,
        );
        sync_cube();
        #[unroll]
        for j in 0..comptime!(columns / n) {
            product(&own_keys, &slab, comptime!(j * n), &mut scores, stage_at, size, tile);
            product(&own_values, &slab, comptime!(columns + j * n), &mut backs, stage_at, size, tile);
            sync_plane();
            for turn in 0..comptime!((m * n).div_ceil(tile.one.plane)) {
                let at = turn * tile.one.plane + lane;
                let from = stage_at + at / n * comptime!(tile.stage_stride()) + at % n;
                let line = begin + plane * m + at / n;
                let column = j * n + at % n;
                let mut probability = 0.0f32;
                let mut weight = 0.0f32;
                if line < keys {
                    if first + column < queries {
                        let mut given = backs[from];
                        let mut score = scores[from] * scaling;
                        if comptime!(biased) {
                            score += bias(relative, nearest, first + column, line, queries, keys);
                        }
                        if sees(first + column, line, window) {
                            probability = exponential(score - logarithms[column]);
                        }
                        let mut by_mask = 1.0f32;
                        if comptime!(dropped) {
                            by_mask = factor(line as u32, lows[column], highs[column], threshold, scale);
                            given *= by_mask;
                        }
                        weight = probability * (given - means[column]) * by_score;
                        probability *= by_mask;
                    }
                }
                let place = weights_at + (at / n) * comptime!(tile.weight_stride()) + column;
                kept[place] = f16::cast_from(held(probability));
                weights[place] = f16::cast_from(weight);
            }
            sync_plane();
        }
        mix(&kept, weights_at, &slab, columns, &value_sums, size, tile);
        mix(&weights, weights_at, &slab, 0usize, &key_sums, size, tile);
        sync_cube();
    }
    let mut line = UNIT_POS as usize;
    while line < rows {
        factors[line] = back;
        line += comptime!(tile.units());
    }
    sync_cube();
    write::<f32>(&value_sums, &mut scores, &factors, 1.0f32, to_joint, base + 2 * hidden, stride, begin, end, false, size, tile);
    write::<f32>(&key_sums, &mut scores, &factors, back_score * scaling, to_joint, base + hidden, stride, begin, end, false, size, tile);
}
