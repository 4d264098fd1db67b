//! Merges a tile of scores into the running lists: one cube per query.
//!
//! A score within bounds becomes a key: itself, or, where rows are drawn, a random number (`random.rs`). Each round every unit looks at a few scores, and those that belong among the best, judged by their keys and the list as it stands, are appended to a buffer in shared
//! memory, in whatever order the units come. Ranks by counting then merge the buffer into the sorted list: an entry's new place is its old place plus the
//! number of better newcomers, a newcomer's is its rank among the newcomers plus the number of better entries. All pairs (key, id) differ, so every place is
//! taken once and the result depends neither on timing nor on the order in the buffer. Two lists in shared memory take turns.
//!
//! A round's buffer holds all its scores, so rows in the worst order, each better than the one before, are only slower.
//! Barriers stand outside every branch: WGSL asks for uniform control flow around them.

#![allow(unsafe_code)]

use std::ops::Range;

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::product::Product;
use super::random::random_key;
use crate::key::{Key, LEAST};
use crate::scan::{LOST, NOT_A_NUMBER, Plan};

/// Depths that lists are made for: each is one compiled kernel.
const CAPACITIES: [usize; 2] = [128, 1024];

fn capacity(k: usize) -> usize {
    CAPACITIES.into_iter().find(|&capacity| k <= capacity).unwrap_or(k)
}

/// Room for counters of scores: a few sizes, as each is one compiled kernel.
fn room(counters: usize) -> usize {
    if counters == 0 { 0 } else { counters.next_power_of_two().max(64) }
}

/// Shared memory of a cube: two lists and one round of (key, id), newcomers' counters, and those of scores.
pub(super) fn shared_bytes(k: usize, units: usize, items: usize, counters: usize) -> usize {
    (2 * capacity(k) + units * items) * 8 + 16 + 4 * room(counters)
}

