//! Speed and memory of the search over generated unit rows, in a dialogue: shapes come in, measurements go out, so that other programs can be measured in turn.
//!
//! usage: search [--device cpu|gpu|software] [--rows N] [--dimension D] [--queries MOST] [--half] [--dump FOLDER] [--vectors FOLDER]
//!               [--ask QUERIES,K[,CHOICE] ...]     (default: cpu 100000 384 1024)
//!
//! Every `--ask`, or else every line of standard input, is a number of queries, a depth and perhaps what to choose (best, uniform, near, counted; or the best from a
//! file: disk-f32, disk-f16, disk-i8; or i8-FACTOR, 8-bit rows in a file with survivors scored again from the rows in memory), and is answered by one
//! JSON object: seconds by the clock and of processor time (best for comparisons on a busy machine), GFLOP/s, the share of the fastest bare product there is on the device
//! (the same queries with 65,536 rows, with 8,192, and square matrices, by the tensor library and by the product of our layers), bytes a second, of the least there are to move, and
//! their share of a copy's, peak resident memory, what the device's pools hold, and, from a file, the share of ids that the rows in memory give too, rows a second, the
//! share of the time spent waiting for rows, and how fast the file is read and rows are uploaded by themselves. Files lie in the folder of temporary files and come from its cache where memory allows.
//! `--half` stores rows and queries in 16-bit floats, which a GPU with matrix units multiplies at its full rate; the product is one of 16-bit floats then.
//! `--vectors` searches the rows.f32 of a folder with its queries.f32 instead of generated ones, all of them. `--dump` leaves rows.f32, queries.f32 and, after each answer,
//! ids.u32 in a folder, for others to search the same and compare.
#![allow(clippy::print_stdout, missing_docs)]

use std::fs::File;
use std::io::{BufRead, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{DType, Device, Tensor, TensorData};
use kernels::layers::Precision;
use kernels::{Bins, Choice, DiskStore, DiskWriter, RowFormat, SearchRequest, TopK, search, search_rescored};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Rows of a product, and of an upload: 96 MiB at width 384.
const SOME: usize = 65_536;

struct Options {
    device: String,
    rows: usize,
    dimension: usize,
    queries: usize,
    half: bool,
    dump: Option<PathBuf>,
    vectors: Option<PathBuf>,
    asks: Vec<String>,
}

fn options() -> Options {
    let (device, dump, vectors, asks) = ("cpu".to_owned(), None, None, Vec::new());
    let mut options = Options { device, rows: 100_000, dimension: 384, queries: 1024, half: false, dump, vectors, asks };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            "--device" => options.device = value(),
            "--rows" => options.rows = value().parse().expect("a number of rows"),
            "--dimension" => options.dimension = value().parse().expect("a width"),
            "--queries" => options.queries = value().parse().expect("a number of queries"),
            "--half" => options.half = true,
            "--dump" => options.dump = Some(value().into()),
            "--vectors" => options.vectors = Some(value().into()),
            "--ask" => options.asks.push(value()),
            // What cargo adds.
            "--bench" => {}
            other => panic!("option {other}; the head of this file lists the options"),
        }
    }
    options
}

/// Unit rows, Gaussian-like: a function of the seed and the number of the first row, whatever the threads.
fn random(seed: u64, first: usize, rows: usize, width: usize) -> Vec<f32> {
    let mut values = vec![0.0; rows * width];
    values.par_chunks_exact_mut(width.max(1)).enumerate().for_each(|(row, values)| {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream((first + row) as u64);
        for value in values.iter_mut() {
            // Four uniform numbers of 16 bits.
            let bits: u64 = generator.random();
            *value = (0..4).map(|part| ((bits >> (16 * part)) & 0xffff) as f32).sum::<f32>() / 65_536.0 - 2.0;
        }
        let norm = values.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
        values.iter_mut().for_each(|x| *x /= norm);
    });
    values
}

/// A file of 32-bit floats.
fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()
}

fn tensor(values: &[f32], width: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len() / width, width]), (device, DType::F32))
}

fn save<T: Copy>(folder: Option<&Path>, name: &str, append: bool, values: &[T], bytes: impl Fn(T) -> [u8; 4]) {
    use std::io::Write;
    let Some(folder) = folder else { return };
    let mut file = std::fs::OpenOptions::new();
    let file = file.create(true).write(true).append(append).truncate(!append).open(folder.join(name));
    let bytes: Vec<u8> = values.iter().flat_map(|&value| bytes(value)).collect();
    file.and_then(|mut file| file.write_all(&bytes)).expect("the folder of --dump can be written");
}

