//! A second encoder beside the one in training: a guide that tells which negatives are probably positives (GISTEmbed, Solatorio 2024,
//! arXiv 2402.16829), or a teacher whose similarities are distilled.
//!
//! Its rows of all texts are computed once, kept in the run folder, and stay on the device; a step only gathers them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use kernels::layers::similarities;
use mining::{EmbeddingStore, EncodeError, PairScorer, RowEncoder};

use crate::batches::Batch;
use crate::data::Data;
use crate::errors::chain;
use crate::kept_rows;
use crate::rows::Rows;

/// Pairs scored at a time.
const PAIRS: usize = 8192;

pub(crate) struct Guide {
    queries: EmbeddingStore,
    documents: EmbeddingStore,
}

impl Guide {
    /// Encodes both sides of `data` with `rows`, or reads what an earlier round or the interrupted run kept in `folder`.
    ///
    /// # Errors
    /// When the encoder fails, or `folder` cannot be read or written.
    pub(crate) fn new(rows: &mut Rows, data: &Data, device: &Device, folder: &Path) -> Result<Self> {
        let device = device.clone().without_autodiff();
        let generated = data.side.generated.as_ref().map_or(0, |generated| generated.texts.len());
        let length = |tokens: &[u32]| tokens.len() as u32;
        let tokens = Arc::clone(rows.tokens());
        let ids = 0..(data.documents() + generated) as u32;
        let path = folder.join(kept_rows::name("documents", rows.document_network(), ids.clone().map(|id| tokens.document(id))));
        let mut documents = AllTexts { rows, lengths: ids.map(|id| length(tokens.document(id))).collect(), queries: false };
        let documents = documents.encode(&device, &path).context("encoding the documents with the guide")?;
        let ids = 0..data.collection.queries.len() as u32;
        let path = folder.join(kept_rows::name("queries", rows.network(), ids.clone().map(|id| tokens.query(id))));
        let mut queries = AllTexts { rows, lengths: ids.map(|id| length(tokens.query(id))).collect(), queries: true };
        let queries = queries.encode(&device, &path).context("encoding the queries with the guide")?;
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
    pub(crate) fn table(&self, batch: &Batch, columns: &[u32]) -> Result<Vec<f32>> {
        let (queries, documents) = self.rows(batch, columns)?;
        on_host(similarities(queries, documents))
    }
}

impl PairScorer for Guide {
    fn scores(&mut self, pairs: &[(u32, u32)]) -> Result<Vec<f32>, EncodeError> {
        let mut scores = Vec::with_capacity(pairs.len());
        for pairs in pairs.chunks(PAIRS) {
            let (queries, documents): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
            let rows = |store: &EmbeddingStore, ids: &[u32]| store.rows(ids).map_err(|error| EncodeError::new(error.to_string()));
            let products = rows(&self.queries, &queries)? * rows(&self.documents, &documents)?;
            scores.extend(on_host(products.sum_dim(1)).map_err(|error| EncodeError::new(chain(&error)))?);
        }
        Ok(scores)
    }
}

/// Similarities in row-major order.
fn on_host<const D: usize>(scores: Tensor<D>) -> Result<Vec<f32>> {
    let data = scores.try_into_data().map_err(|error| anyhow::anyhow!("reading the teacher's scores: {error:?}"))?;
    data.try_into_vec::<f32>().map_err(|error| anyhow::anyhow!("reading the teacher's scores: {error:?}"))
}

/// All texts of one side, generated ones included, in the place of the documents of a store.
struct AllTexts<'a> {
    rows: &'a mut Rows,
    lengths: Vec<u32>,
    queries: bool,
}

impl AllTexts<'_> {
    fn encode(&mut self, device: &Device, path: &Path) -> Result<EmbeddingStore> {
        let count = self.lengths.len();
        kept_rows::store(path, self, count, device)
    }
}

impl RowEncoder for AllTexts<'_> {
    fn dimension(&self) -> usize {
        self.rows.dimension()
    }

    fn documents(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
        if self.queries { self.rows.queries(ids) } else { self.rows.documents(ids) }
    }

    fn queries(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
        self.rows.queries(ids)
    }

    fn document_lengths(&self) -> Option<&[u32]> {
        Some(&self.lengths)
    }

    fn token_budget(&self) -> usize {
        self.rows.token_budget()
    }
}
