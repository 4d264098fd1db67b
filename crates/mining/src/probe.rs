//! A linear probe: how well logistic regression tells two kinds of rows apart, on rows that it was not fitted to.
//!
//! Plain float64 on the host. It minimises mean log(1 + exp(-y (w·x + b))) + λ/2 |w|² over rows whose columns are standardised by mean and
//! deviation of the fitted half, by accelerated gradient descent with a step found by backtracking (Beck & Teboulle 2009) and restarts where the
//! value rises (O'Donoghue & Candès 2015). Nothing is drawn: the same rows give the same bits.

/// λ. Rows often have more columns than there are rows: without it the fit would separate chance.
const PENALTY: f64 = 0.01;
/// Steps of the descent at most.
const STEPS: usize = 200;
/// The largest gradient entry of a fit that is final.
const FLAT: f64 = 1e-6;
/// The deviation below which a column is constant.
const CONSTANT: f64 = 1e-9;

/// Rows of two kinds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labelled {
    /// `[rows, dimension]`, row by row.
    pub(crate) values: Vec<f64>,
    /// Whether each row is of the first kind.
    pub(crate) labels: Vec<bool>,
}

/// How well the two kinds are told apart on rows held out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Probe {
    /// Share of the rows whose kind is found.
    pub(crate) accuracy: f64,
    /// Chance that a row of the first kind lies further to its side than one of the second, ties half.
    pub(crate) auc: f64,
}

/// Fits to one half and looks at the other. Both have rows of both kinds, `dimension` wide and finite.
pub(crate) fn probe(dimension: usize, fitted: &Labelled, held_out: &Labelled) -> Probe {
    let scale = Scale::of(dimension, &fitted.values);
    let weights = fit(dimension, &scale.standardised(&fitted.values), &fitted.labels);
    let scores = scores(dimension, &scale.standardised(&held_out.values), &weights);
    let right = scores.iter().zip(&held_out.labels).filter(|&(&score, &label)| (score > 0.0) == label).count();
    Probe { accuracy: right as f64 / scores.len() as f64, auc: auc(&scores, &held_out.labels) }
}

/// Mean and deviation of every column.
struct Scale {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Scale {
    fn of(dimension: usize, values: &[f64]) -> Self {
        let rows = (values.len() / dimension) as f64;
        let (mut mean, mut deviation) = (vec![0.0; dimension], vec![0.0; dimension]);
        for row in values.chunks_exact(dimension) {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / rows);
        }
        for row in values.chunks_exact(dimension) {
            deviation.iter_mut().zip(row.iter().zip(&mean)).for_each(|(sum, (value, mean))| *sum += (value - mean).powi(2) / rows);
        }
        deviation.iter_mut().for_each(|variance| *variance = variance.sqrt());
        Self { mean, deviation }
    }

    /// A constant column says nothing and becomes 0.
    fn standardised(&self, values: &[f64]) -> Vec<f64> {
        let columns = self.mean.iter().zip(&self.deviation).cycle();
        let standard =
            |(value, (mean, deviation)): (&f64, (&f64, &f64))| if *deviation < CONSTANT { 0.0 } else { (value - mean) / deviation };
        values.iter().zip(columns).map(standard).collect()
    }
}

/// `w·x + b` by row; the last weight is b.
fn scores(dimension: usize, rows: &[f64], weights: &[f64]) -> Vec<f64> {
    let (weights, bias) = weights.split_at(dimension);
    rows.chunks_exact(dimension).map(|row| row.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>() + bias[0]).collect()
}

/// What is minimised.
fn value(dimension: usize, rows: &[f64], labels: &[bool], weights: &[f64]) -> f64 {
    // log(1 + exp(x)) without overflow.
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let losses =
        scores(dimension, rows, weights).into_iter().zip(labels).map(|(score, &label)| softplus(if label { -score } else { score }));
    losses.sum::<f64>() / labels.len() as f64 + 0.5 * PENALTY * weights[..dimension].iter().map(|w| w * w).sum::<f64>()
}

