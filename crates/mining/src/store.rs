//! Rows of all documents, on the device, in shards that one kernel argument can hold, or in a file.
//!
//! On the device, the encoder's rows are written in place and never pass through host memory; row i is document i whatever the order of encoding. Search
//! is `search`. Invariant: a store that answers is complete: every row finite, and none zero but those of documents without content. Encoding only
//! some rows anew, and how old each is, is `slices`; rows in a file are `file`.

mod file;
mod search;
mod slices;

use std::path::Path;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use kernels::DiskUse;
use kernels::layers::normalize;

use crate::error::MiningError;
use crate::row_encoder::{RowEncoder, encode_documents};
use file::RowFile;

pub(crate) use slices::SavedRows;

/// Neighbouring documents that are sorted by length together and written together.
const WINDOW: usize = 4096;
/// Query and document pairs scored at a time.
const PAIRS: usize = 16_384;
/// Tokens that an empty text may have: the special ones.
const SPECIAL_TOKENS: u32 = 2;

/// How rows are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StorePrecision {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats, half the memory; scores are still accumulated in 32 bits.
    F16,
}

impl StorePrecision {
    fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// How far the squared norm of a unit row may be from 1.
    fn tolerance(self) -> f32 {
        match self {
            Self::F32 => 1e-4,
            Self::F16 => 4e-3,
        }
    }
}

/// Document rows on a device, or in a file.
#[derive(Debug)]
pub struct EmbeddingStore {
    /// `[rows, dimension]` each; ids run over the shards in order.
    shards: Vec<Tensor<2>>,
    /// Where the rows are when they are not on the device.
    file: Option<RowFile>,
    rows: usize,
    dimension: usize,
    rows_per_shard: usize,
    precision: StorePrecision,
    device: Device,
    version: u64,
    encoded_at_step: Option<usize>,
    /// First row and step of each stretch of rows that were encoded together, ascending.
    ages: Vec<(usize, Option<usize>)>,
    complete: bool,
    /// Squared norms of the rows, on the host.
    squares: Vec<f32>,
}

impl EmbeddingStore {
    /// An empty store for `rows` documents; memory is taken by the first fill.
    pub fn new(rows: usize, dimension: usize, precision: StorePrecision, device: &Device) -> Self {
        let rows_per_shard = kernels::rows_per_shard(device, dimension, precision.bytes());
        Self::in_shards(rows, dimension, precision, device, rows_per_shard)
    }

    /// As [`Self::new`], with shards of so many rows.
    pub(crate) fn in_shards(rows: usize, dimension: usize, precision: StorePrecision, device: &Device, rows_per_shard: usize) -> Self {
        let device = device.clone().without_autodiff();
        Self {
            shards: Vec::new(),
            file: None,
            rows,
            dimension,
            rows_per_shard,
            precision,
            device,
            version: 0,
            encoded_at_step: None,
            ages: Vec::new(),
            complete: false,
            squares: Vec::new(),
        }
    }

    /// An empty store whose rows will lie in a file in `folder`, for as long as the store lives, and are streamed through `device` when they are searched. What is
    /// found is what a store on the device finds; fill, search and pairs need memory for a few shards only.
    pub fn in_folder(rows: usize, dimension: usize, precision: StorePrecision, device: &Device, folder: &Path) -> Self {
        Self { file: Some(RowFile::within(folder)), ..Self::new(rows, dimension, precision, device) }
    }

    /// Encodes documents `0..documents` into a new store of 32-bit rows on `device`.
    ///
    /// # Errors
    /// See [`Self::fill`].
    pub fn encode(encoder: &mut dyn RowEncoder, documents: usize, device: &Device) -> Result<Self, MiningError> {
        let mut store = Self::new(documents, encoder.dimension(), StorePrecision::F32, device);
        store.fill(encoder, None)?;
        Ok(store)
    }

