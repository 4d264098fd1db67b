//! Rules that take likely false negatives out of the score matrix, by the scores of the student or of a guide.
//!
//! `student` (Qwen3-Embedding, arXiv 2506.05176): a cell goes when `s_ij > s_i+ + margin`, on plain inner products before any temperature.
//! `guide` (GISTEmbed, Solatorio 2024, arXiv 2402.16829): a cell goes when the guide's cosine of the same two texts is strictly greater
//! than `t_i - margin`, or `t_i - margin * |t_i|` when relative, with `t_i` its cosine of the query and its positive. Both rules see every
//! part of the matrix, their scores carry no gradient, and a target is never taken out.

use burn::tensor::{Bool, DType, Int, Tensor, TensorData};
use kernels::layers::normalize;
use serde::{Deserialize, Serialize};

use super::blocks::Part;
use super::settings::in_range;
use super::{LossError, Now};
use crate::candidates::{Embedded, Guide};

/// Whose scores decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskRule {
    /// The encoder in training.
    Student,
    /// The guide encoder whose rows the batch carries.
    Guide,
}

/// One `[[loss.mask]]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskConfig {
    /// `student` or `guide`.
    pub rule: MaskRule,
    /// How far above (student) or below (guide) the positive's score the limit lies. Left out: 0.1 for the student, 0 for the guide.
    #[serde(default)]
    pub margin: Option<f64>,
    /// Guide only: the margin is a share of the positive's score.
    #[serde(default)]
    pub relative: bool,
    /// Guide only: besides, take out what the student scores below its positive.
    #[serde(default)]
    pub hard: bool,
    /// May take out generated documents too, which a positive-aware rule would otherwise remove for being close to the query.
    #[serde(default)]
    pub synthetic: bool,
    /// Acts from this step on: early in training the positive's score is low, and the rule would take out true negatives.
    #[serde(default)]
    pub from_step: usize,
}

impl MaskConfig {
    /// A rule with its defaults.
    pub fn new(rule: MaskRule) -> Self {
        Self { rule, margin: None, relative: false, hard: false, synthetic: false, from_step: 0 }
    }

    pub(crate) fn margin(&self) -> f64 {
        self.margin.unwrap_or(match self.rule {
            MaskRule::Student => 0.1,
            MaskRule::Guide => 0.0,
        })
    }

    pub(super) fn validate(&self, place: &str) -> Result<(), LossError> {
        let (margin, highest) = (self.margin(), if self.relative { 1.0 } else { f64::MAX });
        in_range(format!("{place}.margin"), margin, (0.0..=highest).contains(&margin), "a number from 0, and at most 1 when relative")?;
        let guided = [("relative", self.relative), ("hard", self.hard)];
        match guided.iter().find(|(_, given)| *given && self.rule == MaskRule::Student) {
            Some((setting, _)) => Err(LossError::Conflict {
                what: format!("{place}.{setting} cannot be used with rule = \"student\""),
                advice: "remove it or use rule = \"guide\"",
            }),
            None => Ok(()),
        }
    }
}

/// What rules take out of a matrix.
pub(super) struct Removed {
    /// The cells, `[queries, width]`.
    pub(super) cells: Tensor<2, Bool>,
    /// Where a rule exempts generated documents.
    pub(super) spared: Option<Spared>,
}

/// Generated documents that a rule would have taken out but for their exemption.
pub(super) struct Spared {
    /// Their cells, `[queries, width]`.
    pub(super) cells: Tensor<2, Bool>,
    /// The cells of all generated documents beside the targets, `[queries, width]`.
    pub(super) generated: Tensor<2, Bool>,
}

/// What the rules look at: the parts of the matrix, its plain scores `[queries, width]` without a graph, and the targets.
pub(super) struct Seen<'a> {
    pub(super) batch: &'a Embedded,
    pub(super) parts: &'a [Part],
    pub(super) scores: &'a Tensor<2>,
    pub(super) targets: &'a Tensor<1, Int>,
}

