//! The columns of a step: where their rows come from, and what is known about each cell of the score matrix.
//!
//! Columns are the documents of the batch, encoded in the step with gradient, or fixed rows that no gradient reaches (a frozen matrix, a moving
//! average of the encoder), or whatever the query rows of the step retrieve; behind them the rows of a queue. Guide and teacher add what they know.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context, Result};
use burn::tensor::Tensor;
use encoder::Network;
use mining::{EmbeddingStore, EncodeError, Knowledge, PairScorer, Queue, Retrieval};
use objective::{Embedded, Marks, Side};

use crate::batches::Batch;
use crate::checkpoint::{Parts, from_safetensors, to_safetensors};
use crate::compared::{Compared, Handed, Seen, Watch};
use crate::guide::Guide;
use crate::reranker::Reranker;
use crate::runfolder::RunFolder;

/// Files of a checkpoint.
const KEY_ENCODER: &str = "key-encoder.safetensors";
const QUEUE: &str = "queue.safetensors";

/// Where the document rows of a step come from.
pub(crate) enum DocumentSide {
    /// The trained encoder, in the step, with gradient.
    Shared,
    /// Rows of the encoder that the round started from, computed once: only the query side learns.
    Frozen(EmbeddingStore),
    /// The same, and the columns are what the queries of the step retrieve from it (ADORE, Zhan et al. 2021, arXiv 2104.08051).
    Retrieved(Retrieval),
    /// θ_k ← m·θ_k + (1−m)·θ_q, updated before each step (MoCo, He et al. 2020, arXiv 1911.05722).
    Momentum {
        /// The encoder of documents, without autodiff.
        key: Box<Network>,
        /// m.
        momentum: f64,
    },
}

impl DocumentSide {
    /// The document rows that stay as they are, if they do.
    pub(crate) fn store(&self) -> Option<&EmbeddingStore> {
        match self {
            Self::Frozen(store) => Some(store),
            Self::Retrieved(retrieval) => Some(retrieval.store()),
            Self::Shared | Self::Momentum { .. } => None,
        }
    }
}

/// Whose scores are distilled, and read by filters and draws.
pub(crate) enum Teacher {
    /// Another encoder.
    Encoder(Box<Guide>),
    /// The round's cross-encoder.
    Reranker(Box<Reranker>),
}

impl Teacher {
    /// Its scores for the loss, `[queries, columns]`, NaN where it was not asked.
    fn table(&mut self, batch: &Batch, columns: &[u32], at: usize) -> Result<Vec<f32>> {
        match self {
            Self::Encoder(guide) => guide.table(batch, columns),
            Self::Reranker(reranker) => reranker.table(batch, columns, at),
        }
    }
}

impl PairScorer for Teacher {
    fn scores(&mut self, pairs: &[(u32, u32)]) -> Result<Vec<f32>, EncodeError> {
        match self {
            Self::Encoder(guide) => guide.scores(pairs),
            Self::Reranker(reranker) => reranker.scores(pairs),
        }
    }
}

/// The rows of earlier steps as further columns.
pub(crate) struct Bank {
    pub(crate) queue: Queue,
    /// The first step of the run at which its rows count: those of an encoder that moves fast mislead.
    pub(crate) serves_from: usize,
}

/// Makes the columns of every step.
pub(crate) struct Columns {
    pub(crate) documents: DocumentSide,
    pub(crate) bank: Option<Bank>,
    /// Its similarities mask false negatives.
    pub(crate) guide: Option<Guide>,
    /// Its scores are read by filters and draws, and by the loss if that distils.
    pub(crate) teacher: Option<Teacher>,
    pub(crate) distils: bool,
    /// Its scores take the teacher's place where a query meets other queries' documents.
    pub(crate) in_batch_teacher: Option<Guide>,
    pub(crate) knowledge: Arc<Knowledge>,
    /// What is counted of them.
    pub(crate) watch: Watch,
}

