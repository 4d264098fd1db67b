//! What `config.json` says about a transformer, brought into one vocabulary for BERT, DistilBERT, RoBERTa, MPNet and ModernBERT.
//!
//! Owns the reading of the Hugging Face model configuration and its validation; the tensors' names are in `names`.
//! Invariant: an [`Architecture`] that exists can be built, so nothing downstream meets a zero size or an odd head count.

use std::path::Path;

use serde_json::Value;

use crate::EncoderError;

const SUPPORTED: &str = "bert, distilbert, roberta, xlm-roberta, camembert, mpnet, modernbert";

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
    /// ModernBERT (arXiv 2412.13663): norms before the parts of a layer, rotary positions, most layers within a window, gated GELU, no biases.
    ModernBert,
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

/// Positions as turns of query and key (arXiv 2104.09864), and how far each layer sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// For each layer, whether it sees all tokens of a text.
    pub everywhere: Vec<bool>,
    /// Of those that do: number `i` of `n` of a head is turned by `base^(-2 i / n)` from one token to the next.
    pub base: f64,
    /// The same, of the others.
    pub window_base: f64,
    /// How many tokens before itself and behind itself a token sees in the others.
    pub window: usize,
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
    /// Rows of the position embedding, or positions that a rotary model was made for.
    pub positions: usize,
    /// Position row of the first token: 0, or padding id + 1 for RoBERTa and MPNet.
    pub first_position: usize,
    /// Rows of the token-type embedding, 0 when the family has none.
    pub token_types: usize,
    /// Buckets of the relative position bias, 0 when the family has none.
    pub relative_buckets: usize,
    /// Rotary positions and windows, for a family that has no position embedding.
    pub rotary: Option<Rotary>,
    /// The feed-forward nonlinearity.
    pub activation: Activation,
    /// Added to the variance in every layer norm.
    pub epsilon: f64,
    /// Dropout on the sum of the embeddings, behind its norm.
    pub embedding_dropout: f64,
    /// Dropout on the output of feed-forward and (but for DistilBERT and ModernBERT) attention; in ModernBERT, between the feed-forward products.
    pub dropout: f64,
    /// Dropout on attention probabilities, and in ModernBERT on the output of attention.
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
            "modernbert" => return Self::modern_bert(&keys),
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
                Family::ModernBert => unreachable!("read above"),
            },
            token_types: match family {
                Family::Bert | Family::Roberta => keys.size_or("type_vocab_size", 2, 1)?,
                Family::DistilBert | Family::Mpnet | Family::ModernBert => 0,
            },
            relative_buckets: match family {
                Family::Mpnet => keys.size_or("relative_attention_num_buckets", 32, 2)?,
                _ => 0,
            },
            rotary: None,
            activation: keys.activation(name("hidden_act", "activation"))?,
            epsilon: if distil { 1e-12 } else { keys.number_or("layer_norm_eps", 1e-12)? },
            embedding_dropout: keys.probability(name("hidden_dropout_prob", "dropout"))?,
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

    fn modern_bert(keys: &Keys<'_>) -> Result<Self, EncoderError> {
        for biased in ["norm_bias", "attention_bias", "mlp_bias"] {
            if !matches!(keys.config.get(biased), None | Some(Value::Null | Value::Bool(false))) {
                return Err(keys.wrong(biased, "false, as in all published models: such biases are not read"));
            }
        }
        let layers = keys.size("num_hidden_layers", 1)?;
        let (base, window_base) = (
            keys.rotary_base("full_attention", "global_rope_theta", 160_000.0)?,
            keys.rotary_base("sliding_attention", "local_rope_theta", 10_000.0)?,
        );
        let (hidden, heads) = (keys.size("hidden_size", 1)?, keys.size("num_attention_heads", 1)?);
        if !hidden.is_multiple_of(2 * heads) {
            return Err(keys.wrong("num_attention_heads", &format!("a divisor of half the hidden size {hidden}, for heads of even width")));
        }
        let rotary = Rotary {
            everywhere: keys.layers_that_see_everything(layers)?,
            base,
            window_base,
            window: keys.size_or("local_attention", 128, 0)? / 2,
        };
        Ok(Self {
            family: Family::ModernBert,
            vocabulary: keys.size("vocab_size", 1)?,
            hidden,
            layers,
            heads,
            intermediate: keys.size("intermediate_size", 1)?,
            positions: keys.size_or("max_position_embeddings", 8192, 1)?,
            first_position: 0,
            token_types: 0,
            relative_buckets: 0,
            rotary: Some(rotary),
            activation: match keys.activation("hidden_activation")? {
                Activation::Gelu => Activation::Gelu,
                _ => return Err(keys.wrong("hidden_activation", "\"gelu\"")),
            },
            epsilon: keys.number_or("norm_eps", 1e-5)?,
            embedding_dropout: keys.probability_or("embedding_dropout", 0.0)?,
            dropout: keys.probability_or("mlp_dropout", 0.0)?,
            attention_dropout: keys.probability_or("attention_dropout", 0.0)?,
            pad_id: match keys.config.get("pad_token_id") {
                None | Some(Value::Null) => 50283,
                _ => keys.size("pad_token_id", 0)? as u32,
            },
        })
    }

    /// The longest row that the position embedding allows, special tokens included.
    pub fn max_length(&self) -> usize {
        self.positions - self.first_position
    }

    /// Whether a training pass drops anything.
    pub fn has_dropout(&self) -> bool {
        self.embedding_dropout > 0.0 || self.dropout > 0.0 || self.attention_dropout > 0.0
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
        self.probability_or(field, 0.1)
    }

    fn probability_or(&self, field: &str, default: f64) -> Result<f64, EncoderError> {
        match self.config.get(field) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(p) if (0.0..1.0).contains(&p) => Ok(p),
                _ => Err(self.wrong(field, "a number from 0 to below 1")),
            },
        }
    }

    /// The base of rotary positions in layers of a kind: today's `rope_parameters` has one for each, earlier files have a key of its own.
    fn rotary_base(&self, kind: &str, earlier: &str, default: f64) -> Result<f64, EncoderError> {
        let whole = |field: &str| self.config.get(field).filter(|value| !value.is_null());
        if whole("rope_scaling").is_some() {
            return Err(self.wrong("rope_scaling", "none: scaled rotary positions are not read"));
        }
        let Some(parameters) = whole("rope_parameters") else { return self.number_or(earlier, default) };
        let Some(parameters) = parameters.get(kind).filter(|parameters| !parameters.is_null()) else {
            return self.number_or(earlier, default);
        };
        let plain = parameters.get("rope_type").is_none_or(|kind| kind == "default");
        let base = match parameters.get("rope_theta") {
            Some(base) => base.as_f64(),
            None => Some(self.number_or(earlier, default)?),
        };
        let base = base.filter(|base| plain && *base > 0.0);
        base.ok_or_else(|| self.wrong("rope_parameters", &format!("a positive {kind}.rope_theta, of rope_type \"default\"")))
    }

    /// For each layer of a ModernBERT whether it sees all tokens: today's `layer_types`, or every so many layers from the first on.
    fn layers_that_see_everything(&self, layers: usize) -> Result<Vec<bool>, EncoderError> {
        let Some(kinds) = self.config.get("layer_types").filter(|kinds| !kinds.is_null()) else {
            let every = self.size_or("global_attn_every_n_layers", 3, 1)?;
            return Ok((0..layers).map(|layer| layer.is_multiple_of(every)).collect());
        };
        let seeing = |kind: &Value| match kind.as_str() {
            Some("full_attention") => Some(true),
            Some("sliding_attention") => Some(false),
            _ => None,
        };
        let kinds: Option<Vec<bool>> = kinds.as_array().and_then(|kinds| kinds.iter().map(seeing).collect());
        kinds
            .filter(|kinds| kinds.len() == layers)
            .ok_or_else(|| self.wrong("layer_types", &format!("\"full_attention\" or \"sliding_attention\" for each of {layers} layers")))
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
    fn modernbert_of_earlier_and_of_todays_transformers() {
        let mut config = json!({"model_type": "modernbert", "vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2,
                                "intermediate_size": 16, "global_attn_every_n_layers": 2, "global_rope_theta": 5000.0, "local_attention": 20});
        let earlier = read(&config).unwrap();
        let rotary = Rotary { everywhere: vec![true, false, true, false], base: 5000.0, window_base: 10_000.0, window: 10 };
        assert_eq!((earlier.rotary.clone(), earlier.max_length(), earlier.pad_id), (Some(rotary.clone()), 8192, 50283));
        config["layer_types"] = json!(["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"]);
        config["rope_parameters"] = json!({"full_attention": {"rope_type": "default", "rope_theta": 7.0}, "sliding_attention": {"rope_type": "default", "rope_theta": 9.0}});
        let today = Rotary { everywhere: vec![false, true, false, false], base: 7.0, window_base: 9.0, ..rotary };
        assert_eq!(read(&config).unwrap().rotary, Some(today));
        for (key, value, part) in [
            ("norm_bias", json!(true), "norm_bias is true, expected false"),
            ("layer_types", json!(["full_attention"]), "for each of 4 layers"),
            ("layer_types", json!([1, 2, 3, 4]), "for each of 4 layers"),
            ("rope_parameters", json!({"full_attention": {"rope_type": "yarn", "rope_theta": 7.0}}), "rope_type \"default\""),
            ("rope_scaling", json!({"factor": 2.0}), "scaled rotary positions are not read"),
            ("hidden_activation", json!("relu"), "expected \"gelu\""),
            ("num_attention_heads", json!(8), "heads of even width"),
        ] {
            let mut config = config.clone();
            config[key] = value;
            let message = read(&config).unwrap_err().to_string();
            assert!(message.contains(part), "{key}: {message}");
        }
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
