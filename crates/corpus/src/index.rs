//! An open-addressing table over dense ids whose keys live elsewhere.
//!
//! A slot holds a `u32` id and a one-byte tag of its hash: 5 bytes, and about 8 bytes an entry at the usual fill. Keys are
//! compared and re-hashed through the owner (an arena of texts), never copied. Invariant: the table holds exactly the ids
//! `0..len`, which lets it be rebuilt from the owner alone: the old table is freed before the new one is allocated.

use std::hash::{BuildHasher, RandomState};

use crate::texts::Texts;

/// Tag of a slot without entry; tags of entries have the top bit set.
const VACANT: u8 = 0;

/// Maps a text to the lowest id of an arena that holds it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    tags: Vec<u8>,
    slots: Vec<u32>,
    len: usize,
    hasher: RandomState,
}

impl Index {
    /// The table of all texts of `owner`.
    pub(crate) fn over(owner: &Texts) -> Self {
        let mut index = Self::default();
        for _ in 0..owner.len() {
            index.enter_next(owner);
        }
        index
    }

    /// The lowest id in `owner` whose text equals `key`.
    pub(crate) fn find(&self, owner: &Texts, key: &str) -> Option<u32> {
        if self.tags.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(key);
        let (mask, wanted) = (self.tags.len() - 1, tag(hash));
        let mut slot = hash as usize & mask;
        loop {
            match self.tags[slot] {
                VACANT => return None,
                held if held == wanted && owner.get(self.slots[slot]) == key => return Some(self.slots[slot]),
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    /// Enters the text of `owner` that follows those already here; an earlier equal text stays the one that is found.
    pub(crate) fn enter_next(&mut self, owner: &Texts) {
        if self.len * 8 >= self.tags.len() * 7 {
            self.grow(owner);
        }
        self.enter(owner, self.len as u32);
        self.len += 1;
    }

    /// Bytes of heap held.
    pub(crate) fn memory(&self) -> usize {
        self.tags.capacity() + self.slots.capacity() * size_of::<u32>()
    }

    fn grow(&mut self, owner: &Texts) {
        let capacity = (self.tags.len() * 2).max(16);
        // Freed first: the peak is one table, not one and a half.
        self.tags = Vec::new();
        self.slots = Vec::new();
        self.tags = vec![VACANT; capacity];
        self.slots = vec![0; capacity];
        for id in 0..self.len as u32 {
            self.enter(owner, id);
        }
    }

    fn enter(&mut self, owner: &Texts, id: u32) {
        let hash = self.hasher.hash_one(owner.get(id));
        let mask = self.tags.len() - 1;
        let mut slot = hash as usize & mask;
        while self.tags[slot] != VACANT {
            slot = (slot + 1) & mask;
        }
        self.tags[slot] = tag(hash);
        self.slots[slot] = id;
    }
}

/// The top bits of the hash: the low ones already chose the slot.
fn tag(hash: u64) -> u8 {
    (hash >> 57) as u8 | 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_under_its_id_and_no_other_key_is() {
        let (mut index, mut owner) = (Index::default(), Texts::new());
        assert_eq!(index.find(&owner, "0"), None);
        for i in 0..20_000 {
            owner.push(&i.to_string());
            index.enter_next(&owner);
        }
        for i in 0..20_000_u32 {
            assert_eq!(index.find(&owner, &i.to_string()), Some(i));
        }
        assert_eq!(index.find(&owner, "20000"), None);
    }

    #[test]
    fn of_equal_texts_the_first_is_found() {
        let (mut index, mut owner) = (Index::default(), Texts::new());
        for i in 0..1000 {
            owner.push(if i % 2 == 0 { "even" } else { "odd" });
            index.enter_next(&owner);
        }
        assert_eq!((index.find(&owner, "even"), index.find(&owner, "odd")), (Some(0), Some(1)));
    }

    #[test]
    fn a_table_costs_at_most_twelve_bytes_an_entry() {
        let (mut index, mut owner) = (Index::default(), Texts::new());
        for i in 0..100_000 {
            owner.push(&i.to_string());
            index.enter_next(&owner);
            assert!(i < 64 || index.memory() <= 12 * (i + 1), "{} bytes for {} entries", index.memory(), i + 1);
        }
    }
}
