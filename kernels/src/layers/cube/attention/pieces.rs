//! What the kernels of attention share: which rows are a cube's, blocks of vectors in shared memory, their products, and sums in registers.

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#![allow(clippy::collapsible_if)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::SIDE;
use crate::layers::Window;

/// Copies `block` vectors from `first` on into a slab, zeros for those from `end` on.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(super) fn load(
    from: &[f32],
    into: &mut Shared<[f32]>,
    base: usize,
    stride: usize,
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
            value = from[base + (first + line) * stride + column];
        }
        into[line * comptime!(size + 1) + column] = value;
        place += comptime!(SIDE * SIDE);
    }
}

/// Products of a unit's rows of one slab with its columns, rows of another.
#[cube]
pub(super) fn products(
    rows: &Shared<[f32]>,
    columns: &Shared<[f32]>,
    sums: &mut Array<f32>,
    #[comptime] size: usize,
    #[comptime] own: usize,
) {
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
pub(super) fn mix(
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
pub(super) fn store(
    sums: &Array<f32>,
    factors: &Array<f32>,
    into: &mut [f32],
    base: usize,
    stride: usize,
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
                    into[base + line * stride + column] = sums[i * numbers + number] * factors[i];
                }
            }
        }
    }
}

/// Where in the biases by distance, `[heads, 2 width - 1]`, a head's for distance 0 is.
#[cube]
pub(super) fn bias_at(head: usize, width: usize) -> usize {
    head * (2 * width - 1) + width - 1
}

/// What is added to the score of a query and a key for the distance between them, 0 for lines behind either end; `at` is [`bias_at()`].
#[cube]
pub(super) fn bias(relative: &[f32], at: usize, query: usize, key: usize, queries: usize, keys: usize) -> f32 {
    let mut added = 0.0f32;
    if query < queries {
        if key < keys {
            added = relative[at + key - query];
        }
    }
    added
}

/// Whether a key is within a query's window, if there is one.
#[cube]
pub(super) fn sees(query: usize, key: usize, #[comptime] window: Option<Window>) -> bool {
    let mut seen = true;
    if comptime!(window.is_some()) {
        let (before, behind) = comptime!(window.map_or((0, 0), |window| (window.before(), window.behind())));
        seen = query <= key + before;
        if key > query + behind {
            seen = false;
        }
    }
    seen
}

/// The first block of `columns` rows of the other side that a block of rows from `begin` on has to meet, within the window of these rows.
#[cube]
pub(super) fn first_step(begin: usize, #[comptime] columns: usize, #[comptime] window: Option<Window>) -> usize {
    let mut first = 0usize;
    if comptime!(window.is_some()) {
        let reach = comptime!(window.map_or(0, Window::before));
        if begin > reach {
            first = (begin - reach) / columns;
        }
    }
    first
}

/// The block behind the last that a block of `rows` rows from `begin` on has to meet, of `count` rows of the other side.
#[cube]
pub(super) fn last_step(
    begin: usize,
    count: usize,
    #[comptime] rows: usize,
    #[comptime] columns: usize,
    #[comptime] window: Option<Window>,
) -> usize {
    let mut last = count;
    if comptime!(window.is_some()) {
        last = min(count, begin + comptime!(rows + window.map_or(0, Window::behind)));
    }
    last.div_ceil(columns)
}

/// A block of rows of one sequence and one head, which a cube works on.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Block {
    /// The (row, head).
    pub(super) task: usize,
    /// The block's first row in its sequence.
    pub(super) begin: usize,
    /// Where the head's first query lies in the joint matrix; key and value lie a part and two behind it.
    pub(super) base: usize,
    /// Where the head's first row lies in a matrix of one part.
    pub(super) single: usize,
    /// Where its first query lies among what is kept of every query and head, `[tokens, heads]`; the next lies `heads` behind it.
    pub(super) kept: usize,
    /// Rows of the sequence; none in a cube beyond the last (row, head).
    pub(super) end: usize,
    /// Its tokens, the keys that are no padding.
    pub(super) keys: usize,
}

/// This cube's block of `rows` rows, from [`crate::layers::Sequences::on_device`].
#[cube]
pub(super) fn given_block(
    places: &[i32],
    tasks: usize,
    tokens: usize,
    width: usize,
    heads: usize,
    #[comptime] rows: usize,
    #[comptime] size: usize,
) -> Block {
    let task = own_task(tasks, width, rows);
    let (start, extent, length) = place(places, tasks / heads, task / heads, tokens, width);
    block(task, start, extent, length, tasks, width, heads, rows, size)
}

/// The same, from what `prepare_kernel` or `survey_kernel` left.
#[cube]
pub(super) fn known_block(
    facts: &[f32],
    tasks: usize,
    width: usize,
    heads: usize,
    count: usize,
    #[comptime] rows: usize,
    #[comptime] size: usize,
) -> Block {
    let task = own_task(tasks, width, rows);
    let at = 2 * count + task / heads;
    let start = u32::cast_from(facts[at]) as usize;
    let extent = u32::cast_from(facts[at + tasks / heads]) as usize;
    let length = u32::cast_from(facts[at + 2 * (tasks / heads)]) as usize;
    block(task, start, extent, length, tasks, width, heads, rows, size)
}

/// The (row, head) of this cube; one beyond the last has that, and no rows of it.
#[cube]
fn own_task(tasks: usize, width: usize, #[comptime] rows: usize) -> usize {
    min(CUBE_POS / width.div_ceil(rows), tasks - 1)
}

#[cube]
#[allow(clippy::too_many_arguments)]
fn block(
    task: usize,
    start: usize,
    extent: usize,
    length: usize,
    tasks: usize,
    width: usize,
    heads: usize,
    #[comptime] rows: usize,
    #[comptime] size: usize,
) -> Block {
    let parts = width.div_ceil(rows);
    let within = u32::cast_from(CUBE_POS / parts < tasks) as usize;
    let single = start * heads * size + task % heads * size;
    Block {
        task,
        begin: (CUBE_POS % parts) * rows,
        base: single + 2 * start * heads * size,
        single,
        kept: start * heads + task % heads,
        end: extent * within,
        keys: length * within,
    }
}

/// The first row, the rows and the tokens of a sequence, from [`crate::layers::Sequences::on_device`]; nothing of it leads beyond `tokens` rows or `width` of a sequence.
#[cube]
pub(super) fn place(places: &[i32], rows: usize, row: usize, tokens: usize, width: usize) -> (usize, usize, usize) {
    let start = bounded(places[row], tokens);
    let end = max(bounded(places[row + 1], tokens), start);
    let extent = min(end - start, width);
    (start, extent, bounded(places[rows + 1 + row], extent))
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
