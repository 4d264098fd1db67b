//! The rank-weighted pairwise loss of ADORE: pairs count by what swapping them would change in the reciprocal rank.
//!
//! Per query the mean over (positive `i`, negative `j`) of `|w_i - w_j| softplus(-(s_i - s_j) / t)` with `w_r = 1 / r` for a rank `r` up to
//! `cut` and 0 beyond it or when not retrieved; then the mean over all queries (Zhan et al. 2021, arXiv 2104.08051). Ranks are those of
//! the search that gave the list, not of the present scores. Positives are all marked ones among the own columns, blocked or not, and the
//! target; negatives are the own candidates. A query without negatives adds 0.

use burn::tensor::activation::softplus;
use burn::tensor::{Int, Tensor, TensorData};

use super::matrix::Scored;
use super::settings::Settings;
use super::{Entry, Evaluated, Loss, LossError, Needs, Reach};
use crate::candidates::Embedded;

pub(super) const ENTRY: Entry = Entry {
    name: "lambda-mrr",
    build,
    settings: &["cut"],
    reach: Reach::Labelled,
    needs: Needs { own: true, ranks: true, ..Needs::NOTHING },
    by_query: true,
};

/// See the head of the file.
#[derive(Debug)]
struct LambdaMrr {
    cut: u32,
}

fn build(settings: &Settings) -> Result<Box<dyn Loss>, LossError> {
    let cut = settings.cut.unwrap_or(200);
    settings.number("cut", cut as f64, (1..=u32::MAX as usize).contains(&cut), "a rank from 1, such as 200")?;
    Ok(Box::new(LambdaMrr { cut: cut as u32 }))
}

/// One positive of every query that has so many, and the weight of its pair with each column.
struct Slot {
    positives: Vec<i32>,
    weights: Vec<f32>,
}

impl Loss for LambdaMrr {
    fn value(&self, scored: &Scored<'_>) -> Evaluated {
        let logits = scored.document_logits();
        let slots = self.slots(scored.batch);
        let sums = slots.into_iter().map(|Slot { positives, weights }| {
            let rows = positives.len();
            let positives = Tensor::<2, Int>::from_data(TensorData::new(positives, [rows, 1]), &scored.matrix.targets.device());
            let margins = logits.clone() - logits.clone().gather(1, positives);
            (softplus(margins, 1.0) * scored.upload(weights)).sum()
        });
        sums.reduce(|sum, next| sum + next).expect("every query has its target as a positive").into()
    }
}

impl LambdaMrr {
    fn slots(&self, batch: &Embedded) -> Vec<Slot> {
        let cells = batch.cells();
        let (rows, columns) = (batch.rows(), cells.columns());
        let mut slots: Vec<Slot> = Vec::new();
        for query in 0..rows {
            let positives: Vec<usize> =
                (0..columns).filter(|&column| cells.is_positive(query, column) && cells.is_own(query, column)).collect();
            let negatives: Vec<usize> = (0..columns).filter(|&column| cells.is_own_negative(query, column)).collect();
            let pairs = (positives.len() * negatives.len()) as f64;
            for (number, &positive) in positives.iter().enumerate() {
                if slots.len() == number {
                    let positives = batch.targets.iter().map(|&target| target as i32).collect();
                    slots.push(Slot { positives, weights: vec![0.0; rows * columns] });
                }
                slots[number].positives[query] = positive as i32;
                for &negative in &negatives {
                    let difference = (self.gain(batch, query * columns + positive) - self.gain(batch, query * columns + negative)).abs();
                    slots[number].weights[query * columns + negative] = (difference / pairs / rows as f64) as f32;
                }
            }
        }
        slots
    }

    fn gain(&self, batch: &Embedded, cell: usize) -> f64 {
        match batch.side.ranks[cell] {
            rank if (1..=self.cut).contains(&rank) => 1.0 / f64::from(rank),
            _ => 0.0,
        }
    }
}
