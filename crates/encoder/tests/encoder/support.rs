//! Where test data lies, which devices are tried, and how numbers are compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use encoder::TokenBatch;
use safetensors::{Dtype, SafeTensors};

/// A path in the folder `shared` beside the checkout; prints a notice and returns none when it is not there.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let full = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")).join(path);
    if !full.exists() {
        eprintln!("skipped: {path} (../shared is not there)");
        return None;
    }
    Some(full)
}

/// Turns functions of (device, factor by which tolerances are widened) into tests: `flex::name` for each, and
/// `software::name` for those worth the time: the software driver takes minutes to compile the kernels that a backward pass
/// through a transformer tunes itself among.
macro_rules! on_devices {
    (flex: $($flex:ident),+; software: $($software:ident),* $(;)?) => {
        mod flex {
            $(#[test] fn $flex() { super::$flex(&burn::tensor::Device::flex(), 1.0); })+
        }
        mod software {
            $(#[test] fn $software() {
                if let Some(device) = kernels::test_gpu() {
                    super::$software(&device, 10.0);
                }
            })*
        }
    };
}
pub(crate) use on_devices;

/// A tensor of a safetensors file as `f32`.
pub(crate) struct Values {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f32>,
}

/// Reads every tensor of a file; integers become floats, which is exact for token ids.
pub(crate) fn tensors(path: &Path) -> BTreeMap<String, Values> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let convert = |dtype: Dtype, data: &[u8]| match dtype {
        Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
        Dtype::I64 => data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32).collect(),
        other => panic!("{other:?}"),
    };
    file.iter()
        .map(|(name, view)| (name.to_owned(), Values { shape: view.shape().to_vec(), data: convert(view.dtype(), view.data()) }))
        .collect()
}

pub(crate) fn floats(data: &TensorData) -> Vec<f32> {
    data.iter::<f32>().collect()
}

/// Element-wise: |got - expected| <= widen * (absolute + relative * |expected|), showing the first mismatches.
pub(crate) fn assert_close(what: &str, got: &[f32], expected: &[f32], (absolute, relative): (f32, f32)) {
    assert_eq!(got.len(), expected.len(), "{what}: number of values");
    let mut wrong = Vec::new();
    let mut worst = 0.0f32;
    for (index, (&g, &e)) in got.iter().zip(expected).enumerate() {
        let ratio = (g - e).abs() / (absolute + relative * e.abs());
        worst = worst.max(ratio);
        if ratio.is_nan() || ratio > 1.0 {
            wrong.push(format!("[{index}] got {g}, expected {e}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{what}: {} of {} differ, worst {worst} times the tolerance: {}",
        wrong.len(),
        got.len(),
        wrong[..wrong.len().min(8)].join("; ")
    );
}

/// The tolerance of a forward pass, widened.
pub(crate) fn forward(widen: f32) -> (f32, f32) {
    (1e-5 * widen, 1e-4 * widen)
}

pub(crate) fn batch(rows: &[Vec<u32>], pad_id: u32) -> TokenBatch {
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    TokenBatch::new(&rows, pad_id)
}

/// Copies a folder, so that a test may change it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            // Written and not copied: the originals may be read-only, and permissions would travel.
            std::fs::write(target, std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}
