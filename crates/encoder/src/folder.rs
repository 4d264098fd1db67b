//! Reading a model folder: sentence-transformers in both its layouts, and plain transformers folders.
//!
//! Decides which file says what; the parsing of each part is in `architecture`, `settings` and `weights`. Without
//! `modules.json` sentence-transformers takes mean pooling and does *not* normalise, and so does this.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use corpus::TextTokenizer;
use serde_json::{Value, json};

use crate::architecture::{Architecture, Keys};
use crate::encoder::{Card, Encoder};
use crate::error::EncoderError;
use crate::network::{Network, Plan, STATIC_LENGTH};
use crate::pooling::Pooling;
use crate::settings::{Settings, read_pooling};
use crate::weights::Weights;

/// Files that belong to the tokenizer or the configuration and are copied unchanged when the model is saved.
pub(crate) const COPIED: [&str; 8] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
];

/// Names under which sentence-transformers has kept the length limit of a transformer.
pub(crate) const LENGTH_FILES: [&str; 6] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_mpnet_config.json",
];

/// What `modules.json` asks for, or what its absence means.
struct Modules {
    /// Folder of the transformer or of the embedding bag.
    body: PathBuf,
    is_static: bool,
    pooling: Option<PathBuf>,
    normalize: bool,
}

/// Refuses folders that hold no encoder of texts, none at all or a reranker, or one of an architecture that is not built here.
pub(crate) fn check(folder: &Path) -> Result<(), EncoderError> {
    if folder.join("modules.json").is_file() {
        let modules = Modules::read(folder)?;
        return if modules.is_static { Ok(()) } else { modules.transformer().map(drop) };
    }
    let path = folder.join("config.json");
    let hint = "a model folder has config.json, and modules.json when sentence-transformers wrote it";
    let config = optional_json(&path)?.ok_or(EncoderError::MissingFile { path: path.clone(), hint })?;
    if is_reranker(&config) {
        let keys = Keys { path: &path, config: &config };
        return Err(keys.wrong(
            "architectures",
            "an encoder of texts: this is a cross-encoder, which reads pairs (teacher.model = \"reranker\", reranker.model = it)",
        ));
    }
    Architecture::from_config(&path, &config).map(drop)
}

/// Whether a configuration is that of a sequence classifier.
pub(crate) fn is_reranker(config: &Value) -> bool {
    let classes = config.get("architectures").and_then(Value::as_array);
    classes
        .is_some_and(|classes| classes.iter().any(|class| class.as_str().is_some_and(|class| class.ends_with("ForSequenceClassification"))))
}

/// Loads the model in `folder` onto `device`.
pub(crate) fn load(folder: &Path, device: &Device) -> Result<Encoder, EncoderError> {
    check(folder)?;
    let modules = Modules::read(folder)?;
    let weights = Weights::read(&modules.body)?;
    let (plan, mut settings, lowercase) = if modules.is_static {
        let settings = Settings::plain(Pooling::Mean, modules.normalize, STATIC_LENGTH);
        (Plan::static_from(&weights), settings, false)
    } else {
        modules.transformer()?
    };
    let prompts = folder.join("config_sentence_transformers.json");
    if let Some(config) = optional_json(&prompts)? {
        settings.read_prompts(&prompts, &config)?;
    }
    modules.check_prompt_pooling(&settings)?;

    let path = modules.body.join("tokenizer.json");
    let tokenizer = read_tokenizer(&path, lowercase, modules.is_static)?;
    let network = Network::build(&plan, settings.pooling, settings.normalize, weights, device)?;
    if tokenizer.vocabulary_size() > network.vocabulary() {
        return Err(EncoderError::Vocabulary { path: modules.body, tokens: tokenizer.vocabulary_size(), rows: network.vocabulary() });
    }
    settings.check_lengths(network.max_length())?;
    let mut files = Vec::new();
    for name in COPIED {
        let path = modules.body.join(name);
        if path.is_file() {
            files.push((name.to_owned(), read(&path)?));
        }
    }
    Ok(Encoder { network, tokenizer, settings, files, lowercase, card: Card::default() })
}

impl Modules {
    fn read(folder: &Path) -> Result<Self, EncoderError> {
        let path = folder.join("modules.json");
        let Some(listing) = optional_json(&path)? else {
            if !folder.join("config.json").is_file() {
                return Err(EncoderError::MissingFile {
                    path: folder.join("config.json"),
                    hint: "a model folder has config.json, and modules.json when sentence-transformers wrote it",
                });
            }
            tracing::warn!(
                folder = %folder.display(),
                "no modules.json: mean pooling without normalisation, as sentence-transformers does; \
                 set pooling and normalize if the model was trained otherwise"
            );
            return Ok(Self { body: folder.to_owned(), is_static: false, pooling: None, normalize: false });
        };
        let unsupported = |problem: String| EncoderError::UnsupportedModule { path: path.clone(), problem };
        let modules = listing.as_array().ok_or_else(|| unsupported("it is no array".to_owned()))?;
        let mut body = None;
        let mut pooling = None;
        let mut normalize = false;
        for module in modules {
            let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
            let (kind, place) = (text("type"), text("path"));
            if place.contains("..") || Path::new(place).is_absolute() {
                return Err(unsupported(format!("path \"{place}\" leaves the folder")));
            }
            // Class paths moved between versions of sentence-transformers; the class names did not.
            match (kind.rsplit('.').next().unwrap_or_default(), &body) {
                ("Transformer", None) => body = Some((folder.join(place), false)),
                ("StaticEmbedding", None) => body = Some((folder.join(place), true)),
                ("Pooling", Some((_, false))) if pooling.is_none() && !normalize => pooling = Some(folder.join(place)),
                ("Normalize", Some((_, is_static))) if (*is_static || pooling.is_some()) && !normalize => normalize = true,
                _ => return Err(unsupported(format!("module \"{kind}\" (path \"{place}\") is not supported here"))),
            }
        }
        let (body, is_static) = body.ok_or_else(|| unsupported("it lists no encoder".to_owned()))?;
        if !is_static && pooling.is_none() {
            return Err(unsupported("it lists a Transformer but no Pooling".to_owned()));
        }
        Ok(Self { body, is_static, pooling, normalize })
    }

