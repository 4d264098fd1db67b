//! What endpoints do, and what comes of it.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    IMPATIENT, animals, context,
    double::{Double, Play},
    model, queries, session, write_queries,
};
use crate::{
    Endpoint, Key, Limits, LlmError, Sampling, Session, Stop, budget,
    chat::{Message, Role},
    prompts,
};

#[test]
fn a_job_gives_one_row_a_document_and_is_not_asked_for_twice() {
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|_| Play::Good);
    let (outcome, session) = write_queries(folder.path(), &model(&double), Limits::default());
    assert!(outcome.stop.is_none() && outcome.open == 0 && outcome.rejected.is_empty(), "{:?}", outcome.rejected);
    let ids: Vec<_> = outcome.rows.iter().map(|row| row["_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, (0..12).map(|at| format!("written:d{at}:0")).collect::<Vec<_>>());
    assert_eq!(outcome.rows[3]["positive"], serde_json::json!(["d3"]));
    assert!(
        outcome.rows[3]["text"].as_str().unwrap().contains("cow") || outcome.rows[3]["text"].as_str().unwrap().contains("The"),
        "{}",
        outcome.rows[3]
    );
    assert!(double.most_at_once() <= 4, "{} at once", double.most_at_once());
    let told: u64 = double.records().iter().map(|record| record.tokens).sum();
    assert_eq!((session.spent().requests, session.spent().tokens), (12, told));
    drop(session);

    let (again, _) = write_queries(folder.path(), &model(&double), Limits::default());
    assert_eq!(again.rows, outcome.rows);
    assert_eq!(double.requests(), 12, "everything was in the journal");
}

/// Ten jobs each with one, two and four at once; the stand-in counts a request until all but the last byte of its answer went out.
#[test]
fn as_many_are_under_way_as_may_be_and_no_more() {
    let (collection, double) = (animals(), Double::start(|_| Play::Slow(Duration::from_millis(1))));
    let model = model(&double);
    for concurrency in [1, 2, 4] {
        for _ in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            let session = session(folder.path(), Limits::default());
            let outcome = queries(&collection).run(&crate::jobs::Context { concurrency, ..context(&session, &model, &collection) });
            assert_eq!(outcome.rows.len(), 12);
        }
        assert_eq!(double.most_at_once(), concurrency);
    }
}

/// Every passing trouble ends with the same rows, after exactly one more request for each document.
#[test]
fn passing_troubles_pass() {
    let good = Double::start(|_| Play::Good);
    let place = tempfile::tempdir().unwrap();
    let (expected, _) = write_queries(place.path(), &model(&good), Limits::default());
    for trouble in [
        Play::Status(500, None, r#"{"error":{"message":"overloaded"}}"#),
        Play::Status(429, None, r#"{"error":{"message":"slow down"}}"#),
        Play::Status(503, Some("0"), ""),
        Play::Truncated,
        Play::Reset,
        Play::Slow(Duration::from_millis(900)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let first = trouble.clone();
        let double = Double::start(move |request| if request.earlier == 0 { first.clone() } else { Play::Good });
        let (outcome, session) = write_queries(folder.path(), &model(&double), Limits::default());
        assert_eq!(outcome.rows, expected.rows, "{trouble:?}");
        assert!(outcome.stop.is_none() && outcome.rejected.is_empty(), "{trouble:?}");
        assert_eq!((double.requests(), session.spent().requests), (24, 24), "{trouble:?}");
    }
}

#[test]
fn retry_after_is_honoured_by_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let moments = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&moments);
    let double = Double::start(move |_| {
        let mut seen = seen.lock().unwrap();
        seen.push(begun.elapsed());
        if seen.len() == 1 { Play::Status(429, Some("1"), "") } else { Play::Good }
    });
    let (outcome, _) = write_queries(folder.path(), &model(&double), Limits::default());
    assert_eq!(outcome.rows.len(), 12);
    let moments = moments.lock().unwrap();
    // Up to four were under way when the first was sent away; nobody asks in the second after that.
    let early = moments.iter().filter(|moment| **moment < moments[0] + Duration::from_secs(1)).count();
    assert!(early <= 4 + 3, "{early} requests before the second was over: {moments:?}");
    assert!(moments.len() == 13);
}

#[test]
fn an_answer_of_the_wrong_form_is_repaired_once_and_kept_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|request| if request.text().contains("cannot be used") { Play::Good } else { Play::Says("one\ntwo") });
    let (outcome, _) = write_queries(folder.path(), &model(&double), Limits::default());
    assert_eq!((outcome.rows.len(), double.requests()), (12, 24));
    // The first answers are kept too, and the rows say that they are not the first.
    let own = prompts::repair(None).unwrap();
    assert!(outcome.rejected.len() == 12 && outcome.rejected.iter().all(|it| it.repaired == Some(true) && it.reason.contains("2 lines")));
    assert!(outcome.rows.iter().all(|row| row["repair_prompt"] == own.version.as_str()));
    let repair = &double.records().into_iter().find(|record| record.request.text().contains("cannot be used")).unwrap().request.body;
    assert!(repair["messages"][3]["content"].as_str().unwrap().contains("2 lines"), "{repair}");
    assert_eq!(repair["messages"][2]["content"], "one\ntwo");

    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|_| Play::Says("one\ntwo"));
    let (outcome, _) = write_queries(folder.path(), &model(&double), Limits::default());
    assert_eq!((outcome.rows.len(), outcome.rejected.len(), double.requests()), (0, 24, 24));
    assert!(outcome.rejected.iter().all(|it| it.reason.contains("2 lines") && it.answer == "one\ntwo"));
    assert_eq!((outcome.rejected[0].repaired, outcome.rejected[1].repaired), (Some(false), None));
    assert!(outcome.open == 0, "rejected is answered");

    // A repair prompt of the user's takes the place of ours.
    let (folder, collection) = (tempfile::tempdir().unwrap(), animals());
    let path = folder.path().join("again.txt");
    fs::write(&path, "Once more, please: {{problem}}").unwrap();
    let double =
        Double::start(
            |request| if request.text().contains("Once more, please: it has 2 lines") { Play::Good } else { Play::Says("one\ntwo") },
        );
    let (model, session) = (model(&double), session(folder.path(), Limits::default()).with_repair(prompts::repair(Some(&path)).unwrap()));
    let outcome = queries(&collection).run(&context(&session, &model, &collection));
    assert_eq!(outcome.rows.len(), 12);
    assert!(outcome.rows[0]["repair_prompt"].as_str().unwrap().starts_with("again@"), "{}", outcome.rows[0]);
    fs::write(&path, "Once more, please").unwrap();
    assert!(prompts::repair(Some(&path)).unwrap_err().to_string().contains("{{problem}} is missing"));
}

