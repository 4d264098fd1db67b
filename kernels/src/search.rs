//! The call: what is asked, what comes back, and every check around the scan.
//!
//! Sizes and ids are checked before the tensor library sees them (it answers with panics); after the scan every row must show that it was
//! written (a failed launch can read back as zeros) and that no score was NaN.

use std::ops::Range;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use thiserror::Error;

use crate::exclusions::Exclusions;
use crate::scan::{LOST, MISSING, NOT_A_NUMBER, scan};

/// The deepest list.
pub const MAX_K: usize = 1024;

/// What a search may hold beyond its inputs and its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Entries of running lists: queries beyond that come in a second pass over the store.
    pub(crate) running: usize,
    /// Scores of a tile.
    pub(crate) scratch: usize,
}

impl Budget {
    /// Lists of 32 MiB each for scores and ids (three pairs on a GPU), tiles of 16 MiB.
    const USUAL: Self = Self { running: 8 << 20, scratch: 4 << 20 };
}

/// What to search.
#[derive(Debug)]
pub struct SearchRequest<'a> {
    /// `[queries, dimension]`, f32.
    pub queries: Tensor<2>,
    /// Shards `[rows, dimension]`, f32 or f16, each within one binding of the device. Ids run over the shards in order.
    pub store: &'a [Tensor<2>],
    /// Documents per query, 1 to [`MAX_K`].
    pub k: usize,
    /// Documents that a query may not get.
    pub exclusions: Option<&'a Exclusions>,
    /// Scores above it are left out, per query.
    pub ceiling: Option<&'a [f32]>,
}

