//! What becomes of a folder's `tokenizer.json`: what transformers and sentence-transformers do around the file is done to it.
//!
//! | by | what | saved in |
//! |---|---|---|
//! | transformers 4 and 5 | for classes of BERT's kind `tokenizer_config.json` says what the normalizer does, whatever the file says | `tokenizer.json` |
//! | sentence-transformers | `do_lower_case` of `sentence_bert_config.json` lowercases texts first | that file |
//! | its `StaticEmbedding` | no special tokens, and the truncation of the file | the file as it came |

use std::path::Path;

use corpus::TextTokenizer;
use serde_json::{Value, json};

use super::{optional_json, read};
use crate::error::EncoderError;
use crate::keys::Keys;

/// Tokenizer classes of transformers that set up their `BertNormalizer` themselves, with or without `Fast` behind.
const OF_BERT: [&str; 4] = ["BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MPNetTokenizer"];
/// Models for which such a class is taken at its word, if one is named. For ModernBERT transformers 5 takes the file as it is.
const HEEDED: [&str; 6] = ["bert", "distilbert", "mpnet", "roberta", "xlm-roberta", "camembert"];
/// Those whose own class is one of them.
const OWN: [&str; 3] = ["bert", "distilbert", "mpnet"];

/// The tokenizer of `body`, and the `tokenizer.json` that says the same to other readers.
pub(crate) fn read_tokenizer(body: &Path, lowercase: bool, is_static: bool) -> Result<(TextTokenizer, Vec<u8>), EncoderError> {
    let path = body.join("tokenizer.json");
    if !path.is_file() {
        return Err(EncoderError::MissingFile {
            path,
            hint: "only fast tokenizers are read; save the tokenizer with a current transformers version",
        });
    }
    let bytes = read(&path)?;
    // A static encoder's file is read without transformers.
    let bytes = if is_static { bytes } else { as_configured(body, &path, bytes)? };
    if !is_static {
        tell_of_ends(body, &path, &bytes)?;
    }
    let used = adapted(&path, &bytes, lowercase, is_static)?;
    let wrong = |source| EncoderError::Tokenizer { path: path.clone(), source };
    let mut tokenizer = TextTokenizer::from_bytes(used.as_deref().unwrap_or(&bytes)).map_err(wrong)?;
    if is_static {
        tokenizer = tokenizer.cut_as_filed().map_err(wrong)?;
    }
    Ok((tokenizer, bytes))
}

/// The file with the normalizer that transformers makes of `tokenizer_config.json`: its keys, or their defaults.
fn as_configured(body: &Path, path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, EncoderError> {
    let source = body.join("tokenizer_config.json");
    let config = optional_json(&source)?.unwrap_or_else(|| json!({}));
    let model = optional_json(&body.join("config.json"))?.unwrap_or_else(|| json!({}));
    if !is_of_bert(&config, &model) {
        return Ok(bytes);
    }
    let mut tokenizer: Value = parsed(path, &bytes)?;
    let normalizer = &mut tokenizer["normalizer"];
    // Of any other normalizer transformers 4 and 5 make different things.
    if normalizer["type"] != "BertNormalizer" {
        return Ok(bytes);
    }
    let keys = Keys { path: &source, config: &config };
    let flag = |field: &str| match config.get(field) {
        None => Ok(true),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(keys.wrong(field, "true or false")),
    };
    let (lower, apart) = (flag("do_lower_case")?, flag("tokenize_chinese_chars")?);
    let accents = match config.get("strip_accents") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(strip)) => Some(*strip),
        Some(_) => return Err(keys.wrong("strip_accents", "null, true or false")),
    };
    // Left open, accents go where capitals do.
    let filed_lower = normalizer["lowercase"].as_bool().unwrap_or(true);
    let filed_accents = normalizer["strip_accents"].as_bool().unwrap_or(filed_lower);
    let filed = (filed_lower, filed_accents, normalizer["handle_chinese_chars"].as_bool().unwrap_or(true));
    let wanted = (lower, accents.unwrap_or(lower), apart);
    if filed == wanted {
        return Ok(bytes);
    }
    tracing::warn!(
        file = %path.display(),
        "tokenizer_config.json decides, as in transformers: do_lower_case {lower}, strip_accents {}, tokenize_chinese_chars {apart}; \
         the normalizer of tokenizer.json has {}, {}, {}",
        wanted.1, filed.0, filed.1, filed.2
    );
    normalizer["lowercase"] = json!(lower);
    normalizer["strip_accents"] = json!(accents);
    normalizer["handle_chinese_chars"] = json!(apart);
    written(path, &tokenizer)
}

