//! Token rows on the host, padded to one width: what every encoder takes.
//!
//! Padding stands at the end of a row and never inside it; every row has at least one token.

/// Padded token ids of several texts, on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBatch {
    /// `[rows * width]`, row-major, padded at the end of each row.
    pub ids: Vec<i32>,
    /// Tokens of each row that are not padding, 1 to `width`.
    pub lengths: Vec<usize>,
    /// Number of texts.
    pub rows: usize,
    /// Tokens in the longest row (rounded up when asked).
    pub width: usize,
}

impl TokenBatch {
    /// Pads `rows` with `pad_id` to the longest of them. A row without tokens (an empty text under a tokenizer without
    /// special tokens) becomes one padding token, so that every text has an embedding.
    pub fn new(rows: &[&[u32]], pad_id: u32) -> Self {
        Self::with_multiple(rows, pad_id, 1)
    }

    /// As [`TokenBatch::new`], with the width rounded up to a multiple of `multiple` (fewer distinct shapes means fewer
    /// kernels to compile and tune on a GPU). The caller keeps the rounded width within the positions of the model.
    pub fn with_multiple(rows: &[&[u32]], pad_id: u32, multiple: usize) -> Self {
        let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0).max(1);
        let width = longest.next_multiple_of(multiple.max(1));
        let mut ids = vec![pad_id as i32; rows.len() * width];
        for (row, padded) in rows.iter().zip(ids.chunks_exact_mut(width)) {
            for (id, slot) in row.iter().zip(padded) {
                *slot = *id as i32;
            }
        }
        Self { ids, lengths: rows.iter().map(|row| row.len().max(1)).collect(), rows: rows.len(), width }
    }

    /// The tokens of row `row` without padding.
    pub fn row(&self, row: usize) -> &[i32] {
        &self.ids[row * self.width..][..self.lengths[row]]
    }

    /// True when no row is padded.
    pub fn is_full(&self) -> bool {
        self.lengths.iter().all(|&length| length == self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_at_the_end() {
        let batch = TokenBatch::new(&[&[5, 6, 7], &[8]], 1);
        assert_eq!(batch.ids, [5, 6, 7, 8, 1, 1]);
        assert_eq!((batch.lengths.as_slice(), batch.rows, batch.width), (&[3, 1][..], 2, 3));
        assert_eq!(batch.row(1), [8]);
        assert!(!batch.is_full());
    }

    #[test]
    fn empty_row_becomes_one_padding_token() {
        let batch = TokenBatch::new(&[&[]], 9);
        assert_eq!((batch.ids.as_slice(), batch.lengths.as_slice()), (&[9][..], &[1][..]));
    }

    #[test]
    fn width_is_rounded_up() {
        assert_eq!(TokenBatch::with_multiple(&[&[1, 2, 3, 4, 5]], 0, 4).width, 8);
        assert_eq!(TokenBatch::with_multiple(&[&[1, 2, 3, 4]], 0, 4).width, 4);
    }
}
