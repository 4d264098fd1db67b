//! Every format opens and means what its own readers take it to mean.

use super::*;
use crate::Listed;

#[test]
fn a_beir_folder_opens_plain_and_packed() {
    let plain = folder(&beir());
    let packed = folder(&[("corpus.jsonl.gz", CORPUS), ("queries.jsonl.gz", QUERIES), ("qrels/test.tsv.gz", QRELS)]);
    let collection = open(plain.path()).unwrap();
    let texts: Vec<_> = collection.documents.texts().iter().collect();
    assert_eq!(texts, ["Ants carry leaves.", "Bees fly.", "Cats \"sleep\"."]);
    assert_eq!(judged(&collection, "test"), ["1 a 2", "1 b 0", "2 c 1"]);
    assert!(collection.notes.is_empty() && collection.negatives.is_none() && collection.truth.is_none());
    assert_eq!(open(packed.path()).unwrap().fingerprint(), collection.fingerprint());
}

#[test]
fn line_ends_byte_order_marks_and_blank_lines_do_not_matter() {
    let plain = folder(&beir());
    let odd = folder(&[
        ("corpus.jsonl", &format!("\u{feff}{}", CORPUS.replace('\n', "\r\n\r\n"))),
        ("queries.jsonl", QUERIES.trim_end()),
        ("qrels/test.tsv", &QRELS.replace('\n', "\r\n")),
    ]);
    assert_eq!(open(odd.path()).unwrap().fingerprint(), open(plain.path()).unwrap().fingerprint());
}

