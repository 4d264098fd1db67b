//! The trainable part of a reranker: a transformer over a pair of texts, and a head from its first token, or the mean of all, to one number.
//!
//! The heads are those of transformers' `*ForSequenceClassification`, so that weights travel both ways:
//!
//! | family | head |
//! |---|---|
//! | BERT | `tanh(pooler.dense)`, dropout, `classifier` |
//! | RoBERTa, XLM-R, CamemBERT, MPNet | dropout, `tanh(classifier.dense)`, dropout, `classifier.out_proj` |
//! | DistilBERT | `relu(pre_classifier)`, dropout, `classifier` |
//! | ModernBERT | `head.norm(gelu(head.dense))`, dropout, `classifier` |

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, LayerNorm, Linear};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use kernels::layers::{self, Precision};

use crate::architecture::{Architecture, Family};
use crate::attention::active;
use crate::error::EncoderError;
use crate::layer::norm;
use crate::linear::linear;
use crate::names;
use crate::pairs::TokenPairs;
use crate::states::Token;
use crate::transformer::Transformer;
use crate::weights::{Collector, Weights};

/// A reranker's network, from a pair of texts to one score.
#[derive(Module, Debug)]
pub struct PairNetwork {
    body: Transformer,
    dense: Linear,
    /// Of a ModernBERT.
    norm: Option<LayerNorm>,
    output: Linear,
    dropout: Dropout,
    #[module(skip)]
    mean: bool,
}

/// A head beside its weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) dropout: f64,
    /// Whether it reads the mean of all states, not the first.
    pub(crate) mean: bool,
}

/// Names of the two linear layers of a head, inner first.
pub(crate) fn head_names(family: Family) -> [&'static str; 2] {
    match family {
        Family::Bert => ["pooler.dense", "classifier"],
        Family::Roberta | Family::Mpnet => ["classifier.dense", "classifier.out_proj"],
        Family::DistilBert => ["pre_classifier", "classifier"],
        Family::ModernBert => ["head.dense", "classifier"],
        Family::Decoder => unreachable!("refused where heads are read: `cross_encoder::folder`"),
    }
}

/// Tensors of a file that belong neither to the body nor to the head.
pub(crate) fn ignored(family: Family) -> fn(&str) -> bool {
    match family {
        Family::Bert => names::is_ignored_beside_pooler,
        Family::ModernBert => names::is_ignored_beside_head,
        _ => names::is_ignored,
    }
}

impl PairNetwork {
    pub(crate) fn build(architecture: &Architecture, head: Head, mut weights: Weights, device: &Device) -> Result<Self, EncoderError> {
        let [dense, output] = head_names(architecture.family);
        let hidden = architecture.hidden;
        let modern = architecture.family == Family::ModernBert;
        let network = Self {
            body: Transformer::new(architecture, &mut weights, device),
            dense: match modern {
                true => weights.linear_without_bias(dense, hidden, hidden, device),
                false => weights.linear(dense, hidden, hidden, device),
            },
            norm: modern.then(|| weights.norm_without_shift(names::HEAD_NORM, hidden, architecture.epsilon, device)),
            output: weights.linear(output, hidden, 1, device),
            dropout: DropoutConfig::new(head.dropout).init(),
            mean: head.mean,
        };
        weights.finish()?;
        Ok(network)
    }

