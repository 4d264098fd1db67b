//! The GPU path: tiles of scores, each merged into the running lists before the next is made.
//!
//! `product` fills a tile, queries x rows, in a scratch buffer of bounded size; `select` merges each query's strip of it into that query's list. Lists go from
//! one pair of buffers to the other, so that no kernel reads what it writes. This file decides the shapes from the device's limits and launches.

#![allow(unsafe_code)]

mod product;
mod random;
mod select;

use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::features::TypeUsage;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};

use super::{Plan, Scan};
use crate::search::SearchError;

/// Queries of a tile, at most: enough for the rows to be read seldom, few enough for long strips.
const QUERIES: usize = 1024;

/// Rows of a tile where the scratch buffer leaves the choice, so that many queries share it.
const STRIP: usize = 4096;

/// What the device allows.
struct Limits {
    /// Units along a side of a product cube.
    side: usize,
    /// Units of a selecting cube.
    units: usize,
    shared_bytes: usize,
    /// Cubes along a dimension of a launch.
    cubes: usize,
    /// Numbers of the scratch buffer that one binding holds.
    binding: usize,
}

impl Limits {
    fn of(client: &burn_cubecl::cubecl::client::Client) -> Self {
        let properties = client.properties();
        let hardware = &properties.hardware;
        let cube = (hardware.max_units_per_cube as usize).min(hardware.max_cube_dim.0 as usize);
        Self {
            side: if cube >= 256 && product::shared_bytes(16) <= hardware.max_shared_memory_size { 16 } else { 8 },
            units: cube.min(256),
            shared_bytes: hardware.max_shared_memory_size,
            cubes: hardware.max_cube_count.0.min(hardware.max_cube_count.1) as usize,
            binding: usize::try_from(properties.memory.max_page_size / 4).unwrap_or(usize::MAX),
        }
    }
}

/// Queries and rows of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    queries: usize,
    rows: usize,
}

/// The tile of at most `scratch` numbers, less one for the canary.
fn tile(queries: usize, rows: usize, scratch: usize, limits: &Limits) -> Tile {
    let room = scratch.min(limits.binding).saturating_sub(1).max(1);
    let queries = queries.min((room / STRIP).clamp(1, QUERIES)).min(limits.cubes);
    let most = (room / queries).min(limits.cubes * product::block(limits.side));
    // Whole cubes, where there is room for more than one.
    let whole = if most > 256 { most / 256 * 256 } else { most };
    Tile { queries, rows: rows.min(whole) }
}

pub(super) fn check_limits(device: &CubeDevice, k: usize, counters: usize, store: &[(usize, DType)]) -> Result<(), SearchError> {
    let client = device.client();
    let limits = Limits::of(&client);
    if select::items(k, limits.units, counters, limits.shared_bytes).is_none() {
        let needed = select::shared_bytes(k, limits.units, 1, counters);
        return Err(SearchError::SharedMemory { k, needed, available: limits.shared_bytes });
    }
    for (shard, &(numbers, dtype)) in store.iter().enumerate() {
        let usage = client.properties().type_usage(burn::backend::cubecl::dtype_to_elem_type(dtype));
        if !usage.contains(TypeUsage::Buffer) || !usage.contains(TypeUsage::Conversion) {
            return Err(SearchError::Half { shard });
        }
        // Kernels count numbers in 32 bits.
        if u32::try_from(numbers).is_err() {
            return Err(SearchError::Shard { shard, numbers });
        }
    }
    Ok(())
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
        let (count, total) = (queries.shape()[0], rows.shape()[0]);
        let tile = tile(count, total, plan.scratch, &limits);
        let cell = tile.queries * tile.rows;
        let product = product::Product {
            side: limits.side,
            queries: into_contiguous(queries),
            rows: into_contiguous(rows),
            tile: empty(&scores, Shape::new([cell + 1])),
            cell,
        };
        let select = select::Select {
            queries: count,
            units: limits.units,
            // Checked before the call; one per unit is the least there is.
            items: select::items(plan.k, limits.units, plan.width() - plan.k - 1, limits.shared_bytes).unwrap_or(1),
            rules: into_contiguous(rules),
            bounds: into_contiguous(bounds),
            plan,
        };
        let first = select.plan.first;
        let shapes = (scores.shape(), ids.shape());
        let pair = || (empty(&scores, shapes.0.clone()), empty(&ids, shapes.1.clone()));
        let lists = [(into_contiguous(scores.clone()), into_contiguous(ids.clone())), pair(), pair()];
        // The first tile reads the caller's lists, which are left as they are; then 1 and 2 take turns.
        let (mut from, mut to) = (0, 1);
        for begin in (0..total).step_by(tile.rows) {
            let part = begin..(begin + tile.rows).min(total);
            for block in (0..count).step_by(tile.queries) {
                let block = block..(block + tile.queries).min(count);
                // Exact in f32, and different from tile to tile.
                let canary = ((first + begin) % (1 << 23) + 1) as f32;
                product.launch(&client, block.clone(), part.clone(), canary);
                select.launch(&client, block, part.len(), first + begin, &product, &lists[from], &lists[to], canary);
            }
            (from, to) = (to, 3 - to);
        }
        let [.., one, two] = lists;
        if from == 1 { one } else { two }
    }
}

/// A new buffer of another tensor's kind, not written yet.
fn empty(like: &CubeTensor, shape: Shape) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, like.dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_the_scratch_buffer_and_the_device() {
        let limits = |binding, cubes| Limits { side: 16, units: 256, shared_bytes: 32 << 10, cubes, binding };
        for (queries, rows, scratch, binding, cubes) in [
            (1, 1, 1 << 22, 32 << 20, 65_535),
            (1024, 1 << 20, 1 << 22, 32 << 20, 65_535),
            (50_000, 300_000, 1 << 22, 32 << 20, 65_535),
            (1, 100 << 20, 1 << 22, 32 << 20, 1024),
            (3, 5000, 97, 32 << 20, 65_535),
            (3, 5000, 1, 32 << 20, 65_535),
            (9000, 5000, 1 << 22, 4096, 100),
        ] {
            let limits = limits(binding, cubes);
            let tile = tile(queries, rows, scratch, &limits);
            assert!(tile.queries >= 1 && tile.queries <= queries && tile.rows >= 1 && tile.rows <= rows, "{tile:?}");
            assert!(tile.queries * tile.rows < scratch.min(binding).max(2), "{tile:?}");
            assert!(tile.queries <= cubes && tile.rows.div_ceil(product::block(limits.side)) <= cubes, "{tile:?}");
        }
    }
}
