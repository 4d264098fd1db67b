//! The call: what is asked, what comes back, and every check around the scan.
//!
//! Sizes and ids are checked before the tensor library sees them (it answers with panics); after the scan every row must show that it was
//! written (a failed launch can read back as zeros) and that no score was NaN.

use std::ops::Range;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use thiserror::Error;

use crate::bins::Bins;
use crate::exclusions::Exclusions;
use crate::key::{self, Key};
use crate::pairs::pair_scores;
use crate::scan::{LOST, MISSING, NOT_A_NUMBER, Plan, scan};
use crate::stream::Store;

/// The deepest list.
pub const MAX_K: usize = 1024;

/// What a search may hold beyond its inputs and its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Entries of running lists: queries beyond that come in a second pass over the store.
    pub(crate) running: usize,
    /// Numbers for survivors on a GPU; scores of pairs that are computed at a time.
    pub(crate) scratch: usize,
}

impl Budget {
    /// On a GPU lists of 8 MiB each for scores and ids, and up to 48 MiB of survivors.
    pub(crate) const GPU: Self = Self { running: 2 << 20, scratch: 12 << 20 };
    /// On the CPU lists of 32 MiB each; scores of a panel are few.
    pub(crate) const CPU: Self = Self { running: 8 << 20, scratch: 4 << 20 };

    pub(crate) fn of(device: &Device) -> Self {
        if crate::adapters::cube_device(device).is_some() { Self::GPU } else { Self::CPU }
    }
}

/// Which of the rows that count a query gets.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// Those of the highest scores, behind the first `skip` (a rank window).
    Best {
        /// Ranks passed over; skip + k is at most [`MAX_K`].
        skip: usize,
    },
    /// Any, with equal probability, without replacement, in random order.
    Uniform {
        /// Decides the draw, together with a query's key and the row's id.
        seed: u64,
        /// One for each query.
        keys: &'a [u64],
    },
    /// Without replacement, each next one with probability proportional to `exp(-sharpness (score - centre)^2)` among those left: SimANS (arXiv 2210.11773) with
    /// sharpness a and centre `s(q, d+) + b`. Rows so far off that `sharpness (score - centre)^2` is infinite in f32 are never drawn. In the order of drawing.
    Near {
        /// Decides the draw, together with a query's key and the row's id.
        seed: u64,
        /// One for each query.
        keys: &'a [u64],
        /// Above 0.
        sharpness: f32,
        /// The most likely score, one for each query.
        centres: &'a [f32],
    },
}

/// What to search.
#[derive(Debug)]
pub struct SearchRequest<'a> {
    /// `[queries, dimension]`, f32; or f16, which a GPU with matrix units multiplies with f16 rows at its full rate. Scores are exact for the numbers given.
    pub queries: Tensor<2>,
    /// Shards on the device, or a file.
    pub store: Store<'a>,
    /// Documents per query, 1 to [`MAX_K`].
    pub k: usize,
    /// Documents that a query may not get.
    pub exclusions: Option<&'a Exclusions>,
    /// Scores above it are left out, per query.
    pub ceiling: Option<&'a [f32]>,
    /// Scores below it are left out, per query.
    pub floor: Option<&'a [f32]>,
    /// The best, or a draw.
    pub choice: Choice<'a>,
    /// Counts the scores of all rows that are not excluded, whatever floor and ceiling.
    pub bins: Option<Bins>,
}

impl<'a> SearchRequest<'a> {
    /// The best k of all rows.
    #[must_use]
    pub fn new(queries: Tensor<2>, store: impl Into<Store<'a>>, k: usize) -> Self {
        Self { queries, store: store.into(), k, exclusions: None, ceiling: None, floor: None, choice: Choice::Best { skip: 0 }, bins: None }
    }

    /// Entries of a list on the device.
    fn depth(&self) -> usize {
        self.k.saturating_add(if let Choice::Best { skip } = self.choice { skip } else { 0 })
    }

    fn key(&self) -> Key {
        match self.choice {
            Choice::Best { .. } => Key::Score,
            Choice::Uniform { .. } => Key::Uniform,
            Choice::Near { sharpness, .. } => Key::Race { sharpness },
        }
    }
}

/// The documents of every query: by score descending, then id ascending, or in the order of drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct TopK {
    /// Entries per query.
    pub k: usize,
    /// `[queries, k]`; negative infinity where there are fewer than k. Those of drawn rows are computed for the pairs alone, so they can differ in the last
    /// bits from those of a search for the best.
    pub scores: Vec<f32>,
    /// `[queries, k]`; `u32::MAX` where there are fewer than k.
    pub ids: Vec<u32>,
    /// `[queries, bins + 2]` as in [`Bins`]; empty when no bins were asked for.
    pub counts: Vec<u32>,
}

