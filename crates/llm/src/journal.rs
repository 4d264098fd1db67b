//! The journal of a job: one JSON line for every request before it is made, and one for what came of it. It is what a job goes on from.
//!
//! Lines are only ever added. A line that a crash cut off is taken away when the journal is opened again. A request that was under way at
//! that moment counts with all that was set aside for it.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    budget::{Aside, Past},
    chat::Usage,
    error::LlmError,
};

/// An answer as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// What the model wrote.
    pub text: String,
    /// Whether it ended at the longest allowed length.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Longest length allowed, in tokens.
    pub max_answer_tokens: u64,
    /// Mean log-probability of its tokens, where the endpoint gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprob: Option<f64>,
    /// Whether that was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked_logprob: bool,
    /// Tokens, where the endpoint counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Tokens that it counts for in the budget.
    pub charged: u64,
    /// Which request this was the answer to, in words.
    pub stage: String,
    /// Who wrote it.
    pub model: String,
    /// The prompt's version.
    pub prompt: String,
    /// That of the prompt that an answer before it was sent back with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair_prompt: Option<String>,
    /// Ids of what it was made from.
    pub sources: Value,
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Asked {
        id: &'a str,
        aside: u64,
        /// The part of it that is beyond what the request allows.
        #[serde(default, skip_serializing_if = "is_zero")]
        beyond: u64,
    },
    Answer {
        id: String,
        #[serde(flatten)]
        answer: Box<Answer>,
    },
    Failed {
        id: &'a str,
        charged: u64,
        why: String,
    },
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// None where it is only read.
    file: Option<Mutex<Tail>>,
    answers: Mutex<HashMap<String, Answer>>,
}

impl Journal {
    /// Opens or begins the journal at `path`, and says what earlier runs have left according to it. Only one process can have it open.
    pub(crate) fn open(path: &Path) -> Result<(Self, Past), LlmError> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(LlmError::io(path))?;
        file.try_lock().map_err(|error| not_locked(path, error))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(LlmError::io(path))?;
        let whole = whole_lines(&bytes);
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(LlmError::io(path))?;
            file.seek(SeekFrom::End(0)).map_err(LlmError::io(path))?;
        }
        Self::of(path, &bytes[..whole], Some(Mutex::new(Tail { file, failed: false })))
    }

    /// What the journal at `path` holds now, for looking alone; nothing where there is none.
    pub(crate) fn look(path: &Path) -> Result<(Self, Past), LlmError> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            other => other.map_err(LlmError::io(path))?,
        };
        Self::of(path, &bytes[..whole_lines(&bytes)], None)
    }

    fn of(path: &Path, bytes: &[u8], file: Option<Mutex<Tail>>) -> Result<(Self, Past), LlmError> {
        let fault = |line, problem| LlmError::Journal { path: path.to_owned(), line, problem };
        let (mut answers, mut open, mut past) = (HashMap::new(), HashMap::<String, Vec<Aside>>::new(), Past::default());
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let line: Line<'_> = serde_json::from_slice(line).map_err(|error| fault(number + 1, error.to_string()))?;
            // An end whose beginning is lost, as a disk that was full may leave it, counts all the same.
            let mut close = |id: &str, charged: u64| {
                let aside = open.get_mut(id).and_then(Vec::pop);
                past.spent.requests += u64::from(aside.is_none());
                past.spent.tokens = past.spent.tokens.saturating_add(charged);
                aside
            };
            match line {
                Line::Asked { id, aside, beyond } => {
                    past.spent.requests += 1;
                    open.entry(id.to_owned()).or_default().push(Aside { tokens: aside, beyond: beyond.min(aside) });
                }
                Line::Answer { id, answer } => {
                    let aside = close(&id, answer.charged);
                    let known = past.models.entry(answer.model.clone()).or_default();
                    known.learn(aside.unwrap_or(Aside { tokens: answer.charged, beyond: 0 }), answer.charged);
                    answers.insert(id, *answer);
                }
                Line::Failed { id, charged, .. } => drop(close(id, charged)),
            }
        }
        past.spent.tokens = open.values().flatten().fold(past.spent.tokens, |sum, aside| sum.saturating_add(aside.tokens));
        let journal = Self { path: path.to_owned(), file, answers: Mutex::new(answers) };
        Ok((journal, past))
    }

    /// Answers in it.
    pub(crate) fn len(&self) -> usize {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The answer to a request. One that was cut off at a shorter length than `max_answer_tokens` is none, nor is one that was given without
    /// log-probabilities where these are wanted: both are worth asking again.
    pub(crate) fn find(&self, id: &str, max_answer_tokens: u64, logprobs: bool) -> Option<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = |answer: &&Answer| !answer.cut || answer.max_answer_tokens >= max_answer_tokens;
        // An endpoint that gives none was asked; it is not asked again each time.
        let likely = |answer: &&Answer| !logprobs || answer.asked_logprob || answer.logprob.is_some();
        answers.get(id).filter(whole).filter(likely).cloned()
    }

    /// A request is about to be made.
    pub(crate) fn asked(&self, id: &str, aside: Aside) -> Result<(), LlmError> {
        self.add(&Line::Asked { id, aside: aside.tokens, beyond: aside.beyond }, false)
    }

    /// It was answered. Returns when the line is on the disk.
    pub(crate) fn answered(&self, id: &str, answer: Answer) -> Result<(), LlmError> {
        self.add(&Line::Answer { id: id.to_owned(), answer: Box::new(answer.clone()) }, true)?;
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), answer);
        Ok(())
    }

    /// It was not.
    pub(crate) fn failed(&self, id: &str, charged: u64, why: &str) -> Result<(), LlmError> {
        self.add(&Line::Failed { id, charged, why: why.to_owned() }, false)
    }

    fn add(&self, line: &Line<'_>, sync: bool) -> Result<(), LlmError> {
        let mut bytes = serde_json::to_vec(line).map_err(|error| LlmError::io(&self.path)(error.into()))?;
        bytes.push(b'\n');
        let closed = || LlmError::io(&self.path)(std::io::Error::other("the journal was opened for looking alone"));
        let mut tail = self.file.as_ref().ok_or_else(closed)?.lock().unwrap_or_else(PoisonError::into_inner);
        // One write: a kill leaves a whole line or none.
        tail.append(sync, |file| file.write_all(&bytes)).map_err(LlmError::io(&self.path))
    }
}

