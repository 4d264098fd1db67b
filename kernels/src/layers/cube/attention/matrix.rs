//! Attention by matrix units: operands rounded to 16-bit floats, products added up in 32 bits, softmax in 32 bits.
//!
//! A plane has as many queries (or keys) as a fragment has rows, a cube a few planes that share the slabs of the other side. Only the device knows which unit holds which
//! number of a fragment, so scores go through a stage of the plane's own in shared memory, a fragment at a time, and come back as 16-bit weights of the next product. Sums stay
//! in fragments: the forward kernel goes through the keys twice, first for the largest score of each query, so that nothing is ever rescaled.
//!
//! What is rounded: query, key, value, the kept probabilities, the output, its gradient and that of the scores, the last two times a power of two of each sequence and head
//! that `survey_kernel` finds, so that nothing finite becomes infinite and what loses digits is far below the largest.

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#![allow(clippy::collapsible_if)]

mod backward;
mod forward;

use burn::tensor::f16;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use burn_cubecl::cubecl::prelude::*;

use super::distances::Parts;
use crate::fragments::Fragment;
use crate::layers::cube::mixed::held;

pub(super) use backward::{key_kernel, query_kernel, survey_kernel};
pub(super) use forward::attention_kernel;

/// Rows of the other side in a slab, at least.
const COLUMNS: usize = 32;

/// Numbers between the end of a line and the next, so that fragments are read from different banks.
const GAP: usize = 8;

/// Bytes that fragments in shared memory are aligned to; Vulkan asks for as much of what matrix units load and store.
const ALIGNMENT: usize = 16;

/// The widest head.
const LARGEST: usize = 128;

/// Numbers between the end of a line of a stage and the next.
const STAGE_GAP: usize = 4;

/// Units of a cube that surveys a sequence and head.
pub(super) const SURVEYORS: usize = 64;

/// How a cube's block is made of fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tile {
    pub(super) one: Fragment,
    /// Planes, each with its own rows.
    pub(super) planes: usize,
}

impl Tile {
    /// That of the device for heads of a width and sequences of at most so many tokens; none where it has no matrix units or too little shared memory.
    pub(super) fn of(client: &Client, size: usize, tokens: usize) -> Option<Self> {
        let properties = client.properties();
        let (hardware, one) = (&properties.hardware, Fragment::of(properties).ok()?);
        // Units divide a fragment's numbers among them, and a plane keeps all fragments of a head in its registers.
        if one.m * one.n < one.plane || size > LARGEST {
            return None;
        }
        let fits = |tile: &Self| {
            tile.units() <= (hardware.max_units_per_cube as usize).min(hardware.max_cube_dim.0 as usize)
                && tile.shared_bytes(size) <= hardware.max_shared_memory_size
        };
        // Planes without rows would do nothing.
        [4, 2, 1].map(|planes| Self { one, planes }).into_iter().filter(fits).find(|tile| tile.planes == 1 || tile.rows() < 2 * tokens)
    }

    pub(super) const fn units(&self) -> usize {
        self.planes * self.one.plane
    }

    /// A plane in each row of units.
    pub(super) fn dim(&self) -> CubeDim {
        CubeDim::new_2d(self.one.plane as u32, self.planes as u32)
    }

    /// Rows of a cube.
    pub(super) const fn rows(&self) -> usize {
        self.planes * self.one.m
    }

    /// Rows of the other side that are met at once. All sides of fragments are powers of two.
    const fn columns(&self) -> usize {
        larger(COLUMNS, larger(self.one.n, self.one.k))
    }

    /// Width of a head with zeros up to whole fragments.
    const fn wide(&self, size: usize) -> usize {
        size.next_multiple_of(larger(self.one.n, self.one.k))
    }

    /// From a line of a slab to the next.
    const fn stride(&self, size: usize) -> usize {
        self.wide(size) + GAP
    }

    /// Numbers of the slab: first the cube's rows, one operand after the other, then two operands of the other side.
    const fn slab(&self, size: usize) -> usize {
        larger(self.rows(), 2 * self.columns()) * self.stride(size)
    }

    /// From a plane's row of weights to the next.
    const fn weight_stride(&self) -> usize {
        self.columns() + GAP
    }

    /// Numbers of all planes' weights.
    const fn weights(&self) -> usize {
        self.rows() * self.weight_stride()
    }

