//! Values and gradients of the losses against PyTorch's numbers.

use serde_json::Value;

use super::fixture::{Data, config, take};
use super::{assert_close, shared};
use crate::{Block, LossConfig, MaskConfig, MaskRule, Now};

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
    let teacher = read("teacher");
    // Columns 0..6 are the positives, 6..12 the negatives; query i owns columns i and 6 + i.
    let owns = |query: usize, column: usize| column % 6 == query;
    let grid = || (0..6).flat_map(|query| (0..12).map(move |column| (query, column)));
    let in_batch =
        Data { queries: read("query"), documents: read("positive"), dimension: 16, targets: vec![0, 1, 2, 3, 4, 5], ..Data::default() };
    let both = Data { documents: [read("positive"), read("negative")].concat(), ..in_batch.clone() };
    let groups = Data {
        own: grid().map(|(query, column)| owns(query, column)).collect(),
        teacher: grid().map(|(query, column)| if owns(query, column) { teacher[query * 2 + column / 6] } else { f32::NAN }).collect(),
        ..both.clone()
    };
    let private = Data { blocked: grid().map(|(query, column)| !owns(query, column)).collect(), ..both.clone() };
    let symmetric = LossConfig { symmetric: true, ..config("info-nce", 0.05) };
    let gist = LossConfig {
        blocks: vec![Block::QueryQuery, Block::PositivePositive],
        mask: vec![MaskConfig::new(MaskRule::Guide)],
        ..config("info-nce", 0.01)
    };
    let cases = [
        ("info_nce(t=0.05, in-batch + hard)", config("info-nce", 0.05), &both),
        ("info_nce(t=0.05, in-batch only)", config("info-nce", 0.05), &in_batch),
        ("info_nce(t=0.05, own hard negative only)", config("info-nce", 0.05), &private),
        ("info_nce(t=0.05, own hard negative only)", config("lce", 0.05), &groups),
        ("symmetric_info_nce(t=0.05): mean of query-to-positive and positive-to-query", symmetric, &in_batch),
        ("pairwise_nll: mean of -log sigmoid(s+ - s-) over own hard negative, scores times 20", config("pairwise", 0.05), &private),
        ("margin_mse(dot): student margin against teacher[:,0]-teacher[:,1]", config("margin-mse", 1.0), &groups),
        ("kl(teacher || student), batchmean, temperature 1", config("kl", 1.0), &groups),
        ("gist(t=0.01): blocks qp, qq, pp, qn, masked where guide similarity > guide similarity of the pair", gist, &both),
    ];
    for (name, config, data) in cases {
        let mut data = data.clone();
        if config.needs().guide {
            (data.guide_queries, data.guide_documents) = (read("guide_query"), [read("guide_positive"), read("guide_negative")].concat());
        }
        let taken = take(&config, &data, &Now::default());
        let case = &golden["cases"][name];
        assert_close(&format!("{name}: loss"), &[taken.value], &flat(&case["loss"]), 1e-5, 1e-4);
        assert_close(&format!("{name}: queries"), &taken.queries, &flat(&case["grad_query"]), 1e-5, 1e-4);
        assert_close(&format!("{name}: positives"), &taken.documents[..96], &flat(&case["grad_positive"]), 1e-5, 1e-4);
        if taken.documents.len() > 96 {
            assert_close(&format!("{name}: negatives"), &taken.documents[96..], &flat(&case["grad_negative"]), 1e-5, 1e-4);
        }
    }
}