/// The end of the file, where lines are added.
#[derive(Debug)]
struct Tail {
    file: File,
    /// A line could not be added: what follows would miss it.
    failed: bool,
}

impl Tail {
    /// Adds what `write` writes, all of it or nothing.
    fn append(&mut self, sync: bool, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> std::io::Result<()> {
        if self.failed {
            return Err(std::io::Error::other("an earlier line could not be written"));
        }
        let before = self.file.metadata()?.len();
        let written = write(&mut self.file).inspect_err(|_| {
            // A full disk must not leave half a line before whole ones.
            let _ = self.file.set_len(before);
        });
        let done = written.and_then(|()| if sync { self.file.sync_data() } else { Ok(()) });
        self.failed = done.is_err();
        done
    }
}

/// Why the journal cannot be had for this process alone. Not every file system locks; that is its own message, and no other process.
fn not_locked(path: &Path, error: TryLockError) -> LlmError {
    match error {
        TryLockError::WouldBlock => LlmError::Locked { path: path.to_owned() },
        TryLockError::Error(reason) => LlmError::NoLock { path: path.to_owned(), reason },
    }
}

/// Whether a file is a journal, by its first line; an empty one, or one whose first line was cut off, is.
pub(crate) fn is_one(path: &Path) -> Result<bool, LlmError> {
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(16).read_to_end(&mut start)).map_err(LlmError::io(path))?;
    let begins = br#"{"event":""#;
    let length = start.len().min(begins.len());
    Ok(start[..length] == begins[..length])
}

