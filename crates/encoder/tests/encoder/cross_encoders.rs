//! Rerankers against sentence-transformers, on the random models that `scripts/make_cross_encoder_golden.py FOLDER` writes: run with
//! `DREDGE_CROSS_ENCODERS=FOLDER`. Saves each under `saved`, which the script can open again.

use std::path::Path;

use burn::tensor::Device;
use encoder::CrossEncoder;
use serde_json::Value;

use crate::support::{assert_close, forward};

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
        check(&folder);
    }
}

fn check(folder: &Path) {
    let device = &Device::flex();
    let name = folder.display().to_string();
    let golden: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
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
