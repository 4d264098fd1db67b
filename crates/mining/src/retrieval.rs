//! Negatives retrieved at every step with the query rows of that step, from documents that stay as they are (ADORE, Zhan et al. 2021, arXiv
//! 2104.08051, section 4.2).
//!
//! The document rows never change, so only the query encoder is trained and no document is encoded again. Ranks are those of the search;
//! what they weigh is the loss's business. Invariants: the store is only read; the positive of every pair is a column.

use std::collections::HashMap;
use std::sync::Arc;

use burn::tensor::Tensor;
use kernels::{MAX_K, SearchError};

use crate::error::MiningError;
use crate::knowledge::Knowledge;
use crate::store::{EmbeddingStore, check_shape};

/// Search of a document matrix that stays as it is.
#[derive(Debug)]
pub struct Retrieval {
    store: EmbeddingStore,
    knowledge: Arc<Knowledge>,
    depth: usize,
}

/// What a step of queries got. `q` queries, `c` columns; tables are `[q, c]`, row-major.
#[derive(Debug, Clone)]
pub struct Retrieved {
    /// The document of each column, ascending: everything on a list, and the positive of every pair.
    pub columns: Vec<u32>,
    /// Their rows, `[c, dimension]`, f32, on the device without autodiff. burn takes them as constants beside query rows with gradients.
    pub rows: Tensor<2>,
    /// Rank of the column on the query's list, from 1; 0 when it is not on the list. Appended positives were not retrieved and have `u32::MAX`, to
    /// which no loss counts: their weight is 0.
    pub ranks: Vec<u32>,
    /// Whether the column is on the query's list.
    pub own: Vec<bool>,
    /// Whether the document was judged relevant to the query, or is the positive of its pair; on the list or not.
    pub positive: Vec<bool>,
    /// Whether the column is neither positive nor negative for the query: it has the text of the query or of a judged document, or was
    /// judged and not relevant (where such documents are not to be served).
    pub blocked: Vec<bool>,
    /// The column of each pair's positive.
    pub targets: Vec<usize>,
}

impl Retrieval {
    /// The best `depth` documents of `store` per query and step.
    ///
    /// # Errors
    /// When the depth is beyond what search offers, or the store holds other documents than are known.
    pub fn new(store: EmbeddingStore, knowledge: Arc<Knowledge>, depth: usize) -> Result<Self, MiningError> {
        if !(1..=MAX_K).contains(&depth) {
            return Err(SearchError::Depth { k: depth }.into());
        }
        if store.len() != knowledge.documents() {
            let [got, expected] = [store.len(), knowledge.documents()];
            return Err(MiningError::Count { what: "rows in the store for the documents of the collection", got, expected });
        }
        Ok(Self { store, knowledge, depth })
    }

    /// The document rows.
    pub fn store(&self) -> &EmbeddingStore {
        &self.store
    }

    /// Documents per query.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Retrieves for the pairs (`queries[i]`, `positives[i]`) with `query_rows`, `[pairs, dimension]`, whose graph is not used.
    ///
    /// A list is the best `depth` documents of the whole store, judged ones included; when no positive of the query is among them, all its
    /// positives are appended.
    ///
    /// # Errors
    /// When numbers or shapes do not fit, an id is unknown, or the search fails.
    pub fn step(&self, query_rows: &Tensor<2>, queries: &[u32], positives: &[u32]) -> Result<Retrieved, MiningError> {
        self.check(query_rows, queries, positives)?;
        let top = self.store.search(query_rows.clone().without_autodiff(), self.depth, None, None)?;
        let mut lists = Vec::with_capacity(queries.len());
        for (row, (&query, &target)) in queries.iter().zip(positives).enumerate() {
            let mut list: Vec<(u32, u32)> = top.row(row).map(|(document, _)| document).zip(1..).collect();
            if !list.iter().any(|&(document, _)| self.is_positive(query, target, document)) {
                let mut all: Vec<u32> = self.knowledge.judgments().positives(query).chain([target]).collect();
                all.sort_unstable();
                all.dedup();
                // What was not retrieved has no rank that counts, whatever the depth and the loss's cut.
                list.extend(all.into_iter().map(|document| (document, u32::MAX)));
            }
            lists.push(list);
        }
        let mut columns: Vec<u32> = lists.iter().flatten().map(|entry| entry.0).chain(positives.iter().copied()).collect();
        columns.sort_unstable();
        columns.dedup();
        let place: HashMap<u32, usize> = columns.iter().enumerate().map(|(column, &document)| (document, column)).collect();
        let mut ranks = vec![0; queries.len() * columns.len()];
        for (row, list) in lists.iter().enumerate() {
            list.iter().for_each(|(document, rank)| ranks[row * columns.len() + place[document]] = *rank);
        }
        let cells = || queries.iter().zip(positives).flat_map(|pair| columns.iter().map(move |&document| (*pair.0, *pair.1, document)));
        let positive: Vec<bool> = cells().map(|(query, target, document)| self.is_positive(query, target, document)).collect();
        let texts = self.knowledge.places(&columns);
        let mut blocked = vec![false; positive.len()];
        for (row, (&query, &target)) in queries.iter().zip(positives).enumerate() {
            let cell = |column: usize| row * columns.len() + column;
            texts.copies(query).chain(texts.alike(target)).map(cell).for_each(|cell| blocked[cell] = !positive[cell]);
        }
        Ok(Retrieved {
            rows: self.store.rows(&columns)?,
            own: ranks.iter().map(|&rank| rank > 0).collect(),
            targets: positives.iter().map(|positive| place[positive]).collect(),
            columns,
            ranks,
            positive,
            blocked,
        })
    }

    /// Whether the document is a positive of the pair's query.
    fn is_positive(&self, query: u32, target: u32, document: u32) -> bool {
        document == target || self.knowledge.judgments().is_positive(query, document)
    }

    fn check(&self, query_rows: &Tensor<2>, queries: &[u32], positives: &[u32]) -> Result<(), MiningError> {
        check_shape("query rows", query_rows, [queries.len(), self.store.dimension()])?;
        if positives.len() != queries.len() {
            return Err(MiningError::Count { what: "positives for the queries of a step", got: positives.len(), expected: queries.len() });
        }
        let sides = [("query", queries, self.knowledge.queries()), ("document", positives, self.knowledge.documents())];
        for (side, ids, count) in sides {
            if let Some(&id) = ids.iter().find(|&&id| id as usize >= count) {
                return Err(MiningError::Beyond { side, id, count });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
