//! The order of the training pairs: which go together in a batch, epoch by epoch, and which visit of its query each is.
//!
//! A function of (seed, epoch, topics), never of thread timing, so a resumed run sees the same order.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, Once, PoisonError};

use anyhow::{Context, Result};
use corpus::Judgments;
use mining::{TopicBatches, Topics, Waiting};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::config::{BatchConfig, Compose};

/// The order of the training pairs, epoch by epoch.
pub(crate) struct Plan {
    pairs: Vec<(u32, u32)>,
    /// By query: its pairs, which is how often it comes in an epoch of every pair once.
    visits: HashMap<u32, u64>,
    config: BatchConfig,
    seed: u64,
    /// The epoch that was composed last: every refresh begins in the middle of one.
    composed: Mutex<Option<Composed>>,
    /// Short batches were told of.
    told: Once,
}

/// The batches of an epoch, and what they were made by beside the seed.
struct Composed {
    epoch: usize,
    topics: Option<Arc<Topics>>,
    batches: Arc<Vec<Vec<Turn>>>,
}

/// One row of a batch: a training pair, and which visit of its query this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) query: u32,
    pub(crate) positive: u32,
    /// Keys what is drawn for it: no two visits of a query in a run have the same number.
    pub(crate) visit: u64,
}

impl Plan {
    /// All positive pairs of `judgments`, or `limit` of them chosen by the seed.
    pub(crate) fn new(judgments: &Judgments, limit: usize, batch: &BatchConfig, seed: u64) -> Self {
        let mut pairs = judgments.pairs();
        if limit > 0 && limit < pairs.len() {
            pairs.shuffle(&mut generator(seed, u64::MAX));
            pairs.truncate(limit);
        }
        let visits = visits(&pairs);
        Self { pairs, visits, config: batch.clone(), seed, composed: Mutex::new(None), told: Once::new() }
    }

    pub(crate) fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Every query that is trained on, ascending, with its first positive.
    pub(crate) fn queries(&self) -> Vec<(u32, u32)> {
        let mut queries = self.pairs.clone();
        queries.sort_unstable();
        queries.dedup_by_key(|pair| pair.0);
        queries
    }

    /// The judgments of the queries that are trained on: what is mined for. All of a query's judgments stay, so that none is mined.
    pub(crate) fn judgments(&self, judgments: &Judgments, queries: usize) -> Judgments {
        let trained: HashSet<u32> = self.pairs.iter().map(|pair| pair.0).collect();
        Judgments::from_pairs(queries, judgments.iter().filter(|(query, _, _)| trained.contains(query)).collect())
    }

    /// Full batches in one epoch. The rest of an epoch (fewer pairs than a batch) is left out: a short last batch has fewer
    /// negatives and its loss jumps. Only a collection smaller than one batch trains on a short one.
    pub(crate) fn steps_per_epoch(&self) -> usize {
        (self.pairs.len() / self.config.queries).max(1)
    }

    pub(crate) fn epoch_of(&self, step: usize) -> usize {
        step / self.steps_per_epoch()
    }

    /// The batches of one epoch, a function of the seed, the epoch and the topics alone.
    ///
    /// # Errors
    /// When the topics do not fit the pairs.
    pub(crate) fn epoch(&self, epoch: usize, same_text: &[u32], topics: Option<&Arc<Topics>>) -> Result<Arc<Vec<Vec<Turn>>>> {
        let mut last = self.composed.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |it: &&Composed| it.epoch == epoch && it.topics.as_ref().map(Arc::as_ptr) == topics.map(Arc::as_ptr);
        if let Some(composed) = last.as_ref().filter(same) {
            return Ok(Arc::clone(&composed.batches));
        }
        let batches = Arc::new(self.compose(epoch, same_text, topics.map(Arc::as_ref))?);
        *last = Some(Composed { epoch, topics: topics.cloned(), batches: Arc::clone(&batches) });
        Ok(batches)
    }

