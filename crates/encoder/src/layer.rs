//! One layer of a transformer: self-attention and feed-forward, each with a residual connection, and norms behind them (BERT and its kin) or before them (ModernBERT, decoders).

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, LayerNorm, Linear};
use burn::tensor::activation::{gelu_approximate, relu, silu};
use burn::tensor::{Device, Tensor};

use kernels::layers::{self, Gate, Precision, Projection};

use crate::architecture::{Activation, Architecture, Family};
use crate::attention::{Mask, SelfAttention, active};
use crate::linear::{feed_forward, linear, linear_for_norm};
use crate::names::{LayerNames, PreNormNames};
use crate::weights::{Collector, Weights};

/// A layer of either kind; all of a network are of one.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a dozen layers, and each holds a megabyte of weights elsewhere")]
pub(crate) enum Layer {
    PostNorm(PostNorm),
    PreNorm(PreNorm),
}

impl Layer {
    pub(crate) fn new(a: &Architecture, index: usize, weights: &mut Weights, device: &Device) -> Self {
        match a.family {
            Family::ModernBert | Family::Decoder => Self::PreNorm(PreNorm::new(a, index, weights, device)),
            _ => Self::PostNorm(PostNorm::new(a, index, weights, device)),
        }
    }

    /// `[tokens, hidden]` to the same shape, or to the rows that will be read, `[rows, hidden]`: only attention looks at other tokens.
    pub(crate) fn forward(&self, x: Tensor<2>, mask: &Mask, precision: Precision, read: Option<&[i32]>) -> Tensor<2> {
        match self {
            Self::PostNorm(layer) => layer.forward(x, mask, precision, read),
            Self::PreNorm(layer) => layer.forward(x, mask, precision, read),
        }
    }

    pub(crate) fn collect(&self, family: Family, index: usize, into: &mut Collector) {
        match self {
            Self::PostNorm(layer) => layer.collect(&LayerNames::new(family, index), into),
            Self::PreNorm(layer) => layer.collect(&PreNormNames::new(family, index), into),
        }
    }
}

/// `norm(x + part(x))`, twice.
#[derive(Module, Debug)]
pub(crate) struct PostNorm {
    attention: SelfAttention,
    pub(crate) attention_output: Linear,
    attention_norm: LayerNorm,
    pub(crate) inner: Linear,
    outer: Linear,
    output_norm: LayerNorm,
    attention_dropout: Dropout,
    output_dropout: Dropout,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    epsilon: f64,
}

