//! One round of a run: the parts that its configuration names, put together. A run without rounds is one stage.
//!
//! Everything that a technique can choose is in here; what all rounds share (device, data, folder, start weights) comes in from outside.

use std::sync::Arc;

use anyhow::{Context, Result};
use corpus::Judgments;
use mining::{AnswerTexts, DocumentTexts, EmbeddingStore, Miner, Queue, Retrieval, Topics};
use objective::{AdamW, AdamWConfig, Now, Schedule, Warmup};

use crate::batches::Assembler;
use crate::checkpoint::{Checkpoint, Parts};
use crate::columns::{Bank, Columns, DocumentSide, Teacher};
use crate::compared::Watch;
use crate::config::{BatchConfig, Compose, Config, DocumentEncoder, TopicSide};
use crate::data::Data;
use crate::device::Chosen;
use crate::errors::{OrUsage, Usage};
use crate::guide::Guide;
use crate::labels;
use crate::models::Models;
use crate::plan::Plan;
use crate::reranker::Reranker;
use crate::rounds::{Clock, Course};
use crate::rows::Rows;
use crate::step::Learner;

/// What all rounds of a run share.
pub(crate) struct Surroundings {
    pub(crate) chosen: Chosen,
    pub(crate) data: Arc<Data>,
    /// The training split.
    pub(crate) judgments: Arc<Judgments>,
    pub(crate) course: Course,
    pub(crate) clock: Clock,
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
    /// What was done to make it, for the log.
    pub(crate) events: Vec<(&'static str, serde_json::Value)>,
}

/// Passes of k-means over the queries.
const CLUSTERING_PASSES: usize = 20;
/// Queries of a topic, on the average: 400,000 queries in 2,000 clusters (Hofstätter et al. 2021).
const QUERIES_PER_TOPIC: usize = 200;
const FEWEST_TOPICS: usize = 8;
/// The file of a checkpoint that holds the topics.
const TOPICS: &str = "topics.json";

impl Stage {
    /// The parts of a round at its beginning, which is step `began` of the run, with the start weights.
    ///
    /// # Errors
    /// When a part cannot be made as configured.
    pub(crate) fn new(config: Config, round: usize, began: usize, around: &Surroundings, models: &mut Models) -> Result<Self> {
        let (train, data) = (&config.train, &around.data);
        let mut events = Vec::new();
        let mut judgments = match train.round_trip {
            Some(depth) => {
                let (consistent, counts) = labels::consistent(depth, around, models, round)?;
                events.push(serde_json::to_value(counts).map(|fields| ("round_trip", fields)));
                Arc::new(consistent)
            }
            None => Arc::clone(&around.judgments),
        };
        let mut limit = config.data.limit;
        let mut reranker = None;
        if config.asks_reranker() {
            let plan = Plan::new(&judgments, limit, &config.batch, train.seed);
            let labelled = plan.judgments(&judgments, data.collection.queries.len());
            let (made, trained) = Reranker::new(&config, &labelled, around, models, round)?;
            events.extend(trained.map(|trained| serde_json::to_value(trained).map(|fields| ("reranker", fields))));
            reranker = Some(made);
        }
        if let Some((augment, teacher)) = train.augment.zip(reranker.as_mut()) {
            let (augmented, counts) = labels::augmented(&config, augment, &judgments, around, models, round, teacher)?;
            events.push(serde_json::to_value(counts).map(|fields| ("augmented", fields)));
            (judgments, limit) = (Arc::new(augmented), 0);
        }
        // Where scores are given, it was asked for labels alone.
        let reranker = reranker.filter(|_| config.is_taught_by_reranker());
        let plan = Arc::new(Plan::new(&judgments, limit, &config.batch, train.seed));
        let mined = plan.judgments(&judgments, data.collection.queries.len());
        let miner = miner(&config, &mined, &around.judgments, data)?;
        let columns = columns(&config, &miner, reranker, around, models, (round, began))?;
        let optimizer = AdamW::new(AdamWConfig { weight_decay: train.weight_decay, ..AdamWConfig::default() }).or_usage()?;
        let learner = Learner::new(&models.round_start(&config, round)?, optimizer, columns, &around.chosen.device, &config);
        let schedule = schedule(&config, &around.course, round)?;
        let events = events.into_iter().collect::<Result<_, _>>()?;
        Ok(Self { config, plan, miner: Arc::new(miner), learner, schedule, topics: None, events })
    }

