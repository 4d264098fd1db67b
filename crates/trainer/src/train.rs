//! A training run from start, or from its last checkpoint, to the end.
//!
//! `Session::start` and `Session::resume` put the parts together; `Session::run` is the loop: refresh negatives when due, train the
//! steps until the next refresh, evaluate and checkpoint on the way. The step itself is in `step`, batches in `batches`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use corpus::Judgments;
use encoder::Encoder;
use mining::{Miner, Moment, Only};
use objective::{AdamW, AdamWConfig, Schedule, Warmup};
use serde::Serialize;
use serde_json::json;

use crate::batches::{Assembler, Plan};
use crate::checkpoint::{Checkpoint, Position, Tensors};
use crate::config::{Config, Keep};
use crate::data::Data;
use crate::device::Chosen;
use crate::errors::{Interrupted, OrUsage, Usage};
use crate::evaluation::{self, DEPTH, Scored, Summary};
use crate::output;
use crate::rows::Rows;
use crate::runfolder::{RunFolder, write_whole};
use crate::runlog::RunLog;
use crate::setup;
use crate::step::{Learner, Outcome};

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
    config: Config,
    folder: RunFolder,
    chosen: Chosen,
    encoder: Encoder,
    data: Arc<Data>,
    judgments: Arc<Judgments>,
    plan: Arc<Plan>,
    miner: Arc<Miner>,
    learner: Learner,
    schedule: Schedule,
    steps: usize,
    evaluate_every: usize,
    checkpoint_every: usize,
    position: Position,
    best: Option<Tensors>,
    log: RunLog,
    started: Instant,
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
        let train = &config.train;
        let judgments = Arc::new(data.collection.split(&config.data.train).or_usage()?.clone());
        let plan = Arc::new(Plan::new(&judgments, config.data.limit, &config.batch, train.seed));
        let mined = plan.judgments(&judgments, data.collection.queries.len());
        let mut miner = Miner::new(&config.negatives, &data.collection, &mined, train.seed)
            .context("preparing the negatives")?
            .expecting(config.batch.negatives);
        let steps = train.steps.unwrap_or(1);
        let optimizer = AdamW::new(AdamWConfig { weight_decay: train.weight_decay, ..AdamWConfig::default() }).or_usage()?;
        let mut learner = Learner::new(&encoder.network, optimizer, &chosen.device, &config);
        let (mut position, mut best) = (Position::default(), None);
        if let Some(checkpoint) = checkpoint {
            learner.restore(checkpoint.weights, checkpoint.optimizer)?;
            miner.restore(&checkpoint.miner).context("restoring the negatives")?;
            (position, best) = (checkpoint.position, checkpoint.best);
        }
        let log = RunLog::open(&folder.log(), &folder.tensorboard(), position.log_length)?;
        let schedule =
            Schedule::new(train.schedule, Warmup::try_from(train.warmup).or_usage()?, steps, train.learning_rate.unwrap_or(2e-5))
                .or_usage()?;
        Ok(Self {
            evaluate_every: train.evaluate_every.unwrap_or(0),
            checkpoint_every: train.checkpoint_every.unwrap_or(0),
            miner: Arc::new(miner),
            config,
            folder,
            chosen,
            encoder,
            data,
            judgments,
            plan,
            learner,
            schedule,
            steps,
            position,
            best,
            log,
            started: Instant::now(),
        })
    }

    /// The run to its end. The progress goes to standard error.
    pub(crate) fn run(mut self) -> Result<Finished> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("starting tokio")?;
        let interrupted = listen_for_ctrl_c(&runtime);
        let test = self.test_split()?;
        self.measure_start(&test)?;
        let bar = output::progress(self.steps, "steps");
        bar.set_position(self.position.step as u64);
        while self.position.step < self.steps {
            self.refresh_if_due(&bar)?;
            let until = self.next_refresh();
            let assembler = Arc::new(Assembler {
                data: Arc::clone(&self.data),
                plan: Arc::clone(&self.plan),
                miner: Arc::clone(&self.miner),
                judgments: Arc::clone(&self.judgments),
                config: self.config.batch.clone(),
                in_batch: self.config.negatives.in_batch(),
            });
            let (mut batches, task) = {
                let _inside = runtime.enter();
                assembler.spawn(self.position.step..until)
            };
            let mut pending: Option<Pending> = None;
            while let Some(batch) = batches.blocking_recv() {
                let begun = Instant::now();
                let rate = self.schedule.rate(batch.step);
                let outcome = self.learner.step(&batch, &self.config.loss, rate);
                self.position.step = batch.step + 1;
                let texts = batch.pairs.len() + batch.columns.len();
                // The loss of the step before: reading this one's would wait for the device.
                let previous = pending.replace(Pending { step: batch.step, outcome, rate, texts, begun });
                self.log_step(previous, &bar)?;
                bar.set_position(self.position.step as u64);
                let step = self.position.step;
                let stop = interrupted.load(Ordering::Relaxed);
                let evaluate = due(self.evaluate_every, step) && step < self.steps;
                let checkpoint = stop || due(self.checkpoint_every, step);
                if evaluate || checkpoint || step == until {
                    self.log_step(pending.take(), &bar)?;
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
                    return Err(Interrupted { step, steps: self.steps, run }.into());
                }
            }
            runtime.block_on(task).context("the batch task failed")?;
        }
        bar.finish_and_clear();
        self.finish(&test)
    }

    fn test_split(&self) -> Result<Judgments> {
        let collection = &self.data.collection;
        let name = if collection.splits.contains_key(&self.config.data.test) { &self.config.data.test } else { &self.config.data.evaluate };
        Ok(collection.split(name).or_usage()?.clone())
    }

    /// BM25 and the untrained encoder on the test split, once.
    fn measure_start(&mut self, test: &Judgments) -> Result<()> {
        if self.position.before.is_some() {
            self.log.event("resume", self.position.step, &json!({ "device": self.chosen.name }))?;
            return Ok(());
        }
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"), "device": self.chosen.name, "collection": self.data.collection.name,
            "collection_fingerprint": self.data.collection.fingerprint(), "model": self.config.encoder.model,
            "model_fingerprint": self.encoder.fingerprint(), "pairs": self.plan.pairs(), "steps": self.steps,
            "documents": self.data.documents.len(),
        });
        self.log.event("start", 0, &about)?;
        output::note(&format!(
            "training on {} ({} pairs, {} documents) for {} steps on {}; run folder {}",
            self.data.collection.name,
            self.plan.pairs(),
            self.data.documents.len(),
            self.steps,
            self.chosen.name,
            self.folder.path().display()
        ));
        let bm25 = evaluation::of_bm25(&self.data.collection, test, DEPTH)?.summary;
        self.log.event("bm25", 0, &bm25)?;
        let before = self.evaluate(test)?.summary;
        self.log.event("before", 0, &before)?;
        output::note(&format!("before: nDCG@10 {:.4} (BM25 {:.4})", before.ndcg, bm25.ndcg));
        (self.position.bm25, self.position.before) = (Some(bm25), Some(before));
        Ok(())
    }

    fn evaluate(&self, judgments: &Judgments) -> Result<Scored> {
        evaluation::of_network(self.learner.snapshot(), &self.chosen.device, &self.data, judgments, DEPTH)
    }

    fn refresh_if_due(&mut self, bar: &indicatif::ProgressBar) -> Result<()> {
        let step = self.position.step;
        if !self.miner.due(Moment::new(step, self.plan.epoch_of(step))) {
            return Ok(());
        }
        bar.set_message("refreshing negatives");
        let mut rows = Rows::new(self.learner.snapshot(), &self.chosen.device, &self.data);
        let miner = Arc::get_mut(&mut self.miner).context("the miner is still in use by a batch task")?;
        let report =
            miner.refresh(Moment::new(step, self.plan.epoch_of(step)), &mut Only(&mut rows)).context("refreshing the negatives")?;
        bar.set_message("");
        self.log.event("refresh", step, &report)?;
        output::note(&report.line());
        write_whole(&self.folder.negatives(report.version), miner.lists_jsonl(&self.data.collection)?.as_bytes())
    }

    /// The next step at which negatives are due, or the end of the run.
    fn next_refresh(&self) -> usize {
        let step = self.position.step;
        (step + 1..self.steps).find(|&next| self.miner.due(Moment::new(next, self.plan.epoch_of(next)))).unwrap_or(self.steps)
    }

    fn log_step(&mut self, pending: Option<Pending>, bar: &indicatif::ProgressBar) -> Result<()> {
        let Some(pending) = pending else { return Ok(()) };
        let Outcome { loss, gradient_norm } = pending.outcome;
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
        let fields = json!({
            "loss": loss, "gradient_norm": gradient_norm, "learning_rate": pending.rate, "seconds": seconds,
            "texts_per_second": pending.texts as f64 / seconds, "epoch": self.plan.epoch_of(pending.step),
        });
        self.log.event("step", pending.step, &fields)
    }

    /// Evaluates on the evaluation split and keeps the weights when they are the best so far.
    fn evaluate_on_dev(&mut self) -> Result<()> {
        let Some(judgments) = self.data.collection.splits.get(&self.config.data.evaluate).cloned() else { return Ok(()) };
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
            self.best = Some(self.learner.network().tensors());
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.log.event("checkpoint", self.position.step, &json!({}))?;
        let mut position = self.position.clone();
        position.log_length = self.log.sync()?;
        position.seconds += self.started.elapsed().as_secs_f64();
        let checkpoint = Checkpoint {
            position,
            weights: self.learner.network().tensors(),
            optimizer: self.learner.optimizer.state(),
            best: self.best.clone(),
            miner: self.miner.state()?,
        };
        checkpoint.write(&self.folder.checkpoints(), self.config.train.keep_checkpoints)?;
        Ok(())
    }

    /// Chooses the weights, writes the model, scores it on the test split and writes the report.
    fn finish(mut self, test: &Judgments) -> Result<Finished> {
        if self.config.train.keep == Keep::Best && self.evaluate_every > 0 {
            self.evaluate_on_dev()?;
            if let Some(best) = self.best.take() {
                self.learner.restore_weights(best)?;
            }
        }
        self.encoder.network = self.learner.snapshot();
        self.encoder.save(&self.folder.model()).context("writing the model folder")?;
        let scored = self.evaluate(test)?;
        let after = scored.summary;
        self.log.event("after", self.steps, &after)?;
        scored.run.write_trec(self.folder.evaluation().join("run.trec"), "dredge").context("writing run.trec")?;
        let seconds = self.position.seconds + self.started.elapsed().as_secs_f64();
        self.log.event("end", self.steps, &json!({ "seconds": seconds }))?;
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
            device: self.chosen.name,
            steps: self.steps,
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
