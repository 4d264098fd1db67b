//! A training run from start, or from its last checkpoint, to the end.
//!
//! `Session::run` is the loop: begin a round or refresh negatives when due, train the steps until that is due again, evaluate and checkpoint on
//! the way. What a round consists of is in `stage`, the step itself in `step`, batches in `batches`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use corpus::Judgments;
use encoder::Encoder;
use mining::Moment;
use objective::Now;
use serde::Serialize;
use serde_json::json;

use crate::batchlog::BatchLog;
use crate::checkpoint::{Checkpoint, Position, Tensors};
use crate::config::{Config, Keep};
use crate::data::Data;
use crate::device::Chosen;
use crate::errors::{Interrupted, OrUsage, Usage};
use crate::evaluation::{self, DEPTH, Scored, Summary};
use crate::models::{Models, Views};
use crate::output;
use crate::rounds::Course;
use crate::rows::Rows;
use crate::runfolder::{RunFolder, write_whole};
use crate::runlog::RunLog;
use crate::setup;
use crate::stage::{Stage, Surroundings};
use crate::step::Outcome;

/// What a finished run reports; the JSON object of `train --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Finished {
    pub(crate) bm25: Summary,
    pub(crate) before: Summary,
    pub(crate) after: Summary,
    pub(crate) model: String,
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
    encoder: Encoder,
    around: Surroundings,
    models: Models,
    stage: Stage,
    evaluate_every: usize,
    checkpoint_every: usize,
    position: Position,
    best: Option<Tensors>,
    log: RunLog,
    batch_log: Option<BatchLog>,
    started: Instant,
    /// When the seconds of training and mining were last added up.
    busy_since: Instant,
}

impl Session {
    /// A new run. `recipe` names its folder when the configuration does not.
    pub(crate) fn start(mut config: Config, recipe: &str) -> Result<Self> {
        let (chosen, encoder, data) = setup::open(&config)?;
        let root = match &config.output.folder {
            Some(folder) => folder.into(),
            None => RunFolder::numbered(&format!("{}-{recipe}", data.collection.name)),
        };
        config.output.folder = Some(root.display().to_string());
        setup::resolve(&mut config, &encoder, &data)?;
        let folder = RunFolder::create(root)?;
        write_whole(&folder.config(), toml::to_string(&config).context("writing the resolved configuration")?.as_bytes())?;
        Self::assemble(config, folder, chosen, encoder, data, None)
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
        let checkpoint = Checkpoint::newest(&folder.checkpoints())?;
        output::note(&match &checkpoint {
            Some(checkpoint) => format!("resuming after step {}", checkpoint.position.step),
            None => "the run has no checkpoint yet: starting it anew".to_owned(),
        });
        let (chosen, encoder, data) = setup::open(&config)?;
        Self::assemble(config, folder, chosen, encoder, data, checkpoint)
    }

