//! The backend extension: one shard's rows against running lists of the best so far.
//!
//! A list is `[k]` keys (scores, unless the rows are drawn) and `[k + 1 + counters]` ids, best first; missing entries are ([`MISSING`], -1). Behind the k ids
//! stands the list's status: one more than the rows seen, or, for good, [`NOT_A_NUMBER`] or [`LOST`]. The host can thus tell a scan that happened from one that did
//! not, which can read back as zeros. Behind the status stand the counts of scores, where somebody asked for them.

mod cube;
mod flex;
mod half;
mod screen;
mod sieve;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Device, Int, Tensor};

use crate::bins::Bins;
use crate::key::Key;
use crate::search::SearchError;

pub(crate) use half::widen;

/// Score of a missing entry: WGSL has no infinities, and no score is below it.
pub(crate) const MISSING: f32 = f32::MIN;

/// Status of a list whose query had a score that is not a number.
pub(crate) const NOT_A_NUMBER: i32 = -1;

/// Status of a list that was given scores nobody computed.
pub(crate) const LOST: i32 = -2;

/// What all queries of a scan share.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Id of the shard's first row.
    pub(crate) first: usize,
    /// Entries of a list.
    pub(crate) k: usize,
    /// Scores held at a time, at most (but always one); the CPU holds so many per thread.
    pub(crate) scratch: usize,
    /// What rows are ordered by.
    pub(crate) key: Key,
    /// What scores are counted in.
    pub(crate) bins: Option<Bins>,
}

impl Plan {
    /// Ids, status and counters of a query.
    pub(crate) fn width(&self) -> usize {
        self.k + 1 + self.bins.map_or(0, |bins| bins.counters())
    }
}

/// Scans one shard, on any backend.
#[backend_extension(Cube, Flex, Fusion)]
pub(crate) trait Scan: Backend {
    /// Gives the lists `[q, k]` and `[q, k + 1 + counters]` after `rows` `[n, d]` were scanned with `queries` `[q, d]`. Both are f32 or f16; queries of f16 where
    /// [`reads_half`] says so.
    ///
    /// `rules` is q + 1 offsets, two words of random bits per query, and ids: `rules[rules[i]..rules[i + 1]]` are those, ascending, that query i may not get.
    /// One tensor, because WebGPU promises eight of them to a kernel. `bounds` `[3 q]` are floor, ceiling and centre of each query: scores below the floor or
    /// above the ceiling are left out; the centre is where [`Key::Race`] draws most.
    #[fusion(meta = lists)]
    fn scan(
        queries: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        ids: IntTensor<Self>,
        rules: IntTensor<Self>,
        bounds: FloatTensor<Self>,
        plan: Plan,
    ) -> (FloatTensor<Self>, IntTensor<Self>);
}

/// The lists keep their shapes.
fn lists(
    _queries: &TensorSpec,
    _rows: &TensorSpec,
    scores: &TensorSpec,
    ids: &TensorSpec,
    _rules: &TensorSpec,
    _bounds: &TensorSpec,
    _plan: &Plan,
) -> (TensorSpec, TensorSpec) {
    (scores.clone(), ids.clone())
}

/// [`Scan::scan`] over tensors.
pub(crate) fn scan(
    queries: Tensor<2>,
    rows: Tensor<2>,
    scores: Tensor<2>,
    ids: Tensor<2, Int>,
    rules: Tensor<1, Int>,
    bounds: Tensor<1>,
    plan: Plan,
) -> (Tensor<2>, Tensor<2, Int>) {
    let (scores, ids) = <Dispatch as Scan>::scan(
        queries.into_dispatch(),
        rows.into_dispatch(),
        scores.into_dispatch(),
        ids.into_dispatch(),
        rules.into_dispatch(),
        bounds.into_dispatch(),
        plan,
    );
    (Tensor::from_dispatch(scores), Tensor::from_dispatch(ids))
}

/// What the device multiplies 16-bit queries and rows by: the shape of its matrix units, or why plain arithmetic units do it.
pub(crate) fn matrix_units(device: &burn_cubecl::CubeDevice) -> Result<String, String> {
    cube::matrix_units(device).map(|shape| shape.one.to_string())
}

/// Whether queries of 16 bits are scanned as they are.
pub(crate) fn reads_half(device: &Device) -> bool {
    crate::adapters::cube_device(device).is_some()
}

/// Whether rows of 16 bits are scanned as they are.
pub(crate) fn stores_half(device: &Device) -> bool {
    crate::adapters::cube_device(device).is_none_or(|device| cube::reads(&device, DType::F16))
}

/// Whether lists of that depth, and shards of these sizes and formats, can be searched on the device.
pub(crate) fn check_limits(device: &Device, k: usize, queries: DType, store: &[(usize, DType)]) -> Result<(), SearchError> {
    match crate::adapters::cube_device(device) {
        Some(device) => cube::check_limits(&device, k, queries, store),
        None => Ok(()),
    }
}
