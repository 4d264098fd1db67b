//! What `generate` and `relabel` share: who is asked and with which prompts, the estimate, and what is said at the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use corpus::Collection;
use indicatif::ProgressBar;
use llm::{
    Backoff, Context, Endpoint, Estimate, Folder, Key, Lack, Limits, LlmError, Model, Outcome, Progress, Prompt, Sampling, Session, Stop,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::args::LanguageModelArgs;
use crate::errors::{OrUsage, Usage};
use crate::{interrupt, output};

/// Who is asked, and how, as the flags say it. What two flags can say stands beside the one that does, for messages to name it.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) name: &'a str,
    /// A URL.
    pub(super) endpoint: &'a str,
    /// The environment variable with its key.
    pub(super) key_variable: &'a str,
    pub(super) temperature: (&'static str, f64),
    pub(super) body: (&'static str, Option<&'a str>),
    /// What another model of the same command gets: it is written down as well, and must not carry this one's key either.
    pub(super) other_body: (&'static str, Option<&'a str>),
    pub(super) logprobs: bool,
}

impl<'a> Asked<'a> {
    /// The model of the flags that every command has; `temperature` where none says another.
    pub(super) fn first(args: &'a LanguageModelArgs, temperature: f64, logprobs: bool) -> Self {
        let body = ("--body", args.body.as_deref());
        Self {
            name: &args.model,
            endpoint: &args.endpoint,
            key_variable: &args.key_variable,
            temperature: ("--temperature", args.temperature.unwrap_or(temperature)),
            body,
            other_body: body,
            logprobs,
        }
    }
}

/// A model at an endpoint.
pub(super) fn model(args: &LanguageModelArgs, asked: &Asked<'_>) -> Result<Model> {
    let wrong = |flag: &str, value: f64, expected: &str| Usage::new(format!("{flag} {value}: expected {expected}"));
    if !(args.timeout > 0.0 && args.timeout <= 86_400.0) {
        return Err(wrong("--timeout", args.timeout, "seconds above 0 and up to a day").into());
    }
    let (flag, temperature) = asked.temperature;
    if !(0.0..=2.0).contains(&temperature) {
        return Err(wrong(flag, temperature, "0 to 2").into());
    }
    if args.max_answer_tokens == 0 || args.concurrency == 0 || args.attempts == 0 || args.document_words == 0 {
        return Err(Usage::new("--max-answer-tokens, --concurrency, --attempts and --document-words are at least 1").into());
    }
    let variable = asked.key_variable;
    let key = Key::from_variable(variable).or_usage()?;
    let endpoint = Endpoint::new(asked.endpoint, key, Duration::from_secs_f64(args.timeout)).or_usage()?;
    // Messages show bodies, and job.json holds them.
    for (flag, body) in [asked.body, asked.other_body] {
        if body.is_some_and(|text| endpoint.key_stands_in(text)) {
            return Err(Usage::new(format!("{flag} carries the key of {variable}; that is sent in a header, from the environment")).into());
        }
    }
    let (flag, body) = asked.body;
    let body = match body {
        None => serde_json::Map::new(),
        Some(text) => serde_json::from_str(text)
            .map_err(|error| Usage::new(format!("{flag} {text}: {error}; expected a JSON object, for instance {{\"top_p\":0.9}}")))?,
    };
    let sampling = Sampling { temperature, max_answer_tokens: args.max_answer_tokens, logprobs: asked.logprobs, body };
    sampling.validate().map_err(|error| Usage::new(format!("{flag}: {error}")))?;
    if endpoint.key_is_readable_on_the_way() {
        output::note(&format!("warning: the key of {variable} goes to {} unencrypted; use https", endpoint.url()));
    }
    Ok(Model { endpoint: Arc::new(endpoint), name: asked.name.to_owned(), sampling })
}

/// The stage of the prompt that sends an answer back; every job has it.
const REPAIR: &str = "repair";

/// The user's prompts by stage; `stages` are those that there are beside [`REPAIR`].
pub(super) fn prompts<'s>(args: &LanguageModelArgs, stages: &[&'s str]) -> Result<BTreeMap<&'s str, PathBuf>, Usage> {
    let mut found = BTreeMap::new();
    for given in &args.prompt {
        let mut all = stages.iter().copied().chain([REPAIR]);
        let named = given.split_once('=').and_then(|(name, file)| Some((all.find(|stage| *stage == name)?, file)));
        let (stage, file) = match (named, stages) {
            (Some(named), _) => named,
            (None, [only]) => (*only, given.as_str()),
            _ => {
                return Err(Usage::new(format!(
                    "--prompt {given}: expected STAGE=FILE with one of the stages {}, {REPAIR}",
                    stages.join(", ")
                )));
            }
        };
        if found.insert(stage, PathBuf::from(file)).is_some() {
            return Err(Usage::new(format!("--prompt {given}: the stage {stage} has a prompt already")));
        }
    }
    Ok(found)
}

