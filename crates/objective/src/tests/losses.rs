//! Values and gradients of the losses: against PyTorch's numbers and against finite differences of the `f64` reference.

use serde_json::Value;

use super::{assert_close, device, numbers, scalar, shared, tensor, values};
use crate::reference;
use crate::{Embedded, LossConfig, LossKind};

fn config(kind: &str, temperature: f64, symmetric: bool) -> LossConfig {
    LossConfig { kind: LossKind::named(kind).unwrap(), temperature, symmetric }
}

/// Loss, gradient of the queries and gradient of the documents.
fn value_and_gradients(
    config: &LossConfig,
    queries: &[f32],
    documents: &[f32],
    dimension: usize,
    targets: &[usize],
    blocked: &[bool],
) -> (f32, Vec<f32>, Vec<f32>) {
    let queries = tensor(queries, [queries.len() / dimension, dimension], &device()).require_grad();
    let documents = tensor(documents, [documents.len() / dimension, dimension], &device()).require_grad();
    let batch = Embedded::new(queries.clone(), documents.clone(), targets.to_vec(), blocked.to_vec()).unwrap();
    let loss = config.loss(&batch);
    let gradients = loss.backward();
    (scalar(&loss), values(&queries.grad(&gradients).unwrap()), values(&documents.grad(&gradients).unwrap()))
}

fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

#[test]
fn losses_equal_the_golden_values_and_gradients() {
    let Some(path) = shared("golden/losses.json") else { return };
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let read = |key: &str| -> Vec<f32> { flat(&golden[key]).iter().map(|&x| x as f32).collect() };
    let (queries, positives, negatives) = (read("query"), read("positive"), read("negative"));
    let both = [positives.clone(), negatives].concat();
    // Columns 0..6 are the positives, 6..12 the negatives; query i owns columns i and 6 + i.
    let own_only: Vec<bool> = (0..6).flat_map(|query| (0..12).map(move |column| column % 6 != query)).collect();
    let cases = [
        ("info_nce(t=0.05, in-batch + hard)", config("info-nce", 0.05, false), true, vec![]),
        ("info_nce(t=0.05, in-batch only)", config("info-nce", 0.05, false), false, vec![]),
        ("info_nce(t=0.05, own hard negative only)", config("info-nce", 0.05, false), true, own_only.clone()),
        ("symmetric_info_nce(t=0.05): mean of query-to-positive and positive-to-query", config("info-nce", 0.05, true), false, vec![]),
        (
            "pairwise_nll: mean of -log sigmoid(s+ - s-) over own hard negative, scores times 20",
            config("pairwise", 0.05, false),
            true,
            own_only,
        ),
    ];
    for (name, config, with_negatives, blocked) in cases {
        let documents = if with_negatives { &both } else { &positives };
        let (loss, queries_gradient, documents_gradient) =
            value_and_gradients(&config, &queries, documents, 16, &[0, 1, 2, 3, 4, 5], &blocked);
        let case = &golden["cases"][name];
        assert_close(&format!("{name}: loss"), &[loss], &flat(&case["loss"]), 1e-5, 1e-4);
        assert_close(&format!("{name}: queries"), &queries_gradient, &flat(&case["grad_query"]), 1e-5, 1e-4);
        assert_close(&format!("{name}: positives"), &documents_gradient[..96], &flat(&case["grad_positive"]), 1e-5, 1e-4);
        if with_negatives {
            assert_close(&format!("{name}: negatives"), &documents_gradient[96..], &flat(&case["grad_negative"]), 1e-5, 1e-4);
        }
    }
}

