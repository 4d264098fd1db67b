//! Written queries: what becomes of a collection that takes them, the same file as lists, and that every fault is named.

use super::*;
use crate::{Listed, NegativeLists, QueryCounts, QueryUse, read_lists};

const ROWS: &str = r#"{"_id": "g1", "text": "what carries leaves", "positive": ["a"], "negatives": ["c", "a", "c", "b"], "logprob": -0.5, "source": "a"}
{"_id": 7, "text": "what flies", "positive": ["b", "b", "a"], "logprob": -0.25}

{"_id": "g3", "text": "what sleeps", "positive": ["c"], "negatives": null, "logprob": -0.5}
{"_id": "g4", "text": "what sleeps", "positive": ["c"], "negatives": [], "logprob": -2}
"#;

/// A collection with a training split of one query.
fn collection() -> Collection {
    let mut files = beir();
    files.push(("qrels/train.tsv", "query-id\tcorpus-id\tscore\n2\tc\t1\n"));
    open(folder(&files).path()).unwrap()
}

/// Adds `content`, plain and packed, and requires both to do the same.
#[track_caller]
fn added(content: &[u8], split: &str, how: QueryUse, keep: Option<usize>) -> Result<(Collection, QueryCounts), String> {
    let folder = tempfile::tempdir().unwrap();
    let [plain, packed] = ["written", "written.gz"].map(|name| {
        let (path, mut collection) = (put(folder.path(), name, content), collection());
        let before = collection.fingerprint();
        match collection.add_queries(&path, split, how, keep) {
            Ok(counts) => Ok((collection, counts)),
            Err(error) => {
                assert_eq!(collection.fingerprint(), before, "a fault leaves the collection as it was");
                Err(error.to_string().replace("written.gz", "written"))
            }
        }
    });
    let seen = |it: &Result<(Collection, QueryCounts), String>| it.as_ref().map(|it| (it.0.fingerprint(), it.1)).map_err(String::clone);
    assert_eq!(seen(&plain), seen(&packed));
    plain
}

fn ids(collection: &Collection) -> Vec<&str> {
    collection.queries.ids().iter().collect()
}

#[test]
fn written_queries_join_the_split_or_become_it() {
    let (joined, counts) = added(ROWS.as_bytes(), "train", QueryUse::Add, None).unwrap();
    assert_eq!(counts, QueryCounts { rows: 4, queries: 4, positives: 5, negatives: 2, contradicted: 1 });
    assert_eq!(ids(&joined), ["1", "2", "g1", "7", "g3", "g4"]);
    assert_eq!(joined.queries.text(3), "what flies");
    assert_eq!(judged(&joined, "train"), ["2 c 1", "g1 a 1", "7 a 1", "7 b 1", "g3 c 1", "g4 c 1"]);
    assert_eq!(judged(&joined, "test"), judged(&collection(), "test"), "other splits stay as they are");

    let (replaced, same) = added(ROWS.as_bytes(), "train", QueryUse::Replace, None).unwrap();
    assert_eq!((judged(&replaced, "train"), same), (judged(&joined, "train")[1..].to_vec(), counts));
    assert_eq!(ids(&replaced), ids(&joined), "the collection's own queries stay in it");

    for how in [QueryUse::Add, QueryUse::Replace] {
        let (made, _) = added(ROWS.as_bytes(), "made", how, None).unwrap();
        assert_eq!(judged(&made, "made").len(), 5, "a split that is missing is made");
        assert_eq!(judged(&made, "train"), ["2 c 1"]);
    }
}

#[test]
fn the_likeliest_are_kept_and_the_first_of_equal_ones() {
    for (keep, expected) in [(1, vec!["7"]), (2, vec!["g1", "7"]), (3, vec!["g1", "7", "g3"]), (99, vec!["g1", "7", "g3", "g4"])] {
        let (kept, counts) = added(ROWS.as_bytes(), "train", QueryUse::Add, Some(keep)).unwrap();
        assert_eq!(ids(&kept)[2..], expected, "{keep}");
        assert_eq!((counts.rows, counts.queries), (4, expected.len()));
    }
}

