//! Speed and memory of encoding and of a training step: full-length random tokens, so every implementation does equal work, or the texts of a collection, where it counts
//! what is done about padding.
//!
//! usage: cargo bench -p encoder --bench speed -- MODEL_FOLDER [--device cpu|gpu|software] [--batch 16] [--query-len 32] [--doc-len 128]
//!        [--hard-negatives 1] [--steps 10] [--warmup 3] [--chunk 0] [--precision f32|mixed] [--only encode|train] [--memory-every 0] [--data FOLDER [--padded yes]]
//!
//! With `--data` the lengths are limits. Step s takes the training pairs from s x batch on, in the order of the collection; the nth hard negative of a pair is the positive of the pair
//! n x batch further on. `--padded yes` has padding taken for tokens, the work of a program that pads every batch to its longest text.
//! Prints one JSON line for encoding (batch x doc-len), one for the training step (InfoNCE over in-batch and hard negatives, clip, AdamW), and one for what the device does at most:
//! median of the clock, mean of the processor time (Linux), and the shapes. A chunk above 0 trains with gradient caching over chunks of so many texts. `--memory-every N` prints
//! memory each N training steps. `scripts/bench-train` runs it in turn with PyTorch. Of what a line holds,
//!
//! | key | is |
//! |---|---|
//! | `tflop_per_s` | of the products of linear layers and attention for tokens that are not padding, in training thrice; what gradient caching computes twice counts once. Null where config.json is not a BERT's |
//! | `first_step_s` | seconds from the model being loaded, or encoding being done, to the end of the first step: kernels are compiled and tuned in it |
//! | `wait_share` | the part of the steps in which the host waited for the device; near 0 it is the device that waits |
//! | `largest_mib` | the process's largest resident memory so far |
//! | `device_mib` | what the device's pools hold; 0 on the CPU, which has none |
//!
//! In the last line `tflop_per_s` is of products of two square matrices by themselves, operands of the same precision, many between two waits, and the shares are what parts of it were reached.
#![allow(clippy::print_stdout, missing_docs)]

use std::time::Instant;

use burn::module::Module;
use burn::tensor::{DType, Device, Distribution, Tensor};
use encoder::{Encoder, TokenBatch};
use kernels::layers::Precision;
use objective::{AdamW, AdamWConfig, Clipping, Embedded, LossConfig, LossState, Now, gradient_cache};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

