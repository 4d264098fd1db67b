//! The GPU path: scores are computed, judged and dropped on the chip; only rows that may belong among a query's best leave it.
//!
//! A launch takes some queries and a range of rows. Its cubes are blocks of queries x splits of the rows; each goes through its tiles with a threshold per query, and leaves
//! survivors (`survivors.rs`). `merge` then puts these into the running lists, and the next launch begins with better thresholds. Ranges grow, so that a launch expects
//! few survivors. Scores are computed by matrix units (`matrix.rs`) or by plain arithmetic (`units.rs`). This file decides on shapes from the device's limits and launches.

#![allow(unsafe_code)]

mod matrix;
mod merge;
mod random;
mod survivors;
mod units;

use std::sync::atomic::{AtomicU32, Ordering};

use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::features::TypeUsage;
use burn_cubecl::cubecl::prelude::CubeCount;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};

use self::matrix::Fragments;
use self::survivors::{Form, TaskLaunch};
use super::{Plan, Scan};
use crate::key::Key;
use crate::search::SearchError;

/// Splits of a launch's rows, at most: the merge keeps a number for each in shared memory.
const SPLITS: usize = 256;

/// Cubes of a launch, enough for any GPU to be busy.
const CUBES: usize = 1024;

/// Tiles that a cube goes through in a launch, at most: where rows come in the worst order every tile is sorted, and systems take a GPU away that answers too late.
const TILES: usize = 256;

/// What the device allows.
struct Limits {
    /// Units along a side of a cube that computes by plain arithmetic.
    side: usize,
    /// Units of a merging cube.
    units: usize,
    shared_bytes: usize,
    /// Cubes along a dimension of a launch.
    cubes: usize,
    /// Numbers of the survivors' buffer that one binding holds.
    binding: usize,
}

impl Limits {
    fn of(client: &burn_cubecl::cubecl::client::Client) -> Self {
        let properties = client.properties();
        let hardware = &properties.hardware;
        let cube = (hardware.max_units_per_cube as usize).min(hardware.max_cube_dim.0 as usize);
        Self {
            side: if cube >= 256 && units::shared_bytes(16) <= hardware.max_shared_memory_size { 16 } else { 8 },
            units: cube.min(256),
            shared_bytes: hardware.max_shared_memory_size,
            cubes: hardware.max_cube_count.0.min(hardware.max_cube_count.1) as usize,
            binding: usize::try_from(properties.memory.max_page_size / 4).unwrap_or(usize::MAX),
        }
    }
}

/// What computes the scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Matrix(Fragments),
    Units { side: usize },
}

impl Engine {
    /// Queries of a cube, rows of a tile, units.
    fn block(&self) -> (usize, usize, usize) {
        match self {
            Self::Matrix(shape) => (shape.queries(), shape.rows(), shape.units()),
            Self::Units { side } => (units::block(*side), units::block(*side), side * side),
        }
    }
}

/// How matrix units multiply queries and rows of 16 bits, or why plain arithmetic units do it.
pub(super) fn matrix_units(device: &CubeDevice) -> Result<Fragments, String> {
    Fragments::of(device.client().properties())
}

/// How much a launch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    /// Queries of a launch.
    queries: usize,
    splits: usize,
    /// Survivors of a query and split.
    capacity: usize,
    /// Rows of a launch.
    rows: usize,
}

/// The shares of a launch over `rows` rows at most, when lists of k have seen `seen` rows.
fn shares(
    queries: usize,
    rows: usize,
    seen: usize,
    k: usize,
    scratch: usize,
    limits: &Limits,
    (block, tile, _): (usize, usize, usize),
) -> Shares {
    // A cut leaves k of a query's survivors; then there is room for some more, and for a tile of nothing else.
    let spare = (k / 4).max(32usize.saturating_sub(k));
    let capacity = k + spare + tile;
    // Thresholds, then a header and survivors of every query and split.
    let room = (scratch.min(limits.binding).saturating_sub(2 * queries) / (2 * capacity + 2)).max(1);
    let most = (room / block).clamp(1, CUBES) * block;
    let most = most.min((limits.cubes / block).max(1) * block);
    // Groups of one size: a small last one would keep few cubes busy for as long as a large one.
    let group = queries.div_ceil(queries.div_ceil(most)).next_multiple_of(block).min(queries).min(limits.cubes);
    let splits = (room / group).min(CUBES / group.div_ceil(block)).min(rows.div_ceil(tile)).min(limits.cubes).clamp(1, SPLITS);
    // Of rows beyond those seen, `k * more / seen` are expected to stand before a query's last: so many that half of the room is left for chance.
    let expected = (seen / (2 * k)).saturating_mul(splits).saturating_mul(k + spare);
    let rows = rows.min(expected.max(splits * (capacity / tile) * tile)).min(splits * TILES * tile);
    Shares { queries: group, splits, capacity, rows }
}

