//! Losses over unlabelled negatives.

use super::matrix::{Matrix, Row};
use super::{Batch, dot, log_sum_exp, mean, softplus};

/// `-log softmax` of the target among the target and these negatives, all plain scores.
fn nll(target: f64, negatives: impl Iterator<Item = f64>, temperature: f64) -> f64 {
    log_sum_exp(negatives.chain([target]).map(|score| score / temperature)) - target / temperature
}

pub(super) fn info_nce(batch: &Batch, matrix: &Matrix, temperature: f64, symmetric: bool) -> f64 {
    let forward = mean(matrix.rows.iter().map(|row| nll(row.target, row.negatives(), temperature)));
    if !symmetric {
        return forward;
    }
    let backward = batch.targets.iter().enumerate().map(|(query, &target)| {
        let others = (0..batch.targets.len()).filter(|&other| other != query && batch.targets[other] != target);
        let others = others.filter_map(|other| matrix.rows[other].documents[target]);
        nll(matrix.rows[query].target, others, temperature)
    });
    (forward + mean(backward)) / 2.0
}

pub(super) fn lce(matrix: &Matrix, temperature: f64) -> f64 {
    mean(matrix.rows.iter().map(|row| nll(row.target, row.own.iter().copied(), temperature)))
}

pub(super) fn pairwise(matrix: &Matrix, temperature: f64) -> f64 {
    let pairs = |row: &Row| -> Vec<f64> { row.negatives().map(|negative| softplus((negative - row.target) / temperature)).collect() };
    mean(matrix.rows.iter().flat_map(pairs))
}

pub(super) fn debiased(matrix: &Matrix, temperature: f64, tau_plus: f64) -> f64 {
    corrected(matrix, temperature, tau_plus, |negatives| negatives.iter().sum())
}

pub(super) fn hcl(matrix: &Matrix, temperature: f64, beta: f64, tau_plus: f64) -> f64 {
    corrected(matrix, temperature, tau_plus, |negatives| {
        let weights: Vec<f64> = negatives.iter().map(|negative| negative.powf(beta)).collect();
        dot(&weights, negatives) / mean(weights)
    })
}

fn corrected(matrix: &Matrix, temperature: f64, tau_plus: f64, mass: impl Fn(&[f64]) -> f64) -> f64 {
    mean(matrix.rows.iter().map(|row| {
        let positive = (row.target / temperature).exp();
        let negatives: Vec<f64> = row.negatives().map(|negative| (negative / temperature).exp()).collect();
        if negatives.is_empty() {
            return 0.0;
        }
        let count = negatives.len() as f64;
        let highest = negatives.iter().copied().fold(positive, f64::max);
        let floor = count * (-1.0 / temperature).exp().min(highest);
        let kept = ((mass(&negatives) - tau_plus * count * positive) / (1.0 - tau_plus)).max(floor);
        -(positive / (positive + kept)).ln()
    }))
}

pub(super) fn ccr(matrix: &Matrix, temperature: f64, beta: f64) -> f64 {
    mean(matrix.rows.iter().map(|row| {
        let total = log_sum_exp(row.negatives().chain([row.target]).map(|score| score / temperature));
        let log_share = |score: f64| score / temperature - total;
        -log_share(row.target) + beta * mean(row.negatives().chain([row.target]).map(log_share))
    }))
}

pub(super) fn passage_centric(batch: &Batch, temperature: f64) -> f64 {
    let targets = &batch.targets;
    mean((0..targets.len()).map(|row| {
        let passage = batch.document(targets[row]);
        let queries = (0..targets.len()).filter(|&other| targets[other] != targets[row] && batch.is_candidate(other, targets[row]));
        let documents = (0..batch.columns()).filter(|column| !targets.contains(column) && batch.is_candidate(row, *column));
        let scores =
            queries.map(|other| dot(passage, batch.query(other))).chain(documents.map(|column| dot(passage, batch.document(column))));
        nll(dot(passage, batch.query(row)), scores, temperature)
    }))
}
