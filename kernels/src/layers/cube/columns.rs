//! Sums over the rows of a matrix, column by column: cubes add up parts of the rows, a second kernel the parts. All in one order, so the sums are the same every time.
//!
//! Units beside each other have columns beside each other, and the lines of a cube rows below each other.

#![allow(clippy::collapsible_if)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::{UNITS, vector_width};

/// Units beside each other in a cube that adds up columns, each with a vector of them.
pub(super) const LANES: usize = 32;

/// Rows that such a cube reads at once.
pub(super) const DOWN: usize = UNITS / LANES;

/// Columns of a cube that adds up parts: whole sectors of memory, and many units for each column.
pub(super) const SUMMED: usize = 8;

/// Parts that rows are divided into, at most: enough for every core of a card.
const PARTS: usize = 256;

/// How rows are divided among cubes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Division {
    /// Rows of a part.
    pub(super) height: usize,
    /// Parts, cubes down.
    pub(super) parts: usize,
    /// Cubes across.
    pub(super) across: usize,
}

impl Division {
    pub(super) fn of(rows: usize, width: usize) -> Self {
        let height = rows.div_ceil(PARTS).max(DOWN);
        Self { height, parts: rows.div_ceil(height), across: (width / vector_width(width)).div_ceil(LANES) }
    }

    pub(super) fn cubes(&self) -> CubeCount {
        CubeCount::Static(self.across as u32, self.parts as u32, 1)
    }
}

/// Adds up what the units of a cube found in the same columns, and writes it from `at` on when `within`. Called by all of them, outside of branches.
#[cube]
pub(super) fn gather<N: Size>(sum: Vector<f32, N>, sums: &mut Shared<[Vector<f32, N>]>, into: &mut [f32], at: usize, within: bool) {
    let unit = UNIT_POS as usize;
    sums[unit] = sum;
    sync_cube();
    if unit < LANES {
        if within {
            let mut sum = sums[unit];
            for other in 1..DOWN {
                sum += sums[other * LANES + unit];
            }
            #[unroll]
            for lane in 0..N::value() {
                into[at + lane] = sum.extract(lane);
            }
        }
    }
}

/// Adds up `width` columns of `count` rows that lie `stride` apart behind `first` others: [`SUMMED`] of them a cube, as few for each of its units to read as can be. Each unit gets the sum
/// of column [`summed()`], 0 beyond the last. Called by all units, outside of branches.
#[cube]
pub(super) fn total(parts: &[f32], sums: &mut Shared<[f32]>, first: usize, stride: usize, count: usize, width: usize) -> f32 {
    let unit = UNIT_POS as usize;
    let column = summed();
    let mut sum = 0.0f32;
    if column < width {
        let mut part = unit / SUMMED;
        while part < count {
            sum += parts[first + part * stride + column];
            part += comptime!(UNITS / SUMMED);
        }
    }
    add_up(sum, sums)
}

/// Adds up what the [`UNITS`] `/` [`SUMMED`] units of a column found, in their order: each unit gets the sum of column [`summed()`]. Called by all units, outside of branches.
#[cube]
pub(super) fn add_up(sum: f32, sums: &mut Shared<[f32]>) -> f32 {
    let unit = UNIT_POS as usize;
    sync_cube();
    sums[unit] = sum;
    sync_cube();
    let mut total = 0.0f32;
    for other in 0..comptime!(UNITS / SUMMED) {
        total += sums[other * SUMMED + unit % SUMMED];
    }
    total
}

/// The column whose sum this unit gets from [`total()`] and [`add_up()`].
#[cube]
pub(super) fn summed() -> usize {
    CUBE_POS * SUMMED + UNIT_POS as usize % SUMMED
}

/// Cubes that add up parts of so many columns.
pub(super) fn totals(width: usize) -> CubeCount {
    CubeCount::Static(width.div_ceil(SUMMED) as u32, 1, 1)
}

/// The largest number of a cube's units, for all of them, none below 0. Called by all of them, outside of branches.
#[cube]
pub(super) fn largest(own: f32, numbers: &mut Shared<[f32]>) -> f32 {
    let unit = UNIT_POS as usize;
    sync_cube();
    numbers[unit] = own;
    sync_cube();
    // Sixteen of sixteen, then one: short chains.
    let mut largest = own;
    if unit < 16 {
        for other in 0..comptime!(UNITS / 16) {
            if numbers[other * 16 + unit] > largest {
                largest = numbers[other * 16 + unit];
            }
        }
    }
    sync_cube();
    numbers[unit] = largest;
    sync_cube();
    let mut largest = 0.0f32;
    for other in 0..16 {
        if numbers[other] > largest {
            largest = numbers[other];
        }
    }
    largest
}
