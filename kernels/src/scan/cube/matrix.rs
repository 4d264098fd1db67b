//! Scores by matrix units (cooperative matrices of SPIR-V): operands of 16 bits, accumulated in 32.
//!
//! A cube goes through the tiles of its split of the rows. Its units load a slab of columns of both sides into shared memory; the next one, the next tile's first behind a
//! tile's last, is on its way into registers while the planes multiply. A plane keeps `own_down` x `own_across` fragments of scores in its registers. Only the
//! device knows which unit holds which number of a fragment, so a finished fragment goes through the plane's own stage in shared memory to the gate. Scores never leave the chip.

#![allow(unsafe_code)]

use burn::tensor::f16;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use burn_cubecl::cubecl::ir::DeviceProperties;
use burn_cubecl::cubecl::prelude::*;

use super::Launch;
use super::survivors::{Form, Gate, Task, TaskLaunch, gate_bytes, tiles};
use crate::fragments::Fragment;

/// Columns of a slab, at least.
const SLAB: usize = 32;

/// Numbers between the end of a line of a slab and the next, so that fragments are read from different banks.
const GAP: usize = 8;

/// Bytes that fragments in shared memory are aligned to; Vulkan asks for as much of what matrix units load and store.
const ALIGNMENT: usize = 16;

/// Scores that are judged at once.
const LANES: usize = 4;

/// How a cube's tile is made of fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fragments {
    /// Queries, rows and columns of a fragment's product.
    pub(crate) one: Fragment,
    /// Planes along the queries and along the rows.
    down: usize,
    across: usize,
    /// Fragments of a plane along the queries and along the rows.
    own_down: usize,
    own_across: usize,
}

impl Fragments {
    /// The best that the device offers, or why it offers none.
    pub(super) fn of(properties: &DeviceProperties) -> Result<Self, String> {
        let (hardware, one) = (&properties.hardware, Fragment::of(properties)?);
        for (down, across) in [(4, 2), (2, 2), (2, 1), (1, 1)] {
            let shape = Self { one, down, across, own_down: 2, own_across: 4 };
            let units = shape.units();
            if units <= hardware.max_units_per_cube as usize
                && units <= hardware.max_cube_dim.0 as usize
                && shape.shared_bytes() <= hardware.max_shared_memory_size
            {
                return Ok(shape);
            }
        }
        Err(format!(
            "{} bytes of shared memory and {} units a workgroup are too few",
            hardware.max_shared_memory_size, hardware.max_units_per_cube
        ))
    }

    pub(super) fn units(&self) -> usize {
        self.down * self.across * self.one.plane
    }

    /// Queries of a cube.
    pub(super) fn queries(&self) -> usize {
        self.down * self.own_down * self.one.m
    }

    /// Rows of a tile.
    pub(super) fn rows(&self) -> usize {
        self.across * self.own_across * self.one.n
    }

    fn slab(&self) -> usize {
        SLAB.next_multiple_of(self.one.k)
    }

    fn shared_bytes(&self) -> usize {
        let lines = self.queries() + self.rows();
        lines * (self.slab() + GAP) * 2 + self.down * self.across * self.one.m * self.one.n * 4 + gate_bytes(self.queries()) + 3 * ALIGNMENT
    }
}

/// Reads this unit's share of a slab, zeros beyond the last column. Lines beyond the last are that one again: nobody is offered their scores.
#[cube]
#[allow(clippy::too_many_arguments, clippy::collapsible_if)]
fn fetch<N: Size>(
    values: &mut Array<Vector<f16, N>>,
    from: &[Vector<f16, N>],
    first: usize,
    end: usize,
    column: usize,
    width: usize,
    #[comptime] slab: usize,
    #[comptime] units: usize,
    #[comptime] lines: usize,
) {
    let lanes = N::value();
    let vectors = comptime!(slab / lanes);
    let count = comptime!((lines * vectors).div_ceil(units));
    #[unroll]
    for load in 0..count {
        let place = load * units + UNIT_POS as usize;
        let line = min(first + place / vectors, end - 1);
        let at = column + place % vectors;
        values[load] = Vector::from_int(0);
        if at < width {
            values[load] = from[line * width + at];
        }
    }
}

