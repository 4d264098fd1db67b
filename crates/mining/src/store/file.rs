//! Rows of a store in a file of its own, gone with the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use burn::tensor::Tensor;
use kernels::layers::normalize;
use kernels::{DiskStore, DiskWriter, RowFormat};

use super::{EmbeddingStore, StorePrecision, WINDOW, read};
use crate::error::MiningError;
use crate::row_encoder::RowEncoder;

/// A file in a folder, once it is filled.
#[derive(Debug)]
pub(super) struct RowFile {
    folder: PathBuf,
    // Unmapped first, then removed.
    store: Option<DiskStore>,
    path: Option<Removed>,
}

/// Removes a file when it is dropped.
#[derive(Debug)]
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // It is of no use to anybody, and its folder is the user's to clean.
        let _ = fs::remove_file(&self.0);
    }
}

impl RowFile {
    pub(super) fn within(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), store: None, path: None }
    }

    pub(super) fn store(&self) -> Option<&DiskStore> {
        self.store.as_ref()
    }

    pub(super) fn filled(&self) -> Result<&DiskStore, MiningError> {
        self.store.as_ref().ok_or(MiningError::Unfilled)
    }

    /// Encodes all rows into a new file. Gives their squared norms.
    pub(super) fn fill(&mut self, store: &EmbeddingStore, encoder: &mut dyn RowEncoder) -> Result<Vec<Tensor<2>>, MiningError> {
        let mut norms = Vec::new();
        self.write(store, |rows| store.window(rows, encoder, &mut norms))?;
        Ok(norms)
    }

    /// A second file, with rows of length 1.
    pub(super) fn normalised(&self, store: &EmbeddingStore) -> Result<Self, MiningError> {
        let mut file = Self::within(&self.folder);
        let from = self.filled()?;
        file.write(store, |rows| {
            let ids: Vec<u32> = rows.map(|row| row as u32).collect();
            Ok(normalize(from.gather(&ids, &store.device)))
        })?;
        Ok(file)
    }

    fn write(
        &mut self,
        store: &EmbeddingStore,
        mut window: impl FnMut(std::ops::Range<usize>) -> Result<Tensor<2>, MiningError>,
    ) -> Result<(), MiningError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        (self.store, self.path) = (None, None);
        let path = self.folder.join(format!("rows-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let format = match store.precision {
            StorePrecision::F32 => RowFormat::F32,
            StorePrecision::F16 => RowFormat::F16,
        };
        let mut writer = DiskWriter::create(&path, store.dimension, format)?;
        for first in (0..store.rows).step_by(WINDOW) {
            let rows = window(first..store.rows.min(first + WINDOW))?;
            writer.append(&read(rows, "reading document rows")?)?;
        }
        self.path = Some(Removed(path));
        self.store = Some(writer.finish()?);
        Ok(())
    }
}
