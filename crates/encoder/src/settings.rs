//! What a model folder says about use rather than weights: pooling, prompts, length limits, similarity.
//!
//! Pure data and the reading of its JSON; which file is where is known to `folder`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::EncoderError;
use crate::keys::Keys;
use crate::pooling::Pooling;

/// How two embeddings are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Similarity {
    /// Cosine of the angle: normalise before the inner product unless the model does.
    Cosine,
    /// Inner product.
    Dot,
}

/// Names under which a folder may have the prompt of documents, as `encode_document` looks for them.
const OF_DOCUMENTS: [&str; 3] = ["document", "passage", "corpus"];

/// How an encoder is used. Changing `pooling` or `normalize` takes effect through `Encoder::configure`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How hidden states become one vector.
    pub pooling: Pooling,
    /// Whether embeddings have unit length.
    pub normalize: bool,
    /// Put in front of every query.
    pub query_prompt: String,
    /// Put in front of every document.
    pub document_prompt: String,
    /// Tokens kept of a query with its prompt, special tokens included.
    pub query_length: usize,
    /// Tokens kept of a document with its prompt, special tokens included (`max_seq_length`).
    pub document_length: usize,
    /// How embeddings are compared.
    pub similarity: Similarity,
    /// Further prompts of the folder by name, kept so that saving loses none.
    pub prompts: BTreeMap<String, String>,
    /// The prompt that sentence-transformers uses when none is named.
    pub default_prompt: Option<String>,
}

impl Settings {
    /// No prompts, cosine, both lengths `length`.
    pub(crate) fn plain(pooling: Pooling, normalize: bool, length: usize) -> Self {
        Self {
            pooling,
            normalize,
            query_prompt: String::new(),
            document_prompt: String::new(),
            query_length: length,
            document_length: length,
            similarity: Similarity::Cosine,
            prompts: BTreeMap::new(),
            default_prompt: None,
        }
    }

    /// Takes prompts and similarity from `config_sentence_transformers.json`. Queries use the prompt `query`, documents
    /// `document`, `passage` or `corpus`, both else the default prompt, as `encode_query` and `encode_document` do.
    pub(crate) fn read_prompts(&mut self, path: &Path, config: &Value) -> Result<(), EncoderError> {
        let keys = Keys { path, config };
        match config.get("prompts") {
            None | Some(Value::Null) => {}
            Some(Value::Object(prompts)) => {
                for (name, text) in prompts {
                    let text = text.as_str().ok_or_else(|| keys.wrong("prompts", "an object from names to strings"))?;
                    self.prompts.insert(name.clone(), text.to_owned());
                }
            }
            Some(_) => return Err(keys.wrong("prompts", "an object from names to strings")),
        }
        if config.get("truncate_dim").is_some_and(|width| !width.is_null()) {
            return Err(keys.wrong("truncate_dim", "null: rows are not cut here; take the key out to use all their numbers"));
        }
        self.default_prompt = match config.get("default_prompt_name") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) if self.prompts.contains_key(name) => Some(name.clone()),
            Some(_) => return Err(keys.wrong("default_prompt_name", "null or the name of a prompt")),
        };
        self.query_prompt = self.prompt(&["query"]);
        self.document_prompt = self.prompt(&OF_DOCUMENTS);
        self.similarity = match config.get("similarity_fn_name") {
            None | Some(Value::Null) => Similarity::Cosine,
            Some(Value::String(name)) if name == "cosine" => Similarity::Cosine,
            Some(Value::String(name)) if name == "dot" || name == "dot_score" => Similarity::Dot,
            Some(_) => return Err(keys.wrong("similarity_fn_name", "\"cosine\" or \"dot\"")),
        };
        Ok(())
    }

    /// All prompts by name, as a folder is to have them: those of queries and documents as they are now, the others as they came. Where
    /// the prompt of documents is another than the folder's, every name of it has the new one, so that none contradicts it.
    pub(crate) fn named_prompts(&self) -> Vec<(&str, &str)> {
        let (query, document) = (self.query_prompt.as_str(), self.document_prompt.as_str());
        let changed = document != self.prompt(&OF_DOCUMENTS);
        let mut named = vec![("query", query), ("document", document)];
        for (name, text) in &self.prompts {
            match name.as_str() {
                "query" | "document" => {}
                name if changed && OF_DOCUMENTS.contains(&name) => named.push((name, document)),
                name => named.push((name, text.as_str())),
            }
        }
        named
    }

    fn prompt(&self, names: &[&str]) -> String {
        let named = names.iter().find_map(|&name| self.prompts.get(name));
        let default = || self.default_prompt.as_ref().and_then(|name| self.prompts.get(name));
        named.or_else(default).cloned().unwrap_or_default()
    }

    /// Refuses length limits that the network cannot take.
    pub(crate) fn check_lengths(&self, limit: usize) -> Result<(), EncoderError> {
        for (name, got) in [("query_length", self.query_length), ("document_length", self.document_length)] {
            if !(1..=limit).contains(&got) {
                return Err(EncoderError::Length { name, got, limit });
            }
        }
        Ok(())
    }
}

