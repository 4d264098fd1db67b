//! A reranker as users know it: network, tokenizer for pairs, length, and the files that travel with them.
//!
//! Reads the folders that transformers (`*ForSequenceClassification`) and sentence-transformers (`CrossEncoder`) write, and writes one
//! that both open. Scores are logits; [`probability`] is the sigmoid that sentence-transformers puts behind a model of one label.
//! Training takes [`CrossEncoder::network`] out, trains a copy on an autodiff device and puts `valid()` of it back.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, TensorData};
use corpus::TextTokenizer;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::architecture::{Architecture, Family, Keys};
use crate::encoder::{Card, Encoder};
use crate::error::EncoderError;
use crate::folder::{COPIED, optional_json, read, read_length, read_tokenizer};
use crate::hub::Hub;
use crate::interaction;
use crate::pair_network::{PairNetwork, head_names, ignored};
use crate::pairs::{PairTokenizer, PairTokens, TokenPairs};
use crate::save::{full_precision, serialize, whole, write_file, write_json};
use crate::tiny::normal;
use crate::weights::Weights;

/// Standard deviation of the weights of a fresh head, as transformers draws them.
const HEAD_DEVIATION: f32 = 0.02;

/// Files of a folder that saving writes itself.
const WRITTEN: [&str; 3] = ["config.json", "tokenizer.json", "tokenizer_config.json"];

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
        let path = Path::new(spec);
        if path.is_dir() {
            return Self::read(path, device);
        }
        if !Hub::is_id(spec) {
            return Err(EncoderError::UnknownModel { spec: spec.to_owned() });
        }
        Self::download(spec, &Hub::from_env(), device)
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

    fn read(folder: &Path, device: &Device) -> Result<Self, EncoderError> {
        let folder = body_folder(folder)?;
        let path = folder.join("config.json");
        let config = optional_json(&path)?
            .ok_or(EncoderError::MissingFile { path: path.clone(), hint: "it describes the architecture; copy it from the base model" })?;
        let keys = Keys { path: &path, config: &config };
        check_task(&keys)?;
        let architecture = Architecture::from_config(&path, &config)?;
        let dropout = head_dropout(&keys, &architecture)?;
        let weights = Weights::read_but(&folder, ignored(architecture.family))?;
        let network = PairNetwork::build(&architecture, dropout, weights, device)?;
        let (max_length, lowercase) = read_length(&folder, architecture.max_length())?;
        let tokenizer = read_tokenizer(&folder.join("tokenizer.json"), lowercase, false)?;
        let tokenizer_config = optional_json(&folder.join("tokenizer_config.json"))?.unwrap_or_else(|| json!({}));
        let mut files = Vec::new();
        for name in COPIED.iter().filter(|name| !WRITTEN.contains(name)) {
            let path = folder.join(name);
            if path.is_file() {
                files.push(((*name).to_owned(), read(&path)?));
            }
        }
        Self::assemble(network, tokenizer, &folder, max_length, config, tokenizer_config, files)
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
            let network = PairNetwork::build(&made.architecture, 0.0, weights, &device)?;
            let folder = Path::new("<made from word vectors>");
            let limit = network.max_length();
            let reranker = Self::assemble(network, made.tokenizer, folder, limit, made.config, made.tokenizer_config, Vec::new())?;
            return Ok(Self { card, ..reranker });
        }
        let file = |name: &str| encoder.files.iter().find(|(file, _)| file == name);
        let parsed = |name: &str| match file(name) {
            Some((name, content)) => serde_json::from_slice(content).map_err(|source| EncoderError::Json { path: name.into(), source }),
            None => Ok(json!({})),
        };
        let (mut config, tokenizer_config): (Value, Value) = (parsed("config.json")?, parsed("tokenizer_config.json")?);
        let path = Path::new("config.json");
        let architecture = Architecture::from_config(path, &config)?;
        let dropout = head_dropout(&Keys { path, config: &config }, &architecture)?;
        let mut tensors = encoder.network.tensors();
        let [dense, output] = head_names(architecture.family);
        for (layer, (prefix, rows)) in [(dense, architecture.hidden), (output, 1)].into_iter().enumerate() {
            let values = normal(rows * architecture.hidden, HEAD_DEVIATION, seed.wrapping_add(layer as u64));
            tensors.push((format!("{prefix}.weight"), TensorData::new(values, [rows, architecture.hidden])));
            tensors.push((format!("{prefix}.bias"), TensorData::new(vec![0.0f32; rows], [rows])));
        }
        let weights = Weights::from_tensors_but("encoder", tensors, ignored(architecture.family));
        let network = PairNetwork::build(&architecture, dropout, weights, &device)?;
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

    /// Pads rows to one batch.
    pub fn batch(&self, rows: &[&PairTokens]) -> TokenPairs {
        TokenPairs::new(rows, self.pad_id(), 1)
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

    /// Logits of (query, document) pairs in the order given, in batches of at most `batch` pairs, longest first so that little is
    /// padding. See [`probability`].
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

    /// Writes a folder that transformers and sentence-transformers open: complete or not at all. A model that is there is replaced.
    ///
    /// # Errors
    /// Something cannot be written, or `folder` holds something else than a model.
    pub fn save(&self, folder: &Path) -> Result<(), EncoderError> {
        whole(folder, |staging| {
            for (name, content) in &self.files {
                write_file(&staging.join(name), content)?;
            }
            let mut tokenizer_config = self.tokenizer_config.clone();
            tokenizer_config["model_max_length"] = json!(self.max_length());
            // What a tokenizer hands over when nothing is said differs between versions of transformers.
            tokenizer_config["model_input_names"] = match has_types(self.network.architecture(), &self.tokenizer_config) {
                true => json!(["input_ids", "token_type_ids", "attention_mask"]),
                false => json!(["input_ids", "attention_mask"]),
            };
            write_json(&staging.join("tokenizer_config.json"), &tokenizer_config)?;
            write_file(&staging.join("tokenizer.json"), self.pairs.file.to_bytes())?;
            let config = full_precision(self.config.to_string().as_bytes()).unwrap_or_else(|| self.config.clone());
            write_json(&staging.join("config.json"), &config)?;
            write_file(&staging.join("README.md"), self.readme().as_bytes())?;
            write_file(&staging.join("model.safetensors"), &serialize(&self.network.tensors(), folder)?)
        })
    }

    fn readme(&self) -> String {
        let mut text = String::from("---\nlibrary_name: sentence-transformers\npipeline_tag: text-ranking\n");
        // JSON strings are YAML strings, so any name is quoted rightly.
        if let Some(base) = &self.card.base_model {
            text.push_str(&format!("base_model: {}\n", json!(base)));
        }
        if !self.card.datasets.is_empty() {
            text.push_str(&format!("datasets: {}\n", json!(self.card.datasets)));
        }
        text.push_str("tags:\n- sentence-transformers\n- cross-encoder\n- reranker\n---\n\n# Reranker\n\n");
        text.push_str(&format!(
            "Gives a query and a document together one score; the higher, the more relevant. Pairs are cut at {} tokens.\n\n\
             ```python\nfrom sentence_transformers import CrossEncoder\n\nmodel = CrossEncoder(\"path/to/this/folder\")\n\
             print(model.predict([(\"a question\", \"a passage\")]))\n```\n",
            self.max_length()
        ));
        if !self.card.text.is_empty() {
            text.push_str(&format!("\n{}\n", self.card.text.trim_end()));
        }
        text
    }
}

