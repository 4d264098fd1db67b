//! A number that may change linearly over the run.

use serde::{Deserialize, Serialize};

/// `0.5`, or `{ from = 0.2, to = 1.0 }` from the first to the last step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number, or { from = NUMBER, to = NUMBER }")]
pub enum Ramp {
    /// The same all the time.
    Fixed(f64),
    /// Along a line.
    Linear(Line),
}

/// Two ends of a line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Before the first step.
    pub from: f64,
    /// After the last step.
    pub to: f64,
}

impl Ramp {
    /// The value after this share of the run (0 to 1; what lies outside counts as the nearer end).
    pub fn at(self, progress: f64) -> f64 {
        match self {
            Self::Fixed(value) => value,
            Self::Linear(Line { from, to }) => from + (to - from) * progress.clamp(0.0, 1.0),
        }
    }

    pub(crate) fn ends(self) -> [f64; 2] {
        match self {
            Self::Fixed(value) => [value; 2],
            Self::Linear(Line { from, to }) => [from, to],
        }
    }

    pub(crate) fn highest(self) -> f64 {
        self.ends().into_iter().fold(f64::NEG_INFINITY, f64::max)
    }
}

impl std::fmt::Display for Ramp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(value) => write!(formatter, "{value}"),
            Self::Linear(Line { from, to }) => write!(formatter, "{{ from = {from}, to = {to} }}"),
        }
    }
}
