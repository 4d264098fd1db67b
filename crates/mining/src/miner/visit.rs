//! One visit of a query: candidates of all sources, mixed by share or drawn from their union, no text twice, short rows as configured.
//!
//! A function of the seed, the visit and the lists; nothing here changes the miner.

use std::collections::HashMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Miner, Supply};
use crate::candidate::Candidate;
use crate::chance::{Purpose, generator};
use crate::config::Short;
use crate::draws::{Draw, DrawContext};
use crate::schedule::Schedule;
use crate::sources::{Random, Source};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Visit {
    /// The query.
    pub query: u32,
    /// The positive that it is trained with.
    pub positive: u32,
    /// Negatives wanted.
    pub n: usize,
    /// Makes visits differ: the epoch, for instance.
    pub visit: u64,
    /// Share of the run that is over, 0 to 1.
    pub progress: f64,
}

impl Visit {
    /// A visit at the start of the run.
    pub fn new(query: u32, positive: u32, n: usize, visit: u64) -> Self {
        Self { query, positive, n, visit, progress: 0.0 }
    }
}

impl Miner {
    /// Up to `n` different negatives for one visit; no two with the same text. Sorted by source, then rank. Everything that is known about
    /// each is in the candidate ([`Self::source_name`] and [`Self::sources_of`] say where it came from), so this is what to call to look
    /// at a visit as well.
    pub fn draw(&self, visit: &Visit) -> Vec<Candidate> {
        let mut hand = Hand::new(self, visit.query, visit.positive);
        if visit.n == 0 {
            return hand.cards;
        }
        let mut decks: Vec<Deck<'_>> = if self.united() { self.united_decks(visit) } else { self.decks(visit) };
        let shares: Vec<f64> = decks.iter().map(|deck| deck.share).collect();
        for (deck, quota) in decks.iter_mut().zip(self.quotas(&shares, visit)) {
            deck.deal(quota, &mut hand);
        }
        // What one source lacks, the others make up for, in the order of the configuration.
        for deck in &mut decks {
            deck.deal(visit.n - hand.cards.len(), &mut hand);
        }
        let missing = visit.n - hand.cards.len();
        if missing > 0 {
            match self.config.short {
                // A fill from deeper ranks is in the lists already.
                Short::Fewer | Short::Beyond { .. } => {}
                Short::Drop => hand.cards.clear(),
                Short::Random => {
                    let mut chance = generator(self.seed, visit.query, visit.visit, Purpose::Fill);
                    let fill = Random::new(self.knowledge.documents(), Candidate::FILL);
                    hand.take_fresh(&fill, &mut chance, missing);
                }
            }
        }
        // Stable: random documents stay in the order in which they were drawn.
        hand.cards.sort_by_key(|card| (card.source, card.rank));
        hand.cards
    }