    /// Encodes every document anew, into the same memory. Within windows of neighbours, documents of like length are encoded together when
    /// the encoder knows lengths. `step` is noted as the age of the rows.
    ///
    /// # Errors
    /// When the encoder fails, gives rows of another shape, or a row is not finite or is zero; the store answers nothing then.
    pub fn fill(&mut self, encoder: &mut dyn RowEncoder, step: Option<usize>) -> Result<(), MiningError> {
        self.complete = false;
        let norms = match self.file.take() {
            Some(mut file) => {
                let norms = file.fill(self, encoder);
                self.file = Some(file);
                norms?
            }
            None => self.fill_device(encoder)?,
        };
        self.squares = self.check(norms, 0, encoder.document_lengths())?;
        self.complete = true;
        self.version += 1;
        self.encoded_at_step = step;
        self.ages = vec![(0, step)];
        Ok(())
    }

    /// Gives the squared norms.
    fn fill_device(&mut self, encoder: &mut dyn RowEncoder) -> Result<Vec<Tensor<2>>, MiningError> {
        // Moved out, shard by shard: the device can then write into each rather than into a copy. A failed fill gives the memory back.
        let shards = std::mem::take(&mut self.shards);
        let shards = if shards.is_empty() { self.allocate() } else { shards };
        let mut filled = Vec::with_capacity(shards.len());
        let mut norms = Vec::new();
        let mut start = 0;
        for shard in shards {
            let rows = shard.dims()[0];
            filled.push(self.write(shard, start, 0..rows, encoder, &mut norms)?);
            start += rows;
        }
        self.shards = filled;
        Ok(norms)
    }

    fn allocate(&self) -> Vec<Tensor<2>> {
        (0..self.rows)
            .step_by(self.rows_per_shard)
            .map(|start| {
                let rows = self.rows_per_shard.min(self.rows - start);
                Tensor::zeros([rows, self.dimension], (&self.device, self.precision.dtype()))
            })
            .collect()
    }

    /// Encodes these rows of a shard whose first row is document `start`.
    fn write(
        &self,
        mut shard: Tensor<2>,
        start: usize,
        rows: std::ops::Range<usize>,
        encoder: &mut dyn RowEncoder,
        norms: &mut Vec<Tensor<2>>,
    ) -> Result<Tensor<2>, MiningError> {
        for first in rows.clone().step_by(WINDOW) {
            let last = rows.end.min(first + WINDOW);
            let window = self.window(start + first..start + last, encoder, norms)?;
            shard = shard.slice_assign([first..last, 0..self.dimension], window);
        }
        Ok(shard)
    }

    /// Encodes neighbours, `[documents, dimension]`, as the store holds them.
    fn window(
        &self,
        documents: std::ops::Range<usize>,
        encoder: &mut dyn RowEncoder,
        norms: &mut Vec<Tensor<2>>,
    ) -> Result<Tensor<2>, MiningError> {
        let ids: Vec<u32> = documents.map(|id| id as u32).collect();
        let window = encode_documents(encoder, &ids)?;
        check_shape("document rows", &window, [ids.len(), self.dimension])?;
        let window = window.cast(self.precision.dtype());
        // What the store holds, not what the encoder said: 16 bits can overflow.
        norms.push(squared_norms(&window));
        Ok(window)
    }

    fn indices(&self, indices: &[u32]) -> Tensor<1, Int> {
        indices_on(indices, &self.device)
    }

