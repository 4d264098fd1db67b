//! What a training loop relies on: dropout, gradients, and tensors by name.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use encoder::{Encoder, Network, TokenBatch};
use serde_json::Value;

use crate::support::{assert_close, batch, copy, floats, on_devices, shared};

fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The tiny BERT with dropout written into its configuration.
fn with_dropout(device: &Device) -> Option<Encoder> {
    let source = shared("golden/tiny-bert")?;
    let folder = tempfile::tempdir().unwrap();
    copy(&source, folder.path());
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["hidden_dropout_prob"] = 0.3.into();
    config["attention_probs_dropout_prob"] = 0.3.into();
    std::fs::write(&path, config.to_string()).unwrap();
    Some(Encoder::load(folder.path().to_str().unwrap(), device).unwrap())
}

fn sample(encoder: &Encoder) -> TokenBatch {
    batch(&encoder.tokenizer.encode_all(&["list all files", "find a word in many files"], "", 48).unwrap(), 0)
}

fn dropout_drops_in_training_and_only_there(device: &Device, _: f32) {
    let Some(encoder) = with_dropout(device) else { return };
    let tokens = sample(&encoder);
    let autodiff = device.clone().autodiff();
    let training = encoder.network.on_device(&autodiff);
    let encode = |network: &Network, device: &Device| {
        kernels::layers::seed(device, 7);
        floats(&network.encode(&tokens, device).into_data())
    };
    let plain = encode(&encoder.network, device);
    let dropped = encode(&training, &autodiff);
    assert!(max_difference(&plain, &dropped) > 1e-3, "dropout must act on an autodiff device");
    assert_eq!(plain, encode(&training.valid(), device), "and not after valid()");
    // The first pass of gradient caching records no graph and must see the same masks.
    assert_eq!(dropped, encode(&training.clone().no_grad(), &autodiff));
    // Parameters are not lazy, so that pass leaves the network trainable.
    assert!(is_tracked(&training, &tokens, &autodiff));
    assert!(!is_tracked(&training.no_grad(), &tokens, &autodiff));
}

fn is_tracked(network: &Network, tokens: &TokenBatch, device: &Device) -> bool {
    let loss = network.encode(tokens, device).sum();
    // Only a tracked loss has a gradient of its own.
    let gradients = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| loss.backward()));
    gradients.is_ok_and(|gradients| Touched::count(network, &gradients) > 0)
}

/// Counts parameters that have a gradient.
struct Touched<'a>(&'a Gradients, usize);

impl Touched<'_> {
    fn count(network: &Network, gradients: &Gradients) -> usize {
        let mut visitor = Touched(gradients, 0);
        network.visit(&mut visitor);
        visitor.1
    }
}

impl ModuleVisitor for Touched<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.1 += usize::from(param.val().grad(self.0).is_some());
    }
}

fn tensors_survive_their_round_trip_bit_for_bit(device: &Device, _: f32) {
    let Some(encoder) = with_dropout(device) else { return };
    let tokens = sample(&encoder);
    let before = encoder.network.tensors();
    let network = encoder.network.clone().with_tensors(before.clone()).unwrap();
    assert_eq!(network.tensors(), before);
    let autodiff = device.clone().autodiff();
    let training = network.on_device(&autodiff);
    assert!(training.device().is_autodiff() && !training.valid().device().is_autodiff());
    assert_eq!(training.valid().tensors(), before);
    let restored = training.with_tensors(before.clone()).unwrap();
    assert!(restored.device().is_autodiff() && is_tracked(&restored, &tokens, &autodiff));

    let mut short = before;
    let (dropped, _) = short.remove(3);
    let message = encoder.network.with_tensors(short).unwrap_err().to_string();
    assert!(message.contains(&format!("missing: {dropped}")), "{message}");
}

fn static_encoder_is_the_mean_of_its_rows(device: &Device, widen: f32) {
    let texts = ["The cat sat.", "the dog sat on the cat", "", "zebra"];
    let encoder = Encoder::tiny(texts[..2].iter().copied(), 7, device);
    let tokens = encoder.tokenizer.encode_all(&texts, "", 100).unwrap();
    assert_eq!(tokens[3], [1], "an unknown word is [UNK]");
    let tokens = batch(&tokens, encoder.tokenizer.pad_id());
    let table = floats(&encoder.network.tensors().remove(0).1);
    let width = encoder.network.dimension();
    let mut expected = Vec::new();
    for row in 0..tokens.rows() {
        let mut sum = vec![0.0f64; width];
        for &id in tokens.row(row) {
            for (sum, value) in sum.iter_mut().zip(&table[id as usize * width..]) {
                *sum += f64::from(*value);
            }
        }
        let norm = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        expected.extend(sum.iter().map(|value| (value / norm) as f32));
    }
    let got = floats(&encoder.network.encode(&tokens, device).into_data());
    assert_close("static", &got, &expected, (1e-6 * widen, 1e-5 * widen));
    assert_eq!(encoder.network.hidden(&tokens, device).dims(), [4, tokens.width(), width]);

    let again = Encoder::tiny(texts[..2].iter().copied(), 7, device);
    assert_eq!(again.fingerprint(), encoder.fingerprint());
    assert_ne!(Encoder::tiny(texts[..2].iter().copied(), 8, device).fingerprint(), encoder.fingerprint());
}

fn static_encoder_learns(device: &Device, _: f32) {
    let texts = ["red apple", "green leaf"];
    let encoder = Encoder::tiny(texts.into_iter(), 7, device);
    let tokens = batch(&encoder.tokenizer.encode_all(&texts, "", 100).unwrap(), 0);
    let device = &device.clone().autodiff();
    let mut network = encoder.network.on_device(device);
    let mut losses = Vec::new();
    for _ in 0..5 {
        let rows = network.encode(&tokens, device);
        let loss = rows.clone().narrow(0, 0, 1).mul(rows.narrow(0, 1, 1)).sum();
        losses.push(loss.clone().into_scalar::<f32>());
        let gradients = loss.backward();
        network = network.map(&mut Descent(&gradients));
    }
    assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
}

/// One step of plain gradient descent.
struct Descent<'a>(&'a Gradients);

impl burn::module::ModuleMapper for Descent<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = param.val();
        let gradient = value.grad(self.0).expect("the table takes part in the loss");
        param.map(|_| Tensor::from_inner(value.inner() - gradient * 0.1).require_grad())
    }
}

on_devices! {
    flex: dropout_drops_in_training_and_only_there, tensors_survive_their_round_trip_bit_for_bit, static_encoder_is_the_mean_of_its_rows, static_encoder_learns;
    software: static_encoder_is_the_mean_of_its_rows, static_encoder_learns;
}
