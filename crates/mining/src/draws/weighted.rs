//! Sampling in proportion to weights, without replacement.
//!
//! The order of ln w + g with independent Gumbel variables g is that of drawing one after another in proportion to the weights that are left
//! (Efraimidis and Spirakis 2006, with their keys in logarithms, which no weight underflows).

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Positions in a random order in which weights `exp(log_weights)` are drawn without replacement. Weights of zero (−∞) and NaN are left out.
pub(crate) fn by_weight(generator: &mut ChaCha8Rng, log_weights: &[f64]) -> Vec<usize> {
    let mut keys: Vec<(f64, usize)> = Vec::with_capacity(log_weights.len());
    for (place, weight) in log_weights.iter().enumerate() {
        // In (0, 1], so that the outer logarithm is never that of infinity; one number per position, so that weights do not shift others.
        let uniform = 1.0 - generator.random::<f64>();
        if weight.is_finite() {
            keys.push((weight - (-uniform.ln()).ln(), place));
        }
    }
    keys.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    keys.into_iter().map(|it| it.1).collect()
}

/// `order` with all positions below `length` that it lacks behind it, shuffled.
pub(crate) fn completed(mut order: Vec<usize>, length: usize, generator: &mut ChaCha8Rng) -> Vec<usize> {
    if order.len() < length {
        let mut there = vec![false; length];
        order.iter().for_each(|&place| there[place] = true);
        let mut rest: Vec<usize> = (0..length).filter(|&place| !there[place]).collect();
        rest.shuffle(generator);
        order.extend(rest);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_follows;
    use super::*;
    use crate::chance::{Purpose, generator};

    #[test]
    fn first_and_second_places_follow_the_weights() {
        let weights = [1.0_f64, 2.0, 4.0, 0.0, 3.0];
        let logs: Vec<f64> = weights.iter().map(|weight| weight.ln()).collect();
        let (mut first, mut second) = (vec![0.0; 5], vec![0.0; 5]);
        for visit in 0..20_000 {
            let order = by_weight(&mut generator(1, 1, visit, Purpose::Fill), &logs);
            assert_eq!(order.len(), 4);
            first[order[0]] += 1.0;
            second[order[1]] += 1.0;
        }
        assert_follows(&first, &weights);
        let sum: f64 = weights.iter().sum();
        let second_weight = |b: usize| (0..5).filter(|&a| a != b).map(|a| weights[a] / sum * weights[b] / (sum - weights[a])).sum::<f64>();
        assert_follows(&second, &(0..5).map(second_weight).collect::<Vec<_>>());
    }

    #[test]
    fn weights_far_below_the_smallest_number_still_differ() {
        let mut chance = generator(1, 1, 1, Purpose::Fill);
        assert_eq!(by_weight(&mut chance, &[-90_000.0, -80_000.0, f64::NEG_INFINITY, f64::NAN]), [1, 0]);
        let all = completed(vec![3], 5, &mut chance);
        assert_eq!(all[0], 3);
        assert_eq!(all.len(), 5);
    }
}