#[test]
fn numeric_ids_null_titles_and_unknown_fields_are_taken() {
    let folder = folder(&[
        ("corpus.jsonl", r#"{"_id": 7, "title": null, "text": "t", "metadata": {"x": [1]}}"#),
        ("queries.jsonl", r#"{"_id": -1, "text": "q"}"#),
        ("qrels/dev.tsv", "query-id\tcorpus-id\tscore\n-1\t7\t1"),
    ]);
    let collection = open(folder.path()).unwrap();
    assert_eq!(judged(&collection, "dev"), ["-1 7 1"]);
}

#[test]
fn a_folder_without_qrels_opens_with_a_note() {
    let folder = folder(&beir()[..2]);
    let collection = open(folder.path()).unwrap();
    assert!(collection.splits.is_empty());
    assert!(collection.notes[0].contains("no qrels"), "{:?}", collection.notes);
}

#[test]
fn both_forms_of_qrels_are_told_apart_by_the_first_line() {
    for qrels in ["1 0 a 2\n1 0 b 0\n2 0 c 1\n", "1\t0\ta\t2\n1\tQ0\tb\t0\n2\t0\tc\t1", "# by hand\n1 0 a 2\n# more\n1 0 b 0\n2 0 c 1"] {
        let mut files = beir();
        files[2].1 = qrels;
        let folder = folder(&files);
        assert_eq!(judged(&open(folder.path()).unwrap(), "test"), ["1 a 2", "1 b 0", "2 c 1"], "{qrels}");
    }
}

#[test]
fn ms_marco_passages_open_with_tabs_or_spaces_in_qrels() {
    for (gap, ending) in [("\t", ""), (" ", ".gz")] {
        let qrels = ["1", "0", "20", "1"].join(gap);
        let folder = folder(&[
            (&format!("collection.tsv{ending}"), "10\tfirst passage\n20\tsecond passage\n"),
            (&format!("queries.dev.tsv{ending}"), "1\tone\n2\ttwo\n"),
            (&format!("queries.dev.small.tsv{ending}"), "1\tone\n"),
            (&format!("qrels.dev.small.tsv{ending}"), &qrels),
        ]);
        let collection = open(folder.path()).unwrap();
        assert_eq!((collection.documents.len(), collection.queries.len()), (2, 2));
        assert_eq!(judged(&collection, "dev.small"), ["1 20 1"]);
    }
}

#[test]
fn ms_marco_documents_have_titles() {
    let folder = folder(&[
        ("msmarco-docs.tsv", "D1\thttp://x\tTitle\tbody text\nD2\thttp://y\t\tuntitled\n"),
        ("msmarco-doctrain-queries.tsv", "5\tfive\n"),
        ("msmarco-doctrain-qrels.tsv", "5 0 D2 1\n"),
    ]);
    let collection = open(folder.path()).unwrap();
    assert_eq!(collection.documents.texts().iter().collect::<Vec<_>>(), ["Title body text", "untitled"]);
    assert_eq!(judged(&collection, "train"), ["5 D2 1"]);
}

#[test]
fn tevatron_rows_with_texts_keep_their_ids() {
    let rows = r#"{"query_id": "q", "query": "what", "positive_passages": [{"docid": "p", "title": "T", "text": "x"}], "negative_passages": [{"docid": "n", "title": "", "text": "y"}, {"docid": "m", "text": "z"}]}
{"query_id": "r", "query": "who", "positive_passages": [{"docid": "n", "text": "y"}], "negative_passages": []}"#;
    let folder = folder(&[("train.jsonl", rows)]);
    let collection = open(folder.path()).unwrap();
    assert_eq!(collection.documents.text(0), "T x");
    assert_eq!(judged(&collection, "train"), ["q p 1", "r n 1"]);
    let lists = collection.negatives.unwrap();
    assert_eq!(lists.row(0), [Listed { document: 1, score: None }, Listed { document: 2, score: None }]);
    assert_eq!(lists.row(1), []);
}

#[test]
fn tevatron_rows_of_ids_open_as_folder_and_as_file() {
    let rows = r#"{"query_id": 1, "query_text": "what", "positive_document_ids": ["b"], "negative_document_ids": ["a", "c"]}"#;
    let folder = folder(&[
        (
            "corpus.jsonl",
            "{\"docid\": \"a\", \"text\": \"x\"}\n{\"docid\": \"b\", \"title\": \"T\", \"text\": \"x\"}\n{\"docid\": \"c\", \"text\": \"z\"}",
        ),
        ("dev.jsonl", rows),
    ]);
    for source in [folder.path().to_owned(), folder.path().join("dev.jsonl")] {
        let collection = open(&source).unwrap();
        assert_eq!(collection.documents.len(), 3);
        assert_eq!(judged(&collection, "dev"), ["1 b 1"]);
        assert_eq!(collection.negatives.unwrap().row(0).iter().map(|listed| listed.document).collect::<Vec<_>>(), [0, 2]);
    }
}

#[test]
fn flagembedding_rows_share_texts_and_keep_scores() {
    let rows = r#"{"query": "what", "pos": ["x"], "neg": ["y", "z"], "pos_scores": [9.5], "neg_scores": [1, 0.25], "prompt": "Find:", "type": "normal"}
{"query": "what", "pos": ["w"], "neg": ["y", "x"]}
{"query": "who", "pos": ["y"], "neg": ["x"]}"#;
    let folder = folder(&[("rows.jsonl.gz", rows)]);
    let collection = open(&folder.path().join("rows.jsonl.gz")).unwrap();
    assert_eq!(collection.name, "rows");
    assert_eq!((collection.documents.len(), collection.queries.len()), (4, 2));
    assert_eq!(judged(&collection, "train"), ["q0 d0 1", "q0 d3 1", "q1 d1 1"]);
    let lists = collection.negatives.as_ref().unwrap();
    assert_eq!(lists.row(0), [Listed { document: 1, score: Some(1.0) }, Listed { document: 2, score: Some(0.25) }]);
    assert_eq!(lists.row(1), [Listed { document: 0, score: None }]);
    assert_eq!(lists.positive_scores(0), [Listed { document: 0, score: Some(9.5) }]);
    assert!(collection.notes.iter().any(|note| note.contains("`Find:`")), "{:?}", collection.notes);
    assert!(collection.notes.iter().any(|note| note.starts_with("1 listed negative")), "{:?}", collection.notes);
}

#[test]
fn one_text_needs_no_list() {
    let rows = r#"{"neg": "y", "query": "what", "pos": "x"}"#;
    let collection = open(folder(&[("train.jsonl", rows)]).path()).unwrap();
    assert_eq!(judged(&collection, "train"), ["q0 d0 1"]);
    assert_eq!((collection.documents.text(0), collection.negatives.unwrap().row(0).len()), ("x", 1));
}

#[test]
fn columns_are_taken_by_order_when_no_name_says_anything() {
    let rows = r#"{"idx": 5, "query_id": "k", "b": "what", "a": "x", "z1": "y", "z9": ["z", "u"], "scores": [4, 3, 2, 1]}
{"scores": null, "b": "who", "a": "y", "z1": null, "z9": ["x"]}"#;
    let folder = folder(&[("rows-test.jsonl", rows)]);
    let collection = open(folder.path()).unwrap();
    assert_eq!(collection.documents.texts().iter().collect::<Vec<_>>(), ["x", "y", "z", "u"]);
    assert_eq!(judged(&collection, "test"), ["q0 d0 1", "q1 d1 1"]);
    let lists = collection.negatives.as_ref().unwrap();
    let listed = |document, score| Listed { document, score };
    assert_eq!(lists.row(0), [listed(1, Some(3.0)), listed(2, Some(2.0)), listed(3, Some(1.0))]);
    assert_eq!(lists.positive_scores(0), [listed(0, Some(4.0))]);
    assert_eq!(lists.row(1), [listed(0, None)]);
    assert_eq!(collection.notes.len(), 2);
    let assigned = "rows-test.jsonl: `b` is the query, `a` its positive, `z1`, `z9` negatives (by the order of the columns";
    assert!(collection.notes[0].starts_with(assigned), "{:?}", collection.notes);
    assert!(collection.notes[1].ends_with("column(s) idx, query_id are not used"), "{:?}", collection.notes);
}

#[test]
fn labelled_pairs_are_positives_and_negatives() {
    let rows = "{\"s1\": \"what\", \"s2\": \"x\", \"label\": 1}\n{\"s1\": \"what\", \"s2\": \"y\", \"label\": 0}";
    let folder = folder(&[("pairs.jsonl", rows)]);
    let collection = open(folder.path()).unwrap();
    assert_eq!(judged(&collection, "train"), ["q0 d0 1"]);
    assert_eq!(collection.negatives.unwrap().row(0), [Listed { document: 1, score: None }]);
}

#[test]
fn lists_of_labels_tell_positives_from_negatives() {
    let rows = r#"{"query": "what", "answers": ["x", "y"], "labels": [1, 0], "scores": [3, 2.5]}
{"query": "who", "answers": ["y", "x"], "labels": [0.5, 0.25]}"#;
    let folder = folder(&[("lists.jsonl", rows)]);
    let collection = open(folder.path()).unwrap();
    assert_eq!(judged(&collection, "train"), ["q0 d0 1", "q1 d0 1", "q1 d1 1"]);
    let lists = collection.negatives.unwrap();
    assert_eq!(lists.row(0), [Listed { document: 1, score: Some(2.5) }]);
    assert_eq!(lists.positive_scores(0), [Listed { document: 0, score: Some(3.0) }]);
    // Labels that are no judgments are a teacher's scores, as before.
    assert_eq!((lists.row(1), lists.positive_scores(1).len()), (&[][..], 2));
}

#[test]
fn the_files_of_a_folder_become_splits_by_their_names() {
    let row = |text: &str| format!("{{\"anchor\": \"{text}\", \"positive\": \"about {text}\"}}");
    let folder =
        folder(&[("pairs.jsonl", &row("a")), ("pairs-dev.jsonl", &row("b")), ("more_test.jsonl", &row("c")), ("latest.jsonl", &row("d"))]);
    let collection = open(folder.path()).unwrap();
    assert_eq!(collection.splits.keys().collect::<Vec<_>>(), ["dev", "test", "train"]);
    assert_eq!(collection.split("train").unwrap().len(), 2);
}
