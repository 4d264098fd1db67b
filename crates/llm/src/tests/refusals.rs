//! Endpoints that refuse: what ends a job, and what does not.

use std::{sync::Arc, time::Duration};

use super::{
    animals, context,
    double::{Double, Play},
    model, queries, session, write_queries,
};
use crate::{Endpoint, Limits, Outcome, Stop, jobs};

#[test]
fn a_wrong_key_or_url_ends_the_job_at_once_and_says_so() {
    for (status, part) in [(401, "no key was found"), (402, "payment"), (404, "check the base URL"), (301, "redirects")] {
        let folder = tempfile::tempdir().unwrap();
        let double = Double::start(move |_| Play::Status(status, None, "{\"error\":\"no\"}"));
        let (outcome, _) = write_queries(folder.path(), &model(&double), Limits::default());
        let Some(Stop::Endpoint(why)) = outcome.stop else { panic!("{status} does not end it") };
        assert!(why.starts_with(&format!("model stand-in at {}/chat/completions: status {status}: no; ", double.url)), "{why}");
        assert!(why.contains(part) && why.lines().count() == 1, "{why}");
        assert!(double.requests() <= 4, "{} requests", double.requests());
        assert_eq!(outcome.open, 12);
    }
}

#[test]
fn a_refused_request_leaves_the_others_and_is_asked_again_another_time() {
    let folder = tempfile::tempdir().unwrap();
    let refusing = Double::start(|request| if request.text().contains("owl") { Play::Status(400, None, "too long") } else { Play::Good });
    let (outcome, _) = write_queries(folder.path(), &model(&refusing), Limits::default());
    assert_eq!((outcome.rows.len(), outcome.open, refusing.requests()), (11, 1, 12));
    assert!(outcome.rejected[0].reason.contains("too long") && outcome.rejected[0].sources["document"] == "d2");
    let double = Double::start(|_| Play::Good);
    let (outcome, _) = write_queries(folder.path(), &model(&double), Limits::default());
    assert_eq!((outcome.rows.len(), outcome.open, double.requests()), (12, 0, 1));
}

/// Hosted models send 403 for a request that their moderation refuses, too: one such, even the first, forbids not the others.
#[test]
fn a_forbidden_request_leaves_the_others_and_three_without_an_answer_end_the_job() {
    let collection = animals();
    for animal in ["fox", "owl"] {
        let folder = tempfile::tempdir().unwrap();
        let double =
            Double::start(move |request| if request.text().contains(animal) { Play::Status(403, None, "flagged") } else { Play::Good });
        let (session, model) = (session(folder.path(), Limits::default()), model(&double));
        let outcome = queries(&collection).run(&jobs::Context { concurrency: 1, ..context(&session, &model, &collection) });
        assert!(outcome.stop.is_none() && (outcome.rows.len(), outcome.open, double.requests()) == (11, 1, 12), "{:?}", outcome.stop);
        assert!(outcome.rejected[0].reason.contains("status 403: flagged"), "{}", outcome.rejected[0].reason);
    }
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|_| Play::Status(403, None, "no"));
    let (session, model) = (session(folder.path(), Limits::default()), model(&double));
    let outcome = queries(&collection).run(&jobs::Context { concurrency: 1, ..context(&session, &model, &collection) });
    let Some(Stop::Endpoint(why)) = outcome.stop else { panic!("it goes on") };
    assert!(why.contains("refused 3 requests and answered none") && why.contains("no key was found"), "{why}");
    assert_eq!((double.requests(), outcome.open), (3, 12));
}

/// An endpoint that refuses the first twelve works: what comes after them is asked, at every resume.
#[test]
fn refusals_one_after_the_other_do_not_end_a_job() {
    let mut collection = animals();
    for at in 12..16 {
        collection
            .documents
            .push(&format!("d{at}"), &format!("The bird number {at} sings in the morning, and sleeps in the top of a tree."))
            .unwrap();
    }
    let double =
        Double::start(|request| if request.text().contains("The bird") { Play::Good } else { Play::Status(413, None, "too long") });
    let (folder, model) = (tempfile::tempdir().unwrap(), model(&double));
    for requests in [16, 28] {
        let session = session(folder.path(), Limits::default());
        let outcome = queries(&collection).run(&jobs::Context { concurrency: 1, ..context(&session, &model, &collection) });
        assert!(outcome.stop.is_none(), "{:?}", outcome.stop);
        assert_eq!((outcome.rows.len(), outcome.open, double.requests()), (4, 12, requests));
    }
}

