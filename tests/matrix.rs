//! The score matrix of a step of a run on builtin:demo, by hand: which cells are open, and what they score with the rows of a model. A loss that is
//! made of it is what the step should have logged.

use std::collections::BTreeSet;
use std::path::Path;

use crate::recipes_dynamic::runs::{Drawn, Run, TEMPERATURE, dot, encode, known, mean};

/// Columns beside the documents of the batch.
#[derive(Clone, Copy)]
pub(crate) enum Block {
    /// The query against the other queries.
    Queries,
    /// The query's positive against the other queries' positives.
    Positives,
    /// The query's positive against all other documents.
    Documents,
}

/// Queries against the documents of their batch, each document one column.
pub(crate) struct Matrix {
    pub(crate) drawn: Vec<Drawn>,
    pub(crate) columns: Vec<String>,
    /// The column of each query's positive.
    pub(crate) targets: Vec<usize>,
    queries: Vec<Vec<f64>>,
    documents: Vec<Vec<f64>>,
    /// By row and column: the positive, or nothing that is known about the query.
    open: Vec<Vec<bool>>,
}

impl Matrix {
    /// Of one step, with the rows that `model` gives.
    pub(crate) fn new(folder: &Path, model: &str, run: &Run, step: usize) -> Self {
        let drawn: Vec<Drawn> = run.drawn().into_iter().filter(|row| row.step == step).collect();
        let all = drawn.iter().flat_map(|row| row.negatives.iter().map(|it| &it.id).chain([&row.positive]));
        let columns: Vec<String> = all.collect::<BTreeSet<_>>().into_iter().cloned().collect();
        let queries = encode(folder, model, "query", drawn.iter().map(|row| &row.query));
        let documents = encode(folder, model, "document", &columns);
        let open = |row: &Drawn| columns.iter().map(|column| *column == row.positive || !known(&row.query, column)).collect();
        Self {
            targets: drawn.iter().map(|row| columns.binary_search(&row.positive).unwrap()).collect(),
            queries: drawn.iter().map(|row| queries[&row.query].clone()).collect(),
            documents: columns.iter().map(|column| documents[column].clone()).collect(),
            open: drawn.iter().map(open).collect(),
            columns,
            drawn,
        }
    }

    pub(crate) fn rows(&self) -> std::ops::Range<usize> {
        0..self.drawn.len()
    }

    pub(crate) fn score(&self, row: usize, column: usize) -> f64 {
        dot(&self.queries[row], &self.documents[column])
    }

    /// The score of a query and its positive.
    pub(crate) fn target(&self, row: usize) -> f64 {
        self.score(row, self.targets[row])
    }

    /// The score of two documents.
    pub(crate) fn between(&self, one: usize, other: usize) -> f64 {
        dot(&self.documents[one], &self.documents[other])
    }

    /// The columns of what was drawn for the query.
    pub(crate) fn own(&self, row: usize) -> Vec<usize> {
        self.drawn[row].negatives.iter().map(|it| self.columns.binary_search(&it.id).unwrap()).collect()
    }

    /// The columns that a query may be compared with, beside its positive.
    pub(crate) fn open(&self, row: usize) -> Vec<usize> {
        (0..self.columns.len()).filter(|&column| column != self.targets[row] && self.open[row][column]).collect()
    }

    /// Scores of a query's negatives: the documents, then the blocks. Which cells these are does not depend on the model.
    pub(crate) fn negatives(&self, row: usize, blocks: &[Block]) -> Vec<f64> {
        let (target, targets) = (self.targets[row], &self.targets);
        let mut scores: Vec<f64> = self.open(row).into_iter().map(|column| self.score(row, column)).collect();
        for block in blocks {
            // Two queries that share an answer are no negatives of one another, nor are their positives.
            let rows_of = |column: usize| self.rows().filter(move |&other| targets[other] == column);
            match block {
                Block::Queries => scores.extend(
                    self.rows()
                        .filter(|&other| targets[other] != target && self.open[row][targets[other]] && self.open[other][target])
                        .map(|other| dot(&self.queries[row], &self.queries[other])),
                ),
                Block::Positives | Block::Documents => scores.extend(
                    self.open(row)
                        .into_iter()
                        .filter(|column| matches!(block, Block::Documents) || targets.contains(column))
                        .filter(|&column| rows_of(column).all(|other| self.open[other][target]))
                        .map(|column| self.between(target, column)),
                ),
            }
        }
        scores
    }

    /// InfoNCE over these negatives of each query.
    pub(crate) fn info_nce(&self, negatives: impl Fn(usize) -> Vec<f64>) -> f64 {
        mean(self.rows().map(|row| log_loss(self.target(row), &negatives(row))))
    }

    /// The mean over all pairs of a query and one of these columns, each a choice between two.
    pub(crate) fn pairwise(&self, columns: impl Fn(usize) -> Vec<usize>) -> f64 {
        let pairs = self.rows().flat_map(|row| columns(row).into_iter().map(move |column| (row, column)));
        mean(pairs.map(|(row, column)| log_loss(self.target(row), &[self.score(row, column)])))
    }
}

/// Minus the logarithm of the share of the target among all.
pub(crate) fn log_loss(target: f64, negatives: &[f64]) -> f64 {
    negatives.iter().map(|score| ((score - target) / TEMPERATURE).exp()).sum::<f64>().ln_1p()
}