/// Reads `1_Pooling/config.json` in either form: booleans `pooling_mode_*`, or `pooling_mode` as one word.
/// Returns the pooling and whether prompt tokens take part in it.
pub(crate) fn read_pooling(path: &Path, config: &Value) -> Result<(Pooling, bool), EncoderError> {
    const MODES: [(&str, &str, Pooling); 6] = [
        ("pooling_mode_cls_token", "cls", Pooling::Cls),
        ("pooling_mode_mean_tokens", "mean", Pooling::Mean),
        ("pooling_mode_max_tokens", "max", Pooling::Max),
        ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", Pooling::MeanSqrtLength),
        ("pooling_mode_weightedmean_tokens", "weightedmean", Pooling::WeightedMean),
        ("pooling_mode_lasttoken", "lasttoken", Pooling::LastToken),
    ];
    let keys = Keys { path, config };
    let include_prompt = config.get("include_prompt").and_then(Value::as_bool).unwrap_or(true);
    if let Some(mode) = config.get("pooling_mode") {
        let known = MODES.iter().find(|(_, word, _)| mode.as_str() == Some(word));
        let (_, _, pooling) =
            known.ok_or_else(|| keys.wrong("pooling_mode", "one of cls, mean, max, mean_sqrt_len_tokens, weightedmean, lasttoken"))?;
        return Ok((*pooling, include_prompt));
    }
    let on = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
    let chosen: Vec<_> = MODES.iter().filter(|(key, _, _)| on(key)).collect();
    match chosen.as_slice() {
        [] => Ok((Pooling::Mean, include_prompt)),
        [(_, _, pooling)] => Ok((*pooling, include_prompt)),
        [_, (second, _, _), ..] => Err(keys.wrong(second, "false: several poolings side by side are not supported")),
    }
}

/// `1_Pooling/config.json` in the verbose form: every boolean is written, because readers differ in which they need.
pub(crate) fn write_pooling(pooling: Pooling, dimension: usize) -> Value {
    serde_json::json!({
        "word_embedding_dimension": dimension,
        "pooling_mode_cls_token": pooling == Pooling::Cls,
        "pooling_mode_mean_tokens": pooling == Pooling::Mean,
        "pooling_mode_max_tokens": pooling == Pooling::Max,
        "pooling_mode_mean_sqrt_len_tokens": pooling == Pooling::MeanSqrtLength,
        "pooling_mode_weightedmean_tokens": pooling == Pooling::WeightedMean,
        "pooling_mode_lasttoken": pooling == Pooling::LastToken,
        "include_prompt": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_pooling_survives_its_file() {
        use Pooling::{Cls, LastToken, Max, Mean, MeanSqrtLength, WeightedMean};
        let path = Path::new("1_Pooling/config.json");
        for pooling in [Mean, Cls, Max, WeightedMean, LastToken, MeanSqrtLength] {
            assert_eq!(read_pooling(path, &write_pooling(pooling, 8)).unwrap(), (pooling, true));
        }
        assert_eq!(read_pooling(path, &json!({"pooling_mode": "lasttoken"})).unwrap().0, LastToken);
        let both = json!({"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true});
        assert!(read_pooling(path, &both).unwrap_err().to_string().contains("pooling_mode_max_tokens"));
        assert!(read_pooling(path, &json!({"pooling_mode": ["cls", "max"]})).is_err());
    }

    #[test]
    fn every_prompt_keeps_its_name_when_it_is_saved() {
        let mut settings = Settings::plain(Pooling::Mean, true, 8);
        let prompts = json!({"query": "q: ", "passage": "p: ", "corpus": "c: ", "sts": "s: "});
        settings.read_prompts(Path::new("c.json"), &json!({"prompts": prompts, "default_prompt_name": "passage"})).unwrap();
        let came = [("query", "q: "), ("document", "p: "), ("corpus", "c: "), ("passage", "p: "), ("sts", "s: ")];
        assert_eq!(settings.named_prompts(), came);
        (settings.query_prompt, settings.document_prompt) = ("ask: ".to_owned(), "text: ".to_owned());
        let changed = [("query", "ask: "), ("document", "text: "), ("corpus", "text: "), ("passage", "text: "), ("sts", "s: ")];
        assert_eq!(settings.named_prompts(), changed);
        // A folder without names says for both sides what holds now.
        assert_eq!(Settings::plain(Pooling::Mean, true, 8).named_prompts(), [("query", ""), ("document", "")]);
    }

    #[test]
    fn prompts_are_found_under_their_usual_names() {
        let read = |config: Value| {
            let mut settings = Settings::plain(Pooling::Mean, true, 8);
            settings.read_prompts(Path::new("c.json"), &config).map(|()| (settings.query_prompt, settings.document_prompt))
        };
        let pair = |q: &str, d: &str| (q.to_owned(), d.to_owned());
        assert_eq!(read(json!({"prompts": {"query": "q: ", "passage": "p: "}})).unwrap(), pair("q: ", "p: "));
        assert_eq!(read(json!({"prompts": {"x": "x: "}, "default_prompt_name": "x"})).unwrap(), pair("x: ", "x: "));
        assert_eq!(read(json!({"prompts": {"x": "x: "}, "default_prompt_name": null})).unwrap(), pair("", ""));
        assert!(read(json!({"prompts": {"query": null}})).is_err());
        assert!(read(json!({"truncate_dim": 64})).unwrap_err().to_string().contains("truncate_dim is 64"));
        assert!(read(json!({"truncate_dim": null})).is_ok());
        assert!(read(json!({"similarity_fn_name": "manhattan"})).unwrap_err().to_string().contains("manhattan"));
    }
}
