//! What `config.json` says about a transformer, brought into one vocabulary for BERT, DistilBERT, RoBERTa and MPNet.
//!
//! Owns the reading of the Hugging Face model configuration and its validation; the tensors' names are in `names`.
//! Invariant: an [`Architecture`] that exists can be built, so nothing downstream meets a zero size or an odd head count.

use std::path::Path;

use serde_json::Value;

use crate::EncoderError;

const SUPPORTED: &str = "bert, distilbert, roberta, xlm-roberta, camembert, mpnet";

/// Which published model a transformer follows: decides tensor names and small differences of the forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// BERT and MiniLM.
    Bert,
    /// DistilBERT: no token types, no dropout after the attention output.
    DistilBert,
    /// RoBERTa, XLM-R and CamemBERT: positions start after the padding id.
    Roberta,
    /// MPNet: positions start at 2, and a relative position bias is added in every layer.
    Mpnet,
}

/// The nonlinearity between the two feed-forward products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x Φ(x), exact.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// max(0, x).
    Relu,
}

/// Sizes and constants of a transformer encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// The family whose names and details hold.
    pub family: Family,
    /// Rows of the word embedding.
    pub vocabulary: usize,
    /// Width of a hidden state.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads; divides `hidden`.
    pub heads: usize,
    /// Width between the two feed-forward products.
    pub intermediate: usize,
    /// Rows of the position embedding.
    pub positions: usize,
    /// Position row of the first token: 0, or padding id + 1 for RoBERTa and MPNet.
    pub first_position: usize,
    /// Rows of the token-type embedding, 0 when the family has none.
    pub token_types: usize,
    /// Buckets of the relative position bias, 0 when the family has none.
    pub relative_buckets: usize,
    /// The feed-forward nonlinearity.
    pub activation: Activation,
    /// Added to the variance in every layer norm.
    pub epsilon: f64,
    /// Dropout on embeddings, and on the output of feed-forward and (but for DistilBERT) attention.
    pub dropout: f64,
    /// Dropout on attention probabilities.
    pub attention_dropout: f64,
    /// The padding token.
    pub pad_id: u32,
}

impl Architecture {
    /// Reads the parsed `config.json` at `path` (used in messages only).
    ///
    /// # Errors
    /// An unsupported `model_type` or activation, a missing or impossible size, relative position embeddings.
    pub fn from_config(path: &Path, config: &Value) -> Result<Self, EncoderError> {
        let keys = Keys { path, config };
        let model_type = keys.text("model_type")?;
        let family = match model_type.as_str() {
            "bert" => Family::Bert,
            "distilbert" => Family::DistilBert,
            "roberta" | "xlm-roberta" | "camembert" => Family::Roberta,
            "mpnet" => Family::Mpnet,
            _ => {
                return Err(EncoderError::UnsupportedModel { path: path.to_owned(), model_type, supported: SUPPORTED });
            }
        };
        if let Some(kind) = config.get("position_embedding_type").and_then(Value::as_str)
            && kind != "absolute"
        {
            return Err(keys.wrong("position_embedding_type", "\"absolute\""));
        }
        let distil = family == Family::DistilBert;
        let name = |usual: &'static str, distilled: &'static str| if distil { distilled } else { usual };
        let pad_id = match (family, config.get("pad_token_id")) {
            (Family::Roberta | Family::Mpnet, None | Some(Value::Null)) => 1,
            (_, None | Some(Value::Null)) => 0,
            _ => keys.size("pad_token_id", 0)? as u32,
        };
        let architecture = Self {
            family,
            vocabulary: keys.size("vocab_size", 1)?,
            hidden: keys.size(name("hidden_size", "dim"), 1)?,
            layers: keys.size(name("num_hidden_layers", "n_layers"), 1)?,
            heads: keys.size(name("num_attention_heads", "n_heads"), 1)?,
            intermediate: keys.size(name("intermediate_size", "hidden_dim"), 1)?,
            positions: keys.size("max_position_embeddings", 1)?,
            first_position: match family {
                Family::Bert | Family::DistilBert => 0,
                Family::Roberta => pad_id as usize + 1,
                // The published code fixes the padding position at 1, whatever the configuration says.
                Family::Mpnet => 2,
            },
            token_types: match family {
                Family::Bert | Family::Roberta => keys.size_or("type_vocab_size", 2, 1)?,
                Family::DistilBert | Family::Mpnet => 0,
            },
            relative_buckets: match family {
                Family::Mpnet => keys.size_or("relative_attention_num_buckets", 32, 2)?,
                _ => 0,
            },
            activation: keys.activation(name("hidden_act", "activation"))?,
            epsilon: if distil { 1e-12 } else { keys.number_or("layer_norm_eps", 1e-12)? },
            dropout: keys.probability(name("hidden_dropout_prob", "dropout"))?,
            attention_dropout: keys.probability(name("attention_probs_dropout_prob", "attention_dropout"))?,
            pad_id,
        };
        if !architecture.hidden.is_multiple_of(architecture.heads) {
            return Err(
                keys.wrong(name("num_attention_heads", "n_heads"), &format!("a divisor of the hidden size {}", architecture.hidden))
            );
        }
        if architecture.positions <= architecture.first_position {
            return Err(keys.wrong("max_position_embeddings", &format!("more than {}", architecture.first_position)));
        }
        Ok(architecture)
    }

