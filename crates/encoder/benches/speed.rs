//! Speed of encoding and of a training step: full-length random tokens, so every implementation does equal work.
//!
//! usage: cargo bench -p encoder --bench speed -- MODEL_FOLDER [--device cpu|gpu] [--batch 16] [--query-len 32] [--doc-len 128]
//!        [--hard-negatives 1] [--steps 10] [--warmup 3]
//!
//! Prints one JSON line for encoding (batch x doc-len) and one for the training step (InfoNCE over in-batch and hard negatives, clip, AdamW),
//! medians, with the shapes. `scripts/bench-train` runs it in turn with PyTorch.
#![allow(clippy::print_stdout, missing_docs)]

use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use encoder::{Encoder, TokenBatch};
use objective::{AdamW, AdamWConfig, Clipping, Embedded, LossConfig, LossState, Now, gradient_cache};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

struct Options {
    model: String,
    device: Device,
    batch: usize,
    query_length: usize,
    document_length: usize,
    negatives: usize,
    steps: usize,
    warmup: usize,
}

fn options() -> Option<Options> {
    // cargo adds `--bench`; `cargo test` runs this target with no model, which is no request at all.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench" && argument != "--test").collect();
    let model = arguments.first().filter(|argument| !argument.starts_with('-'))?.clone();
    let value = |name: &str, default: usize| {
        arguments.iter().position(|argument| argument == name).map_or(default, |at| {
            arguments.get(at + 1).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name} needs a number"))
        })
    };
    let gpu = arguments.windows(2).any(|pair| pair[0] == "--device" && pair[1] == "gpu");
    Some(Options {
        model,
        device: if gpu { Device::wgpu(burn::tensor::DeviceKind::DefaultDevice) } else { Device::flex() },
        batch: value("--batch", 16),
        query_length: value("--query-len", 32),
        document_length: value("--doc-len", 128),
        negatives: value("--hard-negatives", 1),
        steps: value("--steps", 10),
        warmup: value("--warmup", 3),
    })
}

fn random_batch(generator: &mut ChaCha8Rng, rows: usize, length: usize, vocabulary: u32) -> TokenBatch {
    let tokens: Vec<Vec<u32>> =
        (0..rows).map(|_| (0..length).map(|_| generator.random_range(1000.min(vocabulary - 1)..vocabulary)).collect()).collect();
    let rows: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
    TokenBatch::new(&rows, 0)
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn main() {
    let Some(options) = options() else {
        println!("no model folder given: nothing measured");
        return;
    };
    kernels::keep_freed_memory();
    let encoder = Encoder::load(&options.model, &options.device).expect("the model loads");
    let vocabulary = encoder.network.vocabulary() as u32;
    let mut generator = ChaCha8Rng::seed_from_u64(0);
    encode(&options, &encoder, &mut generator, vocabulary);
    train(&options, &encoder, &mut generator, vocabulary);
}

fn encode(options: &Options, encoder: &Encoder, generator: &mut ChaCha8Rng, vocabulary: u32) {
    let mut seconds = Vec::new();
    for step in 0..options.warmup + options.steps {
        let batch = random_batch(generator, options.batch, options.document_length, vocabulary);
        let begun = Instant::now();
        encoder.network.encode(&batch, &options.device).into_data();
        if step >= options.warmup {
            seconds.push(begun.elapsed().as_secs_f64());
        }
    }
    let seconds = median(seconds);
    println!(
        r#"{{"ours": "encode", "batch": {}, "len": {}, "ms": {:.1}, "texts_per_s": {:.1}}}"#,
        options.batch,
        options.document_length,
        seconds * 1e3,
        options.batch as f64 / seconds
    );
}

fn train(options: &Options, encoder: &Encoder, generator: &mut ChaCha8Rng, vocabulary: u32) {
    let device = options.device.clone().autodiff();
    let mut network = encoder.network.on_device(&device);
    let mut optimizer = AdamW::new(AdamWConfig::default()).expect("the defaults are valid");
    let loss = LossConfig::default();
    let columns = options.batch * (1 + options.negatives);
    let mut seconds = Vec::new();
    for step in 0..options.warmup + options.steps {
        let chunks = [
            random_batch(generator, options.batch, options.query_length, vocabulary),
            random_batch(generator, columns, options.document_length, vocabulary),
        ];
        let begun = Instant::now();
        let scored = |mut rows: Vec<Tensor<2>>| {
            let (documents, queries) = (rows.remove(1), rows.remove(0));
            let batch = Embedded::new(queries, documents, (0..options.batch).collect(), Vec::new()).expect("the parts fit");
            loss.evaluate(&batch, &Now::default(), &LossState::default()).value
        };
        let seeds = [step as u64, step as u64 + 1];
        let stepped = gradient_cache::whole_step(
            &network,
            &chunks,
            &seeds,
            &device,
            |network: &encoder::Network, chunk| network.encode(chunk, &device),
            scored,
            &[],
        );
        let clipping = Clipping::measure(&network, &stepped.gradients, 1.0);
        network = optimizer.step_clipped(2e-5, network, stepped.gradients, &clipping);
        let value: f32 = stepped.value.into_scalar();
        device.sync().expect("the device works");
        assert!(value.is_finite());
        if step >= options.warmup {
            seconds.push(begun.elapsed().as_secs_f64());
        }
    }
    let seconds = median(seconds);
    println!(
        r#"{{"ours": "train step", "batch": {}, "query_len": {}, "doc_len": {}, "hard_negatives": {}, "ms_per_step": {:.1}, "pairs_per_s": {:.2}, "parameters": {}}}"#,
        options.batch,
        options.query_length,
        options.document_length,
        options.negatives,
        seconds * 1e3,
        options.batch as f64 / seconds,
        network.num_params()
    );
}
