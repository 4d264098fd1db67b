//! Names of tensors in published checkpoints, by family; the only place that knows them.
//!
//! | part | BERT, RoBERTa | DistilBERT | MPNet |
//! |---|---|---|---|
//! | layer n | `encoder.layer.n` | `transformer.layer.n` | `encoder.layer.n` |
//! | query, key, value | `attention.self.{query,key,value}` | `attention.{q,k,v}_lin` | `attention.attn.{q,k,v}` |
//! | attention output | `attention.output.dense` | `attention.out_lin` | `attention.attn.o` |
//! | its norm | `attention.output.LayerNorm` | `sa_layer_norm` | `attention.LayerNorm` |
//! | feed-forward | `intermediate.dense`, `output.dense` | `ffn.lin1`, `ffn.lin2` | as BERT |
//! | its norm | `output.LayerNorm` | `output_layer_norm` | as BERT |
//!
//! ModernBERT and decoders have parts of their own: [`PreNormNames`].

use crate::architecture::Family;

pub(crate) const POSITION: &str = "embeddings.position_embeddings.weight";
pub(crate) const TOKEN_TYPE: &str = "embeddings.token_type_embeddings.weight";
pub(crate) const EMBEDDING_NORM: &str = "embeddings.LayerNorm";
pub(crate) const RELATIVE: &str = "encoder.relative_attention_bias.weight";
/// Of a ModernBERT reranker's head.
pub(crate) const HEAD_NORM: &str = "head.norm";
pub(crate) const BAG: &str = "embedding.weight";

/// Names outside the layers of a transformer.
#[derive(Clone, Copy)]
pub(crate) struct Outside {
    pub(crate) word: &'static str,
    /// Of the embeddings.
    pub(crate) norm: Option<&'static str>,
    /// Behind the last layer.
    pub(crate) final_norm: Option<&'static str>,
}

impl Outside {
    pub(crate) fn of(family: Family) -> Self {
        match family {
            Family::ModernBert => {
                Self { word: "embeddings.tok_embeddings.weight", norm: Some("embeddings.norm"), final_norm: Some("final_norm") }
            }
            Family::Decoder => Self { word: "embed_tokens.weight", norm: None, final_norm: Some("norm") },
            Family::Bert | Family::DistilBert | Family::Roberta | Family::Mpnet => {
                Self { word: "embeddings.word_embeddings.weight", norm: Some(EMBEDDING_NORM), final_norm: None }
            }
        }
    }
}

/// Prefixes that wrap the encoder in files of task models, sentence-transformers dumps and other exporters.
const PREFIXES: [&str; 6] = ["0.auto_model.", "model.", "bert.", "roberta.", "mpnet.", "distilbert."];

/// Heads that belong to a training task and not to the encoder.
const HEADS: [&str; 8] = ["cls.", "lm_head.", "pooler.", "vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "head.", "decoder."];

/// The name inside the encoder: without wrapping prefixes, and with today's words for the parts of a layer norm.
pub(crate) fn canonical(name: &str) -> String {
    let mut rest = name;
    while let Some(shorter) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = shorter;
    }
    for (old, new) in [("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")] {
        if let Some(start) = rest.strip_suffix(old) {
            return format!("{start}{new}");
        }
    }
    // What model2vec calls an embedding bag's table.
    if rest == "embeddings" { BAG } else { rest }.to_owned()
}

/// True for tensors of task heads and for buffers, which an encoder does not need.
pub(crate) fn is_ignored(canonical: &str) -> bool {
    canonical == "embeddings.position_ids"
        || canonical.ends_with("rotary_emb.inv_freq")
        || HEADS.iter().any(|head| canonical.starts_with(head))
}

/// As [`is_ignored`], but keeps the pooler, which is a part of a BERT reranker.
pub(crate) fn is_ignored_beside_pooler(canonical: &str) -> bool {
    is_ignored(canonical) && !canonical.starts_with("pooler.")
}

/// As [`is_ignored`], but keeps the head of a ModernBERT, which is a part of its reranker.
pub(crate) fn is_ignored_beside_head(canonical: &str) -> bool {
    is_ignored(canonical) && !canonical.starts_with("head.")
}

