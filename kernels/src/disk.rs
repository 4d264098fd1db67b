//! Rows in a file: written once, whole, then mapped and read where they are asked for.
//!
//! Layout, little-endian: a header of 64 bytes (magic, version, format, rows, dimension, checksum of the rows, zeros, checksum of the header), then the rows, one
//! behind the other. A row is its numbers as f32 or f16, or a scale in f32 and one signed byte a number, `number = scale * byte`. A file appears under its name only
//! when it is complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use burn::tensor::{DType, Device, Tensor, TensorData, f16};
use memmap2::Mmap;
use thiserror::Error;

use crate::scan::widen;

const MAGIC: [u8; 8] = *b"DREDGERW";
const VERSION: u32 = 1;
const HEADER: usize = 64;
/// Bytes of a shard on its way to the device, at most: small enough that the allocator keeps the memory for the next one.
const SHARD_BYTES: usize = 16 << 20;

/// How a file holds numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFormat {
    /// 32-bit floats, as they were given.
    F32,
    /// 16-bit floats, rounded to nearest.
    F16,
    /// Signed bytes and one scale a row: `scale = max |x| / 127`, `byte = round(x / scale)`.
    I8,
}

impl RowFormat {
    const ALL: [Self; 3] = [Self::F32, Self::F16, Self::I8];

    fn bytes(self, dimension: usize) -> Option<usize> {
        match self {
            Self::F32 => dimension.checked_mul(4),
            Self::F16 => dimension.checked_mul(2),
            Self::I8 => dimension.checked_add(4),
        }
    }
}

/// A file of rows that cannot be written or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The file system's error.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// `writing` or `opening`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a file of rows, or a damaged one.
    #[error("{} is no usable file of rows: {fault}; write it anew", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what was expected.
        fault: String,
    },
    /// Numbers that are no whole rows.
    #[error("{got} numbers are no rows of width {dimension}")]
    Width {
        /// How many numbers there are.
        got: usize,
        /// Numbers of a row.
        dimension: usize,
    },
    /// A row that bytes cannot hold.
    #[error("row {row} has a number that is not finite, which 8-bit rows cannot hold")]
    NotFinite {
        /// The row.
        row: usize,
    },
}

/// Writes a file of rows. It takes its name in [`Self::finish`]; dropped before, it leaves nothing.
#[derive(Debug)]
pub struct DiskWriter {
    path: PathBuf,
    temporary: PathBuf,
    out: Option<BufWriter<File>>,
    format: RowFormat,
    dimension: usize,
    rows: usize,
    checksum: Checksum,
    bytes: Vec<u8>,
}

impl DiskWriter {
    /// A file of rows of width `dimension`, under a temporary name beside `path`.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path, dimension: usize, format: RowFormat) -> Result<Self, DiskError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let temporary = path.with_extension(format!("{}-{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let create = || {
            let mut out = BufWriter::with_capacity(1 << 20, File::create(&temporary)?);
            out.write_all(&[0; HEADER])?;
            Ok(out)
        };
        let out = create().map_err(|source| DiskError::Io { doing: "writing", path: temporary.clone(), source })?;
        let (path, checksum) = (path.to_owned(), Checksum::default());
        Ok(Self { path, temporary, out: Some(out), format, dimension, rows: 0, checksum, bytes: Vec::new() })
    }

    /// Appends rows, `[n, dimension]`, row-major.
    ///
    /// # Errors
    /// When the numbers are no whole rows, the format cannot hold them, or the disk is full.
    pub fn append(&mut self, rows: &[f32]) -> Result<(), DiskError> {
        let dimension = self.dimension;
        if dimension == 0 || !rows.len().is_multiple_of(dimension) {
            return Err(DiskError::Width { got: rows.len(), dimension });
        }
        self.bytes.clear();
        for (row, numbers) in rows.chunks_exact(dimension).enumerate() {
            match self.format {
                RowFormat::F32 => self.bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes())),
                RowFormat::F16 => self.bytes.extend(numbers.iter().flat_map(|&number| f16::from_f32(number).to_bits().to_le_bytes())),
                RowFormat::I8 => {
                    if !numbers.iter().all(|number| number.is_finite()) {
                        return Err(DiskError::NotFinite { row: self.rows + row });
                    }
                    let scale = numbers.iter().fold(0f32, |most, number| most.max(number.abs())) / 127.0;
                    self.bytes.extend(scale.to_le_bytes());
                    // A scale of 0 makes no byte count.
                    let byte = |number: &f32| if scale > 0.0 { (number / scale).round().clamp(-127.0, 127.0) as i8 } else { 0 };
                    self.bytes.extend(numbers.iter().map(|number| byte(number) as u8));
                }
            }
        }
        self.checksum.add(&self.bytes);
        self.rows += rows.len() / dimension;
        match &mut self.out {
            Some(out) => {
                out.write_all(&self.bytes).map_err(|source| DiskError::Io { doing: "writing", path: self.temporary.clone(), source })
            }
            None => Ok(()),
        }
    }

    /// Gives the file its name and opens it.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> Result<DiskStore, DiskError> {
        let header = header(self.format, self.rows, self.dimension, self.checksum.0);
        let (out, temporary, path) = (self.out.take(), &self.temporary, &self.path);
        let write = || {
            let Some(mut out) = out else { return Ok(()) };
            out.seek(SeekFrom::Start(0))?;
            out.write_all(&header)?;
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(temporary, path)
        };
        write().map_err(|source| DiskError::Io { doing: "writing", path: path.clone(), source })?;
        DiskStore::open(path)
    }
}

