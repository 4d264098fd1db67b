//! How the sequences of a batch lie among the rows of `[tokens, hidden]`: one behind the other, each with its padding, if any, at its end.
//!
//! Packed sequences have no padding, so that no layer works on rows that nobody reads; padded ones are all of one width, as `[rows, width, hidden]` has them.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// Places of sequences among rows of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    starts: Vec<usize>,
    lengths: Vec<usize>,
    width: usize,
}

impl Sequences {
    /// Sequences of these lengths without padding.
    #[must_use]
    pub fn packed(lengths: Vec<usize>) -> Self {
        let starts = std::iter::once(0).chain(lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        }));
        let (starts, width) = (starts.collect(), lengths.iter().copied().max().unwrap_or(0));
        Self { starts, lengths, width }
    }

    /// Sequences of these lengths, each padded to `width`.
    ///
    /// # Panics
    /// When one is longer.
    #[must_use]
    pub fn padded(lengths: Vec<usize>, width: usize) -> Self {
        assert!(lengths.iter().all(|&length| length <= width), "a sequence is longer than the {width} tokens that all are padded to");
        Self { starts: (0..=lengths.len()).map(|row| row * width).collect(), lengths, width }
    }

    /// Number of sequences.
    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// Rows of tokens, padding included.
    pub fn tokens(&self) -> usize {
        self.starts[self.rows()]
    }

    /// Tokens of each sequence, without padding. A sequence may have none.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// The first row of each sequence; behind the last, the number of all rows.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// Tokens of the longest sequence, with its padding.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows of a sequence, padding included.
    pub(super) fn extent(&self, row: usize) -> usize {
        self.starts[row + 1] - self.starts[row]
    }

    /// Whether there is no padding.
    pub fn is_packed(&self) -> bool {
        (0..self.rows()).all(|row| self.extent(row) == self.lengths[row])
    }

    /// The sequence and the position within it of every row, padding included, in the order of the rows.
    pub fn places(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        (0..self.rows()).flat_map(|row| (0..self.extent(row)).map(move |position| (row, position)))
    }

    /// Starts and lengths, `[2 rows + 1]`, as attention wants them on this device. Once per batch, for all its layers.
    #[must_use]
    pub fn on_device(&self, device: &Device) -> Tensor<1, Int> {
        let numbers: Vec<i32> = self.starts.iter().chain(&self.lengths).map(|&number| number as i32).collect();
        let count = numbers.len();
        Tensor::from_data(TensorData::new(numbers, [count]), (device, DType::I32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_packed_and_of_padded_sequences() {
        let packed = Sequences::packed(vec![2, 0, 3]);
        assert_eq!((packed.tokens(), packed.width(), packed.starts()), (5, 3, &[0, 2, 2, 5][..]));
        assert_eq!(packed.places().collect::<Vec<_>>(), [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]);
        let padded = Sequences::padded(vec![2, 0, 3], 3);
        assert_eq!((padded.tokens(), padded.width(), padded.starts()), (9, 3, &[0, 3, 6, 9][..]));
        assert_eq!(padded.places().nth(5), Some((1, 2)));
        assert!(packed.is_packed() && !padded.is_packed() && Sequences::padded(vec![2, 2], 2).is_packed());
        assert_eq!(Sequences::packed(Vec::new()).tokens(), 0);
    }
}
