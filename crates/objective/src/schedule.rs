//! The learning rate of each step: linear warm-up, then constant, linear or cosine decay.
//!
//! The rules are those of `get_{constant,linear,cosine}_schedule_with_warmup` in transformers. Steps count from 0, and the factor is
//! taken before the step is made: the first warm-up step therefore has rate 0. Past the last step the decaying schedules stay at 0.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What the rate does after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Stays at the peak.
    Constant,
    /// Falls in a straight line to 0 at the last step.
    #[default]
    Linear,
    /// Falls along half a cosine to 0 at the last step.
    Cosine,
}

/// Length of the warm-up. In a configuration one number: below 1 a share of all steps, from 1 on a number of steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub enum Warmup {
    /// So many steps.
    Steps(usize),
    /// This share of all steps, in `[0, 1)`, rounded up to whole steps.
    Share(f64),
}

impl TryFrom<f64> for Warmup {
    type Error = ScheduleError;

    fn try_from(number: f64) -> Result<Self, ScheduleError> {
        match number {
            n if (0.0..1.0).contains(&n) => Ok(Self::Share(n)),
            n if n >= 1.0 && n.fract() == 0.0 && n <= f64::from(u32::MAX) => Ok(Self::Steps(n as usize)),
            got => Err(ScheduleError::Warmup { got }),
        }
    }
}

impl From<usize> for Warmup {
    fn from(steps: usize) -> Self {
        Self::Steps(steps)
    }
}

impl From<Warmup> for f64 {
    fn from(warmup: Warmup) -> Self {
        match warmup {
            Warmup::Steps(steps) => steps as f64,
            Warmup::Share(share) => share,
        }
    }
}

/// A schedule that cannot be followed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ScheduleError {
    /// Neither a share nor a number of steps.
    #[error("warmup is {got}, expected a share of the steps in [0, 1) such as 0.1, or a whole number of steps")]
    Warmup {
        /// The number given.
        got: f64,
    },
    /// A rate that is not positive and finite.
    #[error("the learning rate is {got}, expected a positive number such as 2e-5")]
    Peak {
        /// The rate given.
        got: f64,
    },
    /// The warm-up outlasts training, so the peak would never be reached.
    #[error("the warm-up takes {warmup} steps and training only {total}: shorten train.warmup or train longer")]
    WarmupTooLong {
        /// Steps of the warm-up.
        warmup: usize,
        /// Steps of the run.
        total: usize,
    },
}

/// The learning rate as a function of the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    kind: ScheduleKind,
    peak: f64,
    warmup: usize,
    total: usize,
}

impl Schedule {
    /// A schedule over `total` steps that reaches the rate `peak` at the end of its warm-up, given as [`Warmup`] or as steps.
    ///
    /// # Errors
    /// When the peak is not a positive number or the warm-up is longer than the run.
    pub fn new(kind: ScheduleKind, warmup: impl Into<Warmup>, total: usize, peak: f64) -> Result<Self, ScheduleError> {
        if !(peak.is_finite() && peak > 0.0) {
            return Err(ScheduleError::Peak { got: peak });
        }
        let warmup = match warmup.into() {
            Warmup::Steps(steps) => steps,
            Warmup::Share(share) if (0.0..1.0).contains(&share) => (share * total as f64).ceil() as usize,
            Warmup::Share(got) => return Err(ScheduleError::Warmup { got }),
        };
        if warmup > total {
            return Err(ScheduleError::WarmupTooLong { warmup, total });
        }
        Ok(Self { kind, peak, warmup, total })
    }

    /// The learning rate of step `step`, counted from 0.
    pub fn rate(&self, step: usize) -> f64 {
        self.peak * self.factor(step)
    }

    /// The rate as a share of the peak, in `[0, 1]`.
    pub fn factor(&self, step: usize) -> f64 {
        if step < self.warmup {
            return step as f64 / self.warmup as f64;
        }
        let decay = (self.total - self.warmup).max(1) as f64;
        let progress = ((step - self.warmup) as f64 / decay).min(1.0);
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Linear => 1.0 - progress,
            ScheduleKind::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
        }
    }

    /// Steps of the warm-up.
    pub fn warmup(&self) -> usize {
        self.warmup
    }
}
