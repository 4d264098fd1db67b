//! What can be wrong with a batch.

use thiserror::Error;

use super::Marks;

/// A batch whose parts do not fit together, or that lacks what a loss needs.
#[derive(Clone, Debug, PartialEq, Error)]
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
    /// A list or table over cells has the wrong size.
    #[error("`{what}` has {got} entries, expected {queries} queries x {columns} columns = {}, or none", queries * columns)]
    Cells {
        /// Name of the list.
        what: &'static str,
        /// Entries given.
        got: usize,
        /// Queries in the batch.
        queries: usize,
        /// Columns in the batch.
        columns: usize,
    },
    /// A list over columns has the wrong length.
    #[error("`{what}` has {got} entries, expected one per column = {columns}, or none")]
    Columns {
        /// Name of the list.
        what: &'static str,
        /// Entries given.
        got: usize,
        /// Columns in the batch.
        columns: usize,
    },
    /// A teacher score that is infinite.
    #[error("the teacher's score of query {query} and column {column} is {got}, expected a finite number, or NaN where it is unknown")]
    TeacherScore {
        /// Row of the query.
        query: usize,
        /// The column.
        column: usize,
        /// The score given.
        got: f32,
    },
    /// The guide has not one row per text.
    #[error("the guide has {got} rows of {what}, expected {expected}: one per row of the batch, in its order")]
    GuideRows {
        /// `queries` or `documents`.
        what: &'static str,
        /// Rows given.
        got: usize,
        /// Rows of the batch.
        expected: usize,
    },
    /// The guide's queries and documents have different widths.
    #[error("the guide's queries are {queries} wide and its documents {documents}: both must come from one encoder")]
    GuideDimensions {
        /// Width of the query rows.
        queries: usize,
        /// Width of the document rows.
        documents: usize,
    },
    /// Side information that the loss needs is not there.
    #[error("the loss needs {needed}, and the batch carries none")]
    Missing {
        /// What is missing.
        needed: &'static str,
    },
    /// A truncated loss asks for more columns than the embeddings have.
    #[error("loss.matryoshka asks for the first {width} dimensions, and the embeddings have {dimension}")]
    Width {
        /// The width asked for.
        width: usize,
        /// Width of the rows.
        dimension: usize,
    },
}

impl BatchError {
    /// Refuses so many entries of a list over cells, unless there are none.
    pub(super) fn check_cells(what: &'static str, got: usize, queries: usize, columns: usize) -> Result<(), Self> {
        if got == 0 || got == queries * columns { Ok(()) } else { Err(Self::Cells { what, got, queries, columns }) }
    }

    /// Refuses a table of another shape, unless it is empty.
    pub(super) fn check_marks(what: &'static str, marks: &Marks, queries: usize, columns: usize) -> Result<(), Self> {
        let shape = (marks.rows(), marks.columns());
        if marks.is_empty() || shape == (queries, columns) {
            return Ok(());
        }
        Err(Self::Cells { what, got: shape.0 * shape.1, queries, columns })
    }
}
