//! Twenty training steps of the tiny BERT against PyTorch: losses, gradient norms and weights (../shared/golden/training.json).
//!
//! Encoder, InfoNCE, global-norm clipping and AdamW together, whole batch and in chunks.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use encoder::{Encoder, Network, TokenBatch};
use objective::{AdamW, AdamWConfig, Embedded, LossConfig, LossState, Now, Temperature, clip_global_norm, gradient_cache};
use serde_json::Value;

use crate::support::{assert_close, batch, floats, shared, tensors};

type Weights = BTreeMap<String, Vec<f32>>;

/// The weights at the end, with so many rows encoded at a time; 0 = a batch at once.
fn train(chunk: usize) -> Option<Weights> {
    let golden: Value = serde_json::from_slice(&std::fs::read(shared("golden/training.json")?).unwrap()).unwrap();
    let device = Device::flex().autodiff();
    let encoder = Encoder::load(shared("golden/tiny-bert")?.to_str().unwrap(), &Device::flex()).unwrap();
    let mut network = encoder.network.on_device(&device);
    let mut optimizer = AdamW::new(AdamWConfig::default()).unwrap();
    let loss = LossConfig::default();
    assert_eq!(loss.temperature, Temperature::Fixed(golden["temperature"].as_f64().unwrap()));
    for (step, rows) in golden["batches"].as_array().unwrap().iter().enumerate() {
        let rows = rows.as_array().unwrap();
        let texts: Vec<&str> =
            ["query", "positive", "negative"].iter().flat_map(|key| rows.iter().map(|row| row[*key].as_str().unwrap())).collect();
        let tokens = encoder.tokenizer.encode_all(&texts, "", 48).unwrap();
        let size = if chunk == 0 { rows.len() } else { chunk };
        let chunks: Vec<TokenBatch> = tokens.chunks(rows.len()).flat_map(|group| group.chunks(size)).map(|rows| batch(rows, 0)).collect();
        let queries = chunks.len() / 3;
        let encode = |network: &Network, chunk: &TokenBatch| network.encode(chunk, &device);
        let scored = |mut rows: Vec<Tensor<2>>| {
            let documents = Tensor::cat(rows.split_off(queries), 0);
            let queries = Tensor::cat(rows, 0);
            let targets = (0..queries.dims()[0]).collect();
            let batch = Embedded::new(queries, documents, targets, Vec::new()).unwrap();
            loss.evaluate(&batch, &Now::default(), &LossState::default()).value
        };
        let backward = if chunk == 0 { gradient_cache::whole_step } else { gradient_cache::step };
        let stepped = backward(&network, &chunks, &[], &device, encode, scored, &[]);
        let (gradients, norm) = clip_global_norm(&network, stepped.gradients, 1.0);
        network = optimizer.step(1e-3, network, gradients);
        let expected = |key: &str| [golden[key][step].as_f64().unwrap() as f32];
        assert_close(&format!("loss of step {step}"), &floats(&stepped.value.into_data()), &expected("losses"), (1e-5, 2e-4));
        assert_close(
            &format!("gradient norm of step {step}"),
            &floats(&norm.into_data()),
            &expected("gradient_norms_before_clipping"),
            (1e-5, 5e-4),
        );
        if step == 0 {
            compare(&weights(&network), 0, None);
        }
    }
    Some(weights(&network))
}

fn weights(network: &Network) -> Weights {
    network.tensors().into_iter().map(|(name, data)| (name, floats(&data))).collect()
}

/// Weights after a step against PyTorch's. Each step moves a weight by at most the rate, 1e-3, whatever the size of its gradient: where that is rounding noise, AdamW makes whole steps of it. How far two
/// orders of the same sums lie apart, `ours` and `others`, is such noise, and the error of neither.
fn compare(ours: &Weights, step: usize, others: Option<&Weights>) {
    let expected = tensors(&shared(&format!("golden/after_step{step}.safetensors")).expect("it lies beside training.json"));
    assert_eq!(ours.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, values) in ours {
        // The softmax does not see a key bias, so its gradient is rounding noise throughout.
        if name.ends_with("attention.self.key.bias") {
            continue;
        }
        let absolute = if step == 0 { 2e-5 } else { 2e-4 };
        // As near to PyTorch's as they come within the noise.
        let nearest = |at: usize, ours: f32, expected: f32| match others {
            Some(others) => expected.clamp(ours.min(others[name][at]), ours.max(others[name][at])),
            None => ours,
        };
        let expected = &expected[name].data;
        let values: Vec<f32> =
            values.iter().zip(expected).enumerate().map(|(at, (ours, expected))| nearest(at, *ours, *expected)).collect();
        assert_close(&format!("{name} after step {step}"), &values, expected, (absolute, 1e-4));
    }
}

#[test]
fn twenty_steps_match_pytorch_whole_and_in_chunks() {
    let (Some(whole), Some(chunks)) = (train(0), train(3)) else { return };
    compare(&chunks, 19, None);
    compare(&whole, 19, Some(&chunks));
    // And they are nearly everywhere the same.
    let count: usize = whole.values().map(Vec::len).sum();
    let apart = whole.iter().flat_map(|(name, whole)| whole.iter().zip(&chunks[name])).filter(|(a, b)| (*a - *b).abs() > 2e-5).count();
    assert!(apart * 100 < count, "{apart} of {count} weights differ between a batch at once and one in chunks");
}
