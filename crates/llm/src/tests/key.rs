//! The key of an endpoint that repeats it, and where it does not come to stand.

use std::{fs, sync::Arc, time::Duration};

use super::{
    double::{Double, Play},
    model, write_queries,
};
use crate::{Endpoint, Folder, Key, Limits};

/// A key that is a word, as servers on this machine are given: answers are not touched, in the journal either.
#[test]
fn a_word_for_a_key_changes_no_answer() {
    let double = Double::start(|_| Play::Good);
    let place = tempfile::tempdir().unwrap();
    let (expected, _) = write_queries(place.path(), &model(&double), Limits::default());
    for word in ["1", "what", "none"] {
        let folder = tempfile::tempdir().unwrap();
        let mut model = model(&double);
        model.endpoint = Arc::new(Endpoint::new(&double.url, Some(Key::for_tests(word)), Duration::from_secs(5)).unwrap());
        let (outcome, _) = write_queries(folder.path(), &model, Limits::default());
        assert_eq!(outcome.rows, expected.rows, "{word}");
    }
}

/// The endpoint repeats the key in errors and in answers; it stands in no file and in no message.
#[test]
fn the_key_is_sent_and_nowhere_kept() {
    let secret = "sk-very-secret-1234567890";
    let double = Double::start(|request| match request.earlier {
        0 => Play::EchoesKey(500),
        1 => Play::EchoesKey(429),
        _ if request.text().contains("elk") => Play::EchoesKey(400),
        _ if request.text().contains("yak") => Play::Says("is sk-very-secret-1234567890 the key"),
        _ => Play::Good,
    });
    let folder = tempfile::tempdir().unwrap();
    let mut model = model(&double);
    model.endpoint = Arc::new(Endpoint::new(&double.url, Some(Key::for_tests(secret)), Duration::from_secs(5)).unwrap());
    let (outcome, session) = write_queries(folder.path(), &model, Limits::default());
    assert!(double.records().iter().all(|record| record.request.authorization.as_deref() == Some("Bearer sk-very-secret-1234567890")));
    assert_eq!((outcome.rows.len(), outcome.rejected.len()), (11, 1));
    assert_eq!(outcome.rows.last().unwrap()["text"], "is [key] the key");
    let output = Folder::open(folder.path(), &serde_json::json!({})).unwrap();
    output.write_outcome("queries.jsonl", &outcome).unwrap();
    output.write_job(&serde_json::json!({ "endpoint": model.endpoint.url(), "sampling": model.sampling })).unwrap();
    let shown = format!("{outcome:?} {session:?} {model:?}");
    assert!(!shown.contains(secret), "{shown}");
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 4, "{files:?}");
    for path in files {
        assert!(!fs::read_to_string(&path).unwrap().contains(secret), "{}", path.display());
    }
}

/// A key with characters that JSON may escape, in an echo that escapes them.
#[test]
fn an_escaped_key_is_hidden_too() {
    let secret = "sk/a+b/0123456789";
    let double = Double::start(|request| match request.earlier {
        0 => Play::EchoesKeyEscaped(500),
        _ if request.text().contains("elk") => Play::EchoesKeyEscaped(400),
        _ if request.text().contains("yak") => Play::Says("is sk/a+b/0123456789 the key"),
        _ => Play::Good,
    });
    let folder = tempfile::tempdir().unwrap();
    let mut model = model(&double);
    model.endpoint = Arc::new(Endpoint::new(&double.url, Some(Key::for_tests(secret)), Duration::from_secs(5)).unwrap());
    let (outcome, _) = write_queries(folder.path(), &model, Limits::default());
    assert_eq!((outcome.rows.len(), outcome.rejected.len()), (11, 1));
    let journal = fs::read_to_string(folder.path().join("journal.jsonl")).unwrap();
    assert!(journal.contains("bad key Bearer [key]"), "{journal}");
    assert!(!format!("{outcome:?} {journal}").contains("0123456789"), "{outcome:?} {journal}");
}
