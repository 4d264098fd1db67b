//! Reading qrels and runs: the layouts that are read, what is skipped, and what each refusal says.

use std::path::Path;

use metrics::{Qrels, ReadError, Run};

fn with_file<T>(content: &[u8], read: impl Fn(&Path) -> T) -> T {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("file");
    std::fs::write(&path, content).unwrap();
    read(&path)
}

fn judgments(content: &str) -> Vec<(String, String, i32)> {
    let qrels = with_file(content.as_bytes(), |path| Qrels::read(path)).unwrap();
    let mut found = Vec::new();
    for query in qrels.queries() {
        found.extend(qrels.judged(query).map(|(document, grade)| (query.to_owned(), document.to_owned(), grade)));
    }
    found
}

#[test]
fn every_layout_gives_the_same_judgments() {
    let expected = vec![("1".to_owned(), "a".to_owned(), 2), ("1".to_owned(), "b#".to_owned(), 0), ("2".to_owned(), "a".to_owned(), -1)];
    for content in [
        "1 0 a 2\n1 0 b# 0\n2 0 a -1\n",
        "1\t0\ta\t2\r\n1\t0\tb#\t0\r\n2\t0\ta\t-1",
        "# made by hand\n\n1 Q0  a 2\n   \n1 0 b# 0\n# more\n2 0 a -1\n",
        "query-id\tcorpus-id\tscore\n1\ta\t2\n1\tb#\t0\n2\ta\t-1\n",
        "\u{feff}query-id\tcorpus-id\tscore\r\n1\ta\t2\r\n1\tb#\t0\r\n2\ta\t-1\r\n",
        "1\ta\t2\n1\tb#\t0\n2\ta\t-1\n",
        "1 0 a 2\n1 0 a 2\n1 0 b# 0\n2 0 a -1\n",
    ] {
        assert_eq!(judgments(content), expected, "{content:?}");
    }
}

#[test]
fn ids_of_a_tsv_may_hold_spaces() {
    assert_eq!(judgments("query-id\tcorpus-id\tscore\nq 1\td 1\t1\n"), [("q 1".to_owned(), "d 1".to_owned(), 1)]);
}

#[test]
fn refused_qrels_say_where_and_why() {
    for (content, says) in [
        ("", "no judgment or result"),
        ("# only a comment\n", "no judgment or result"),
        ("query-id\tcorpus-id\tscore\n", "no judgment or result"),
        ("1 a\n", "file:1: 2 columns; expected TREC qrels"),
        ("1 0 a 1\n1 0 b\n", "file:2: 3 columns"),
        ("1 0 a 1\n\n1 0 b high\n", "file:3: grade \"high\" is not an integer"),
        ("1 0 a 1.0\n", "file:1: grade \"1.0\" is not an integer"),
        ("q\td\tscore\n1\ta\tscore\n", "file:2: grade \"score\" is not an integer"),
        ("1\ta\t1\n1\tb\n", "file:2: 2 tab-separated columns"),
        ("1\t\t1\n", "file:1: an id is empty"),
        ("1 0 a 1\n1 0 a 2\n", "file:2: document a of query 1 has grade 2 here and 1 before"),
    ] {
        let error = with_file(content.as_bytes(), |path| Qrels::read(path)).unwrap_err().to_string();
        assert!(error.contains(says), "{content:?}: {error}");
    }
}

#[test]
fn refused_runs_say_where_and_why() {
    for (content, says) in [
        (&b""[..], "no judgment or result"),
        (b"1 Q0 a 1\n", "file:1: 4 columns; expected `query Q0 document rank score tag`"),
        (b"1 Q0 a 1 0.5 t\n1 Q0 b 2 half t\n", "file:2: score \"half\" is not a number"),
        (b"1 Q0 a 1 nan t\n", "file:1: score \"nan\" is not a number"),
        (b"1 Q0 a 1 0.5 t\n2 Q0 a 1 0.5 t\n# note\n1 Q0 a 2 0.4 t\n", "file:4: document a is listed a second time for query 1"),
        (b"1 Q0 a 1 0.5 t\n1 Q0 \xff 2 0.4 t\n", "file:2: the line is not UTF-8"),
    ] {
        let error = with_file(content, |path| Run::read(path)).unwrap_err().to_string();
        assert!(error.contains(says), "{content:?}: {error}");
    }
    assert!(matches!(Run::read("no/such/file"), Err(ReadError::Io { .. })));
    assert!(matches!(Qrels::read("no/such/file"), Err(ReadError::Io { .. })));
}

#[test]
fn runs_are_read_whatever_the_order_rank_and_spacing() {
    let run =
        with_file(b"# run\n2 Q0 x 1 1e-3 t\n1\tQ0\ta\t9\t0.5\tt\n\n 1   Q0 b 1 -inf u extra\n2 Q0 y 0 7", |path| Run::read(path)).unwrap();
    assert_eq!(run.queries().collect::<Vec<_>>(), ["2", "1"]);
    assert_eq!(run.ranking("1").collect::<Vec<_>>(), [("a", 0.5), ("b", f64::NEG_INFINITY)]);
    assert_eq!(run.ranking("2").collect::<Vec<_>>(), [("y", 7.0), ("x", 0.001)]);
    assert_eq!(run.ranking("3").count(), 0);
    assert_eq!((run.len(), run.tag()), (4, Some("u")));
}

#[test]
fn a_run_is_written_in_trec_form_and_leaves_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("out.trec");
    std::fs::write(&path, "old").unwrap();
    let mut run = Run::new();
    for (query, document, score) in [("q2", "a", 0.1), ("q2", "c", 0.1), ("q2", "b", 16_777_216.0), ("q1", "a", 1.0 / 3.0)] {
        run.push(query, document, score);
    }
    run.write_trec(&path, "dredge").unwrap();
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        "q2 Q0 b 1 16777216 dredge\nq2 Q0 c 2 0.1 dredge\nq2 Q0 a 3 0.1 dredge\nq1 Q0 a 1 0.33333334 dredge\n"
    );
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn what_the_form_cannot_hold_is_not_written() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("out.trec");
    for (query, document, tag) in [("q 1", "a", "t"), ("q", "a\tb", "t"), ("q", "", "t"), ("#q", "a", "t"), ("q", "a", "two words")] {
        let mut run = Run::new();
        run.push(query, document, 1.0);
        let error = run.write_trec(&path, tag).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    assert!(Run::new().write_trec(place.path().join("no/folder/run"), "t").is_err());
}
