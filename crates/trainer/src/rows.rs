//! Texts in, rows on the device out: the encoder as mining and evaluation see it.
//!
//! Rows never pass through host memory. Batches are cut by a token budget, longest rows first within a call's order, so that
//! padding stays small; the caller decides the order of ids.

use burn::tensor::{Device, Tensor};
use encoder::{Network, TokenBatch};
use mining::{EncodeError, RowEncoder};

use crate::data::Data;

/// A frozen snapshot of the network with the tokens it encodes.
pub(crate) struct Rows<'a> {
    network: Network,
    device: Device,
    data: &'a Data,
    lengths: Vec<u32>,
}

impl<'a> Rows<'a> {
    /// `network` without autodiff and dropout, on `device`.
    pub(crate) fn new(network: Network, device: &Device, data: &'a Data) -> Self {
        let lengths = (0..data.documents.len() as u32).map(|document| data.documents.row(document).len() as u32).collect();
        Self { network, device: device.clone().without_autodiff(), data, lengths }
    }
}

impl RowEncoder for Rows<'_> {
    fn dimension(&self) -> usize {
        self.network.dimension()
    }

    fn documents(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
        let rows: Vec<&[u32]> = ids.iter().map(|&id| self.data.documents.row(id)).collect();
        Ok(self.network.encode(&TokenBatch::new(&rows, self.data.pad), &self.device))
    }

    fn queries(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
        let rows: Vec<&[u32]> = ids.iter().map(|&id| self.data.queries.row(id)).collect();
        Ok(self.network.encode(&TokenBatch::new(&rows, self.data.pad), &self.device))
    }

    fn document_lengths(&self) -> Option<&[u32]> {
        Some(&self.lengths)
    }
}
