//! Asking a question: out of the journal where it was answered, else from the endpoint, within the budget, again where it failed, and once more
//! where the answer has not the form asked for.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rand::RngExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    answers,
    budget::{self, Budget, Lack, Limits, Past, Spent},
    chat::{self, Message, Role, Sampling, Usage},
    endpoint::{Charge, Endpoint, Failure, Trouble},
    error::LlmError,
    journal::{Answer, Journal},
    prompt::Prompt,
    prompts,
    retry::Backoff,
};

/// A wait that an endpoint asks for and that is longer is taken as a refusal.
const LONGEST_WAIT: Duration = Duration::from_secs(900);
/// Requests that a model which has never answered refuses, one after the other, until it is taken to refuse all.
const REFUSALS: u32 = 20;
/// The same where it says that they are forbidden, as it does for a key that may not use it, and for what a moderation refuses.
const FORBIDDEN: u32 = 3;

/// Responses without an answer to one request, until it is taken to be refused.
const ODD_ANSWERS: u32 = 2;
/// Times that one request may be sent away while others are answered, until it is itself that is not taken.
const PASSED_OVER: u32 = 2;
/// A count of more than so many times what was set aside is nonsense.
const BELIEVED: u64 = 100;

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

/// An answer that is not used.
#[derive(Debug, Clone)]
pub(crate) struct Unused {
    pub(crate) reason: String,
    pub(crate) answer: Answer,
    /// Where it was sent back: whether the next one is used.
    pub(crate) repaired: Option<bool>,
}

/// A question that was answered, and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Judged<T> {
    /// None where no answer was good enough.
    pub(crate) accepted: Option<(T, Answer)>,
    /// In the order in which they came.
    pub(crate) unused: Vec<Unused>,
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
    Budget(Lack),
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
    /// Nor is what the budget has allowed already.
    barred: AtomicBool,
    /// What an answer is sent back with.
    repair: Prompt,
    /// Requests refused, by model.
    refused: Mutex<HashMap<String, u32>>,
}

impl Session {
    /// Opens the journal in `folder`. `interrupted` stops the job once it is true: requests under way are waited for.
    ///
    /// # Errors
    /// When the journal cannot be read or written, is damaged, or another process has it.
    pub fn open(folder: &Path, limits: Limits, backoff: Backoff, interrupted: Arc<AtomicBool>) -> Result<Self, LlmError> {
        Self::of(Journal::open(&folder.join("journal.jsonl"))?, limits, backoff, interrupted)
    }

    /// A session for [`Estimate`](crate::Estimate)s: it knows what the journal in `folder` holds, if there is one, and asks nobody.
    ///
    /// # Errors
    /// When the journal cannot be read or is damaged.
    pub fn for_estimates(folder: &Path) -> Result<Self, LlmError> {
        let session = Self::of(Journal::look(&folder.join("journal.jsonl"))?, Limits::default(), Backoff::default(), Arc::default())?;
        session.close(&Stop::Interrupted);
        Ok(session)
    }

    fn of((journal, past): (Journal, Past), limits: Limits, backoff: Backoff, interrupted: Arc<AtomicBool>) -> Result<Self, LlmError> {
        let (budget, repair) = (Budget::new(limits, past), prompts::repair(None)?);
        Ok(Self {
            journal,
            budget,
            backoff,
            interrupted,
            closed: AtomicBool::default(),
            barred: AtomicBool::default(),
            repair,
            refused: Mutex::default(),
        })
    }

    /// The same with a prompt of the user's for answers that are sent back, as [`prompts::repair`] reads it.
    #[must_use]
    pub fn with_repair(self, repair: Prompt) -> Self {
        Self { repair, ..self }
    }

    /// What all runs of this job spent.
    pub fn spent(&self) -> Spent {
        self.budget.spent()
    }

    /// Answers that the journal holds.
    pub fn answers(&self) -> usize {
        self.journal.len()
    }

    /// From now on only the journal answers. A budget that is used up leaves the requests that it was used up by.
    pub(crate) fn close(&self, why: &Stop) {
        self.closed.store(true, Ordering::SeqCst);
        self.barred.fetch_or(!matches!(why, Stop::Budget(_)), Ordering::SeqCst);
    }

    /// Whether the journal answers a question.
    pub(crate) fn has(&self, model: &Model, question: &Question<'_>) -> bool {
        self.find(model, &question.id(model)).is_some()
    }

    /// What [`Session::ask`] would give out of the journal alone; none where it would have to ask.
    pub(crate) fn known<T>(
        &self,
        model: &Model,
        question: &Question<'_>,
        check: impl Fn(&Answer) -> Result<T, Fault>,
    ) -> Option<Judged<T>> {
        let known = |id: &str, _: &[Message], _: Option<&Prompt>| self.find(model, id).ok_or(());
        self.judged(question, &question.id(model), check, known).ok()
    }

