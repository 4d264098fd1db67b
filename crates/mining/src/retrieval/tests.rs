//! What a step retrieves: ranks against a plain sort, positives that are always there, and a store that stays as it is.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use proptest::prelude::*;

use super::{Retrieval, Retrieved};
use crate::store::{EmbeddingStore, StorePrecision};
use crate::tests::{Placed, collection, judged, tensor, texts, values};
use crate::{Knowledge, MiningError};

/// Documents with these rows and texts, on `device`, in shards of a few rows.
fn retrieval(
    rows: &[Vec<f32>],
    documents: &[String],
    queries: usize,
    pairs: &[(u32, u32)],
    depth: usize,
    device: &Device,
) -> Result<Retrieval, MiningError> {
    let mut encoder = Placed::new(rows.to_vec(), vec![]);
    encoder.device = device.clone();
    let mut store = EmbeddingStore::in_shards(rows.len(), encoder.dimension, StorePrecision::F32, device, 40 / encoder.dimension);
    store.fill(&mut encoder, None).unwrap();
    let known = Knowledge::new(&collection(documents, &texts("query", queries)), &judged(queries, pairs), false).unwrap();
    Retrieval::new(store, Arc::new(known), depth)
}

/// `count` documents on a line; for a query at (1, 0) document i has rank i + 1, for one at (-1, 0) the order is turned round.
fn line(count: usize, queries: usize, pairs: &[(u32, u32)], depth: usize) -> Retrieval {
    let rows: Vec<Vec<f32>> = (0..count).map(|it| vec![(count - it) as f32, 1.0]).collect();
    retrieval(&rows, &texts("document", count), queries, pairs, depth, &Device::flex()).unwrap()
}

impl Retrieved {
    /// `(document, rank)` of a query's list, by rank.
    fn list(&self, query: usize) -> Vec<(u32, u32)> {
        let count = self.columns.len();
        let mut list: Vec<(u32, u32)> = (0..count)
            .filter(|column| self.own[query * count + column])
            .map(|column| (self.columns[column], self.ranks[query * count + column]))
            .collect();
        list.sort_by_key(|entry| entry.1);
        list
    }

    fn marked(&self, marks: &[bool], query: usize) -> Vec<u32> {
        let count = self.columns.len();
        (0..count).filter(|column| marks[query * count + column]).map(|column| self.columns[column]).collect()
    }
}

/// The rank of what was appended and not retrieved.
const NOT_RETRIEVED: u32 = u32::MAX;

/// `1 / rank` down to `cut`, as the loss has it.
fn weight(rank: u32, cut: u32) -> f64 {
    if (1..=cut).contains(&rank) { 1.0 / f64::from(rank) } else { 0.0 }
}

#[test]
fn ranks_weigh_pairs_as_the_paper_has_it() {
    // Query 0 has positives at ranks 1 and 200, query 1 one at rank 250.
    let retrieval = line(300, 2, &[(0, 0), (0, 199), (1, 249)], 200);
    let rows = tensor(vec![1.0, 0.0, 1.0, 0.0], 2, &Device::flex());
    let found = retrieval.step(&rows, &[0, 1], &[199, 249]).unwrap();
    assert_eq!(found.list(0), (0..200).zip(1..).collect::<Vec<_>>());
    assert_eq!(found.list(1), (0..200).zip(1..).chain([(249, NOT_RETRIEVED)]).collect::<Vec<_>>());
    assert_eq!((found.marked(&found.positive, 0), found.marked(&found.positive, 1)), (vec![0, 199], vec![249]));
    let negatives = |query: usize| {
        let mut list = found.list(query);
        list.retain(|entry| !found.marked(&found.positive, query).contains(&entry.0));
        list
    };
    for (document, rank) in negatives(0) {
        let exact = f64::from(document + 1).recip();
        assert!(((weight(1, 200) - weight(rank, 200)).abs() - (1.0 - exact)).abs() < 1e-12);
        assert!(((weight(200, 200) - weight(rank, 200)).abs() - (exact - 0.005)).abs() < 1e-12);
    }
    let appended = found.list(1).last().unwrap().1;
    assert_eq!(weight(appended, 200), 0.0);
    for (document, rank) in negatives(1) {
        assert_eq!((weight(appended, 200) - weight(rank, 200)).abs(), f64::from(document + 1).recip());
    }
}