/// The prompt that sends an answer back: ours, or the user's.
fn repair(args: &LanguageModelArgs) -> Result<Prompt, Usage> {
    let file = args.prompt.iter().find_map(|given| given.strip_prefix(REPAIR)?.strip_prefix('='));
    llm::prompts::repair(file.map(Path::new)).or_usage()
}

/// One job at work.
pub(super) struct Desk<'a> {
    args: &'a LanguageModelArgs,
    folder: Option<Folder>,
    session: Session,
    job: Value,
    bars: Bars,
    /// Listens for Ctrl-C as long as the job lives.
    _runtime: Runtime,
}

impl<'a> Desk<'a> {
    /// Opens the job's folder. `identity` is what must not change while it goes on, `settings` what may. For an estimate nothing is written.
    pub(super) fn open(args: &'a LanguageModelArgs, mut identity: Value, settings: &Value, prompts: &[&Prompt]) -> Result<Self> {
        let repair = repair(args)?;
        let prompts: Vec<&Prompt> = prompts.iter().copied().chain([&repair]).collect();
        identity["prompts"] = prompts.iter().map(|prompt| prompt.version.clone()).collect();
        let job = json!({ "version": env!("CARGO_PKG_VERSION"), "job": identity, "settings": settings, "prompts": prompts });
        let runtime = interrupt::runtime()?;
        let interrupted = interrupt::listen(&runtime, "waiting for the requests under way");
        let limits = Limits { requests: args.max_requests, tokens: args.max_tokens };
        let (folder, session) = if args.dry_run {
            Folder::check(&args.output, &identity).map_err(wrong_request)?;
            (None, Session::for_estimates(&args.output)?)
        } else {
            let folder = Folder::open(&args.output, &identity).map_err(wrong_request)?;
            let backoff = Backoff { attempts: args.attempts, ..Backoff::default() };
            let session = Session::open(folder.path(), limits, backoff, interrupted).map_err(wrong_request)?;
            folder.write_job(&job)?;
            (Some(folder), session)
        };
        Ok(Self { args, folder, session: session.with_repair(repair), job, bars: Bars::default(), _runtime: runtime })
    }