/// The best documents of every query: score descending, then id ascending.
#[derive(Clone, Debug, PartialEq)]
pub struct TopK {
    /// Entries per query.
    pub k: usize,
    /// `[queries, k]`; negative infinity where there are fewer than k.
    pub scores: Vec<f32>,
    /// `[queries, k]`; `u32::MAX` where there are fewer than k.
    pub ids: Vec<u32>,
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
    /// Ids do not fit 31 bits.
    #[error("the store has {rows} rows, expected less than 2^31 - 1")]
    Rows {
        /// Rows of all shards.
        rows: usize,
    },
    /// A row per query is expected.
    #[error("{what} for {got} queries, but there are {expected} queries")]
    Queries {
        /// Exclusions or ceilings.
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
    #[error("query {query} has a score or a ceiling that is not a number: its row, or a row of the store, holds NaN or overflows")]
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
    #[error("shard {shard} holds 16-bit floats, which this device cannot read; keep the store in 32-bit floats")]
    Half {
        /// The first such shard.
        shard: usize,
    },
    /// A shard that the device cannot count through.
    #[error("shard {shard} has {numbers} numbers, expected less than 2^32; make more and smaller shards")]
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

/// Searches exactly. The order at equal scores, and which of several equal scores is the last to be kept, is by ascending id.
///
/// Memory beyond inputs and answer: lists of queries x k (in parts when large) and one tile of scores, at most 16 MiB. A row that is not a number is found
/// when it is scored, so it is an error of the first query, excluded or not; with no row to score, queries are not looked at.
///
/// # Errors
/// See [`SearchError`].
pub fn search(request: SearchRequest<'_>) -> Result<TopK, SearchError> {
    search_within(request, Budget::USUAL)
}

/// [`search`] in so much memory.
pub(crate) fn search_within(request: SearchRequest<'_>, budget: Budget) -> Result<TopK, SearchError> {
    let SearchRequest { queries, store, k, exclusions, ceiling } = request;
    let [count, dimension] = queries.dims();
    let rows = check(&queries, store, k, exclusions, ceiling)?;
    let mut answer = TopK { k, scores: Vec::with_capacity(count * k), ids: Vec::with_capacity(count * k) };
    if dimension == 0 || rows == 0 {
        answer.scores.resize(count * k, f32::NEG_INFINITY);
        answer.ids.resize(count * k, u32::MAX);
        return Ok(answer);
    }
    let queries = queries.without_autodiff();
    let step = (budget.running / k).max(1);
    for begin in (0..count).step_by(step) {
        let part = begin..(begin + step).min(count);
        let some = if part.len() == count { queries.clone() } else { queries.clone().slice([part.clone(), 0..dimension]) };
        let running = Running::start(&part, k, exclusions, ceiling, &queries.device());
        let (scores, ids) = running.over(&some, store, k, budget.scratch);
        collect(&mut answer, begin, rows, scores, ids)?;
    }
    Ok(answer)
}

/// The running lists of some queries, on the device, and what keeps rows from them. See [`crate::scan`].
struct Running {
    scores: Tensor<2>,
    ids: Tensor<2, Int>,
    excluded: Tensor<1, Int>,
    ceiling: Tensor<1>,
}

impl Running {
    fn start(part: &Range<usize>, k: usize, exclusions: Option<&Exclusions>, ceiling: Option<&[f32]>, device: &Device) -> Self {
        let count = part.len();
        let excluded = exclusions.map_or_else(|| Exclusions::none(count).part(0..count), |exclusions| exclusions.part(part.clone()));
        let ceiling = ceiling.map_or_else(|| vec![f32::INFINITY; count], |ceiling| ceiling[part.clone()].to_vec());
        let mut ids = vec![-1i32; count * (k + 1)];
        ids.iter_mut().skip(k).step_by(k + 1).for_each(|status| *status = 1);
        let length = excluded.len();
        Self {
            scores: Tensor::from_data(TensorData::new(vec![MISSING; count * k], [count, k]), (device, DType::F32)),
            ids: Tensor::from_data(TensorData::new(ids, [count, k + 1]), (device, DType::I32)),
            excluded: Tensor::from_data(TensorData::new(excluded, [length]), (device, DType::I32)),
            ceiling: Tensor::from_data(TensorData::new(ceiling, [count]), (device, DType::F32)),
        }
    }

    /// The lists after all shards.
    fn over(self, queries: &Tensor<2>, store: &[Tensor<2>], k: usize, scratch: usize) -> (Tensor<2>, Tensor<2, Int>) {
        let Self { mut scores, mut ids, excluded, ceiling } = self;
        let mut first = 0;
        for shard in store {
            let rows = shard.dims()[0];
            if rows > 0 {
                let shard = shard.clone().without_autodiff();
                (scores, ids) = scan(queries.clone(), shard, scores, ids, excluded.clone(), ceiling.clone(), first, k, scratch);
            }
            first += rows;
        }
        (scores, ids)
    }
}

/// Reads the lists and checks that they are lists, of so many rows.
fn collect(answer: &mut TopK, begin: usize, rows: usize, scores: Tensor<2>, ids: Tensor<2, Int>) -> Result<(), SearchError> {
    let k = answer.k;
    let lost = |query: usize, reason: String| SearchError::Device { query, reason };
    let scores = scores.try_into_vec_as::<f32>().map_err(|error| lost(begin, format!("{error:?}")))?;
    let ids = ids.try_into_vec_as::<i32>().map_err(|error| lost(begin, format!("{error:?}")))?;
    for (row, (scores, ids)) in scores.chunks_exact(k).zip(ids.chunks_exact(k + 1)).enumerate() {
        let query = begin + row;
        match ids[k] {
            NOT_A_NUMBER => return Err(SearchError::NotANumber { query }),
            LOST => return Err(lost(query, "its scores were not computed".to_owned())),
            status if status as usize != 1 + rows => {
                return Err(lost(query, format!("the store has {rows} rows, its list says {}", i64::from(status) - 1)));
            }
            _ => {}
        }
        for (&score, &id) in scores.iter().zip(&ids[..k]) {
            // -0 is 0.
            answer.scores.push(if id < 0 { f32::NEG_INFINITY } else { score + 0.0 });
            answer.ids.push(if id < 0 { u32::MAX } else { id as u32 });
        }
    }
    Ok(())
}

/// Everything that can be said before the device works. Gives the rows of all shards.
fn check(
    queries: &Tensor<2>,
    store: &[Tensor<2>],
    k: usize,
    exclusions: Option<&Exclusions>,
    ceiling: Option<&[f32]>,
) -> Result<usize, SearchError> {
    let [count, dimension] = queries.dims();
    if !(1..=MAX_K).contains(&k) {
        return Err(SearchError::Depth { k });
    }
    if queries.dtype() != DType::F32 {
        return Err(SearchError::Format { what: "queries", got: format!("{:?}", queries.dtype()), expected: "F32" });
    }
    for (shard, rows) in store.iter().enumerate() {
        let got = rows.dims()[1];
        if got != dimension {
            return Err(SearchError::Dimension { shard, got, expected: dimension });
        }
        if rows.device() != queries.device() {
            let [got, expected] = [rows, queries].map(|tensor| format!("{:?}", tensor.device()));
            return Err(SearchError::Elsewhere { shard, got, expected });
        }
        if !matches!(rows.dtype(), DType::F32 | DType::F16) {
            return Err(SearchError::Format { what: "rows of the store", got: format!("{:?}", rows.dtype()), expected: "F32 or F16" });
        }
    }
    let rows: usize = store.iter().map(|shard| shard.dims()[0]).sum();
    if rows >= i32::MAX as usize {
        return Err(SearchError::Rows { rows });
    }
    if let Some(exclusions) = exclusions {
        if exclusions.queries() != count {
            return Err(SearchError::Queries { what: "exclusions", got: exclusions.queries(), expected: count });
        }
        if let Some(id) = exclusions.largest().filter(|&id| id as usize >= rows) {
            return Err(SearchError::Excluded { id, rows });
        }
    }
    if let Some(ceiling) = ceiling {
        if ceiling.len() != count {
            return Err(SearchError::Queries { what: "ceilings", got: ceiling.len(), expected: count });
        }
        if let Some(query) = ceiling.iter().position(|ceiling| ceiling.is_nan()) {
            return Err(SearchError::NotANumber { query });
        }
    }
    let store: Vec<(usize, DType)> = store.iter().map(|shard| (shard.dims().iter().product(), shard.dtype())).collect();
    crate::scan::check_limits(&queries.device(), k, &store)?;
    Ok(rows)
}
