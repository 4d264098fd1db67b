//! Lists that came with the data, out of an earlier `trainer mine` or from another tool.
//!
//! Where the file scores its positives too, margins are measured on the file's scale (that is how a teacher's lists work); otherwise the
//! encoder scores the candidates. Scores that a teacher gave are the candidates' teacher scores too.

use std::path::Path;

use corpus::{Collection, NegativeLists};

use super::{Block, Scale, Source};
use crate::candidate::Candidate;
use crate::config::ScoredBy;
use crate::error::MiningError;

/// Precomputed lists.
#[derive(Debug)]
pub struct File {
    lists: NegativeLists,
    depth: usize,
    number: u8,
    scale: Scale,
    scored_by: ScoredBy,
}

impl File {
    /// The lists at `path`, or those of the collection; at most `depth` of each; `number` tags the candidates.
    ///
    /// # Errors
    /// When the file cannot be read, or there is none and the collection has no negatives.
    pub fn open(collection: &Collection, path: Option<&Path>, depth: Option<usize>, number: u8) -> Result<Self, MiningError> {
        let lists = match path {
            Some(path) => corpus::read_lists(path, collection)?,
            None => match &collection.negatives {
                Some(lists) if !lists.is_empty() => lists.clone(),
                _ => return Err(MiningError::NoNegatives { collection: collection.name.clone() }),
            },
        };
        let scores_positives =
            (0..collection.queries.len() as u32).any(|query| lists.positive_scores(query).iter().any(|it| it.score.is_some()));
        let scale = if scores_positives { Scale::Own } else { Scale::Foreign };
        Ok(Self { lists, depth: depth.unwrap_or(usize::MAX), number, scale, scored_by: ScoredBy::default() })
    }

    /// Says whose scores they are.
    #[must_use]
    pub fn scored_by(self, scored_by: ScoredBy) -> Self {
        Self { scored_by, ..self }
    }
}

impl Source for File {
    fn name(&self) -> &'static str {
        "file"
    }

    fn scale(&self) -> Scale {
        self.scale
    }

    fn lowest_positive(&self, query: u32) -> f32 {
        // `f32::min` passes over NaN, the start value.
        self.lists.positive_scores(query).iter().filter_map(|it| it.score).fold(f32::NAN, f32::min)
    }

    fn positive_score(&self, query: u32, document: u32) -> f32 {
        let listed = self.lists.positive_scores(query).iter().find(|it| it.document == document);
        listed.and_then(|it| it.score).unwrap_or(f32::NAN)
    }

    fn candidates(&self, block: &Block<'_>) -> Result<Vec<Vec<Candidate>>, MiningError> {
        let row = |&query: &u32| {
            let listed = self.lists.row(query).iter().take(self.depth).zip(1..);
            let teacher = |score: Option<f32>| score.filter(|_| self.scored_by == ScoredBy::Teacher);
            let found = |it: &corpus::Listed, rank| Candidate::found(it.document, self.number, rank, it.score.unwrap_or(f32::NAN));
            listed.map(|(it, rank)| Candidate { teacher: teacher(it.score), ..found(it, rank) }).collect()
        };
        Ok(block.queries.iter().map(row).collect())
    }
}
