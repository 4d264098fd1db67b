//! A reranker as users know it: network, tokenizer for pairs, length, and the files that travel with them.
//!
//! The folders that transformers (`*ForSequenceClassification`) and sentence-transformers (`CrossEncoder`) write are read, and one is
//! written that both open (`cross_encoder/folder.rs`). Scores are logits; [`probability`] is the sigmoid that sentence-transformers
//! puts behind a model of one label. Training takes [`CrossEncoder::network`] out, trains a copy on an autodiff device and puts
//! `valid()` of it back.

mod folder;

use std::path::Path;

use burn::tensor::{Device, TensorData};
use corpus::TextTokenizer;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::architecture::{Architecture, Family};
use crate::encoder::{Card, Encoder};
use crate::error::EncoderError;
use crate::hub::Hub;
use crate::interaction;
use crate::keys::Keys;
use crate::names;
use crate::pair_network::{Head, PairNetwork, head_names, ignored};
use crate::pairs::{PairTokenizer, PairTokens, TokenPairs};
use crate::tiny::normal;
use crate::weights::Weights;
use folder::{WRITTEN, has_types, name_task};

/// Standard deviation of the weights of a fresh head, as transformers draws them.
const HEAD_DEVIATION: f32 = 0.02;

/// A cross-encoder that can be used, trained and saved.
pub struct CrossEncoder {
    /// The trainable part.
    pub network: PairNetwork,
    /// For the model card that is saved.
    pub card: Card,
    pairs: PairTokenizer,
    /// `config.json` and `tokenizer_config.json`.
    config: Value,
    tokenizer_config: Value,
    /// Other files of the folder that are saved unchanged: name and content.
    files: Vec<(String, Vec<u8>)>,
}

impl std::fmt::Debug for CrossEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrossEncoder")
            .field("architecture", self.network.architecture())
            .field("max_length", &self.max_length())
            .finish_non_exhaustive()
    }
}

/// The probability of relevance that a logit stands for, `1 / (1 + exp(-logit))`: what sentence-transformers returns for a model of one
/// label, and what thresholds such as RocketQA's 0.1 and 0.9 (arXiv 2010.08191) are meant for.
pub fn probability(logit: f32) -> f32 {
    // Either form keeps the exponent negative, so nothing overflows.
    let small = (-logit.abs()).exp();
    if logit >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) }
}

impl CrossEncoder {
    /// Loads a model folder, or a model of the hub given as `organisation/name`, onto `device`.
    ///
    /// # Errors
    /// Says which file, key or tensor is wrong and what would be right.
    pub fn load(spec: &str, device: &Device) -> Result<Self, EncoderError> {
        match Path::new(spec) {
            path if path.is_dir() => Self::read(path, device),
            _ if Hub::is_id(spec) => Self::download(spec, &Hub::from_env(), device),
            _ => Err(EncoderError::UnknownModel { spec: spec.to_owned() }),
        }
    }

    /// Whether [`CrossEncoder::load`] will find a reranker there, without reading its weights; a model of the hub is fetched.
    ///
    /// # Errors
    /// When there is none, or another model.
    pub fn check(spec: &str) -> Result<(), EncoderError> {
        let (_, path, config) = folder::configuration(&Hub::locate(spec)?)?;
        let architecture = Architecture::from_config(&path, &config)?;
        folder::head(&Keys { path: &path, config: &config }, &architecture).map(drop)
    }

    /// Loads model `id` from a given hub.
    ///
    /// # Errors
    /// As [`CrossEncoder::load`].
    pub fn download(id: &str, hub: &Hub, device: &Device) -> Result<Self, EncoderError> {
        let mut loaded = Self::read(&hub.fetch(id)?, device)?;
        loaded.card.base_model = Some(id.to_owned());
        Ok(loaded)
    }

