//! The score matrix: every score a loss reads, and what is excluded from it. Built once per step and width; the one place that knows
//! about extra blocks, masks and mixed columns, so that no loss needs to.
//!
//! Columns: the documents, then the blocks in the order of the configuration, then the mixed vectors. Scores are always f32, whatever
//! the encoder computes in: with a temperature of 0.01 the half-precision formats cannot tell neighbouring logits apart.

use burn::tensor::{Bool, DType, Int, Tensor, TensorData};
use kernels::layers::cross_entropy;

use super::blocks::{Part, rows_of_targets};
use super::masks::{Seen, target_cells};
use super::mixing::{Hardest, Mixed};
use super::temperature::Divisor;
use super::{LossConfig, Now};
use crate::candidates::Embedded;

/// Stands for minus infinity in a score: the exponential of anything near it is exactly 0, and unlike an infinity it makes no NaN
/// when it meets another one.
pub(super) const BLOCKED_SCORE: f32 = -1e30;

/// Puts [`BLOCKED_SCORE`] where the mask is true. No gradient flows through those cells.
pub(super) fn exclude(scores: Tensor<2>, mask: Option<Tensor<2, Bool>>) -> Tensor<2> {
    match mask {
        Some(mask) => scores.mask_fill(mask, BLOCKED_SCORE),
        None => scores,
    }
}

/// `[rows, width]`, true where `holds(row, column)`; `None` when that is nowhere the case.
pub(super) fn cells(batch: &Embedded, rows: usize, width: usize, holds: impl Fn(usize, usize) -> bool) -> Option<Tensor<2, Bool>> {
    let all = (0..rows).flat_map(|row| (0..width).map(move |column| (row, column)));
    let cells: Vec<bool> = all.map(|(row, column)| holds(row, column)).collect();
    cells.contains(&true).then(|| Tensor::from_data(TensorData::new(cells, [rows, width]), &batch.queries.device().without_autodiff()))
}

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct ScoreMatrix {
    /// `[queries, dimension]`, f32, in the graph.
    pub(super) queries: Tensor<2>,
    /// `[candidates, dimension]`, f32, in the graph.
    pub(super) documents: Tensor<2>,
    /// `[queries]`.
    pub(super) targets: Tensor<1, Int>,
    /// `[queries, candidates]`, plain inner products.
    document_scores: Tensor<2>,
    /// `[queries, width]`, plain inner products; its first columns are `document_scores`.
    scores: Tensor<2>,
    /// `[queries, width]`; `None` when nothing is.
    excluded: Option<Tensor<2, Bool>>,
    /// Columns left beside the target, `[queries, 1]`.
    negatives: Tensor<2>,
    /// Share of the negatives that masks took out, `[1]`; `None` when no mask is in force.
    pub(super) masked_share: Option<Tensor<1>>,
    /// Share of the generated negatives that masks would have taken out but for their exemption, `[1]`; `None` when none is exempt.
    pub(super) spared_share: Option<Tensor<1>>,
    /// Share of the documents left as negatives by masks that are relevant, `[1]`; `None` when no mask is in force or that is not known.
    pub(super) false_share: Option<Tensor<1>>,
    /// The mixed vectors, if any.
    pub(crate) mixed: Option<Mixed>,
}

impl ScoreMatrix {
    /// The matrix of a batch, with `queries` and `documents` in the place of its own rows (they may be cut).
    pub(crate) fn new(batch: &Embedded, queries: Tensor<2>, documents: Tensor<2>, config: &LossConfig, now: &Now) -> Self {
        let (queries, documents) = (queries.cast(DType::F32), documents.cast(DType::F32));
        let targets = batch.target_indices();
        let parts = Part::all(&config.blocks, batch);
        let mut scores: Vec<Tensor<2>> = parts.iter().map(|part| part.scores(&queries, &documents, &targets)).collect();
        let document_scores = scores[0].clone();
        let scores = if scores.len() == 1 { scores.remove(0) } else { Tensor::cat(scores, 1) };
        let (excluded, open) = excluded(batch, &parts);
        let negatives = Tensor::from_data(TensorData::new(open.clone(), [batch.rows(), 1]), &targets.device());
        let mut matrix = Self {
            queries,
            documents,
            targets,
            document_scores,
            scores,
            excluded,
            negatives,
            masked_share: None,
            spared_share: None,
            false_share: None,
            mixed: None,
        };
        if !config.mask.is_empty() {
            let total: f64 = open.iter().map(|&open| f64::from(open)).sum();
            matrix.mask(batch, &parts, config, now, total);
        }
        if let Some(mixing) = &config.mixing {
            let hardest = Hardest::new(&matrix.document_scores.clone().inner(), matrix.document_negatives(), mixing.hardest);
            if let Some(mixed) = hardest.and_then(|hardest| mixing.mix(&hardest, &matrix.queries, &matrix.documents, now)) {
                matrix.append(mixed);
            }
        }
        matrix
    }

