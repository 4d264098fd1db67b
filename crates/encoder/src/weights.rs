//! Named tensors between files and modules: reading safetensors, handing parts to layers, collecting them again.
//!
//! Files hold linear weights as `[out, in]` (PyTorch) and burn holds `[in, out]`; both transpositions are here and
//! nowhere else. Every parameter is made from explicit data, so none is lazy (a lazy one would share its pending state
//! with every clone). A [`Weights`] gathers all problems before it fails, because users fix a checkpoint only once, and makes nothing
//! of a size that only a configuration asks for: a parameter whose tensor is missing or of another shape is one number, until
//! [`Weights::finish`] refuses the whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Tensor, TensorData};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::error::{EncoderError, TensorProblems};
use crate::names;

struct Values {
    shape: Vec<usize>,
    data: Vec<f32>,
}

/// Tensors by canonical name, taken out one by one while a network is built.
pub(crate) struct Weights {
    origin: String,
    tensors: BTreeMap<String, Values>,
    problems: TensorProblems,
    /// Which canonical names are passed over.
    ignored: fn(&str) -> bool,
}

impl Weights {
    /// Reads `model.safetensors`, or the shards that `model.safetensors.index.json` lists, from `folder`.
    pub(crate) fn read(folder: &Path) -> Result<Self, EncoderError> {
        Self::read_but(folder, names::is_ignored)
    }

    /// As [`Weights::read`], passing over the canonical names that are `ignored`.
    pub(crate) fn read_but(folder: &Path, ignored: fn(&str) -> bool) -> Result<Self, EncoderError> {
        let mut weights = Self::empty(folder.display().to_string(), ignored);
        for file in weight_files(folder)? {
            let bytes = std::fs::read(&file).map_err(|source| EncoderError::Read { path: file.clone(), source })?;
            weights.add_file(&file, &bytes)?;
        }
        Ok(weights)
    }

    /// From tensors in memory, in PyTorch orientation.
    pub(crate) fn from_tensors(origin: &str, tensors: impl IntoIterator<Item = (String, TensorData)>) -> Self {
        Self::from_tensors_but(origin, tensors, names::is_ignored)
    }

    /// As [`Weights::from_tensors`], passing over the canonical names that are `ignored`.
    pub(crate) fn from_tensors_but(
        origin: &str,
        tensors: impl IntoIterator<Item = (String, TensorData)>,
        ignored: fn(&str) -> bool,
    ) -> Self {
        let mut weights = Self::empty(origin.to_owned(), ignored);
        for (name, data) in tensors {
            let shape = data.shape().to_vec();
            let kind = data.dtype();
            match data.try_into_vec_as::<f32>() {
                Ok(data) => weights.add(&name, Values { shape, data }),
                Err(_) => weights.problems.mistyped.push((name, format!("{kind:?}"))),
            }
        }
        weights
    }

    fn empty(origin: String, ignored: fn(&str) -> bool) -> Self {
        Self { origin, tensors: BTreeMap::new(), problems: TensorProblems::default(), ignored }
    }

