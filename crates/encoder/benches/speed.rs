//! Speed and memory of encoding and of a training step: full-length random tokens, so every implementation does equal work, or the texts of a collection, where it counts
//! what is done about padding.
//!
//! usage: cargo bench -p encoder --bench speed -- MODEL_FOLDER [--device cpu|gpu|software] [--batch 16] [--query-len 32] [--doc-len 128]
//!        [--hard-negatives 1] [--steps 10] [--warmup 3] [--chunk 0] [--only encode|train] [--memory-every 0] [--data FOLDER [--padded yes]]
//!
//! With `--data` the lengths are limits. Step s takes the training pairs from s x batch on, in the order of the collection; the nth hard negative of a pair is the positive of the pair
//! n x batch further on. `--padded yes` has padding taken for tokens, the work of a program that pads every batch to its longest text.
//! Prints one JSON line for encoding (batch x doc-len) and one for the training step (InfoNCE over in-batch and hard negatives, clip, AdamW): median of the clock,
//! mean of the processor time (Linux), the process's largest memory so far, and the shapes. A chunk above 0 trains with gradient caching over chunks of so many
//! texts. `--memory-every N` prints resident memory each N training steps. `scripts/bench-train` runs it in turn with PyTorch.
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
    /// Texts of a chunk of gradient caching; 0 without.
    chunk: usize,
    memory_every: usize,
    encode: bool,
    train: bool,
    data: Option<String>,
    padded: bool,
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
    let word = |name: &str| arguments.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str());
    let device = match word("--device") {
        None | Some("cpu") => Device::flex(),
        Some("gpu") => {
            let hardware = kernels::adapters().into_iter().filter(|adapter| adapter.kind != kernels::AdapterKind::Software);
            hardware.min_by_key(|adapter| adapter.kind).expect("there is a GPU").open().expect("the GPU opens")
        }
        Some("software") => kernels::software_device().expect("a software Vulkan driver is installed"),
        Some(other) => panic!("--device {other}: expected cpu, gpu or software"),
    };
    let only = word("--only");
    Some(Options {
        model,
        device,
        batch: value("--batch", 16),
        query_length: value("--query-len", 32),
        document_length: value("--doc-len", 128),
        negatives: value("--hard-negatives", 1),
        steps: value("--steps", 10),
        warmup: value("--warmup", 3),
        chunk: value("--chunk", 0),
        memory_every: value("--memory-every", 0),
        encode: only.is_none_or(|part| part == "encode"),
        train: only.is_none_or(|part| part == "train"),
        data: word("--data").map(str::to_owned),
        padded: word("--padded") == Some("yes"),
    })
}

/// The texts that are encoded: random ones of full length, or a collection's.
enum Texts {
    Random(Box<ChaCha8Rng>, u32),
    /// Queries and positives of the training pairs, the number for padding, and whether padding is taken for tokens.
    Pairs(Vec<[Vec<u32>; 2]>, u32, bool),
}

impl Texts {
    fn new(options: &Options, encoder: &Encoder) -> Self {
        let Some(data) = &options.data else {
            return Self::Random(Box::new(ChaCha8Rng::seed_from_u64(0)), encoder.network.vocabulary() as u32);
        };
        let collection = corpus::Collection::open(data).expect("the collection opens");
        let pairs = collection.split("train").expect("it has training pairs").pairs();
        let tokens = |texts: Vec<&str>, limit: usize| encoder.tokenizer.encode_all(&texts, "", limit).expect("texts are tokenised");
        let queries = tokens(pairs.iter().map(|&(query, _)| collection.queries.text(query)).collect(), options.query_length);
        let documents = tokens(pairs.iter().map(|&(_, document)| collection.documents.text(document)).collect(), options.document_length);
        Self::Pairs(
            queries.into_iter().zip(documents).map(|(query, document)| [query, document]).collect(),
            encoder.tokenizer.pad_id(),
            options.padded,
        )
    }

    /// Queries (side 0) or documents (side 1) of a step: `rows` of them, of which every `batch` are another turn of negatives.
    fn batch(&mut self, step: usize, side: usize, rows: std::ops::Range<usize>, batch: usize, length: usize) -> TokenBatch {
        match self {
            Self::Random(generator, vocabulary) => random_batch(generator, rows.len(), length, *vocabulary),
            Self::Pairs(pairs, pad, padded) => {
                let rows: Vec<&[u32]> = rows.map(|row| pairs[(step * batch + row) % pairs.len()][side].as_slice()).collect();
                let mut batch = TokenBatch::new(&rows, *pad);
                if *padded {
                    batch.lengths.fill(batch.width);
                }
                batch
            }
        }
    }
}

fn random_batch(generator: &mut ChaCha8Rng, rows: usize, length: usize, vocabulary: u32) -> TokenBatch {
    let tokens: Vec<Vec<u32>> =
        (0..rows).map(|_| (0..length).map(|_| generator.random_range(1000.min(vocabulary - 1)..vocabulary)).collect()).collect();
    let rows: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
    TokenBatch::new(&rows, 0)
}

/// User and system time of this process so far in seconds, and its resident and largest resident memory in MiB; zeros where there is no /proc.
struct Process {
    processor: f64,
    resident: u64,
    largest: u64,
}

