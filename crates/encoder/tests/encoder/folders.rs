//! Model folders: layouts, weight files, what is written, and what broken folders say.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::Device;
use encoder::{Encoder, EncoderError, Pooling, Role, Similarity};
use half::f16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::support::{assert_close, copy, floats, shared};

const TEXTS: [&str; 3] = ["list files", "naïve café", ""];

fn load(folder: &Path) -> Result<Encoder, EncoderError> {
    Encoder::load(folder.to_str().unwrap(), &Device::flex())
}

fn embed(encoder: &Encoder) -> Vec<f32> {
    floats(&encoder.embed(&TEXTS, Role::Query, 2).unwrap())
}

/// A copy of the tiny BERT that may be changed.
fn tiny() -> Option<tempfile::TempDir> {
    let source = shared("golden/tiny-bert")?;
    let folder = tempfile::tempdir().unwrap();
    copy(&source, folder.path());
    Some(folder)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = read_json(path);
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// Rewrites the weights, one file per call of `write`: name, shape, values.
fn rewrite(folder: &Path, file: &str, keep: impl Fn(&str) -> Option<String>, half: bool) {
    let encoder = load(&shared("golden/tiny-bert").unwrap()).unwrap();
    let mut owned: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, data) in encoder.network.tensors() {
        let Some(name) = keep(&name) else { continue };
        let shape = data.shape().to_vec();
        let bytes = data
            .iter::<f32>()
            .flat_map(|value| if half { f16::from_f32(value).to_le_bytes().to_vec() } else { value.to_le_bytes().to_vec() });
        owned.push((name, shape, bytes.collect()));
    }
    let dtype = if half { Dtype::F16 } else { Dtype::F32 };
    let views = owned.iter().map(|(name, shape, bytes)| (name, TensorView::new(dtype, shape.clone(), bytes).unwrap()));
    std::fs::write(folder.join(file), safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn saved_folder_is_verbose_and_loads_bit_for_bit() {
    let Some(source) = shared("golden/tiny-bert") else { return };
    let mut original = load(&source).unwrap();
    original.card.base_model = Some("someone/base".to_owned());
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("deep/model");
    original.save(&folder).unwrap();
    // A second save replaces the first and leaves nothing beside it.
    original.save(&folder).unwrap();
    assert_eq!(std::fs::read_dir(place.path().join("deep")).unwrap().count(), 1);

    let loaded = load(&folder).unwrap();
    assert_eq!(loaded.network.tensors(), original.network.tensors());
    assert_eq!(loaded.settings.query_prompt, "query: ");
    assert_eq!(embed(&loaded), embed(&original));
    assert_eq!(loaded.fingerprint(), original.fingerprint());

    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"] {
        assert_eq!(std::fs::read(folder.join(file)).unwrap(), std::fs::read(source.join(file)).unwrap(), "{file}");
    }
    for file in ["modules.json", "1_Pooling/config.json", "sentence_bert_config.json"] {
        assert_eq!(read_json(&folder.join(file)), read_json(&source.join(file)), "{file}");
    }
    let prompts = read_json(&folder.join("config_sentence_transformers.json"));
    assert_eq!(prompts["prompts"], json!({"query": "query: ", "document": "passage: "}));
    assert_eq!((&prompts["similarity_fn_name"], &prompts["default_prompt_name"]), (&json!("cosine"), &Value::Null));
    assert!(folder.join("2_Normalize").is_dir());
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.metadata(), &Some(HashMap::from([("format".to_owned(), "pt".to_owned())])));
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(
        readme.starts_with("---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\nbase_model: \"someone/base\"\n")
    );
}

#[test]
fn configured_head_is_saved() {
    let Some(source) = shared("golden/tiny-bert") else { return };
    let mut encoder = load(&source).unwrap();
    let mut settings = encoder.settings.clone();
    (settings.pooling, settings.normalize, settings.query_length) = (Pooling::Cls, false, 16);
    (settings.query_prompt, settings.similarity) = ("ask: ".to_owned(), Similarity::Dot);
    encoder.configure(settings.clone()).unwrap();
    let place = tempfile::tempdir().unwrap();
    encoder.save(&place.path().join("model")).unwrap();
    let loaded = load(&place.path().join("model")).unwrap();
    assert_eq!((loaded.settings.pooling, loaded.settings.normalize, loaded.settings.similarity), (Pooling::Cls, false, Similarity::Dot));
    assert_eq!((loaded.settings.query_prompt.as_str(), loaded.network.pooling()), ("ask: ", Pooling::Cls));
    assert!(!place.path().join("model/2_Normalize").exists());

    settings.document_length = 65;
    assert_eq!(
        encoder.configure(settings).unwrap_err().to_string(),
        "document_length is 65, expected 1 to 64 (the positions this model has)"
    );
}

#[test]
fn static_folder_round_trip() {
    let encoder = Encoder::tiny(["the cat", "the dog"].into_iter(), 7, &Device::flex());
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("model");
    encoder.save(&folder).unwrap();
    let loaded = load(&folder).unwrap();
    assert_eq!(loaded.network.tensors(), encoder.network.tensors());
    assert_eq!(loaded.fingerprint(), encoder.fingerprint());
    assert_eq!(embed(&loaded), embed(&encoder));
    let modules = read_json(&folder.join("modules.json"));
    assert_eq!(modules[0]["type"], "sentence_transformers.models.StaticEmbedding");
    assert_eq!((&modules[0]["path"], &modules[1]["path"]), (&json!("0_StaticEmbedding"), &json!("1_Normalize")));
}

