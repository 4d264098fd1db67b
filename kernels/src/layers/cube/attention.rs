//! Attention on GPUs that never stores its weights (Dao et al. 2022, arXiv 2205.14135), float32 throughout.
//!
//! A cube takes a block of queries of one sequence and one head, and goes through that head's keys block by block, with running maxima and sums of the softmax; keys that are
//! padding are left out. What is kept is one logarithm per query. Backward, one kernel goes through the keys of a block of queries for the queries' gradient, another
//! through the queries of a block of keys for those of keys and values; both make the weights again. A unit owns a few rows and columns of a block's scores, and a few numbers of
//! a few rows of its result, all in registers.

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#![allow(clippy::collapsible_if)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::gelu::exponential;
use super::mask::{factor, row_key, words};
use super::{UNITS, cubes, empty, matrix};
use crate::layers::AttentionShape;
use crate::layers::mask::Dropout;

/// Units along a side of a block.
const SIDE: usize = 8;

/// Below every score. WGSL has no infinities, and two of these must not leave the numbers when subtracted.
const LEAST: f32 = -1e30;

/// Blocks that may fit, largest first.
const BLOCKS: [usize; 3] = [32, 16, 8];

/// A block's vectors, each a number longer than it is, so that units read from different banks; a unit may look a little beyond the last.
const fn slab(block: usize, size: usize) -> usize {
    block * (size + 1) + SIDE
}

/// Shared memory of a kernel that holds so many slabs and so many blocks of weights.
const fn shared_bytes(block: usize, size: usize, slabs: usize, weights: usize) -> usize {
    4 * (slabs * slab(block, size) + weights * block * (block + 1) + 2 * block * SIDE)
}

/// The blocks of the forward kernel, of the queries' and of the keys' backward kernel that fit the shared memory, for heads of that width.
fn blocks(size: usize, shared: usize) -> Option<[usize; 3]> {
    let fitting = |slabs: usize, weights: usize| BLOCKS.into_iter().find(|&block| shared_bytes(block, size, slabs, weights) <= shared);
    Some([fitting(3, 1)?, fitting(4, 1)?, fitting(4, 2)?])
}

/// Whether heads of that width fit the device.
pub(in crate::layers) fn fits(client: &Client, size: usize) -> bool {
    blocks(size, client.properties().hardware.max_shared_memory_size).is_some()
}

/// Copies `block` vectors from `first` on into a slab, zeros for those from `end` on.
#[cube]
#[allow(clippy::too_many_arguments)]
fn load(
    from: &[f32],
    into: &mut Shared<[f32]>,
    base: usize,
    hidden: usize,
    first: usize,
    end: usize,
    #[comptime] size: usize,
    #[comptime] block: usize,
) {
    let mut place = UNIT_POS as usize;
    while place < comptime!(block * size) {
        let line = place / size;
        let column = place % size;
        let mut value = 0.0f32;
        if first + line < end {
            value = from[base + (first + line) * hidden + column];
        }
        into[line * comptime!(size + 1) + column] = value;
        place += comptime!(SIDE * SIDE);
    }
}

/// Products of a unit's rows of one slab with its columns, rows of another.
#[cube]
fn products(rows: &Shared<[f32]>, columns: &Shared<[f32]>, sums: &mut Array<f32>, #[comptime] size: usize, #[comptime] own: usize) {
    let stride = comptime!(size + 1);
    let across = UNIT_POS as usize % SIDE;
    let down = UNIT_POS as usize / SIDE;
    #[unroll]
    for place in 0..comptime!(own * own) {
        sums[place] = 0.0f32;
    }
    for number in 0..size {
        let mut mine = Array::<f32>::new(own);
        #[unroll]
        for i in 0..own {
            mine[i] = rows[(i * SIDE + down) * stride + number];
        }
        #[unroll]
        for j in 0..own {
            let value = columns[(j * SIDE + across) * stride + number];
            #[unroll]
            for i in 0..own {
                sums[i * own + j] += mine[i] * value;
            }
        }
    }
}

