//! One round of a run: the parts that its configuration names, put together. A run without rounds is one stage.
//!
//! Everything that a technique can choose is in here; what all rounds share (device, data, folder, start weights) comes in from outside.

use std::sync::Arc;

use anyhow::{Context, Result};
use corpus::Judgments;
use mining::{EmbeddingStore, Miner, Topics};
use objective::{AdamW, AdamWConfig, Schedule, Warmup};

use crate::batches::{Assembler, Plan};
use crate::checkpoint::{Checkpoint, Parts};
use crate::config::{BatchConfig, Compose, Config, DocumentEncoder, TopicSide};
use crate::data::Data;
use crate::device::Chosen;
use crate::document_side::DocumentSide;
use crate::errors::OrUsage;
use crate::models::Models;
use crate::rounds::Course;
use crate::rows::Rows;
use crate::step::Learner;

/// What all rounds of a run share.
pub(crate) struct Surroundings {
    pub(crate) chosen: Chosen,
    pub(crate) data: Arc<Data>,
    /// The training split.
    pub(crate) judgments: Arc<Judgments>,
    pub(crate) course: Course,
}

/// The parts of one round.
pub(crate) struct Stage {
    /// The run's configuration with this round's changes.
    pub(crate) config: Config,
    pub(crate) plan: Arc<Plan>,
    pub(crate) miner: Arc<Miner>,
    pub(crate) learner: Learner,
    pub(crate) schedule: Schedule,
    topics: Option<Arc<Topics>>,
}

/// Passes of k-means over the queries.
const CLUSTERING_PASSES: usize = 20;
/// Queries of a topic, on the average: 400,000 queries in 2,000 clusters (Hofstätter et al. 2021).
const QUERIES_PER_TOPIC: usize = 200;
const FEWEST_TOPICS: usize = 8;
/// The file of a checkpoint that holds the topics.
const TOPICS: &str = "topics.json";

impl Stage {
    /// The parts of a round at its beginning, with the start weights.
    ///
    /// # Errors
    /// When a part cannot be made as configured.
    pub(crate) fn new(config: Config, around: &Surroundings, models: &mut Models) -> Result<Self> {
        let (train, data) = (&config.train, &around.data);
        let plan = Arc::new(Plan::new(&around.judgments, config.data.limit, &config.batch, train.seed));
        let mined = plan.judgments(&around.judgments, data.collection.queries.len());
        let miner = Miner::new(&config.negatives, &data.collection, &mined, train.seed)
            .context("preparing the negatives")?
            .expecting(config.batch.negatives);
        let documents = document_side(&config, models, around)?;
        let optimizer = AdamW::new(AdamWConfig { weight_decay: train.weight_decay, ..AdamWConfig::default() }).or_usage()?;
        let learner = Learner::new(&models.start(), optimizer, documents, &around.chosen.device, &config);
        let warmup = Warmup::try_from(train.warmup).or_usage()?;
        let schedule =
            Schedule::new(train.schedule, warmup, around.course.round_steps(), train.learning_rate.unwrap_or(2e-5)).or_usage()?;
        Ok(Self { config, plan, miner: Arc::new(miner), learner, schedule, topics: None })
    }

    /// Goes on where a checkpoint of this round was written.
    ///
    /// # Errors
    /// When the checkpoint belongs to something else.
    pub(crate) fn restore(&mut self, checkpoint: &mut Checkpoint) -> Result<()> {
        self.learner.restore(std::mem::take(&mut checkpoint.weights), std::mem::take(&mut checkpoint.optimizer))?;
        self.learner.documents.restore(&checkpoint.parts)?;
        let miner = Arc::get_mut(&mut self.miner).context("the miner is in use")?;
        miner.restore(&checkpoint.miner).context("restoring the negatives")?;
        self.topics = checkpoint.parts.get(TOPICS).map(|bytes| serde_json::from_slice(bytes)).transpose().context("restoring the topics")?;
        Ok(())
    }

    /// State of parts that not every run has, for a checkpoint.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn parts(&self) -> Result<Parts> {
        let mut parts = self.learner.documents.state()?;
        if let Some(topics) = &self.topics {
            parts.insert(TOPICS.to_owned(), serde_json::to_vec(topics.as_ref())?);
        }
        Ok(parts)
    }

    /// Whether queries have to be grouped before this step.
    pub(crate) fn regroups(&self, step: usize) -> bool {
        let BatchConfig { compose, topics, .. } = &self.config.batch;
        let epoch_begins = step.is_multiple_of(self.plan.steps_per_epoch());
        let again = |every: usize| every > 0 && epoch_begins && self.plan.epoch_of(step).is_multiple_of(every);
        match compose {
            Compose::Topics => self.topics.is_none() || again(topics.every_epochs),
            Compose::Groups => self.topics.is_none(),
            Compose::Random | Compose::NoDuplicates => false,
        }
    }

    /// Groups the training queries: by name, or by clusters of rows that the encoder of the moment gives. Returns the number of groups.
    ///
    /// # Errors
    /// When the encoder or the clustering fails.
    pub(crate) fn regroup(&mut self, step: usize, around: &Surroundings) -> Result<usize> {
        let settings = &self.config.batch.topics;
        let pairs = self.plan.queries();
        let queries: Vec<u32> = pairs.iter().map(|pair| pair.0).collect();
        let mut rows = Rows::new(self.learner.snapshot(), &around.chosen.device, &around.data.tokens);
        let rows = match settings.by {
            TopicSide::Queries => rows.queries_in_blocks(&queries)?,
            TopicSide::Positives => rows.documents_in_blocks(&pairs.iter().map(|pair| pair.1).collect::<Vec<_>>())?,
        };
        let clusters = match settings.clusters {
            0 => (queries.len() / QUERIES_PER_TOPIC).max(FEWEST_TOPICS),
            clusters => clusters,
        };
        let clusters = mining::cluster(&rows, clusters.min(queries.len()), CLUSTERING_PASSES, self.config.train.seed ^ step as u64)
            .context("clustering the queries")?;
        let topics = Topics::from_clusters(&queries, &clusters).context("grouping the queries")?;
        let count = topics.len();
        self.topics = Some(Arc::new(topics));
        Ok(count)
    }

    /// What batches are assembled from until something of it changes.
    pub(crate) fn assembler(&self, around: &Surroundings) -> Arc<Assembler> {
        Arc::new(Assembler {
            data: Arc::clone(&around.data),
            plan: Arc::clone(&self.plan),
            miner: Arc::clone(&self.miner),
            judgments: Arc::clone(&around.judgments),
            config: self.config.batch.clone(),
            in_batch: self.config.negatives.in_batch(),
            topics: self.topics.clone(),
        })
    }
}

/// Where document rows come from at the start of a round.
fn document_side(config: &Config, models: &mut Models, around: &Surroundings) -> Result<DocumentSide> {
    Ok(match config.encoder.documents {
        DocumentEncoder::Shared => DocumentSide::Shared,
        DocumentEncoder::Momentum => DocumentSide::Momentum { key: Box::new(models.start()), momentum: config.encoder.momentum },
        DocumentEncoder::Frozen => {
            let device = around.chosen.device.clone().without_autodiff();
            let mut rows = Rows::new(models.start(), &device, &around.data.tokens);
            DocumentSide::Frozen(EmbeddingStore::encode(&mut rows, around.data.documents(), &device).context("encoding the documents")?)
        }
    })
}
