//! Checkpoints: weights, optimiser, position, miner, and the best weights so far.
//!
//! A checkpoint is a folder `step-N` whose manifest lists its files with their SHA-256. The folder is written under a temporary
//! name and renamed last, so one that is there is complete; a damaged one (manifest and files differ) is passed over for the one
//! before it. All random draws are functions of (seed, step), so no generator state needs saving.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::{DType, TensorData};
use corpus::write::sync_folder;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::errors::chain;
use crate::evaluation::Summary;
use crate::runfolder::write_whole;

/// Named tensors, as the encoder and the optimiser give and take them.
pub(crate) type Tensors = Vec<(String, TensorData)>;

/// Everything about a run that is neither weight nor configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Steps done.
    pub(crate) step: usize,
    /// The round that weights and negatives belong to, from 0.
    #[serde(default)]
    pub(crate) round: usize,
    /// The step that it began at.
    #[serde(default)]
    pub(crate) round_began: usize,
    /// Versions of the negatives in the rounds before this one.
    #[serde(default)]
    pub(crate) versions: u64,
    /// Length of run.jsonl in bytes at this point.
    pub(crate) log_length: u64,
    /// Seconds spent so far, over all parts of an interrupted run.
    pub(crate) seconds: f64,
    /// Of these, training and mining.
    #[serde(default)]
    pub(crate) busy_seconds: f64,
    /// Of these, mining.
    #[serde(default)]
    pub(crate) mining_seconds: f64,
    pub(crate) before: Option<Summary>,
    pub(crate) bm25: Option<Summary>,
    /// Best figure on the evaluation split and the step it was reached at.
    pub(crate) best: Option<(f64, usize)>,
}

pub(crate) struct Checkpoint {
    pub(crate) position: Position,
    pub(crate) weights: Tensors,
    pub(crate) optimizer: Tensors,
    pub(crate) best: Option<Tensors>,
    /// The miner's own serialised state.
    pub(crate) miner: Vec<u8>,
    /// State of parts that not every run has, by file name.
    pub(crate) parts: Parts,
}

/// Files of a checkpoint by name.
pub(crate) type Parts = BTreeMap<String, Vec<u8>>;

const MANIFEST: &str = "manifest.json";

impl Checkpoint {
    /// Writes `folder/step-N` and removes all but the newest `keep` checkpoints. Those of later steps are removed too: the run was resumed
    /// without them, since they were damaged.
    pub(crate) fn write(&self, folder: &Path, keep: usize) -> Result<PathBuf> {
        let target = folder.join(format!("step-{}", self.position.step));
        let temporary = folder.join(format!(".step-{}.partial", self.position.step));
        let _ = fs::remove_dir_all(&temporary);
        fs::create_dir_all(&temporary).with_context(|| format!("creating {}", temporary.display()))?;
        let mut files = vec![
            ("weights.safetensors", to_safetensors(&self.weights)?),
            ("optimizer.safetensors", to_safetensors(&self.optimizer)?),
            ("miner.bin", self.miner.clone()),
            ("position.json", serde_json::to_vec_pretty(&self.position)?),
        ];
        if let Some(best) = &self.best {
            files.push(("best.safetensors", to_safetensors(best)?));
        }
        files.extend(self.parts.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())));
        let mut manifest = BTreeMap::new();
        for (name, bytes) in &files {
            write_whole(&temporary.join(name), bytes)?;
            manifest.insert(*name, digest(bytes));
        }
        write_whole(&temporary.join(MANIFEST), &serde_json::to_vec_pretty(&manifest)?)?;
        if target.exists() {
            fs::remove_dir_all(&target).with_context(|| format!("replacing {}", target.display()))?;
        }
        // Not every file system can; the checkpoint is whole all the same.
        let _ = sync_folder(&temporary);
        fs::rename(&temporary, &target).with_context(|| format!("completing {}", target.display()))?;
        let _ = sync_folder(folder);
        let (passed_over, own): (Vec<_>, Vec<_>) = complete(folder)?.into_iter().partition(|(step, _)| *step > self.position.step);
        for (_, old) in passed_over.into_iter().chain(own.into_iter().rev().skip(keep)) {
            fs::remove_dir_all(&old).with_context(|| format!("removing the old checkpoint {}", old.display()))?;
        }
        Ok(target)
    }

    /// The newest checkpoint that is whole. None when there is no checkpoint yet.
    ///
    /// # Errors
    /// When there are some, and none is whole: to begin anew is for people to decide.
    pub(crate) fn newest(folder: &Path) -> Result<Option<Self>> {
        let found = complete(folder)?;
        for (_, path) in found.iter().rev() {
            match Self::read(path) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error) => tracing::warn!("passing over the checkpoint {}: {}", path.display(), chain(&error)),
            }
        }
        match found.is_empty() {
            true => Ok(None),
            false => bail!("no checkpoint in {} is whole; remove what is in there, and the run begins anew", folder.display()),
        }
    }

    fn read(path: &Path) -> Result<Self> {
        let manifest: BTreeMap<String, String> = serde_json::from_slice(&fs::read(path.join(MANIFEST)).context("it has no manifest")?)?;
        let mut files = Parts::new();
        for (name, expected) in manifest {
            let bytes = fs::read(path.join(&name)).with_context(|| format!("{name} is missing"))?;
            if digest(&bytes) != expected {
                bail!("{name} is damaged: its SHA-256 is not the manifest's");
            }
            files.insert(name, bytes);
        }
        let mut take = |name: &str| files.remove(name).with_context(|| format!("{name} is missing"));
        Ok(Self {
            position: serde_json::from_slice(&take("position.json")?)?,
            weights: from_safetensors(&take("weights.safetensors")?)?,
            optimizer: from_safetensors(&take("optimizer.safetensors")?)?,
            miner: take("miner.bin")?,
            best: take("best.safetensors").ok().map(|bytes| from_safetensors(&bytes)).transpose()?,
            parts: files,
        })
    }
}

