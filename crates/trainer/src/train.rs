//! A training run from start, or from its last checkpoint, to the end.
//!
//! `Session::run` is the loop: begin a round or refresh negatives when due, train the steps until that is due again, evaluate and checkpoint on
//! the way. What a round consists of is in `stage`, the step itself in `step`, batches in `batches`.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use encoder::Encoder;
use mining::{EmbeddingStore, Moment, PairScorer};
use objective::Now;
use serde::Serialize;
use serde_json::json;

mod milestones;
mod pace;

use crate::batchlog::BatchLog;
use crate::checkpoint::{Checkpoint, Position, Tensors};
use crate::config::{Config, Precision};
use crate::data::{self, Data};
use crate::device::Chosen;
use crate::errors::{Interrupted, Usage};
use crate::evaluation::Summary;
use crate::interrupt;
use crate::models::{Models, Views, Written};
use crate::output;
use crate::reading::Reading;
use crate::rounds::{Clock, Course};
use crate::runfolder::{RunFolder, write_whole};
use crate::runlog::RunLog;
use crate::setup;
use crate::stage::{Stage, Surroundings};
use crate::step::{Outcome, Rate};

/// What a finished run reports; the JSON object of `train --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Finished {
    pub(crate) bm25: Summary,
    pub(crate) before: Summary,
    pub(crate) after: Summary,
    pub(crate) model: String,
    /// The encoder of the documents, where it is not the trained one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) document_model: Option<String>,
    /// The split that all three were measured on.
    pub(crate) split: String,
    pub(crate) run: String,
    pub(crate) report: String,
    pub(crate) device: String,
    pub(crate) steps: usize,
    pub(crate) seconds: f64,
    pub(crate) data: String,
}

/// All parts of a run.
pub(crate) struct Session {
    /// As resolved, before any round's changes.
    config: Config,
    folder: RunFolder,
    /// Held while this process is at work in it.
    _lock: File,
    encoder: Encoder,
    around: Surroundings,
    models: Models,
    stage: Stage,
    evaluate_every: usize,
    checkpoint_every: usize,
    position: Position,
    best: Option<Tensors>,
    /// Of the weights as they are.
    fresh: Option<FreshRows>,
    log: RunLog,
    batch_log: Option<BatchLog>,
    started: Instant,
    /// When the seconds of training and mining were last added up.
    busy_since: Instant,
    /// Steps done by the last one in the log, and when it was done; or where steps began again behind something else.
    logged: (usize, Instant),
    /// Whether the device has done what it was given when it answers.
    eager: bool,
    /// The step of the round's last refresh, and the seconds that steps had taken by then.
    refreshed: Option<(usize, f64)>,
    /// Something was said about how often they come.
    paced: bool,
}

impl Session {
    /// A new run. `recipe` names its folder when the configuration does not.
    pub(crate) fn start(mut config: Config, recipe: &str) -> Result<Self> {
        let (chosen, encoder, data) = setup::open(&config, 0)?;
        setup::resolve(&mut config, &encoder, &data)?;
        let root = match &config.output.folder {
            Some(folder) => folder.into(),
            None => RunFolder::numbered(&format!("{}-{recipe}", data.collection.name))?,
        };
        config.output.folder = Some(root.display().to_string());
        let folder = RunFolder::create(root)?;
        let lock = folder.lock()?;
        write_whole(&folder.config(), toml::to_string(&config).context("writing the resolved configuration")?.as_bytes())?;
        let begun = Self::assemble(config, folder.clone(), lock, chosen, encoder, data, None);
        match &begun {
            Ok(session) => session.announce(recipe),
            Err(_) => folder.withdraw(),
        }
        begun
    }