    fn compose(&self, epoch: usize, same_text: &[u32], topics: Option<&Topics>) -> Result<Vec<Vec<Turn>>> {
        let size = self.config.queries;
        let shuffled = || {
            let mut pairs = self.pairs.clone();
            pairs.shuffle(&mut generator(self.seed, epoch as u64));
            pairs
        };
        let mut batches = match (self.config.compose, topics) {
            (Compose::Random, _) => shuffled().chunks(size).map(<[_]>::to_vec).collect(),
            (Compose::Topics | Compose::Groups, Some(topics)) => {
                let how = TopicBatches { batch: size, draw: self.config.topics.draw, same_text };
                topics.epoch(&self.pairs, &how, self.seed, epoch as u64).context("composing the batches of an epoch")?
            }
            _ => without_duplicates(shuffled(), size, same_text, self.steps_per_epoch()),
        };
        batches.truncate(self.steps_per_epoch());
        self.tell_of_short(&batches);
        // Clashing pairs can leave an epoch short of batches: the first ones are then visited twice rather than a step skipped.
        let made = batches.len();
        for missing in made..self.steps_per_epoch() {
            batches.push(batches[missing % made].clone());
        }
        Ok(numbered(epoch, &self.visits, batches))
    }

    /// Pairs that share a text cannot stand in one batch: where few texts have many pairs, batches are short and most pairs never come.
    fn tell_of_short(&self, batches: &[Vec<(u32, u32)>]) {
        let (size, held) = (self.config.queries, batches.iter().map(Vec::len).sum::<usize>());
        // That the last one or two are a little short is nobody's trouble.
        if held * 10 < self.pairs.len().min(batches.len() * size) * 9 {
            self.told.call_once(|| {
                tracing::warn!(
                    "an epoch holds {held} of {} pairs, in batches of {} and more instead of {size} queries: a batch takes a query, and a positive's text, once. Where many pairs \
                     share few texts, batch.compose = \"random\" takes them all, or a smaller batch.queries more of them",
                    self.pairs.len(),
                    batches.iter().map(Vec::len).min().unwrap_or(0)
                );
            });
        }
    }
}

/// By query: its pairs, which is how often it comes in an epoch of every pair once.
pub(crate) fn visits(pairs: &[(u32, u32)]) -> HashMap<u32, u64> {
    let mut visits = HashMap::new();
    pairs.iter().for_each(|&(query, _)| *visits.entry(query).or_insert(0) += 1);
    visits
}

/// Counts each query's visits, of which an epoch has `usual` ones as a rule, so that no two have the same number: a query with two positives comes
/// twice in an epoch, and one of a topic that is drawn often any number of times. Without such repetitions the number is the epoch's.
pub(crate) fn numbered(epoch: usize, usual: &HashMap<u32, u64>, batches: Vec<Vec<(u32, u32)>>) -> Vec<Vec<Turn>> {
    let mut before: HashMap<u32, u64> = HashMap::new();
    let mut turn = |(query, positive): (u32, u32)| {
        let (before, usual) = (before.entry(query).or_insert(0), usual.get(&query).copied().unwrap_or(1));
        // What goes beyond an epoch's usual visits must not be the next epoch's first.
        let visit = epoch as u64 * usual + *before % usual + ((*before / usual) << 32);
        *before += 1;
        Turn { query, positive, visit }
    };
    batches.into_iter().map(|batch| batch.into_iter().map(&mut turn).collect()).collect()
}

/// Fills up to `most` batches in order; a pair whose query or positive text is already in the batch waits for the next one.
fn without_duplicates(pairs: Vec<(u32, u32)>, size: usize, same_text: &[u32], most: usize) -> Vec<Vec<(u32, u32)>> {
    let mut batches = Vec::new();
    let mut waiting = Waiting::new(pairs, same_text);
    while !waiting.is_empty() && batches.len() < most {
        batches.push(waiting.take(size));
    }
    // Full batches first: those that ran out of pairs go to the end, where the epoch is cut.
    batches.sort_by_key(|batch| batch.len() < size);
    batches
}

