//! The forward kernel of attention by matrix units.

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#![allow(clippy::collapsible_if)]

use burn::tensor::f16;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::cmma::Matrix;
use burn_cubecl::cubecl::prelude::*;

use super::super::LEAST;
use super::super::pieces::{bias, bias_at, first_step, given_block, last_step, sees};
use super::{ALIGNMENT, Tile, fill, left, mix, product, write, zeros};
use crate::layers::Window;
use crate::layers::cube::gelu::exponential;
use crate::layers::cube::mask::{factor, row_key};
use crate::layers::cube::mixed::held;

/// As the kernel of plain units: the mixed values, and the logarithm of every (row, head, query).
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(in super::super) fn attention_kernel<N: Size>(
    joint: &[Vector<f16, N>],
    relative: &[f32],
    places: &[i32],
    output: &mut [f16],
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
    #[comptime] tile: Tile,
    #[comptime] dropped: bool,
    #[comptime] biased: bool,
    #[comptime] window: Option<Window>,
) {
    let (m, n) = comptime!((tile.one.m, tile.one.n));
    let columns = comptime!(tile.columns());
    let (own, share) = comptime!((tile.own(), tile.share()));
    let (tasks, width, heads) = (tasks as usize, width as usize, heads as usize);
    let plane = UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;
    let hidden = heads * size;
    let stride = 3 * hidden;
    let rows = comptime!(tile.rows());
    let own_block = given_block(places, tasks, tokens as usize, width, heads, rows, size);
    let (task, begin, base, single, end) = (own_block.task, own_block.begin, own_block.base, own_block.single, own_block.end);
    let mut keys = own_block.keys;
    // A block behind the end of its sequence has nothing to do. A plane that has not goes along: a barrier of planes, too, may ask for all of a cube's (Mesa 26 does).
    if begin >= end {
        keys = 0;
    }

    let mut slab = Shared::<[f16]>::new_aligned_slice(comptime!(tile.slab(size)), ALIGNMENT);
    let mut stage = Shared::<[f32]>::new_aligned_slice(comptime!(tile.stages()), ALIGNMENT);
    let mut weights = Shared::<[f16]>::new_aligned_slice(comptime!(tile.weights()), ALIGNMENT);
    let mut shares = Shared::<[f32]>::new_slice(comptime!(rows * share));
    let mut factors = Shared::<[f32]>::new_slice(rows);
    let stage_at = plane * comptime!(tile.stage());

    let mut most = Array::<f32>::new(own);
    let mut sums = Array::<f32>::new(own);
    let mut lows = Array::<u32>::new(own);
    let mut highs = Array::<u32>::new(own);
    // Where a row of a fragment that this unit has a share of begins, and the first column of that share.
    let row = lane / share;
    let column = lane % share;
    let next = comptime!(tile.one.plane / share);
    #[unroll]
    for i in 0..own {
        most[i] = f32::new(LEAST);
        sums[i] = 0.0f32;
        let (low, high) = row_key((task * width + begin + plane * m + row + i * next) as u32, key_low, key_high);
        lows[i] = low;
        highs[i] = high;
    }

    fill::<f16, N>(joint, &mut slab, 0usize, base, stride, begin, end, 1.0f32, false, rows, size, tile);
    sync_cube();
    let mut queries = Sequence::<Matrix<f16>>::new();
    left(&slab, plane * m, &mut queries, size, tile);
    let mut mixed = Sequence::<Matrix<f32>>::new();
    zeros(&mut mixed, size, tile);
    sync_cube();

    let nearest = bias_at(task % heads, width);
    let begin_at = first_step(begin, columns, window);
    let steps = last_step(begin, keys, rows, columns, window);
    for step in begin_at..steps {
        let first = step * columns;
        fill::<f16, N>(joint, &mut slab, 0usize, base + hidden, stride, first, keys, 1.0f32, false, columns, size, tile);
        sync_cube();
        #[unroll]
        for j in 0..comptime!(columns / n) {
            product(&queries, &slab, comptime!(j * n), &mut stage, stage_at, size, tile);
            sync_plane();
            #[unroll]
            for i in 0..own {
                for t in 0..comptime!(n / share) {
                    let at = t * share + column;
                    if first + j * n + at < keys {
                        let mut score = stage[stage_at + (row + i * next) * comptime!(tile.stage_stride()) + at] * scaling;
                        if comptime!(biased) {
                            score += bias(relative, nearest, begin + plane * m + row + i * next, first + j * n + at, end, keys);
                        }
                        if sees(begin + plane * m + row + i * next, first + j * n + at, window) {
                            if score > most[i] {
                                most[i] = score;
                            }
                        }
                    }
                }
            }
            sync_plane();
        }
        sync_cube();
    }
    // The largest score of a row is that of its shares.
    #[unroll]
    for i in 0..own {
        shares[(plane * m + row + i * next) * share + column] = most[i];
    }
    sync_plane();
    #[unroll]
    for i in 0..own {
        #[unroll]
        for other in 0..share {
            let score = shares[(plane * m + row + i * next) * share + other];
            if score > most[i] {
                most[i] = score;
            }
        }
    }
    sync_plane();

    for step in begin_at..steps {
        let first = step * columns;
        fill::<f16, N>(joint, &mut slab, 0usize, base + hidden, stride, first, keys, 1.0f32, false, columns, size, tile);
        fill::<f16, N>(joint, &mut slab, columns, base + 2 * hidden, stride, first, keys, 1.0f32, false, columns, size, tile);
        sync_cube();
        #[unroll]
        for j in 0..comptime!(columns / n) {
            product(&queries, &slab, comptime!(j * n), &mut stage, stage_at, size, tile);
            sync_plane();
            #[unroll]
            for i in 0..own {
                let line = row + i * next;
                for t in 0..comptime!(n / share) {
                    let at = t * share + column;
                    let mut weight = 0.0f32;
                    if first + j * n + at < keys {
                        let mut score = stage[stage_at + line * comptime!(tile.stage_stride()) + at] * scaling;
                        if comptime!(biased) {
                            score += bias(relative, nearest, begin + plane * m + line, first + j * n + at, end, keys);
                        }
                        if sees(begin + plane * m + line, first + j * n + at, window) {
                            weight = exponential(score - most[i]);
                        }
                    }
                    sums[i] += weight;
                    if comptime!(dropped) {
                        weight *= factor((first + j * n + at) as u32, lows[i], highs[i], threshold, scale);
                    }
                    weights[(plane * m + line) * comptime!(tile.weight_stride()) + j * n + at] = f16::cast_from(held(weight));
                }
            }
            sync_plane();
        }
        mix(&weights, plane * comptime!(m * tile.weight_stride()), &slab, columns, &mixed, size, tile);
        sync_cube();
    }

    #[unroll]
    for i in 0..own {
        shares[(plane * m + row + i * next) * share + column] = sums[i];
    }
    sync_plane();
    #[unroll]
    for i in 0..own {
        let line = plane * m + row + i * next;
        let mut sum = 0.0f32;
        #[unroll]
        for other in 0..share {
            sum += shares[line * share + other];
        }
        if column == 0 {
            let mut logarithm = 0.0f32;
            let mut by = 0.0f32;
            if keys > 0 {
                logarithm = most[i] + sum.ln();
                by = 1.0f32 / sum;
            }
            if comptime!(window.is_some()) {
                // Of a query that sees a key the sum is at least 1, or no number.
                if sum == 0.0f32 {
                    logarithm = 0.0f32;
                    by = 0.0f32;
                }
            }
            factors[line] = by;
            if begin + line < end {
                logarithms[own_block.kept + (begin + line) * heads] = logarithm;
            }
        }
    }
    write::<f16>(&mixed, &mut stage, &factors, 1.0f32, output, single, hidden, begin, end, true, size, tile);
}
