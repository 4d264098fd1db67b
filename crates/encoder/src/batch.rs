//! Token rows on the host, one behind the other: what every encoder takes.
//!
//! Nothing is padded here, so one long text costs its own tokens alone; what pads does so where it computes. Every row has at least one token.

/// Token ids of several texts, on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBatch {
    ids: Vec<i32>,
    lengths: Vec<usize>,
    /// The first id of each row.
    starts: Vec<usize>,
    width: usize,
}

impl TokenBatch {
    /// Of these rows. One without tokens (an empty text under a tokenizer without special tokens) becomes one padding token, so that every text has an embedding.
    pub fn new(rows: &[&[u32]], pad_id: u32) -> Self {
        let pad = [pad_id];
        let lengths: Vec<usize> = rows.iter().map(|row| row.len().max(1)).collect();
        let mut ids = Vec::with_capacity(lengths.iter().sum());
        let mut starts = Vec::with_capacity(rows.len());
        for &row in rows {
            starts.push(ids.len());
            ids.extend(if row.is_empty() { &pad[..] } else { row }.iter().map(|&id| id as i32));
        }
        let width = lengths.iter().copied().max().unwrap_or(1);
        Self { ids, lengths, starts, width }
    }

    /// `[tokens]`, row behind row.
    pub fn ids(&self) -> &[i32] {
        &self.ids
    }

    /// Tokens of each row, at least 1.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Number of texts.
    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens of the longest row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The tokens of row `row`.
    pub fn row(&self, row: usize) -> &[i32] {
        &self.ids[self.starts[row]..][..self.lengths[row]]
    }

    /// One number a token, `[tokens]`, as a matrix `[rows, width]` with zeros at the end of shorter rows.
    pub fn padded<T: Copy + Default>(&self, numbers: &[T]) -> Vec<T> {
        let mut padded = vec![T::default(); self.rows() * self.width];
        for ((into, &start), &length) in padded.chunks_exact_mut(self.width).zip(&self.starts).zip(&self.lengths) {
            into[..length].copy_from_slice(&numbers[start..start + length]);
        }
        padded
    }

    /// True when all rows have the same length.
    pub fn is_full(&self) -> bool {
        self.lengths.iter().all(|&length| length == self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_lie_one_behind_the_other_and_are_padded_when_asked() {
        let batch = TokenBatch::new(&[&[5, 6, 7], &[8], &[9, 4]], 1);
        assert_eq!(batch.ids, [5, 6, 7, 8, 9, 4]);
        assert_eq!((batch.lengths.as_slice(), batch.rows(), batch.width), (&[3, 1, 2][..], 3, 3));
        assert_eq!((batch.row(0), batch.row(1), batch.row(2)), (&[5, 6, 7][..], &[8][..], &[9, 4][..]));
        assert_eq!(batch.padded(&batch.ids), [5, 6, 7, 8, 0, 0, 9, 4, 0]);
        assert!(!batch.is_full() && TokenBatch::new(&[&[1, 2], &[3, 4]], 0).is_full());
    }

    #[test]
    fn empty_row_becomes_one_padding_token() {
        let batch = TokenBatch::new(&[&[], &[3]], 9);
        assert_eq!((batch.ids.as_slice(), batch.lengths.as_slice()), (&[9, 3][..], &[1, 1][..]));
    }
}
