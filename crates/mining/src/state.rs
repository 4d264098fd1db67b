//! The miner's state as bytes, for checkpoints: a header in JSON, then the lists as little-endian numbers.
//!
//! Random numbers have no state (`chance`), and the store is a function of the weights, so lists, their version and their age are all
//! there is. The configuration is kept beside them: lists made under another one are refused.

use serde::{Deserialize, Serialize};

use crate::config::NegativesConfig;
use crate::error::MiningError;
use crate::lists::{Entry, Lists};
use crate::schedule::Moment;

const MAGIC: &[u8; 8] = b"DREDGEN1";
const OFFSET_BYTES: usize = 8;
const ENTRY_BYTES: usize = 12;

/// Everything about the state but the lists.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub(crate) version: u64,
    pub(crate) seed: u64,
    pub(crate) config: NegativesConfig,
    pub(crate) documents: usize,
    pub(crate) queries: usize,
    /// Last refresh of each source; a source that had one has lists.
    pub(crate) last: Vec<Option<Moment>>,
    /// Lengths of each source's offsets and entries.
    pub(crate) lengths: Vec<(usize, usize)>,
}

pub(crate) fn write(header: &Header, lists: &[Lists]) -> Result<Vec<u8>, MiningError> {
    let json = serde_json::to_vec(header).map_err(|error| faulty(error.to_string()))?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend((json.len() as u64).to_le_bytes());
    bytes.extend(json);
    for lists in lists {
        bytes.extend(lists.offsets().iter().flat_map(|offset| offset.to_le_bytes()));
        let numbers = lists.entries().iter().flat_map(|entry| [entry.document, entry.rank, entry.score.to_bits()]);
        bytes.extend(numbers.flat_map(u32::to_le_bytes));
    }
    Ok(bytes)
}

pub(crate) fn read(bytes: &[u8]) -> Result<(Header, Vec<Lists>), MiningError> {
    let mut rest = Bytes(bytes);
    if rest.take(MAGIC.len())? != MAGIC {
        return Err(faulty("it was not written by this version of the program".into()));
    }
    let length = number(rest.take(8)?);
    let json = rest.take(usize::try_from(length).unwrap_or(usize::MAX))?;
    let header: Header = serde_json::from_slice(json).map_err(|error| faulty(error.to_string()))?;
    let mut lists = Vec::with_capacity(header.lengths.len());
    for &(offsets, entries) in &header.lengths {
        let offsets = rest.take(offsets.saturating_mul(OFFSET_BYTES))?.chunks_exact(OFFSET_BYTES).map(number).collect();
        let entries = rest.take(entries.saturating_mul(ENTRY_BYTES))?.chunks_exact(ENTRY_BYTES).map(entry).collect();
        lists.push(Lists::from_parts(offsets, entries).ok_or_else(|| faulty("the rows of a list do not fit its entries".into()))?);
    }
    if !rest.0.is_empty() {
        return Err(faulty(format!("{} bytes are left over", rest.0.len())));
    }
    Ok((header, lists))
}

pub(crate) fn faulty(problem: String) -> MiningError {
    MiningError::State { problem }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], MiningError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| faulty("it ends too early".into()))?;
        self.0 = rest;
        Ok(taken)
    }
}

/// Little-endian; at most 8 bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn entry(bytes: &[u8]) -> Entry {
    let part = |place: usize| number(&bytes[4 * place..4 * place + 4]) as u32;
    Entry { document: part(0), rank: part(1), score: f32::from_bits(part(2)) }
}