/// Puts what [`fetch()`] read into shared memory.
#[cube]
fn put<N: Size>(
    values: &Array<Vector<f16, N>>,
    slab_memory: &mut Shared<[Vector<f16, N>]>,
    #[comptime] slab: usize,
    #[comptime] units: usize,
    #[comptime] lines: usize,
) {
    let lanes = N::value();
    let vectors = comptime!(slab / lanes);
    let stride = comptime!((slab + GAP) / lanes);
    let count = comptime!((lines * vectors).div_ceil(units));
    #[unroll]
    for load in 0..count {
        let place = load * units + UNIT_POS as usize;
        if place < comptime!(lines * vectors) {
            slab_memory[(place / vectors) * stride + place % vectors] = values[load];
        }
    }
}

// Every unit takes part in every barrier: what lies outside the tile counts as 0 and is not offered.
#[cube(launch_unchecked)]
#[allow(clippy::collapsible_if)]
fn scan_kernel<N: Size>(
    queries: &[Vector<f16, N>],
    rows: &[Vector<f16, N>],
    rules: &[i32],
    bounds: &[f32],
    work: &mut [i32],
    counted: &[Atomic<u32>],
    task: Task,
    #[comptime] shape: Fragments,
    #[comptime] form: Form,
) {
    let (m, n, k) = comptime!((shape.one.m, shape.one.n, shape.one.k));
    let slab = comptime!(shape.slab());
    let (own_down, own_across) = comptime!((shape.own_down, shape.own_across));
    let lanes = N::value();
    let stride = comptime!((slab + GAP) / lanes);
    let (end_query, end_row) = (task.end_query as usize, task.end_row as usize);
    let width = task.dimension as usize / lanes;

    let plane = UNIT_POS as usize / shape.one.plane;
    let lane = UNIT_POS as usize % shape.one.plane;
    let first_query = (plane / shape.across) * comptime!(own_down * m);
    let first_row = (plane % shape.across) * comptime!(own_across * n);
    let query_base = task.first_query as usize + CUBE_POS_X as usize * form.queries;
    let mut gate = Gate::open(work, bounds, &task, query_base, form);

    let mut query_slab = Shared::<[Vector<f16, N>]>::new_aligned_slice(form.queries * stride, ALIGNMENT);
    let mut row_slab = Shared::<[Vector<f16, N>]>::new_aligned_slice(form.rows * stride, ALIGNMENT);
    let mut stage = Shared::<[f32]>::new_aligned_slice(comptime!(shape.down * shape.across * m * n), ALIGNMENT);
    let stage_base = plane * comptime!(m * n);

    let mut sums = Sequence::<Matrix<f32>>::new();
    #[unroll]
    for _ in 0..own_down * own_across {
        sums.push(Matrix::<f32>::from_value(MatrixIdent::Accumulator, m, n, k, MatrixLayout::Undefined, 0.0f32));
    }

    let vectors = comptime!(slab / lanes);
    let slabs = width.div_ceil(vectors);
    let (first, end) = tiles(&task, form);
    let first_base = task.first_row as usize + first * form.rows;
    let mut query_values = Array::<Vector<f16, N>>::new(comptime!((form.queries * slab / lanes).div_ceil(form.units)));
    let mut row_values = Array::<Vector<f16, N>>::new(comptime!((form.rows * slab / lanes).div_ceil(form.units)));
    fetch(&mut query_values, queries, query_base, end_query, 0, width, slab, form.units, form.queries);
    fetch(&mut row_values, rows, first_base, end_row, 0, width, slab, form.units, form.rows);
    for tile in first..end {
        let row_base = task.first_row as usize + tile * form.rows;
        #[unroll]
        for place in 0..own_down * own_across {
            cmma::fill(sums.index_mut(place), 0.0f32);
        }
        for slab_index in 0..slabs {
            // The planes are done with the slab before.
            sync_cube();
            put(&query_values, &mut query_slab, slab, form.units, form.queries);
            put(&row_values, &mut row_slab, slab, form.units, form.rows);
            sync_cube();
            let mut next_base = row_base;
            let mut next_slab = slab_index + 1;
            if next_slab == slabs {
                next_base += form.rows;
                next_slab = 0;
            }
            fetch(&mut query_values, queries, query_base, end_query, next_slab * vectors, width, slab, form.units, form.queries);
            fetch(&mut row_values, rows, next_base, end_row, next_slab * vectors, width, slab, form.units, form.rows);
            #[unroll]
            for step in 0..slab / k {
                let column = comptime!(step * k / lanes);
                let mut left = Sequence::<Matrix<f16>>::new();
                #[unroll]
                for i in 0..own_down {
                    let begin = (first_query + i * m) * stride + column;
                    let mut fragment = unsafe { Matrix::<f16>::uninitialized(MatrixIdent::A, m, n, k, MatrixLayout::RowMajor) };
                    cmma::load(&mut fragment, &query_slab[begin..form.queries * stride], comptime!((slab + GAP) as u32));
                    left.push(fragment);
                }
                #[unroll]
                for j in 0..own_across {
                    let begin = (first_row + j * n) * stride + column;
                    // A row of the store is a column of the product's right side.
                    let mut right = unsafe { Matrix::<f16>::uninitialized(MatrixIdent::B, m, n, k, MatrixLayout::ColMajor) };
                    cmma::load(&mut right, &row_slab[begin..form.rows * stride], comptime!((slab + GAP) as u32));
                    #[unroll]
                    for i in 0..own_down {
                        let sum = sums.index(i * own_across + j);
                        cmma::execute(left.index(i), &right, sum, sum);
                    }
                }
            }
        }
        for turn in 0..own_down * own_across {
            // The plane has read its stage.
            sync_plane();
            #[unroll]
            for place in 0..own_down * own_across {
                if turn == place {
                    cmma::store(&mut stage[stage_base..stage_base + m * n], sums.index(place), n as u32, MatrixLayout::RowMajor);
                }
            }
            sync_plane();
            let query = first_query + (turn / own_across) * m;
            let row = row_base + first_row + (turn % own_across) * n;
            let mut place = lane * LANES;
            while place < m * n {
                let local = query + place / n;
                let first = row + place % n;
                if query_base + local < end_query {
                    let mut look = false;
                    #[unroll]
                    for score in 0..LANES {
                        look = gate.looks(local, stage[stage_base + place + score], form) || look;
                    }
                    if look {
                        for score in 0..LANES {
                            if first + score < end_row {
                                let value = stage[stage_base + place + score];
                                gate.offer(work, counted, rules, bounds, &task, query_base, local, first + score, value, form);
                            }
                        }
                    }
                }
                place += comptime!(shape.one.plane * LANES);
            }
        }
        gate.settle(work, bounds, &task, query_base, tile + 1 < end, form);
    }
    gate.close(work, &task, query_base, form);
}

/// Offers the scores of the launch's queries and rows, both of 16 bits.
pub(super) fn launch(client: &Client, launch: &Launch, shape: Fragments, task: TaskLaunch, form: Form, cubes: CubeCount) {
    use burn::backend::TensorMetadata;
    // Lines begin on a vector only where the width is whole vectors.
    let vector = [4, 2, 1].into_iter().find(|vector: &usize| launch.rows.shape()[1].is_multiple_of(*vector)).unwrap_or(1);
    // SAFETY: inputs are read below end_query and end_row, which are within them, and below the width; two words, three bounds and offsets at every query (and the
    // next), excluded ids between offsets that the host made; work and counters as `Launch` says; fragments lie within slabs and stages made of whole fragments.
    unsafe {
        scan_kernel::launch_unchecked(
            client,
            cubes,
            CubeDim::new_1d(form.units as u32),
            vector,
            launch.queries.clone().into_buffer_arg(),
            launch.rows.clone().into_buffer_arg(),
            launch.rules.clone().into_buffer_arg(),
            launch.bounds.clone().into_buffer_arg(),
            launch.work.clone().into_buffer_arg(),
            launch.counted.clone().into_buffer_arg(),
            task,
            shape,
            form,
        );
    }
}
