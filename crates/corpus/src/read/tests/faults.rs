//! Every fault is named: file, line, what stood there, what to do.

use super::*;
use crate::Side;

/// Files of a folder by name and content, and what the message about them must hold.
type Case = (&'static [(&'static str, &'static str)], &'static [&'static str]);

/// Opens `files` and requires the message to hold every one of `parts`.
#[track_caller]
fn refuses(files: &[(&str, &str)], parts: &[&str]) {
    let folder = folder(files);
    let message = match open(folder.path()) {
        Ok(_) => panic!("opened, but should have been refused with {parts:?}"),
        Err(error) => error.to_string(),
    };
    for part in parts {
        assert!(message.contains(part), "`{part}` is missing in: {message}");
    }
}

#[test]
fn faults_in_beir_folders_are_named() {
    // Which of the three files is replaced, by what, and what the message must hold.
    let cases: &[(usize, &str, &[&str])] = &[
        (0, "", &["corpus.jsonl: the file has no rows", r#"{"_id""#]),
        (0, "\n\n", &["corpus.jsonl: the file has no rows"]),
        (
            0,
            "{\"_id\": \"a\", \"text\": \"x\"}\n{\"_id\": \"a\", \"text\": \"y\"}",
            &["corpus.jsonl:2", "document id `a` was used before, by document number 1"],
        ),
        (
            0,
            "{\"_id\": \"a\", \"text\": \"x\"}\n\n{\"_id\": \"b\", \"title\": \"\", \"text\": \" \"}",
            &["corpus.jsonl:3", "document `b` has no text"],
        ),
        (0, r#"{"_id": "", "text": "x"}"#, &["corpus.jsonl:1", "empty id"]),
        (0, r#"{"_id": "a"}"#, &["corpus.jsonl:1", "missing field `text`", "expected"]),
        (0, r#"{"id": "a", "text": "x"}"#, &["corpus.jsonl:1", "missing field `_id`"]),
        (0, r#"{"_id": "a", "text": ["x"]}"#, &["corpus.jsonl:1", "`text`: a list stands where a string belongs"]),
        (0, r#"{"_id": 1.5, "text": "x"}"#, &["corpus.jsonl:1", "a string or a whole number"]),
        (0, "{\"_id\": \"a\", \"text\": \"x\"", &["corpus.jsonl:1: the line ends inside a JSON object; is the file cut short?"]),
        (1, "", &["queries.jsonl: the file has no rows"]),
        (1, "{\"_id\": \"1\", \"text\": \"x\"}\n{\"_id\": \"1\", \"text\": \"x\"}", &["queries.jsonl:2", "query id `1` was used before"]),
        (1, r#"{"_id": "1", "text": ""}"#, &["queries.jsonl:1", "query `1` has no text"]),
        (2, "", &["test.tsv: the file has no rows", "query-id 0 document-id grade"]),
        (2, "1\ta\t1\n", &["test.tsv:1: no header", "`1\\ta\\t1`", "query-id<tab>corpus-id<tab>score"]),
        (2, "corpus-id\tquery-id\tscore\na\t1\t1", &["test.tsv:1", "the query id in the first column"]),
        (2, "query-id\tcorpus-id\n1\ta", &["test.tsv:1: got 2 column(s)", "TREC"]),
        (2, "query-id\tcorpus-id\tscore\n1\ta\t1\n2\tc", &["test.tsv:3: got 2 column(s) in `2\\tc`"]),
        (2, "1 0 a 1\n1 0 b 1 more", &["test.tsv:2: got 5 column(s)"]),
        (2, "query-id\tcorpus-id\tscore\n1\ta\thigh", &["test.tsv:2: the grade `high` is no whole number"]),
        (2, "query-id\tcorpus-id\tscore\n1\ta\t99999999999", &["test.tsv:2: the grade"]),
        (2, "1 0 a 1.5", &["test.tsv:1: the grade `1.5`"]),
        (
            2,
            "query-id\tcorpus-id\tscore\n1\ta\t1\n1\tx\t1\n2\ty\t1",
            &["test.tsv: 2 row(s) name a document", "`x` (line 3), `y` (line 4)", "remove these rows"],
        ),
        (2, "query-id\tcorpus-id\tscore\n9\ta\t1", &["test.tsv: 1 row(s) name a query", "`9` (line 2)"]),
        (2, "query-id\tcorpus-id\tscore\n1\ta\t1\n1\ta\t0", &["query `1` and document `a` are judged twice, with grades 1 and 0"]),
    ];
    for &(which, content, parts) in cases {
        let mut files = beir();
        files[which].1 = content;
        refuses(&files, parts);
    }
}

#[test]
fn only_the_first_few_dangling_ids_are_listed_and_all_are_counted() {
    let rows: String = (0..1000).map(|i| format!("1 0 x{i} 1\n")).collect();
    refuses(&[("corpus.jsonl", CORPUS), ("queries.jsonl", QUERIES), ("qrels/test.tsv", &rows)], &["1000 row(s)", "`x4` (line 5), …"]);
}

#[test]
fn equal_judgments_may_repeat() {
    let mut files = beir();
    files[2].1 = "1 0 a 1\n1 0 a 1\n";
    assert_eq!(judged(&open(folder(&files).path()).unwrap(), "test"), ["1 a 1"]);
}

#[test]
fn faults_in_other_formats_are_named() {
    let cases: &[Case] = &[
        (&[("collection.tsv", "1\tx\n2")], &["collection.tsv:2: got 1 column(s)", "passage-id<tab>text"]),
        (&[("collection.tsv", "1\tx\ty")], &["collection.tsv:1: got 3 column(s)"]),
        (&[("collection.tsv", "1\tx\n1\ty")], &["collection.tsv:2", "document id `1`"]),
        (&[("collection.tsv", "1\t")], &["collection.tsv:1", "document `1` has no text"]),
        (&[("collection.tsv", "")], &["collection.tsv: the file has no rows"]),
        (&[("msmarco-docs.tsv", "D1\tx")], &["msmarco-docs.tsv:1: got 2 column(s)", "url"]),
        (&[("collection.tsv", "1\tx"), ("queries.a.tsv", "1\tx"), ("queries.b.tsv", "1\ty")], &["queries.b.tsv:1", "another text"]),
        (&[("collection.tsv", "1\tx"), ("queries.a.tsv", "1\tx\n1\tx")], &["queries.a.tsv:2", "used before"]),
        (&[("collection.tsv", "1\tx"), ("queries.a.tsv", "")], &["queries.a.tsv: the file has no rows"]),
        (&[("rows.jsonl", r#"{"query": "q", "pos": []}"#)], &["rows.jsonl:1: `pos` is empty"]),
        (
            &[("rows.jsonl", r#"{"query": "q", "pos": 5}"#)],
            &["rows.jsonl:1", "`pos`: the number `5` stands where a list of strings, or one string, belongs"],
        ),
        (&[("rows.jsonl", r#"{"query": "q", "pos": ["x"], "neg": [""]}"#)], &["rows.jsonl:1: the document `neg` has no text"]),
        (
            &[("rows.jsonl", r#"{"query": "q", "pos": ["x"], "neg": ["y"], "neg_scores": [1, 2]}"#)],
            &["rows.jsonl:1: `neg_scores` has 2 number(s) for 1 text(s)"],
        ),
        (&[("rows.jsonl", "{\"query\": \"q\", \"pos\": [\"x\"]}\n{\"query\": \"q\"}")], &["rows.jsonl:2", "missing field `pos`"]),
        (&[("rows.jsonl", r#"{"query_id": "1", "query": "q", "positive_passages": []}"#)], &["rows.jsonl:1: `positive_passages` is empty"]),
        (
            &[(
                "rows.jsonl",
                r#"{"query": "q", "positive_passages": [{"docid": "1", "text": "a"}], "negative_passages": [{"docid": "1", "text": "b"}]}"#,
            )],
            &["rows.jsonl:1", "document id `1` stands here with another text"],
        ),
        (
            &[("rows.jsonl", r#"{"query_id": "1", "query_text": "q", "positive_document_ids": ["1"]}"#)],
            &["rows.jsonl", "no corpus.jsonl beside"],
        ),
        (
            &[
                ("corpus.jsonl", r#"{"docid": "1", "text": "a"}"#),
                ("rows.jsonl", r#"{"query_id": "1", "query_text": "q", "positive_document_ids": ["1", "2"]}"#),
            ],
            &["rows.jsonl: 1 row(s) name a document", "`2` (line 1)"],
        ),
        (
            &[
                ("a.jsonl", r#"{"query": "q", "pos": ["x"]}"#),
                ("b.jsonl", r#"{"query_id": "1", "query_text": "q", "positive_document_ids": ["1"]}"#),
            ],
            &["a.jsonl", "rows with texts inside, beside"],
        ),
        (&[("rows.jsonl", r#"{"only": "x"}"#)], &["rows.jsonl:1: 1 text column(s) for a query and a positive among [`only`]"]),
        (
            &[("rows.jsonl", "{\"a\": \"x\", \"b\": \"y\"}\n{\"a\": \"x\", \"c\": \"y\"}")],
            &["rows.jsonl:2: column `c` does not stand in the first row"],
        ),
        (&[("rows.jsonl", "{\"a\": \"x\", \"b\": \"y\"}\n{\"a\": \"x\"}")], &["rows.jsonl:2: column `b` holds no positive"]),
        (&[("rows.jsonl", "{\"a\": \"x\", \"b\": \"y\"}\n{\"a\": 5, \"b\": \"y\"}")], &["rows.jsonl:2: column `a` holds no text"]),
        (&[("rows.jsonl", r#"{"a": "x", "a": "y"}"#)], &["rows.jsonl:1", "duplicate field `a`"]),
        (&[("rows.jsonl", r#"{"a": "x", "b": "y", "score": 3.5}"#)], &["rows.jsonl:1: the label 3.5 is neither 0 nor 1"]),
        (
            &[("rows.jsonl", "{\"a\": \"x\", \"b\": \"y\", \"score\": 1}\n{\"a\": \"u\", \"b\": \"v\", \"score\": null}")],
            &["rows.jsonl:2: the row has no `score`"],
        ),
        (&[("rows.jsonl", "\u{feff}\n{\"only\": \"x\"}")], &["rows.jsonl:2: 1 text column(s)"]),
        (&[("rows.jsonl", "")], &["rows.jsonl: the file has no rows"]),
        (&[("rows.jsonl", "a,b\n1,2")], &["rows.jsonl:1: no JSON object but a comma-separated row, `a,b`", "to_json"]),
        (&[("queries.jsonl", QUERIES)], &["no known data format fits; found queries.jsonl; nearest is BEIR, which lacks corpus.jsonl"]),
        (&[("mined.jsonl", r#"{"format": "dredge-negatives", "version": 1, "provenance": {}}"#)], &["mined negatives of this program"]),
        (&[], &["no known data format fits; found nothing in it; expected for example train.jsonl"]),
        (
            &[("corpus.jsonl", CORPUS), ("queries.jsonl", QUERIES), ("hard-negatives.jsonl", r#"{"qid": "1", "neg": {"m": ["z"]}}"#)],
            &["hard-negatives.jsonl: 1 row(s) name a document", "`z` (line 1)"],
        ),
        (&[("corpus.jsonl", CORPUS), ("readme.md", "x")], &["found corpus.jsonl, readme.md; nearest are BEIR, which lacks queries.jsonl"]),
    ];
    for (files, parts) in cases {
        refuses(files, parts);
    }
}

#[test]
fn a_source_that_is_not_there_is_named() {
    for source in ["no/such/folder", "builtin:nothing", ""] {
        let message = Collection::open(source).unwrap_err().to_string();
        assert!(message.starts_with(&format!("no data at `{source}`")), "{message}");
    }
}

#[test]
fn bytes_that_are_no_utf8_are_found_by_offset() {
    let folder = folder(&beir());
    // Offset 3 (mark) + 17 of the second line's start …
    let content = b"\xef\xbb\xbf{\"_id\": \"a\", \"text\": \"x\"}\n{\"_id\": \"b\xff\", \"text\": \"x\"}\n";
    let at = content.iter().position(|&byte| byte == 0xff).unwrap() as u64;
    for name in ["corpus.jsonl", "corpus.jsonl.gz"] {
        let _ = fs::remove_file(folder.path().join("corpus.jsonl"));
        put(folder.path(), name, content);
        match open(folder.path()) {
            Err(CorpusError::NotUtf8 { place, offset }) => assert_eq!((place.line, offset), (2, at), "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    let content = b"\xef\xbb\xbf\xff\n";
    put(folder.path(), "corpus.jsonl", content);
    assert!(matches!(open(folder.path()), Err(CorpusError::NotUtf8 { offset: 3, .. })));
}

#[test]
fn a_truncated_gzip_stream_is_named_with_its_line() {
    let folder = folder(&beir());
    let long: String = (0..2000).map(|i| format!("{{\"_id\": \"{i}\", \"text\": \"text {}\"}}\n", i * 7919 % 4001)).collect();
    let whole = gzip(long.as_bytes());
    fs::remove_file(folder.path().join("corpus.jsonl")).unwrap();
    for cut in [whole.len() / 2, whole.len() - 4] {
        fs::write(folder.path().join("corpus.jsonl.gz"), &whole[..cut]).unwrap();
        match open(folder.path()) {
            Err(error @ CorpusError::Gzip { .. }) => assert!(error.to_string().contains("fetch or pack the file again"), "{error}"),
            other => panic!("{:?}", other.map(|collection| collection.documents.len())),
        }
    }
    // Two streams in one file are one file.
    let mut twice = gzip(CORPUS.as_bytes());
    twice.extend(gzip(b"{\"_id\": \"d\", \"text\": \"Dogs.\"}\n"));
    fs::write(folder.path().join("corpus.jsonl.gz"), twice).unwrap();
    assert_eq!(open(folder.path()).unwrap().documents.len(), 4);
}

#[test]
fn errors_carry_their_fields() {
    let mut files = beir();
    files[2].1 = "1 0 x 1";
    match open(folder(&files).path()) {
        Err(CorpusError::Dangling { side: Side::Document, count: 1, path, .. }) => assert!(path.ends_with("qrels/test.tsv")),
        other => panic!("{other:?}"),
    }
}
