//! The CPU path: products of a few rows and a panel of queries, read where they lie, and per query a threshold that discards nearly all of their scores.
//!
//! Queries are laid out in panels once per scan. A task takes some panels through some rows; the scores of a block of rows and one panel stay in the innermost
//! cache, where one comparison each decides; where the processor is faster with integers, they tell most rows of a block before ([`screen`]). Survivors gather in a buffer of twice the depth that is cut back when it is full. A score's sum runs over the columns in
//! one order, that of its panel's kind, so it depends neither on tiles nor on threads.

use std::ops::Range;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, f16};
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

use super::half::widen;
use super::screen;
use super::sieve::{Panel, ROWS, Rules, lanes};
use super::{MISSING, NOT_A_NUMBER, Plan, Scan};

/// Panels that go through the rows together, at most: a block of rows is read from memory once for all of them.
const TOGETHER: usize = 16;

/// Panels that rows are rounded for, at least. With two a search takes a tenth less time.
const LOOKS: usize = 2;

/// Entries of lists and counters that dividing the rows among threads may add; while a task runs, its own lists hold up to four times as many.
const SPARE: usize = 4 << 20;

impl Scan for Flex {
    fn scan(
        queries: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        ids: IntTensor<Self>,
        rules: IntTensor<Self>,
        bounds: FloatTensor<Self>,
        plan: Plan,
    ) -> (FloatTensor<Self>, IntTensor<Self>) {
        let [queries, rows, rules, bounds] = [queries, rows, rules, bounds].map(|tensor| tensor.to_contiguous());
        let (mut scores, mut ids) = (scores.to_contiguous(), ids.to_contiguous());
        let (count, total) = (queries.layout().shape()[0], rows.layout().shape()[0]);
        let rules = Rules { ids: rules.storage::<i32>(), bounds: bounds.storage::<f32>(), plan: &plan, queries: count };
        // A single score at a time is the least there is.
        let lanes = lanes()[0].min(plan.scratch.max(1));
        let groups: Vec<Range<usize>> = (0..count).step_by(lanes).map(|begin| begin..(begin + lanes).min(count)).collect();
        let block = ROWS.min((plan.scratch / lanes).max(1));

        // Few queries: the rows are divided, and every part makes lists of its own, with all panels together, so that rows are read and rounded once. Many: the queries are,
        // and every task reads all rows.
        let threads = rayon::current_num_threads();
        let divide = groups.len() < 4 * threads;
        let entries = count * (plan.k + plan.bins.map_or(0, |bins| bins.counters()));
        let parts = if divide { threads.min(SPARE / entries.max(1)).clamp(1, total.div_ceil(block).max(1)) } else { 1 };
        let share = total.div_ceil(parts).next_multiple_of(block);
        let sets = sets(groups.len(), parts, threads);
        let set = |set: usize| &groups[set * groups.len() / sets..(set + 1) * groups.len() / sets];
        let tasks: Vec<(Range<usize>, &[Range<usize>])> = (0..parts)
            .map(|part| (part * share).min(total)..((part + 1) * share).min(total))
            .flat_map(|part| (0..sets).map(move |at| (part.clone(), set(at))))
            .collect();
        let width = plan.width();
        // Panels are let go with their task; what stays of a list is its best.
        let found: Vec<Vec<(usize, List)>> = {
            let (queries, scores, ids) = (queries.storage::<f32>(), scores.storage::<f32>(), ids.storage::<i32>());
            let before = |query: usize| (&scores[query * plan.k..][..plan.k], &ids[query * width..][..plan.k]);
            tasks
                .into_par_iter()
                .map(|(part, groups)| {
                    let mut panels: Vec<Panel> = groups.iter().map(|group| Panel::new(group.clone(), queries, &rules, before)).collect();
                    scan_part(&mut panels, &rows, part, block, &rules);
                    panels.into_iter().flat_map(Panel::lists).map(|(query, list)| (query, list.best())).collect()
                })
                .collect()
        };

        // Parts of one query, in the order of the rows.
        let mut lists: Vec<Vec<List>> = (0..count).map(|_| Vec::with_capacity(parts)).collect();
        for (query, list) in found.into_iter().flatten() {
            lists[query].push(list);
        }
        let (into_scores, into_ids) = (scores.storage_mut::<f32>(), ids.storage_mut::<i32>());
        into_scores
            .par_chunks_mut(plan.k)
            .zip(into_ids.par_chunks_mut(width))
            .zip(lists)
            .for_each(|((scores, ids), lists)| write(lists, total, scores, ids));
        (scores, ids)
    }
}

/// In how many sets panels go through the rows: each set reads all rows of its part, so no more than keep every thread busy and a set within [`TOGETHER`].
fn sets(panels: usize, parts: usize, threads: usize) -> usize {
    let busy = threads.div_ceil(parts);
    (busy * panels.div_ceil(TOGETHER * busy)).clamp(1, panels.max(1))
}

