//! Products of a tall matrix with another (a linear layer's weights, the documents of a score matrix), on processors whose widest registers are AVX2's: there they take some 15 % less than the general library.
//!
//! The other is laid out at each call, in panels as wide as a tile of [`product`]; blocks of rows go through the panels where they lie, so much of the inner dimension at a time that a panel stays in the
//! innermost cache. A sum runs over the inner dimension in its order, whatever the blocks and threads.

#![allow(unsafe_code)]

use rayon::prelude::*;

use super::product::{Target, View, product};
use super::wide::{Lanes, widest};

/// Rows of a block: whole tiles, and with the part of the inner dimension below a fifth of the second cache.
const ROWS: usize = 72;

/// Of the inner dimension at a time: 24 KiB of a panel.
const DEPTH: usize = 384;

/// Fewer rows are not worth laying out the weights.
const TALL: usize = 4 * ROWS;

/// A matrix that lies somewhere: number (row, column) is `numbers[row * self.row + column * self.column]`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) numbers: &'a [f32],
    pub(super) row: usize,
    pub(super) column: usize,
}

impl Matrix<'_> {
    /// Whether all its numbers are there.
    fn holds(&self, rows: usize, columns: usize) -> bool {
        let [Some(row), Some(column)] = [rows.checked_sub(1), columns.checked_sub(1)] else { return true };
        let last = row.checked_mul(self.row).zip(column.checked_mul(self.column)).and_then(|(row, column)| row.checked_add(column));
        last.is_some_and(|last| last < self.numbers.len())
    }
}

/// Whether [`multiply`] is the fastest for a product of these `[rows, columns, inner]`.
pub(super) fn is_faster([rows, columns, inner]: [usize; 3]) -> bool {
    #[cfg(target_arch = "x86_64")]
    return rows >= TALL && columns * inner > 0 && lanes() == 8 && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// `left [rows, inner] x right [inner, columns] (+ bias [columns])`, row by row; rows of the left lie in order.
///
/// # Panics
/// Without columns or an inner dimension, when a matrix or the bias is too small, or the columns of the left do not lie side by side.
pub(super) fn multiply([rows, columns, inner]: [usize; 3], left: Matrix<'_>, right: Matrix<'_>, bias: Option<&[f32]>) -> Vec<f32> {
    assert!(columns * inner > 0, "a product without columns or an inner dimension");
    assert!(left.holds(rows, inner) && (left.column == 1 || inner == 1) && right.holds(inner, columns), "matrices of a product");
    assert!(bias.is_none_or(|bias| bias.len() == columns), "a bias of a product");
    let panel = panel();
    let mut panels = vec![0.0; columns.div_ceil(panel) * panel * inner];
    panels
        .par_chunks_mut((inner * panel).max(1))
        .enumerate()
        .for_each(|(number, into)| lay_out(right, number * panel, columns, panel, into));
    // Enough tasks for every thread: blocks of rows, cut by columns where they are few.
    let blocks = rows.div_ceil(ROWS);
    let cuts = (4 * rayon::current_num_threads()).div_ceil(blocks.max(1)).clamp(1, columns.div_ceil(panel).max(1));
    let width = columns.div_ceil(panel).div_ceil(cuts) * panel;
    let mut output: Vec<f32> = Vec::with_capacity(rows * columns);
    let into = Output(output.as_mut_ptr());
    (0..blocks * cuts).into_par_iter().for_each(|task| {
        let (first, begin) = (task / cuts * ROWS, task % cuts * width);
        let part =
            Part { rows: [first, rows.min(first + ROWS)], columns: [begin.min(columns), columns.min(begin + width)], all: columns, inner };
        // Tasks write different parts of the output, which has room for all of them and which nobody else has; the matrices are large enough, as checked above.
        block(&part, left, &panels, bias, &into);
    });
    // SAFETY: every number was written by the task of its rows and columns.
    unsafe { output.set_len(rows * columns) };
    output
}

/// Where the output begins.
struct Output(*mut f32);
// SAFETY: tasks write to different places.
unsafe impl Sync for Output {}

/// What a task computes.
struct Part {
    rows: [usize; 2],
    /// From the beginning of a panel.
    columns: [usize; 2],
    /// Columns of the output.
    all: usize,
    inner: usize,
}

widest! {
    fn lanes() -> usize = lanes_body
}

#[inline(always)]
fn lanes_body<L: Lanes>() -> usize {
    L::COUNT
}

/// Columns of a panel.
fn panel() -> usize {
    2 * lanes()
}

/// The panel from column `first` on, `[inner, panel]`; columns that are not there stay zeros.
fn lay_out(right: Matrix<'_>, first: usize, columns: usize, panel: usize, into: &mut [f32]) {
    let width = panel.min(columns - first);
    for (place, into) in into.chunks_exact_mut(panel).enumerate() {
        let from = &right.numbers[place * right.row + first * right.column..];
        if right.column == 1 {
            into[..width].copy_from_slice(&from[..width]);
        } else {
            into[..width].iter_mut().enumerate().for_each(|(column, into)| *into = from[column * right.column]);
        }
    }
}

widest! {
    /// One part of the output, which lies within the matrices and the output, and is nobody else's: [`multiply`] sees to that.
    fn block(part: &Part, left: Matrix<'_>, panels: &[f32], bias: Option<&[f32]>, output: &Output) = block_body
}

#[inline(always)]
fn block_body<L: Lanes>(part: &Part, left: Matrix<'_>, panels: &[f32], bias: Option<&[f32]>, output: &Output) {
    let (panel, inner) = (2 * L::COUNT, part.inner);
    let [[top, bottom], [begin, end]] = [part.rows, part.columns];
    // SAFETY: see above.
    unsafe {
        let at = |row: usize, column: usize| output.0.add(row * part.all + column);
        if let Some(bias) = bias {
            for row in top..bottom {
                at(row, begin).copy_from_nonoverlapping(bias.as_ptr().add(begin), end - begin);
            }
        }
        for depth in (0..inner).step_by(DEPTH) {
            let count = DEPTH.min(inner - depth);
            let rows = View { at: left.numbers.as_ptr().add(top * left.row + depth), row: left.row, column: 1 };
            for column in (begin..end).step_by(panel) {
                let columns = View { at: panels.as_ptr().add(column * inner + depth * panel), row: panel, column: 1 };
                let into = Target { at: at(top, column), row: part.all, add: bias.is_some() || depth > 0 };
                product::<L>([bottom - top, panel.min(end - column), count], rows, columns, into);
            }
        }
    }
}