/// The folder with the transformer: `folder` itself, or what `modules.json` of current sentence-transformers versions names.
fn body_folder(folder: &Path) -> Result<PathBuf, EncoderError> {
    let path = folder.join("modules.json");
    let Some(listing) = optional_json(&path)? else { return Ok(folder.to_owned()) };
    let unsupported = |problem: String| Err(EncoderError::UnsupportedReranker { path: path.clone(), problem });
    let modules = listing.as_array().map(Vec::as_slice).unwrap_or_default();
    let [module] = modules else { return unsupported(format!("it lists {} modules", modules.len())) };
    let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
    let (kind, place) = (text("type"), text("path"));
    if kind.rsplit('.').next() != Some("Transformer") {
        return unsupported(format!("module \"{kind}\" is not supported"));
    }
    if place.contains("..") || Path::new(place).is_absolute() {
        return unsupported(format!("path \"{place}\" leaves the folder"));
    }
    Ok(folder.join(place))
}

/// Refuses models of another task, and heads of more than one label.
fn check_task(keys: &Keys<'_>) -> Result<(), EncoderError> {
    const TASK: &str = "ForSequenceClassification";
    let classes = keys.config.get("architectures").and_then(Value::as_array);
    if classes.is_some_and(|classes| !classes.iter().any(|class| class.as_str().is_some_and(|class| class.ends_with(TASK)))) {
        return Err(keys.wrong(
            "architectures",
            "a class that ends in ForSequenceClassification: this is no reranker, but one can be trained from it",
        ));
    }
    // Without either key transformers builds two labels.
    let (field, labels) = match (keys.config.get("id2label").and_then(Value::as_object), keys.config.get("num_labels")) {
        (Some(labels), _) => ("id2label", Some(labels.len() as u64)),
        (None, Some(count)) => ("num_labels", count.as_u64()),
        (None, None) => ("num_labels", None),
    };
    if labels == Some(1) { Ok(()) } else { Err(keys.wrong(field, "one label: a reranker gives one score")) }
}

