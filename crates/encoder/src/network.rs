//! The trainable part of an encoder: a transformer or an embedding bag, then pooling and normalisation.
//!
//! # Training and evaluation
//! A network lives on the device that its tensors were made on. `network.on_device(&device.autodiff())` gives the one to
//! train (any autodiff device does, also one with gradient checkpointing), `network.valid()` a plain snapshot for
//! evaluation and saving. Keep the original: `valid()` forgets the checkpointing strategy.
//! `network.clone().no_grad()`, still on the autodiff device, records no graph and keeps dropout on, which is what the
//! first pass of gradient caching needs (`valid()` would drop nothing and give other vectors).
//! Parameters are never lazy, so `no_grad()` on a clone leaves the original alone.

use std::borrow::Cow;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use kernels::layers::{Precision, normalize};

use crate::architecture::{Architecture, Family};
use crate::batch::TokenBatch;
use crate::error::EncoderError;
use crate::names;
use crate::pooling::Pooling;
use crate::static_embedding::StaticEmbedding;
use crate::transformer::Transformer;
use crate::weights::{Collector, Weights};

/// Longest row of a static encoder: it has no positions, so this only bounds memory.
pub(crate) const STATIC_LENGTH: usize = 1 << 20;

/// Tokens of a pass over many texts on the CPU: enough for its cores, and few enough for its caches.
const CPU_TOKENS: usize = 8192;
/// The same on a GPU at most: of a small pass the launches take longer than the work (by count, not measured).
const GPU_TOKENS: usize = 32_768;
/// Memory of the largest matrix of such a pass.
const MATRIX_BYTES: u64 = 256 << 20;

/// Tokens of a pass on a GPU whose kernels bind so many bytes, when the widest matrix has so many numbers for each.
fn tokens_within(binding: u64, widest: usize) -> usize {
    let fits = binding.min(MATRIX_BYTES) / (4 * widest.max(1)) as u64;
    usize::try_from(fits).unwrap_or(usize::MAX).clamp(1, GPU_TOKENS)
}

/// A bi-encoder's network, from token ids to one vector per text.
#[derive(Module, Debug)]
pub struct Network {
    body: Body,
    #[module(skip)]
    pooling: Pooling,
    #[module(skip)]
    normalize: bool,
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one value per network, never many in a row")]
enum Body {
    Transformer(Transformer),
    Static(StaticEmbedding),
}

/// What to build: everything about a network but its numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plan {
    Transformer(Architecture),
    Static { vocabulary: usize, dimension: usize },
}

impl Plan {
    /// A static encoder of the size that its table has.
    pub(crate) fn static_from(weights: &Weights) -> Self {
        match weights.shape(names::BAG) {
            Some(&[vocabulary, dimension]) => Self::Static { vocabulary, dimension },
            // Any size will do: the build reports the table as missing or misshapen.
            _ => Self::Static { vocabulary: 1, dimension: 1 },
        }
    }
}

impl Network {
    pub(crate) fn build(
        plan: &Plan,
        pooling: Pooling,
        normalize: bool,
        mut weights: Weights,
        device: &Device,
    ) -> Result<Self, EncoderError> {
        let body = match plan {
            Plan::Transformer(architecture) => Body::Transformer(Transformer::new(architecture, &mut weights, device)),
            &Plan::Static { vocabulary, dimension } => Body::Static(StaticEmbedding::new(vocabulary, dimension, &mut weights, device)),
        };
        weights.finish()?;
        Ok(Self { body, pooling, normalize })
    }

    fn plan(&self) -> Plan {
        match &self.body {
            Body::Transformer(transformer) => Plan::Transformer(transformer.architecture().clone()),
            Body::Static(bag) => Plan::Static { vocabulary: bag.vocabulary(), dimension: bag.dimension() },
        }
    }

