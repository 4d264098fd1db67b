//! The miner's state for checkpoints, and its lists for readers. The byte format is `state`.

use corpus::Collection;
use serde_json::json;

use super::Miner;
use crate::error::MiningError;
use crate::lists::Lists;
use crate::state::{self, faulty};

impl Miner {
    /// Everything needed to go on exactly from here, but the configuration and the data.
    ///
    /// # Errors
    /// When the header cannot be written, which no valid configuration causes.
    pub fn state(&self) -> Result<Vec<u8>, MiningError> {
        let lists: Vec<Lists> = self.supplies.iter().map(|supply| supply.lists.clone()).collect();
        let header = state::Header {
            version: self.version,
            seed: self.seed,
            config: self.config.clone(),
            documents: self.knowledge.documents(),
            queries: self.knowledge.queries(),
            last: self.supplies.iter().map(|supply| supply.last).collect(),
            lengths: lists.iter().map(|lists| (lists.offsets().len(), lists.entries().len())).collect(),
        };
        state::write(&header, &lists)
    }

    /// Goes back to a saved state. The miner must have been made from the same configuration, data and seed.
    ///
    /// # Errors
    /// When the state is damaged or belongs to something else; the miner is unchanged then.
    pub fn restore(&mut self, state: &[u8]) -> Result<(), MiningError> {
        let (header, lists) = state::read(state)?;
        let differs = |what: &str| Err(faulty(format!("{what} differs from that of the run which saved them")));
        if header.config != self.config {
            return differs("[negatives]");
        }
        if header.seed != self.seed {
            return differs("the seed");
        }
        if (header.documents, header.queries) != (self.knowledge.documents(), self.knowledge.queries()) {
            return differs("the collection");
        }
        let beyond = |lists: &Lists| lists.entries().iter().any(|entry| entry.document as usize >= header.documents);
        if header.last.len() != self.supplies.len() || lists.len() != self.supplies.len() || lists.iter().any(beyond) {
            return Err(faulty("its parts do not fit together".into()));
        }
        self.version = header.version;
        for ((supply, last), lists) in self.supplies.iter_mut().zip(header.last).zip(lists) {
            (supply.last, supply.lists) = (last, lists);
            supply.retire();
        }
        Ok(())
    }

    /// The lists in the own form of mined negatives, with the source of each candidate: a header line, then a line per training query that
    /// has candidates, under its first positive.
    ///
    /// # Errors
    /// When a line cannot be written, which no collection causes.
    pub fn lists_jsonl(&self, collection: &Collection) -> Result<String, MiningError> {
        let sources: Vec<_> = self.supplies.iter().map(|supply| json!({ "name": supply.name, "refreshed": supply.last })).collect();
        let provenance = json!({ "negatives_version": self.version, "sources": sources, "negatives": self.config });
        let mut text = json!({ "format": "dredge-negatives", "version": 1, "provenance": provenance }).to_string();
        text.push('\n');
        for &query in &self.training {
            let numbered = (0..u8::MAX).zip(&self.supplies);
            let candidates = numbered.flat_map(|(number, supply)| supply.lists.row(query).iter().map(move |entry| entry.candidate(number)));
            let negatives: Vec<_> = candidates
                .map(|it| {
                    let score = Some(it.score).filter(|score| score.is_finite());
                    let source = self.supplies[usize::from(it.source)].name;
                    json!({ "id": collection.documents.id(it.document), "score": score, "rank": it.rank, "source": source })
                })
                .collect();
            let Some(positive) = self.knowledge.judgments().positives(query).next() else { continue };
            if negatives.is_empty() {
                continue;
            }
            let row = json!({ "query_id": collection.queries.id(query), "positive_id": collection.documents.id(positive), "negatives": negatives });
            text.push_str(&row.to_string());
            text.push('\n');
        }
        Ok(text)
    }
}
