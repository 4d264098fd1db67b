//! A panel of queries and what each has found: products with a block of rows, keys, counts, thresholds.

#![allow(unsafe_code)]

use std::ops::Range;

use super::Plan;
use super::flex::{Entry, List};
use super::screen;
use crate::key::{self, Key};
use crate::layers::product::{Target, View, product};
use crate::layers::wide::{Lanes, dot, widest};

/// Rows of a block, at most: with a panel's scores they fit the second cache at usual widths.
pub(super) const ROWS: usize = 72;

/// Queries of a panel, at most: two of the widest registers.
pub(super) const LANES: usize = 32;

/// Fewer queries than this are multiplied one by one, along the columns: a panel would mostly hold zeros. Measured: a panel takes as long as four.
const PANEL: usize = 5;

/// Where more than one row in so many reaches a list, looking at integers first costs more than it saves: a row of integers takes 3/5 of one of floats.
const REACHED: usize = 3;

/// Blocks from one in which a look was in vain to the next with a look.
const REST: usize = 8;

widest! {
    /// Queries of a panel, and of the registers that it is made of. A panel is as wide as the tiles of a product and has whole lines of the cache: of wider ones a tile reads every
    /// other line, for which half of the innermost cache has no place.
    pub(super) fn lanes() -> [usize; 2] = lanes_body
}

#[inline(always)]
fn lanes_body<L: Lanes>() -> [usize; 2] {
    [(2 * L::COUNT).clamp(LANES / 2, LANES), L::COUNT]
}

/// What keeps rows from lists, and how they are ordered; layouts as in [`super::Scan::scan`].
pub(super) struct Rules<'a> {
    pub(super) ids: &'a [i32],
    pub(super) bounds: &'a [f32],
    pub(super) plan: &'a Plan,
    pub(super) queries: usize,
}

impl Rules<'_> {
    fn excluded(&self, query: usize) -> &[i32] {
        &self.ids[self.ids[query] as usize..self.ids[query + 1] as usize]
    }

    fn words(&self, query: usize) -> [u32; 2] {
        let at = self.queries + 1 + 2 * query;
        [self.ids[at] as u32, self.ids[at + 1] as u32]
    }
}

/// Some queries, their numbers as the product wants them, and their lists.
pub(super) struct Panel {
    /// The first query.
    first: usize,
    /// One for each query.
    lists: Vec<List>,
    /// Columns of the score buffer: queries, and zeros up to whole registers.
    lanes: usize,
    /// `[dimension, lanes]`, or `[queries, dimension]` when there are few.
    values: Vec<f32>,
    /// The same for a look at integers, where that helps.
    rounded: Option<screen::Queries>,
    /// Rows of the last block that might reach a list.
    reached: usize,
    /// Blocks to go without a look.
    rest: usize,
    left: Left,
    /// A key that is not above it is out; NaN keeps nothing out, and a key that is NaN is never kept out.
    low: [f32; LANES],
    /// A key above it is out.
    high: [f32; LANES],
    /// Scores of a block, `[rows, lanes]`.
    scores: Vec<f32>,
    /// What the keys of a block are at most, where keys are not scores.
    most: Vec<f32>,
    draw: Draw,
}

/// What a look left of a block.
#[derive(Default)]
struct Left {
    /// Places in the block.
    places: Vec<usize>,
    /// The rows, side by side.
    rows: Vec<f32>,
}

/// What rows are drawn by.
struct Draw {
    key: Key,
    floor: [f32; LANES],
    ceiling: [f32; LANES],
    centre: [f32; LANES],
    words: [[u32; LANES]; 2],
}

impl Draw {
    fn of(&self, lane: usize, score: f32, id: u32) -> f32 {
        self.key.of(score, self.centre[lane], id, [self.words[0][lane], self.words[1][lane]])
    }
}

