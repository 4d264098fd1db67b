//! The shortcut check: what is set against what, and that it tells apart only what lies apart.

use std::collections::HashSet;

use corpus::{Collection, Judgments, Listed, NegativeLists, Records};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Placed, collection, config, judged, refresh, texts};
use crate::{Miner, MiningError, Shortcut};

const DOCUMENTS: u32 = 600;
const QUERIES: u32 = 120;
const DIMENSION: usize = 6;

/// Query q has the positive q and the generated texts 600 + 2q and 601 + 2q, which are moved by `shift` from where documents lie.
fn world(shift: f32) -> (Collection, Judgments, Placed, Records, NegativeLists) {
    let mut chance = ChaCha8Rng::seed_from_u64(5);
    let mut vectors = |count: u32, shift: f32| -> Vec<Vec<f32>> {
        let row = |chance: &mut ChaCha8Rng| (0..DIMENSION).map(|_| shift + chance.random_range(-1.0..1.0)).collect();
        (0..count).map(|_| row(&mut chance)).collect()
    };
    let mut documents = vectors(DOCUMENTS, 0.0);
    let queries = vectors(QUERIES, 0.0);
    documents.extend(vectors(2 * QUERIES, shift));
    let mut written = Records::new();
    for text in texts("generated", 2 * QUERIES as usize) {
        written.push(&text, &text).unwrap();
    }
    let listed = |document| Listed { document, score: None };
    let lists = (0..QUERIES).map(|query| vec![listed(DOCUMENTS + 2 * query), listed(DOCUMENTS + 2 * query + 1)]).collect();
    let pairs: Vec<(u32, u32)> = (0..QUERIES).map(|query| (query, query)).collect();
    let data = collection(&texts("document", DOCUMENTS as usize), &texts("query", QUERIES as usize));
    (data, judged(QUERIES as usize, &pairs), Placed::new(documents, queries), written, NegativeLists::from_rows(lists))
}

const GENERATED: &str = "[[source]]\nfrom = \"generated\"\npath = \"x\"\n";
const RETRIEVED: &str = "[[source]]\nfrom = \"generated\"\npath = \"x\"\n[[source]]\nfrom = \"dense\"\ndepth = 5\n";

/// The check after the first refresh, and the ids that it had encoded: generated texts and documents of the first half, then of the second.
fn checked(shift: f32, recipe: &str, seed: u64) -> (Shortcut, [Vec<u32>; 4], Miner) {
    let (data, judgments, mut encoder, written, lists) = world(shift);
    let mut miner = Miner::new(&config(recipe), &data, &judgments, seed).unwrap().generated(&data, written.texts(), lists).unwrap();
    assert_eq!(miner.shortcut(&mut encoder).unwrap(), None, "there are no lists yet");
    refresh(&mut miner, 0, 0, &mut encoder).unwrap();
    encoder.calls.clear();
    // One call for each group.
    encoder.lengths = None;
    let found = miner.shortcut(&mut encoder).unwrap().unwrap();
    // 120 ids are encoded in two batches.
    let calls: Vec<Vec<u32>> = encoder.calls.chunks(encoder.calls.len() / 4).map(<[Vec<u32>]>::concat).collect();
    (found, calls.try_into().unwrap(), miner)
}

#[test]
fn each_generated_text_is_set_against_a_document_of_its_query() {
    for (recipe, against) in [(RETRIEVED, "retrieved"), (GENERATED, "random")] {
        let (found, [first, first_documents, second, second_documents], miner) = checked(0.0, recipe, 3);
        assert_eq!((found.against, found.fitted + found.held_out), (against, 2 * (first.len() + second.len())));
        assert_eq!((found.fitted, found.held_out), (2 * first_documents.len(), 2 * second_documents.len()));
        assert!(found.fitted.abs_diff(found.held_out) <= 8, "{found:?}");
        let all: Vec<u32> = [&first, &first_documents, &second, &second_documents].into_iter().flatten().copied().collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "no text stands there twice");
        let query = |generated: u32| (generated - DOCUMENTS) / 2;
        let queries = |half: &[u32]| half.iter().map(|&it| query(it)).collect::<HashSet<_>>();
        assert!(queries(&first).is_disjoint(&queries(&second)), "a query is in one half");
        for (&generated, &document) in first.iter().zip(&first_documents).chain(second.iter().zip(&second_documents)) {
            assert!(generated >= DOCUMENTS && document < DOCUMENTS && document != query(generated));
            if against == "retrieved" {
                let query = query(generated);
                let listed = miner.draw(&crate::Visit::new(query, query, 100, 0));
                assert!(listed.iter().any(|it| it.document == document), "{document} was not retrieved for {query}");
            }
        }
    }
}

#[test]
fn texts_of_one_distribution_cannot_be_told_apart_and_others_can() {
    // About 240 texts are held out: five deviations of the AUC are 5 · sqrt(241 / (12 · 120 · 120)) = 0.19, of the accuracy 0.16.
    for seed in 0..3 {
        let (same, ..) = checked(0.0, GENERATED, seed);
        assert!((same.auc - 0.5).abs() < 0.19 && (same.accuracy - 0.5).abs() < 0.19, "{same:?}");
        for recipe in [GENERATED, RETRIEVED] {
            let (apart, ..) = checked(1.5, recipe, seed);
            assert!(apart.auc > 0.97 && apart.accuracy > 0.9, "{apart:?}");
        }
    }
    let (one, ids, _) = checked(0.4, RETRIEVED, 9);
    let (two, same_ids, _) = checked(0.4, RETRIEVED, 9);
    assert_eq!((&one, &ids), (&two, &same_ids), "a function of the seed");
    assert_ne!(ids, checked(0.4, RETRIEVED, 10).1);
    let line = one.line();
    assert!(line.contains("from retrieved documents") && line.contains(&format!("AUC {:.3}", one.auc)), "{line}");
}

#[test]
fn nothing_is_said_without_generated_texts_or_of_too_few() {
    let (data, judgments, mut encoder, written, lists) = world(0.0);
    let mut plain = Miner::new(&config("[[source]]\nfrom = \"dense\"\ndepth = 5"), &data, &judgments, 1).unwrap();
    refresh(&mut plain, 0, 0, &mut encoder).unwrap();
    assert_eq!(plain.shortcut(&mut encoder).unwrap(), None);
    let few = NegativeLists::from_rows((0..7).map(|query| lists.row(query).to_vec()).collect());
    let miner = |lists| Miner::new(&config(GENERATED), &data, &judgments, 1).unwrap().generated(&data, written.texts(), lists).unwrap();
    let mut small = miner(few);
    refresh(&mut small, 0, 0, &mut encoder).unwrap();
    assert_eq!(small.shortcut(&mut encoder).unwrap(), None);
    let mut whole = miner(lists);
    refresh(&mut whole, 0, 0, &mut encoder).unwrap();
    encoder.documents.iter_mut().for_each(|row| row[2] = f32::NAN);
    let error = whole.shortcut(&mut encoder).unwrap_err();
    assert!(matches!(error, MiningError::NotFinite { row: 0, .. }), "{error}");
}