#[test]
fn all_positives_are_appended_when_none_is_found_and_none_when_one_is() {
    let retrieval = line(20, 3, &[(0, 15), (0, 12), (0, 18), (1, 2), (1, 17), (2, 19)], 4);
    let rows = tensor(vec![1.0, 0.0, 1.0, 0.0, 1.0, 0.0], 2, &Device::flex());
    let found = retrieval.step(&rows, &[0, 1, 2], &[15, 17, 19]).unwrap();
    assert_eq!(found.list(0), [(0, 1), (1, 2), (2, 3), (3, 4), (12, NOT_RETRIEVED), (15, NOT_RETRIEVED), (18, NOT_RETRIEVED)]);
    assert_eq!(found.list(1), [(0, 1), (1, 2), (2, 3), (3, 4)]);
    assert_eq!(found.list(2), [(0, 1), (1, 2), (2, 3), (3, 4), (19, NOT_RETRIEVED)]);
    // The pair's positive is a column all the same, outside the list.
    assert_eq!(found.targets.iter().map(|&column| found.columns[column]).collect::<Vec<_>>(), [15, 17, 19]);
    assert_eq!(found.marked(&found.positive, 1), [2, 17]);
    assert_eq!(found.columns, [0, 1, 2, 3, 12, 15, 17, 18, 19]);
    assert_eq!(values(found.rows), [20.0, 1.0, 19.0, 1.0, 18.0, 1.0, 17.0, 1.0, 8.0, 1.0, 5.0, 1.0, 3.0, 1.0, 2.0, 1.0, 1.0, 1.0]);
}

#[test]
fn a_positive_that_was_not_judged_counts_for_its_pair() {
    let retrieval = line(9, 1, &[], 2);
    let rows = tensor(vec![1.0, 0.0], 2, &Device::flex());
    let found = retrieval.step(&rows, &[0], &[7]).unwrap();
    assert_eq!(found.list(0), [(0, 1), (1, 2), (7, NOT_RETRIEVED)]);
    assert_eq!(found.marked(&found.positive, 0), [7]);
    assert_eq!(retrieval.step(&rows, &[0], &[1]).unwrap().list(0), [(0, 1), (1, 2)]);
}

#[test]
fn copies_and_judged_documents_are_neither_positive_nor_negative() {
    let words = ["one", "two", "one", "query 0", "three", "two"].map(str::to_owned);
    let rows: Vec<Vec<f32>> = (0..6).map(|it| vec![6.0 - it as f32, 1.0]).collect();
    let known = |lenient| {
        let judgments = corpus::Judgments::from_pairs(1, vec![(0, 0, 1), (0, 4, 0)]);
        Arc::new(Knowledge::new(&collection(&words, &texts("query", 1)), &judgments, lenient).unwrap())
    };
    let mut retrieval = retrieval(&rows, &words, 1, &[], 6, &Device::flex()).unwrap();
    let query = tensor(vec![1.0, 0.0], 2, &Device::flex());
    for (lenient, expected) in [(false, vec![2, 3, 4]), (true, vec![2, 3])] {
        retrieval.knowledge = known(lenient);
        let found = retrieval.step(&query, &[0], &[0]).unwrap();
        assert_eq!(found.marked(&found.blocked, 0), expected);
        assert_eq!(found.marked(&found.positive, 0), [0]);
        assert_eq!(found.list(0).len(), 6, "they keep their places");
        // The pair's positive need not be judged for its copies to be known.
        let found = retrieval.step(&query, &[0], &[5]).unwrap();
        assert!(found.marked(&found.blocked, 0).contains(&1) && !found.blocked[found.targets[0]]);
    }
}