/// Says that a text does not get the first or last token that `tokenizer_config.json` asks for: transformers 4 adds it to tokenizers of Llama's kind whatever the file says, transformers 5
/// goes by the file. For a model whose last token is the vector, it is another vector.
fn tell_of_ends(body: &Path, path: &Path, bytes: &[u8]) -> Result<(), EncoderError> {
    let Some(config) = optional_json(&body.join("tokenizer_config.json"))? else { return Ok(()) };
    for (asks, token) in [("add_bos_token", "bos_token"), ("add_eos_token", "eos_token")] {
        let text = config.get(token).and_then(|token| token.as_str().or_else(|| token.get("content")?.as_str()));
        if let (Some(true), Some(text)) = (config.get(asks).and_then(Value::as_bool), text)
            && !names(&parsed(path, bytes)?["post_processor"], text)
        {
            tracing::warn!(
                file = %path.display(),
                "tokenizer_config.json asks for {text} ({asks}), which tokenizer.json does not add: as in transformers 5 it is left out; \
                 save the tokenizer again with the version of transformers that the model was trained with if that added it"
            );
        }
    }
    Ok(())
}

/// Whether a token stands anywhere in a post-processor.
fn names(processor: &Value, token: &str) -> bool {
    match processor {
        Value::String(text) => text == token,
        Value::Array(parts) => parts.iter().any(|part| names(part, token)),
        Value::Object(parts) => parts.values().any(|part| names(part, token)),
        _ => false,
    }
}

/// Whether transformers opens the tokenizer with a class of BERT's kind.
fn is_of_bert(tokenizer_config: &Value, config: &Value) -> bool {
    let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).map(str::to_owned);
    let Some(model) = text(config, "model_type").filter(|model| HEEDED.contains(&model.as_str())) else { return false };
    match text(tokenizer_config, "tokenizer_class").or_else(|| text(config, "tokenizer_class")) {
        Some(class) => OF_BERT.contains(&class.strip_suffix("Fast").unwrap_or(&class)),
        None => OWN.contains(&model.as_str()),
    }
}

/// With `do_lower_case` of sentence-transformers texts are lowercased first; static encoders take no special tokens. None when the
/// file is used as it is.
fn adapted(path: &Path, bytes: &[u8], lowercase: bool, is_static: bool) -> Result<Option<Vec<u8>>, EncoderError> {
    if !lowercase && !is_static {
        return Ok(None);
    }
    let mut tokenizer: Value = parsed(path, bytes)?;
    if is_static {
        if tokenizer.get("post_processor").is_none_or(Value::is_null) && !lowercase {
            return Ok(None);
        }
        tokenizer["post_processor"] = Value::Null;
    }
    if lowercase {
        let mut steps = vec![json!({"type": "Lowercase"})];
        steps.extend(tokenizer.get("normalizer").filter(|normalizer| !normalizer.is_null()).cloned());
        tokenizer["normalizer"] = json!({"type": "Sequence", "normalizers": steps});
    }
    written(path, &tokenizer).map(Some)
}

/// The file as an object, which may be given further keys.
fn parsed(path: &Path, bytes: &[u8]) -> Result<Value, EncoderError> {
    let tokenizer: Value = serde_json::from_slice(bytes).map_err(|source| EncoderError::Json { path: path.to_owned(), source })?;
    if tokenizer.is_object() {
        return Ok(tokenizer);
    }
    let message = "it is no JSON object; save the tokenizer with a current transformers version".to_owned();
    Err(EncoderError::TokenizerBuild { path: path.to_owned(), message })
}