/// What stands before the encoder's names in the file of a task model.
pub(crate) fn prefix(family: Family) -> &'static str {
    match family {
        Family::Bert => "bert.",
        Family::DistilBert => "distilbert.",
        Family::Roberta => "roberta.",
        Family::Mpnet => "mpnet.",
        Family::ModernBert | Family::Decoder => "model.",
    }
}

/// Prefixes of the parts of one layer; `.weight` and `.bias` follow.
pub(crate) struct LayerNames {
    pub(crate) query: String,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) attention_output: String,
    pub(crate) attention_norm: String,
    pub(crate) inner: String,
    pub(crate) outer: String,
    pub(crate) output_norm: String,
}

impl LayerNames {
    pub(crate) fn new(family: Family, layer: usize) -> Self {
        let [query, key, value, attention_output, attention_norm, inner, outer, output_norm] = match family {
            Family::Bert | Family::Roberta => [
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
                "attention.output.dense",
                "attention.output.LayerNorm",
                "intermediate.dense",
                "output.dense",
                "output.LayerNorm",
            ],
            Family::DistilBert => [
                "attention.q_lin",
                "attention.k_lin",
                "attention.v_lin",
                "attention.out_lin",
                "sa_layer_norm",
                "ffn.lin1",
                "ffn.lin2",
                "output_layer_norm",
            ],
            Family::ModernBert | Family::Decoder => unreachable!("their layers have other parts: `PreNormNames`"),
            Family::Mpnet => [
                "attention.attn.q",
                "attention.attn.k",
                "attention.attn.v",
                "attention.attn.o",
                "attention.LayerNorm",
                "intermediate.dense",
                "output.dense",
                "output.LayerNorm",
            ],
        };
        let root = if family == Family::DistilBert { "transformer" } else { "encoder" };
        let full = |part: &str| format!("{root}.layer.{layer}.{part}");
        Self {
            query: full(query),
            key: full(key),
            value: full(value),
            attention_output: full(attention_output),
            attention_norm: full(attention_norm),
            inner: full(inner),
            outer: full(outer),
            output_norm: full(output_norm),
        }
    }
}

/// Prefixes of the parts of one layer of a ModernBERT or a decoder; `.weight` and, where there is one, `.bias` follow.
pub(crate) struct PreNormNames {
    /// None in the first layer of a ModernBERT, which reads the embeddings behind their norm.
    pub(crate) attention_norm: Option<String>,
    /// Query, key and value, as one or as three.
    pub(crate) joint: Vec<String>,
    /// Of the heads of query and key, where they have norms.
    pub(crate) head_norms: [String; 2],
    pub(crate) attention_output: String,
    pub(crate) feed_norm: String,
    /// Both halves, as one or as two, that of the gate first.
    pub(crate) inner: Vec<String>,
    pub(crate) outer: String,
}

impl PreNormNames {
    pub(crate) fn new(family: Family, layer: usize) -> Self {
        let full = |part: &str| format!("layers.{layer}.{part}");
        let head_norms = ["self_attn.q_norm", "self_attn.k_norm"].map(full);
        match family {
            Family::Decoder => Self {
                attention_norm: Some(full("input_layernorm")),
                joint: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].map(full).into(),
                head_norms,
                attention_output: full("self_attn.o_proj"),
                feed_norm: full("post_attention_layernorm"),
                inner: ["mlp.gate_proj", "mlp.up_proj"].map(full).into(),
                outer: full("mlp.down_proj"),
            },
            _ => Self {
                attention_norm: (layer > 0).then(|| full("attn_norm")),
                joint: vec![full("attn.Wqkv")],
                head_norms,
                attention_output: full("attn.Wo"),
                feed_norm: full("mlp_norm"),
                inner: vec![full("mlp.Wi")],
                outer: full("mlp.Wo"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_and_old_names_become_canonical() {
        for (name, expected) in [
            ("bert.embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight"),
            ("0.auto_model.encoder.layer.0.output.LayerNorm.beta", "encoder.layer.0.output.LayerNorm.bias"),
            ("model.roberta.encoder.layer.1.output.dense.bias", "encoder.layer.1.output.dense.bias"),
            ("embedding.weight", "embedding.weight"),
            ("embeddings", "embedding.weight"),
        ] {
            assert_eq!(canonical(name), expected);
        }
        assert!(is_ignored("pooler.dense.weight") && is_ignored("embeddings.position_ids"));
        assert!(!is_ignored("embeddings.position_embeddings.weight"));
    }
}