/// Takes panels through some rows, block by block.
fn scan_part(panels: &mut [Panel], rows: &FlexTensor, part: Range<usize>, block: usize, rules: &Rules<'_>) {
    let dimension = rows.layout().shape()[1];
    let mut floats = if rows.dtype() == DType::F16 { vec![0.0f32; block * dimension] } else { Vec::new() };
    let mut rounded = screen::Rows::new(dimension);
    for begin in part.clone().step_by(block) {
        let numbers = begin * dimension..(begin + block).min(part.end) * dimension;
        let tile = if rows.dtype() == DType::F16 {
            let floats = &mut floats[..numbers.len()];
            widen(&rows.storage::<f16>()[numbers], floats);
            &*floats
        } else {
            &rows.storage::<f32>()[numbers]
        };
        let looks = panels.iter().filter(|panel| panel.looks()).count() >= LOOKS;
        if looks {
            rounded.round(tile, dimension);
        }
        for panel in &mut *panels {
            panel.take(tile, looks.then_some(&rounded), dimension, begin, rules);
        }
    }
}

/// A row that is in a list, or may come to be: its key and its id in one number, the smaller the better, so that ordering lists compares once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry(u64);

impl Entry {
    /// A key that is not NaN, and an id from 0.
    pub(super) fn new(key: f32, id: i32) -> Self {
        // Bits of floats rise with them, but for the sign: those below 0 are turned over and put below the others. The best key becomes the least number.
        let bits = key.to_bits();
        let rising = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        Self(u64::from(!rising) << 32 | u64::from(id as u32))
    }

    pub(super) fn key(self) -> f32 {
        let rising = !((self.0 >> 32) as u32);
        f32::from_bits(if rising >> 31 == 1 { rising & !(1 << 31) } else { !rising })
    }

    fn id(self) -> i32 {
        self.0 as u32 as i32
    }
}

/// The best of one query among some rows, unordered beyond the first cut.
pub(super) struct List {
    pub(super) entries: Vec<Entry>,
    pub(super) k: usize,
    pub(super) nan: bool,
    /// Scores in each bin; empty when nobody asked.
    pub(super) counts: Vec<i32>,
}

impl List {
    /// The list without what its k best leave, in no more memory than they take.
    fn best(mut self) -> Self {
        if self.entries.len() > self.k {
            self.cut();
        }
        self.entries.shrink_to_fit();
        self
    }

    /// The k best of the entries so far. Gives the last one's key: rows behind it in the store must be above it.
    pub(super) fn cut(&mut self) -> f32 {
        self.entries.select_nth_unstable(self.k - 1);
        self.entries.truncate(self.k);
        self.entries[self.k - 1].key()
    }
}

/// The list of a query out of those of its parts, each of which began with the list before.
fn write(mut lists: Vec<List>, rows: usize, scores: &mut [f32], ids: &mut [i32]) {
    let k = scores.len();
    let nan = lists.iter().any(|list| list.nan);
    for list in &lists {
        ids[k + 1..].iter_mut().zip(&list.counts).for_each(|(sum, count)| *sum += count);
    }
    let mut entries = lists.drain(..).map(|list| list.entries).reduce(|mut all, mut more| {
        all.append(&mut more);
        all
    });
    let entries = entries.get_or_insert_default();
    entries.sort_unstable();
    // The list before is in every part.
    entries.dedup();
    scores.fill(MISSING);
    ids[..k].fill(-1);
    for ((score, id), entry) in scores.iter_mut().zip(&mut ids[..k]).zip(&*entries) {
        (*score, *id) = (entry.key(), entry.id());
    }
    ids[k] = match ids[k] {
        status if status < 0 => status,
        _ if nan => NOT_A_NUMBER,
        status => status + rows as i32,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_ordered_by_descending_key_and_then_by_id() {
        let keys = [f32::INFINITY, f32::MAX, 1.5, 1.0, f32::MIN_POSITIVE, 1e-45, 0.0, -1e-45, -1.0, f32::MIN, f32::NEG_INFINITY];
        let entries: Vec<Entry> = keys.iter().flat_map(|&key| [0, 1, 7, i32::MAX].map(|id| Entry::new(key, id))).collect();
        assert!(entries.is_sorted() && entries.windows(2).all(|two| two[0] != two[1]));
        let back: Vec<(f32, i32)> = entries.iter().map(|entry| (entry.key(), entry.id())).collect();
        assert_eq!(back, keys.iter().flat_map(|&key| [0, 1, 7, i32::MAX].map(|id| (key, id))).collect::<Vec<_>>());
    }

    #[test]
    fn every_thread_has_work_and_no_set_more_panels_than_a_block_is_kept_for() {
        for threads in [1, 2, 16, 64] {
            for panels in [0, 1, 3, 17, 64, 127, 1000] {
                for parts in [1, 4, threads] {
                    let sets = sets(panels, parts, threads);
                    assert!(panels.div_ceil(sets) <= TOGETHER, "{threads} threads, {panels} panels, {parts} parts: {sets} sets");
                    assert!(sets * parts >= threads.min(panels * parts), "{threads} threads, {panels} panels, {parts} parts: {sets} sets");
                }
            }
        }
        // Few panels are not scattered: each set reads all rows.
        assert_eq!([sets(4, 1, 2), sets(64, 1, 2), sets(3, 2, 2)], [2, 4, 1]);
    }
}
