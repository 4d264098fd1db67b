//! Negatives that have become too easy: how near the current ones are by the weights of now, and which queries move on.
//!
//! A query's current negatives are the first ones of its draw at visit r, r being how often they were replaced; so any draw that differs by
//! visit can be moved on, and `window` moves to the next block of ranks. Only these documents and their queries are encoded.

use super::views::pair_products;
use super::visit::Hand;
use super::{Decay, Miner};
use crate::chance::{Purpose, generator};
use crate::draws::DrawContext;
use crate::encoders::Encoders;
use crate::error::MiningError;
use crate::lists::Lists;
use crate::row_encoder::{encode_documents, encode_queries};

/// Queries looked at at a time.
const BLOCK: usize = 256;

impl Miner {
    /// Notes how near the first negatives of new lists are.
    pub(super) fn install(&self, number: usize, lists: &Lists, encoders: &mut dyn Encoders) -> Result<Decay, MiningError> {
        let replaced = vec![0; self.training.len()];
        let all: Vec<usize> = (0..self.training.len()).collect();
        let installed = self.mean_cosines(number, lists, &replaced, &all, encoders)?;
        Ok(Decay { replaced, installed })
    }

    /// Moves on the queries whose negatives have decayed; says how many.
    pub(super) fn check(&self, number: usize, encoders: &mut dyn Encoders) -> Result<(Decay, usize), MiningError> {
        let supply = &self.supplies[number];
        let mut decay = supply.decay.clone();
        let all: Vec<usize> = (0..self.training.len()).collect();
        let current = self.mean_cosines(number, &supply.lists, &decay.replaced, &all, encoders)?;
        let moved: Vec<usize> = all.into_iter().filter(|&at| self.config.decay.fires(decay.installed[at], current[at])).collect();
        moved.iter().for_each(|&at| decay.replaced[at] += 1);
        let new = self.mean_cosines(number, &supply.lists, &decay.replaced, &moved, encoders)?;
        for (&at, mean) in moved.iter().zip(new) {
            decay.installed[at] = mean;
        }
        Ok((decay, moved.len()))
    }

    /// Mean cosine of the current negatives of some training queries (positions in `training`); NaN without negatives.
    fn mean_cosines(
        &self,
        number: usize,
        lists: &Lists,
        replaced: &[u32],
        which: &[usize],
        encoders: &mut dyn Encoders,
    ) -> Result<Vec<f32>, MiningError> {
        let mut means = Vec::with_capacity(which.len());
        for block in which.chunks(BLOCK) {
            let queries: Vec<u32> = block.iter().map(|&at| self.training[at]).collect();
            let current: Vec<Vec<u32>> =
                block.iter().zip(&queries).map(|(&at, &query)| self.current_negatives(number, lists, query, replaced[at])).collect();
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

    /// The documents that a visit of `query` is served from this source alone after so many replacements.
    fn current_negatives(&self, number: usize, lists: &Lists, query: u32, replaced: u32) -> Vec<u32> {
        let Some(positive) = self.knowledge.judgments().positives(query).next() else { return Vec::new() };
        let (supply, source) = (&self.supplies[number], number as u8);
        let pool = lists.candidates(query, source, Some(0), supply.comparable());
        let visit = u64::from(replaced);
        let context = DrawContext {
            seed: self.seed,
            query,
            positive,
            visit,
            wanted: self.wanted,
            source,
            positive_score: lists.positives.row(query).first().copied().unwrap_or(f32::NAN),
            curve: &supply.curve,
        };
        let order = supply.draw.order(&mut generator(self.seed, query, visit, Purpose::Source(source)), &context, &pool);
        let mut hand = Hand::new(self, query, positive);
        for place in order {
            if hand.cards.len() >= self.wanted {
                break;
            }
            hand.take(pool[place]);
        }
        hand.cards.iter().map(|card| card.document).collect()
    }
}
