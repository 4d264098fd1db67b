//! What the jobs share: who is asked about which collection, what a job costs beforehand, and what comes out of it.

pub mod gecko;
pub mod negatives;
pub mod queries;
pub mod relabel;
pub mod triples;

use std::path::Path;

use corpus::Collection;
use rand::seq::{IndexedRandom, SliceRandom};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    drive::{Driven, drive},
    error::LlmError,
    journal::Answer,
    prompt, prompts,
    session::{Fault, Halt, Judged, Model, Question, Session, Stop, Unused},
    words,
};

/// Hears how far a job is. Calls come from several threads.
pub trait Progress: Sync {
    /// A stage of so many units begins.
    fn begin(&self, stage: &str, units: usize);
    /// One of them ended.
    fn done(&self);
    /// Something is wrong with the answers as a whole; the job goes on.
    fn warn(&self, warning: &str);
}

/// What every job works with.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Journal, budget and retries.
    pub session: &'a Session,
    /// Who is asked.
    pub model: &'a Model,
    /// Where ids and texts come from.
    pub collection: &'a Collection,
    /// Requests under way at most.
    pub concurrency: usize,
    /// Seed of every draw.
    pub seed: u64,
    /// Words of a document that a prompt shows at most.
    pub document_words: usize,
    /// Who hears of it.
    pub progress: &'a dyn Progress,
}

/// What a job will cost. The journal's answers cost nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// Requests, without repairs and retries.
    pub requests: u64,
    /// Requests that the journal answers already; not counted above.
    pub answered: u64,
    /// Tokens of the prompts, about (four bytes each).
    pub prompt_tokens: u64,
    /// Tokens of prompts and answers at most, without repairs and retries: a token for every byte, the longest answers, and what a model was
    /// seen to take beyond these.
    pub most_tokens: u64,
}

/// An answer that was not used.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rejected {
    /// What it was for.
    pub stage: String,
    /// Ids of what it was made from.
    pub sources: Value,
    /// Why.
    pub reason: String,
    /// The answer; empty where there was none.
    pub answer: String,
    /// Where it was sent back for its form: whether the answer that followed is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repaired: Option<bool>,
    /// Who wrote it; none where there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The version of the prompt that it is an answer to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// That of the prompt which an answer before it was sent back with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair_prompt: Option<String>,
}

/// What a job gives.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Rows of the output, in an order that does not depend on when answers came.
    pub rows: Vec<Value>,
    /// Answers that were not used, in the same order.
    pub rejected: Vec<Rejected>,
    /// Units of work (documents, queries, tasks).
    pub units: usize,
    /// Units that have no answer yet.
    pub open: usize,
    /// Why it stopped early.
    pub stop: Option<Stop>,
    /// What whoever uses the rows should know, in one line each.
    pub notes: Vec<String>,
}

impl Context<'_> {
    /// A document as prompts show it: its first words.
    fn document(&self, document: u32) -> &str {
        words::first(self.collection.documents.text(document), self.document_words)
    }

    fn document_id(&self, document: u32) -> &str {
        self.collection.documents.id(document)
    }

    fn query_id(&self, query: u32) -> &str {
        self.collection.queries.id(query)
    }

    /// Passages under numbers from 1.
    fn numbered(&self, documents: &[u32]) -> String {
        let rows = documents.iter().enumerate().map(|(at, document)| format!("[{}] {}", at + 1, self.document(*document)));
        rows.collect::<Vec<_>>().join("\n")
    }

    /// Documents in an order that says nothing about them, a function of the seed and of what it is for.
    fn shuffled(&self, documents: &[u32], what_for: &str) -> Vec<u32> {
        let mut shuffled = documents.to_vec();
        shuffled.shuffle(&mut prompts::random(self.seed, what_for));
        shuffled
    }

    /// One of several texts, a function of the seed and of what it is for; empty where there are none.
    fn drawn<'t>(&self, texts: &'t [String], what_for: &str) -> &'t str {
        texts.choose(&mut prompts::random(self.seed, what_for)).map_or("", String::as_str)
    }

    fn ask<T>(&self, question: &Question<'_>, check: impl Fn(&Answer) -> Result<T, Fault>) -> Result<Judged<T>, Halt> {
        self.session.ask(self.model, question, check)
    }

    /// What [`Context::ask`] would give out of the journal alone.
    fn known<T>(&self, question: &Question<'_>, check: impl Fn(&Answer) -> Result<T, Fault>) -> Option<Judged<T>> {
        self.session.known(self.model, question, check)
    }

    /// Works on units in parallel and tells of it.
    fn each<U: Sync, R: Send>(&self, stage: &str, units: &[U], work: impl Fn(&U) -> Result<R, Halt> + Sync) -> Driven<R> {
        self.progress.begin(stage, units.len());
        let done = || {
            self.progress.done();
            // At once: whoever hears of it may not want to pay for the rest.
            if let Some(warning) = self.session.untold() {
                self.progress.warn(warning);
            }
        };
        drive(self.concurrency, units, work, &done, &|why| self.session.close(why))
    }
}

