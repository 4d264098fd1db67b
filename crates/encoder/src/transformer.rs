//! A transformer encoder: embeddings, then layers of self-attention and feed-forward (arXiv 1810.04805, 2412.13663).
//!
//! One implementation serves every family; what differs is in [`Architecture`] (sizes, first position, buckets, turns), in
//! `names` and in the two kinds of `layer`. Pooling is not here. Between layers the states of all tokens lie one behind the other, without padding, so that no layer works for nothing; only where attention is
//! a composition of tensor operations (devices without room for the fused one) each text is padded to one width, and its padding masked.

use std::borrow::Cow;
use std::sync::Arc;

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Embedding, LayerNorm};
use burn::tensor::{Device, Int, Tensor, TensorData};

use kernels::layers::{self, AttentionShape, Precision, Sequences, Window};

use crate::architecture::{Architecture, Family};
use crate::attention::{Mask, Seen, Turns, active, padding_bias, relative_buckets, window_bias};
use crate::batch::TokenBatch;
use crate::layer::{Layer, NormKind, residual_norm};
use crate::names::{self, Outside};
use crate::states::{States, Token};
use crate::weights::{Collector, Weights};

/// Token ids to hidden states.
#[derive(Module, Debug)]
pub(crate) struct Transformer {
    word: Embedding,
    /// None where positions are turns of query and key.
    position: Option<Param<Tensor<2>>>,
    token_type: Option<Param<Tensor<2>>>,
    /// Of the embeddings; decoders have none.
    norm: Option<LayerNorm>,
    dropout: Dropout,
    relative: Option<Param<Tensor<2>>>,
    layers: Vec<Layer>,
    /// Behind the last layer, where layers begin with theirs.
    final_norm: Option<LayerNorm>,
    #[module(skip)]
    architecture: Architecture,
    /// Of the linear layers of `layers` and their attention.
    #[module(skip)]
    precision: Precision,
}

impl Transformer {
    /// Takes its tensors out of `weights`, which notes what is missing or of another shape.
    pub(crate) fn new(architecture: &Architecture, weights: &mut Weights, device: &Device) -> Self {
        let a = architecture;
        let names = Outside::of(a.family);
        Self {
            word: Embedding { weight: weights.table(names.word, a.vocabulary, a.hidden, device) },
            position: a.rotary.is_none().then(|| weights.table(names::POSITION, a.positions, a.hidden, device)),
            token_type: (a.token_types > 0).then(|| weights.table(names::TOKEN_TYPE, a.token_types, a.hidden, device)),
            norm: names.norm.map(|name| match a.family {
                Family::ModernBert => weights.norm_without_shift(name, a.hidden, a.epsilon, device),
                _ => weights.norm(name, a.hidden, a.epsilon, device),
            }),
            dropout: DropoutConfig::new(a.embedding_dropout).init(),
            relative: (a.relative_buckets > 0).then(|| weights.table(names::RELATIVE, a.relative_buckets, a.heads, device)),
            layers: (0..a.layers).map(|layer| Layer::new(a, layer, weights, device)).collect(),
            final_norm: names.final_norm.map(|name| weights.norm_without_shift(name, a.hidden, a.epsilon, device)),
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
        layers::attends(device, self.architecture.head)
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
        let (width, lengths) = (batch.width(), batch.lengths().to_vec());
        let sequences = Arc::new(if fused { Sequences::packed(lengths) } else { Sequences::padded(lengths, width) });
        let masks = self.masks(batch, &sequences, device, fused);
        let mut x = self.embed(batch, &sequences, types, device);
        let places = only.map(|token| token.places(&sequences));
        for (index, layer) in self.layers.iter().enumerate() {
            let read = places.as_deref().filter(|_| index + 1 == self.layers.len());
            x = layer.forward(x, masks.of(index), self.precision, read);
        }
        if let Some(final_norm) = &self.final_norm {
            x = NormKind::of(&self.architecture).apply(final_norm, x);
        }
        (x, sequences)
    }

    /// What a query sees in each layer.
    fn masks(&self, batch: &TokenBatch, sequences: &Arc<Sequences>, device: &Device, fused: bool) -> Masks<'_> {
        let (heads, precision) = (self.architecture.heads, self.precision);
        let places = fused.then(|| sequences.on_device(device));
        let seen = |window: Option<Window>| match &places {
            Some(places) => {
                let shape = AttentionShape { sequences: sequences.clone(), heads, window, precision };
                Seen::Places { places: places.clone(), relative: self.by_distance(sequences.width()).map(Box::new), shape }
            }
            None => {
                let bias = match window {
                    None => self.bias(batch, device),
                    Some(window) => Some(window_bias(batch, window, device)),
                };
                Seen::Bias { rows: batch.rows(), width: batch.width(), bias }
            }
        };
        let Some(rotary) = &self.architecture.rotary else {
            return Masks { everywhere: Some(Mask { seen: seen(None), turns: None }), window: None, which: None };
        };
        let head = self.architecture.head;
        let positions = Turns::positions(sequences, device);
        let mask = |base: f64, everywhere: bool| {
            let turns = Turns { angles: Turns::angles(batch.width(), head, base, device), positions: positions.clone() };
            Mask { seen: seen(self.architecture.window(everywhere)), turns: Some(turns) }
        };
        let has = |everywhere: bool| rotary.everywhere.contains(&everywhere);
        Masks {
            everywhere: has(true).then(|| mask(rotary.base, true)),
            window: has(false).then(|| mask(rotary.window_base, false)),
            which: Some(&rotary.everywhere),
        }
    }