    /// A run that was interrupted, from its newest whole checkpoint, or from the start when it has none.
    pub(crate) fn resume(folder: RunFolder, device: Option<&str>) -> Result<Self> {
        let path = folder.config();
        let mut config = crate::config::merge(&path.display().to_string(), &crate::config::read(&path)?, &[])?;
        if let Some(device) = device {
            config.train.device = device.to_owned();
        }
        if folder.evaluation().join("metrics.json").is_file() {
            return Err(
                Usage::new(format!("the run {} is finished; its model is {}", folder.path().display(), folder.model().display())).into()
            );
        }
        let lock = folder.lock()?;
        data::look_for(&folder, &config.data)?;
        let checkpoint = Checkpoint::newest(&folder.checkpoints())?;
        output::note(&match &checkpoint {
            Some(checkpoint) => format!("resuming after step {}", checkpoint.position.step),
            None => "the run has no checkpoint yet: starting it anew".to_owned(),
        });
        let done = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.position.round);
        let (chosen, encoder, data) = setup::open(&config, done)?;
        Self::assemble(config, folder, lock, chosen, encoder, data, checkpoint)
    }

    fn assemble(
        config: Config,
        folder: RunFolder,
        lock: File,
        chosen: Chosen,
        encoder: Encoder,
        data: Arc<Data>,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Self> {
        let (judgments, relabelled) = setup::training_judgments(&config, &data)?;
        let judgments = Arc::new(judgments);
        let around = Surroundings { chosen, data, judgments, course: Course::new(&config), clock: Clock::default() };
        let mut models = Models::new(encoder.network.clone(), &around.data, &around.chosen.device, &folder);
        let mut position = checkpoint.as_ref().map_or_else(Position::default, |checkpoint| checkpoint.position.clone());
        let begun = Instant::now();
        let mut stage = Stage::new(config.of_round(position.round)?, position.round, position.round_began, &around, &mut models)?;
        if checkpoint.is_none() {
            // As what later rounds prepare; a round that is taken up again had it counted.
            position.busy_seconds = begun.elapsed().as_secs_f64();
        }
        let mut best = None;
        if let Some(mut checkpoint) = checkpoint {
            stage.restore(&mut checkpoint)?;
            best = checkpoint.best;
        }
        let mut log = RunLog::open(&folder.log(), &folder.tensorboard(), position.log_length)?;
        if position.before.is_none() {
            if let Some(queries) = &around.data.side.queries {
                log.event("queries", 0, queries)?;
                output::note(&format!("written queries: {} of {} rows, {} positives", queries.queries, queries.rows, queries.positives));
            }
            if let Some(relabelled) = relabelled {
                log.event("relabelled", 0, &relabelled)?;
            }
            for (event, fields) in stage.events.drain(..) {
                log.event(event, 0, &fields)?;
            }
        }
        let batch_log = match config.train.log_batches {
            true => Some(BatchLog::open(&folder.batches(), position.step)?),
            false => None,
        };
        Ok(Self {
            batch_log,
            // The CPU.
            eager: kernels::describe(&around.chosen.device).is_none(),
            logged: (0, Instant::now()),
            evaluate_every: config.train.evaluate_every.unwrap_or(0),
            checkpoint_every: config.train.checkpoint_every.unwrap_or(0),
            config,
            folder,
            _lock: lock,
            encoder,
            around,
            models,
            stage,
            position,
            best,
            fresh: None,
            log,
            started: Instant::now(),
            busy_since: Instant::now(),
            refreshed: None,
            paced: false,
        })
    }

    /// The run to its end. The progress goes to standard error.
    pub(crate) fn run(mut self) -> Result<Finished> {
        let runtime = interrupt::runtime()?;
        let interrupted = interrupt::listen(&runtime, "writing a checkpoint after this step");
        let test = self.test_split()?;
        self.measure_start(&test)?;
        let bar = output::progress(self.course().steps(), "steps");
        bar.set_position(self.position.step as u64);
        while !self.course().is_over(self.position.step, self.position.busy_seconds) {
            self.busy_since = Instant::now();
            self.begin_round_if_due()?;
            self.regroup_if_due()?;
            self.refresh_if_due(&bar)?;
            self.around.clock.set(self.busy_seconds());
            let until = self.next_boundary();
            let assembler = self.stage.assembler(&self.around);
            let (mut batches, task) = {
                let _inside = runtime.enter();
                assembler.spawn(self.position.step..until)
            };
            let mut pending: Option<Pending> = None;
            self.logged = (self.position.step, Instant::now());
            while let Some(batch) = batches.blocking_recv() {
                let busy = self.busy_seconds();
                self.around.clock.set(busy);
                let at = self.course().step_in_round(self.position.round, batch.step, busy);
                let rate = self.stage.schedule.rate(at);
                let progress = self.course().progress_to_last(batch.step, busy);
                let now = Now { step: batch.step, progress, seed: self.config.train.seed };
                let loss = &self.stage.config.loss;
                self.fresh = None;
                let outcome = self.stage.learner.step(&batch, loss, &now, Rate { rate, at })?;
                let temperature = loss.temperature.is_scheduled().then(|| loss.temperature.at(&now));
                self.position.step = batch.step + 1;
                let texts = batch.pairs.len() + batch.columns.len();
                let drawn = batch.drawn_by_source(&self.stage.miner);
                if let Some(log) = &mut self.batch_log {
                    log.write(&batch, outcome.seen.as_ref(), &self.stage, &self.around.data.collection)?;
                }
                let step = self.position.step;
                let stop = interrupted.load(Ordering::Relaxed);
                let over = self.course().is_over(step, self.busy_seconds());
                let evaluate = due(self.evaluate_every, step) && !over;
                let checkpoint = stop || due(self.checkpoint_every, step);
                // Batches ahead hold negatives of lists that are to be replaced, or belong to the round before.
                let relisted = self.stage.miner.by_the_clock() && self.stage.miner.due(self.moment(step));
                let ends = over || step == until || relisted || self.next_round_is_due();
                // Weights that somebody reads are weights whose loss was looked at.
                let read = evaluate || checkpoint || ends;
                let logged = batch.step.is_multiple_of(self.config.train.log_every);
                let reading = (logged || read).then(|| outcome.ask());
                let done = self.eager.then(Instant::now);
                let now = Pending { step: batch.step, outcome, reading, logged, rate, temperature, texts, drawn, done };
                // The step before: waiting for this one's numbers would leave the device without work.
                let previous = pending.replace(now);
                self.log_step(previous, &bar)?;
                bar.set_position(step as u64);
                if read {
                    self.log_step(pending.take(), &bar)?;
                    self.pause_clock();
                }
                if evaluate {
                    self.evaluate_on_dev()?;
                }
                if checkpoint {
                    self.checkpoint()?;
                }
                if stop {
                    bar.abandon();
                    let run = self.folder.path().display().to_string();
                    return Err(Interrupted { step, steps: self.course().steps(), run }.into());
                }
                if ends {
                    break;
                }
                if evaluate || checkpoint {
                    self.busy_since = Instant::now();
                    self.logged = (step, self.busy_since);
                }
            }
            drop(batches);
            runtime.block_on(task).context("the batch task failed")??;
        }
        bar.finish_and_clear();
        let (round, rounds) = (self.position.round + 1, self.course().rounds());
        if let Some(budget) = self.config.train.seconds.filter(|_| round < rounds) {
            tracing::warn!(
                "train.seconds = {budget} was used up in round {round} of {rounds}, {:.1} s of it by mining: the rounds after it did not run; give more seconds",
                self.position.mining_seconds
            );
        }
        if let Some(log) = &mut self.batch_log {
            log.sync()?;
        }
        self.finish(&test)
    }

    /// Seconds of training and mining so far, with what rounds prepare (rerankers, labels, frozen rows): what a budget counts. Evaluation, checkpoints and start-up are not in it.
    fn busy_seconds(&self) -> f64 {
        self.position.busy_seconds + self.busy_since.elapsed().as_secs_f64()
    }

    fn pause_clock(&mut self) {
        self.position.busy_seconds = self.busy_seconds();
        self.busy_since = Instant::now();
    }

    /// Whether the round has had its steps, or its share of the seconds. Rounds come one after another, however long one of them took.
    fn next_round_is_due(&self) -> bool {
        self.course().round_of(self.position.step, self.busy_seconds()) > self.position.round
    }

    /// At the first step of a later round: keeps what the round before has learned, and starts over.
    fn begin_round_if_due(&mut self) -> Result<()> {
        if !self.next_round_is_due() {
            return Ok(());
        }
        self.fresh = None;
        let (step, round) = (self.position.step, self.position.round + 1);
        self.save_model(&self.folder.round(round - 1), &self.folder.round_documents(round - 1))?;
        self.stage.learner.columns.end_round(&self.folder, round - 1)?;
        let mut next = Stage::new(self.config.of_round(round)?, round, step, &self.around, &mut self.models)?;
        next.go_on_from(&self.stage);
        (self.position.round, self.position.round_began) = (round, step);
        self.position.versions += self.stage.miner.version();
        // The best weights of a round belong to that round.
        (self.position.best, self.best, self.refreshed) = (None, None, None);
        self.log.event("round", step, &json!({ "round": round + 1, "restart": next.config.train.restart }))?;
        for (event, fields) in next.events.drain(..) {
            self.log.event(event, step, &fields)?;
        }
        output::note(&format!("round {} begins at step {step}", round + 1));
        self.stage = next;
        Ok(())
    }

    fn regroup_if_due(&mut self) -> Result<()> {
        let step = self.position.step;
        if !self.stage.regroups(step) {
            return Ok(());
        }
        let begun = Instant::now();
        let topics = self.stage.regroup(step, &self.around, &mut self.models, self.position.round)?;
        let seconds = begun.elapsed().as_secs_f64();
        self.log.event("topics", step, &json!({ "topics": topics, "seconds": seconds }))?;
        output::note(&format!("topics at step {step}: {topics} groups of queries in {seconds:.1} s"));
        Ok(())
    }

    fn moment(&self, step: usize) -> Moment {
        let milliseconds = (self.busy_seconds() * 1e3) as u64;
        Moment { step, epoch: self.stage.plan.epoch_of(step), milliseconds }
    }

    fn course(&self) -> &Course {
        &self.around.course
    }

    fn refresh_if_due(&mut self, bar: &indicatif::ProgressBar) -> Result<()> {
        let step = self.position.step;
        let now = self.moment(step);
        if !self.stage.miner.due(now) {
            return Ok(());
        }
        let round = self.position.round;
        bar.set_message("refreshing negatives");
        let current = self.stage.rows(&self.around, &mut self.models, round)?;
        let mut written = self.around.data.side.teacher.as_ref().map(Written);
        let teacher: Option<&mut dyn PairScorer> = match &mut self.stage.learner.columns.teacher {
            Some(teacher) => Some(teacher),
            None => written.as_mut().map(|written| written as &mut dyn PairScorer),
        };
        let mut encoders = Views { current, models: &mut self.models, round, teacher };
        let miner = Arc::get_mut(&mut self.stage.miner).context("the miner is still in use by a batch task")?;
        let given = if miner.takes_rows(now) { self.fresh.take() } else { None };
        // A budget counts them as if the refresh had encoded them, whether or not somebody evaluated just before.
        let (lent, seconds) = (given.is_some(), given.as_ref().map_or(0.0, |given| given.seconds));
        given.into_iter().for_each(|given| miner.give(given.store));
        let mut report = miner.refresh(now, &mut encoders).context("refreshing the negatives")?;
        (report.seconds, report.encode_seconds) = (report.seconds + seconds, report.encode_seconds + seconds);
        self.position.busy_seconds += seconds;
        bar.set_message("");
        let lists = miner.lists_jsonl(&self.around.data.collection)?;
        let version = self.position.versions + report.version;
        self.position.mining_seconds += report.seconds;
        let in_steps = self.busy_seconds() - self.position.mining_seconds;
        let mut fields = serde_json::to_value(&report)?;
        fields["round"] = round.into();
        // Whether an evaluation at this step had encoded the documents.
        fields["lent_rows"] = lent.into();
        self.log.event("refresh", step, &fields)?;
        output::note(&report.line());
        // A rolling one took the seconds of a part.
        let last = self.refreshed.replace((step, in_steps)).filter(|_| !self.paced && !self.stage.config.negatives.is_rolling());
        if let Some(advice) = last.and_then(|(last, seconds)| pace::advice(report.seconds, step - last, in_steps - seconds)) {
            output::note(&advice);
            self.paced = true;
        }
        write_whole(&self.folder.negatives(version), lists.as_bytes())?;
        let begun = Instant::now();
        self.check_shortcut()?;
        // It looks and changes nothing, as evaluation does: no budget counts it.
        self.busy_since += begun.elapsed();
        Ok(())
    }

    /// The next step before which something happens that changes batches: a refresh, a new round, or the end of the run.
    fn next_boundary(&self) -> usize {
        let step = self.position.step;
        // Looking ahead further than an epoch would take long where nothing ever comes.
        let end = self.course().round_end(self.position.round).min(step + self.stage.plan.steps_per_epoch());
        let changes = |next: usize| self.stage.miner.due(self.moment(next)) || self.stage.regroups(next);
        (step + 1..end).find(|&next| changes(next)).unwrap_or(end)
    }

    fn log_step(&mut self, pending: Option<Pending>, bar: &indicatif::ProgressBar) -> Result<()> {
        let Some(pending) = pending else { return Ok(()) };
        let Some(reading) = pending.reading else { return Ok(()) };
        let Outcome { parts, compared, .. } = pending.outcome;
        let mut numbers = reading.finish()?.into_iter();
        let mut number = || numbers.next().context("the device gave fewer numbers than it was asked for");
        let (loss, gradient_norm) = (number()?, number()?);
        if !loss.is_finite() || !gradient_norm.is_finite() {
            let mixed = self.config.train.precision == Precision::Mixed;
            bail!(
                "step {}: the loss is {loss} and the gradient norm {gradient_norm}; lower train.learning_rate or raise loss.temperature{}",
                pending.step,
                if mixed { ", or compute with train.precision = \"f32\"" } else { "" }
            );
        }
        if !pending.logged {
            return Ok(());
        }
        // Of a step since the last one that is in the log, waiting for batches included.
        let (steps, since) = self.logged;
        self.logged = (pending.step + 1, pending.done.unwrap_or_else(Instant::now));
        let seconds = (self.logged.1 - since).as_secs_f64() / (self.logged.0 - steps) as f64;
        bar.set_message(format!("loss {loss:.4}"));
        let mut fields = json!({
            "loss": loss, "gradient_norm": gradient_norm, "learning_rate": pending.rate, "seconds": seconds,
            "texts_per_second": pending.texts as f64 / seconds, "epoch": self.stage.plan.epoch_of(pending.step), "drawn": pending.drawn,
        });
        if let Some(temperature) = pending.temperature {
            fields["temperature"] = temperature.into();
        }
        for (name, _) in parts {
            fields[name.as_ref()] = number()?.into();
        }
        if let Some(compared) = compared {
            if pending.step == 0 && compared.is_empty() && self.stage.config.negatives.queue().is_none() {
                tracing::warn!(
                    "no query of the first batch has a negative, so it teaches nothing: too few different pairs, or filters that leave none"
                );
            }
            fields["compared"] = compared.json(&numbers.collect::<Vec<_>>(), &self.stage.miner);
            // Masks have the last word on what is compared.
            fields["false_negative_rate"] = match fields.get("false_share") {
                Some(masked) => masked.clone(),
                None => compared.false_negative_rate().into(),
            };
        }
        self.log.event("step", pending.step, &fields)
    }
}

/// All documents as the encoder has them, encoded for an evaluation, for whatever else needs them before the next step.
struct FreshRows {
    store: EmbeddingStore,
    /// What encoding them took.
    seconds: f64,
}

/// A step that has not been logged.
struct Pending {
    step: usize,
    outcome: Outcome,
    /// Its numbers, where they are looked at.
    reading: Option<Reading>,
    logged: bool,
    rate: f64,
    /// Of the scores, where it is scheduled.
    temperature: Option<f64>,
    texts: usize,
    /// Negatives drawn, by source.
    drawn: BTreeMap<String, usize>,
    /// When it was done, where that is known before its numbers come.
    done: Option<Instant>,
}

fn due(every: usize, step: usize) -> bool {
    every > 0 && step.is_multiple_of(every)
}
