//! Histograms of scores for the report of a refresh, of a sample of the queries that were mined.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use super::Miner;
use super::mining::Known;
use super::refresh::Outcome;
use crate::config::Model;
use crate::error::MiningError;
use crate::score_histogram::ScoreHistogram;
use crate::store::indices_on;

/// Queries looked at, at most.
const SAMPLE: usize = 256;
/// Of so many queries mined at most one is looked at, so that slices of a large corpus are not searched twice.
const SPARE: usize = 4;

/// What is kept of evenly spaced queries of a pass, as the model of a source sees them.
#[derive(Default)]
pub(super) struct Sample {
    queries: Vec<u32>,
    /// `[queries, dimension]` together, one for each block that has any.
    rows: Vec<Tensor<2>>,
    /// Similarities of all their positives.
    positives: Vec<f32>,
}

impl Sample {
    /// Takes up the queries of a block whose first is query `first` of `all` in the pass.
    pub(super) fn extend(&mut self, known: &Known<'_>, model: &Model, first: usize, all: usize) {
        let Some(view) = known.views.get(model) else { return };
        let every = all.div_ceil(SAMPLE).max(SPARE);
        let places: Vec<u32> =
            (0..known.queries.len()).filter(|place| (first + place).is_multiple_of(every)).map(|place| place as u32).collect();
        if places.is_empty() {
            return;
        }
        self.rows.push(view.rows.clone().select(0, indices_on(&places, &view.rows.device())));
        for place in places.into_iter().map(|place| place as usize) {
            self.queries.push(known.queries[place]);
            self.positives.extend(&view.positives[place]);
        }
    }
}

impl Miner {
    /// How the scores of each sampled source are spread, by its number.
    pub(super) fn histograms(
        &self,
        samples: BTreeMap<usize, Sample>,
        outcomes: &[Outcome],
    ) -> Result<BTreeMap<usize, ScoreHistogram>, MiningError> {
        let mut histograms = BTreeMap::new();
        for (number, sample) in samples {
            let lists = outcomes.iter().find(|outcome| outcome.number == number).and_then(|outcome| outcome.lists.as_ref());
            let Some((lists, model)) = lists.zip(self.supplies[number].config.model()).filter(|_| !sample.rows.is_empty()) else {
                continue;
            };
            let store = self.stores.get(model).ok_or(MiningError::Unfilled)?;
            let judged: Vec<Vec<u32>> = sample.queries.iter().map(|&query| self.knowledge.excluded(query).collect()).collect();
            let candidates: Vec<f32> = sample.queries.iter().flat_map(|&query| lists.row(query)).map(|entry| entry.score).collect();
            if let Some(histogram) = ScoreHistogram::count(store, &Tensor::cat(sample.rows, 0), &judged, &candidates, &sample.positives)? {
                histograms.insert(number, histogram);
            }
        }
        Ok(histograms)
    }
}
