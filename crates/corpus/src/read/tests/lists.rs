//! Lists of other tools over a collection: what each form means, and that every fault is named.

use arrow::array::{ArrayRef, Float64Array};
use std::sync::Arc;

use super::*;
use crate::{ListCounts, Listed, NegativeLists, TeacherScores, Unknown, read_lists, read_lists_counted};

fn collection() -> Collection {
    open(folder(&beir()).path()).unwrap()
}

fn read(name: &str, content: &str) -> Result<NegativeLists, CorpusError> {
    let folder = tempfile::tempdir().unwrap();
    read_lists(&put(folder.path(), name, content.as_bytes()), &collection())
}

/// Reads plain and packed and requires both to be the same.
#[track_caller]
fn lists(content: &str) -> NegativeLists {
    let plain = read("lists", content).unwrap();
    assert_eq!(read("lists.gz", content).unwrap(), plain);
    plain
}

fn listed(row: &[(u32, Option<f32>)]) -> Vec<Listed> {
    row.iter().map(|&(document, score)| Listed { document, score }).collect()
}

#[track_caller]
fn holds(lists: &NegativeLists, query: u32, negatives: &[(u32, Option<f32>)], positives: &[(u32, Option<f32>)]) {
    assert_eq!(lists.row(query), listed(negatives), "negatives");
    assert_eq!(lists.positive_scores(query), listed(positives), "positives");
}

#[test]
fn tevatron_passages_are_taken_by_id_else_by_text_with_their_scores() {
    let rows = r#"{"query_id": 1, "query": "who carries", "positive_passages": [{"docid": "a", "title": "Ants", "text": "carry leaves.", "score": 9}], "negative_passages": [{"docid": "c", "text": "other", "score": 2.5}, {"text": "Bees fly."}]}
{"query": "who sleeps", "positive_passages": [{"docid": "c", "text": ""}], "negative_passages": null}"#;
    let read = lists(rows);
    holds(&read, 0, &[(2, Some(2.5)), (1, None)], &[(0, Some(9.0))]);
    holds(&read, 1, &[], &[]);
    let ids = r#"{"query_id": "2", "query_text": "", "positive_document_ids": ["c"], "negative_document_ids": ["b", "a", "b"]}"#;
    holds(&lists(ids), 1, &[(1, None), (0, None)], &[]);
}

#[test]
fn flagembedding_rows_are_taken_by_text_with_scores() {
    let rows = r#"{"query": "who carries", "pos": ["Ants carry leaves."], "neg": ["Cats \"sleep\".", "Bees fly."], "pos_scores": [3], "neg_scores": [0.5, 0.25], "prompt": "x"}
{"query": "who carries", "pos": ["Ants carry leaves."], "neg": ["Bees fly."], "neg_scores": [7]}
{"query": "who sleeps", "pos": ["Cats \"sleep\"."], "neg": ["Bees fly."]}"#;
    let read = lists(rows);
    holds(&read, 0, &[(2, Some(0.5)), (1, Some(0.25))], &[(0, Some(3.0))]);
    holds(&read, 1, &[(1, None)], &[]);
}

#[test]
fn columns_are_taken_by_text_with_scores_or_labels() {
    let tuples = r#"{"anchor": "who carries", "positive": "Ants carry leaves.", "negative_1": "Bees fly.", "negative_2": "Cats \"sleep\".", "scores": [4, 3, 2]}"#;
    holds(&lists(tuples), 0, &[(1, Some(3.0)), (2, Some(2.0))], &[(0, Some(4.0))]);
    let pairs = r#"{"query": "who carries", "answer": "Bees fly.", "label": 0, "score": 0.7}
{"query": "who carries", "answer": "Ants carry leaves.", "label": 1, "score": 0.9}"#;
    holds(&lists(pairs), 0, &[(1, Some(0.7))], &[(0, Some(0.9))]);
    let labelled = r#"{"query": "who carries", "answer": ["Ants carry leaves.", "Bees fly."], "labels": [1, 0], "scores": [5, 6]}"#;
    holds(&lists(labelled), 0, &[(1, Some(6.0))], &[(0, Some(5.0))]);
    // Nothing in the file says what is relevant: the judgments do, and `b` is judged with grade 0.
    let scored = r#"{"query": "who carries", "passage": "Bees fly.", "score": 0.7}
{"query": "who carries", "passage": "Ants carry leaves.", "score": 12.5}"#;
    holds(&lists(scored), 0, &[(1, Some(0.7))], &[(0, Some(12.5))]);
}

