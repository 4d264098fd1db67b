//! The value of a whole configuration: the weighted sum of its losses, averaged over truncated embeddings when asked for.

use std::borrow::Cow;

use burn::tensor::{DType, Tensor};
use kernels::layers::normalize;

use super::by_rows::by_rows;
use super::config::Summand;
use super::matrix::{ScoreMatrix, Scored};
use super::temperature::Divisor;
use super::{LossConfig, LossState};
use crate::candidates::Embedded;

/// Where a run stands when a loss is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Now {
    /// The step, from 0.
    pub step: usize,
    /// How far along the run is, for what changes over it: 0 at the first step, 1 at the last.
    pub progress: f64,
    /// The seed of the run, for what is drawn.
    pub seed: u64,
}

/// A loss and what else is worth a line in the log.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// `[1]`, f32, in the graph.
    pub value: Tensor<1>,
    /// Named scalars, each `[1]` and without a graph, still on the device: whoever reads one waits for the device. With terms each loss
    /// under its kind, unweighted, the second of one kind under `kind-2` and so on; `masked_share`, the share of the negatives that masks took out; `spared_share`, the share of the
    /// generated negatives that they would have taken out but for their exemption; `false_share`, where [`Side::relevant`](crate::Side::relevant) is
    /// given, the share of the documents they left that are relevant; `floor_share`, the share of the
    /// queries whose correction stands at its floor; `temperature`, when it is learned. With truncated embeddings they are those of the
    /// widest.
    pub parts: Vec<(Cow<'static, str>, Tensor<1>)>,
}

impl From<Tensor<1>> for Evaluated {
    fn from(value: Tensor<1>) -> Self {
        Self { value, parts: Vec::new() }
    }
}

impl LossConfig {
    /// The loss of a batch. `state` is what [`state`](Self::state) gave, in its present form. Does not wait for the device.
    ///
    /// # Panics
    /// When [`validate`](Self::validate) or [`check`](Self::check) would find fault, or when `state` was made by a configuration that
    /// learns other things: all are settled before training starts.
    pub fn evaluate(&self, batch: &Embedded, now: &Now, state: &LossState) -> Evaluated {
        if let Err(error) = self.check(batch) {
            panic!("{error}");
        }
        let summands = match self.validate().and_then(|()| self.summands()) {
            Ok(summands) => summands,
            Err(error) => panic!("{error}"),
        };
        let learned = state.tracked_temperature();
        assert_eq!(learned.is_some(), self.temperature.is_learned(), "the state of the loss was made by another configuration");
        let main = learned.map_or_else(|| Divisor::Constant(self.temperature.at(now)), |learned| Divisor::Learned(Box::new(learned)));
        let mut evaluated = match self.rows_at_once {
            0 => self.over_widths(batch, now, &summands, &main),
            rows => by_rows(batch, rows, &state.leaves(), |part| {
                // Its graph belongs to the part.
                let main = state.tracked_temperature().map_or_else(|| main.clone(), |learned| Divisor::Learned(Box::new(learned)));
                self.over_widths(part, now, &summands, &main)
            }),
        };
        evaluated.parts.extend(state.temperature().map(|temperature| ("temperature".into(), temperature)));
        evaluated
    }

    fn over_widths(&self, batch: &Embedded, now: &Now, summands: &[Summand], main: &Divisor) -> Evaluated {
        let (queries, documents) = (&batch.queries, &batch.documents);
        let Some(&widest) = self.matryoshka.iter().max() else {
            return sum(&self.matrix(batch, queries.clone(), documents.clone(), now), batch, now, summands, main);
        };
        let weights = if self.matryoshka_weights.is_empty() { vec![1.0; self.matryoshka.len()] } else { self.matryoshka_weights.clone() };
        let total: f64 = weights.iter().sum();
        let (mut value, mut parts) = (None, Vec::new());
        for (&width, weight) in self.matryoshka.iter().zip(weights) {
            let [queries, documents] = [queries, documents].map(|rows| self.cut(rows, width));
            let cut = sum(&self.matrix(batch, queries, documents, now), batch, now, summands, main);
            add(&mut value, cut.value.mul_scalar(weight / total));
            if width == widest {
                parts = cut.parts;
            }
        }
        Evaluated { value: value.expect("there is a width"), parts }
    }

    fn matrix(&self, batch: &Embedded, queries: Tensor<2>, documents: Tensor<2>, now: &Now) -> ScoreMatrix {
        ScoreMatrix::new(batch, queries, documents, self, now)
    }

    fn cut(&self, rows: &Tensor<2>, width: usize) -> Tensor<2> {
        let rows = rows.clone().narrow(1, 0, width).cast(DType::F32);
        if self.matryoshka_normalize { normalize(rows) } else { rows }
    }
}

/// The weighted sum over one score matrix.
fn sum(matrix: &ScoreMatrix, batch: &Embedded, now: &Now, summands: &[Summand], main: &Divisor) -> Evaluated {
    let (mut value, mut parts) = (None, Vec::new());
    for (place, Summand { weight, temperature, loss, .. }) in summands.iter().enumerate() {
        let divisor = temperature.map_or_else(|| main.clone(), |temperature| Divisor::Constant(temperature.at(now)));
        let taken = loss.value(&Scored { batch, matrix, divisor });
        if summands.len() > 1 {
            parts.push((key(summands, place), taken.value.clone().inner()));
        }
        parts.extend(taken.parts);
        add(&mut value, if *weight == 1.0 { taken.value } else { taken.value.mul_scalar(*weight) });
    }
    parts.extend(matrix.masked_share.clone().map(|share| ("masked_share".into(), share)));
    parts.extend(matrix.spared_share.clone().map(|share| ("spared_share".into(), share)));
    parts.extend(matrix.false_share.clone().map(|share| ("false_share".into(), share)));
    Evaluated { value: value.expect("there is a main loss"), parts }
}

/// What the log calls a loss of a sum: its kind, and from the second of that kind on its number among them.
fn key(summands: &[Summand], place: usize) -> Cow<'static, str> {
    let kind = summands[place].kind;
    match summands[..place].iter().filter(|it| it.kind == kind).count() {
        0 => kind.name().into(),
        before => format!("{}-{}", kind.name(), before + 1).into(),
    }
}

fn add(sum: &mut Option<Tensor<1>>, value: Tensor<1>) {
    *sum = Some(match sum.take() {
        Some(sum) => sum + value,
        None => value,
    });
}