    /// The sources that serve now and have a share, with their numbers.
    fn serving(&self, visit: &Visit) -> impl Iterator<Item = (u8, &Supply, f64)> + use<'_> {
        let progress = visit.progress;
        let numbered = (0..u8::MAX).zip(&self.supplies);
        numbered.map(move |(number, supply)| (number, supply, supply.config.share().at(progress))).filter(|it| it.2 > 0.0)
    }

    /// The candidates of one source that may be drawn now.
    fn pool(&self, number: u8, supply: &Supply, visit: &Visit) -> Vec<Candidate> {
        let positive = self.place_of(visit.query, visit.positive);
        let mut pool = supply.lists.candidates(visit.query, number, positive, supply.comparable());
        if let Some(most) = supply.config.pool {
            pool.truncate((most.at(visit.progress).round() as usize).max(1));
        }
        if supply.is_generated() {
            pool.iter_mut().for_each(|it| it.synthetic = true);
        }
        pool
    }

    /// The score of the visit's positive in a source's lists; NaN when unknown.
    pub(super) fn positive_score(&self, supply: &Supply, visit: &Visit) -> f32 {
        let place = self.place_of(visit.query, visit.positive);
        place.and_then(|place| supply.lists.positives.row(visit.query).get(place)).copied().unwrap_or(f32::NAN)
    }

    /// One deck per source.
    fn decks<'a>(&'a self, visit: &Visit) -> Vec<Deck<'a>> {
        let deck = |(number, supply, share): (u8, &'a Supply, f64)| {
            // Where negatives are replaced when they have become too easy, only that makes visits differ.
            let place = self.training.binary_search(&visit.query).ok().filter(|_| matches!(supply.schedule, Some(Schedule::OnDecay(_))));
            let replaced = place.and_then(|place| supply.decay.replaced.get(place));
            let key = replaced.map_or(visit.visit, |&replaced| u64::from(replaced));
            let mut chance = generator(self.seed, visit.query, key, Purpose::Source(number));
            let context = DrawContext {
                seed: self.seed,
                query: visit.query,
                positive: visit.positive,
                visit: key,
                wanted: visit.n,
                source: number,
                positive_score: self.positive_score(supply, visit),
                curve: &supply.curve,
            };
            let ordered = ordered(supply.draw.as_ref(), &mut chance, &context, &self.pool(number, supply, visit));
            Deck { ordered, fresh: supply.fresh(), chance, share }
        };
        self.serving(visit).map(deck).collect()
    }

    /// One deck for all lists, and one for each source without lists.
    fn united_decks(&self, visit: &Visit) -> Vec<Deck<'_>> {
        let mut decks = Vec::new();
        let (mut whole, mut positive_score) = (0.0, f32::NAN);
        for (number, supply, share) in self.serving(visit) {
            if supply.schedule.is_none() {
                let chance = generator(self.seed, visit.query, visit.visit, Purpose::Source(number));
                decks.push(Deck { ordered: Vec::new().into_iter(), fresh: supply.fresh(), chance, share });
            } else {
                whole += share;
                if positive_score.is_nan() {
                    positive_score = self.positive_score(supply, visit);
                }
            }
        }
        let mut chance = generator(self.seed, visit.query, visit.visit, Purpose::Union);
        let context = DrawContext {
            seed: self.seed,
            query: visit.query,
            positive: visit.positive,
            visit: visit.visit,
            wanted: visit.n,
            source: Candidate::FILL,
            positive_score,
            curve: &[],
        };
        let ordered = ordered(self.draw.as_ref(), &mut chance, &context, &self.union(visit));
        decks.insert(0, Deck { ordered, fresh: None, chance, share: whole });
        decks
    }

    /// All lists as one, each text once, by best rank. What one source knows of a document (a teacher's score, a similarity) holds for it.
    pub(super) fn union(&self, visit: &Visit) -> Vec<Candidate> {
        let lists = self.serving(visit).filter(|it| it.1.schedule.is_some());
        let mut all: Vec<Candidate> = lists.flat_map(|(number, supply, _)| self.pool(number, supply, visit)).collect();
        // Stable: the first of the sources comes first at equal ranks.
        all.sort_by_key(|it| (it.rank, it.source));
        let mut place: HashMap<u32, usize> = HashMap::with_capacity(all.len());
        let mut union: Vec<Candidate> = Vec::with_capacity(all.len());
        for it in all {
            match place.get(&self.knowledge.class(it.document)) {
                None => {
                    place.insert(self.knowledge.class(it.document), union.len());
                    union.push(it);
                }
                Some(&at) => {
                    let known = &mut union[at];
                    known.found_by |= it.found_by;
                    known.teacher = known.teacher.or(it.teacher);
                    known.similarity = if known.similarity.is_nan() { it.similarity } else { known.similarity };
                    known.to_positive = if known.to_positive.is_nan() { it.to_positive } else { known.to_positive };
                }
            }
        }
        union
    }

    /// `n` divided by share. What does not come out even is left to chance, so that shares hold over many visits: with a common random
    /// start in [0, 1), a source gets the whole numbers that fall into its stretch of the line (systematic sampling).
    fn quotas(&self, shares: &[f64], visit: &Visit) -> Vec<usize> {
        let sum: f64 = shares.iter().sum();
        if sum <= 0.0 {
            return vec![0; shares.len()];
        }
        let start: f64 = generator(self.seed, visit.query, visit.visit, Purpose::Shares).random();
        let last = shares.iter().rposition(|&share| share > 0.0);
        let (mut passed, mut given) = (0.0, 0);
        let quota = |(number, share): (usize, &f64)| {
            passed += share;
            // The last one ends exactly at n, whatever rounding did before.
            let until = if last.is_some_and(|last| number >= last) {
                visit.n
            } else {
                ((visit.n as f64 * passed / sum + start).floor() as usize).min(visit.n)
            };
            let quota = until - given;
            given = until;
            quota
        };
        shares.iter().enumerate().map(quota).collect()
    }
}

impl Supply {
    /// The source itself, when it has no lists and makes candidates on the spot.
    fn fresh(&self) -> Option<&dyn Source> {
        if self.schedule.is_none() { self.source.as_deref() } else { None }
    }
}

/// Candidates in the order in which a draw takes them.
fn ordered(draw: &dyn Draw, chance: &mut ChaCha8Rng, context: &DrawContext<'_>, pool: &[Candidate]) -> std::vec::IntoIter<Candidate> {
    let order = draw.order(chance, context, pool);
    order.into_iter().map(|place| pool[place]).collect::<Vec<_>>().into_iter()
}

/// The candidates of one source, in the order in which they are given out.
struct Deck<'a> {
    ordered: std::vec::IntoIter<Candidate>,
    /// A source without lists, which makes candidates on the spot.
    fresh: Option<&'a dyn Source>,
    chance: ChaCha8Rng,
    share: f64,
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
pub(super) struct Hand<'a> {
    miner: &'a Miner,
    query: u32,
    /// Classes of the texts that are taken, the positive's first.
    taken: Vec<u32>,
    pub(super) cards: Vec<Candidate>,
}

impl<'a> Hand<'a> {
    pub(super) fn new(miner: &'a Miner, query: u32, positive: u32) -> Self {
        // A positive that the collection lacks stands in nobody's way.
        let taken = if (positive as usize) < miner.knowledge.documents() { vec![miner.knowledge.class(positive)] } else { Vec::new() };
        Self { miner, query, taken, cards: Vec::new() }
    }

    pub(super) fn take(&mut self, card: Candidate) {
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
