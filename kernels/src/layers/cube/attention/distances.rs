//! The gradient of a bias by distance (relative positions): the gradients of scores, added up along the diagonals.
//!
//! The kernel by blocks of queries has them in shared memory, some queries and keys at a time, and keeps a sum for each distance that the two can have. From some keys to the next
//! the distances move by as many: those that no later key can have are complete and leave, the others stay, in a ring. So each sum of a cube is written once, and a last kernel
//! adds up those of all cubes, in one order.

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#![allow(clippy::collapsible_if)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use crate::layers::cube::UNITS;
use crate::layers::cube::columns::{SUMMED, add_up, summed};

/// How a cube adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Parts {
    /// Queries of the cube.
    pub(super) rows: usize,
    /// Keys that are met at once.
    pub(super) columns: usize,
    /// From a query's gradients in shared memory to the next one's.
    pub(super) stride: usize,
    /// Units of the cube.
    pub(super) units: usize,
}

impl Parts {
    /// Numbers of the ring: the distances between those queries and keys, and one more.
    pub(super) const fn ring(&self) -> usize {
        self.rows + self.columns
    }

    /// Sums of all cubes, for so many (row, head)s of at most `width` tokens.
    ///
    /// # Panics
    /// When they are more than kernels count, 2^31.
    pub(super) fn all(&self, tasks: usize, width: usize) -> usize {
        let all = tasks * width.div_ceil(self.rows) * (width.next_multiple_of(self.columns) + self.rows);
        assert!(
            all < 1 << 31,
            "{tasks} heads of texts of up to {width} tokens have {all} sums by distance, and kernels count to 2^31: make smaller batches"
        );
        all
    }
}

/// Where the sums of a cube begin: one for each distance from that of the cube's last query to the sequence's first key on.
#[cube]
pub(super) fn sums_at(cube: usize, width: usize, #[comptime] parts: Parts) -> usize {
    cube * (width.div_ceil(parts.columns) * parts.columns + parts.rows)
}

/// Empties the ring. A barrier follows.
#[cube]
pub(super) fn clear(open: &mut Shared<[f32]>, #[comptime] parts: Parts) {
    let mut slot = UNIT_POS as usize;
    while slot < comptime!(parts.ring()) {
        open[slot] = 0.0f32;
        slot += parts.units;
    }
}

/// Adds the gradients of scores with the keys from `first` on, and writes what is complete. Called by all units, between barriers.
#[cube]
pub(super) fn add_block<E: Float>(
    gradients: &Shared<[E]>,
    open: &mut Shared<[f32]>,
    into: &mut [f32],
    at: usize,
    first: usize,
    #[comptime] parts: Parts,
) {
    let mut slot = UNIT_POS as usize;
    while slot < comptime!(parts.ring()) {
        // The diagonal of this distance: slot 0 is the last query's to the first key.
        let last = comptime!(parts.rows - 1);
        let mut line = 0usize;
        let mut column = 0usize;
        if slot < last {
            line = last - slot;
        } else {
            column = slot - last;
        }
        let place = (first + slot) % comptime!(parts.ring());
        let mut sum = open[place];
        for step in 0..min(parts.rows - line, parts.columns - column) {
            sum += f32::cast_from(gradients[(line + step) * parts.stride + column + step]);
        }
        if slot < parts.columns {
            into[at + first + slot] = sum;
            sum = 0.0f32;
        }
        open[place] = sum;
        slot += parts.units;
    }
}

/// Writes what is left after all keys, whose number rounded up to whole blocks is `end`. Called by all units, behind a barrier.
#[cube]
pub(super) fn leave(open: &Shared<[f32]>, into: &mut [f32], at: usize, end: usize, #[comptime] parts: Parts) {
    let mut slot = UNIT_POS as usize;
    while slot < parts.rows {
        into[at + end + slot] = open[(end + slot) % comptime!(parts.ring())];
        slot += parts.units;
    }
}

/// The gradient of the bias, `[heads, 2 width - 1]`, from what the cubes wrote and `prepare_kernel` or `survey_kernel` left; when `scaled`, sums are times the two powers of two of each
/// (row, head). A cube has [`SUMMED`] distances.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn distance_kernel(
    sums: &[f32],
    facts: &[f32],
    into: &mut [f32],
    tasks: u32,
    width: u32,
    heads: u32,
    count: u32,
    #[comptime] scaled: bool,
    #[comptime] parts: Parts,
) {
    let (tasks, width, heads) = (tasks as usize, width as usize, heads as usize);
    let (rows, blocks, distances) = (tasks / heads, width.div_ceil(parts.rows), 2 * width - 1);
    let number = summed();
    let (head, distance) = (number / distances, number % distances);
    let mut sum = 0.0f32;
    if head < heads {
        let mut row = UNIT_POS as usize / SUMMED;
        while row < rows {
            let extent = u32::cast_from(facts[2 * count as usize + rows + row]) as usize;
            let length = u32::cast_from(facts[2 * count as usize + 2 * rows + row]) as usize;
            let task = row * heads + head;
            let mut of_row = 0.0f32;
            for block in 0..extent.div_ceil(parts.rows) {
                // Slot 0 is the distance from the block's last query to the first key, and `width - 1` of all is distance 0.
                let slot = distance + (block + 1) * parts.rows;
                if slot >= width {
                    if slot - width < length.div_ceil(parts.columns) * parts.columns + parts.rows {
                        of_row += sums[sums_at(task * blocks + block, width, parts) + slot - width];
                    }
                }
            }
            if comptime!(scaled) {
                let at = 2 * count as usize + 3 * rows + 4 * task;
                // One after the other: their product may leave what 32 bits hold.
                of_row = of_row * facts[at + 1] * facts[at + 3];
            }
            sum += of_row;
            row += comptime!(UNITS / SUMMED);
        }
    }
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let total = add_up(sum, &mut shared);
    if UNIT_POS as usize / SUMMED == 0 {
        if head < heads {
            into[number] = total;
        }
    }
}