    pub(super) fn context<'c>(&'c self, model: &'c Model, collection: &'c Collection) -> Context<'c> {
        Context {
            session: &self.session,
            model,
            collection,
            concurrency: self.args.concurrency,
            seed: self.args.seed,
            document_words: self.args.document_words,
            progress: &self.bars,
        }
    }

    /// Either says what the job would cost, or does it and writes its rows to `name`; `columns` are written to a file of their own.
    pub(super) fn work(
        self,
        name: &str,
        columns: Option<(&str, &[&str])>,
        estimate: impl FnOnce(&Self) -> Result<Estimate>,
        run: impl FnOnce(&Self) -> Result<Outcome>,
    ) -> Result<()> {
        let Some(folder) = &self.folder else { return self.say_estimate(estimate(&self)?) };
        let outcome = run(&self)?;
        self.bars.end();
        folder.write_outcome(name, &outcome)?;
        if let Some((name, columns)) = columns {
            folder.write_columns(name, &outcome, columns)?;
        }
        self.finish(folder, name, outcome)
    }

    fn say_estimate(&self, estimate: Estimate) -> Result<()> {
        let spent = self.session.spent();
        let after = |limit: Option<u64>, spent: u64, more: u64| match limit {
            None => "no limit is set".to_owned(),
            Some(limit) if spent + more <= limit => format!("within the limit of {limit}"),
            Some(limit) => format!("the limit is {limit}, of which {spent} are spent: the job would stop before its end"),
        };
        if self.args.json {
            return output::json(&json!({ "estimate": estimate, "spent": spent }));
        }
        output::line(&format!(
            "{} requests, {} more are answered already; {}",
            estimate.requests,
            estimate.answered,
            after(self.args.max_requests, spent.requests, estimate.requests)
        ));
        output::line(&format!("about {} tokens of prompts, and what is written", estimate.prompt_tokens));
        output::line(&format!(
            "at most {} tokens of both; {}",
            estimate.most_tokens,
            after(self.args.max_tokens, spent.tokens, estimate.most_tokens)
        ));
        output::line("repaired and repeated requests come on top; the limits hold for them too");
        Ok(())
    }

    fn finish(&self, folder: &Folder, name: &str, outcome: Outcome) -> Result<()> {
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        // What was sent back has another answer, which counts in its place.
        let (sent_back, left_out): (Vec<_>, Vec<_>) = outcome.rejected.iter().partition(|it| it.repaired.is_some());
        for rejected in &left_out {
            // What stands before the colon says what kind of reason it is.
            *reasons.entry(rejected.reason.split(':').next().unwrap_or_default().to_owned()).or_default() += 1;
        }
        let path = folder.path().join(name);
        let spent = self.session.spent();
        // The warning was said when it came up.
        let notes: Vec<&str> = self.session.warning().into_iter().chain(outcome.notes.iter().map(String::as_str)).collect();
        let counts = json!({
            "output": path, "rows": outcome.rows.len(), "rejected": left_out.len(), "reasons": reasons,
            "repaired": sent_back.iter().filter(|it| it.repaired == Some(true)).count(), "units": outcome.units, "open": outcome.open,
            "requests": spent.requests, "tokens": spent.tokens, "notes": notes,
        });
        let mut job = self.job.clone();
        job["outcome"] = counts.clone();
        folder.write_job(&job)?;
        if self.args.json {
            output::json(&counts)?;
        } else {
            output::line(&format!("{} rows written to {}", outcome.rows.len(), path.display()));
            for (reason, count) in &reasons {
                output::line(&format!("{count} left out: {reason}"));
            }
            output::line(&format!("{} requests and {} tokens in all runs of this job", spent.requests, spent.tokens));
        }
        outcome.notes.iter().for_each(|note| output::note(&format!("warning: {note}")));
        let left = format!("{} of {} have no answer yet", outcome.open, outcome.units);
        let rejected = folder.path().join("rejected.jsonl");
        match outcome.stop {
            Some(Stop::File(error)) => Err(error.into()),
            Some(Stop::Budget(lack)) => {
                let what = if spent.requests == 0 { "the budget is too small" } else { "the budget is used up" };
                let (why, flag) = match lack {
                    Lack::Requests => (format!("--max-requests is {}", self.args.max_requests.unwrap_or_default()), "--max-requests"),
                    Lack::Tokens(aside) => {
                        let limit = self.args.max_tokens.unwrap_or_default();
                        let rest = limit.saturating_sub(spent.tokens);
                        (format!("the next request sets aside {aside} tokens, and {rest} of --max-tokens {limit} are left"), "--max-tokens")
                    }
                };
                Err(anyhow!("{what}: {why}; {left}; go on with the same command and a greater {flag}"))
            }
            Some(Stop::Interrupted) => Err(anyhow!("interrupted, {left}; go on with the same command")),
            Some(Stop::Endpoint(why)) => Err(anyhow!("{why}; {left}; go on with the same command")),
            Some(Stop::Unreadable(why)) => Err(anyhow!(
                "{why}; {left}, {} has what was answered; once it is mended the same command goes on with the rest, and another \
                 --output asks for all of it anew",
                rejected.display()
            )),
            None if outcome.open > 0 => Err(anyhow!("{left}, {} says why; the same command asks for them again", rejected.display())),
            None if outcome.rows.is_empty() && outcome.rejected.is_empty() => {
                Err(anyhow!("no row came out: there was nothing to ask about"))
            }
            None if outcome.rows.is_empty() => Err(anyhow!("no row came out: every answer was left out, {} says why", rejected.display())),
            None => Ok(()),
        }
    }
}

/// A folder of another job, or one at work, is a wrong request; a disk that is full is not.
fn wrong_request(error: LlmError) -> anyhow::Error {
    if matches!(error, LlmError::Io { .. }) { error.into() } else { Usage::new(error.to_string()).into() }
}

/// Identity of a job for a collection. `changing` are settings that change its questions, beside those that every such job has: with others its
/// answers would be of no use, and its rows would be lost.
pub(super) fn identity(kind: &str, collection: &Collection, model: &Model, args: &LanguageModelArgs, changing: Value) -> Value {
    let mut settings = json!({ "seed": args.seed, "document_words": args.document_words });
    if let (Value::Object(all), Value::Object(more)) = (&mut settings, changing) {
        all.extend(more);
    }
    json!({
        "kind": kind, "collection": collection.name, "fingerprint": collection.fingerprint(), "model": model.name, "settings": settings,
    })
}

/// The settings of a model, without its key.
pub(super) fn settings(model: &Model, args: &LanguageModelArgs) -> Value {
    json!({ "endpoint": model.endpoint.url(), "sampling": model.sampling, "concurrency": args.concurrency })
}

/// A file of a flag, as the jobs take it.
pub(super) fn file<'p>(prompts: &'p BTreeMap<&str, PathBuf>, stage: &str) -> Option<&'p Path> {
    prompts.get(stage).map(PathBuf::as_path)
}

/// A bar for each stage.
#[derive(Default)]
struct Bars(Mutex<Option<ProgressBar>>);

impl Bars {
    fn end(&self) {
        if let Some(bar) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Bars {
    fn begin(&self, stage: &str, units: usize) {
        self.end();
        let bar = output::progress(units, stage);
        bar.set_message("asking");
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    }

    fn done(&self) {
        if let Some(bar) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.inc(1);
        }
    }

    fn warn(&self, warning: &str) {
        let say = || output::note(&format!("warning: {warning}"));
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }
}