#[test]
fn the_store_stays_bit_identical_while_queries_are_trained() {
    let retrieval = line(50, 2, &[(0, 40), (1, 3)], 8);
    let bits = || {
        let shards = retrieval.store().shards().iter().cloned();
        shards.flat_map(values).map(f32::to_bits).collect::<Vec<_>>()
    };
    let before = bits();
    let mut weights = tensor(vec![0.3, 0.1, -0.2, 0.4], 2, &Device::flex().autodiff()).require_grad();
    for _ in 0..5 {
        let queries = weights.clone() * 1.0;
        let found = retrieval.step(&queries, &[0, 1], &[40, 3]).unwrap();
        assert!(!found.rows.is_autodiff() && !found.rows.is_require_grad());
        let gradients = queries.matmul(Tensor::from_inner(found.rows).transpose()).sum().backward();
        weights = (weights.clone().inner() - weights.grad(&gradients).unwrap() * 1e-3).autodiff().require_grad();
    }
    assert_eq!(bits(), before);
    assert_eq!(retrieval.store().version(), 1);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let device = Device::flex();
    let rows = vec![vec![1.0, 0.0]; 4];
    let make = |documents, depth| retrieval(&rows, &texts("document", documents), 2, &[], depth, &device);
    assert!(matches!(make(5, 3), Err(MiningError::Count { got: 4, expected: 5, .. })));
    for depth in [0, 1025] {
        let message = make(4, depth).unwrap_err().to_string();
        assert!(message.contains(&format!("k is {depth}, expected 1 to 1024")), "{message}");
    }
    let retrieval = make(4, 9).unwrap();
    let ask = |width, queries: &[u32], positives: &[u32]| {
        retrieval.step(&tensor(vec![0.5; width * queries.len().max(1)], width, &device), queries, positives)
    };
    assert!(matches!(ask(3, &[0], &[0]), Err(MiningError::Shape { got: [1, 3], expected: [1, 2], .. })));
    assert!(matches!(ask(2, &[0, 1], &[0]), Err(MiningError::Count { got: 1, expected: 2, .. })));
    assert!(matches!(ask(2, &[2], &[0]), Err(MiningError::Beyond { side: "query", id: 2, count: 2 })));
    assert!(matches!(ask(2, &[1], &[4]), Err(MiningError::Beyond { side: "document", id: 4, count: 4 })));
    // Fewer documents than the depth: a list of them all.
    assert_eq!(ask(2, &[0], &[3]).unwrap().list(0), [(0, 1), (1, 2), (2, 3), (3, 4)]);
    let none = retrieval.step(&Tensor::zeros([0, 2], &device), &[], &[]).unwrap();
    assert_eq!((none.columns.len(), none.rows.dims()), (0, [0, 2]));
    let unfilled = EmbeddingStore::new(4, 2, StorePrecision::F32, &device);
    let unfilled = Retrieval { store: unfilled, ..retrieval };
    assert!(matches!(unfilled.step(&tensor(vec![1.0, 0.0], 2, &device), &[0], &[0]), Err(MiningError::Unfilled)));
}