impl Drop for DiskWriter {
    fn drop(&mut self) {
        // Gone already when it was finished.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn header(format: RowFormat, rows: usize, dimension: usize, checksum: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&(format as u32).to_le_bytes());
    for (place, number) in [rows as u64, dimension as u64, checksum].into_iter().enumerate() {
        header[16 + 8 * place..][..8].copy_from_slice(&number.to_le_bytes());
    }
    let mut own = Checksum::default();
    own.add(&header[..HEADER - 8]);
    header[HEADER - 8..].copy_from_slice(&own.0.to_le_bytes());
    header
}

/// FNV-1a, 64 bits: against damage, not against forgery.
#[derive(Debug, PartialEq)]
struct Checksum(u64);

impl Default for Checksum {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    }
}

/// What searches have read from a file so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DiskUse {
    /// Rows streamed through the device, one pass counting each row once.
    pub rows: u64,
    /// Seconds of those passes.
    pub seconds: f64,
    /// Seconds of them in which the searching thread waited for rows. A GPU may still have been at work.
    pub waited: f64,
}

/// Rows in a file, mapped. A [`crate::Store`] to search.
#[derive(Debug)]
pub struct DiskStore {
    map: Mmap,
    path: PathBuf,
    format: RowFormat,
    rows: usize,
    dimension: usize,
    row_bytes: usize,
    checksum: u64,
    /// Fewer than the device could take, for tests.
    pub(crate) most_rows: usize,
    usage: Mutex<DiskUse>,
}

impl DiskStore {
    /// Opens a file that [`DiskWriter`] wrote. Looks at its header and its length, not at the rows: see [`Self::verify`].
    ///
    /// # Errors
    /// When it cannot be opened or is malformed.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let malformed = |fault: String| DiskError::Malformed { path: path.to_owned(), fault };
        let io = |source| DiskError::Io { doing: "opening", path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        if length < HEADER as u64 {
            return Err(malformed(format!("it has {length} bytes, a header has {HEADER}")));
        }
        // SAFETY: files are written under another name and renamed when complete; no code of ours alters one in place. Whoever cuts a file short while it is in
        // use ends this process (SIGBUS), which a map cannot guard against.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| map[at + byte]));
        let (version, kind) = (word(8) as u32, (word(8) >> 32) as usize);
        let (rows, dimension, checksum) = (word(16), word(24), word(32));
        if map[..8] != MAGIC {
            return Err(malformed("it does not begin like one".to_owned()));
        }
        if version != VERSION {
            return Err(malformed(format!("it has version {version}, expected {VERSION}")));
        }
        let sizes = usize::try_from(rows).ok().zip(usize::try_from(dimension).ok());
        let known = RowFormat::ALL.get(kind).copied().zip(sizes);
        let known = known.filter(|&(format, (rows, dimension))| map[..HEADER] == header(format, rows, dimension, checksum));
        let Some((format, (rows, dimension))) = known else {
            return Err(malformed("its header does not agree with the header's checksum".to_owned()));
        };
        let row_bytes = format.bytes(dimension);
        let expected = row_bytes.and_then(|bytes| bytes.checked_mul(rows)).and_then(|bytes| bytes.checked_add(HEADER));
        let (Some(row_bytes), Some(expected)) = (row_bytes, expected) else {
            return Err(malformed(format!("{rows} rows of width {dimension} do not fit this machine")));
        };
        if length != expected as u64 {
            return Err(malformed(format!("it has {length} bytes, {rows} rows of width {dimension} have {expected}")));
        }
        let (path, usage) = (path.to_owned(), Mutex::default());
        Ok(Self { map, path, format, rows, dimension, row_bytes, checksum, most_rows: usize::MAX, usage })
    }

