//! What a newcomer's files get wrong, and what the messages and notes about them say.

use super::*;
use crate::read_rows;

#[track_caller]
fn message(files: &[(&str, &str)]) -> String {
    let message = open(folder(files).path()).unwrap_err().to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.len() < 500, "{message}");
    message
}

#[track_caller]
fn says(files: &[(&str, &str)], part: &str) {
    let message = message(files);
    assert!(message.contains(part), "`{part}` is missing in: {message}");
}

#[test]
fn files_that_are_no_json_lines_say_how_to_become_them() {
    let document = "{\n  \"query\": \"q\",\n  \"positive\": \"p\"\n}\n";
    says(&[("train.jsonl", document)], "train.jsonl:1: the line ends inside a JSON object, so the file looks like one JSON document");
    says(&[("train.jsonl", document)], "`jq -c . FILE`");
    says(
        &[("train.json", "[\n {\"query\": \"q\", \"positive\": \"p\"}\n]")],
        "train.json:1: a JSON list, where each line is one object; convert it, for example with `jq -c '.[]' FILE`",
    );
    says(&[("train.jsonl", "query,positive\nq,p")], "train.jsonl:1: no JSON object but a comma-separated row, `query,positive`");
    says(&[("train.jsonl", "query\tpositive\nq\tp")], "a tab-separated row, `query\\tpositive`; convert the file, for example with pandas");
    says(&[("train.jsonl", "query")], "train.jsonl:1: no JSON object: `query`");
    let mut files = beir();
    files[0].1 = "[{\"_id\": \"a\", \"text\": \"x\"}]";
    says(&files, "corpus.jsonl:1: a JSON list");
    files[0].1 = "[\"a\", \"title\", \"text\"]";
    says(&files, "corpus.jsonl:1: a JSON list");
}

