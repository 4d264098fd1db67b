//! Where the document rows of a training step come from: the trained encoder, a frozen matrix, or a moving average of the encoder.
//!
//! With the trained encoder, documents are encoded inside the step and gradients reach them. The other two give fixed rows that no gradient
//! reaches: the query side learns alone.

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use encoder::Network;
use mining::EmbeddingStore;

use crate::batches::Batch;
use crate::checkpoint::{Parts, from_safetensors, to_safetensors};

/// The file of a checkpoint that holds the moving average.
const KEY_ENCODER: &str = "key-encoder.safetensors";

pub(crate) enum DocumentSide {
    /// Encoded in the step, with gradient.
    Shared,
    /// Rows of the start encoder, computed once (ADORE, Zhan et al. 2021, arXiv 2104.08051).
    Frozen(EmbeddingStore),
    /// Encoded by θ_k ← m·θ_k + (1−m)·θ_q, updated before each step (MoCo, He et al. 2020, arXiv 1911.05722).
    Momentum {
        /// The encoder of documents, without autodiff.
        key: Box<Network>,
        /// m.
        momentum: f64,
    },
}

impl DocumentSide {
    /// Rows of the batch's columns, `[columns, dimension]`, on the autodiff `device` but without gradient; `None` when the step encodes them
    /// itself. `trained` is the network that learns.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub(crate) fn fixed_rows(&mut self, batch: &Batch, trained: &Network, device: &Device) -> Result<Option<Tensor<2>>> {
        let rows = match self {
            Self::Shared => return Ok(None),
            Self::Frozen(store) => store.rows(&batch.columns).context("reading the frozen document rows")?,
            Self::Momentum { key, momentum } => {
                **key = mining::momentum_update((**key).clone(), trained, *momentum).context("updating the document encoder")?;
                let plain = device.clone().without_autodiff();
                let chunks = batch.document_chunks.iter().map(|chunk| key.encode(chunk, &plain));
                Tensor::cat(chunks.collect(), 0)
            }
        };
        Ok(Some(rows.autodiff()))
    }

    /// What a checkpoint has to hold.
    ///
    /// # Errors
    /// When tensors cannot be written.
    pub(crate) fn state(&self) -> Result<Parts> {
        match self {
            Self::Shared | Self::Frozen(_) => Ok(Parts::new()),
            Self::Momentum { key, .. } => Ok(Parts::from([(KEY_ENCODER.to_owned(), to_safetensors(&key.tensors())?)])),
        }
    }

    /// Goes back to a saved state.
    ///
    /// # Errors
    /// When the checkpoint lacks it or it fits another encoder.
    pub(crate) fn restore(&mut self, parts: &Parts) -> Result<()> {
        if let Self::Momentum { key, .. } = self {
            let bytes = parts.get(KEY_ENCODER).with_context(|| format!("the checkpoint has no {KEY_ENCODER}"))?;
            **key = (**key).clone().with_tensors(from_safetensors(bytes)?).context("restoring the document encoder")?;
        }
        Ok(())
    }
}