    fn mask(&mut self, batch: &Embedded, parts: &[Part], config: &LossConfig, now: &Now, negatives: f64) {
        let scores = self.scores.clone().inner();
        let seen = Seen { batch, parts, scores: &scores, targets: &self.targets };
        let Some(removed) = seen.removed(&config.mask, now) else { return };
        let open = |cells: Tensor<2, Bool>| match &self.excluded {
            Some(excluded) => cells.bool_and(excluded.clone().bool_not()),
            None => cells,
        };
        let count = |cells| open(cells).float().cast(DType::F32).sum();
        self.spared_share = removed.spared.map(|spared| count(spared.cells) / count(spared.generated).clamp_min(1.0));
        let removed = open(removed.cells);
        let counts = removed.clone().float().cast(DType::F32).sum_dim(1);
        self.masked_share = Some(counts.clone().sum().div_scalar(negatives.max(1.0)));
        self.negatives = self.negatives.clone() - counts;
        self.excluded = Some(match self.excluded.take() {
            Some(excluded) => excluded.bool_or(removed),
            None => removed,
        });
        if !batch.side.relevant.is_empty() {
            let shape = [batch.rows(), batch.columns()];
            let relevant: Tensor<2, Bool> = Tensor::from_data(TensorData::new(batch.side.relevant.to_cells(), shape), &scores.device());
            let count = |cells: Tensor<2, Bool>| cells.float().cast(DType::F32).sum();
            let left = self.document_negatives().bool_not();
            self.false_share = Some(count(left.clone().bool_and(relevant)) / count(left).clamp_min(1.0));
        }
    }

    /// `[queries, candidates]`, true where a document is not a negative of the query.
    fn document_negatives(&self) -> Tensor<2, Bool> {
        let [_, columns] = self.document_scores.dims();
        let targets = target_cells(&self.targets, columns);
        match &self.excluded {
            Some(excluded) => excluded.clone().narrow(1, 0, columns).bool_or(targets),
            None => targets,
        }
    }

    fn append(&mut self, mixed: Mixed) {
        let [rows, width] = self.scores.dims();
        let excluded = match self.excluded.take() {
            Some(excluded) => excluded,
            None => Tensor::from_data(TensorData::new(vec![false; rows * width], [rows, width]), &self.targets.device()),
        };
        self.excluded = Some(Tensor::cat(vec![excluded, mixed.excluded.clone()], 1));
        self.negatives = self.negatives.clone() + mixed.counts.clone();
        self.scores = Tensor::cat(vec![self.scores.clone(), mixed.scores(&self.queries)], 1);
        self.mixed = Some(mixed);
    }
}

/// What the batch itself excludes from the parts, and how many columns stay open in each row beside the target.
fn excluded(batch: &Embedded, parts: &[Part]) -> (Option<Tensor<2, Bool>>, Vec<f32>) {
    let (rows_of, cells) = (rows_of_targets(batch), batch.cells());
    let width = parts.iter().map(|part| part.width(batch)).sum();
    let (mut excluded, mut open) = (Vec::with_capacity(batch.rows() * width), Vec::with_capacity(batch.rows()));
    for row in 0..batch.rows() {
        let start = excluded.len();
        for part in parts {
            part.excluded(cells, &batch.targets, &rows_of, row, &mut excluded);
        }
        open.push(excluded[start..].iter().filter(|&&excluded| !excluded).count() as f32 - 1.0);
    }
    let device = batch.queries.device().without_autodiff();
    let any = excluded.contains(&true);
    (any.then(|| Tensor::from_data(TensorData::new(excluded, [batch.rows(), width]), &device)), open)
}

