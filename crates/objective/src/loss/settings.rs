//! What a single loss of the sum is made from and needs: its own settings with their checks, and the side information it reads.

use super::{Loss, LossError, LossKind};

/// What one loss is built from, whether it is the main loss or a term.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Where the settings stand, for messages.
    pub(super) place: String,
    pub(super) kind: LossKind,
    pub(super) symmetric: bool,
    pub(super) in_batch: bool,
    pub(super) teacher_scale: Option<f64>,
    pub(super) teacher_temperature: Option<f64>,
    pub(super) beta: Option<f64>,
    pub(super) tau_plus: Option<f64>,
    pub(super) cut: Option<usize>,
}

/// Side information that a batch must carry for a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The loss reads own columns only. Without [`Side::own`](crate::candidates::Side::own) every column is own.
    pub own: bool,
    /// [`Side::teacher`](crate::candidates::Side::teacher).
    pub teacher: bool,
    /// [`Side::ranks`](crate::candidates::Side::ranks).
    pub ranks: bool,
    /// [`Side::guide`](crate::candidates::Side::guide).
    pub guide: bool,
}

impl Needs {
    pub(super) const NOTHING: Self = Self { own: false, teacher: false, ranks: false, guide: false };

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            own: self.own || other.own,
            teacher: self.teacher || other.teacher,
            ranks: self.ranks || other.ranks,
            guide: self.guide || other.guide,
        }
    }
}

impl Settings {
    /// The loss, once every setting given is one that it has.
    pub(super) fn build(&self) -> Result<Box<dyn Loss>, LossError> {
        let entry = self.kind.entry();
        match self.given().find(|setting| !entry.settings.contains(setting)) {
            Some(setting) => Err(LossError::Unsupported { place: self.place.clone(), setting, kind: entry.name }),
            None => (entry.build)(self),
        }
    }

    fn given(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("symmetric", self.symmetric),
            ("in_batch", self.in_batch),
            ("teacher_scale", self.teacher_scale.is_some()),
            ("teacher_temperature", self.teacher_temperature.is_some()),
            ("beta", self.beta.is_some()),
            ("tau_plus", self.tau_plus.is_some()),
            ("cut", self.cut.is_some()),
        ];
        all.into_iter().filter(|(_, given)| *given).map(|(setting, _)| setting)
    }

    /// A number of this loss if `holds` says that it is in range.
    pub(super) fn number(&self, setting: &str, got: f64, holds: bool, expected: &'static str) -> Result<f64, LossError> {
        in_range(format!("{}.{setting}", self.place), got, holds, expected)
    }

    /// A number from 0.
    pub(super) fn not_negative(&self, setting: &str, got: f64) -> Result<f64, LossError> {
        self.number(setting, got, got.is_finite() && got >= 0.0, "a number from 0")
    }

    /// A number above 0.
    pub(super) fn positive(&self, setting: &str, got: f64) -> Result<f64, LossError> {
        self.number(setting, got, got.is_finite() && got > 0.0, "a positive number")
    }
}

pub(super) fn in_range(setting: String, got: f64, holds: bool, expected: &'static str) -> Result<f64, LossError> {
    if holds { Ok(got) } else { Err(LossError::Range { setting, got, expected }) }
}