impl Panel {
    /// Queries with their lists before, which `before` gives: keys and ids, best first, missing ids below 0.
    pub(super) fn new<'a>(
        queries: Range<usize>,
        values: &[f32],
        rules: &Rules<'_>,
        before: impl Fn(usize) -> (&'a [f32], &'a [i32]),
    ) -> Self {
        let (plan, count) = (rules.plan, queries.len());
        let dimension = values.len() / rules.queries;
        let values = &values[queries.start * dimension..queries.end * dimension];
        let lanes = if count < PANEL { count } else { count.next_multiple_of(lanes()[1]) };
        // Counts need every score, and draws other keys than scores.
        let screened = screen::is_faster() && count >= PANEL && plan.key == Key::Score && plan.bins.is_none();
        let rounded = screened.then(|| screen::Queries::new(values, dimension, lanes)).flatten();
        let values = if count < PANEL {
            values.to_vec()
        } else {
            let mut panel = vec![0.0; dimension * lanes];
            for (lane, row) in values.chunks_exact(dimension).enumerate() {
                row.iter().enumerate().for_each(|(column, &value)| panel[column * lanes + lane] = value);
            }
            panel
        };
        let counters = plan.bins.map_or(0, |bins| bins.counters());
        // Lanes without a query let nothing through but NaN.
        let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::INFINITY; LANES]);
        let of =
            |place: usize| std::array::from_fn(|lane| if lane < count { rules.bounds[3 * (queries.start + lane) + place] } else { 0.0 });
        let word = |place: usize| std::array::from_fn(|lane| if lane < count { rules.words(queries.start + lane)[place] } else { 0 });
        let draw = Draw { key: plan.key, floor: of(0), ceiling: of(1), centre: of(2), words: [word(0), word(1)] };
        let lists = queries.clone().enumerate().map(|(lane, query)| {
            let (keys, ids) = before(query);
            let entries: Vec<Entry> = keys.iter().zip(ids).take_while(|(_, id)| **id >= 0).map(|(&key, &id)| Entry::new(key, id)).collect();
            let (floor, ceiling) = (rules.bounds[3 * query], rules.bounds[3 * query + 1]);
            low[lane] = match plan.key {
                _ if entries.len() == plan.k => entries[plan.k - 1].key(),
                Key::Score if floor == f32::NEG_INFINITY => f32::NAN,
                Key::Score => floor.next_down(),
                Key::Uniform | Key::Race { .. } => key::LEAST,
            };
            if plan.key == Key::Score {
                high[lane] = ceiling;
            }
            List { entries, k: plan.k, nan: false, counts: vec![0; counters] }
        });
        let lists = lists.collect();
        Self {
            first: queries.start,
            lists,
            lanes,
            values,
            rounded,
            reached: ROWS,
            rest: 0,
            left: Left::default(),
            low,
            high,
            scores: Vec::new(),
            most: Vec::new(),
            draw,
        }
    }

    /// Queries and their lists.
    pub(super) fn lists(self) -> impl Iterator<Item = (usize, List)> {
        (self.first..).zip(self.lists)
    }

    /// Whether a look at the next block's integers may save more than it costs.
    pub(super) fn looks(&self) -> bool {
        self.rounded.is_some() && self.rest == 0 && self.reached * REACHED <= ROWS
    }

    /// Scans a block of at most [`ROWS`] rows, row-major, of which `begin` is the place of the first in the shard; `rounded` is the same block.
    pub(super) fn take(&mut self, rows: &[f32], rounded: Option<&screen::Rows>, dimension: usize, begin: usize, rules: &Rules<'_>) {
        let (first, height) = (rules.plan.first + begin, rows.len() / dimension);
        self.rest = self.rest.saturating_sub(1);
        let mut left = std::mem::take(&mut self.left);
        let looked = self.look(rows, rounded, dimension, &mut left);
        if looked {
            self.rest = if left.places.len() * REACHED > height { REST } else { 0 };
        }
        let rows = if looked { &left.rows } else { rows };
        self.scores.resize(rows.len() / dimension * self.lanes, 0.0);
        multiply(self, rows, dimension);
        self.count(first, rules);
        let keys = match self.draw.key {
            Key::Score => &self.scores,
            Key::Uniform | Key::Race { .. } => {
                self.most.resize(self.scores.len(), 0.0);
                bound(&self.draw, &self.scores, self.lanes, first as u32, &mut self.most);
                &self.most
            }
        };
        let mut hits = [0; ROWS];
        reach(keys, self.lanes, &self.low, &self.high, &mut hits);
        self.reached = 0;
        for (row, mut hits) in hits.into_iter().enumerate().filter(|(_, hits)| *hits != 0) {
            self.reached += 1;
            let id = first + if looked { left.places[row] } else { row };
            while hits != 0 {
                let lane = hits.trailing_zeros() as usize;
                hits &= hits - 1;
                // Lanes without a query let through what is NaN.
                let Some(list) = self.lists.get_mut(lane) else { break };
                let at = row * self.lanes + lane;
                // Where rows are drawn, this may be no more than a bound.
                let key = if self.draw.key == Key::Score { keys[at] } else { self.draw.of(lane, self.scores[at], id as u32) };
                offer(list, key, id as i32, rules.excluded(self.first + lane), &mut self.low[lane], self.high[lane]);
            }
        }
        self.left = left;
    }

    /// Finds the rows of a block that may reach a list; false where nobody looked.
    fn look(&self, rows: &[f32], rounded: Option<&screen::Rows>, dimension: usize, left: &mut Left) -> bool {
        let rounded = rounded.filter(|_| self.looks());
        let Some(may) = rounded.and_then(|rounded| self.rounded.as_ref()?.look(rounded, &self.low)) else { return false };
        left.places.clear();
        left.rows.clear();
        for (place, row) in rows.chunks_exact(dimension).enumerate().filter(|(place, _)| may[*place]) {
            left.places.push(place);
            left.rows.extend_from_slice(row);
        }
        true
    }

    /// Counts the scores of a block, but for excluded rows.
    fn count(&mut self, first: usize, rules: &Rules<'_>) {
        let Some(bins) = rules.plan.bins else { return };
        let height = self.scores.len() / self.lanes;
        for (lane, list) in self.lists.iter_mut().enumerate() {
            let scores = self.scores[lane..].iter().step_by(self.lanes);
            scores.filter(|score| !score.is_nan()).for_each(|&score| list.counts[bins.counter(score)] += 1);
            let excluded = rules.excluded(self.first + lane);
            let from = excluded.partition_point(|&id| (id as usize) < first);
            for &id in excluded[from..].iter().take_while(|&&id| (id as usize) < first + height) {
                let score = self.scores[(id as usize - first) * self.lanes + lane];
                if !score.is_nan() {
                    list.counts[bins.counter(score)] -= 1;
                }
            }
        }
    }
}