    /// Embeds a batch: `[rows, dimension]`, pooled, and of unit length when the model says so.
    /// `device` is the device of this network (autodiff or not, as the network is).
    ///
    /// # Panics
    /// When the batch is empty or wider than [`Network::max_length`], or holds an id outside the vocabulary.
    pub fn encode(&self, batch: &TokenBatch, device: &Device) -> Tensor<2> {
        assert!(batch.rows() > 0, "an empty batch has no embeddings");
        let rows = match &self.body {
            Body::Transformer(transformer) => self.pooling.pool(transformer, batch, device),
            Body::Static(bag) => bag.forward(batch),
        };
        if self.normalize { normalize(rows) } else { rows }
    }

    /// Hidden states before pooling, `[rows, width, dimension]`; what stands in the places of padding is meaningless.
    pub fn hidden(&self, batch: &TokenBatch, device: &Device) -> Tensor<3> {
        match &self.body {
            Body::Transformer(transformer) => transformer.forward(batch, device).padded(batch.width()),
            Body::Static(bag) => bag.hidden(batch),
        }
    }

    /// Length of an embedding.
    pub fn dimension(&self) -> usize {
        match &self.body {
            Body::Transformer(transformer) => transformer.architecture().hidden,
            Body::Static(bag) => bag.dimension(),
        }
    }

    /// Longest row that the network takes, in tokens with special tokens.
    pub fn max_length(&self) -> usize {
        match &self.body {
            Body::Transformer(transformer) => transformer.architecture().max_length(),
            Body::Static(_) => STATIC_LENGTH,
        }
    }

    /// Rows of the word embedding.
    pub fn vocabulary(&self) -> usize {
        match &self.body {
            Body::Transformer(transformer) => transformer.architecture().vocabulary,
            Body::Static(bag) => bag.vocabulary(),
        }
    }

    /// True for an embedding bag, which has no layers and no pooling choice.
    pub fn is_static(&self) -> bool {
        matches!(self.body, Body::Static(_))
    }

    /// Whether texts are packed on this device, so that a pass over texts of different lengths does no work that several over texts of like length would spare; composed attention pads.
    pub fn packs(&self, device: &Device) -> bool {
        match &self.body {
            Body::Transformer(transformer) => transformer.packs(device),
            Body::Static(_) => true,
        }
    }

    /// Tokens that a pass over many texts had best hold on this device: so many that a GPU has work to do between two launches, none of whose matrices is larger than a kernel's argument may be.
    pub fn tokens_at_once(&self, device: &Device) -> usize {
        let widest = match &self.body {
            Body::Transformer(transformer) => {
                let shape = transformer.architecture();
                // Composed attention has the scores of every head with all tokens of the text.
                let scores = if self.packs(device) { 0 } else { shape.heads * shape.max_length() };
                let gated = matches!(shape.family, Family::ModernBert | Family::Decoder);
                let inner = if gated { 2 * shape.intermediate } else { shape.intermediate };
                inner.max(3 * shape.heads * shape.head).max(scores)
            }
            Body::Static(bag) => bag.dimension(),
        };
        kernels::describe(device).map_or(CPU_TOKENS, |limits| tokens_within(limits.max_binding_bytes, widest))
    }

    /// Whether a training pass draws random numbers.
    pub fn has_dropout(&self) -> bool {
        match &self.body {
            Body::Transformer(transformer) => transformer.architecture().has_dropout(),
            Body::Static(_) => false,
        }
    }

    /// How hidden states become one vector.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Whether embeddings have unit length.
    pub fn normalizes(&self) -> bool {
        self.normalize
    }

    /// The same network with another pooling and normalisation. A static network always takes the mean.
    #[must_use]
    pub fn with_head(mut self, pooling: Pooling, normalize: bool) -> Self {
        self.pooling = if self.is_static() { Pooling::Mean } else { pooling };
        self.normalize = normalize;
        self
    }

    /// The same network with another precision of its linear layers; a static network has none. Snapshots, copies on other devices and copies with other numbers
    /// keep it.
    ///
    /// # Errors
    /// When the network's device does not have it.
    pub fn with_precision(mut self, precision: Precision) -> Result<Self, EncoderError> {
        precision.check(&self.device())?;
        self.set_precision(precision);
        Ok(self)
    }

