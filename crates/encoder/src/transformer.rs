//! A post-norm transformer encoder: embeddings, then layers of self-attention and feed-forward (arXiv 1810.04805).
//!
//! One implementation serves every family; what differs is in [`Architecture`] (sizes, first position, buckets) and in
//! `names`. Pooling is not here. Between layers the states of all tokens lie one behind the other, without padding, so that no layer works for nothing; only where attention is
//! a composition of tensor operations (devices without room for the fused one) each text is padded to one width, and its padding masked.

use std::borrow::Cow;
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
use crate::states::{States, Token};
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

    /// Last hidden states of all tokens.
    ///
    /// # Panics
    /// When the batch is wider than the model has positions; length limits are checked where they are set.
    pub(crate) fn forward(&self, batch: &TokenBatch, device: &Device) -> States {
        let (x, sequences) = self.states(batch, None, None, device, self.packs(device));
        States::new(x, sequences)
    }

    /// Last hidden states of one token of each text, `[rows, hidden]`, with a token type for each id of the batch; without types all are 0. What the last layer does behind attention it does for these
    /// tokens alone.
    ///
    /// # Panics
    /// As [`Transformer::forward`].
    pub(crate) fn one_each(&self, batch: &TokenBatch, types: Option<&[u32]>, token: Token, device: &Device) -> Tensor<2> {
        self.states(batch, types, Some(token), device, self.packs(device)).0
    }

    /// Whether texts are packed on this device, and attention fused.
    pub(crate) fn packs(&self, device: &Device) -> bool {
        layers::attends(device, self.architecture.hidden / self.architecture.heads)
    }

    /// States of all tokens as they lie, or of one of each text; with attention fused, or composed of tensor operations.
    fn states(
        &self,
        batch: &TokenBatch,
        types: Option<&[u32]>,
        only: Option<Token>,
        device: &Device,
        fused: bool,
    ) -> (Tensor<2>, Arc<Sequences>) {
        let most = self.architecture.max_length();
        assert!(batch.width() <= most, "a batch of width {} exceeds the {most} positions of the model", batch.width());
        let (heads, width, lengths) = (self.architecture.heads, batch.width(), batch.lengths().to_vec());
        let sequences = Arc::new(if fused { Sequences::packed(lengths) } else { Sequences::padded(lengths, width) });
        let mask = if fused {
            let shape = AttentionShape { sequences: sequences.clone(), heads, precision: self.precision };
            Mask::Places { places: sequences.on_device(device), relative: self.by_distance(sequences.width()).map(Box::new), shape }
        } else {
            Mask::Bias { rows: batch.rows(), width, bias: self.bias(batch, device) }
        };
        let mut x = self.embed(batch, &sequences, types, device);
        let places = only.map(|token| token.places(&sequences));
        for (index, layer) in self.layers.iter().enumerate() {
            let read = places.as_deref().filter(|_| index + 1 == self.layers.len());
            x = layer.forward(x, &mask, self.precision, read);
        }
        (x, sequences)
    }

    fn embed(&self, batch: &TokenBatch, sequences: &Sequences, types: Option<&[u32]>, device: &Device) -> Tensor<2> {
        // As the rows lie: padding has token 0, which nobody reads.
        fn lying<'a, T: Copy + Default>(numbers: &'a [T], batch: &TokenBatch, sequences: &Sequences) -> Cow<'a, [T]> {
            if sequences.is_packed() { Cow::Borrowed(numbers) } else { Cow::Owned(batch.padded(numbers)) }
        }
        let words = layers::embedding(self.word.weight.val(), &lying(batch.ids(), batch, sequences));
        // Padding stands at the end, so token i of a row always has position `first + i`.
        let mut shift = self.position.val().narrow(0, self.architecture.first_position, batch.width());
        if let (Some(table), None) = (&self.token_type, types) {
            shift = shift + table.val().narrow(0, 0, 1);
        }
        let positions: Vec<i32> = sequences.places().map(|(_, position)| position as i32).collect();
        let mut shift = layers::embedding(shift, &positions);
        if let (Some(table), Some(types)) = (&self.token_type, types) {
            shift = shift + one_hot(&lying(types, batch, sequences), self.architecture.token_types, device).matmul(table.val());
        }
        let sum = residual_norm(&self.norm, self.architecture.epsilon, words, shift, 0.0);
        layers::dropout(sum, active(&self.dropout, device))
    }

    /// What relative positions add to the attention scores of every layer, by the distance from query to key: `[heads, 2 width - 1]`.
    fn by_distance(&self, width: usize) -> Option<Tensor<2>> {
        let table = self.relative.as_ref()?.val();
        let buckets = relative_buckets(width, self.architecture.relative_buckets);
        let (heads, distances) = (self.architecture.heads, buckets.len());
        let relative = layers::embedding(table, &buckets).transpose();
        // Laid out anew here, and not by every layer.
        Some(relative.reshape([1, heads * distances]).reshape([heads, distances]))
    }

    /// What is added to the attention scores of every layer where they are composed: padding mask plus relative position bias.
    fn bias(&self, batch: &TokenBatch, device: &Device) -> Option<Tensor<4>> {
        let padding = padding_bias(batch, device);
        let width = batch.width();
        let Some(relative) = self.by_distance(width) else { return padding };
        let distances: Vec<i32> = (0..width * width).map(|pair| (width - 1 + pair % width - pair / width) as i32).collect();
        let distances = Tensor::<1, Int>::from_data(TensorData::new(distances, [width * width]), device);
        let relative = relative.select(1, distances).reshape([1, self.architecture.heads, width, width]);
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

    /// `[tokens, hidden]` to the same shape, or to the rows that will be read, `[rows, hidden]`: only attention looks at other tokens.
    fn forward(&self, x: Tensor<2>, mask: &Mask, precision: Precision, read: Option<&[i32]>) -> Tensor<2> {
        let attended = self.attention.forward(x.clone(), mask, precision);
        let [attended, x] = [attended, x].map(|states| match read {
            Some(rows) => layers::embedding(states, rows),
            None => states,
        });
        let mixed = linear_for_norm(&self.attention_output, attended, precision);
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    /// An MPNet of weights from -1 to 1.
    fn mpnet(device: &Device) -> Transformer {
        let config = json!({
            "model_type": "mpnet", "vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
            "intermediate_size": 32, "max_position_embeddings": 160, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        });
        let architecture = Architecture::from_config(Path::new("config.json"), &config).unwrap();
        let a = &architecture;
        let mut shapes = vec![
            (names::WORD.to_owned(), vec![a.vocabulary, a.hidden]),
            (names::POSITION.to_owned(), vec![a.positions, a.hidden]),
            (names::RELATIVE.to_owned(), vec![a.relative_buckets, a.heads]),
        ];
        let mut linear = |name: &str, [into, from]: [usize; 2]| {
            shapes.extend([(format!("{name}.weight"), vec![into, from]), (format!("{name}.bias"), vec![into])]);
        };
        for layer in 0..a.layers {
            let names = LayerNames::new(a.family, layer);
            for name in [&names.query, &names.key, &names.value, &names.attention_output] {
                linear(name, [a.hidden, a.hidden]);
            }
            linear(&names.inner, [a.intermediate, a.hidden]);
            linear(&names.outer, [a.hidden, a.intermediate]);
        }
        let layers = (0..a.layers).map(|layer| LayerNames::new(a.family, layer));
        let norms = layers.flat_map(|names| [names.attention_norm, names.output_norm]).chain([names::EMBEDDING_NORM.to_owned()]);
        shapes.extend(norms.flat_map(|name| ["weight", "bias"].map(|part| (format!("{name}.{part}"), vec![a.hidden]))));
        let tensors = shapes.into_iter().enumerate().map(|(at, (name, shape))| {
            let hash = |place: usize| {
                let hash = (place as u32 + 7919 * at as u32).wrapping_mul(2_654_435_761);
                (hash ^ (hash >> 15)).wrapping_mul(0x2c1b_3c6d) >> 8
            };
            let numbers = (0..shape.iter().product()).map(|place| hash(place) as f32 / 8_388_608.0 - 1.0).collect::<Vec<_>>();
            (name, TensorData::new(numbers, shape))
        });
        Transformer::new(&architecture, &mut Weights::from_tensors("formula", tensors), device)
    }

    /// Hidden states times some numbers, and the gradient of the table of relative positions.
    fn states_and_slopes(device: &Device, fused: bool) -> [Vec<f32>; 2] {
        let device = &device.clone().autodiff();
        let network = mpnet(device);
        // Past the distance from which all have one bucket.
        let rows = [150, 1, 2, 17, 64].map(|length| (0..length).map(|at| (at * 7 + length) % 40).collect::<Vec<u32>>());
        let batch = TokenBatch::new(&rows.each_ref().map(Vec::as_slice), 1);
        let (x, sequences) = network.states(&batch, None, None, device, fused);
        let states = States::new(x, sequences).padded(batch.width());
        let outer: Vec<f32> = (0..states.dims().iter().product()).map(|at| (at as f32 * 0.37).cos()).collect();
        let states = states.clone() * Tensor::<3>::from_data(TensorData::new(outer, states.dims()), device);
        let gradients = states.clone().sum().backward();
        let table = network.relative.as_ref().unwrap().val().grad(&gradients).unwrap();
        [states.into_data(), table.into_data()].map(|data| data.iter::<f32>().collect())
    }

    #[track_caller]
    fn assert_near([states, slopes]: [Vec<f32>; 2], [expected, expected_slopes]: [Vec<f32>; 2]) {
        for (got, expected, share) in [(&states, &expected, 1e-5), (&slopes, &expected_slopes, 1e-4)] {
            assert_eq!(got.len(), expected.len());
            let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() <= share * (largest + expected.abs()), "{got}, expected {expected} of up to {largest}");
            }
        }
    }

    /// States of one token of each text times some numbers, and gradients: of the words, of the first layer's feed-forward and of the last one's attention output. `spared` as
    /// [`Transformer::one_each`] has it, otherwise out of the states of all tokens.
    fn one_each(device: &Device, token: Token, fused: bool, precision: Precision, spared: bool) -> [Vec<f32>; 4] {
        let device = &device.clone().autodiff();
        let mut network = mpnet(device);
        network.set_precision(precision);
        let rows = [40, 1, 2, 17, 33].map(|length| (0..length).map(|at| (at * 7 + length) % 40).collect::<Vec<u32>>());
        let batch = TokenBatch::new(&rows.each_ref().map(Vec::as_slice), 1);
        let (x, sequences) = network.states(&batch, None, spared.then_some(token), device, fused);
        let states = if spared { x } else { States::new(x, sequences).one_each(token) };
        assert_eq!(states.dims(), [5, 24]);
        let outer: Vec<f32> = (0..5 * 24).map(|at| (at as f32 * 0.37).cos()).collect();
        let states = states * Tensor::<2>::from_data(TensorData::new(outer, [5, 24]), device);
        let gradients = states.clone().sum().backward();
        let slope = |of: &Param<Tensor<2>>| of.val().grad(&gradients).unwrap().into_data();
        let [first, last] = [&network.layers[0], &network.layers[1]];
        let slopes = [slope(&network.word.weight), slope(&first.inner.weight), slope(&last.attention_output.weight)];
        let [words, inner, output] = slopes;
        [states.into_data(), words, inner, output].map(|data| data.iter::<f32>().collect())
    }

    #[track_caller]
    fn assert_spared(device: &Device, fused: bool, precision: Precision, share: f32) {
        for token in [Token::First, Token::Last] {
            let [all, spared] = [false, true].map(|spared| one_each(device, token, fused, precision, spared));
            for (part, (got, expected)) in spared.iter().zip(&all).enumerate() {
                let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
                assert!(largest > 0.0 && got.len() == expected.len());
                for (got, expected) in got.iter().zip(expected) {
                    assert!(
                        (got - expected).abs() <= share * largest,
                        "{token:?}, part {part}: {got}, expected {expected} of up to {largest}"
                    );
                }
            }
        }
    }

    #[test]
    fn one_token_of_each_text_is_the_same_without_the_others() {
        for fused in [true, false] {
            assert_spared(&Device::flex(), fused, Precision::F32, 1e-5);
        }
        assert_spared(&Device::flex(), true, Precision::Mixed, 1e-3);
    }

    #[test]
    fn one_token_of_each_text_is_the_same_on_a_software_gpu() {
        let Some(device) = kernels::test_gpu() else { return };
        assert_spared(&device, true, Precision::F32, 1e-5);
    }

    #[test]
    #[allow(clippy::print_stderr, reason = "says why it is skipped")]
    fn one_token_of_each_text_is_the_same_in_mixed_precision_on_a_software_gpu() {
        let Some(device) = kernels::test_gpu() else { return };
        match Precision::Mixed.check(&device) {
            Ok(()) => assert_spared(&device, true, Precision::Mixed, 1e-3),
            Err(reason) => eprintln!("skipped: mixed precision ({reason})"),
        }
    }

    #[test]
    fn relative_positions_are_the_same_fused_and_composed() {
        let device = Device::flex();
        let composed = states_and_slopes(&device, false);
        assert!(composed[1].iter().filter(|slope| **slope != 0.0).count() > 80, "nearly all 32 buckets of 3 heads are in use");
        assert_near(states_and_slopes(&device, true), composed);
    }

    #[test]
    fn relative_positions_are_the_same_on_a_software_gpu() {
        let Some(device) = kernels::test_gpu() else { return };
        assert_near(states_and_slopes(&device, true), states_and_slopes(&Device::flex(), false));
    }
}