    fn assemble(
        config: Config,
        folder: RunFolder,
        chosen: Chosen,
        encoder: Encoder,
        data: Arc<Data>,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Self> {
        let (judgments, relabelled) = setup::training_judgments(&config, &data)?;
        let judgments = Arc::new(judgments);
        let around = Surroundings { chosen, data, judgments, course: Course::new(&config) };
        let mut models = Models::new(encoder.network.clone(), &around.data, &around.chosen.device, &folder);
        let position = checkpoint.as_ref().map_or_else(Position::default, |checkpoint| checkpoint.position.clone());
        let mut stage = Stage::new(config.of_round(position.round)?, position.round, &around, &mut models)?;
        let mut best = None;
        if let Some(mut checkpoint) = checkpoint {
            stage.restore(&mut checkpoint)?;
            best = checkpoint.best;
        }
        let mut log = RunLog::open(&folder.log(), &folder.tensorboard(), position.log_length)?;
        if let Some(relabelled) = relabelled.filter(|_| position.before.is_none()) {
            log.event("relabelled", 0, &relabelled)?;
        }
        let batch_log = match config.train.log_batches {
            true => Some(BatchLog::open(&folder.batches(), position.step)?),
            false => None,
        };
        Ok(Self {
            batch_log,
            evaluate_every: config.train.evaluate_every.unwrap_or(0),
            checkpoint_every: config.train.checkpoint_every.unwrap_or(0),
            config,
            folder,
            encoder,
            around,
            models,
            stage,
            position,
            best,
            log,
            started: Instant::now(),
            busy_since: Instant::now(),
        })
    }

    /// The run to its end. The progress goes to standard error.
    pub(crate) fn run(mut self) -> Result<Finished> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("starting tokio")?;
        let interrupted = listen_for_ctrl_c(&runtime);
        let test = self.test_split()?;
        self.measure_start(&test)?;
        let bar = output::progress(self.course().steps(), "steps");
        bar.set_position(self.position.step as u64);
        while !self.course().is_over(self.position.step, self.position.busy_seconds) {
            self.busy_since = Instant::now();
            self.begin_round_if_due()?;
            self.regroup_if_due()?;
            self.refresh_if_due(&bar)?;
            let until = self.next_boundary();
            let assembler = self.stage.assembler(&self.around);
            let (mut batches, task) = {
                let _inside = runtime.enter();
                assembler.spawn(self.position.step..until)
            };
            let mut pending: Option<Pending> = None;
            while let Some(batch) = batches.blocking_recv() {
                let begun = Instant::now();
                let rate = self.stage.schedule.rate(self.course().step_in_round(batch.step, self.busy_seconds()));
                let now = Now { step: batch.step, steps: self.course().steps(), seed: self.config.train.seed };
                let outcome = self.stage.learner.step(&batch, &self.stage.config.loss, &now, rate)?;
                self.position.step = batch.step + 1;
                let texts = batch.pairs.len() + batch.columns.len();
                // The loss of the step before: reading this one's would wait for the device.
                let drawn = batch.drawn_by_source(&self.stage.miner);
                if let Some(log) = &mut self.batch_log {
                    log.write(&batch, &self.stage, &self.around.data.collection)?;
                }
                let previous = pending.replace(Pending { step: batch.step, outcome, rate, texts, drawn, begun });
                self.log_step(previous, &bar)?;
                bar.set_position(self.position.step as u64);
                let step = self.position.step;
                let stop = interrupted.load(Ordering::Relaxed);
                let over = self.course().is_over(step, self.busy_seconds());
                let evaluate = due(self.evaluate_every, step) && !over;
                let checkpoint = stop || due(self.checkpoint_every, step);
                if evaluate || checkpoint || over || step == until {
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
                if over {
                    break;
                }
                self.busy_since = if evaluate || checkpoint { Instant::now() } else { self.busy_since };
            }
            drop(batches);
            runtime.block_on(task).context("the batch task failed")??;
        }
        bar.finish_and_clear();
        if let Some(log) = &mut self.batch_log {
            log.flush()?;
        }
        self.finish(&test)
    }

    /// Seconds of training and mining so far: what a budget counts. Evaluation, checkpoints and start-up are not in it.
    fn busy_seconds(&self) -> f64 {
        self.position.busy_seconds + self.busy_since.elapsed().as_secs_f64()
    }

    fn pause_clock(&mut self) {
        self.position.busy_seconds = self.busy_seconds();
        self.busy_since = Instant::now();
    }

    /// At the first step of a later round: keeps what the round before has learned, and starts over.
    fn begin_round_if_due(&mut self) -> Result<()> {
        let step = self.position.step;
        if !self.course().begins_round(step) {
            return Ok(());
        }
        let round = self.course().round_of(step);
        self.encoder.network = self.stage.learner.snapshot();
        self.encoder.save(&self.folder.round(round - 1)).context("writing the model of a round")?;
        let next = Stage::new(self.config.of_round(round)?, round, &self.around, &mut self.models)?;
        self.position.round = round;
        self.position.versions += self.stage.miner.version();
        // The best weights of a round belong to that round.
        (self.position.best, self.best) = (None, None);
        self.log.event("round", step, &json!({ "round": round + 1, "restart": next.config.train.restart }))?;
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
        let topics = self.stage.regroup(step, &self.around)?;
        let seconds = begun.elapsed().as_secs_f64();
        self.log.event("topics", step, &json!({ "topics": topics, "seconds": seconds }))?;
        output::note(&format!("topics at step {step}: {topics} groups of queries in {seconds:.1} s"));
        Ok(())
    }

    fn moment(&self, step: usize) -> Moment {
        Moment { step, epoch: self.stage.plan.epoch_of(step), round: self.course().round_of(step) }
    }

    fn course(&self) -> &Course {
        &self.around.course
    }

    fn test_split(&self) -> Result<Judgments> {
        let collection = &self.around.data.collection;
        let name = if collection.splits.contains_key(&self.config.data.test) { &self.config.data.test } else { &self.config.data.evaluate };
        Ok(collection.split(name).or_usage()?.clone())
    }

    /// BM25 and the untrained encoder on the test split, once.
    fn measure_start(&mut self, test: &Judgments) -> Result<()> {
        if self.position.before.is_some() {
            self.log.event("resume", self.position.step, &json!({ "device": self.around.chosen.name }))?;
            return Ok(());
        }
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"), "device": self.around.chosen.name, "collection": self.around.data.collection.name,
            "collection_fingerprint": self.around.data.collection.fingerprint(), "model": self.config.encoder.model,
            "model_fingerprint": self.encoder.fingerprint(), "pairs": self.stage.plan.pairs(), "steps": self.course().steps(),
            "documents": self.around.data.documents(),
        });
        self.log.event("start", 0, &about)?;
        output::note(&format!(
            "training on {} ({} pairs, {} documents) for {} steps on {}; run folder {}",
            self.around.data.collection.name,
            self.stage.plan.pairs(),
            self.around.data.documents(),
            self.course().steps(),
            self.around.chosen.name,
            self.folder.path().display()
        ));
        let bm25 = evaluation::of_bm25(&self.around.data.collection, test, DEPTH)?.summary;
        self.log.event("bm25", 0, &bm25)?;
        let before = self.evaluate(test)?.summary;
        self.log.event("before", 0, &before)?;
        output::note(&format!("before: nDCG@10 {:.4} (BM25 {:.4})", before.ndcg, bm25.ndcg));
        (self.position.bm25, self.position.before) = (Some(bm25), Some(before));
        Ok(())
    }

    fn evaluate(&self, judgments: &Judgments) -> Result<Scored> {
        let mut rows = Rows::new(self.stage.learner.snapshot(), &self.around.chosen.device, &self.around.data.tokens);
        match self.stage.learner.columns.documents.store() {
            Some(store) => evaluation::of_rows(&mut rows, store, &self.around.data, judgments, DEPTH),
            None => evaluation::of_encoder(&mut rows, &self.around.chosen.device, &self.around.data, judgments, DEPTH),
        }
    }

    fn refresh_if_due(&mut self, bar: &indicatif::ProgressBar) -> Result<()> {
        let step = self.position.step;
        let now = self.moment(step);
        if !self.stage.miner.due(now) {
            return Ok(());
        }
        bar.set_message("refreshing negatives");
        let current = Rows::new(self.stage.learner.snapshot(), &self.around.chosen.device, &self.around.data.tokens);
        let mut encoders = Views { current, models: &mut self.models, round: now.round };
        let miner = Arc::get_mut(&mut self.stage.miner).context("the miner is still in use by a batch task")?;
        let report = miner.refresh(now, &mut encoders).context("refreshing the negatives")?;
        bar.set_message("");
        let lists = miner.lists_jsonl(&self.around.data.collection)?;
        let version = self.position.versions + report.version;
        self.position.mining_seconds += report.seconds;
        self.log.event("refresh", step, &report)?;
        output::note(&report.line());
        write_whole(&self.folder.negatives(version), lists.as_bytes())
    }

    /// The next step before which something happens that changes batches: a refresh, a new round, or the end of the run.
    fn next_boundary(&self) -> usize {
        let step = self.position.step;
        // Looking ahead further than an epoch would take long where nothing ever comes.
        let end = self.course().round_end(step).min(step + self.stage.plan.steps_per_epoch());
        let changes = |next: usize| self.stage.miner.due(self.moment(next)) || self.stage.regroups(next);
        (step + 1..end).find(|&next| changes(next)).unwrap_or(end)
    }

    fn log_step(&mut self, pending: Option<Pending>, bar: &indicatif::ProgressBar) -> Result<()> {
        let Some(pending) = pending else { return Ok(()) };
        let Outcome { loss, gradient_norm, parts } = pending.outcome;
        if !pending.step.is_multiple_of(self.config.train.log_every) {
            return Ok(());
        }
        let (loss, gradient_norm) = (scalar(loss)?, scalar(gradient_norm)?);
        if !loss.is_finite() || !gradient_norm.is_finite() {
            bail!(
                "step {}: the loss is {loss} and the gradient norm {gradient_norm}; lower train.learning_rate or raise loss.temperature",
                pending.step
            );
        }
        let seconds = pending.begun.elapsed().as_secs_f64();
        bar.set_message(format!("loss {loss:.4}"));
        let mut fields = json!({
            "loss": loss, "gradient_norm": gradient_norm, "learning_rate": pending.rate, "seconds": seconds,
            "texts_per_second": pending.texts as f64 / seconds, "epoch": self.stage.plan.epoch_of(pending.step), "drawn": pending.drawn,
        });
        for (name, value) in parts {
            fields[name] = scalar(value)?.into();
        }
        self.log.event("step", pending.step, &fields)
    }

    /// Evaluates on the evaluation split and keeps the weights when they are the best so far.
    fn evaluate_on_dev(&mut self) -> Result<()> {
        let Some(judgments) = self.around.data.collection.splits.get(&self.config.data.evaluate).cloned() else { return Ok(()) };
        let begun = Instant::now();
        let summary = self.evaluate(&judgments)?.summary;
        let step = self.position.step;
        let mut fields = serde_json::to_value(summary)?;
        fields["seconds"] = begun.elapsed().as_secs_f64().into();
        self.log.event("evaluation", step, &fields)?;
        let better = self.position.best.is_none_or(|(best, _)| summary.ndcg > best);
        output::note(&format!(
            "step {step}: nDCG@10 {:.4} on {}{}",
            summary.ndcg,
            self.config.data.evaluate,
            if better { ", the best so far" } else { "" }
        ));
        if better && self.config.train.keep == Keep::Best {
            self.position.best = Some((summary.ndcg, step));
            self.best = Some(self.stage.learner.network().tensors());
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.log.event("checkpoint", self.position.step, &json!({}))?;
        let mut position = self.position.clone();
        if let Some(log) = &mut self.batch_log {
            log.flush()?;
        }
        position.log_length = self.log.sync()?;
        position.seconds += self.started.elapsed().as_secs_f64();
        let checkpoint = Checkpoint {
            position,
            weights: self.stage.learner.network().tensors(),
            optimizer: self.stage.learner.optimizer.state(),
            best: self.best.clone(),
            miner: self.stage.miner.state()?,
            parts: self.stage.parts()?,
        };
        checkpoint.write(&self.folder.checkpoints(), self.config.train.keep_checkpoints)?;
        Ok(())
    }

    /// Chooses the weights, writes the model, scores it on the test split and writes the report.
    fn finish(mut self, test: &Judgments) -> Result<Finished> {
        if self.config.train.keep == Keep::Best && self.evaluate_every > 0 {
            self.evaluate_on_dev()?;
            if let Some(best) = self.best.take() {
                self.stage.learner.restore_weights(best)?;
            }
        }
        self.encoder.network = self.stage.learner.snapshot();
        self.encoder.save(&self.folder.model()).context("writing the model folder")?;
        if self.stage.learner.columns.documents.store().is_some() {
            // The trained encoder reads queries only; its documents are those of the encoder that the round started from.
            let trained = std::mem::replace(&mut self.encoder.network, self.models.round_start(&self.stage.config, self.position.round)?);
            self.encoder.save(&self.folder.document_model()).context("writing the model folder of the documents")?;
            self.encoder.network = trained;
        }
        let scored = self.evaluate(test)?;
        let after = scored.summary;
        self.log.event("after", self.position.step, &after)?;
        scored.run.write_trec(self.folder.evaluation().join("run.trec"), "dredge").context("writing run.trec")?;
        let seconds = self.position.seconds + self.started.elapsed().as_secs_f64();
        let mining = self.position.mining_seconds;
        let training = self.position.busy_seconds - mining;
        self.log.event(
            "end",
            self.position.step,
            &json!({ "seconds": seconds, "training_seconds": training, "mining_seconds": mining }),
        )?;
        self.log.sync()?;
        crate::report::write(&self.folder)?;
        // Last: its presence says that the run is finished.
        let metrics =
            json!({ "after": after, "before": self.position.before, "bm25": self.position.bm25, "all": scored.evaluation.to_json() });
        write_whole(&self.folder.evaluation().join("metrics.json"), serde_json::to_string_pretty(&metrics)?.as_bytes())?;
        Ok(Finished {
            bm25: self.position.bm25.context("the baseline was measured at the start")?,
            before: self.position.before.context("the encoder was measured at the start")?,
            after,
            model: self.folder.model().display().to_string(),
            run: self.folder.path().display().to_string(),
            report: self.folder.report().display().to_string(),
            device: self.around.chosen.name,
            steps: self.position.step,
            seconds,
            data: self.config.data.path,
        })
    }
}

/// A step whose loss has not been read.
struct Pending {
    step: usize,
    outcome: Outcome,
    rate: f64,
    texts: usize,
    /// Negatives drawn, by source.
    drawn: BTreeMap<&'static str, usize>,
    begun: Instant,
}

fn scalar(tensor: burn::tensor::Tensor<1>) -> Result<f32> {
    tensor.try_into_scalar::<f32>().map_err(|error| anyhow::anyhow!("reading a number from the device: {error:?}"))
}

fn due(every: usize, step: usize) -> bool {
    every > 0 && step.is_multiple_of(every)
}

/// Sets the flag at the first Ctrl-C; the loop writes a checkpoint after the step under way. A second Ctrl-C ends the process at once.
fn listen_for_ctrl_c(runtime: &tokio::runtime::Runtime) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&flag);
    runtime.spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if seen.swap(true, Ordering::Relaxed) {
                std::process::exit(1);
            }
            output::note("interrupted: writing a checkpoint after this step (press Ctrl-C again to stop at once)");
        }
    });
    flag
}
