//! A post-norm transformer encoder: embeddings, then layers of self-attention and feed-forward (arXiv 1810.04805).
//!
//! One implementation serves every family; what differs is in [`Architecture`] (sizes, first position, buckets) and in
//! `names`. Pooling is not here. Between layers the states of all tokens lie one behind the other, without padding, so that no layer works for nothing; only where attention is
//! a composition of tensor operations (relative positions, devices without room for the fused one) each text is padded to one width, and its padding masked.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Embedding, LayerNorm, Linear};
use burn::tensor::activation::{gelu_approximate, relu};
use burn::tensor::{Device, Int, Tensor, TensorData};

use kernels::layers::{self, AttentionShape, Precision, Projection, Sequences};

use crate::architecture::{Activation, Architecture, Family};
use crate::attention::{Mask, SelfAttention, active, padding_bias, relative_buckets};
use crate::batch::TokenBatch;
use crate::linear::{feed_forward, linear, linear_for_norm};
use crate::names::{self, LayerNames};
use crate::states::States;
use crate::weights::{Collector, Weights};

/// Token ids to hidden states.
#[derive(Module, Debug)]
pub(crate) struct Transformer {
    word: Embedding,
    position: Param<Tensor<2>>,
    token_type: Option<Param<Tensor<2>>>,
    norm: LayerNorm,
    dropout: Dropout,
    relative: Option<Param<Tensor<2>>>,
    layers: Vec<Layer>,
    #[module(skip)]
    architecture: Architecture,
    /// Of the linear layers of `layers` and their attention.
    #[module(skip)]
    precision: Precision,
}

/// Self-attention and feed-forward, each with a residual connection and a norm behind it.
#[derive(Module, Debug)]
struct Layer {
    attention: SelfAttention,
    attention_output: Linear,
    attention_norm: LayerNorm,
    inner: Linear,
    outer: Linear,
    output_norm: LayerNorm,
    attention_dropout: Dropout,
    output_dropout: Dropout,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    epsilon: f64,
}

impl Transformer {
    /// Takes its tensors out of `weights`, which notes what is missing or of another shape.
    pub(crate) fn new(architecture: &Architecture, weights: &mut Weights, device: &Device) -> Self {
        let a = architecture;
        Self {
            word: Embedding { weight: weights.table(names::WORD, a.vocabulary, a.hidden, device) },
            position: weights.table(names::POSITION, a.positions, a.hidden, device),
            token_type: (a.token_types > 0).then(|| weights.table(names::TOKEN_TYPE, a.token_types, a.hidden, device)),
            norm: weights.norm(names::EMBEDDING_NORM, a.hidden, a.epsilon, device),
            dropout: DropoutConfig::new(a.dropout).init(),
            relative: (a.relative_buckets > 0).then(|| weights.table(names::RELATIVE, a.relative_buckets, a.heads, device)),
            layers: (0..a.layers).map(|layer| Layer::new(a, layer, weights, device)).collect(),
            architecture: a.clone(),
            precision: Precision::F32,
        }
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    pub(crate) fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    pub(crate) fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Last hidden states.
    ///
    /// # Panics
    /// When the batch is wider than the model has positions; length limits are checked where they are set.
    pub(crate) fn forward(&self, batch: &TokenBatch, device: &Device) -> States {
        self.forward_typed(batch, None, device)
    }

    /// As [`Transformer::forward`] with a token type for each id of the batch; without types all are 0.
    pub(crate) fn forward_typed(&self, batch: &TokenBatch, types: Option<&[u32]>, device: &Device) -> States {
        let width = batch.width;
        assert!(
            width <= self.architecture.max_length(),
            "a batch of width {width} exceeds the {} positions of the model",
            self.architecture.max_length()
        );
        let heads = self.architecture.heads;
        let fused = self.relative.is_none() && layers::attends(device, self.architecture.hidden / heads);
        let lengths = batch.lengths.clone();
        let sequences = Arc::new(if fused { Sequences::packed(lengths) } else { Sequences::padded(lengths, width) });
        let mask = if fused {
            let shape = AttentionShape { sequences: sequences.clone(), heads, precision: self.precision };
            Mask::Places { places: sequences.on_device(device), shape }
        } else {
            Mask::Bias { rows: batch.rows, width, bias: self.bias(batch, device) }
        };
        let mut x = self.embed(batch, &sequences, types, device);
        for layer in &self.layers {
            x = layer.forward(x, &mask, self.precision);
        }
        States::new(x, sequences)
    }

    fn embed(&self, batch: &TokenBatch, sequences: &Sequences, types: Option<&[u32]>, device: &Device) -> Tensor<2> {
        let place = |(row, position): (usize, usize)| row * batch.width + position;
        let ids: Vec<i32> = sequences.places().map(|at| batch.ids[place(at)]).collect();
        let words = layers::embedding(self.word.weight.val(), &ids);
        // Padding stands at the end, so token i of a row always has position `first + i`.
        let mut shift = self.position.val().narrow(0, self.architecture.first_position, batch.width);
        if let (Some(table), None) = (&self.token_type, types) {
            shift = shift + table.val().narrow(0, 0, 1);
        }
        let positions: Vec<i32> = sequences.places().map(|(_, position)| position as i32).collect();
        let mut shift = layers::embedding(shift, &positions);
        if let (Some(table), Some(types)) = (&self.token_type, types) {
            let types: Vec<u32> = sequences.places().map(|at| types[place(at)]).collect();
            shift = shift + one_hot(&types, self.architecture.token_types, device).matmul(table.val());
        }
        let sum = residual_norm(&self.norm, self.architecture.epsilon, words, shift, 0.0);
        layers::dropout(sum, active(&self.dropout, device))
    }

    /// What is added to the attention scores of every layer: padding mask plus relative position bias.
    fn bias(&self, batch: &TokenBatch, device: &Device) -> Option<Tensor<4>> {
        let padding = padding_bias(batch, device);
        let Some(table) = &self.relative else { return padding };
        let (width, heads) = (batch.width, self.architecture.heads);
        let buckets = relative_buckets(width, self.architecture.relative_buckets);
        let buckets = Tensor::<1, Int>::from_data(TensorData::new(buckets, [width * width]), device);
        let relative = table.val().select(0, buckets).reshape([1, width, width, heads]).permute([0, 3, 1, 2]);
        Some(match padding {
            Some(padding) => relative + padding,
            None => relative,
        })
    }

    pub(crate) fn collect(&self, into: &mut Collector) {
        into.param(names::WORD.to_owned(), &self.word.weight);
        into.param(names::POSITION.to_owned(), &self.position);
        if let Some(types) = &self.token_type {
            into.param(names::TOKEN_TYPE.to_owned(), types);
        }
        if let Some(table) = &self.relative {
            into.param(names::RELATIVE.to_owned(), table);
        }
        into.norm(names::EMBEDDING_NORM, &self.norm);
        for (index, layer) in self.layers.iter().enumerate() {
            layer.collect(&LayerNames::new(self.architecture.family, index), into);
        }
    }
}

impl Layer {
    fn new(a: &Architecture, index: usize, weights: &mut Weights, device: &Device) -> Self {
        let names = LayerNames::new(a.family, index);
        let joint = weights.side_by_side(&[&names.query, &names.key, &names.value], a.hidden, a.hidden, device);
        let attention_output = weights.linear(&names.attention_output, a.hidden, a.hidden, device);
        // DistilBERT drops attention probabilities but not the attention output.
        let after_attention = if a.family == Family::DistilBert { 0.0 } else { a.dropout };
        Self {
            attention: SelfAttention::new(joint, a),
            attention_output,
            attention_norm: weights.norm(&names.attention_norm, a.hidden, a.epsilon, device),
            inner: weights.linear(&names.inner, a.hidden, a.intermediate, device),
            outer: weights.linear(&names.outer, a.intermediate, a.hidden, device),
            output_norm: weights.norm(&names.output_norm, a.hidden, a.epsilon, device),
            attention_dropout: DropoutConfig::new(after_attention).init(),
            output_dropout: DropoutConfig::new(a.dropout).init(),
            activation: a.activation,
            epsilon: a.epsilon,
        }
    }

