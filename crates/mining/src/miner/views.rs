//! A block of queries beside the rows of all documents, as one model sees them.

use burn::tensor::Tensor;
use kernels::layers::normalize;

use super::Miner;
use super::encode::encoder;
use crate::config::Model;
use crate::encoders::Encoders;
use crate::error::MiningError;
use crate::row_encoder::{encode_documents, encode_queries};
use crate::store::{EmbeddingStore, read};

/// What a model makes of a block of queries. Rows by query of the block.
pub(super) struct View<'a> {
    pub(super) rows: Tensor<2>,
    pub(super) store: &'a EmbeddingStore,
    /// Similarities of judged documents, in their order.
    pub(super) judged: Vec<Vec<f32>>,
    /// Similarities of positives, in their order.
    pub(super) positives: Vec<Vec<f32>>,
    /// Cosines of positives; empty rows unless a filter reads cosines.
    pub(super) cosines: Vec<Vec<f32>>,
    /// The lowest similarity of a positive; NaN when there is none.
    pub(super) lowest: Vec<f32>,
    /// The highest similarity that the filters let pass.
    pub(super) ceilings: Vec<f32>,
}

impl Miner {
    /// The view of `model`, whose rows are up to date.
    pub(super) fn view<'a>(
        &'a self,
        model: &Model,
        queries: &[u32],
        judged: &[Vec<u32>],
        positives: &[Vec<u32>],
        encoders: &mut dyn Encoders,
    ) -> Result<View<'a>, MiningError> {
        let store = self.stores.get(model).ok_or(MiningError::Unfilled)?;
        let rows = store.as_searched(encode_queries(encoder(encoders, model)?, queries)?);
        let judged = by_row(judged, |pairs| store.similarities(&rows, pairs))?;
        let cosines = if self.chain.reads_cosine() {
            by_row(positives, |pairs| store.cosines(&rows, pairs))?
        } else {
            vec![Vec::new(); queries.len()]
        };
        let positives = by_row(positives, |pairs| store.similarities(&rows, pairs))?;
        let lowest: Vec<f32> = positives.iter().map(|scores| lowest(scores)).collect();
        let ceilings = lowest.iter().map(|&lowest| self.chain.ceiling(lowest)).collect();
        Ok(View { rows, store, judged, positives, cosines, lowest, ceilings })
    }
}

impl View<'_> {
    /// Similarities of `documents` by query, or their cosines.
    pub(super) fn scores(&self, documents: &[Vec<u32>], cosine: bool) -> Result<Vec<Vec<f32>>, MiningError> {
        by_row(documents, |pairs| if cosine { self.store.cosines(&self.rows, pairs) } else { self.store.similarities(&self.rows, pairs) })
    }

    /// The same of documents outside the store, which are encoded for that.
    pub(super) fn scores_outside(
        &self,
        documents: &[Vec<u32>],
        cosine: bool,
        model: &Model,
        encoders: &mut dyn Encoders,
    ) -> Result<Vec<Vec<f32>>, MiningError> {
        let mut ids: Vec<u32> = documents.iter().flatten().copied().collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(vec![Vec::new(); documents.len()]);
        }
        let outside = encode_documents(encoder(encoders, model)?, &ids)?;
        let product = pair_products(&self.rows, &outside, cosine);
        by_row(documents, |pairs| {
            let places: Vec<(u32, u32)> =
                pairs.iter().map(|&(row, document)| (row, ids.partition_point(|&id| id < document) as u32)).collect();
            product(&places)
        })
    }
}

/// The lowest of some scores; NaN when there is none.
pub(super) fn lowest(scores: &[f32]) -> f32 {
    // `f32::min` passes over NaN, the start value.
    scores.iter().copied().fold(f32::NAN, f32::min)
}

/// Products of `(row of queries, row of documents)` pairs, of unit rows when `cosine`.
pub(super) fn pair_products(
    queries: &Tensor<2>,
    documents: &Tensor<2>,
    cosine: bool,
) -> impl Fn(&[(u32, u32)]) -> Result<Vec<f32>, MiningError> + use<> {
    let length = |rows: &Tensor<2>| {
        let rows = rows.clone().cast(burn::tensor::DType::F32);
        if cosine { normalize(rows) } else { rows }
    };
    let (queries, documents) = (length(queries), length(documents));
    move |pairs| {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let (rows, places): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
        let chosen = |rows: &Tensor<2>, places: &[u32]| rows.clone().select(0, crate::store::indices_on(places, &rows.device()));
        read((chosen(&queries, &rows) * chosen(&documents, &places)).sum_dim(1), "scoring pairs")
    }
}

/// Scores all pairs of row i and the documents of row i in one go.
pub(super) fn by_row(
    documents: &[Vec<u32>],
    score: impl FnOnce(&[(u32, u32)]) -> Result<Vec<f32>, MiningError>,
) -> Result<Vec<Vec<f32>>, MiningError> {
    let pairs: Vec<(u32, u32)> =
        (0..).zip(documents).flat_map(|(row, documents)| documents.iter().map(move |&document| (row, document))).collect();
    let mut flat = score(&pairs)?.into_iter();
    Ok(documents.iter().map(|documents| flat.by_ref().take(documents.len()).collect()).collect())
}
