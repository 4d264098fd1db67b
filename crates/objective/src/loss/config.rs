//! The settings of the loss, as written in a configuration: one loss, further terms, and what is done to the score matrix they read.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::settings::{Needs, Settings, in_range};
use super::temperature::{Temperature, check_temperature};
use super::{Block, Loss, LossError, LossKind, LossState, MaskConfig, MaskRule, MixingConfig, Reach};
use crate::candidates::{BatchError, Embedded};

/// The settings of `[loss]`. Its value is `weight * loss + sum over terms of weight * loss`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// `info-nce` (default), `pairwise`, `lce`, `margin-mse`, `kl`, `adversarial`, `lambda-mrr`, `debiased`, `hcl`, `ccr` or
    /// `passage-centric`.
    pub kind: LossKind,
    /// Factor on this loss in the sum.
    pub weight: f64,
    /// `info-nce` only: average query-to-document and document-to-query.
    pub symmetric: bool,
    /// `margin-mse` only: margins against the other queries' documents instead of the own group.
    pub in_batch: bool,
    /// `margin-mse` only: factor on the teacher's margins, which brings them to the scale of `score / temperature`; left out: 1.
    pub teacher_scale: Option<f64>,
    /// `kl` only: the teacher's scores are divided by it; left out: 1.
    pub teacher_temperature: Option<f64>,
    /// `hcl`: how strongly hard negatives are favoured, left out: 1. `ccr`: weight of the regulariser, left out: 0.5.
    pub beta: Option<f64>,
    /// `debiased` and `hcl`: share of the negatives that are really positives; left out: 0.01.
    pub tau_plus: Option<f64>,
    /// `lambda-mrr` only: ranks below this one count as not retrieved; left out: 200.
    pub cut: Option<usize>,
    /// Further column blocks for the losses that read all columns.
    pub blocks: Vec<Block>,
    /// The loss is the average over embeddings cut to these widths (Matryoshka representations, Kusupati et al. 2022, arXiv
    /// 2205.13147). List the full width too if it is to be trained. Empty: the embeddings as they are.
    pub matryoshka: Vec<usize>,
    /// One weight per width of `matryoshka`; only their ratios matter. Empty: all alike.
    pub matryoshka_weights: Vec<f64>,
    /// Bring the cut embeddings back to length 1.
    pub matryoshka_normalize: bool,
    /// Scores are divided by it. 0.05 suits cosine scores; plain dot products want 1.
    pub temperature: Temperature,
    /// Rows of the score matrix held at a time, for batches whose matrix would not fit; 0: all of them. For losses that are a mean over
    /// queries, each by itself: `info-nce` (not symmetric), `lce`, `debiased`, `hcl`, `ccr`, `lambda-mrr`, without blocks and mixing.
    pub rows_at_once: usize,
    /// Synthetic negatives between embeddings, for the losses that read all columns.
    pub mixing: Option<MixingConfig>,
    /// Rules that take columns out by their score.
    pub mask: Vec<MaskConfig>,
    /// Further losses to add.
    pub term: Vec<TermConfig>,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            kind: LossKind::default(),
            weight: 1.0,
            symmetric: false,
            in_batch: false,
            teacher_scale: None,
            teacher_temperature: None,
            beta: None,
            tau_plus: None,
            cut: None,
            blocks: Vec::new(),
            matryoshka: Vec::new(),
            matryoshka_weights: Vec::new(),
            matryoshka_normalize: true,
            temperature: Temperature::Fixed(0.05),
            rows_at_once: 0,
            mixing: None,
            mask: Vec::new(),
            term: Vec::new(),
        }
    }
}

/// The settings of one `[[loss.term]]`; they mean what they mean in [`LossConfig`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct TermConfig {
    pub kind: LossKind,
    pub weight: f64,
    pub symmetric: bool,
    pub in_batch: bool,
    pub teacher_scale: Option<f64>,
    pub teacher_temperature: Option<f64>,
    pub beta: Option<f64>,
    pub tau_plus: Option<f64>,
    pub cut: Option<usize>,
    /// Left out: the temperature of `[loss]`.
    pub temperature: Option<Temperature>,
}