    fn assemble(
        network: PairNetwork,
        tokenizer: TextTokenizer,
        folder: &Path,
        max_length: usize,
        config: Value,
        tokenizer_config: Value,
        files: Vec<(String, Vec<u8>)>,
    ) -> Result<Self, EncoderError> {
        let architecture = network.architecture();
        if tokenizer.vocabulary_size() > architecture.vocabulary {
            let (tokens, rows) = (tokenizer.vocabulary_size(), architecture.vocabulary);
            return Err(EncoderError::Vocabulary { path: folder.to_owned(), tokens, rows });
        }
        let types = if has_types(architecture, &tokenizer_config) { architecture.token_types } else { 0 };
        let pairs = PairTokenizer::new(tokenizer, &folder.join("tokenizer.json"), types, max_length, architecture.max_length())?;
        Ok(Self { network, card: Card::default(), pairs, config, tokenizer_config, files })
    }

    /// Whether [`CrossEncoder::from_encoder`] can make a reranker of this encoder, without making one.
    ///
    /// # Errors
    /// When it is a decoder, or its configuration describes a head that is not built.
    pub fn check_encoder(encoder: &Encoder) -> Result<(), EncoderError> {
        if encoder.network.is_static() { Ok(()) } else { with_head(&parsed(encoder, "config.json")?).map(drop) }
    }

    /// A new reranker out of a bi-encoder, to be trained: the same transformer and tokenizer with a fresh head drawn from `seed`. Out of
    /// a static encoder, which has no transformer, a small one over the same word vectors; see `interaction`.
    ///
    /// # Errors
    /// When the encoder's tokenizer cannot take pairs.
    pub fn from_encoder(encoder: &Encoder, seed: u64) -> Result<Self, EncoderError> {
        let device = encoder.network.device().without_autodiff();
        let mut card = encoder.card.clone();
        card.text.clear();
        if encoder.network.is_static() {
            let made = interaction::reranker(encoder, seed)?;
            let weights = Weights::from_tensors_but("word vectors", made.tensors, ignored(Family::Bert));
            let network = PairNetwork::build(&made.architecture, Head { dropout: 0.0, mean: false }, weights, &device)?;
            let folder = Path::new("<made from word vectors>");
            let limit = network.max_length();
            let reranker = Self::assemble(network, made.tokenizer, folder, limit, made.config, made.tokenizer_config, Vec::new())?;
            return Ok(Self { card, ..reranker });
        }
        let (mut config, tokenizer_config) = (parsed(encoder, "config.json")?, parsed(encoder, "tokenizer_config.json")?);
        let (architecture, head) = with_head(&config)?;
        let mut tensors = encoder.network.tensors();
        let [dense, output] = head_names(architecture.family);
        let modern = architecture.family == Family::ModernBert;
        for (layer, (prefix, rows)) in [(dense, architecture.hidden), (output, 1)].into_iter().enumerate() {
            let values = normal(rows * architecture.hidden, HEAD_DEVIATION, seed.wrapping_add(layer as u64));
            tensors.push((format!("{prefix}.weight"), TensorData::new(values, [rows, architecture.hidden])));
            // The inner layer of a ModernBERT's head has none.
            if !(modern && layer == 0) {
                tensors.push((format!("{prefix}.bias"), TensorData::new(vec![0.0f32; rows], [rows])));
            }
        }
        if modern {
            let ones = TensorData::new(vec![1.0f32; architecture.hidden], [architecture.hidden]);
            tensors.push((format!("{}.weight", names::HEAD_NORM), ones));
        }
        let weights = Weights::from_tensors_but("encoder", tensors, ignored(architecture.family));
        let network = PairNetwork::build(&architecture, head, weights, &device)?;
        name_task(&mut config);
        let settings = &encoder.settings;
        let max_length = network.max_length().min(settings.query_length + settings.document_length);
        let files = encoder.files.iter().filter(|(name, _)| !WRITTEN.contains(&name.as_str())).cloned().collect();
        let tokenizer = encoder.tokenizer.clone();
        let reranker = Self::assemble(network, tokenizer, Path::new("<encoder>"), max_length, config, tokenizer_config, files)?;
        Ok(Self { card, ..reranker })
    }

    /// Tokens kept of a pair, special tokens included.
    pub fn max_length(&self) -> usize {
        self.pairs.max_length()
    }

