//! Columns of training rows: which is taken for what, in JSON lines and in parquet, and what is said about it.

use super::*;
use crate::Listed;

/// `query > positive | negatives` for each query, by text.
fn meaning(collection: &Collection) -> Vec<String> {
    let text = |document| collection.documents.text(document);
    let lists = collection.negatives.clone().unwrap_or_default();
    (0..collection.queries.len() as u32)
        .map(|query| {
            let positives: Vec<_> = collection.split("train").unwrap().positives(query).map(text).collect();
            let negatives: Vec<_> = lists.row(query).iter().map(|&Listed { document, .. }| text(document)).collect();
            format!("{} > {} | {}", collection.queries.text(query), positives.join(" "), negatives.join(" "))
        })
        .collect()
}

fn rows(content: &str) -> Result<Collection, CorpusError> {
    open(&folder(&[("train.jsonl", content)]).path().join("train.jsonl"))
}

#[test]
fn names_come_before_the_order() {
    let cases = [
        (
            r#"{"positive": "p", "query": "q", "negative": "n"}"#,
            "q > p | n",
            "train.jsonl: `query` is the query, `positive` its positive, `negative` a negative",
        ),
        (
            r#"{"id": "7", "source": "wiki", "query": "q", "positive": "p"}"#,
            "q > p | ",
            "train.jsonl: `query` is the query, `positive` its positive",
        ),
        (
            r#"{"answer": "p", "question": "q", "hard_neg": ["n", "m"]}"#,
            "q > p | n m",
            "`question` is the query, `answer` its positive, `hard_neg` a negative",
        ),
        (
            r#"{"negative_2": "m", "anchor": "q", "negative_1": "n", "positive": "p"}"#,
            "q > p | m n",
            "`negative_2`, `negative_1` negatives",
        ),
        (r#"{"query": "q", "text": "p", "id": 5}"#, "q > p | ", "`query` is the query, `text` its positive"),
        (r#"{"answer": {"start": [1]}, "context": "p", "question": "q"}"#, "q > p | ", "`question` is the query, `context` its positive"),
    ];
    for (content, expected, note) in cases {
        let collection = rows(content).unwrap();
        assert_eq!(meaning(&collection), [expected], "{content}");
        assert!(collection.notes[0].ends_with(note), "{:?}", collection.notes);
        assert!(!collection.notes[0].contains("order"), "{:?}", collection.notes);
    }
    let collection = rows(cases[1].0).unwrap();
    assert!(collection.notes[1].ends_with("train.jsonl: column(s) id, source are not used"), "{:?}", collection.notes);
}

/// Labels and ids go by their names as the other columns do, in capitals too, and what is said of a text is not passed over.
#[test]
fn labels_negatives_and_ids_are_seen_whatever_stands_beside_them() {
    let labelled = r#"{"query": "q", "pos": "p", "negative": "n", "Label": [1, 0]}"#;
    assert_eq!(meaning(&rows(labelled).unwrap()), ["q > p | n"]);
    assert_eq!(meaning(&rows(r#"{"query": "q", "pos": "p", "neg_1": "n"}"#).unwrap()), ["q > p | n"]);
    assert_eq!(meaning(&rows(r#"{"query": "q", "pos": "p"}"#).unwrap()), ["q > p | "]);
    assert_eq!(meaning(&rows(r#"{"ID": "17", "a": "q", "b": "p"}"#).unwrap()), ["q > p | "]);
    let pair = |label: &str| format!(r#"{{"query": "q", "positive": "p{}"{label}}}"#, label.len());
    let labels = |labels: &[&str]| rows(&labels.iter().map(|label| pair(label)).collect::<Vec<_>>().join("\n"));
    assert_eq!(meaning(&labels(&[r#", "LABEL": 1"#, r#", "LABEL":  0"#]).unwrap()), ["q > p12 | p13"]);
    assert_eq!(meaning(&labels(&[r#", "score": 0.9, "label": 1"#]).unwrap()), ["q > p26 | "]);
    for later in ["", r#", "label": null"#] {
        let message = labels(&[r#", "label": 1"#, later]).unwrap_err().to_string();
        assert!(message.contains("train.jsonl:2: the row has no `label`"), "{message}");
    }
    let message = labels(&["", r#", "Label": 0"#]).unwrap_err().to_string();
    assert!(message.contains("train.jsonl:2: column `Label` does not stand in the first row"), "{message}");
    // A list without a text is no reason to pass over the column in all rows that follow.
    let nulls = "{\"query\": \"a\", \"positive\": \"p\", \"negative\": [null]}\n{\"query\": \"b\", \"positive\": \"p\", \"negative\": [null, \"n\"]}";
    assert_eq!(meaning(&rows(nulls).unwrap()), ["a > p | ", "b > p | n"]);
    let message = rows(r#"{"query": "a", "positive": "p", "negative": {"text": "n"}}"#).unwrap_err().to_string();
    assert!(message.contains("the column `negative` has neither a text nor a list of texts"), "{message}");
}

/// What a list calls not relevant is no positive, and a list that does not say it of every text is refused.
#[test]
fn grades_of_a_list_tell_positives_from_negatives() {
    let graded = r#"{"query": "q", "docs": ["a", "b", "c"], "labels": [3, 0, 1]}"#;
    let other = r#"{"query": "r", "docs": ["a"], "labels": [2]}"#;
    assert_eq!(meaning(&rows(&format!("{graded}\n{other}")).unwrap()), ["q > a c | b", "r > a | "]);
    let cases = [
        (r#""docs": ["a", "b", "c"], "labels": [1, 0]"#, "`labels` has 2 number(s) for 3 text(s)"),
        (r#""docs": ["a", null], "labels": [1, 0]"#, "`labels` has 2 number(s) for 1 text(s)"),
        (r#""docs": ["a", "b"], "labels": [1, null]"#, "column `labels` holds no number"),
        (r#""docs": ["a", "b"], "labels": [1, -1]"#, "`labels` has -1, below 0: write 0"),
        (r#""docs": ["a", "b"], "labels": 2"#, "the label 2 is neither 0 nor 1"),
    ];
    for (row, expected) in cases {
        let message = rows(&format!("{graded}\n{{\"query\": \"r\", {row}}}")).unwrap_err().to_string();
        assert!(message.contains(&format!("train.jsonl:2: {expected}")), "{message}");
    }
}

#[test]
fn parquet_columns_go_by_their_names_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train-00000-of-00001.parquet");
    let column = |text| parquet::strings(&[text]);
    parquet::table(&path, vec![("source", column("wiki")), ("positive", column("p")), ("negative", column("n")), ("query", column("q"))]);
    let collection = open(&path).unwrap();
    assert_eq!(meaning(&collection), ["q > p | n"]);
    assert!(collection.notes[0].contains("`query` is the query, `positive` its positive, `negative` a negative"), "{:?}", collection.notes);
    assert!(collection.notes[1].ends_with("column(s) source are not used"), "{:?}", collection.notes);

    parquet::table(&path, vec![("query", column("q")), ("answer", column("p")), ("context", column("c"))]);
    let message = open(&path).unwrap_err().to_string();
    assert!(message.contains("the positive may be any of `answer`, `context`; expected one column named `query`"), "{message}");
}

#[test]
fn shards_of_one_kind_are_reported_once() {
    let row = r#"{"question": "q", "answer": "p"}"#;
    let files: Vec<String> = (0..5).map(|shard| format!("train-0000{shard}-of-00005.jsonl")).collect();
    let folder = folder(&files.iter().map(|name| (name.as_str(), row)).collect::<Vec<_>>());
    let collection = open(folder.path()).unwrap();
    assert_eq!(
        collection.notes,
        ["train-00000-of-00005.jsonl, … train-00004-of-00005.jsonl (5 files): `question` is the query, `answer` its positive"]
    );
}

#[test]
fn unclear_columns_are_refused_with_the_columns_there_are() {
    let cases = [
        (
            r#"{"question": "q", "answer": "a", "context": "c"}"#,
            "`question` is the query and the positive may be any of `answer`, `context`",
        ),
        (r#"{"query": "q", "question": "r", "positive": "p"}"#, "the query may be any of `query`, `question`"),
        (r#"{"query": "q", "title": "t", "text": "p"}"#, "the positive may be any of `title`, `text`"),
    ];
    for (content, expected) in cases {
        let message = rows(content).unwrap_err().to_string();
        assert!(message.contains("train.jsonl:1: of the text columns `"), "{message}");
        assert!(message.contains(expected) && message.contains("rename the columns"), "{message}");
        assert_eq!(message.lines().count(), 1);
    }
}

#[test]
fn negatives_may_be_missing_empty_or_more_in_later_rows() {
    let content = r#"{"query": "a", "positive": "p"}
{"query": "b", "positive": "p", "negative": "n"}
{"query": "c", "positive": "p", "negative": null, "negative_2": "m", "source": "wiki"}
{"query": "d", "positive": "p", "negative": [], "negative_2": ["m", "n"]}
{"negative_2": "m", "query": "e", "positive": "p", "negative": "n"}"#;
    let collection = rows(content).unwrap();
    assert_eq!(meaning(&collection), ["a > p | ", "b > p | n", "c > p | m", "d > p | m n", "e > p | n m"]);
    assert!(collection.notes.iter().any(|note| note.ends_with("column(s) source are not used")), "{:?}", collection.notes);
    // By order, too, a name that says so is a negative.
    assert_eq!(
        meaning(&rows("{\"a\": \"q\", \"b\": \"p\"}\n{\"a\": \"r\", \"b\": \"p\", \"neg_1\": \"n\"}").unwrap()),
        ["q > p | ", "r > p | n"]
    );
    // What may be the missing positive under another name is no extra column.
    let message = rows("{\"query\": \"a\", \"answer\": \"p\"}\n{\"query\": \"b\", \"positive\": \"p\"}").unwrap_err().to_string();
    assert!(message.contains("train.jsonl:2: column `positive` does not stand in the first row"), "{message}");
    // What would change the meaning of the rows before it is none either.
    let message =
        rows("{\"query\": \"a\", \"answer\": \"p\"}\n{\"query\": \"b\", \"answer\": \"p\", \"label\": 0}").unwrap_err().to_string();
    assert!(message.contains("train.jsonl:2: column `label` does not stand in the first row"), "{message}");
    let message =
        rows("{\"query\": \"a\", \"positive\": \"p\"}\n{\"query\": \"b\", \"positive\": \"p\", \"neg\": 3}").unwrap_err().to_string();
    assert!(message.contains("train.jsonl:2: column `neg` holds no text"), "{message}");
}
