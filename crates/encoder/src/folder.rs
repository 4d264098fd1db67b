//! Reading a model folder: sentence-transformers in both its layouts, and plain transformers folders.
//!
//! Decides which file says what; the parsing of each part is in `architecture`, `settings`, `weights` and `folder/tokenizer.rs`. Without
//! `modules.json` sentence-transformers takes mean pooling, of a causal language model the last token, and does *not* normalise, and so does this; whether a model of the hub
//! has none is found out in `hub`.

mod tokenizer;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::Value;

use crate::architecture::{Architecture, Family};
use crate::encoder::{Card, Encoder};
use crate::error::EncoderError;
use crate::keys::Keys;
use crate::network::{Network, Plan, STATIC_LENGTH};
use crate::pooling::Pooling;
use crate::settings::{Settings, read_pooling};
use crate::weights::Weights;
pub(crate) use tokenizer::read_tokenizer;

const TOKENIZER: &str = "tokenizer.json";

/// Files that belong to the tokenizer or the configuration and are copied when the model is saved: unchanged, but for what
/// [`read_tokenizer`] made of the tokenizer.
pub(crate) const COPIED: [&str; 8] = [
    "config.json",
    TOKENIZER,
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
    if let Plan::Transformer(architecture) = &plan {
        check_layers(&modules.body, architecture, &weights)?;
    }
    let prompts = folder.join("config_sentence_transformers.json");
    if let Some(config) = optional_json(&prompts)? {
        settings.read_prompts(&prompts, &config)?;
    }
    modules.check_prompt_pooling(&settings)?;

    let (tokenizer, filed) = read_tokenizer(&modules.body, lowercase, modules.is_static)?;
    if let Some(longest) = tokenizer.longest_row() {
        settings.query_length = settings.query_length.min(longest);
        settings.document_length = settings.document_length.min(longest);
    }
    let network = Network::build(&plan, settings.pooling, settings.normalize, weights, device)?;
    if tokenizer.vocabulary_size() > network.vocabulary() {
        return Err(EncoderError::Vocabulary { path: modules.body, tokens: tokenizer.vocabulary_size(), rows: network.vocabulary() });
    }
    settings.check_lengths(network.max_length())?;
    let mut files = vec![(TOKENIZER.to_owned(), filed)];
    for name in COPIED.into_iter().filter(|&name| name != TOKENIZER) {
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
            None => {
                let (pooling, name) = if is_causal(&config) { (Pooling::LastToken, "last-token") } else { (Pooling::Mean, "mean") };
                tracing::warn!(
                    folder = %self.body.display(),
                    "no modules.json: {name} pooling without normalisation, as sentence-transformers does; \
                     set pooling and normalize if the model was trained otherwise"
                );
                pooling
            }
        };
        let limits = Limits::read(&self.body, architecture.max_length())?;
        let settings = Settings {
            query_length: limits.query,
            document_length: limits.document,
            ..Settings::plain(pooling, self.normalize, limits.plain)
        };
        Ok((Plan::Transformer(architecture), settings, limits.lowercase))
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

/// Whether a configuration is that of a causal language model.
fn is_causal(config: &Value) -> bool {
    let of_kind = config.pointer("/architectures/0").and_then(Value::as_str).is_some_and(|name| name.ends_with("ForCausalLM"));
    of_kind && config.get("is_causal") != Some(&Value::Bool(false))
}

/// Refuses more layers than the weights have tensors: each would be built before it is seen to have none.
pub(crate) fn check_layers(body: &Path, architecture: &Architecture, weights: &Weights) -> Result<(), EncoderError> {
    let (layers, tensors) = (architecture.layers, weights.count());
    if layers <= tensors {
        return Ok(());
    }
    Err(EncoderError::Field {
        path: body.join("config.json"),
        field: if architecture.family == Family::DistilBert { "n_layers" } else { "num_hidden_layers" }.to_owned(),
        got: layers.to_string(),
        expected: format!("at most {tensors}, the tensors of the weight files"),
    })
}

/// What the files beside a transformer ask of texts before it sees them.
pub(crate) struct Limits {
    /// Tokens kept of a text of no side, or of a pair.
    pub(crate) plain: usize,
    pub(crate) query: usize,
    pub(crate) document: usize,
    /// Whether texts are lowercased before the tokenizer sees them.
    pub(crate) lowercase: bool,
}

impl Limits {
    /// Those of the files of `body` for a model of `limit` positions, beyond which none holds.
    pub(crate) fn read(body: &Path, limit: usize) -> Result<Self, EncoderError> {
        let within = |length: u64| limit.min(usize::try_from(length).unwrap_or(usize::MAX));
        let (mut length, mut sides, mut lowercase) = (None, [None; 2], false);
        for path in LENGTH_FILES.map(|name| body.join(name)) {
            let Some(config) = optional_json(&path)? else { continue };
            let keys = Keys { path: &path, config: &config };
            let positive = |field: &str| match config.get(field) {
                None | Some(Value::Null) => Ok(None),
                Some(value) => match value.as_u64() {
                    Some(length) if length > 0 => Ok(Some(length)),
                    _ => Err(keys.wrong(field, "a positive integer")),
                },
            };
            lowercase = config.get("do_lower_case").and_then(Value::as_bool).unwrap_or(false);
            length = positive("max_seq_length")?;
            // Of sentence-transformers 6; a side without one has that of all texts.
            sides = [positive("query_length")?, positive("document_length")?];
            if config.get("query_expansion").is_some_and(|expansion| !expansion.is_null()) {
                return Err(keys.wrong("query_expansion", "null: queries are not filled up with mask tokens here"));
            }
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
        let plain = length.map_or(limit, within);
        let [query, document] = sides.map(|side| side.map_or(plain, within));
        Ok(Self { plain, query, document, lowercase })
    }
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

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use serde_json::json;

    use super::*;
    use crate::encoder::Role;
    use crate::save::serialize;

    fn write(folder: &Path, name: &str, content: &Value) {
        std::fs::write(folder.join(name), content.to_string()).unwrap();
    }

    /// A plain folder of a BERT with one tensor, and these sizes.
    fn with_sizes(sizes: &[(&str, u64)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut config = json!({"model_type": "bert", "vocab_size": 3, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1,
                                "intermediate_size": 4, "max_position_embeddings": 8});
        for (key, size) in sizes {
            config[*key] = json!(size);
        }
        write(folder.path(), "config.json", &config);
        let words = ("embeddings.word_embeddings.weight".to_owned(), TensorData::new(vec![0.5f32; 12], [3, 4]));
        std::fs::write(folder.path().join("model.safetensors"), serialize(&[words], folder.path()).unwrap()).unwrap();
        let tokenizer = Encoder::tiny(["a"].into_iter(), 7, &Device::flex()).tokenizer;
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_bytes()).unwrap();
        folder
    }

    #[test]
    fn absurd_sizes_are_named_before_anything_of_theirs_is_made() {
        let huge = 1u64 << 31;
        for (sizes, part) in [
            (vec![("vocab_size", huge)], "embeddings.word_embeddings.weight: got [3, 4], expected [2147483648, 4]"),
            (vec![("vocab_size", huge), ("hidden_size", huge)], "got [3, 4], expected [2147483648, 2147483648]"),
            (vec![("max_position_embeddings", huge), ("intermediate_size", huge)], "missing: embeddings.position_embeddings.weight"),
            (vec![("num_hidden_layers", 1000)], "num_hidden_layers is 1000, expected at most 1, the tensors"),
        ] {
            let folder = with_sizes(&sizes);
            let message = load(folder.path(), &Device::flex()).unwrap_err().to_string();
            assert!(message.contains(part), "{sizes:?}: {message}");
        }
    }

    #[test]
    fn a_pooling_that_modules_name_must_be_there() {
        let folder = with_sizes(&[]);
        let modules = json!([{"path": "", "type": "sentence_transformers.models.Transformer"},
                             {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]);
        write(folder.path(), "modules.json", &modules);
        for message in [check(folder.path()).unwrap_err().to_string(), load(folder.path(), &Device::flex()).unwrap_err().to_string()] {
            assert!(message.contains("1_Pooling/config.json is missing: it says how hidden states are pooled"), "{message}");
        }
    }

    #[test]
    fn each_side_may_have_a_length_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let read = |config: Value| {
            write(folder.path(), "sentence_bert_config.json", &config);
            Limits::read(folder.path(), 512).map(|limits| (limits.plain, limits.query, limits.document)).map_err(|error| error.to_string())
        };
        write(folder.path(), "tokenizer_config.json", &json!({"model_max_length": 128}));
        assert_eq!(read(json!({})), Ok((128, 128, 128)));
        assert_eq!(read(json!({"max_seq_length": 64, "query_length": 32})), Ok((64, 32, 64)));
        assert_eq!(read(json!({"query_length": 32, "document_length": 300})), Ok((128, 32, 300)));
        assert_eq!(read(json!({"query_length": null, "document_length": 4096})), Ok((128, 128, 512)), "not beyond the positions");
        for (config, part) in [
            (json!({"query_length": 0}), "query_length is 0, expected a positive integer"),
            (json!({"document_length": "long"}), "document_length is \"long\""),
            (json!({"query_expansion": {"strategy": "fixed", "length": 32}}), "query_expansion is {"),
        ] {
            let message = read(config).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_static_encoder_cuts_texts_where_its_tokenizer_does() {
        let made = Encoder::tiny(["the cat", "the dog"].into_iter(), 7, &Device::flex());
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("model");
        made.save(&folder).unwrap();
        let path = folder.join("0_StaticEmbedding/tokenizer.json");
        let mut file: Value = serde_json::from_slice(&read(&path).unwrap()).unwrap();
        file["truncation"] = json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
        std::fs::write(&path, file.to_string()).unwrap();

        let mut cut = load(&folder, &Device::flex()).unwrap();
        assert_eq!((cut.settings.query_length, cut.settings.document_length), (2, 2));
        let rows = |encoder: &Encoder, texts: &[&str]| encoder.embed(texts, Role::Document, 8).unwrap().iter::<f32>().collect::<Vec<_>>();
        assert_ne!(rows(&made, &["the cat dog"]), rows(&made, &["the cat"]));
        assert_eq!(rows(&cut, &["the cat dog"]), rows(&made, &["the cat"]));
        assert_ne!(cut.fingerprint(), made.fingerprint());
        assert!(cut.readme().contains("texts are cut at 2 tokens"), "{}", cut.readme());
        // A longer limit of the run does not lift that of the file; a shorter one holds.
        for (length, expected) in [(100, "the cat"), (1, "the")] {
            let settings = Settings { document_length: length, ..cut.settings.clone() };
            cut.configure(settings).unwrap();
            assert_eq!(rows(&cut, &["the cat dog"]), rows(&made, &[expected]), "{length}");
        }
    }
}