    /// Plan, settings without prompts, and whether texts are lowercased before the tokenizer sees them.
    fn transformer(&self) -> Result<(Plan, Settings, bool), EncoderError> {
        let path = self.body.join("config.json");
        let config = optional_json(&path)?
            .ok_or(EncoderError::MissingFile { path: path.clone(), hint: "it describes the architecture; copy it from the base model" })?;
        let architecture = Architecture::from_config(&path, &config)?;
        let pooling = match &self.pooling {
            Some(folder) => {
                let path = folder.join("config.json");
                let config = optional_json(&path)?
                    .ok_or(EncoderError::MissingFile { path: path.clone(), hint: "it says how hidden states are pooled" })?;
                read_pooling(&path, &config)?.0
            }
            None => Pooling::Mean,
        };
        let (length, lowercase) = read_length(&self.body, architecture.max_length())?;
        let settings = Settings::plain(pooling, self.normalize, length);
        Ok((Plan::Transformer(architecture), settings, lowercase))
    }

    /// Poolings that leave the prompt out would need its tokens told apart; they are refused when there is a prompt.
    fn check_prompt_pooling(&self, settings: &Settings) -> Result<(), EncoderError> {
        let Some(folder) = &self.pooling else { return Ok(()) };
        let path = folder.join("config.json");
        let Some(config) = optional_json(&path)? else { return Ok(()) };
        let (_, includes_prompt) = read_pooling(&path, &config)?;
        if includes_prompt || (settings.query_prompt.is_empty() && settings.document_prompt.is_empty()) {
            return Ok(());
        }
        Err(Keys { path: &path, config: &config }.wrong("include_prompt", "true: pooling that leaves the prompt out is not supported"))
    }
}

/// The length limit that the files of `body` set for a model of `limit` positions, and whether texts are lowercased before the
/// tokenizer sees them.
pub(crate) fn read_length(body: &Path, limit: usize) -> Result<(usize, bool), EncoderError> {
    let mut length = None;
    let mut lowercase = false;
    for path in LENGTH_FILES.map(|name| body.join(name)) {
        let Some(config) = optional_json(&path)? else { continue };
        lowercase = config.get("do_lower_case").and_then(Value::as_bool).unwrap_or(false);
        length = match config.get("max_seq_length") {
            None | Some(Value::Null) => None,
            Some(value) => match value.as_u64() {
                Some(limit) if limit > 0 => Some(limit),
                _ => return Err(Keys { path: &path, config: &config }.wrong("max_seq_length", "a positive integer")),
            },
        };
        break;
    }
    // The compact layout and plain folders keep the limit in the tokenizer's configuration. "No limit" is written
    // there as an astronomically large number, and a limit above the positions of the model cannot hold either.
    let length = match length {
        Some(length) => Some(length),
        None => optional_json(&body.join("tokenizer_config.json"))?
            .and_then(|config| config.get("model_max_length")?.as_u64())
            .filter(|&limit| limit > 0),
    };
    Ok((length.map_or(limit, |length| limit.min(usize::try_from(length).unwrap_or(usize::MAX))), lowercase))
}

/// Reads `tokenizer.json` and brings in what sentence-transformers does around it.
pub(crate) fn read_tokenizer(path: &Path, lowercase: bool, is_static: bool) -> Result<TextTokenizer, EncoderError> {
    if !path.is_file() {
        return Err(EncoderError::MissingFile {
            path: path.to_owned(),
            hint: "only fast tokenizers are read; save the tokenizer with a current transformers version",
        });
    }
    let bytes = adapted(path, read(path)?, lowercase, is_static)?;
    TextTokenizer::from_bytes(&bytes).map_err(|source| EncoderError::Tokenizer { path: path.to_owned(), source })
}

/// With `do_lower_case` texts are lowercased first; static encoders take no special tokens.
fn adapted(path: &Path, bytes: Vec<u8>, lowercase: bool, is_static: bool) -> Result<Vec<u8>, EncoderError> {
    if !lowercase && !is_static {
        return Ok(bytes);
    }
    let mut tokenizer: Value = serde_json::from_slice(&bytes).map_err(|source| EncoderError::Json { path: path.to_owned(), source })?;
    if is_static {
        if tokenizer.get("post_processor").is_none_or(Value::is_null) && !lowercase {
            return Ok(bytes);
        }
        tokenizer["post_processor"] = Value::Null;
    }
    if lowercase {
        let mut steps = vec![json!({"type": "Lowercase"})];
        steps.extend(tokenizer.get("normalizer").filter(|normalizer| !normalizer.is_null()).cloned());
        tokenizer["normalizer"] = json!({"type": "Sequence", "normalizers": steps});
    }
    serde_json::to_vec(&tokenizer).map_err(|source| EncoderError::Json { path: path.to_owned(), source })
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, EncoderError> {
    std::fs::read(path).map_err(|source| EncoderError::Read { path: path.to_owned(), source })
}

/// A JSON file that may be absent.
pub(crate) fn optional_json(path: &Path) -> Result<Option<Value>, EncoderError> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = read(path)?;
    serde_json::from_slice(&bytes).map(Some).map_err(|source| EncoderError::Json { path: path.to_owned(), source })
}