/// A field that the endpoint does not know, for instance: it refuses every request, and nobody needs a thousand to see that.
#[test]
fn a_model_that_only_refuses_ends_the_job() {
    let mut collection = animals();
    for at in 12..60 {
        collection.documents.push(&format!("d{at}"), &format!("The bird number {at} sings in the morning, and sleeps in a tree.")).unwrap();
    }
    let play = Play::Status(400, None, "unknown field `seed`");
    let double =
        Double::start(move |request| if request.text().contains("The fox") { Play::Slow(Duration::from_millis(1)) } else { play.clone() });
    let model = model(&double);
    let run = |folder: &std::path::Path, job: jobs::queries::Queries, concurrency: usize| {
        let (before, session) = (double.requests(), session(folder, Limits::default()));
        let outcome = job.run(&jobs::Context { concurrency, ..context(&session, &model, &collection) });
        (outcome, double.requests() - before)
    };
    // One answer says that it is the requests. One after the other: on a busy machine twenty may be refused while the first is being answered.
    let folder = tempfile::tempdir().unwrap();
    let (outcome, requests) = run(folder.path(), queries(&collection), 1);
    assert!(outcome.stop.is_none() && (outcome.rows.len(), outcome.open, requests) == (1, 59, 60), "{:?}", outcome.stop);
    let (outcome, requests) = run(folder.path(), queries(&collection), 1);
    assert!(outcome.stop.is_none() && requests == 59, "also at the next run");

    let mut job = queries(&collection);
    job.documents.remove(0);
    let folder = tempfile::tempdir().unwrap();
    let (outcome, requests) = run(folder.path(), job, 4);
    let Some(Stop::Endpoint(why)) = outcome.stop else { panic!("it went on") };
    assert!(why.starts_with(&format!("model stand-in at {}/chat/completions: it has refused 20 requests", double.url)), "{why}");
    assert!(why.contains("status 400: unknown field `seed`; check the model's name") && why.lines().count() == 1, "{why}");
    // Those under way are waited for.
    assert!((20..=23).contains(&requests), "{requests}");
    assert_eq!(outcome.open, 59);
}

#[test]
fn an_endpoint_that_is_down_ends_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|_| Play::Status(500, None, "no model loaded"));
    let (outcome, _) = write_queries(folder.path(), &model(&double), Limits::default());
    let Some(Stop::Endpoint(why)) = outcome.stop else { panic!("it went on") };
    assert!(why.contains("10 requests in a row") && why.contains("no model loaded") && why.contains(&double.url), "{why}");

    let mut gone = model(&double);
    gone.endpoint = Arc::new(Endpoint::new("http://127.0.0.1:9/v1", None, Duration::from_millis(300)).unwrap());
    let (outcome, session) = write_queries(folder.path(), &gone, Limits::default());
    assert!(matches!(outcome.stop, Some(Stop::Endpoint(why)) if why.contains("in a row")));
    assert!(session.spent().requests > 40);
}

/// Runs a job whose first document gets `first` as long as `times` says, and tells rows, open units, requests, tokens and what stands in the journal.
fn with_first(first: &'static str, times: usize) -> (Outcome, usize, u64, String) {
    let double = Double::start(move |request| {
        let odd = request.text().contains("The fox") && request.earlier < times;
        if odd { Play::Status(200, None, first) } else { Play::Uncounted }
    });
    let folder = tempfile::tempdir().unwrap();
    let (outcome, session) = write_queries(folder.path(), &model(&double), Limits::default());
    let journal = std::fs::read_to_string(folder.path().join("journal.jsonl")).unwrap();
    let failed = journal.lines().filter(|line| line.contains("\"event\":\"failed\"")).collect::<Vec<_>>().join("\n");
    (outcome, double.requests(), session.spent().tokens, failed)
}

