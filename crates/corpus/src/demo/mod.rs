//! The built-in collection `builtin:demo`: about 6,000 documents on invented entities, and 5,000 paraphrased queries.
//!
//! Generated, deterministic, the same on every machine. What makes it a retrieval problem worth training on:
//!
//! * documents and queries say the same facts in different words (`words.rs`, `kinds.rs`), so that BM25 finds little, while
//!   the mapping of words recurs over all entities and is learned from the training queries;
//! * members of a family of entities differ in one fact or two (`world.rs`): natural hard negatives;
//! * 35 % of the entities have two or three documents, all relevant, of which `train` judges one. `truth` judges all, so the
//!   false negatives that a technique draws can be counted ([`UNLABELLED_QUERIES`], [`UNLABELLED_PAIRS`]).
//!
//! Entities of `dev` and `test` have no training query; these splits are judged completely. A query states two to four facts
//! that hold together for exactly one entity, so relevance is known and not estimated.
//!
//! nDCG@10 on `test`, for orientation: BM25 (k1 0.9, b 0.4, no stemming) 0.18; a word-by-word translation model estimated on
//! `train` 0.86.

mod dice;
mod kinds;
mod wording;
mod words;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use crate::{collection::Collection, judgments::Judgments, records::Records};
use dice::Dice;
use kinds::{FACTS, Filler, KINDS};
use world::{Entity, World};

/// Queries of the split `train`; `dev` and `test` have 500 each.
pub const TRAIN_QUERIES: usize = 4000;
/// Queries of `train` with at least one relevant document that `train` does not judge.
pub const UNLABELLED_QUERIES: usize = 1378;
/// Pairs of a `train` query and a relevant document that `train` does not judge.
pub const UNLABELLED_PAIRS: usize = 1785;

const SEED: u64 = 0x6472_6564_6765;
/// Queries of `dev` and of `test`.
const HELD_OUT_QUERIES: usize = 500;
/// Entities of `dev` and of `test`.
const HELD_OUT_ENTITIES: usize = 420;
/// Entities with two and with three documents, in percent.
const TWO_DOCUMENTS: usize = 25;
const THREE_DOCUMENTS: usize = 10;
/// Queries that state two and three facts, in percent; the others state four.
const TWO_FACTS: usize = 10;
const THREE_FACTS: usize = 45;
/// Queries with a relation among their facts, in percent.
const RELATED: usize = 40;
/// Draws of facts before a query is given up for this entity.
const ATTEMPTS: usize = 40;

/// A query before it has a number.
struct Query {
    entity: usize,
    text: String,
}

/// Generates the collection: splits `train`, `dev`, `test`, and `truth` with the complete judgments of all three.
pub fn generate() -> Collection {
    let mut dice = Dice::new(SEED);
    let world = World::new(&mut dice);
    let (documents, about) = write_documents(&world, &mut dice);

    let mut order: Vec<usize> = (0..world.entities.len()).collect();
    dice.shuffle(&mut order);
    let (dev, rest) = order.split_at(HELD_OUT_ENTITIES);
    let (test, train) = rest.split_at(HELD_OUT_ENTITIES);
    let parts = [("train", train, TRAIN_QUERIES), ("dev", dev, HELD_OUT_QUERIES), ("test", test, HELD_OUT_QUERIES)];

    let mut queries = Records::new();
    let mut seen = BTreeSet::new();
    let mut judged: BTreeMap<String, Vec<(u32, u32, i32)>> = BTreeMap::new();
    let mut truth = Vec::new();
    for (split, entities, count) in parts {
        for Query { entity, text } in ask(&world, entities, count, &mut seen, &mut dice) {
            let query = push(&mut queries, "q", &text);
            let relevant = &about[entity];
            truth.extend(relevant.iter().map(|&document| (query, document, 1)));
            let kept = if split == "train" {
                let chosen = dice.below(relevant.len());
                &relevant[chosen..=chosen]
            } else {
                &relevant[..]
            };
            judged.entry(split.to_owned()).or_default().extend(kept.iter().map(|&document| (query, document, 1)));
        }
    }
    let total = queries.len();
    Collection {
        name: "demo".to_owned(),
        documents,
        queries,
        splits: judged.into_iter().map(|(split, pairs)| (split, Judgments::from_pairs(total, pairs))).collect(),
        negatives: None,
        truth: Some(Judgments::from_pairs(total, truth)),
        notes: Vec::new(),
    }
}

/// Documents in random order, and those of each entity, ascending.
fn write_documents(world: &World, dice: &mut Dice) -> (Records, Vec<Vec<u32>>) {
    let mut drafts = Vec::new();
    for (number, entity) in world.entities.iter().enumerate() {
        let copies = match dice.below(100) {
            throw if throw < THREE_DOCUMENTS => 3,
            throw if throw < THREE_DOCUMENTS + TWO_DOCUMENTS => 2,
            _ => 1,
        };
        drafts.extend((0..copies).map(|_| (number, wording::document(world, entity, dice))));
    }
    dice.shuffle(&mut drafts);
    let mut documents = Records::new();
    let mut about = vec![Vec::new(); world.entities.len()];
    for (entity, text) in drafts {
        about[entity].push(push(&mut documents, "d", &text));
    }
    (documents, about)
}

/// `count` distinct queries over `entities`, in rounds, so that each entity is asked for before one is asked for again.
fn ask(world: &World, entities: &[usize], count: usize, seen: &mut BTreeSet<String>, dice: &mut Dice) -> Vec<Query> {
    let mut queries = Vec::with_capacity(count);
    for &entity in entities.iter().cycle() {
        if queries.len() == count {
            break;
        }
        let Some(facts) = identifying(world, &world.entities[entity], dice) else { continue };
        let text = wording::query(world, &world.entities[entity], &facts, dice);
        if seen.insert(text.clone()) {
            queries.push(Query { entity, text });
        }
    }
    queries
}

/// Facts that hold together for this entity alone among its kind (it is its only rival), in random order; `None` when none
/// were found.
fn identifying(world: &World, entity: &Entity, dice: &mut Dice) -> Option<Vec<usize>> {
    let (attributes, relations): (Vec<usize>, Vec<usize>) =
        (0..FACTS).partition(|&fact| matches!(KINDS[entity.kind].facts[fact].filler, Filler::Value(_)));
    for _ in 0..ATTEMPTS {
        let count = match dice.below(100) {
            throw if throw < TWO_FACTS => 2,
            throw if throw < TWO_FACTS + THREE_FACTS => 3,
            _ => 4,
        };
        let mut facts = attributes.clone();
        dice.shuffle(&mut facts);
        if dice.percent(RELATED) {
            facts.insert(0, relations[dice.below(relations.len())]);
        }
        facts.truncate(count);
        dice.shuffle(&mut facts);
        let rivals = world.of_kind(entity.kind).iter().filter(|other| facts.iter().all(|&fact| world.alike(entity, other, fact)));
        if rivals.count() == 1 {
            return Some(facts);
        }
    }
    None
}

/// Appends a record whose id is its number.
fn push(records: &mut Records, prefix: &str, text: &str) -> u32 {
    let id = format!("{prefix}{:05}", records.len());
    records.push(&id, text).expect("ids are counted up")
}

#[cfg(test)]
mod tests;
