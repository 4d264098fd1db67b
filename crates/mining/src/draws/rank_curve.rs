//! Ranks in proportion to a curve that falls with their worth and with the risk that they are relevant (RANCE, Prakash et al. 2021).
//!
//! On judged queries rel(r) is the share of queries whose document at 0-based rank r is relevant, and the gain (1 − rel(r)) / ln(r + k).
//! Gains are smoothed by a centred moving average of half-width 5 (9 points, 4 ranks lost at each end), fitted by a polynomial of degree 4,
//! continued at both ends by the fitted end values; the lowest smoothed gain is subtracted. The polynomial can dip below that, so what is
//! negative becomes 0, and the whole is divided by its sum. Drawing with replacement and passing over repeats and positives, as the released
//! code does, is drawing without replacement in proportion to what is left.

use rand_chacha::ChaCha8Rng;

use super::weighted::by_weight;
use super::{Draw, DrawContext, Needs, Uniform};
use crate::candidate::Candidate;

/// Half-width of the moving average.
const HALF_WIDTH: usize = 5;
/// Degree of the polynomial.
const DEGREE: usize = 4;
/// Fitted gains that differ by less than this are equal: rounding is no preference.
const FLAT: f64 = 1e-9;

/// Weights by rank. Ranks of weight 0 and ranks beyond the curve are never drawn; without a curve all is uniform.
#[derive(Debug, Clone, Copy)]
pub struct RankCurve {
    /// The last rank drawn.
    pub depth: usize,
}

impl Draw for RankCurve {
    fn name(&self) -> &'static str {
        "rank-curve"
    }

    fn needs(&self) -> Needs {
        Needs { curve: true, ..Needs::default() }
    }

    fn order(&self, generator: &mut ChaCha8Rng, context: &DrawContext<'_>, pool: &[Candidate]) -> Vec<usize> {
        if context.curve.is_empty() {
            return Uniform.order(generator, context, pool);
        }
        let weight = |it: &Candidate| {
            let rank = (it.rank as usize).checked_sub(1).filter(|&rank| rank < self.depth);
            f64::from(rank.and_then(|rank| context.curve.get(rank)).copied().unwrap_or(0.0)).ln()
        };
        by_weight(generator, &pool.iter().map(weight).collect::<Vec<_>>())
    }
}

/// The curve for the share of judged queries whose document at each rank is relevant, first rank first: one weight per rank, of sum 1.
/// `gain_k` is k, above 1. Lists too short for window and polynomial get narrower ones.
pub fn rank_curve(relevant: &[f64], gain_k: f64) -> Vec<f32> {
    let gains: Vec<f64> = relevant.iter().zip(0..).map(|(share, rank)| (1.0 - share) / (f64::from(rank) + gain_k).ln()).collect();
    curve_of_gains(&gains)
}

fn curve_of_gains(gains: &[f64]) -> Vec<f32> {
    if gains.is_empty() {
        return Vec::new();
    }
    // At least as many smoothed points as the polynomial has coefficients, where the list has them.
    let half = HALF_WIDTH.min(1 + gains.len().saturating_sub(DEGREE + 1) / 2);
    let smoothed: Vec<f64> = gains.windows(2 * half - 1).map(|window| window.iter().sum::<f64>() / window.len() as f64).collect();
    let fitted = fit(&smoothed, DEGREE);
    let lowest = smoothed.iter().copied().fold(f64::INFINITY, f64::min);
    // Each end is continued by as many ranks as the average lost there.
    let place = |rank: usize| rank.saturating_sub(half - 1).min(fitted.len() - 1);
    let weights: Vec<f64> = (0..gains.len()).map(|rank| (fitted[place(rank)] - lowest).max(0.0)).collect();
    let highest = weights.iter().copied().fold(0.0, f64::max);
    let sum: f64 = weights.iter().sum();
    if highest <= FLAT {
        return vec![1.0 / gains.len() as f32; gains.len()];
    }
    weights.into_iter().map(|weight| (weight / sum) as f32).collect()
}

