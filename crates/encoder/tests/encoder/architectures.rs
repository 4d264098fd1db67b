//! Every family and its variants against transformers, on the random models that
//! `scripts/make_architectures.py FOLDER` writes: run with `DREDGE_ARCHITECTURES=FOLDER`.

use std::path::Path;

use burn::tensor::Device;
use encoder::{Encoder, TokenBatch};

use crate::support::{assert_close, floats, forward, tensors};

#[test]
fn every_family_equals_transformers() {
    let Ok(root) = std::env::var("DREDGE_ARCHITECTURES") else {
        eprintln!("skipped: architectures (DREDGE_ARCHITECTURES names no folder; see scripts/make_architectures.py)");
        return;
    };
    let mut models: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    models.sort();
    assert!(models.len() >= 16, "{root} holds too few models");
    for folder in models {
        check(&folder);
    }
}

fn check(folder: &Path) {
    let device = &Device::flex();
    let name = folder.display().to_string();
    let encoder = Encoder::load(folder.to_str().unwrap(), device).unwrap_or_else(|error| panic!("{name}: {error}"));
    let expected = tensors(&folder.join("expected.safetensors"));
    let (ids, mask) = (&expected["input_ids"], &expected["attention_mask"]);
    let width = ids.shape[1];
    let rows: Vec<Vec<u32>> = ids
        .data
        .chunks(width)
        .zip(mask.data.chunks(width))
        .map(|(ids, mask)| ids.iter().zip(mask).filter(|(_, m)| **m > 0.0).map(|(id, _)| *id as u32).collect())
        .collect();
    let views: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let batch = TokenBatch::new(&views, encoder.tokenizer.pad_id());
    let hidden = floats(&encoder.network.hidden(&batch, device).into_data());
    let dimension = encoder.network.dimension();
    for (row, tokens) in rows.iter().enumerate() {
        let span = row * width * dimension..(row * width + tokens.len()) * dimension;
        let what = format!("{name}, row {row}");
        assert_close(&what, &hidden[span.clone()], &expected["last_hidden_state"].data[span], forward(1.0));
    }
    let pooled = floats(&encoder.network.encode(&batch, device).into_data());
    assert_close(&name, &pooled, &expected["vectors"].data, forward(1.0));
}