#[test]
fn parquet_columns_are_taken_by_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mined.parquet");
    let scores: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 0.75]));
    let columns = |second: &'static str| {
        vec![
            ("anchor", parquet::strings(&["who sleeps", "who carries"])),
            ("passage", parquet::strings(&["Bees fly.", second])),
            ("score", Arc::clone(&scores)),
        ]
    };
    parquet::table(&path, columns("Ants carry leaves."));
    let read = read_lists(&path, &collection()).unwrap();
    holds(&read, 0, &[], &[(0, Some(0.75))]);
    holds(&read, 1, &[(1, Some(0.5))], &[]);

    parquet::table(&path, columns("Ants carry leaves"));
    let message = read_lists(&path, &collection()).unwrap_err().to_string();
    assert!(message.contains("1 document text(s) are no document of the collection: `Ants carry leaves` (line 2)"), "{message}");
    parquet::table(&path, vec![("anchor", parquet::strings(&[])), ("positive", parquet::strings(&[]))]);
    assert!(matches!(read_lists(&path, &collection()), Err(CorpusError::EmptyFile { .. })));
}

#[test]
fn nemo_files_are_taken_as_document_list_and_lines() {
    let row = r#"{"question_id": 1, "question": "who carries", "corpus_id": "x", "pos_doc": [{"id": "a", "score": 0.9}],
        "neg_doc": [{"id": "c", "score": 0.5}, "b"]}"#;
    let second = r#"{"question": "who sleeps", "corpus_id": "x", "pos_doc": ["c"], "neg_doc": []}"#;
    let line = row.replace('\n', " ");
    let whole = format!("{{\"corpus\": [{{\"path\": \"x\"}}],\n \"data\": [\n{row},\n{second}\n], \"mining\": {{\"args\": {{}}}}}}");
    for content in [whole, format!("[{row}, {second}]"), format!("{line}\n{second}"), format!("\u{feff}\n {{\"data\": [{row}]}}")] {
        let read = lists(&content);
        holds(&read, 0, &[(2, Some(0.5)), (1, None)], &[(0, Some(0.9))]);
        holds(&read, 1, &[], &[]);
    }
    // Without `corpus_id` a plain string is a text.
    let inline = r#"{"query": "who sleeps", "pos_doc": "#.to_owned()
        + r#"["Cats \"sleep\"."], "neg_doc": [{"text": "Bees fly."}, {"title": "Ants", "text": "carry leaves."}]}"#;
    holds(&lists(&inline), 1, &[(1, None), (0, None)], &[]);
}

#[test]
fn lists_by_system_are_joined_rank_by_rank() {
    let rows = r#"{"qid": "2", "pos": ["c"], "neg": {"bm25": ["a"], "dense": ["b", "a", "c"]}}"#;
    holds(&lists(rows), 1, &[(0, None), (1, None), (2, None)], &[]);
}

#[test]
fn tables_and_runs_are_sorted_by_score() {
    let table = "qid\tpid\tscore\n1\tb\t-1.5\n1\tc\t3e-1\n2\ta\t7\n1\ta\t9\n1\tb\t-1.5\n";
    let spaced = &table.replace('\t', "  ")[16..];
    let run = "# a run\n1 Q0 b 0 -1.5 tag\n1 Q0 c 0 0.3 tag\n2 Q0 a 0 7 tag\n1 Q0 a 0 9 tag\n";
    for content in [table, spaced, run] {
        let read = lists(content);
        holds(&read, 0, &[(2, Some(0.3)), (1, Some(-1.5))], &[(0, Some(9.0))]);
        holds(&read, 1, &[(0, Some(7.0))], &[]);
    }
}

#[test]
fn a_teachers_scores_are_those_of_positives_and_negatives() {
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), "teacher.tsv.gz", b"1\tb\t-1.5\n1\ta\t9\n2\ta\t7\n");
    let scores = TeacherScores::read(&path, &collection()).unwrap();
    assert_eq!((scores.len(), scores.score(0, 0), scores.score(0, 1), scores.score(1, 0)), (3, Some(9.0), Some(-1.5), Some(7.0)));
    assert_eq!((scores.score(1, 2), scores.score(5, 0)), (None, None));
    let path = put(folder.path(), "lists.jsonl", br#"{"query": "who sleeps", "pos": ["Bees fly."], "neg": []}"#);
    let message = TeacherScores::read(&path, &collection()).unwrap_err().to_string();
    assert!(message.contains("lists.jsonl: no row of this file has a score"), "{message}");
}

#[test]
fn what_a_file_calls_positive_and_negative_is_positive() {
    let rows = r#"{"query": "who carries", "pos": ["Bees fly."], "neg": ["Cats \"sleep\".", "Bees fly."]}"#;
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), "rows.jsonl", rows.as_bytes());
    let (lists, counts) = read_lists_counted(&path, &collection(), Unknown::Refuse).unwrap();
    holds(&lists, 0, &[(2, None)], &[]);
    assert_eq!(counts, ListCounts { negatives: 1, contradicted: 1, ..ListCounts::default() });
}