/// The columns of a step for the loss, and what is to be logged about them.
pub(crate) struct Made {
    pub(crate) embedded: Embedded,
    pub(crate) compared: Option<Compared>,
    pub(crate) seen: Option<Seen>,
    /// Of a reranker that was trained in the step, by name.
    pub(crate) parts: Vec<(Cow<'static, str>, Tensor<1>)>,
}

impl Columns {
    /// Whether documents are encoded in the step by the trained network.
    pub(crate) fn are_encoded(&self) -> bool {
        matches!(self.documents, DocumentSide::Shared)
    }

    /// Before a step: the moving average follows the trained network.
    ///
    /// # Errors
    /// When the two are not of one kind.
    pub(crate) fn follow(&mut self, trained: &Network) -> Result<()> {
        if let DocumentSide::Momentum { key, momentum } = &mut self.documents {
            **key = mining::momentum_update((**key).clone(), trained, *momentum).context("updating the document encoder")?;
        }
        Ok(())
    }

    /// The embedded batch and its accounts: `queries` are its query rows, `encoded` those of its documents where [`Self::are_encoded`], `at` the step in the round as learning rates count.
    ///
    /// # Errors
    /// When rows cannot be had or parts do not fit together.
    pub(crate) fn embed(&mut self, batch: &Batch, queries: Tensor<2>, encoded: Option<Tensor<2>>, at: usize) -> Result<Made> {
        let mut columns = batch.columns.clone();
        let mut embedded = match &self.documents {
            DocumentSide::Shared => plain(batch, queries, encoded.expect("the batch was assembled with its documents behind the queries")),
            DocumentSide::Frozen(store) => {
                let rows = store.rows(&columns).context("reading the frozen document rows")?;
                plain(batch, queries, rows.autodiff())
            }
            DocumentSide::Momentum { key, .. } => {
                let device = key.device();
                let rows = batch.documents.iter().map(|chunk| key.encode(chunk, &device)).collect();
                plain(batch, queries, Tensor::cat(rows, 0).autodiff())
            }
            DocumentSide::Retrieved(retrieval) => {
                let (ids, positives): (Vec<u32>, Vec<u32>) = batch.pairs.iter().copied().unzip();
                let found = retrieval.step(&queries, &ids, &positives).context("retrieving the documents of the step")?;
                columns = found.columns;
                let marks = |cells: Vec<bool>| Marks::from_cells(columns.len(), cells);
                let side = Side { own: marks(found.own), ranks: found.ranks, positives: marks(found.positive), ..Side::default() };
                Embedded { queries, documents: found.rows.autodiff(), targets: found.targets, blocked: marks(found.blocked), side }
            }
        };
        let before_queue = columns.len();
        let queue_age = self.bank.as_ref().and_then(|bank| bank.queue.age_range());
        if let Some(bank) = &mut self.bank {
            let pushed = embedded.documents.clone();
            if batch.step >= bank.serves_from && !bank.queue.is_empty() {
                append(&mut embedded, bank, batch, &self.knowledge, &mut columns)?;
            }
            bank.queue.push(pushed, &batch.columns).context("filling the queue")?;
        }
        if let Some(guide) = &self.guide {
            let (queries, documents) = guide.rows(batch, &columns)?;
            embedded.side.guide = Some(objective::Guide { queries, documents });
        }
        let mut parts = Vec::new();
        if let Some(teacher) = self.teacher.as_mut().filter(|_| self.distils) {
            embedded.side.teacher = teacher.table(batch, &columns, at)?;
            if let Teacher::Reranker(reranker) = teacher {
                parts = reranker.take_step();
            }
        }
        if let Some(teacher) = &self.in_batch_teacher {
            let foreign = teacher.table(batch, &columns)?;
            embedded.side.teacher = beside_own(&embedded.side, &foreign, &embedded.targets);
        }
        if at == 0 && self.distils && !knows_a_pair(&embedded.side.teacher, columns.len()) {
            tracing::warn!(
                "the teacher scored no two documents of any query of the first batch: what is distilled from it teaches nothing there; do its scores belong to \
                 this collection and these negatives?"
            );
        }
        embedded.side.relevant = self.watch.relevant(batch, &columns);
        let retrieved = matches!(self.documents, DocumentSide::Retrieved(_));
        let handed = Handed { embedded: &embedded, columns: &columns, before_queue, retrieved, queue_age };
        let compared = self.watch.count(batch, &handed).context("counting what the step compares")?;
        let seen = self.watch.see(&handed);
        Ok(Made { embedded, compared, seen, parts })
    }

