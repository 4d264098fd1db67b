//! MarginMSE: the student's margin between positive and negative follows the teacher's.
//!
//! `mean over pairs of ( (s_i+ - s_ij) / t - scale * (T_i+ - T_ij) )^2` over the own negatives `j` whose teacher score is known, as the
//! target's must be (Hofstätter et al. 2020, arXiv 2010.02666). No relevance label enters: a false negative has a small or negative target
//! margin. Teacher margins are often far larger than cosine margins can be: the temperature or the scale brings them together.
//!
//! With `in_batch` the pairs are those with other queries' documents instead, `1/2 (mean over their positives + mean over their negatives)`
//! (TAS-Balanced, Hofstätter et al. 2021, arXiv 2104.06967, which adds it to the first form with weight 0.75). A mean over no pair is 0.

use super::matrix::Scored;
use super::settings::Settings;
use super::{Entry, Evaluated, Loss, LossError, Needs, Reach};
use crate::candidates::Embedded;

pub(super) const ENTRY: Entry = Entry {
    name: "margin-mse",
    build,
    settings: &["in_batch", "teacher_scale"],
    reach: Reach::Labelled,
    needs: Needs { own: true, teacher: true, ..Needs::NOTHING },
    by_query: false,
};

/// See the head of the file.
#[derive(Debug)]
struct MarginMse {
    in_batch: bool,
    teacher_scale: f64,
}

fn build(settings: &Settings) -> Result<Box<dyn Loss>, LossError> {
    let teacher_scale = settings.positive("teacher_scale", settings.teacher_scale.unwrap_or(1.0))?;
    Ok(Box::new(MarginMse { in_batch: settings.in_batch, teacher_scale }))
}

/// Which mean a pair belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    /// An own negative.
    Own,
    /// Another query's positive.
    ForeignPositive,
    /// Another query's negative.
    ForeignNegative,
}

impl Loss for MarginMse {
    fn value(&self, scored: &Scored<'_>) -> Evaluated {
        let (expected, weights) = self.pairs(scored.batch);
        let logits = scored.document_logits();
        let margins = scored.of_targets(&logits) - logits;
        let wrong = margins - scored.upload(expected);
        (wrong.square() * scored.upload(weights)).sum().into()
    }
}

impl MarginMse {
    /// The teacher's margin and the weight of every cell; both 0 where there is no pair.
    fn pairs(&self, batch: &Embedded) -> (Vec<f32>, Vec<f32>) {
        let cells = batch.cells();
        let columns = cells.columns();
        let mut is_target = vec![false; columns];
        batch.targets.iter().for_each(|&target| is_target[target] = true);
        let mut expected = vec![0.0; batch.rows() * columns];
        let mut groups = vec![None; batch.rows() * columns];
        for (query, &target) in batch.targets.iter().enumerate() {
            let Some(positive) = cells.teacher_score(query, target) else { continue };
            for column in (0..columns).filter(|&column| column != target && cells.is_candidate(query, column)) {
                let Some(negative) = cells.teacher_score(query, column) else { continue };
                let group = match (cells.is_own_candidate(query, column), is_target[column]) {
                    (true, _) => Group::Own,
                    (false, true) => Group::ForeignPositive,
                    (false, false) => Group::ForeignNegative,
                };
                if (group == Group::Own) != self.in_batch {
                    expected[query * columns + column] = (self.teacher_scale * (positive - negative)) as f32;
                    groups[query * columns + column] = Some(group);
                }
            }
        }
        let weight = |group| {
            let pairs = groups.iter().filter(|&&found| found == Some(group)).count() as f32;
            if self.in_batch { 0.5 / pairs } else { 1.0 / pairs }
        };
        let weights = [Group::Own, Group::ForeignPositive, Group::ForeignNegative].map(weight);
        (expected, groups.iter().map(|group| group.map_or(0.0, |group| weights[group as usize])).collect())
    }
}
