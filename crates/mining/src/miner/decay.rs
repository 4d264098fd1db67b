//! Negatives that have become too easy: how near the current ones are by the weights of now, and which queries move on.
//!
//! A query's current negatives are the first ones of its draw at visit r, r being how often they were replaced; so any draw that differs by
//! visit can be moved on, and `window` moves to the next block of ranks. Of several sources each looks at what a visit takes of its own list. Only
//! these documents and their queries are encoded.

use std::collections::HashSet;

use super::views::pair_products;
use super::visit::Hand;
use super::{Decay, Miner, Supply};
use crate::chance::{Purpose, generator};
use crate::draws::DrawContext;
use crate::encoders::Encoders;
use crate::error::MiningError;
use crate::lists::Lists;
use crate::row_encoder::{encode_documents, encode_queries};

/// Queries looked at at a time.
const BLOCK: usize = 256;

/// The lists of a source, and what its draw reads beside them.
#[derive(Clone, Copy)]
pub(super) struct Lot<'a> {
    pub(super) number: usize,
    pub(super) lists: &'a Lists,
    pub(super) curve: &'a [f32],
}

impl Miner {
    /// Notes how near the first negatives of new lists are.
    pub(super) fn install(&self, lot: Lot<'_>, encoders: &mut dyn Encoders) -> Result<Decay, MiningError> {
        let replaced = vec![0; self.training.len()];
        let all: Vec<usize> = (0..self.training.len()).collect();
        let installed = self.mean_cosines(lot, &replaced, &all, encoders)?;
        Ok(Decay { replaced, installed })
    }

    /// Moves on the queries whose negatives have decayed; says how many.
    pub(super) fn check(&self, number: usize, encoders: &mut dyn Encoders) -> Result<(Decay, usize), MiningError> {
        let supply = &self.supplies[number];
        let lot = Lot { number, lists: &supply.lists, curve: &supply.curve };
        let mut decay = supply.decay.clone();
        let all: Vec<usize> = (0..self.training.len()).collect();
        let current = self.mean_cosines(lot, &decay.replaced, &all, encoders)?;
        let moved: Vec<usize> = all.into_iter().filter(|&at| self.config.decay.fires(decay.installed[at], current[at])).collect();
        moved.iter().for_each(|&at| decay.replaced[at] += 1);
        let new = self.mean_cosines(lot, &decay.replaced, &moved, encoders)?;
        for (&at, mean) in moved.iter().zip(new) {
            decay.installed[at] = mean;
        }
        Ok((decay, moved.len()))
    }

    /// Mean cosine of the current negatives of some training queries (positions in `training`); NaN without negatives.
    fn mean_cosines(&self, lot: Lot<'_>, replaced: &[u32], which: &[usize], encoders: &mut dyn Encoders) -> Result<Vec<f32>, MiningError> {
        let most = self.most_of_a_visit(lot.number);
        let mut means = Vec::with_capacity(which.len());
        for block in which.chunks(BLOCK) {
            let queries: Vec<u32> = block.iter().map(|&at| self.training[at]).collect();
            let current: Vec<Vec<u32>> =
                block.iter().zip(&queries).map(|(&at, &query)| self.current_negatives(lot, query, replaced[at], most)).collect();
            let mut ids = current.concat();
            ids.sort_unstable();
            ids.dedup();
            if ids.is_empty() {
                means.extend(vec![f32::NAN; block.len()]);
                continue;
            }
            let documents = encode_documents(encoders.current(), &ids)?;
            let product = pair_products(&encode_queries(encoders.current(), &queries)?, &documents, true);
            let place = |document: u32| ids.partition_point(|&id| id < document) as u32;
            let pairs: Vec<(u32, u32)> =
                (0..).zip(&current).flat_map(|(row, documents)| documents.iter().map(move |&it| (row, place(it)))).collect();
            let mut cosines = product(&pairs)?.into_iter();
            let mean = |count: usize| cosines.by_ref().take(count).sum::<f32>() / count as f32;
            means.extend(current.iter().map(Vec::len).map(mean));
        }
        Ok(means)
    }

    /// Negatives that a visit takes from this source, at most: what its share comes to, rounded up. A share that changes over the run has its
    /// highest part at one of the ends.
    fn most_of_a_visit(&self, number: usize) -> usize {
        let part = |progress: f64| {
            let share = |supply: &Supply| supply.config.share().at(progress);
            let all: f64 = self.supplies.iter().map(share).sum();
            if all > 0.0 { share(&self.supplies[number]) / all } else { 0.0 }
        };
        // Rounding alone makes no more of it.
        let most = (self.wanted as f64 * part(0.0).max(part(1.0)) - 1e-9).ceil() as usize;
        most.clamp(1, self.wanted)
    }

    /// The documents that visits of `query` are served from this source after so many replacements, `most` for each positive.
    fn current_negatives(&self, lot: Lot<'_>, query: u32, replaced: u32, most: usize) -> Vec<u32> {
        let (supply, source, visit) = (&self.supplies[lot.number], lot.number as u8, u64::from(replaced));
        let needs = supply.draw.needs();
        // A draw that compares candidates with the positive takes others for each one.
        let positives = if needs.similarity || needs.to_positive { usize::MAX } else { 1 };
        let (mut current, mut seen) = (Vec::new(), HashSet::new());
        for (place, positive) in self.knowledge.judgments().positives(query).enumerate().take(positives) {
            let pool = lot.lists.candidates(query, source, Some(place), supply.comparable());
            let context = DrawContext {
                seed: self.seed,
                query,
                positive,
                visit,
                wanted: self.wanted,
                source,
                positive_score: lot.lists.positives.row(query).get(place).copied().unwrap_or(f32::NAN),
                curve: lot.curve,
            };
            let order = supply.draw.order(&mut generator(self.seed, query, visit, Purpose::Source(source)), &context, &pool);
            let mut hand = Hand::new(self, query, positive);
            for at in order {
                if hand.cards.len() >= most {
                    break;
                }
                hand.take(pool[at]);
            }
            current.extend(hand.cards.iter().map(|card| card.document).filter(|&document| seen.insert(document)));
        }
        current
    }
}
