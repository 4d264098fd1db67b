//! Encoders by name, other than the one in training: `start`, `previous-round`, a model folder or a hub id.
//!
//! They mine (a stronger miner, a frozen start, the model of the round before) and guide (masks of false negatives). Each is opened when it is
//! first asked for and reads the collection through token rows of its own.

use std::collections::BTreeMap;
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

    /// Its name.
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
            None => self.load(&key, name == PREVIOUS_ROUND)?,
        };
        Ok(self.opened.entry(key).or_insert(rows))
    }

    /// `own`: a model of this run, which goes on as it was: a folder has one length for both sides, and says nothing of how it computes.
    fn load(&self, model: &str, own: bool) -> Result<Rows> {
        let encoder = Encoder::load(model, &self.device).or_usage()?;
        if own {
            let network = encoder.network.with_precision(self.start.precision()).or_usage()?;
            return Ok(Rows::new(network, &self.device, &self.data.tokens));
        }
        setup::warn_of_products(model, &encoder.settings, "");
        let tokens = TokenRows::prepare(&self.data.collection, &self.data.side, &encoder.tokenizer, &encoder.settings)?;
        Ok(Rows::new(encoder.network, &self.device, &Arc::new(tokens)))
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