impl PostNorm {
    fn new(a: &Architecture, index: usize, weights: &mut Weights, device: &Device) -> Self {
        let names = LayerNames::new(a.family, index);
        let joint = weights.side_by_side(&[&names.query, &names.key, &names.value], a.hidden, a.hidden, device);
        let attention_output = weights.linear(&names.attention_output, a.hidden, a.hidden, device);
        // DistilBERT drops attention probabilities but not the attention output.
        let after_attention = if a.family == Family::DistilBert { 0.0 } else { a.dropout };
        Self {
            attention: SelfAttention::new(joint, None, a),
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

    fn forward(&self, x: Tensor<2>, mask: &Mask, precision: Precision, read: Option<&[i32]>) -> Tensor<2> {
        let attended = self.attention.forward(x.clone(), mask, precision);
        let [attended, x] = [attended, x].map(|states| rows_of(states, read));
        let mixed = linear_for_norm(&self.attention_output, attended, precision);
        let dropout = |of: &Dropout| active(of, &x.device());
        let (first, second) = (dropout(&self.attention_dropout), dropout(&self.output_dropout));
        let x = residual_norm(&self.attention_norm, self.epsilon, mixed, x, first);
        let inner = || linear(&self.inner, x.clone(), precision);
        let fed = match self.activation {
            Activation::Gelu => feed_forward(&self.inner, &self.outer, x.clone(), precision),
            Activation::GeluTanh => linear_for_norm(&self.outer, gelu_approximate(inner()), precision),
            Activation::Relu => linear_for_norm(&self.outer, relu(inner()), precision),
            Activation::Silu => linear_for_norm(&self.outer, silu(inner()), precision),
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

/// `x + part(norm(x))`, twice; the network ends with a norm of its own.
#[derive(Module, Debug)]
pub(crate) struct PreNorm {
    attention_norm: Option<LayerNorm>,
    pub(crate) attention: SelfAttention,
    pub(crate) attention_output: Linear,
    feed_norm: LayerNorm,
    pub(crate) inner: Linear,
    outer: Linear,
    attention_dropout: Dropout,
    feed_dropout: Dropout,
    /// Widths of query, key and value.
    #[module(skip)]
    widths: [usize; 3],
    #[module(skip)]
    gate: Gate,
    #[module(skip)]
    norms: NormKind,
}

/// A list of names with their shares of a layer's features.
fn with_widths<'a>(names: &'a [String], widths: &[usize]) -> Vec<(&'a str, usize)> {
    match names {
        [one] => vec![(one, widths.iter().sum())],
        all => all.iter().map(String::as_str).zip(widths.iter().copied()).collect(),
    }
}

impl PreNorm {
    fn new(a: &Architecture, index: usize, weights: &mut Weights, device: &Device) -> Self {
        let names = PreNormNames::new(a.family, index);
        let width = a.heads * a.head;
        let key_width = a.grouped.map_or(width, |grouped| grouped.key_heads * a.head);
        let widths = [width, key_width, key_width];
        let biased = a.grouped.is_some_and(|grouped| grouped.biased);
        let joint = weights.parts(&with_widths(&names.joint, &widths), a.hidden, biased, device);
        let normed = a.grouped.is_some_and(|grouped| grouped.norms);
        let head_norms = normed.then(|| names.head_norms.map(|name| weights.scale(&name, a.head, device)));
        let halves = with_widths(&names.inner, &[a.intermediate; 2]);
        Self {
            attention_norm: names.attention_norm.map(|name| weights.norm_without_shift(&name, a.hidden, a.epsilon, device)),
            attention: SelfAttention::new(joint, head_norms, a),
            attention_output: weights.linear_without_bias(&names.attention_output, width, a.hidden, device),
            feed_norm: weights.norm_without_shift(&names.feed_norm, a.hidden, a.epsilon, device),
            inner: weights.parts(&halves, a.hidden, false, device),
            outer: weights.linear_without_bias(&names.outer, a.intermediate, a.hidden, device),
            // Decoders drop attention probabilities, but not what attention gives.
            attention_dropout: DropoutConfig::new(if a.grouped.is_some() { 0.0 } else { a.attention_dropout }).init(),
            feed_dropout: DropoutConfig::new(a.dropout).init(),
            widths,
            gate: if a.activation == Activation::Silu { Gate::Silu } else { Gate::Gelu },
            norms: NormKind::of(a),
        }
    }

    fn forward(&self, x: Tensor<2>, mask: &Mask, precision: Precision, read: Option<&[i32]>) -> Tensor<2> {
        let normal = match &self.attention_norm {
            Some(attention_norm) => self.norms.apply(attention_norm, x.clone()),
            None => x.clone(),
        };
        let attended = self.attention.forward(normal, mask, precision);
        let [attended, x] = [attended, x].map(|states| rows_of(states, read));
        let dropped = |of: &Dropout, x: Tensor<2>| {
            let probability = active(of, &x.device());
            layers::dropout(x, probability)
        };
        let x = x + dropped(&self.attention_dropout, linear(&self.attention_output, attended, precision));
        let inner = linear(&self.inner, self.norms.apply(&self.feed_norm, x.clone()), precision);
        x + linear(&self.outer, dropped(&self.feed_dropout, layers::gated(inner, self.gate)), precision)
    }

    fn collect(&self, names: &PreNormNames, into: &mut Collector) {
        if let (Some(name), Some(norm)) = (&names.attention_norm, &self.attention_norm) {
            into.norm(name, norm);
        }
        into.parts(&with_widths(&names.joint, &self.widths), &self.attention.joint);
        for (name, scale) in names.head_norms.iter().zip(self.attention.head_norms.iter().flatten()) {
            into.param(format!("{name}.weight"), scale);
        }
        into.linear(&names.attention_output, &self.attention_output);
        into.norm(&names.feed_norm, &self.feed_norm);
        into.parts(&with_widths(&names.inner, &[self.inner.weight.dims()[1] / 2; 2]), &self.inner);
        into.linear(&names.outer, &self.outer);
    }
}

/// The rows that will be read.
fn rows_of(states: Tensor<2>, read: Option<&[i32]>) -> Tensor<2> {
    match read {
        Some(rows) => layers::embedding(states, rows),
        None => states,
    }
}

/// How the norms of a network are computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormKind {
    /// Whether the mean is taken out first.
    centered: bool,
    epsilon: f64,
}

impl NormKind {
    pub(crate) fn of(a: &Architecture) -> Self {
        Self { centered: a.family != Family::Decoder, epsilon: a.epsilon }
    }

    /// `norm(x)`.
    pub(crate) fn apply(self, of: &LayerNorm, x: Tensor<2>) -> Tensor<2> {
        if self.centered { norm(of, self.epsilon, x) } else { layers::rms_norm(x, of.gamma.val(), self.epsilon) }
    }
}

/// `norm(x)` of a norm that takes the mean out.
pub(crate) fn norm(norm: &LayerNorm, epsilon: f64, x: Tensor<2>) -> Tensor<2> {
    layers::norm(x, norm.gamma.val(), norm.beta.as_ref().map(|beta| beta.val()), epsilon)
}

/// `norm(dropout(x) + residual)` with the probability of dropout that applies now.
pub(crate) fn residual_norm(norm: &LayerNorm, epsilon: f64, x: impl Into<Projection>, residual: Tensor<2>, dropout: f64) -> Tensor<2> {
    let beta = norm.beta.as_ref().expect("a norm behind a part has a shift: `Weights::norm`");
    layers::residual_norm(x, residual, norm.gamma.val(), beta.val(), epsilon, dropout)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[test]
    fn what_attention_gives_is_dropped_in_modernbert_and_not_in_decoders() {
        for (model_type, expected) in [("modernbert", 0.3), ("qwen3", 0.0)] {
            let config = json!({
                "model_type": model_type, "vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
                "head_dim": 4, "intermediate_size": 16, "attention_dropout": 0.3,
            });
            let architecture = Architecture::from_config(Path::new("config.json"), &config).unwrap();
            let layer = PreNorm::new(&architecture, 0, &mut Weights::from_tensors("none", []), &Device::flex());
            assert_eq!((architecture.attention_dropout, layer.attention_dropout.prob), (0.3, expected), "{model_type}");
        }
    }
}
