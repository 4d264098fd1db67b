//! Rows of a table by number, and the transpose of that, which is its gradient: a sum over the places of each row, in order, from lists that the host makes.
//!
//! A gather's own gradient would add up the places one by one in an order that depends on the device, or have a few units go through all of them.

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn_flex::FlexTensor;

use super::{numbers, tensor};

/// Places of a chunk: a row that is used often is added up in many of them.
const CHUNK: usize = 32;

/// Which places use which row, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lists {
    /// Rows that are used.
    pub(super) rows: usize,
    /// Chunks of all of them.
    pub(super) chunks: usize,
    /// Ends of the chunks among the places, `[chunks + 1]`; the rows; ends of the rows among the chunks, `[rows + 1]`; the places.
    pub(super) numbers: Vec<i32>,
}

impl Lists {
    /// Of these row numbers.
    pub(super) fn new(ids: &[i32]) -> Self {
        let mut pairs: Vec<(i32, i32)> = ids.iter().copied().zip(0..).collect();
        pairs.sort_unstable();
        let (mut ends, mut rows, mut row_ends) = (vec![0], Vec::new(), vec![0]);
        let mut end = 0;
        for row in pairs.chunk_by(|a, b| a.0 == b.0) {
            for chunk in row.chunks(CHUNK) {
                end += chunk.len() as i32;
                ends.push(end);
            }
            rows.push(row[0].0);
            row_ends.push(ends.len() as i32 - 1);
        }
        let (count, chunks) = (rows.len(), ends.len() - 1);
        let numbers = ends.into_iter().chain(rows).chain(row_ends).chain(pairs.into_iter().map(|pair| pair.1)).collect();
        Self { rows: count, chunks, numbers }
    }
}

/// The rows of the table.
pub(super) fn forward(table: FlexTensor, ids: FlexTensor) -> FlexTensor {
    Flex::float_select(table, 0, ids)
}

/// The gradient of a table of `height` rows: `numbers` as in [`Lists`].
pub(super) fn backward(gradient: &FlexTensor, list: &FlexTensor, height: usize, rows: usize, chunks: usize) -> FlexTensor {
    let (gradient, list) = (gradient.to_contiguous(), list.to_contiguous());
    let width = gradient.layout().shape()[1];
    let (list, gradient): (&[i32], _) = (list.as_slice().expect("lists are contiguous 32-bit integers"), numbers(&gradient));
    let (ends, rest) = list.split_at(chunks + 1);
    let (used, rest) = rest.split_at(rows);
    let (row_ends, places) = rest.split_at(rows + 1);
    let mut table = vec![0.0; height * width];
    for (row, &id) in used.iter().enumerate() {
        let into = &mut table[id as usize * width..][..width];
        for &place in &places[ends[row_ends[row] as usize] as usize..ends[row_ends[row + 1] as usize] as usize] {
            into.iter_mut().zip(&gradient[place as usize * width..]).for_each(|(into, from)| *into += from);
        }
    }
    tensor(table, [height, width])
}