/// Whether kernels can read numbers of this format from memory and compute with them, widened.
pub(super) fn reads(device: &CubeDevice, dtype: DType) -> bool {
    let usage = device.client().properties().type_usage(burn::backend::cubecl::dtype_to_elem_type(dtype));
    usage.contains(TypeUsage::Buffer) && usage.contains(TypeUsage::Conversion)
}

pub(super) fn check_limits(device: &CubeDevice, k: usize, queries: DType, store: &[(usize, DType)]) -> Result<(), SearchError> {
    let client = device.client();
    let limits = Limits::of(&client);
    if merge::items(k, limits.units, limits.shared_bytes).is_none() {
        let needed = merge::shared_bytes(k, limits.units, 1);
        return Err(SearchError::SharedMemory { k, needed, available: limits.shared_bytes });
    }
    if !reads(device, queries) {
        return Err(SearchError::Half { what: "the queries".to_owned() });
    }
    for (shard, &(numbers, dtype)) in store.iter().enumerate() {
        if !reads(device, dtype) {
            return Err(SearchError::Half { what: format!("shard {shard}") });
        }
        // SPIR-V takes an index of 32 bits for one with a sign.
        if i32::try_from(numbers).is_err() {
            return Err(SearchError::Shard { shard, numbers });
        }
    }
    Ok(())
}

/// What all launches over a shard share.
struct Launch {
    /// `[queries, dimension]`, contiguous as are the rows `[rows, dimension]`.
    queries: CubeTensor,
    rows: CubeTensor,
    rules: CubeTensor,
    bounds: CubeTensor,
    /// Thresholds, headers and survivors: see `survivors.rs`. Room for the shares of every launch.
    work: CubeTensor,
    /// `[queries, counters]`, at least one number: scores counted since the last merge.
    counted: CubeTensor,
    counting: bool,
    /// The lists, read and written in place.
    scores: CubeTensor,
    ids: CubeTensor,
}

