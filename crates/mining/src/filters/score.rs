//! Keeps scores between two fixed bounds. The bounds belong to one encoder: cosines and dot products need others.

use super::{Filter, FilterContext, Scored};

/// Fixed bounds, both inclusive. An unscored candidate stays.
#[derive(Debug, Clone, Copy)]
pub struct Score {
    min: f32,
    max: f32,
}

impl Score {
    /// No bound where `None`.
    pub fn new(min: Option<f64>, max: Option<f64>) -> Self {
        Self { min: min.map_or(f32::NEG_INFINITY, |min| min as f32), max: max.map_or(f32::INFINITY, |max| max as f32) }
    }
}

impl Filter for Score {
    fn name(&self) -> &'static str {
        "score"
    }

    fn keep(&self, _: &FilterContext<'_>, it: &Scored) -> bool {
        !(it.similarity < self.min || it.similarity > self.max)
    }

    fn ceiling(&self, _: f32) -> f32 {
        self.max.min(f32::MAX)
    }

    fn reads_similarity(&self) -> bool {
        true
    }

    fn spares_generated(&self) -> bool {
        true
    }
}