    /// The longest row that the position embedding allows, special tokens included.
    pub fn max_length(&self) -> usize {
        self.positions - self.first_position
    }

    /// Whether a training pass drops anything.
    pub fn has_dropout(&self) -> bool {
        self.dropout > 0.0 || self.attention_dropout > 0.0
    }
}

/// Typed access to the keys of one JSON file, with messages that name file and key.
pub(crate) struct Keys<'a> {
    pub(crate) path: &'a Path,
    pub(crate) config: &'a Value,
}

impl Keys<'_> {
    pub(crate) fn wrong(&self, field: &str, expected: &str) -> EncoderError {
        EncoderError::Field {
            path: self.path.to_owned(),
            field: field.to_owned(),
            got: self.config.get(field).map_or("absent".to_owned(), Value::to_string),
            expected: expected.to_owned(),
        }
    }

    fn text(&self, field: &str) -> Result<String, EncoderError> {
        let value = self.config.get(field).and_then(Value::as_str);
        value.map(str::to_owned).ok_or_else(|| self.wrong(field, "a string"))
    }

    fn size(&self, field: &str, least: u64) -> Result<usize, EncoderError> {
        // The upper bound keeps every product of two sizes within 64 bits.
        match self.config.get(field).and_then(Value::as_u64) {
            Some(size) if (least..=1 << 31).contains(&size) => Ok(size as usize),
            _ => Err(self.wrong(field, &format!("an integer of at least {least}"))),
        }
    }

    fn size_or(&self, field: &str, default: usize, least: u64) -> Result<usize, EncoderError> {
        if self.config.get(field).is_none() { Ok(default) } else { self.size(field, least) }
    }

    fn number_or(&self, field: &str, default: f64) -> Result<f64, EncoderError> {
        match self.config.get(field) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(number) if number > 0.0 => Ok(number),
                _ => Err(self.wrong(field, "a positive number")),
            },
        }
    }

    pub(crate) fn probability(&self, field: &str) -> Result<f64, EncoderError> {
        match self.config.get(field) {
            None => Ok(0.1),
            Some(value) => match value.as_f64() {
                Some(p) if (0.0..1.0).contains(&p) => Ok(p),
                _ => Err(self.wrong(field, "a number from 0 to below 1")),
            },
        }
    }

    fn activation(&self, field: &str) -> Result<Activation, EncoderError> {
        match self.config.get(field).map_or(Some("gelu"), Value::as_str) {
            Some("gelu") => Ok(Activation::Gelu),
            Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            Some("relu") => Ok(Activation::Relu),
            _ => Err(self.wrong(field, "\"gelu\", \"gelu_new\", \"gelu_pytorch_tanh\" or \"relu\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bert() -> Value {
        json!({"model_type": "bert", "vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
               "intermediate_size": 16, "max_position_embeddings": 12, "hidden_act": "gelu"})
    }

    fn read(config: &Value) -> Result<Architecture, EncoderError> {
        Architecture::from_config(Path::new("config.json"), config)
    }

    #[test]
    fn positions_start_after_the_padding_id_in_roberta() {
        let mut config = bert();
        assert_eq!(read(&config).unwrap().max_length(), 12);
        config["model_type"] = json!("xlm-roberta");
        config["pad_token_id"] = json!(1);
        let roberta = read(&config).unwrap();
        assert_eq!((roberta.first_position, roberta.max_length()), (2, 10));
    }

    #[test]
    fn relative_positions_have_a_bucket_for_each_direction() {
        let mut config = bert();
        config["model_type"] = json!("mpnet");
        assert_eq!(read(&config).unwrap().relative_buckets, 32);
        config["relative_attention_num_buckets"] = json!(1);
        let message = read(&config).unwrap_err().to_string();
        assert!(message.contains("relative_attention_num_buckets is 1"), "{message}");
    }

    #[test]
    fn impossible_values_are_named() {
        let cases = [
            ("model_type", json!("t5"), "supported are bert"),
            ("hidden_size", json!(0), "hidden_size is 0"),
            ("hidden_size", json!(null), "hidden_size is null"),
            ("num_attention_heads", json!(3), "a divisor of the hidden size 8"),
            ("hidden_act", json!("silu"), "hidden_act is \"silu\""),
            ("hidden_dropout_prob", json!(1.0), "from 0 to below 1"),
            ("layer_norm_eps", json!(0.0), "a positive number"),
            ("position_embedding_type", json!("relative_key"), "\"absolute\""),
        ];
        for (key, value, part) in cases {
            let mut config = bert();
            config[key] = value;
            let message = read(&config).unwrap_err().to_string();
            assert!(message.contains(part), "{key}: {message}");
        }
    }
}
