//! Identities between the losses that hold for every batch.

use proptest::prelude::*;

use super::fixture::{self, Data, config, take, term, unit_rows};
use super::{device, scalar, tensor};
use crate::{Embedded, LossConfig, Marks, Now};

const DIMENSION: usize = 3;

fn loss(kind: &str, temperature: f64, batch: &Embedded) -> f32 {
    scalar(&fixture::loss(&config(kind, temperature), batch))
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

/// Blocked cells of four queries and seven columns.
fn some_cells() -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec(any::<bool>(), 28)
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
        let mut together = batch(&queries, &documents, vec![0, 3, 6, 9]);
        together.blocked = Marks::from_cells(12, (0..48).map(|cell| cell / 12 != cell % 12 / 3));
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
        hard_only.blocked = Marks::from_cells(6, (0..18).map(|cell| cell % 6 < 3));
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

    #[test]
    fn lce_equals_info_nce_with_foreign_columns_blocked(seed in 0u64..10_000, temperature in 0.02f64..2.0) {
        let data = Data::full(&[0, 3, 5, 5], 7, 4, seed);
        let private = Data { blocked: data.own.iter().map(|own| !own).collect(), ..data.clone() };
        // The target counts as own whatever the list says, and is never blocked.
        let (lce, masked) = (config("lce", temperature), config("info-nce", temperature));
        prop_assert!(equal(&take(&lce, &data, &Now::default()), &take(&masked, &private, &Now::default())));
    }

    #[test]
    fn cross_batch_equals_in_batch_on_the_concatenation(queries in rows(6), positives in rows(6), hard in rows(6)) {
        // Two workers of three queries, blocks [3 positives; 3 hard negatives] gathered one after the other: the target of query i of
        // worker w is column w * 6 + i, and the loss of all is the mean of the workers'.
        let part = |rows: &[f32], worker: usize| rows[worker * 3 * DIMENSION..][..3 * DIMENSION].to_vec();
        let gathered = [part(&positives, 0), part(&hard, 0), part(&positives, 1), part(&hard, 1)].concat();
        let whole = batch(&queries, &[positives, hard].concat(), (0..6).collect());
        for kind in ["info-nce", "pairwise", "hcl"] {
            let of_worker = |worker: usize| {
                let targets = (0..3).map(|i| worker * 6 + i).collect();
                loss(kind, 0.3, &batch(&part(&queries, worker), &gathered, targets))
            };
            prop_assert!(near((of_worker(0) + of_worker(1)) / 2.0, loss(kind, 0.3, &whole)), "{}", kind);
        }
    }

    #[test]
    fn hcl_without_beta_equals_debiased(seed in 0u64..10_000, tau_plus in 0.0f64..0.3, blocked in some_cells()) {
        let data = Data { blocked, ..Data::full(&[0, 3, 5, 5], 7, 4, seed) };
        let hcl = LossConfig { beta: Some(0.0), tau_plus: Some(tau_plus), ..config("hcl", 0.5) };
        let debiased = LossConfig { tau_plus: Some(tau_plus), ..config("debiased", 0.5) };
        prop_assert!(equal(&take(&hcl, &data, &Now::default()), &take(&debiased, &data, &Now::default())));
    }

    #[test]
    fn debiased_without_prior_and_ccr_without_beta_equal_info_nce(seed in 0u64..10_000, blocked in some_cells()) {
        let data = Data { blocked, ..Data::full(&[0, 3, 5, 5], 7, 4, seed) };
        let expected = take(&config("info-nce", 0.1), &data, &Now::default());
        let debiased = LossConfig { tau_plus: Some(0.0), ..config("debiased", 0.1) };
        prop_assert!(equal(&take(&debiased, &data, &Now::default()), &expected));
        let ccr = LossConfig { beta: Some(0.0), ..config("ccr", 0.1) };
        prop_assert!(equal(&take(&ccr, &data, &Now::default()), &expected));
    }

    #[test]
    fn a_constant_on_a_querys_teacher_scores_changes_nothing(seed in 0u64..10_000, constants in prop::collection::vec(-20.0f32..20.0, 4)) {
        let data = Data::full(&[0, 3, 5, 5], 7, 4, seed);
        let teacher = data.teacher.iter().enumerate().map(|(cell, score)| score + constants[cell / 7]).collect();
        let shifted = Data { teacher, ..data.clone() };
        for kind in ["margin-mse", "kl", "adversarial"] {
            let config = config(kind, 0.5);
            let (before, after) = (take(&config, &data, &Now::default()), take(&config, &shifted, &Now::default()));
            let close = (before.value - after.value).abs() <= 1e-4 + 1e-4 * before.value.abs();
            prop_assert!(close, "{}: {} and {}", kind, before.value, after.value);
        }
    }

    #[test]
    fn a_passage_centric_term_of_weight_zero_leaves_info_nce(seed in 0u64..10_000) {
        let data = Data::full(&[0, 3, 5, 5], 7, 4, seed);
        let pair = |alpha: f64| LossConfig { weight: 1.0 - alpha, term: vec![term("passage-centric", alpha)], ..config("info-nce", 0.2) };
        let plain = take(&config("info-nce", 0.2), &data, &Now::default());
        prop_assert!(equal(&take(&pair(0.0), &data, &Now::default()), &plain));
        prop_assert!(!equal(&take(&pair(0.1), &data, &Now::default()), &plain));
    }

    #[test]
    fn a_single_full_width_equals_no_truncation(seed in 0u64..10_000) {
        let data = Data::full(&[0, 3, 5, 5], 7, 4, seed);
        let full = LossConfig { matryoshka: vec![4], matryoshka_normalize: false, ..config("info-nce", 0.2) };
        prop_assert!(equal(&take(&full, &data, &Now::default()), &take(&config("info-nce", 0.2), &data, &Now::default())));
    }

    #[test]
    fn ccr_is_bounded_on_cosines(seed in 0u64..10_000, beta in 0.0f64..1.0) {
        // log p is within 2 / t + log(columns) of 0 for every column.
        let data = Data { queries: unit_rows(&super::numbers(16, seed), 4), ..Data::full(&[0, 3, 5, 5], 7, 4, seed) };
        let value = take(&LossConfig { beta: Some(beta), ..config("ccr", 0.5) }, &data, &Now::default()).value;
        prop_assert!(f64::from(value) >= -beta * (4.0 + 7f64.ln()));
    }
}

