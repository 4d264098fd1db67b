//! The miner's state for checkpoints, and its lists for readers. The byte format is `state`.

use corpus::Collection;
use serde_json::json;

use super::{Decay, Miner, Supply, Visit};
use crate::candidate::Candidate;
use crate::config::Model;
use crate::error::MiningError;
use crate::filters::Dropped;
use crate::lists::Lists;
use crate::schedule::Schedule;
use crate::state::{self, faulty};
use crate::store::SavedRows;

impl Miner {
    /// Everything needed to go on exactly from here, but the configuration and the data. With `refresh = "rolling …"` the document rows are
    /// part of it: they have different ages, so the weights of now could not make them again.
    ///
    /// # Errors
    /// When rows cannot be read from the device.
    pub fn state(&self) -> Result<Vec<u8>, MiningError> {
        let supply = |supply: &Supply| state::SupplyState {
            last: supply.last,
            next_slice: supply.next_slice,
            curve: supply.curve.clone(),
            replaced: supply.decay.replaced.clone(),
            installed: supply.decay.installed.iter().map(|mean| mean.to_bits()).collect(),
            lengths: state::lengths(&supply.lists),
        };
        let header = state::Header {
            version: self.version,
            seed: self.seed,
            config: self.config.clone(),
            documents: self.knowledge.documents(),
            generated: self.knowledge.generated(),
            queries: self.knowledge.queries(),
            supplies: self.supplies.iter().map(supply).collect(),
            rows: self.rows_to_save()?,
        };
        state::write(&header, self.supplies.iter().map(|supply| &supply.lists))
    }

    fn rows_to_save(&self) -> Result<Option<SavedRows>, MiningError> {
        if !self.supplies.iter().any(|supply| supply.schedule.is_some_and(Schedule::rolls)) {
            return Ok(None);
        }
        match self.stores.get(&Model::Current) {
            Some(store) if store.is_complete() => Ok(Some(store.save()?)),
            _ => Ok(self.saved_rows.clone()),
        }
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
        if header.generated != self.knowledge.generated() {
            return differs("the number of generated texts");
        }
        let known = header.documents + header.generated;
        let beyond = |lists: &Lists| lists.entries.values().iter().any(|entry| entry.document as usize >= known);
        let fits = |supply: &state::SupplyState| {
            [0, self.training.len()].contains(&supply.replaced.len()) && supply.replaced.len() == supply.installed.len()
        };
        let rows_fit = header.rows.as_ref().is_none_or(|rows| rows.rows == header.documents);
        let whole = header.supplies.len() == self.supplies.len() && header.supplies.iter().all(fits) && rows_fit;
        if !whole || lists.iter().any(beyond) {
            return Err(faulty("its parts do not fit together".into()));
        }
        self.version = header.version;
        self.saved_rows = header.rows;
        // Whatever rows there are, they are of other weights.
        self.stores.clear();
        for ((supply, saved), lists) in self.supplies.iter_mut().zip(header.supplies).zip(lists) {
            (supply.last, supply.next_slice, supply.curve, supply.lists) = (saved.last, saved.next_slice, saved.curve, lists);
            supply.decay = Decay { replaced: saved.replaced, installed: saved.installed.into_iter().map(f32::from_bits).collect() };
            supply.retire();
        }
        Ok(())
    }

    /// The lists in the own form of mined negatives, with the source of each candidate, or with merge = "union" all sources of each text: a
    /// header line, then a line per training query that has candidates or had some that
    /// filters dropped (the best of these under `removed`), under its first positive. Generated texts are left out: the collection
    /// has no ids for them.
    ///
    /// # Errors
    /// When a line cannot be written, which no collection causes.
    pub fn lists_jsonl(&self, collection: &Collection) -> Result<String, MiningError> {
        let sources: Vec<_> = self.supplies.iter().map(|supply| json!({ "name": supply.name, "refreshed": supply.last })).collect();
        let provenance = json!({ "negatives_version": self.version, "sources": sources, "negatives": self.config });
        let mut text = json!({ "format": "dredge-negatives", "version": 1, "provenance": provenance }).to_string();
        text.push('\n');
        for &query in &self.training {
            let Some(positive) = self.knowledge.judgments().positives(query).next() else { continue };
            let found = self.listed(query, positive);
            let found = found.iter().filter(|it| (it.document as usize) < self.knowledge.documents());
            let negatives: Vec<_> = found.map(|it| self.listed_json(it, collection)).collect();
            let removed = self.removed_json(query, collection);
            if negatives.is_empty() && removed.is_empty() {
                continue;
            }
            let mut row = json!({ "query_id": collection.queries.id(query), "positive_id": collection.documents.id(positive) });
            if let Some(score) = self.score_beside_lists(query, positive) {
                row["positive_score"] = score.into();
            }
            row["negatives"] = negatives.into();
            if !removed.is_empty() {
                row["removed"] = removed.into();
            }
            text.push_str(&row.to_string());
            text.push('\n');
        }
        Ok(text)
    }

    /// The positive's score on the scale of the negatives' scores, where all of these come from one source.
    fn score_beside_lists(&self, query: u32, positive: u32) -> Option<f32> {
        let mut listing = self.supplies.iter().filter(|supply| supply.schedule.is_some());
        match (listing.next(), listing.next()) {
            (Some(supply), None) => Some(self.positive_score(supply, &Visit::new(query, positive, 0, 0))).filter(|score| score.is_finite()),
            _ => None,
        }
    }

    /// All candidates of a query: list after list, or the union of the lists.
    fn listed(&self, query: u32, positive: u32) -> Vec<Candidate> {
        let numbered = || (0..u8::MAX).zip(&self.supplies);
        if !self.united() {
            return numbered().flat_map(|(number, supply)| supply.lists.candidates(query, number, None, supply.comparable())).collect();
        }
        self.union(&Visit::new(query, positive, 0, 0))
    }

    /// The best of the candidates that filters dropped, with the filter and the similarity that they were found with; what a teacher's score or an
    /// angle was, by which some filters go, is not kept.
    fn removed_json(&self, query: u32, collection: &Collection) -> Vec<serde_json::Value> {
        let of = |supply: &Supply| {
            let dropped = supply.dropped.get(&query).into_iter().flatten().filter(|it| (it.document as usize) < self.knowledge.documents());
            let row = |it: &Dropped| {
                let score = Some(it.similarity).filter(|score| score.is_finite());
                let (id, source) = (collection.documents.id(it.document), &supply.name);
                json!({ "id": id, "score": score, "rank": it.rank, "source": source, "filter": it.filter })
            };
            dropped.map(row).collect::<Vec<_>>()
        };
        self.supplies.iter().flat_map(of).collect()
    }

    fn listed_json(&self, it: &Candidate, collection: &Collection) -> serde_json::Value {
        let score = Some(it.score).filter(|score| score.is_finite());
        let mut json = json!({ "id": collection.documents.id(it.document), "score": score, "rank": it.rank });
        json["source"] = self.source_name(it.source).into();
        if let Some(teacher) = it.teacher.filter(|teacher| teacher.is_finite()) {
            json["teacher"] = teacher.into();
        }
        if self.united() {
            json["sources"] = self.sources_of(it).filter_map(|number| self.source_name(number)).collect();
        }
        json
    }
}