    /// What its linear layers multiply in.
    pub fn precision(&self) -> Precision {
        match &self.body {
            Body::Transformer(transformer) => transformer.precision(),
            Body::Static(_) => Precision::F32,
        }
    }

    fn set_precision(&mut self, precision: Precision) {
        if let Body::Transformer(transformer) = &mut self.body {
            transformer.set_precision(precision);
        }
    }

    /// Where the parameters live, with the autodiff setting they were made with.
    pub fn device(&self) -> Device {
        let mut devices = self.devices();
        devices.swap_remove(0)
    }

    /// The same network on another device, by way of the host. On an autodiff device all parameters are trainable.
    #[must_use]
    pub fn on_device(&self, device: &Device) -> Self {
        let weights = Weights::from_tensors("network", self.tensors());
        let mut network = Self::build(&self.plan(), self.pooling, self.normalize, weights, device).expect("a network's own tensors fit it");
        network.set_precision(self.precision());
        network
    }

    /// All parameters as `f32` under their checkpoint names, in PyTorch orientation (linear weights `[out, in]`), sorted
    /// by name.
    pub fn tensors(&self) -> Vec<(String, TensorData)> {
        let mut collector = Collector::default();
        match &self.body {
            Body::Transformer(transformer) => transformer.collect(&mut collector),
            Body::Static(bag) => bag.collect(&mut collector),
        }
        collector.finish()
    }

    /// This network with the numbers of `tensors` (names and orientation as in [`Network::tensors`]), on the same
    /// device. Parameter ids are new and everything is trainable again, so optimiser state must not be keyed by id.
    ///
    /// # Errors
    /// Lists every tensor that is missing, unused or of another shape.
    pub fn with_tensors(self, tensors: impl IntoIterator<Item = (String, TensorData)>) -> Result<Self, EncoderError> {
        let weights = Weights::from_tensors("tensors in memory", tensors);
        let mut network = Self::build(&self.plan(), self.pooling, self.normalize, weights, &self.device())?;
        network.set_precision(self.precision());
        Ok(network)
    }
}

/// Checks encoded rows `[n, d]`: every value finite and no row all zero. A failed GPU pass can deliver zeros without an
/// error, so this follows every pass whose result is kept.
///
/// # Errors
/// Names the first bad row.
pub fn check_rows(rows: &TensorData) -> Result<(), EncoderError> {
    let (count, width) = match rows.shape().as_slice() {
        &[count, width] => (count, width.max(1)),
        shape => (shape.iter().product(), 1),
    };
    let values = match rows.as_slice::<f32>() {
        Ok(values) => Cow::Borrowed(values),
        Err(_) => Cow::Owned(rows.iter::<f32>().collect()),
    };
    for (row, values) in values.chunks_exact(width).enumerate() {
        let problem = if values.iter().any(|value| !value.is_finite()) {
            "is not finite"
        } else if values.iter().all(|&value| value == 0.0) {
            "is all zero"
        } else {
            continue;
        };
        return Err(EncoderError::BadRow { row, rows: count, problem });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_fill_a_gpu_and_fit_it() {
        // MiniLM, BERT-base, BERT-large, on a card and where 128 MiB is the most; a width that not even one token of fits.
        let tokens = |binding: u64| [1536, 3072, 4096].map(|widest| tokens_within(binding << 20, widest));
        assert_eq!((tokens(4096), tokens(128)), ([32_768, 21_845, 16_384], [21_845, 10_922, 8192]));
        assert_eq!(tokens_within(1 << 20, 1 << 20), 1);
    }

    #[test]
    fn bad_rows_are_named() {
        let check = |values: Vec<f32>| check_rows(&TensorData::new(values, [2, 2])).map_err(|e| e.to_string());
        assert_eq!(check(vec![0.0, 1.0, 1e-20, 0.0]), Ok(()));
        assert!(check(vec![0.0, 1.0, 0.0, 0.0]).unwrap_err().starts_with("row 1 of 2 encoded rows is all zero"));
        assert!(check(vec![f32::NAN, 1.0, 0.0, 0.0]).unwrap_err().starts_with("row 0 of 2 encoded rows is not finite"));
    }
}