#[test]
fn what_is_copied_short_or_said_before_is_rejected() {
    let play = |request: &super::double::Request| {
        let text = request.text();
        match () {
            () if text.contains("fox") => Play::Says("The fox eats what it finds in field number 0, sleeps by day"),
            () if text.contains("hen") => Play::Says("hens"),
            () if text.contains("owl") => Play::Says("WHEN do bees sleep?"),
            () if text.contains("pig") => Play::Says("You write search queries for a search engine over a collection of documents."),
            () if text.contains("cow") || text.contains("cat") => Play::Says("who eats all day long"),
            () => Play::Good,
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let (outcome, _) = write_queries(folder.path(), &model(&Double::start(play)), Limits::default());
    assert_eq!(outcome.rows.len(), 7);
    let reasons: HashMap<_, _> =
        outcome.rejected.iter().map(|it| (it.sources["document"].as_str().unwrap(), it.reason.split(':').next().unwrap())).collect();
    assert_eq!(reasons, HashMap::from([("d0", "copied"), ("d1", "too short"), ("d2", "duplicate"), ("d4", "duplicate"), ("d9", "copied")]));
}

#[test]
fn a_wrong_key_or_url_ends_the_job_at_once_and_says_so() {
    for (status, part) in [(401, "no key was found"), (402, "payment"), (404, "check the base URL"), (301, "redirects")] {
        let folder = tempfile::tempdir().unwrap();
        let double = Double::start(move |_| Play::Status(status, None, "{\"error\":\"no\"}"));
        let (outcome, _) = write_queries(folder.path(), &model(&double), Limits::default());
        let Some(Stop::Endpoint(why)) = outcome.stop else { panic!("{status} does not end it") };
        assert!(why.contains(part) && why.contains(&status.to_string()), "{why}");
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
        let outcome = queries(&collection).run(&crate::jobs::Context { concurrency: 1, ..context(&session, &model, &collection) });
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
    let refused = Play::Status(400, None, "unknown field `seed`");
    let play = refused.clone();
    let double =
        Double::start(move |request| if request.text().contains("The fox") { Play::Slow(Duration::from_millis(1)) } else { play.clone() });
    let model = model(&double);
    let run = |folder: &std::path::Path, job: crate::jobs::queries::Queries| {
        let (before, session) = (double.requests(), session(folder, Limits::default()));
        let outcome = job.run(&context(&session, &model, &collection));
        (outcome, double.requests() - before)
    };
    // One answer, wherever it comes, says that it is the requests.
    let folder = tempfile::tempdir().unwrap();
    let (outcome, requests) = run(folder.path(), queries(&collection));
    assert!(outcome.stop.is_none() && (outcome.rows.len(), outcome.open, requests) == (1, 59, 60), "{:?}", outcome.stop);
    let (outcome, requests) = run(folder.path(), queries(&collection));
    assert!(outcome.stop.is_none() && requests == 59, "also at the next run");

    let mut job = queries(&collection);
    job.documents.remove(0);
    let folder = tempfile::tempdir().unwrap();
    let (outcome, requests) = run(folder.path(), job);
    let Some(Stop::Endpoint(why)) = outcome.stop else { panic!("it went on") };
    assert!(why.contains("stand-in has refused 20 requests") && why.contains("unknown field `seed`") && why.lines().count() == 1, "{why}");
    // Those under way are waited for.
    assert!((20..=23).contains(&requests), "{requests}");
    assert_eq!(outcome.open, 59);
}

/// Tokens that the endpoint counts in its total alone are paid too. The first answer shows them, and what is set aside from then on has room.
#[test]
fn the_total_is_what_is_charged_and_its_excess_is_learned() {
    let double = Double::start(|_| Play::CountsMore(3000));
    let model = model(&double);
    let told = |before: usize| double.records()[before..].iter().map(|record| record.tokens).sum::<u64>();
    let folder = tempfile::tempdir().unwrap();
    let (outcome, session) = write_queries(folder.path(), &model, Limits::default());
    assert_eq!((outcome.rows.len(), session.spent().tokens), (12, told(0)));

    // A request is taken for 1,300 tokens and costs 3,200, so the second sets aside 5,100: four at once would pass the limit by far.
    let (folder, before) = (tempfile::tempdir().unwrap(), double.requests());
    for (limit, requests) in [(2_000, 1), (7_000, 1), (9_000, 2)] {
        let (outcome, session) = write_queries(folder.path(), &model, Limits { requests: None, tokens: Some(limit) });
        assert!(matches!(outcome.stop, Some(Stop::Budget)));
        assert_eq!((double.requests() - before, session.spent().tokens), (requests, told(before)), "{limit}");
        assert!(told(before) <= limit.max(told(before) / requests as u64), "by one request at most: {} of {limit}", told(before));
    }
}

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

#[test]
fn an_endpoint_that_is_down_ends_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|_| Play::Status(500, None, "no model loaded"));
    let (outcome, _) = write_queries(folder.path(), &model(&double), Limits::default());
    let Some(Stop::Endpoint(why)) = outcome.stop else { panic!("it went on") };
    assert!(why.contains("10 requests in a row") && why.contains("no model loaded"), "{why}");

    let mut gone = model(&double);
    gone.endpoint = Arc::new(Endpoint::new("http://127.0.0.1:9/v1", None, Duration::from_millis(300)).unwrap());
    let (outcome, session) = write_queries(folder.path(), &gone, Limits::default());
    assert!(matches!(outcome.stop, Some(Stop::Endpoint(why)) if why.contains("in a row")));
    assert!(session.spent().requests > 40);
}

/// Whatever the endpoint does, what it counted never passes the limit, and a greater limit goes on where the smaller one ended.
#[test]
fn the_budget_is_never_passed() {
    let one = budget::at_most(&[Message::new(Role::User, ""), Message::new(Role::User, "")], Sampling::default().max_answer_tokens);
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|request| match request.earlier {
        0 if request.hash.ends_with('1') => Play::Truncated,
        0 if request.hash.ends_with('2') => Play::Reset,
        _ => Play::Good,
    });
    let mut before = 0;
    for limit in [one / 2, 3 * one, 5 * one, 100 * one] {
        let (outcome, session) = write_queries(folder.path(), &model(&double), Limits { requests: None, tokens: Some(limit) });
        let counted: u64 = double.records().iter().map(|record| record.tokens).sum();
        assert!(counted <= session.spent().tokens && session.spent().tokens <= limit.max(before), "{counted} of {limit}");
        assert_eq!(matches!(outcome.stop, Some(Stop::Budget)), limit < 100 * one, "{limit}");
        assert_eq!(outcome.rows.len() + outcome.open, 12);
        before = session.spent().tokens;
    }
    assert!(double.records().iter().filter(|record| record.sent && record.tokens > 0 && record.played == Play::Good).count() == 12);

    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|_| Play::Good);
    // The second time nothing may be asked, and what was answered is there.
    for _ in 0..2 {
        let (outcome, _) = write_queries(folder.path(), &model(&double), Limits { requests: Some(5), tokens: None });
        assert_eq!((double.requests(), outcome.rows.len(), outcome.open), (5, 5, 7));
        assert!(matches!(outcome.stop, Some(Stop::Budget)));
    }
}

