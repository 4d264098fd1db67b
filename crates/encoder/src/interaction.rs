//! A small BERT reranker made from the word vectors of a static encoder, arranged so that it compares words before it is trained.
//!
//! A transformer with random weights learns slowly that equal words matter. Here every weight has its usual place, so any BERT reader
//! opens the model and training may change everything, but it starts as an interaction model over soft word matches (as K-NRM, arXiv
//! 1706.06613, is by construction). With `D` the width of the word vectors, a hidden state is `D` features of the word and
//! [`SCRATCH`] further ones, some of which have a meaning at the start:
//!
//! 1. Word vectors of one length; token types write `side` (1 on the query, -1 on the document) and a constant 1.
//! 2. Layer 1, one head: scores are inner products of words plus a large bonus for the other side, so each word attends to the words
//!    like it in the other text. What it reads there is subtracted. A word with a match keeps little but the constant, which layer
//!    norm then makes large: `constant` measures how well a word is matched.
//! 3. Layer 2: the first token averages that measure over the words of the query.
//! 4. The head turns the average into the score.
//!
//! Everything else is small and random, drawn from the seed. A word whose vector the encoder made long (mean pooling: it counts more)
//! starts with more weight in the average.

use burn::tensor::TensorData;
use corpus::TextTokenizer;
use serde_json::{Value, json};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::architecture::{Activation, Architecture, Family};
use crate::encoder::Encoder;
use crate::error::EncoderError;
use crate::names::{self, LayerNames, Outside};
use crate::tiny::normal;

/// Features of a hidden state beside those of the word.
const SCRATCH: usize = 32;
/// Positions: the longest pair.
const POSITIONS: usize = 512;
/// Size of one feature in the word table. Layer norm makes it 1; small, so that steps of usual size move words.
const WORD_SCALE: f32 = 0.1;
/// Deviation of the random weights of feed-forward layers and head.
const NOISE: f32 = 0.02;
/// The same of attention, where noise would drown what is left of a matched word.
const ATTENTION_NOISE: f32 = 0.004;
/// Added to the attention score of the other side, taken from that of the own side.
const CROSS: f32 = 6.0;
/// Attention score that documents' words lose for the first token.
const ASIDE: f32 = 6.0;

/// Features with a meaning, counted behind those of the word.
#[derive(Clone, Copy)]
enum Feature {
    Constant,
    Side,
    /// How much more than usual a word counts.
    Weight,
    /// Marks the first token.
    First,
    /// Marks separators, which are no words and so match nothing.
    Separator,
    /// Where the first token collects its average.
    Matched,
}

/// A reranker in parts, as a folder would hold them.
pub(crate) struct Made {
    pub(crate) architecture: Architecture,
    pub(crate) tensors: Vec<(String, TensorData)>,
    pub(crate) tokenizer: TextTokenizer,
    pub(crate) config: Value,
    pub(crate) tokenizer_config: Value,
}

/// Makes a reranker from a static encoder's table and tokenizer.
///
/// # Errors
/// The tokenizer cannot be given a template for pairs.
pub(crate) fn reranker(encoder: &Encoder, seed: u64) -> Result<Made, EncoderError> {
    let (tokenizer, special) = with_pairs(&encoder.tokenizer)?;
    let words = encoder.network.dimension();
    let hidden = words + SCRATCH;
    let vocabulary = encoder.network.vocabulary().max(tokenizer.vocabulary_size());
    let config = json!({
        "architectures": ["BertForSequenceClassification"], "model_type": "bert", "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0},
        "vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": 2, "num_attention_heads": 1,
        "intermediate_size": 2 * hidden, "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": tokenizer.pad_id(),
        "dtype": "float32",
    });
    let architecture = Architecture {
        family: Family::Bert,
        vocabulary,
        hidden,
        layers: 2,
        heads: 1,
        head: hidden,
        grouped: None,
        intermediate: 2 * hidden,
        positions: POSITIONS,
        first_position: 0,
        token_types: 2,
        relative_buckets: 0,
        rotary: None,
        activation: Activation::Gelu,
        epsilon: 1e-12,
        embedding_dropout: 0.0,
        dropout: 0.0,
        attention_dropout: 0.0,
        pad_id: tokenizer.pad_id(),
    };
    let table = encoder.network.tensors().swap_remove(0).1;
    let table: Vec<f32> = table.iter::<f32>().collect();
    let tensors = Builder { words, hidden, seed, tensors: Vec::new() }.build(&table, vocabulary, &special);
    Ok(Made { architecture, tensors, tokenizer, config, tokenizer_config: special.config })
}