widest! {
    /// The scores of a block.
    fn multiply(panel: &mut Panel, rows: &[f32], dimension: usize) = multiply_body
}

#[inline(always)]
fn multiply_body<L: Lanes>(panel: &mut Panel, rows: &[f32], dimension: usize) {
    let lanes = panel.lanes;
    if lanes < PANEL {
        for (row, scores) in rows.chunks_exact(dimension).zip(panel.scores.chunks_exact_mut(lanes)) {
            for (query, score) in panel.values.chunks_exact(dimension).zip(scores) {
                *score = dot::<L>(row, query);
            }
        }
        return;
    }
    let height = rows.len() / dimension;
    assert!(panel.scores.len() == height * lanes && panel.values.len() == dimension * lanes, "a block's scores");
    let left = View { at: rows.as_ptr(), row: dimension, column: 1 };
    let right = View { at: panel.values.as_ptr(), row: lanes, column: 1 };
    let into = Target { at: panel.scores.as_mut_ptr(), row: lanes, add: false };
    // SAFETY: the three matrices have these sizes, checked above, and the scores are their own vector.
    unsafe { product::<L>([height, lanes, dimension], left, right, into) }
}

widest! {
    /// What the keys of a block are at most, `[rows, lanes]` like its scores; rows out of bounds get one that is never drawn.
    fn bound(draw: &Draw, scores: &[f32], lanes: usize, first: u32, most: &mut [f32]) = bound_body
}

#[inline(always)]
fn bound_body<L: Lanes>(draw: &Draw, scores: &[f32], lanes: usize, first: u32, most: &mut [f32]) {
    // The choice outside of the loop, so that the loop is vectors.
    match draw.key {
        Key::Score => most.copy_from_slice(scores),
        Key::Uniform => bound_rows(draw, Key::Uniform, scores, lanes, first, most),
        Key::Race { sharpness } => bound_rows(draw, Key::Race { sharpness }, scores, lanes, first, most),
    }
}

#[inline(always)]
fn bound_rows(draw: &Draw, key: Key, scores: &[f32], lanes: usize, first: u32, most: &mut [f32]) {
    let [one, two] = [&draw.words[0][..lanes], &draw.words[1][..lanes]];
    let (floor, ceiling, centre) = (&draw.floor[..lanes], &draw.ceiling[..lanes], &draw.centre[..lanes]);
    for (id, (scores, most)) in (first..).zip(scores.chunks_exact(lanes).zip(most.chunks_exact_mut(lanes))) {
        for lane in 0..lanes {
            let score = scores[lane];
            let bound = key.most(score, centre[lane], id, [one[lane], two[lane]]);
            let within = !((score < floor[lane]) | (score > ceiling[lane]));
            most[lane] = if within { bound } else { f32::NEG_INFINITY };
        }
    }
}

widest! {
    /// The lanes of each row, as bits, whose key is neither kept out by their low nor by their high.
    fn reach(keys: &[f32], lanes: usize, low: &[f32; LANES], high: &[f32; LANES], hits: &mut [u32]) = reach_body
}

#[inline(always)]
fn reach_body<L: Lanes>(keys: &[f32], lanes: usize, low: &[f32; LANES], high: &[f32; LANES], hits: &mut [u32]) {
    match lanes {
        32 => reach_lanes::<32>(keys, low, high, hits),
        16 => reach_lanes::<16>(keys, low, high, hits),
        8 => reach_lanes::<8>(keys, low, high, hits),
        1 => reach_lanes::<1>(keys, low, high, hits),
        _ => {
            for (keys, hits) in keys.chunks_exact(lanes).zip(hits) {
                *hits = reaches(keys, &low[..lanes], &high[..lanes]);
            }
        }
    }
}

