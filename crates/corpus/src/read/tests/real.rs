//! Real files from beside the checkout; skipped, and said so, when they are not there.

use super::*;

/// The folder of shared data beside the checkout, if it is there.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn shared(part: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")).join(part);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: a test needs {part} (../shared is not there)");
    None
}

#[test]
fn the_shared_collections_open_with_the_counts_of_their_readme() {
    let Some(data) = shared("data") else { return };
    // Name, documents, queries with a positive in train, dev, test (0: no such split).
    let cases = [
        ("squad", 20_958, [83_601, 3_741, 10_532]),
        ("nl2bash", 10_594, [9_050, 1_117, 1_155]),
        ("scifact", 5_183, [809, 0, 300]),
        ("cranfield", 1_398, [0, 0, 225]),
        ("med", 1_033, [0, 0, 30]),
        ("adi", 82, [0, 0, 35]),
    ];
    for (name, documents, queries) in cases {
        let collection = open(&data.join(name)).unwrap();
        assert_eq!((collection.name.as_str(), collection.documents.len()), (name, documents));
        for (split, expected) in ["train", "dev", "test"].into_iter().zip(queries) {
            let found = collection.splits.get(split).map_or(0, |judgments| judgments.queries().count());
            assert_eq!(found, expected, "{name} {split}");
        }
        assert!(collection.notes.is_empty());
    }
    let cranfield = open(&data.join("cranfield")).unwrap();
    assert_eq!(cranfield.split("test_graded").unwrap().len(), 1611);
}

#[test]
fn the_shared_negatives_open_with_their_scores() {
    let Some(fixtures) = shared("fixtures/negatives") else { return };
    // File, rows, negatives in each row. One positive each; texts may repeat between rows.
    for (name, rows, negatives) in [("msmarco", 10, 25), ("nq", 10, 100), ("nli", 10, 1), ("llara_toy_finetune_data", 11, 30)] {
        let collection = open(&fixtures.join("flagembedding").join(format!("{name}.jsonl"))).unwrap();
        let lists = collection.negatives.as_ref().unwrap();
        assert!(collection.queries.len() <= rows && collection.queries.len() > rows / 2, "{name}");
        assert!(collection.split("train").unwrap().len() >= collection.queries.len());
        for query in 0..collection.queries.len() as u32 {
            let row = lists.row(query);
            assert!(!row.is_empty() && row.len() <= 2 * negatives, "{name}: {} negatives", row.len());
            assert!(row.iter().all(|listed| listed.score.is_some()), "{name}");
            assert!(!lists.positive_scores(query).is_empty(), "{name}");
        }
    }
    let all = open(&fixtures.join("flagembedding")).unwrap();
    assert!(all.queries.len() > 25 && all.splits.len() == 1);
    let msmarco = open(&fixtures.join("flagembedding/msmarco.jsonl")).unwrap();
    assert!(msmarco.queries.text(0).starts_with(")what was the immediate impact"));
    assert!(msmarco.documents.text(0).starts_with("Introduction The presence of communication"));
}

#[test]
fn a_gpl_folder_opens_with_generated_queries_and_hard_negatives() {
    let Some(fixtures) = shared("fixtures/negatives") else { return };
    let collection = open(&fixtures.join("gpl_fiqa")).unwrap();
    assert_eq!((collection.documents.len(), collection.queries.len()), (10, 30));
    assert_eq!(collection.split("train").unwrap().len(), 30);
    let lists = collection.negatives.unwrap();
    // All other nine documents, those that either model ranks higher first.
    let first: Vec<_> = lists.row(0).iter().map(|listed| collection.documents.id(listed.document)).collect();
    assert_eq!(first, ["281423", "316535", "257122", "78297", "35856", "511432", "182744", "120306", "214079"]);
    assert!((0..30).all(|query| lists.row(query).len() == 9));
}
