//! What sets the labelled losses apart: pairs by rank, unknown scores, in-batch margins.

use super::fixture::{Data, check, config, take};
use crate::{LossConfig, Now};

/// One query and its columns, all scores 0: every softplus is ln 2, so the loss is ln 2 times the mean weight of a pair.
fn mean_weight(config: &LossConfig, positives: &[bool], ranks: &[u32]) -> f64 {
    let data = Data {
        queries: vec![0.0; 2],
        documents: vec![0.5; ranks.len() * 2],
        dimension: 2,
        targets: vec![0],
        positives: positives.to_vec(),
        ranks: ranks.to_vec(),
        ..Data::default()
    };
    f64::from(take(config, &data, &Now::default()).value) / 2f64.ln()
}

fn near(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-6, "got {got}, expected {expected}");
}

#[test]
fn pairs_weigh_the_difference_of_reciprocal_ranks() {
    let lambda = config("lambda-mrr", 1.0);
    // A positive at rank 1 and one at 200, negatives at 2 and 3.
    let expected = [1.0 - 0.5, 1.0 - 1.0 / 3.0, 0.5 - 0.005, 1.0 / 3.0 - 0.005].iter().sum::<f64>() / 4.0;
    near(mean_weight(&lambda, &[true, true, false, false], &[1, 200, 2, 3]), expected);
    // The target counts as a positive even where only another is marked.
    near(mean_weight(&lambda, &[false, true, false, false], &[1, 200, 2, 3]), expected);
    // An appended positive has weight 0 itself, whether it carries a rank past the cut or none.
    let appended = (1.0 + 0.5) / 2.0;
    near(mean_weight(&lambda, &[], &[0, 1, 2]), appended);
    near(mean_weight(&lambda, &[], &[201, 1, 2]), appended);
    near(mean_weight(&LossConfig { cut: Some(201), ..lambda }, &[], &[201, 1, 2]), appended - 1.0 / 201.0);
}

#[test]
fn equal_ranks_teach_nothing() {
    near(mean_weight(&config("lambda-mrr", 1.0), &[], &[0, 0, 0]), 0.0);
}

#[test]
fn cells_unknown_to_the_teacher_have_no_gradient() {
    let data = Data::full(&[0, 1, 2], 6, 4, 61);
    let unknown = |cell: usize| cell % 6 == 5 || cell / 6 == 2;
    let teacher = data.teacher.iter().enumerate().map(|(cell, &score)| if unknown(cell) { f32::NAN } else { score.max(-9.0) }).collect();
    let data = Data { teacher, positives: vec![], ..data };
    for config in [
        config("margin-mse", 1.0),
        LossConfig { in_batch: true, ..config("margin-mse", 1.0) },
        config("kl", 1.0),
        config("adversarial", 1.0),
    ] {
        let taken = take(&config, &data, &Now::default());
        assert!(taken.value > 0.0, "{config:?}");
        // Neither the query nor the column counts in the mean.
        check(&format!("{config:?}"), &config, &data, &Now::default());
        assert_eq!(&taken.documents[20..], &[0.0; 4], "{config:?}: the column");
        assert_eq!(&taken.queries[8..], &[0.0; 4], "{config:?}: the query");
    }
}

#[test]
fn a_batch_without_any_known_score_has_loss_zero() {
    let data = Data { teacher: vec![f32::NAN; 18], ..Data::full(&[0, 1, 2], 6, 4, 63) };
    for config in [
        config("margin-mse", 1.0),
        LossConfig { in_batch: true, ..config("margin-mse", 1.0) },
        config("kl", 1.0),
        config("adversarial", 1.0),
    ] {
        let taken = take(&config, &data, &Now::default());
        assert_eq!(taken.value, 0.0, "{config:?}");
        assert!(taken.gradients().all(|gradient| gradient == 0.0), "{config:?}");
    }
}