#[test]
fn a_fault_in_a_row_is_told_by_the_form_of_the_row() {
    let message = message(&[("train.jsonl", r#"{"query": "q", "pos": ["p"], "pos_scores": [NaN]}"#)]);
    assert!(
        message.contains("`pos_scores`: JSON has no `NaN`; write a number") && message.contains(r#"with optional "pos_scores""#),
        "{message}"
    );
    assert!(!message.contains("anchor") && !message.contains("\"positive\""), "{message}");
    says(
        &[("train.jsonl", r#"{"query": "q", "positive_passages": 5}"#)],
        "`positive_passages`: the number `5` stands where a list belongs",
    );
    // As lists over a collection.
    let folder = folder(&beir());
    let path = put(folder.path(), "lists", br#"{"query": "who carries", "pos": ["Bees fly."], "pos_scores": [NaN]}"#);
    let message = crate::read_lists(&path, &open(folder.path()).unwrap()).unwrap_err().to_string();
    assert!(message.contains("lists:1: column") && message.contains("`pos_scores`: JSON has no `NaN`"), "{message}");
}

#[test]
fn a_folder_that_fits_nothing_is_told_what_it_lacks() {
    let nearest: [(&[(&str, &str)], &str); 6] = [
        (&[("corpus.jsonl", CORPUS)], "found corpus.jsonl; nearest are BEIR, which lacks queries.jsonl, and Tevatron"),
        (&[("queries.tsv", "1\tx"), ("queries.dev.tsv", "1\tx")], "nearest is MS MARCO, which lacks collection.tsv"),
        (&[("scifact/corpus.jsonl", CORPUS), ("readme.md", "x")], "the data may be in a folder of it: try "),
        (&[("train.csv", "a,b")], "found train.csv; nearest are training rows, which are JSON lines: convert train.csv"),
        (&[("notes.md", "x")], "found notes.md; expected for example train.jsonl with {\"query\""),
        (&[("rows.jsonl", r#"{"_id": "1", "text": "x"}"#)], "found a corpus or a list of queries; give the folder with corpus.jsonl"),
    ];
    for (files, part) in nearest {
        says(files, part);
    }
    let folder = tempfile::tempdir().unwrap();
    parquet::table(&folder.path().join("corpus.parquet"), vec![("title", parquet::strings(&["t"])), ("text", parquet::strings(&["x"]))]);
    let message = open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("nearest is a folder of the hub, which lacks queries.parquet"), "{message}");
}

#[test]
fn judgments_that_lie_astray_are_pointed_out() {
    let note = |files: &[(&str, &str)], inside: &str| {
        let folder = folder(files);
        let collection = open(&folder.path().join(inside)).unwrap();
        assert!(collection.splits.is_empty());
        collection.notes[0].clone()
    };
    let beside = note(&[("corpus.jsonl", CORPUS), ("queries.jsonl", QUERIES), ("train.tsv", QRELS)], "");
    assert!(beside.contains("train.tsv looks like judgments: move it to qrels/<split>.tsv"), "{beside}");
    let above = note(&[("data/corpus.jsonl", CORPUS), ("data/queries.jsonl", QUERIES), ("qrels.tsv", QRELS)], "data");
    assert!(above.contains("qrels.tsv looks like judgments"), "{above}");
    let nowhere = note(&[("data/corpus.jsonl", CORPUS), ("data/queries.jsonl", QUERIES), ("data/truth.tsv", QRELS)], "data");
    assert!(nowhere.ends_with("nothing to train on or to evaluate"), "{nowhere}");
}

#[test]
fn other_names_of_dev_are_dev_in_every_format() {
    let row = r#"{"query": "q", "positive": "p"}"#;
    for name in ["dev", "valid", "validation", "val"] {
        let (qrels, table, rows) = (format!("qrels/{name}.tsv"), format!("qrels.{name}.tsv"), format!("data_{name}.jsonl"));
        let folders = [
            folder(&[("corpus.jsonl", CORPUS), ("queries.jsonl", QUERIES), (&qrels, QRELS)]),
            folder(&[("collection.tsv", "1\tx"), ("queries.dev.tsv", "1\tq"), (&table, "1 0 1 1")]),
            folder(&[(&rows, row)]),
        ];
        for folder in folders {
            assert_eq!(open(folder.path()).unwrap().splits.keys().collect::<Vec<_>>(), ["dev"], "{name}");
        }
    }
    let both = folder(&[("corpus.jsonl", CORPUS), ("queries.jsonl", QUERIES), ("qrels/dev.tsv", QRELS), ("qrels/validation.tsv", QRELS)]);
    assert_eq!(open(both.path()).unwrap().splits.keys().collect::<Vec<_>>(), ["dev", "validation"]);
}

/// Nothing of what lies there is lost, whatever comes first by name: capitals do.
#[test]
fn of_two_files_of_one_split_none_is_dropped() {
    let (one, other) = ("query-id\tcorpus-id\tscore\n1\t1\t1", "1\t0\t1\t1");
    for (first, second, splits) in [
        ("Validation.tsv", "dev.tsv", ["Validation", "dev"]),
        ("Dev.tsv", "dev.tsv", ["Dev", "dev"]),
        ("TEST.tsv", "test.tsv", ["TEST", "test"]),
        ("Val.tsv", "valid.tsv", ["dev", "valid"]),
    ] {
        let (first, second) = (format!("qrels/{first}"), format!("qrels/{second}"));
        let both = folder(&[("corpus.jsonl", CORPUS), ("queries.jsonl", QUERIES), (&first, QRELS), (&second, QRELS)]);
        assert_eq!(open(both.path()).unwrap().splits.keys().collect::<Vec<_>>(), splits, "{first} and {second}");
    }
    let tables = [("collection.tsv", "1\tx"), ("queries.dev.tsv", "1\tq"), ("qrels.dev.tsv", other), ("qrels.dev.txt", other)];
    says(&tables, "qrels.dev.txt: another file has judgments of the split `dev` already");
    let qrels = [("corpus.jsonl", r#"{"_id": "1", "text": "x"}"#), ("queries.jsonl", r#"{"_id": "1", "text": "q"}"#)];
    says(
        &[&qrels[..], &[("qrels/dev.tsv", one), ("qrels/dev.txt", other)]].concat(),
        "dev.txt: another file has judgments of the split `dev`",
    );
    // Rows of two files of one name are rows of one split.
    let row = |text: &str| format!(r#"{{"query": "{text}", "positive": "p"}}"#);
    let both = folder(&[("train.json", &row("a")), ("train.jsonl", &row("b")), ("train.jsonl.gz", "not read: the plain one is")]);
    assert_eq!(open(both.path()).unwrap().splits["train"].len(), 2);
    let only = open(folder(&[("dev.jsonl", &row("a"))]).path()).unwrap();
    let message = only.split("train").unwrap_err().to_string();
    assert!(message.contains("dev (the name of a file says which split it is)"), "{message}");
}

#[test]
fn a_name_that_says_no_split_is_train_and_said_to_be() {
    let row = r#"{"query": "q", "positive": "p"}"#;
    let folder = folder(&[("my-test-data.jsonl", row)]);
    for source in [folder.path().to_owned(), folder.path().join("my-test-data.jsonl")] {
        let collection = open(&source).unwrap();
        assert_eq!(collection.splits.keys().collect::<Vec<_>>(), ["train"]);
        assert!(
            collection.notes.iter().any(|note| note.starts_with("my-test-data.jsonl: taken as the split `train`")),
            "{:?}",
            collection.notes
        );
    }
    let path = put(folder.path(), "data.test.jsonl.gz", row.as_bytes());
    let collection = open(&path).unwrap();
    assert_eq!(collection.splits.keys().collect::<Vec<_>>(), ["test"]);
    assert_eq!(collection.notes.len(), 1);
}

#[test]
fn ids_that_no_run_can_hold_are_refused_where_they_stand() {
    let corpus = "{\"_id\": \"d1\", \"text\": \"x\"}\n{\"_id\": \"d 2\", \"text\": \"y\"}";
    says(&[("corpus.jsonl", corpus), ("queries.jsonl", QUERIES)], "corpus.jsonl:2: the document id `d 2` has white space in it");
    says(
        &[("corpus.jsonl", CORPUS), ("queries.jsonl", "{\"_id\": \"#1\", \"text\": \"x\"}")],
        "queries.jsonl:1: the query id `#1` starts with `#`, which no TREC file",
    );
    says(&[("collection.tsv", "1 2\tx")], "collection.tsv:1: the document id `1 2`");
    let passages = r#"{"query_id": "q\u00a01", "query": "q", "positive_passages": [{"docid": "p", "text": "x"}]}"#;
    says(&[("train.jsonl", passages)], "train.jsonl:1: the query id `q");
    let table = tempfile::tempdir().unwrap();
    for (name, id) in [("corpus", "d 1"), ("queries", "q")] {
        parquet::table(
            &table.path().join(format!("{name}.parquet")),
            vec![("_id", parquet::strings(&[id])), ("text", parquet::strings(&["x"]))],
        );
    }
    let message = open(table.path()).unwrap_err().to_string();
    assert!(message.contains("corpus.parquet:1: the document id `d 1`"), "{message}");
    // Rows that are only encoded never stand in a run.
    let path = put(table.path(), "rows.jsonl", b"{\"_id\": \"d 2\", \"text\": \"x\"}");
    assert_eq!(read_rows(&path).unwrap().id(0), "d 2");
}

#[test]
fn ids_that_do_not_stay_on_one_line_are_refused_where_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    for id in ["a\\nb", "a\\tb", "a\\u001cb", "a\\u0085b", "a\\u2028b", "a\\u2029b"] {
        let rows = format!("{{\"_id\": \"a\", \"text\": \"x\"}}\n{{\"_id\": \"{id}\", \"text\": \"x\"}}");
        let message = read_rows(&put(folder.path(), "rows.jsonl", rows.as_bytes())).unwrap_err().to_string();
        assert!(message.contains("rows.jsonl:2: the document id `a\\"), "{message}");
        assert!(message.contains("has a line break or another control character in it") && message.lines().count() == 1, "{message}");
    }
    let corpus = r#"{"_id": "d\u0007", "text": "x"}"#;
    says(&[("corpus.jsonl", corpus), ("queries.jsonl", QUERIES)], "corpus.jsonl:1: the document id `d\\u{7}` has a line break or another");
}

#[test]
fn files_that_are_not_read_are_named() {
    #[track_caller]
    fn told(folder: &Path, part: &str) {
        let notes = open(folder).unwrap().notes;
        assert!(notes.iter().any(|note| note.contains(part)), "`{part}` is missing in: {notes:?}");
    }
    let row = r#"{"query": "q", "positive": "p"}"#;
    let decision = r#"{"qid": "1", "pid": "b", "decision": "neg"}"#;
    let mut files = beir();
    files.extend([("decisions.jsonl", decision), ("pairs.jsonl", row), ("train.json", row)]);
    told(
        folder(&files).path(),
        "not read as part of the collection, which is corpus.jsonl, queries.jsonl and qrels/: pairs.jsonl, train.json;",
    );
    told(
        folder(&[("collection.tsv", "1\tx"), ("dev.jsonl.gz", row)]).path(),
        "which is collection.tsv with its queries and qrels: dev.jsonl.gz;",
    );
    told(
        folder(&[("corpus.jsonl", CORPUS), ("train.jsonl", row)]).path(),
        "corpus.jsonl: not read: the rows beside it have their texts inside",
    );
    let both = folder(&[("test.jsonl", row), ("dataset_infos.json", "{}")]);
    parquet::table(&both.path().join("train.parquet"), vec![("a", parquet::strings(&["q"])), ("b", parquet::strings(&["p"]))]);
    told(both.path(), "which is the parquet files: test.jsonl;");
    let ids = r#"{"query_id": "1", "query_text": "q", "positive_document_ids": ["a"]}"#;
    let by_id = open(folder(&[("corpus.jsonl", r#"{"docid": "a", "text": "x"}"#), ("train.jsonl", ids)]).path()).unwrap();
    assert!(!by_id.notes.iter().any(|note| note.contains("not read")), "{:?}", by_id.notes);
}

#[test]
fn a_split_without_a_relevant_pair_is_noted_and_refused_on_demand() {
    for (qrels, count) in [("query-id\tcorpus-id\tscore\n", 0), ("query-id\tcorpus-id\tscore\n1\ta\t0\n2\tb\t-1\n", 2)] {
        let mut files = beir();
        files.push(("qrels/dev.tsv", qrels));
        let collection = open(folder(&files).path()).unwrap();
        let expected = format!("the split `dev` has no relevant pair: none of its {count} judgment(s) has a grade of 1 or more");
        assert_eq!(collection.notes, [expected]);
        assert!(matches!(collection.relevant_split("dev"), Err(CorpusError::NoPositives { judgments, .. }) if judgments == count));
        assert!(collection.relevant_split("test").is_ok());
    }
}