impl Seen<'_> {
    /// What the rules in force take out; `None` when no rule is in force yet.
    pub(super) fn removed(&self, masks: &[MaskConfig], now: &Now) -> Option<Removed> {
        let generated = self.generated();
        let (mut cells, mut spared) = (None, None);
        for mask in masks.iter().filter(|mask| now.step >= mask.from_step) {
            let found = match mask.rule {
                MaskRule::Student => above(self.scores, self.target_scores(self.scores).add_scalar(mask.margin())),
                MaskRule::Guide => self.by_guide(mask),
            };
            match &generated {
                Some(generated) if !mask.synthetic => {
                    join(&mut spared, found.clone().bool_and(generated.clone()));
                    join(&mut cells, found.bool_and(generated.clone().bool_not()));
                }
                _ => join(&mut cells, found),
            }
        }
        let open = target_cells(self.targets, self.scores.dims()[1]).bool_not();
        let cells = cells?.bool_and(open.clone());
        // What another rule takes out all the same was not spared.
        let spared = spared.zip(generated).map(|(spared, generated)| Spared {
            cells: spared.bool_and(cells.clone().bool_not()).bool_and(open.clone()),
            generated: generated.bool_and(open),
        });
        Some(Removed { cells, spared })
    }

    fn by_guide(&self, mask: &MaskConfig) -> Tensor<2, Bool> {
        let guide = self.batch.side.guide.as_ref().expect("the batch was checked for a guide");
        let scores = guide_scores(guide, self.parts, self.targets);
        let positives = self.target_scores(&scores);
        let margin = if mask.relative { positives.clone().abs().mul_scalar(mask.margin()) } else { positives.full_like(mask.margin()) };
        let removed = above(&scores, positives - margin);
        if !mask.hard {
            return removed;
        }
        let student = self.target_scores(self.scores).expand(self.scores.shape());
        removed.bool_or(self.scores.clone().lower(student))
    }

    fn target_scores(&self, scores: &Tensor<2>) -> Tensor<2> {
        scores.clone().gather(1, self.targets.clone().unsqueeze_dim(1))
    }

    /// The columns of generated documents, `[queries, width]`; `None` when there are none.
    fn generated(&self) -> Option<Tensor<2, Bool>> {
        if !self.batch.side.synthetic.contains(&true) {
            return None;
        }
        let columns = self.parts.iter().flat_map(|part| (0..part.width(self.batch)).map(|column| part.is_synthetic(self.batch, column)));
        let columns: Vec<bool> = columns.collect();
        let width = columns.len();
        let columns = Tensor::<2, Bool>::from_data(TensorData::new(columns, [1, width]), &self.scores.device());
        Some(columns.expand(self.scores.shape()))
    }
}

fn join(cells: &mut Option<Tensor<2, Bool>>, more: Tensor<2, Bool>) {
    *cells = Some(match cells.take() {
        Some(cells) => cells.bool_or(more),
        None => more,
    });
}

/// The guide's cosine for every cell of the matrix.
fn guide_scores(guide: &Guide, parts: &[Part], targets: &Tensor<1, Int>) -> Tensor<2> {
    let [queries, documents] = [&guide.queries, &guide.documents].map(|rows| normalize(rows.clone().inner().cast(DType::F32)));
    let scores: Vec<Tensor<2>> = parts.iter().map(|part| part.scores(&queries, &documents, targets)).collect();
    Tensor::cat(scores, 1)
}

/// `[queries, width]`, true where a score is strictly above its row's limit `[queries, 1]`.
fn above(scores: &Tensor<2>, limits: Tensor<2>) -> Tensor<2, Bool> {
    scores.clone().greater(limits.expand(scores.shape()))
}

/// `[queries, width]`, true at each row's target.
pub(super) fn target_cells(targets: &Tensor<1, Int>, width: usize) -> Tensor<2, Bool> {
    let rows = targets.dims()[0];
    let columns: Vec<i32> = (0..width as i32).collect();
    let columns = Tensor::<2, Int>::from_data(TensorData::new(columns, [1, width]), &targets.device());
    columns.expand([rows, width]).equal(targets.clone().unsqueeze_dim::<2>(1).expand([rows, width]))
}