    /// Tokens that a question costs: about, and at most, by what is known of the model.
    pub(crate) fn cost(&self, model: &Model, question: &Question<'_>) -> (u64, u64) {
        let bytes: u64 = question.messages.iter().map(|message| message.content.len() as u64).sum();
        let most = budget::at_most(&question.messages, model.sampling.longest_answer());
        // English has about four bytes to a token.
        (bytes.div_ceil(4), most.saturating_add(self.budget.known(&model.name).beyond))
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
        self.judged(question, &question.id(model), check, |id, messages, repair| self.answer(model, question, id, messages, repair))
    }

    fn answer(
        &self,
        model: &Model,
        question: &Question<'_>,
        id: &str,
        messages: &[Message],
        repair: Option<&Prompt>,
    ) -> Result<Answer, Halt> {
        let longest = model.sampling.longest_answer();
        if let Some(known) = self.find(model, id) {
            return Ok(known);
        }
        let seed = u32::from_str_radix(&id[..7], 16).unwrap_or_default();
        let body = chat::request(&model.name, messages, &model.sampling, seed);
        let (mut tries, mut failures, mut odd, mut passed_over) = (0, 0, 0, 0);
        let pace = &model.endpoint.pace;
        let (mut ticket, mut answers, mut sent_away) = (pace.ticket(), pace.answers(), false);
        loop {
            let Some(turn) = pace.turn(ticket, || self.is_over()) else { return Err(Halt::Stop(Stop::Interrupted)) };
            let aside = self.budget.set_aside(&model.name, messages, longest).map_err(|lack| Halt::Stop(Stop::Budget(lack)))?;
            // Setting aside may have waited for others: meanwhile the job may have been stopped, or everybody sent away.
            let stopped = self.interrupted.load(Ordering::Relaxed) || self.barred.load(Ordering::SeqCst);
            if stopped || pace.is_held() {
                self.budget.give_back(&model.name, aside);
                continue;
            }
            let outcome = self.journal.asked(id, aside).map(|()| model.endpoint.ask(&body));
            let believed = |usage: Usage| Some(usage).filter(|it| it.cost() <= aside.tokens.saturating_mul(BELIEVED)).map(Usage::cost);
            let charged = match &outcome {
                // An endpoint that does not count, or nonsense, is taken to have used all of it.
                Ok(Ok(reply)) => reply.usage.and_then(believed).unwrap_or(aside.tokens),
                Ok(Err(Failure { charge: Charge::Counted(usage), .. })) => believed(*usage).unwrap_or(aside.tokens),
                Ok(Err(Failure { charge: Charge::All, .. })) => aside.tokens,
                _ => 0,
            };
            let failure = match outcome {
                Ok(Ok(reply)) => {
                    turn.answered();
                    let answer = Answer {
                        text: reply.text,
                        cut: reply.cut,
                        max_answer_tokens: longest,
                        logprob: reply.logprob,
                        asked_logprob: model.sampling.logprobs,
                        usage: reply.usage.filter(|usage| believed(*usage).is_some()),
                        charged,
                        stage: question.stage.to_owned(),
                        model: model.name.clone(),
                        prompt: question.prompt.version.clone(),
                        repair_prompt: repair.map(|prompt| prompt.version.clone()),
                        sources: question.sources.clone(),
                    };
                    let written = self.journal.answered(id, answer.clone());
                    self.budget.settle(&model.name, aside, charged, true);
                    return written.map(|()| answer).map_err(Halt::from);
                }
                Ok(Err(failure)) => failure,
                Err(error) => {
                    self.budget.settle(&model.name, aside, 0, false);
                    return Err(error.into());
                }
            };
            let Failure { trouble, message, after, .. } = failure;
            let written = self.journal.failed(id, charged, &message);
            self.budget.settle(&model.name, aside, charged, false);
            written?;
            tries += 1;
            let mut in_vain = 0;
            match trouble {
                Trouble::Fatal => return Err(stop_at(model, &message)),
                Trouble::Request => {
                    turn.answered();
                    return Err(self.refused(model, message, REFUSALS));
                }
                Trouble::Forbidden => return Err(self.refused(model, message, FORBIDDEN)),
                Trouble::Odd if odd + 1 >= ODD_ANSWERS => return Err(self.refused(model, message, REFUSALS)),
                Trouble::Odd => odd += 1,
                // The endpoint has too much to do, and this request has not failed; but where others are answered again and again, what is said to it is
                // said to this one alone (that it is too large, say), and nobody else is to wait for it.
                Trouble::SentAway => {
                    let before = std::mem::replace(&mut answers, pace.answers());
                    match answers > before {
                        true => passed_over += 1,
                        // Twice, and nobody was answered meanwhile: whoever waits goes first now, to tell whether it is this request alone.
                        false if sent_away => ticket = pace.ticket(),
                        false => {}
                    }
                    sent_away = true;
                    if passed_over > PASSED_OVER { failures += 1 } else { in_vain = turn.sent_away() }
                }
                Trouble::Passing => failures += 1,
            }
            if after.is_some_and(|asked| asked > LONGEST_WAIT) {
                return Err(stop_at(model, &format!("{message}; it asks to come back in more than 15 minutes")));
            }
            if in_vain >= self.backoff.attempts.saturating_mul(2) {
                let why = format!("it has sent away everybody {in_vain} times in a row and answered nobody, the last with {message}");
                // One that has answered may do so again, once all that are under way are not such as it does not take; where it does not, many in a row
                // without an answer end the job.
                return Err(if self.budget.known(&model.name).answered { Halt::Unanswered(why) } else { stop_at(model, &why) });
            }
            let alone = trouble == Trouble::SentAway && passed_over > PASSED_OVER;
            if !alone && (trouble == Trouble::SentAway || after.is_some()) {
                let hold = self.backoff.hold(in_vain, after, rand::rng().random());
                turn.hold(hold, self.backoff.spread(hold));
            }
            drop(turn);
            if failures >= self.backoff.attempts {
                let url = model.endpoint.url();
                return Err(Halt::Unanswered(format!("no answer in {tries} attempts: {message} (from {url})")));
            }
            if alone || trouble != Trouble::SentAway {
                let own = after.filter(|_| alone).unwrap_or_default();
                self.wait(Some(Instant::now() + own + self.backoff.delay(failures.max(odd), rand::rng().random())))?;
            }
        }
    }

