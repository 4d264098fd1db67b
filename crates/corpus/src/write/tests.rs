//! What is written reads back, and nothing is written that another trainer would trip over.

use std::fs;

use serde_json::json;

use super::*;
use crate::{Judgments, Listed, read_own, read_provenance};

fn collection() -> Collection {
    let mut collection = Collection { name: "small".into(), ..Collection::default() };
    for (id, text) in [("a", "Ants carry."), ("b", "Bees \"fly\"."), ("c", "Cats sleep."), ("d", "Dogs run."), ("e", "Éels swim.")] {
        collection.documents.push(id, text).unwrap();
    }
    for (id, text) in [("1", "who carries"), ("2", "who sleeps"), ("3", "who swims"), ("4", "who hides")] {
        collection.queries.push(id, text).unwrap();
    }
    let train = vec![(0, 0, 1), (1, 2, 2), (1, 3, 1), (2, 4, 1), (2, 0, 0)];
    collection.splits.insert("train".into(), Judgments::from_pairs(4, train));
    collection
}

fn rows() -> Vec<MinedRow> {
    vec![
        MinedRow { query: 0, positives: vec![(0, 0.9)], negatives: vec![(1, 0.1 + 0.2, 4), (2, 0.25, 7)] },
        MinedRow { query: 1, positives: vec![(2, 0.8), (3, f32::NAN)], negatives: vec![(1, 1.0e-8, 1)] },
        MinedRow { query: 2, positives: vec![(4, 0.5)], negatives: vec![] },
        MinedRow { query: 3, positives: vec![], negatives: vec![(0, 0.5, 1)] },
    ]
}

/// Writes `rows()` and opens the file as a collection of its own.
fn reopened(format: MinedFormat, expected: WrittenSummary) -> (String, Collection) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/mined-train.jsonl");
    let summary = write_mined(&path, format, &collection(), &json!({}), &rows()).unwrap();
    assert_eq!(summary, expected);
    assert_eq!(fs::read_dir(folder.path().join("deep")).unwrap().count(), 1, "a temporary file was left");
    let content = fs::read_to_string(&path).unwrap();
    assert!(!content.contains("[]"), "an empty list was written: {content}");
    (content, Collection::open(path.to_str().unwrap()).unwrap())
}

/// `(query, documents)` by text.
fn negatives(collection: &Collection) -> Vec<(&str, Vec<&str>)> {
    let lists = collection.negatives.as_ref().unwrap();
    (0..collection.queries.len() as u32)
        .map(|q| (collection.queries.text(q), lists.row(q).iter().map(|listed| collection.documents.text(listed.document)).collect()))
        .collect()
}

#[test]
fn the_own_form_comes_back_with_scores_order_and_provenance() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mined.jsonl");
    let provenance = json!({"model": "abc", "step": 500, "depth": 200, "margin": 0.05});
    let collection = collection();
    let summary = write_mined(&path, MinedFormat::Own, &collection, &provenance, &rows()).unwrap();
    assert_eq!(summary, WrittenSummary { rows: 3, negatives: 4, without_negatives: 2, short: 0 });
    assert_eq!(read_provenance(&path).unwrap(), provenance);

    let lists = read_own(&path, &collection).unwrap();
    let listed = |document, score| Listed { document, score: Some(score) };
    assert_eq!(lists.row(0), [listed(1, 0.1 + 0.2), listed(2, 0.25)]);
    assert_eq!(lists.row(1), [listed(1, 1.0e-8)]);
    assert_eq!((lists.row(2), lists.row(3)), (&[][..], &[][..]));
    assert_eq!(lists.positive_scores(0), [listed(0, 0.9)]);
    assert_eq!(lists.positive_scores(1), [listed(2, 0.8)], "an unknown score is no score");

    let first = fs::read_to_string(&path).unwrap();
    let row: serde_json::Value = serde_json::from_str(first.lines().nth(1).unwrap()).unwrap();
    assert_eq!(row["negatives"][0]["rank"], 4);
    assert_eq!((&row["query_id"], &row["positive_id"]), (&json!("1"), &json!("a")));
}

#[test]
fn rows_of_one_query_merge_in_rank_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mined.jsonl");
    let rows = [
        MinedRow { query: 1, positives: vec![(2, 0.8)], negatives: vec![(4, 0.3, 3), (0, 0.2, 9)] },
        MinedRow { query: 1, positives: vec![(3, 0.7)], negatives: vec![(1, 0.5, 1), (4, 0.3, 3)] },
    ];
    write_mined(&path, MinedFormat::Own, &collection(), &json!(null), &rows).unwrap();
    let lists = read_own(&path, &collection()).unwrap();
    assert_eq!(lists.row(1).iter().map(|listed| listed.document).collect::<Vec<_>>(), [1, 4, 0]);
    assert_eq!(lists.positive_scores(1).len(), 2);
}

#[test]
fn tevatron_rows_come_back_without_titles() {
    let (content, opened) = reopened(MinedFormat::Tevatron, WrittenSummary { rows: 2, negatives: 3, without_negatives: 2, short: 0 });
    assert!(!content.contains("title"));
    assert_eq!(negatives(&opened), [("who carries", vec!["Bees \"fly\".", "Cats sleep."]), ("who sleeps", vec!["Bees \"fly\"."])]);
    assert_eq!(opened.documents.find("b"), Some(1));
    assert_eq!(opened.split("train").unwrap().len(), 3);
}

