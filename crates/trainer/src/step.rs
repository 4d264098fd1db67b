//! One training step: encode, scores, loss, backward, clip, update.

use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use encoder::{Network, TokenBatch};
use objective::{AdamW, Embedded, LossConfig, clip_global_norm, gradient_cache};

use crate::batches::Batch;
use crate::checkpoint::Tensors;
use crate::config::Config;
use crate::document_side::DocumentSide;

/// The state that a step changes.
pub(crate) struct Learner {
    /// `None` only while a step holds it.
    network: Option<Network>,
    pub(crate) optimizer: AdamW,
    /// Where the document rows of a step come from.
    pub(crate) documents: DocumentSide,
    device: Device,
    seed: u64,
    clip: f64,
    gradient_caching: bool,
}

/// What a step leaves for the log, still on the device: reading it would wait for the device.
pub(crate) struct Outcome {
    pub(crate) loss: Tensor<1>,
    pub(crate) gradient_norm: Tensor<1>,
}

impl Learner {
    /// `network` is moved onto the autodiff form of `device`.
    pub(crate) fn new(network: &Network, optimizer: AdamW, documents: DocumentSide, device: &Device, config: &Config) -> Self {
        let device = device.clone().autodiff();
        Self {
            network: Some(network.on_device(&device)),
            optimizer,
            documents,
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

    /// Takes weights and optimiser state from a checkpoint.
    pub(crate) fn restore(&mut self, weights: Tensors, optimizer: Tensors) -> Result<()> {
        self.restore_weights(weights)?;
        let network = self.network.as_ref().expect("a step gives the network back");
        self.optimizer.load_state(network, optimizer).context("restoring the optimiser")
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
    pub(crate) fn step(&mut self, batch: &Batch, loss: &LossConfig, learning_rate: f64) -> Result<Outcome> {
        let network = self.network.as_ref().expect("a step gives the network back");
        let fixed = self.documents.fixed_rows(batch, network, &self.device)?;
        let network = self.network.take().expect("a step gives the network back");
        let documents: &[TokenBatch] = if fixed.is_some() { &[] } else { &batch.document_chunks };
        let chunks: Vec<&TokenBatch> = batch.query_chunks.iter().chain(documents).collect();
        let seeds: Vec<u64> = match network.has_dropout() {
            true => (0..chunks.len() as u64).map(|chunk| mix(self.seed, batch.step as u64, chunk)).collect(),
            false => Vec::new(),
        };
        let encode = |network: &Network, chunk: &&TokenBatch| network.encode(chunk, &self.device);
        let scored = |mut rows: Vec<Tensor<2>>| {
            let encoded = rows.split_off(batch.query_chunks.len());
            let documents = fixed.unwrap_or_else(|| Tensor::cat(encoded, 0));
            let queries = Tensor::cat(rows, 0);
            loss.loss(&Embedded { queries, documents, targets: batch.targets.clone(), blocked: batch.blocked.clone() })
        };
        let backward = if self.gradient_caching { gradient_cache::step } else { gradient_cache::whole_step };
        let (value, gradients) = backward(&network, &chunks, &seeds, &self.device, encode, scored);
        let (gradients, gradient_norm) = clip_global_norm(&network, gradients, self.clip);
        self.network = Some(self.optimizer.step(learning_rate, network, gradients));
        Ok(Outcome { loss: value, gradient_norm })
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