/// Whole numbers, so that scores are exact and ties are many.
fn against_a_plain_sort(rows: &[(i8, i8)], queries: &[(i8, i8)], pairs: &[(u32, u32)], classes: u32, depth: usize, device: &Device) {
    let place = |&(x, y): &(i8, i8)| vec![f32::from(x), f32::from(y) + 0.5];
    let documents: Vec<Vec<f32>> = rows.iter().map(place).collect();
    let words: Vec<String> = (0..rows.len() as u32).map(|document| format!("text {}", document % classes)).collect();
    let retrieval = retrieval(&documents, &words, queries.len(), pairs, depth, device).unwrap();
    let flat: Vec<f32> = queries.iter().flat_map(place).collect();
    let ids: Vec<u32> = (0..queries.len() as u32).collect();
    let positives: Vec<u32> = ids.iter().map(|&query| pairs.iter().find(|pair| pair.0 == query).map_or(0, |pair| pair.1)).collect();
    let found = retrieval.step(&tensor(flat, 2, device), &ids, &positives).unwrap();
    assert!(found.columns.is_sorted_by(|a, b| a < b));
    let expected: Vec<f32> = found.columns.iter().flat_map(|&document| documents[document as usize].clone()).collect();
    assert_eq!(values(found.rows.clone()), expected);
    let mut used = positives.clone();
    for (row, query) in queries.iter().enumerate() {
        let query = place(query);
        let mut ranked: Vec<u32> = (0..rows.len() as u32).collect();
        let score = |&document: &u32| documents[document as usize].iter().zip(&query).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        ranked.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.cmp(b)));
        ranked.truncate(depth);
        let mut own: Vec<u32> = pairs.iter().filter(|pair| pair.0 == row as u32).map(|pair| pair.1).chain([positives[row]]).collect();
        own.sort_unstable();
        own.dedup();
        let mut list: Vec<(u32, u32)> = ranked.iter().copied().zip(1..).collect();
        if !own.iter().any(|document| ranked.contains(document)) {
            list.extend(own.iter().map(|&document| (document, NOT_RETRIEVED)));
        }
        assert_eq!(found.list(row), list);
        used.extend(list.iter().map(|entry| entry.0));
        assert_eq!(found.columns[found.targets[row]], positives[row]);
        assert_eq!(found.marked(&found.positive, row), own.iter().copied().filter(|it| found.columns.contains(it)).collect::<Vec<_>>());
        let copies = found.columns.iter().filter(|&&it| !own.contains(&it) && own.iter().any(|other| other % classes == it % classes));
        assert_eq!(found.marked(&found.blocked, row), copies.copied().collect::<Vec<_>>());
    }
    assert!(found.columns.iter().all(|column| used.contains(column)));
    // No step changes the documents, to the bit.
    let all: Vec<u32> = (0..rows.len() as u32).collect();
    let stored: Vec<u32> = values(retrieval.store().rows(&all).unwrap()).into_iter().map(f32::to_bits).collect();
    assert_eq!(stored, documents.concat().into_iter().map(f32::to_bits).collect::<Vec<_>>());
    let again = retrieval.step(&tensor(queries.iter().flat_map(place).collect(), 2, device), &ids, &positives).unwrap();
    assert_eq!((again.columns, again.ranks, again.blocked), (found.columns, found.ranks, found.blocked));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_step_is_a_plain_sort(
        rows in prop::collection::vec((-4_i8..5, -4_i8..5), 1..40), queries in prop::collection::vec((-4_i8..5, -4_i8..5), 1..5),
        judged in prop::collection::vec((0_u32..5, 0_u32..40), 0..12), classes in 1_u32..40, depth in 1_usize..12,
    ) {
        let count = rows.len() as u32;
        let pairs: Vec<(u32, u32)> = judged.iter().map(|&(query, document)| (query % queries.len() as u32, document % count)).collect();
        against_a_plain_sort(&rows, &queries, &pairs, classes, depth, &Device::flex());
    }
}

#[test]
fn a_step_on_a_software_gpu_is_a_plain_sort() {
    let Some(device) = kernels::test_gpu() else { return };
    let rows: Vec<(i8, i8)> = (0..37).map(|it| (it * 7 % 9 - 4, it * 5 % 8 - 4)).collect();
    against_a_plain_sort(&rows, &[(1, 0), (-2, 3), (0, -1)], &[(0, 36), (0, 3), (1, 11), (2, 20)], 30, 6, &device);
}