struct Options {
    model: String,
    device: Device,
    /// Side of the square matrices whose product is the measure of the device.
    side: usize,
    precision: Precision,
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
    let (device, side) = match word("--device") {
        None | Some("cpu") => (Device::flex(), 1024),
        Some("gpu") => {
            let hardware = kernels::adapters().into_iter().filter(|adapter| adapter.kind != kernels::AdapterKind::Software);
            (hardware.min_by_key(|adapter| adapter.kind).expect("there is a GPU").open().expect("the GPU opens"), 4096)
        }
        Some("software") => (kernels::software_device().expect("a software Vulkan driver is installed"), 64),
        Some(other) => panic!("--device {other}: expected cpu, gpu or software"),
    };
    let precision = match word("--precision") {
        None | Some("f32") => Precision::F32,
        Some("mixed") => Precision::Mixed,
        Some(other) => panic!("--precision {other}: expected f32 or mixed"),
    };
    let only = word("--only");
    Some(Options {
        model,
        device,
        side,
        precision,
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
                let mut rows: Vec<Vec<u32>> = rows.map(|row| pairs[(step * batch + row) % pairs.len()][side].clone()).collect();
                if *padded {
                    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
                    rows.iter_mut().for_each(|row| row.resize(longest, *pad));
                }
                TokenBatch::new(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), *pad)
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

/// The rows of several batches as one.
fn joined(batches: &[TokenBatch]) -> TokenBatch {
    let rows = batches.iter().flat_map(|batch| (0..batch.rows()).map(|row| batch.row(row).iter().map(|&id| id as u32).collect()));
    let rows: Vec<Vec<u32>> = rows.collect();
    TokenBatch::new(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), 0)
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

/// What the pools of a device hold, in MiB.
fn pools(device: &Device) -> u64 {
    kernels::device_memory(device).map_or(0, |memory| memory.reserved >> 20)
}

/// TFLOP/s of products of two square matrices with operands of the precision of the layers.
fn matrix_rate(options: &Options) -> f64 {
    let (side, device) = (options.side, &options.device);
    let square = Tensor::<2>::random([side, side], Distribution::Default, device);
    let zeros = Tensor::<1>::zeros([side], device);
    // On the CPU layers of either precision multiply 32-bit numbers, by a product of their own.
    let half = options.precision == Precision::Mixed && kernels::describe(device).is_some();
    let square = if half { square.cast(DType::F16) } else { square };
    let turns = |count: usize| {
        let begun = Instant::now();
        for _ in 0..count {
            if half {
                drop(square.clone().matmul(square.clone()));
            } else {
                drop(kernels::layers::linear(square.clone(), square.clone(), zeros.clone(), Precision::F32));
            }
        }
        device.sync().expect("the device works");
        begun.elapsed().as_secs_f64() / count as f64
    };
    turns(1);
    let count = ((0.05 / turns(1)) as usize).clamp(1, 200);
    2.0 * (side as f64).powi(3) / median((0..3).map(|_| turns(count)).collect()) / 1e12
}

/// Layers, width and inner width of a BERT by the names in its config.json.
fn shape(model: &str) -> Option<[f64; 3]> {
    let text = std::fs::read_to_string(std::path::Path::new(model).join("config.json")).ok()?;
    let config: Value = serde_json::from_str(&text).ok()?;
    let number = |name: &str| config.get(name).and_then(Value::as_f64);
    Some([number("num_hidden_layers")?, number("hidden_size")?, number("intermediate_size")?])
}

/// Tokens of batches, their products in attention, and places for them when all texts of a batch are padded to one width.
#[derive(Default)]
struct Tokens {
    real: usize,
    pairs: usize,
    places: usize,
}

impl Tokens {
    fn add(&mut self, batch: &TokenBatch) {
        self.real += batch.lengths().iter().sum::<usize>();
        self.pairs += batch.lengths().iter().map(|length| length * length).sum::<usize>();
        self.places += batch.rows() * batch.width();
    }

    /// The share of the places that would be padding.
    fn padding(&self) -> f64 {
        1.0 - self.real as f64 / self.places as f64
    }

    /// Floating-point operations of one pass forward over all of them.
    fn operations(&self, [layers, width, inner]: [f64; 3]) -> f64 {
        let dense = 2.0 * (4.0 * width * width + 2.0 * width * inner) * self.real as f64;
        layers * (dense + 4.0 * width * self.pairs as f64)
    }
}

/// The measured steps of encoding or of training.
#[derive(Default)]
struct Steps {
    seconds: Vec<f64>,
    processor: f64,
    waited: f64,
    tokens: Tokens,
    /// Seconds from the start to the end of the first step, warm-up or not.
    first: Option<f64>,
}

impl Steps {
    fn add(&mut self, begun: Instant, used: f64, waited: f64, batches: &[TokenBatch]) {
        self.seconds.push(begun.elapsed().as_secs_f64());
        self.processor += Process::now().processor - used;
        self.waited += waited;
        batches.iter().for_each(|batch| self.tokens.add(batch));
    }

    /// Prints `line` and what every line says, with these names for the milliseconds and for queries or texts a second. A step costs so many passes forward. Gives the TFLOP/s reached.
    fn print(self, options: &Options, mut line: Value, [ms, rate]: [&str; 2], passes: f64) -> Option<f64> {
        let (count, whole) = (self.seconds.len() as f64, self.seconds.iter().sum::<f64>());
        let seconds = median(self.seconds);
        let reached = shape(&options.model).map(|shape| passes * self.tokens.operations(shape) / count / seconds / 1e12);
        line["precision"] = json!(options.precision.to_string());
        line[ms] = json!(round(seconds * 1e3, 1));
        line[rate] = json!(round(options.batch as f64 / seconds, 2));
        line["tokens_per_s"] = json!((self.tokens.real as f64 / count / seconds).round());
        line["tflop_per_s"] = json!(reached.map(|reached| round(reached, 4)));
        line["processor_ms"] = json!(round(self.processor * 1e3 / count, 1));
        line["first_step_s"] = json!(self.first.map(|first| round(first, 2)));
        line["wait_share"] = json!(round(self.waited / whole, 3));
        line["largest_mib"] = json!(Process::now().largest);
        line["device_mib"] = json!(pools(&options.device));
        line["padding"] = json!(round(self.tokens.padding(), 3));
        println!("{line}");
        reached
    }
}

fn round(value: f64, digits: i32) -> f64 {
    (value * 10f64.powi(digits)).round() / 10f64.powi(digits)
}

fn main() {
    let Some(options) = options() else {
        println!("no model folder given: nothing measured");
        return;
    };
    kernels::keep_freed_memory();
    kernels::keep_tuning();
    let mut encoder = Encoder::load(&options.model, &options.device).expect("the model loads");
    encoder.network = encoder.network.with_precision(options.precision).unwrap_or_else(|error| panic!("{error}"));
    let mut texts = Texts::new(&options, &encoder);
    let encoded = options.encode.then(|| encode(&options, &encoder, &mut texts)).flatten();
    let trained = options.train.then(|| train(&options, &encoder, &mut texts)).flatten();
    // Last, so that its matrices are in no other figure.
    let rate = matrix_rate(&options);
    let share = |reached: Option<f64>| reached.map(|reached| round(reached / rate, 3));
    println!(
        "{}",
        json!({
            "ours": "matrix", "side": options.side, "precision": options.precision.to_string(), "tflop_per_s": round(rate, 4),
            "encode_share": share(encoded), "step_share": share(trained),
        })
    );
}

fn encode(options: &Options, encoder: &Encoder, texts: &mut Texts) -> Option<f64> {
    let (begin, mut steps) = (Instant::now(), Steps::default());
    for step in 0..options.warmup + options.steps {
        let batch = texts.batch(step, 1, 0..options.batch, options.batch, options.document_length);
        let (begun, used) = (Instant::now(), Process::now().processor);
        let rows = encoder.network.encode(&batch, &options.device);
        let asked = Instant::now();
        rows.into_data();
        steps.first.get_or_insert_with(|| begin.elapsed().as_secs_f64());
        if step >= options.warmup {
            steps.add(begun, used, asked.elapsed().as_secs_f64(), &[batch]);
        }
    }
    let line = json!({"ours": "encode", "batch": options.batch, "len": options.document_length});
    steps.print(options, line, ["ms", "texts_per_s"], 1.0)
}

fn train(options: &Options, encoder: &Encoder, texts: &mut Texts) -> Option<f64> {
    let (begin, mut steps) = (Instant::now(), Steps::default());
    let device = options.device.clone().autodiff();
    let mut network = encoder.network.on_device(&device);
    let mut optimizer = AdamW::new(AdamWConfig::default()).expect("the defaults are valid");
    let loss = LossConfig::default();
    let columns = options.batch * (1 + options.negatives);
    for step in 0..options.warmup + options.steps {
        // In chunks of the size asked for, or in one.
        let mut in_chunks = |side: usize, rows: usize, length: usize| -> Vec<TokenBatch> {
            let size = if options.chunk == 0 { rows } else { options.chunk };
            let begins = (0..rows).step_by(size);
            begins.map(|begin| texts.batch(step, side, begin..rows.min(begin + size), options.batch, length)).collect()
        };
        let queries = in_chunks(0, options.batch, options.query_length);
        let documents = in_chunks(1, columns, options.document_length);
        let cut: Vec<TokenBatch> = queries.into_iter().chain(documents).collect();
        // One pass for both sides, as in the trainer, unless chunks were asked for. Padding would be that of the wider side.
        let chunks = if options.chunk == 0 && !options.padded { vec![joined(&cut)] } else { cut.clone() };
        let seeds: Vec<u64> = (0..chunks.len()).map(|chunk| (step * chunks.len() + chunk) as u64).collect();
        let (begun, used) = (Instant::now(), Process::now().processor);
        let scored = |rows: Vec<Tensor<2>>| {
            let rows = Tensor::cat(rows, 0);
            let [queries, documents] =
                [(0, options.batch), (options.batch, columns)].map(|(first, count)| rows.clone().narrow(0, first, count));
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
        let asked = Instant::now();
        let value: f32 = stepped.value.into_scalar();
        device.sync().expect("the device works");
        assert!(value.is_finite());
        steps.first.get_or_insert_with(|| begin.elapsed().as_secs_f64());
        if step >= options.warmup {
            steps.add(begun, used, asked.elapsed().as_secs_f64(), &cut);
        }
        if options.memory_every > 0 && (step + 1).is_multiple_of(options.memory_every) {
            let (Process { resident, largest, .. }, device) = (Process::now(), pools(&options.device));
            println!(
                r#"{{"ours": "memory", "step": {}, "resident_mib": {resident}, "largest_mib": {largest}, "device_mib": {device}}}"#,
                step + 1
            );
        }
    }
    let line = json!({
        "ours": "train step", "batch": options.batch, "query_len": options.query_length, "doc_len": options.document_length,
        "hard_negatives": options.negatives, "chunk": options.chunk, "parameters": network.num_params(),
    });
    steps.print(options, line, ["ms_per_step", "pairs_per_s"], 3.0)
}