/// What endpoints send with status 200 in the place of an answer is kept as none, and said.
#[test]
fn a_failure_that_looks_like_an_answer_is_none() {
    // Passing: the next time it is answered.
    for (body, part) in [
        (r#"{"error":{"code":429,"message":"too many"}}"#, "status 200 with the error 429: too many"),
        (r#"{"error":{"code":503,"message":"busy"},"choices":null}"#, "the error 503: busy"),
        (r#"{"choices":[{"error":{"code":502,"message":"upstream"}}]}"#, "upstream"),
        (r#"{"choices":[{"message":{"content":"what about"},"finish_reason":"error"}]}"#, "finish_reason error"),
    ] {
        let (outcome, requests, _, failed) = with_first(body, 1);
        assert_eq!((outcome.rows.len(), outcome.open, requests), (12, 0, 13), "{body}");
        assert!(failed.contains(part), "{body}: {failed}");
    }
    // Refused: once where it is said, after two tries where it is not. It stays open, and nothing in the journal answers it.
    for (body, part, requests) in [
        (r#"{"choices":[{"message":{"content":""},"finish_reason":"content_filter"}]}"#, "finish_reason content_filter", 12),
        (r#"{"choices":[{"message":{"content":null},"finish_reason":"stop"}]}"#, "an empty answer (finish_reason stop)", 13),
        (r#"{"choices":[{"message":{"tool_calls":[{"id":"1"}]},"finish_reason":"tool_calls"}]}"#, "a call of a tool", 13),
        ("<html>Please log in</html>", "not that of /chat/completions", 13),
        (r#"{"error":{"code":400,"message":"too long"}}"#, "the error 400: too long", 12),
    ] {
        let (outcome, made, _, failed) = with_first(body, 9);
        assert!(outcome.stop.is_none() && (outcome.rows.len(), outcome.open, made) == (11, 1, requests), "{body}: {:?}", outcome.rejected);
        assert!(outcome.rejected[0].reason.contains(part) && failed.contains(part), "{body}: {failed}");
    }
    let Some(Stop::Endpoint(why)) = with_first_for_all(r#"{"error":{"code":401,"message":"bad key"}}"#).stop else { panic!("it went on") };
    assert!(why.contains("the error 401: bad key") && why.contains("no key was found"), "{why}");
}

fn with_first_for_all(body: &'static str) -> Outcome {
    let double = Double::start(move |_| Play::Status(200, None, body));
    let folder = tempfile::tempdir().unwrap();
    write_queries(folder.path(), &model(&double), Limits::default()).0
}

/// What is known to have cost nothing is not charged; what was counted is; nonsense is not believed.
#[test]
fn an_odd_answer_is_charged_what_it_can_have_cost() {
    let (_, _, plain, _) = with_first("", 0);
    let charged = |body| {
        let (outcome, _, tokens, failed) = with_first(body, 1);
        assert!(outcome.rows.len() >= 11, "{body}: {:?}", outcome.rejected);
        (tokens as i64 - plain as i64, failed)
    };
    assert_eq!(charged(r#"{"error":{"code":500,"message":"no"}}"#).0, 0);
    assert_eq!(charged(r#"{"choices":[{"message":{"content":null}}],"usage":{"total_tokens":77}}"#).0, 77);
    let all = charged(r#"{"choices":[{"message":{"content":null}}]}"#).0;
    assert!(all > 600, "{all}: all that was set aside");
    assert_eq!(charged(r#"{"choices":[{"message":{"content":null}}],"usage":{"total_tokens":99999999}}"#).0, all);
    // An answer whose count cannot be: charged as if it had none, which all the others have not.
    assert_eq!(charged(r#"{"choices":[{"message":{"content":"what is a fox"}}],"usage":{"total_tokens":9007199254740992}}"#).0, 0);
}

/// Any status of success with an answer, and counts and log-probabilities that are none.
#[test]
fn an_answer_with_odd_side_fields_is_an_answer() {
    let body = r#"{"choices":[{"message":{"content":[{"type":"text","text":"what is "},{"type":"text","text":"a fox"}]},
        "logprobs":[null]}],"usage":{"prompt_tokens":-1,"completion_tokens":"x"}}"#;
    let double = Double::start(move |request| match request.text() {
        text if text.contains("The fox") => Play::Status(200, None, body),
        text if text.contains("The hen") => Play::Status(201, None, r#"{"choices":[{"message":{"content":"what is a hen"}}]}"#),
        text if text.contains("The owl") => {
            Play::Status(200, None, "\u{feff}{\"choices\":[{\"message\":{\"content\":\"what is an owl\"}}]}")
        }
        _ => Play::Good,
    });
    let folder = tempfile::tempdir().unwrap();
    let (outcome, _) = write_queries(folder.path(), &model(&double), Limits::default());
    let texts: Vec<_> = outcome.rows[..3].iter().map(|row| row["text"].as_str().unwrap()).collect();
    assert_eq!((texts, double.requests()), (vec!["what is a fox", "what is a hen", "what is an owl"], 12), "{:?}", outcome.rejected);
}
