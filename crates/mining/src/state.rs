//! The miner's state as bytes, for checkpoints: a header in JSON, then lists and rows as little-endian numbers.
//!
//! Random numbers have no state (`chance`), and a store is a function of the weights unless its rows have different ages; only then are rows
//! kept. The configuration is kept beside them: lists made under another one are refused.

use serde::{Deserialize, Serialize};

use crate::config::NegativesConfig;
use crate::error::MiningError;
use crate::lists::{Entry, Lists, Ragged};
use crate::schedule::Moment;
use crate::store::SavedRows;

const MAGIC: &[u8; 8] = b"DREDGEN2";
const OFFSET_BYTES: usize = 8;
const NUMBER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 3 * NUMBER_BYTES;

/// Everything about the state but the lists.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub(crate) version: u64,
    pub(crate) seed: u64,
    pub(crate) config: NegativesConfig,
    pub(crate) documents: usize,
    pub(crate) generated: usize,
    pub(crate) queries: usize,
    pub(crate) supplies: Vec<SupplyState>,
    /// Rows of different ages.
    pub(crate) rows: Option<SavedRows>,
}

/// What one source is at, beside its lists.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SupplyState {
    /// Last refresh; a source that had one has lists.
    pub(crate) last: Option<Moment>,
    /// The next slice of a rolling schedule.
    pub(crate) next_slice: usize,
    /// Weights of ranks.
    pub(crate) curve: Vec<f32>,
    /// By training query: how often its negatives were replaced, and their mean cosine when they were installed, as bits (it may be NaN).
    pub(crate) replaced: Vec<u32>,
    pub(crate) installed: Vec<u32>,
    /// Lengths of the offsets and values of each column of the lists, the entries first.
    pub(crate) lengths: [(usize, usize); 5],
}

/// Lengths of the columns of `lists`.
pub(crate) fn lengths(lists: &Lists) -> [(usize, usize); 5] {
    let [a, b, c, d] = lists.columns().map(|column| (column.offsets().len(), column.values().len()));
    [(lists.entries.offsets().len(), lists.entries.values().len()), a, b, c, d]
}

pub(crate) fn write<'a>(header: &Header, lists: impl IntoIterator<Item = &'a Lists>) -> Result<Vec<u8>, MiningError> {
    let json = serde_json::to_vec(header).map_err(|error| faulty(error.to_string()))?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend((json.len() as u64).to_le_bytes());
    bytes.extend(json);
    for lists in lists {
        bytes.extend(lists.entries.offsets().iter().flat_map(|offset| offset.to_le_bytes()));
        bytes.extend(lists.entries.values().iter().flat_map(|entry| entry.numbers()).flat_map(u32::to_le_bytes));
        for column in lists.columns() {
            bytes.extend(column.offsets().iter().flat_map(|offset| offset.to_le_bytes()));
            bytes.extend(column.values().iter().flat_map(|value| value.to_le_bytes()));
        }
    }
    if let Some(rows) = &header.rows {
        bytes.extend(rows.values.iter().flat_map(|value| value.to_le_bytes()));
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
    let mut header: Header = serde_json::from_slice(json).map_err(|error| faulty(error.to_string()))?;
    let unfit = || faulty("the rows of a list do not fit its entries".into());
    let mut lists = Vec::with_capacity(header.supplies.len());
    for supply in &header.supplies {
        let [entries, similarity, teacher, positives, to_positive] = supply.lengths;
        let entries = rest.column(entries, ENTRY_BYTES, entry)?.ok_or_else(unfit)?;
        let mut numbers = |lengths| rest.column(lengths, NUMBER_BYTES, float)?.ok_or_else(unfit);
        let columns = [numbers(similarity)?, numbers(teacher)?, numbers(positives)?, numbers(to_positive)?];
        lists.push(Lists::from_columns(entries, columns).ok_or_else(unfit)?);
    }
    if let Some(rows) = &mut header.rows {
        let count = rows.rows.saturating_mul(rows.dimension).saturating_mul(NUMBER_BYTES);
        rows.values = rest.take(count)?.chunks_exact(NUMBER_BYTES).map(float).collect();
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

    /// A column with `(offsets, values)` of these lengths; `None` when they do not belong together.
    fn column<T>(&mut self, lengths: (usize, usize), width: usize, value: fn(&[u8]) -> T) -> Result<Option<Ragged<T>>, MiningError> {
        let offsets = self.take(lengths.0.saturating_mul(OFFSET_BYTES))?.chunks_exact(OFFSET_BYTES).map(number).collect();
        let values = self.take(lengths.1.saturating_mul(width))?.chunks_exact(width).map(value).collect();
        Ok(Ragged::from_parts(offsets, values))
    }
}

/// Little-endian; at most 8 bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn float(bytes: &[u8]) -> f32 {
    f32::from_bits(number(bytes) as u32)
}

fn entry(bytes: &[u8]) -> Entry {
    let part = |place: usize| number(&bytes[4 * place..4 * place + 4]) as u32;
    Entry::from_numbers([part(0), part(1), part(2)])
}
