//! The backend extension: one shard's rows against running lists of the best so far.
//!
//! A list is `[k]` scores and `[k + 1]` ids, best first; missing entries are ([`MISSING`], -1). The last id is the list's status: one more than the rows seen,
//! or, for good, [`NOT_A_NUMBER`] or [`LOST`]. The host can thus tell a scan that happened from one that did not, which can read back as zeros.

mod cube;
mod flex;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Device, Int, Tensor};

use crate::search::SearchError;

/// Score of a missing entry: WGSL has no infinities, and no score is below it.
pub(crate) const MISSING: f32 = f32::MIN;

/// Status of a list whose query had a score that is not a number.
pub(crate) const NOT_A_NUMBER: i32 = -1;

/// Status of a list that was given scores nobody computed.
pub(crate) const LOST: i32 = -2;

/// Scans one shard, on any backend.
#[backend_extension(Cube, Flex, Fusion)]
pub(crate) trait Scan: Backend {
    /// Gives the lists `[q, k]` and `[q, k + 1]` after `rows` `[n, d]`, whose first has the id `first`, were scanned with `queries` `[q, d]`.
    /// `excluded[excluded[i]..excluded[i + 1]]` are the ids, ascending, that query i may not get: offsets and ids share a tensor because WebGPU promises
    /// eight of them to a kernel. Scores above `ceiling[i]` are left out. At most `scratch` scores are held at a time (but always one).
    #[fusion(meta = lists)]
    #[allow(clippy::too_many_arguments)]
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
    ) -> (FloatTensor<Self>, IntTensor<Self>);
}

/// The lists keep their shapes.
#[allow(clippy::too_many_arguments)]
fn lists(
    _queries: &TensorSpec,
    _rows: &TensorSpec,
    scores: &TensorSpec,
    ids: &TensorSpec,
    _excluded: &TensorSpec,
    _ceiling: &TensorSpec,
    _first: &usize,
    _k: &usize,
    _scratch: &usize,
) -> (TensorSpec, TensorSpec) {
    (scores.clone(), ids.clone())
}

/// [`Scan::scan`] over tensors.
#[allow(clippy::too_many_arguments)]
pub(crate) fn scan(
    queries: Tensor<2>,
    rows: Tensor<2>,
    scores: Tensor<2>,
    ids: Tensor<2, Int>,
    excluded: Tensor<1, Int>,
    ceiling: Tensor<1>,
    first: usize,
    k: usize,
    scratch: usize,
) -> (Tensor<2>, Tensor<2, Int>) {
    let (scores, ids) = <Dispatch as Scan>::scan(
        queries.into_dispatch(),
        rows.into_dispatch(),
        scores.into_dispatch(),
        ids.into_dispatch(),
        excluded.into_dispatch(),
        ceiling.into_dispatch(),
        first,
        k,
        scratch,
    );
    (Tensor::from_dispatch(scores), Tensor::from_dispatch(ids))
}

/// Whether lists of that depth, and shards of these sizes and formats, can be searched on the device.
pub(crate) fn check_limits(device: &Device, k: usize, store: &[(usize, DType)]) -> Result<(), SearchError> {
    match crate::adapters::cube_device(device) {
        Some(device) => cube::check_limits(&device, k, store),
        None => Ok(()),
    }
}
