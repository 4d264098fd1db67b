//! The GPU kernel: one cube per query, one row per unit and round.
//!
//! Each round every unit scores one row and writes it to shared memory. If any of them belongs among the best, ranks by counting merge the round into the
//! sorted list: an entry's new place is its old place plus the number of better newcomers, a newcomer's is its rank among the newcomers plus the number of
//! better entries. All pairs (score, id) differ, so every place is taken once and the result does not depend on timing. Two lists in shared memory take turns.
//!
//! Barriers stand outside every branch: WGSL asks for uniform control flow around them.

#![allow(unsafe_code)]

use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::{CubeBackend, CubeDevice};

use super::Scan;
use crate::search::SearchError;

/// Units of a cube, and rows of a round.
const UNITS: u32 = 256;

/// Depths that lists are made for: each is one compiled kernel.
const CAPACITIES: [usize; 2] = [128, 1024];

fn capacity(k: usize) -> usize {
    CAPACITIES.into_iter().find(|&capacity| k <= capacity).unwrap_or(k)
}

/// Shared memory of a cube: two lists and one round of (score, id), and two flags.
fn shared_bytes(k: usize, units: u32) -> usize {
    (2 * capacity(k) + units as usize) * 8 + 16
}

fn units(device: &CubeDevice) -> u32 {
    UNITS.min(device.client().properties().hardware.max_units_per_cube)
}

pub(super) fn check_limits(device: &CubeDevice, k: usize) -> Result<(), SearchError> {
    let (needed, available) = (shared_bytes(k, units(device)), device.client().properties().hardware.max_shared_memory_size);
    if needed > available { Err(SearchError::SharedMemory { k, needed, available }) } else { Ok(()) }
}

/// Whether (score, id) stands before another.
#[cube]
fn before(score: f32, id: i32, other_score: f32, other_id: i32) -> bool {
    score > other_score || (score == other_score && id < other_id)
}

