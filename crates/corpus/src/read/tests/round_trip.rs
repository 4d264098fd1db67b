//! What the five writers of mined negatives write, `read_lists` reads back: all that the form holds, and nothing else.

use proptest::prelude::*;

use super::*;
use crate::{
    Judgments, Listed, NegativeLists, read_lists,
    write::{MinedFormat, MinedRow, write_mined},
};

/// Texts repeat, so that reading by text has to choose: the number of the text of each document, and of each query.
fn collection(documents: &[usize], queries: &[usize]) -> Collection {
    let mut collection = Collection::default();
    for (at, text) in documents.iter().enumerate() {
        collection.documents.push(&format!("d{at}"), &format!("text \"{text}\"\tä")).unwrap();
    }
    for (at, text) in queries.iter().enumerate() {
        collection.queries.push(&at.to_string(), &format!("query {text}")).unwrap();
    }
    collection.splits.insert("train".into(), Judgments::default());
    collection
}

/// A collection, and rows in which each document stands once.
fn mined() -> impl Strategy<Value = (Collection, Vec<MinedRow>)> {
    let sizes = (2..9_usize, 1..6_usize);
    let texts = sizes.prop_flat_map(|(d, q)| (prop::collection::vec(0..d, d), prop::collection::vec(0..q, q)));
    texts.prop_flat_map(|(documents, queries)| {
        let score = prop_oneof![1 => Just(f32::NAN), 4 => -9.0..9.0_f32];
        let row = (
            Just((0..documents.len() as u32).collect::<Vec<_>>()).prop_shuffle(),
            prop::collection::vec(score, documents.len()),
            any::<prop::sample::Index>(),
            any::<prop::sample::Index>(),
        );
        let rows = prop::collection::vec(row, queries.len());
        (Just((documents, queries)), rows).prop_map(|((documents, queries), rows)| {
            let rows = rows.into_iter().enumerate().map(|(query, (order, scores, positives, length))| {
                let scored: Vec<(u32, f32)> = order.into_iter().zip(scores).take(1 + length.index(documents.len())).collect();
                let (positives, negatives) = scored.split_at(positives.index(scored.len().min(3) + 1).min(scored.len()));
                MinedRow {
                    query: query as u32,
                    positives: positives.to_vec(),
                    negatives: negatives.iter().zip(1..).map(|(&(document, score), rank)| (document, score, rank * 3)).collect(),
                }
            });
            (collection(&documents, &queries), rows.collect())
        })
    })
}

const FORMS: [MinedFormat; 5] =
    [MinedFormat::Own, MinedFormat::Tevatron, MinedFormat::FlagEmbedding, MinedFormat::Triplets, MinedFormat::Tuples { negatives: 2 }];

/// What a form keeps of `rows`, worked out without any file.
fn expected(form: MinedFormat, collection: &Collection, rows: &[MinedRow]) -> NegativeLists {
    let by_text = !matches!(form, MinedFormat::Own | MinedFormat::Tevatron);
    let document = |id: u32| match by_text {
        true => (0..id).find(|&other| collection.documents.text(other) == collection.documents.text(id)).unwrap_or(id),
        false => id,
    };
    let query = |id: u32| match by_text {
        true => (0..id).find(|&other| collection.queries.text(other) == collection.queries.text(id)).unwrap_or(id),
        false => id,
    };
    let mut negatives: Vec<Vec<Listed>> = vec![Vec::new(); collection.queries.len()];
    let mut positives = negatives.clone();
    for row in rows.iter().filter(|row| !row.positives.is_empty() && !row.negatives.is_empty()) {
        let kept = match form {
            MinedFormat::Tuples { negatives } if row.negatives.len() < negatives => continue,
            MinedFormat::Tuples { negatives } => negatives,
            _ => row.negatives.len(),
        };
        let scores = |all_known: bool, score: f32| match form {
            MinedFormat::Own => Some(score).filter(|score| !score.is_nan()),
            MinedFormat::FlagEmbedding => Some(score).filter(|_| all_known),
            _ => None,
        };
        let known = row.positives.iter().all(|&(_, score)| !score.is_nan());
        for &(id, score) in &row.positives {
            positives[query(row.query) as usize].push(Listed { document: document(id), score: scores(known, score) });
        }
        let known = row.negatives.iter().all(|&(_, score, _)| !score.is_nan());
        for &(id, score, _) in &row.negatives[..kept] {
            negatives[query(row.query) as usize].push(Listed { document: document(id), score: scores(known, score) });
        }
    }
    for (negatives, positives) in negatives.iter_mut().zip(&mut positives) {
        let mut once: Vec<Listed> = Vec::new();
        for listed in negatives.iter() {
            let known = once.iter().chain(positives.iter()).any(|other| other.document == listed.document);
            if !known {
                once.push(*listed);
            }
        }
        *negatives = once;
        let mut scored: Vec<Listed> = Vec::new();
        for listed in positives.iter().filter(|listed| listed.score.is_some()) {
            if !scored.iter().any(|other| other.document == listed.document) {
                scored.push(*listed);
            }
        }
        scored.sort_by_key(|listed| listed.document);
        *positives = scored;
    }
    NegativeLists::from_rows(negatives).with_positive_scores(positives)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_in_any_form_is_read_back((collection, rows) in mined()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mined.jsonl");
        for form in FORMS {
            let summary = write_mined(&path, form, &collection, &serde_json::json!({}), &rows).unwrap();
            let packed = put(folder.path(), "mined.jsonl.gz", &fs::read(&path).unwrap());
            if summary.rows == 0 && form != MinedFormat::Own {
                let is_empty = matches!(read_lists(&path, &collection), Err(CorpusError::EmptyFile { .. }));
                prop_assert!(is_empty, "{form:?}");
                continue;
            }
            let expected = expected(form, &collection, &rows);
            for path in [&path, &packed] {
                let read = read_lists(path, &collection).unwrap();
                for query in 0..collection.queries.len() as u32 {
                    prop_assert_eq!(read.row(query), expected.row(query), "{:?}, query {}", form, query);
                    prop_assert_eq!(read.positive_scores(query), expected.positive_scores(query), "{:?}, query {}", form, query);
                }
            }
        }
    }
}