#[test]
fn gradients_equal_finite_differences_of_the_reference() {
    let some_blocked: Vec<bool> = (0..5 * 9).map(|cell| cell % 4 == 1).collect();
    let targets: [(&str, Vec<usize>); 3] =
        [("first columns", vec![0, 1, 2, 3, 4]), ("interleaved", vec![0, 2, 4, 6, 8]), ("shared", vec![3, 3, 0, 8, 8])];
    let losses = [
        config("info-nce", 0.05, false),
        config("info-nce", 1.0, false),
        config("info-nce", 0.1, true),
        config("pairwise", 0.05, false),
        config("pairwise", 1.0, false),
    ];
    let (queries, documents) = (numbers(5 * 4, 1), numbers(9 * 4, 2));
    for (layout, targets) in &targets {
        for blocked in [vec![], some_blocked.clone()] {
            for config in &losses {
                let what = format!("{config:?}, {layout}, {} blocked", blocked.iter().filter(|&&b| b).count());
                let (loss, queries_gradient, documents_gradient) = value_and_gradients(config, &queries, &documents, 4, targets, &blocked);
                let batch = reference::Batch {
                    queries: queries.iter().map(|&x| f64::from(x)).collect(),
                    documents: documents.iter().map(|&x| f64::from(x)).collect(),
                    dimension: 4,
                    targets: targets.clone(),
                    blocked: blocked.clone(),
                };
                let value = |batch: &reference::Batch| match config.kind.name() {
                    "info-nce" => reference::info_nce(batch, config.temperature, config.symmetric),
                    "pairwise" => reference::pairwise(batch, config.temperature),
                    other => panic!("no reference for {other}"),
                };
                assert_close(&format!("{what}: loss"), &[loss], &[value(&batch)], 1e-5, 1e-5);
                let expected: Vec<f64> =
                    (0..batch.queries.len()).map(|element| central_difference(&batch, |b| &mut b.queries[element], value)).collect();
                assert_close(&format!("{what}: queries"), &queries_gradient, &expected, 2e-5, 1e-4);
                let expected: Vec<f64> =
                    (0..batch.documents.len()).map(|element| central_difference(&batch, |b| &mut b.documents[element], value)).collect();
                assert_close(&format!("{what}: documents"), &documents_gradient, &expected, 2e-5, 1e-4);
            }
        }
    }
}

fn central_difference(
    batch: &reference::Batch,
    element: impl Fn(&mut reference::Batch) -> &mut f64,
    value: impl Fn(&reference::Batch) -> f64,
) -> f64 {
    const STEP: f64 = 1e-6;
    let moved = |by: f64| {
        let mut batch = batch.clone();
        *element(&mut batch) += by;
        value(&batch)
    };
    (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
}

#[test]
fn a_target_is_never_blocked() {
    let (queries, documents, targets) = (numbers(3 * 4, 3), numbers(5 * 4, 4), [0, 4, 2]);
    let only_targets: Vec<bool> = (0..15).map(|cell| targets[cell / 5] == cell % 5).collect();
    for config in [config("info-nce", 0.05, false), config("info-nce", 0.05, true), config("pairwise", 0.05, false)] {
        let run = |blocked: &[bool]| value_and_gradients(&config, &queries, &documents, 4, &targets, blocked);
        assert_eq!(run(&only_targets), run(&[]), "{config:?}");
    }
    for kind in ["info-nce", "pairwise"] {
        let (loss, queries_gradient, documents_gradient) =
            value_and_gradients(&config(kind, 0.05, false), &queries, &documents, 4, &targets, &[true; 15]);
        assert!(loss.abs() < 1e-6, "{kind}: with nothing but the target left there is nothing to learn, got {loss}");
        assert!(queries_gradient.iter().chain(&documents_gradient).all(|g| g.abs() < 1e-5), "{kind}: gradient");
    }
}

#[test]
fn a_column_blocked_for_every_query_has_no_gradient_and_no_effect() {
    let (queries, mut documents) = (numbers(3 * 4, 5), numbers(5 * 4, 6));
    let blocked: Vec<bool> = (0..15).map(|cell| cell % 5 == 4).collect();
    for config in [config("info-nce", 0.05, false), config("info-nce", 0.05, true), config("pairwise", 0.05, false)] {
        let (loss, _, gradient) = value_and_gradients(&config, &queries, &documents, 4, &[0, 1, 2], &blocked);
        assert_eq!(&gradient[16..], &[0.0; 4], "{config:?}");
        documents[16..].iter_mut().for_each(|x| *x *= -50.0);
        let (moved, _, _) = value_and_gradients(&config, &queries, &documents, 4, &[0, 1, 2], &blocked);
        assert_eq!(loss, moved, "{config:?}");
    }
}

#[test]
fn huge_scores_give_finite_losses_and_gradients() {
    let (queries, documents): (Vec<f32>, Vec<f32>) =
        (numbers(3 * 4, 7).iter().map(|x| x * 300.0).collect(), numbers(6 * 4, 8).iter().map(|x| x * 300.0).collect());
    let blocked: Vec<bool> = (0..18).map(|cell| cell % 6 == 5).collect();
    for config in [config("info-nce", 0.01, false), config("info-nce", 0.01, true), config("pairwise", 0.01, false)] {
        let (loss, queries_gradient, documents_gradient) = value_and_gradients(&config, &queries, &documents, 4, &[0, 1, 2], &blocked);
        assert!(loss.is_finite() && loss >= 0.0, "{config:?}: {loss}");
        assert!(queries_gradient.iter().chain(&documents_gradient).all(|g| g.is_finite()), "{config:?}");
    }
}
