//! Encoders by name, other than the one in training: `start`, `previous-round`, a model folder or a hub id.
//!
//! They mine (a stronger miner, a frozen start, the model of the round before) and guide (masks of false negatives). Each is opened when it is
//! first asked for and reads the collection through token rows of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use burn::tensor::Device;
use corpus::TeacherScores;
use encoder::{Encoder, Network};
use mining::{EncodeError, Encoders, PairScorer, RowEncoder};

use crate::config::Config;
use crate::data::{Data, TokenRows};
use crate::errors::{OrUsage, chain};
use crate::rows::Rows;
use crate::runfolder::RunFolder;
use crate::setup;

/// The encoder that the run started from.
pub(crate) const START: &str = "start";
/// The encoder that the round before ended with; in the first round the start.
pub(crate) const PREVIOUS_ROUND: &str = "previous-round";
/// What a reranker may start as, besides a folder: the encoder of the round before under a new head.
pub(crate) const RETRIEVER: &str = "retriever";
/// The teacher that is the round's reranker.
pub(crate) const RERANKER: &str = "reranker";

pub(crate) struct Models {
    start: Network,
    data: Arc<Data>,
    device: Device,
    folder: RunFolder,
    opened: BTreeMap<String, Rows>,
}

impl Models {
    /// `start` without autodiff.
    pub(crate) fn new(start: Network, data: &Arc<Data>, device: &Device, folder: &RunFolder) -> Self {
        let device = device.clone().without_autodiff();
        Self { start, data: Arc::clone(data), device, folder: folder.clone(), opened: BTreeMap::new() }
    }

    /// The run's folder.
    pub(crate) fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// The encoder that the run started from.
    pub(crate) fn start(&self) -> Network {
        self.start.clone()
    }

    /// The encoder that a round starts from.
    ///
    /// # Errors
    /// When the model of the round before cannot be read.
    pub(crate) fn round_start(&mut self, config: &Config, round: usize) -> Result<Network> {
        Ok(self.rows(Self::round_start_name(config), round)?.network().clone())
    }

    /// The encoder of documents that a round starts from: another one where it goes on from a round whose documents were frozen.
    ///
    /// # Errors
    /// When the model of the round before cannot be read.
    pub(crate) fn round_documents(&mut self, config: &Config, round: usize) -> Result<Network> {
        Ok(self.rows(Self::round_start_name(config), round)?.document_network().clone())
    }

    /// The name of both.
    pub(crate) fn round_start_name(config: &Config) -> &'static str {
        if config.train.restart { START } else { PREVIOUS_ROUND }
    }

    /// The encoder called `name` in round `round` (from 0).
    pub(crate) fn rows(&mut self, name: &str, round: usize) -> Result<&mut Rows> {
        let key = match name {
            PREVIOUS_ROUND if round > 0 => self.folder.round(round - 1).display().to_string(),
            START | PREVIOUS_ROUND => START.to_owned(),
            path => path.to_owned(),
        };
        let rows = match self.opened.remove(&key) {
            Some(rows) => rows,
            None if key == START => Rows::new(self.start.clone(), &self.device, &self.data.tokens),
            None if name == PREVIOUS_ROUND => self.load_round(round - 1)?,
            None => self.load(&key)?,
        };
        Ok(self.opened.entry(key).or_insert(rows))
    }

    fn load(&self, model: &str) -> Result<Rows> {
        let encoder = Encoder::load(model, &self.device).or_usage()?;
        setup::warn_of_products(model, &encoder.settings, "");
        let tokens = TokenRows::prepare(&self.data.collection, &self.data.side, &encoder.tokenizer, &encoder.settings)?;
        Ok(Rows::new(encoder.network, &self.device, &Arc::new(tokens)))
    }

    /// What a round of this run ended with, which goes on as it was: a folder has one length for both sides, and says nothing of how it computes.
    fn load_round(&self, round: usize) -> Result<Rows> {
        let network = |folder: &Path| -> Result<Network> {
            let encoder = Encoder::load(&folder.display().to_string(), &self.device).or_usage()?;
            Ok(encoder.network.with_precision(self.start.precision()).or_usage()?)
        };
        let rows = Rows::new(network(&self.folder.round(round))?, &self.device, &self.data.tokens);
        let documents = self.folder.round_documents(round);
        Ok(if documents.is_dir() { rows.with_documents(network(&documents)?) } else { rows })
    }
}

