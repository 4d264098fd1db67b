//! Keeps candidates below the mean of their list, one at random when there is none (Wang et al. 2024, arXiv 2401.00165, passage sieve).
//!
//! The paper keeps negative j when log p_j lies below the mean of log p over the list, p being the softmax of the cosines over positive
//! and negatives. Log p differs from the cosine by a constant of the list, so cosines are compared. Of several positives the lowest takes
//! part.

use rand::RngExt;

use super::{Filter, FilterContext, Scored};
use crate::chance::{Purpose, generator};

/// Below the mean cosine. A candidate whose cosine is unknown stays.
#[derive(Debug, Clone, Copy)]
pub struct Sieve {
    /// Of the choice when none survives.
    pub seed: u64,
}

impl Filter for Sieve {
    fn name(&self) -> &'static str {
        "sieve"
    }

    fn keep(&self, _: &FilterContext<'_>, _: &Scored) -> bool {
        true
    }

    fn keep_of_list(&self, context: &FilterContext<'_>, list: &[Scored]) -> Option<Vec<bool>> {
        let lowest = context.positive_cosines.iter().copied().fold(f32::NAN, f32::min);
        let cosines = || list.iter().map(|it| it.cosine).chain([lowest]).filter(|cosine| !cosine.is_nan()).map(f64::from);
        let mean = cosines().sum::<f64>() / cosines().count() as f64;
        // Not below: nothing is below a mean that is NaN, and an unknown cosine is not above it either.
        let mut mask: Vec<bool> = list.iter().map(|it| it.cosine.is_nan() || f64::from(it.cosine) < mean).collect();
        if !list.is_empty() && !mask.contains(&true) {
            let saved = generator(self.seed, context.query, 0, Purpose::Filter).random_range(0..list.len());
            mask[saved] = true;
        }
        Some(mask)
    }

    fn reads_cosine(&self) -> bool {
        true
    }

    fn spares_generated(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidate::Candidate;

    fn mask(query: u32, positives: &[f32], cosines: &[f32]) -> Vec<bool> {
        let list: Vec<Scored> =
            cosines.iter().map(|&cosine| Scored { candidate: Candidate::found(1, 0, 1, cosine), similarity: cosine, cosine }).collect();
        let context = FilterContext { query, lowest_positive: f32::NAN, positive_cosines: positives, survivors: 0 };
        Sieve { seed: 3 }.keep_of_list(&context, &list).unwrap()
    }

    /// As the paper has it: log-softmax over positive and negatives.
    fn by_log_softmax(positive: f32, cosines: &[f32]) -> Vec<bool> {
        let all: Vec<f64> = [positive].iter().chain(cosines).map(|&it| f64::from(it)).collect();
        let normaliser = all.iter().map(|it| it.exp()).sum::<f64>().ln();
        let mean = all.iter().map(|it| it - normaliser).sum::<f64>() / all.len() as f64;
        all[1..].iter().map(|it| it - normaliser < mean).collect()
    }

    #[test]
    fn what_lies_below_the_mean_stays() {
        for (positive, cosines) in [(0.8, vec![0.9, 0.7, 0.3, 0.31, 0.2]), (0.1, vec![0.5, 0.2]), (0.9, vec![0.1, 0.2, 0.65, 0.6])] {
            let expected = by_log_softmax(positive, &cosines);
            assert!(expected.contains(&true) && mask(0, &[0.99, positive], &cosines) == expected, "{positive} {cosines:?}");
        }
        assert_eq!(mask(0, &[], &[0.5, 0.1, f32::NAN]), [false, true, true]);
        assert!(mask(0, &[0.5], &[]).is_empty());
    }

    #[test]
    fn when_none_survives_one_stays_by_chance_of_the_query() {
        let mut saved = [0; 4];
        for query in 0..400 {
            let mask = mask(query, &[0.1], &[0.5; 4]);
            assert_eq!(mask.iter().filter(|&&kept| kept).count(), 1);
            saved[mask.iter().position(|&kept| kept).unwrap()] += 1;
        }
        // 100 each; 5 standard deviations are 43.
        assert!(saved.iter().all(|&count: &i32| (count - 100).abs() < 44), "{saved:?}");
        assert_eq!(mask(7, &[0.1], &[0.5; 4]), mask(7, &[0.1], &[0.5; 4]));
    }
}