#[test]
fn unknown_queries_and_documents_are_passed_over_when_asked_and_counted() {
    let cases = [
        (
            r#"{"query": "who carries", "pos": ["Ants carry leaves."], "neg": ["Bees fly.", "no such text"], "neg_scores": [1, 2]}
{"query": "who hides", "pos": ["nothing"], "neg": ["nowhere"]}"#,
            ListCounts { negatives: 1, unknown_queries: 1, unknown_documents: 1, ..ListCounts::default() },
        ),
        ("1 b 1\n9 b 2\n1 x 3\n1 y 3", ListCounts { negatives: 1, unknown_queries: 1, unknown_documents: 2, ..ListCounts::default() }),
        (
            r#"{"query_id": "1", "query": "another question", "positive_passages": [{"docid": "a", "text": "another text", "score": 1}], "negative_passages": [{"docid": "b", "text": "Bees fly."}, {"docid": "z", "text": "Bees fly."}]}"#,
            ListCounts { negatives: 1, scored_positives: 1, unknown_documents: 1, other_texts: 2, ..ListCounts::default() },
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (content, expected) in cases {
        let path = put(folder.path(), "lists", content.as_bytes());
        let (lists, counts) = read_lists_counted(&path, &collection(), Unknown::Skip).unwrap();
        assert_eq!(counts, expected, "{content}");
        assert_eq!(lists.row(0)[0].document, 1);
        assert!(read_lists(&path, &collection()).is_err(), "{content}");
    }
}

#[test]
fn faults_in_lists_are_named() {
    let own = r#"{"format": "dredge-negatives", "version": 1, "provenance": {}}"#;
    let cases: &[(&str, &[&str])] = &[
        ("", &["lists: the file has no rows", "JSON rows, parquet or a table"]),
        ("\n \n", &["lists: the file has no rows"]),
        // Tables.
        ("1\tb", &["lists:1: got 2 column(s) in `1\\tb`", "or a TREC run"]),
        ("1\tb\t0.5\n1\tb\t0.5\tx", &["lists:2: got 4 column(s)", "`query-id document-id score`"]),
        ("1 Q0 b 1 0.5 t\n1 Q0 c 0.5", &["lists:2: got 4 column(s)", "rank score tag"]),
        ("1\tb\thigh", &["lists:1: the score `high` is no finite number"]),
        ("1\tb\tNaN", &["lists:1: the score `NaN`"]),
        ("1\tb\t1e99", &["lists:1: the score `1e99`"]),
        ("1\tb\t0.5\n9\tb\t1\n1\tx\t2", &["1 row(s) name a query that the collection does not have: `9` (line 2)"]),
        ("1\tb\t0.5\n1\tx\t2\n1\ty\t3", &["2 row(s) name a document", "`x` (line 2), `y` (line 3)"]),
        ("1\tb\t0.5\n\n1\tc\t1\n1\tb\t0.25", &["lists:4: query `1` and document `b` have the score 0.25 here and 0.5 on line 1"]),
        ("1\tb\t1\n1\tc\t2\n2\ta\t1", &["lists:1: the third column counts 1, 2, 3, …", "these are ranks"]),
        // Rows by text.
        (
            "{\"query\": \"who carries\", \"pos\": [\"Ants carry leaves.\"], \"neg\": [\"bees fly.\"]}",
            &["1 document text(s) are no document of the collection: `bees fly.` (line 1)", "compared exactly"],
        ),
        ("{\"query\": \"who hides\", \"pos\": [\"x\"]}", &["1 query text(s) are no query of the collection: `who hides` (line 1)"]),
        ("{\"query\": \" \", \"pos\": [\"x\"]}", &["lists:1: the query `query` has no text"]),
        ("{\"query\": \"who carries\", \"pos\": [\"\"]}", &["lists:1: the document `pos` has no text"]),
        (
            "{\"query\": \"who carries\", \"pos\": [\"Bees fly.\"], \"neg\": [], \"pos_scores\": [1, 2]}",
            &["lists:1: `pos_scores` has 2 number(s) for 1 text(s)"],
        ),
        ("{\"a\": \"who carries\"}", &["lists:1: 1 text column(s) for a query and a positive among [`a`]"]),
        ("{\"a\": \"who carries\", \"b\": \"Bees fly.\", \"label\": 0.5}", &["lists:1: the label 0.5 is neither 0 nor 1"]),
        ("{\"a\": \"who carries\", \"b\": \"Bees fly.\"}\n{\"a\": \"x\", \"c\": \"y\"}", &["lists:2: column `c`"]),
        // Rows by id.
        (
            "{\"query_id\": \"1\", \"query_text\": \"\", \"positive_document_ids\": [\"a\"], \"negative_document_ids\": [\"z\"]}",
            &["1 row(s) name a document", "`z` (line 1)"],
        ),
        ("{\"qid\": \"7\", \"neg\": {\"x\": []}}", &["1 row(s) name a query", "`7` (line 1)"]),
        (own, &[]),
        // NeMo.
        (
            "{\"data\": [\n{\"question_id\": \"1\", \"corpus_id\": \"x\", \"pos_doc\": [\"a\"],\n \"neg_doc\": [\"z\"]},\n{\"question_id\": \"8\", \"pos_doc\": []}]}",
            &["1 row(s) name a query", "`8` (line 4)"],
        ),
        (
            "{\"data\": [\n{\"question_id\": \"1\", \"corpus_id\": 5,\n \"pos_doc\": [\"z\"]}]}",
            &["1 row(s) name a document", "`z` (line 2)"],
        ),
        ("{\"data\": [{\"question_id\": \"1\"}]}", &["lists:1: column", "missing field `pos_doc`", "rows {\"question_id\""]),
        (
            "{\"data\":\n[{\"question_id\": \"1\", \"pos_doc\": [{\"score\": 1}]}]}",
            &["lists:2: a passage in `pos_doc` has neither `id` nor `text`"],
        ),
        ("{\"data\": [{\"pos_doc\": []}]}", &["lists:1: neither `question_id` nor `question`"]),
        ("{\"data\": []}", &["lists: the file has no rows"]),
        ("{\"data\": 5}", &["lists:1", "a list of rows"]),
        ("{\"data\": [\n", &["lists:2", "the file ends inside a JSON value"]),
        ("{\"data\": []} x", &["lists:1", "more follows behind the object"]),
        ("[{\"question_id\": \"1\", \"pos_doc\": []},\n5]", &["lists:2", "the number `5` stands where an object belongs"]),
        ("{\"pos_doc\": [], \"question\": \"who carries\"}\n{\"pos_doc\": 5}", &["lists:2"]),
        // Something else altogether.
        ("[{\"question\": \"x\", \"positive_ctxs\": []}]", &["no known data format fits", "one JSON list", "jq -c"]),
        ("[]", &["no known data format fits"]),
        ("{\"_id\": \"a\", \"text\": \"x\"}", &["a corpus or a list of queries"]),
        ("{\"qid\": \"1\", \"neg_synth\": []}", &["generated texts"]),
        ("{\"qid\": \"1\", \"pid\": \"a\", \"decision\": \"pos\"}", &["relabelling decisions"]),
        ("{\"query\": \"x\",", &["lists:1: the line ends inside a JSON object"]),
    ];
    for &(content, parts) in cases {
        for name in ["lists", "lists.gz"] {
            match read(name, content) {
                Ok(_) => assert!(parts.is_empty(), "read, but should have been refused with {parts:?}"),
                Err(error) => {
                    let message = error.to_string().replace("lists.gz", "lists");
                    assert!(!parts.is_empty(), "{message}");
                    for part in parts {
                        assert!(message.contains(part), "`{part}` is missing in: {message}");
                    }
                }
            }
        }
    }
}

#[test]
fn bytes_that_are_no_utf8_are_found_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let cases: &[(&[u8], u64)] = &[
        (b"1\tb\t0.5\n1\t\xff\t2\n", 2),
        (b"{\"query\": \"who carries\", \"pos\": [\"Bees fly.\"]}\n{\"query\": \"\xc3(\"}", 2),
        (b"{\"data\": [\n {\"question_id\": \"\xe2\x82\x28\"}]}", 2),
        (b"\xef\xbb\xbf{\"qu\xc3\xa4ry\": 1, \"x\": \"\xff\"}", 1),
    ];
    for (content, line) in cases {
        let at = content.iter().rposition(|&byte| [0xff, 0xc3, 0xe2].contains(&byte)).unwrap() as u64;
        for name in ["lists", "lists.gz"] {
            match read_lists(&put(folder.path(), name, content), &collection()) {
                Err(CorpusError::NotUtf8 { place, offset }) => assert_eq!((place.line, offset), (*line, at), "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_damaged_gzip_stream_is_named_in_lines_and_in_documents() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<String> = (0..3000).map(|i| format!("{{\"question_id\": \"1\", \"x\": {}, \"pos_doc\": []}}", i * 7919 % 4001)).collect();
    for content in [rows.join("\n"), format!("{{\"data\": [\n{}\n]}}", rows.join(",\n"))] {
        let whole = gzip(content.as_bytes());
        let path = folder.path().join("lists.json.gz");
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        match read_lists(&path, &collection()) {
            Err(CorpusError::Gzip { place, .. }) => assert!(place.line > 1),
            other => panic!("{other:?}"),
        }
        fs::write(&path, whole).unwrap();
        read_lists(&path, &collection()).unwrap();
    }
    assert!(matches!(read_lists(&folder.path().join("missing"), &collection()), Err(CorpusError::Io { .. })));
}
