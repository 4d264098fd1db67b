//! One training step: encode, scores, loss, backward, clip, update.

use std::borrow::Cow;

use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use encoder::{Network, TokenBatch};
use objective::{AdamW, Clipping, LossConfig, LossState, Now, gradient_cache};

use crate::batches::Batch;
use crate::checkpoint::{Parts, Tensors, from_safetensors, to_safetensors};
use crate::columns::{Columns, Made};
use crate::compared::{Compared, Seen};
use crate::config::Config;
use crate::reading::Reading;

/// The file of a checkpoint that holds what the loss learns.
const LOSS_STATE: &str = "loss.safetensors";

/// The state that a step changes.
pub(crate) struct Learner {
    /// `None` only while a step holds it.
    network: Option<Network>,
    pub(crate) optimizer: AdamW,
    pub(crate) columns: Columns,
    pub(crate) loss_state: LossState,
    device: Device,
    seed: u64,
    clip: f64,
    gradient_caching: bool,
}

/// What a step leaves for the log, still on the device: reading it would wait for the device.
pub(crate) struct Outcome {
    pub(crate) loss: Tensor<1>,
    pub(crate) gradient_norm: Tensor<1>,
    /// What else the loss has to say, by name.
    pub(crate) parts: Vec<(Cow<'static, str>, Tensor<1>)>,
    /// What was compared, of some steps.
    pub(crate) compared: Option<Compared>,
    /// The columns, where batches are logged.
    pub(crate) seen: Option<Seen>,
}

/// The learning rate of a step.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) rate: f64,
    /// The step in the round that it is the rate of, by which a reranker that is trained in the step has its own.
    pub(crate) at: usize,
}

impl Outcome {
    /// Asks the device for the loss, the norm of the gradient, the parts and then the scores of what was compared, without waiting.
    pub(crate) fn ask(&self) -> Reading {
        let parts = self.parts.iter().map(|(_, value)| value);
        let scores = self.compared.iter().map(|compared| &compared.sample.scores);
        Reading::begin([&self.loss, &self.gradient_norm].into_iter().chain(parts).chain(scores).cloned())
    }
}

impl Learner {
    /// `network` is moved onto the autodiff form of `device`.
    pub(crate) fn new(network: &Network, optimizer: AdamW, columns: Columns, device: &Device, config: &Config) -> Self {
        let device = device.clone().autodiff();
        Self {
            network: Some(network.on_device(&device)),
            optimizer,
            columns,
            loss_state: config.loss.state(&device),
            device,
            seed: config.train.seed,
            clip: config.train.clip,
            gradient_caching: config.batch.chunk > 0,
        }
    }

    pub(crate) fn network(&self) -> &Network {
        self.network.as_ref().expect("a step gives the network back")
    }

    /// A snapshot without autodiff and dropout.
    pub(crate) fn snapshot(&self) -> Network {
        self.network().clone().valid()
    }

    /// Whether the network packs texts here.
    pub(crate) fn packs(&self) -> bool {
        self.network().packs(&self.device)
    }

    /// Takes weights and optimiser state from a checkpoint.
    pub(crate) fn restore(&mut self, weights: Tensors, optimizer: Tensors) -> Result<()> {
        self.restore_weights(weights)?;
        let network = self.network.as_ref().expect("a step gives the network back");
        self.optimizer.load_state(network, optimizer).context("restoring the optimiser")
    }

    /// State beside weights and optimiser, for a checkpoint.
    pub(crate) fn parts(&self) -> Result<Parts> {
        let mut parts = self.columns.state()?;
        let learned = self.loss_state.state();
        if !learned.is_empty() {
            parts.insert(LOSS_STATE.to_owned(), to_safetensors(&learned)?);
        }
        Ok(parts)
    }

    /// Goes back to such a state.
    pub(crate) fn restore_parts(&mut self, parts: &Parts) -> Result<()> {
        self.columns.restore(parts)?;
        match parts.get(LOSS_STATE) {
            Some(bytes) => self.loss_state.load_state(from_safetensors(bytes)?).context("restoring the loss"),
            None => Ok(()),
        }
    }

    /// Takes weights alone.
    pub(crate) fn restore_weights(&mut self, weights: Tensors) -> Result<()> {
        let network = self.network.take().expect("a step gives the network back");
        self.network = Some(network.with_tensors(weights).context("restoring the weights")?.on_device(&self.device));
        Ok(())
    }

    /// The step. Gradients are those of the whole batch, however it is cut into chunks; dropout is seeded by (seed, step, chunk).
    ///
    /// # Errors
    /// When rows that are not encoded here cannot be had.
    pub(crate) fn step(&mut self, batch: &Batch, loss: &LossConfig, now: &Now, rate: Rate) -> Result<Outcome> {
        let network = self.network.take().expect("a step gives the network back");
        self.columns.follow(&network)?;
        let chunks = &batch.encoded;
        let seeds: Vec<u64> = match network.has_dropout() {
            true => (0..chunks.len() as u64).map(|chunk| gradient_cache::chunk_seed(self.seed, batch.step as u64, chunk)).collect(),
            false => Vec::new(),
        };
        let encode = |network: &Network, chunk: &TokenBatch| network.encode(chunk, &self.device);
        let (mut parts, mut failure) = (Vec::new(), None);
        let (mut compared, mut seen) = (None, None);
        let scored = |rows: Vec<Tensor<2>>| {
            let rows = Tensor::cat(rows, 0);
            let (count, all) = (batch.pairs.len(), rows.dims()[0]);
            let queries = rows.clone().narrow(0, 0, count);
            let encoded = (all > count).then(|| rows.narrow(0, count, all - count));
            let made = self
                .columns
                .embed(batch, queries.clone(), encoded, rate.at)
                .and_then(|made| loss.check(&made.embedded).map(|()| made).context("the loss cannot be taken over this batch"));
            match made {
                Ok(Made { embedded, compared: counts, seen: columns, parts: trained }) => {
                    (compared, seen) = (counts, columns);
                    let evaluated = loss.evaluate(&embedded, now, &self.loss_state);
                    parts = evaluated.parts.into_iter().chain(trained).collect();
                    evaluated.value
                }
                Err(error) => {
                    failure = Some(error);
                    queries.sum()
                }
            }
        };
        let backward = if self.gradient_caching { gradient_cache::step } else { gradient_cache::whole_step };
        let learned = self.loss_state.leaves();
        let stepped = backward(&network, chunks, &seeds, &self.device, encode, scored, &learned);
        if let Some(error) = failure {
            return Err(error);
        }
        let clipping = Clipping::measure(&network, &stepped.gradients, self.clip);
        self.network = Some(self.optimizer.step_clipped(rate.rate, network, stepped.gradients, &clipping));
        self.loss_state.update(stepped.leaves);
        Ok(Outcome { loss: stepped.value, gradient_norm: clipping.norm, parts, compared, seen })
    }
}
