//! Batches that must be refused, with messages that say what to do.

use super::fixture::{Data, config};
use super::{device, tensor};
use crate::{BatchError, Embedded, Guide, LossConfig, Marks, MaskConfig, MaskRule, Needs, Side};

fn rows(rows: usize, width: usize) -> burn::tensor::Tensor<2> {
    tensor(&vec![0.5; rows * width], [rows, width], &device())
}

#[test]
fn malformed_batches_are_refused() {
    let build = |queries, documents, targets: &[usize], blocked: usize| {
        Embedded::new(queries, documents, targets.to_vec(), vec![false; blocked]).map(drop).unwrap_err()
    };
    assert_eq!(build(rows(2, 4), rows(3, 5), &[0, 1], 0), BatchError::Dimensions { queries: 4, documents: 5 });
    assert_eq!(build(rows(2, 4), rows(3, 4), &[0], 0), BatchError::TargetCount { targets: 1, queries: 2 });
    assert_eq!(build(rows(2, 4), rows(3, 4), &[0, 3], 0), BatchError::TargetRange { query: 1, target: 3, columns: 3 });
    let cells = BatchError::Cells { what: "blocked", got: 5, queries: 2, columns: 3 };
    assert!(cells.to_string().contains("2 queries x 3 columns = 6"), "{cells}");
    assert_eq!(build(rows(2, 4), rows(3, 4), &[0, 1], 5), cells);
}

#[test]
fn malformed_side_information_is_refused() {
    let batch = || Embedded::new(rows(2, 4), rows(3, 4), vec![0, 1], vec![]).unwrap();
    let cells = |what| BatchError::Cells { what, got: 4, queries: 2, columns: 3 };
    assert_eq!(batch().with_own(vec![true; 4]).map(drop).unwrap_err(), cells("own"));
    assert_eq!(batch().with_teacher(vec![0.0; 4]).map(drop).unwrap_err(), cells("teacher"));
    assert_eq!(batch().with_ranks(vec![1; 4]).map(drop).unwrap_err(), cells("ranks"));
    assert_eq!(batch().with_positives(vec![true; 4]).map(drop).unwrap_err(), cells("positives"));
    for (what, shape) in ["blocked", "own", "positives", "relevant"].into_iter().flat_map(|what| [(what, [2, 2]), (what, [3, 2])]) {
        let mut batch = batch();
        let Side { own, positives, relevant, .. } = &mut batch.side;
        let table = match what {
            "blocked" => &mut batch.blocked,
            "own" => own,
            "positives" => positives,
            _ => relevant,
        };
        *table = Marks::new(shape[0], shape[1]);
        // Of as many cells, but other rows, as well.
        let cells = BatchError::Cells { what, got: shape[0] * shape[1], queries: 2, columns: 3 };
        assert_eq!(batch.validate().unwrap_err(), cells);
    }
    let columns = BatchError::Columns { what: "synthetic", got: 4, columns: 3 };
    assert_eq!(batch().with_synthetic(vec![true; 4]).map(drop).unwrap_err(), columns);
    let infinite = batch().with_teacher(vec![0.0, 0.0, 0.0, 0.0, f32::INFINITY, f32::NAN]).map(drop).unwrap_err();
    assert_eq!(infinite, BatchError::TeacherScore { query: 1, column: 1, got: f32::INFINITY });
    let guide = |queries, documents| batch().with_guide(Guide { queries, documents }).map(drop).unwrap_err();
    assert_eq!(guide(rows(3, 7), rows(3, 7)), BatchError::GuideRows { what: "queries", got: 3, expected: 2 });
    assert_eq!(guide(rows(2, 7), rows(2, 7)), BatchError::GuideRows { what: "documents", got: 2, expected: 3 });
    assert_eq!(guide(rows(2, 7), rows(3, 6)), BatchError::GuideDimensions { queries: 7, documents: 6 });
    batch().with_guide(Guide { queries: rows(2, 7), documents: rows(3, 7) }).unwrap().with_own(vec![true; 6]).unwrap();
}

#[test]
fn what_a_loss_needs_must_be_there() {
    let bare = Data { queries: vec![0.5; 8], documents: vec![0.5; 12], dimension: 4, targets: vec![0, 1], ..Data::default() }.embedded();
    let guided = LossConfig { mask: vec![MaskConfig::new(MaskRule::Guide)], ..config("info-nce", 0.1) };
    for (config, needed) in [
        (config("kl", 1.0), "teacher scores"),
        (config("margin-mse", 1.0), "teacher scores"),
        (config("lambda-mrr", 1.0), "the ranks of a retrieval"),
        (guided.clone(), "the rows of a guide encoder"),
    ] {
        assert_eq!(config.check(&bare).unwrap_err(), BatchError::Missing { needed });
    }
    assert_eq!(guided.needs(), Needs { guide: true, ..Needs::default() });
    let term = LossConfig { term: vec![super::fixture::term("kl", 1.0)], ..config("info-nce", 0.1) };
    assert_eq!(term.needs(), Needs { own: true, teacher: true, ..Needs::default() });
    let wide = LossConfig { matryoshka: vec![2, 8], ..config("info-nce", 0.1) };
    assert_eq!(wide.check(&bare).unwrap_err(), BatchError::Width { width: 8, dimension: 4 });
    config("lce", 0.1).check(&bare).unwrap();
}
