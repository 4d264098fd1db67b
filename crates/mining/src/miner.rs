//! The lists of a training run: refreshed when the schedule says so, drawn from at every visit.
//!
//! What a refresh does is `refresh`, what a visit draws is `visit`, what a checkpoint holds is `keeping`. All are functions of
//! configuration, seed, weights and their arguments alone. Training itself is the caller's.

mod keeping;
mod refresh;
mod visit;

use std::sync::Arc;

use corpus::{Collection, Judgments};

use crate::config::{FilterConfig, NegativesConfig};
use crate::draws::{self, Draw};
use crate::error::MiningError;
use crate::filters::Chain;
use crate::knowledge::Knowledge;
use crate::lists::Lists;
use crate::schedule::{Moment, Schedule};
use crate::sources::{self, Source};
use crate::store::{EmbeddingStore, StorePrecision};

/// Negatives for every training query.
pub struct Miner {
    config: NegativesConfig,
    seed: u64,
    knowledge: Arc<Knowledge>,
    truth: Option<Judgments>,
    /// Queries with a positive, ascending.
    training: Vec<u32>,
    supplies: Vec<Supply>,
    chain: Chain,
    draw: Box<dyn Draw>,
    version: u64,
    /// Negatives that a visit asks for, as far as the miner was told.
    wanted: usize,
    precision: StorePrecision,
    /// Kept between refreshes when there will be another one: its memory is used again.
    store: Option<EmbeddingStore>,
}

/// A source with its lists.
struct Supply {
    name: &'static str,
    /// `None` once its lists are final: an index is no longer needed then.
    source: Option<Box<dyn Source>>,
    share: f64,
    schedule: Option<Schedule>,
    last: Option<Moment>,
    lists: Lists,
}

impl Supply {
    fn due(&self, now: Moment) -> bool {
        self.schedule.is_some_and(|schedule| schedule.due(self.last, now))
    }

    /// Drops the source when no refresh will come.
    fn retire(&mut self) {
        if self.schedule == Some(Schedule::Once) && self.last.is_some() {
            self.source = None;
        }
    }
}

impl Miner {
    /// Prepares the parts that `config` names. Training queries are those of `judgments` with a positive. Nothing is mined yet.
    ///
    /// # Errors
    /// When the configuration makes no sense, a source cannot be opened, or judgments and collection do not belong together.
    pub fn new(config: &NegativesConfig, collection: &Collection, judgments: &Judgments, seed: u64) -> Result<Self, MiningError> {
        config.validate()?;
        let keep_nonrelevant = config.filter.iter().any(|filter| matches!(filter, FilterConfig::Judged { keep_nonrelevant: true }));
        let knowledge = Arc::new(Knowledge::new(collection, judgments, keep_nonrelevant)?);
        let training: Vec<u32> = judgments.queries().collect();
        let mut supplies = Vec::with_capacity(config.source.len());
        for (number, source) in (0..u8::MAX).zip(&config.source) {
            let built = sources::build(source, number, collection, &knowledge, &training)?;
            supplies.push(Supply {
                name: built.name(),
                source: Some(built),
                share: source.share(),
                schedule: source.refresh(),
                last: None,
                lists: Lists::default(),
            });
        }
        Ok(Self {
            chain: Chain::new(config, &knowledge),
            draw: draws::build(config.draw),
            config: config.clone(),
            seed,
            knowledge,
            truth: collection.truth.clone(),
            training,
            supplies,
            version: 0,
            wanted: 1,
            precision: StorePrecision::default(),
            store: None,
        })
    }

    /// Tells how many negatives a visit will ask for, so that reports can count short rows.
    #[must_use]
    pub fn expecting(self, negatives: usize) -> Self {
        Self { wanted: negatives.max(1), ..self }
    }

    /// Stores document rows in this precision.
    #[must_use]
    pub fn storing(self, precision: StorePrecision) -> Self {
        Self { precision, ..self }
    }

    /// Refreshes so far.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether any list is due after `step` steps, in epoch `epoch` (both from 0).
    pub fn due(&self, step: usize, epoch: usize) -> bool {
        self.supplies.iter().any(|supply| supply.due(Moment { step, epoch }))
    }
}