/// Whether an id is among `ids[from..to]`, ascending.
#[cube]
fn contains(ids: &[i32], from: usize, to: usize, id: i32) -> bool {
    let mut low = from;
    let mut high = to;
    while low < high {
        let middle = (low + high) / 2;
        if ids[middle] < id {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let mut found = false;
    if low < to {
        found = ids[low] == id;
    }
    found
}

// A kernel computes both sides of `&&`: nested ifs are what skips work there.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments, clippy::collapsible_if)]
fn scan_kernel<F: Float>(
    queries: &[f32],
    rows: &[F],
    scores: &[f32],
    ids: &[i32],
    offsets: &[i32],
    excluded: &[i32],
    ceiling: &[f32],
    scores_out: &mut [f32],
    ids_out: &mut [i32],
    count: u32,
    dimension: u32,
    first: u32,
    k: u32,
    #[comptime] capacity: usize,
    #[comptime] units: usize,
    #[define(F)] _dtype: ElemType,
) {
    let missing = f32::new(f32::MIN);
    let query = CUBE_POS;
    let unit = UNIT_POS as usize;
    let (count, dimension, k) = (count as usize, dimension as usize, k as usize);

    let mut list_scores = Shared::<[f32]>::new_slice(2 * capacity);
    let mut list_ids = Shared::<[i32]>::new_slice(2 * capacity);
    let mut round_scores = Shared::<[f32]>::new_slice(units);
    let mut round_ids = Shared::<[i32]>::new_slice(units);
    // 0 and 1: whether a newcomer was seen, in even and odd rounds. 2: whether a score was NaN.
    let mut seen = Shared::<[u32]>::new_slice(3usize);

    let mut place = unit;
    while place < k {
        list_scores[place] = scores[query * k + place];
        list_ids[place] = ids[query * (k + 1) + place];
        place += units;
    }
    if unit < 3 {
        seen[unit] = 0u32;
    }
    sync_cube();

    let from = offsets[query] as usize;
    let to = offsets[query + 1] as usize;
    let highest = ceiling[query];
    let base = query * dimension;
    let mut current = 0usize;
    let rounds = count.div_ceil(units);
    for round in 0..rounds {
        let row = round * units + unit;
        let mut score = missing;
        let mut id = i32::from_int(-1);
        if row < count {
            let start = row * dimension;
            let mut sum = 0.0f32;
            for column in 0..dimension {
                sum += queries[base + column] * f32::cast_from(rows[start + column]);
            }
            let bits = u32::reinterpret(sum) & 0x7fff_ffffu32;
            if bits > 0x7f80_0000u32 {
                seen[2] = 1u32;
            } else {
                let own = (first as usize + row) as i32;
                let last = current + k - 1;
                if sum <= highest {
                    if list_ids[last] < 0 || before(sum, own, list_scores[last], list_ids[last]) {
                        if !contains(excluded, from, to, own) {
                            score = sum;
                            id = own;
                            seen[round % 2] = 1u32;
                        }
                    }
                }
            }
        }
        round_scores[unit] = score;
        round_ids[unit] = id;
        sync_cube();

        let any = seen[round % 2];
        let other = capacity - current;
        if any != 0 {
            // The list's entries move back by the number of better newcomers.
            let mut place = unit;
            while place < k {
                let entry_score = list_scores[current + place];
                let entry_id = list_ids[current + place];
                let mut target = place;
                for newcomer in 0..units {
                    if round_ids[newcomer] >= 0 {
                        if entry_id < 0 || before(round_scores[newcomer], round_ids[newcomer], entry_score, entry_id) {
                            target += 1;
                        }
                    }
                }
                if target < k {
                    list_scores[other + target] = entry_score;
                    list_ids[other + target] = entry_id;
                }
                place += units;
            }
            // A newcomer goes behind better newcomers and better entries.
            if id >= 0 {
                let mut target = 0usize;
                for newcomer in 0..units {
                    if round_ids[newcomer] >= 0 {
                        if before(round_scores[newcomer], round_ids[newcomer], score, id) {
                            target += 1;
                        }
                    }
                }
                // Entries are sorted and missing ones come last: count those that stand before by bisection.
                let mut low = 0usize;
                let mut high = k;
                while low < high {
                    let middle = (low + high) / 2;
                    let entry_id = list_ids[current + middle];
                    if entry_id >= 0 && before(list_scores[current + middle], entry_id, score, id) {
                        low = middle + 1;
                    } else {
                        high = middle;
                    }
                }
                target += low;
                if target < k {
                    list_scores[other + target] = score;
                    list_ids[other + target] = id;
                }
            }
        }
        if unit == 0 {
            seen[(round + 1) % 2] = 0u32;
        }
        sync_cube();
        if any != 0 {
            current = other;
        }
    }

    let mut place = unit;
    while place < k {
        scores_out[query * k + place] = list_scores[current + place];
        ids_out[query * (k + 1) + place] = list_ids[current + place];
        place += units;
    }
    if unit == 0 {
        let mut status = ids[query * (k + 1) + k];
        if seen[2] != 0 {
            status = i32::from_int(-1);
        } else if status >= 0 {
            status += 1;
        }
        ids_out[query * (k + 1) + k] = status;
    }
}

impl Scan for CubeBackend {
    fn scan(
        queries: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        ids: IntTensor<Self>,
        offsets: IntTensor<Self>,
        excluded: IntTensor<Self>,
        ceiling: FloatTensor<Self>,
        first: usize,
        k: usize,
    ) -> (FloatTensor<Self>, IntTensor<Self>) {
        let units = units(&queries.device);
        let (count, dimension) = (rows.shape()[0], rows.shape()[1]);
        let cubes = queries.shape()[0] as u32;
        let client = queries.client.clone();
        let like = |tensor: &burn_cubecl::tensor::CubeTensor| {
            empty_device_contiguous_dtype(tensor.client.clone(), tensor.device.clone(), tensor.shape(), tensor.dtype)
        };
        let (scores_out, ids_out) = (like(&scores), like(&ids));
        let element = burn::backend::cubecl::dtype_to_elem_type(rows.dtype);
        let argument = |tensor| into_contiguous(tensor).into_buffer_arg();
        // SAFETY: one cube per query; every index is below the length of its tensor: rows by `row < count`, lists by `place < k`, offsets by
        // query + 1, excluded ids by the offsets, which the host made.
        unsafe {
            scan_kernel::launch_unchecked(
                &client,
                CubeCount::Static(cubes, 1, 1),
                CubeDim::new_1d(units),
                argument(queries),
                argument(rows),
                argument(scores),
                argument(ids),
                argument(offsets),
                argument(excluded),
                argument(ceiling),
                scores_out.clone().into_buffer_arg(),
                ids_out.clone().into_buffer_arg(),
                count as u32,
                dimension as u32,
                first as u32,
                k as u32,
                capacity(k),
                units as usize,
                element,
            );
        }
        (scores_out, ids_out)
    }
}
