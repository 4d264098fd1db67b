//! Dropout by itself on the CPU. The same function serves both directions: what a number is multiplied by is what its gradient is.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::mask::Dropout;
use super::owned;
use super::wide::{Lanes, widest};

/// Rows of a task.
const ROWS: usize = 32;

/// In the memory of the input when nothing else uses it.
pub(super) fn apply(input: FlexTensor, dropout: Dropout) -> FlexTensor {
    let shape = [input.layout().shape()[0], input.layout().shape()[1]];
    let mut output = owned(input, shape);
    let size = (ROWS * shape[1]).max(1);
    output.storage_mut::<f32>().par_chunks_mut(size).enumerate().for_each(|(task, rows)| mask_rows(rows, shape[1], dropout, task * ROWS));
    output
}

widest!(fn mask_rows(rows: &mut [f32], width: usize, dropout: Dropout, first: usize) = mask_rows_body);

#[inline(always)]
fn mask_rows_body<L: Lanes>(rows: &mut [f32], width: usize, dropout: Dropout, first: usize) {
    for (place, row) in rows.chunks_exact_mut(width).enumerate() {
        let mask = dropout.row(first + place);
        for column in 0..row.len() {
            row[column] *= mask.factor(column as u32);
        }
    }
}