impl Process {
    fn now() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let status = text("/proc/self/status");
        let mebibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) / 1024
        };
        // Fields 14 and 15 of proc(5), counted behind the name in parentheses; a tick is a hundredth of a second.
        let stat = text("/proc/self/stat");
        let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks: f64 = ticks.filter_map(|field| field.parse::<f64>().ok()).sum();
        Self { processor: ticks / 100.0, resident: mebibytes("VmRSS:"), largest: mebibytes("VmHWM:") }
    }
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
    kernels::keep_tuning();
    let encoder = Encoder::load(&options.model, &options.device).expect("the model loads");
    let mut texts = Texts::new(&options, &encoder);
    if options.encode {
        encode(&options, &encoder, &mut texts);
    }
    if options.train {
        train(&options, &encoder, &mut texts);
    }
}

fn encode(options: &Options, encoder: &Encoder, texts: &mut Texts) {
    let (mut seconds, mut processor, mut tokens) = (Vec::new(), 0.0, Tokens::default());
    for step in 0..options.warmup + options.steps {
        let batch = texts.batch(step, 1, 0..options.batch, options.batch, options.document_length);
        let (begun, used) = (Instant::now(), Process::now().processor);
        encoder.network.encode(&batch, &options.device).into_data();
        if step >= options.warmup {
            seconds.push(begun.elapsed().as_secs_f64());
            processor += Process::now().processor - used;
            tokens.add(&batch);
        }
    }
    let seconds = median(seconds);
    println!(
        r#"{{"ours": "encode", "batch": {}, "len": {}, "ms": {:.1}, "texts_per_s": {:.1}, "processor_ms": {:.1}, "largest_mib": {}, "padding": {:.3}}}"#,
        options.batch,
        options.document_length,
        seconds * 1e3,
        options.batch as f64 / seconds,
        processor * 1e3 / options.steps as f64,
        Process::now().largest,
        tokens.padding()
    );
}

/// Tokens of batches, and places for them when all texts of a batch are padded to one width.
#[derive(Default)]
struct Tokens {
    real: usize,
    places: usize,
}

impl Tokens {
    fn add(&mut self, batch: &TokenBatch) {
        self.real += batch.lengths.iter().sum::<usize>();
        self.places += batch.rows * batch.width;
    }

    /// The share of the places that would be padding.
    fn padding(&self) -> f64 {
        1.0 - self.real as f64 / self.places as f64
    }
}

fn train(options: &Options, encoder: &Encoder, texts: &mut Texts) {
    let device = options.device.clone().autodiff();
    let mut network = encoder.network.on_device(&device);
    let mut optimizer = AdamW::new(AdamWConfig::default()).expect("the defaults are valid");
    let loss = LossConfig::default();
    let columns = options.batch * (1 + options.negatives);
    let (mut seconds, mut processor, mut tokens) = (Vec::new(), 0.0, Tokens::default());
    for step in 0..options.warmup + options.steps {
        // In chunks of the size asked for, or in one.
        let mut in_chunks = |side: usize, rows: usize, length: usize| -> Vec<TokenBatch> {
            let size = if options.chunk == 0 { rows } else { options.chunk };
            let begins = (0..rows).step_by(size);
            begins.map(|begin| texts.batch(step, side, begin..rows.min(begin + size), options.batch, length)).collect()
        };
        let queries = in_chunks(0, options.batch, options.query_length);
        let documents = in_chunks(1, columns, options.document_length);
        let query_chunks = queries.len();
        let chunks: Vec<TokenBatch> = queries.into_iter().chain(documents).collect();
        let seeds: Vec<u64> = (0..chunks.len()).map(|chunk| (step * chunks.len() + chunk) as u64).collect();
        let (begun, used) = (Instant::now(), Process::now().processor);
        let scored = |mut rows: Vec<Tensor<2>>| {
            let documents = Tensor::cat(rows.split_off(query_chunks), 0);
            let queries = Tensor::cat(rows, 0);
            let batch = Embedded::new(queries, documents, (0..options.batch).collect(), Vec::new()).expect("the parts fit");
            loss.evaluate(&batch, &Now::default(), &LossState::default()).value
        };
        let encode = |network: &encoder::Network, chunk: &TokenBatch| network.encode(chunk, &device);
        let stepped = match options.chunk {
            0 => gradient_cache::whole_step(&network, &chunks, &seeds, &device, encode, scored, &[]),
            _ => gradient_cache::step(&network, &chunks, &seeds, &device, encode, scored, &[]),
        };
        let clipping = Clipping::measure(&network, &stepped.gradients, 1.0);
        network = optimizer.step_clipped(2e-5, network, stepped.gradients, &clipping);
        let value: f32 = stepped.value.into_scalar();
        device.sync().expect("the device works");
        assert!(value.is_finite());
        if step >= options.warmup {
            seconds.push(begun.elapsed().as_secs_f64());
            processor += Process::now().processor - used;
            chunks.iter().for_each(|chunk| tokens.add(chunk));
        }
        if options.memory_every > 0 && (step + 1).is_multiple_of(options.memory_every) {
            let Process { resident, largest, .. } = Process::now();
            println!(r#"{{"ours": "memory", "step": {}, "resident_mib": {resident}, "largest_mib": {largest}}}"#, step + 1);
        }
    }
    let seconds = median(seconds);
    println!(
        r#"{{"ours": "train step", "batch": {}, "query_len": {}, "doc_len": {}, "hard_negatives": {}, "chunk": {}, "ms_per_step": {:.1}, "pairs_per_s": {:.2}, "processor_ms": {:.1}, "largest_mib": {}, "padding": {:.3}, "parameters": {}}}"#,
        options.batch,
        options.query_length,
        options.document_length,
        options.negatives,
        options.chunk,
        seconds * 1e3,
        options.batch as f64 / seconds,
        processor * 1e3 / options.steps as f64,
        Process::now().largest,
        tokens.padding(),
        network.num_params()
    );
}