    /// Takes over what the loss of the round `before` has learned, where this one goes on with its weights: they were trained under that temperature.
    /// A round that starts again, or names another temperature, begins with its own.
    pub(crate) fn go_on_from(&mut self, before: &Self) {
        if !self.config.train.restart && self.config.loss.temperature == before.config.loss.temperature {
            self.learner.loss_state.begin_with(&before.learner.loss_state);
        }
    }

    /// Goes on where a checkpoint of this round was written.
    ///
    /// # Errors
    /// When the checkpoint belongs to something else.
    pub(crate) fn restore(&mut self, checkpoint: &mut Checkpoint) -> Result<()> {
        self.learner.restore(std::mem::take(&mut checkpoint.weights), std::mem::take(&mut checkpoint.optimizer))?;
        self.learner.restore_parts(&checkpoint.parts)?;
        let miner = Arc::get_mut(&mut self.miner).context("the miner is in use")?;
        miner.restore(&checkpoint.miner).context("restoring the negatives")?;
        self.topics =
            checkpoint.parts.get(TOPICS).map(|bytes| serde_json::from_slice(bytes)).transpose().context("restoring the topics")?;
        Ok(())
    }

    /// State of parts that not every run has, for a checkpoint.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn parts(&self) -> Result<Parts> {
        let mut parts = self.learner.parts()?;
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
    pub(crate) fn regroup(&mut self, step: usize, around: &Surroundings, models: &mut Models, round: usize) -> Result<usize> {
        let settings = &self.config.batch.topics;
        let pairs = self.plan.queries();
        let queries: Vec<u32> = pairs.iter().map(|pair| pair.0).collect();
        if self.config.batch.compose == Compose::Groups {
            let groups = around.data.side.groups.as_ref().context("batch.compose = \"groups\" without data.groups")?;
            let named = queries.iter().map(|&query| groups.of(query).map(|group| (query, group)));
            let missing = || groups.first_without(queries.iter().copied()).map_or("", |query| around.data.collection.queries.id(query));
            let named: Vec<(u32, u32)> = named
                .collect::<Option<_>>()
                .ok_or_else(|| Usage::new(format!("data.groups has no group for the training query {}", missing())))?;
            let topics = Topics::from_groups(&named).context("grouping the queries")?;
            let count = topics.len();
            self.topics = Some(Arc::new(topics));
            return Ok(count);
        }
        let mut rows = self.rows(around, models, round)?;
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

    /// The encoder in training as it is now; documents that stay as they are have their own.
    ///
    /// # Errors
    /// When that cannot be read.
    pub(crate) fn rows(&self, around: &Surroundings, models: &mut Models, round: usize) -> Result<Rows> {
        let rows = Rows::new(self.learner.snapshot(), &around.chosen.device, &around.data.tokens);
        match self.learner.columns.documents.store() {
            Some(_) => Ok(rows.with_documents(models.round_documents(&self.config, round)?)),
            None => Ok(rows),
        }
    }

    /// The topic of a query, where batches are composed by topics.
    pub(crate) fn topic(&self, query: u32) -> Option<u32> {
        self.topics.as_ref().and_then(|topics| topics.topic(query))
    }

    /// What batches are assembled from until something of it changes.
    pub(crate) fn assembler(&self, around: &Surroundings) -> Arc<Assembler> {
        Arc::new(Assembler {
            data: Arc::clone(&around.data),
            plan: Arc::clone(&self.plan),
            miner: Arc::clone(&self.miner),
            config: self.config.batch.clone(),
            together: self.learner.columns.are_encoded(),
            packed: self.learner.packs(),
            in_batch: self.config.negatives.in_batch(),
            course: around.course.clone(),
            clock: around.clock.clone(),
            topics: self.topics.clone(),
        })
    }
}

/// The learning rate over a round.
///
/// # Errors
/// When the warm-up is longer than the round.
pub(crate) fn schedule(config: &Config, course: &Course, round: usize) -> Result<Schedule, Usage> {
    let train = &config.train;
    let warmup = Warmup::try_from(train.warmup).or_usage()?;
    let rate = train.learning_rate.unwrap_or(2e-5) * train.rate_factor;
    Schedule::new(train.schedule, warmup, course.round_steps(round), rate).or_usage()
}

/// The miner with whatever its parts ask for. It mines for the queries of `mined`; `all` is what is judged for any query of the training split.
fn miner(config: &Config, mined: &Judgments, all: &Judgments, data: &Arc<Data>) -> Result<Miner> {
    let start = Now { step: 0, progress: 0.0, seed: config.train.seed };
    let negatives = config.negatives.tempered(config.loss.temperature.at(&start));
    let mut miner = Miner::among(&negatives, &data.collection, [mined, all], config.train.seed)
        .or_usage()?
        .expecting(config.batch.negatives)
        .storing(config.train.precision.rows());
    if config.is_taught_by_reranker() {
        miner = miner.taught_with_probabilities();
    }
    if let Some(answers) = &data.side.answers {
        miner = miner.answering(AnswerTexts::new(answers.clone(), Arc::clone(data) as Arc<dyn DocumentTexts>));
    }
    if let Some(split) = config.negatives.draw.judged_split() {
        miner = miner.judging(data.collection.split(split).or_usage()?.clone());
    }
    if let Some(generated) = &data.side.generated {
        miner = miner.generated(&data.collection, &generated.texts, generated.lists.clone()).context("reading the generated texts")?;
    }
    Ok(miner)
}

/// What makes the columns of this round's steps; the round begins at step `began` of the run.
fn columns(
    config: &Config,
    miner: &Miner,
    reranker: Option<Reranker>,
    around: &Surroundings,
    models: &mut Models,
    (round, began): (usize, usize),
) -> Result<Columns> {
    let device = around.chosen.device.clone().without_autodiff();
    let knowledge = Arc::clone(miner.knowledge());
    let frozen = |models: &mut Models| {
        let rows = models.rows(Models::round_start_name(config), round)?;
        EmbeddingStore::encode(rows, around.data.documents(), &device).context("encoding the documents")
    };
    let documents = match config.encoder.documents {
        DocumentEncoder::Shared => DocumentSide::Shared,
        DocumentEncoder::Momentum => {
            DocumentSide::Momentum { key: Box::new(models.round_start(config, round)?), momentum: config.encoder.momentum }
        }
        DocumentEncoder::Frozen => match config.negatives.per_step() {
            Some(depth) => DocumentSide::Retrieved(Retrieval::new(frozen(models)?, Arc::clone(&knowledge), depth)?),
            None => DocumentSide::Frozen(frozen(models)?),
        },
    };
    let bank = match config.negatives.queue() {
        Some((size, start_after)) => {
            let queue = Queue::new(size, models.start().dimension(), &device)?;
            Some(Bank { queue, serves_from: began.saturating_add(start_after) })
        }
        None => None,
    };
    let needs = config.loss.needs();
    let mut other = |wanted: bool, model: &Option<String>, what: &str| -> Result<Option<Guide>> {
        let Some(model) = model.as_ref().filter(|_| wanted) else { return Ok(None) };
        let folder = models.folder().guides();
        let rows = models.rows(model, round)?;
        Guide::new(rows, &around.data, &device, &folder).with_context(|| format!("the {what} {model}")).map(Some)
    };
    let guide = other(needs.guide, &config.guide.model, "guide")?;
    let asked = needs.teacher || config.negatives.reads_teacher();
    let teacher = match reranker {
        Some(reranker) => Some(Teacher::Reranker(Box::new(reranker))),
        None => other(asked && around.data.side.teacher.is_none(), &config.teacher.model, "teacher")?
            .map(|guide| Teacher::Encoder(Box::new(guide))),
    };
    let in_batch_teacher = other(config.loss.in_batch(), &config.teacher.in_batch, "in-batch teacher")?;
    Ok(Columns {
        documents,
        bank,
        guide,
        teacher,
        distils: needs.teacher,
        in_batch_teacher,
        knowledge,
        watch: Watch::new(&around.data, config),
    })
}
