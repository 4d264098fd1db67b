//! The parts of the score matrix: which texts meet in a block of columns, and which of its cells are excluded.
//!
//! The first part is always query against document. The blocks beside it follow GISTEmbed (Solatorio 2024, arXiv 2402.16829) and
//! Qwen3-Embedding (arXiv 2506.05176). Judged and duplicate documents are known to the batch as blocked (query, document) cells only; the
//! cells of the other blocks are derived from those. With `t_i` the target of row `i`:
//!
//! - query-query, cell `(i, k)`: excluded when `k = i`, when both have one target, or when the target of either is no candidate of the
//!   other. Two queries that share an answer are not negatives of each other.
//! - positive-positive and document-document, cell `(i, document j)`: excluded when `j = t_i`, when `j` is no candidate of query `i`, or
//!   when `j` is the target of a row `k` that may not have `t_i` as a candidate. Every document is one column, however many rows have
//!   it as their target.
//!
//! Where other queries' positives are no candidates at all (blocked for lack of in-batch negatives), these blocks are therefore empty too.

use burn::tensor::{Int, Tensor, TensorData};
use kernels::layers::similarities;
use serde::{Deserialize, Serialize};

use super::LossError;
use crate::candidates::{Cells, Embedded};

/// Columns beside the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Block {
    /// The query against the other queries.
    QueryQuery,
    /// The query's positive against the other queries' positives.
    PositivePositive,
    /// The query's positive against all other documents of the batch.
    DocumentDocument,
}

impl Block {
    pub(super) fn validate(blocks: &[Self]) -> Result<(), LossError> {
        if let Some(number) = (1..blocks.len()).find(|&number| blocks[..number].contains(&blocks[number])) {
            return Err(LossError::Conflict { what: format!("loss.blocks.{number} stands in the list twice"), advice: "remove it" });
        }
        if blocks.contains(&Self::PositivePositive) && blocks.contains(&Self::DocumentDocument) {
            return Err(LossError::Conflict {
                what: "loss.blocks has both positive-positive and document-document".into(),
                advice: "keep one: the second holds the first",
            });
        }
        Ok(())
    }
}

/// One block of columns of the score matrix.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// Queries against documents.
    Documents,
    /// Queries against queries.
    Queries,
    /// Positives against these documents.
    Positives(Vec<usize>),
}

impl Part {
    /// The query-document part, then the blocks asked for.
    pub(super) fn all(blocks: &[Block], batch: &Embedded) -> Vec<Self> {
        let block = |block: &Block| match block {
            Block::QueryQuery => Self::Queries,
            Block::DocumentDocument => Self::Positives((0..batch.columns()).collect()),
            Block::PositivePositive => {
                let mut targets = batch.targets.clone();
                targets.sort_unstable();
                targets.dedup();
                Self::Positives(targets)
            }
        };
        std::iter::once(Self::Documents).chain(blocks.iter().map(block)).collect()
    }

    pub(super) fn width(&self, batch: &Embedded) -> usize {
        match self {
            Self::Documents => batch.columns(),
            Self::Queries => batch.rows(),
            Self::Positives(columns) => columns.len(),
        }
    }

    /// The scores of the part, `[queries, width]`, for rows of any encoder. `targets` are those of the batch.
    pub(super) fn scores(&self, queries: &Tensor<2>, documents: &Tensor<2>, targets: &Tensor<1, Int>) -> Tensor<2> {
        match self {
            Self::Documents => similarities(queries.clone(), documents.clone()),
            Self::Queries => similarities(queries.clone(), queries.clone()),
            Self::Positives(columns) => {
                let positives = documents.clone().select(0, targets.clone());
                let others = if columns.len() == documents.dims()[0] {
                    documents.clone()
                } else {
                    let indices: Vec<i32> = columns.iter().map(|&column| column as i32).collect();
                    let indices = Tensor::from_data(TensorData::new(indices, [columns.len()]), &targets.device());
                    documents.clone().select(0, indices)
                };
                similarities(positives, others)
            }
        }
    }

    /// Appends a row: for each cell of this part whether it is excluded whatever the scores are. `rows_of` are the rows that have a document as target.
    pub(super) fn excluded(&self, cells: Cells<'_>, targets: &[usize], rows_of: &[Vec<usize>], row: usize, into: &mut Vec<bool>) {
        let target = targets[row];
        match self {
            Self::Documents => cells.excluded(row, into),
            Self::Queries => into.extend(targets.iter().enumerate().map(|(column, &other)| {
                row == column || other == target || !cells.is_candidate(row, other) || !cells.is_candidate(column, target)
            })),
            Self::Positives(columns) => into.extend(columns.iter().map(|&document| {
                let refused = |&other: &usize| !cells.is_candidate(other, target);
                document == target || !cells.is_candidate(row, document) || rows_of[document].iter().any(refused)
            })),
        }
    }

    /// Whether a generated document stands in a column.
    pub(super) fn is_synthetic(&self, batch: &Embedded, column: usize) -> bool {
        let document = match self {
            Self::Documents => column,
            Self::Queries => return false,
            Self::Positives(columns) => columns[column],
        };
        batch.side.synthetic.get(document).is_some_and(|&synthetic| synthetic)
    }
}

/// For each document the rows that have it as their target.
pub(super) fn rows_of_targets(batch: &Embedded) -> Vec<Vec<usize>> {
    let mut rows = vec![Vec::new(); batch.columns()];
    for (row, &target) in batch.targets.iter().enumerate() {
        rows[target].push(row);
    }
    rows
}