/// Scores that a unit looks at in a round: the more, the fewer barriers. `None` when not even one fits the shared memory.
pub(super) fn items(k: usize, units: usize, counters: usize, shared: usize) -> Option<usize> {
    [4, 2, 1].into_iter().find(|&items| shared_bytes(k, units, items, counters) <= shared)
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

/// The counter of a score: `Bins::counter`, step by step.
#[cube]
fn counter(score: f32, low: f32, high: f32, density: f32, counters: usize) -> usize {
    let mut place = 0usize;
    if score >= high {
        place = counters - 1;
    } else if score >= low {
        let distance = score - low;
        place = 1 + u32::cast_from(distance * density) as usize;
        if place > counters - 2 {
            place = counters - 2;
        }
    }
    place
}

// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments, clippy::collapsible_if)]
fn select_kernel(
    tile: &[f32],
    scores: &[f32],
    ids: &[i32],
    rules: &[i32],
    bounds: &[f32],
    scores_out: &mut [f32],
    ids_out: &mut [i32],
    first_query: u32,
    width: u32,
    first_row: u32,
    k: u32,
    cell: u32,
    canary: f32,
    queries: u32,
    counters: u32,
    sharpness: f32,
    bins_low: f32,
    bins_high: f32,
    bins_density: f32,
    #[comptime] capacity: usize,
    #[comptime] units: usize,
    #[comptime] items: usize,
    #[comptime] drawn: bool,
    #[comptime] near: bool,
    #[comptime] room: usize,
) {
    let (width, k, counters) = (width as usize, k as usize, counters as usize);
    let line = k + 1 + counters;
    let query = first_query as usize + CUBE_POS;
    let strip = CUBE_POS * width;
    let unit = UNIT_POS as usize;

    let mut list_scores = Shared::<[f32]>::new_slice(2 * capacity);
    let mut list_ids = Shared::<[i32]>::new_slice(2 * capacity);
    let mut new_scores = Shared::<[f32]>::new_slice(units * items);
    let mut new_ids = Shared::<[i32]>::new_slice(units * items);
    // Newcomers of even and of odd rounds.
    let newcomers = Shared::<[Atomic<u32>]>::new_slice(2usize);
    let mut nan = Shared::<[u32]>::new_slice(1usize);
    let counts = Shared::<[Atomic<u32>]>::new_slice(comptime!(if room == 0 { 1 } else { room }));

    let mut place = unit;
    while place < k {
        list_scores[place] = scores[query * k + place];
        list_ids[place] = ids[query * line + place];
        place += units;
    }
    if unit == 0 {
        nan[0] = 0u32;
        newcomers[0].store(0u32);
        newcomers[1].store(0u32);
    }
    if comptime!(room > 0) {
        let mut place = unit;
        while place < counters {
            counts[place].store(0u32);
            place += units;
        }
    }
    sync_cube();

    let from = rules[query] as usize;
    let to = rules[query + 1] as usize;
    let lowest = bounds[3 * query];
    let highest = bounds[3 * query + 1];
    let centre = bounds[3 * query + 2];
    let words = queries as usize + 1 + 2 * query;
    let first_word = u32::reinterpret(rules[words]);
    let second_word = u32::reinterpret(rules[words + 1]);
    let mut current = 0usize;
    let rounds = width.div_ceil(comptime!(units * items));
    for round in 0..rounds {
        let parity = round % 2;
        let last_score = list_scores[current + k - 1];
        let last_id = list_ids[current + k - 1];
        for item in 0..items {
            let column = (round * items + item) * units + unit;
            if column < width {
                let score = tile[strip + column];
                let bits = u32::reinterpret(score) & 0x7fff_ffffu32;
                let id = (first_row as usize + column) as i32;
                let mut counted = false;
                if bits > 0x7f80_0000u32 {
                    nan[0] = 1u32;
                } else if comptime!(room > 0) {
                    counted = !contains(rules, from, to, id);
                    if counted {
                        counts[counter(score, bins_low, bins_high, bins_density, counters)].fetch_add(1u32);
                    }
                }
                if bits <= 0x7f80_0000u32 {
                    if score <= highest {
                        if score >= lowest {
                            let mut key = score;
                            if comptime!(drawn) {
                                key = random_key(score, centre, id, first_word, second_word, sharpness, near);
                            }
                            let mut better = last_id < 0 || before(key, id, last_score, last_id);
                            if comptime!(drawn) {
                                better = better && key > comptime!(LEAST);
                            }
                            if better {
                                let mut free = counted;
                                if comptime!(room == 0) {
                                    free = !contains(rules, from, to, id);
                                }
                                if free {
                                    let slot = newcomers[parity].fetch_add(1u32) as usize;
                                    new_scores[slot] = key;
                                    new_ids[slot] = id;
                                }
                            }
                        }
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
                let score = list_scores[current + place];
                let id = list_ids[current + place];
                let mut target = place;
                for newcomer in 0..count {
                    if id < 0 || before(new_scores[newcomer], new_ids[newcomer], score, id) {
                        target += 1;
                    }
                }
                if target < k {
                    list_scores[other + target] = score;
                    list_ids[other + target] = id;
                }
                place += units;
            }
            // A newcomer goes behind better newcomers and better entries.
            let mut own = unit;
            while own < count {
                let score = new_scores[own];
                let id = new_ids[own];
                let mut target = 0usize;
                for newcomer in 0..count {
                    if before(new_scores[newcomer], new_ids[newcomer], score, id) {
                        target += 1;
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
        scores_out[query * k + place] = list_scores[current + place];
        ids_out[query * line + place] = list_ids[current + place];
        place += units;
    }
    if comptime!(room > 0) {
        let mut place = unit;
        while place < counters {
            let at = query * line + k + 1 + place;
            ids_out[at] = ids[at] + counts[place].load() as i32;
            place += units;
        }
    }
    if unit == 0 {
        let mut status = ids[query * line + k];
        if status >= 0 {
            if tile[cell as usize] != canary {
                status = i32::from_int(LOST as i64);
            } else if nan[0] != 0 {
                status = i32::from_int(NOT_A_NUMBER as i64);
            } else {
                status += width as i32;
            }
        }
        ids_out[query * line + k] = status;
    }
}

/// What all tiles share.
pub(super) struct Select {
    pub(super) plan: Plan,
    /// Of all tiles.
    pub(super) queries: usize,
    pub(super) units: usize,
    pub(super) items: usize,
    pub(super) rules: CubeTensor,
    pub(super) bounds: CubeTensor,
}

impl Select {
    /// Merges the tile of some queries and `width` rows, the first of which has the id `first_row`, into `to`, which takes the rest from `from`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn launch(
        &self,
        client: &Client,
        queries: Range<usize>,
        width: usize,
        first_row: usize,
        product: &Product,
        from: &(CubeTensor, CubeTensor),
        to: &(CubeTensor, CubeTensor),
        canary: f32,
    ) {
        let (k, bins) = (self.plan.k, self.plan.bins);
        let counters = bins.map_or(0, |bins| bins.counters());
        let [low, high, density] = bins.map_or([0.0; 3], |bins| [bins.low, bins.high, bins.density()]);
        let sharpness = if let Key::Race { sharpness } = self.plan.key { sharpness } else { 0.0 };
        // SAFETY: one cube per query; scores are read below queries.len() x width, which the tile holds, and at `cell`, its last number; lists below
        // k (k + 1 + counters for ids), three bounds, two words and offsets at the query (and the next), excluded ids between offsets that the host made; a round
        // appends at most units x items newcomers, the size of their buffer; scores are counted below `counters`, which is at most `room`.
        unsafe {
            select_kernel::launch_unchecked(
                client,
                CubeCount::Static(queries.len() as u32, 1, 1),
                CubeDim::new_1d(self.units as u32),
                product.tile.clone().into_buffer_arg(),
                from.0.clone().into_buffer_arg(),
                from.1.clone().into_buffer_arg(),
                self.rules.clone().into_buffer_arg(),
                self.bounds.clone().into_buffer_arg(),
                to.0.clone().into_buffer_arg(),
                to.1.clone().into_buffer_arg(),
                queries.start as u32,
                width as u32,
                first_row as u32,
                k as u32,
                product.cell as u32,
                canary,
                self.queries as u32,
                counters as u32,
                sharpness,
                low,
                high,
                density,
                capacity(k),
                self.units,
                self.items,
                self.plan.key != Key::Score,
                matches!(self.plan.key, Key::Race { .. }),
                room(counters),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_depth_fits_32_kib_and_the_shallow_ones_fit_8() {
        for k in [1, 32, 33, 128, 129, 1024] {
            for counters in [0, 3, 512] {
                let items = items(k, 256, counters, 32 << 10).unwrap();
                assert!(shared_bytes(k, 256, items, counters) <= 32 << 10);
            }
        }
        assert_eq!(items(128, 256, 0, 8 << 10), Some(2));
        assert_eq!(items(1024, 256, 0, 16 << 10), None);
    }
}
