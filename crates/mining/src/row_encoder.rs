//! The encoder as mining sees it: dense ids in, rows on the device out.
//!
//! Tokens, prompts and weights are behind it. Rows carry no gradient. The same id gives the same row between two changes of the weights.

use burn::tensor::Tensor;

use crate::error::EncodeError;

/// Something that turns documents and queries into rows on a device.
pub trait RowEncoder {
    /// Width of a row.
    fn dimension(&self) -> usize;

    /// Rows of documents, `[ids, dimension]`, in the order of `ids`. Calls are sized by [`Self::token_budget`].
    ///
    /// # Errors
    /// Whatever stops the encoder.
    fn documents(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError>;

    /// Rows of queries, `[ids, dimension]`, in the order of `ids`.
    ///
    /// # Errors
    /// Whatever stops the encoder.
    fn queries(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError>;

    /// Tokens of every document, by id. Offered, it lets documents of like length be encoded together, and a document without
    /// content (at most two special tokens) may have a zero row.
    fn document_lengths(&self) -> Option<&[u32]> {
        None
    }

    /// Tokens that one call may hold, counted as if all texts of it were as long as the longest; used when lengths are offered.
    fn token_budget(&self) -> usize {
        8192
    }
}