    fn embed(&self, batch: &TokenBatch, sequences: &Sequences, types: Option<&[u32]>, device: &Device) -> Tensor<2> {
        // As the rows lie: padding has token 0, which nobody reads.
        fn lying<'a, T: Copy + Default>(numbers: &'a [T], batch: &TokenBatch, sequences: &Sequences) -> Cow<'a, [T]> {
            if sequences.is_packed() { Cow::Borrowed(numbers) } else { Cow::Owned(batch.padded(numbers)) }
        }
        let words = layers::embedding(self.word.weight.val(), &lying(batch.ids(), batch, sequences));
        let norms = NormKind::of(&self.architecture);
        let (Some(position), Some(norm)) = (&self.position, &self.norm) else {
            let words = match &self.norm {
                Some(norm) => norms.apply(norm, words),
                None => words,
            };
            return layers::dropout(words, active(&self.dropout, device));
        };
        // Padding stands at the end, so token i of a row always has position `first + i`.
        let mut shift = position.val().narrow(0, self.architecture.first_position, batch.width());
        if let (Some(table), None) = (&self.token_type, types) {
            shift = shift + table.val().narrow(0, 0, 1);
        }
        let positions: Vec<i32> = sequences.places().map(|(_, position)| position as i32).collect();
        let mut shift = layers::embedding(shift, &positions);
        if let (Some(table), Some(types)) = (&self.token_type, types) {
            shift = shift + one_hot(&lying(types, batch, sequences), self.architecture.token_types, device).matmul(table.val());
        }
        let sum = residual_norm(norm, self.architecture.epsilon, words, shift, 0.0);
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
        let names = Outside::of(self.architecture.family);
        into.param(names.word.to_owned(), &self.word.weight);
        if let Some(position) = &self.position {
            into.param(names::POSITION.to_owned(), position);
        }
        if let Some(types) = &self.token_type {
            into.param(names::TOKEN_TYPE.to_owned(), types);
        }
        if let Some(table) = &self.relative {
            into.param(names::RELATIVE.to_owned(), table);
        }
        if let (Some(name), Some(norm)) = (names.norm, &self.norm) {
            into.norm(name, norm);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            layer.collect(self.architecture.family, index, into);
        }
        if let (Some(name), Some(final_norm)) = (names.final_norm, &self.final_norm) {
            into.norm(name, final_norm);
        }
    }
}

/// The masks of a pass: what layers share that see everything, and what those share that see a window.
struct Masks<'a> {
    everywhere: Option<Mask>,
    window: Option<Mask>,
    /// For each layer whether it sees everything, where some do not.
    which: Option<&'a [bool]>,
}

