//! Candidates that differ from each other: those nearest to the centres of k clusters, a part of them at every visit (InDi, Cohen et al.
//! 2024).
//!
//! The paper clusters the gradients ∂/∂d softplus(s(q, d) − s(q, p)) = σ(s(q, d) − s(q, p))·q. All of a query's are parallel to q, so their
//! clusters are those of the numbers σ(s_n − s_p), p being the lowest positive here. Clusters of the documents' rows are the paper's
//! `bert-km`. The list keeps `per_visit · visits` candidates; one visit after another takes its part in an order shuffled once per cycle.

use burn::tensor::Tensor;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Draw, DrawContext, Needs, Reduction};
use crate::candidate::Candidate;
use crate::chance::{Purpose, generator};
use crate::config::DiverseBy;
use crate::error::MiningError;
use crate::kmeans;
use crate::store::EmbeddingStore;

/// Rounds of k-means.
const ITERATIONS: usize = 20;

/// One candidate per cluster.
#[derive(Debug, Clone, Copy)]
pub struct Diverse {
    /// Candidates per visit.
    pub per_visit: usize,
    /// Visits until all have been drawn.
    pub visits: usize,
    /// What is clustered.
    pub by: DiverseBy,
    /// A random choice where the positive scores lower than the mean candidate by more than this.
    pub random_below: Option<f64>,
}

impl Draw for Diverse {
    fn name(&self) -> &'static str {
        "diverse"
    }

    fn needs(&self) -> Needs {
        Needs {
            similarity: self.by == DiverseBy::Gradient || self.random_below.is_some(),
            rows: self.by == DiverseBy::Documents,
            ..Needs::default()
        }
    }

    fn order(&self, _: &mut ChaCha8Rng, context: &DrawContext<'_>, pool: &[Candidate]) -> Vec<usize> {
        let visits = self.visits as u64;
        let mut order: Vec<usize> = (0..pool.len()).collect();
        order.shuffle(&mut context.generator_of(context.visit / visits));
        if !order.is_empty() {
            let start = (context.visit % visits) as usize * self.per_visit;
            order.rotate_left(start % pool.len());
        }
        order
    }

    fn reduce(&self, context: &Reduction<'_>, pool: &[Candidate]) -> Result<Option<Vec<usize>>, MiningError> {
        let clusters = self.per_visit * self.visits;
        if pool.len() <= clusters {
            return Ok(None);
        }
        let scores: Vec<f64> = pool.iter().map(|it| f64::from(it.similarity)).collect();
        let positive = f64::from(context.lowest_positive);
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let mut chosen = if self.random_below.is_some_and(|margin| positive < mean - margin) {
            self.at_random(context, pool.len())
        } else {
            match (self.by, context.store) {
                (DiverseBy::Gradient, _) => {
                    let weights: Vec<f64> = scores.iter().map(|score| 1.0 / (1.0 + (positive - score).exp())).collect();
                    // Without scores all are alike.
                    if weights.iter().any(|weight| weight.is_nan()) {
                        self.at_random(context, pool.len())
                    } else {
                        nearest_on_a_line(&weights, clusters)
                    }
                }
                (DiverseBy::Documents, Some(store)) => nearest_rows(store, pool, clusters, context)?,
                (DiverseBy::Documents, None) => return Err(MiningError::Unfilled),
            }
        };
        chosen.sort_unstable();
        Ok(Some(chosen))
    }
}

impl Diverse {
    fn at_random(&self, context: &Reduction<'_>, length: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..length).collect();
        order.shuffle(&mut generator(context.seed, context.query, 0, Purpose::Clusters(context.source)));
        order.truncate(self.per_visit * self.visits);
        order
    }
}

/// Positions nearest to the centres of `k` clusters of numbers, a different one for each: Lloyd's algorithm from quantiles, on the sorted
/// numbers, until nothing moves.
fn nearest_on_a_line(values: &[f64], k: usize) -> Vec<usize> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // The middles of k parts of equal number.
    let mut centres: Vec<f64> = (0..k).map(|cluster| sorted[(2 * cluster + 1) * sorted.len() / (2 * k)]).collect();
    for _ in 0..100 {
        let (mut sums, mut counts, mut cluster) = (vec![0.0; k], vec![0_usize; k], 0);
        for value in &sorted {
            // Centres are sorted as well, so the nearest one only moves up.
            while cluster + 1 < k && (centres[cluster + 1] - value).abs() < (centres[cluster] - value).abs() {
                cluster += 1;
            }
            sums[cluster] += value;
            counts[cluster] += 1;
        }
        let moved: Vec<f64> = (0..k).map(|it| if counts[it] > 0 { sums[it] / counts[it] as f64 } else { centres[it] }).collect();
        if moved == centres {
            break;
        }
        centres = moved;
    }
    different(k, values.len(), |cluster, place| (centres[cluster] - values[place]).abs())
}

