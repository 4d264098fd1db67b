//! What can be wrong with a request for a job, and with the files of one. Troubles of the endpoint are in `endpoint.rs`.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Everything that ends a job before it has begun, and file errors at any time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LlmError {
    /// The operating system refused to read or write.
    #[error("{}: {reason}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Its reason.
        reason: io::Error,
    },
    /// The environment variable of the key holds something else.
    #[error("the environment variable {variable} {problem}; expected the endpoint's key and nothing else")]
    Key {
        /// Name of the variable.
        variable: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A URL that is none, or carries a secret.
    #[error("endpoint `{given}`: {problem}; expected the base URL, for instance http://localhost:8080/v1")]
    Url {
        /// As given, without what could be a secret.
        given: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A prompt, a file of examples or of attributes.
    #[error("{place}: {problem}; expected {expected}")]
    Text {
        /// File, with the line where there is one.
        place: String,
        /// What is wrong.
        problem: String,
        /// What was expected.
        expected: String,
    },
    /// A damaged journal.
    #[error("{}:{line}: {problem}; the journal is written by the program alone: take the line out, or begin in another folder", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Another process writes the journal.
    #[error("{}: another job is running on this journal; wait until it has ended, or choose another output folder", path.display())]
    Locked {
        /// The journal.
        path: PathBuf,
    },
    /// The file system of the journal has no locks.
    #[error("{}: cannot be locked against other jobs ({reason}); choose an output folder on another file system", path.display())]
    NoLock {
        /// The journal.
        path: PathBuf,
        /// The operating system's reason.
        reason: io::Error,
    },
    /// The folder holds answers to other questions.
    #[error("{}: holds a job with {what} {there}, asked for is {asked}; choose another output folder, or ask for what it has to go on", path.display())]
    OtherJob {
        /// The folder.
        path: PathBuf,
        /// What differs.
        what: String,
        /// What the folder has.
        there: String,
        /// What was asked for.
        asked: String,
    },
    /// What is named as the folder of a job is something else.
    #[error("{}: {problem}; expected a new or empty folder, or that of a job to go on with: choose another output folder", path.display())]
    NoJob {
        /// File or folder.
        path: PathBuf,
        /// What it is.
        problem: String,
    },
    /// A setting outside its range.
    #[error("{0}")]
    Setting(String),
}

impl LlmError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |reason| Self::Io { path, reason }
    }
}
