//! Every kind of job, stopped in every place and gone on with: nothing is asked twice, and the rows are those of a job that was left alone.

use std::{fs, path::Path, sync::Arc};

use corpus::{Collection, Listed, NegativeLists};

use super::{
    IMPATIENT, animals, context,
    double::{Double, Oracle, Play},
    model, session,
};
use crate::{
    Attributes, Limits, Model, Quality, Session, Stop,
    jobs::{
        Context, Outcome,
        gecko::Gecko,
        negatives::{Negatives, queries_of},
        relabel::{Method, Relabel},
        triples::Triples,
    },
    prompts,
};

type Job<'a> = &'a dyn Fn(&Context<'_>) -> Outcome;

/// An endpoint that sends back no answer of a certain form at first, so that repairs are under way at some stops.
fn endpoint() -> Double {
    let collection = animals();
    let relevant = (0..3).map(|query| {
        let documents = [query, query + 3, query + 6].map(|document| collection.documents.text(document).to_owned());
        (collection.queries.text(query).to_owned(), documents.into())
    });
    Double::on(0, Oracle { relevant: relevant.collect(), error_rates: Vec::new() }, |request| {
        let repaired = request.text().contains("cannot be used");
        if request.hash.ends_with(['0', '1', '2', '3']) && !repaired { Play::Says("well") } else { Play::Good }
    })
}

/// Runs `job` with a budget of one request more each time, and then with journals cut off in every third line, as a kill leaves them.
fn stopped_everywhere(job: Job<'_>) {
    let (double, collection) = (endpoint(), animals());
    let model = model(&double);
    let run = |folder: &Path, limit: Option<u64>, collection: &Collection| {
        let before = double.requests();
        let session = session(folder, Limits { requests: limit, tokens: None });
        let outcome = job(&context(&session, &model, collection));
        (outcome, double.requests() - before)
    };
    let alone = tempfile::tempdir().unwrap();
    let (expected, all) = run(alone.path(), None, &collection);
    assert!(
        expected.stop.is_none() && expected.open == 0 && expected.rows.len() >= 3 && all >= 6,
        "{} rows, {all} requests",
        expected.rows.len()
    );

    let stopped = tempfile::tempdir().unwrap();
    for limit in 1..=all as u64 {
        let (outcome, requests) = run(stopped.path(), Some(limit), &collection);
        assert_eq!(requests, 1, "what {} runs were answered is not asked again", limit - 1);
        assert_eq!(matches!(outcome.stop, Some(Stop::Budget(_))), limit < all as u64, "{:?}", outcome.stop);
        // What is written by then is part of the whole.
        assert!(outcome.rows.iter().all(|row| expected.rows.contains(row)), "{:?}", outcome.rows);
        if limit == all as u64 {
            assert_eq!((&outcome.rows, &outcome.rejected), (&expected.rows, &expected.rejected));
        }
    }

    let journal = fs::read_to_string(alone.path().join("journal.jsonl")).unwrap();
    let lines: Vec<&str> = journal.split_inclusive('\n').collect();
    for kept in (0..lines.len()).step_by(3) {
        let killed = tempfile::tempdir().unwrap();
        // Half of the line that was being written.
        let torn = &lines[kept][..lines[kept].len() / 2];
        fs::write(killed.path().join("journal.jsonl"), lines[..kept].concat() + torn).unwrap();
        let answered = lines[..kept].iter().filter(|line| line.contains("\"event\":\"answer\"")).count();
        let (outcome, requests) = run(killed.path(), None, &collection);
        assert_eq!(requests, all - answered, "{kept} lines were whole");
        assert_eq!((&outcome.rows, &outcome.rejected), (&expected.rows, &expected.rejected));
    }
}

fn lists() -> NegativeLists {
    let row = |documents: &[u32]| documents.iter().map(|document| Listed { document: *document, score: None }).collect();
    NegativeLists::from_rows(vec![row(&[1, 3, 4, 6, 5]), row(&[7, 8, 4, 9]), row(&[3, 5, 8])])
}

#[test]
fn negatives() {
    stopped_everywhere(&|context| {
        let job = Negatives {
            queries: queries_of(context.collection, context.collection.split("train").unwrap(), true),
            per_query: 2,
            prompt: prompts::negatives_pair(None).unwrap(),
            attributes: Attributes::of_negatives(None).unwrap(),
            quality: Quality::PASSAGES,
        };
        // Three questions alone: each three times, with other attributes.
        let outcomes = [1, 2, 3].map(|seed| job.run(&Context { seed, ..*context }));
        outcomes.into_iter().reduce(Outcome::then).unwrap()
    });
}

#[test]
fn triples() {
    stopped_everywhere(&|context| {
        let job = Triples {
            tasks: 4,
            per_task: 3,
            topic: "animals".into(),
            languages: vec!["English".into()],
            task_prompt: prompts::triple_tasks(None).unwrap(),
            prompt: prompts::triples(None).unwrap(),
            attributes: Attributes::of_triples(None).unwrap(),
            queries: Quality::QUERIES,
            passages: Quality::PASSAGES,
        };
        job.run(context)
    });
}

#[test]
fn gecko() {
    stopped_everywhere(&|context| {
        let job = Gecko {
            documents: (0..6).collect(),
            candidates: 4,
            query_prompt: prompts::gecko_query(None).unwrap(),
            score_prompts: [prompts::gecko_relevance(None).unwrap(), prompts::gecko_likelihood(None).unwrap()],
            judge: context.model.clone(),
            quality: Quality::QUERIES,
        };
        job.run(context, &|texts, k| Ok(texts.iter().map(|_| [5, 1, 0, 7][..k].to_vec()).collect())).unwrap()
    });
}

#[test]
fn cascade() {
    stopped_everywhere(&|context| {
        let strong = Model { name: "strong".into(), ..context.model.clone() };
        let method = Method::Verdict { prompt: prompts::relabel(None).unwrap(), strong: Some(strong) };
        Relabel::new(&lists(), context.collection.split("train").unwrap(), 10, 2, method).run(context)
    });
}

#[test]
fn ranking() {
    stopped_everywhere(&|context| {
        let method = Method::Ranking { answers: prompts::answers(None).unwrap(), ranking: prompts::ranking(None).unwrap() };
        Relabel::new(&lists(), context.collection.split("train").unwrap(), 10, 2, method).run(context)
    });
}

/// A model that takes more than its requests allow is known as such to the next run: what it may take is set aside from the first request on.
#[test]
fn what_was_learned_of_costs() {
    let double = Double::start(|_| Play::CountsMore(3000));
    let (folder, model, collection) = (tempfile::tempdir().unwrap(), model(&double), animals());
    let run = |limit: u64| {
        let session = Session::open(folder.path(), Limits { requests: None, tokens: Some(limit) }, IMPATIENT, Arc::default()).unwrap();
        let estimate = super::queries(&collection).estimate(&context(&session, &model, &collection));
        super::queries(&collection).run(&context(&session, &model, &collection));
        (estimate.most_tokens / estimate.requests, session.spent().tokens)
    };
    let (most, spent) = run(2_000);
    assert!(most < 1_500 && (3_000..3_500).contains(&spent), "{most} {spent}");
    // Enough for a request of the size that it was first taken for, and not for one of its true size.
    let (most, spent) = run(spent + 2_500);
    assert!((5_000..6_000).contains(&most) && spent < 3_500, "{most} {spent}");
}