    /// One score per pair, `[rows]`: the logit, before any sigmoid. Differentiable on an autodiff device. `device` is the device of
    /// this network (autodiff or not, as the network is).
    ///
    /// # Panics
    /// When the batch is empty or wider than [`PairNetwork::max_length`], or holds an id or a type without a row.
    pub fn logits(&self, batch: &TokenPairs, device: &Device) -> Tensor<1> {
        let rows = batch.tokens.rows();
        assert!(rows > 0, "an empty batch has no scores");
        let mut first = match self.mean {
            true => self.body.forward(&batch.tokens, device).weighted_sums(|_, n| 1.0 / n),
            false => self.body.one_each(&batch.tokens, batch.types.as_deref(), Token::First, device),
        };
        let dropout = active(&self.dropout, device);
        let family = self.architecture().family;
        if matches!(family, Family::Roberta | Family::Mpnet) {
            first = layers::dropout(first, dropout);
        }
        let inner = linear(&self.dense, first, Precision::F32);
        let inner = match (family, &self.norm) {
            (Family::DistilBert, _) => relu(inner),
            (_, Some(head_norm)) => norm(head_norm, self.architecture().epsilon, layers::gelu(inner)),
            _ => inner.tanh(),
        };
        linear(&self.output, layers::dropout(inner, dropout), Precision::F32).reshape([rows])
    }

    /// Sizes of the transformer.
    pub fn architecture(&self) -> &Architecture {
        self.body.architecture()
    }

    /// Longest pair that the network takes, in tokens with special tokens.
    pub fn max_length(&self) -> usize {
        self.architecture().max_length()
    }

    /// Whether a training pass draws random numbers.
    pub fn has_dropout(&self) -> bool {
        self.architecture().has_dropout() || self.dropout.prob > 0.0
    }

    /// The same network with another precision of the transformer's linear layers; the head, one row a pair, stays in f32.
    ///
    /// # Errors
    /// When the network's device does not have it.
    pub fn with_precision(mut self, precision: Precision) -> Result<Self, EncoderError> {
        precision.check(&self.device())?;
        self.body.set_precision(precision);
        Ok(self)
    }

    /// Where the parameters live, with the autodiff setting they were made with.
    pub fn device(&self) -> Device {
        self.devices().swap_remove(0)
    }

    /// The same network on another device, by way of the host. On an autodiff device all parameters are trainable.
    #[must_use]
    pub fn on_device(&self, device: &Device) -> Self {
        self.rebuilt("network", self.tensors(), device).expect("a network's own tensors fit it")
    }

    /// All parameters as `f32` under the names of transformers' task models, in PyTorch orientation (linear weights `[out, in]`),
    /// sorted by name.
    pub fn tensors(&self) -> Vec<(String, TensorData)> {
        let family = self.architecture().family;
        let [dense, output] = head_names(family);
        let mut collector = Collector::default();
        self.body.collect(&mut collector);
        collector.linear(dense, &self.dense);
        if let Some(norm) = &self.norm {
            collector.norm(names::HEAD_NORM, norm);
        }
        collector.linear(output, &self.output);
        let named = |(name, data): (String, TensorData)| {
            // Of the heads only BERT's pooler stands inside the base model.
            let outside = ["classifier.", "pre_classifier.", "head."].iter().any(|head| name.starts_with(head));
            (if outside { name } else { format!("{}{name}", names::prefix(family)) }, data)
        };
        let mut tensors: Vec<_> = collector.finish().into_iter().map(named).collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        tensors
    }

    /// This network with the numbers of `tensors` (names and orientation as in [`PairNetwork::tensors`]), on the same device.
    /// Everything is trainable again, and parameter ids are new, so optimiser state must not be keyed by id.
    ///
    /// # Errors
    /// Lists every tensor that is missing, unused or of another shape.
    pub fn with_tensors(self, tensors: impl IntoIterator<Item = (String, TensorData)>) -> Result<Self, EncoderError> {
        self.rebuilt("tensors in memory", tensors, &self.device())
    }

    fn rebuilt(
        &self,
        origin: &str,
        tensors: impl IntoIterator<Item = (String, TensorData)>,
        device: &Device,
    ) -> Result<Self, EncoderError> {
        let architecture = self.architecture();
        let weights = Weights::from_tensors_but(origin, tensors, ignored(architecture.family));
        let head = Head { dropout: self.dropout.prob, mean: self.mean };
        let mut network = Self::build(architecture, head, weights, device)?;
        network.body.set_precision(self.body.precision());
        Ok(network)
    }
}
