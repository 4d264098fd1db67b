//! The backward kernels of attention: one that prepares, one by blocks of queries, one by blocks of keys.

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#![allow(clippy::collapsible_if)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::distances::{Parts, add_block, clear, leave, sums_at};
use super::pieces::{bias, bias_at, first_step, known_block, last_step, load, mix, place, products, sees, store};
use super::{SIDE, slab};
use crate::layers::Window;
use crate::layers::cube::gelu::exponential;
use crate::layers::cube::mask::{factor, row_key};

/// How the kernel by blocks of queries adds up by distance.
pub(super) const fn parts(block: usize) -> Parts {
    Parts { rows: block, columns: block, stride: block + 1, units: SIDE * SIDE }
}

/// What the backward kernels read beside vectors, in one buffer: the logarithm of every query and head, `[tokens, heads]`, the product of its output with the gradient, and of every row its
/// start, its rows and its tokens.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn prepare_kernel(
    gradient: &[f32],
    output: &[f32],
    logarithms: &[f32],
    places: &[i32],
    facts: &mut [f32],
    count: u32,
    rows: u32,
    tokens: u32,
    width: u32,
    size: u32,
) {
    let (count, rows, tokens) = (count as usize, rows as usize, tokens as usize);
    let (width, size) = (width as usize, size as usize);
    let at = ABSOLUTE_POS;
    if at < count {
        let start = at * size;
        let mut sum = 0.0f32;
        for number in 0..size {
            sum += gradient[start + number] * output[start + number];
        }
        facts[at] = logarithms[at];
        facts[count + at] = sum;
    }
    if at < rows {
        let (start, extent, length) = place(places, rows, at, tokens, width);
        facts[2 * count + at] = f32::cast_from(start as u32);
        facts[2 * count + rows + at] = f32::cast_from(extent as u32);
        facts[2 * count + 2 * rows + at] = f32::cast_from(length as u32);
    }
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn query_kernel(
    joint: &[f32],
    gradient: &[f32],
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
    #[comptime] block: usize,
    #[comptime] dropped: bool,
    #[comptime] biased: bool,
    #[comptime] window: Option<Window>,
) {
    let own = comptime!(block / SIDE);
    let numbers = comptime!(size.div_ceil(SIDE));
    let (tasks, width, heads) = (tasks as usize, width as usize, heads as usize);
    let across = UNIT_POS as usize % SIDE;
    let down = UNIT_POS as usize / SIDE;
    let hidden = heads * size;
    let stride = 3 * hidden;
    let count = count as usize;
    let own_block = known_block(facts, tasks, width, heads, count, block, size);
    let (task, begin, base, single, end) = (own_block.task, own_block.begin, own_block.base, own_block.single, own_block.end);
    let mut keys = own_block.keys;
    if begin >= end {
        keys = 0;
    }

    let mut query_slab = Shared::<[f32]>::new_slice(comptime!(slab(block, size)));
    let mut gradient_slab = Shared::<[f32]>::new_slice(comptime!(slab(block, size)));
    let mut key_slab = Shared::<[f32]>::new_slice(comptime!(slab(block, size)));
    let mut value_slab = Shared::<[f32]>::new_slice(comptime!(slab(block, size)));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(block * (block + 1)));

    let mut scores = Array::<f32>::new(comptime!(own * own));
    let mut backs = Array::<f32>::new(comptime!(own * own));
    let mut sums = Array::<f32>::new(comptime!(own * numbers));
    let mut logarithms = Array::<f32>::new(own);
    let mut means = Array::<f32>::new(own);
    let mut lows = Array::<u32>::new(own);
    let mut highs = Array::<u32>::new(own);
    #[unroll]
    for place in 0..comptime!(own * numbers) {
        sums[place] = 0.0f32;
    }
    #[unroll]
    for i in 0..own {
        let line = begin + i * SIDE + down;
        logarithms[i] = 0.0f32;
        means[i] = 0.0f32;
        if line < end {
            logarithms[i] = facts[own_block.kept + line * heads];
            means[i] = facts[count + own_block.kept + line * heads];
        }
        let (low, high) = row_key((task * width + line) as u32, key_low, key_high);
        lows[i] = low;
        highs[i] = high;
    }
    load(joint, &mut query_slab, base, stride, begin, end, size, block);
    load(gradient, &mut gradient_slab, single, hidden, begin, end, size, block);
    let nearest = bias_at(task % heads, width);
    let parts = comptime!(parts(block));
    let at = sums_at(CUBE_POS, width, parts);
    let mut open = Shared::<[f32]>::new_slice(comptime!(if biased { parts.ring() } else { 1 }));
    if comptime!(biased) {
        clear(&mut open, parts);
        sync_cube();
    }

    let steps = last_step(begin, keys, block, block, window);
    for step in first_step(begin, block, window)..steps {
        let first = step * block;
        load(joint, &mut key_slab, base + hidden, stride, first, keys, size, block);
        load(joint, &mut value_slab, base + 2 * hidden, stride, first, keys, size, block);
        sync_cube();
        products(&query_slab, &key_slab, &mut scores, size, own);
        products(&gradient_slab, &value_slab, &mut backs, size, own);
        #[unroll]
        for i in 0..own {
            let line = i * SIDE + down;
            #[unroll]
            for j in 0..own {
                let column = j * SIDE + across;
                let mut back = backs[i * own + j];
                if comptime!(dropped) {
                    back *= factor((first + column) as u32, lows[i], highs[i], threshold, scale);
                }
                let mut score = scores[i * own + j] * scaling;
                if comptime!(biased) {
                    score += bias(relative, nearest, begin + line, first + column, end, keys);
                }
                let mut weight = 0.0f32;
                if begin + line < end {
                    if first + column < keys {
                        if sees(begin + line, first + column, window) {
                            weight = exponential(score - logarithms[i]) * (back - means[i]);
                        }
                    }
                }
                weights[line * comptime!(block + 1) + column] = weight;
            }
        }
        sync_cube();
        mix(&weights, &key_slab, &mut sums, false, size, block);
        if comptime!(biased) {
            add_block(&weights, &mut open, to_biases, at, first, parts);
        }
        sync_cube();
    }
    if comptime!(biased) {
        if begin < end {
            leave(&open, to_biases, at, steps * block, parts);
        }
    }
    #[unroll]
    for i in 0..own {
        means[i] = scaling;
    }
    store(&sums, &means, to_joint, base, stride, begin, end, size, block);
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn key_kernel(
    joint: &[f32],
    gradient: &[f32],
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
    #[comptime] block: usize,
    #[comptime] dropped: bool,
    #[comptime] biased: bool,
    #[comptime] window: Option<Window>,
) {
    let own = comptime!(block / SIDE);
    let numbers = comptime!(size.div_ceil(SIDE));
    let (tasks, width, heads) = (tasks as usize, width as usize, heads as usize);
    let across = UNIT_POS as usize % SIDE;
    let down = UNIT_POS as usize / SIDE;
    let hidden = heads * size;
    let stride = 3 * hidden;
    let count = count as usize;
    let own_block = known_block(facts, tasks, width, heads, count, block, size);
    let (task, begin, base, single, end) = (own_block.task, own_block.begin, own_block.base, own_block.single, own_block.end);
    let keys = own_block.keys;
    // A block of padding has no queries, and its gradients are zeros.
    let mut queries = end;
    if begin >= keys {
        queries = 0;
    }

    let mut key_slab = Shared::<[f32]>::new_slice(comptime!(slab(block, size)));
    let mut value_slab = Shared::<[f32]>::new_slice(comptime!(slab(block, size)));
    let mut query_slab = Shared::<[f32]>::new_slice(comptime!(slab(block, size)));
    let mut gradient_slab = Shared::<[f32]>::new_slice(comptime!(slab(block, size)));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(block * (block + 1)));
    let mut kept = Shared::<[f32]>::new_slice(comptime!(block * (block + 1)));

    let mut scores = Array::<f32>::new(comptime!(own * own));
    let mut backs = Array::<f32>::new(comptime!(own * own));
    let mut key_sums = Array::<f32>::new(comptime!(own * numbers));
    let mut value_sums = Array::<f32>::new(comptime!(own * numbers));
    #[unroll]
    for place in 0..comptime!(own * numbers) {
        key_sums[place] = 0.0f32;
        value_sums[place] = 0.0f32;
    }
    load(joint, &mut key_slab, base + hidden, stride, begin, keys, size, block);
    load(joint, &mut value_slab, base + 2 * hidden, stride, begin, keys, size, block);
    let nearest = bias_at(task % heads, width);

    let seen_from = comptime!(window.map(Window::reversed));
    for step in first_step(begin, block, seen_from)..last_step(begin, queries, block, block, seen_from) {
        let first = step * block;
        load(joint, &mut query_slab, base, stride, first, queries, size, block);
        load(gradient, &mut gradient_slab, single, hidden, first, queries, size, block);
        sync_cube();
        products(&query_slab, &key_slab, &mut scores, size, own);
        products(&gradient_slab, &value_slab, &mut backs, size, own);
        #[unroll]
        for i in 0..own {
            let line = first + i * SIDE + down;
            let mut logarithm = 0.0f32;
            let mut mean = 0.0f32;
            if line < queries {
                logarithm = facts[own_block.kept + line * heads];
                mean = facts[count + own_block.kept + line * heads];
            }
            let (low, high) = row_key((task * width + line) as u32, key_low, key_high);
            #[unroll]
            for j in 0..own {
                let column = j * SIDE + across;
                let mut by = 1.0f32;
                if comptime!(dropped) {
                    by = factor((begin + column) as u32, low, high, threshold, scale);
                }
                let mut probability = 0.0f32;
                if line < queries {
                    if begin + column < keys {
                        if sees(line, begin + column, window) {
                            let mut score = scores[i * own + j] * scaling;
                            if comptime!(biased) {
                                score += bias(relative, nearest, line, begin + column, queries, keys);
                            }
                            probability = exponential(score - logarithm);
                        }
                    }
                }
                let place = (i * SIDE + down) * comptime!(block + 1) + column;
                kept[place] = probability * by;
                weights[place] = probability * (backs[i * own + j] * by - mean);
            }
        }
        sync_cube();
        mix(&kept, &gradient_slab, &mut value_sums, true, size, block);
        mix(&weights, &query_slab, &mut key_sums, true, size, block);
        sync_cube();
    }
    let mut factors = Array::<f32>::new(own);
    #[unroll]
    for i in 0..own {
        factors[i] = scaling;
    }
    store(&key_sums, &factors, to_joint, base + hidden, stride, begin, end, size, block);
    #[unroll]
    for i in 0..own {
        factors[i] = 1.0f32;
    }
    store(&value_sums, &factors, to_joint, base + 2 * hidden, stride, begin, end, size, block);
}
