//! Gradient caching gives the gradients of the whole batch, whatever the chunks, with and without dropout.

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use super::{assert_close, device, numbers, random_lock, scalar, tensor, values};
use crate::gradient_cache::{Stepped, step, whole_step};
use crate::{Block, Embedded, Guide, LossConfig, LossState, MaskConfig, MaskRule, Now, Temperature};

const WIDTH: usize = 5;
const QUERIES: usize = 4;
const ROWS: usize = 12;

/// A stand-in for an encoder.
#[derive(Module, Debug)]
struct Encoder {
    first: Linear,
    dropout: Dropout,
    second: Linear,
}

impl Encoder {
    /// Fixed weights: nothing is drawn from burn's generator.
    fn fixed(dropout: f64, device: &Device) -> Self {
        let linear = |input: usize, output: usize, seed| Linear {
            weight: Param::from_tensor(tensor(&numbers(input * output, seed), [input, output], device)),
            bias: Some(Param::from_tensor(tensor(&numbers(output, seed + 1), [output], device))),
        };
        Self { first: linear(WIDTH, 8, 10), dropout: DropoutConfig { prob: dropout }.init(), second: linear(8, 3, 20) }
    }

    fn encode(&self, rows: &[f32], device: &Device) -> Tensor<2> {
        let rows = tensor(rows, [rows.len() / WIDTH, WIDTH], device);
        self.second.forward(self.dropout.forward(self.first.forward(rows).tanh()))
    }
}

fn inputs() -> Vec<f32> {
    numbers(ROWS * WIDTH, 30)
}

fn chunked(inputs: &[f32], rows: usize) -> Vec<Vec<f32>> {
    inputs.chunks(rows * WIDTH).map(<[f32]>::to_vec).collect()
}

fn loss(embeddings: Vec<Tensor<2>>) -> Tensor<1> {
    let rows = Tensor::cat(embeddings, 0);
    let documents = rows.clone().narrow(0, QUERIES, ROWS - QUERIES);
    let blocked = (0..QUERIES * (ROWS - QUERIES)).map(|cell| cell % 7 == 5).collect();
    let batch = Embedded::new(rows.narrow(0, 0, QUERIES), documents, (0..QUERIES).collect(), blocked).unwrap();
    let config = LossConfig { temperature: 0.5.into(), ..LossConfig::default() };
    config.evaluate(&batch, &Now::default(), &LossState::default()).value
}

/// All gradients, in the order of the module.
fn flat<M: Module>(module: &M, gradients: &GradientsParams) -> Vec<f32> {
    struct Flat<'a>(&'a GradientsParams, Vec<f32>);
    impl ModuleVisitor for Flat<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            let gradient = self.0.get::<D>(parameter.id).expect("every parameter has a gradient");
            self.1.extend(values(&gradient));
        }
    }
    let mut flat = Flat(gradients, Vec::new());
    module.visit(&mut flat);
    flat.1
}

fn as_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

#[test]
pub(super) fn cached_gradients_equal_the_whole_batch_for_every_chunk_size() {
    let device = device();
    let encoder = Encoder::fixed(0.0, &device);
    let encode = |encoder: &Encoder, chunk: &Vec<f32>| encoder.encode(chunk, &device);
    let Stepped { value, gradients, .. } = whole_step(&encoder, &[inputs()], &[], &device, encode, loss, &[]);
    let expected = as_f64(&flat(&encoder, &gradients));
    assert!(expected.iter().any(|g| g.abs() > 1e-3), "the test needs gradients above rounding");
    for rows in 1..=ROWS + 1 {
        let Stepped { value: cached_value, gradients: cached, .. } =
            step(&encoder, &chunked(&inputs(), rows), &[], &device, encode, loss, &[]);
        assert_close(&format!("loss, chunks of {rows}"), &[scalar(&cached_value)], &[f64::from(scalar(&value))], 1e-6, 1e-6);
        assert_close(&format!("gradients, chunks of {rows}"), &flat(&encoder, &cached), &expected, 1e-6, 1e-5);
    }
}

#[test]
pub(super) fn cached_gradients_equal_the_whole_batch_under_seeded_dropout() {
    let _lock = random_lock();
    let device = device();
    let encoder = Encoder::fixed(0.3, &device);
    let encode = |encoder: &Encoder, chunk: &Vec<f32>| encoder.encode(chunk, &device);
    let Stepped { value: without_dropout, .. } = whole_step(&Encoder::fixed(0.0, &device), &[inputs()], &[], &device, encode, loss, &[]);
    for rows in 1..=ROWS {
        let chunks = chunked(&inputs(), rows);
        let seeds: Vec<u64> = (0..chunks.len() as u64).map(|chunk| 1000 + chunk).collect();
        let Stepped { value, gradients, .. } = whole_step(&encoder, &chunks, &seeds, &device, encode, loss, &[]);
        assert!((scalar(&value) - scalar(&without_dropout)).abs() > 1e-4, "dropout must act, or this test shows nothing");
        let Stepped { value: cached_value, gradients: cached, .. } = step(&encoder, &chunks, &seeds, &device, encode, loss, &[]);
        assert_close(&format!("loss, chunks of {rows}"), &[scalar(&cached_value)], &[f64::from(scalar(&value))], 1e-6, 1e-6);
        let expected = as_f64(&flat(&encoder, &gradients));
        assert_close(&format!("gradients, chunks of {rows}"), &flat(&encoder, &cached), &expected, 1e-6, 1e-5);
    }
    let chunks = chunked(&inputs(), 4);
    let Stepped { value: first, .. } = step(&encoder, &chunks, &[1, 2, 3], &device, encode, loss, &[]);
    let Stepped { value: second, .. } = step(&encoder, &chunks, &[4, 5, 6], &device, encode, loss, &[]);
    assert_ne!(scalar(&first), scalar(&second), "other seeds give other dropout");
}

