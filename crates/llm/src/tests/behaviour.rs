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
    IMPATIENT, PATIENT, animals, context,
    double::{Double, Play},
    model, model_with_timeout, queries, session, write_queries,
};
use crate::{Limits, Session, Stop, jobs::queries::Queries, prompts};

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
        Play::Slow(Duration::from_secs(3)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let first = trouble.clone();
        let double = Double::start(move |request| if request.earlier == 0 { first.clone() } else { Play::Good });
        let model = model_with_timeout(&double, if matches!(trouble, Play::Slow(_)) { Duration::from_secs(1) } else { PATIENT });
        let (outcome, session) = write_queries(folder.path(), &model, Limits::default());
        assert_eq!(outcome.rows, expected.rows, "{trouble:?}");
        assert!(outcome.stop.is_none() && outcome.rejected.is_empty(), "{trouble:?}");
        assert_eq!((double.requests(), session.spent().requests), (24, 24), "{trouble:?}");
        let journal = fs::read_to_string(folder.path().join("journal.jsonl")).unwrap();
        assert_eq!(journal.contains("raise --timeout or lower --concurrency"), matches!(trouble, Play::Slow(_)), "{trouble:?}");
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
        // The others take a while, so that none of them is answered, and asks again, before the client has read this.
        match seen.len() {
            1 => Play::Status(429, Some("1"), ""),
            2..=4 => Play::Slow(Duration::from_millis(500)),
            _ => Play::Good,
        }
    });
    let (outcome, _) = write_queries(folder.path(), &model(&double), Limits::default());
    assert_eq!(outcome.rows.len(), 12);
    let moments = moments.lock().unwrap();
    // Up to four were under way when the first was sent away; nobody asks in the second after that.
    let early = moments.iter().filter(|moment| **moment < moments[0] + Duration::from_secs(1)).count();
    assert!(early <= 4, "{early} requests before the second was over: {moments:?}");
    assert!(moments.len() == 13);
}