/// Positions nearest to the centres of `k` clusters of document rows, a different one for each.
fn nearest_rows(store: &EmbeddingStore, pool: &[Candidate], k: usize, context: &Reduction<'_>) -> Result<Vec<usize>, MiningError> {
    use rand::RngExt;

    let documents: Vec<u32> = pool.iter().map(|it| it.document).collect();
    let rows = store.rows(&documents)?;
    let seed = generator(context.seed, context.query, 0, Purpose::Clusters(context.source)).random();
    let centres = kmeans::cluster(&rows, k, ITERATIONS, seed)?.centres;
    // |r|² − 2 r·c + |c|²; |r|² is the same for all centres but not for all rows.
    let lengths = |rows: &Tensor<2>| (rows.clone() * rows.clone()).sum_dim(1);
    let distances = lengths(&rows) - rows.clone().matmul(centres.clone().transpose()) * 2.0 + lengths(&centres).transpose();
    let count = centres.dims()[0];
    let distances = crate::store::read(distances, "measuring distances to centres")?;
    Ok(different(count, pool.len(), |cluster, place| f64::from(distances[place * count + cluster])))
}

/// For each of `k` centres the nearest of `length` positions that no centre before it took; the lowest of equals.
fn different(k: usize, length: usize, distance: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    let mut taken = vec![false; length];
    let mut chosen = Vec::with_capacity(k);
    for cluster in 0..k {
        let free = (0..length).filter(|&place| !taken[place]);
        if let Some(nearest) = free.min_by(|&a, &b| distance(cluster, a).total_cmp(&distance(cluster, b))) {
            taken[nearest] = true;
            chosen.push(nearest);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::super::tests::{context, pool};
    use super::*;

    const DRAW: Diverse = Diverse { per_visit: 2, visits: 3, by: DiverseBy::Gradient, random_below: None };

    fn reduction(lowest_positive: f32) -> Reduction<'static> {
        Reduction { seed: 5, query: 3, source: 0, lowest_positive, store: None }
    }

    #[test]
    fn a_cycle_serves_every_candidate_once_and_the_next_cycle_is_another_order() {
        let pool = pool(&[0.5; 6]);
        let visit = |visit: u64| DRAW.order(&mut context(0, 0.0).generator_of(visit), &context(visit, 0.0), &pool)[..2].to_vec();
        let cycles: Vec<Vec<usize>> = (0..20).map(|cycle| (0..3).flat_map(|part| visit(3 * cycle + part)).collect()).collect();
        for cycle in &cycles {
            let mut sorted = cycle.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5]);
        }
        assert!(cycles.iter().any(|cycle| *cycle != cycles[0]));
        assert!(DRAW.order(&mut context(0, 0.0).generator_of(0), &context(1, 0.0), &[]).is_empty());
    }

    #[test]
    fn numbers_in_six_groups_leave_one_of_each() {
        // s_n − s_p in six groups far apart under σ, four in each.
        let scores: Vec<f32> =
            [2.0, 1.0, 0.4, -0.2, -1.0, -3.0].iter().flat_map(|&group| [0.0, 0.01, 0.02, 0.03].map(|step| group + step)).collect();
        let kept = DRAW.reduce(&reduction(0.0), &pool(&scores)).unwrap().unwrap();
        assert_eq!(kept.iter().map(|place| place / 4).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        // Few candidates stay as they are; equal ones still leave six different ones.
        assert_eq!(DRAW.reduce(&reduction(0.0), &pool(&scores[..6])).unwrap(), None);
        assert_eq!(DRAW.reduce(&reduction(0.0), &pool(&[0.5; 9])).unwrap().unwrap().len(), 6);
        assert_eq!(DRAW.reduce(&reduction(f32::NAN), &pool(&scores)).unwrap().unwrap().len(), 6);
    }

    #[test]
    fn no_other_assignment_to_the_centres_is_nearer() {
        let values: Vec<f64> = (0..50).map(|it| (it as f64 * 0.37).sin()).collect();
        let chosen = nearest_on_a_line(&values, 7);
        let mut different = chosen.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), 7);
        // One per stratum: the sum of distances to the nearest chosen number is far below that of the first seven.
        let cost = |chosen: &[usize]| -> f64 {
            values.iter().map(|value| chosen.iter().map(|&it| (values[it] - value).abs()).fold(f64::INFINITY, f64::min)).sum()
        };
        let plain: Vec<usize> = (0..7).collect();
        assert!(cost(&chosen) < 0.7 * cost(&plain), "{} {}", cost(&chosen), cost(&plain));
    }

    #[test]
    fn a_positive_far_below_its_candidates_means_a_random_choice() {
        let scores: Vec<f32> = (0..30).map(|it| 20.0 - it as f32).collect();
        let draw = Diverse { random_below: Some(5.0), ..DRAW };
        let kept =
            |draw: &Diverse, positive, query| draw.reduce(&Reduction { query, ..reduction(positive) }, &pool(&scores)).unwrap().unwrap();
        // The mean is 5.5.
        assert_eq!(kept(&draw, 0.6, 1), kept(&DRAW, 0.6, 1));
        assert_ne!(kept(&draw, 0.4, 1), kept(&DRAW, 0.4, 1));
        assert_ne!(kept(&draw, 0.4, 1), kept(&draw, 0.4, 2));
    }
}
