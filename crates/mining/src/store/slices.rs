//! A store whose rows have different ages: a stretch of rows is encoded anew, the others stay. Such rows are no function of the weights
//! any more, so they can be read out for a checkpoint and put back.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{EmbeddingStore, StorePrecision, read};
use crate::error::MiningError;
use crate::row_encoder::RowEncoder;

/// All rows of a store on the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedRows {
    pub(crate) rows: usize,
    pub(crate) dimension: usize,
    ages: Vec<(usize, Option<usize>)>,
    /// Row by row, 32 bits each; written beside the rest.
    #[serde(skip)]
    pub(crate) values: Vec<f32>,
}

impl EmbeddingStore {
    /// Encodes the documents of `stretch` anew, into the same memory; the others keep their rows. `step` is noted as their age.
    /// A file is written whole: there, all are encoded.
    ///
    /// # Errors
    /// As [`Self::fill`], and when the store is not filled; after a failure the store answers nothing.
    pub fn refill(&mut self, stretch: Range<usize>, encoder: &mut dyn RowEncoder, step: Option<usize>) -> Result<(), MiningError> {
        self.answers()?;
        let stretch = stretch.start.min(self.rows)..stretch.end.min(self.rows);
        if stretch.is_empty() {
            return Ok(());
        }
        if self.file.is_some() {
            return self.fill(encoder, step);
        }
        self.complete = false;
        let mut norms = Vec::new();
        let mut start = 0;
        let mut written = Vec::with_capacity(self.shards.len());
        // Moved out, so that the device can write into each rather than into a copy.
        for shard in std::mem::take(&mut self.shards) {
            let end = start + shard.dims()[0];
            let here = stretch.start.clamp(start, end) - start..stretch.end.clamp(start, end) - start;
            written.push(if here.is_empty() { shard } else { self.write(shard, start, here, encoder, &mut norms)? });
            start = end;
        }
        self.shards = written;
        let squares = self.check(norms, stretch.start, encoder.document_lengths())?;
        self.squares[stretch.clone()].copy_from_slice(&squares);
        self.complete = true;
        self.version += 1;
        self.encoded_at_step = step;
        self.note_age(stretch, step);
        Ok(())
    }

    /// Whether it can answer.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The step at which the oldest row was encoded; `None` when it was not told, or there are no rows.
    pub fn oldest_step(&self) -> Option<usize> {
        self.ages.iter().map(|age| age.1).min().flatten()
    }

    fn note_age(&mut self, stretch: Range<usize>, step: Option<usize>) {
        let at = |row: usize| self.ages.iter().rev().find(|age| age.0 <= row).and_then(|age| age.1);
        let behind = (stretch.end, at(stretch.end));
        let mut ages: Vec<_> = self.ages.iter().copied().filter(|age| !(stretch.start..=stretch.end).contains(&age.0)).collect();
        ages.push((stretch.start, step));
        if stretch.end < self.rows {
            ages.push(behind);
        }
        ages.sort_unstable();
        self.ages = ages;
    }

    /// Reads all rows.
    pub(crate) fn save(&self) -> Result<SavedRows, MiningError> {
        self.answers()?;
        let mut values = Vec::with_capacity(self.rows * self.dimension);
        if self.file.is_some() {
            let ids: Vec<u32> = (0..self.rows as u32).collect();
            values.extend(read(self.rows(&ids)?, "reading document rows")?);
        }
        for shard in &self.shards {
            values.extend(read(shard.clone(), "reading document rows")?);
        }
        Ok(SavedRows { rows: self.rows, dimension: self.dimension, ages: self.ages.clone(), values })
    }

    /// A store with these rows.
    pub(crate) fn restored(saved: &SavedRows, precision: StorePrecision, device: &Device) -> Self {
        let mut store = Self::new(saved.rows, saved.dimension, precision, device);
        let shard = |values: &[f32]| {
            let data = TensorData::new(values.to_vec(), [values.len() / saved.dimension.max(1), saved.dimension]);
            Tensor::<2>::from_data(data, &store.device).cast(precision.dtype())
        };
        store.shards = saved.values.chunks((store.rows_per_shard * saved.dimension).max(1)).map(shard).collect();
        let square = |row: &[f32]| row.iter().map(|value| value * value).sum::<f32>();
        store.squares = saved.values.chunks(saved.dimension.max(1)).map(square).collect();
        store.complete = true;
        store.version = 1;
        store.encoded_at_step = saved.ages.iter().map(|age| age.1).max().flatten();
        store.ages.clone_from(&saved.ages);
        store
    }
}