/// What a loss is given: the batch, its score matrix, and the temperature to divide by.
pub(super) struct Scored<'a> {
    pub(super) batch: &'a Embedded,
    pub(super) matrix: &'a ScoreMatrix,
    pub(super) divisor: Divisor,
}

impl Scored<'_> {
    /// All columns, `[queries, width]`: scores over the temperature, [`BLOCKED_SCORE`] where excluded.
    pub(super) fn logits(&self) -> Tensor<2> {
        exclude(self.divide(self.matrix.scores.clone()), self.matrix.excluded.clone())
    }

    /// The same without the targets, which are excluded too.
    pub(super) fn negative_logits(&self) -> Tensor<2> {
        self.exclude_non_negatives(self.divide(self.matrix.scores.clone()))
    }

    /// Excludes every cell of `[queries, width]` that is not a negative.
    pub(super) fn exclude_non_negatives(&self, values: Tensor<2>) -> Tensor<2> {
        let targets = target_cells(&self.matrix.targets, self.matrix.scores.dims()[1]);
        let mask = match &self.matrix.excluded {
            Some(excluded) => excluded.clone().bool_or(targets),
            None => targets,
        };
        exclude(values, Some(mask))
    }

    /// The cross-entropy with the target among all columns, `[queries, 1]`: its negative log-likelihood, without a matrix of [`logits`](Self::logits) where the temperature is a constant.
    pub(super) fn cross_entropy(&self) -> Tensor<2> {
        self.cross_entropy_among(self.matrix.scores.clone(), self.matrix.excluded.clone())
    }

    /// The same among the query's own documents.
    pub(super) fn group_cross_entropy(&self) -> Tensor<2> {
        self.cross_entropy_among(self.matrix.document_scores.clone(), self.outside_group())
    }

    fn cross_entropy_among(&self, scores: Tensor<2>, excluded: Option<Tensor<2, Bool>>) -> Tensor<2> {
        let (scores, scale) = match self.divisor {
            Divisor::Constant(temperature) => (scores, 1.0 / temperature),
            Divisor::Learned(_) => (self.divide(scores), 1.0),
        };
        cross_entropy(scores, excluded, self.matrix.targets.clone(), scale)
    }

    /// `[queries, candidates]`: what is excluded, and foreign columns.
    fn outside_group(&self) -> Option<Tensor<2, Bool>> {
        let [rows, columns] = self.matrix.document_scores.dims();
        let masked = self.matrix.excluded.clone().map(|excluded| excluded.narrow(1, 0, columns));
        let known = self.batch.cells();
        let foreign = cells(self.batch, rows, columns, |row, column| !known.is_own_candidate(row, column));
        match (masked, foreign) {
            (Some(masked), Some(foreign)) => Some(masked.bool_or(foreign)),
            (masked, foreign) => masked.or(foreign),
        }
    }

    /// All documents, `[queries, candidates]`, nothing excluded.
    pub(super) fn document_logits(&self) -> Tensor<2> {
        self.divide(self.matrix.document_scores.clone())
    }

    /// The targets' entries of `[queries, candidates]` or wider, `[queries, 1]`.
    pub(super) fn of_targets(&self, logits: &Tensor<2>) -> Tensor<2> {
        logits.clone().gather(1, self.matrix.targets.clone().unsqueeze_dim(1))
    }

    /// Number of columns left beside the target, `[queries, 1]`.
    pub(super) fn negatives(&self) -> Tensor<2> {
        self.matrix.negatives.clone()
    }

    /// Puts `value` where a cell of `[queries, width]` is excluded.
    pub(super) fn fill_excluded(&self, cells: Tensor<2>, value: f32) -> Tensor<2> {
        match &self.matrix.excluded {
            Some(excluded) => cells.mask_fill(excluded.clone(), value),
            None => cells,
        }
    }

    /// Divides by the temperature.
    pub(super) fn divide(&self, scores: Tensor<2>) -> Tensor<2> {
        self.divisor.divide(scores)
    }

    /// One number per document cell, `[queries, candidates]`, from the host.
    pub(super) fn upload(&self, numbers: Vec<f32>) -> Tensor<2> {
        Tensor::from_data(TensorData::new(numbers, [self.batch.rows(), self.batch.columns()]), &self.matrix.targets.device())
    }
}
