//! A yes or no for every (query, column) cell of a batch, one bit each.
//!
//! Large batches have more cells than bytes to spare: 65,536 queries with a hard negative each have 8.6 billion. Rows begin with a word of
//! their own, so a row is a slice, rows are cut out by copying, and where nothing is marked 64 cells are passed over at once. Invariant: bits
//! past the last column are 0.

use std::iter::successors;
use std::ops::Range;
use std::sync::Arc;

/// Cells of a word.
const BITS: usize = u64::BITS as usize;

/// A table of marks, `[rows, columns]`. One without cells is empty: nothing is known, as with an empty list. A copy shares its memory with
/// the original until one of them is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    rows: usize,
    columns: usize,
    /// `[rows, columns / 64, rounded up]`; column `c` is bit `c % 64` of word `c / 64`.
    words: Arc<Vec<u64>>,
}

impl Marks {
    /// A table without marks.
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { rows, columns, words: Arc::new(vec![0; rows * columns.div_ceil(BITS)]) }
    }

    /// The table of these cells, row-major, `true` where one is marked; empty when there are none.
    ///
    /// # Panics
    /// When the last row is not full.
    pub fn from_cells(columns: usize, cells: impl IntoIterator<Item = bool>) -> Self {
        let cells: Vec<bool> = cells.into_iter().collect();
        assert!(cells.len().is_multiple_of(columns), "{} cells are no rows of {columns} columns", cells.len());
        let words = cells.chunks(columns.max(1)).flat_map(packed).collect();
        Self { rows: cells.len().checked_div(columns).unwrap_or(0), columns, words: Arc::new(words) }
    }

    /// The table of so many rows that are all as this one, one entry a column.
    pub fn repeat(row: &[bool], rows: usize) -> Self {
        Self { rows, columns: row.len(), words: Arc::new(packed(row).collect::<Vec<u64>>().repeat(rows)) }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Whether there are no cells.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether a cell is marked. None outside the table is, so nothing is where it is empty.
    pub fn get(&self, row: usize, column: usize) -> bool {
        column < self.columns && self.row(row).get(column / BITS).is_some_and(|word| word >> (column % BITS) & 1 == 1)
    }

    /// Marks a cell, or takes its mark away.
    ///
    /// # Panics
    /// When there is no such cell.
    pub fn set(&mut self, row: usize, column: usize, marked: bool) {
        assert!(row < self.rows && column < self.columns, "no cell ({row}, {column}) in {} x {}", self.rows, self.columns);
        let at = row * self.words_in_row() + column / BITS;
        let (word, bit) = (&mut Arc::make_mut(&mut self.words)[at], 1 << (column % BITS));
        if marked { *word |= bit } else { *word &= !bit }
    }

    /// The marked columns of a row, ascending.
    pub fn marked(&self, row: usize) -> impl Iterator<Item = usize> {
        let bits = |word: u64| successors(Some(word), |word| Some(word & word.wrapping_sub(1))).take_while(|&word| word != 0);
        let columns = move |(at, &word)| bits(word).map(move |word| at * BITS + word.trailing_zeros() as usize);
        self.row(row).iter().enumerate().flat_map(columns)
    }

    /// Puts `true` into the entries of `into`, one a column, that are marked in a row, and leaves the others as they are.
    pub fn raise(&self, row: usize, into: &mut [bool]) {
        for (&word, cells) in self.row(row).iter().zip(into.chunks_mut(BITS)).filter(|(word, _)| **word != 0) {
            cells.iter_mut().enumerate().for_each(|(bit, cell)| *cell |= word >> bit & 1 == 1);
        }
    }

    /// All cells, row-major, one byte each: for a device, or a few rows.
    pub fn to_cells(&self) -> Vec<bool> {
        let mut cells = vec![false; self.rows * self.columns];
        cells.chunks_mut(self.columns.max(1)).enumerate().for_each(|(row, cells)| self.raise(row, cells));
        cells
    }

    /// The table of some of the rows; empty where this one is.
    ///
    /// # Panics
    /// When it is not empty and there are no such rows.
    pub fn part(&self, rows: Range<usize>) -> Self {
        if self.is_empty() {
            return Self::default();
        }
        let words = self.words_in_row();
        Self { rows: rows.len(), columns: self.columns, words: Arc::new(self.words[rows.start * words..rows.end * words].to_vec()) }
    }

    /// This table with the columns of another one behind its own.
    ///
    /// # Panics
    /// When the two have not the same number of rows.
    pub fn beside(&self, right: &Self) -> Self {
        assert_eq!(self.rows, right.rows, "tables side by side have the same rows");
        let mut wide = Self::new(self.rows, self.columns + right.columns);
        let (words, first) = (Arc::make_mut(&mut wide.words), self.columns);
        for (row, words) in words.chunks_mut(wide.columns.div_ceil(BITS).max(1)).enumerate() {
            words[..self.words_in_row()].copy_from_slice(self.row(row));
            right.marked(row).for_each(|column| words[(first + column) / BITS] |= 1 << ((first + column) % BITS));
        }
        wide
    }

    fn words_in_row(&self) -> usize {
        self.columns.div_ceil(BITS)
    }

    /// The words of a row; of none that is not there.
    fn row(&self, row: usize) -> &[u64] {
        let words = self.words_in_row();
        self.words.get(row * words..(row + 1) * words).unwrap_or_default()
    }
}