/// Adds to a unit's rows of the result the slab's vectors, each times its weight. Weights lie `[result row, vector]`, or `[vector, result row]` when `across`.
#[cube]
fn mix(
    weights: &Shared<[f32]>,
    vectors: &Shared<[f32]>,
    sums: &mut Array<f32>,
    #[comptime] turned: bool,
    #[comptime] size: usize,
    #[comptime] block: usize,
) {
    let own = comptime!(block / SIDE);
    let numbers = comptime!(size.div_ceil(SIDE));
    let across = UNIT_POS as usize % SIDE;
    let down = UNIT_POS as usize / SIDE;
    for vector in 0..block {
        let mut mine = Array::<f32>::new(own);
        #[unroll]
        for i in 0..own {
            if comptime!(turned) {
                mine[i] = weights[vector * comptime!(block + 1) + i * SIDE + down];
            } else {
                mine[i] = weights[(i * SIDE + down) * comptime!(block + 1) + vector];
            }
        }
        #[unroll]
        for number in 0..numbers {
            let value = vectors[vector * comptime!(size + 1) + number * SIDE + across];
            #[unroll]
            for i in 0..own {
                sums[i * numbers + number] += mine[i] * value;
            }
        }
    }
}

/// Writes a unit's rows of the result, each times its factor.
#[cube]
#[allow(clippy::too_many_arguments)]
fn store(
    sums: &Array<f32>,
    factors: &Array<f32>,
    into: &mut [f32],
    base: usize,
    hidden: usize,
    first: usize,
    end: usize,
    #[comptime] size: usize,
    #[comptime] block: usize,
) {
    let own = comptime!(block / SIDE);
    let numbers = comptime!(size.div_ceil(SIDE));
    let across = UNIT_POS as usize % SIDE;
    let down = UNIT_POS as usize / SIDE;
    #[unroll]
    for i in 0..own {
        let line = first + i * SIDE + down;
        if line < end {
            #[unroll]
            for number in 0..numbers {
                let column = number * SIDE + across;
                if column < size {
                    into[base + line * hidden + column] = sums[i * numbers + number] * factors[i];
                }
            }
        }
    }
}

