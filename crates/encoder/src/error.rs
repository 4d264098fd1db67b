//! Everything that can be wrong with a model folder, a model name or a batch, each with the place and the remedy.
//!
//! No variant is only a string: fields hold what was found, so that callers and tests can match on them.

use std::fmt;
use std::path::PathBuf;

use corpus::CorpusError;

/// Why an encoder could not be loaded, saved or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncoderError {
    /// A file of the model folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A JSON file of the model folder is not JSON.
    #[error("{} is not valid JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where parsing stopped.
        source: serde_json::Error,
    },
    /// A key of a JSON file has a value that cannot be used.
    #[error("{}: {field} is {got}, expected {expected}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The key, dotted.
        field: String,
        /// The value found, or `absent`.
        got: String,
        /// What would do.
        expected: String,
    },
    /// `model_type` names an architecture that this crate does not build.
    #[error("{}: model_type \"{model_type}\" is not supported; supported are {supported}", path.display())]
    UnsupportedModel {
        /// The `config.json`.
        path: PathBuf,
        /// Its `model_type`.
        model_type: String,
        /// All that are supported.
        supported: &'static str,
    },
    /// `modules.json` lists a module, or an order of modules, that this crate does not build.
    #[error("{}: {problem}; supported are Transformer + Pooling [+ Normalize] and StaticEmbedding [+ Normalize]", path.display())]
    UnsupportedModule {
        /// The `modules.json`.
        path: PathBuf,
        /// Which module, by its type.
        problem: String,
    },
    /// A file that must be there is not.
    #[error("{} is missing: {hint}", path.display())]
    MissingFile {
        /// The file.
        path: PathBuf,
        /// What it is for, and what to do.
        hint: &'static str,
    },
    /// The weight file is not a safetensors file.
    #[error("{} is not a safetensors file: {source}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: safetensors::SafeTensorError,
    },
    /// Tensors are missing, unused or of another shape than the configuration asks for.
    #[error("{origin}: the tensors do not fit the configuration\n{problems}")]
    Tensors {
        /// Where the tensors came from.
        origin: String,
        /// All that is wrong, not only the first.
        problems: Box<TensorProblems>,
    },
    /// The device does not have the precision that was asked for.
    #[error(transparent)]
    Precision(#[from] kernels::layers::PrecisionError),
    /// The tokenizer could not be read or used.
    #[error("{}: {source}", path.display())]
    Tokenizer {
        /// `tokenizer.json`, or the folder.
        path: PathBuf,
        /// What is wrong with it.
        source: CorpusError,
    },
    /// A tokenizer could not be made or adapted.
    #[error("{}: the tokenizer cannot be built: {message}", path.display())]
    TokenizerBuild {
        /// `tokenizer.json`, or a name in angle brackets when it is made in memory.
        path: PathBuf,
        /// What the tokenizers library said.
        message: String,
    },
    /// The tokenizer makes ids for which the model has no embedding row.
    #[error("{}: the tokenizer has {tokens} tokens but the model has only {rows} embedding rows: they do not belong together", path.display())]
    Vocabulary {
        /// The folder.
        path: PathBuf,
        /// Vocabulary size of the tokenizer.
        tokens: usize,
        /// Rows of the word embedding.
        rows: usize,
    },
    /// A length limit is zero or exceeds the positions of the model.
    #[error("{name} is {got}, expected 1 to {limit} (the positions this model has)")]
    Length {
        /// `query_length` or `document_length`.
        name: &'static str,
        /// The value asked for.
        got: usize,
        /// The largest that the model can take.
        limit: usize,
    },
    /// The length limit of a pair leaves no room for text, or exceeds the positions of the model.
    #[error("the length of a pair is {got}, expected {least} to {limit}: special tokens need room, and the model has no more positions")]
    PairLength {
        /// The value asked for.
        got: usize,
        /// Special tokens and one token of text.
        least: usize,
        /// The largest that the model can take.
        limit: usize,
    },
    /// The tokenizer marks a token with a type for which the model has no row.
    #[error("{}: the tokenizer gives a token type {got}, and the model has {rows} types: they do not belong together", path.display())]
    TokenType {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// The type.
        got: u32,
        /// Rows of the token-type embedding.
        rows: usize,
    },
    /// A reranker folder with parts that this crate does not build.
    #[error("{}: {problem}; a reranker is one Transformer with a head for one label", path.display())]
    UnsupportedReranker {
        /// The `modules.json`.
        path: PathBuf,
        /// Which part.
        problem: String,
    },
    /// A score of a pair is not finite.
    #[error("the score of pair {pair} of {pairs} is {got}: the weights or the device pass are broken")]
    BadScore {
        /// The first bad pair.
        pair: usize,
        /// How many pairs there were.
        pairs: usize,
        /// Its score.
        got: f32,
    },
    /// Neither a folder nor a hub id.
    #[error("model \"{spec}\": there is no such folder, and it is not a hub id of the form organisation/name")]
    UnknownModel {
        /// What was asked for.
        spec: String,
    },
    /// The hub refused, could not be reached or sent something unusable.
    #[error("model \"{id}\" from {endpoint}: {source}; check the name and the network, or give the folder of a downloaded model")]
    Hub {
        /// The hub id.
        id: String,
        /// The address asked.
        endpoint: String,
        /// What the client said.
        source: Box<hf_hub::api::sync::ApiError>,
    },
    /// The repository on the hub lacks a file without which nothing can be loaded.
    #[error("model \"{id}\" on the hub has no {file}: {hint}")]
    HubFile {
        /// The hub id.
        id: String,
        /// The file.
        file: String,
        /// What to do.
        hint: &'static str,
    },
    /// The hub may not be asked and the cache does not hold the model.
    #[error("model \"{id}\" is not in the cache {} and HF_HUB_OFFLINE forbids to download it", cache.display())]
    Offline {
        /// The hub id.
        id: String,
        /// The cache that was searched.
        cache: PathBuf,
    },
    /// The cache holds a part of a model's files, or may, and without this one the model would be taken for another.
    #[error("model \"{id}\": its copy in the cache, {}, has no {file}, {reason}; load it once while the hub can be reached, or give that folder as the model to use it as it is", folder.display())]
    PartialCopy {
        /// The hub id.
        id: String,
        /// The snapshot in the cache.
        folder: PathBuf,
        /// The file.
        file: String,
        /// How it is known, or not, that the model has the file.
        reason: &'static str,
    },
    /// The folder to save into exists and holds something else than a model.
    #[error("{} exists and is no model folder: nothing was written; choose another folder or empty this one", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// A row of an encoding is not finite, or is all zero (a failed device pass can look like that).
    #[error("row {row} of {rows} encoded rows {problem}: the weights or the device pass are broken")]
    BadRow {
        /// The first bad row.
        row: usize,
        /// How many rows there were.
        rows: usize,
        /// `is not finite` or `is all zero`.
        problem: &'static str,
    },
    /// The result of a device pass could not be read.
    #[error("the device did not deliver the encoded rows: {message}")]
    Device {
        /// What the device reported.
        message: String,
    },
}

/// What does not fit between the tensors given and the configuration.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TensorProblems {
    /// Names that the configuration asks for and the file lacks.
    pub missing: Vec<String>,
    /// Names in the file that nothing asks for.
    pub unused: Vec<String>,
    /// Name, shape found, shape expected.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Names whose element type is no float: name and type.
    pub mistyped: Vec<(String, String)>,
    /// Names that occur twice once prefixes are removed.
    pub repeated: Vec<String>,
}

impl TensorProblems {
    /// True when nothing is wrong.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for TensorProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        for (what, names) in [("missing", &self.missing), ("unused", &self.unused), ("repeated", &self.repeated)] {
            if !names.is_empty() {
                lines.push(format!("  {what}: {}", names.join(", ")));
            }
        }
        for (name, got, expected) in &self.misshapen {
            lines.push(format!("  shape of {name}: got {got:?}, expected {expected:?}"));
        }
        for (name, got) in &self.mistyped {
            lines.push(format!("  element type of {name}: got {got}, expected F32, F16 or BF16"));
        }
        f.write_str(&lines.join("\n"))
    }
}
