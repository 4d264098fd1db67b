//! all-MiniLM-L6-v2, six real layers: run with `DREDGE_MINILM` naming its folder.

use std::path::Path;

use burn::tensor::Device;
use encoder::{Encoder, Pooling, Role};
use serde_json::Value;

use crate::support::{assert_close, batch, copy, floats, on_devices, shared, tensors};

fn minilm(device: &Device) -> Option<Encoder> {
    let Ok(folder) = std::env::var("DREDGE_MINILM") else {
        eprintln!("skipped: MiniLM (DREDGE_MINILM does not name its folder)");
        return None;
    };
    Some(Encoder::load(&folder, device).unwrap())
}

fn embeddings_of_thirty_two_texts(device: &Device, widen: f32) {
    let (Some(encoder), Some(description)) = (minilm(device), shared("golden/minilm.json")) else { return };
    let description: Value = serde_json::from_slice(&std::fs::read(description).unwrap()).unwrap();
    let texts: Vec<&str> = description["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!(Some(encoder.settings.document_length as u64), description["max_seq_length"].as_u64());
    let expected = tensors(&shared("golden/minilm.safetensors").unwrap());
    let got = floats(&encoder.embed(&texts, Role::Plain, 8).unwrap());
    assert_close("minilm", &got, &expected["embeddings"].data, (1e-5 * widen, 1e-4 * widen));
}

/// The numbers of an insta snapshot: every list item of its body, outer lists ignored.
fn snapshot(name: &str) -> Option<Vec<f32>> {
    let text = std::fs::read_to_string(shared(&format!("fixtures/encoder/all-MiniLM-L6-v2.bert_{name}.snap"))?).unwrap();
    let body = text.splitn(3, "---").nth(2).unwrap();
    Some(body.lines().filter_map(|line| line.trim().rsplit("- ").next()?.parse().ok()).collect())
}

fn snapshots_of_text_embeddings_inference(device: &Device, widen: f32) {
    const SINGLE: &str = "What is Deep Learning?";
    let Ok(source) = std::env::var("DREDGE_MINILM") else { return };
    // That server takes the tanh form for every GELU, does not read modules.json (so nothing is normalised), and
    // adds in another order.
    let folder = tempfile::tempdir().unwrap();
    copy(Path::new(&source), folder.path());
    let path = folder.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, config.replace("\"gelu\"", "\"gelu_new\"")).unwrap();
    let mut encoder = Encoder::load(folder.path().to_str().unwrap(), device).unwrap();
    let mut settings = encoder.settings.clone();
    settings.normalize = false;
    encoder.configure(settings).unwrap();
    assert_eq!(encoder.network.pooling(), Pooling::Mean);
    let texts = [SINGLE, "Deep Learning is...", SINGLE];
    let batch_tolerance = (2e-5 * widen, 1e-4 * widen);
    // Only the batch was recorded in full precision; the single text is off by up to 8e-4 from either GELU.
    let single_tolerance = (1e-3, 1e-3);
    for (name, texts, tolerance) in [("batch", &texts[..], batch_tolerance), ("single", &texts[..1], single_tolerance)] {
        let Some(expected) = snapshot(name) else { return };
        let got = floats(&encoder.embed(texts, Role::Plain, 8).unwrap());
        assert_close(name, &got, &expected, tolerance);
    }
    let (Some(raw), Some(first)) = (snapshot("single_raw"), snapshot("single_pooled")) else { return };
    let tokens = encoder.tokenizer.encode_all(&texts[..1], "", 128).unwrap();
    let states = encoder.network.hidden(&batch(&tokens, encoder.tokenizer.pad_id()), device);
    assert_close("single_raw", &floats(&states.into_data()), &raw, (3e-3, 3e-3));
    encoder.network = encoder.network.with_head(Pooling::Cls, false);
    let got = floats(&encoder.embed(&texts[..1], Role::Plain, 1).unwrap());
    assert_close("single_pooled", &got, &first, (3e-3, 3e-3));
}

on_devices! {
    flex: embeddings_of_thirty_two_texts, snapshots_of_text_embeddings_inference;
    software: snapshots_of_text_embeddings_inference;
}