/// The words of a row.
fn packed(row: &[bool]) -> impl Iterator<Item = u64> {
    row.chunks(BITS).map(|cells| cells.iter().rev().fold(0, |word, &cell| word << 1 | u64::from(cell)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Widths about the bounds of words.
    const WIDTHS: [usize; 7] = [1, 2, 63, 64, 65, 128, 130];

    /// `rows x columns` cells, about a third of them marked, some rows without marks.
    fn some(rows: usize, columns: usize, seed: usize) -> Vec<bool> {
        (0..rows * columns).map(|cell| cell / columns % 3 != 1 && (cell + seed).wrapping_mul(0x9e37_79b1) >> 7 & 7 < 3).collect()
    }

    /// Every question about a table, against the plain list of its cells.
    fn check(marks: &Marks, columns: usize, cells: &[bool]) {
        let rows = cells.len() / columns;
        assert_eq!((marks.rows(), marks.columns(), marks.is_empty()), (rows, columns, false));
        assert_eq!(marks.to_cells(), cells);
        for (row, expected) in cells.chunks(columns).enumerate() {
            assert!(expected.iter().enumerate().all(|(column, &cell)| marks.get(row, column) == cell));
            assert!(marks.marked(row).eq((0..columns).filter(|&column| expected[column])));
            let mut raised: Vec<bool> = (0..columns).map(|column| column % 5 == 0).collect();
            marks.raise(row, &mut raised);
            assert!((0..columns).all(|column| raised[column] == (expected[column] || column % 5 == 0)));
            assert!((columns..columns + 130).all(|column| !marks.get(row, column)), "past the last column");
        }
        assert!(!marks.get(rows, 0) && marks.marked(rows).next().is_none(), "past the last row");
        assert_eq!(marks, &Marks::from_cells(columns, cells.iter().copied()), "no bit past the last column");
    }

    #[test]
    fn a_table_is_its_cells() {
        for columns in WIDTHS {
            for (rows, seed) in [(1, 0), (4, 1), (7, 2)] {
                let cells = some(rows, columns, seed);
                check(&Marks::from_cells(columns, cells.iter().copied()), columns, &cells);
                let mut set = Marks::new(rows, columns);
                check(&set, columns, &vec![false; rows * columns]);
                (0..cells.len()).filter(|&cell| cells[cell]).for_each(|cell| set.set(cell / columns, cell % columns, true));
                check(&set, columns, &cells);
                let mut cleared = Marks::repeat(&vec![true; columns], rows);
                check(&cleared, columns, &vec![true; rows * columns]);
                (0..cells.len()).filter(|&cell| !cells[cell]).for_each(|cell| cleared.set(cell / columns, cell % columns, false));
                check(&cleared, columns, &cells);
                let row = some(1, columns, seed + 3);
                check(&Marks::repeat(&row, rows), columns, &row.repeat(rows));
            }
        }
    }

    #[test]
    fn some_rows_are_a_table() {
        for columns in WIDTHS {
            let cells = some(6, columns, 5);
            let marks = Marks::from_cells(columns, cells.iter().copied());
            for rows in [0..6, 0..1, 2..5, 5..6] {
                check(&marks.part(rows.clone()), columns, &cells[rows.start * columns..rows.end * columns]);
            }
            assert!(marks.part(3..3).is_empty());
        }
    }

    #[test]
    fn tables_lie_side_by_side() {
        for (left, right) in WIDTHS.into_iter().flat_map(|left| WIDTHS.map(|right| (left, right))) {
            let (first, second) = (some(5, left, 1), some(5, right, 2));
            let wide = Marks::from_cells(left, first.iter().copied()).beside(&Marks::from_cells(right, second.iter().copied()));
            let expected: Vec<bool> =
                first.chunks(left).zip(second.chunks(right)).flat_map(|(first, second)| [first, second].concat()).collect();
            check(&wide, left + right, &expected);
        }
        let alone = Marks::from_cells(3, [true, false, true]);
        assert_eq!((alone.beside(&Marks::new(1, 0)), Marks::new(1, 0).beside(&alone)), (alone.clone(), alone));
    }

    #[test]
    fn without_cells_nothing_is_marked() {
        for none in [Marks::default(), Marks::new(0, 70), Marks::new(3, 0), Marks::from_cells(5, []), Marks::from_cells(0, [])] {
            assert!(none.is_empty() && !none.get(0, 0) && none.marked(2).next().is_none() && none.to_cells().is_empty());
            assert!(none.part(1..3).is_empty());
            let mut row = [true, false];
            none.raise(1, &mut row);
            assert_eq!(row, [true, false]);
        }
    }

    #[test]
    fn a_copy_keeps_its_marks() {
        let mut marks = Marks::new(2, 70);
        let before = marks.clone();
        marks.set(1, 69, true);
        assert!(marks.get(1, 69) && !before.get(1, 69));
    }

    #[test]
    #[should_panic(expected = "5 cells are no rows of 3 columns")]
    fn a_row_that_is_not_full_is_refused() {
        Marks::from_cells(3, [true; 5]);
    }

    #[test]
    #[should_panic(expected = "no cell (0, 65) in 2 x 65")]
    fn a_cell_outside_is_not_set() {
        Marks::new(2, 65).set(0, 65, true);
    }
}
