//! One embedded batch: query rows, candidate rows, the target of each query, which candidates a query may not be compared with, and
//! what else is known about the cells.
//!
//! The batch assembler decides what is blocked (judged documents, duplicates, other groups); the losses only honour it. The
//! invariant kept here and nowhere else: the target of a query is never blocked for that query, and always its own.

mod cells;
mod error;
mod marks;
mod side;

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData};

pub(crate) use cells::Cells;
pub use error::BatchError;
pub use marks::Marks;
pub use side::{Guide, Side};

/// The embeddings of one step, as the losses take them.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// `[queries, dimension]`.
    pub queries: Tensor<2>,
    /// `[candidates, dimension]`; row `j` is column `j` of the score matrix.
    pub documents: Tensor<2>,
    /// For each query the column of its positive.
    pub targets: Vec<usize>,
    /// `[queries, candidates]`; a mark takes column `j` out of the candidates of query `i`. A blocked target is ignored. Empty when nothing
    /// is blocked.
    pub blocked: Marks,
    /// What is known beside that; every part may be empty.
    pub side: Side,
}

impl Embedded {
    /// A batch without side information whose parts fit together. Here and in what is added below, cells are `[queries * candidates]`,
    /// row-major.
    ///
    /// # Errors
    /// When [`validate`](Self::validate) finds fault.
    pub fn new(queries: Tensor<2>, documents: Tensor<2>, targets: Vec<usize>, blocked: Vec<bool>) -> Result<Self, BatchError> {
        let open = Self { queries, documents, targets, blocked: Marks::default(), side: Side::default() }.validated()?;
        Ok(Self { blocked: open.marks("blocked", blocked)?, ..open })
    }

    /// Says which columns are each query's own, see [`Side::own`].
    ///
    /// # Errors
    /// When [`validate`](Self::validate) finds fault.
    pub fn with_own(mut self, own: Vec<bool>) -> Result<Self, BatchError> {
        self.side.own = self.marks("own", own)?;
        self.validated()
    }

    /// Adds a teacher's scores, see [`Side::teacher`].
    ///
    /// # Errors
    /// When [`validate`](Self::validate) finds fault.
    pub fn with_teacher(mut self, teacher: Vec<f32>) -> Result<Self, BatchError> {
        self.side.teacher = teacher;
        self.validated()
    }

    /// Adds the ranks of a retrieval, see [`Side::ranks`].
    ///
    /// # Errors
    /// When [`validate`](Self::validate) finds fault.
    pub fn with_ranks(mut self, ranks: Vec<u32>) -> Result<Self, BatchError> {
        self.side.ranks = ranks;
        self.validated()
    }

    /// Marks all positives of each query, see [`Side::positives`].
    ///
    /// # Errors
    /// When [`validate`](Self::validate) finds fault.
    pub fn with_positives(mut self, positives: Vec<bool>) -> Result<Self, BatchError> {
        self.side.positives = self.marks("positives", positives)?;
        self.validated()
    }

    /// Marks generated documents, see [`Side::synthetic`].
    ///
    /// # Errors
    /// When [`validate`](Self::validate) finds fault.
    pub fn with_synthetic(mut self, synthetic: Vec<bool>) -> Result<Self, BatchError> {
        self.side.synthetic = synthetic;
        self.validated()
    }

    /// Adds a guide encoder's rows of the same texts, see [`Guide`].
    ///
    /// # Errors
    /// When [`validate`](Self::validate) finds fault.
    pub fn with_guide(mut self, guide: Guide) -> Result<Self, BatchError> {
        self.side.guide = Some(guide);
        self.validated()
    }

    /// The table of a list of its cells, which may be empty.
    fn marks(&self, what: &'static str, cells: Vec<bool>) -> Result<Marks, BatchError> {
        BatchError::check_cells(what, cells.len(), self.rows(), self.columns())?;
        Ok(Marks::from_cells(self.columns(), cells))
    }

    fn validated(self) -> Result<Self, BatchError> {
        self.validate()?;
        Ok(self)
    }

    /// Checks shapes, the range of the targets and the sizes of all tables and lists, without touching the device.
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
        BatchError::check_marks("blocked", &self.blocked, queries, columns)?;
        self.side.validate(queries, columns)
    }

    /// The batch of some of its queries, with all columns and with these rows in the place of its own: `queries` `[range, dimension]` and
    /// `documents` `[candidates, dimension]`.
    pub(crate) fn part(&self, range: Range<usize>, queries: Tensor<2>, documents: Tensor<2>) -> Self {
        Self {
            queries,
            documents,
            targets: self.targets[range.clone()].to_vec(),
            blocked: self.blocked.part(range.clone()),
            side: self.side.part(range, self.columns()),
        }
    }

    /// Number of queries.
    pub fn rows(&self) -> usize {
        self.queries.dims()[0]
    }

    /// Number of candidate columns.
    pub fn columns(&self) -> usize {
        self.documents.dims()[0]
    }

    /// The target columns on the device, `[queries]`.
    pub(crate) fn target_indices(&self) -> Tensor<1, Int> {
        let targets: Vec<i32> = self.targets.iter().map(|&target| target as i32).collect();
        let count = targets.len();
        Tensor::from_data(TensorData::new(targets, [count]), &self.queries.device().without_autodiff())
    }
}