#[test]
fn nothing_is_written_over_other_things() {
    let encoder = Encoder::tiny(["the cat"].into_iter(), 7, &Device::flex());
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("thesis.txt"), "dear").unwrap();
    assert!(matches!(encoder.save(place.path()), Err(EncoderError::Occupied { .. })));
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn plain_transformers_folder_is_mean_without_normalisation() {
    let Some(folder) = tiny() else { return };
    for file in ["modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    let encoder = load(folder.path()).unwrap();
    let settings = &encoder.settings;
    assert_eq!((settings.pooling, settings.normalize, settings.query_prompt.as_str()), (Pooling::Mean, false, ""));
    assert_eq!(settings.document_length, 64, "from the tokenizer's model_max_length");
}

#[test]
fn half_precision_wrapped_and_sharded_weights() {
    let Some(folder) = tiny() else { return };
    let exact = load(folder.path()).unwrap();
    rewrite(folder.path(), "model.safetensors", |name| Some(format!("bert.{}", name.replace("LayerNorm.weight", "LayerNorm.gamma"))), true);
    let halved = load(folder.path()).unwrap();
    for ((name, got), (_, expected)) in halved.network.tensors().into_iter().zip(exact.network.tensors()) {
        let rounded: Vec<f32> = expected.iter::<f32>().map(|value| f16::from_f32(value).to_f32()).collect();
        assert_eq!(floats(&got), rounded, "{name}");
    }
    assert_close("half", &embed(&halved), &embed(&exact), (5e-3, 5e-3));

    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let first = |name: &str| name.contains("layer.0");
    rewrite(folder.path(), "a.safetensors", |name| first(name).then(|| name.to_owned()), false);
    rewrite(folder.path(), "b.safetensors", |name| (!first(name)).then(|| name.to_owned()), false);
    let map: serde_json::Map<_, _> = exact
        .network
        .tensors()
        .into_iter()
        .map(|(name, _)| (name.clone(), json!(if first(&name) { "a.safetensors" } else { "b.safetensors" })))
        .collect();
    std::fs::write(folder.path().join("model.safetensors.index.json"), json!({"weight_map": map}).to_string()).unwrap();
    assert_eq!(load(folder.path()).unwrap().network.tensors(), exact.network.tensors());
}

#[test]
fn broken_folders_say_what_is_wrong() {
    type Break = fn(&Path);
    let cases: [(&str, Break, &str); 10] = [
        (
            "model type",
            |f| edit(&f.join("config.json"), |c| c["model_type"] = json!("t5")),
            "model_type \"t5\" is not supported; supported are bert",
        ),
        (
            "module",
            |f| edit(&f.join("modules.json"), |m| m[1]["type"] = json!("sentence_transformers.models.Dense")),
            "sentence_transformers.models.Dense",
        ),
        ("order", |f| edit(&f.join("modules.json"), |m| m[1]["type"] = json!("x.Normalize")), "x.Normalize"),
        ("escape", |f| edit(&f.join("modules.json"), |m| m[1]["path"] = json!("../x")), "leaves the folder"),
        (
            "size",
            |f| edit(&f.join("config.json"), |c| c["intermediate_size"] = json!(96)),
            "intermediate.dense.weight: got [128, 64], expected [96, 64]",
        ),
        (
            "missing and unused",
            |f| edit(&f.join("config.json"), |c| c["num_hidden_layers"] = json!(1)),
            "unused: encoder.layer.1.attention.output.LayerNorm.bias",
        ),
        ("no weights", |f| std::fs::remove_file(f.join("model.safetensors")).unwrap(), "model.safetensors is missing"),
        ("no tokenizer", |f| std::fs::remove_file(f.join("tokenizer.json")).unwrap(), "tokenizer.json is missing: only fast tokenizers"),
        ("garbage", |f| std::fs::write(f.join("model.safetensors"), b"junk").unwrap(), "is not a safetensors file"),
        (
            "length",
            |f| edit(&f.join("sentence_bert_config.json"), |c| c["max_seq_length"] = json!("many")),
            "max_seq_length is \"many\", expected a positive integer",
        ),
    ];
    for (what, damage, part) in cases {
        let Some(folder) = tiny() else { return };
        damage(folder.path());
        let message = load(folder.path()).unwrap_err().to_string();
        assert!(message.contains(part), "{what}: {message}");
    }
    let message = Encoder::load("no/such/folder", &Device::flex()).unwrap_err().to_string();
    assert!(message.contains("no such folder"), "{message}");
}

#[test]
fn lowercasing_before_the_tokenizer() {
    let Some(folder) = tiny() else { return };
    edit(&folder.path().join("tokenizer.json"), |t| t["normalizer"]["lowercase"] = json!(false));
    // Which would decide otherwise, as in transformers.
    edit(&folder.path().join("tokenizer_config.json"), |t| t["do_lower_case"] = json!(false));
    let ids = |folder: &Path| load(folder).unwrap().tokenizer.encode_all(&["LIST Files"], "", 48).unwrap();
    let upper = ids(folder.path());
    edit(&folder.path().join("sentence_bert_config.json"), |c| c["do_lower_case"] = json!(true));
    let lower = ids(folder.path());
    assert_ne!(lower, upper);
    assert_eq!(lower, ids(&shared("golden/tiny-bert").unwrap()));
    let saved = folder.path().join("saved");
    load(folder.path()).unwrap().save(&saved).unwrap();
    assert_eq!(ids(&saved), lower, "the request survives saving");
}