/// Its derivatives.
fn gradient(dimension: usize, rows: &[f64], labels: &[bool], weights: &[f64]) -> Vec<f64> {
    let mut gradient: Vec<f64> = weights.iter().map(|w| PENALTY * w).collect();
    gradient[dimension] = 0.0;
    let scores = scores(dimension, rows, weights);
    for ((row, score), &label) in rows.chunks_exact(dimension).zip(scores).zip(labels) {
        let error = (1.0 / (1.0 + (-score).exp()) - f64::from(u8::from(label))) / labels.len() as f64;
        gradient.iter_mut().zip(row.iter().chain(&[1.0])).for_each(|(sum, x)| *sum += error * x);
    }
    gradient
}

/// The weights, and b behind them.
fn fit(dimension: usize, rows: &[f64], labels: &[bool]) -> Vec<f64> {
    let value = |weights: &[f64]| value(dimension, rows, labels, weights);
    let mut best = vec![0.0; dimension + 1];
    let (mut at_best, mut from, mut momentum, mut steepness) = (value(&best), best.clone(), 1.0_f64, 1.0_f64);
    for _ in 0..STEPS {
        let slope = gradient(dimension, rows, labels, &from);
        if slope.iter().all(|entry| entry.abs() < FLAT) {
            break;
        }
        let (at_from, square) = (value(&from), slope.iter().map(|entry| entry * entry).sum::<f64>());
        let (next, at_next) = loop {
            let next: Vec<f64> = from.iter().zip(&slope).map(|(weight, entry)| weight - entry / steepness).collect();
            let at_next = value(&next);
            // A step that short always goes down; rounding must not let it go on.
            if at_next <= at_from - 0.5 * square / steepness || steepness > 1e12 {
                break (next, at_next);
            }
            steepness *= 2.0;
        };
        if at_next > at_best {
            (from, momentum) = (best.clone(), 1.0);
            continue;
        }
        let faster = 0.5 * (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt());
        from = next.iter().zip(&best).map(|(next, best)| next + (momentum - 1.0) / faster * (next - best)).collect();
        (best, at_best, momentum) = (next, at_next, faster);
    }
    best
}