impl TopK {
    /// The documents of a query with their scores, best first, without the missing ones.
    pub fn row(&self, query: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let row = query * self.k..(query + 1) * self.k;
        self.ids[row.clone()].iter().copied().zip(self.scores[row].iter().copied()).take_while(|(id, _)| *id != u32::MAX)
    }
}

/// A search that cannot be done, or whose answer cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SearchError {
    /// k out of range.
    #[error("k is {k}, expected 1 to {MAX_K}")]
    Depth {
        /// The k asked for.
        k: usize,
    },
    /// A shard of another width than the queries.
    #[error("shard {shard} has rows of width {got}, the queries have {expected}")]
    Dimension {
        /// The shard.
        shard: usize,
        /// Its width.
        got: usize,
        /// The queries' width.
        expected: usize,
    },
    /// A rank window that ends too deep.
    #[error("the window ends at rank {end}, expected at most {MAX_K}; skip fewer ranks or ask for a smaller k")]
    Window {
        /// skip + k.
        end: usize,
    },
    /// Bins that cannot count.
    #[error("the histogram has {fault}")]
    Bins {
        /// What is wrong, and what was expected.
        fault: String,
    },
    /// Weights that cannot be drawn from.
    #[error("the draw has {fault}")]
    Weights {
        /// What is wrong, and what was expected.
        fault: String,
    },
    /// Survivors that cannot be scored again.
    #[error("scoring survivors again: {fault}")]
    Rescoring {
        /// What is wrong, and what was expected.
        fault: String,
    },
    /// Ids do not fit 31 bits.
    #[error("the store has {rows} rows, expected less than 2^31 - 1")]
    Rows {
        /// Rows of all shards.
        rows: usize,
    },
    /// A row per query is expected.
    #[error("{what} for {got} queries, but there are {expected} queries")]
    Queries {
        /// Exclusions, ceilings, floors, keys or centres.
        what: &'static str,
        /// How many there are.
        got: usize,
        /// How many queries there are.
        expected: usize,
    },
    /// An excluded id that the store does not have.
    #[error("document {id} is excluded, but the store has {rows} rows")]
    Excluded {
        /// The id.
        id: u32,
        /// Rows of all shards.
        rows: usize,
    },
    /// A number format that is not searched.
    #[error("{what} are {got}, expected {expected}")]
    Format {
        /// Queries or rows.
        what: &'static str,
        /// Their format.
        got: String,
        /// What is searched.
        expected: &'static str,
    },
    /// NaN among the numbers.
    #[error("query {query} has a score, a floor or a ceiling that is not a number: its row, or a row of the store, holds NaN or overflows")]
    NotANumber {
        /// The query.
        query: usize,
    },
    /// The device has too little shared memory for lists of that depth.
    #[error("k = {k} needs {needed} bytes of shared memory, the device has {available}; ask for a smaller k")]
    SharedMemory {
        /// The k asked for.
        k: usize,
        /// Bytes that its lists take.
        needed: usize,
        /// Bytes that the device has.
        available: usize,
    },
    /// The device cannot read 16-bit floats.
    #[error("the 16-bit floats of {what} cannot be read by this device; use 32-bit floats")]
    Half {
        /// The queries, or the first such shard.
        what: String,
    },
    /// A shard that the device cannot count through.
    #[error("shard {shard} has {numbers} numbers, expected less than 2^31; make more and smaller shards")]
    Shard {
        /// The shard.
        shard: usize,
        /// Rows x dimension.
        numbers: usize,
    },
    /// Queries and store are on different devices.
    #[error("shard {shard} is on another device than the queries ({got} and {expected})")]
    Elsewhere {
        /// The shard.
        shard: usize,
        /// Its device.
        got: String,
        /// The queries' device.
        expected: String,
    },
    /// The device did not do its work.
    #[error("the device gave no answer for query {query}: {reason}")]
    Device {
        /// The query.
        query: usize,
        /// What was seen.
        reason: String,
    },
}

/// Searches exactly, or draws, in one pass over the store. The order at equal scores, and which of several equal scores is the last to be kept, is by ascending id.
///
/// Memory beyond inputs and answer: lists of queries x k (in parts when large) and, on a GPU, at most 48 MiB of survivors. A row that is not a number is found
/// when it is scored, so it is an error of the first query, excluded or not; with no row to score, queries are not looked at.
///
/// # Errors
/// See [`SearchError`].
pub fn search(request: SearchRequest<'_>) -> Result<TopK, SearchError> {
    let budget = Budget::of(&request.queries.device());
    search_within(request, budget)
}

