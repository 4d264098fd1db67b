//! Asking a question: out of the journal where it was answered, else from the endpoint, within the budget, again where it failed, and once more
//! where the answer has not the form asked for.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rand::RngExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    budget::{self, Budget, Limits, Spent},
    chat::{self, Message, Role, Sampling},
    endpoint::{Endpoint, Trouble},
    error::LlmError,
    journal::{Answer, Journal},
    prompt::Prompt,
    retry::Backoff,
};

/// A wait that an endpoint asks for and that is longer is taken as a refusal.
const LONGEST_WAIT: Duration = Duration::from_secs(900);
const REPAIR: &str = include_str!("../prompts/repair.txt");

/// A model that answers, and how.
#[derive(Debug, Clone)]
pub struct Model {
    /// Where.
    pub endpoint: Arc<Endpoint>,
    /// Its name there.
    pub name: String,
    /// How it is to answer.
    pub sampling: Sampling,
}

/// A question to a model.
#[derive(Debug, Clone)]
pub(crate) struct Question<'a> {
    /// What the question is for.
    pub(crate) stage: &'static str,
    pub(crate) prompt: &'a Prompt,
    pub(crate) messages: Vec<Message>,
    /// Ids of what it is made from.
    pub(crate) sources: Value,
    /// Which of several answers to the same question.
    pub(crate) sample: u32,
}

/// What a check has against an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It has not the form asked for: worth one more request that says so.
    Form(String),
    /// It has, and is not good enough.
    Quality(String),
}

/// A question that was answered, and what came of it.
#[derive(Debug, Clone)]
pub(crate) enum Judged<T> {
    Accepted { value: T, answer: Answer },
    Rejected { reason: String, answer: Answer },
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Halt {
    /// To this question, which the endpoint does not take; others it may.
    Refused(String),
    /// To this question, after every attempt.
    Unanswered(String),
    /// The whole job stops.
    Stop(Stop),
}

/// Why a job stopped before its end.
#[derive(Debug)]
pub enum Stop {
    /// The budget does not allow another request.
    Budget,
    /// Somebody asked it to.
    Interrupted,
    /// The endpoint will not answer.
    Endpoint(String),
    /// A file could not be written.
    File(LlmError),
}

/// The state that all questions of a job share.
#[derive(Debug)]
pub struct Session {
    journal: Journal,
    budget: Budget,
    backoff: Backoff,
    interrupted: Arc<AtomicBool>,
    /// Nobody is asked any more; the journal still answers.
    closed: AtomicBool,
}

impl Session {
    /// Opens the journal in `folder`. `interrupted` stops the job once it is true: requests under way are waited for.
    ///
    /// # Errors
    /// When the journal cannot be read or written, is damaged, or another process has it.
    pub fn open(folder: &Path, limits: Limits, backoff: Backoff, interrupted: Arc<AtomicBool>) -> Result<Self, LlmError> {
        let (journal, spent) = Journal::open(&folder.join("journal.jsonl"))?;
        Ok(Self { journal, budget: Budget::new(limits, spent), backoff, interrupted, closed: AtomicBool::new(false) })
    }

    /// A session for [`Estimate`](crate::Estimate)s: it knows what the journal in `folder` holds, if there is one, and asks nobody.
    ///
    /// # Errors
    /// When the journal cannot be read or is damaged.
    pub fn for_estimates(folder: &Path) -> Result<Self, LlmError> {
        let (journal, spent) = Journal::look(&folder.join("journal.jsonl"))?;
        Ok(Self {
            journal,
            budget: Budget::new(Limits::default(), spent),
            backoff: Backoff::default(),
            interrupted: Arc::default(),
            closed: AtomicBool::new(true),
        })
    }

    /// What all runs of this job spent.
    pub fn spent(&self) -> Spent {
        self.budget.spent()
    }

    /// Answers that the journal holds.
    pub fn answers(&self) -> usize {
        self.journal.len()
    }

    /// From now on only the journal answers.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Whether the journal answers a question.
    pub(crate) fn has(&self, model: &Model, question: &Question<'_>) -> bool {
        self.find(model, &question.id(model)).is_some()
    }

    /// Whether the journal holds an answer of which `which` holds: for questions that depend on more than is known before a job begins.
    pub(crate) fn any(&self, which: impl Fn(&Answer) -> bool) -> bool {
        self.journal.any(which)
    }

    /// What [`Session::ask`] would give out of the journal alone; none where it would have to ask.
    pub(crate) fn known<T>(
        &self,
        model: &Model,
        question: &Question<'_>,
        check: impl Fn(&Answer) -> Result<T, Fault>,
    ) -> Option<Judged<T>> {
        let known = |id: &str, _: &[Message]| self.find(model, id).ok_or(());
        judged(question, &question.id(model), check, known).ok()
    }

    fn find(&self, model: &Model, id: &str) -> Option<Answer> {
        self.journal.find(id, model.sampling.longest_answer(), model.sampling.logprobs)
    }

    /// Asks until an answer passes `check`, twice at most.
    pub(crate) fn ask<T>(
        &self,
        model: &Model,
        question: &Question<'_>,
        check: impl Fn(&Answer) -> Result<T, Fault>,
    ) -> Result<Judged<T>, Halt> {
        judged(question, &question.id(model), check, |id, messages| self.answer(model, question, id, messages))
    }

