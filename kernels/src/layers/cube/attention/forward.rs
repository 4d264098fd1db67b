//! The forward kernel of attention.

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#![allow(clippy::collapsible_if)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::pieces::{bias, bias_at, first_step, given_block, last_step, load, mix, products, sees, store};
use super::{LEAST, SIDE, slab};
use crate::layers::Window;
use crate::layers::cube::gelu::exponential;
use crate::layers::cube::mask::{factor, row_key};

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn attention_kernel(
    joint: &[f32],
    relative: &[f32],
    places: &[i32],
    output: &mut [f32],
    logarithms: &mut [f32],
    tasks: u32,
    tokens: u32,
    width: u32,
    heads: u32,
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
    let own_block = given_block(places, tasks, tokens as usize, width, heads, block, size);
    let (task, begin, base, single, end) = (own_block.task, own_block.begin, own_block.base, own_block.single, own_block.end);
    let mut keys = own_block.keys;
    // A block behind the end of its sequence has nothing to do.
    if begin >= end {
        keys = 0;
    }

    let mut query_slab = Shared::<[f32]>::new_slice(comptime!(slab(block, size)));
    let mut key_slab = Shared::<[f32]>::new_slice(comptime!(slab(block, size)));
    let mut value_slab = Shared::<[f32]>::new_slice(comptime!(slab(block, size)));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(block * (block + 1)));
    let mut maxima = Shared::<[f32]>::new_slice(comptime!(block * SIDE));
    let mut totals = Shared::<[f32]>::new_slice(comptime!(block * SIDE));

    let mut scores = Array::<f32>::new(comptime!(own * own));
    let mut mixed = Array::<f32>::new(comptime!(own * numbers));
    let mut most = Array::<f32>::new(own);
    let mut sums = Array::<f32>::new(own);
    let mut shrink = Array::<f32>::new(own);
    let mut lows = Array::<u32>::new(own);
    let mut highs = Array::<u32>::new(own);
    #[unroll]
    for place in 0..comptime!(own * numbers) {
        mixed[place] = 0.0f32;
    }
    #[unroll]
    for i in 0..own {
        most[i] = f32::new(LEAST);
        sums[i] = 0.0f32;
        let (low, high) = row_key((task * width + begin + i * SIDE + down) as u32, key_low, key_high);
        lows[i] = low;
        highs[i] = high;
    }
    load(joint, &mut query_slab, base, stride, begin, end, size, block);
    let nearest = bias_at(task % heads, width);

    for step in first_step(begin, block, window)..last_step(begin, keys, block, block, window) {
        let first = step * block;
        load(joint, &mut key_slab, base + hidden, stride, first, keys, size, block);
        load(joint, &mut value_slab, base + 2 * hidden, stride, first, keys, size, block);
        sync_cube();
        products(&query_slab, &key_slab, &mut scores, size, own);
        #[unroll]
        for i in 0..own {
            let mut largest = f32::new(LEAST);
            #[unroll]
            for j in 0..own {
                scores[i * own + j] *= scaling;
                if comptime!(biased) {
                    let (query, key) = (begin + i * SIDE + down, first + j * SIDE + across);
                    scores[i * own + j] += bias(relative, nearest, query, key, end, keys);
                }
                if first + j * SIDE + across < keys {
                    if sees(begin + i * SIDE + down, first + j * SIDE + across, window) {
                        if scores[i * own + j] > largest {
                            largest = scores[i * own + j];
                        }
                    }
                }
            }
            maxima[(i * SIDE + down) * SIDE + across] = largest;
        }
        sync_cube();
        #[unroll]
        for i in 0..own {
            let line = i * SIDE + down;
            let mut largest = most[i];
            #[unroll]
            for lane in 0..SIDE {
                let other = maxima[line * SIDE + lane];
                if other > largest {
                    largest = other;
                }
            }
            shrink[i] = exponential(most[i] - largest);
            most[i] = largest;
            let mut total = 0.0f32;
            #[unroll]
            for j in 0..own {
                let column = j * SIDE + across;
                let mut weight = 0.0f32;
                if first + column < keys {
                    if sees(begin + line, first + column, window) {
                        weight = exponential(scores[i * own + j] - largest);
                    }
                }
                total += weight;
                if comptime!(dropped) {
                    weight *= factor((first + column) as u32, lows[i], highs[i], threshold, scale);
                }
                weights[line * comptime!(block + 1) + column] = weight;
            }
            totals[line * SIDE + across] = total;
        }
        sync_cube();
        #[unroll]
        for i in 0..own {
            let mut total = 0.0f32;
            #[unroll]
            for lane in 0..SIDE {
                total += totals[(i * SIDE + down) * SIDE + lane];
            }
            sums[i] = sums[i] * shrink[i] + total;
            #[unroll]
            for number in 0..numbers {
                mixed[i * numbers + number] *= shrink[i];
            }
        }
        mix(&weights, &value_slab, &mut mixed, false, size, block);
        sync_cube();
    }

    #[unroll]
    for i in 0..own {
        let line = begin + i * SIDE + down;
        let mut logarithm = 0.0f32;
        shrink[i] = 0.0f32;
        if keys > 0 {
            logarithm = most[i] + sums[i].ln();
            shrink[i] = 1.0f32 / sums[i];
        }
        if comptime!(window.is_some()) {
            // Of a query that sees a key the sum is at least 1, or no number.
            if sums[i] == 0.0f32 {
                logarithm = 0.0f32;
                shrink[i] = 0.0f32;
            }
        }
        if across == 0 {
            if line < end {
                logarithms[own_block.kept + line * heads] = logarithm;
            }
        }
    }
    store(&mixed, &shrink, output, single, hidden, begin, end, size, block);
}