#[inline(always)]
fn reach_lanes<const N: usize>(keys: &[f32], low: &[f32; LANES], high: &[f32; LANES], hits: &mut [u32]) {
    for (keys, hits) in keys.chunks_exact(N).zip(hits) {
        *hits = reaches(&keys[..N], &low[..N], &high[..N]);
    }
}

#[inline(always)]
fn reaches(keys: &[f32], low: &[f32], high: &[f32]) -> u32 {
    let mut hits = 0;
    for lane in 0..keys.len() {
        hits |= u32::from(!out(keys[lane], low[lane], high[lane])) << lane;
    }
    hits
}

/// Whether a key is kept out. A key that is NaN never is, and a low of NaN keeps out nothing.
#[inline(always)]
fn out(key: f32, low: f32, high: f32) -> bool {
    (key <= low) | (key > high)
}

/// One key that may count. Rows come by ascending id, so one that equals the last of a full list is behind it.
fn offer(list: &mut List, key: f32, id: i32, excluded: &[i32], low: &mut f32, high: f32) {
    if key.is_nan() {
        list.nan = true;
    } else if !out(key, *low, high) && excluded.binary_search(&id).is_err() {
        // -0 becomes 0: the two are one score.
        list.entries.push(Entry::new(key + 0.0, id));
        if list.entries.len() >= 2 * list.k + 8 {
            *low = list.cut();
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Panels that look at integers first and panels that never do, over rows of which some blocks hold what integers cannot tell.
    #[test]
    fn a_look_at_integers_changes_no_bit_of_a_list() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        for (count, dimension, k, excluded) in [(16, 48, 1, 0), (13, 33, 10, 40), (7, 64, 30, 500)] {
            let mut numbers = |count: usize| -> Vec<f32> { (0..count).map(|_| random.random_range(-1.0..1.0)).collect() };
            let (queries, mut rows) = (numbers(count * dimension), numbers(100 * ROWS * dimension));
            // Copies, zeros, a row of a large norm among small ones, a block of small ones, and rows that only floats tell apart.
            rows.copy_within(40 * ROWS * dimension..50 * ROWS * dimension, 80 * ROWS * dimension);
            rows[60 * ROWS * dimension..61 * ROWS * dimension].fill(0.0);
            rows[62 * ROWS * dimension..62 * ROWS * dimension + dimension].iter_mut().for_each(|value| *value *= 1e4);
            rows[64 * ROWS * dimension..65 * ROWS * dimension].iter_mut().for_each(|value| *value *= 1e-20);
            rows[90 * ROWS * dimension..90 * ROWS * dimension + dimension].copy_from_slice(&queries[..dimension]);
            for row in 1..ROWS {
                let at = (90 * ROWS + row) * dimension;
                rows.copy_within(90 * ROWS * dimension..90 * ROWS * dimension + dimension, at);
                rows[at + row % dimension] = rows[at + row % dimension].next_down();
            }
            let plan = Plan { first: 1000, k, scratch: usize::MAX, key: Key::Score, bins: None };
            let mut ids: Vec<i32> = (0..=count).map(|query| (query * excluded) as i32).collect();
            ids.extend((0..2 * count).map(|_| 0));
            // Offsets count from the start.
            let begin = ids.len() as i32;
            ids[..=count].iter_mut().for_each(|offset| *offset += begin);
            for query in 0..count {
                ids.extend((0..excluded).map(|place| (1000 + query + 13 * place) as i32));
            }
            let ceiling = dimension as f32 / 5.0;
            let bounds: Vec<f32> = (0..count).flat_map(|query| [f32::NEG_INFINITY, ceiling + query as f32, 0.0]).collect();
            let rules = Rules { ids: &ids, bounds: &bounds, plan: &plan, queries: count };
            let panel = || Panel::new(0..count, &queries, &rules, |_| (&[], &[]));
            let (mut looking, mut plain) = (panel(), panel());
            let mut rounded = screen::Rows::new(dimension);
            let (mut looks, mut multiplied) = (0, 0);
            for (block, rows) in rows.chunks(ROWS * dimension).enumerate() {
                rounded.round(rows, dimension);
                let looked = looking.looks() && rounded.scale.is_some();
                looks += usize::from(looked);
                looking.take(rows, Some(&rounded), dimension, block * ROWS, &rules);
                multiplied += if looked { looking.scores.len() / looking.lanes } else { 0 };
                plain.take(rows, None, dimension, block * ROWS, &rules);
            }
            if screen::is_faster() && looking.lanes <= 16 {
                assert!(looks > 30 && multiplied < looks * ROWS / 3, "{looks} looks, {multiplied} rows multiplied");
            }
            for ((_, one), (_, other)) in looking.lists().zip(plain.lists()) {
                assert_eq!(one.entries, other.entries, "{count} queries");
                assert!(!one.nan && one.entries.len() >= k);
            }
        }
    }
}