/// What holds between losses of other names, on the device of the thread: pairwise and InfoNCE over one negative and over more; HCL without β,
/// debiased without a prior and CCR without β; margins and distributions under a constant on the teacher's scores; LCE as InfoNCE over the
/// own columns; the passage-centric term of weight 0; a cross-batch as the concatenation of its blocks.
pub(super) fn identities(seed: u64) {
    let value = |config: &LossConfig, data: &Data| take(config, data, &Now::default()).value;
    let same = |what: &str, a: f32, b: f32| assert!(near(a, b), "{what}, seed {seed}: {a} and {b}");
    let plain =
        |columns: usize, targets: &[usize]| Data { own: vec![], positives: vec![], ..Data::full(targets, columns, DIMENSION, seed) };
    let (one, more) = (plain(2, &[0]), plain(6, &[0]));
    same("one negative", value(&config("pairwise", 1.0), &one), value(&config("info-nce", 1.0), &one));
    assert!(value(&config("pairwise", 1.0), &more) < value(&config("info-nce", 1.0), &more) - 1e-2, "the sum is not the mean");

    let data = Data { blocked: (0..28).map(|cell| cell % 5 == 2).collect(), ..Data::full(&[0, 3, 5, 5], 7, 4, seed) };
    let nce = value(&config("info-nce", 0.5), &data);
    let hcl = LossConfig { beta: Some(0.0), tau_plus: Some(0.1), ..config("hcl", 0.5) };
    let debiased = |tau_plus| LossConfig { tau_plus: Some(tau_plus), ..config("debiased", 0.5) };
    same("hcl without beta", value(&hcl, &data), value(&debiased(0.1), &data));
    same("debiased without a prior", value(&debiased(0.0), &data), nce);
    same("ccr without beta", value(&LossConfig { beta: Some(0.0), ..config("ccr", 0.5) }, &data), nce);
    let pair = LossConfig { weight: 1.0, term: vec![term("passage-centric", 0.0)], ..config("info-nce", 0.5) };
    same("a term of weight 0", value(&pair, &data), nce);

    let shifted =
        Data { teacher: data.teacher.iter().enumerate().map(|(cell, score)| score + 3.0 * (cell / 7) as f32).collect(), ..data.clone() };
    for kind in ["margin-mse", "kl"] {
        let (before, after) = (value(&config(kind, 0.5), &data), value(&config(kind, 0.5), &shifted));
        assert!((before - after).abs() <= 1e-4 + 1e-4 * before.abs(), "{kind}, seed {seed}: {before} and {after}");
    }
    let private = Data { blocked: data.own.iter().map(|own| !own).collect(), ..data.clone() };
    let open = Data { blocked: vec![], ..data };
    same("lce", value(&config("lce", 0.5), &open), value(&config("info-nce", 0.5), &private));

    // Two workers of two queries: the mean of their losses over all columns.
    let whole = plain(8, &[0, 3, 4, 7]);
    let worker = |from: usize| Data {
        queries: whole.queries[from * DIMENSION..(from + 2) * DIMENSION].to_vec(),
        targets: whole.targets[from..from + 2].to_vec(),
        teacher: vec![],
        ranks: vec![],
        guide_queries: vec![],
        guide_documents: vec![],
        ..whole.clone()
    };
    let nce = |data: &Data| value(&config("info-nce", 0.3), data);
    same("cross-batch", (nce(&worker(0)) + nce(&worker(2))) / 2.0, nce(&whole));
}

#[test]
fn identities_hold() {
    (0..6).for_each(identities);
}

/// Value and gradients alike.
fn equal(a: &fixture::Taken, b: &fixture::Taken) -> bool {
    let close = |(a, b): (f32, f32)| (a - b).abs() <= 2e-5 + 2e-4 * b.abs();
    close((a.value, b.value)) && a.gradients().zip(b.gradients()).all(close)
}