    fn answer(&self, model: &Model, question: &Question<'_>, id: &str, messages: &[Message]) -> Result<Answer, Halt> {
        let longest = model.sampling.longest_answer();
        if let Some(known) = self.find(model, id) {
            return Ok(known);
        }
        let seed = u32::from_str_radix(&id[..7], 16).unwrap_or_default();
        let body = chat::request(&model.name, messages, &model.sampling, seed);
        let mut failures = 0;
        loop {
            self.wait(model.endpoint.not_before())?;
            let Some(aside) = self.budget.set_aside(messages, longest) else { return Err(Halt::Stop(Stop::Budget)) };
            // Setting aside may have waited for others: meanwhile the job may have been stopped, or everybody sent away.
            if self.is_over() || model.endpoint.not_before().is_some_and(|until| until > Instant::now()) {
                self.budget.give_back(aside);
                continue;
            }
            let outcome = self.journal.asked(id, aside).map(|()| model.endpoint.ask(&body));
            let charged = match &outcome {
                // An endpoint that does not count is taken to have used all of it.
                Ok(Ok(reply)) => reply.usage.map_or(aside, chat::Usage::total),
                Ok(Err(Trouble::Passing { charged: true, .. })) => aside,
                _ => 0,
            };
            let trouble = match outcome {
                Ok(Ok(reply)) => {
                    let answer = Answer {
                        text: reply.text,
                        cut: reply.cut,
                        max_answer_tokens: longest,
                        logprob: reply.logprob,
                        asked_logprob: model.sampling.logprobs,
                        usage: reply.usage,
                        charged,
                        stage: question.stage.to_owned(),
                        model: model.name.clone(),
                        prompt: question.prompt.version.clone(),
                        sources: question.sources.clone(),
                    };
                    let written = self.journal.answered(id, answer.clone());
                    self.budget.settle(aside, charged);
                    return written.map(|()| answer).map_err(Halt::from);
                }
                Ok(Err(trouble)) => trouble,
                Err(error) => {
                    self.budget.settle(aside, 0);
                    return Err(error.into());
                }
            };
            let written = self.journal.failed(id, charged, trouble.message());
            self.budget.settle(aside, charged);
            written?;
            failures += 1;
            match trouble {
                Trouble::Fatal { message } => return Err(Halt::Stop(Stop::Endpoint(message))),
                Trouble::Request { message } => return Err(Halt::Refused(message)),
                Trouble::Passing { message, after, .. } => {
                    if after.is_some_and(|asked| asked > LONGEST_WAIT) {
                        return Err(Halt::Stop(Stop::Endpoint(format!("{message}; it asks to come back in more than 15 minutes"))));
                    }
                    if failures >= self.backoff.attempts {
                        return Err(Halt::Unanswered(format!("no answer in {failures} attempts: {message}")));
                    }
                    self.wait(Some(Instant::now() + self.backoff.delay(failures, after, rand::rng().random())))?;
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed) || self.closed.load(Ordering::SeqCst)
    }

    /// Sleeps until a moment, awake enough to hear that the job is to stop.
    fn wait(&self, until: Option<Instant>) -> Result<(), Halt> {
        loop {
            if self.is_over() {
                return Err(Halt::Stop(Stop::Interrupted));
            }
            let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

/// An answer that passes `check`, or what was wrong with the second one. `answer` gives the answer to messages under an id.
fn judged<T, E>(
    question: &Question<'_>,
    id: &str,
    check: impl Fn(&Answer) -> Result<T, Fault>,
    answer: impl Fn(&str, &[Message]) -> Result<Answer, E>,
) -> Result<Judged<T>, E> {
    let first = answer(id, &question.messages)?;
    let problem = match check(&first) {
        Ok(value) => return Ok(Judged::Accepted { value, answer: first }),
        Err(Fault::Quality(reason)) => return Ok(Judged::Rejected { reason, answer: first }),
        Err(Fault::Form(_)) if first.cut => return Ok(cut(first)),
        Err(Fault::Form(problem)) => problem,
    };
    let mut messages = question.messages.clone();
    messages.push(Message::new(Role::Assistant, first.text));
    messages.push(Message::new(Role::User, REPAIR.trim().replace("{{problem}}", &problem)));
    let second = answer(&format!("{id}-repair"), &messages)?;
    Ok(match check(&second) {
        Ok(value) => Judged::Accepted { value, answer: second },
        Err(Fault::Form(_)) if second.cut => cut(second),
        Err(Fault::Quality(reason) | Fault::Form(reason)) => Judged::Rejected { reason, answer: second },
    })
}

fn cut<T>(answer: Answer) -> Judged<T> {
    Judged::Rejected { reason: format!("cut off: it may have {} tokens", answer.max_answer_tokens), answer }
}

impl Question<'_> {
    /// SHA-256 over who is asked, what, from which sources, and for which of several answers; 32 hex digits. How long the answer may be and how
    /// it is sampled are no part of it: a job that goes on with other settings keeps what it has.
    fn id(&self, model: &Model) -> String {
        let all = json!([self.stage, model.name, self.prompt.version, self.messages, self.sources, self.sample]).to_string();
        Sha256::digest(all.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Tokens that it costs: about, and at most.
    pub(crate) fn cost(&self, model: &Model) -> (u64, u64) {
        let bytes: u64 = self.messages.iter().map(|message| message.content.len() as u64).sum();
        // English has about four bytes to a token.
        (bytes.div_ceil(4), budget::at_most(&self.messages, model.sampling.longest_answer()))
    }
}

impl Trouble {
    fn message(&self) -> &str {
        match self {
            Self::Passing { message, .. } | Self::Request { message } | Self::Fatal { message } => message,
        }
    }
}

impl From<LlmError> for Halt {
    fn from(error: LlmError) -> Self {
        Self::Stop(Stop::File(error))
    }
}
