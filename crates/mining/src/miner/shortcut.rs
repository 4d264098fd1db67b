//! Whether generated negatives can be told from documents by their rows alone. Where they can, an encoder in training can lower its loss by learning
//! "machine-written = negative", which says nothing about relevance (Sinha 2025, arXiv 2504.21015; CausalNeg 2026, arXiv 2606.01304).
//!
//! Each generated text is set against a document that was retrieved for the same query, so that topics tell nothing; against a random one where
//! nothing is retrieved. Queries, not texts, are divided into the half that the probe is fitted to and the half that it is tried on.

use std::collections::HashSet;

use rand::seq::SliceRandom;
use serde::Serialize;

use super::{Miner, Supply};
use crate::candidate::Candidate;
use crate::chance::{Purpose, generator};
use crate::error::MiningError;
use crate::lists::Lists;
use crate::probe::{Labelled, Probe, probe};
use crate::row_encoder::{RowEncoder, encode_documents};
use crate::sources::{Random, Source};
use crate::store::read;

/// Generated texts that are looked at, and as many documents.
const MOST: usize = 1000;
/// Generated texts of each half without which nothing can be said.
const FEWEST: usize = 8;

/// What the check found. Of a probe that cannot tell generated texts from documents, both figures are about 0.5.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shortcut {
    /// What generated texts were set against: `retrieved` negatives of the same queries, or `random` documents.
    pub against: &'static str,
    /// Texts that the probe was fitted to, half of them generated.
    pub fitted: usize,
    /// Texts that it was tried on, half of them generated.
    pub held_out: usize,
    /// Share of the texts held out whose kind it finds.
    pub accuracy: f64,
    /// Chance that it places a generated text above a document, ties half.
    pub auc: f64,
}

/// Generated texts, each with the document that it is set against.
type Pairs = Vec<(u32, u32)>;

impl Shortcut {
    /// One line for people.
    pub fn line(&self) -> String {
        format!(
            "shortcut check: a linear probe tells generated texts from {} documents with accuracy {:.2}, AUC {:.3} ({} texts held out; 0.5 = cannot \
             be told apart, near 1 = \"machine-written = negative\" can be learned)",
            self.against, self.accuracy, self.auc, self.held_out
        )
    }
}

impl Miner {
    /// Tells generated texts from documents by the rows that `encoder` gives them. `None` without generated texts in the lists, or with too few to say.
    ///
    /// # Errors
    /// When the encoder fails, or gives a row that is not finite.
    pub fn shortcut(&self, encoder: &mut dyn RowEncoder) -> Result<Option<Shortcut>, MiningError> {
        let Some((against, [fitted, held_out])) = self.compared() else { return Ok(None) };
        if fitted.len().min(held_out.len()) < FEWEST {
            return Ok(None);
        }
        let dimension = encoder.dimension();
        let mut rows = |ids: Vec<u32>| -> Result<Vec<f64>, MiningError> {
            let rows = read(encode_documents(encoder, &ids)?, "reading rows for the shortcut check")?;
            match rows.iter().position(|value| !value.is_finite()) {
                Some(place) => Err(MiningError::NotFinite { what: "rows of the shortcut check", row: place / dimension }),
                None => Ok(rows.into_iter().map(f64::from).collect()),
            }
        };
        let mut half = |pairs: &Pairs| -> Result<Labelled, MiningError> {
            // Apart: the encoder knows the lengths of documents only.
            let mut values = rows(pairs.iter().map(|pair| pair.0).collect())?;
            values.extend(rows(pairs.iter().map(|pair| pair.1).collect())?);
            Ok(Labelled { values, labels: (0..2 * pairs.len()).map(|row| row < pairs.len()).collect() })
        };
        let Probe { accuracy, auc } = probe(dimension, &half(&fitted)?, &half(&held_out)?);
        Ok(Some(Shortcut { against, fitted: 2 * fitted.len(), held_out: 2 * held_out.len(), accuracy, auc }))
    }

    /// What is set against what, in two halves by query. No text stands in it twice.
    fn compared(&self) -> Option<(&'static str, [Pairs; 2])> {
        let written = &self.supplies.iter().find(|supply| supply.is_generated())?.lists;
        let found: Vec<&Lists> =
            self.supplies.iter().filter(|supply| !supply.is_generated()).map(|supply: &Supply| &supply.lists).collect();
        let retrieved = self.training.iter().any(|&query| found.iter().any(|lists| !lists.row(query).is_empty()));
        let mut queries = self.training.clone();
        queries.shuffle(&mut generator(self.seed, u32::MAX, 0, Purpose::Shortcut));
        let mut seen = HashSet::new();
        let mut halves: [Pairs; 2] = Default::default();
        for query in queries {
            let room = MOST.saturating_sub(halves[0].len() + halves[1].len());
            let written: Vec<u32> = written
                .row(query)
                .iter()
                .map(|entry| entry.document)
                .filter(|&id| seen.insert(self.knowledge.class(id)))
                .take(room)
                .collect();
            if written.is_empty() {
                continue;
            }
            let mut chance = generator(self.seed, query, 0, Purpose::Shortcut);
            let documents: Vec<u32> = if retrieved {
                let mut listed: Vec<u32> = found.iter().flat_map(|lists| lists.row(query)).map(|entry| entry.document).collect();
                listed.shuffle(&mut chance);
                listed.into_iter().filter(|&id| seen.insert(self.knowledge.class(id))).take(written.len()).collect()
            } else {
                let open = |id: u32| {
                    !seen.contains(&self.knowledge.class(id)) && !self.knowledge.is_judged(query, id) && !self.knowledge.is_copy(query, id)
                };
                let drawn = Random::new(self.knowledge.documents(), Candidate::FILL).visit(&mut chance, written.len(), &open);
                drawn.into_iter().map(|it| it.document).filter(|&id| seen.insert(self.knowledge.class(id))).collect()
            };
            let half = usize::from(halves[1].len() < halves[0].len());
            halves[half].extend(written.into_iter().zip(documents));
        }
        Some((if retrieved { "retrieved" } else { "random" }, halves))
    }
}
