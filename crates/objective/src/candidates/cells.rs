//! What a batch says of each of its (query, column) cells.
//!
//! The number of columns is the shape of a tensor, and asking for it takes longer than a cell's answer does: [`Cells`] asks once.

use super::Embedded;

/// The cells of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Cells<'a> {
    batch: &'a Embedded,
    columns: usize,
}

impl Embedded {
    /// What is known of its cells.
    pub(crate) fn cells(&self) -> Cells<'_> {
        Cells { batch: self, columns: self.columns() }
    }
}

impl Cells<'_> {
    /// Number of candidate columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Whether column `column` is a candidate of query `query`: its target, or a column that is neither blocked nor another positive.
    pub(crate) fn is_candidate(&self, query: usize, column: usize) -> bool {
        self.is_target(query, column) || !(self.batch.blocked.get(query, column) || self.batch.side.positives.get(query, column))
    }

    /// Appends a row: for each column whether it is no candidate of the query.
    pub(crate) fn excluded(&self, query: usize, into: &mut Vec<bool>) {
        let first = into.len();
        into.resize(first + self.columns, false);
        let row = &mut into[first..];
        self.batch.blocked.raise(query, row);
        self.batch.side.positives.raise(query, row);
        row[self.batch.targets[query]] = false;
    }

    /// Whether column `column` belongs to the query's own group, blocked or not.
    pub(crate) fn is_own(&self, query: usize, column: usize) -> bool {
        let own = &self.batch.side.own;
        own.is_empty() || self.is_target(query, column) || own.get(query, column)
    }

    /// Whether column `column` is a candidate out of the query's own group.
    pub(crate) fn is_own_candidate(&self, query: usize, column: usize) -> bool {
        self.is_own(query, column) && self.is_candidate(query, column)
    }

    /// Whether column `column` is an own candidate other than the target.
    pub(crate) fn is_own_negative(&self, query: usize, column: usize) -> bool {
        !self.is_target(query, column) && self.is_own_candidate(query, column)
    }

    /// Whether column `column` is a positive of query `query`.
    pub(crate) fn is_positive(&self, query: usize, column: usize) -> bool {
        self.is_target(query, column) || self.batch.side.positives.get(query, column)
    }

    /// The teacher's score of a cell, when it is known.
    pub(crate) fn teacher_score(&self, query: usize, column: usize) -> Option<f64> {
        let score = *self.batch.side.teacher.get(query * self.columns + column)?;
        (!score.is_nan()).then(|| f64::from(score))
    }

    fn is_target(&self, query: usize, column: usize) -> bool {
        self.batch.targets[query] == column
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;

    #[test]
    fn a_row_is_its_cells() {
        let [queries, documents] = [3, 5].map(|rows| Tensor::<2>::zeros([rows, 2], &Device::flex()));
        let marks = |from: usize| (0..15).map(|cell| (cell + from).is_multiple_of(3)).collect::<Vec<_>>();
        for (blocked, positives) in [(vec![], vec![]), (marks(0), vec![]), (vec![], marks(1)), (marks(0), marks(2))] {
            let batch =
                Embedded::new(queries.clone(), documents.clone(), vec![4, 0, 2], blocked).unwrap().with_positives(positives).unwrap();
            let mut row = Vec::new();
            (0..3).for_each(|query| batch.cells().excluded(query, &mut row));
            let expected: Vec<bool> = (0..15).map(|cell| !batch.cells().is_candidate(cell / 5, cell % 5)).collect();
            assert_eq!(row, expected);
            assert!(!row[4] && !row[5] && !row[12], "a target is always a candidate");
        }
    }
}
