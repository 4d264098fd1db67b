//! Token ids of a whole collection, made once and then memory-mapped from a cache folder.
//!
//! The name of a cache file is a digest of everything that changes its content, so a file is either right or not found:
//! nothing is ever invalidated, and files of other settings lie beside it. Turning one text into ids is the business of
//! `tokenizer.rs`. Invariant: a file is written under a temporary name, synced and renamed, and never altered afterwards.
//!
//! Layout, in the byte order of the machine: magic, version, row count, token count, key (64 bytes in all); `rows + 1`
//! offsets into the ids as `u64`; the ids as `u32`.

use std::{
    fmt,
    fs::{self, File},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use memmap2::Mmap;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::{
    error::CorpusError,
    texts::Texts,
    tokenizer::{TextTokenizer, Truncating, hex},
};

const MAGIC: u64 = u64::from_ne_bytes(*b"DrdgTok\n");
/// Goes up with every change of the layout or of what a row holds.
const VERSION: u64 = 1;
/// Texts (and bytes of text) that are tokenised before their ids are written: bounds memory, and feeds every core.
const BLOCK_TEXTS: usize = 16_384;
const BLOCK_BYTES: usize = 8 << 20;

/// How texts of one side become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSpec<'a> {
    /// Put in front of every text.
    pub prompt: &'a str,
    /// Longest row, in tokens, special tokens included.
    pub max_length: usize,
}

/// Rows of token ids, one per text, in the order of the texts.
pub struct Tokens {
    storage: Storage,
}

enum Storage {
    Memory { offsets: Vec<u64>, ids: Vec<u32> },
    Mapped(Mapped),
}

/// A checked cache file; `map` is the header, `rows + 1` offsets and the ids.
struct Mapped {
    map: Mmap,
    rows: usize,
}

/// Magic, version, rows, tokens, and the key in four parts.
type Header = [u64; 8];

fn header(rows: usize, tokens: u64, key: &[u8; 32]) -> Header {
    let [a, b, c, d]: [u64; 4] = bytemuck::cast(*key);
    [MAGIC, VERSION, rows as u64, tokens, a, b, c, d]
}

impl Tokens {
    /// Tokenises `texts`, or maps the cache file of an earlier call with the same tokenizer, prompt, length and texts.
    /// Without a cache folder the ids are held in memory. A damaged file is made anew, with a warning in the log.
    ///
    /// # Errors
    /// [`CorpusError::Tokenizer`] as [`TextTokenizer::encode_all`]; [`CorpusError::Cache`] when the cache folder cannot
    /// be written.
    pub fn prepare(cache: Option<&Path>, tokenizer: &TextTokenizer, spec: &TokenSpec<'_>, texts: &Texts) -> Result<Self, CorpusError> {
        let truncating = tokenizer.truncating(spec.prompt, spec.max_length)?;
        let Some(folder) = cache else {
            let mut ids = Vec::new();
            let offsets = tokenise(&truncating, texts, |row| {
                ids.extend_from_slice(row);
                Ok(())
            })?;
            return Ok(Self { storage: Storage::Memory { offsets, ids } });
        };
        let key = key(tokenizer, spec, texts);
        let path = folder.join(format!("{}.tokens", hex(&key)));
        let mapped = match Mapped::open(&path, &key, texts.len()) {
            Ok(mapped) => mapped,
            Err(fault) => {
                if !matches!(&fault, Fault::Io(error) if error.kind() == io::ErrorKind::NotFound) {
                    tracing::warn!(file = %path.display(), %fault, "the token cache is damaged and is made anew");
                }
                write(&path, &key, &truncating, texts)?;
                Mapped::open(&path, &key, texts.len()).map_err(|fault| CorpusError::Cache { path: path.clone(), source: fault.into() })?
            }
        };
        Ok(Self { storage: Storage::Mapped(mapped) })
    }

    /// The token ids of text `index`.
    ///
    /// # Panics
    /// When there is no such text, as indexing a slice does.
    pub fn row(&self, index: u32) -> &[u32] {
        let (offsets, ids) = self.parts();
        let row = index as usize;
        &ids[offsets[row] as usize..offsets[row + 1] as usize]
    }

    /// Row `index` of these, or row `index - len` of `beyond`: for texts outside the corpus whose ids follow those of the corpus.
    /// These stay the corpus alone, so whoever walks over them never meets such a text.
    ///
    /// # Panics
    /// When neither has such a text.
    pub fn row_beyond<'a>(&'a self, beyond: &'a Self, index: u32) -> &'a [u32] {
        match index.checked_sub(self.len() as u32) {
            None => self.row(index),
            Some(index) => beyond.row(index),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.parts().0.len() - 1
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of all rows together.
    pub fn total_tokens(&self) -> u64 {
        self.parts().1.len() as u64
    }

    fn parts(&self) -> (&[u64], &[u32]) {
        match &self.storage {
            Storage::Memory { offsets, ids } => (offsets, ids),
            Storage::Mapped(mapped) => mapped.parts(),
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let storage = match self.storage {
            Storage::Memory { .. } => "memory",
            Storage::Mapped(_) => "mapped",
        };
        out.debug_struct("Tokens").field("rows", &self.len()).field("tokens", &self.total_tokens()).field("storage", &storage).finish()
    }
}

/// Why a cache file is not used.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{got} bytes long, expected {expected}")]
    Length { got: u64, expected: u64 },
    #[error("not the header of this file (version {VERSION})")]
    Header,
    #[error("offsets that do not ascend from 0 to the number of tokens")]
    Offsets,
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io(error) => error,
            other => Self::new(io::ErrorKind::InvalidData, other.to_string()),
        }
    }
}

