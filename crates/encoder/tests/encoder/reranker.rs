//! Rerankers without outside files: what scores may depend on, round trips, gradients, and what broken folders say.

use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use encoder::{CrossEncoder, Encoder, EncoderError, PairNetwork, PairTokens, TokenPairs};
use serde_json::{Value, json};

use crate::support::{assert_close, floats, on_devices};

const TEXTS: [&str; 6] = [
    "a red bridge over the cold river",
    "the river runs under an old bridge",
    "bread is baked in the morning",
    "who bakes bread ?",
    "old towers of the red town",
    "morning",
];

fn all_pairs() -> Vec<(&'static str, &'static str)> {
    TEXTS.iter().flat_map(|query| TEXTS.iter().map(move |document| (*query, *document))).collect()
}

/// A reranker over word vectors whose weights are all moved from their start, so that nothing is zero or one by chance.
fn reranker(device: &Device) -> CrossEncoder {
    let encoder = Encoder::tiny(TEXTS.into_iter(), 3, device);
    let mut model = CrossEncoder::from_encoder(&encoder, 5).unwrap();
    let shaken = model.network.tensors().into_iter().enumerate().map(|(index, (name, data))| {
        let shape = data.shape().to_vec();
        let shake = |(place, value): (usize, f32)| value + 0.05 * ((place * 7 + index * 13) as f32 * 0.61).sin();
        (name, TensorData::new(data.iter::<f32>().enumerate().map(shake).collect::<Vec<_>>(), shape))
    });
    model.network = model.network.clone().with_tensors(shaken.collect::<Vec<_>>()).unwrap();
    model
}

fn scores_depend_on_the_pair_alone(device: &Device, widen: f32) {
    let model = reranker(device);
    let pairs = all_pairs();
    let together = model.scores(&pairs, 100).unwrap();
    let tolerance = (1e-4 * widen, 1e-4 * widen);
    let alone: Vec<f32> = pairs.iter().map(|pair| model.scores(&[*pair], 1).unwrap()[0]).collect();
    assert_close("padding changes nothing", &together, &alone, tolerance);
    let mut turned = pairs.clone();
    turned.reverse();
    let mut scores = model.scores(&turned, 7).unwrap();
    scores.reverse();
    assert_close("neither does the order", &scores, &together, tolerance);
    let spread = together.iter().copied().fold(f32::NEG_INFINITY, f32::max) - together.iter().copied().fold(f32::INFINITY, f32::min);
    assert!(spread > 0.1, "scores must differ: {together:?}");
}

fn token_types_matter(device: &Device, _: f32) {
    let model = reranker(device);
    let rows = model.tokenize(&[(TEXTS[0], TEXTS[1])]).unwrap();
    let untyped = PairTokens { ids: rows[0].ids.clone(), types: vec![0; rows[0].ids.len()] };
    let scores = model.score_rows(&[&rows[0], &untyped]).unwrap();
    assert!((scores[0] - scores[1]).abs() > 1e-2, "{scores:?}");
    // Types of 0 and no types are the same.
    let none = PairTokens { types: Vec::new(), ..untyped };
    assert_close("types of 0", &model.score_rows(&[&none]).unwrap(), &scores[1..], (1e-4, 1e-4));
}

fn saved_models_score_bit_for_bit_the_same(device: &Device, _: f32) {
    let mut model = reranker(device);
    model.set_max_length(12).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    model.save(&path).unwrap();
    model.save(&path).expect("a model is replaced");
    let again = CrossEncoder::load(path.to_str().unwrap(), device).unwrap();
    assert_eq!(again.network.tensors(), model.network.tensors());
    assert_eq!(again.max_length(), 12);
    assert_eq!(again.scores(&all_pairs(), 8).unwrap(), model.scores(&all_pairs(), 8).unwrap());
    assert_eq!(again.fingerprint(), model.fingerprint());
    assert_ne!(reranker_from(4, device).fingerprint(), reranker_from(5, device).fingerprint());
    assert_eq!(reranker_from(5, device).fingerprint(), reranker_from(5, device).fingerprint());
}

fn reranker_from(seed: u64, device: &Device) -> CrossEncoder {
    CrossEncoder::from_encoder(&Encoder::tiny(TEXTS.into_iter(), 3, device), seed).unwrap()
}

fn an_untrained_reranker_prefers_documents_with_the_words_of_the_query(device: &Device, _: f32) {
    let model = reranker_from(5, device);
    for (query, match_, other) in
        [("red bridge", TEXTS[0], TEXTS[2]), ("bread", TEXTS[2], TEXTS[4]), ("the old bridge", TEXTS[1], TEXTS[3])]
    {
        let scores = model.scores(&[(query, match_), (query, other)], 2).unwrap();
        assert!(scores[0] > scores[1] + 0.1, "{query}: {scores:?}");
    }
}

/// All gradients of a module, flat, by visit.
struct Collected<'a>(&'a Gradients, Vec<Vec<f32>>);

impl ModuleVisitor for Collected<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.1.push(param.val().grad(self.0).map(|gradient| floats(&gradient.into_data())).unwrap_or_default());
    }
}