#[test]
fn listed_negatives_come_along_behind_those_that_are_there() {
    let listed = |document, score| Listed { document, score };
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), "written", ROWS.as_bytes());
    let mut collection = collection();
    let before = vec![vec![], vec![listed(1, Some(0.5))]];
    collection.negatives = Some(NegativeLists::from_rows(before).with_positive_scores(vec![vec![], vec![listed(2, Some(0.9))]]));
    collection.add_queries(&path, "train", QueryUse::Add, None).unwrap();
    let lists = collection.negatives.clone().unwrap();
    assert_eq!((lists.row(1), lists.positive_scores(1)), (&[listed(1, Some(0.5))][..], &[listed(2, Some(0.9))][..]));
    assert_eq!(lists.row(2), [listed(2, None), listed(1, None)]);
    assert!((3..6).all(|query| lists.row(query).is_empty()) && lists.len() == 3);
    // The same file as lists over the queries that it has brought.
    let read = read_lists(&path, &collection).unwrap();
    assert_eq!((read.row(2), read.len()), (lists.row(2), 2));
    // Without lists nothing is made up.
    let (plain, _) = added(br#"{"_id": "x", "text": "x", "positive": ["a"]}"#, "train", QueryUse::Add, None).unwrap();
    assert!(plain.negatives.is_none());
}

#[test]
fn faults_in_written_queries_are_named() {
    let cases: [(&[u8], &[&str]); 12] = [
        (b"", &["written: the file has no rows", "\"positive\""]),
        (b"x\ty", &["written:1: no JSON object but a tab-separated row", "expected {\"_id\""]),
        (b"{\"text\": \"x\", \"positive\": [\"a\"]}", &["written:1: column", "missing field `_id`"]),
        (b"{\"_id\": \"x\", \"text\": \"x\"}", &["written:1: column", "missing field `positive`"]),
        (b"{\"_id\": \"x\", \"text\": \"x\", \"positive\": \"a\"}", &["written:1: column", "`positive`: the string \"a\" stands where a list belongs"]),
        (b"{\"_id\": \"x\", \"text\": \"x\", \"positive\": []}", &["written:1: the query `x` has no positive"]),
        (b"{\"_id\": \"x\", \"text\": \" \", \"positive\": [\"a\"]}", &["written:1: the query `x` has no text"]),
        (b"{\"_id\": \"\", \"text\": \"x\", \"positive\": [\"a\"]}", &["written:1: this query has an empty id"]),
        (
            b"{\"_id\": \"x\", \"text\": \"x\", \"positive\": [\"a\"]}\n{\"_id\": \"x\", \"text\": \"y\", \"positive\": [\"b\"]}",
            &["written:2: the query id `x` was used before, by query number 1"],
        ),
        (
            b"{\"_id\": \"x\", \"text\": \"x\", \"positive\": [\"a\"]}\n{\"_id\": 2, \"text\": \"y\", \"positive\": [\"b\"]}",
            &["written:2: the query id `2` was used before, by query number 2"],
        ),
        (
            b"{\"_id\": \"x\", \"text\": \"x\", \"positive\": [\"a\", \"u\"]}\n{\"_id\": \"y\", \"text\": \"y\", \"positive\": [\"b\"], \"negatives\": [\"v\"]}",
            &["written: 2 row(s) name a document that the collection does not have: `u` (line 1), `v` (line 2)"],
        ),
        (b"{\"_id\": \"x\", \"text\": \"\xff\", \"positive\": [\"a\"]}", &["written:1: no valid UTF-8 at byte 22"]),
    ];
    for (content, parts) in cases {
        let message = added(content, "train", QueryUse::Add, None).unwrap_err();
        for part in parts {
            assert!(message.contains(part), "`{part}` is missing in: {message}");
        }
    }
    let row = |logprob: &str| format!("{ROWS}{{\"_id\": \"x\", \"text\": \"x\", \"positive\": [\"a\"]{logprob}}}");
    for logprob in ["", ", \"logprob\": null"] {
        let message = added(row(logprob).as_bytes(), "train", QueryUse::Add, Some(2)).unwrap_err();
        assert!(message.contains("written:6: the query `x` has no `logprob`, by which the best 2 are to be kept"), "{message}");
        assert!(added(row(logprob).as_bytes(), "train", QueryUse::Add, None).is_ok(), "all are kept without it");
    }
    // As lists the file belongs to a collection that has its queries.
    let folder = tempfile::tempdir().unwrap();
    let message = read_lists(&put(folder.path(), "written", ROWS.as_bytes()), &collection()).unwrap_err().to_string();
    assert!(message.contains("4 row(s) name a query that the collection does not have: `g1` (line 1)"), "{message}");
}