    fn add_file(&mut self, file: &Path, bytes: &[u8]) -> Result<(), EncoderError> {
        let parsed = SafeTensors::deserialize(bytes).map_err(|source| EncoderError::Safetensors { path: file.to_owned(), source })?;
        for (name, view) in parsed.iter() {
            if (self.ignored)(&names::canonical(name)) {
                continue;
            }
            match floats(view.dtype(), view.data()) {
                Some(data) => self.add(name, Values { shape: view.shape().to_vec(), data }),
                None => self.problems.mistyped.push((name.to_owned(), format!("{:?}", view.dtype()))),
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, values: Values) {
        let canonical = names::canonical(name);
        if (self.ignored)(&canonical) {
            return;
        }
        if self.tensors.insert(canonical, values).is_some() {
            self.problems.repeated.push(name.to_owned());
        }
    }

    /// Shape of a tensor that is there, by canonical name.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|values| values.shape.as_slice())
    }

    /// How many tensors there are to take.
    pub(crate) fn count(&self) -> usize {
        self.tensors.len()
    }

    /// The values of `name`; none after noting the problem.
    fn take(&mut self, name: &str, shape: &[usize]) -> Option<Vec<f32>> {
        match self.tensors.remove(name) {
            Some(values) if values.shape == shape => return Some(values.data),
            Some(values) => {
                self.problems.misshapen.push((name.to_owned(), values.shape, shape.to_vec()));
            }
            None => self.problems.missing.push(name.to_owned()),
        }
        None
    }

    /// A table `[rows, width]`, kept in its orientation.
    pub(crate) fn table(&mut self, name: &str, rows: usize, width: usize, device: &Device) -> Param<Tensor<2>> {
        parameter(self.take(name, &[rows, width]), [rows, width], device)
    }

    /// A linear layer from `input` to `output` features with bias.
    pub(crate) fn linear(&mut self, prefix: &str, input: usize, output: usize, device: &Device) -> Linear {
        self.side_by_side(&[prefix], input, output, device)
    }

    /// A linear layer without bias.
    pub(crate) fn linear_without_bias(&mut self, prefix: &str, input: usize, output: usize, device: &Device) -> Linear {
        self.parts(&[(prefix, output)], input, false, device)
    }

    /// Linear layers of the same input, `output` features each, as one.
    pub(crate) fn side_by_side(&mut self, prefixes: &[&str], input: usize, output: usize, device: &Device) -> Linear {
        let parts: Vec<_> = prefixes.iter().map(|prefix| (*prefix, output)).collect();
        self.parts(&parts, input, true, device)
    }

    /// Linear layers of the same input, each with so many features, as one, with biases or without.
    pub(crate) fn parts(&mut self, parts: &[(&str, usize)], input: usize, biased: bool, device: &Device) -> Linear {
        let all = parts.iter().map(|(_, output)| output).sum();
        let mut gather = |tensor: &str, inner: &[usize]| -> Option<Vec<f32>> {
            let shape = |output: usize| -> Vec<usize> { std::iter::once(output).chain(inner.iter().copied()).collect() };
            // All are asked for before one that is not there ends it, so that all problems are noted.
            let taken: Vec<_> = parts.iter().map(|(prefix, output)| self.take(&format!("{prefix}.{tensor}"), &shape(*output))).collect();
            Some(taken.into_iter().collect::<Option<Vec<_>>>()?.concat())
        };
        let stored = gather("weight", &[input]).map(|stored| transposed(&stored, all, input));
        let bias = biased.then(|| parameter(gather("bias", &[]), [all], device));
        Linear { weight: parameter(stored, [input, all], device), bias }
    }

    /// A scale for each of `width` features.
    pub(crate) fn scale(&mut self, prefix: &str, width: usize, device: &Device) -> Param<Tensor<1>> {
        parameter(self.take(&format!("{prefix}.weight"), &[width]), [width], device)
    }

    /// A layer norm over `width` features.
    pub(crate) fn norm(&mut self, prefix: &str, width: usize, epsilon: f64, device: &Device) -> LayerNorm {
        let mut norm = self.norm_without_shift(prefix, width, epsilon, device);
        norm.beta = Some(parameter(self.take(&format!("{prefix}.bias"), &[width]), [width], device));
        norm
    }

    /// A layer norm that only scales.
    pub(crate) fn norm_without_shift(&mut self, prefix: &str, width: usize, epsilon: f64, device: &Device) -> LayerNorm {
        let mut norm = LayerNormConfig::new(width).with_epsilon(epsilon).init(device);
        norm.gamma = self.scale(prefix, width, device);
        norm.beta = None;
        norm
    }

    /// Succeeds when everything asked for was there and nothing is left over.
    pub(crate) fn finish(mut self) -> Result<(), EncoderError> {
        self.problems.unused.extend(self.tensors.into_keys());
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(EncoderError::Tensors { origin: self.origin, problems: Box::new(self.problems) })
    }
}

/// A parameter of `shape`, or of one number where its tensor was not to be had: no network is made of it.
fn parameter<const D: usize>(values: Option<Vec<f32>>, shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    let data = match values {
        Some(values) => TensorData::new(values, shape.to_vec()),
        None => TensorData::new(vec![0.0f32], vec![1; D]),
    };
    Param::from_data(data, device)
}

/// The files that hold the weights of `folder`: one, or the shards of the index in order of name.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, EncoderError> {
    let single = folder.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let path = folder.join("model.safetensors.index.json");
    if !path.is_file() {
        return Err(EncoderError::MissingFile {
            path: single,
            hint: "weights are read from model.safetensors or model.safetensors.index.json; convert other formats first",
        });
    }
    let bytes = std::fs::read(&path).map_err(|source| EncoderError::Read { path: path.clone(), source })?;
    let index: Value = serde_json::from_slice(&bytes).map_err(|source| EncoderError::Json { path: path.clone(), source })?;
    shard_names(&index).map(|shards| shards.iter().map(|shard| folder.join(shard)).collect()).ok_or_else(|| EncoderError::Field {
        path,
        field: "weight_map".to_owned(),
        got: index.get("weight_map").map_or("absent".to_owned(), Value::to_string),
        expected: "an object from tensor names to plain file names".to_owned(),
    })
}