/// [`search`] in so much memory.
pub(crate) fn search_within(mut request: SearchRequest<'_>, budget: Budget) -> Result<TopK, SearchError> {
    let [count, dimension] = request.queries.dims();
    let rows = check(&request)?;
    let (k, depth, counters) = (request.k, request.depth(), request.bins.map_or(0, |bins| bins.counters()));
    let mut answer = TopK { k, scores: Vec::with_capacity(count * k), ids: Vec::with_capacity(count * k), counts: Vec::new() };
    if dimension == 0 || rows == 0 {
        answer.scores.resize(count * k, f32::NEG_INFINITY);
        answer.ids.resize(count * k, u32::MAX);
        answer.counts.resize(count * counters, 0);
        return Ok(answer);
    }
    request.queries = request.queries.without_autodiff();
    if !crate::scan::reads_half(&request.queries.device()) {
        request.queries = request.queries.cast(DType::F32);
    }
    // Entries are 8 bytes. Status, rules and bounds of a query take as much as four; and kernels count the numbers of the queries up to 2^31.
    let step = (budget.running / (depth + counters + 4)).clamp(1, i32::MAX as usize / dimension);
    for begin in (0..count).step_by(step) {
        let part = begin..(begin + step).min(count);
        let queries = &request.queries;
        let some = if part.len() == count { queries.clone() } else { queries.clone().slice([part.clone(), 0..dimension]) };
        let plan = Plan { first: 0, k: depth, scratch: budget.scratch, key: request.key(), bins: request.bins };
        let (scores, ids) = Running::start(&part, &request, &plan).over(&some, request.store, plan);
        collect(&mut answer, begin, rows, depth, scores, ids)?;
    }
    if request.key() != Key::Score {
        let pairs: Vec<(u32, u32)> = pairs(&answer).collect();
        let scores = pair_scores(&request.queries, request.store, &pairs, budget.scratch);
        let scores = scores.map_err(|reason| SearchError::Device { query: 0, reason })?;
        let drawn = answer.scores.iter_mut().zip(&answer.ids).filter(|(_, id)| **id != u32::MAX).map(|(score, _)| score);
        drawn.zip(scores).for_each(|(place, score)| *place = score + 0.0);
    }
    Ok(answer)
}

/// (query, id) of every entry that is there, in order.
pub(crate) fn pairs(answer: &TopK) -> impl Iterator<Item = (u32, u32)> + '_ {
    let entries = answer.ids.iter().enumerate().map(|(place, &id)| ((place / answer.k) as u32, id));
    entries.filter(|(_, id)| *id != u32::MAX)
}

/// The running lists of some queries, on the device, and what keeps rows from them. See [`crate::scan`].
struct Running {
    scores: Tensor<2>,
    ids: Tensor<2, Int>,
    rules: Tensor<1, Int>,
    bounds: Tensor<1>,
}

impl Running {
    fn start(part: &Range<usize>, request: &SearchRequest<'_>, plan: &Plan) -> Self {
        let (count, device) = (part.len(), request.queries.device());
        let (seed, keys, centres) = match request.choice {
            Choice::Best { .. } => (0, None, None),
            Choice::Uniform { seed, keys } => (seed, Some(keys), None),
            Choice::Near { seed, keys, centres, .. } => (seed, Some(keys), Some(centres)),
        };
        let words: Vec<[u32; 2]> = part.clone().map(|query| keys.map_or([0; 2], |keys| key::words(seed, keys[query]))).collect();
        let rules = match request.exclusions {
            Some(exclusions) => exclusions.part(part.clone(), &words),
            None => Exclusions::none(count).part(0..count, &words),
        };
        let of = |values: Option<&[f32]>, query: usize, otherwise: f32| values.map_or(otherwise, |values| values[query]);
        let bounds = part.clone().flat_map(|query| {
            [of(request.floor, query, f32::NEG_INFINITY), of(request.ceiling, query, f32::INFINITY), of(centres, query, 0.0)]
        });
        let (bounds, width): (Vec<f32>, usize) = (bounds.collect(), plan.width());
        let mut ids = vec![0i32; count * width];
        for row in ids.chunks_exact_mut(width) {
            row[..plan.k].fill(-1);
            row[plan.k] = 1;
        }
        let length = rules.len();
        Self {
            scores: Tensor::from_data(TensorData::new(vec![MISSING; count * plan.k], [count, plan.k]), (&device, DType::F32)),
            ids: Tensor::from_data(TensorData::new(ids, [count, width]), (&device, DType::I32)),
            rules: Tensor::from_data(TensorData::new(rules, [length]), (&device, DType::I32)),
            bounds: Tensor::from_data(TensorData::new(bounds, [3 * count]), (&device, DType::F32)),
        }
    }