fn written(path: &Path, tokenizer: &Value) -> Result<Vec<u8>, EncoderError> {
    serde_json::to_vec(tokenizer).map_err(|source| EncoderError::Json { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::encoder::Encoder;

    /// A folder with a tokenizer of lowercase words that lowercases, or not, and two configurations.
    fn folder(lowercase: bool, config: &Value, tokenizer_config: Option<&Value>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let made = Encoder::tiny(["the cat", "the dog"].into_iter(), 7, &Device::flex());
        let mut tokenizer: Value = serde_json::from_slice(made.tokenizer.to_bytes()).unwrap();
        tokenizer["normalizer"]["lowercase"] = json!(lowercase);
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        if let Some(tokenizer_config) = tokenizer_config {
            std::fs::write(folder.path().join("tokenizer_config.json"), tokenizer_config.to_string()).unwrap();
        }
        folder
    }

    #[test]
    fn a_token_that_a_post_processor_adds_is_found() {
        let processor = json!({"type": "Sequence", "processors": [{"type": "ByteLevel"}, {
            "type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<e>", "type_id": 0}}],
            "special_tokens": {"<e>": {"id": "<e>", "ids": [1], "tokens": ["<e>"]}},
        }]});
        assert!(names(&processor, "<e>") && !names(&processor, "<s>") && !names(&Value::Null, "<e>"));
    }

    /// Whether capitals are lowered, and whether the file to save is the one that was read.
    fn lowers(folder: &Path) -> (bool, bool) {
        let (tokenizer, saved) = read_tokenizer(folder, false, false).unwrap();
        let rows = tokenizer.encode_all(&["THE cat", "the cat"], "", 9).unwrap();
        let again = TextTokenizer::from_bytes(&saved).unwrap();
        assert_eq!(again.encode_all(&["THE cat", "the cat"], "", 9).unwrap(), rows, "what is saved says the same");
        (rows[0] == rows[1], saved == std::fs::read(folder.join("tokenizer.json")).unwrap())
    }

    #[test]
    fn the_configuration_decides_what_berts_normalizer_does() {
        let class = |class: &str, lower: Option<bool>| match lower {
            Some(lower) => json!({"tokenizer_class": class, "do_lower_case": lower}),
            None => json!({"tokenizer_class": class}),
        };
        let bert = json!({"model_type": "bert"});
        // What transformers 4.57 and 5.24 both make of it: the file lowercases, the configurations, then whether capitals are lowered.
        let cases = [
            (true, bert.clone(), Some(class("BertTokenizer", Some(false))), false),
            (false, bert.clone(), Some(class("BertTokenizerFast", Some(true))), true),
            (false, bert.clone(), Some(class("BertTokenizer", None)), true),
            (false, bert.clone(), Some(json!({"do_lower_case": false})), false),
            (false, bert.clone(), None, true),
            (true, json!({"model_type": "mpnet"}), Some(class("MPNetTokenizer", Some(false))), false),
            (false, json!({"model_type": "roberta"}), Some(class("BertTokenizer", None)), true),
            (false, json!({"model_type": "roberta"}), None, false),
            (false, json!({"model_type": "bert", "tokenizer_class": "PreTrainedTokenizerFast"}), None, false),
            (true, bert.clone(), Some(class("PreTrainedTokenizerFast", Some(false))), true),
            // Here the two differ, and the file is taken as transformers 5 takes it.
            (true, json!({"model_type": "modernbert"}), Some(class("BertTokenizer", Some(false))), true),
        ];
        for (filed, config, tokenizer_config, expected) in cases {
            let folder = folder(filed, &config, tokenizer_config.as_ref());
            let what = format!("{filed}, {config}, {tokenizer_config:?}");
            assert_eq!(lowers(folder.path()), (expected, filed == expected), "{what}");
        }
        let wrong = folder(true, &bert, Some(&json!({"do_lower_case": "no"})));
        let message = read_tokenizer(wrong.path(), false, false).unwrap_err().to_string();
        assert!(message.contains("tokenizer_config.json: do_lower_case is \"no\", expected true or false"), "{message}");
    }

    #[test]
    fn accents_and_chinese_characters_follow_it_too() {
        let folder = folder(true, &json!({"model_type": "bert"}), Some(&json!({"strip_accents": false, "tokenize_chinese_chars": false})));
        let (_, saved) = read_tokenizer(folder.path(), false, false).unwrap();
        let saved: Value = serde_json::from_slice(&saved).unwrap();
        let expected =
            json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": false, "strip_accents": false, "lowercase": true});
        assert_eq!(saved["normalizer"], expected);
    }

    #[test]
    fn static_encoders_take_the_file_with_its_truncation_and_nothing_else() {
        let folder = folder(false, &json!({"model_type": "bert"}), Some(&json!({"do_lower_case": true})));
        let path = folder.path().join("tokenizer.json");
        let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        file["truncation"] = json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
        std::fs::write(&path, file.to_string()).unwrap();
        let (tokenizer, saved) = read_tokenizer(folder.path(), false, true).unwrap();
        assert_eq!(tokenizer.encode_all(&["the cat the dog"], "", 100).unwrap(), tokenizer.encode_all(&["the cat"], "", 100).unwrap());
        assert_eq!((tokenizer.longest_row(), saved), (Some(2), std::fs::read(&path).unwrap()));
        assert_eq!(read_tokenizer(folder.path(), false, false).unwrap().0.longest_row(), None, "of a transformer its length decides");
    }
}
