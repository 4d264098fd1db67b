//! Every loss in plain `f64` Rust, written for clarity: the oracle that values and finite differences are taken from.
//!
//! Follows the formulas literally and shares no code with `loss/`. Slow, and never called while training.

/// A batch in host memory; the fields mean what they mean in [`Embedded`](crate::Embedded).
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[queries, dimension]`, row-major.
    pub queries: Vec<f64>,
    /// `[candidates, dimension]`, row-major.
    pub documents: Vec<f64>,
    /// Width of the rows.
    pub dimension: usize,
    /// Column of each query's positive.
    pub targets: Vec<usize>,
    /// `[queries * candidates]`, or empty.
    pub blocked: Vec<bool>,
}

impl Batch {
    fn columns(&self) -> usize {
        self.documents.len() / self.dimension
    }

    /// Dot product of query `query` and document `column`.
    fn score(&self, query: usize, column: usize) -> f64 {
        let query = &self.queries[query * self.dimension..][..self.dimension];
        let document = &self.documents[column * self.dimension..][..self.dimension];
        query.iter().zip(document).map(|(a, b)| a * b).sum()
    }

    fn is_candidate(&self, query: usize, column: usize) -> bool {
        self.targets[query] == column || self.blocked.is_empty() || !self.blocked[query * self.columns() + column]
    }
}

/// InfoNCE, see [`InfoNce`](crate::loss::InfoNce).
pub fn info_nce(batch: &Batch, temperature: f64, symmetric: bool) -> f64 {
    let queries = batch.targets.len();
    let mut forward = 0.0;
    for (query, &target) in batch.targets.iter().enumerate() {
        let logits =
            (0..batch.columns()).filter(|&column| batch.is_candidate(query, column)).map(|column| batch.score(query, column) / temperature);
        forward += log_sum_exp(logits) - batch.score(query, target) / temperature;
    }
    forward /= queries as f64;
    if !symmetric {
        return forward;
    }
    let mut backward = 0.0;
    for (query, &target) in batch.targets.iter().enumerate() {
        let logits = (0..queries)
            .filter(|&other| other == query || (batch.targets[other] != target && batch.is_candidate(other, target)))
            .map(|other| batch.score(other, target) / temperature);
        backward += log_sum_exp(logits) - batch.score(query, target) / temperature;
    }
    (forward + backward / queries as f64) / 2.0
}

/// The pairwise loss, see [`Pairwise`](crate::loss::Pairwise).
pub fn pairwise(batch: &Batch, temperature: f64) -> f64 {
    let (mut sum, mut pairs) = (0.0, 0usize);
    for (query, &target) in batch.targets.iter().enumerate() {
        for column in (0..batch.columns()).filter(|&column| column != target && batch.is_candidate(query, column)) {
            let margin = (batch.score(query, column) - batch.score(query, target)) / temperature;
            sum += margin.max(0.0) + (-margin.abs()).exp().ln_1p();
            pairs += 1;
        }
    }
    sum / pairs.max(1) as f64
}

fn log_sum_exp(logits: impl Iterator<Item = f64>) -> f64 {
    let logits: Vec<f64> = logits.collect();
    let maximum = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    maximum + logits.iter().map(|logit| (logit - maximum).exp()).sum::<f64>().ln()
}