    /// The lists after all shards.
    fn over(self, queries: &Tensor<2>, store: Store<'_>, mut plan: Plan) -> (Tensor<2>, Tensor<2, Int>) {
        let Self { scores, ids, rules, bounds } = self;
        let mut lists = Some((scores, ids));
        store.each(&queries.device(), |shard| {
            let rows = shard.dims()[0];
            if rows > 0 {
                let taken = lists.take();
                lists = taken.map(|(scores, ids)| scan(queries.clone(), shard, scores, ids, rules.clone(), bounds.clone(), plan.clone()));
            }
            plan.first += rows;
        });
        lists.expect("put back after every shard")
    }
}

/// Reads the lists, of so many entries, and checks that they are lists, of so many rows. The answer takes the last k entries of each.
fn collect(answer: &mut TopK, begin: usize, rows: usize, depth: usize, scores: Tensor<2>, ids: Tensor<2, Int>) -> Result<(), SearchError> {
    let width = ids.dims()[1];
    let lost = |query: usize, reason: String| SearchError::Device { query, reason };
    let scores = scores.try_into_vec_as::<f32>().map_err(|error| lost(begin, format!("{error:?}")))?;
    let ids = ids.try_into_vec_as::<i32>().map_err(|error| lost(begin, format!("{error:?}")))?;
    for (row, (scores, ids)) in scores.chunks_exact(depth).zip(ids.chunks_exact(width)).enumerate() {
        let query = begin + row;
        match ids[depth] {
            NOT_A_NUMBER => return Err(SearchError::NotANumber { query }),
            LOST => return Err(lost(query, "its scores were not computed".to_owned())),
            status if status as usize != 1 + rows => {
                return Err(lost(query, format!("the store has {rows} rows, its list says {}", i64::from(status) - 1)));
            }
            _ => {}
        }
        for (&score, &id) in scores.iter().zip(&ids[..depth]).skip(depth - answer.k) {
            // -0 is 0.
            answer.scores.push(if id < 0 { f32::NEG_INFINITY } else { score + 0.0 });
            answer.ids.push(if id < 0 { u32::MAX } else { id as u32 });
        }
        answer.counts.extend(ids[depth + 1..].iter().map(|&count| count as u32));
    }
    Ok(())
}

/// Everything that can be said before the device works. Gives the rows of all shards.
fn check(request: &SearchRequest<'_>) -> Result<usize, SearchError> {
    let SearchRequest { queries, store, k, .. } = request;
    let (count, depth) = (queries.dims()[0], request.depth());
    if !(1..=MAX_K).contains(k) {
        return Err(SearchError::Depth { k: *k });
    }
    if depth > MAX_K {
        return Err(SearchError::Window { end: depth });
    }
    if !matches!(queries.dtype(), DType::F32 | DType::F16) {
        return Err(SearchError::Format { what: "queries", got: format!("{:?}", queries.dtype()), expected: "F32 or F16" });
    }
    let shards = store.check(queries)?;
    let rows = store.rows();
    if rows >= i32::MAX as usize {
        return Err(SearchError::Rows { rows });
    }
    check_rules(request, count, rows)?;
    crate::scan::check_limits(&queries.device(), depth, queries.dtype(), &shards)?;
    Ok(rows)
}

/// What keeps rows out, what they are drawn by, and what they are counted in.
fn check_rules(request: &SearchRequest<'_>, count: usize, rows: usize) -> Result<(), SearchError> {
    let expect = |what: &'static str, got: usize| {
        if got == count { Ok(()) } else { Err(SearchError::Queries { what, got, expected: count }) }
    };
    if let Some(exclusions) = request.exclusions {
        expect("exclusions", exclusions.queries())?;
        if let Some(id) = exclusions.largest().filter(|&id| id as usize >= rows) {
            return Err(SearchError::Excluded { id, rows });
        }
    }
    for (what, bound) in [("ceilings", request.ceiling), ("floors", request.floor)] {
        let Some(bound) = bound else { continue };
        expect(what, bound.len())?;
        if let Some(query) = bound.iter().position(|bound| bound.is_nan()) {
            return Err(SearchError::NotANumber { query });
        }
    }
    if let Choice::Uniform { keys, .. } | Choice::Near { keys, .. } = request.choice {
        expect("keys", keys.len())?;
    }
    if let Choice::Near { sharpness, centres, .. } = request.choice {
        expect("centres", centres.len())?;
        if !(sharpness.is_finite() && sharpness > 0.0) {
            return Err(SearchError::Weights {
                fault: format!("sharpness {sharpness}, expected a number above 0; draw uniformly instead"),
            });
        }
        if let Some(query) = centres.iter().position(|centre| !centre.is_finite()) {
            return Err(SearchError::Weights { fault: format!("the centre {} for query {query}, expected a number", centres[query]) });
        }
    }
    match request.bins.and_then(|bins| bins.fault()) {
        Some(fault) => Err(SearchError::Bins { fault }),
        None => Ok(()),
    }
}