/// The special tokens of pairs.
struct Special {
    first: u32,
    separator: u32,
    config: Value,
}

/// The tokenizer with `[CLS] query [SEP] document [SEP]` around pairs; tokens that it lacks are added.
fn with_pairs(from: &TextTokenizer) -> Result<(TextTokenizer, Special), EncoderError> {
    const FIRST: &str = "[CLS]";
    const SEPARATOR: &str = "[SEP]";
    let failed = |message: String| EncoderError::TokenizerBuild { path: "<made from word vectors>".into(), message };
    let mut tokenizer = Tokenizer::from_bytes(from.to_bytes()).map_err(|error| failed(error.to_string()))?;
    let padding = ["[PAD]", "<pad>"].into_iter().find(|token| from.token_id(token) == Some(from.pad_id())).unwrap_or("[PAD]");
    let added = [padding, FIRST, SEPARATOR].map(|token| AddedToken::from(token, true));
    tokenizer.add_special_tokens(added).map_err(|error| failed(error.to_string()))?;
    let id = |token: &str| tokenizer.token_to_id(token).ok_or_else(|| failed(format!("the token {token} cannot be added")));
    let (first, separator) = (id(FIRST)?, id(SEPARATOR)?);
    let template = TemplateProcessing::builder()
        .try_single(format!("{FIRST} $A {SEPARATOR}"))
        .and_then(|builder| builder.try_pair(format!("{FIRST}:0 $A:0 {SEPARATOR}:0 $B:1 {SEPARATOR}:1")))
        .map_err(&failed)?
        .special_tokens(vec![(FIRST, first), (SEPARATOR, separator)])
        .build()
        .map_err(|error| failed(error.to_string()))?;
    tokenizer.with_post_processor(Some(template));
    let bytes = tokenizer.to_string(true).map_err(|error| failed(error.to_string()))?.into_bytes();
    let mut config =
        json!({"tokenizer_class": "PreTrainedTokenizerFast", "cls_token": FIRST, "sep_token": SEPARATOR, "pad_token": padding});
    if from.token_id("[UNK]").is_some() {
        config["unk_token"] = json!("[UNK]");
    }
    let made =
        TextTokenizer::from_bytes(&bytes).map_err(|source| EncoderError::Tokenizer { path: "<made from word vectors>".into(), source })?;
    Ok((made, Special { first, separator, config }))
}

/// A matrix `[rows, columns]` in PyTorch orientation, `[out, in]`.
struct Matrix {
    values: Vec<f32>,
    columns: usize,
}

impl Matrix {
    fn set(&mut self, row: usize, column: usize, value: f32) {
        self.values[row * self.columns + column] = value;
    }

    /// `value` on the diagonal of the first `count` features.
    fn diagonal(&mut self, count: usize, value: f32) {
        for index in 0..count {
            self.set(index, index, value);
        }
    }
}

struct Builder {
    /// Features of a word.
    words: usize,
    hidden: usize,
    seed: u64,
    tensors: Vec<(String, TensorData)>,
}

impl Builder {
    fn at(&self, feature: Feature) -> usize {
        self.words + feature as usize
    }

    /// A random matrix; each has its own seed, by order.
    fn noise(&self, rows: usize, columns: usize) -> Matrix {
        let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(self.tensors.len() as u64);
        Matrix { values: normal(rows * columns, NOISE, seed), columns }
    }

    fn put(&mut self, name: &str, matrix: Matrix) {
        let rows = matrix.values.len() / matrix.columns;
        self.tensors.push((name.to_owned(), TensorData::new(matrix.values, [rows, matrix.columns])));
    }

    fn vector(&mut self, name: String, length: usize, value: f32) {
        self.tensors.push((name, TensorData::new(vec![value; length], [length])));
    }

    fn linear(&mut self, prefix: &str, weight: Matrix) {
        let rows = weight.values.len() / weight.columns;
        self.put(&format!("{prefix}.weight"), weight);
        self.vector(format!("{prefix}.bias"), rows, 0.0);
    }

    fn norm(&mut self, prefix: &str) {
        self.vector(format!("{prefix}.weight"), self.hidden, 1.0);
        self.vector(format!("{prefix}.bias"), self.hidden, 0.0);
    }

    fn build(mut self, table: &[f32], vocabulary: usize, special: &Special) -> Vec<(String, TensorData)> {
        self.embeddings(table, vocabulary, special);
        for layer in 0..2 {
            self.layer(layer);
        }
        self.head();
        self.tensors
    }

