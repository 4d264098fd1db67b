//! Whole jobs against an endpoint that plays what endpoints do.

mod behaviour;
mod budget;
mod counts;
#[path = "../examples/endpoint/double.rs"]
mod double;
mod jobs;
mod key;
mod refusals;
mod relabel;
mod resume;
mod unreadable;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use corpus::{Collection, Judgments};
use double::Double;

use crate::{
    Backoff, Endpoint, Limits, Model, Progress, Quality, Sampling, Session,
    jobs::{Context, Outcome, draw_documents, queries::Queries},
    prompts,
};

/// Waits of a few milliseconds, so that tests are fast.
const IMPATIENT: Backoff = Backoff { attempts: 4, base: Duration::from_millis(4), cap: Duration::from_millis(20) };

/// More time for a request than it needs on a busy machine: tests count requests.
const PATIENT: Duration = Duration::from_secs(30);

struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: usize) {}
    fn done(&self) {}
    fn warn(&self, _: &str) {}
}

fn model(double: &Double) -> Model {
    model_with_timeout(double, PATIENT)
}

fn model_with_timeout(double: &Double, timeout: Duration) -> Model {
    let endpoint = Endpoint::new(&double.url, None, timeout).unwrap();
    Model { endpoint: Arc::new(endpoint), name: "stand-in".into(), sampling: Sampling::default() }
}

fn session(folder: &Path, limits: Limits) -> Session {
    Session::open(folder, limits, IMPATIENT, Arc::new(AtomicBool::new(false))).unwrap()
}

fn context<'a>(session: &'a Session, model: &'a Model, collection: &'a Collection) -> Context<'a> {
    Context { session, model, collection, concurrency: 4, seed: 1, document_words: 200, progress: &Silent }
}

/// Twelve documents on animals, three queries.
fn animals() -> Collection {
    let mut collection = Collection { name: "animals".into(), ..Collection::default() };
    for (at, animal) in ["fox", "hen", "owl", "cow", "cat", "dog", "bee", "elk", "ant", "pig", "rat", "yak"].iter().enumerate() {
        let text = format!("The {animal} eats what it finds in field number {at}, sleeps by day, and its young stay {at} weeks with it.");
        collection.documents.push(&format!("d{at}"), &text).unwrap();
    }
    for (at, query) in ["where does the fox eat", "how long do young owls stay", "when do bees sleep"].iter().enumerate() {
        collection.queries.push(&format!("q{at}"), query).unwrap();
    }
    collection.splits.insert("train".into(), Judgments::from_pairs(3, vec![(0, 0, 1), (1, 2, 1), (2, 6, 1)]));
    collection
}

fn queries(collection: &Collection) -> Queries {
    Queries {
        documents: draw_documents(collection, None, 5, 1),
        per_document: 1,
        prompt: prompts::queries(None).unwrap(),
        quality: Quality::QUERIES,
    }
}

/// Runs the job of [`queries`] over [`animals`] in `folder`.
fn write_queries(folder: &Path, model: &Model, limits: Limits) -> (Outcome, Session) {
    let collection = animals();
    let session = session(folder, limits);
    let outcome = queries(&collection).run(&context(&session, model, &collection));
    (outcome, session)
}