/// Moves one number of one parameter.
struct Nudge {
    parameter: usize,
    place: usize,
    by: f32,
    next: usize,
}

impl ModuleMapper for Nudge {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let here = self.next == self.parameter;
        self.next += 1;
        if !here {
            return param;
        }
        let shape = param.val().dims();
        let mut values = floats(&param.val().into_data());
        values[self.place] += self.by;
        param.map(|old| Tensor::from_data(TensorData::new(values, shape), &old.device()))
    }
}

fn gradients_equal_finite_differences(device: &Device, _: f32) {
    let model = reranker(device);
    let rows = model.tokenize(&[(TEXTS[0], TEXTS[1]), (TEXTS[3], TEXTS[2]), (TEXTS[5], TEXTS[2])]).unwrap();
    let batch = model.batch(&rows.iter().collect::<Vec<_>>());
    let weights = [0.7f32, -1.1, 0.4];
    let value = |network: &PairNetwork, device: &Device, batch: &TokenPairs| {
        (network.logits(batch, device) * Tensor::<1>::from_data(weights, device)).sum()
    };
    let autodiff = device.clone().autodiff();
    let training = model.network.on_device(&autodiff);
    let gradients = value(&training, &autodiff, &batch).backward();
    let mut collected = Collected(&gradients, Vec::new());
    training.visit(&mut collected);
    assert!(collected.1.iter().all(|gradient| !gradient.is_empty()), "every parameter takes part");
    for (parameter, gradient) in collected.1.iter().enumerate() {
        // The largest one is the one that differences of f32 can see.
        let (place, &got) = gradient.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap();
        let moved = |by: f32| {
            let network = model.network.clone().map(&mut Nudge { parameter, place, by, next: 0 });
            f64::from(value(&network, device, &batch).into_scalar::<f32>())
        };
        let step = 2e-3;
        let expected = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
        let slack = 2e-3 + 0.03 * expected.abs();
        assert!((f64::from(got) - expected).abs() < slack, "parameter {parameter} [{place}]: {got} against {expected}");
    }
}

on_devices! {
    flex: scores_depend_on_the_pair_alone, token_types_matter, saved_models_score_bit_for_bit_the_same,
          an_untrained_reranker_prefers_documents_with_the_words_of_the_query, gradients_equal_finite_differences;
    software: scores_depend_on_the_pair_alone, token_types_matter;
}

fn message(result: Result<CrossEncoder, EncoderError>) -> String {
    result.expect_err("a refusal").to_string()
}

#[test]
fn broken_folders_are_one_clear_refusal() {
    let device = &Device::flex();
    let model = reranker(device);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let load = || CrossEncoder::load(path.to_str().unwrap(), device);
    let change = |file: &str, change: &dyn Fn(&mut Value)| {
        model.save(&path).unwrap();
        let file = path.join(file);
        let mut content: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        change(&mut content);
        std::fs::write(&file, content.to_string()).unwrap();
        message(load())
    };
    let two = change("config.json", &|config| config["id2label"] = json!({"0": "no", "1": "yes"}));
    assert!(two.contains("one label: a reranker gives one score"), "{two}");
    let plain = change("config.json", &|config| config["architectures"] = json!(["BertModel"]));
    assert!(plain.contains("architectures is [\"BertModel\"]"), "{plain}");
    let short = change("tokenizer_config.json", &|config| config["model_max_length"] = json!(3));
    assert!(short.contains("the length of a pair is 3, expected 4 to 512"), "{short}");
    let types = change("config.json", &|config| config["type_vocab_size"] = json!(3));
    assert!(types.contains("token_type_embeddings"), "{types}");

    model.save(&path).unwrap();
    std::fs::write(path.join("modules.json"), json!([{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "1"}]).to_string())
        .unwrap();
    assert!(message(load()).contains("it lists 2 modules"));
    std::fs::write(path.join("modules.json"), json!([{"type": "x.Transformer", "path": ""}]).to_string()).unwrap();
    load().expect("the folder of current sentence-transformers versions");
    for (spec, part) in [("no/such/folder", "no such folder"), ("nothing", "no such folder")] {
        assert!(message(CrossEncoder::load(spec, device)).contains(part));
    }
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("notes.txt"), "mine").unwrap();
    assert!(model.save(&other).unwrap_err().to_string().contains("is no model folder"));
    assert!(Path::new(&other).join("notes.txt").is_file());
}

#[test]
fn lengths_and_emptiness_are_handled() {
    let mut model = reranker(&Device::flex());
    assert!(model.set_max_length(513).is_err() && model.set_max_length(3).is_err());
    assert_eq!(model.max_length(), 512, "a refused length changes nothing");
    model.set_max_length(6).unwrap();
    assert!(model.tokenize(&[(TEXTS[0], TEXTS[1])]).unwrap()[0].ids.len() == 6);
    assert!(model.scores::<&str, &str>(&[], 4).unwrap().is_empty());
    assert!(model.scores(&[("", "")], 4).unwrap()[0].is_finite());
}
