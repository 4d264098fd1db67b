//! Where a scan leaves the rows that may belong among a query's best, and what keeps the others out.
//!
//! `work` holds 32-bit numbers: for each query of the pass the key and the id of its list's last entry; then, for each query of the launch and each split of its
//! rows, how many survivors there are and the launch's mark; then the survivors, room for `capacity` (key, id) of each query and split.
//!
//! A cube has a [`Gate`] for its block of queries. A key that does not stand before the last entry is dropped where it was computed. When a query's room may not hold another
//! tile, the cube ranks that query's survivors by counting, keeps the best k, and the last of these is the new threshold. So every input is exact, and rows in the worst
//! order are only slower.

#![allow(unsafe_code)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::random::random_key;
use crate::key::LEAST;

/// Survivors that a cube looks at together when it ranks those of a query.
const TOGETHER: usize = 64;

/// What the units of a cube share beside their products: five numbers a query of the block, survivors that are ranked, a flag.
pub(super) const fn gate_bytes(queries: usize) -> usize {
    5 * 4 * queries + 8 * TOGETHER + 16
}

/// What is fixed when a kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Form {
    /// Queries of a cube.
    pub(super) queries: usize,
    /// Rows of a tile, as many as one query's room may have to take at a time.
    pub(super) rows: usize,
    /// Units of a cube.
    pub(super) units: usize,
    /// Survivors that a unit ranks: units x ranked is at least the capacity.
    pub(super) ranked: usize,
    /// Keys are random numbers, not scores.
    pub(super) drawn: bool,
    /// They are drawn near a score.
    pub(super) near: bool,
    /// Scores are counted.
    pub(super) counting: bool,
}

/// What a launch is told.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Task {
    /// Of the launch, within the pass.
    pub(super) first_query: u32,
    pub(super) end_query: u32,
    /// Of the launch, within the shard.
    pub(super) first_row: u32,
    pub(super) end_row: u32,
    /// Id of the shard's first row.
    pub(super) first_id: u32,
    pub(super) dimension: u32,
    /// Of the pass.
    pub(super) queries: u32,
    pub(super) splits: u32,
    pub(super) k: u32,
    pub(super) capacity: u32,
    /// Shows that this launch wrote: positive, and minus that where a score is not a number.
    pub(super) mark: i32,
    pub(super) counters: u32,
    pub(super) sharpness: f32,
    pub(super) bins_low: f32,
    pub(super) bins_high: f32,
    pub(super) bins_density: f32,
}

