//! What a batch may carry beside its blocked cells: groups, teacher scores, ranks, positives, generated texts, a guide's rows.

use std::ops::Range;

use burn::tensor::Tensor;

use super::{BatchError, Marks};

/// Everything here is optional: an empty list or table means that nothing is known, and a loss that needs it says so
/// ([`LossConfig::needs`](crate::LossConfig::needs)). Cells are `[queries, candidates]`, in lists row-major.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// Cells: the column belongs to the query's own group, its drawn hard negatives. The target always does. A document is one column
    /// however often it was drawn, so a column can be own to several queries. Empty: every column is own to every query.
    pub own: Marks,
    /// Cells: the teacher's score, NaN where it is unknown. Any scale; a constant added to all scores of one query changes nothing.
    pub teacher: Vec<f32>,
    /// Cells: the rank of the document in the query's retrieval, from 1; 0 where it was not retrieved.
    pub ranks: Vec<u32>,
    /// Cells: the document is a positive of the query. The target always is; empty: the target alone. The others are negatives for
    /// no loss, whether blocked or not.
    pub positives: Marks,
    /// Cells: the document is known to be relevant to the query, judged so or not. No loss reads it: it is there to report how many false
    /// negatives masks leave.
    pub relevant: Marks,
    /// `[candidates]`: the document was written by a generator, not found in the corpus. Empty: none was.
    pub synthetic: Vec<bool>,
    /// The same texts, as another encoder sees them.
    pub guide: Option<Guide>,
}

/// Rows of the batch's texts from a frozen guide encoder, in the order of the batch and of any width. They carry no gradient.
#[derive(Clone, Debug)]
pub struct Guide {
    /// `[queries, guide dimension]`.
    pub queries: Tensor<2>,
    /// `[candidates, guide dimension]`.
    pub documents: Tensor<2>,
}

impl Side {
    /// What is known about the queries `range` and all `columns`.
    pub(super) fn part(&self, range: Range<usize>, columns: usize) -> Self {
        fn cut<T: Copy>(list: &[T], cells: Range<usize>) -> Vec<T> {
            list.get(cells).map(<[T]>::to_vec).unwrap_or_default()
        }
        let cells = range.start * columns..range.end * columns;
        let guide = self
            .guide
            .as_ref()
            .map(|guide| Guide { queries: guide.queries.clone().narrow(0, range.start, range.len()), documents: guide.documents.clone() });
        Self {
            own: self.own.part(range.clone()),
            teacher: cut(&self.teacher, cells.clone()),
            ranks: cut(&self.ranks, cells),
            positives: self.positives.part(range.clone()),
            relevant: self.relevant.part(range),
            synthetic: self.synthetic.clone(),
            guide,
        }
    }

    pub(super) fn validate(&self, queries: usize, columns: usize) -> Result<(), BatchError> {
        for (what, marks) in [("own", &self.own), ("positives", &self.positives), ("relevant", &self.relevant)] {
            BatchError::check_marks(what, marks, queries, columns)?;
        }
        for (what, got) in [("teacher", self.teacher.len()), ("ranks", self.ranks.len())] {
            BatchError::check_cells(what, got, queries, columns)?;
        }
        if !self.synthetic.is_empty() && self.synthetic.len() != columns {
            return Err(BatchError::Columns { what: "synthetic", got: self.synthetic.len(), columns });
        }
        if let Some(cell) = self.teacher.iter().position(|score| score.is_infinite()) {
            return Err(BatchError::TeacherScore { query: cell / columns, column: cell % columns, got: self.teacher[cell] });
        }
        match &self.guide {
            Some(guide) => guide.validate(queries, columns),
            None => Ok(()),
        }
    }
}

impl Guide {
    fn validate(&self, queries: usize, columns: usize) -> Result<(), BatchError> {
        let ([query_rows, width], [document_rows, document_width]) = (self.queries.dims(), self.documents.dims());
        for (what, got, expected) in [("queries", query_rows, queries), ("documents", document_rows, columns)] {
            if got != expected {
                return Err(BatchError::GuideRows { what, got, expected });
            }
        }
        if width != document_width {
            return Err(BatchError::GuideDimensions { queries: width, documents: document_width });
        }
        Ok(())
    }
}