impl Scan for CubeBackend {
    fn scan(
        queries: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        ids: IntTensor<Self>,
        rules: IntTensor<Self>,
        bounds: FloatTensor<Self>,
        plan: Plan,
    ) -> (FloatTensor<Self>, IntTensor<Self>) {
        let client = queries.client.clone();
        let limits = Limits::of(&client);
        let (count, total, dimension) = (queries.shape()[0], rows.shape()[0], rows.shape()[1]);
        let half = queries.dtype == DType::F16 && rows.dtype == DType::F16;
        let engine = match matrix_units(&queries.device) {
            Ok(shape) if half => Engine::Matrix(shape),
            _ => Engine::Units { side: limits.side },
        };
        let block = engine.block();
        let counters = plan.width() - plan.k - 1;
        let most = shares(count, total, usize::MAX, plan.k, plan.scratch, &limits, block);
        let numbers = 2 * count + 2 * most.queries * most.splits * (1 + most.capacity);
        let launch = Launch {
            work: empty(&ids, Shape::new([numbers])),
            counted: empty(&ids, Shape::new([(count * counters).max(1)])),
            counting: counters > 0,
            queries: into_contiguous(queries),
            rows: into_contiguous(rows),
            rules: into_contiguous(rules),
            bounds: into_contiguous(bounds),
            // In place where nobody else holds them.
            scores: owned(scores),
            ids: owned(ids),
        };
        let form = Form {
            queries: block.0,
            rows: block.1,
            units: block.2,
            ranked: most.capacity.div_ceil(block.2).next_power_of_two(),
            drawn: plan.key != Key::Score,
            near: matches!(plan.key, Key::Race { .. }),
            counting: counters > 0,
        };
        // Checked before the call; one per unit is the least there is.
        let items = merge::items(plan.k, limits.units, limits.shared_bytes).unwrap_or(1);
        let merge = |group: &std::ops::Range<usize>, task| merge::launch(&client, &launch, task, group.len(), plan.k, limits.units, items);
        let task = |group: &std::ops::Range<usize>, part: std::ops::Range<usize>, splits: usize, mark: u32| {
            let [low, high, density] = plan.bins.map_or([0.0; 3], |bins| [bins.low, bins.high, bins.density()]);
            let sharpness = if let Key::Race { sharpness } = plan.key { sharpness } else { 0.0 };
            TaskLaunch::new(
                group.start as u32,
                group.end as u32,
                part.start as u32,
                part.end as u32,
                plan.first as u32,
                dimension as u32,
                count as u32,
                splits as u32,
                plan.k as u32,
                most.capacity as u32,
                mark as i32,
                counters as u32,
                sharpness,
                low,
                high,
                density,
            )
        };
        // Thresholds from the lists; counters at zero.
        for begin in (0..count).step_by(most.queries) {
            let group = begin..(begin + most.queries).min(count);
            merge(&group, task(&group, 0..0, 0, mark()));
        }
        let mut begin = 0;
        while begin < total {
            let share = shares(count, total - begin, plan.first + begin, plan.k, plan.scratch, &limits, block);
            let part = begin..begin + share.rows;
            for begin in (0..count).step_by(share.queries) {
                let group = begin..(begin + share.queries).min(count);
                let mark = mark();
                let cubes = CubeCount::Static(group.len().div_ceil(block.0) as u32, share.splits as u32, 1);
                let task = || task(&group, part.clone(), share.splits, mark);
                match engine {
                    Engine::Matrix(shape) => matrix::launch(&client, &launch, shape, task(), form, cubes),
                    Engine::Units { side } => units::launch(&client, &launch, side, task(), form, cubes),
                }
                merge(&group, task());
            }
            begin = part.end;
        }
        (launch.scores, launch.ids)
    }
}

/// A number that no launch had before, so that what an earlier one left in the same memory is not taken for this one's. Positive.
fn mark() -> u32 {
    static LAUNCHES: AtomicU32 = AtomicU32::new(0);
    1 + LAUNCHES.fetch_add(1, Ordering::Relaxed) % (i32::MAX as u32 - 1)
}

fn owned(tensor: CubeTensor) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// A new buffer of another tensor's kind, not written yet.
fn empty(like: &CubeTensor, shape: Shape) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, like.dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_fit_the_scratch_buffer_and_the_device() {
        let limits = |binding, cubes| Limits { side: 16, units: 256, shared_bytes: 32 << 10, cubes, binding };
        for (queries, rows, scratch, binding, cubes) in [
            (1, 1, 1 << 23, 32 << 20, 65_535),
            (1024, 1 << 20, 1 << 23, 32 << 20, 65_535),
            (50_000, 300_000, 1 << 23, 32 << 20, 65_535),
            (1, 100 << 20, 1 << 23, 32 << 20, 1024),
            (3, 5000, 97, 32 << 20, 65_535),
            (3, 5000, 1, 32 << 20, 65_535),
            (9000, 5000, 1 << 23, 400_000, 100),
        ] {
            for (seen, k, block) in [(0, 1, 64), (0, 1024, 64), (1 << 20, 100, 128), (usize::MAX, 100, 64)] {
                let limits = limits(binding, cubes);
                let share = shares(queries, rows, seen, k, scratch, &limits, (block, block, 256));
                let what = format!("{queries} {rows} {scratch} {seen} {k}: {share:?}");
                assert!(share.queries >= 1 && share.queries <= queries && share.rows >= 1 && share.rows <= rows, "{what}");
                assert!(share.splits >= 1 && share.splits <= SPLITS.min(cubes) && share.queries <= cubes, "{what}");
                assert!(share.capacity >= k + block, "{what}");
                let numbers = 2 * queries + 2 * share.queries * share.splits * (1 + share.capacity);
                // One block is the least there is.
                assert!(numbers <= scratch.min(binding) || (share.splits == 1 && share.queries <= block), "{what}");
                // The buffer is as large as the largest launch needs.
                let most = shares(queries, rows, usize::MAX, k, scratch, &limits, (block, block, 256));
                assert!(share.queries <= most.queries && share.splits <= most.splits && share.capacity == most.capacity, "{what}");
            }
        }
    }
}