/// An endpoint that takes four requests in a tenth of a second and sends the others away, all the time: sixteen at once come down to what it takes,
/// every row comes out, and no request is given up for having been sent away.
#[test]
fn a_limit_that_lasts_slows_a_job_down_and_loses_nothing() {
    let taken = std::sync::Mutex::new((Instant::now(), 0));
    let double = Double::start(move |_| {
        let mut taken = taken.lock().unwrap();
        if taken.0.elapsed() > Duration::from_millis(100) {
            *taken = (Instant::now(), 0);
        }
        taken.1 += 1;
        if taken.1 > 4 { Play::Status(429, Some("0.1"), r#"{"error":{"message":"slow down"}}"#) } else { Play::Good }
    });
    let (folder, collection, model) = (tempfile::tempdir().unwrap(), animals(), model(&double));
    let session = session(folder.path(), Limits::default());
    let job = Queries { per_document: 5, ..queries(&collection) };
    let outcome = job.run(&crate::jobs::Context { concurrency: 16, ..context(&session, &model, &collection) });
    assert!(outcome.stop.is_none() && (outcome.rows.len(), outcome.open) == (60, 0), "{:?} {:?}", outcome.stop, outcome.rejected);
    // Each costs a request: the first sixteen, and then about one for each time that it tries whether more are taken.
    assert!(double.requests() < 150, "{} requests for 60 rows", double.requests());
    assert_eq!(session.spent().requests as usize, double.requests());
}

/// What is said to one request again and again, while others are answered, is no limit: the others do not wait for it, and it stays open.
#[test]
fn a_request_that_is_always_sent_away_stops_nobody_else() {
    let double = Double::start(|request| match request.text().contains("The owl eats") {
        true => Play::Status(429, None, r#"{"error":{"message":"request too large"}}"#),
        false => Play::Good,
    });
    let (folder, collection, model) = (tempfile::tempdir().unwrap(), animals(), model(&double));
    let session = session(folder.path(), Limits::default());
    let job = Queries { per_document: 5, ..queries(&collection) };
    let outcome = job.run(&crate::jobs::Context { concurrency: 4, ..context(&session, &model, &collection) });
    assert!(outcome.stop.is_none(), "{:?}", outcome.stop);
    assert_eq!((outcome.rows.len(), outcome.open), (55, 5));
    assert!(outcome.rejected.iter().all(|it| it.reason.contains("request too large")), "{:?}", outcome.rejected);
    // Four of them are under way at once, so that for a while nobody is answered.
    assert!(double.requests() < 2 * 60, "{} requests", double.requests());
}

/// The same where answers take long and refusals do not, with few at once: it comes back before anybody could be answered, and must let them go first.
#[test]
fn a_request_that_is_sent_away_at_once_lets_slow_ones_go_first() {
    for concurrency in [2, 3, 4] {
        let double = Double::start(|request| match request.text().contains("The owl eats") {
            true => Play::Status(429, None, r#"{"error":{"message":"request too large"}}"#),
            false => Play::Slow(Duration::from_millis(40)),
        });
        let (folder, collection, model) = (tempfile::tempdir().unwrap(), animals(), model(&double));
        let session = session(folder.path(), Limits::default());
        let outcome = queries(&collection).run(&crate::jobs::Context { concurrency, ..context(&session, &model, &collection) });
        assert!(outcome.stop.is_none() && (outcome.rows.len(), outcome.open) == (11, 1), "{concurrency}: {:?}", outcome.stop);
        assert!(outcome.rejected.iter().all(|it| it.reason.contains("no answer in")), "{concurrency}: {:?}", outcome.rejected);
        // Twice in a row before somebody else is asked; its last four tries are its own, and nobody waits for them.
        let refused: Vec<bool> = double.records().iter().map(|record| matches!(record.played, Play::Status(..))).collect();
        let last = refused.iter().rposition(|refused| !refused).unwrap();
        let longest = refused[..last].split(|refused| !refused).map(<[bool]>::len).max().unwrap();
        assert!(longest <= 4, "{concurrency}: {longest} refusals in a row among {refused:?}");
    }
}

#[test]
fn an_endpoint_that_sends_everybody_away_ends_the_job() {
    for play in [Play::Status(429, None, "quota"), Play::Status(503, Some("0.01"), "quota")] {
        let double = Double::start(move |_| play.clone());
        let folder = tempfile::tempdir().unwrap();
        let (outcome, _) = write_queries(folder.path(), &model(&double), Limits::default());
        let Some(Stop::Endpoint(why)) = outcome.stop else { panic!("it went on") };
        assert!(
            why.contains("sent away everybody") && why.contains("times in a row and answered nobody") && why.contains("quota"),
            "{why}"
        );
        assert!(double.requests() <= 8 * 4, "{} requests", double.requests());
    }
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
    assert_eq!((&outcome.rejected[0].repair_prompt, &outcome.rejected[1].repair_prompt), (&None, &Some(own.version)));
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

/// Thoughts that take all that a model may write, in a field of their own or before the answer, are an answer that was cut off.
#[test]
fn thoughts_are_no_answer() {
    let thinking = r#"{"choices":[{"message":{"content":null,"reasoning_content":"A fox"},"finish_reason":"length"}]}"#;
    let aloud = r#"{"choices":[{"message":{"content":"<think>A fox"},"finish_reason":"length"}]}"#;
    for body in [thinking, aloud] {
        let double = Double::start(move |_| Play::Status(200, None, body));
        let folder = tempfile::tempdir().unwrap();
        let (outcome, _) = write_queries(folder.path(), &model(&double), Limits::default());
        assert_eq!((outcome.rows.len(), outcome.open, double.requests()), (0, 0, 12));
        assert!(outcome.rejected.iter().all(|it| it.reason.starts_with("cut off")), "{:?}", outcome.rejected);
    }
    let double =
        Double::start(
            |request| {
                if request.text().contains("fox") { Play::Says("<think>\nA fox.\n</think>\n\nwhat is a fox") } else { Play::Good }
            },
        );
    let folder = tempfile::tempdir().unwrap();
    let (outcome, _) = write_queries(folder.path(), &model(&double), Limits::default());
    assert_eq!((outcome.rows.len(), &outcome.rows[0]["text"]), (12, &"what is a fox".into()));
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
    let message = second.unwrap_err().to_string();
    assert!(message.starts_with(&format!("{}: another job is running", folder.path().join("journal.jsonl").display())), "{message}");
}
