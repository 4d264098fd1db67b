//! Decisions, answers, groups and generated texts beside a collection: what they mean, and that every fault is named.

use super::*;
use crate::{
    Decision, Decisions, Generated, GeneratedCounts, Groups, Listed, Policy, TextTokenizer, TokenSpec, Tokens, read_answers, read_groups,
};

fn collection() -> Collection {
    open(folder(&beir()).path()).unwrap()
}

/// Reads plain and packed content and requires both outcomes to be the same.
#[track_caller]
fn both<T: PartialEq + std::fmt::Debug>(content: &[u8], read: impl Fn(&Path, &Collection) -> Result<T, CorpusError>) -> Result<T, String> {
    let folder = tempfile::tempdir().unwrap();
    let collection = collection();
    let [plain, packed] = ["side", "side.gz"].map(|name| {
        let path = put(folder.path(), name, content);
        read(&path, &collection).map_err(|error| error.to_string().replace("side.gz", "side"))
    });
    assert_eq!(plain, packed);
    plain
}

#[track_caller]
fn refuses<T: PartialEq + std::fmt::Debug>(read: impl Fn(&Path, &Collection) -> Result<T, CorpusError>, cases: &[(&[u8], &[&str])]) {
    for (content, parts) in cases {
        let message = both(content, &read).unwrap_err();
        for part in *parts {
            assert!(message.contains(part), "`{part}` is missing in: {message}");
        }
    }
}

#[test]
fn decisions_are_read_from_rows_and_tables() {
    let rows = "{\"qid\": 1, \"pid\": \"b\", \"decision\": \"pos\", \"why\": \"x\"}\n\n{\"query_id\": \"2\", \"document_id\": \"a\", \"decision\": \"drop\"}\n{\"qid\": \"1\", \"docid\": \"c\", \"decision\": \"neg\"}";
    let table = "qid\tpid\tdecision\n1\tb\tpos\r\n2\ta\tdrop\n1\tc\tneg\n1\tb\tpos\n";
    for content in [rows, table, &table[17..], "1 b pos\n2 a drop\n1 c neg"] {
        let decisions = both(content.as_bytes(), Decisions::read).unwrap();
        let all = [(0, 1), (1, 0), (0, 2), (1, 1)].map(|(query, document)| decisions.get(query, document));
        assert_eq!(all, [Some(Decision::Positive), Some(Decision::Drop), Some(Decision::Negative), None], "{content}");
        assert_eq!(decisions.len(), 3);
        let (judgments, counts) = decisions.apply(collection().split("test").unwrap(), Policy::Promote);
        assert_eq!(judgments.iter().collect::<Vec<_>>(), [(0, 0, 2), (0, 1, 1), (1, 0, 0), (1, 2, 1)]);
        assert_eq!((counts.promoted, counts.removed), (1, 1));
    }
}

#[test]
fn faults_in_decisions_are_named() {
    refuses(
        Decisions::read,
        &[
            (b"", &["side: the file has no rows", "\"decision\": \"pos\""]),
            (b"1\tb\tmaybe", &["side:1: the decision `maybe` is none of neg, drop, pos"]),
            (b"1\tb\t", &["side:1: the decision `` is none of"]),
            (b"1\tb\tpos\n1\tb", &["side:2: got 2 column(s) in `1\\tb`", "a decision is neg, drop or pos"]),
            (b"1\tb\tpos\t0.5", &["side:1: got 4 column(s)"]),
            (
                b"{\"qid\": \"1\", \"pid\": \"b\", \"decision\": \"maybe\"}",
                &["side:1: column", "`maybe` stands where one of `neg`, `drop`, `pos` belongs"],
            ),
            (b"{\"qid\": \"1\", \"decision\": \"pos\"}", &["side:1: column", "missing field `pid`"]),
            (b"{\"qid\": \"1\", \"pid\": \"b\", \"decision\": \"pos\"}\n1\tb\tpos", &["side:2: no JSON object"]),
            (b"1\tb\tpos\n9\tb\tneg\n1\tx\tneg", &["1 row(s) name a query that the collection does not have: `9` (line 2)"]),
            (b"1\tb\tpos\n1\tx\tneg", &["1 row(s) name a document", "`x` (line 2)"]),
            (b"\tb\tpos", &["1 row(s) name a query", "`` (line 1)"]),
            (
                b"1\tb\tpos\n2\tb\tneg\n1\tb\tdrop",
                &["side:3: query `1` and document `b` are decided `drop` here and `pos` on line 1", "one decision per pair"],
            ),
            (b"1\tb\tpos\n1\t\xff\tpos", &["side:2: no valid UTF-8 at byte 10"]),
        ],
    );
}