/// Bytes up to the end of the last whole line.
fn whole_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Known, Spent};

    fn aside(tokens: u64) -> Aside {
        Aside { tokens, beyond: 0 }
    }

    fn answer(text: &str, charged: u64, cut: bool) -> Answer {
        Answer {
            text: text.into(),
            cut,
            max_answer_tokens: 10,
            logprob: Some(-0.25),
            asked_logprob: true,
            usage: Some(Usage { prompt: 3, answer: 2, total: 0 }),
            charged,
            stage: "queries".into(),
            model: "m".into(),
            prompt: "p@1".into(),
            repair_prompt: None,
            sources: serde_json::json!({ "document": "d" }),
        }
    }

    #[test]
    fn it_comes_back_as_it_was_and_counts_what_was_spent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let (journal, past) = Journal::open(&path).unwrap();
        assert_eq!((past.spent, journal.len()), (Spent::default(), 0));
        journal.asked("a", aside(100)).unwrap();
        journal.answered("a", answer("one", 5, false)).unwrap();
        journal.asked("b", aside(100)).unwrap();
        journal.failed("b", 100, "status 500").unwrap();
        journal.asked("b", aside(100)).unwrap();
        journal.answered("b", answer("two", 7, true)).unwrap();
        journal.asked("c", aside(1000)).unwrap();
        assert!(matches!(Journal::open(&path), Err(LlmError::Locked { .. })), "two processes would mix their lines");
        drop(journal);
        let (journal, past) = Journal::open(&path).unwrap();
        assert_eq!(past.spent, Spent { requests: 4, tokens: 5 + 100 + 7 + 1000 });
        assert_eq!(journal.find("a", 99, true), Some(answer("one", 5, false)));
        assert_eq!(journal.find("b", 10, true), Some(answer("two", 7, true)));
        assert_eq!(journal.find("b", 11, true), None, "a cut answer may be asked for again at a greater length");
        assert_eq!(journal.find("c", 1, true), None);
    }

    #[test]
    fn an_answer_that_was_asked_for_without_log_probabilities_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(&folder.path().join("journal.jsonl")).unwrap();
        for (id, asked_logprob) in [("without", false), ("asked in vain", true)] {
            journal.answered(id, Answer { logprob: None, asked_logprob, ..answer("text", 1, false) }).unwrap();
            assert!(journal.find(id, 1, false).is_some());
            assert_eq!(journal.find(id, 1, true).is_some(), asked_logprob, "{id}");
        }
    }

    /// A disk that is full in the middle of a line: the line is taken back, and nothing is written after it.
    #[test]
    fn half_a_line_is_taken_back_and_ends_the_writing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let (journal, _) = Journal::open(&path).unwrap();
        journal.asked("a", aside(50)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let full =
            |file: &mut File| file.write_all(b"{\"event\":\"asked\",\"id").and_then(|()| Err(std::io::ErrorKind::StorageFull.into()));
        assert!(journal.file.as_ref().unwrap().lock().unwrap().append(false, full).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        let message = journal.answered("a", answer("late", 5, false)).unwrap_err().to_string();
        assert!(message.contains("an earlier line could not be written"), "{message}");
        assert_eq!(journal.find("a", 1, false), None, "what is not on disk was not answered");
        drop(journal);
        let (journal, past) = Journal::open(&path).unwrap();
        assert_eq!((past.spent, journal.len()), (Spent { requests: 1, tokens: 50 }, 0));
        journal.answered("a", answer("now", 5, false)).unwrap();
    }

    /// What answers cost beyond what their requests allowed is known to the next run.
    #[test]
    fn what_was_learned_of_a_model_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let (journal, past) = Journal::open(&path).unwrap();
        assert!(past.models.is_empty());
        journal.asked("a", aside(100)).unwrap();
        journal.answered("a", answer("one", 130, false)).unwrap();
        // Set aside with what had been learned by then; within it.
        journal.asked("b", Aside { tokens: 160, beyond: 60 }).unwrap();
        journal.answered("b", answer("two", 150, false)).unwrap();
        journal.asked("c", Aside { tokens: 160, beyond: 60 }).unwrap();
        journal.answered("c", answer("three", 180, false)).unwrap();
        journal.answered("d", answer("its beginning is lost", 900, false)).unwrap();
        drop(journal);
        let (_, past) = Journal::open(&path).unwrap();
        assert_eq!(past.models, HashMap::from([("m".to_owned(), Known { answered: true, beyond: 160 })]));
    }

    #[test]
    fn a_file_that_cannot_be_locked_is_not_another_process() {
        let path = Path::new("job/journal.jsonl");
        let told = |error, parts: [&str; 3]| {
            let message = not_locked(path, error).to_string();
            assert!(parts.iter().all(|part| message.contains(part)) && message.lines().count() == 1, "{message}");
        };
        told(TryLockError::WouldBlock, ["job/journal.jsonl: ", "another job is running", "choose another output folder"]);
        let reason = std::io::Error::other("no locks available");
        told(TryLockError::Error(reason), ["job/journal.jsonl: ", "(no locks available)", "another file system"]);
    }

    #[test]
    fn an_end_without_a_beginning_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        std::fs::write(&path, "{\"event\":\"failed\",\"id\":\"a\",\"charged\":7,\"why\":\"\"}\n").unwrap();
        let (journal, past) = Journal::open(&path).unwrap();
        assert_eq!(past.spent, Spent { requests: 1, tokens: 7 });
        journal.answered("b", answer("text", 5, false)).unwrap();
        drop(journal);
        let (journal, past) = Journal::open(&path).unwrap();
        assert_eq!((past.spent, journal.len()), (Spent { requests: 2, tokens: 12 }, 1));
    }

    /// Cut at every byte, the journal opens, holds the answers whose lines are whole, and goes on.
    #[test]
    fn a_crash_at_any_byte_leaves_a_journal_that_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let (journal, _) = Journal::open(&path).unwrap();
        for id in ["a", "b"] {
            journal.asked(id, aside(50)).unwrap();
            journal.answered(id, answer("text \u{e9}", 5, false)).unwrap();
        }
        drop(journal);
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let lines = bytes[..length].iter().filter(|byte| **byte == b'\n').count();
            let (journal, past) = Journal::open(&path).unwrap();
            assert_eq!(journal.len(), lines / 2, "{length} bytes");
            assert_eq!(past.spent.tokens, 5 * (lines as u64 / 2) + 50 * (lines as u64 % 2), "{length} bytes");
            journal.asked("z", aside(1)).unwrap();
            journal.answered("z", answer("end", 1, false)).unwrap();
            drop(journal);
            assert_eq!(Journal::open(&path).unwrap().0.find("z", 1, false).unwrap().text, "end");
        }
    }

    #[test]
    fn a_damaged_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        std::fs::write(&path, "{\"event\":\"asked\",\"id\":\"a\",\"aside\":1}\nrubbish\n").unwrap();
        let message = Journal::open(&path).unwrap_err().to_string();
        assert!(message.contains("journal.jsonl:2"), "{message}");
    }
}
