//! Scores of pairs on disk: an append-only file that is whole after any crash.
//!
//! A record is 24 bytes: a key of 128 bits, the score, a check over both. The key is a hash over model fingerprint, length limit,
//! query text and document text, so ids may change, two models never mix, and one file may serve many runs. Opening reads the file
//! once. Records go out in whole buffers, so a process that is killed leaves at most one torn record at the end, which the next one
//! cuts off; a record whose check fails is passed over. One process at a time has the file.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::TeacherError;

/// First bytes of the file, with the version of the layout.
const MAGIC: &[u8; 16] = b"dredge-scores-1\n";
/// Bytes of a record: key, score, check.
const RECORD: usize = 16 + 4 + 4;

/// What a score is stored under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScoreKey(u128);

/// Makes the keys of one model at one length.
#[derive(Debug, Clone)]
pub struct ScoreKeys {
    /// The hash after model and length, which all keys share.
    start: Sha256,
}

impl ScoreKeys {
    /// Keys of the model with this `fingerprint`, which must cover its weights, for pairs cut at `max_length` tokens.
    pub fn new(fingerprint: &str, max_length: usize) -> Self {
        let mut start = Sha256::new();
        feed(&mut start, fingerprint.as_bytes());
        start.update((max_length as u64).to_le_bytes());
        Self { start }
    }

    /// The key of a pair of texts.
    pub fn key(&self, query: &str, document: &str) -> ScoreKey {
        let mut hash = self.start.clone();
        feed(&mut hash, query.as_bytes());
        feed(&mut hash, document.as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        ScoreKey(u128::from_le_bytes(key))
    }
}

/// Lengths go first, so that no two lists of parts run together to the same bytes.
fn feed(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_le_bytes());
    hash.update(part);
}

/// The cache: all scores in memory (about 40 bytes each), and the file that they come from.
#[derive(Debug)]
pub struct ScoreCache {
    path: PathBuf,
    file: File,
    scores: HashMap<ScoreKey, f32>,
}

impl ScoreCache {
    /// Opens the cache at `path`, or makes one. Cuts a torn last record off.
    ///
    /// # Errors
    /// The file cannot be read or made, is no cache, or is in use.
    pub fn open(path: &Path) -> Result<Self, TeacherError> {
        let failed = |source| TeacherError::Cache { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(TeacherError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let length = file.metadata().map_err(failed)?.len();
        let mut head = vec![0; MAGIC.len().min(length as usize)];
        file.read_exact(&mut head).map_err(failed)?;
        if !MAGIC.starts_with(&head) {
            return Err(TeacherError::NoCache { path: path.to_owned() });
        }
        if head.len() < MAGIC.len() {
            // New, or the process that made it died at once.
            file.set_len(0).map_err(failed)?;
            file.write_all(MAGIC).and_then(|()| file.sync_data()).map_err(failed)?;
            return Ok(Self { path: path.to_owned(), file, scores: HashMap::new() });
        }
        let records = (length - MAGIC.len() as u64) / RECORD as u64;
        let whole = MAGIC.len() as u64 + records * RECORD as u64;
        if whole < length {
            tracing::warn!(file = %path.display(), "the last score was written in part and is dropped");
            file.set_len(whole).map_err(failed)?;
        }
        let (scores, damaged) = read_records(&file, records).map_err(failed)?;
        if damaged > 0 {
            tracing::warn!(file = %path.display(), damaged, "scores whose check fails are passed over");
        }
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, scores })
    }

    /// The score of a key.
    pub fn get(&self, key: ScoreKey) -> Option<f32> {
        self.scores.get(&key).copied()
    }

    /// Adds scores, in memory and in the file, in one write. A key that is there gets the new score.
    ///
    /// # Errors
    /// The file cannot be written; nothing is added in memory then.
    pub fn put_many(&mut self, scores: &[(ScoreKey, f32)]) -> Result<(), TeacherError> {
        let mut bytes = Vec::with_capacity(scores.len() * RECORD);
        for &(key, score) in scores {
            bytes.extend(record(key, score));
        }
        let before = self.file.metadata().map(|data| data.len());
        if let Err(source) = self.file.write_all(&bytes) {
            // A full disk must not leave half a record between whole ones.
            if let Ok(length) = before {
                let _ = self.file.set_len(length);
            }
            return Err(self.failed(source));
        }
        self.scores.extend(scores.iter().copied());
        Ok(())
    }

    /// Returns when everything is on the disk.
    ///
    /// # Errors
    /// The system cannot write.
    pub fn flush(&mut self) -> Result<(), TeacherError> {
        self.file.sync_data().map_err(|source| self.failed(source))
    }

    /// Number of pairs with a score.
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Whether there are no scores.
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, source: std::io::Error) -> TeacherError {
        TeacherError::Cache { path: self.path.clone(), source }
    }
}

fn record(ScoreKey(key): ScoreKey, score: f32) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..16].copy_from_slice(&key.to_le_bytes());
    bytes[16..20].copy_from_slice(&score.to_le_bytes());
    let check = check(&bytes[..20]);
    bytes[20..].copy_from_slice(&check.to_le_bytes());
    bytes
}

/// FNV-1a (32 bits): a record of zeros, which a crashed file system may leave, does not pass.
fn check(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The scores of a file that stands behind its head, and how many records are damaged.
fn read_records(file: &File, records: u64) -> std::io::Result<(HashMap<ScoreKey, f32>, u64)> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut scores = HashMap::with_capacity(records as usize);
    let mut damaged = 0;
    let mut bytes = [0; RECORD];
    for _ in 0..records {
        reader.read_exact(&mut bytes)?;
        let mut key = [0; 16];
        key.copy_from_slice(&bytes[..16]);
        let number = |from: usize| [bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]];
        if u32::from_le_bytes(number(20)) == check(&bytes[..20]) {
            scores.insert(ScoreKey(u128::from_le_bytes(key)), f32::from_le_bytes(number(16)));
        } else {
            damaged += 1;
        }
    }
    Ok((scores, damaged))
}

#[cfg(test)]
#[path = "scores_tests.rs"]
mod tests;