    fn embeddings(&mut self, table: &[f32], vocabulary: usize, special: &Special) {
        let (words, hidden) = (self.words, self.hidden);
        let mut word = Matrix { values: normal(vocabulary * hidden, WORD_SCALE, self.seed), columns: hidden };
        let lengths: Vec<f32> = table.chunks_exact(words).map(|row| row.iter().map(|value| value * value).sum::<f32>().sqrt()).collect();
        let mean = lengths.iter().sum::<f32>() / lengths.len().max(1) as f32;
        for (row, values) in word.values.chunks_exact_mut(hidden).enumerate() {
            values[words..].fill(0.0);
            let Some(&length) = lengths.get(row).filter(|&&length| length > 0.0) else { continue };
            let scale = WORD_SCALE * (words as f32).sqrt() / length;
            for (to, from) in values.iter_mut().zip(&table[row * words..][..words]) {
                *to = from * scale;
            }
            values[words + Feature::Weight as usize] = WORD_SCALE * (length / mean - 1.0).clamp(-0.9, 2.0);
        }
        for (token, feature) in [(special.first, Feature::First), (special.separator, Feature::Separator)] {
            let row = &mut word.values[token as usize * hidden..][..hidden];
            row.fill(0.0);
            row[words + feature as usize] = WORD_SCALE * (words as f32).sqrt();
        }
        self.put(Outside::of(Family::Bert).word, word);

        self.put(names::POSITION, Matrix { values: vec![0.0; POSITIONS * hidden], columns: hidden });
        let mut types = Matrix { values: vec![0.0; 2 * hidden], columns: hidden };
        for (kind, side) in [(0, 1.0), (1, -1.0)] {
            types.set(kind, self.at(Feature::Constant), WORD_SCALE);
            types.set(kind, self.at(Feature::Side), side * WORD_SCALE);
        }
        self.put(names::TOKEN_TYPE, types);
        self.norm(names::EMBEDDING_NORM);
    }

    fn layer(&mut self, layer: usize) {
        let (words, hidden) = (self.words, self.hidden);
        let [constant, side, weight, first, matched] =
            [Feature::Constant, Feature::Side, Feature::Weight, Feature::First, Feature::Matched].map(|feature| self.at(feature));
        let [mut query, mut key, mut value, mut output] = [0, 1, 2, 3].map(|offset| {
            let seed = self.seed.wrapping_add(1000 * (layer as u64 + 1) + offset);
            Matrix { values: normal(hidden * hidden, ATTENTION_NOISE, seed), columns: hidden }
        });
        // Attention divides scores by this.
        let scale = (hidden as f32).sqrt();
        if layer == 0 {
            query.diagonal(words, 1.0);
            key.diagonal(words, 1.0);
            let strength = (CROSS * scale).sqrt();
            query.set(side, side, -strength);
            key.set(side, side, strength);
            value.diagonal(words, 1.0);
            output.diagonal(words, -1.0);
        } else {
            // The first token's mark is about as large as a whole state; documents' words are where constant and side differ.
            let strength = ASIDE.sqrt();
            query.set(side, first, strength);
            key.set(side, constant, -strength / 2.0);
            key.set(side, side, strength / 2.0);
            value.set(matched, constant, 0.5);
            value.set(matched, side, 0.5);
            value.set(matched, weight, 1.0);
            output.set(matched, matched, 1.0);
        }
        let names = LayerNames::new(Family::Bert, layer);
        self.linear(&names.query, query);
        self.linear(&names.key, key);
        self.linear(&names.value, value);
        self.linear(&names.attention_output, output);
        self.norm(&names.attention_norm);
        let inner = self.noise(2 * hidden, hidden);
        self.linear(&names.inner, inner);
        let outer = self.noise(hidden, 2 * hidden);
        self.linear(&names.outer, outer);
        self.norm(&names.output_norm);
    }

    fn head(&mut self) {
        let (hidden, matched) = (self.hidden, self.at(Feature::Matched));
        let mut dense = self.noise(hidden, hidden);
        // The average lies between 1 (nothing matched) and 7; the middle of that is where the tanh is steepest.
        dense.set(0, matched, 0.3);
        self.put("pooler.dense.weight", dense);
        let mut bias = vec![0.0f32; hidden];
        bias[0] = -0.9;
        self.tensors.push(("pooler.dense.bias".to_owned(), TensorData::new(bias, [hidden])));
        let mut output = self.noise(1, hidden);
        output.set(0, 0, 3.0);
        self.linear("classifier", output);
    }
}
