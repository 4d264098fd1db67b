//! Tests of the whole crate, on the CPU backend (what `software` names on software Vulkan too): golden values, oracles and properties. Schedules and settings are tested here too.
//!
//! burn's random numbers come from one generator per process. Tests that draw from it hold [`random_lock`].

#![allow(clippy::print_stderr)]

mod batches;
mod by_rows;
mod fixture;
mod golden_losses;
mod golden_step;
mod gradient_cache;
mod labelled;
mod losses;
mod masks;
mod mixing;
mod optimizer;
mod properties;
mod schedule;
mod settings;
mod software;
mod temperature;

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};

thread_local! {
    /// Another device for the tests of this thread.
    static INSTEAD: RefCell<Option<Device>> = const { RefCell::new(None) };
}

/// The CPU device, or what stands in for it, with autodiff.
fn device() -> Device {
    INSTEAD.with_borrow(|instead| instead.clone().unwrap_or_else(Device::flex)).autodiff()
}

fn random_lock() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file beside the checkout, or `None` with a note when it is not there.
fn shared(file: &str) -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")).join(file);
    if !path.exists() {
        eprintln!("skipped: {file} (../shared is not there)");
        return None;
    }
    Some(path)
}

/// Numbers in [-1, 1) that depend on the seed only (SplitMix64).
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    (0..count as u64)
        .map(|index| {
            let mut z = seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().iter::<f32>().collect()
}

fn scalar(tensor: &Tensor<1>) -> f32 {
    let values = values(tensor);
    assert_eq!(values.len(), 1, "expected a scalar");
    values[0]
}

/// Element-wise |got - expected| <= absolute + relative * |expected|; the message shows the first mismatches.
fn assert_close(what: &str, got: &[f32], expected: &[f64], absolute: f64, relative: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    let far = |&(_, (&g, &e)): &(usize, (&f32, &f64))| {
        let difference = (f64::from(g) - e).abs();
        difference.is_nan() || difference > absolute + relative * e.abs()
    };
    let wrong: Vec<_> = got.iter().zip(expected).enumerate().filter(far).collect();
    let first: Vec<String> = wrong.iter().take(8).map(|(i, (g, e))| format!("[{i}] got {g}, expected {e}")).collect();
    assert!(wrong.is_empty(), "{what}: {} of {} elements differ: {}", wrong.len(), got.len(), first.join("; "));
}
