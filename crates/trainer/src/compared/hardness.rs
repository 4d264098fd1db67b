//! How hard the negatives of a step are: how far they score below the positive, on a sample of the queries.
//!
//! Scores are inner products of the rows as the loss gets them, at full width, before temperature and masks.

use std::collections::BTreeMap;

use burn::tensor::{Int, Tensor, TensorData};
use kernels::layers::similarities;
use mining::Quantiles;
use objective::Embedded;
use serde::Serialize;

use super::{Cell, Origin};

/// Queries of a step whose scores are read, at most.
const MOST_QUERIES: usize = 32;
/// Scores of a step that are read, at most (4 MiB), where one query has no more of them than that.
const MOST_SCORES: usize = 1 << 20;

/// Queries of a step, every so manieth, and what they are compared with.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// By query the column of its positive and its open cells.
    queries: Vec<(usize, Vec<Cell>)>,
    columns: usize,
    /// `[queries * columns]`, row-major; on the device.
    pub(crate) scores: Tensor<1>,
}

/// The negatives of one source in one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Hardness {
    /// Score of the positive less that of the negative.
    pub(crate) below_positive: Quantiles,
    /// Share of the negatives that score above the positive.
    pub(crate) harder_share: f64,
}

impl Sample {
    /// Queues the scores of some queries; `open` says what the query of a row is compared with.
    pub(crate) fn of(embedded: &Embedded, open: impl Fn(usize) -> Vec<Cell>) -> Self {
        let (rows, columns) = (embedded.targets.len(), embedded.documents.dims()[0]);
        let most = MOST_QUERIES.min((MOST_SCORES / columns.max(1)).max(1));
        let chosen: Vec<usize> = (0..rows).step_by(rows.div_ceil(most).max(1)).collect();
        let queries = embedded.queries.clone().without_autodiff();
        let ids: Vec<i64> = chosen.iter().map(|&row| row as i64).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [chosen.len()]), &queries.device());
        let scores = similarities(queries.select(0, ids), embedded.documents.clone().without_autodiff());
        let queries = chosen.iter().map(|&row| (embedded.targets[row], open(row))).collect();
        Self { queries, columns, scores: scores.reshape([-1]) }
    }

    /// From the scores that were asked for, by source.
    pub(crate) fn measure(&self, scores: &[f32]) -> BTreeMap<Origin, Hardness> {
        let mut differences: BTreeMap<Origin, Vec<f32>> = BTreeMap::new();
        for (row, (target, cells)) in scores.chunks_exact(self.columns.max(1)).zip(&self.queries) {
            for cell in cells {
                differences.entry(cell.origin).or_default().push(row[*target] - row[cell.column]);
            }
        }
        let hardness = |differences: Vec<f32>| {
            let harder = differences.iter().filter(|&&difference| difference < 0.0).count();
            let harder_share = harder as f64 / differences.len() as f64;
            Some(Hardness { below_positive: Quantiles::of(differences)?, harder_share })
        };
        differences.into_iter().filter_map(|(origin, differences)| Some((origin, hardness(differences)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn negatives_are_measured_from_the_positive_by_source() {
        let device = Device::flex();
        let rows = |rows: &[[f32; 2]]| Tensor::<2>::from_data(TensorData::new(rows.concat(), [rows.len(), 2]), &device);
        // Scores: query 0 gives 1, .5, 2, 0; query 1 gives 0, 1, 2, 4.
        let documents = rows(&[[1.0, 0.0], [0.5, 1.0], [2.0, 2.0], [0.0, 4.0]]);
        let embedded = Embedded::new(rows(&[[1.0, 0.0], [0.0, 1.0]]), documents, vec![0, 3], Vec::new()).unwrap();
        let cell = |column, origin| Cell::new(column, origin, 0);
        let open = |row| match row {
            0 => vec![cell(1, Origin::Drawn(3)), cell(2, Origin::Drawn(3)), cell(3, Origin::InBatch)],
            _ => vec![cell(0, Origin::InBatch)],
        };
        let sample = Sample::of(&embedded, open);
        let scores = sample.scores.to_data().iter::<f32>().collect::<Vec<_>>();
        assert_eq!(scores, [1.0, 0.5, 2.0, 0.0, 0.0, 1.0, 2.0, 4.0]);
        let measured = sample.measure(&scores);
        let (drawn, in_batch) = (measured[&Origin::Drawn(3)], measured[&Origin::InBatch]);
        // .5 below and 1 above its positive; 1 and 4 below theirs.
        assert_eq!((drawn.harder_share, drawn.below_positive.p50), (0.5, -0.25));
        assert_eq!((in_batch.harder_share, in_batch.below_positive.p50), (0.0, 2.5));
        assert_eq!(measured.len(), 2);
    }

    #[test]
    fn no_more_queries_are_read_than_is_cheap() {
        let rows = |count| Tensor::<2>::ones([count, 2], &Device::flex());
        let queries = |columns| {
            let embedded = Embedded::new(rows(100), rows(columns), vec![0; 100], Vec::new()).unwrap();
            Sample::of(&embedded, |_| Vec::new()).scores.dims()[0] / columns
        };
        assert_eq!((queries(1), queries(200), queries(1 << 18), queries((1 << 20) + 1)), (25, 25, 4, 1));
    }
}