    /// A request was refused. That stops the job where a model has refused many and never answered: it is not these requests that it does not take.
    fn refused(&self, model: &Model, message: String, most: u32) -> Halt {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let count = refused.entry(model.name.clone()).or_default();
        *count += 1;
        if *count < most || self.budget.known(&model.name).answered {
            return Halt::Refused(message);
        }
        let hint = "check the model's name, the longest answer and the fields added to requests";
        stop_at(model, &format!("it has refused {count} requests and answered none, the last with {message}; {hint}"))
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

    /// An answer that passes `check`, or what was wrong with the second one. `answer` gives the answer to messages under an id, and is told the
    /// prompt that sends the first one back.
    fn judged<T, E>(
        &self,
        question: &Question<'_>,
        id: &str,
        check: impl Fn(&Answer) -> Result<T, Fault>,
        answer: impl Fn(&str, &[Message], Option<&Prompt>) -> Result<Answer, E>,
    ) -> Result<Judged<T>, E> {
        let first = answer(id, &question.messages, None)?;
        let problem = match check(&first) {
            Err(Fault::Form(problem)) if !first.cut => problem,
            checked => return Ok(Judged::of(checked, first, Vec::new())),
        };
        let mut messages = question.messages.clone();
        // Without its thoughts, as chat templates send back what was said.
        messages.push(Message::new(Role::Assistant, answers::without_thoughts(&first.text).unwrap_or(&first.text)));
        messages.extend(self.repair.filled(&[("problem", &problem)]));
        let second = answer(&format!("{id}-repair"), &messages, Some(&self.repair))?;
        let checked = check(&second);
        let sent_back = Unused { reason: problem, answer: first, repaired: Some(checked.is_ok()) };
        Ok(Judged::of(checked, second, vec![sent_back]))
    }
}

impl<T> Judged<T> {
    /// The last answer, and those before it.
    fn of(checked: Result<T, Fault>, answer: Answer, mut unused: Vec<Unused>) -> Self {
        let reason = match checked {
            Ok(value) => return Self { accepted: Some((value, answer)), unused },
            Err(Fault::Form(_)) if answer.cut => format!("cut off: it may have {} tokens", answer.max_answer_tokens),
            Err(Fault::Quality(reason) | Fault::Form(reason)) => reason,
        };
        unused.push(Unused { reason, answer, repaired: None });
        Self { accepted: None, unused }
    }
}

impl Question<'_> {
    /// SHA-256 over who is asked, what, from which sources, and for which of several answers; 32 hex digits. How long the answer may be and how
    /// it is sampled are no part of it: a job that goes on with other settings keeps what it has.
    fn id(&self, model: &Model) -> String {
        let all = json!([self.stage, model.name, self.prompt.version, self.messages, self.sources, self.sample]).to_string();
        Sha256::digest(all.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The end of a job, and who is the reason. A URL has no secret in it.
fn stop_at(model: &Model, why: &str) -> Halt {
    Halt::Stop(Stop::Endpoint(format!("model {} at {}: {why}", model.name, model.endpoint.url())))
}

impl From<LlmError> for Halt {
    fn from(error: LlmError) -> Self {
        Self::Stop(Stop::File(error))
    }
}
