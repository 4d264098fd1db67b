//! Tests of the parts together, and the small world they share: documents and queries with placed vectors.

mod columns;
mod config;
mod golden;
mod miner;
mod properties;
mod schedules;
mod shortcut;
mod sources;
mod store;
mod teacher;

use burn::tensor::{Device, Tensor, TensorData};
use corpus::{Collection, Judgments};

use crate::{Candidate, EncodeError, Miner, MiningError, Moment, NegativesConfig, Only, RefreshReport, RowEncoder};

/// An encoder whose rows were placed by hand.
pub(crate) struct Placed {
    pub(crate) dimension: usize,
    pub(crate) documents: Vec<Vec<f32>>,
    pub(crate) queries: Vec<Vec<f32>>,
    pub(crate) lengths: Option<Vec<u32>>,
    /// Ids of each call for documents.
    pub(crate) calls: Vec<Vec<u32>>,
    pub(crate) device: Device,
}

impl Placed {
    pub(crate) fn new(documents: Vec<Vec<f32>>, queries: Vec<Vec<f32>>) -> Self {
        let dimension = documents.first().map_or(1, Vec::len);
        Self { dimension, documents, queries, lengths: None, calls: Vec::new(), device: Device::flex() }
    }

    fn rows(&self, table: &[Vec<f32>], ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
        let mut values = Vec::new();
        for &id in ids {
            values.extend(table.get(id as usize).ok_or_else(|| EncodeError::new(format!("no vector {id}")))?);
        }
        Ok(tensor(values, self.dimension, &self.device))
    }
}

impl RowEncoder for Placed {
    fn dimension(&self) -> usize {
        self.dimension
    }

    fn documents(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
        self.calls.push(ids.to_vec());
        self.rows(&self.documents, ids)
    }

    fn queries(&mut self, ids: &[u32]) -> Result<Tensor<2>, EncodeError> {
        self.rows(&self.queries, ids)
    }

    fn document_lengths(&self) -> Option<&[u32]> {
        self.lengths.as_deref()
    }

    fn token_budget(&self) -> usize {
        40
    }
}

pub(crate) fn tensor(values: Vec<f32>, dimension: usize, device: &Device) -> Tensor<2> {
    let rows = values.len() / dimension;
    Tensor::from_data(TensorData::new(values, [rows, dimension]), device)
}

pub(crate) fn values(rows: Tensor<2>) -> Vec<f32> {
    rows.into_data().try_into_vec().unwrap()
}

/// Documents `d0…` and queries `q0…` with these texts.
pub(crate) fn collection<T: AsRef<str>>(documents: &[T], queries: &[T]) -> Collection {
    let mut collection = Collection { name: "placed".into(), ..Collection::default() };
    for (number, text) in documents.iter().enumerate() {
        collection.documents.push(&format!("d{number}"), text.as_ref()).unwrap();
    }
    for (number, text) in queries.iter().enumerate() {
        collection.queries.push(&format!("q{number}"), text.as_ref()).unwrap();
    }
    collection
}

/// A line of documents for one query at (1, 0): document i has the similarity `scores[i]`.
pub(crate) fn on_a_line(scores: &[f32]) -> Placed {
    Placed::new(scores.iter().map(|&score| vec![score, 1.0]).collect(), vec![vec![1.0, 0.0]])
}

/// Texts that differ.
pub(crate) fn texts(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix} {number}")).collect()
}

pub(crate) fn config(toml: &str) -> NegativesConfig {
    let config: NegativesConfig = toml::from_str(toml).unwrap();
    config.validate().unwrap();
    config
}

pub(crate) fn judged(queries: usize, pairs: &[(u32, u32)]) -> Judgments {
    Judgments::from_pairs(queries, pairs.iter().map(|&(query, document)| (query, document, 1)).collect())
}

/// Similarities of the documents of [`line`].
pub(crate) const LINE: [f32; 8] = [0.8, 0.95, 0.79, 0.77, 0.7, 0.6, 0.3, 0.2];

/// One query, positive document 0, eight documents.
pub(crate) fn line() -> (Collection, Judgments, Placed) {
    (collection(&texts("document", 8), &texts("query", 1)), judged(1, &[(0, 0)]), on_a_line(&LINE))
}

pub(crate) fn documents(negatives: &[Candidate]) -> Vec<u32> {
    negatives.iter().map(|it| it.document).collect()
}

/// A refresh in the first round, with one encoder.
pub(crate) fn refresh(miner: &mut Miner, step: usize, epoch: usize, encoder: &mut Placed) -> Result<RefreshReport, MiningError> {
    miner.refresh(Moment::new(step, epoch), &mut Only(encoder))
}
