//! What can be wrong with data, tokenizer and cache files.
//!
//! Every message says what is wrong and where (file, line), what stood there, what was expected and what to do about it.
//! Line numbers count from 1; in parquet files they are row numbers.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// Which side of a collection an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Documents (passages).
    Document,
    /// Queries.
    Query,
}

impl fmt::Display for Side {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Document => "document",
            Self::Query => "query",
        })
    }
}

/// A line of a file (a row of a parquet file), counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Line or row, from 1.
    pub line: u64,
}

impl Place {
    pub(crate) fn new(path: &Path, line: u64) -> Self {
        Self { path: path.to_owned(), line }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.path.display(), self.line)
    }
}

/// Everything that reading, writing and tokenising a collection can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// The operating system refused to read or write.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// There is nothing at the given source.
    #[error("no data at `{given}`: expected a folder, a file, or `builtin:demo`; check the spelling of the path")]
    NoSource {
        /// The source as given.
        given: String,
    },
    /// No known format fits a folder or file.
    #[error("{}: no known data format fits; found {found}; {nearest}", path.display())]
    UnknownFormat {
        /// Folder or file.
        path: PathBuf,
        /// What is there.
        found: String,
        /// Which format comes nearest and what it lacks, or what to do.
        nearest: String,
    },
    /// A file without a single row.
    #[error("{}: the file has no rows; expected {expected}", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
        /// What a row looks like.
        expected: &'static str,
    },
    /// Bytes that are no UTF-8.
    #[error("{place}: no valid UTF-8 at byte {offset} of the (unpacked) file; convert the file, for example with `iconv -t UTF-8`")]
    NotUtf8 {
        /// Where.
        place: Place,
        /// Offset of the first bad byte from the start of the unpacked file.
        offset: u64,
    },
    /// A gzip stream that ends early or is damaged.
    #[error("{place}: the gzip stream is damaged or ends early ({source}); fetch or pack the file again")]
    Gzip {
        /// Where reading stopped.
        place: Place,
        /// The decoder's reason.
        source: io::Error,
    },
    /// A row that is no valid JSON, lacks a field, or has a field of the wrong kind.
    #[error("{place}: {problem}; expected {expected}")]
    Row {
        /// Where.
        place: Place,
        /// What is wrong.
        problem: String,
        /// What a row looks like.
        expected: &'static str,
    },
    /// A table row with the wrong columns.
    #[error("{place}: got {got} column(s) in `{row}`; expected {expected}")]
    Columns {
        /// Where.
        place: Place,
        /// Number of columns found.
        got: usize,
        /// The row, cut short.
        row: String,
        /// The columns that belong there.
        expected: &'static str,
    },
    /// A BEIR judgments file whose first line is a judgment.
    #[error("{}:1: no header, the first line is `{got}`; put the line `query-id<tab>corpus-id<tab>score` on top", path.display())]
    NoHeader {
        /// The file.
        path: PathBuf,
        /// Its first line.
        got: String,
    },
    /// A relevance grade that is no whole number.
    #[error("{place}: the grade `{got}` is no whole number; expected 0 for not relevant, 1 or more for relevant")]
    Grade {
        /// Where.
        place: Place,
        /// What stood there.
        got: String,
    },
    /// A pair judged twice with different grades.
    #[error(
        "{}: query `{query}` and document `{document}` are judged twice, with grades {first} and {second}; keep one of the lines",
        path.display()
    )]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// External query id.
        query: String,
        /// External document id.
        document: String,
        /// The earlier grade.
        first: i32,
        /// The later grade.
        second: i32,
    },
    /// An id that was used before.
    #[error("{place}: the {side} id `{id}` was used before, by {side} number {first}; every id may stand once: rename or remove one")]
    DuplicateId {
        /// Where it stands the second time.
        place: Place,
        /// Documents or queries.
        side: Side,
        /// The id.
        id: String,
        /// Which record had it first, from 1.
        first: u64,
    },
    /// One id with two different texts, in a format that repeats texts.
    #[error("{place}: the {side} id `{id}` stands here with another text than before; give each text an id of its own")]
    TwoTexts {
        /// Where the second text stands.
        place: Place,
        /// Documents or queries.
        side: Side,
        /// The id.
        id: String,
    },
    /// A record without id.
    #[error("{place}: this {side} has an empty id; give it one")]
    EmptyId {
        /// Where.
        place: Place,
        /// Documents or queries.
        side: Side,
    },
    /// An id that the files of a run (TREC), or one with an id on each line, cannot hold.
    #[error("{place}: the {side} id `{id}` {fault}; write it without, for example with `_`, here and wherever it is named")]
    UnfitId {
        /// Where.
        place: Place,
        /// Documents or queries.
        side: Side,
        /// The id, control characters escaped.
        id: String,
        /// What it has that cannot be, and why it cannot.
        fault: &'static str,
    },
    /// A record without text.
    #[error("{place}: the {side} `{id}` has no text (title and text are empty); remove it, with its judgments, or give it text")]
    EmptyText {
        /// Where.
        place: Place,
        /// Documents or queries.
        side: Side,
        /// Its id.
        id: String,
    },
    /// Judgments or lists about ids that the collection lacks.
    #[error(
        "{}: {count} row(s) name a {side} that the collection does not have: {examples}; add the missing {side} records or remove these rows",
        path.display()
    )]
    Dangling {
        /// The file that names them.
        path: PathBuf,
        /// Documents or queries.
        side: Side,
        /// Rows concerned.
        count: usize,
        /// The first few, with their lines.
        examples: String,
    },
    /// Rows that name records by texts which no record has.
    #[error(
        "{}: {count} {side} text(s) are no {side} of the collection: {examples}; texts are compared exactly, with `title text` \
         joined by one space: name records by id, or remove these rows",
        path.display()
    )]
    UnknownText {
        /// The file that holds them.
        path: PathBuf,
        /// Documents or queries.
        side: Side,
        /// Texts concerned.
        count: usize,
        /// The first few, cut short, with their lines.
        examples: String,
    },
    /// A file of teacher scores without a single score.
    #[error("{}: no row of this file has a score; score its documents with the teacher first, or do not use it as a teacher", path.display())]
    NoScores {
        /// The file.
        path: PathBuf,
    },
    /// A split that a collection does not have.
    #[error("`{collection}` has no split `{asked}`; it has {available}")]
    NoSplit {
        /// Name of the collection.
        collection: String,
        /// The split asked for.
        asked: String,
        /// The splits there are.
        available: String,
    },
    /// Two files of judgments of one split.
    #[error("{}: another file has judgments of the split `{split}` already; expected one, put their rows together or give this one another name", path.display())]
    SameSplit {
        /// The second file.
        path: PathBuf,
        /// The split.
        split: String,
    },
    /// A split in which nothing is relevant.
    #[error(
        "the split `{split}` of `{collection}` has no relevant pair: none of its {judgments} judgment(s) has a grade of 1 or more; \
         expected at least one, check the grades or use another split"
    )]
    NoPositives {
        /// Name of the collection.
        collection: String,
        /// The split.
        split: String,
        /// How many judgments it has.
        judgments: usize,
    },
    /// More records than dense ids can number.
    #[error("{place}: more than {} {side} records; split the collection", u32::MAX)]
    TooMany {
        /// Where the first one too many stands.
        place: Place,
        /// Documents or queries.
        side: Side,
    },
    /// A parquet file that cannot be read.
    #[error("{}: {reason}; expected a readable parquet file, write or fetch it again", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The reader's reason.
        reason: String,
    },
    /// A parquet file without a column that is needed.
    #[error("{}: no usable column for {wanted}; the columns are {found}", path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: String,
        /// The columns there are.
        found: String,
    },
    /// A parquet file whose columns may mean more than one thing.
    #[error("{}: {problem}; expected {expected}", path.display())]
    UnclearColumns {
        /// The file.
        path: PathBuf,
        /// Which columns there are and what is unclear about them.
        problem: String,
        /// How to make it clear.
        expected: &'static str,
    },
    /// A file of mined negatives that this version cannot take.
    #[error("{}: {problem}; expected a file written by `mine --format own`", path.display())]
    MinedHeader {
        /// The file.
        path: PathBuf,
        /// What is wrong with its header.
        problem: String,
    },
    /// Something that an output format cannot express.
    #[error("{}: cannot write {what}; {remedy}", path.display())]
    Unwritable {
        /// The output file or folder.
        path: PathBuf,
        /// What does not fit.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A tokenizer that cannot be read or used.
    #[error("{}: {reason}", path.display())]
    Tokenizer {
        /// The tokenizer file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A token cache that cannot be read or written.
    #[error("token cache {}: {source}; remove it and it is made anew", path.display())]
    Cache {
        /// The cache file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl CorpusError {
    /// For `map_err` on file operations.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// The start of a row, for messages: at most 80 characters, control characters escaped.
pub(crate) fn excerpt(row: &str) -> String {
    let mut cut: String = row.chars().take(80).flat_map(char::escape_debug).collect();
    if row.chars().nth(80).is_some() {
        cut.push('…');
    }
    cut
}