/// The body's own longest answer is set aside, whatever the usual one is.
#[test]
fn the_budget_holds_where_the_body_allows_longer_answers() {
    for body in [serde_json::json!({ "max_tokens": 2000 }), serde_json::json!({ "max_tokens": null, "max_completion_tokens": 2000 })] {
        let double = Double::start(|_| Play::Full);
        let mut model = model(&double);
        model.sampling.body = body.as_object().unwrap().clone();
        for limit in [2000, 6000, 9000] {
            let folder = tempfile::tempdir().unwrap();
            let before = double.requests();
            let (outcome, _) = write_queries(folder.path(), &model, Limits { requests: None, tokens: Some(limit) });
            let counted: u64 = double.records()[before..].iter().map(|record| record.tokens).sum();
            assert!(counted <= limit, "{body}: {counted} of {limit}");
            assert!(matches!(outcome.stop, Some(Stop::Budget)));
            assert_eq!(limit > 2000, counted > 0);
        }
    }
}

/// A request that waits for the budget while the job is stopped is not made.
#[test]
fn what_waits_for_the_budget_hears_that_the_job_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let double = Double::start(move |_| {
        flag.store(true, Ordering::SeqCst);
        Play::Slow(Duration::from_millis(200))
    });
    let (collection, model) = (animals(), model(&double));
    let one = 128 + 32 + 600 + 512;
    // Enough for one at a time.
    let limits = Limits { requests: None, tokens: Some(one + one / 2) };
    let session = Session::open(folder.path(), limits, IMPATIENT, interrupted).unwrap();
    let outcome = queries(&collection).run(&context(&session, &model, &collection));
    assert!(matches!(outcome.stop, Some(Stop::Interrupted)), "{:?}", outcome.stop);
    assert_eq!((double.requests(), outcome.rows.len(), session.spent().requests), (1, 1, 1));
}

