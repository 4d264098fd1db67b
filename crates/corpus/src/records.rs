//! One side of a collection: external string ids and texts under the same dense `u32` index.
//!
//! A record costs its text, its id, two `u64` starts and about 8 bytes of hash table: some 32 bytes over its text when
//! ids have 8 characters. External ids are looked up at the edge only; everything inside speaks dense ids.

use crate::{index::Index, texts::Texts};

/// An external id that was pushed a second time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the id `{id}` is already taken by record {first}")]
pub struct DuplicateId {
    /// The external id.
    pub id: String,
    /// Dense index of the record that has it.
    pub first: u32,
}

/// Texts with external ids, in the order in which they were pushed.
#[derive(Debug, Clone, Default)]
pub struct Records {
    ids: Texts,
    texts: Texts,
    index: Index,
}

impl Records {
    /// No records; allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a record and returns its dense index.
    ///
    /// # Errors
    /// When the external id is taken; nothing is appended then.
    ///
    /// # Panics
    /// When `u32::MAX` records are already held.
    pub fn push(&mut self, id: &str, text: &str) -> Result<u32, DuplicateId> {
        if let Some(first) = self.index.find(&self.ids, id) {
            return Err(DuplicateId { id: id.to_owned(), first });
        }
        self.ids.push(id);
        self.index.enter_next(&self.ids);
        Ok(self.texts.push(text))
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// External id of a record.
    ///
    /// # Panics
    /// When there is no such record.
    pub fn id(&self, index: u32) -> &str {
        self.ids.get(index)
    }

    /// Text of a record.
    ///
    /// # Panics
    /// When there is no such record.
    pub fn text(&self, index: u32) -> &str {
        self.texts.get(index)
    }

    /// Dense index of the record with this external id.
    pub fn find(&self, id: &str) -> Option<u32> {
        self.index.find(&self.ids, id)
    }

    /// All texts, in dense order.
    pub fn texts(&self) -> &Texts {
        &self.texts
    }

    /// All external ids, in dense order.
    pub fn ids(&self) -> &Texts {
        &self.ids
    }

    /// Bytes of heap held, text included; `memory() - texts().bytes()` is what the bookkeeping costs.
    pub fn memory(&self) -> usize {
        self.ids.memory() + self.texts.memory() + self.index.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_is_refused_and_names_the_first_record() {
        let mut records = Records::new();
        records.push("a", "one").unwrap();
        records.push("b", "two").unwrap();
        assert_eq!(records.push("a", "three"), Err(DuplicateId { id: "a".into(), first: 0 }));
        assert_eq!(records.len(), 2);
        assert_eq!((records.id(1), records.text(1), records.find("b")), ("b", "two", Some(1)));
        assert_eq!(records.find("three"), None);
    }

    #[test]
    fn a_record_costs_at_most_forty_bytes_over_its_text() {
        let mut records = Records::new();
        let text = "word ".repeat(60);
        // Past the sizes at which the table has just doubled and at which a chunk has just been opened.
        for i in 0..500_000_usize {
            records.push(&format!("{i:08}"), &text).unwrap();
            if i > 400_000 && i % 1000 == 0 {
                let spare = 2 * (4 << 20);
                let over = records.memory() - records.texts().bytes() - spare.min(records.memory() / 8);
                assert!(over <= 40 * (i + 1), "{} bytes a record", over as f64 / (i + 1) as f64);
            }
        }
    }
}
