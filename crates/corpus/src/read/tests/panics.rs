//! No bytes make a reader panic, whatever the name under which they lie.

use proptest::prelude::*;

use super::*;

/// Places where a reader may find the bytes: folder layout with the other files whole, and which file is replaced.
const LAYOUTS: &[(&[(&str, &str)], &str)] = &[
    (&[("queries.jsonl", QUERIES), ("qrels/test.tsv", QRELS)], "corpus.jsonl"),
    (&[("corpus.jsonl", CORPUS), ("qrels/test.tsv", QRELS)], "queries.jsonl"),
    (&[("corpus.jsonl", CORPUS), ("queries.jsonl", QUERIES)], "qrels/test.tsv"),
    (&[("corpus.jsonl", CORPUS), ("queries.jsonl", QUERIES)], "truth.tsv"),
    (&[("corpus.jsonl", CORPUS), ("queries.jsonl", QUERIES)], "hard-negatives.jsonl"),
    (&[("corpus.jsonl", CORPUS)], "gen-queries.jsonl"),
    (&[], "collection.tsv"),
    (&[], "msmarco-docs.tsv"),
    (&[("collection.tsv", "1\tx")], "queries.train.tsv"),
    (&[("collection.tsv", "1\tx"), ("queries.train.tsv", "1\tx")], "qrels.train.tsv"),
    (&[], "rows.jsonl"),
    (&[("corpus.jsonl", r#"{"docid": "1", "text": "a"}"#)], "rows.jsonl"),
    (&[("rows.jsonl", r#"{"query_id": "1", "query_text": "q", "positive_document_ids": ["1"]}"#)], "corpus.jsonl"),
    (&[], "rows.parquet"),
    (&[], "corpus.parquet"),
];

/// Rows to cut and splice, so that the bytes get past the first checks.
const SEEDS: &[&str] = &[
    CORPUS,
    QUERIES,
    QRELS,
    "1 0 a 1\n",
    "1\tx\n2\ty\n",
    r#"{"query": "q", "pos": ["x"], "neg": ["y"], "pos_scores": [1], "neg_scores": [0.5]}"#,
    r#"{"query_id": "1", "query": "q", "positive_passages": [{"docid": "1", "title": "", "text": "a"}], "negative_passages": []}"#,
    r#"{"query_id": "1", "query_text": "q", "positive_document_ids": ["1"], "negative_document_ids": []}"#,
    r#"{"anchor": "a", "positive": "b", "negative_1": "c", "scores": [1, 2]}"#,
    "{\"positive\": \"p\", \"query\": \"q\"}\n{\"query\": \"r\", \"positive\": \"p\", \"negative_2\": \"n\", \"source\": NaN}\n",
    r#"{"qid": "1", "pos": ["a"], "neg": {"x": ["b", "c"], "y": ["c"]}}"#,
    r#"{"qid": "1", "pid": "a", "decision": "pos"}"#,
    r#"{"query_id": "1", "answers": ["x"]}"#,
    r#"{"qid": "1", "neg_synth": [{"text": "x", "attr": 1}]}"#,
    r#"{"data": [{"question_id": "1", "question": "q", "corpus_id": 1, "pos_doc": ["a"], "neg_doc": [{"id": "b", "score": 1}]}]}"#,
    "1\tb\t0.5\n",
    "1 Q0 b 1 0.5 tag\n",
    "1\ta\tdrop\n",
    "PAR1\u{15}\u{4}PAR1",
    "\u{feff}",
    "\\ud800",
    "{\"format\": \"dredge-negatives\", \"version\": 1, \"provenance\": {}}\n{\"query_id\": \"1\", \"positive_id\": \"a\", \"positive_score\": 1, \"negatives\": [{\"id\": \"b\", \"score\": 0, \"rank\": 1}]}",
];

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        (0..SEEDS.len(), any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(|(seed, from, to)| {
            let seed = SEEDS[seed].as_bytes();
            let (a, b) = (from.index(seed.len() + 1), to.index(seed.len() + 1));
            seed[a.min(b)..a.max(b)].to_vec()
        }),
        (0..SEEDS.len()).prop_map(|seed| SEEDS[seed].as_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_reader_panic(content in bytes(), pack in any::<bool>()) {
        let content = if pack { gzip(&content) } else { content };
        for (others, name) in LAYOUTS {
            let folder = folder(others);
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &content).unwrap();
            // Either outcome is right; a message must not panic either.
            if let Err(error) = open(folder.path()) {
                prop_assert!(!error.to_string().is_empty());
            }
            if let Err(error) = open(&path) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
        let folder = folder(&beir());
        let mined = folder.path().join("mined.jsonl");
        fs::write(&mined, &content).unwrap();
        let collection = open(folder.path()).unwrap();
        let _ = crate::read_own(&mined, &collection);
        let _ = crate::read_provenance(&mined);
        let _ = crate::read_lists(&mined, &collection);
        let _ = crate::read_lists_counted(&mined, &collection, crate::Unknown::Skip);
        let _ = crate::Decisions::read(&mined, &collection);
        let _ = crate::read_answers(&mined, &collection);
        let _ = crate::read_groups(&mined, &collection);
        let _ = crate::Generated::read(&mined, &collection);
    }

    #[test]
    fn a_damaged_parquet_file_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        parquet::table(&path, vec![
            ("a", parquet::strings(&["what", "who", "what"])),
            ("b", parquet::strings(&["x", "y", "z"])),
            ("c", parquet::strings(&["y", "x", "x"])),
        ]);
        let mut damaged = fs::read(&path).unwrap();
        let position = at.index(damaged.len());
        damaged[position] = byte;
        fs::write(&path, &damaged).unwrap();
        let _ = open(&path);
        damaged.truncate(cut.index(damaged.len()));
        fs::write(&path, &damaged).unwrap();
        let _ = open(&path);
    }
}
