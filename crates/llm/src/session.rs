//! Asking a question: out of the journal where it was answered, else from the endpoint, within the budget, again where it failed, and once more
//! where the answer has not the form asked for.

use std::{
    cell::Cell,
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
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
    cuts::{self, Cuts},
    endpoint::{Charge, Endpoint, Failure, Trouble},
    error::LlmError,
    form::{Form, Unread},
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
/// Characters of an answer that a message shows at most.
const EXCERPT: usize = 80;

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
    /// To this question, which the endpoint does not take, or the model does not answer; others it may. `paid` where the model has worked for that.
    Refused { why: String, paid: bool },
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
    /// The model answers, and nothing that it says can be read.
    Unreadable(String),
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
    /// Whether answers have the form asked for.
    form: Form,
    /// Whether prompts are counted in full.
    cuts: Cuts,
    /// That they are not: said once.
    warning: OnceLock<String>,
    /// Whether somebody was told.
    warned: AtomicBool,
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
            form: Form::default(),
            cuts: Cuts::default(),
            warning: OnceLock::new(),
            warned: AtomicBool::default(),
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

    /// What is wrong with the answers of this run as a whole, in one line, if something seems to be.
    pub fn warning(&self) -> Option<&str> {
        self.warning.get().map(String::as_str)
    }

    /// The same, to the first who asks once it is there.
    pub(crate) fn untold(&self) -> Option<&str> {
        self.warning().filter(|_| !self.warned.swap(true, Ordering::SeqCst))
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
        let (asked_now, can_be_read) = (Cell::new(false), Cell::new(true));
        let check = |answer: &Answer| {
            let checked = check(answer);
            can_be_read.set(!matches!(checked, Err(Fault::Form(_))));
            checked
        };
        let judged = self.judged(question, &question.id(model), check, |id, messages, repair| {
            if let Some(known) = self.find(model, id) {
                return Ok(known);
            }
            if let Some((unread, last)) = self.form.hopeless(question.stage) {
                return Err(Halt::Stop(unreadable(model, question.stage, unread, &last)));
            }
            asked_now.set(true);
            self.answer(model, question, id, messages, repair)
        });
        let begins = |text: &str| chat::brief(&model.endpoint.hidden(text), EXCERPT);
        match &judged {
            // Out of the journal too: it shows that the model can.
            Ok(_) if can_be_read.get() => self.form.read(question.stage),
            Ok(Judged { unused, .. }) => {
                if let Some(Unused { reason, answer, .. }) = unused.last() {
                    let last = Unread { reason: reason.clone(), begins: begins(&answer.text), cut: answer.cut };
                    self.form.unread(question.stage, asked_now.get(), last);
                }
            }
            // No text at all, or what a moderation took away.
            Err(Halt::Refused { why, paid: true }) => {
                self.form.unread(question.stage, true, Unread { reason: why.clone(), begins: String::new(), cut: false });
            }
            Err(_) => {}
        }
        judged
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
                    let usage = reply.usage.filter(|usage| believed(*usage).is_some());
                    // What was sent before, whole or but for its end, may be cached, and some count nothing of that.
                    if tries == 0 && repair.is_none() {
                        self.look_for_cuts(model, question, usage.map_or(0, |it| it.prompt), reply.cached);
                    }
                    let answer = Answer {
                        text: reply.text,
                        cut: reply.cut,
                        max_answer_tokens: longest,
                        logprob: reply.logprob,
                        asked_logprob: model.sampling.logprobs,
                        usage,
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
                    return Err(self.refused(model, message, REFUSALS, charged));
                }
                Trouble::Forbidden => return Err(self.refused(model, message, FORBIDDEN, charged)),
                Trouble::Odd if odd + 1 >= ODD_ANSWERS => return Err(self.refused(model, message, REFUSALS, charged)),
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
    fn refused(&self, model: &Model, message: String, most: u32, charged: u64) -> Halt {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let count = refused.entry(model.name.clone()).or_default();
        *count += 1;
        if *count < most || self.budget.known(&model.name).answered {
            return Halt::Refused { why: message, paid: charged > 0 };
        }
        let hint = "check the model's name, the longest answer and the fields added to requests";
        stop_at(model, &format!("it has refused {count} requests and answered none, the last with {message}; {hint}"))
    }

    /// Looks whether a prompt was `counted` with fewer tokens than it must have, what was `cached` included, and takes down what to say of it.
    fn look_for_cuts(&self, model: &Model, question: &Question<'_>, counted: u64, cached: u64) {
        // Not counted, or said already.
        if counted == 0 || self.warning.get().is_some() {
            return;
        }
        let fewest = cuts::fewest_tokens(question.prompt, &question.messages);
        if self.cuts.seen(&model.name, fewest, counted.saturating_add(cached)) {
            let characters: usize = question.messages.iter().map(|message| message.content.chars().count()).sum();
            let (name, url) = (&model.name, model.endpoint.url());
            // Of several who find it at once the first has said it.
            let _ = self.warning.set(format!(
                "model {name} at {url} counted {counted} tokens in a prompt of {characters} characters: the server seems to cut prompts, and answers \
                 then are to other questions; raise its context length (Ollama: OLLAMA_CONTEXT_LENGTH, llama.cpp: -c) or show less (--depth, \
                 --passages, --candidates, --document-words), in another --output, as what was answered is not asked again"
            ));
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

/// The end of a job whose answers cannot be read: how many, the last of them, and what to do.
fn unreadable(model: &Model, stage: &str, unread: u32, last: &Unread) -> Stop {
    let Unread { reason, begins, cut } = last;
    let shown = if begins.is_empty() { String::new() } else { format!(" (it begins `{begins}`)") };
    let help = match cut {
        true => "give answers more room (--max-answer-tokens), or have the model think less (--body)",
        false => {
            "look at the server's chat template, the model and the prompt (--prompt); where JSON is asked for, \
             --body '{\"response_format\":{\"type\":\"json_object\"}}' helps with many servers"
        }
    };
    let (name, url) = (&model.name, model.endpoint.url());
    Stop::Unreadable(format!(
        "model {name} at {url}: {unread} questions in a row ({stage}) have no answer that can be read, and none before them had one; the last: \
         {reason}{shown}; {help}"
    ))
}

impl From<LlmError> for Halt {
    fn from(error: LlmError) -> Self {
        Self::Stop(Stop::File(error))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn model(name: &str, sampling: Sampling) -> Model {
        let endpoint = Endpoint::new("http://localhost:1/v1", None, Duration::from_secs(1)).unwrap();
        Model { endpoint: Arc::new(endpoint), name: name.to_owned(), sampling }
    }

    /// The journals that there are hold answers under these: what is asked has the id that it had, however it is sampled, and everything else that
    /// is asked has another.
    #[test]
    fn a_question_keeps_its_id() {
        let prompt = Prompt::builtin("p", "about {{query}}");
        let sources = json!({ "query": "q0", "passages": ["d1"] });
        let question = Question { stage: "verdicts", prompt: &prompt, messages: prompt.filled(&[("query", "foxes")]), sources, sample: 0 };
        let plain = model("m", Sampling::default());
        let known = "8f6fa4dca73e87bf1eac69ad684d5e16";
        assert_eq!(question.id(&plain), known);
        let body = Map::from_iter([("reasoning_effort".to_owned(), json!("high"))]);
        let other = Sampling { temperature: 1.0, max_answer_tokens: 9, logprobs: true, body };
        assert_eq!(question.id(&model("m", other)), known);

        let longer = Prompt::builtin("p", "tell me about {{query}}");
        let ids = [
            question.id(&model("n", Sampling::default())),
            Question { stage: "second verdicts", ..question.clone() }.id(&plain),
            Question { prompt: &longer, ..question.clone() }.id(&plain),
            Question { messages: prompt.filled(&[("query", "hens")]), ..question.clone() }.id(&plain),
            Question { sources: json!({ "query": "q1" }), ..question.clone() }.id(&plain),
            Question { sample: 1, ..question.clone() }.id(&plain),
        ];
        let all: std::collections::HashSet<&str> = ids.iter().map(String::as_str).chain([known]).collect();
        assert_eq!(all.len(), 7, "{ids:?}");
    }
}