impl Estimate {
    fn add(&mut self, context: &Context<'_>, question: &Question<'_>) {
        self.add_to(context, context.model, question);
    }

    /// A question to another model than the job's own.
    fn add_to(&mut self, context: &Context<'_>, model: &Model, question: &Question<'_>) {
        if context.session.has(model, question) {
            self.answered += 1;
        } else {
            self.add_like(context, model, question, 1);
        }
    }

    /// `times` more of a kind of question of which `like` is one.
    fn add_like(&mut self, context: &Context<'_>, model: &Model, like: &Question<'_>, times: u64) {
        let (about, most) = context.session.cost(model, like);
        self.requests += times;
        self.prompt_tokens += times * about;
        self.most_tokens += times * most;
    }
}

impl Rejected {
    fn of(answer: Answer, reason: String) -> Self {
        Self {
            stage: answer.stage,
            sources: answer.sources,
            reason,
            answer: answer.text,
            repaired: None,
            model: Some(answer.model),
            prompt: Some(answer.prompt),
            repair_prompt: answer.repair_prompt,
        }
    }

    fn without_answer(stage: &str, sources: Value, reason: String) -> Self {
        Self { stage: stage.to_owned(), sources, reason, ..Self::default() }
    }
}

impl Outcome {
    fn of<R>(driven: &mut Driven<R>, stage: &str, sources: impl Fn(usize) -> Value) -> Self {
        let unanswered = driven.unanswered.iter().map(|(at, why)| Rejected::without_answer(stage, sources(*at), why.clone()));
        let open = driven.results.iter().filter(|it| it.is_none()).count();
        Self { rejected: unanswered.collect(), units: driven.results.len(), open, stop: driven.stop.take(), ..Self::default() }
    }

    fn reject(&mut self, reason: impl Into<String>, answer: &Answer) {
        self.reject_part(reason, answer, answer.text.clone());
    }

    /// What an answer holds that is not used.
    fn reject_part(&mut self, reason: impl Into<String>, answer: &Answer, part: String) {
        self.rejected.push(Rejected { answer: part, ..Rejected::of(answer.clone(), reason.into()) });
    }

    fn reject_all(&mut self, unused: Vec<Unused>) {
        self.rejected.extend(unused.into_iter().map(|it| Rejected { repaired: it.repaired, ..Rejected::of(it.answer, it.reason) }));
    }

    /// A later stage of the same job.
    pub(crate) fn then(mut self, later: Self) -> Self {
        self.rows.extend(later.rows);
        self.rejected.extend(later.rejected);
        self.units += later.units;
        self.open += later.open;
        self.stop = self.stop.or(later.stop);
        self.notes.extend(later.notes);
        self
    }
}