/// Values of the least-squares polynomial at the points themselves: the projection on orthonormal polynomials, which are made degree by
/// degree (Gram-Schmidt, twice, on the last one times x).
fn fit(values: &[f64], degree: usize) -> Vec<f64> {
    let count = values.len();
    let x = |place: usize| if count < 2 { 0.0 } else { 2.0 * place as f64 / (count - 1) as f64 - 1.0 };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for power in 0..=degree.min(count - 1) {
        let mut next: Vec<f64> = match basis.last() {
            Some(last) => last.iter().enumerate().map(|(place, value)| value * x(place)).collect(),
            None => vec![1.0; count],
        };
        for _ in 0..2 {
            for one in &basis {
                let part = dot(&next, one);
                next.iter_mut().zip(one).for_each(|(value, one)| *value -= part * one);
            }
        }
        let length = dot(&next, &next).sqrt();
        debug_assert!(length > 0.0, "points are distinct, so power {power} is independent");
        next.iter_mut().for_each(|value| *value /= length);
        basis.push(next);
    }
    let parts: Vec<f64> = basis.iter().map(|one| dot(values, one)).collect();
    (0..count).map(|place| basis.iter().zip(&parts).map(|(one, part)| part * one[place]).sum()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_follows, context, firsts, pool};
    use super::*;

    /// Least squares by the normal equations, solved by elimination: another way to the same polynomial.
    fn reference_fit(values: &[f64], degree: usize) -> Vec<f64> {
        let size = degree + 1;
        let x: Vec<f64> = (0..values.len()).map(|place| place as f64 / values.len() as f64).collect();
        let mut rows: Vec<Vec<f64>> = (0..size)
            .map(|i| {
                let mut row: Vec<f64> = (0..size).map(|j| x.iter().map(|x| x.powi((i + j) as i32)).sum()).collect();
                row.push(x.iter().zip(values).map(|(x, y)| x.powi(i as i32) * y).sum());
                row
            })
            .collect();
        for pivot in 0..size {
            let best = (pivot..size).max_by(|&a, &b| rows[a][pivot].abs().total_cmp(&rows[b][pivot].abs())).unwrap();
            rows.swap(pivot, best);
            for below in pivot + 1..size {
                let factor = rows[below][pivot] / rows[pivot][pivot];
                let above = rows[pivot].clone();
                rows[below].iter_mut().zip(above).skip(pivot).for_each(|(value, above)| *value -= factor * above);
            }
        }
        let mut coefficients = vec![0.0; size];
        for row in (0..size).rev() {
            let known: f64 = (row + 1..size).map(|column| rows[row][column] * coefficients[column]).sum();
            coefficients[row] = (rows[row][size] - known) / rows[row][row];
        }
        x.iter().map(|x| coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)).collect()
    }

    fn shares(ranks: usize) -> Vec<f64> {
        (0..ranks).map(|rank| 0.6 / (1.0 + rank as f64) + 0.02 * (rank as f64 * 1.7).sin().abs()).collect()
    }

    #[test]
    fn the_curve_is_that_of_the_published_steps() {
        let relevant = shares(60);
        let gains: Vec<f64> = (0..60).map(|rank| (1.0 - relevant[rank]) / (rank as f64 + 2.0).ln()).collect();
        let smoothed: Vec<f64> = (4..56).map(|rank| gains[rank - 4..=rank + 4].iter().sum::<f64>() / 9.0).collect();
        let fitted = reference_fit(&smoothed, 4);
        let lowest = smoothed.iter().copied().fold(f64::INFINITY, f64::min);
        let mut whole = vec![fitted[0]; 4];
        whole.extend(&fitted);
        whole.extend([fitted[51]; 4]);
        let weights: Vec<f64> = whole.iter().map(|value| (value - lowest).max(0.0)).collect();
        let sum: f64 = weights.iter().sum();
        for (got, expected) in rank_curve(&relevant, 2.0).iter().zip(weights) {
            assert!((f64::from(*got) - expected / sum).abs() < 1e-7, "{got} {}", expected / sum);
        }
    }

    #[test]
    fn a_curve_is_never_negative_and_sums_to_one_whatever_the_length() {
        for ranks in 1..80 {
            for relevant in [shares(ranks), vec![0.0; ranks], (0..ranks).map(|rank| f64::from(rank == 0)).collect(), vec![1.0; ranks]] {
                let curve = rank_curve(&relevant, 2.0);
                assert_eq!(curve.len(), ranks);
                assert!(curve.iter().all(|weight| weight.is_finite() && *weight >= 0.0), "{curve:?}");
                assert!((curve.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{curve:?}");
            }
        }
        assert!(rank_curve(&[], 2.0).is_empty());
        // Deep in the list lies what is left when relevant documents fill the top.
        let relevant: Vec<f64> = (0..100).map(|rank| if rank < 40 { 1.0 } else { 0.0 }).collect();
        let curve = rank_curve(&relevant, 2.0);
        assert!(curve[..20].iter().sum::<f32>() < curve[60..80].iter().sum::<f32>());
    }

    #[test]
    fn a_flat_curve_draws_uniformly() {
        let curve = curve_of_gains(&[0.37; 40]);
        assert!(curve.iter().all(|&weight| weight == curve[0]));
        let counts = firsts(&RankCurve { depth: 40 }, DrawContext { curve: &curve, ..context(0, 0.0) }, &pool(&[0.5; 8]), 8000);
        assert_follows(&counts, &[1.0; 8]);
        assert_follows(&firsts(&RankCurve { depth: 40 }, context(0, 0.0), &pool(&[0.5; 8]), 8000), &[1.0; 8]);
    }

    #[test]
    fn frequencies_follow_the_curve_at_the_rank_of_the_source() {
        let curve = [0.1, 0.0, 0.4, 0.2, 0.3];
        let mut pool = pool(&[0.5; 6]);
        // Filters took rank 1; ranks 6 and 7 lie beyond.
        pool.iter_mut().for_each(|it| it.rank += 1);
        let context = DrawContext { curve: &curve, ..context(0, 0.0) };
        assert_follows(&firsts(&RankCurve { depth: 9 }, context, &pool, 8000), &[0.0, 0.4, 0.2, 0.3, 0.0, 0.0]);
        assert_follows(&firsts(&RankCurve { depth: 4 }, context, &pool, 8000), &[0.0, 0.4, 0.2, 0.0, 0.0, 0.0]);
    }
}