#[test]
fn a_module_never_used_before_stays_trainable() {
    let _lock = random_lock();
    let device = device();
    let encoder = Encoder {
        first: LinearConfig::new(WIDTH, 8).init(&device),
        dropout: DropoutConfig { prob: 0.0 }.init(),
        second: LinearConfig::new(8, 3).init(&device),
    };
    let encode = |encoder: &Encoder, chunk: &Vec<f32>| encoder.encode(chunk, &device);
    for _ in 0..2 {
        let Stepped { gradients, .. } = step(&encoder, &chunked(&inputs(), 3), &[], &device, encode, loss, &[]);
        assert_eq!(gradients.len(), 4);
    }
    assert!(encoder.first.weight.is_require_grad());
}

#[test]
fn a_chunk_of_constants_adds_no_gradient() {
    // Documents frozen: only the queries go through the module, as in one graph. The rows may lie on either form of the device.
    let device = device();
    let encoder = Encoder::fixed(0.0, &device);
    for of_rows in [Device::flex(), device.clone()] {
        let frozen = tensor(&numbers((ROWS - QUERIES) * 3, 40), [ROWS - QUERIES, 3], &of_rows);
        let encode = |encoder: &Encoder, chunk: &Option<Vec<f32>>| match chunk {
            Some(rows) => encoder.encode(rows, &device),
            None => frozen.clone(),
        };
        let queries = &inputs()[..QUERIES * WIDTH];
        let halves = [Some(queries[..2 * WIDTH].to_vec()), Some(queries[2 * WIDTH..].to_vec()), None];
        let Stepped { value, gradients: cached, .. } = step(&encoder, &halves, &[], &device, encode, loss, &[]);
        let Stepped { value: whole_value, gradients, .. } =
            whole_step(&encoder, &[Some(queries.to_vec()), None], &[], &device, encode, loss, &[]);
        assert_close("loss", &[scalar(&value)], &[f64::from(scalar(&whole_value))], 1e-6, 1e-6);
        assert_close("gradients", &flat(&encoder, &cached), &as_f64(&flat(&encoder, &gradients)), 1e-6, 1e-5);
    }
}

#[test]
fn a_guided_loss_with_a_learned_temperature_has_the_same_gradients_in_chunks() {
    let device = device();
    let encoder = Encoder::fixed(0.0, &device);
    let encode = |encoder: &Encoder, chunk: &Vec<f32>| encoder.encode(chunk, &device);
    let config = LossConfig {
        temperature: Temperature::Learned { learned: 0.5, min: 0.01, learning_rate: 0.01 },
        blocks: vec![Block::QueryQuery, Block::PositivePositive],
        mask: vec![MaskConfig::new(MaskRule::Guide)],
        ..LossConfig::default()
    };
    let state = config.state(&device);
    let guide = |count: usize, seed| tensor(&numbers(count * 6, seed), [count, 6], &Device::flex());
    let masked = std::cell::Cell::new(0.0);
    let loss = |embeddings: Vec<Tensor<2>>| {
        let rows = Tensor::cat(embeddings, 0);
        let documents = rows.clone().narrow(0, QUERIES, ROWS - QUERIES);
        let batch = Embedded::new(rows.narrow(0, 0, QUERIES), documents, (0..QUERIES).collect(), vec![]).unwrap();
        let batch = batch.with_guide(Guide { queries: guide(QUERIES, 50), documents: guide(ROWS - QUERIES, 51) }).unwrap();
        let evaluated = config.evaluate(&batch, &Now::default(), &state);
        masked.set(evaluated.parts.iter().find(|(name, _)| *name == "masked_share").map_or(0.0, |(_, share)| scalar(share)));
        evaluated.value
    };
    let leaves = state.leaves();
    let Stepped { value, gradients, leaves: whole } = whole_step(&encoder, &[inputs()], &[], &device, encode, loss, &leaves);
    assert!(masked.get() > 0.1 && masked.get() < 0.9, "the mask must act, or this test shows nothing: {}", masked.get());
    let (expected, temperature) = (as_f64(&flat(&encoder, &gradients)), f64::from(scalar(whole[0].as_ref().unwrap())));
    assert!(temperature.abs() > 1e-3);
    for rows in 1..=ROWS {
        let cached = step(&encoder, &chunked(&inputs(), rows), &[], &device, encode, loss, &leaves);
        assert_close(&format!("loss, chunks of {rows}"), &[scalar(&cached.value)], &[f64::from(scalar(&value))], 1e-6, 1e-6);
        assert_close(&format!("gradients, chunks of {rows}"), &flat(&encoder, &cached.gradients), &expected, 2e-6, 1e-5);
        let leaf = scalar(cached.leaves[0].as_ref().unwrap());
        assert_close(&format!("temperature, chunks of {rows}"), &[leaf], &[temperature], 1e-6, 1e-5);
    }
}

#[test]
#[should_panic(expected = "depends on no parameter")]
fn a_module_in_validation_mode_is_refused() {
    let device = Device::flex();
    let encoder = Encoder::fixed(0.0, &super::device()).valid();
    step(&encoder, &chunked(&inputs(), 4), &[], &device, |encoder, chunk| encoder.encode(chunk, &device), loss, &[]);
}

#[test]
#[should_panic(expected = "2 seeds for 3 chunks")]
fn seeds_must_match_the_chunks() {
    let device = device();
    let encoder = Encoder::fixed(0.0, &device);
    step(&encoder, &chunked(&inputs(), 4), &[1, 2], &device, |encoder, chunk| encoder.encode(chunk, &device), loss, &[]);
}