    /// Reads and checks the squared norms of rows from `first` on. One read for all of them. A failed pass on a device can look like zeros, so
    /// zeros are errors too.
    fn check(&self, norms: Vec<Tensor<2>>, first: usize, lengths: Option<&[u32]>) -> Result<Vec<f32>, MiningError> {
        if norms.is_empty() {
            return Ok(Vec::new());
        }
        let norms = read(Tensor::cat(norms, 0), "checking document rows")?;
        let without_content =
            |row: usize| lengths.and_then(|lengths| lengths.get(first + row)).is_some_and(|&length| length <= SPECIAL_TOKENS);
        let sound = |row: usize, norm: f32| norm.is_finite() && (norm > 0.0 || without_content(row));
        let mut bad = norms.iter().enumerate().filter(|&(row, &norm)| !sound(row, norm));
        if let Some((document, &norm)) = bad.next() {
            return Err(MiningError::BadRows { bad: 1 + bad.count(), rows: norms.len(), document: (first + document) as u32, norm });
        }
        Ok(norms)
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no documents.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Width of a row.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// How many times it was filled.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The step given to the last fill.
    pub fn encoded_at_step(&self) -> Option<usize> {
        self.encoded_at_step
    }

    /// Where the rows are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What searches have read from the file so far; `None` when the rows are on the device.
    pub fn disk_use(&self) -> Option<DiskUse> {
        self.file.as_ref().and_then(RowFile::store).map(kernels::DiskStore::usage)
    }

    /// The shards in order, `[rows, dimension]` each; none when the rows are in a file.
    pub fn shards(&self) -> &[Tensor<2>] {
        &self.shards
    }

    /// Rows of documents as 32-bit floats, `[ids, dimension]`, in the order of `ids`.
    ///
    /// # Errors
    /// When the store is not filled or an id is beyond it.
    pub fn rows(&self, ids: &[u32]) -> Result<Tensor<2>, MiningError> {
        self.answers()?;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= self.rows) {
            return Err(MiningError::Beyond { side: "document", id, count: self.rows });
        }
        if ids.is_empty() {
            return Ok(Tensor::zeros([0, self.dimension], (&self.device, DType::F32)));
        }
        if let Some(file) = &self.file {
            return Ok(file.filled()?.gather(ids, &self.device));
        }
        let mut parts = Vec::new();
        let mut places = vec![0; ids.len()];
        let mut gathered = 0;
        for (number, shard) in self.shards.iter().enumerate() {
            let start = number * self.rows_per_shard;
            let end = start + shard.dims()[0];
            let here: Vec<usize> = (0..ids.len()).filter(|&at| (start..end).contains(&(ids[at] as usize))).collect();
            if here.is_empty() {
                continue;
            }
            let local: Vec<u32> = here.iter().map(|&at| ids[at] - start as u32).collect();
            parts.push(shard.clone().select(0, self.indices(&local)).cast(DType::F32));
            for at in here {
                places[at] = gathered;
                gathered += 1;
            }
        }
        let rows = Tensor::cat(parts, 0);
        Ok(if places.is_sorted() { rows } else { rows.select(0, self.indices(&places)) })
    }

    /// Inner products of `(row of queries, document)` pairs. `queries` is `[q, dimension]`.
    ///
    /// # Errors
    /// When the store is not filled, a document is beyond it, or the device fails.
    pub fn similarities(&self, queries: &Tensor<2>, pairs: &[(u32, u32)]) -> Result<Vec<f32>, MiningError> {
        let queries = queries.clone().cast(DType::F32);
        let left = |rows: &[u32]| Ok(queries.clone().select(0, self.indices(rows)));
        scored(pairs, left, |documents| self.rows(documents))
    }

    /// As [`Self::similarities`], with all rows brought to length 1.
    ///
    /// # Errors
    /// See [`Self::similarities`].
    pub fn cosines(&self, queries: &Tensor<2>, pairs: &[(u32, u32)]) -> Result<Vec<f32>, MiningError> {
        let queries = normalize(queries.clone().cast(DType::F32));
        let left = |rows: &[u32]| Ok(queries.clone().select(0, self.indices(rows)));
        scored(pairs, left, |documents| Ok(normalize(self.rows(documents)?)))
    }

