//! Losses over cells that a teacher or a rank labels.

use super::{Batch, dot, log_sum_exp, mean, softplus};

impl Batch {
    fn score(&self, query: usize, column: usize) -> f64 {
        dot(self.query(query), self.document(column))
    }

    /// Squared differences of margins over the pairs that `chosen(query, column)` allows.
    fn squares(&self, temperature: f64, scale: f64, chosen: impl Fn(usize, usize) -> bool) -> Vec<f64> {
        let mut squares = Vec::new();
        for (query, &target) in self.targets.iter().enumerate() {
            for column in
                (0..self.columns()).filter(|&column| column != target && self.is_candidate(query, column) && chosen(query, column))
            {
                if let (Some(positive), Some(negative)) = (self.teacher(query, target), self.teacher(query, column)) {
                    let margin = (self.score(query, target) - self.score(query, column)) / temperature;
                    squares.push((margin - scale * (positive - negative)).powi(2));
                }
            }
        }
        squares
    }
}

pub(super) fn margin_mse(batch: &Batch, temperature: f64, scale: f64) -> f64 {
    mean(batch.squares(temperature, scale, |query, column| batch.is_own(query, column)))
}

pub(super) fn margin_mse_in_batch(batch: &Batch, temperature: f64, scale: f64) -> f64 {
    let foreign = |query, column| !batch.is_own(query, column);
    let positives = batch.squares(temperature, scale, |query, column| foreign(query, column) && batch.targets.contains(&column));
    let negatives = batch.squares(temperature, scale, |query, column| foreign(query, column) && !batch.targets.contains(&column));
    (mean(positives) + mean(negatives)) / 2.0
}

pub(super) fn kl(batch: &Batch, temperature: f64, teacher_temperature: f64) -> f64 {
    let mut divergences = Vec::new();
    for query in 0..batch.targets.len() {
        let own = (0..batch.columns()).filter(|&column| batch.is_candidate(query, column) && batch.is_own(query, column));
        let list: Vec<(f64, f64)> = own
            .filter_map(|column| Some((batch.teacher(query, column)? / teacher_temperature, batch.score(query, column) / temperature)))
            .collect();
        if list.len() < 2 {
            continue;
        }
        let (teacher, student) = (log_sum_exp(list.iter().map(|pair| pair.0)), log_sum_exp(list.iter().map(|pair| pair.1)));
        divergences.push(list.iter().map(|(t, s)| (t - teacher).exp() * ((t - teacher) - (s - student))).sum());
    }
    mean(divergences)
}

pub(super) fn adversarial(batch: &Batch, temperature: f64) -> f64 {
    let mut values = Vec::new();
    for (query, &target) in batch.targets.iter().enumerate() {
        let Some(positive) = batch.teacher(query, target) else { continue };
        let own = (0..batch.columns()).filter(|&column| batch.is_candidate(query, column) && batch.is_own(query, column));
        let list: Vec<(f64, f64)> =
            own.filter_map(|column| Some((batch.teacher(query, column)?, batch.score(query, column) / temperature))).collect();
        if list.len() < 2 {
            continue;
        }
        let total = log_sum_exp(list.iter().map(|pair| pair.1));
        // The reward of the paper: the logarithm of the probability that the ranker prefers the positive.
        let reward = |score: f64| (positive.exp() / (positive.exp() + score.exp())).ln();
        values.push(list.iter().map(|(teacher, student)| reward(*teacher) * (student - total)).sum());
    }
    mean(values)
}

pub(super) fn lambda_mrr(batch: &Batch, temperature: f64, cut: usize) -> f64 {
    let gain = |query, column| match batch.cell(&batch.ranks, query, column, 0) as usize {
        rank if rank >= 1 && rank <= cut => 1.0 / rank as f64,
        _ => 0.0,
    };
    mean((0..batch.targets.len()).map(|query| {
        let is_positive = |column| batch.is_target(query, column) || batch.cell(&batch.positives, query, column, false);
        let own = || (0..batch.columns()).filter(|&column| batch.is_own(query, column));
        let mut pairs = Vec::new();
        for positive in own().filter(|&column| is_positive(column)) {
            for negative in own().filter(|&column| !is_positive(column) && batch.is_candidate(query, column)) {
                let margin = (batch.score(query, positive) - batch.score(query, negative)) / temperature;
                pairs.push((gain(query, positive) - gain(query, negative)).abs() * softplus(-margin));
            }
        }
        mean(pairs)
    }))
}
