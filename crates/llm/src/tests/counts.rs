//! What endpoints count in prompts: where that cannot be all of one, and where it may.

use std::sync::Mutex;

use super::{
    animals, context,
    double::{Double, Play, Request},
    model, queries, session,
};
use crate::{Limits, Progress, jobs::Context};

/// Hears what is said while a job is at work.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Progress for Heard {
    fn begin(&self, _: &str, _: usize) {}
    fn done(&self) {}
    fn warn(&self, warning: &str) {
        self.0.lock().unwrap().push(warning.to_owned());
    }
}

/// An answer to a prompt that was counted with three tokens.
const THREE: &str = r#"{"choices":[{"message":{"content":"what is a fox"}}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;

/// What is said in a job of twelve questions, of about a hundred words each, asked one after the other; and the requests that it took.
fn heard(play: impl Fn(&Request) -> Play + Send + Sync + 'static) -> (Vec<String>, usize) {
    let (folder, double, collection, heard) = (tempfile::tempdir().unwrap(), Double::start(play), animals(), Heard::default());
    let (session, model) = (session(folder.path(), Limits::default()), model(&double));
    let outcome = queries(&collection).run(&Context { concurrency: 1, progress: &heard, ..context(&session, &model, &collection) });
    assert!(outcome.stop.is_none() && outcome.open == 0, "{:?}", outcome.stop);
    let heard = heard.0.into_inner().unwrap();
    assert_eq!(session.warning(), heard.first().map(String::as_str), "for job.json");
    (heard, double.requests())
}

#[test]
fn a_server_that_cuts_prompts_is_told_of_once() {
    let (heard, requests) = heard(|_| Play::Status(200, None, THREE));
    assert_eq!((heard.len(), requests), (1, 12), "{heard:?}");
    let said = &heard[0];
    assert!(said.starts_with("model stand-in at http://127.0.0.1:") && said.lines().count() == 1, "{said}");
    assert!(said.contains("counted 3 tokens in a prompt of ") && said.contains("OLLAMA_CONTEXT_LENGTH"), "{said}");
    // The prompt with its instructions; the document alone has about a hundred.
    let characters = said.split("a prompt of ").nth(1).and_then(|it| it.split(' ').next()).and_then(|it| it.parse::<usize>().ok());
    assert!(characters.is_some_and(|it| (300..1000).contains(&it)), "{said}");
}

#[test]
fn what_may_be_all_of_a_prompt_is_no_sign() {
    let none = |what: &str, play: Play| {
        let (heard, _) = heard(move |_| play.clone());
        assert!(heard.is_empty(), "{what}: {heard:?}");
    };
    none("a full count", Play::Good);
    none("no count", Play::Uncounted);
    for (what, usage) in [
        ("no prompt's count", r#"{"total_tokens":9}"#),
        ("zero", r#"{"prompt_tokens":0,"completion_tokens":4,"total_tokens":4}"#),
        ("what was cached beside it", r#"{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":180}}"#),
        ("the same under another name", r#"{"prompt_tokens":3,"completion_tokens":4,"cache_read_input_tokens":180}"#),
    ] {
        let body = format!(r#"{{"choices":[{{"message":{{"content":"what is a fox"}}}}],"usage":{usage}}}"#);
        none(what, Play::Status(200, None, Box::leak(body.into_boxed_str())));
    }
}

/// Of the first prompt nothing was cached: it shows that the server counts in full, and leaves out what it knows.
#[test]
fn a_server_that_leaves_out_what_it_has_cached_is_no_sign() {
    let (heard, _) = heard(|request| if request.text().contains("The fox eats") { Play::Good } else { Play::Status(200, None, THREE) });
    assert!(heard.is_empty(), "{heard:?}");
    // Four that a stopped job had asked before, and then others: one for each slot of a server.
    let first = |text: &str| ["The fox eats", "The hen eats", "The owl eats", "The cow eats"].iter().any(|it| text.contains(it));
    let (heard, _) = self::heard(move |request| if first(&request.text()) { Play::Status(200, None, THREE) } else { Play::Good });
    assert!(heard.is_empty(), "{heard:?}");
}

/// An answer that comes after a failure, or after one that was sent back: the server has seen that prompt before.
#[test]
fn a_prompt_that_was_sent_before_is_not_looked_at() {
    let (heard, requests) = heard(|request| match request.earlier {
        0 => Play::Status(500, None, "busy"),
        _ => Play::Status(200, None, THREE),
    });
    assert_eq!((heard, requests), (Vec::new(), 24));
    let (heard, requests) = self::heard(|request| match request.text().contains("cannot be used") {
        true => Play::Status(200, None, THREE),
        false => Play::Status(200, None, r#"{"choices":[{"message":{"content":"one\ntwo"}}]}"#),
    });
    assert_eq!((heard, requests), (Vec::new(), 24));
}