/// A generator for one purpose, independent of every other draw.
pub(crate) fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream);
    generator
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_and_no_query_stands_twice_in_a_batch_and_no_pair_is_lost() {
        // Documents 0 and 1 share a text; query 0 has two positives.
        let same_text = [0, 0, 2, 3, 4, 5];
        let pairs = vec![(0, 0), (0, 2), (1, 1), (2, 3), (3, 4), (4, 5)];
        let batches = without_duplicates(pairs.clone(), 2, &same_text, 9);
        let mut all: Vec<_> = batches.iter().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, pairs);
        for batch in &batches {
            let queries: HashSet<_> = batch.iter().map(|pair| pair.0).collect();
            let texts: HashSet<_> = batch.iter().map(|pair| same_text[pair.1 as usize]).collect();
            assert_eq!((queries.len(), texts.len()), (batch.len(), batch.len()), "{batch:?}");
        }
    }

    #[test]
    fn the_order_depends_on_seed_and_epoch_alone() {
        let order = |seed, epoch| {
            let mut values: Vec<u32> = (0..100).collect();
            values.shuffle(&mut generator(seed, epoch));
            values
        };
        assert_eq!(order(1, 0), order(1, 0));
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
    }

    #[test]
    fn few_texts_with_many_pairs_make_no_more_batches_than_an_epoch_has() {
        let pairs: Vec<(u32, u32)> = (0..2000).map(|query| (query, query % 2)).collect();
        let batches = without_duplicates(pairs, 10, &[0, 1], 200);
        assert_eq!((batches.len(), batches.iter().map(Vec::len).max()), (200, Some(2)));
    }

    #[test]
    fn an_epoch_is_composed_once_for_the_same_topics() {
        let pairs: Vec<(u32, u32)> = (0..8).map(|number| (number, number)).collect();
        let (plan, same_text) = (plan(Compose::NoDuplicates, &pairs), (0..8).collect::<Vec<u32>>());
        let first = plan.epoch(1, &same_text, None).unwrap();
        assert!(Arc::ptr_eq(&first, &plan.epoch(1, &same_text, None).unwrap()));
        let other = plan.epoch(2, &same_text, None).unwrap();
        assert!(other != first && plan.epoch(1, &same_text, None).unwrap() == first);
    }

    fn plan(compose: Compose, pairs: &[(u32, u32)]) -> Plan {
        let judgments = Judgments::from_pairs(8, pairs.iter().map(|&(query, document)| (query, document, 1)).collect());
        Plan::new(&judgments, 0, &BatchConfig { queries: 2, compose, ..BatchConfig::default() }, 3)
    }

    #[test]
    fn a_query_with_one_positive_has_the_epochs_number_and_one_with_two_has_two() {
        let plan = plan(Compose::Random, &[(0, 0), (0, 1), (1, 2), (2, 3)]);
        for epoch in 0..3 {
            let turns = plan.epoch(epoch, &[0, 1, 2, 3], None).unwrap().concat();
            let visits = |query| {
                let mut visits: Vec<u64> = turns.iter().filter(|turn| turn.query == query).map(|turn| turn.visit).collect();
                visits.sort_unstable();
                visits
            };
            let epoch = epoch as u64;
            assert_eq!([visits(0), visits(1), visits(2)], [vec![2 * epoch, 2 * epoch + 1], vec![epoch], vec![epoch]]);
        }
    }

    #[test]
    fn no_visit_of_a_query_has_the_number_of_another_even_where_topics_are_drawn_anew_for_each_batch() {
        let pairs: Vec<(u32, u32)> = (0..8).map(|number| (number, number)).collect();
        let mut plan = plan(Compose::Topics, &pairs);
        plan.config.topics.draw = mining::TopicDraw::Uniform { topics: 1 };
        let topics = Arc::new(Topics::from_groups(&pairs.iter().map(|pair| (pair.0, pair.0 / 4)).collect::<Vec<_>>()).unwrap());
        let same_text: Vec<u32> = (0..8).collect();
        let turns: Vec<Turn> = (0..20).flat_map(|epoch| plan.epoch(epoch, &same_text, Some(&topics)).unwrap().concat()).collect();
        let mut seen = HashSet::new();
        let again = turns.iter().filter(|turn| !seen.insert((turn.query, turn.visit))).count();
        let repeated = turns.iter().filter(|turn| turn.visit >> 32 > 0).count();
        assert!(
            again == 0 && repeated > 0,
            "{again} of {} visits have another's number, {repeated} were repeated in their epoch",
            turns.len()
        );
    }
}