    fn forward(&self, x: Tensor<2>, mask: &Mask, precision: Precision) -> Tensor<2> {
        let mixed = linear_for_norm(&self.attention_output, self.attention.forward(x.clone(), mask, precision), precision);
        let dropout = |of: &Dropout| active(of, &x.device());
        let (first, second) = (dropout(&self.attention_dropout), dropout(&self.output_dropout));
        let x = residual_norm(&self.attention_norm, self.epsilon, mixed, x, first);
        let inner = || linear(&self.inner, x.clone(), precision);
        let fed = match self.activation {
            Activation::Gelu => feed_forward(&self.inner, &self.outer, x.clone(), precision),
            Activation::GeluTanh => linear_for_norm(&self.outer, gelu_approximate(inner()), precision),
            Activation::Relu => linear_for_norm(&self.outer, relu(inner()), precision),
        };
        residual_norm(&self.output_norm, self.epsilon, fed, x, second)
    }

    fn collect(&self, names: &LayerNames, into: &mut Collector) {
        into.side_by_side(&[&names.query, &names.key, &names.value], &self.attention.joint);
        into.linear(&names.attention_output, &self.attention_output);
        into.norm(&names.attention_norm, &self.attention_norm);
        into.linear(&names.inner, &self.inner);
        into.linear(&names.outer, &self.outer);
        into.norm(&names.output_norm, &self.output_norm);
    }
}

/// `[types, count]` with a 1 at each type. A product with it takes the place of a gather: the gradient of a gather would add
/// thousands of tokens into two rows one by one, in an order that depends on the device.
fn one_hot(types: &[u32], count: usize, device: &Device) -> Tensor<2> {
    let mut values = vec![0.0f32; types.len() * count];
    for (row, &kind) in values.chunks_exact_mut(count).zip(types) {
        row[kind as usize] = 1.0;
    }
    Tensor::from_data(TensorData::new(values, [types.len(), count]), device)
}

/// `norm(dropout(x) + residual)` with the probability of dropout that applies now.
fn residual_norm(norm: &LayerNorm, epsilon: f64, x: impl Into<Projection>, residual: Tensor<2>, dropout: f64) -> Tensor<2> {
    let beta = norm.beta.as_ref().expect("every norm has a shift: `Weights::norm`");
    layers::residual_norm(x, residual, norm.gamma.val(), beta.val(), epsilon, dropout)
}
