//! Texts that a generator wrote for a query, outside the corpus: their ids follow those of the corpus, and they are never indexed.
//!
//! What they score says little about a text that was written to be a negative, so they are exempt from filters by score; the report counts
//! how often those would have dropped them, at the start, or at every refresh that `refresh = "every …"` asks for.

use corpus::NegativeLists;

use super::{Block, Source};
use crate::candidate::Candidate;
use crate::error::MiningError;

/// Generated documents by query.
#[derive(Debug)]
pub struct Generated {
    lists: NegativeLists,
    number: u8,
}

impl Generated {
    /// Lists of ids behind those of the corpus; `number` tags the candidates.
    pub fn new(lists: NegativeLists, number: u8) -> Self {
        Self { lists, number }
    }
}

impl Source for Generated {
    fn name(&self) -> &'static str {
        "generated"
    }

    fn candidates(&self, block: &Block<'_>) -> Result<Vec<Vec<Candidate>>, MiningError> {
        let row = |&query: &u32| {
            let found = |(it, rank): (&corpus::Listed, u32)| Candidate {
                synthetic: true,
                ..Candidate::found(it.document, self.number, rank, it.score.unwrap_or(f32::NAN))
            };
            self.lists.row(query).iter().zip(1..).map(found).collect()
        };
        Ok(block.queries.iter().map(row).collect())
    }
}
