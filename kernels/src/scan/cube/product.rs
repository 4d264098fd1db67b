//! Fills a tile with inner products of queries and rows: `tile[i, j] = queries[i] . rows[j]`, float32 throughout; rows may be stored as 16-bit floats.
//!
//! A cube computes a square block: all its units load a slab of columns of both sides into shared memory, then each unit adds up a square of
//! [`OWN`] x [`OWN`] products. Units next to each other read rows next to each other, and write scores next to each other.

#![allow(unsafe_code)]

use std::ops::Range;

use burn::backend::TensorMetadata;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

/// Queries, and rows, of a unit.
const OWN: usize = 4;

/// Columns of a slab.
const SLAB: usize = 16;

/// Side of a cube's block of the tile.
pub(super) const fn block(side: usize) -> usize {
    side * OWN
}

/// Shared memory of a cube: a slab of queries and one of rows, each column a number longer than the block so that units write to different banks.
pub(super) const fn shared_bytes(side: usize) -> usize {
    2 * SLAB * (block(side) + 1) * 4
}

// Every unit takes part in every barrier: what lies outside the tile counts as 0 and is not written.
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments, clippy::collapsible_if)]
fn product_kernel<F: Float>(
    queries: &[f32],
    rows: &[F],
    tile: &mut [f32],
    first_query: u32,
    end_query: u32,
    first_row: u32,
    end_row: u32,
    dimension: u32,
    cell: u32,
    canary: f32,
    #[comptime] side: usize,
    #[define(F)] _format: ElemType,
) {
    let block = comptime!(side * OWN);
    let stride = comptime!(side * OWN + 1);
    let units = comptime!(side * side);
    let loads = comptime!(SLAB * OWN / side);
    let (end_query, end_row, dimension) = (end_query as usize, end_row as usize, dimension as usize);

    let unit = UNIT_POS as usize;
    let across = unit % side;
    let down = unit / side;
    let query_base = first_query as usize + CUBE_POS_Y as usize * block;
    let row_base = first_row as usize + CUBE_POS_X as usize * block;

    let mut query_slab = Shared::<[f32]>::new_slice(SLAB * stride);
    let mut row_slab = Shared::<[f32]>::new_slice(SLAB * stride);
    let mut sums = Array::<f32>::new(OWN * OWN);
    #[unroll]
    for place in 0..OWN * OWN {
        sums[place] = 0.0f32;
    }

    let slabs = dimension.div_ceil(SLAB);
    for slab in 0..slabs {
        #[unroll]
        for load in 0..loads {
            let place = load * units + unit;
            let column = slab * SLAB + place % SLAB;
            let line = place / SLAB;
            let target = (place % SLAB) * stride + line;
            let mut value = 0.0f32;
            if column < dimension {
                if query_base + line < end_query {
                    value = queries[(query_base + line) * dimension + column];
                }
            }
            query_slab[target] = value;
            let mut value = 0.0f32;
            if column < dimension {
                if row_base + line < end_row {
                    value = f32::cast_from(rows[(row_base + line) * dimension + column]);
                }
            }
            row_slab[target] = value;
        }
        sync_cube();
        for column in 0..SLAB {
            let base = column * stride;
            let mut own = Array::<f32>::new(OWN);
            #[unroll]
            for i in 0..OWN {
                own[i] = query_slab[base + i * side + down];
            }
            #[unroll]
            for j in 0..OWN {
                let value = row_slab[base + j * side + across];
                #[unroll]
                for i in 0..OWN {
                    sums[i * OWN + j] += own[i] * value;
                }
            }
        }
        sync_cube();
    }

    let width = end_row - first_row as usize;
    #[unroll]
    for i in 0..OWN {
        #[unroll]
        for j in 0..OWN {
            let query = query_base + i * side + down;
            let row = row_base + j * side + across;
            if query < end_query {
                if row < end_row {
                    tile[(query - first_query as usize) * width + (row - first_row as usize)] = sums[i * OWN + j];
                }
            }
        }
    }
    if CUBE_POS == 0 {
        if unit == 0 {
            tile[cell as usize] = canary;
        }
    }
}

/// The inputs and the scratch buffer.
pub(super) struct Product {
    pub(super) side: usize,
    /// `[queries, dimension]`, contiguous as are the rows.
    pub(super) queries: CubeTensor,
    pub(super) rows: CubeTensor,
    /// Room for a tile, and one number more at `cell` for the canary: it shows that this kernel ran.
    pub(super) tile: CubeTensor,
    pub(super) cell: usize,
}

impl Product {
    /// Fills the tile of some queries and some rows, row-major, without gaps.
    pub(super) fn launch(&self, client: &Client, queries: Range<usize>, rows: Range<usize>, canary: f32) {
        let block = block(self.side);
        let cubes = CubeCount::Static(rows.len().div_ceil(block) as u32, queries.len().div_ceil(block) as u32, 1);
        // SAFETY: inputs are read below end_query and end_row, which are within them, and below dimension; scores are written below queries.len() x
        // rows.len(), which is at most `cell`, and the canary at `cell`, the last number; slabs have SLAB x stride numbers, and every line is below block.
        unsafe {
            product_kernel::launch_unchecked(
                client,
                cubes,
                CubeDim::new_1d((self.side * self.side) as u32),
                self.queries.clone().into_buffer_arg(),
                self.rows.clone().into_buffer_arg(),
                self.tile.clone().into_buffer_arg(),
                queries.start as u32,
                queries.end as u32,
                rows.start as u32,
                rows.end as u32,
                self.rows.shape()[1] as u32,
                self.cell as u32,
                canary,
                self.side,
                burn::backend::cubecl::dtype_to_elem_type(self.rows.dtype),
            );
        }
    }
}
