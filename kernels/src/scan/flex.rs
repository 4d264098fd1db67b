//! The CPU path: blocked matrix products, and per query a threshold that discards nearly all of their scores.
//!
//! A tile of scores is the only extra memory. Survivors gather in a buffer of twice the depth that is cut back when it is full.

use std::cmp::Ordering;

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, FloatDType};
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

use super::{MISSING, NOT_A_NUMBER, Scan};

/// Rows of a tile, at most.
const ROWS: usize = 2048;

/// Queries of a tile, at most: with [`ROWS`], 4 MiB of scores, which the cache holds.
const QUERIES: usize = 512;

impl Scan for Flex {
    fn scan(
        queries: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        ids: IntTensor<Self>,
        excluded: IntTensor<Self>,
        ceiling: FloatTensor<Self>,
        first: usize,
        k: usize,
        scratch: usize,
    ) -> (FloatTensor<Self>, IntTensor<Self>) {
        let (mut scores, mut ids) = (scores.to_contiguous(), ids.to_contiguous());
        let count = queries.layout().shape()[0];
        let rules = Rules { excluded: excluded.to_contiguous(), ceiling: ceiling.to_contiguous(), first };
        let mut lists: Vec<List> = {
            let (scores, ids) = (scores.storage::<f32>(), ids.storage::<i32>());
            (0..count).map(|query| List::resume(&scores[query * k..][..k], &ids[query * (k + 1)..][..=k])).collect()
        };
        let step = QUERIES.min((scratch / ROWS).max(1));
        let tile = ROWS.min((scratch / step).max(1));
        for (block, lists) in lists.chunks_mut(step).enumerate() {
            let begin = block * step;
            let queries = queries.narrow(0, begin, lists.len());
            scan_block(&queries, &rows, tile, begin, lists, &rules);
        }
        let (into_scores, into_ids) = (scores.storage_mut::<f32>(), ids.storage_mut::<i32>());
        into_scores
            .par_chunks_mut(k)
            .zip(into_ids.par_chunks_mut(k + 1))
            .zip(lists)
            .for_each(|((scores, ids), list)| list.write(scores, ids));
        (scores, ids)
    }
}

/// What keeps a row from a list.
struct Rules {
    excluded: FlexTensor,
    ceiling: FlexTensor,
    first: usize,
}

fn scan_block(queries: &FlexTensor, rows: &FlexTensor, step: usize, begin: usize, lists: &mut [List], rules: &Rules) {
    let total = rows.layout().shape()[0];
    let (excluded, ceiling) = (rules.excluded.storage::<i32>(), rules.ceiling.storage::<f32>());
    for start in (0..total).step_by(step) {
        let tile = rows.narrow(0, start, step.min(total - start));
        let tile = if tile.dtype() == DType::F32 { tile } else { Flex::float_cast(tile, FloatDType::F32) };
        let width = tile.layout().shape()[0];
        let product = Flex::float_matmul(queries.clone(), tile.transpose(0, 1)).to_contiguous();
        let product = product.storage::<f32>();
        lists.par_iter_mut().zip(product.par_chunks(width)).enumerate().for_each(|(row, (list, scores))| {
            let query = begin + row;
            let excluded = &excluded[excluded[query] as usize..excluded[query + 1] as usize];
            list.take(scores, (rules.first + start) as i32, excluded, ceiling[query]);
        });
    }
}

/// The best of one query so far, unordered beyond the first cut.
struct List {
    entries: Vec<(f32, i32)>,
    k: usize,
    /// No entry at or behind it can be among the best k.
    threshold: (f32, i32),
    status: i32,
}

/// Best first.
fn order(a: &(f32, i32), b: &(f32, i32)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

impl List {
    fn resume(scores: &[f32], ids: &[i32]) -> Self {
        let k = scores.len();
        let entries: Vec<(f32, i32)> = scores.iter().copied().zip(ids.iter().copied()).take_while(|entry| entry.1 >= 0).collect();
        let threshold = if entries.len() == k { entries[k - 1] } else { (f32::NEG_INFINITY, i32::MAX) };
        Self { entries, k, threshold, status: ids[k] }
    }

    fn take(&mut self, scores: &[f32], first: i32, excluded: &[i32], ceiling: f32) {
        // One pass decides for most tiles that nothing in them counts: no score reaches the threshold, none is NaN.
        let (mut best, mut sum) = (f32::NEG_INFINITY, 0.0);
        for &score in scores {
            best = best.max(score);
            sum += score * 0.0;
        }
        self.status = if self.status < 0 { self.status } else { self.status + scores.len() as i32 };
        if f32::is_nan(sum) && scores.iter().any(|score| score.is_nan()) {
            self.status = NOT_A_NUMBER;
            return;
        }
        if best < self.threshold.0 {
            return;
        }
        for (id, &score) in (first..).zip(scores) {
            // -0 becomes 0: the two are one score.
            let score = score + 0.0;
            if score < self.threshold.0 || score > ceiling || order(&(score, id), &self.threshold) != Ordering::Less {
                continue;
            }
            if excluded.binary_search(&id).is_err() {
                self.entries.push((score, id));
                if self.entries.len() >= 2 * self.k + 8 {
                    self.cut();
                }
            }
        }
    }

    fn cut(&mut self) {
        self.entries.select_nth_unstable_by(self.k - 1, order);
        self.entries.truncate(self.k);
        self.threshold = self.entries[self.k - 1];
    }

    fn write(mut self, scores: &mut [f32], ids: &mut [i32]) {
        self.entries.sort_unstable_by(order);
        self.entries.resize(self.k.max(self.entries.len()), (MISSING, -1));
        for (place, &(score, id)) in self.entries.iter().take(self.k).enumerate() {
            scores[place] = score;
            ids[place] = id;
        }
        ids[self.k] = self.status;
    }
}
