//! Texts in, rows on the device out: the encoder as mining and evaluation see it.
//!
//! Rows never pass through host memory. The caller decides the order of ids, and how many are encoded at once.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result as Anyhow};
use burn::tensor::{Device, Tensor};
use encoder::Network;
use mining::{EmbeddingStore, EncodeError, RowEncoder, StorePrecision};

use crate::data::TokenRows;

/// Texts encoded at a time.
const BLOCK: usize = 128;

/// A frozen snapshot of a network, or of one for each side, with the token rows it encodes.
pub(crate) struct Rows {
    network: Network,
    /// Of documents, where another one reads them.
    documents: Option<Network>,
    device: Device,
    tokens: Arc<TokenRows>,
    lengths: Vec<u32>,
}

impl Rows {
    /// `network` without autodiff and dropout, on `device`.
    pub(crate) fn new(network: Network, device: &Device, tokens: &Arc<TokenRows>) -> Self {
        let device = device.clone().without_autodiff();
        Self { network, documents: None, device, lengths: tokens.document_lengths(), tokens: Arc::clone(tokens) }
    }

    /// With another network for documents, which reads tokens and is as wide as that of the queries.
    #[must_use]
    pub(crate) fn with_documents(self, network: Network) -> Self {
        Self { documents: Some(network), ..self }
    }

    /// The network of queries, and of documents where they have none of their own.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// The network of documents.
    pub(crate) fn document_network(&self) -> &Network {
        self.documents.as_ref().unwrap_or(&self.network)
    }

    /// The texts as the network reads them.
    pub(crate) fn tokens(&self) -> &Arc<TokenRows> {
        &self.tokens
    }

    /// Rows of any number of queries, `[ids, dimension]`.
    ///
    /// # Errors
    /// When the encoder fails.
    pub(crate) fn queries_in_blocks(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
        let blocks: Vec<_> = ids.chunks(BLOCK).map(|ids| self.queries(ids)).collect::<Result<_, _>>()?;
        Ok(Tensor::cat(blocks, 0))
    }

    /// Rows of any number of documents, `[ids, dimension]`.
    ///
    /// # Errors
    /// When the encoder fails.
    pub(crate) fn documents_in_blocks(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
        let blocks: Vec<_> = ids.chunks(BLOCK).map(|ids| self.documents(ids)).collect::<Result<_, _>>()?;
        Ok(Tensor::cat(blocks, 0))
    }
}

/// Encodes the first so many documents, as 32-bit or 16-bit floats: onto the device, or into a file in a folder, to be searched through the device.
///
/// # Errors
/// When the encoder or the disk fails.
pub(crate) fn store(rows: &mut Rows, documents: usize, folder: Option<&Path>, half: bool) -> Anyhow<EmbeddingStore> {
    let device = rows.device.clone();
    let precision = if half { StorePrecision::F16 } else { StorePrecision::F32 };
    let mut store = match folder {
        Some(folder) => EmbeddingStore::in_folder(documents, rows.dimension(), precision, &device, folder),
        None => EmbeddingStore::new(documents, rows.dimension(), precision, &device),
    };
    store.fill(rows, None).context("encoding the documents")?;
    Ok(store)
}

/// How the reading of rows in a file went.
pub(crate) fn disk_note(store: &EmbeddingStore) -> Option<String> {
    let disk = store.disk_use().filter(|disk| disk.seconds > 0.0)?;
    Some(format!(
        "{} rows searched in the file, {:.0} a second; {:.0} % of the time waiting for them",
        disk.rows,
        disk.rows as f64 / disk.seconds,
        100.0 * disk.waited / disk.seconds
    ))
}

impl RowEncoder for Rows {
    fn dimension(&self) -> usize {
        self.network.dimension()
    }

    fn documents(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
        let rows: Vec<&[u32]> = ids.iter().map(|&id| self.tokens.document(id)).collect();
        Ok(self.document_network().encode(&self.tokens.batch(&rows), &self.device))
    }

    fn queries(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
        let rows: Vec<&[u32]> = ids.iter().map(|&id| self.tokens.query(id)).collect();
        Ok(self.network.encode(&self.tokens.batch(&rows), &self.device))
    }

    fn document_lengths(&self) -> Option<&[u32]> {
        Some(&self.lengths)
    }

    fn token_budget(&self) -> usize {
        self.network.tokens_at_once(&self.device)
    }
}
