//! Identities between the losses that hold for every batch.

use proptest::prelude::*;

use super::{device, scalar, tensor};
use crate::{Embedded, LossConfig, LossKind};

const DIMENSION: usize = 3;

fn loss(kind: &str, temperature: f64, batch: &Embedded) -> f32 {
    scalar(&LossConfig { kind: LossKind::named(kind).unwrap(), temperature, ..LossConfig::default() }.loss(batch))
}

fn batch(queries: &[f32], documents: &[f32], targets: Vec<usize>) -> Embedded {
    let rows = |values: &[f32]| tensor(values, [values.len() / DIMENSION, DIMENSION], &device());
    Embedded::new(rows(queries), rows(documents), targets, vec![]).unwrap()
}

fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-5 + 1e-4 * b.abs()
}

fn rows(count: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-1.0f32..1.0, count * DIMENSION)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pairwise_with_one_negative_equals_info_nce(queries in rows(1), documents in rows(2)) {
        let batch = batch(&queries, &documents, vec![0]);
        prop_assert!(near(loss("pairwise", 1.0, &batch), loss("info-nce", 1.0, &batch)));
    }

    #[test]
    fn pairwise_with_two_negatives_is_below_info_nce(queries in rows(1), documents in rows(3)) {
        // The joint softmax sums what the pairwise loss averages.
        let batch = batch(&queries, &documents, vec![0]);
        prop_assert!(loss("pairwise", 1.0, &batch) < loss("info-nce", 1.0, &batch) - 1e-3);
    }

    #[test]
    fn foreign_columns_blocked_equals_each_group_on_its_own(queries in rows(4), documents in rows(12)) {
        // Columns [p0, n0, n0, p1, n1, n1, ...].
        let owner: Vec<usize> = (0..12).map(|column| column / 3).collect();
        let together = batch(&queries, &documents, vec![0, 3, 6, 9]).block_foreign(&owner).unwrap();
        for kind in ["info-nce", "pairwise"] {
            let alone: f32 = (0..4)
                .map(|i| batch(&queries[i * DIMENSION..][..DIMENSION], &documents[i * 3 * DIMENSION..][..3 * DIMENSION], vec![0]))
                .map(|group| loss(kind, 0.1, &group))
                .sum();
            prop_assert!(near(loss(kind, 0.1, &together), alone / 4.0), "{}", kind);
        }
    }

    #[test]
    fn star_is_the_mean_over_in_batch_and_hard_pairs(queries in rows(3), positives in rows(3), hard in rows(3)) {
        // Columns: 3 positives, 3 hard negatives. 3 * 2 in-batch pairs and 3 * 3 hard pairs, every pair of equal weight.
        let in_batch = batch(&queries, &positives, vec![0, 1, 2]);
        let star = batch(&queries, &[positives, hard].concat(), vec![0, 1, 2]);
        let mut hard_only = star.clone();
        hard_only.blocked = (0..18).map(|cell| cell % 6 < 3).collect();
        let (in_batch, hard_only, star) =
            (loss("pairwise", 1.0, &in_batch), loss("pairwise", 1.0, &hard_only), loss("pairwise", 1.0, &star));
        prop_assert!(near(star, (6.0 * in_batch + 9.0 * hard_only) / 15.0));
    }

    #[test]
    fn the_order_of_the_columns_does_not_matter(queries in rows(3), documents in rows(5), shift in 1usize..5) {
        let before = batch(&queries, &documents, vec![0, 1, 2]);
        let mut rotated = documents;
        rotated.rotate_right(shift * DIMENSION);
        let after = batch(&queries, &rotated, (0..3).map(|target| (target + shift) % 5).collect());
        for kind in ["info-nce", "pairwise"] {
            prop_assert!(near(loss(kind, 0.2, &after), loss(kind, 0.2, &before)), "{}", kind);
        }
    }
}
