//! The invented entities: their names, their facts, and the families of near-duplicates.
//!
//! The members of a family share their kind, mostly the first word of their name, and all facts of the first member but one:
//! the natural hard negatives. Wording is none of this file's business. Invariant: no two entities have the same kind and the same facts, and
//! no two the same name.

use std::collections::BTreeSet;

use super::{
    dice::Dice,
    kinds::{FACTS, Filler, KINDS},
};

/// Entities of each kind.
pub(super) const PER_KIND: usize = 512;
/// Places and persons that relations point to: the first so many of their kind, so that a name recurs in about thirty
/// documents and settles nothing alone.
const HUBS: usize = 128;
/// First and second words of names, for each kind.
const HEADS: usize = 40;
const TAILS: usize = 64;
/// Share of families with one, two, three and four members, in percent.
const FAMILY_SIZES: [usize; 4] = [25, 30, 25, 20];

/// Values of the facts of one entity: a row of the table, or the number of a hub.
pub(super) type Facts = [u8; FACTS];

/// One entity.
pub(super) struct Entity {
    pub(super) kind: usize,
    pub(super) name: String,
    pub(super) facts: Facts,
}

/// All entities; those of kind `k` are number `k * PER_KIND` and following.
pub(super) struct World {
    pub(super) entities: Vec<Entity>,
}

impl World {
    pub(super) fn new(dice: &mut Dice) -> Self {
        let mut taken = BTreeSet::new();
        let mut entities = Vec::with_capacity(KINDS.len() * PER_KIND);
        for (kind, form) in KINDS.iter().enumerate() {
            let heads: Vec<String> = (0..HEADS).map(|_| invent(dice, &mut taken, 2, &[""])).collect();
            let tails: Vec<String> = (0..TAILS).map(|_| invent(dice, &mut taken, 1, form.endings)).collect();
            populate(kind, &heads, &tails, dice, &mut entities);
        }
        Self { entities }
    }

    /// Entities of one kind.
    pub(super) fn of_kind(&self, kind: usize) -> &[Entity] {
        &self.entities[kind * PER_KIND..][..PER_KIND]
    }

    /// Whether a query that states `fact` of `one` holds for `other` too. A query may give half of a name, so relations to
    /// namesakes count as alike.
    pub(super) fn alike(&self, one: &Entity, other: &Entity, fact: usize) -> bool {
        let (mine, theirs) = (one.facts[fact], other.facts[fact]);
        match KINDS[one.kind].facts[fact].filler {
            _ if mine == theirs => true,
            Filler::Value(_) => false,
            Filler::Related(kind) => {
                let theirs = &self.hub(kind, theirs).name;
                self.hub(kind, mine).name.split(' ').any(|word| theirs.split(' ').any(|other| other == word))
            }
        }
    }

    /// The entity that a relation to `kind` points to.
    pub(super) fn hub(&self, kind: usize, number: u8) -> &Entity {
        &self.of_kind(kind)[usize::from(number)]
    }
}

/// Appends `PER_KIND` entities of one kind, family by family.
fn populate(kind: usize, heads: &[String], tails: &[String], dice: &mut Dice, entities: &mut Vec<Entity>) {
    let mut names = BTreeSet::new();
    let mut known = BTreeSet::new();
    let mut left = PER_KIND;
    while left > 0 {
        let base: Facts = std::array::from_fn(|fact| draw(kind, fact, dice));
        let head = dice.below(heads.len());
        for member in 0..family_size(dice).min(left) {
            let mut facts = base;
            if member > 0 {
                let changed = dice.below(FACTS);
                facts[changed] = draw(kind, changed, dice);
            }
            // Another value may turn out to be the old one; the family is then smaller.
            if !known.insert(facts) {
                continue;
            }
            let mut head = head;
            let name = loop {
                if member > 0 && dice.percent(30) {
                    head = dice.below(heads.len());
                }
                let tail = dice.below(tails.len());
                if names.insert((head, tail)) {
                    break format!("{} {}", heads[head], tails[tail]);
                }
                head = dice.below(heads.len());
            };
            entities.push(Entity { kind, name, facts });
            left -= 1;
        }
    }
}

fn draw(kind: usize, fact: usize, dice: &mut Dice) -> u8 {
    let choices = match KINDS[kind].facts[fact].filler {
        Filler::Value(table) => table.len(),
        Filler::Related(_) => HUBS,
    };
    dice.below(choices) as u8
}

fn family_size(dice: &mut Dice) -> usize {
    let mut throw = dice.below(100);
    for (index, share) in FAMILY_SIZES.iter().enumerate() {
        if throw < *share {
            return index + 1;
        }
        throw -= share;
    }
    1
}

/// A new word of `syllables` syllables before one of `endings`, capitalised.
fn invent(dice: &mut Dice, taken: &mut BTreeSet<String>, syllables: usize, endings: &[&str]) -> String {
    const ONSETS: [&str; 20] = ["b", "br", "d", "dr", "f", "g", "gl", "h", "j", "k", "kr", "l", "m", "n", "p", "s", "sk", "t", "v", "z"];
    const VOWELS: [&str; 9] = ["a", "e", "i", "o", "u", "ae", "ei", "oa", "y"];
    const CODAS: [&str; 10] = ["l", "n", "r", "s", "th", "nd", "lk", "rm", "x", "v"];
    loop {
        let mut word = String::new();
        for _ in 0..syllables {
            word.push_str(dice.pick(&ONSETS));
            word.push_str(dice.pick(&VOWELS));
        }
        word.push_str(dice.pick(&CODAS));
        word.push_str(dice.pick(endings));
        word[..1].make_ascii_uppercase();
        if taken.insert(word.clone()) {
            return word;
        }
    }
}
