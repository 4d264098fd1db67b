//! One embedded batch: query rows, candidate rows, the target of each query, and which candidates a query may not be compared with.
//!
//! The batch assembler decides what is blocked (judged documents, duplicates, other groups, guide masks); the losses only honour
//! it. The invariant kept here and nowhere else: the target of a query is never blocked for that query.

use burn::tensor::{Bool, DType, Int, Tensor, TensorData};
use thiserror::Error;

/// The embeddings of one step, as the losses take them.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// `[queries, dimension]`.
    pub queries: Tensor<2>,
    /// `[candidates, dimension]`; row `j` is column `j` of the score matrix.
    pub documents: Tensor<2>,
    /// For each query the column of its positive.
    pub targets: Vec<usize>,
    /// `[queries * candidates]`, row-major; `true` takes column `j` out of the candidates of query `i`. A blocked target is ignored.
    /// Empty when nothing is blocked.
    pub blocked: Vec<bool>,
}

/// A batch whose parts do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// No query at all: a mean over queries does not exist.
    #[error("the batch holds no queries")]
    NoQueries,
    /// Queries and documents have different widths.
    #[error("queries are {queries} wide and documents {documents}: both must come from encoders of one dimension")]
    Dimensions {
        /// Width of the query rows.
        queries: usize,
        /// Width of the document rows.
        documents: usize,
    },
    /// Not one target per query.
    #[error("{targets} targets for {queries} queries: every query needs exactly one target column")]
    TargetCount {
        /// Targets given.
        targets: usize,
        /// Queries in the batch.
        queries: usize,
    },
    /// A target that is no column.
    #[error("the target of query {query} is column {target}, and there are {columns} columns")]
    TargetRange {
        /// Row of the query.
        query: usize,
        /// The column asked for.
        target: usize,
        /// Columns there are.
        columns: usize,
    },
    /// The block list has the wrong length.
    #[error("{got} entries say what is blocked, expected {queries} queries x {columns} columns = {expected}, or none")]
    BlockedLength {
        /// Entries given.
        got: usize,
        /// `queries * columns`.
        expected: usize,
        /// Queries in the batch.
        queries: usize,
        /// Columns in the batch.
        columns: usize,
    },
    /// Not one owner per column.
    #[error("{owners} owners for {columns} columns: every column belongs to one query's group")]
    OwnerCount {
        /// Owners given.
        owners: usize,
        /// Columns in the batch.
        columns: usize,
    },
}

impl Embedded {
    /// A batch whose parts fit together.
    ///
    /// # Errors
    /// When [`validate`](Self::validate) finds fault.
    pub fn new(queries: Tensor<2>, documents: Tensor<2>, targets: Vec<usize>, blocked: Vec<bool>) -> Result<Self, BatchError> {
        let batch = Self { queries, documents, targets, blocked };
        batch.validate()?;
        Ok(batch)
    }

    /// Checks shapes, the range of the targets and the length of the block list, without touching the device.
    ///
    /// # Errors
    /// The first part that does not fit.
    pub fn validate(&self) -> Result<(), BatchError> {
        let ([queries, width], [columns, document_width]) = (self.queries.dims(), self.documents.dims());
        if queries == 0 {
            return Err(BatchError::NoQueries);
        }
        if width != document_width {
            return Err(BatchError::Dimensions { queries: width, documents: document_width });
        }
        if self.targets.len() != queries {
            return Err(BatchError::TargetCount { targets: self.targets.len(), queries });
        }
        if let Some((query, &target)) = self.targets.iter().enumerate().find(|&(_, &target)| target >= columns) {
            return Err(BatchError::TargetRange { query, target, columns });
        }
        let expected = queries * columns;
        if !self.blocked.is_empty() && self.blocked.len() != expected {
            return Err(BatchError::BlockedLength { got: self.blocked.len(), expected, queries, columns });
        }
        Ok(())
    }

    /// Blocks for every query all columns outside its own group, its target excepted (localised contrastive estimation, Gao et al.
    /// 2021, arXiv 2101.08751). `owner[j]` is the query whose group column `j` belongs to. Columns already blocked stay so.
    ///
    /// # Errors
    /// When `owner` does not name one query per column.
    pub fn block_foreign(mut self, owner: &[usize]) -> Result<Self, BatchError> {
        let (queries, columns) = (self.rows(), self.columns());
        if owner.len() != columns {
            return Err(BatchError::OwnerCount { owners: owner.len(), columns });
        }
        self.blocked.resize(queries * columns, false);
        for (query, row) in self.blocked.chunks_exact_mut(columns).enumerate() {
            for (blocked, &owner) in row.iter_mut().zip(owner) {
                *blocked |= owner != query;
            }
        }
        Ok(self)
    }

    /// Number of queries.
    pub fn rows(&self) -> usize {
        self.queries.dims()[0]
    }

    /// Number of candidate columns.
    pub fn columns(&self) -> usize {
        self.documents.dims()[0]
    }

    /// The score matrix `queries x documents^T`, `[queries, candidates]`.
    ///
    /// Always f32, whatever the encoder computes in: with a temperature of 0.01 the half-precision formats cannot tell neighbouring
    /// logits apart.
    pub fn scores(&self) -> Tensor<2> {
        let queries = self.queries.clone().cast(DType::F32);
        queries.matmul(self.documents.clone().cast(DType::F32).transpose())
    }

    /// Whether column `column` is a candidate of query `query`; its target always is.
    pub(crate) fn is_candidate(&self, query: usize, column: usize) -> bool {
        self.targets[query] == column || !self.blocked.get(query * self.columns() + column).is_some_and(|&blocked| blocked)
    }

    /// `[queries, candidates]`, true where `excluded(query, column)`; `None` when that is nowhere the case.
    pub(crate) fn mask(&self, excluded: impl Fn(usize, usize) -> bool) -> Option<Tensor<2, Bool>> {
        let (rows, columns) = (self.rows(), self.columns());
        let mask: Vec<bool> =
            (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))).map(|(row, column)| excluded(row, column)).collect();
        mask.contains(&true).then(|| Tensor::from_data(TensorData::new(mask, [rows, columns]), &self.queries.device()))
    }

    /// The target columns on the device, `[queries]`.
    pub(crate) fn target_indices(&self) -> Tensor<1, Int> {
        let targets: Vec<i32> = self.targets.iter().map(|&target| target as i32).collect();
        let count = targets.len();
        Tensor::from_data(TensorData::new(targets, [count]), &self.queries.device())
    }

    /// The targets' entries of `[queries, candidates]` scores, `[queries, 1]`.
    pub(crate) fn target_scores(&self, scores: &Tensor<2>) -> Tensor<2> {
        scores.clone().gather(1, self.target_indices().unsqueeze_dim(1))
    }
}

/// Stands for minus infinity in a score: the exponential of anything near it is exactly 0, and unlike an infinity it makes no NaN
/// when it meets another one.
pub(crate) const BLOCKED_SCORE: f32 = -1e30;

/// Puts [`BLOCKED_SCORE`] where the mask is true. No gradient flows through those cells.
pub(crate) fn exclude(scores: Tensor<2>, mask: Option<Tensor<2, Bool>>) -> Tensor<2> {
    match mask {
        Some(mask) => scores.mask_fill(mask, BLOCKED_SCORE),
        None => scores,
    }
}