    /// Changes the tokens kept of a pair; the longer text is cut first.
    ///
    /// # Errors
    /// A length without room for text, or beyond the positions of the model; nothing is changed then.
    pub fn set_max_length(&mut self, max_length: usize) -> Result<(), EncoderError> {
        self.pairs.truncate_at(max_length, self.network.max_length())
    }

    /// Id that fills short rows of a batch.
    pub fn pad_id(&self) -> u32 {
        self.pairs.file.pad_id()
    }

    /// Rows of (query, document) pairs, in order, computed in parallel.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn tokenize<Q: AsRef<str> + Sync, D: AsRef<str> + Sync>(&self, pairs: &[(Q, D)]) -> Result<Vec<PairTokens>, EncoderError> {
        self.pairs.encode_all(pairs)
    }

    /// Rows as one batch.
    pub fn batch(&self, rows: &[&PairTokens]) -> TokenPairs {
        TokenPairs::new(rows, self.pad_id())
    }

    /// Logits of tokenised pairs, in one batch: the device sees all of them at once.
    ///
    /// # Errors
    /// The device fails, or a score is not finite.
    pub fn score_rows(&self, rows: &[&PairTokens]) -> Result<Vec<f32>, EncoderError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let logits = self.network.logits(&self.batch(rows), &self.network.device());
        let scores = logits.try_into_vec_as::<f32>().map_err(|error| EncoderError::Device { message: format!("{error:?}") })?;
        match scores.iter().enumerate().find(|(_, score)| !score.is_finite()) {
            Some((pair, &got)) => Err(EncoderError::BadScore { pair, pairs: scores.len(), got }),
            None => Ok(scores),
        }
    }

    /// Logits of (query, document) pairs in the order given, in batches of at most `batch` pairs, those of like length
    /// together. See [`probability`].
    ///
    /// # Errors
    /// The tokenizer or the device fails, or a score is not finite.
    pub fn scores<Q: AsRef<str> + Sync, D: AsRef<str> + Sync>(&self, pairs: &[(Q, D)], batch: usize) -> Result<Vec<f32>, EncoderError> {
        let rows = self.tokenize(pairs)?;
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&row| std::cmp::Reverse(rows[row].ids.len()));
        let mut scores = vec![0.0; rows.len()];
        for chunk in order.chunks(batch.max(1)) {
            let chosen: Vec<&PairTokens> = chunk.iter().map(|&row| &rows[row]).collect();
            for (&row, score) in chunk.iter().zip(self.score_rows(&chosen)?) {
                scores[row] = score;
            }
        }
        Ok(scores)
    }

    /// SHA-256, in hexadecimal, of everything but the length that a score depends on: weights, architecture, tokenizer, types.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        let architecture = self.network.architecture();
        part(format!("{architecture:?} {}", has_types(architecture, &self.tokenizer_config)).as_bytes());
        part(self.pairs.file.fingerprint().as_bytes());
        for (name, data) in self.network.tensors() {
            part(name.as_bytes());
            part(data.as_bytes());
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A JSON file of an encoder's folder, empty where there is none.
fn parsed(encoder: &Encoder, name: &str) -> Result<Value, EncoderError> {
    match encoder.files.iter().find(|(file, _)| file == name) {
        Some((name, content)) => serde_json::from_slice(content).map_err(|source| EncoderError::Json { path: name.into(), source }),
        None => Ok(json!({})),
    }
}

/// The body and the head that an encoder's `config.json` describes.
fn with_head(config: &Value) -> Result<(Architecture, Head), EncoderError> {
    let path = Path::new("config.json");
    let architecture = Architecture::from_config(path, config)?;
    let head = folder::head(&Keys { path, config }, &architecture)?;
    Ok((architecture, head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_follow_the_sigmoid_and_never_overflow() {
        for logit in [-200.0f32, -5.0, -0.1, 0.0, 0.1, 5.0, 200.0] {
            let expected = 1.0 / (1.0 + (-f64::from(logit)).exp());
            assert!((f64::from(probability(logit)) - expected).abs() < 1e-7, "{logit}");
        }
    }
}