/// The distinct file names of a safetensors index; none when it is not of the expected form or names another folder.
pub(crate) fn shard_names(index: &Value) -> Option<Vec<String>> {
    let map = index.get("weight_map")?.as_object()?;
    let mut shards = Vec::with_capacity(map.len());
    for value in map.values() {
        let name = value.as_str().filter(|name| !name.contains(['/', '\\']) && !name.starts_with('.'))?;
        shards.push(name.to_owned());
    }
    shards.sort_unstable();
    shards.dedup();
    (!shards.is_empty()).then_some(shards)
}

/// Little-endian floats of a supported type as `f32`.
fn floats(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let words = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    match dtype {
        Dtype::F32 => Some(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
        Dtype::F16 => Some(words().map(|b| f16::from_le_bytes(b).to_f32()).collect()),
        Dtype::BF16 => Some(words().map(|b| bf16::from_le_bytes(b).to_f32()).collect()),
        _ => None,
    }
}

/// Transposes a row-major `[rows, columns]` matrix. Blocks keep both sides in cache.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const BLOCK: usize = 32;
    let mut out = vec![0.0; values.len()];
    for top in (0..rows).step_by(BLOCK) {
        for left in (0..columns).step_by(BLOCK) {
            for row in top..(top + BLOCK).min(rows) {
                for column in left..(left + BLOCK).min(columns) {
                    out[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    out
}

/// Collects the tensors of a network under their checkpoint names and in PyTorch orientation, as `f32`.
#[derive(Default)]
pub(crate) struct Collector {
    tensors: Vec<(String, TensorData)>,
}

impl Collector {
    pub(crate) fn param<const D: usize>(&mut self, name: String, param: &Param<Tensor<D>>) {
        self.tensors.push((name, param.val().into_data().convert::<f32>()));
    }

    pub(crate) fn linear(&mut self, prefix: &str, linear: &Linear) {
        self.side_by_side(&[prefix], linear);
    }

    /// The parts of a linear layer, of one width, under their own names.
    pub(crate) fn side_by_side(&mut self, prefixes: &[&str], linear: &Linear) {
        let output = linear.weight.dims()[1] / prefixes.len();
        self.parts(&prefixes.iter().map(|prefix| (*prefix, output)).collect::<Vec<_>>(), linear);
    }

    /// The parts of a linear layer, each with so many features, under their own names.
    pub(crate) fn parts(&mut self, parts: &[(&str, usize)], linear: &Linear) {
        let weight = linear.weight.val();
        let [input, all] = weight.dims();
        let numbers = |data: TensorData| data.try_into_vec_as::<f32>().expect("every float type converts to f32");
        let stored = transposed(&numbers(weight.into_data()), input, all);
        let bias = linear.bias.as_ref().map(|bias| numbers(bias.val().into_data()));
        let mut first = 0;
        for &(prefix, output) in parts {
            let part = stored[first * input..(first + output) * input].to_vec();
            self.tensors.push((format!("{prefix}.weight"), TensorData::new(part, [output, input])));
            if let Some(bias) = &bias {
                self.tensors.push((format!("{prefix}.bias"), TensorData::new(bias[first..first + output].to_vec(), [output])));
            }
            first += output;
        }
    }

    pub(crate) fn norm(&mut self, prefix: &str, norm: &LayerNorm) {
        self.param(format!("{prefix}.weight"), &norm.gamma);
        if let Some(beta) = &norm.beta {
            self.param(format!("{prefix}.bias"), beta);
        }
    }

    /// All that was collected, sorted by name.
    pub(crate) fn finish(mut self) -> Vec<(String, TensorData)> {
        self.tensors.sort_by(|a, b| a.0.cmp(&b.0));
        self.tensors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposition_is_an_involution() {
        let values: Vec<f32> = (0..35 * 67).map(|i| i as f32).collect();
        let turned = transposed(&values, 35, 67);
        assert_eq!(turned[3 * 35 + 2], values[2 * 67 + 3]);
        assert_eq!(transposed(&turned, 67, 35), values);
    }

    #[test]
    fn all_problems_are_listed_at_once() {
        let tensors = [("a.weight", vec![2, 2]), ("extra", vec![1]), ("pooler.dense.bias", vec![1])];
        let mut weights = Weights::from_tensors(
            "memory",
            tensors.map(|(name, shape)| {
                let size = shape.iter().product();
                (name.to_owned(), TensorData::new(vec![1.0f32; size], shape))
            }),
        );
        weights.linear("a", 2, 3, &Device::flex());
        let message = weights.finish().unwrap_err().to_string();
        for part in ["missing: a.bias", "unused: extra", "a.weight: got [2, 2], expected [3, 2]"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(!message.contains("pooler"));
    }

    #[test]
    fn sizes_that_no_file_has_are_named_and_not_made() {
        let device = Device::flex();
        let given = [("a.weight", vec![2, 3]), ("d.weight", vec![3])];
        let mut weights = Weights::from_tensors(
            "memory",
            given.map(|(name, shape)| (name.to_owned(), TensorData::new(vec![1.0f32; shape.iter().product()], shape))),
        );
        // A table of 2^62 numbers has no size in bytes.
        let huge = 1usize << 31;
        weights.table("a.weight", huge, huge, &device);
        weights.linear("b", huge, huge, &device);
        weights.side_by_side(&["c", "d"], 3, huge, &device);
        weights.norm("e", huge, 1e-12, &device);
        let EncoderError::Tensors { problems, .. } = weights.finish().unwrap_err() else { panic!("another error") };
        let misshapen = [("a.weight".to_owned(), vec![2, 3], vec![huge, huge]), ("d.weight".to_owned(), vec![3], vec![huge, 3])];
        assert_eq!(problems.misshapen, misshapen);
        assert_eq!(problems.missing, ["b.weight", "b.bias", "c.weight", "c.bias", "d.bias", "e.weight", "e.bias"]);
    }

    #[test]
    fn index_may_not_leave_the_folder() {
        let index = |file: &str| serde_json::json!({"weight_map": {"a": file, "b": file}});
        assert_eq!(shard_names(&index("x.safetensors")), Some(vec!["x.safetensors".to_owned()]));
        assert_eq!(shard_names(&index("../x.safetensors")), None);
    }
}