    /// How the gradients of a cube's scores are added up by distance.
    pub(super) const fn parts(&self) -> Parts {
        Parts { rows: self.rows(), columns: self.columns(), stride: self.weight_stride(), units: self.units() }
    }

    /// From a line of a plane's stage to the next.
    const fn stage_stride(&self) -> usize {
        self.one.n + STAGE_GAP
    }

    /// Numbers of a plane's stage.
    const fn stage(&self) -> usize {
        self.one.m * self.stage_stride()
    }

    /// Numbers of all planes' stages.
    const fn stages(&self) -> usize {
        self.planes * self.stage()
    }

    /// Units that share a row of a fragment.
    const fn share(&self) -> usize {
        larger(self.one.plane / self.one.m, 1)
    }

    /// Rows of a fragment that a unit has a share of.
    const fn own(&self) -> usize {
        larger(self.one.m / self.one.plane, 1)
    }

    /// Of the kernel that takes most: two stages, two kinds of weights, four facts of each row and column.
    const fn shared_bytes(&self, size: usize) -> usize {
        2 * self.slab(size) + 8 * self.stages() + 4 * self.weights() + 16 * (self.rows() + self.columns()) + 8 * ALIGNMENT
    }
}

const fn larger(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// Copies `count` lines of a head from `first` on into the slab from line `at` on, when `scaled` times `by` and rounded; zeros for lines from `end` on. `base` and `stride` count numbers, of which a vector
/// has a few.
#[cube]
#[allow(clippy::too_many_arguments)]
fn fill<E: Float, N: Size>(
    from: &[Vector<E, N>],
    slab: &mut Shared<[f16]>,
    at: usize,
    base: usize,
    stride: usize,
    first: usize,
    end: usize,
    by: f32,
    #[comptime] scaled: bool,
    #[comptime] count: usize,
    #[comptime] size: usize,
    #[comptime] tile: Tile,
) {
    let own = comptime!(tile.stride(size));
    let lanes = N::value();
    let vectors = comptime!(tile.wide(size) / lanes);
    let loads = comptime!((count * vectors).div_ceil(tile.units()));
    for load in 0..loads {
        let place = load * comptime!(tile.units()) + UNIT_POS as usize;
        let line = place / vectors;
        let column = place % vectors * lanes;
        let mut values = Vector::<E, N>::from_int(0);
        if first + line < end {
            if column < size {
                values = from[(base + (first + line) * stride + column) / lanes];
            }
        }
        if line < count {
            #[unroll]
            for lane in 0..lanes {
                let value = values.extract(lane);
                if comptime!(scaled) {
                    slab[(at + line) * own + column + lane] = f16::cast_from(held(f32::cast_from(value) * by));
                } else {
                    slab[(at + line) * own + column + lane] = f16::cast_from(value);
                }
            }
        }
    }
}

/// A plane's rows of the slab as left sides of products.
#[cube]
fn left(slab: &Shared<[f16]>, first: usize, into: &mut Sequence<Matrix<f16>>, #[comptime] size: usize, #[comptime] tile: Tile) {
    let (m, n, k) = comptime!((tile.one.m, tile.one.n, tile.one.k));
    let stride = comptime!(tile.stride(size));
    #[unroll]
    for step in 0..comptime!(tile.wide(size) / k) {
        let begin = first * stride + step * k;
        let mut fragment = unsafe { Matrix::<f16>::uninitialized(MatrixIdent::A, m, n, k, MatrixLayout::RowMajor) };
        cmma::load(&mut fragment, &slab[begin..comptime!(tile.slab(size))], comptime!(stride as u32));
        into.push(fragment);
    }
}

/// Products of a plane's rows with the `n` lines of the slab from `first` on, into its stage.
#[cube]
#[allow(clippy::too_many_arguments)]
fn product(
    left: &Sequence<Matrix<f16>>,
    slab: &Shared<[f16]>,
    first: usize,
    stage: &mut Shared<[f32]>,
    stage_at: usize,
    #[comptime] size: usize,
    #[comptime] tile: Tile,
) {
    let (m, n, k) = comptime!((tile.one.m, tile.one.n, tile.one.k));
    let stride = comptime!(tile.stride(size));
    let sum = Matrix::<f32>::from_value(MatrixIdent::Accumulator, m, n, k, MatrixLayout::Undefined, 0.0f32);
    #[unroll]
    for step in 0..comptime!(tile.wide(size) / k) {
        let begin = first * stride + step * k;
        // A line of the slab is a column of the product's right side.
        let mut right = unsafe { Matrix::<f16>::uninitialized(MatrixIdent::B, m, n, k, MatrixLayout::ColMajor) };
        cmma::load(&mut right, &slab[begin..comptime!(tile.slab(size))], comptime!(stride as u32));
        cmma::execute(left.index(step), &right, &sum, &sum);
    }
    cmma::store(&mut stage[stage_at..comptime!(tile.stages())], &sum, comptime!(tile.stage_stride() as u32), MatrixLayout::RowMajor);
}

/// Fragments of zeros for a plane's rows of the result.
#[cube]
fn zeros(sums: &mut Sequence<Matrix<f32>>, #[comptime] size: usize, #[comptime] tile: Tile) {
    let (m, n, k) = comptime!((tile.one.m, tile.one.n, tile.one.k));
    #[unroll]
    for _ in 0..comptime!(tile.wide(size) / n) {
        sums.push(Matrix::<f32>::from_value(MatrixIdent::Accumulator, m, n, k, MatrixLayout::Undefined, 0.0f32));
    }
}

/// Adds to a plane's rows of the result the lines of the slab from `first` on, each times its weight.
#[cube]
fn mix(
    weights: &Shared<[f16]>,
    weights_at: usize,
    slab: &Shared<[f16]>,
    first: usize,
    sums: &Sequence<Matrix<f32>>,
    #[comptime] size: usize,
    #[comptime] tile: Tile,
) {
    let (m, n, k) = comptime!((tile.one.m, tile.one.n, tile.one.k));
    let stride = comptime!(tile.stride(size));
    #[unroll]
    for step in 0..comptime!(tile.columns() / k) {
        let begin = weights_at + step * k;
        let mut weight = unsafe { Matrix::<f16>::uninitialized(MatrixIdent::A, m, n, k, MatrixLayout::RowMajor) };
        cmma::load(&mut weight, &weights[begin..comptime!(tile.weights())], comptime!(tile.weight_stride() as u32));
        #[unroll]
        for part in 0..comptime!(tile.wide(size) / n) {
            let begin = (first + step * k) * stride + part * n;
            let mut line = unsafe { Matrix::<f16>::uninitialized(MatrixIdent::B, m, n, k, MatrixLayout::RowMajor) };
            cmma::load(&mut line, &slab[begin..comptime!(tile.slab(size))], comptime!(stride as u32));
            let sum = sums.index(part);
            cmma::execute(&weight, &line, sum, sum);
        }
    }
}

/// Writes a plane's rows of the result through its stage, each times `factors` of its row of the cube and `by`.
#[cube]
#[allow(clippy::too_many_arguments)]
fn write<N: Float>(
    sums: &Sequence<Matrix<f32>>,
    stage: &mut Shared<[f32]>,
    factors: &Shared<[f32]>,
    by: f32,
    into: &mut [N],
    base: usize,
    stride: usize,
    begin: usize,
    end: usize,
    #[comptime] half: bool,
    #[comptime] size: usize,
    #[comptime] tile: Tile,
) {
    let (m, n) = comptime!((tile.one.m, tile.one.n));
    let plane = UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;
    let stage_at = plane * comptime!(tile.stage());
    #[unroll]
    for part in 0..comptime!(tile.wide(size) / n) {
        sync_plane();
        cmma::store(
            &mut stage[stage_at..comptime!(tile.stages())],
            sums.index(part),
            comptime!(tile.stage_stride() as u32),
            MatrixLayout::RowMajor,
        );
        sync_plane();
        for turn in 0..comptime!((m * n).div_ceil(tile.one.plane)) {
            let place = turn * tile.one.plane + lane;
            let line = plane * m + place / n;
            let column = part * n + place % n;
            if begin + line < end {
                if column < size {
                    let value = stage[stage_at + place / n * comptime!(tile.stage_stride()) + place % n] * factors[line] * by;
                    if comptime!(half) {
                        into[base + (begin + line) * stride + column] = N::cast_from(held(value));
                    } else {
                        into[base + (begin + line) * stride + column] = N::cast_from(value);
                    }
                }
            }
        }
    }
}
