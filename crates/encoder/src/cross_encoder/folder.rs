//! Folders of rerankers: which file says what, what is refused, and what is written.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::{Value, json};

use super::CrossEncoder;
use crate::architecture::{Architecture, Family};
use crate::error::EncoderError;
use crate::folder::{COPIED, Limits, check_layers, is_reranker, optional_json, read, read_tokenizer};
use crate::keys::Keys;
use crate::pair_network::{Head, PairNetwork, ignored};
use crate::save::{full_precision, serialize, whole, write_file, write_json};
use crate::weights::Weights;

/// Files of a folder that saving writes itself.
pub(super) const WRITTEN: [&str; 3] = ["config.json", "tokenizer.json", "tokenizer_config.json"];

impl CrossEncoder {
    pub(super) fn read(folder: &Path, device: &Device) -> Result<Self, EncoderError> {
        let (folder, path, config) = configuration(folder)?;
        let keys = Keys { path: &path, config: &config };
        let architecture = Architecture::from_config(&path, &config)?;
        let head = head(&keys, &architecture)?;
        let weights = Weights::read_but(&folder, ignored(architecture.family))?;
        check_layers(&folder, &architecture, &weights)?;
        let network = PairNetwork::build(&architecture, head, weights, device)?;
        let limits = Limits::read(&folder, architecture.max_length())?;
        let (tokenizer, _) = read_tokenizer(&folder, limits.lowercase, false)?;
        let tokenizer_config = optional_json(&folder.join("tokenizer_config.json"))?.unwrap_or_else(|| json!({}));
        let mut files = Vec::new();
        for name in COPIED.iter().filter(|name| !WRITTEN.contains(name)) {
            let path = folder.join(name);
            if path.is_file() {
                files.push(((*name).to_owned(), read(&path)?));
            }
        }
        Self::assemble(network, tokenizer, &folder, limits.plain, config, tokenizer_config, files)
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

/// Where the transformer of a reranker lies, and its configuration: path and content.
pub(super) fn configuration(folder: &Path) -> Result<(PathBuf, PathBuf, Value), EncoderError> {
    let folder = body_folder(folder)?;
    let path = folder.join("config.json");
    let config = optional_json(&path)?
        .ok_or(EncoderError::MissingFile { path: path.clone(), hint: "it describes the architecture; copy it from the base model" })?;
    check_task(&Keys { path: &path, config: &config })?;
    Ok((folder, path, config))
}

/// Refuses models of another task, and heads of more than one label.
fn check_task(keys: &Keys<'_>) -> Result<(), EncoderError> {
    if keys.config.get("architectures").is_some_and(Value::is_array) && !is_reranker(keys.config) {
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
pub(super) fn name_task(config: &mut Value) {
    let class = match config.get("model_type").and_then(Value::as_str).unwrap_or_default() {
        "distilbert" => "DistilBert",
        "roberta" => "Roberta",
        "xlm-roberta" => "XLMRoberta",
        "camembert" => "Camembert",
        "mpnet" => "MPNet",
        "modernbert" => "ModernBert",
        _ => "Bert",
    };
    config["architectures"] = json!([format!("{class}ForSequenceClassification")]);
    config["id2label"] = json!({"0": "LABEL_0"});
    config["label2id"] = json!({"LABEL_0": 0});
    if let Some(config) = config.as_object_mut() {
        config.remove("num_labels");
    }
}

/// The head that a configuration describes.
pub(super) fn head(keys: &Keys<'_>, architecture: &Architecture) -> Result<Head, EncoderError> {
    let text = |field: &str| keys.config.get(field).filter(|value| !value.is_null());
    let mut mean = false;
    let (field, default) = match architecture.family {
        Family::Bert | Family::Roberta => ("classifier_dropout", architecture.dropout),
        Family::DistilBert => ("seq_classif_dropout", 0.2),
        // Its head takes the dropout of the hidden states.
        Family::Mpnet => return Ok(Head { dropout: architecture.dropout, mean }),
        Family::ModernBert => {
            if text("classifier_bias").is_some_and(|biased| *biased != json!(false)) {
                return Err(keys.wrong("classifier_bias", "false, as in all published models: that bias is not read"));
            }
            if text("classifier_activation").is_some_and(|activation| activation != "gelu") {
                return Err(keys.wrong("classifier_activation", "\"gelu\""));
            }
            mean = match text("classifier_pooling").map_or(Some("cls"), Value::as_str) {
                Some("cls") => false,
                Some("mean") => true,
                _ => return Err(keys.wrong("classifier_pooling", "\"cls\" or \"mean\"")),
            };
            ("classifier_dropout", 0.0)
        }
        Family::Decoder => {
            return Err(keys.wrong("model_type", "that of an encoder (bert, distilbert, roberta, xlm-roberta, camembert, mpnet, modernbert): rerankers out of decoders are not built"));
        }
    };
    let dropout = match text(field) {
        None => default,
        Some(_) => keys.probability(field)?,
    };
    Ok(Head { dropout, mean })
}

/// Whether the model is given the types of tokens: BERT, unless the tokenizer's configuration lists its inputs without them; other
/// families only when it lists them.
pub(super) fn has_types(architecture: &Architecture, tokenizer_config: &Value) -> bool {
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
    fn heads_of_modernbert_are_read_and_others_refused() {
        let config = json!({"model_type": "modernbert", "vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
                            "intermediate_size": 16, "classifier_pooling": "mean", "classifier_dropout": 0.2});
        let path = Path::new("config.json");
        let architecture = Architecture::from_config(path, &config).unwrap();
        let read = |config: &Value| head(&Keys { path, config }, &architecture).map_err(|error| error.to_string());
        let made = read(&config).unwrap();
        assert_eq!((made.mean, made.dropout), (true, 0.2));
        for (key, value) in
            [("classifier_pooling", json!("max")), ("classifier_bias", json!(true)), ("classifier_activation", json!("relu"))]
        {
            let mut config = config.clone();
            config[key] = value;
            assert!(read(&config).unwrap_err().contains(key));
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