/// The checkpoints of a folder by step.
fn complete(folder: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
        let step =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("step-")).and_then(|step| step.parse().ok());
        if let Some(step) = step {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// SHA-256, in hex.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Tensors as a safetensors file: f32, and i64 for counters.
pub(crate) fn to_safetensors(tensors: &Tensors) -> Result<Vec<u8>> {
    let views = tensors
        .iter()
        .map(|(name, data)| {
            let dtype = match data.dtype() {
                DType::F32 => Dtype::F32,
                DType::I64 => Dtype::I64,
                other => bail!("tensor {name} is {other:?}; checkpoints hold f32 and i64"),
            };
            Ok((name.as_str(), TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())?))
        })
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize(views, None).context("writing safetensors")
}

/// The inverse of [`to_safetensors`].
pub(crate) fn from_safetensors(bytes: &[u8]) -> Result<Tensors> {
    let file = SafeTensors::deserialize(bytes).context("reading safetensors")?;
    file.iter()
        .map(|(name, view)| {
            let shape = view.shape().to_vec();
            let data = match view.dtype() {
                Dtype::F32 => TensorData::new(values(view.data(), f32::from_le_bytes), shape),
                Dtype::I64 => TensorData::new(values(view.data(), i64::from_le_bytes), shape),
                other => bail!("tensor {name} is {other:?}, expected F32 or I64"),
            };
            Ok((name.to_owned(), data))
        })
        .collect()
}

fn values<T, const N: usize>(bytes: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(step: usize) -> Checkpoint {
        let tensors = vec![
            ("a.weight".to_owned(), TensorData::new(vec![1.0f32, -0.0, f32::MIN_POSITIVE, 3.5], [2, 2])),
            ("a.weight.step".to_owned(), TensorData::new(vec![7i64], [1])),
        ];
        Checkpoint {
            position: Position { step, ..Position::default() },
            weights: tensors.clone(),
            optimizer: tensors,
            best: None,
            miner: vec![1, 2, 3],
            parts: Parts::from([("queue".to_owned(), vec![4, 5])]),
        }
    }

    #[test]
    fn a_checkpoint_reads_back_bit_for_bit_and_old_ones_go() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for step in [10, 20, 100] {
            checkpoint(step).write(folder.path(), 2).expect("it is written");
        }
        let steps: Vec<usize> = complete(folder.path()).expect("the folder is readable").into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [20, 100]);
        let newest = Checkpoint::newest(folder.path()).expect("readable").expect("there is one");
        assert_eq!(newest.position.step, 100);
        assert_eq!(newest.weights.len(), 2);
        for (name, written) in checkpoint(100).weights {
            let (_, read) = newest.weights.iter().find(|(found, _)| *found == name).expect("every tensor is there");
            assert_eq!((read.dtype(), read.as_bytes()), (written.dtype(), written.as_bytes()), "{name}");
        }
        assert_eq!(newest.miner, [1, 2, 3]);
        assert_eq!(newest.parts, checkpoint(100).parts);
    }

    #[test]
    fn a_damaged_checkpoint_is_passed_over() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        checkpoint(1).write(folder.path(), 5).expect("it is written");
        let newest = checkpoint(2).write(folder.path(), 5).expect("it is written");
        fs::write(newest.join("miner.bin"), b"x").expect("the file is there");
        let found = Checkpoint::newest(folder.path()).expect("readable").expect("the older one is whole");
        assert_eq!(found.position.step, 1);
    }

    #[test]
    fn a_damaged_checkpoint_of_a_later_step_costs_no_new_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for step in [30, 40] {
            let path = checkpoint(step).write(folder.path(), 2).expect("it is written");
            fs::write(path.join("weights.safetensors"), b"x").expect("the file is there");
        }
        let error = Checkpoint::newest(folder.path()).err().expect("none is whole").to_string();
        assert!(error.contains("no checkpoint in"), "{error}");
        for (step, kept) in [(10, vec![10]), (20, vec![10, 20]), (30, vec![20, 30])] {
            checkpoint(step).write(folder.path(), 2).expect("it is written");
            let steps: Vec<usize> = complete(folder.path()).expect("the folder is readable").into_iter().map(|(step, _)| step).collect();
            assert_eq!(steps, kept);
            assert_eq!(Checkpoint::newest(folder.path()).expect("readable").map(|it| it.position.step), Some(step));
        }
    }
}