/// The area under the curve of true over false positives, by ranks; equal scores share their mean rank.
fn auc(scores: &[f64], labels: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let (mut ranks, mut below) = (0.0, 0);
    for equal in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let firsts = equal.iter().filter(|&&row| labels[row]).count();
        // Ranks count from 1.
        ranks += firsts as f64 * (below as f64 + 0.5 * (equal.len() as f64 + 1.0));
        below += equal.len();
    }
    let firsts = labels.iter().filter(|&&label| label).count() as f64;
    let seconds = labels.len() as f64 - firsts;
    (ranks - 0.5 * firsts * (firsts + 1.0)) / (firsts * seconds)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Rows of independent columns, about uniform on [-1, 1]; those of the first kind are moved by `shift` along the first column.
    fn labelled(rows: usize, dimension: usize, shift: f64, seed: u64) -> Labelled {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let labels: Vec<bool> = (0..rows).map(|row| row % 2 == 0).collect();
        let mut values: Vec<f64> = (0..rows * dimension).map(|_| chance.random_range(-1.0..1.0)).collect();
        values.chunks_exact_mut(dimension).zip(&labels).filter(|it| *it.1).for_each(|(row, _)| row[0] += shift);
        Labelled { values, labels }
    }

    #[test]
    fn kinds_that_lie_apart_are_told_apart() {
        // Of many columns one tells the kinds apart: that takes more rows.
        for (rows, dimension, seed) in [(200, 1, 1), (200, 8, 2), (1500, 300, 3)] {
            let found = probe(dimension, &labelled(rows, dimension, 3.0, seed), &labelled(200, dimension, 3.0, seed + 100));
            assert!(found.accuracy > 0.95 && found.auc > 0.99, "{dimension} {found:?}");
        }
    }

    #[test]
    fn kinds_of_one_distribution_are_not() {
        // With 500 rows of each kind held out, the AUC of a fixed direction has the deviation sqrt(1001 / (12 · 500 · 500)) = 0.018 and the
        // accuracy 0.016: five of them are 0.09. More columns than rows to fit to, in the second case.
        for (dimension, seed) in [(16, 10), (300, 20), (2, 30)] {
            let found = probe(dimension, &labelled(200, dimension, 0.0, seed), &labelled(1000, dimension, 0.0, seed + 1));
            assert!((found.auc - 0.5).abs() < 0.09 && (found.accuracy - 0.5).abs() < 0.09, "{dimension} {found:?}");
        }
    }

    #[test]
    fn the_same_rows_give_the_same_bits_whatever_the_scale_of_a_column() {
        let (fitted, held_out) = (labelled(100, 5, 0.5, 4), labelled(100, 5, 0.5, 5));
        let found = probe(5, &fitted, &held_out);
        assert_eq!(found, probe(5, &fitted, &held_out));
        assert!(found.auc > 0.55 && found.auc < 0.95, "{found:?}");
        // Powers of two round nothing; a constant column says nothing.
        let scaled = |half: &Labelled| {
            let row = |row: &[f64]| [row[0] * 1024.0, row[1], row[2] / 64.0, row[3], row[4], 7.0];
            Labelled { values: half.values.chunks_exact(5).flat_map(row).collect(), labels: half.labels.clone() }
        };
        assert_eq!(probe(6, &scaled(&fitted), &scaled(&held_out)), found);
    }

    #[test]
    fn the_gradient_is_that_of_the_value() {
        let half = labelled(30, 4, 0.7, 6);
        let weights = [0.3, -0.8, 1.5, 0.1, -0.4];
        let gradient = gradient(4, &half.values, &half.labels, &weights);
        for (place, slope) in gradient.iter().enumerate() {
            let moved = |by: f64| {
                let mut weights = weights;
                weights[place] += by;
                value(4, &half.values, &half.labels, &weights)
            };
            let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((slope - numeric).abs() < 1e-8, "{place}: {slope} {numeric}");
        }
    }

    /// Newton's method on one column: another way to the same minimum.
    fn newton(values: &[f64], labels: &[bool]) -> [f64; 2] {
        let (mut w, mut b, n) = (0.0, 0.0, values.len() as f64);
        for _ in 0..50 {
            let (mut g, mut h) = ([PENALTY * w, 0.0], [PENALTY, 0.0, 0.0]);
            for (&x, &label) in values.iter().zip(labels) {
                let p = 1.0 / (1.0 + (-(w * x + b)).exp());
                let error = p - f64::from(u8::from(label));
                g = [g[0] + error * x / n, g[1] + error / n];
                let curve = p * (1.0 - p) / n;
                h = [h[0] + curve * x * x, h[1] + curve * x, h[2] + curve];
            }
            let determinant = h[0] * h[2] - h[1] * h[1];
            w -= (h[2] * g[0] - h[1] * g[1]) / determinant;
            b -= (h[0] * g[1] - h[1] * g[0]) / determinant;
        }
        [w, b]
    }

    #[test]
    fn the_fit_is_the_minimum() {
        for (shift, seed) in [(0.0, 1), (0.4, 2), (3.0, 3)] {
            let half = labelled(80, 1, shift, seed);
            let (got, expected) = (fit(1, &half.values, &half.labels), newton(&half.values, &half.labels));
            // A gradient of FLAT leaves FLAT / PENALTY on the way to go, and more along the bias, which has no penalty.
            assert!(got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-3), "{shift}: {got:?} {expected:?}");
        }
    }

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        let scores = [0.1, 0.5, 0.5, 0.9, 0.5, -2.0, 0.1, 3.0];
        for bits in 1..255_u32 {
            let labels: Vec<bool> = (0..8).map(|row| bits >> row & 1 == 1).collect();
            let (mut sum, mut pairs) = (0.0, 0.0);
            for (a, b) in (0..8).flat_map(|a| (0..8).map(move |b| (a, b))).filter(|&(a, b)| labels[a] && !labels[b]) {
                pairs += 1.0;
                sum += if scores[a] > scores[b] {
                    1.0
                } else if scores[a] == scores[b] {
                    0.5
                } else {
                    0.0
                };
            }
            assert!((auc(&scores, &labels) - sum / pairs).abs() < 1e-12, "{labels:?}");
        }
    }
}