    /// At the end of a round: lets the teacher go and keeps in the run folder what the next round may start from.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn end_round(&mut self, folder: &RunFolder, round: usize) -> Result<()> {
        // Dropped here: the next round's reranker opens the same file of scores.
        match self.teacher.take() {
            Some(Teacher::Reranker(reranker)) => reranker.keep(folder, round),
            _ => Ok(()),
        }
    }

    /// What a checkpoint has to hold.
    ///
    /// # Errors
    /// When tensors cannot be read from the device.
    pub(crate) fn state(&self) -> Result<Parts> {
        let mut parts = Parts::new();
        if let DocumentSide::Momentum { key, .. } = &self.documents {
            parts.insert(KEY_ENCODER.to_owned(), to_safetensors(&key.tensors())?);
        }
        if let Some(bank) = &self.bank {
            parts.insert(QUEUE.to_owned(), to_safetensors(&bank.queue.state()?)?);
        }
        if let Some(Teacher::Reranker(reranker)) = &self.teacher {
            parts.extend(reranker.state()?);
        }
        Ok(parts)
    }

    /// Goes back to a saved state.
    ///
    /// # Errors
    /// When the checkpoint lacks it or it fits another run.
    pub(crate) fn restore(&mut self, parts: &Parts) -> Result<()> {
        let part =
            |name: &str| -> Result<_> { from_safetensors(parts.get(name).with_context(|| format!("the checkpoint has no {name}"))?) };
        if let DocumentSide::Momentum { key, .. } = &mut self.documents {
            **key = (**key).clone().with_tensors(part(KEY_ENCODER)?).context("restoring the document encoder")?;
        }
        if let Some(bank) = &mut self.bank {
            bank.queue.restore(part(QUEUE)?).context("restoring the queue")?;
        }
        if let Some(Teacher::Reranker(reranker)) = &mut self.teacher {
            reranker.restore(parts)?;
        }
        Ok(())
    }
}

/// The columns that the batch was assembled with.
fn plain(batch: &Batch, queries: Tensor<2>, documents: Tensor<2>) -> Embedded {
    let side = Side { own: batch.own.clone(), teacher: batch.teacher.clone(), synthetic: batch.synthetic.clone(), ..Side::default() };
    Embedded { queries, documents, targets: batch.targets.clone(), blocked: batch.blocked.clone(), side }
}

/// The teacher's scores of own cells, and those of a second teacher, `[queries, columns]`, of all others. What is distilled are margins below the
/// query's target, so the second's are moved by what the two give the target: each margin is one teacher's alone.
fn beside_own(side: &Side, foreign: &[f32], targets: &[usize]) -> Vec<f32> {
    let columns = foreign.len() / targets.len();
    let mut table = if side.teacher.is_empty() { vec![f32::NAN; foreign.len()] } else { side.teacher.clone() };
    for (query, (&target, row)) in targets.iter().zip(table.chunks_exact_mut(columns)).enumerate() {
        let first = query * columns;
        let known = !row[target].is_nan();
        let moved = if known { row[target] - foreign[first + target] } else { 0.0 };
        for (column, score) in row.iter_mut().enumerate() {
            if column == target {
                *score = foreign[first + target] + moved;
            } else if !side.own.get(query, column) {
                *score = foreign[first + column] + moved;
            } else if !known {
                // The first teacher does not know the target: there is no margin of this pair.
                *score = f32::NAN;
            }
        }
    }
    table
}

/// Whether a table of scores, `[queries, columns]`, NaN where nothing is known, compares two documents of any query.
fn knows_a_pair(table: &[f32], columns: usize) -> bool {
    table.chunks(columns.max(1)).any(|row| row.iter().filter(|score| !score.is_nan()).count() > 1)
}