    /// Reads all rows and compares their checksum.
    ///
    /// # Errors
    /// When a bit has changed since they were written.
    pub fn verify(&self) -> Result<(), DiskError> {
        let mut sum = Checksum::default();
        sum.add(&self.map[HEADER..]);
        let fault = "its rows do not agree with their checksum".to_owned();
        if sum.0 == self.checksum { Ok(()) } else { Err(DiskError::Malformed { path: self.path.clone(), fault }) }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a row.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// How the file holds numbers.
    #[must_use]
    pub fn format(&self) -> RowFormat {
        self.format
    }

    /// What searches have read so far.
    #[must_use]
    pub fn usage(&self) -> DiskUse {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, seconds: f64, waited: f64) {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.rows += self.rows as u64;
        usage.seconds += seconds;
        usage.waited += waited;
    }

    /// Rows of a shard on `device`, and whether they are 16-bit floats there.
    pub(crate) fn shards(&self, device: &Device) -> (usize, bool) {
        let half = self.format == RowFormat::F16 && crate::scan::stores_half(device);
        let bytes = if half { 2 } else { 4 };
        let most = crate::max_rows_per_shard(device, self.dimension, bytes).min(SHARD_BYTES / (bytes * self.dimension.max(1)));
        (most.min(self.most_rows).max(1), half)
    }

    /// Rows as tensor data, `[rows, dimension]`, f16 (from f16 alone) or f32.
    pub(crate) fn read(&self, rows: Range<usize>, half: bool) -> TensorData {
        let shape = [rows.len(), self.dimension];
        let bytes = &self.map[HEADER + rows.start * self.row_bytes..HEADER + rows.end * self.row_bytes];
        if half && self.format == RowFormat::F16 {
            return TensorData::new(halves(bytes), shape);
        }
        let mut numbers = Vec::with_capacity(rows.len() * self.dimension);
        self.decode(bytes, &mut numbers);
        TensorData::new(numbers, shape)
    }

    /// Some rows as 32-bit floats, `[ids, dimension]`, in the order of `ids`.
    ///
    /// # Panics
    /// When an id is not below [`Self::rows`].
    #[must_use]
    pub fn gather(&self, ids: &[u32], device: &Device) -> Tensor<2> {
        let mut numbers = Vec::with_capacity(ids.len() * self.dimension);
        for &id in ids {
            self.decode(&self.map[HEADER + id as usize * self.row_bytes..][..self.row_bytes], &mut numbers);
        }
        Tensor::from_data(TensorData::new(numbers, [ids.len(), self.dimension]), (device, DType::F32))
    }

    /// Appends rows in 32 bits.
    fn decode(&self, bytes: &[u8], numbers: &mut Vec<f32>) {
        match self.format {
            RowFormat::F32 => numbers.extend(bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))),
            RowFormat::F16 => {
                let halves = halves(bytes);
                let begin = numbers.len();
                numbers.resize(begin + halves.len(), 0.0);
                widen(&halves, &mut numbers[begin..]);
            }
            RowFormat::I8 => {
                for row in bytes.chunks_exact(self.row_bytes) {
                    let scale = f32::from_le_bytes([row[0], row[1], row[2], row[3]]);
                    numbers.extend(row[4..].iter().map(|&byte| f32::from(byte as i8) * scale));
                }
            }
        }
    }
}

fn halves(bytes: &[u8]) -> Vec<f16> {
    bytes.chunks_exact(2).map(|two| f16::from_bits(u16::from_le_bytes([two[0], two[1]]))).collect()
}

#[cfg(test)]
mod tests;