/// Makes a configuration one of a reranker.
fn name_task(config: &mut Value) {
    let class = match config.get("model_type").and_then(Value::as_str).unwrap_or_default() {
        "distilbert" => "DistilBert",
        "roberta" => "Roberta",
        "xlm-roberta" => "XLMRoberta",
        "camembert" => "Camembert",
        "mpnet" => "MPNet",
        _ => "Bert",
    };
    config["architectures"] = json!([format!("{class}ForSequenceClassification")]);
    config["id2label"] = json!({"0": "LABEL_0"});
    config["label2id"] = json!({"LABEL_0": 0});
    if let Some(config) = config.as_object_mut() {
        config.remove("num_labels");
    }
}

fn head_dropout(keys: &Keys<'_>, architecture: &Architecture) -> Result<f64, EncoderError> {
    let (field, default) = match architecture.family {
        Family::Bert | Family::Roberta => ("classifier_dropout", architecture.dropout),
        Family::DistilBert => ("seq_classif_dropout", 0.2),
        // Its head takes the dropout of the hidden states.
        Family::Mpnet => return Ok(architecture.dropout),
    };
    match keys.config.get(field) {
        None | Some(Value::Null) => Ok(default),
        Some(_) => keys.probability(field),
    }
}

/// Whether the model is given the types of tokens: BERT, unless the tokenizer's configuration lists its inputs without them; other
/// families only when it lists them.
fn has_types(architecture: &Architecture, tokenizer_config: &Value) -> bool {
    if architecture.token_types < 2 {
        return false;
    }
    match tokenizer_config.get("model_input_names").and_then(Value::as_array) {
        Some(names) => names.iter().any(|name| name == "token_type_ids"),
        None => architecture.family == Family::Bert,
    }
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

    #[test]
    fn one_label_of_the_right_task_is_asked_for() {
        let check =
            |config: Value| check_task(&Keys { path: Path::new("config.json"), config: &config }).map_err(|error| error.to_string());
        let class = "BertForSequenceClassification";
        assert_eq!(check(json!({"architectures": [class], "id2label": {"0": "LABEL_0"}})), Ok(()));
        assert_eq!(check(json!({"num_labels": 1})), Ok(()));
        for (config, part) in [
            (json!({"architectures": [class]}), "num_labels is absent, expected one label"),
            (json!({"id2label": {"0": "no", "1": "yes"}}), "expected one label"),
            (json!({"architectures": ["BertModel"], "num_labels": 1}), "architectures is [\"BertModel\"]"),
        ] {
            let message = check(config).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
    }
}
