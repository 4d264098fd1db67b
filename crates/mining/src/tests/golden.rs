//! Against what sentence-transformers' miner returned on placed vectors (`shared/golden/mining.json`), and its worked case.

#![allow(clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use serde::Deserialize;

use super::{collection, judged, on_a_line, tensor, texts};
use crate::{DrawConfig, EmbeddingStore, MineOptions, mine};

#[derive(Deserialize)]
struct Golden {
    documents: Vec<Vec<f32>>,
    queries: Vec<Vec<f32>>,
    positive: Vec<u32>,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    arguments: Arguments,
    negatives: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    num_negatives: usize,
    range_min: Option<usize>,
    range_max: Option<usize>,
    relative_margin: Option<f32>,
    absolute_margin: Option<f32>,
    max_score: Option<f32>,
    min_score: Option<f32>,
}

#[test]
fn all_eight_parameter_sets_are_reproduced_exactly() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/mining.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: golden mining (../shared is not there)");
        return;
    };
    let golden: Golden = serde_json::from_str(&text).unwrap();
    assert_eq!(golden.runs.len(), 8);
    let device = Device::flex();
    let dimension = golden.documents[0].len();
    let mut encoder = super::Placed::new(golden.documents.clone(), golden.queries.clone());
    let store = EmbeddingStore::encode(&mut encoder, golden.documents.len(), &device).unwrap();
    let queries = tensor(golden.queries.concat(), dimension, &device);
    let ids: Vec<u32> = (0..golden.queries.len() as u32).collect();
    let data = collection(&texts("document", golden.documents.len()), &texts("query", golden.queries.len()));
    let pairs: Vec<(u32, u32)> = ids.iter().copied().zip(golden.positive.iter().copied()).collect();
    let judgments = judged(ids.len(), &pairs);
    for run in &golden.runs {
        let it = &run.arguments;
        let options = MineOptions {
            negatives: it.num_negatives,
            depth: it.range_max,
            skip: it.range_min.unwrap_or(0),
            relative_margin: it.relative_margin,
            absolute_margin: it.absolute_margin,
            max_score: it.max_score,
            min_score: it.min_score,
            ..MineOptions::default()
        };
        let mined = mine(&queries, &store, &ids, &judgments, &data, &options).unwrap();
        let got: BTreeMap<String, Vec<String>> = mined
            .rows
            .iter()
            .filter(|row| !row.negatives.is_empty())
            .map(|row| (format!("q{}", row.query), row.negatives.iter().map(|it| format!("d{}", it.0)).collect()))
            .collect();
        assert_eq!(got, run.negatives, "{options:?}");
        assert_eq!(mined.report.negatives, run.negatives.values().map(Vec::len).sum::<usize>());
        assert_eq!(mined.report.empty_rows, ids.len() - run.negatives.len());
    }
}

/// Cosines on the unit circle: the positive .80, then .95 .79 .77 .70 .60 .30 .20.
fn worked_case(options: &MineOptions) -> Vec<u32> {
    let cosines = [0.80_f32, 0.95, 0.79, 0.77, 0.70, 0.60, 0.30, 0.20];
    let mut encoder = on_a_line(&cosines);
    // Lengths other than 1 must not matter.
    encoder.documents =
        cosines.iter().zip(1..).map(|(&it, length)| vec![it * length as f32, (1.0 - it * it).sqrt() * length as f32]).collect();
    let device = Device::flex();
    let store = EmbeddingStore::encode(&mut encoder, cosines.len(), &device).unwrap();
    let data = collection(&texts("document", cosines.len()), &texts("query", 1));
    let query = tensor(vec![3.0, 0.0], 2, &device);
    let mined = mine(&query, &store, &[0], &judged(1, &[(0, 0)]), &data, options).unwrap();
    assert!((mined.rows[0].positives[0].1 - 0.80).abs() < 1e-6);
    mined.rows[0].negatives.iter().map(|it| it.0 - 1).collect()
}

