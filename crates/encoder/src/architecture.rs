//! What `config.json` says about a transformer, brought into one vocabulary for BERT, DistilBERT, RoBERTa, MPNet, ModernBERT and decoders.
//!
//! Owns the reading of the Hugging Face model configuration and its validation; the tensors' names are in `names`.
//! Invariant: an [`Architecture`] that exists can be built, so nothing downstream meets a zero size or an odd head count.

use std::path::Path;

use kernels::layers::Window;
use serde_json::{Value, json};

use crate::EncoderError;
use crate::keys::Keys;

const SUPPORTED: &str = "bert, distilbert, roberta, xlm-roberta, camembert, mpnet, modernbert, qwen3, qwen2, llama, mistral";

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
    /// Llama, Mistral, Qwen2 and Qwen3 (arXiv 2302.13971, 2506.05176): a token sees those before it, norms by the root mean square, rotary positions, heads in groups, gated SiLU.
    Decoder,
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
    /// `x / (1 + e^-x)`.
    Silu,
}

/// What the heads of a decoder have beside those of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouped {
    /// Heads of keys and values; divides the heads of queries, and each serves as many of these.
    pub key_heads: usize,
    /// Whether each head of query and key has a norm (Qwen3).
    pub norms: bool,
    /// Whether query, key and value have biases (Qwen2).
    pub biased: bool,
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
    /// How many tokens before itself and behind itself a token sees in the others; of a decoder, how many it sees, itself included.
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
    /// Attention heads.
    pub heads: usize,
    /// Width of a head: `hidden / heads`, but in decoders that say otherwise.
    pub head: usize,
    /// Of a decoder.
    pub grouped: Option<Grouped>,
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
    /// The feed-forward nonlinearity, in ModernBERT and decoders that of the gate.
    pub activation: Activation,
    /// Added to the variance, or the mean square, in every norm.
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
            "qwen3" | "qwen2" | "llama" | "mistral" => return Self::decoder(&keys, &model_type),
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
        let hidden = keys.size(name("hidden_size", "dim"), 1)?;
        let heads = keys.size(name("num_attention_heads", "n_heads"), 1)?;
        let architecture = Self {
            family,
            vocabulary: keys.size("vocab_size", 1)?,
            hidden,
            layers: keys.layers(name("num_hidden_layers", "n_layers"))?,
            heads,
            head: hidden / heads,
            grouped: None,
            intermediate: keys.size(name("intermediate_size", "hidden_dim"), 1)?,
            positions: keys.size("max_position_embeddings", 1)?,
            first_position: match family {
                Family::Bert | Family::DistilBert => 0,
                Family::Roberta => pad_id as usize + 1,
                // The published code fixes the padding position at 1, whatever the configuration says.
                Family::Mpnet => 2,
                Family::ModernBert | Family::Decoder => unreachable!("read above"),
            },
            token_types: match family {
                Family::Bert | Family::Roberta => keys.size_or("type_vocab_size", 2, 1)?,
                _ => 0,
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
        let layers = keys.layers("num_hidden_layers")?;
        let (base, window_base) = (
            keys.rotary_base(Some("full_attention"), "global_rope_theta", 160_000.0)?,
            keys.rotary_base(Some("sliding_attention"), "local_rope_theta", 10_000.0)?,
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
            head: hidden / heads,
            grouped: None,
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

    fn decoder(keys: &Keys<'_>, model_type: &str) -> Result<Self, EncoderError> {
        let value = |field: &str| keys.config.get(field).filter(|value| !value.is_null());
        let is = |field: &str| value(field).is_some_and(|value| *value != json!(false));
        if keys.config.pointer("/auto_map/AutoModel").is_some() {
            return Err(
                keys.wrong("auto_map", "no code of the model's own: what it computes beside the published architecture is not known here")
            );
        }
        if value("is_causal").is_some_and(|causal| *causal == json!(false)) {
            return Err(keys.wrong("is_causal", "true: of decoders those are read in which a token sees what came before it"));
        }
        if is("mlp_bias") {
            return Err(keys.wrong("mlp_bias", "false, as in all published models: such biases are not read"));
        }
        // Qwen2 has biases that its configuration says nothing of; elsewhere they would come with one of the output, which no published model has.
        let biased = model_type == "qwen2";
        if is("attention_bias") && !biased {
            return Err(keys.wrong("attention_bias", "false, as in all published models: such biases are not read"));
        }
        let layers = keys.layers("num_hidden_layers")?;
        // Mistral's window is on in all layers whenever it is there, Qwen's from one layer on and only when it is said to be used.
        let everywhere = match keys.kinds_of_layers(layers)? {
            Some(kinds) => kinds,
            // Where the key is not there at all, transformers takes 4,096 tokens.
            None if model_type == "mistral" => vec![keys.config.get("sliding_window").is_some_and(Value::is_null); layers],
            None if model_type != "llama" && is("use_sliding_window") => {
                let first = keys.size_or("max_window_layers", 28, 0)?;
                (0..layers).map(|layer| layer < first).collect()
            }
            None => vec![true; layers],
        };
        let usual = if model_type == "mistral" { 4096 } else { 0 };
        let window = match everywhere.contains(&false) {
            true if usual > 0 => keys.size_or("sliding_window", usual, 1)?,
            true => keys.size("sliding_window", 1)?,
            false => 0,
        };
        let (hidden, heads) = (keys.size("hidden_size", 1)?, keys.size("num_attention_heads", 1)?);
        let key_heads = if value("num_key_value_heads").is_some() { keys.size("num_key_value_heads", 1)? } else { heads };
        if !heads.is_multiple_of(key_heads) {
            return Err(keys.wrong("num_key_value_heads", &format!("a divisor of the {heads} heads")));
        }
        let head = match (value("head_dim").is_some(), model_type) {
            (true, _) => keys.size("head_dim", 1)?,
            (false, "qwen3") => 128,
            (false, _) if hidden.is_multiple_of(heads) => hidden / heads,
            (false, _) => return Err(keys.wrong("num_attention_heads", &format!("a divisor of the hidden size {hidden}"))),
        };
        if !head.is_multiple_of(2) {
            return Err(keys.wrong("head_dim", "an even number"));
        }
        let base = keys.rotary_base(None, "rope_theta", 10_000.0)?;
        let probability = |field: &str| keys.probability_or(field, 0.0);
        Ok(Self {
            family: Family::Decoder,
            vocabulary: keys.size("vocab_size", 1)?,
            hidden,
            layers,
            heads,
            head,
            grouped: Some(Grouped { key_heads, norms: model_type == "qwen3", biased }),
            intermediate: keys.size("intermediate_size", 1)?,
            positions: keys.size_or("max_position_embeddings", 32_768, 1)?,
            first_position: 0,
            token_types: 0,
            relative_buckets: 0,
            rotary: Some(Rotary { everywhere, base, window_base: base, window }),
            activation: match keys.activation_or("hidden_act", "silu")? {
                Activation::Silu => Activation::Silu,
                _ => return Err(keys.wrong("hidden_act", "\"silu\"")),
            },
            epsilon: keys.number_or("rms_norm_eps", 1e-6)?,
            embedding_dropout: 0.0,
            dropout: 0.0,
            attention_dropout: probability("attention_dropout")?,
            // Nothing reads the padding of a decoder, whose vocabulary may have none.
            pad_id: 0,
        })
    }

    /// The longest row that the position embedding allows, special tokens included.
    pub fn max_length(&self) -> usize {
        self.positions - self.first_position
    }

    /// How far a token sees in a layer that sees everything there is to see, or in one that does not; None where that is the whole text.
    pub(crate) fn window(&self, everywhere: bool) -> Option<Window> {
        let window = self.rotary.as_ref().map_or(0, |rotary| rotary.window);
        match (self.family, everywhere) {
            (Family::Decoder, true) => Some(Window::CAUSAL),
            (Family::Decoder, false) => Some(Window::of(window - 1, 0)),
            (_, true) => None,
            (_, false) => Some(Window::around(window)),
        }
    }

    /// Whether a training pass drops anything.
    pub fn has_dropout(&self) -> bool {
        self.embedding_dropout > 0.0 || self.dropout > 0.0 || self.attention_dropout > 0.0
    }
}

impl Keys<'_> {
    /// The base of rotary positions in layers of a kind, or in all: today's `rope_parameters`, which may have parameters for each kind; earlier files have a key of its own.
    fn rotary_base(&self, kind: Option<&str>, earlier: &str, default: f64) -> Result<f64, EncoderError> {
        let whole = |field: &str| self.config.get(field).filter(|value| !value.is_null());
        if whole("rope_scaling").is_some() {
            return Err(self.wrong("rope_scaling", "none: scaled rotary positions are not read"));
        }
        let of_kind = |parameters| match kind {
            Some(kind) => Value::get(parameters, kind).filter(|parameters| !parameters.is_null()),
            None => Some(parameters),
        };
        let Some(parameters) = whole("rope_parameters").and_then(of_kind) else { return self.number_or(earlier, default) };
        let flat = parameters.as_object().is_some_and(|parameters| !parameters.values().any(Value::is_object));
        // Earlier files call the key `type`.
        let scaling = parameters.get("rope_type").or_else(|| parameters.get("type"));
        let plain = flat && scaling.is_none_or(|scaling| scaling == "default");
        let whole_head = parameters.get("partial_rotary_factor").and_then(Value::as_f64).is_none_or(|share| share == 1.0);
        let base = match parameters.get("rope_theta") {
            Some(base) => base.as_f64(),
            None => Some(self.number_or(earlier, default)?),
        };
        base.filter(|base| plain && whole_head && *base > 0.0).ok_or_else(|| {
            let place = kind.map_or_else(String::new, |kind| format!("{kind}."));
            self.wrong("rope_parameters", &format!("a positive {place}rope_theta, of rope_type \"default\", for whole heads"))
        })
    }

    /// For each layer of a ModernBERT whether it sees all tokens: today's `layer_types`, or every so many layers from the first on.
    fn layers_that_see_everything(&self, layers: usize) -> Result<Vec<bool>, EncoderError> {
        if let Some(kinds) = self.kinds_of_layers(layers)? {
            return Ok(kinds);
        }
        let every = self.size_or("global_attn_every_n_layers", 3, 1)?;
        Ok((0..layers).map(|layer| layer.is_multiple_of(every)).collect())
    }

    /// For each layer whether it sees all tokens, where `layer_types` says so.
    fn kinds_of_layers(&self, layers: usize) -> Result<Option<Vec<bool>>, EncoderError> {
        let Some(kinds) = self.config.get("layer_types").filter(|kinds| !kinds.is_null()) else { return Ok(None) };
        let seeing = |kind: &Value| match kind.as_str() {
            Some("full_attention") => Some(true),
            Some("sliding_attention") => Some(false),
            _ => None,
        };
        let kinds: Option<Vec<bool>> = kinds.as_array().and_then(|kinds| kinds.iter().map(seeing).collect());
        kinds
            .filter(|kinds| kinds.len() == layers)
            .map(Some)
            .ok_or_else(|| self.wrong("layer_types", &format!("\"full_attention\" or \"sliding_attention\" for each of {layers} layers")))
    }

    fn activation(&self, field: &str) -> Result<Activation, EncoderError> {
        self.activation_or(field, "gelu")
    }

    fn activation_or(&self, field: &str, default: &'static str) -> Result<Activation, EncoderError> {
        match self.config.get(field).map_or(Some(default), Value::as_str) {
            Some("silu") => Ok(Activation::Silu),
            Some("gelu") => Ok(Activation::Gelu),
            Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            Some("relu") => Ok(Activation::Relu),
            _ => Err(self.wrong(field, "\"gelu\", \"gelu_new\", \"gelu_pytorch_tanh\", \"relu\" or \"silu\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("num_hidden_layers", json!(2_000_000_000), "at most 10,000 layers"),
            ("num_attention_heads", json!(3), "a divisor of the hidden size 8"),
            ("hidden_act", json!("mish"), "hidden_act is \"mish\""),
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

    fn qwen() -> Value {
        json!({"model_type": "qwen3", "vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4,
               "num_key_value_heads": 2, "head_dim": 6, "intermediate_size": 16, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
               "rope_scaling": null, "sliding_window": null, "use_sliding_window": false, "hidden_act": "silu"})
    }

    #[test]
    fn decoders_have_heads_of_their_own_width_in_groups() {
        let read = |key: &str, value: Value| {
            let mut config = qwen();
            config[key] = value;
            super::tests::read(&config).unwrap()
        };
        let a = super::tests::read(&qwen()).unwrap();
        assert_eq!((a.family, a.heads, a.head, a.positions), (Family::Decoder, 4, 6, 32_768));
        assert_eq!(a.grouped, Some(Grouped { key_heads: 2, norms: true, biased: false }));
        assert_eq!(a.rotary.unwrap().base, 1e6);
        assert_eq!(read("head_dim", json!(null)).head, 128, "the default of Qwen3");
        let qwen2 = read("model_type", json!("qwen2"));
        assert_eq!(qwen2.grouped, Some(Grouped { key_heads: 2, norms: false, biased: true }));
        // As transformers 5 writes it.
        assert_eq!(read("rope_parameters", json!({"rope_type": "default", "rope_theta": 500.0})).rotary.unwrap().base, 500.0);
        let llama = read("model_type", json!("llama"));
        assert_eq!(llama.grouped, Some(Grouped { key_heads: 2, norms: false, biased: false }));
    }

    #[test]
    fn decoders_of_another_kind_are_refused() {
        let cases = [
            ("num_key_value_heads", json!(3), "a divisor of the 4 heads"),
            ("head_dim", json!(5), "an even number"),
            ("attention_bias", json!(true), "such biases are not read"),
            ("layer_types", json!(["full_attention"]), "for each of 2 layers"),
            ("layer_types", json!(["full_attention", "sliding_attention"]), "sliding_window is null"),
            ("rope_scaling", json!({"rope_type": "llama3"}), "rope_scaling"),
            ("rope_parameters", json!({"rope_type": "yarn", "rope_theta": 1e6}), "of rope_type"),
            ("rope_parameters", json!({"type": "linear", "factor": 4.0, "rope_theta": 1e6}), "of rope_type"),
            ("rope_parameters", json!({"full_attention": {"rope_theta": 1e6}}), "a positive rope_theta"),
            ("is_causal", json!(false), "a token sees what came before it"),
            ("auto_map", json!({"AutoModel": "modeling_qwen.Qwen2Model"}), "no code of the model's own"),
            ("hidden_act", json!("gelu"), "\"silu\""),
        ];
        for (key, value, part) in cases {
            let mut config = qwen();
            config[key] = value;
            let message = read(&config).unwrap_err().to_string();
            assert!(message.contains(part), "{key}: {message}");
        }
    }

    #[test]
    fn windows_of_decoders() {
        let read = |keys: Value| {
            let mut config = qwen();
            config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
            let rotary = super::tests::read(&config).unwrap().rotary.unwrap();
            (rotary.everywhere, rotary.window)
        };
        assert_eq!(read(json!({"model_type": "mistral", "sliding_window": 4096})), (vec![false, false], 4096));
        assert_eq!(read(json!({"model_type": "mistral", "sliding_window": null})), (vec![true, true], 0));
        assert_eq!(read(json!({"sliding_window": 7})), (vec![true, true], 0), "Qwen's is not used unasked");
        assert_eq!(read(json!({"sliding_window": 7, "use_sliding_window": true, "max_window_layers": 1})), (vec![true, false], 7));
        let decoder = super::tests::read(&qwen()).unwrap();
        assert_eq!(decoder.window(true), Some(Window::CAUSAL));
        let mut absent = qwen();
        absent["model_type"] = json!("mistral");
        absent.as_object_mut().unwrap().remove("sliding_window");
        let absent = super::tests::read(&absent).unwrap();
        assert_eq!((absent.rotary.as_ref().unwrap().window, absent.window(false)), (4096, Some(Window::of(4095, 0))));
    }
}
