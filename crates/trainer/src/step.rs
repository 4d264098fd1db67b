//! One training step: encode, scores, loss, backward, clip, update.

use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use encoder::{Network, TokenBatch};
use objective::gradient_cache::Stepped;
use objective::{AdamW, Embedded, LossConfig, LossState, Now, Side, clip_global_norm, gradient_cache};

use crate::batches::Batch;
use crate::checkpoint::Tensors;
use crate::config::Config;

/// The state that a step changes.
pub(crate) struct Learner {
    /// `None` only while a step holds it.
    network: Option<Network>,
    pub(crate) optimizer: AdamW,
    /// What the loss learns: the temperature, if anything.
    loss: LossState,
    pub(crate) device: Device,
    pub(crate) seed: u64,
    /// Steps of the run.
    steps: usize,
    pub(crate) clip: f64,
    pub(crate) gradient_caching: bool,
}

/// Prefix of the loss's tensors in a checkpoint; no parameter of a network starts with it.
const LOSS: &str = "loss.";

/// What a step leaves for the log, still on the device: reading it would wait for the device.
pub(crate) struct Outcome {
    pub(crate) loss: Tensor<1>,
    pub(crate) gradient_norm: Tensor<1>,
}

impl Learner {
    /// `network` is moved onto the autodiff form of `device`.
    pub(crate) fn new(network: &Network, optimizer: AdamW, device: &Device, config: &Config) -> Self {
        let device = device.clone().autodiff();
        Self {
            network: Some(network.on_device(&device)),
            optimizer,
            loss: config.loss.state(&device),
            device,
            seed: config.train.seed,
            steps: config.train.steps.unwrap_or_default(),
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

    /// What a checkpoint stores beside the weights: the optimiser's state, and that of the loss under [`LOSS`].
    pub(crate) fn state(&self) -> Tensors {
        let mut state = self.optimizer.state();
        state.extend(self.loss.state().into_iter().map(|(name, data)| (format!("{LOSS}{name}"), data)));
        state
    }

    /// Takes weights and [`state`](Self::state) from a checkpoint.
    pub(crate) fn restore(&mut self, weights: Tensors, state: Tensors) -> Result<()> {
        self.restore_weights(weights)?;
        let network = self.network.as_ref().expect("a step gives the network back");
        let (loss, optimizer): (Tensors, Tensors) = state.into_iter().partition(|(name, _)| name.starts_with(LOSS));
        self.optimizer.load_state(network, optimizer).context("restoring the optimiser")?;
        let loss = loss.into_iter().map(|(name, data)| (name[LOSS.len()..].to_owned(), data)).collect();
        self.loss.load_state(loss).context("restoring the state of the loss")
    }

    /// Takes weights alone.
    pub(crate) fn restore_weights(&mut self, weights: Tensors) -> Result<()> {
        let network = self.network.take().expect("a step gives the network back");
        self.network = Some(network.with_tensors(weights).context("restoring the weights")?.on_device(&self.device));
        Ok(())
    }

    /// The step. Gradients are those of the whole batch, however it is cut into chunks; dropout is seeded by (seed, step, chunk).
    pub(crate) fn step(&mut self, batch: &Batch, loss: &LossConfig, learning_rate: f64) -> Outcome {
        let network = self.network.take().expect("a step gives the network back");
        let chunks: Vec<&TokenBatch> = batch.query_chunks.iter().chain(&batch.document_chunks).collect();
        let seeds: Vec<u64> = match network.has_dropout() {
            true => (0..chunks.len() as u64).map(|chunk| mix(self.seed, batch.step as u64, chunk)).collect(),
            false => Vec::new(),
        };
        let queries = batch.query_chunks.len();
        let encode = |network: &Network, chunk: &&TokenBatch| network.encode(chunk, &self.device);
        let now = Now { step: batch.step, steps: self.steps, seed: self.seed };
        let scored = |mut rows: Vec<Tensor<2>>| {
            let documents = Tensor::cat(rows.split_off(queries), 0);
            let queries = Tensor::cat(rows, 0);
            let (targets, blocked) = (batch.targets.clone(), batch.blocked.clone());
            loss.evaluate(&Embedded { queries, documents, targets, blocked, side: Side::default() }, &now, &self.loss).value
        };
        let backward = if self.gradient_caching { gradient_cache::step } else { gradient_cache::whole_step };
        let Stepped { value, gradients, leaves } = backward(&network, &chunks, &seeds, &self.device, encode, scored, &self.loss.leaves());
        self.loss.update(leaves);
        let (gradients, gradient_norm) = clip_global_norm(&network, gradients, self.clip);
        self.network = Some(self.optimizer.step(learning_rate, network, gradients));
        Outcome { loss: value, gradient_norm }
    }
}

/// SplitMix64 over the three numbers: neighbouring steps and chunks get unrelated dropout seeds.
fn mix(seed: u64, step: u64, chunk: u64) -> u64 {
    let mut value =
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ step.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ chunk.wrapping_mul(0x94d0_49bb_1331_11eb);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