impl Masks<'_> {
    fn of(&self, layer: usize) -> &Mask {
        let mask = if self.which.is_none_or(|which| which[layer]) { &self.everywhere } else { &self.window };
        mask.as_ref().expect("made for every kind of layer that there is")
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::names::{LayerNames, PreNormNames};

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
            (Outside::of(a.family).word.to_owned(), vec![a.vocabulary, a.hidden]),
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
        Transformer::new(&architecture, &mut by_formula(shapes), device)
    }

    /// A ModernBERT of weights from -1 to 1: the first and the last layer see everything, the others a window that most texts are longer than.
    fn modern_bert(device: &Device) -> Transformer {
        let config = json!({
            "model_type": "modernbert", "vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3,
            "intermediate_size": 32, "max_position_embeddings": 160, "local_attention": 20, "pad_token_id": 1, "local_rope_theta": 50.0,
        });
        let architecture = Architecture::from_config(Path::new("config.json"), &config).unwrap();
        let a = &architecture;
        let mut shapes = vec![
            ("embeddings.tok_embeddings.weight".to_owned(), vec![a.vocabulary, a.hidden]),
            ("embeddings.norm.weight".to_owned(), vec![a.hidden]),
            ("final_norm.weight".to_owned(), vec![a.hidden]),
        ];
        for layer in 0..a.layers {
            let names = PreNormNames::new(a.family, layer);
            let norms = names.attention_norm.iter().chain([&names.feed_norm]);
            shapes.extend(norms.map(|name| (format!("{name}.weight"), vec![a.hidden])));
            let linear = [
                (&names.joint[0], [3 * a.hidden, a.hidden]),
                (&names.attention_output, [a.hidden, a.hidden]),
                (&names.inner[0], [2 * a.intermediate, a.hidden]),
                (&names.outer, [a.hidden, a.intermediate]),
            ];
            shapes.extend(linear.map(|(name, shape)| (format!("{name}.weight"), shape.to_vec())));
        }
        Transformer::new(&architecture, &mut by_formula(shapes), device)
    }

    /// A decoder of weights from -1 to 1, with heads in groups that are wider together than the states, each with a norm.
    fn decoder(device: &Device) -> Transformer {
        let config = json!({
            "model_type": "qwen3", "vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 10, "intermediate_size": 32, "max_position_embeddings": 160, "rope_theta": 50.0,
        });
        let architecture = Architecture::from_config(Path::new("config.json"), &config).unwrap();
        let a = &architecture;
        let mut shapes = vec![("embed_tokens.weight".to_owned(), vec![a.vocabulary, a.hidden]), ("norm.weight".to_owned(), vec![a.hidden])];
        for layer in 0..a.layers {
            let names = PreNormNames::new(a.family, layer);
            let mut shape = |name: &str, shape: &[usize]| shapes.push((format!("{name}.weight"), shape.to_vec()));
            names.attention_norm.iter().chain([&names.feed_norm]).for_each(|name| shape(name, &[a.hidden]));
            names.head_norms.iter().for_each(|name| shape(name, &[a.head]));
            names.joint.iter().zip([4, 2, 2]).for_each(|(name, heads)| shape(name, &[heads * a.head, a.hidden]));
            shape(&names.attention_output, &[a.hidden, a.heads * a.head]);
            names.inner.iter().for_each(|name| shape(name, &[a.intermediate, a.hidden]));
            shape(&names.outer, &[a.hidden, a.intermediate]);
        }
        Transformer::new(&architecture, &mut by_formula(shapes), device)
    }

    /// Numbers from -1 to 1 for tensors of these names and shapes.
    fn by_formula(shapes: Vec<(String, Vec<usize>)>) -> Weights {
        let tensors = shapes.into_iter().enumerate().map(|(at, (name, shape))| {
            let hash = |place: usize| {
                let hash = (place as u32 + 7919 * at as u32).wrapping_mul(2_654_435_761);
                (hash ^ (hash >> 15)).wrapping_mul(0x2c1b_3c6d) >> 8
            };
            let numbers = (0..shape.iter().product()).map(|place| hash(place) as f32 / 8_388_608.0 - 1.0).collect::<Vec<_>>();
            (name, TensorData::new(numbers, shape))
        });
        Weights::from_tensors("formula", tensors)
    }

    /// Texts past the distance from which all have one bucket, and some of a few tokens.
    fn texts() -> TokenBatch {
        let rows = [150, 1, 2, 17, 64].map(|length| (0..length).map(|at| (at * 7 + length) % 40).collect::<Vec<u32>>());
        TokenBatch::new(&rows.each_ref().map(Vec::as_slice), 1)
    }

    /// Hidden states times some numbers, and the gradient of a parameter.
    fn states_and_slopes(
        network: &Transformer,
        parameter: impl Fn(&Transformer) -> Tensor<2>,
        device: &Device,
        fused: bool,
    ) -> [Vec<f32>; 2] {
        let batch = texts();
        let (x, sequences) = network.states(&batch, None, None, device, fused);
        let states = States::new(x, sequences).padded(batch.width());
        let outer: Vec<f32> = (0..states.dims().iter().product()).map(|at| (at as f32 * 0.37).cos()).collect();
        let states = states.clone() * Tensor::<3>::from_data(TensorData::new(outer, states.dims()), device);
        let gradients = states.clone().sum().backward();
        let slopes = parameter(network).grad(&gradients).unwrap();
        [states.into_data(), slopes.into_data()].map(|data| data.iter::<f32>().collect())
    }

    /// The same of an MPNet, with the gradient of the table of relative positions.
    fn with_relative_positions(device: &Device, fused: bool) -> [Vec<f32>; 2] {
        let device = &device.clone().autodiff();
        states_and_slopes(&mpnet(device), |network| network.relative.as_ref().unwrap().val(), device, fused)
    }

    /// The same of a ModernBERT, with the gradient of query, key and value of a layer with a window.
    fn with_turns_and_windows(device: &Device, fused: bool) -> [Vec<f32>; 2] {
        let device = &device.clone().autodiff();
        let joint = |network: &Transformer| match &network.layers[1] {
            Layer::PreNorm(layer) => layer.attention.joint.weight.val(),
            Layer::PostNorm(_) => panic!("a ModernBERT's layers"),
        };
        states_and_slopes(&modern_bert(device), joint, device, fused)
    }

    /// The same of a decoder, with the gradient of query, key and value in front of norms and groups.
    fn with_groups(device: &Device, fused: bool) -> [Vec<f32>; 2] {
        let device = &device.clone().autodiff();
        let joint = |network: &Transformer| match &network.layers[1] {
            Layer::PreNorm(layer) => layer.attention.joint.weight.val(),
            Layer::PostNorm(_) => panic!("a decoder's layers"),
        };
        states_and_slopes(&decoder(device), joint, device, fused)
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
    fn one_each(mut network: Transformer, device: &Device, token: Token, fused: bool, spared: bool, precision: Precision) -> [Vec<f32>; 4] {
        network.set_precision(precision);
        let batch = texts();
        let (x, sequences) = network.states(&batch, None, spared.then_some(token), device, fused);
        let states = if spared { x } else { States::new(x, sequences).one_each(token) };
        assert_eq!(states.dims(), [5, 24]);
        let outer: Vec<f32> = (0..5 * 24).map(|at| (at as f32 * 0.37).cos()).collect();
        let states = states * Tensor::<2>::from_data(TensorData::new(outer, [5, 24]), device);
        let gradients = states.clone().sum().backward();
        let slope = |of: &Param<Tensor<2>>| of.val().grad(&gradients).unwrap().into_data();
        let parts = |layer: &Layer| match layer {
            Layer::PostNorm(layer) => [layer.inner.weight.clone(), layer.attention_output.weight.clone()],
            Layer::PreNorm(layer) => [layer.inner.weight.clone(), layer.attention_output.weight.clone()],
        };
        let ([inner, _], [_, output]) = (parts(&network.layers[0]), parts(network.layers.last().unwrap()));
        [states.into_data(), slope(&network.word.weight), slope(&inner), slope(&output)].map(|data| data.iter::<f32>().collect())
    }

    #[track_caller]
    fn assert_spared(device: &Device, fused: bool, precision: Precision, share: f32) {
        let device = &device.clone().autodiff();
        for (made, token) in
            [mpnet, modern_bert, decoder].into_iter().flat_map(|made| [Token::First, Token::Last].map(|token| (made, token)))
        {
            let [all, spared] = [false, true].map(|spared| one_each(made(device), device, token, fused, spared, precision));
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
        let composed = with_relative_positions(&device, false);
        assert!(composed[1].iter().filter(|slope| **slope != 0.0).count() > 80, "nearly all 32 buckets of 3 heads are in use");
        assert_near(with_relative_positions(&device, true), composed);
    }

    #[test]
    fn turns_and_windows_are_the_same_fused_and_composed() {
        assert_near(with_turns_and_windows(&Device::flex(), true), with_turns_and_windows(&Device::flex(), false));
    }

    #[test]
    fn heads_in_groups_are_the_same_fused_and_composed() {
        assert_near(with_groups(&Device::flex(), true), with_groups(&Device::flex(), false));
    }

    #[test]
    fn a_token_of_a_decoder_sees_none_behind_it() {
        let device = &Device::flex();
        let network = decoder(device);
        let states = |tokens: &[u32]| network.forward(&TokenBatch::new(&[tokens], 0), device).padded(tokens.len()).into_data();
        let (short, long) = (states(&[3, 9, 14]), states(&[3, 9, 14, 27]));
        let [short, long]: [Vec<f32>; 2] = [short, long].map(|data| data.iter::<f32>().collect());
        let largest = short.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        assert!(short.iter().zip(&long).all(|(a, b)| (a - b).abs() <= 1e-5 * largest));
        let turned: Vec<f32> = states(&[9, 3, 14]).iter::<f32>().collect();
        assert!(short.iter().zip(&turned).any(|(a, b)| (a - b).abs() > 0.1 * largest));
    }

    #[test]
    fn positions_are_the_same_on_a_software_gpu() {
        let Some(device) = kernels::test_gpu() else { return };
        assert_near(with_relative_positions(&device, true), with_relative_positions(&Device::flex(), false));
        assert_near(with_turns_and_windows(&device, true), with_turns_and_windows(&Device::flex(), false));
        assert_near(with_groups(&device, true), with_groups(&Device::flex(), false));
    }
}
