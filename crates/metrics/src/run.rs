//! A run: for every query the documents a system returned, with scores. Reads and writes TREC's six columns.
//!
//! The order of a ranking comes from the scores alone; the rank column of a file is not looked at, as in trec_eval.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::error::ReadError;
use crate::interner::Interner;
use crate::lines::for_each_line;

const FORM: &str = "`query Q0 document rank score tag` (TREC run)";

/// Rankings of a set of queries. Ids are held once; a retrieved document costs twelve bytes.
#[derive(Clone, Debug, Default)]
pub struct Run {
    queries: Interner,
    documents: Interner,
    rankings: Vec<Ranking>,
    tag: Option<String>,
}

/// What one query got, in the order pushed.
#[derive(Clone, Debug, Default)]
struct Ranking {
    documents: Vec<u32>,
    scores: Vec<f64>,
}

impl Run {
    /// No ranking.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a TREC run: `query Q0 document rank score tag`, any white space, in any order of lines. Blank lines and lines starting
    /// with `#` are skipped; a missing tag is accepted.
    ///
    /// # Errors
    /// An unreadable or empty file, a line of another form, a score that is no number, a document listed twice for a query.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let path = path.as_ref();
        let mut run = Self::new();
        let mut previous: Option<(String, u32)> = None;
        for_each_line(path, |number, line| {
            let malformed = |problem: String| ReadError::Malformed { path: path.to_owned(), line: number, problem, expected: FORM };
            let mut columns = line.split_ascii_whitespace();
            let (Some(query), Some(_), Some(document), Some(_), Some(score)) =
                (columns.next(), columns.next(), columns.next(), columns.next(), columns.next())
            else {
                return Err(malformed(format!("{} columns", line.split_ascii_whitespace().count())));
            };
            let score = match score.parse::<f64>() {
                Ok(value) if !value.is_nan() => value,
                _ => return Err(malformed(format!("score {score:?} is not a number"))),
            };
            // Files are grouped by query almost always, which saves a look-up per line.
            let number = match &previous {
                Some((name, number)) if name == query => *number,
                _ => {
                    let number = run.query_number(query);
                    previous = Some((query.to_owned(), number));
                    number
                }
            };
            run.append(number, document, score);
            if let Some(tag) = columns.next()
                && run.tag.as_deref() != Some(tag)
            {
                run.tag = Some(tag.to_owned());
            }
            Ok(())
        })?;
        if run.rankings.is_empty() {
            return Err(ReadError::Empty { path: path.to_owned() });
        }
        match run.repeated() {
            Some((query, document)) => {
                let line = second_line(path, &query, &document)?;
                Err(ReadError::Repeated { path: path.to_owned(), line, query, document })
            }
            None => Ok(run),
        }
    }

    /// Adds a retrieved document. Order does not matter. A document pushed twice for a query is evaluated once, at its better
    /// position; a NaN score ranks last.
    pub fn push(&mut self, query: &str, document: &str, score: f32) {
        let query = self.query_number(query);
        self.append(query, document, f64::from(score));
    }

    /// Query ids in order of first appearance.
    pub fn queries(&self) -> impl Iterator<Item = &str> {
        (0..self.rankings.len()).map(|number| self.queries.name(number as u32))
    }

    /// Number of retrieved documents over all queries.
    pub fn len(&self) -> usize {
        self.rankings.iter().map(|ranking| ranking.documents.len()).sum()
    }

    /// Whether nothing was retrieved.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tag of the last line of the file this run was read from.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// A query's documents and scores, best first (score descending, ties by document id descending); nothing for an unknown query.
    pub fn ranking(&self, query: &str) -> impl Iterator<Item = (&str, f64)> {
        let ranked = self.ranked(query, true).unwrap_or_default();
        ranked.into_iter().map(|(score, document)| (self.documents.name(document), score))
    }

    /// Writes the run in TREC's form, queries in order of first appearance, ranks from 1, single spaces. Scores are written with as
    /// many digits as reading them back needs (at most 9 significant ones for an f32). The file is written beside its place and
    /// renamed, so that `path` never holds half a run.
    ///
    /// # Errors
    /// `InvalidInput` when the tag or an id is empty or has white space in it, which the format cannot hold; otherwise what the
    /// file system says.
    pub fn write_trec(&self, path: impl AsRef<Path>, tag: &str) -> io::Result<()> {
        let path = path.as_ref();
        let Some(name) = path.file_name() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{}: not a file name", path.display())));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(hidden);
        let written = self.write_lines(&part, tag).and_then(|()| std::fs::rename(&part, path));
        if written.is_err() {
            // The first error is the one to report; a leftover part file harms nobody.
            let _ = std::fs::remove_file(&part);
        }
        written
    }

    fn write_lines(&self, path: &Path, tag: &str) -> io::Result<()> {
        check_column("tag", tag)?;
        let mut out = BufWriter::with_capacity(1 << 18, File::create(path)?);
        for query in self.queries() {
            check_column("query id", query)?;
            for (position, (document, score)) in self.ranking(query).enumerate() {
                check_column("document id", document)?;
                let rank = position + 1;
                let single = score as f32;
                if f64::from(single) == score {
                    writeln!(out, "{query} Q0 {document} {rank} {single} {tag}")?;
                } else {
                    writeln!(out, "{query} Q0 {document} {rank} {score} {tag}")?;
                }
            }
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }

    /// A query's documents with scores, best first, or None for a query that is not in the run. `double`: compare scores as f64,
    /// else as the f32 they round to.
    pub(crate) fn ranked(&self, query: &str, double: bool) -> Option<Vec<(f64, u32)>> {
        let ranking = &self.rankings[self.queries.find(query)? as usize];
        let mut ranked: Vec<(f64, u32)> = ranking
            .scores
            .iter()
            .zip(&ranking.documents)
            .map(|(&score, &document)| (if double { score } else { f64::from(score as f32) }, document))
            .collect();
        ranked.sort_unstable_by(|a, b| {
            b.0.partial_cmp(&a.0)
                .unwrap_or(Ordering::Equal)
                .then_with(|| self.documents.name(b.1).as_bytes().cmp(self.documents.name(a.1).as_bytes()))
        });
        Some(ranked)
    }

    pub(crate) fn document_number(&self, document: &str) -> Option<u32> {
        self.documents.find(document)
    }

    fn query_number(&mut self, query: &str) -> u32 {
        let number = self.queries.intern(query);
        if number as usize == self.rankings.len() {
            self.rankings.push(Ranking::default());
        }
        number
    }

    fn append(&mut self, query: u32, document: &str, score: f64) {
        let document = self.documents.intern(document);
        let ranking = &mut self.rankings[query as usize];
        ranking.documents.push(document);
        ranking.scores.push(if score.is_nan() { f64::NEG_INFINITY } else { score });
    }

    /// The first query with a document listed twice, and that document.
    fn repeated(&self) -> Option<(String, String)> {
        let mut sorted = Vec::new();
        for (query, ranking) in self.queries().zip(&self.rankings) {
            sorted.clear();
            sorted.extend_from_slice(&ranking.documents);
            sorted.sort_unstable();
            if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                return Some((query.to_owned(), self.documents.name(pair[0]).to_owned()));
            }
        }
        None
    }
}

fn check_column(what: &str, value: &str) -> io::Result<()> {
    if value.is_empty() || value.contains(char::is_whitespace) || (what == "query id" && value.starts_with('#')) {
        let message = format!("{what} {value:?} cannot stand in a TREC run: it is empty, has white space in it or starts a comment");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}

/// Line of the second occurrence of a document; only asked for once it is known that there is one.
fn second_line(path: &Path, query: &str, document: &str) -> Result<usize, ReadError> {
    let mut seen = 0;
    let mut found = 0;
    for_each_line(path, |number, line| {
        let mut columns = line.split_ascii_whitespace();
        if columns.next() == Some(query) && columns.nth(1) == Some(document) {
            seen += 1;
            if seen == 2 {
                found = number;
            }
        }
        Ok(())
    })?;
    Ok(found)
}
