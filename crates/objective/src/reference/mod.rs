//! Every loss in plain `f64` Rust, written for clarity: the oracle that values and finite differences are taken from.
//!
//! Follows the formulas literally; of `loss/` it uses the settings alone (and the random numbers of mixing, which are an input). Slow, and
//! never called while training. `matrix` says which scores a row holds, `contrastive` and `labelled` what a loss makes of them.

mod contrastive;
mod labelled;
mod matrix;

use crate::loss::{LossConfig, LossKind, Now, TermConfig};
pub use matrix::mixed_vectors;
use matrix::{Matrix, unit};

/// A batch in host memory; the fields mean what they mean in [`Embedded`](crate::Embedded) and [`Side`](crate::candidates::Side).
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// `[queries * candidates]`, or empty.
    pub own: Vec<bool>,
    /// `[queries * candidates]`, NaN where unknown, or empty.
    pub teacher: Vec<f64>,
    /// `[queries * candidates]`, or empty.
    pub ranks: Vec<u32>,
    /// `[queries * candidates]`, or empty.
    pub positives: Vec<bool>,
    /// `[candidates]`, or empty.
    pub synthetic: Vec<bool>,
    /// The guide's rows of the queries, row-major, or empty.
    pub guide_queries: Vec<f64>,
    /// The guide's rows of the candidates, row-major, or empty.
    pub guide_documents: Vec<f64>,
}

impl Batch {
    fn columns(&self) -> usize {
        self.documents.len() / self.dimension
    }

    fn query(&self, query: usize) -> &[f64] {
        &self.queries[query * self.dimension..][..self.dimension]
    }

    fn document(&self, column: usize) -> &[f64] {
        &self.documents[column * self.dimension..][..self.dimension]
    }

    fn cell<T: Copy>(&self, list: &[T], query: usize, column: usize, default: T) -> T {
        if list.is_empty() { default } else { list[query * self.columns() + column] }
    }

    fn is_target(&self, query: usize, column: usize) -> bool {
        self.targets[query] == column
    }

    fn is_candidate(&self, query: usize, column: usize) -> bool {
        let refused = self.cell(&self.blocked, query, column, false) || self.cell(&self.positives, query, column, false);
        self.is_target(query, column) || !refused
    }

    fn is_own(&self, query: usize, column: usize) -> bool {
        self.is_target(query, column) || self.cell(&self.own, query, column, true)
    }

    fn teacher(&self, query: usize, column: usize) -> Option<f64> {
        Some(self.cell(&self.teacher, query, column, f64::NAN)).filter(|score| !score.is_nan())
    }

    /// The batch with embeddings cut to their first numbers.
    fn cut(&self, width: usize, normalize: bool) -> Self {
        let cut = |rows: &[f64]| -> Vec<f64> {
            let rows = rows.chunks(self.dimension).map(|row| row[..width].to_vec());
            rows.flat_map(|row| if normalize { unit(&row) } else { row }).collect()
        };
        Self { queries: cut(&self.queries), documents: cut(&self.documents), dimension: width, ..self.clone() }
    }
}

/// The value of a configuration, see [`LossConfig::evaluate`]. `learned` is the temperature when it is learned, `mixed` what
/// [`mixed_vectors`] gave (constants, whatever the batch): empty without mixing.
pub fn evaluate(config: &LossConfig, batch: &Batch, now: &Now, learned: Option<f64>, mixed: &[Vec<Vec<f64>>]) -> f64 {
    if config.matryoshka.is_empty() {
        return sum(config, batch, now, learned, mixed);
    }
    let weight = |number: usize| config.matryoshka_weights.get(number).copied().unwrap_or(1.0);
    let (mut value, mut total) = (0.0, 0.0);
    for (number, &width) in config.matryoshka.iter().enumerate() {
        value += weight(number) * sum(config, &batch.cut(width, config.matryoshka_normalize), now, learned, mixed);
        total += weight(number);
    }
    value / total
}

fn sum(config: &LossConfig, batch: &Batch, now: &Now, learned: Option<f64>, mixed: &[Vec<Vec<f64>>]) -> f64 {
    let matrix = Matrix::new(config, batch, now, mixed);
    let temperature = learned.unwrap_or(config.temperature.at(now));
    let LossConfig { kind, symmetric, in_batch, teacher_scale, teacher_temperature, beta, tau_plus, cut, .. } = *config;
    let main =
        TermConfig { kind, weight: 1.0, symmetric, in_batch, teacher_scale, teacher_temperature, beta, tau_plus, cut, temperature: None };
    let terms = config
        .term
        .iter()
        .map(|term| term.weight * single(term, batch, &matrix, term.temperature.map_or(temperature, |temperature| temperature.at(now))));
    config.weight * single(&main, batch, &matrix, temperature) + terms.sum::<f64>()
}

/// One loss of the sum at a temperature.
fn single(settings: &TermConfig, batch: &Batch, matrix: &Matrix, temperature: f64) -> f64 {
    let tau_plus = settings.tau_plus.unwrap_or(0.01);
    match LossKind::name(settings.kind) {
        "info-nce" => contrastive::info_nce(batch, matrix, temperature, settings.symmetric),
        "pairwise" => contrastive::pairwise(matrix, temperature),
        "lce" => contrastive::lce(matrix, temperature),
        "debiased" => contrastive::debiased(matrix, temperature, tau_plus),
        "hcl" => contrastive::hcl(matrix, temperature, settings.beta.unwrap_or(1.0), tau_plus),
        "ccr" => contrastive::ccr(matrix, temperature, settings.beta.unwrap_or(0.5)),
        "passage-centric" => contrastive::passage_centric(batch, temperature),
        "margin-mse" if settings.in_batch => labelled::margin_mse_in_batch(batch, temperature, settings.teacher_scale.unwrap_or(1.0)),
        "margin-mse" => labelled::margin_mse(batch, temperature, settings.teacher_scale.unwrap_or(1.0)),
        "kl" => labelled::kl(batch, temperature, settings.teacher_temperature.unwrap_or(1.0)),
        "adversarial" => labelled::adversarial(batch, temperature),
        "lambda-mrr" => labelled::lambda_mrr(batch, temperature, settings.cut.unwrap_or(200)),
        other => panic!("no reference for {other}"),
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.into_iter().collect();
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

fn log_sum_exp(logits: impl IntoIterator<Item = f64>) -> f64 {
    let logits: Vec<f64> = logits.into_iter().collect();
    let maximum = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    maximum + logits.iter().map(|logit| (logit - maximum).exp()).sum::<f64>().ln()
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