#[test]
fn flagembedding_rows_come_back_with_scores_where_all_are_known() {
    let (content, opened) = reopened(MinedFormat::FlagEmbedding, WrittenSummary { rows: 2, negatives: 3, without_negatives: 2, short: 0 });
    assert_eq!(negatives(&opened), [("who carries", vec!["Bees \"fly\".", "Cats sleep."]), ("who sleeps", vec!["Bees \"fly\"."])]);
    let lists = opened.negatives.as_ref().unwrap();
    assert_eq!(lists.row(0)[0].score, Some(0.1 + 0.2));
    assert_eq!(lists.positive_scores(0)[0].score, Some(0.9));
    let second: serde_json::Value = serde_json::from_str(content.lines().nth(1).unwrap()).unwrap();
    assert!(second.get("pos_scores").is_none() && second.get("neg_scores").is_some());
}

#[test]
fn triplets_come_back_as_columns_in_order() {
    let (content, opened) = reopened(MinedFormat::Triplets, WrittenSummary { rows: 4, negatives: 4, without_negatives: 2, short: 0 });
    assert!(content.starts_with(r#"{"anchor":"who carries","positive":"Ants carry.","negative":"Bees \"fly\"."}"#), "{content}");
    assert_eq!(negatives(&opened), [("who carries", vec!["Bees \"fly\".", "Cats sleep."]), ("who sleeps", vec!["Bees \"fly\"."])]);
    assert_eq!(opened.split("train").unwrap().len(), 3);
}

#[test]
fn short_tuples_are_dropped_and_counted() {
    let two = MinedFormat::Tuples { negatives: 2 };
    let (content, opened) = reopened(two, WrittenSummary { rows: 1, negatives: 2, without_negatives: 2, short: 2 });
    assert!(content.contains(r#""negative_1":"Bees \"fly\".","negative_2":"Cats sleep.""#), "{content}");
    assert_eq!(negatives(&opened), [("who carries", vec!["Bees \"fly\".", "Cats sleep."])]);
}

#[test]
fn what_cannot_be_written_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mined.jsonl");
    fs::write(&path, "old").unwrap();
    let beyond = |query, document| MinedRow { query, positives: vec![(0, 1.0)], negatives: vec![(document, 0.5, 1)] };
    let cases = [
        (MinedFormat::Own, vec![beyond(9, 1)], "query number 9"),
        (MinedFormat::Own, vec![beyond(1, 1), beyond(0, 5)], "document number 5"),
        (MinedFormat::Tuples { negatives: 0 }, rows(), "tuples of 0 negatives"),
    ];
    for (format, rows, part) in cases {
        let message = write_mined(&path, format, &collection(), &json!({}), &rows).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(write_mined(&folder.path().join(".."), MinedFormat::Own, &collection(), &json!({}), &[]).is_err());
}

#[test]
fn faults_in_mined_files_are_named() {
    let header = r#"{"format":"dredge-negatives","version":1,"provenance":{}}"#;
    let row = |query: &str, positive: &str, negative: &str| {
        format!(
            r#"{{"query_id":"{query}","positive_id":"{positive}","positive_score":null,"negatives":[{{"id":"{negative}","score":0.5,"rank":1}}]}}"#
        )
    };
    let cases = [
        (String::new(), "mined.jsonl: the file has no rows"),
        (row("1", "a", "b"), "the first line is no header"),
        (header.replace("dredge", "other"), "format `other-negatives`, not `dredge-negatives`"),
        (header.replace(":1,", ":2,"), "version 2, this program reads version 1"),
        (format!("{header}\n{}", row("9", "a", "b")), "1 row(s) name a query that the collection does not have: `9` (line 2)"),
        (
            format!("{header}\n{}\n{}", row("1", "a", "b"), row("1", "x", "y")),
            "2 row(s) name a document that the collection does not have: `x` (line 3), `y` (line 3)",
        ),
        (format!("{header}\n{{\"query_id\":\"1\"}}"), "mined.jsonl:2: column 16: missing field `positive_id`"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mined.jsonl");
    for (content, part) in cases {
        fs::write(&path, content).unwrap();
        let message = read_own(&path, &collection()).unwrap_err().to_string();
        assert!(message.contains(part), "`{part}` is missing in: {message}");
    }
}

#[test]
fn a_collection_comes_back_from_its_beir_folder() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("exported");
    let mut collection = collection();
    collection.splits.insert("test".into(), Judgments::from_pairs(4, vec![(3, 1, 1)]));
    collection.truth = Some(Judgments::from_pairs(4, vec![(0, 0, 1), (0, 3, 1)]));
    beir(&target, &collection).unwrap();
    let opened = Collection::open(target.to_str().unwrap()).unwrap();
    assert_eq!(opened.fingerprint(), collection.fingerprint());
    assert_eq!(opened.name, "exported");

    let message = beir(&target, &collection).unwrap_err().to_string();
    assert!(message.contains("the folder is not empty"), "{message}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn the_built_in_collection_survives_export() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("demo");
    let demo = Collection::open("builtin:demo").unwrap();
    beir(&target, &demo).unwrap();
    let opened = Collection::open(target.to_str().unwrap()).unwrap();
    assert_eq!(opened.fingerprint(), demo.fingerprint());
    assert_eq!(opened.truth, demo.truth);
}

#[test]
fn an_id_that_breaks_a_tab_separated_file_is_refused_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut collection = collection();
    let document = collection.documents.push("with\ttab", "text").unwrap();
    collection.splits.insert("dev".into(), Judgments::from_pairs(4, vec![(0, document, 1)]));
    let message = beir(&folder.path().join("exported"), &collection).unwrap_err().to_string();
    assert!(message.contains("`with\\ttab`"), "{message}");
    collection.splits.clear();
    collection.splits.insert("../up".into(), Judgments::default());
    assert!(beir(&folder.path().join("exported"), &collection).unwrap_err().to_string().contains("no file name"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