#[test]
fn without_a_count_all_that_was_set_aside_is_spent() {
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|_| Play::Uncounted);
    let (outcome, session) = write_queries(folder.path(), &model(&double), Limits::default());
    assert_eq!(outcome.rows.len(), 12);
    let bytes: u64 = double.records().iter().map(|record| record.request.text().len() as u64).sum();
    assert!(session.spent().tokens > bytes + 12 * 512, "{} for {bytes} bytes", session.spent().tokens);
}

#[test]
fn a_cut_answer_is_asked_for_again_at_a_greater_length_alone() {
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start(|request| {
        let short = request.body["max_tokens"].as_u64() < Some(100);
        if short && request.text().contains("elk") { Play::Cut } else { Play::Good }
    });
    let mut short = model(&double);
    short.sampling.max_answer_tokens = 50;
    // What was cut off looks like a whole query, and is none.
    let (outcome, _) = write_queries(folder.path(), &short, Limits::default());
    assert_eq!((outcome.rows.len(), outcome.open, double.requests()), (11, 0, 12));
    assert!(outcome.rejected[0].reason.starts_with("cut off"), "{:?}", outcome.rejected);
    write_queries(folder.path(), &short, Limits::default());
    assert_eq!(double.requests(), 12);
    let mut long = short;
    long.sampling.max_answer_tokens = 100;
    let (outcome, _) = write_queries(folder.path(), &long, Limits::default());
    assert_eq!((outcome.rows.len(), double.requests()), (12, 13), "only the cut one");
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
    let shown = format!("{outcome:?} {session:?} {model:?}");
    assert!(!shown.contains(secret), "{shown}");
    for file in fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
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

#[test]
fn an_interrupted_job_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let count = std::sync::atomic::AtomicUsize::new(0);
    let double = Double::start(move |_| {
        if count.fetch_add(1, Ordering::SeqCst) == 5 {
            flag.store(true, Ordering::SeqCst);
        }
        Play::Good
    });
    let collection = animals();
    let model = model(&double);
    let stopping = Session::open(folder.path(), Limits::default(), IMPATIENT, interrupted).unwrap();
    let outcome = queries(&collection).run(&context(&stopping, &model, &collection));
    assert!(matches!(outcome.stop, Some(Stop::Interrupted)));
    assert_eq!(outcome.rows.len(), double.requests(), "what was under way was waited for");
    assert!(outcome.open > 0);
    drop(stopping);
    let (rest, _) = write_queries(folder.path(), &model, Limits::default());
    assert_eq!((rest.rows.len(), double.requests()), (12, 12));
}

#[test]
fn two_processes_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let _first = session(folder.path(), Limits::default());
    let second = Session::open(folder.path(), Limits::default(), IMPATIENT, Arc::default());
    assert!(matches!(second, Err(LlmError::Locked { .. })));
}
