//! The tiny BERT of `../shared/golden` against what PyTorch and sentence-transformers computed (see its README).

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Int, Tensor};
use encoder::{Encoder, Pooling, Role, TokenBatch};
use kernels::layers::Precision;
use serde_json::Value;

use crate::support::{Values, assert_close, batch, floats, forward, on_devices, shared, tensors};

fn json(path: &str) -> Option<Value> {
    Some(serde_json::from_slice(&std::fs::read(shared(path)?).unwrap()).unwrap())
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn tiny_bert(device: &Device) -> Option<Encoder> {
    Some(Encoder::load(shared("golden/tiny-bert")?.to_str().unwrap(), device).unwrap())
}

fn tokens_states_and_poolings(device: &Device, widen: f32) {
    let Some(description) = json("golden/forward.json") else { return };
    let expected = tensors(&shared("golden/forward.safetensors").unwrap());
    let texts = strings(&description["texts"]);
    let encoder = tiny_bert(device).unwrap();
    let rows = encoder.tokenizer.encode_all(&texts, "", 48).unwrap();
    let batch = batch(&rows, encoder.tokenizer.pad_id());
    let ids: Vec<f32> = batch.padded(batch.ids()).iter().map(|&id| id as f32).collect();
    assert_eq!(ids, expected["input_ids"].data);
    let mask = &expected["attention_mask"];
    let lengths: Vec<usize> = mask.data.chunks(mask.shape[1]).map(|row| row.iter().sum::<f32>() as usize).collect();
    assert_eq!(batch.lengths(), lengths);

    let hidden = floats(&encoder.network.hidden(&batch, device).into_data());
    let states = |values: &[f32]| -> Vec<f32> {
        let width = encoder.network.dimension();
        let keep = values.chunks(width).zip(&mask.data).filter(|(_, m)| **m > 0.0);
        keep.flat_map(|(state, _)| state.to_vec()).collect()
    };
    assert_close("last hidden state", &states(&hidden), &states(&expected["last_hidden_state"].data), forward(widen));

    let heads = [
        ("mean", Pooling::Mean, false),
        ("cls", Pooling::Cls, false),
        ("max", Pooling::Max, false),
        ("mean_normalized", Pooling::Mean, true),
    ];
    for (name, pooling, normalize) in heads {
        let network = encoder.network.clone().with_head(pooling, normalize);
        let got = floats(&network.encode(&batch, device).into_data());
        assert_close(name, &got, &expected[name].data, forward(widen));
    }
}

fn prompts_of_both_layouts(device: &Device, widen: f32) {
    let Some(description) = json("golden/forward.json") else { return };
    let expected = tensors(&shared("golden/forward.safetensors").unwrap());
    let texts = strings(&description["texts"]);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for folder in ["golden/tiny-bert", "golden/tiny-bert-compact"] {
        let encoder = Encoder::load(shared(folder).unwrap().to_str().unwrap(), device).unwrap();
        assert_eq!((encoder.settings.document_length, encoder.settings.normalize), (48, true), "{folder}");
        for (name, role) in [("encode_query", Role::Query), ("encode_document", Role::Document)] {
            let got = floats(&encoder.embed(&texts, role, 8).unwrap());
            assert_close(&format!("{folder} {name}"), &got, &expected[name].data, forward(widen));
        }
    }
}

fn a_batch_equals_its_rows(device: &Device, widen: f32) {
    let Some(description) = json("golden/forward.json") else { return };
    let texts = strings(&description["texts"]);
    let encoder = tiny_bert(device).unwrap();
    let rows = encoder.tokenizer.encode_all(&texts, "", 48).unwrap();
    let views: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let together = floats(&encoder.network.encode(&TokenBatch::new(&views, 0), device).into_data());
    for (row, tokens) in rows.iter().enumerate() {
        let alone = floats(&encoder.network.encode(&TokenBatch::new(&[tokens], 0), device).into_data());
        assert_close(&format!("row {row}"), &alone, &together[row * 64..][..64], (1e-6 * widen, 1e-5 * widen));
    }
}

/// Replaces every parameter by its gradient, so that `Network::tensors` gives gradients under checkpoint names.
struct IntoGradients<'a>(&'a Gradients);

