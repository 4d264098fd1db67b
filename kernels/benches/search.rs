//! Speed and memory of the search over generated rows.
//!
//! usage: cargo bench -p kernels --bench search -- [ROWS DIMENSION QUERIES K [cpu|gpu|software]]     (default: 20000 384 64 100 cpu)
//!
//! Prints shape, seconds, GFLOP/s of the product, bytes of inputs and outputs, and peak resident memory. The store is filled shard by shard, so the
//! peak is that of the search.
#![allow(clippy::print_stdout, missing_docs)]

use std::time::Instant;

use burn::tensor::{DType, Device, DeviceKind, Tensor, TensorData};
use kernels::{SearchRequest, search};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rows of a shard: 96 MiB at width 384, below the smallest binding limit in use.
const SHARD: usize = 65_536;

fn random(generator: &mut ChaCha8Rng, rows: usize, width: usize, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = (0..rows * width).map(|_| generator.random::<f32>() - 0.5).collect();
    Tensor::from_data(TensorData::new(values, [rows, width]), (device, DType::F32))
}

/// Peak and current resident memory in MiB, where the system tells.
fn resident() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let read = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
    };
    (read("VmHWM:"), read("VmRSS:"))
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let number = |place: usize, default: usize| arguments.get(place).map_or(default, |text| text.parse().expect("a number"));
    let (rows, width, count, k) = (number(0, 20_000), number(1, 384), number(2, 64), number(3, 100));
    let name = arguments.get(4).map_or("cpu", String::as_str);
    let device = match name {
        "cpu" => Device::flex(),
        "gpu" => Device::wgpu(DeviceKind::DefaultDevice),
        "software" => kernels::software_device().expect("a software Vulkan driver"),
        other => panic!("device {other}, expected cpu, gpu or software"),
    };
    let mut generator = ChaCha8Rng::seed_from_u64(0);
    let store: Vec<Tensor<2>> =
        (0..rows).step_by(SHARD).map(|begin| random(&mut generator, SHARD.min(rows - begin), width, &device)).collect();
    let queries = random(&mut generator, count, width, &device);
    let ask = |queries: Tensor<2>| search(SearchRequest::new(queries, &store, k)).expect("the search works");
    ask(queries.clone().slice([0..1, 0..width]));
    let (_, before) = resident();
    let mut seconds = Vec::new();
    for _ in 0..3 {
        let begun = Instant::now();
        ask(queries.clone());
        seconds.push(begun.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let (peak, _) = resident();
    let flop = 2.0 * rows as f64 * width as f64 * count as f64;
    println!(
        "{rows} rows x {width}, {count} queries, k = {k}, {name}: {:.3} s, {:.1} GFLOP/s, {:.0} queries/s; store {:.0} MiB, answer {:.1} MiB, resident {before:.0} MiB before, {peak:.0} MiB at the peak",
        seconds[1],
        flop / seconds[1] / 1e9,
        count as f64 / seconds[1],
        (rows * width * 4) as f64 / f64::from(1 << 20),
        (count * k * 8) as f64 / f64::from(1 << 20),
    );
}
