//! Rows of a fixed encoder in a file of the run folder: every later round and every resumed run reads them and encodes nothing.
//!
//! The name of a file is a digest of what tells encoders and texts of a run apart (weights, pooling, tokens of every text), and behind the rows lies a digest of
//! them, so a file is either right or not there. Files are written whole; one that is damaged is made anew.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor, TensorData};
use encoder::Network;
use mining::{EmbeddingStore, EncodeError, RowEncoder};
use sha2::{Digest, Sha256};

/// Rows written at a time.
const BLOCK: usize = 4096;
/// Bytes of the digest behind the rows.
const DIGEST: usize = 32;

/// The name of the file with the rows of these texts.
pub(crate) fn name<'a>(side: &str, network: &Network, tokens: impl Iterator<Item = &'a [u32]>) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(format!("{side} {:?} {}", network.pooling(), network.normalizes()).as_bytes());
    for (name, data) in network.tensors() {
        part(name.as_bytes());
        part(data.as_bytes());
    }
    for row in tokens {
        part(&row.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
    }
    let digest: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{side}-{digest}.f32")
}

/// The rows of so many texts as `encoder` gives them: out of `path`, or encoded and then written there.
///
/// # Errors
/// When the encoder fails, or the file cannot be written or read.
pub(crate) fn store(path: &Path, encoder: &mut dyn RowEncoder, count: usize, device: &Device) -> Result<EmbeddingStore> {
    let width = encoder.dimension();
    if let Some(file) = whole(path, count * width * 4).with_context(|| format!("reading {}", path.display()))? {
        let lengths = encoder.document_lengths().map(<[u32]>::to_vec);
        return Ok(EmbeddingStore::encode(&mut Kept { file, next: 0, width, lengths, device: device.clone() }, count, device)?);
    }
    let store = EmbeddingStore::encode(encoder, count, device)?;
    write(path, &store, count).with_context(|| format!("writing {}", path.display()))?;
    Ok(store)
}

/// The file at its beginning, if it is there with so many bytes of rows and their digest.
fn whole(path: &Path, bytes: usize) -> std::io::Result<Option<File>> {
    if !fs::metadata(path).is_ok_and(|data| data.len() == (bytes + DIGEST) as u64) {
        return Ok(None);
    }
    let (mut file, mut hash, mut digest) = (File::open(path)?, Sha256::new(), [0; DIGEST]);
    let (mut left, mut block) = (bytes, vec![0; 1 << 20]);
    while left > 0 {
        let part = left.min(block.len());
        file.read_exact(&mut block[..part])?;
        hash.update(&block[..part]);
        left -= part;
    }
    file.read_exact(&mut digest)?;
    file.rewind()?;
    let right = hash.finalize().as_slice() == digest;
    if !right {
        tracing::warn!("{} is damaged; its rows are computed again", path.display());
    }
    Ok(right.then_some(file))
}

fn write(path: &Path, store: &EmbeddingStore, count: usize) -> Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let partial: PathBuf = path.with_extension("partial");
    let (mut out, mut hash) = (BufWriter::new(File::create(&partial)?), Sha256::new());
    for first in (0..count).step_by(BLOCK) {
        let ids: Vec<u32> = (first..count.min(first + BLOCK)).map(|id| id as u32).collect();
        let rows =
            store.rows(&ids)?.try_into_vec_as::<f32>().map_err(|error| anyhow::anyhow!("reading rows from the device: {error:?}"))?;
        let bytes: Vec<u8> = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
        hash.update(&bytes);
        out.write_all(&bytes)?;
    }
    out.write_all(&hash.finalize())?;
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(fs::rename(&partial, path)?)
}

/// The rows of a file in the place of an encoder.
struct Kept {
    file: File,
    /// The row at which the file stands.
    next: u32,
    width: usize,
    lengths: Option<Vec<u32>>,
    device: Device,
}

impl RowEncoder for Kept {
    fn dimension(&self) -> usize {
        self.width
    }

    fn documents(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
        let failed = |error: std::io::Error| EncodeError::new(format!("reading kept rows: {error}"));
        let bytes = self.width * 4;
        let mut all = vec![0; ids.len() * bytes];
        for (id, row) in ids.iter().zip(all.chunks_exact_mut(bytes)) {
            if *id != self.next {
                self.file.seek(SeekFrom::Start(u64::from(*id) * bytes as u64)).map_err(failed)?;
            }
            self.file.read_exact(row).map_err(failed)?;
            self.next = *id + 1;
        }
        let values: Vec<f32> = all.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
        Ok(Tensor::from_data(TensorData::new(values, [ids.len(), self.width]), &self.device))
    }

    fn queries(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
        self.documents(ids)
    }

    fn document_lengths(&self) -> Option<&[u32]> {
        self.lengths.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that say who they are, and how often they were asked for.
    struct Counting {
        asked: usize,
        device: Device,
    }

    impl RowEncoder for Counting {
        fn dimension(&self) -> usize {
            3
        }

        fn documents(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
            self.asked += ids.len();
            let values: Vec<f32> = ids.iter().flat_map(|&id| [id as f32 + 1.0, 0.1, -1.0 / (id as f32 + 3.0)]).collect();
            Ok(Tensor::from_data(TensorData::new(values, [ids.len(), 3]), &self.device))
        }

        fn queries(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
            self.documents(ids)
        }
    }

    #[test]
    fn rows_come_back_bit_for_bit_and_are_encoded_once() {
        let (folder, device) = (tempfile::tempdir().expect("a temporary folder"), Device::flex());
        let path = folder.path().join("guides/some.f32");
        let mut encoder = Counting { asked: 0, device: device.clone() };
        let ids: Vec<u32> = (0..5000).collect();
        let rows = |encoder: &mut Counting| {
            let store = store(&path, encoder, ids.len(), &device).expect("rows");
            store.rows(&ids).expect("rows").try_into_vec_as::<f32>().expect("numbers")
        };
        let first = rows(&mut encoder);
        assert_eq!((rows(&mut encoder), encoder.asked), (first.clone(), ids.len()));
        // A file that is too short is made anew, and so is one of other numbers.
        fs::write(&path, b"short").expect("written");
        assert_eq!((rows(&mut encoder), encoder.asked), (first.clone(), 2 * ids.len()));
        let mut bytes = fs::read(&path).expect("read");
        bytes[5] ^= 1;
        fs::write(&path, bytes).expect("written");
        assert_eq!((rows(&mut encoder), encoder.asked), (first, 3 * ids.len()));
    }
}