#[test]
fn answers_are_joined_by_query() {
    let rows = "{\"query_id\": \"2\", \"answers\": [\"cats\", 7, \"Cats\"]}\n{\"_id\": 2, \"answers\": [\" cats \", \"dogs\"]}\n{\"id\": \"1\", \"answers\": []}";
    let table = "query-id\tanswer\n2\tcats\t7\n2\tCats\n2\tcats\tdogs\n";
    for content in [rows, table, &table[16..]] {
        let answers = both(content.as_bytes(), read_answers).unwrap();
        assert_eq!(answers, [vec![], vec!["cats".to_owned(), "7".into(), "Cats".into(), "dogs".into()]], "{content}");
    }
}

#[test]
fn faults_in_answers_are_named() {
    refuses(
        read_answers,
        &[
            (b"\n", &["side: the file has no rows", "\"answers\""]),
            (b"1", &["side:1: got 1 column(s) in `1`", "`query-id<tab>answer`"]),
            (b"1\tants\n1\t\t", &["side:2: an answer is empty in `1\\t\\t`"]),
            (b"{\"query_id\": \"1\", \"answers\": [\"ants\", \" \"]}", &["side:1: an answer is empty", "\"answers\": ["]),
            (b"{\"query_id\": \"1\", \"answers\": \"ants\"}", &["side:1: column", "stands where a list belongs"]),
            (b"{\"query_id\": \"1\"}", &["side:1: column", "missing field `answers`"]),
            (b"1\tants\n9\tbees\n8\tx", &["2 row(s) name a query", "`9` (line 2), `8` (line 3)"]),
            (b"1\tants\n2\tb\xc3\x28", &["side:2: no valid UTF-8 at byte 10"]),
        ],
    );
}

#[test]
fn groups_are_numbered_in_the_order_of_the_file() {
    let groups = both(b"2\tnq\n1\tms marco\n2\tnq\n", read_groups).unwrap();
    assert_eq!(groups, Groups { of_query: vec![1, 0], names: vec!["nq".into(), "ms marco".into()] });
    let groups = both(b"qid\tgroup\n2\tnq\n", read_groups).unwrap();
    assert_eq!(groups, Groups { of_query: vec![Groups::NONE, 0], names: vec!["nq".into()] });
}

#[test]
fn faults_in_groups_are_named() {
    refuses(
        read_groups,
        &[
            (b"", &["side: the file has no rows", "`query-id<tab>group`"]),
            (b"1\tnq\n2", &["side:2: got 1 column(s) in `2`"]),
            (b"1\tnq\tmore", &["side:1: got 3 column(s)"]),
            (b"1\t ", &["side:1: the group is empty"]),
            (b"1\tnq\n2\tnq\n1\tfever", &["side:3: query `1` is in group `fever` here and in group `nq` on line 1"]),
            (b"1\tnq\n7\tnq", &["1 row(s) name a query", "`7` (line 2)"]),
            (b"1\t\xff", &["side:1: no valid UTF-8 at byte 2"]),
        ],
    );
}

const GENERATED: &str = r#"{"qid": "1", "query": "who carries", "pos": ["a"], "neg_synth": [{"text": "Ants sing.", "attr": "topic"}, {"text": "Ants carry leaves."}, {"text": "who carries"}, {"text": "Ants sing."}, {"text": "Cats \"sleep\"."}]}
{"query_id": 2, "query": "other", "neg_synth": [{"text": "Cats hide.", "attr": {"length": 2}}, {"text": "Ants sing.", "attr": "later"}]}
{"qid": "1", "neg_synth": [{"text": "Cats hide."}, {"text": "Bees fly."}]}
{"qid": "1", "neg_synth": []}
"#;

fn generated(content: &str) -> Generated {
    let folder = tempfile::tempdir().unwrap();
    Generated::read(&put(folder.path(), "generated.jsonl.gz", content.as_bytes()), &collection()).unwrap()
}