/// Documents to write for: `count` of those with at least `min_words` words, drawn without replacement, ascending; all of them without `count`.
pub fn draw_documents(collection: &Collection, count: Option<usize>, min_words: usize, seed: u64) -> Vec<u32> {
    let long_enough = |document: &u32| words::count(collection.documents.text(*document)) >= min_words.max(1);
    let mut documents: Vec<u32> = (0..collection.documents.len() as u32).filter(long_enough).collect();
    if let Some(count) = count.filter(|count| *count < documents.len()) {
        documents.shuffle(&mut prompts::random(seed, "documents"));
        documents.truncate(count);
        documents.sort_unstable();
    }
    documents
}

/// Examples of the task for a prompt, from JSON lines `{"document", "query"}`.
///
/// # Errors
/// When the file cannot be read or a row is faulty; the message names the line.
pub fn read_examples(path: &Path) -> Result<String, LlmError> {
    #[derive(serde::Deserialize)]
    struct Example {
        document: String,
        query: String,
    }
    let text = prompt::read(path)?;
    let mut out = String::new();
    let expected = || "{\"document\": \"…\", \"query\": \"…\"} on each line".to_owned();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let example: Example = serde_json::from_str(line).map_err(|error| LlmError::Text {
            place: format!("{}:{}", path.display(), number + 1),
            problem: error.to_string(),
            expected: expected(),
        })?;
        out.push_str(&format!("Document:\n{}\nQuery: {}\n\n", example.document.trim(), example.query.trim()));
    }
    if out.is_empty() {
        return Err(LlmError::Text { place: path.display().to_string(), problem: "it has no example".into(), expected: expected() });
    }
    Ok(out)
}

/// Provenance of a row: the model and the prompt of `answer`, and the prompt that it or one of `others`, which the row was made from as well, was
/// repaired with.
fn made_by(answer: &Answer, others: &[&Answer]) -> Vec<(&'static str, Value)> {
    let mut made = vec![("model", json!(answer.model)), ("prompt", json!(answer.prompt))];
    let repaired = [answer].into_iter().chain(others.iter().copied()).find_map(|it| it.repair_prompt.as_ref());
    made.extend(repaired.map(|version| ("repair_prompt", json!(version))));
    made
}

fn with(mut row: Value, more: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    for (name, value) in more {
        row[name] = value;
    }
    row
}

/// The ids of documents.
fn ids(context: &Context<'_>, documents: &[u32]) -> Vec<Value> {
    documents.iter().map(|document| json!(context.document_id(*document))).collect()
}

/// Checks numbers of passages.
fn in_range(numbers: &[usize], count: usize) -> Result<(), Fault> {
    match numbers.iter().find(|number| !(1..=count).contains(*number)) {
        Some(odd) => Err(Fault::Form(format!("there is no passage {odd}, they are numbered 1 to {count}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_drawn_once_each_by_seed() {
        let collection = corpus::demo::generate();
        let drawn = draw_documents(&collection, Some(50), 5, 3);
        assert_eq!(drawn.len(), 50);
        assert!(drawn.is_sorted_by(|a, b| a < b));
        assert_eq!(drawn, draw_documents(&collection, Some(50), 5, 3));
        assert_ne!(drawn, draw_documents(&collection, Some(50), 5, 4));
        assert_eq!(draw_documents(&collection, None, 0, 3).len(), collection.documents.len());
    }

    #[test]
    fn examples_are_shown_as_the_prompt_shows_documents() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("examples.jsonl");
        std::fs::write(&path, "{\"document\": \"d1\", \"query\": \"q1\"}\n\n{\"document\": \"d2\", \"query\": \"q2\"}\n").unwrap();
        assert_eq!(read_examples(&path).unwrap(), "Document:\nd1\nQuery: q1\n\nDocument:\nd2\nQuery: q2\n\n");
        std::fs::write(&path, "{\"document\": \"d1\"}\n").unwrap();
        assert!(read_examples(&path).unwrap_err().to_string().contains("examples.jsonl:1"));
        std::fs::write(&path, "\n").unwrap();
        assert!(read_examples(&path).unwrap_err().to_string().contains("it has no example"));
    }
}
