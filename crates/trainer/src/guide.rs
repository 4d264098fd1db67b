//! A second encoder beside the one in training: a guide that tells which negatives are probably positives (GISTEmbed, Solatorio 2024,
//! arXiv 2402.16829), or a teacher whose similarities are distilled.
//!
//! Its rows of all texts are computed once and stay on the device; a step only gathers them.

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use mining::{EmbeddingStore, EncodeError, RowEncoder};

use crate::batches::Batch;
use crate::data::Data;
use crate::rows::Rows;

pub(crate) struct Guide {
    queries: EmbeddingStore,
    documents: EmbeddingStore,
}

impl Guide {
    /// Encodes both sides of `data` with `rows`.
    ///
    /// # Errors
    /// When the encoder fails.
    pub(crate) fn new(rows: &mut Rows, data: &Data, device: &Device) -> Result<Self> {
        let device = device.clone().without_autodiff();
        let documents = EmbeddingStore::encode(rows, data.documents(), &device).context("encoding the documents with the guide")?;
        let lengths = (0..data.collection.queries.len() as u32).map(|query| data.tokens.query(query).len() as u32).collect();
        let mut queries = QueriesAsRows { rows, lengths };
        let queries =
            EmbeddingStore::encode(&mut queries, data.collection.queries.len(), &device).context("encoding the queries with the guide")?;
        Ok(Self { queries, documents })
    }

    /// The guide's rows of a batch: `[queries, width]` and `[columns, width]`.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn rows(&self, batch: &Batch, columns: &[u32]) -> Result<(Tensor<2>, Tensor<2>)> {
        let queries: Vec<u32> = batch.pairs.iter().map(|pair| pair.0).collect();
        let queries = self.queries.rows(&queries).context("gathering the guide's rows of queries")?;
        Ok((queries, self.documents.rows(columns).context("gathering the guide's rows of documents")?))
    }

    /// Its similarities, `[queries, columns]`, row-major.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn scores(&self, batch: &Batch, columns: &[u32]) -> Result<Vec<f32>> {
        let (queries, documents) = self.rows(batch, columns)?;
        on_host(queries.matmul(documents.transpose()))
    }
}

/// Reading a guide's similarities of one step.
fn on_host(scores: Tensor<2>) -> Result<Vec<f32>> {
    let data = scores.try_into_data().map_err(|error| anyhow::anyhow!("reading the teacher's scores: {error:?}"))?;
    data.try_into_vec::<f32>().map_err(|error| anyhow::anyhow!("reading the teacher's scores: {error:?}"))
}

/// Queries in the place of documents, so that a store can hold them.
struct QueriesAsRows<'a> {
    rows: &'a mut Rows,
    lengths: Vec<u32>,
}

impl RowEncoder for QueriesAsRows<'_> {
    fn dimension(&self) -> usize {
        self.rows.dimension()
    }

    fn documents(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
        self.rows.queries(ids)
    }

    fn queries(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
        self.rows.queries(ids)
    }

    fn document_lengths(&self) -> Option<&[u32]> {
        Some(&self.lengths)
    }
}
