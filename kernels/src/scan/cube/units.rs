//! Scores by plain arithmetic units, float32 throughout; rows and queries may be stored as 16-bit floats.
//!
//! A cube goes through the tiles of its split of the rows: all its units load a slab of columns of both sides into shared memory, then each unit adds up a square of
//! [`OWN`] x [`OWN`] products in registers, and offers them to the gate from there. Units next to each other read rows next to each other.

#![allow(unsafe_code)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::*;

use super::Launch;
use super::survivors::{Form, Gate, Task, TaskLaunch, gate_bytes, tiles};

/// Queries, and rows, of a unit.
const OWN: usize = 4;

/// Columns of a slab.
const SLAB: usize = 16;

/// Queries, and rows, of a cube's tile.
pub(super) const fn block(side: usize) -> usize {
    side * OWN
}

/// Shared memory of a cube: a slab of queries and one of rows, each column a number longer than the block so that units write to different banks; the gate.
pub(super) const fn shared_bytes(side: usize) -> usize {
    2 * SLAB * (block(side) + 1) * 4 + gate_bytes(block(side))
}

// Every unit takes part in every barrier: what lies outside the tile counts as 0 and is not offered.
#[cube(launch_unchecked)]
#[allow(clippy::collapsible_if)]
fn scan_kernel<Q: Float, F: Float>(
    queries: &[Q],
    rows: &[F],
    rules: &[i32],
    bounds: &[f32],
    work: &mut [i32],
    counted: &[Atomic<u32>],
    task: Task,
    #[comptime] side: usize,
    #[comptime] form: Form,
    #[define(Q)] _query_format: ElemType,
    #[define(F)] _row_format: ElemType,
) {
    let stride = comptime!(side * OWN + 1);
    let units = comptime!(side * side);
    let loads = comptime!(SLAB * OWN / side);
    let (end_query, end_row, dimension) = (task.end_query as usize, task.end_row as usize, task.dimension as usize);

    let unit = UNIT_POS as usize;
    let across = unit % side;
    let down = unit / side;
    let query_base = task.first_query as usize + CUBE_POS_X as usize * form.queries;
    let mut gate = Gate::open(work, bounds, &task, query_base, form);

    let mut query_slab = Shared::<[f32]>::new_slice(SLAB * stride);
    let mut row_slab = Shared::<[f32]>::new_slice(SLAB * stride);
    // A width of 0 takes a slab too: the barriers in it keep one tile's offers from the next's.
    let slabs = max(dimension, 1).div_ceil(SLAB);
    let (first, end) = tiles(&task, form);
    for tile in first..end {
        let row_base = task.first_row as usize + tile * form.rows;
        let mut sums = Array::<f32>::new(OWN * OWN);
        #[unroll]
        for place in 0..OWN * OWN {
            sums[place] = 0.0f32;
        }
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
                        value = f32::cast_from(queries[(query_base + line) * dimension + column]);
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
        // A copy: numbers that a loop picks by its counter cannot stay in registers, and the sums must.
        let mut scores = Array::<f32>::new(OWN * OWN);
        #[unroll]
        for place in 0..OWN * OWN {
            scores[place] = sums[place];
        }
        for place in 0..OWN * OWN {
            let local = (place / OWN) * side + down;
            let row = row_base + (place % OWN) * side + across;
            if query_base + local < end_query {
                if row < end_row {
                    gate.offer(work, counted, rules, bounds, &task, query_base, local, row, scores[place], form);
                }
            }
        }
        gate.settle(work, bounds, &task, query_base, tile + 1 < end, form);
    }
    gate.close(work, &task, query_base, form);
}

/// Offers the scores of the launch's queries and rows.
pub(super) fn launch(client: &Client, launch: &Launch, side: usize, task: TaskLaunch, form: Form, cubes: CubeCount) {
    // SAFETY: inputs are read below end_query and end_row, which are within them, and below dimension; two words, three bounds and offsets at every query (and the
    // next), excluded ids between offsets that the host made; work and counters as `Launch` says; slabs have SLAB x stride numbers, and every line is below block.
    unsafe {
        scan_kernel::launch_unchecked(
            client,
            cubes,
            CubeDim::new_1d(form.units as u32),
            launch.queries.clone().into_buffer_arg(),
            launch.rows.clone().into_buffer_arg(),
            launch.rules.clone().into_buffer_arg(),
            launch.bounds.clone().into_buffer_arg(),
            launch.work.clone().into_buffer_arg(),
            launch.counted.clone().into_buffer_arg(),
            task,
            side,
            form,
            burn::backend::cubecl::dtype_to_elem_type(launch.queries.dtype),
            burn::backend::cubecl::dtype_to_elem_type(launch.rows.dtype),
        );
    }
}