impl Default for TermConfig {
    fn default() -> Self {
        Self {
            kind: LossKind::default(),
            weight: 1.0,
            symmetric: false,
            in_batch: false,
            teacher_scale: None,
            teacher_temperature: None,
            beta: None,
            tau_plus: None,
            cut: None,
            temperature: None,
        }
    }
}

/// One loss of the sum, ready to be taken.
pub(super) struct Summand {
    pub(super) kind: LossKind,
    pub(super) weight: f64,
    /// `None`: the main temperature.
    pub(super) temperature: Option<Temperature>,
    pub(super) loss: Box<dyn Loss>,
}

impl LossConfig {
    fn settings(&self) -> Settings {
        let Self { kind, symmetric, in_batch, teacher_scale, teacher_temperature, beta, tau_plus, cut, .. } = *self;
        Settings { place: "loss".into(), kind, symmetric, in_batch, teacher_scale, teacher_temperature, beta, tau_plus, cut }
    }

    /// All losses of the sum, the main one first.
    pub(super) fn summands(&self) -> Result<Vec<Summand>, LossError> {
        let mut summands = Vec::with_capacity(1 + self.term.len());
        check_weight("loss", self.weight)?;
        summands.push(Summand { kind: self.kind, weight: self.weight, temperature: None, loss: self.settings().build()? });
        for (number, term) in self.term.iter().enumerate() {
            let place = format!("loss.term.{number}");
            check_weight(&place, term.weight)?;
            if let Some(temperature) = &term.temperature {
                check_temperature(&format!("{place}.temperature"), temperature)?;
                if temperature.is_learned() {
                    return Err(LossError::Conflict {
                        what: format!("{place}.temperature cannot be learned"),
                        advice: "learn loss.temperature and leave the term's out, which then follows it",
                    });
                }
            }
            let TermConfig { kind, symmetric, in_batch, teacher_scale, teacher_temperature, beta, tau_plus, cut, .. } = *term;
            let settings = Settings { place, kind, symmetric, in_batch, teacher_scale, teacher_temperature, beta, tau_plus, cut };
            summands.push(Summand { kind, weight: term.weight, temperature: term.temperature, loss: settings.build()? });
        }
        Ok(summands)
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// The first setting out of range, or one that the chosen losses do not have.
    pub fn validate(&self) -> Result<(), LossError> {
        check_temperature("loss.temperature", &self.temperature)?;
        self.summands()?;
        for (number, mask) in self.mask.iter().enumerate() {
            mask.validate(&format!("loss.mask.{number}"))?;
        }
        if let Some(mixing) = &self.mixing {
            mixing.validate()?;
        }
        Block::validate(&self.blocks)?;
        self.check_reach()?;
        self.check_rows_at_once()?;
        self.check_matryoshka()
    }

    /// Masks, blocks and mixed columns must have a reader.
    fn check_reach(&self) -> Result<(), LossError> {
        const ALL: &str = "it needs a loss over all columns, such as info-nce";
        const MASKED: &str = "it needs a loss over unlabelled negatives, such as info-nce or lce";
        let kinds = std::iter::once(self.kind).chain(self.term.iter().map(|term| term.kind));
        let reach = kinds.map(|kind| kind.entry().reach).max().unwrap_or(Reach::Labelled);
        let parts = [
            ("blocks", !self.blocks.is_empty(), Reach::All, ALL),
            ("mixing", self.mixing.is_some(), Reach::All, ALL),
            ("mask", !self.mask.is_empty(), Reach::Group, MASKED),
        ];
        match parts.into_iter().find(|&(_, given, needed, _)| given && reach < needed) {
            Some((setting, _, _, advice)) => Err(LossError::Unread { setting, kind: self.kind.name(), advice }),
            None => Ok(()),
        }
    }

    /// Whether a few rows of the score matrix are enough for a part of the loss.
    fn check_rows_at_once(&self) -> Result<(), LossError> {
        let kinds = std::iter::once((self.kind, self.symmetric)).chain(self.term.iter().map(|term| (term.kind, term.symmetric)));
        let whole = kinds.filter(|(kind, symmetric)| *symmetric || !kind.entry().by_query).map(|(kind, _)| kind.name());
        let mut reads = whole.chain((!self.blocks.is_empty()).then_some("blocks")).chain(self.mixing.as_ref().map(|_| "mixing"));
        match reads.next() {
            Some(reader) if self.rows_at_once > 0 => Err(LossError::Conflict {
                what: format!("loss.rows_at_once = {} and {reader}, which reads the whole score matrix", self.rows_at_once),
                advice: "set it to 0, or take a loss that is a mean over queries (info-nce that is not symmetric, lce, debiased, hcl, ccr, lambda-mrr) \
                         without blocks and mixing",
            }),
            _ => Ok(()),
        }
    }

    fn check_matryoshka(&self) -> Result<(), LossError> {
        for (number, &width) in self.matryoshka.iter().enumerate() {
            let fresh = width > 0 && !self.matryoshka[..number].contains(&width);
            in_range(format!("loss.matryoshka.{number}"), width as f64, fresh, "a width from 1 that stands in the list once")?;
        }
        let (weights, widths) = (self.matryoshka_weights.len(), self.matryoshka.len());
        if weights != 0 && weights != widths {
            return Err(LossError::Conflict {
                what: format!("loss.matryoshka_weights has {weights} entries and loss.matryoshka {widths}"),
                advice: "give one weight per width, or none",
            });
        }
        for (number, &weight) in self.matryoshka_weights.iter().enumerate() {
            let holds = weight.is_finite() && weight > 0.0;
            in_range(format!("loss.matryoshka_weights.{number}"), weight, holds, "a positive number")?;
        }
        Ok(())
    }

    /// The side information that a batch must carry.
    pub fn needs(&self) -> Needs {
        let terms = self.term.iter().map(|term| term.kind.entry().needs);
        let needs = terms.fold(self.kind.entry().needs, Needs::and);
        Needs { guide: needs.guide || self.mask.iter().any(|mask| mask.rule == MaskRule::Guide), ..needs }
    }

    /// Whether some loss of the sum reads columns beside the query's own group.
    pub fn reads_foreign_columns(&self) -> bool {
        let mut kinds = std::iter::once(self.kind).chain(self.term.iter().map(|term| term.kind));
        self.in_batch() || kinds.any(|kind| !kind.entry().needs.own)
    }

    /// Whether some loss of the sum compares a query with other queries' documents as a teacher does (`in_batch`).
    pub fn in_batch(&self) -> bool {
        self.in_batch || self.term.iter().any(|term| term.in_batch)
    }

    /// Checks a batch: its own parts, and that it carries what this loss needs. Does not touch the device.
    ///
    /// # Errors
    /// The first part that does not fit or is missing.
    pub fn check(&self, batch: &Embedded) -> Result<(), BatchError> {
        batch.validate()?;
        let (needs, side) = (self.needs(), &batch.side);
        let missing = [
            (needs.teacher && side.teacher.is_empty(), "teacher scores"),
            (needs.ranks && side.ranks.is_empty(), "the ranks of a retrieval"),
            (needs.guide && side.guide.is_none(), "the rows of a guide encoder"),
        ];
        if let Some((_, needed)) = missing.into_iter().find(|(missing, _)| *missing) {
            return Err(BatchError::Missing { needed });
        }
        self.check_dimension(batch.queries.dims()[1])
    }

    /// Checks that embeddings of this width can be cut as configured.
    ///
    /// # Errors
    /// [`BatchError::Width`] for the first width of `matryoshka` above it.
    pub fn check_dimension(&self, dimension: usize) -> Result<(), BatchError> {
        match self.matryoshka.iter().find(|&&width| width > dimension) {
            Some(&width) => Err(BatchError::Width { width, dimension }),
            None => Ok(()),
        }
    }

    /// The state that this loss learns, at its start. `device` is the autodiff form of the device that embeddings lie on.
    pub fn state(&self, device: &Device) -> LossState {
        LossState::new(&self.temperature, device)
    }
}

fn check_weight(place: &str, weight: f64) -> Result<f64, LossError> {
    in_range(format!("{place}.weight"), weight, weight.is_finite() && weight >= 0.0, "a number from 0")
}