/// A number out of a buffer, at most `most`: what a kernel loops over must not come unseen from there.
#[cube]
fn bounded(given: i32, most: usize) -> usize {
    let mut number = 0usize;
    if given > 0 {
        number = min(u32::cast_from(given) as usize, most);
    }
    number
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn attention_kernel(
    query: &[f32],
    key: &[f32],
    value: &[f32],
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
) {
    let own = comptime!(block / SIDE);
    let numbers = comptime!(size.div_ceil(SIDE));
    let (tasks, width, heads) = (tasks as usize, width as usize, heads as usize);
    let across = UNIT_POS as usize % SIDE;
    let down = UNIT_POS as usize / SIDE;
    let hidden = heads * size;
    let parts = width.div_ceil(block);
    let task = CUBE_POS / parts;
    let begin = (CUBE_POS % parts) * block;
    // A cube beyond the last task has neither queries nor keys.
    let mut base = 0usize;
    let mut end = 0usize;
    let mut keys = 0usize;
    if task < tasks {
        let row = task / heads;
        let start = bounded(places[row], tokens as usize);
        let next = max(bounded(places[row + 1], tokens as usize), start);
        base = start * hidden + task % heads * size;
        end = min(next - start, width);
        keys = bounded(places[tasks / heads + 1 + row], end);
    }
    // Nor has one behind the end of its sequence anything to do.
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
    load(query, &mut query_slab, base, hidden, begin, end, size, block);

    let steps = keys.div_ceil(block);
    for step in 0..steps {
        let first = step * block;
        load(key, &mut key_slab, base, hidden, first, keys, size, block);
        load(value, &mut value_slab, base, hidden, first, keys, size, block);
        sync_cube();
        products(&query_slab, &key_slab, &mut scores, size, own);
        #[unroll]
        for i in 0..own {
            let mut largest = f32::new(LEAST);
            #[unroll]
            for j in 0..own {
                scores[i * own + j] *= scaling;
                if first + j * SIDE + across < keys {
                    if scores[i * own + j] > largest {
                        largest = scores[i * own + j];
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
                    weight = exponential(scores[i * own + j] - largest);
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
        if across == 0 {
            if line < end {
                logarithms[task * width + line] = logarithm;
            }
        }
    }
    store(&mixed, &shrink, output, base, hidden, begin, end, size, block);
}

/// What the backward kernels read beside vectors, in one buffer: the logarithm of every (row, head, query), the product of its output with the gradient, and of every row its
/// start, its end and its tokens.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn prepare_kernel(
    gradient: &[f32],
    output: &[f32],
    logarithms: &[f32],
    places: &[i32],
    facts: &mut [f32],
    count: u32,
    rows: u32,
    tokens: u32,
    width: u32,
    heads: u32,
    size: u32,
) {
    let (count, rows, tokens) = (count as usize, rows as usize, tokens as usize);
    let (width, heads, size) = (width as usize, heads as usize, size as usize);
    let at = ABSOLUTE_POS;
    if at < count {
        let task = at / width;
        let row = task / heads;
        let token = bounded(places[row], tokens) + at % width;
        if token < bounded(places[row + 1], tokens) {
            let start = (token * heads + task % heads) * size;
            let mut sum = 0.0f32;
            for number in 0..size {
                sum += gradient[start + number] * output[start + number];
            }
            facts[at] = logarithms[at];
            facts[count + at] = sum;
        }
    }
    if at < rows {
        let start = bounded(places[at], tokens);
        let end = min(max(bounded(places[at + 1], tokens), start), start + width);
        facts[2 * count + at] = f32::cast_from(start as u32);
        facts[2 * count + rows + at] = f32::cast_from(end as u32);
        facts[2 * count + 2 * rows + at] = f32::cast_from(bounded(places[rows + 1 + at], end - start) as u32);
    }
}

/// The first row, the rows and the tokens of a sequence, as [`prepare_kernel`] left them.
#[cube]
fn place(facts: &[f32], count: usize, rows: usize, row: usize) -> (usize, usize, usize) {
    let at = 2 * count + row;
    let start = u32::cast_from(facts[at]) as usize;
    let end = u32::cast_from(facts[at + rows]) as usize;
    (start, end - start, u32::cast_from(facts[at + 2 * rows]) as usize)
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn query_kernel(
    query: &[f32],
    key: &[f32],
    value: &[f32],
    gradient: &[f32],
    facts: &[f32],
    to_query: &mut [f32],
    tasks: u32,
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
) {
    let own = comptime!(block / SIDE);
    let numbers = comptime!(size.div_ceil(SIDE));
    let (tasks, width, heads) = (tasks as usize, width as usize, heads as usize);
    let across = UNIT_POS as usize % SIDE;
    let down = UNIT_POS as usize / SIDE;
    let hidden = heads * size;
    let parts = width.div_ceil(block);
    let task = CUBE_POS / parts;
    let begin = (CUBE_POS % parts) * block;
    let count = tasks * width;
    let mut base = 0usize;
    let mut end = 0usize;
    let mut keys = 0usize;
    if task < tasks {
        let (start, extent, tokens) = place(facts, count, tasks / heads, task / heads);
        base = start * hidden + task % heads * size;
        end = extent;
        keys = tokens;
    }
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
            logarithms[i] = facts[task * width + line];
            means[i] = facts[count + task * width + line];
        }
        let (low, high) = row_key((task * width + line) as u32, key_low, key_high);
        lows[i] = low;
        highs[i] = high;
    }
    load(query, &mut query_slab, base, hidden, begin, end, size, block);
    load(gradient, &mut gradient_slab, base, hidden, begin, end, size, block);

    let steps = keys.div_ceil(block);
    for step in 0..steps {
        let first = step * block;
        load(key, &mut key_slab, base, hidden, first, keys, size, block);
        load(value, &mut value_slab, base, hidden, first, keys, size, block);
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
                let mut weight = 0.0f32;
                if begin + line < end {
                    if first + column < keys {
                        weight = exponential(scores[i * own + j] * scaling - logarithms[i]) * (back - means[i]);
                    }
                }
                weights[line * comptime!(block + 1) + column] = weight;
            }
        }
        sync_cube();
        mix(&weights, &key_slab, &mut sums, false, size, block);
        sync_cube();
    }
    #[unroll]
    for i in 0..own {
        means[i] = scaling;
    }
    store(&sums, &means, to_query, base, hidden, begin, end, size, block);
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn key_kernel(
    query: &[f32],
    key: &[f32],
    value: &[f32],
    gradient: &[f32],
    facts: &[f32],
    to_key: &mut [f32],
    to_value: &mut [f32],
    tasks: u32,
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
) {
    let own = comptime!(block / SIDE);
    let numbers = comptime!(size.div_ceil(SIDE));
    let (tasks, width, heads) = (tasks as usize, width as usize, heads as usize);
    let across = UNIT_POS as usize % SIDE;
    let down = UNIT_POS as usize / SIDE;
    let hidden = heads * size;
    let parts = width.div_ceil(block);
    let task = CUBE_POS / parts;
    let begin = (CUBE_POS % parts) * block;
    let count = tasks * width;
    let mut base = 0usize;
    let mut end = 0usize;
    let mut keys = 0usize;
    if task < tasks {
        let (start, extent, tokens) = place(facts, count, tasks / heads, task / heads);
        base = start * hidden + task % heads * size;
        end = extent;
        keys = tokens;
    }
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
    load(key, &mut key_slab, base, hidden, begin, keys, size, block);
    load(value, &mut value_slab, base, hidden, begin, keys, size, block);

    let steps = queries.div_ceil(block);
    for step in 0..steps {
        let first = step * block;
        load(query, &mut query_slab, base, hidden, first, queries, size, block);
        load(gradient, &mut gradient_slab, base, hidden, first, queries, size, block);
        sync_cube();
        products(&query_slab, &key_slab, &mut scores, size, own);
        products(&gradient_slab, &value_slab, &mut backs, size, own);
        #[unroll]
        for i in 0..own {
            let line = first + i * SIDE + down;
            let mut logarithm = 0.0f32;
            let mut mean = 0.0f32;
            if line < queries {
                logarithm = facts[task * width + line];
                mean = facts[count + task * width + line];
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
                        probability = exponential(scores[i * own + j] * scaling - logarithm);
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
    store(&key_sums, &factors, to_key, base, hidden, begin, end, size, block);
    #[unroll]
    for i in 0..own {
        factors[i] = 1.0f32;
    }
    store(&value_sums, &factors, to_value, base, hidden, begin, end, size, block);
}

/// Sizes of a call.
struct Call {
    client: Client,
    tasks: usize,
    tokens: usize,
    width: usize,
    heads: usize,
    size: usize,
    blocks: [usize; 3],
}

impl Call {
    fn of(query: &CubeTensor, shape: &AttentionShape) -> Self {
        let client = query.client.clone();
        let size = matrix(query)[1] / shape.heads;
        let blocks = blocks(size, client.properties().hardware.max_shared_memory_size).expect("asked before: the head fits");
        let sequences = &shape.sequences;
        let (tasks, tokens, width) = (sequences.rows() * shape.heads, sequences.tokens(), sequences.width());
        // Backward kernels read places as floats.
        assert!(tokens <= 1 << 24, "a batch of {tokens} tokens, and attention counts to 2^24: make smaller batches");
        Self { client, tasks, tokens, width, heads: shape.heads, size, blocks }
    }

    fn cubes(&self, block: usize) -> CubeCount {
        cubes(&self.client, self.tasks * self.width.div_ceil(block))
    }

    fn scaling(&self) -> f32 {
        (1.0 / (self.size as f64).sqrt()) as f32
    }
}

/// The mixed values, and the logarithm of every (row, head, query).
pub(super) fn forward(inputs: [CubeTensor; 3], places: CubeTensor, shape: &AttentionShape, dropout: Option<Dropout>) -> [CubeTensor; 2] {
    let [query, key, value] = inputs.map(into_contiguous);
    let call = Call::of(&query, shape);
    let output = empty(&query, matrix(&query));
    let logarithms = empty(&query, [call.tasks * call.width]);
    if call.tasks * call.width > 0 {
        let (threshold, scale, low, high) = words(dropout);
        let block = call.blocks[0];
        // SAFETY: matrices have tokens x hidden numbers, logarithms rows x heads x width, places 2 rows + 1 numbers (checked before the call), of which a kernel takes none that
        // leads beyond the tokens; a slab has room for every line and a little beyond.
        unsafe {
            attention_kernel::launch_unchecked(
                &call.client,
                call.cubes(block),
                CubeDim::new_1d((SIDE * SIDE) as u32),
                query.into_buffer_arg(),
                key.into_buffer_arg(),
                value.into_buffer_arg(),
                into_contiguous(places).into_buffer_arg(),
                output.clone().into_buffer_arg(),
                logarithms.clone().into_buffer_arg(),
                call.tasks as u32,
                call.tokens as u32,
                call.width as u32,
                call.heads as u32,
                call.scaling(),
                threshold,
                scale,
                low,
                high,
                call.size,
                block,
                dropout.is_some(),
            );
        }
    }
    [output, logarithms]
}

/// The gradients of query, key and value.
pub(super) fn backward(
    gradient: CubeTensor,
    inputs: [CubeTensor; 3],
    [output, logarithms]: [CubeTensor; 2],
    places: CubeTensor,
    shape: &AttentionShape,
    dropout: Option<Dropout>,
) -> [CubeTensor; 3] {
    let [query, key, value] = inputs.map(into_contiguous);
    let gradient = into_contiguous(gradient);
    let call = Call::of(&query, shape);
    let results = [(); 3].map(|()| empty(&query, matrix(&query)));
    let count = call.tasks * call.width;
    if count == 0 {
        return results;
    }
    let rows = shape.sequences.rows();
    let facts = empty(&query, [2 * count + 3 * rows]);
    let (threshold, scale, low, high) = words(dropout);
    let [to_query, to_key, to_value] = results.clone();
    let dim = CubeDim::new_1d((SIDE * SIDE) as u32);
    // SAFETY: as in the forward pass; facts are two numbers for every (row, head, query) and three for every row.
    unsafe {
        prepare_kernel::launch_unchecked(
            &call.client,
            cubes(&call.client, count.div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            gradient.clone().into_buffer_arg(),
            output.into_buffer_arg(),
            logarithms.into_buffer_arg(),
            into_contiguous(places).into_buffer_arg(),
            facts.clone().into_buffer_arg(),
            count as u32,
            rows as u32,
            call.tokens as u32,
            call.width as u32,
            call.heads as u32,
            call.size as u32,
        );
        query_kernel::launch_unchecked(
            &call.client,
            call.cubes(call.blocks[1]),
            dim,
            query.clone().into_buffer_arg(),
            key.clone().into_buffer_arg(),
            value.clone().into_buffer_arg(),
            gradient.clone().into_buffer_arg(),
            facts.clone().into_buffer_arg(),
            to_query.into_buffer_arg(),
            call.tasks as u32,
            call.width as u32,
            call.heads as u32,
            call.scaling(),
            threshold,
            scale,
            low,
            high,
            call.size,
            call.blocks[1],
            dropout.is_some(),
        );
        key_kernel::launch_unchecked(
            &call.client,
            call.cubes(call.blocks[2]),
            dim,
            query.into_buffer_arg(),
            key.into_buffer_arg(),
            value.into_buffer_arg(),
            gradient.into_buffer_arg(),
            facts.into_buffer_arg(),
            to_key.into_buffer_arg(),
            to_value.into_buffer_arg(),
            call.tasks as u32,
            call.width as u32,
            call.heads as u32,
            call.scaling(),
            threshold,
            scale,
            low,
            high,
            call.size,
            call.blocks[2],
            dropout.is_some(),
        );
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_heads_fit_what_webgpu_promises_and_large_blocks_what_cards_have() {
        assert_eq!(blocks(64, 48 << 10), Some([32, 32, 32]));
        assert_eq!(blocks(32, 32 << 10), Some([32, 32, 32]));
        assert_eq!(blocks(64, 16 << 10), Some([16, 8, 8]));
        assert_eq!(blocks(128, 32 << 10), Some([16, 8, 8]));
        assert_eq!(blocks(512, 16 << 10), None);
        for size in [1, 31, 32, 64, 96, 128] {
            for shared in [16 << 10, 32 << 10, 48 << 10] {
                for (block, (slabs, weights)) in blocks(size, shared).into_iter().flatten().zip([(3, 1), (4, 1), (4, 2)]) {
                    assert!(shared_bytes(block, size, slabs, weights) <= shared);
                }
            }
        }
    }
}
