//! One visit of a query: candidates of all sources, mixed by share, no text twice, short rows as configured.
//!
//! A function of (seed, query, visit) and the lists; nothing here changes the miner.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Miner, Supply};
use crate::candidate::Candidate;
use crate::chance::{Purpose, generator};
use crate::config::Short;
use crate::sources::{Random, Source};

impl Miner {
    /// Up to `n` different negatives for one visit of `query`, trained with `positive`; no two with the same text. `visit` makes visits
    /// differ: the epoch, for instance. Sorted by source, then rank.
    pub fn draw(&self, query: u32, positive: u32, n: usize, visit: u64) -> Vec<Candidate> {
        let mut hand = Hand::new(self, query, positive);
        if n == 0 {
            return hand.cards;
        }
        let mut decks: Vec<Deck<'_>> = self.decks(query, visit);
        let quotas = self.quotas(n, query, visit);
        for (deck, quota) in decks.iter_mut().zip(quotas) {
            deck.deal(quota, &mut hand);
        }
        // What one source lacks, the others make up for, in the order of the configuration.
        for deck in &mut decks {
            deck.deal(n - hand.cards.len(), &mut hand);
        }
        let missing = n - hand.cards.len();
        if missing > 0 {
            match self.config.short {
                Short::Fewer => {}
                Short::Drop => hand.cards.clear(),
                Short::Random => {
                    let mut chance = generator(self.seed, query, visit, Purpose::Fill);
                    let fill = Random::new(self.knowledge.documents(), Candidate::FILL);
                    hand.take_fresh(&fill, &mut chance, missing);
                }
            }
        }
        // Stable: random documents stay in the order in which they were drawn.
        hand.cards.sort_by_key(|card| (card.source, card.rank));
        hand.cards
    }

    fn decks(&self, query: u32, visit: u64) -> Vec<Deck<'_>> {
        let numbered = (0..u8::MAX).zip(&self.supplies);
        numbered
            .map(|(number, supply)| {
                let mut chance = generator(self.seed, query, visit, Purpose::Source(number));
                let pool: Vec<Candidate> = supply.lists.row(query).iter().map(|entry| entry.candidate(number)).collect();
                let order = self.draw.order(&mut chance, &pool);
                let ordered: Vec<Candidate> = order.into_iter().map(|place| pool[place]).collect();
                let fresh = if supply.schedule.is_none() { supply.source.as_deref() } else { None };
                Deck { ordered: ordered.into_iter(), fresh, chance }
            })
            .collect()
    }

    /// `n` divided by share. What does not come out even is left to chance, so that shares hold over many visits: with a common random
    /// start in [0, 1), a source gets the whole numbers that fall into its stretch of the line (systematic sampling).
    fn quotas(&self, n: usize, query: u32, visit: u64) -> Vec<usize> {
        let sum: f64 = self.supplies.iter().map(|supply| supply.share).sum();
        if sum <= 0.0 {
            return vec![0; self.supplies.len()];
        }
        let start: f64 = generator(self.seed, query, visit, Purpose::Shares).random();
        let last = self.supplies.iter().rposition(|supply| supply.share > 0.0);
        let (mut passed, mut given) = (0.0, 0);
        let quota = |(number, supply): (usize, &Supply)| {
            passed += supply.share;
            // The last one ends exactly at n, whatever rounding did before.
            let until =
                if last.is_some_and(|last| number >= last) { n } else { ((n as f64 * passed / sum + start).floor() as usize).min(n) };
            let quota = until - given;
            given = until;
            quota
        };
        self.supplies.iter().enumerate().map(quota).collect()
    }
}

/// The candidates of one source, in the order in which they are given out.
struct Deck<'a> {
    ordered: std::vec::IntoIter<Candidate>,
    /// A source without lists, which makes candidates on the spot.
    fresh: Option<&'a dyn Source>,
    chance: ChaCha8Rng,
}

impl Deck<'_> {
    /// Gives up to `count` candidates that the hand can take.
    fn deal(&mut self, count: usize, hand: &mut Hand<'_>) {
        let full = hand.cards.len() + count;
        if let Some(source) = self.fresh {
            hand.take_fresh(source, &mut self.chance, count);
        }
        while hand.cards.len() < full {
            let Some(card) = self.ordered.next() else { break };
            hand.take(card);
        }
    }
}

/// The negatives of one visit, as they are collected.
struct Hand<'a> {
    miner: &'a Miner,
    query: u32,
    /// Classes of the texts that are taken, the positive's first.
    taken: Vec<u32>,
    cards: Vec<Candidate>,
}

impl<'a> Hand<'a> {
    fn new(miner: &'a Miner, query: u32, positive: u32) -> Self {
        // A positive that the collection lacks stands in nobody's way.
        let taken = if (positive as usize) < miner.knowledge.documents() { vec![miner.knowledge.class(positive)] } else { Vec::new() };
        Self { miner, query, taken, cards: Vec::new() }
    }

    fn take(&mut self, card: Candidate) {
        let class = self.miner.knowledge.class(card.document);
        if !self.taken.contains(&class) {
            self.taken.push(class);
            self.cards.push(card);
        }
    }

    fn take_fresh(&mut self, source: &dyn Source, chance: &mut ChaCha8Rng, count: usize) {
        let full = self.cards.len() + count;
        // Two documents of one draw may have the same text; the second is refused and replaced.
        while self.cards.len() < full {
            let (knowledge, query, taken) = (&self.miner.knowledge, self.query, &self.taken);
            let judged =
                |document| self.miner.config.remove_judged && (knowledge.is_judged(query, document) || knowledge.is_copy(query, document));
            let permits = |document: u32| !taken.contains(&knowledge.class(document)) && !judged(document);
            let fresh = source.visit(chance, full - self.cards.len(), &permits);
            if fresh.is_empty() {
                break;
            }
            for card in fresh {
                self.take(card);
            }
        }
    }
}
