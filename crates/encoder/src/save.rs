//! Writing a model folder in the verbose sentence-transformers layout, which every reader understands.
//!
//! Everything is written to a temporary sibling folder, synced and renamed, so a folder is complete or absent.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};

use crate::encoder::Encoder;
use crate::error::EncoderError;
use crate::settings::{Similarity, write_pooling};

/// Folder of the embedding bag, as sentence-transformers names it.
const BAG_FOLDER: &str = "0_StaticEmbedding";

pub(crate) fn save(encoder: &Encoder, folder: &Path) -> Result<(), EncoderError> {
    whole(folder, |staging| write(encoder, staging))
}

/// Has `write` fill a folder beside `folder`, syncs it and puts it in its place: complete or not at all.
pub(crate) fn whole(folder: &Path, write: impl FnOnce(&Path) -> Result<(), EncoderError>) -> Result<(), EncoderError> {
    if fs::exists(folder).map_err(|source| failed(folder, source))? && !is_replaceable(folder) {
        return Err(EncoderError::Occupied { path: folder.to_owned() });
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    create(&parent)?;
    let staging = sibling(folder, "partial");
    let fill = || {
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(|source| failed(&staging, source))?;
        }
        create(&staging)?;
        write(&staging)?;
        File::open(&staging).and_then(|folder| folder.sync_all()).or_else(ignore_unsupported).map_err(|source| failed(&staging, source))?;
        replace(&staging, folder)
    };
    let result = fill();
    if result.is_err() {
        let _ = fs::remove_dir_all(&staging);
    }
    result
}

/// An empty folder or a model folder.
fn is_replaceable(folder: &Path) -> bool {
    let empty = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    empty || folder.join("modules.json").is_file() || folder.join("config.json").is_file()
}

/// `folder` with a suffix that no other process uses.
fn sibling(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{suffix}-{}", std::process::id()));
    folder.with_file_name(name)
}

/// Puts `staging` in the place of `folder`. A folder cannot be replaced in one step, so the old one is moved aside first
/// and comes back if the second step fails.
fn replace(staging: &Path, folder: &Path) -> Result<(), EncoderError> {
    let old = sibling(folder, "old");
    let had_old = folder.exists();
    if had_old {
        let _ = fs::remove_dir_all(&old);
        fs::rename(folder, &old).map_err(|source| failed(folder, source))?;
    }
    if let Err(source) = fs::rename(staging, folder) {
        if had_old {
            let _ = fs::rename(&old, folder);
        }
        return Err(failed(folder, source));
    }
    if had_old {
        let _ = fs::remove_dir_all(&old);
    }
    Ok(())
}

fn write(encoder: &Encoder, folder: &Path) -> Result<(), EncoderError> {
    let is_static = encoder.network.is_static();
    let body = if is_static { folder.join(BAG_FOLDER) } else { folder.to_owned() };
    create(&body)?;
    write_file(&body.join("model.safetensors"), &serialize(&encoder.network.tensors(), folder)?)?;
    for (name, content) in &encoder.files {
        let path = body.join(name);
        match (name.as_str(), full_precision(content)) {
            ("config.json", Some(config)) => write_json(&path, &config)?,
            _ => write_file(&path, content)?,
        }
    }
    if !is_static {
        let pooling = folder.join("1_Pooling");
        create(&pooling)?;
        write_json(&pooling.join("config.json"), &write_pooling(encoder.network.pooling(), encoder.network.dimension()))?;
        let length = encoder.settings.document_length.max(encoder.settings.query_length);
        write_json(&folder.join("sentence_bert_config.json"), &json!({"max_seq_length": length, "do_lower_case": encoder.lowercase}))?;
    }
    if encoder.network.normalizes() {
        // Empty in the published layout; version control and file uploads lose empty folders, and readers cope.
        create(&folder.join(normalize_folder(is_static)))?;
    }
    write_json(&folder.join("config_sentence_transformers.json"), &prompts(encoder))?;
    write_file(&folder.join("README.md"), encoder.readme().as_bytes())?;
    write_json(&folder.join("modules.json"), &modules(is_static, encoder.network.normalizes()))
}

/// `config.json` with the element type that was written, if it names another: current transformers versions would round
/// the weights to it while loading.
pub(crate) fn full_precision(config: &[u8]) -> Option<Value> {
    let mut config: Value = serde_json::from_slice(config).ok()?;
    let mut changed = false;
    for key in ["dtype", "torch_dtype"] {
        if let Some(kind) = config.get_mut(key)
            && *kind != "float32"
        {
            *kind = json!("float32");
            changed = true;
        }
    }
    changed.then_some(config)
}

fn normalize_folder(is_static: bool) -> &'static str {
    if is_static { "1_Normalize" } else { "2_Normalize" }
}