impl Mapped {
    fn open(path: &Path, key: &[u8; 32], rows: usize) -> Result<Self, Fault> {
        let file = File::open(path)?;
        let got = file.metadata()?.len();
        let shortest = (size_of::<Header>() + (rows + 1) * size_of::<u64>()) as u64;
        if got < shortest {
            return Err(Fault::Length { got, expected: shortest });
        }
        // SAFETY: cache files are written under another name and renamed when complete; no code of ours alters one in
        // place. Nothing else writes into this folder; whoever cuts a file short while it is in use ends this process
        // (SIGBUS), which a map cannot guard against.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file)? };
        let found: Header = bytemuck::pod_read_unaligned(&map[..size_of::<Header>()]);
        let tokens = found[3];
        if found != header(rows, tokens, key) {
            return Err(Fault::Header);
        }
        let expected = tokens.checked_mul(size_of::<u32>() as u64).and_then(|ids| ids.checked_add(shortest)).ok_or(Fault::Header)?;
        if got != expected {
            return Err(Fault::Length { got, expected });
        }
        let mapped = Self { map, rows };
        let (offsets, _) = mapped.parts();
        if offsets[0] != 0 || offsets[rows] != tokens || !offsets.is_sorted() {
            return Err(Fault::Offsets);
        }
        Ok(mapped)
    }

    /// Offsets and ids. A map starts on a page, and the header is 64 bytes long, so both are aligned.
    fn parts(&self) -> (&[u64], &[u32]) {
        let (offsets, ids) = self.map[size_of::<Header>()..].split_at((self.rows + 1) * size_of::<u64>());
        (bytemuck::cast_slice(offsets), bytemuck::cast_slice(ids))
    }
}

/// Sha256 over everything that decides what a file holds. Every part is preceded by its length, so no two lists of parts
/// run together to the same bytes.
fn key(tokenizer: &TextTokenizer, spec: &TokenSpec<'_>, texts: &Texts) -> [u8; 32] {
    let blocks: Vec<[u8; 32]> = (0..texts.len().div_ceil(BLOCK_TEXTS))
        .into_par_iter()
        .map(|block| {
            let mut digest = Sha256::new();
            for id in block * BLOCK_TEXTS..((block + 1) * BLOCK_TEXTS).min(texts.len()) {
                feed(&mut digest, texts.get(id as u32).as_bytes());
            }
            digest.finalize().into()
        })
        .collect();
    let mut digest = Sha256::new();
    feed(&mut digest, &VERSION.to_le_bytes());
    feed(&mut digest, tokenizer.fingerprint().as_bytes());
    feed(&mut digest, spec.prompt.as_bytes());
    feed(&mut digest, &(spec.max_length as u64).to_le_bytes());
    feed(&mut digest, &(texts.len() as u64).to_le_bytes());
    for block in &blocks {
        feed(&mut digest, block);
    }
    digest.finalize().into()
}

fn feed(digest: &mut Sha256, part: &[u8]) {
    digest.update((part.len() as u64).to_le_bytes());
    digest.update(part);
}

/// Hands every row to `sink`, in order; the offsets of the rows, one more than there are rows.
fn tokenise(
    truncating: &Truncating<'_>,
    texts: &Texts,
    mut sink: impl FnMut(&[u32]) -> Result<(), CorpusError>,
) -> Result<Vec<u64>, CorpusError> {
    let mut offsets = Vec::with_capacity(texts.len() + 1);
    let mut total = 0;
    offsets.push(total);
    let mut start = 0;
    while start < texts.len() {
        let mut end = start;
        let mut bytes = 0;
        while end < texts.len() && end - start < BLOCK_TEXTS && bytes < BLOCK_BYTES {
            bytes += texts.get(end as u32).len();
            end += 1;
        }
        let rows: Vec<Vec<u32>> =
            (start..end).into_par_iter().map(|id| truncating.encode(texts.get(id as u32))).collect::<Result<_, _>>()?;
        for row in &rows {
            sink(row)?;
            total += row.len() as u64;
            offsets.push(total);
        }
        start = end;
    }
    Ok(offsets)
}

/// Writes a cache file whole or not at all.
fn write(path: &Path, key: &[u8; 32], truncating: &Truncating<'_>, texts: &Texts) -> Result<(), CorpusError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|source| CorpusError::Cache { path: folder.to_owned(), source })?;
    }
    let temporary = temporary(path);
    let written = fill(&temporary, key, truncating, texts)
        .and_then(|()| fs::rename(&temporary, path).map_err(|source| CorpusError::Cache { path: path.to_owned(), source }));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A name that no other writer uses, be it in this process or another.
fn temporary(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    path.with_extension(format!("{}-{}.tmp", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
}

fn fill(path: &Path, key: &[u8; 32], truncating: &Truncating<'_>, texts: &Texts) -> Result<(), CorpusError> {
    let fault = |source| CorpusError::Cache { path: path.to_owned(), source };
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(fault)?);
    // Ids first, behind a gap: how many there are, and where rows begin, is known only when all are written.
    let gap = size_of::<Header>() + (texts.len() + 1) * size_of::<u64>();
    out.seek(SeekFrom::Start(gap as u64)).map_err(fault)?;
    let offsets = tokenise(truncating, texts, |row| out.write_all(bytemuck::cast_slice(row)).map_err(fault))?;
    let header = header(texts.len(), offsets[texts.len()], key);
    out.seek(SeekFrom::Start(0)).map_err(fault)?;
    out.write_all(bytemuck::bytes_of(&header)).map_err(fault)?;
    out.write_all(bytemuck::cast_slice(&offsets)).map_err(fault)?;
    let file = out.into_inner().map_err(|error| fault(error.into_error()))?;
    file.sync_all().map_err(fault)
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
