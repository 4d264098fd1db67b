//! What is spent: never more than may be, whatever endpoints count and whenever a job is killed.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;

use super::{
    IMPATIENT, animals, context,
    double::{Double, Play},
    model, queries, session, write_queries,
};
use crate::{
    Limits, Sampling, Session, Stop, budget,
    chat::{Message, Role},
    jobs::queries::Queries,
};

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
        assert!(matches!(outcome.stop, Some(Stop::Budget(_))));
        assert_eq!((double.requests() - before, session.spent().tokens), (requests, told(before)), "{limit}");
        assert!(told(before) <= limit.max(told(before) / requests as u64), "by one request at most: {} of {limit}", told(before));
    }
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
        assert_eq!(matches!(outcome.stop, Some(Stop::Budget(_))), limit < 100 * one, "{limit}");
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
        assert!(matches!(outcome.stop, Some(Stop::Budget(_))));
    }
}

/// A line of a journal: whether it begins a request, whose, and what that is charged.
fn read(line: &str) -> (bool, String, u64) {
    let line: Value = serde_json::from_str(line).unwrap();
    (line["event"] == "asked", line["id"].as_str().unwrap().to_owned(), line["charged"].as_u64().unwrap_or_default())
}

/// Killed seven times with four requests under way, each time at another line, by an endpoint that takes all that it may, says nothing, or
/// breaks off: what all requests together cost is within the limit of each run, those that were under way at a kill with what they came to.
#[test]
fn kills_do_not_loosen_the_budget() {
    let double = Double::start(|request| match (request.earlier, request.hash.as_bytes()[15]) {
        (0, b'0'..=b'2') => Play::Truncated,
        (0, b'3' | b'4') => Play::Status(500, None, ""),
        (_, b'5'..=b'8') => Play::Full,
        (_, b'9' | b'a') => Play::Uncounted,
        _ => Play::Good,
    });
    let (folder, model, collection) = (tempfile::tempdir().unwrap(), model(&double), animals());
    let path = folder.path().join("journal.jsonl");
    let write = |tokens| {
        let session = session(folder.path(), Limits { requests: None, tokens });
        let job = Queries { per_document: 6, ..queries(&collection) };
        (job.run(&context(&session, &model, &collection)), session.spent().tokens)
    };
    // Lines that are there for good, and what requests cost whose ends a kill took away.
    let (mut whole, mut lost) = (0, 0);
    for run in 1..=7 {
        let limit = 4_000 * (run + 1);
        let (outcome, spent) = write(Some(limit));
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let cost = lines.iter().map(|line| read(line).2).sum::<u64>() + lost;
        assert!(cost <= spent && spent <= limit, "run {run}: {cost}, {spent} by the journal, of {limit}");
        assert!(matches!(outcome.stop, Some(Stop::Budget(_))), "run {run}: {:?}", outcome.stop);
        let kept = whole + (lines.len() - whole) * (run as usize * 5 % 8) / 8;
        let mut open = HashMap::<String, u64>::new();
        for (at, line) in lines.iter().enumerate().skip(whole) {
            let (begins, id, charged) = read(line);
            let begun = open.entry(id).or_default();
            match begins {
                true => *begun += u64::from(at < kept),
                false if at < kept => *begun -= 1,
                // The first ends that follow are those of requests that were under way.
                false if *begun > 0 => {
                    *begun -= 1;
                    lost += charged;
                }
                false => {}
            }
        }
        fs::write(&path, lines[..kept].concat() + &lines[kept][..lines[kept].len() / 2]).unwrap();
        whole = kept;
    }
    assert!(lost > 0, "something was under way at a kill");
    let (outcome, _) = write(None);
    assert!(outcome.stop.is_none() && (outcome.rows.len(), outcome.open) == (72, 0), "{:?}", outcome.rejected);
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
            assert!(matches!(outcome.stop, Some(Stop::Budget(_))));
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