fn modules(is_static: bool, normalize: bool) -> Value {
    let mut parts = if is_static { vec![(BAG_FOLDER, "StaticEmbedding")] } else { vec![("", "Transformer"), ("1_Pooling", "Pooling")] };
    if normalize {
        parts.push((normalize_folder(is_static), "Normalize"));
    }
    let entry = |(index, (path, class)): (usize, &(&str, &str))| json!({"idx": index, "name": index.to_string(), "path": path, "type": format!("sentence_transformers.models.{class}")});
    Value::Array(parts.iter().enumerate().map(entry).collect())
}

/// `config_sentence_transformers.json`. Readers fail on null prompts, so an absent prompt is an empty string.
fn prompts(encoder: &Encoder) -> Value {
    let settings = &encoder.settings;
    let prompts: Map<String, Value> = settings.named_prompts().into_iter().map(|(name, text)| (name.to_owned(), json!(text))).collect();
    let default = settings.default_prompt.as_ref().filter(|name| prompts.contains_key(*name));
    json!({
        "__version__": {"sentence_transformers": "3.0.0", "transformers": "4.41.0", "pytorch": "2.3.0"},
        "prompts": prompts,
        "default_prompt_name": default,
        "similarity_fn_name": match settings.similarity {
            Similarity::Cosine => "cosine",
            Similarity::Dot => "dot",
        },
    })
}

impl Encoder {
    /// The model card that [`Encoder::save`] writes.
    pub fn readme(&self) -> String {
        let card = &self.card;
        let settings = &self.settings;
        let mut text = String::from("---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n");
        // JSON strings are YAML strings, so any name is quoted rightly.
        if let Some(base) = &card.base_model {
            text.push_str(&format!("base_model: {}\n", json!(base)));
        }
        if !card.datasets.is_empty() {
            text.push_str(&format!("datasets: {}\n", json!(card.datasets)));
        }
        text.push_str("tags:\n- sentence-transformers\n- sentence-similarity\n- feature-extraction\n- dense\n---\n\n");
        let comparison = match settings.similarity {
            Similarity::Cosine => "cosine",
            Similarity::Dot => "inner product",
        };
        let pooling = match (self.network.is_static(), self.tokenizer.longest_row()) {
            // An embedding bag takes texts of any length, unless its tokenizer cuts them.
            (true, None) => "Mean of token vectors".to_owned(),
            (true, Some(longest)) => format!("Mean of token vectors; texts are cut at {longest} tokens"),
            (false, _) => format!("Pooling: {:?}; texts are cut at {} tokens", self.network.pooling(), settings.document_length),
        };
        text.push_str(&format!(
            "# Dense retriever\n\nMaps texts to {} numbers{}; compare them by {comparison}. {pooling}. \
             Prefix of queries: {}, of documents: {}.\n",
            self.network.dimension(),
            if self.network.normalizes() { ", of unit length" } else { "" },
            json!(settings.query_prompt),
            json!(settings.document_prompt),
        ));
        text.push_str(
            "\n```python\nfrom sentence_transformers import SentenceTransformer\n\nmodel = SentenceTransformer(\"path/to/this/folder\")\n\
             queries = model.encode_query([\"a question\"])\ndocuments = model.encode_document([\"a passage\"])\n\
             print(model.similarity(queries, documents))\n```\n",
        );
        if !card.text.is_empty() {
            text.push_str(&format!("\n{}\n", card.text.trim_end()));
        }
        text
    }
}

/// Safetensors bytes with the metadata that older transformers versions insist on.
pub(crate) fn serialize(tensors: &[(String, TensorData)], folder: &Path) -> Result<Vec<u8>, EncoderError> {
    let wrong = |source| EncoderError::Safetensors { path: folder.join("model.safetensors"), source };
    let mut views = Vec::with_capacity(tensors.len());
    for (name, data) in tensors {
        // `tensors()` is f32, and every platform that burn runs on is little-endian, as the format asks.
        let view = TensorView::new(Dtype::F32, data.shape().to_vec(), data.as_bytes()).map_err(wrong)?;
        views.push((name.as_str(), view));
    }
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).map_err(wrong)
}

fn create(path: &Path) -> Result<(), EncoderError> {
    fs::create_dir_all(path).map_err(|source| failed(path, source))
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<(), EncoderError> {
    write_file(path, format!("{value:#}\n").as_bytes())
}

pub(crate) fn write_file(path: &Path, content: &[u8]) -> Result<(), EncoderError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|source| failed(path, source))
}

/// Folders cannot be opened, let alone synced, everywhere.
fn ignore_unsupported(error: std::io::Error) -> std::io::Result<()> {
    if cfg!(unix) { Err(error) } else { Ok(()) }
}

fn failed(path: &Path, source: std::io::Error) -> EncoderError {
    EncoderError::Write { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_element_type_changes_the_configuration() {
        assert_eq!(full_precision(br#"{"dtype": "float32"}"#), None);
        assert_eq!(full_precision(br#"{"a": 1}"#), None);
        assert_eq!(full_precision(br#"{"a": 1, "torch_dtype": "float16"}"#), Some(json!({"a": 1, "torch_dtype": "float32"})));
    }
}