/// A line of /proc/self/status in MiB, where the system tells.
fn resident(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

/// Processor seconds of all threads so far, where the system tells: in hundredths, so time enough work.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}

/// Median seconds by the clock, and mean seconds of the processor: enough runs to tell, few enough not to wait. The first run warms up, but one of a
/// minute, beside which warming up is nothing, is the measurement.
fn time(mut work: impl FnMut()) -> (f64, f64) {
    let (begun, used) = (Instant::now(), processor());
    work();
    if begun.elapsed().as_secs_f64() >= 60.0 {
        return (begun.elapsed().as_secs_f64(), processor() - used);
    }
    let (begun, used) = (Instant::now(), processor());
    let mut seconds = Vec::new();
    while seconds.len() < 3 || (begun.elapsed().as_secs_f64() < 0.4 && seconds.len() < 200) {
        let begun = Instant::now();
        work();
        seconds.push(begun.elapsed().as_secs_f64());
    }
    let mean = (processor() - used) / seconds.len() as f64;
    seconds.sort_by(f64::total_cmp);
    (seconds[seconds.len() / 2], mean)
}

/// Bytes a second, read and written, of a copy: with all threads between two pieces of memory that are there on the CPU, of some rows on other devices.
fn copy(name: &str, some: &Tensor<2>) -> f64 {
    if name == "cpu" {
        let (from, mut into) = (vec![1.0f32; 16 << 20], vec![0.0f32; 16 << 20]);
        let pieces = 1 << 18;
        let (seconds, _) =
            time(|| into.par_chunks_mut(pieces).zip(from.par_chunks(pieces)).for_each(|(into, from)| into.copy_from_slice(from)));
        return 8.0 * from.len() as f64 / seconds;
    }
    let some = some.clone().cast(DType::F32);
    8.0 * some.shape().num_elements() as f64 / time_many(&some.device(), || drop(some.clone().mul_scalar(2.0)))
}

/// Seconds of one turn of work that the device does in the background: so many turns between two waits that the waiting is little of it.
fn time_many(device: &Device, mut work: impl FnMut()) -> f64 {
    let mut turns = |count: usize| {
        let begun = Instant::now();
        (0..count).for_each(|_| work());
        device.sync().expect("the device works");
        begun.elapsed().as_secs_f64() / count as f64
    };
    turns(1);
    let count = ((0.02 / turns(1)) as usize).clamp(1, 200);
    let mut seconds: Vec<f64> = (0..3).map(|_| turns(count)).collect();
    seconds.sort_by(f64::total_cmp);
    seconds[1]
}

/// GFLOP/s of bare products of these queries and rows.
fn product(queries: &Tensor<2>, rows: &Tensor<2>) -> f64 {
    let ([count, width], [others, _], device) = (queries.dims(), rows.dims(), queries.device());
    let flop = 2.0 * (count * width * others) as f64;
    let transposed = rows.clone().transpose();
    let library = time_many(&device, || drop(queries.clone().matmul(transposed.clone())));
    // The product of our layers multiplies 32-bit numbers.
    if queries.dtype() != DType::F32 {
        return flop / library / 1e9;
    }
    let (weight, bias) = (transposed.mul_scalar(1.0), Tensor::zeros([others], &device));
    let layers = time_many(&device, || drop(kernels::layers::linear(queries.clone(), weight.clone(), bias.clone(), Precision::F32)));
    flop / library.min(layers) / 1e9
}

struct Bench {
    options: Options,
    device: Device,
    store: Vec<Tensor<2>>,
    queries: Tensor<2>,
    /// Bytes a second, read and written, of a copy.
    copy: f64,
    /// GFLOP/s of square matrices, in the format of the store.
    square: f64,
}

impl Bench {
    fn new(mut options: Options) -> Self {
        let device = match options.device.as_str() {
            "cpu" => Device::flex(),
            "gpu" => {
                let hardware = kernels::adapters().into_iter().filter(|adapter| adapter.kind != kernels::AdapterKind::Software);
                hardware.min_by_key(|adapter| adapter.kind).expect("there is a GPU").open().expect("the GPU opens")
            }
            "software" => kernels::software_device().expect("a software Vulkan driver"),
            other => panic!("device {other}, expected cpu, gpu or software"),
        };
        let width = options.dimension;
        let given = options.vectors.as_ref().map(|folder| ["queries.f32", "rows.f32"].map(|name| floats(&folder.join(name))));
        if let Some([queries, rows]) = &given {
            (options.queries, options.rows) = (queries.len() / width, rows.len() / width);
        }
        let dump = options.dump.as_deref();
        let queries = given.as_ref().map_or_else(|| random(1, 0, options.queries, width), |given| given[0].clone());
        save(dump, "queries.f32", false, &queries, f32::to_le_bytes);
        save(dump, "rows.f32", false, &[], f32::to_le_bytes);
        // As the trainer's stores are cut.
        let shard = kernels::rows_per_shard(&device, width, if options.half { 2 } else { 4 });
        let store = (0..options.rows).step_by(shard).map(|begin| {
            let count = shard.min(options.rows - begin);
            let rows = match &given {
                Some([_, rows]) => rows[begin * width..(begin + count) * width].to_vec(),
                None => random(0, begin, count, width),
            };
            save(dump, "rows.f32", true, &rows, f32::to_le_bytes);
            let rows = tensor(&rows, width, &device);
            if options.half { rows.cast(DType::F16) } else { rows }
        });
        let store: Vec<Tensor<2>> = store.collect();
        let copy = copy(&options.device, &store[0].clone().slice([0..store[0].dims()[0].min(SOME), 0..width]));
        let queries = tensor(&queries, width, &device);
        let queries = if options.half { queries.cast(DType::F16) } else { queries };
        let side = match options.device.as_str() {
            "gpu" => 4096,
            "cpu" => 1024,
            _ => 64,
        };
        let square = tensor(&random(2, 0, side, side), side, &device).cast(queries.dtype());
        let square = product(&square, &square);
        Self { options, device, store, queries, copy, square }
    }

    /// The rows in a file, and the file.
    fn write(&self, format: RowFormat) -> (DiskStore, File) {
        let path = std::env::temp_dir().join(format!("dredge-search-{}", std::process::id()));
        let mut writer = DiskWriter::create(&path, self.options.dimension, format).expect("the folder of temporary files can be written");
        for shard in &self.store {
            let rows = shard.clone().cast(DType::F32).into_data().try_into_vec::<f32>().expect("32-bit rows");
            writer.append(&rows).expect("there is room for the rows");
        }
        let store = writer.finish().expect("there is room for the rows");
        let file = File::open(&path).expect("the file that was written opens");
        // Where the system lets an open file go.
        let _ = std::fs::remove_file(&path);
        (store, file)
    }

    fn search_disk(&self, count: usize, k: usize, disk: &DiskStore, factor: Option<usize>) -> TopK {
        let request = SearchRequest::new(self.queries.clone().slice([0..count, 0..self.options.dimension]), disk, k);
        let answer = if let Some(factor) = factor { search_rescored(request, &self.store, factor) } else { search(request) };
        answer.expect("the search works")
    }

    fn search(&self, count: usize, k: usize, choice: &str) -> TopK {
        let queries = self.queries.clone().slice([0..count, 0..self.options.dimension]);
        let request = SearchRequest::new(queries, &self.store, k);
        let (keys, centres): (Vec<u64>, Vec<f32>) = (0..count as u64).map(|query| (query, 0.1)).unzip();
        let request = match choice {
            "best" => request,
            "uniform" => SearchRequest { choice: Choice::Uniform { seed: 0, keys: &keys }, ..request },
            "near" => SearchRequest { choice: Choice::Near { seed: 0, keys: &keys, sharpness: 100.0, centres: &centres }, ..request },
            "counted" => SearchRequest { bins: Some(Bins { low: -1.0, high: 1.0, count: 100 }), ..request },
            other => panic!("{other}, expected best, uniform, near or counted"),
        };
        search(request).expect("the search works")
    }

    /// GFLOP/s of the fastest of: products of these queries and some rows, and square matrices. For few queries the first two, as these are bound by memory.
    fn product(&self, count: usize) -> f64 {
        let width = self.options.dimension;
        let queries = self.queries.clone().slice([0..count, 0..width]);
        let shard = &self.store[0];
        let some = |rows: usize| product(&queries, &shard.clone().slice([0..shard.dims()[0].min(rows), 0..width]));
        // At most 2 GiB of scores.
        let most = (1 << 29) / count.max(1);
        let like = some(8192).max(some(SOME.min(most)));
        if count < 64 { like } else { like.max(self.square) }
    }

    /// Bytes a second of reading a file by itself, and of uploading some rows of 32-bit numbers by itself.
    fn transfers(&self, mut file: &File) -> (f64, f64) {
        let rows = self.store[0].dims()[0].min(SOME);
        let (mut bytes, mut buffer) = (0, vec![0; 8 << 20]);
        let (seconds, _) = time(|| {
            file.seek(SeekFrom::Start(0)).expect("a file");
            bytes = 0;
            loop {
                match file.read(&mut buffer).expect("the file is read") {
                    0 => break,
                    more => bytes += more,
                }
            }
        });
        let numbers = vec![0.5f32; rows * self.options.dimension];
        let upload = time_many(&self.device, || drop(tensor(&numbers, self.options.dimension, &self.device)));
        (bytes as f64 / seconds, 4.0 * numbers.len() as f64 / upload)
    }

    fn answer(&self, line: &str) {
        let mut parts = line.trim().split(',');
        let mut number =
            |what: &str| parts.next().and_then(|text| text.parse::<usize>().ok()).unwrap_or_else(|| panic!("{line}: no {what}"));
        let (count, k) = (number("number of queries"), number("depth"));
        let choice = parts.next().unwrap_or("best");
        let mut ids = Vec::new();
        let factor = choice.strip_prefix("i8-").map(|factor| factor.parse::<usize>().expect("an over-fetch factor behind i8-"));
        let format = match choice {
            "disk-f32" => Some(RowFormat::F32),
            "disk-f16" => Some(RowFormat::F16),
            "disk-i8" => Some(RowFormat::I8),
            _ => factor.map(|_| RowFormat::I8),
        };
        let disk = format.map(|format| self.write(format));
        let (seconds, used) = time(|| {
            ids = match &disk {
                Some((disk, _)) => self.search_disk(count, k, disk, factor).ids,
                None => self.search(count, k, choice).ids,
            };
        });
        let more = disk.map_or_else(String::new, |(disk, file)| {
            let (usage, exact) = (disk.usage(), self.search(count, k, "best").ids);
            let (read, upload) = self.transfers(&file);
            let bytes = file.metadata().map_or(0, |file| file.len()) as f64 / self.options.rows as f64;
            let both =
                ids.chunks_exact(k).zip(exact.chunks_exact(k)).map(|(got, exact)| exact.iter().filter(|&id| got.contains(id)).count());
            format!(
                ", \"recall\": {:.5}, \"disk_rows_per_second\": {:.0}, \"disk_waited_share\": {:.3}, \"disk_gigabytes_per_second\": {:.3}, \
                 \"read_gigabytes_per_second\": {:.3}, \"upload_gigabytes_per_second\": {:.3}",
                both.sum::<usize>() as f64 / exact.len() as f64,
                usage.rows as f64 / usage.seconds,
                usage.waited / usage.seconds,
                usage.rows as f64 / usage.seconds * bytes / 1e9,
                read / 1e9,
                upload / 1e9,
            )
        });
        save(self.options.dump.as_deref(), "ids.u32", false, &ids, u32::to_le_bytes);
        let Options { device, rows, dimension, half, .. } = &self.options;
        let flop = 2.0 * (rows * dimension * count) as f64;
        // Before the product's own matrix of scores.
        let (peak, now) = (resident("VmHWM:"), resident("VmRSS:"));
        let pools = kernels::device_memory(&self.device).map_or(0.0, |memory| memory.reserved as f64 / f64::from(1 << 20));
        let product = self.product(count);
        // The least: every row and query read once, the answer written.
        let width = if *half { 2 } else { 4 };
        let bytes = ((rows + count) * dimension * width + count * k * 8) as f64;
        println!(
            "{{\"device\": \"{device}\", \"rows\": {rows}, \"dimension\": {dimension}, \"half\": {half}, \"queries\": {count}, \"k\": {k}, \"choice\": \"{choice}\", \
             \"seconds\": {seconds:.6}, \"processor_seconds\": {used:.6}, \"gflops\": {:.2}, \"product_gflops\": {product:.2}, \"product_share\": {:.3}, \
             \"gigabytes_per_second\": {:.3}, \"copy_gigabytes_per_second\": {:.3}, \"bandwidth_share\": {:.3}, \"least_bytes\": {bytes}, \"peak_mib\": {:.0}, \"now_mib\": {:.0}, \"device_mib\": {pools:.0}{more}}}",
            flop / seconds / 1e9,
            flop / seconds / 1e9 / product,
            bytes / seconds / 1e9,
            self.copy / 1e9,
            bytes / seconds / self.copy,
            peak,
            now,
        );
    }
}

fn main() {
    kernels::keep_freed_memory();
    kernels::keep_tuning();
    let bench = Bench::new(options());
    bench.options.asks.iter().for_each(|ask| bench.answer(ask));
    if bench.options.asks.is_empty() {
        std::io::stdin().lock().lines().map_while(Result::ok).filter(|line| !line.trim().is_empty()).for_each(|line| bench.answer(&line));
    }
}
