//! Listwise distillation: the student's distribution over the query's own group follows the teacher's.
//!
//! `mean_i KL( softmax_j(T_ij / u) || softmax_j(s_ij / t) )` over the own columns `j` with a known teacher score, target included (the form
//! of FlagEmbedding, SimLM and RocketQAv2, with the gradient to the student only). Queries with fewer than two scored columns have nothing
//! to teach and leave both the sum and the denominator. Add `info-nce` as a term, or the other way round, for the usual combination.

use kernels::layers::log_sum_exp;

use super::matrix::{Scored, cells, exclude};
use super::settings::Settings;
use super::{Entry, Evaluated, Loss, LossError, Needs, Reach};
use crate::candidates::Embedded;

pub(super) const ENTRY: Entry = Entry {
    name: "kl",
    build,
    settings: &["teacher_temperature"],
    reach: Reach::Labelled,
    needs: Needs { own: true, teacher: true, ..Needs::NOTHING },
    by_query: false,
};

/// See the head of the file.
#[derive(Debug)]
struct Kl {
    teacher_temperature: f64,
}

fn build(settings: &Settings) -> Result<Box<dyn Loss>, LossError> {
    let teacher_temperature = settings.positive("teacher_temperature", settings.teacher_temperature.unwrap_or(1.0))?;
    Ok(Box::new(Kl { teacher_temperature }))
}

impl Loss for Kl {
    fn value(&self, scored: &Scored<'_>) -> Evaluated {
        let batch = scored.batch;
        let taught = self.taught(batch);
        let columns = batch.columns();
        let lists = taught.chunks(columns).filter(|row| row.iter().any(|&log| log > f64::NEG_INFINITY)).count();
        let unlisted = cells(batch, batch.rows(), columns, |row, column| taught[row * columns + column] == f64::NEG_INFINITY);
        let logits = exclude(scored.document_logits(), unlisted.clone());
        let learned = logits.clone() - log_sum_exp(logits);
        let share: Vec<f32> = taught.iter().map(|log| log.exp() as f32).collect();
        let log: Vec<f32> = taught.iter().map(|&log| if log == f64::NEG_INFINITY { 0.0 } else { log as f32 }).collect();
        // Outside the lists the student's logarithm is about -1e30 and the share 0: filled, so that no such number meets another.
        let difference = scored.upload(log) - learned;
        let difference = match unlisted {
            Some(unlisted) => difference.mask_fill(unlisted, 0.0),
            None => difference,
        };
        (difference * scored.upload(share)).sum().div_scalar(lists.max(1) as f64).into()
    }
}

impl Kl {
    /// `log softmax` of the teacher over each list, `[queries * candidates]`; minus infinity outside the lists.
    fn taught(&self, batch: &Embedded) -> Vec<f64> {
        let cells = batch.cells();
        let columns = cells.columns();
        let mut taught = vec![f64::NEG_INFINITY; batch.rows() * columns];
        for (query, row) in taught.chunks_exact_mut(columns).enumerate() {
            for (column, cell) in row.iter_mut().enumerate().filter(|&(column, _)| cells.is_own_candidate(query, column)) {
                *cell = cells.teacher_score(query, column).map_or(f64::NEG_INFINITY, |score| score / self.teacher_temperature);
            }
            if row.iter().filter(|&&score| score > f64::NEG_INFINITY).count() < 2 {
                row.fill(f64::NEG_INFINITY);
                continue;
            }
            let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total = highest + row.iter().map(|score| (score - highest).exp()).sum::<f64>().ln();
            row.iter_mut().for_each(|score| *score -= total);
        }
        taught
    }
}