#[test]
fn generated_texts_lie_behind_the_corpus_and_share_ids() {
    let generated = generated(GENERATED);
    assert_eq!(generated.offset, 3);
    assert_eq!(generated.texts.iter().collect::<Vec<_>>(), ["Ants sing.", "Cats hide."]);
    let ids = |query| generated.lists.row(query).iter().map(|&Listed { document, score }| (document, score)).collect::<Vec<_>>();
    assert_eq!((ids(0), ids(1)), (vec![(3, None), (4, None)], vec![(4, None), (3, None)]));
    assert_eq!((generated.text(4), generated.attribute(3), generated.attribute(4)), ("Cats hide.", "topic", r#"{"length":2}"#));
    assert_eq!([2, 3, 4, 5].map(|id| generated.contains(id)), [false, true, true, false]);
    let expected =
        GeneratedCounts { rows: 4, negatives: 4, copied_positives: 1, copied_documents: 2, copied_queries: 1, repeated: 1, other_texts: 1 };
    assert_eq!(generated.counts, expected);
}

#[test]
fn a_copy_of_a_positive_is_known_under_the_id_of_another_document() {
    let mut collection = collection();
    // The first document with the text is not the judged one.
    let twin = collection.documents.push("twin", "Bees fly.").unwrap();
    collection.splits.insert("train".into(), crate::Judgments::from_pairs(2, vec![(1, twin, 1)]));
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), "x", br#"{"qid": "2", "neg_synth": [{"text": "Bees fly."}]}"#);
    let generated = Generated::read(&path, &collection).unwrap();
    assert_eq!((generated.counts.copied_positives, generated.counts.copied_documents, generated.texts.len()), (1, 0, 0));
}

#[test]
fn faults_in_generated_texts_are_named() {
    refuses(
        |path, collection| Generated::read(path, collection).map(|generated| generated.counts),
        &[
            (b"", &["side: the file has no rows", "\"neg_synth\""]),
            (b"1\ttext", &["side:1: no JSON object"]),
            (b"{\"qid\": \"1\"}", &["side:1: column", "missing field `neg_synth`"]),
            (b"{\"qid\": \"1\", \"neg_synth\": [\"x\"]}", &["side:1: column", "the string \"x\" stands where an object belongs"]),
            (b"{\"qid\": \"1\", \"neg_synth\": [{\"attr\": \"x\"}]}", &["side:1: column", "missing field `text`"]),
            (
                b"{\"qid\": \"1\", \"neg_synth\": []}\n{\"qid\": \"1\", \"neg_synth\": [{\"text\": \"\\t\"}]}",
                &["side:2: the document `neg_synth` has no text"],
            ),
            (
                b"{\"qid\": \"9\", \"neg_synth\": []}\n{\"qid\": \"8\", \"neg_synth\": []}",
                &["2 row(s) name a query", "`9` (line 1), `8` (line 2)"],
            ),
            (b"{\"qid\": \"1\", \"neg_synth\": [{\"text\": \"\xff\"}]}", &["side:1: no valid UTF-8 at byte 37"]),
        ],
    );
}

#[test]
fn generated_texts_are_tokenised_as_the_corpus_is() {
    let generated = generated(GENERATED);
    let collection = collection();
    let tokenizer: TextTokenizer = crate::tokenizer::tests::tokenizer(&crate::tokenizer::tests::letters());
    let cache = tempfile::tempdir().unwrap();
    let spec = TokenSpec { prompt: "d ", max_length: 8 };
    let documents = Tokens::prepare(Some(cache.path()), &tokenizer, &spec, collection.documents.texts()).unwrap();
    let beyond = Tokens::prepare(Some(cache.path()), &tokenizer, &spec, &generated.texts).unwrap();
    let texts: Vec<&str> = collection.documents.texts().iter().chain(generated.texts.iter()).collect();
    let expected = tokenizer.encode_all(&texts, "d ", 8).unwrap();
    assert_eq!((documents.len(), texts.len()), (3, 5));
    for (id, row) in expected.iter().enumerate() {
        assert_eq!(documents.row_beyond(&beyond, id as u32), row);
    }
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 2);
}