/// Scores that came in a file.
pub(crate) struct Written<'a>(pub(crate) &'a TeacherScores);

impl PairScorer for Written<'_> {
    fn scores(&mut self, pairs: &[(u32, u32)]) -> Result<Vec<f32>, EncodeError> {
        Ok(pairs.iter().map(|&(query, document)| self.0.score(query, document).unwrap_or(f32::NAN)).collect())
    }
}

/// The encoders that a refresh may ask for.
pub(crate) struct Views<'a> {
    /// A snapshot of the one in training.
    pub(crate) current: Rows,
    pub(crate) models: &'a mut Models,
    pub(crate) round: usize,
    pub(crate) teacher: Option<&'a mut dyn PairScorer>,
}

impl Encoders for Views<'_> {
    fn current(&mut self) -> &mut dyn RowEncoder {
        &mut self.current
    }

    fn named(&mut self, model: &str) -> Result<&mut dyn RowEncoder, EncodeError> {
        match self.models.rows(model, self.round) {
            Ok(rows) => Ok(rows),
            Err(error) => Err(EncodeError::new(chain(&error))),
        }
    }

    fn teacher(&mut self) -> Option<&mut dyn PairScorer> {
        // Not `as_deref_mut`: the trait object's lifetime has to be shortened here.
        match &mut self.teacher {
            Some(teacher) => Some(&mut **teacher),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use corpus::Collection;

    use super::*;
    use crate::side_files::SideFiles;

    #[test]
    fn documents_that_were_frozen_in_a_round_are_read_by_their_own_encoder_afterwards() {
        let mut collection = Collection::default();
        ["one", "two"].iter().for_each(|text| _ = collection.documents.push(text, text).unwrap());
        collection.queries.push("which", "two").unwrap();
        let device = Device::flex();
        let texts = || collection.documents.texts().iter().chain(collection.queries.texts().iter());
        let [start, queries, documents] = [1, 2, 3].map(|seed| Encoder::tiny(texts(), seed, &device));
        let data = Arc::new(Data::cached(None, collection.clone(), SideFiles::default(), &start.tokenizer, &start.settings).unwrap());
        let numbers = |rows: &mut Rows| {
            let [queries, documents] = [rows.queries(&[0]), rows.documents(&[0, 1])];
            [queries, documents].map(|rows| rows.unwrap().try_into_vec_as::<f32>().unwrap())
        };
        let of = |encoder: &Encoder| numbers(&mut Rows::new(encoder.network.clone(), &device, &data.tokens));
        let folder = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(folder.path().join("run")).unwrap();
        let previous = || numbers(Models::new(start.network.clone(), &data, &device, &folder).rows(PREVIOUS_ROUND, 1).unwrap());
        queries.save(&folder.round(0)).unwrap();
        assert_eq!(previous(), of(&queries));
        documents.save(&folder.round_documents(0)).unwrap();
        let [of_queries, of_documents] = [of(&queries), of(&documents)];
        assert_eq!(previous(), [of_queries[0].clone(), of_documents[1].clone()]);
        assert_ne!(of_queries[1], of_documents[1]);
        // A round of frozen documents that goes on from there keeps them.
        let mut models = Models::new(start.network.clone(), &data, &device, &folder);
        let mut config = Config::default();
        config.train.restart = false;
        let kept = models.round_documents(&config, 1).unwrap();
        assert_eq!(numbers(&mut Rows::new(kept, &device, &data.tokens)), of_documents);
        assert_eq!(numbers(&mut Rows::new(models.round_start(&config, 1).unwrap(), &device, &data.tokens)), of_queries);
    }
}
