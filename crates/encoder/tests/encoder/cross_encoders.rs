//! Rerankers against sentence-transformers. One BERT is made here out of a formula, so that only what sentence-transformers scores with it is a file;
//! the other families are random models that `scripts/make_cross_encoder_golden.py FOLDER` writes: run with `DREDGE_CROSS_ENCODERS=FOLDER`. Saves
//! each under `saved`, which the script can open again.

use std::path::Path;

use burn::tensor::Device;
use encoder::CrossEncoder;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::support::{assert_close, forward};

const WORDS: usize = 40;
const HIDDEN: usize = 32;
const INNER: usize = 64;

#[test]
fn a_bert_of_a_formula_equals_sentence_transformers() {
    let folder = tempfile::tempdir().unwrap();
    write_formula(folder.path());
    check(folder.path(), include_bytes!("cross_encoder_formula.json"));
}

/// `count` numbers in [-1, 1) as `formula` of the script gives them, to the bit.
fn formula(name: &str, count: usize) -> Vec<f32> {
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((mixed ^ (mixed >> 31)) >> 48) as f32 - 32_768.0) / 32_768.0
    };
    (0..count).map(|_| next()).collect()
}

/// The folder that the script makes for `--formula`.
fn write_formula(folder: &Path) {
    let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
    let mut add = |name: String, shape: &[usize]| shapes.push((name, shape.to_vec()));
    for (name, rows) in [("word", 4 + WORDS), ("position", 48), ("token_type", 2)] {
        add(format!("bert.embeddings.{name}_embeddings.weight"), &[rows, HIDDEN]);
    }
    let norm = |add: &mut dyn FnMut(String, &[usize]), place: &str| {
        add(format!("{place}.LayerNorm.weight"), &[HIDDEN]);
        add(format!("{place}.LayerNorm.bias"), &[HIDDEN]);
    };
    let linear = |add: &mut dyn FnMut(String, &[usize]), place: &str, outputs: usize, inputs: usize| {
        add(format!("{place}.weight"), &[outputs, inputs]);
        add(format!("{place}.bias"), &[outputs]);
    };
    norm(&mut add, "bert.embeddings");
    for layer in 0..2 {
        let place = format!("bert.encoder.layer.{layer}");
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            linear(&mut add, &format!("{place}.attention.{part}"), HIDDEN, HIDDEN);
        }
        norm(&mut add, &format!("{place}.attention.output"));
        linear(&mut add, &format!("{place}.intermediate.dense"), INNER, HIDDEN);
        linear(&mut add, &format!("{place}.output.dense"), HIDDEN, INNER);
        norm(&mut add, &format!("{place}.output"));
    }
    linear(&mut add, "bert.pooler.dense", HIDDEN, HIDDEN);
    linear(&mut add, "classifier", 1, HIDDEN);
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let one = name.ends_with("LayerNorm.weight");
            let (scale, shift) = (if shape.len() == 2 || one { 0.25 } else { 0.125 }, if one { 1.0 } else { 0.0 });
            let values = formula(&name, shape.iter().product());
            let bytes = values.iter().flat_map(|value| (value * scale + shift).to_le_bytes()).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    std::fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let write = |name: &str, value: &Value| std::fs::write(folder.join(name), value.to_string()).unwrap();
    write(
        "config.json",
        &json!({
            "architectures": ["BertForSequenceClassification"], "model_type": "bert", "vocab_size": 4 + WORDS, "hidden_size": HIDDEN,
            "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": INNER, "max_position_embeddings": 48, "type_vocab_size": 2,
            "hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 0, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
            "id2label": { "0": "LABEL_0" }, "label2id": { "LABEL_0": 0 },
        }),
    );
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];
    let words = special.iter().map(ToString::to_string).chain((0..WORDS).map(|number| format!("w{number}")));
    let vocabulary: serde_json::Map<String, Value> = words.enumerate().map(|(id, word)| (word, id.into())).collect();
    let added: Vec<Value> = special
        .iter()
        .enumerate()
        .map(|(id, word)| {
            json!({ "id": id, "content": word, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true })
        })
        .collect();
    let token = |name: &str, kind: u32| json!({ "SpecialToken": { "id": name, "type_id": kind } });
    let text = |name: &str, kind: u32| json!({ "Sequence": { "id": name, "type_id": kind } });
    write(
        "tokenizer.json",
        &json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": { "type": "Lowercase" },
            "pre_tokenizer": { "type": "Whitespace" }, "decoder": null,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [token("[CLS]", 0), text("A", 0), token("[SEP]", 0)],
                "pair": [token("[CLS]", 0), text("A", 0), token("[SEP]", 0), text("B", 1), token("[SEP]", 1)],
                "special_tokens": {
                    "[CLS]": { "id": "[CLS]", "ids": [2], "tokens": ["[CLS]"] }, "[SEP]": { "id": "[SEP]", "ids": [3], "tokens": ["[SEP]"] },
                },
            },
            "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]" },
        }),
    );
    write(
        "tokenizer_config.json",
        &json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 32, "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]",
            "sep_token": "[SEP]", "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        }),
    );
}

#[test]
fn every_family_equals_sentence_transformers() {
    let Ok(root) = std::env::var("DREDGE_CROSS_ENCODERS") else {
        eprintln!("skipped: cross-encoders (DREDGE_CROSS_ENCODERS names no folder; see scripts/make_cross_encoder_golden.py)");
        return;
    };
    let mut models: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    models.sort();
    assert!(models.len() >= 7, "{root} holds too few models");
    for folder in models {
        check(&folder, &std::fs::read(folder.join("golden.json")).unwrap());
    }
}

/// The model of a folder against what sentence-transformers says of it.
fn check(folder: &Path, golden: &[u8]) {
    let device = &Device::flex();
    let name = folder.display().to_string();
    let golden: Value = serde_json::from_slice(golden).unwrap();
    let rows = golden["pairs"].as_array().unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let pairs: Vec<(String, String)> = rows.iter().map(|row| (text(row, "query"), text(row, "document"))).collect();
    let numbers = |list: &Value| -> Vec<u32> { list.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as u32).collect() };

    let model = CrossEncoder::load(folder.to_str().unwrap(), device).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(model.max_length() as u64, golden["max_length"].as_u64().unwrap(), "{name}");
    for (made, row) in model.tokenize(&pairs).unwrap().iter().zip(rows) {
        assert_eq!(made.ids, numbers(&row["ids"]), "{name}: {row}");
        match &row["types"] {
            Value::Null => assert!(made.types.is_empty(), "{name}: {row}"),
            types => assert_eq!(made.types, numbers(types), "{name}: {row}"),
        }
    }
    let expected: Vec<f32> = rows.iter().map(|row| row["score"].as_f64().unwrap() as f32).collect();
    let scores = model.scores(&pairs, 5).unwrap();
    assert_close(&name, &scores, &expected, forward(1.0));

    let saved = folder.join("saved");
    model.save(&saved).unwrap();
    let again = CrossEncoder::load(saved.to_str().unwrap(), device).unwrap();
    assert_eq!(again.scores(&pairs, 5).unwrap(), scores, "{name}: saved and loaded");
    assert_eq!(again.fingerprint(), model.fingerprint(), "{name}");
}