/// Whether (key, id) stands before another.
#[cube]
pub(super) fn before(key: f32, id: i32, other_key: f32, other_id: i32) -> bool {
    key > other_key || (key == other_key && id < other_id)
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
fn counter(score: f32, task: &Task) -> usize {
    let counters = task.counters as usize;
    let mut place = 0usize;
    if score >= task.bins_high {
        place = counters - 1;
    } else if score >= task.bins_low {
        let distance = score - task.bins_low;
        place = 1 + u32::cast_from(distance * task.bins_density) as usize;
        if place > counters - 2 {
            place = counters - 2;
        }
    }
    place
}

/// Place of the (count, mark) of a query of the launch and a split.
#[cube]
pub(super) fn header(task: &Task, query: usize, split: usize) -> usize {
    2 * (task.queries as usize + (query - task.first_query as usize) * task.splits as usize + split)
}

/// Place of the survivors of a query of the launch and a split.
#[cube]
pub(super) fn entries(task: &Task, query: usize, split: usize) -> usize {
    let queries = (task.end_query - task.first_query) as usize;
    let splits = task.splits as usize;
    2 * (task.queries as usize + queries * splits + ((query - task.first_query as usize) * splits + split) * task.capacity as usize)
}

/// What decides on the scores of a cube's queries.
#[derive(CubeType)]
pub(super) struct Gate {
    /// The last entry that may stay: of the list, or of the survivors when these were cut.
    keys: Shared<[f32]>,
    ids: Shared<[i32]>,
    /// Scores below it are dropped without a further look.
    least: Shared<[f32]>,
    counts: Shared<[Atomic<u32>]>,
    /// Not zero where a query had a score that is not a number.
    nan: Shared<[u32]>,
    /// Not zero when a query's room may not hold another tile.
    full: Shared<[u32]>,
    /// Keys and ids of survivors that are ranked.
    pool_keys: Shared<[f32]>,
    pool_ids: Shared<[i32]>,
}

#[cube]
impl Gate {
    /// The gate of a block of queries, the first of which is `base`.
    pub(super) fn open(work: &mut [i32], bounds: &[f32], task: &Task, base: usize, #[comptime] form: Form) -> Self {
        let mut gate = Gate {
            keys: Shared::new_slice(form.queries),
            ids: Shared::new_slice(form.queries),
            least: Shared::new_slice(form.queries),
            counts: Shared::new_slice(form.queries),
            nan: Shared::new_slice(form.queries),
            full: Shared::new_slice(1usize),
            pool_keys: Shared::new_slice(TOGETHER),
            pool_ids: Shared::new_slice(TOGETHER),
        };
        let mut local = UNIT_POS as usize;
        while local < form.queries {
            let query = base + local;
            gate.counts[local].store(0u32);
            gate.nan[local] = 0u32;
            if query < task.end_query as usize {
                let key = f32::reinterpret(work[2 * query]);
                gate.keys[local] = key;
                gate.ids[local] = work[2 * query + 1];
                gate.least[local] = max(key, bounds[3 * query]);
            }
            local += form.units;
        }
        if UNIT_POS == 0 {
            gate.full[0] = 0u32;
        }
        sync_cube();
        gate
    }

    /// Whether a score is worth offering: a quick look, for which nothing but the score and its query's threshold is read.
    pub(super) fn looks(&self, local: usize, score: f32, #[comptime] form: Form) -> bool {
        // Infinities pass: a list with room takes even the negative one, and `least` has no such value. What is not a number passes, to be found.
        let mut look = score >= self.least[local] || (u32::reinterpret(score) & 0x7fff_ffffu32) >= 0x7f80_0000u32;
        if comptime!(form.drawn || form.counting) {
            look = true;
        }
        look
    }

    /// Takes a score in, or not.
    // A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
    #[allow(clippy::too_many_arguments, clippy::collapsible_if)]
    pub(super) fn offer(
        &mut self,
        work: &mut [i32],
        counted: &[Atomic<u32>],
        rules: &[i32],
        bounds: &[f32],
        task: &Task,
        base: usize,
        local: usize,
        row: usize,
        score: f32,
        #[comptime] form: Form,
    ) {
        let bits = u32::reinterpret(score) & 0x7fff_ffffu32;
        if self.looks(local, score, form) {
            let query = base + local;
            let id = (task.first_id as usize + row) as i32;
            let from = rules[query] as usize;
            let to = rules[query + 1] as usize;
            let mut excluded = false;
            if bits > 0x7f80_0000u32 {
                self.nan[local] = 1u32;
            } else if comptime!(form.counting) {
                excluded = contains(rules, from, to, id);
                if !excluded {
                    counted[query * task.counters as usize + counter(score, task)].fetch_add(1u32);
                }
            }
            if bits <= 0x7f80_0000u32 {
                if score >= bounds[3 * query] {
                    if score <= bounds[3 * query + 1] {
                        let mut key = score;
                        if comptime!(form.drawn) {
                            let words = task.queries as usize + 1 + 2 * query;
                            let first = u32::reinterpret(rules[words]);
                            let second = u32::reinterpret(rules[words + 1]);
                            key = random_key(score, bounds[3 * query + 2], id, first, second, task.sharpness, form.near);
                        }
                        let last = self.ids[local];
                        let mut better = last < 0 || before(key, id, self.keys[local], last);
                        if comptime!(form.drawn) {
                            better = better && key > comptime!(LEAST);
                        }
                        if better {
                            if comptime!(!form.counting) {
                                excluded = contains(rules, from, to, id);
                            }
                            if !excluded {
                                let slot = self.counts[local].fetch_add(1u32) as usize;
                                let place = entries(task, query, CUBE_POS_Y as usize) + 2 * slot;
                                work[place] = i32::reinterpret(key);
                                work[place + 1] = id;
                                if slot + 1 + form.rows > task.capacity as usize {
                                    self.full[0] = 1u32;
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// Makes room for another tile, if there is one, in every query's survivors. All units come here, after all scores of a tile were offered.
    // Nested ifs, as in `offer`.
    #[allow(clippy::too_many_arguments, clippy::collapsible_if)]
    pub(super) fn settle(&mut self, work: &mut [i32], bounds: &[f32], task: &Task, base: usize, more: bool, #[comptime] form: Form) {
        let unit = UNIT_POS as usize;
        let k = task.k as usize;
        sync_cube();
        let mut rounds = self.full[0];
        if !more {
            rounds = 0u32;
        }
        // Loops instead of conditions: all units agree on them, but WGSL's rules do not see it and refuse barriers in a condition.
        for _ in 0..rounds {
            sync_storage();
            for local in 0..form.queries {
                let count = self.counts[local].load() as usize;
                let mut cuts = 0u32;
                if count + form.rows > task.capacity as usize {
                    cuts = 1u32;
                }
                for _ in 0..cuts {
                    let begin = entries(task, base + local, CUBE_POS_Y as usize);
                    let mut keys = Array::<f32>::new(form.ranked);
                    let mut ids = Array::<i32>::new(form.ranked);
                    let mut ranks = Array::<u32>::new(form.ranked);
                    #[unroll]
                    for own in 0..form.ranked {
                        let entry = own * form.units + unit;
                        keys[own] = f32::new(LEAST);
                        ids[own] = 0;
                        ranks[own] = 0u32;
                        if entry < count {
                            keys[own] = f32::reinterpret(work[begin + 2 * entry]);
                            ids[own] = work[begin + 2 * entry + 1];
                        }
                    }
                    for group in 0..count.div_ceil(TOGETHER) {
                        let first = group * TOGETHER;
                        let end = min(first + TOGETHER, count);
                        // Those before are looked at.
                        sync_cube();
                        let mut entry = first + unit;
                        while entry < end {
                            self.pool_keys[entry - first] = f32::reinterpret(work[begin + 2 * entry]);
                            self.pool_ids[entry - first] = work[begin + 2 * entry + 1];
                            entry += form.units;
                        }
                        sync_cube();
                        for other in 0..end - first {
                            let (key, id) = (self.pool_keys[other], self.pool_ids[other]);
                            #[unroll]
                            for own in 0..form.ranked {
                                if before(key, id, keys[own], ids[own]) {
                                    ranks[own] += 1u32;
                                }
                            }
                        }
                    }
                    sync_storage();
                    #[unroll]
                    for own in 0..form.ranked {
                        let rank = ranks[own] as usize;
                        if own * form.units + unit < count {
                            if rank < k {
                                work[begin + 2 * rank] = i32::reinterpret(keys[own]);
                                work[begin + 2 * rank + 1] = ids[own];
                                if rank + 1 == k {
                                    self.keys[local] = keys[own];
                                    self.ids[local] = ids[own];
                                    self.least[local] = max(keys[own], bounds[3 * (base + local)]);
                                    self.counts[local].store(task.k);
                                }
                            }
                        }
                    }
                    sync_storage();
                }
            }
            if UNIT_POS == 0 {
                self.full[0] = 0u32;
            }
            sync_cube();
        }
    }

    /// Leaves how many survivors there are.
    pub(super) fn close(&self, work: &mut [i32], task: &Task, base: usize, #[comptime] form: Form) {
        sync_cube();
        let mut local = UNIT_POS as usize;
        while local < form.queries {
            let query = base + local;
            if query < task.end_query as usize {
                let place = header(task, query, CUBE_POS_Y as usize);
                work[place] = self.counts[local].load() as i32;
                let mut mark = task.mark;
                if self.nan[local] != 0 {
                    mark = -task.mark;
                }
                work[place + 1] = mark;
            }
            local += form.units;
        }
    }
}

/// The first and the last tile, exclusive, of this cube's split of the rows.
#[cube]
pub(super) fn tiles(task: &Task, #[comptime] form: Form) -> (usize, usize) {
    let all = ((task.end_row - task.first_row) as usize).div_ceil(form.rows);
    let splits = task.splits as usize;
    let split = CUBE_POS_Y as usize;
    // Without a product of the two, which may not fit 32 bits.
    let each = all / splits;
    let more = all % splits;
    let first = split * each + min(split, more);
    let mut end = first + each;
    if split < more {
        end += 1;
    }
    (first, end)
}