impl ModuleMapper for IntoGradients<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let gradient = param.val().grad(self.0).expect("every parameter takes part in the loss");
        Param::initialized(param.id, gradient)
    }
}

fn gradients_of_an_info_nce_step(device: &Device, widen: f32) {
    check_gradients(device, Precision::F32, (1e-4 * widen, 1e-6 * widen, 1e-4 * widen), forward(widen));
}

/// Operands of 11 bits: a product of two is right to about three digits, and what six layers make of them to two.
fn gradients_in_mixed_precision(device: &Device, _widen: f32) {
    if let Err(error) = Precision::Mixed.check(device) {
        let Some(encoder) = tiny_bert(device) else { return };
        assert_eq!(encoder.network.with_precision(Precision::Mixed).unwrap_err().to_string(), error.to_string());
        assert!(error.to_string().contains("16-bit floats"), "{error}");
        return;
    }
    check_gradients(device, Precision::Mixed, (2e-2, 1e-4, 2e-2), (5e-3, 5e-3));
}

/// Loss and gradients against PyTorch. Tolerances: share of the largest number of a tensor, absolute, relative; then those of the loss.
fn check_gradients(device: &Device, precision: Precision, (share, absolute, relative): (f32, f32, f32), loss_tolerance: (f32, f32)) {
    let Some(training) = json("golden/training.json") else { return };
    let expected = tensors(&shared("golden/step0.gradients.safetensors").unwrap());
    let temperature = training["temperature"].as_f64().unwrap();
    let encoder = tiny_bert(device).unwrap();
    let device = &device.clone().autodiff();
    let network = encoder.network.on_device(device).with_precision(precision).unwrap();
    assert_eq!([network.valid(), network.on_device(device)].map(|copy| copy.precision()), [precision; 2]);
    let rows = training["batches"][0].as_array().unwrap();
    let encode = |key: &str| {
        let texts: Vec<&str> = rows.iter().map(|row| row[key].as_str().unwrap()).collect();
        let tokens = encoder.tokenizer.encode_all(&texts, "", 48).unwrap();
        network.encode(&batch(&tokens, 0), device)
    };
    let (query, positive, negative) = (encode("query"), encode("positive"), encode("negative"));
    let scores = query.matmul(Tensor::cat(vec![positive, negative], 0).transpose()) / temperature;
    let own = Tensor::<1, Int>::arange(0..rows.len() as i64, device).reshape([rows.len() as i32, 1]);
    let loss = burn::tensor::activation::log_softmax(scores, 1).gather(1, own).mean().neg();
    let value = loss.clone().into_scalar::<f32>();
    let reference = training["losses"][0].as_f64().unwrap() as f32;
    assert_close("loss", &[value], &[reference], loss_tolerance);

    let gradients = loss.backward();
    let network = network.map(&mut IntoGradients(&gradients));
    let got = network.tensors();
    assert_eq!(got.iter().map(|(name, _)| name).collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, data) in got {
        let Values { shape, data: reference } = &expected[&name];
        assert_eq!(data.shape().to_vec(), *shape, "{name}");
        // Gradients are sums over many terms of either sign: the scale of the whole tensor decides the rounding.
        let scale = reference.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        assert_close(&name, &floats(&data), reference, (share * scale + absolute, relative));
    }
}

on_devices! {
    flex: tokens_states_and_poolings, prompts_of_both_layouts, a_batch_equals_its_rows, gradients_of_an_info_nce_step, gradients_in_mixed_precision;
    software: tokens_states_and_poolings, gradients_of_an_info_nce_step, gradients_in_mixed_precision;
}
