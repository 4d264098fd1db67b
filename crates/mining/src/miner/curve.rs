//! The weight of each rank of a source's lists, from judged queries (see `draws::rank_curve`).

use super::Miner;
use super::encode::encoder;
use crate::config::DrawConfig;
use crate::draws::rank_curve;
use crate::encoders::Encoders;
use crate::error::MiningError;
use crate::row_encoder::encode_queries;
use crate::sources::{Block, Embedded};

/// Judged queries searched at a time.
const BLOCK: usize = 512;

impl Miner {
    /// That the judged queries are there, when the draw needs them.
    pub(super) fn check_judged(&self) -> Result<(), MiningError> {
        match &self.config.draw {
            DrawConfig::RankCurve { split, .. } if self.judged.as_ref().is_none_or(|judged| judged.queries().next().is_none()) => {
                Err(MiningError::NoJudged { split: split.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The curve of a source that searches the rows of its model; empty for others.
    pub(super) fn fit_curve(&self, number: usize, encoders: &mut dyn Encoders) -> Result<Vec<f32>, MiningError> {
        let supply = &self.supplies[number];
        if supply.config.draw.is_some() {
            return Ok(Vec::new());
        }
        let (DrawConfig::RankCurve { gain_k, .. }, Some(judgments), Some(model), Some(source)) =
            (&self.config.draw, &self.judged, supply.config.model(), &supply.source)
        else {
            return Ok(Vec::new());
        };
        let store = self.stores.get(model).ok_or(MiningError::Unfilled)?;
        let judged: Vec<u32> = judgments.queries().collect();
        let mut relevant: Vec<f64> = Vec::new();
        for queries in judged.chunks(BLOCK) {
            let rows = encode_queries(encoder(encoders, model)?, queries)?;
            // Nothing is left out: relevant documents are what is counted.
            let (none, scores, ceilings) =
                (vec![Vec::new(); queries.len()], vec![Vec::new(); queries.len()], vec![f32::MAX; queries.len()]);
            let embedded = Some(Embedded { queries: &rows, store, judged: &scores, ceilings: &ceilings });
            for (&query, list) in queries.iter().zip(source.candidates(&Block { queries, judged: &none, embedded })?) {
                relevant.resize(relevant.len().max(list.len()), 0.0);
                for (count, it) in relevant.iter_mut().zip(&list) {
                    *count += f64::from(judgments.is_positive(query, it.document));
                }
            }
        }
        relevant.iter_mut().for_each(|count| *count /= judged.len() as f64);
        Ok(rank_curve(&relevant, *gain_k))
    }
}