/// Puts the rows of the queue behind the columns there are.
fn append(embedded: &mut Embedded, bank: &Bank, batch: &Batch, knowledge: &Knowledge, columns: &mut Vec<u32>) -> Result<()> {
    let (rows, ids) = bank.queue.columns();
    let queries: Vec<u32> = batch.pairs.iter().map(|pair| pair.0).collect();
    // A document of this batch that is in the queue too is one column, with its fresh row.
    let fresh: HashSet<u32> = columns.iter().copied().collect();
    let mut blocked = Marks::repeat(&ids.iter().map(|id| fresh.contains(id)).collect::<Vec<_>>(), queries.len());
    let known = bank.queue.blocked(&queries, knowledge).context("looking for positives in the queue")?;
    for (row, places) in known.iter().enumerate() {
        places.iter().for_each(|&place| blocked.set(row, place, true));
    }
    let (count, more) = (columns.len(), ids.len());
    if embedded.blocked.is_empty() {
        embedded.blocked = Marks::new(queries.len(), count);
    }
    embedded.blocked = embedded.blocked.beside(&blocked);
    for table in [&mut embedded.side.own, &mut embedded.side.positives].into_iter().filter(|table| !table.is_empty()) {
        *table = table.beside(&Marks::new(queries.len(), more));
    }
    if !embedded.side.teacher.is_empty() {
        embedded.side.teacher = beside(&embedded.side.teacher, &vec![f32::NAN; queries.len() * more], count, more);
    }
    if !embedded.side.ranks.is_empty() {
        embedded.side.ranks = beside(&embedded.side.ranks, &vec![0; queries.len() * more], count, more);
    }
    if !embedded.side.synthetic.is_empty() {
        embedded.side.synthetic.resize(count + more, false);
    }
    embedded.documents = Tensor::cat(vec![embedded.documents.clone(), rows.autodiff()], 0);
    columns.extend_from_slice(ids);
    Ok(())
}

/// Two tables of `left` and `right` columns side by side, row-major.
fn beside<T: Clone>(first: &[T], second: &[T], left: usize, right: usize) -> Vec<T> {
    first.chunks_exact(left).zip(second.chunks_exact(right)).flat_map(|(first, second)| first.iter().chain(second).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_margin_is_one_teachers_alone() {
        let unknown = f32::NAN;
        // Query 0: target 0, own negative 1. Query 1: target 2, own negative 3, and the first teacher does not know its target.
        let teacher = vec![9.0, 5.0, unknown, unknown, unknown, unknown, unknown, 4.0];
        let foreign = [0.5, 0.9, 0.25, -0.5, 0.125, 0.25, 0.75, 0.5];
        let own = Marks::from_cells(4, [true, true, false, false, false, false, true, true]);
        let side = Side { own, teacher, ..Side::default() };
        let table = beside_own(&side, &foreign, &[0, 2]);
        let margin = |query: usize, target: usize, column: usize| table[query * 4 + target] - table[query * 4 + column];
        assert_eq!([margin(0, 0, 1), margin(0, 0, 2), margin(0, 0, 3)], [4.0, 0.25, 1.0]);
        assert_eq!([margin(1, 2, 0), margin(1, 2, 1)], [0.625, 0.5]);
        assert!(margin(1, 2, 3).is_nan());
        // Without any score of the first.
        let side = Side { teacher: Vec::new(), ..side };
        assert_eq!(beside_own(&side, &foreign, &[0, 2])[4..7], foreign[4..7]);
    }

    #[test]
    fn a_teacher_that_knows_one_document_of_each_query_compares_none() {
        let unknown = f32::NAN;
        assert!(!knows_a_pair(&[1.0, unknown, unknown, 2.0], 2) && !knows_a_pair(&[], 2));
        assert!(knows_a_pair(&[1.0, unknown, 3.0, 2.0], 2));
    }

    #[test]
    fn tables_lie_side_by_side() {
        assert_eq!(beside(&[1, 2, 3, 4], &[5, 6], 2, 1), [1, 2, 5, 3, 4, 6]);
    }
}
