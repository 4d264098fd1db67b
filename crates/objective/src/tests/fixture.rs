//! A batch in host memory that becomes both a batch of tensors and one of the reference, and the comparison of the two.

use burn::tensor::Tensor;

use super::{assert_close, device, numbers, scalar, tensor, values};
use crate::loss::ScoreMatrix;
use crate::reference;
use crate::{Embedded, Guide, LossConfig, LossKind, LossState, Marks, Now, TermConfig};

/// All lists may be empty; they mean what they mean in `Embedded`.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    pub(super) queries: Vec<f32>,
    pub(super) documents: Vec<f32>,
    pub(super) dimension: usize,
    pub(super) targets: Vec<usize>,
    pub(super) blocked: Vec<bool>,
    pub(super) own: Vec<bool>,
    pub(super) teacher: Vec<f32>,
    pub(super) ranks: Vec<u32>,
    pub(super) positives: Vec<bool>,
    pub(super) synthetic: Vec<bool>,
    pub(super) guide_queries: Vec<f32>,
    pub(super) guide_documents: Vec<f32>,
}

/// Width of the guide's rows in [`Data::full`].
const GUIDE: usize = 3;

/// A configuration with a kind and a temperature.
pub(super) fn config(kind: &str, temperature: f64) -> LossConfig {
    LossConfig { kind: LossKind::named(kind).unwrap(), temperature: temperature.into(), ..LossConfig::default() }
}

pub(super) fn term(kind: &str, weight: f64) -> TermConfig {
    TermConfig { kind: LossKind::named(kind).unwrap(), weight, ..TermConfig::default() }
}

/// The value of a configuration that learns nothing, at the first step.
pub(super) fn loss(config: &LossConfig, batch: &Embedded) -> Tensor<1> {
    config.evaluate(batch, &Now::default(), &LossState::default()).value
}

/// Rows of length 1.
pub(super) fn unit_rows(values: &[f32], dimension: usize) -> Vec<f32> {
    let unit = |row: &[f32]| {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter().map(|x| x / length).collect::<Vec<f32>>()
    };
    values.chunks(dimension).flat_map(unit).collect()
}

impl Data {
    /// Rows of length 1 that depend on the seed, with every kind of side information: own groups, some teacher scores unknown, ranks, a
    /// second positive here and there.
    pub(super) fn full(targets: &[usize], columns: usize, dimension: usize, seed: u64) -> Self {
        let (rows, cells) = (targets.len(), targets.len() * columns);
        let teacher = numbers(cells, seed + 2).iter().map(|x| if *x > 0.6 { f32::NAN } else { 3.0 * x }).collect();
        Self {
            queries: unit_rows(&numbers(rows * dimension, seed), dimension),
            documents: unit_rows(&numbers(columns * dimension, seed + 1), dimension),
            dimension,
            targets: targets.to_vec(),
            blocked: Vec::new(),
            own: (0..cells).map(|cell| cell % 3 != 1).collect(),
            teacher,
            ranks: numbers(cells, seed + 3).iter().map(|x| (x.abs() * 8.0) as u32).collect(),
            positives: (0..cells).map(|cell| cell % 11 == 3).collect(),
            synthetic: Vec::new(),
            guide_queries: numbers(rows * GUIDE, seed + 4),
            guide_documents: numbers(columns * GUIDE, seed + 5),
        }
    }

    /// The batch, its rows being leaves.
    pub(super) fn embedded(&self) -> Embedded {
        let rows = |values: &[f32]| tensor(values, [values.len() / self.dimension, self.dimension], &device()).require_grad();
        let mut batch = Embedded::new(rows(&self.queries), rows(&self.documents), self.targets.clone(), self.blocked.clone()).unwrap();
        let marks = |cells: &[bool]| Marks::from_cells(batch.columns(), cells.iter().copied());
        let (own, positives) = (marks(&self.own), marks(&self.positives));
        (batch.side.own, batch.side.positives) = (own, positives);
        batch.side.teacher = self.teacher.clone();
        batch.side.ranks = self.ranks.clone();
        batch.side.synthetic = self.synthetic.clone();
        if !self.guide_queries.is_empty() {
            let rows = |values: &[f32], count: usize| tensor(values, [count, values.len() / count], &device().without_autodiff());
            let (queries, documents) = (rows(&self.guide_queries, batch.rows()), rows(&self.guide_documents, batch.columns()));
            batch.side.guide = Some(Guide { queries, documents });
        }
        batch.validate().unwrap();
        batch
    }

    pub(super) fn reference(&self) -> reference::Batch {
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&x| f64::from(x)).collect() };
        reference::Batch {
            queries: wide(&self.queries),
            documents: wide(&self.documents),
            dimension: self.dimension,
            targets: self.targets.clone(),
            blocked: self.blocked.clone(),
            own: self.own.clone(),
            teacher: wide(&self.teacher),
            ranks: self.ranks.clone(),
            positives: self.positives.clone(),
            synthetic: self.synthetic.clone(),
            guide_queries: wide(&self.guide_queries),
            guide_documents: wide(&self.guide_documents),
        }
    }

    /// The score matrix of a configuration.
    pub(super) fn matrix(&self, config: &LossConfig, now: &Now) -> ScoreMatrix {
        let batch = self.embedded();
        ScoreMatrix::new(&batch, batch.queries.clone(), batch.documents.clone(), config, now)
    }
}

/// Value and gradients of a batch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Taken {
    pub(super) value: f32,
    pub(super) queries: Vec<f32>,
    pub(super) documents: Vec<f32>,
}

impl Taken {
    pub(super) fn gradients(&self) -> impl Iterator<Item = f32> + '_ {
        self.queries.iter().chain(&self.documents).copied()
    }
}

pub(super) fn take(config: &LossConfig, data: &Data, now: &Now) -> Taken {
    let batch = data.embedded();
    let value = config.evaluate(&batch, now, &config.state(&device())).value;
    let gradients = value.backward();
    let gradient = |rows: &Tensor<2>| rows.grad(&gradients).map_or(vec![0.0; rows.shape().num_elements()], |gradient| values(&gradient));
    Taken { value: scalar(&value), queries: gradient(&batch.queries), documents: gradient(&batch.documents) }
}

/// Value and all gradients against the reference and its finite differences.
pub(super) fn check(what: &str, config: &LossConfig, data: &Data, now: &Now) {
    let taken = take(config, data, now);
    let batch = data.reference();
    let mixed = reference::mixed_vectors(config, &batch, now);
    let value = |batch: &reference::Batch| reference::evaluate(config, batch, now, None, &mixed);
    assert_close(&format!("{what}: loss"), &[taken.value], &[value(&batch)], 1e-5, 1e-5);
    let expected: Vec<f64> =
        (0..batch.queries.len()).map(|element| central_difference(&batch, |b| &mut b.queries[element], value)).collect();
    assert_close(&format!("{what}: queries"), &taken.queries, &expected, 2e-5, 1e-4);
    let expected: Vec<f64> =
        (0..batch.documents.len()).map(|element| central_difference(&batch, |b| &mut b.documents[element], value)).collect();
    assert_close(&format!("{what}: documents"), &taken.documents, &expected, 2e-5, 1e-4);
}

fn central_difference(
    batch: &reference::Batch,
    element: impl Fn(&mut reference::Batch) -> &mut f64,
    value: impl Fn(&reference::Batch) -> f64,
) -> f64 {
    const STEP: f64 = 1e-6;
    let moved = |by: f64| {
        let mut batch = batch.clone();
        *element(&mut batch) += by;
        value(&batch)
    };
    (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
}