#[test]
fn the_worked_case_of_skip_and_margin() {
    let base = || MineOptions { negatives: 3, ..MineOptions::default() };
    assert_eq!(worked_case(&MineOptions { skip: 1, ..base() }), [1, 2, 3]);
    assert_eq!(worked_case(&MineOptions { relative_margin: Some(0.05), ..base() }), [3, 4, 5]);
    assert_eq!(worked_case(&MineOptions { skip: 1, relative_margin: Some(0.05), ..base() }), [4, 5, 6]);
    assert_eq!(worked_case(&MineOptions { negatives: 5, min_score: Some(0.65), ..base() }), [0, 1, 2, 3]);
}

#[test]
fn copies_of_a_positive_go_and_other_copies_take_part_once() {
    let mut encoder = on_a_line(&[0.9, 0.85, 0.8, 0.8, 0.7, 0.6]);
    let device = Device::flex();
    let store = EmbeddingStore::encode(&mut encoder, 6, &device).unwrap();
    // d1 is a copy of the positive d0, d3 one of d2.
    let data = collection(&["positive", "positive", "twin", "twin", "four", "five"], &["query"; 1]);
    let options = MineOptions { negatives: 4, ..MineOptions::default() };
    let query = tensor(vec![1.0, 0.0], 2, &device);
    for positive in [0, 1] {
        let mined = mine(&query, &store, &[0], &judged(1, &[(0, positive)]), &data, &options).unwrap();
        let negatives: Vec<u32> = mined.rows[0].negatives.iter().map(|it| it.0).collect();
        assert_eq!(negatives, [2, 4, 5]);
        assert_eq!((mined.report.short_rows, mined.report.empty_rows), (1, 0));
    }
}

#[test]
fn a_uniform_choice_is_among_the_survivors_and_a_function_of_the_seed() {
    let cosines: Vec<f32> = (0..60).map(|it| 0.95 - it as f32 * 0.01).collect();
    let mut encoder = on_a_line(&cosines);
    let device = Device::flex();
    let store = EmbeddingStore::encode(&mut encoder, 60, &device).unwrap();
    let data = collection(&texts("document", 60), &texts("query", 1));
    let query = tensor(vec![1.0, 0.0], 2, &device);
    let draw = |seed| {
        let options = MineOptions { negatives: 5, depth: Some(20), skip: 4, draw: DrawConfig::Uniform {}, seed, ..MineOptions::default() };
        mine(&query, &store, &[0], &judged(1, &[(0, 2)]), &data, &options).unwrap().rows.remove(0).negatives
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let order: Vec<u32> = draw(1).iter().map(|it| it.0).collect();
    assert!(order.len() == 5 && order.is_sorted() && order.iter().all(|it| (5..=20).contains(it)), "{order:?}");
}

#[test]
fn options_without_sense_are_refused() {
    let device = Device::flex();
    let store = EmbeddingStore::encode(&mut on_a_line(&[0.5, 0.4]), 2, &device).unwrap();
    let data = collection(&["a", "b"], &["q"; 1]);
    let query = tensor(vec![1.0, 0.0], 2, &device);
    let cases = [
        (MineOptions { negatives: 0, ..MineOptions::default() }, "negatives: got 0"),
        (MineOptions { depth: Some(3), skip: 3, ..MineOptions::default() }, "depth: got 3, expected more than skip"),
        (MineOptions { max_score: Some(f32::NAN), ..MineOptions::default() }, "max_score: got NaN"),
    ];
    for (options, part) in cases {
        let message = mine(&query, &store, &[0], &judged(1, &[(0, 0)]), &data, &options).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    let message = mine(&query, &store, &[0, 0], &judged(1, &[(0, 0)]), &data, &MineOptions::default()).unwrap_err().to_string();
    assert!(message.contains("[1, 2]") && message.contains("[2, 2]"), "{message}");
}
