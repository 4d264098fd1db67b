//! The encoder as mining sees it: dense ids in, rows on the device out.
//!
//! Tokens, prompts and weights are behind it. Rows carry no gradient. The same id gives the same row between two changes of the weights.
//! How many texts go into a call, and which together, is decided here.

use std::cmp::Reverse;

use burn::tensor::Tensor;

use crate::error::{EncodeError, MiningError};
use crate::store::{check_shape, indices_on};

/// Texts of one call when lengths are unknown, as those of queries always are.
const BLIND_BATCH: usize = 64;
/// Documents of one call at most.
const WIDEST_BATCH: usize = 4096;

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

/// Encodes queries, `[ids, dimension]`.
pub(crate) fn encode_queries(encoder: &mut dyn RowEncoder, ids: &[u32]) -> Result<Tensor<2>, MiningError> {
    let dimension = encoder.dimension();
    let mut encoded = Vec::new();
    for batch in ids.chunks(BLIND_BATCH) {
        let rows = encoder.queries(batch).map_err(|source| MiningError::Encode { what: "queries", source })?;
        check_shape("query rows", &rows, [batch.len(), dimension])?;
        encoded.push(rows);
    }
    Ok(Tensor::cat(encoded, 0))
}

/// Encodes documents, `[ids, dimension]`, in the order of `ids`; inside, documents of like length together when the encoder knows lengths.
/// `ids` are different and not empty.
pub(crate) fn encode_documents(encoder: &mut dyn RowEncoder, ids: &[u32]) -> Result<Tensor<2>, MiningError> {
    // Positions in `ids`, in the order of encoding.
    let mut order: Vec<u32> = (0..ids.len() as u32).collect();
    let mut batches: Vec<Vec<u32>> = Vec::new();
    match encoder.document_lengths() {
        Some(lengths) if ids.iter().all(|&id| (id as usize) < lengths.len()) => {
            let length = |place: u32| lengths[ids[place as usize] as usize].max(1) as usize;
            // Longest first: a device that runs out of memory does so at once.
            order.sort_by_key(|&place| (Reverse(length(place)), place));
            let mut rest = order.as_slice();
            while let Some(&longest) = rest.first() {
                let fits = (encoder.token_budget() / length(longest)).clamp(1, WIDEST_BATCH).min(rest.len());
                let (batch, later) = rest.split_at(fits);
                batches.push(batch.iter().map(|&place| ids[place as usize]).collect());
                rest = later;
            }
        }
        _ => batches.extend(ids.chunks(BLIND_BATCH).map(<[u32]>::to_vec)),
    }
    let dimension = encoder.dimension();
    let mut encoded = Vec::with_capacity(batches.len());
    for batch in batches {
        let rows = encoder.documents(&batch).map_err(|source| MiningError::Encode { what: "documents", source })?;
        check_shape("document rows", &rows, [batch.len(), dimension])?;
        encoded.push(rows);
    }
    let encoded = Tensor::cat(encoded, 0);
    if order.is_sorted() {
        return Ok(encoded);
    }
    let mut places = vec![0; ids.len()];
    for (place, &at) in order.iter().enumerate() {
        places[at as usize] = place as u32;
    }
    let device = encoded.device();
    Ok(encoded.select(0, indices_on(&places, &device)))
}
