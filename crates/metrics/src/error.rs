//! Why a qrels or run file could not be read. Every variant names the file; those about content name the line (from 1).

use std::io;
use std::path::PathBuf;

/// A qrels or run file that could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file could not be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A line is not in the expected form.
    #[error("{}:{line}: {problem}; expected {expected}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
        /// The form that is read.
        expected: &'static str,
    },
    /// A run lists a document twice for one query.
    #[error("{}:{line}: document {document} is listed a second time for query {query}; remove one of the lines", path.display())]
    Repeated {
        /// The file.
        path: PathBuf,
        /// Line of the second occurrence.
        line: usize,
        /// Query id.
        query: String,
        /// Document id.
        document: String,
    },
    /// Qrels grade a document twice, differently.
    #[error("{}:{line}: document {document} of query {query} has grade {second} here and {first} before; keep one", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// Line of the second grade.
        line: usize,
        /// Query id.
        query: String,
        /// Document id.
        document: String,
        /// Grade read first.
        first: i32,
        /// Grade read second.
        second: i32,
    },
    /// There is no line with content.
    #[error("{}: no judgment or result in the file", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}