    /// Inner products of pairs of documents.
    ///
    /// # Errors
    /// See [`Self::similarities`].
    pub fn between(&self, pairs: &[(u32, u32)]) -> Result<Vec<f32>, MiningError> {
        scored(pairs, |documents| self.rows(documents), |documents| self.rows(documents))
    }

    /// The norm of the longest row.
    pub(crate) fn longest(&self) -> f32 {
        self.squares.iter().copied().fold(0.0, f32::max).sqrt()
    }

    /// A copy with rows of length 1 (a zero row stays zero), or `None` when this store is that already.
    pub(crate) fn normalised(&self) -> Result<Option<Self>, MiningError> {
        if self.squares.iter().all(|&square| square == 0.0 || (square - 1.0).abs() <= self.precision.tolerance()) {
            return Ok(None);
        }
        let file = self.file.as_ref().map(|file| file.normalised(self)).transpose()?;
        let dtype = self.precision.dtype();
        let shards = self.shards.iter().map(|shard| normalize(shard.clone().cast(DType::F32)).cast(dtype)).collect();
        let squares = self.squares.iter().map(|&square| if square == 0.0 { 0.0 } else { 1.0 }).collect();
        Ok(Some(Self { shards, file, device: self.device.clone(), ages: self.ages.clone(), squares, ..*self }))
    }

    /// The same rows in `precision`, in the same shards; rows in a file stay as they are. `lengths` as the encoder knows them.
    ///
    /// # Errors
    /// When a row is beyond what 16 bits hold.
    pub(crate) fn stored_as(mut self, precision: StorePrecision, lengths: Option<&[u32]>) -> Result<Self, MiningError> {
        if precision != self.precision && self.file.is_none() {
            self.precision = precision;
            self.shards = self.shards.into_iter().map(|shard| shard.cast(precision.dtype())).collect();
            self.squares = self.check(self.shards.iter().map(squared_norms).collect(), 0, lengths)?;
        }
        Ok(self)
    }

    fn answers(&self) -> Result<(), MiningError> {
        if self.complete { Ok(()) } else { Err(MiningError::Unfilled) }
    }
}

pub(crate) fn check_shape(what: &'static str, rows: &Tensor<2>, expected: [usize; 2]) -> Result<(), MiningError> {
    let got = rows.dims();
    if got == expected { Ok(()) } else { Err(MiningError::Shape { what, got, expected }) }
}

/// Squared norms of rows in whatever format, `[rows, 1]` in 32 bits.
pub(crate) fn squared_norms(rows: &Tensor<2>) -> Tensor<2> {
    let rows = rows.clone().cast(DType::F32);
    (rows.clone() * rows).sum_dim(1)
}

/// Inner products of pairs of rows.
fn scored(
    pairs: &[(u32, u32)],
    left: impl Fn(&[u32]) -> Result<Tensor<2>, MiningError>,
    right: impl Fn(&[u32]) -> Result<Tensor<2>, MiningError>,
) -> Result<Vec<f32>, MiningError> {
    let mut scores = Vec::with_capacity(pairs.len());
    for pairs in pairs.chunks(PAIRS) {
        let (first, second): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
        scores.extend(read((left(&first)? * right(&second)?).sum_dim(1), "scoring pairs")?);
    }
    Ok(scores)
}

pub(crate) fn indices_on(indices: &[u32], device: &Device) -> Tensor<1, Int> {
    let indices: Vec<i32> = indices.iter().map(|&index| index as i32).collect();
    let count = indices.len();
    Tensor::from_data(TensorData::new(indices, [count]), device)
}

/// Reads rows, `[n, m]` in whatever format, row by row.
pub(crate) fn read(rows: Tensor<2>, doing: &'static str) -> Result<Vec<f32>, MiningError> {
    let failed = |message: String| MiningError::Device { doing, message };
    let data = rows.cast(DType::F32).try_into_data().map_err(|error| failed(format!("{error:?}")))?;
    data.try_into_vec::<f32>().map_err(|error| failed(format!("{error:?}")))
}
