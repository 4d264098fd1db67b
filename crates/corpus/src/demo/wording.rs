//! Entities and questions as English sentences.
//!
//! Documents state every fact of an entity in one register, queries state a few in another. Chance decides among the
//! alternatives, the order of facts and the shape of sentences. Invariant: a document of an entity states all of its facts,
//! so whatever a query asks of the entity, each of its documents answers.

use super::{
    dice::Dice,
    kinds::{FACTS, Filler, KINDS},
    world::{Entity, World},
};

/// Facts of a query that are put in the words of documents, in percent.
const BORROWED: usize = 22;
/// Queries that hint at the name by one of its two words, in percent.
const HINTED: usize = 6;
/// Relations of a query that give one of the two words of the other's name only, in percent.
const CLIPPED: usize = 50;

/// Who speaks.
#[derive(Clone, Copy, PartialEq)]
enum Register {
    Document,
    Query,
}

/// A document about an entity.
pub(super) fn document(world: &World, entity: &Entity, dice: &mut Dice) -> String {
    let kind = &KINDS[entity.kind];
    let mut order: [usize; FACTS] = std::array::from_fn(|fact| fact);
    dice.shuffle(&mut order);
    let clauses = order.map(|fact| clause(world, entity, fact, Register::Document, dice));
    let noun = dice.alternative(kind.documents);
    let (article, name) = (article(noun), entity.name.as_str());
    let mut text = match dice.below(3) {
        0 => format!("{name} is {article} {noun} that {}.", clauses[0]),
        1 => format!("{name}, {article} {noun}, {}.", clauses[0]),
        _ => format!("The {noun} {name} {}.", clauses[0]),
    };
    let mut rest = &clauses[1..];
    while !rest.is_empty() {
        let (sentence, others) = rest.split_at(if dice.percent(60) { rest.len().min(2) } else { 1 });
        let subject = if dice.percent(5) { name } else { "It" };
        text.push_str(&format!(" {subject} {}.", sentence.join(" and ")));
        rest = others;
    }
    text
}

/// A query that states `facts` of an entity.
pub(super) fn query(world: &World, entity: &Entity, facts: &[usize], dice: &mut Dice) -> String {
    let clauses: Vec<String> = facts
        .iter()
        .map(|&fact| {
            let register = if dice.percent(BORROWED) { Register::Document } else { Register::Query };
            clause(world, entity, fact, register, dice)
        })
        .collect();
    let noun = dice.alternative(KINDS[entity.kind].queries);
    let (list, article) = (clauses.join(" and "), article(noun));
    let mut text = match dice.below(6) {
        0 => format!("which {noun} {list}"),
        1 => format!("{article} {noun} that {list}"),
        2 => format!("looking for the {noun} that {list}"),
        3 => format!("what do you call the {noun} that {list}"),
        4 => format!("{noun}, {}", clauses.join(", ")),
        _ => format!("I forgot the name of the {noun} that {list}"),
    };
    if dice.percent(HINTED) {
        text.push_str(&format!(", something with {}", clip(&entity.name, dice)));
    }
    text
}

/// One fact of an entity as the predicate of a sentence.
fn clause(world: &World, entity: &Entity, fact: usize, register: Register, dice: &mut Dice) -> String {
    let form = &KINDS[entity.kind].facts[fact];
    let phrase = dice.pick(match register {
        Register::Document => form.documents,
        Register::Query => form.queries,
    });
    let value = match form.filler {
        Filler::Value(table) => {
            let (documents, queries) = table[usize::from(entity.facts[fact])];
            dice.alternative(if register == Register::Document { documents } else { queries })
        }
        Filler::Related(kind) => {
            let name = &world.hub(kind, entity.facts[fact]).name;
            if register == Register::Query && dice.percent(CLIPPED) { clip(name, dice) } else { name }
        }
    };
    match phrase.split_once("a {}") {
        Some((before, after)) if before.ends_with(' ') => format!("{before}{} {value}{after}", article(value)),
        _ => phrase.replacen("{}", value, 1),
    }
}

/// One of the words of a name.
fn clip<'a>(name: &'a str, dice: &mut Dice) -> &'a str {
    let words: Vec<&str> = name.split(' ').collect();
    dice.pick(&words)
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}
