//! The folder of a run: where each artefact lies, and how files get there whole.
//!
//! Every write goes to a temporary name beside its target, is synced, then renamed: a reader, or a run that was killed, finds the
//! old file or the new one, never half of either.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use corpus::write::Target;

use crate::errors::Usage;

/// The file that the process at work holds locked.
pub(crate) const LOCK: &str = ".lock";

#[derive(Clone, Debug)]
pub(crate) struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// Creates the folder; one that holds anything already is refused.
    pub(crate) fn create(root: PathBuf) -> Result<Self> {
        if root.is_file() {
            return Err(Usage::new(format!("{} is a file; --out names the folder that the run creates", root.display())).into());
        }
        if root.exists() && fs::read_dir(&root).with_context(|| format!("reading {}", root.display()))?.next().is_some() {
            let resume = if root.join("config.toml").is_file() {
                format!(", or go on with it: trainer train --resume {}", root.display())
            } else {
                String::new()
            };
            return Err(Usage::new(format!("the output folder {} is not empty; choose another --out{resume}", root.display())).into());
        }
        let folder = Self { root };
        for part in ["checkpoints", "evaluation", "negatives", "tensorboard"] {
            let part = folder.root.join(part);
            fs::create_dir_all(&part).with_context(|| format!("creating {}", part.display()))?;
        }
        Ok(folder)
    }

    /// Takes the folder for this process, see [`lock`].
    ///
    /// # Errors
    /// When another process has it.
    pub(crate) fn lock(&self) -> Result<File> {
        lock(&self.root)
    }

    /// Takes back what [`Self::create`] made for a run that could not begin, unless more has been written since.
    pub(crate) fn withdraw(&self) {
        let parts = || {
            fs::read_dir(&self.root)
                .into_iter()
                .flatten()
                .flatten()
                .map(|part| part.path())
                .filter(|path| *path != self.config() && !path.ends_with(LOCK))
        };
        if parts().any(|path| fs::read_dir(path).map_or(true, |mut inside| inside.next().is_some())) {
            return;
        }
        let _ = fs::remove_file(self.config());
        let _ = fs::remove_file(self.root.join(LOCK));
        // Only empty folders can be removed this way.
        parts().for_each(|path| _ = fs::remove_dir(path));
        let _ = fs::remove_dir(&self.root);
    }

    /// An existing run.
    pub(crate) fn open(root: PathBuf) -> Result<Self, Usage> {
        if root.join("config.toml").is_file() {
            Ok(Self { root })
        } else {
            Err(Usage::new(format!("{} is no run folder: it has no config.toml", root.display())))
        }
    }

    /// Creates `runs/<name>-<number>`, empty, with the first number that is free; two runs that begin at once get two.
    pub(crate) fn numbered(name: &str) -> Result<PathBuf> {
        let runs = Path::new("runs");
        fs::create_dir_all(runs).context("creating runs")?;
        let mut number = 1u32;
        loop {
            let path = runs.join(format!("{name}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error).with_context(|| format!("creating {}", path.display())),
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("run.jsonl")
    }

    pub(crate) fn batches(&self) -> PathBuf {
        self.root.join("batches.jsonl")
    }

    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    pub(crate) fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    pub(crate) fn evaluation(&self) -> PathBuf {
        self.root.join("evaluation")
    }

    pub(crate) fn negatives(&self, version: u64) -> PathBuf {
        self.root.join("negatives").join(format!("version-{version}.jsonl"))
    }

    /// The model that a round (from 0) ended with; only in runs of several rounds.
    pub(crate) fn round(&self, round: usize) -> PathBuf {
        self.root.join("rounds").join(format!("round-{}", round + 1))
    }

    /// The encoder of the documents that a round (from 0) ended with, where it is not the trained one.
    pub(crate) fn round_documents(&self, round: usize) -> PathBuf {
        self.root.join("rounds").join(format!("round-{}-documents", round + 1))
    }

    /// What `reranker` and `reranker_end` lie in.
    pub(crate) fn rerankers(&self) -> PathBuf {
        self.root.join("rerankers")
    }

    /// The reranker of a round (from 0), as the round began with it.
    pub(crate) fn reranker(&self, round: usize) -> PathBuf {
        self.rerankers().join(format!("round-{}", round + 1))
    }

    /// What the reranker of a round (from 0) became, where it was trained at every step.
    pub(crate) fn reranker_end(&self, round: usize) -> PathBuf {
        self.rerankers().join(format!("round-{}-end", round + 1))
    }

    /// Rows of guides and teachers.
    pub(crate) fn guides(&self) -> PathBuf {
        self.root.join("guides")
    }

    /// The encoder of the documents, where it is not the trained one.
    pub(crate) fn document_model(&self) -> PathBuf {
        self.root.join("document-model")
    }

    pub(crate) fn tensorboard(&self) -> PathBuf {
        self.root.join("tensorboard")
    }

    pub(crate) fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }
}

/// Takes a folder for this process, until the file is dropped. Where the file system knows no locks nobody is kept out.
///
/// # Errors
/// When another process has it.
pub(crate) fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(Usage::new(format!("another process is at work in {}; wait for it, or end it", folder.display())).into())
        }
        _ => Ok(file),
    }
}

/// Writes a file whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let target = match Target::of(path) {
        Target::Replaced(target) => target,
        Target::InPlace => {
            let written = File::options().write(true).open(path).and_then(|mut file| file.write_all(bytes));
            return written.with_context(|| format!("writing {}", path.display()));
        }
    };
    let path = target.as_path();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.partial"));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}
