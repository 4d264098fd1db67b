//! Endpoints that refuse: what ends a job, and what does not.

use std::{sync::Arc, time::Duration};

use super::{
    animals, context,
    double::{Double, Play},
    model, queries, session, write_queries,
};
use crate::{Endpoint, Limits, Stop, jobs};

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
    let run = |folder: &std::path::Path, job: jobs::queries::Queries| {
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
