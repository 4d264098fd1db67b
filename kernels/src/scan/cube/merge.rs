//! Merges the survivors of a launch into the running lists: one cube per query.
//!
//! Each round every unit looks at a few survivors, and those that belong among the best, judged by the list as it stands, are appended to a buffer in shared
//! memory, in whatever order the units come. Ranks by counting then merge the buffer into the sorted list: an entry's new place is its old place plus the
//! number of better newcomers, a newcomer's is its rank among the newcomers plus the number of better entries. All pairs (key, id) differ, so every place is
//! taken once and the result depends neither on timing nor on the order in the buffer. Two lists in shared memory take turns.
//!
//! Without splits it only makes ready: counters are set to zero, and the gate's thresholds are taken from the lists.

#![allow(unsafe_code)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::*;

use super::survivors::{Task, TaskLaunch, before, entries, header};
use super::{Launch, SPLITS};
use crate::scan::{LOST, NOT_A_NUMBER};

/// Depths that lists are made for: each is one compiled kernel.
const CAPACITIES: [usize; 2] = [128, 1024];

fn capacity(k: usize) -> usize {
    CAPACITIES.into_iter().find(|&capacity| k <= capacity).unwrap_or(k)
}

/// Shared memory of a cube: two lists and one round of (key, id), what the splits hold, newcomers' counters and what went wrong.
pub(super) fn shared_bytes(k: usize, units: usize, items: usize) -> usize {
    (2 * capacity(k) + units * items) * 8 + SPLITS * 4 + 16
}

/// Survivors that a unit looks at in a round: the more, the fewer barriers. `None` when not even one fits the shared memory.
pub(super) fn items(k: usize, units: usize, shared: usize) -> Option<usize> {
    [4, 2, 1].into_iter().find(|&items| shared_bytes(k, units, items) <= shared)
}

// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments, clippy::collapsible_if)]
fn merge_kernel(
    work: &mut [i32],
    counted: &[Atomic<u32>],
    scores: &mut [f32],
    ids: &mut [i32],
    task: Task,
    #[comptime] capacity: usize,
    #[comptime] units: usize,
    #[comptime] items: usize,
    #[comptime] counting: bool,
) {
    let (k, splits) = (task.k as usize, task.splits as usize);
    let counters = task.counters as usize;
    let line = k + 1 + counters;
    let query = task.first_query as usize + CUBE_POS_X as usize;
    let unit = UNIT_POS as usize;

    let mut list_keys = Shared::<[f32]>::new_slice(2 * capacity);
    let mut list_ids = Shared::<[i32]>::new_slice(2 * capacity);
    let mut new_keys = Shared::<[f32]>::new_slice(units * items);
    let mut new_ids = Shared::<[i32]>::new_slice(units * items);
    let mut sizes = Shared::<[u32]>::new_slice(SPLITS);
    // Newcomers of even and of odd rounds.
    let newcomers = Shared::<[Atomic<u32>]>::new_slice(2usize);
    // A score that is not a number; survivors that nobody left.
    let mut faults = Shared::<[u32]>::new_slice(2usize);

    let mut place = unit;
    while place < k {
        list_keys[place] = scores[query * k + place];
        list_ids[place] = ids[query * line + place];
        place += units;
    }
    if unit == 0 {
        faults[0] = 0u32;
        faults[1] = 0u32;
        newcomers[0].store(0u32);
        newcomers[1].store(0u32);
    }
    sync_cube();
    let mut split = unit;
    while split < splits {
        let place = header(&task, query, split);
        sizes[split] = work[place] as u32;
        let mark = work[place + 1];
        if mark == -task.mark {
            faults[0] = 1u32;
        } else if mark != task.mark {
            faults[1] = 1u32;
        }
        split += units;
    }
    sync_cube();
    let mut most = 0usize;
    for split in 0..splits {
        most = max(most, sizes[split] as usize);
    }
    // What nobody wrote is not read.
    if faults[1] != 0 {
        most = 0;
    }

    let mut current = 0usize;
    let candidates = splits * most;
    let rounds = candidates.div_ceil(comptime!(units * items));
    for round in 0..rounds {
        let parity = round % 2;
        let last_key = list_keys[current + k - 1];
        let last_id = list_ids[current + k - 1];
        for item in 0..items {
            let candidate = (round * items + item) * units + unit;
            if candidate < candidates {
                let split = candidate / most;
                let slot = candidate % most;
                if slot < sizes[split] as usize {
                    let place = entries(&task, query, split) + 2 * slot;
                    let key = f32::reinterpret(work[place]);
                    let id = work[place + 1];
                    if last_id < 0 || before(key, id, last_key, last_id) {
                        let slot = newcomers[parity].fetch_add(1u32) as usize;
                        new_keys[slot] = key;
                        new_ids[slot] = id;
                    }
                }
            }
        }
        sync_cube();

        let count = newcomers[parity].load() as usize;
        let other = capacity - current;
        if count > 0 {
            // The list's entries move back by the number of better newcomers.
            let mut place = unit;
            while place < k {
                let key = list_keys[current + place];
                let id = list_ids[current + place];
                let mut target = place;
                for newcomer in 0..count {
                    if id < 0 || before(new_keys[newcomer], new_ids[newcomer], key, id) {
                        target += 1;
                    }
                }
                if target < k {
                    list_keys[other + target] = key;
                    list_ids[other + target] = id;
                }
                place += units;
            }
            // A newcomer goes behind better newcomers and better entries.
            let mut own = unit;
            while own < count {
                let key = new_keys[own];
                let id = new_ids[own];
                let mut target = 0usize;
                for newcomer in 0..count {
                    if before(new_keys[newcomer], new_ids[newcomer], key, id) {
                        target += 1;
                    }
                }
                // Entries are sorted and missing ones come last: count those that stand before by bisection.
                let mut low = 0usize;
                let mut high = k;
                while low < high {
                    let middle = (low + high) / 2;
                    let entry_id = list_ids[current + middle];
                    if entry_id >= 0 && before(list_keys[current + middle], entry_id, key, id) {
                        low = middle + 1;
                    } else {
                        high = middle;
                    }
                }
                target += low;
                if target < k {
                    list_keys[other + target] = key;
                    list_ids[other + target] = id;
                }
                own += units;
            }
        }
        if unit == 0 {
            newcomers[1 - parity].store(0u32);
        }
        sync_cube();
        if count > 0 {
            current = other;
        }
    }

    let mut place = unit;
    while place < k {
        scores[query * k + place] = list_keys[current + place];
        ids[query * line + place] = list_ids[current + place];
        place += units;
    }
    if comptime!(counting) {
        let mut place = unit;
        while place < counters {
            if splits > 0 {
                ids[query * line + k + 1 + place] += counted[query * counters + place].load() as i32;
            }
            counted[query * counters + place].store(0u32);
            place += units;
        }
    }
    if unit == 0 {
        work[2 * query] = i32::reinterpret(list_keys[current + k - 1]);
        work[2 * query + 1] = list_ids[current + k - 1];
        let mut status = ids[query * line + k];
        if status >= 0 {
            if faults[1] != 0 {
                status = i32::from_int(LOST as i64);
            } else if faults[0] != 0 {
                status = i32::from_int(NOT_A_NUMBER as i64);
            } else {
                status += (task.end_row - task.first_row) as i32;
            }
        }
        ids[query * line + k] = status;
    }
}

/// Merges what the launch of that task left into `lists`, keys and ids. `units` and `items` as [`items`] says.
pub(super) fn launch(client: &Client, launch: &Launch, task: TaskLaunch, queries: usize, k: usize, units: usize, items: usize) {
    // SAFETY: one cube per query; lists are read and written below k (k + 1 + counters for ids), of that query alone; work and counters as `Launch` says, and at
    // most SPLITS splits; survivors are read below the counts that the scan of this mark left; a round appends at most units x items newcomers, the size of their buffer.
    unsafe {
        merge_kernel::launch_unchecked(
            client,
            CubeCount::Static(queries as u32, 1, 1),
            CubeDim::new_1d(units as u32),
            launch.work.clone().into_buffer_arg(),
            launch.counted.clone().into_buffer_arg(),
            launch.scores.clone().into_buffer_arg(),
            launch.ids.clone().into_buffer_arg(),
            task,
            capacity(k),
            units,
            items,
            launch.counting,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_depth_fits_32_kib_and_the_shallow_ones_fit_8() {
        for k in [1, 32, 33, 128, 129, 1024] {
            assert!(shared_bytes(k, 256, items(k, 256, 32 << 10).unwrap()) <= 32 << 10);
        }
        assert_eq!(items(128, 256, 8 << 10), Some(2));
        assert_eq!(items(1024, 256, 16 << 10), None);
    }
}
