//! Relevance judgments: query → document → grade. Reads TREC qrels and BEIR tsv; which one it is, the first line decides.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::ReadError;
use crate::lines::for_each_line;

/// Relevance judgments of a set of queries. A negative grade means "in the pool, not judged", as in trec_eval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Qrels {
    queries: BTreeMap<String, BTreeMap<String, i32>>,
}

/// The two layouts that [`Qrels::read`] knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// `query iteration document grade`, any white space.
    Trec,
    /// `query⇥document⇥grade`, with or without a header.
    Beir,
}

impl Layout {
    const TREC_FORM: &str = "`query iteration document grade` (TREC qrels)";
    const BEIR_FORM: &str = "`query-id⇥corpus-id⇥score` with an integer score (BEIR tsv)";
    const ANY_FORM: &str = "TREC qrels (`query iteration document grade`) or a BEIR tsv (`query-id⇥corpus-id⇥score`)";

    fn of(line: &str) -> Option<Self> {
        if line.split('\t').count() == 3 {
            Some(Self::Beir)
        } else if line.split_whitespace().count() >= 4 {
            Some(Self::Trec)
        } else {
            None
        }
    }
}

impl Qrels {
    /// No judgments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads TREC qrels (`query iteration document grade`, white space) or a BEIR tsv (`query-id⇥corpus-id⇥score`, with or without
    /// the header). Blank lines and lines starting with `#` are skipped.
    ///
    /// # Errors
    /// An unreadable or empty file, a line of another form, a grade that is no integer, two different grades for one document.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let path = path.as_ref();
        let mut qrels = Self::new();
        let mut layout = None;
        for_each_line(path, |number, line| {
            let malformed = |problem: String, expected| ReadError::Malformed { path: path.to_owned(), line: number, problem, expected };
            let first = layout.is_none();
            let chosen = match layout {
                Some(chosen) => chosen,
                None => {
                    let columns = line.split_whitespace().count();
                    Layout::of(line).ok_or_else(|| malformed(format!("{columns} columns"), Layout::ANY_FORM))?
                }
            };
            layout = Some(chosen);
            let (query, document, grade, form) = match chosen {
                Layout::Trec => {
                    let mut columns = line.split_whitespace();
                    let (Some(query), Some(_), Some(document), Some(grade)) =
                        (columns.next(), columns.next(), columns.next(), columns.next())
                    else {
                        return Err(malformed(format!("{} columns", line.split_whitespace().count()), Layout::TREC_FORM));
                    };
                    (query, document, grade, Layout::TREC_FORM)
                }
                Layout::Beir => {
                    let mut columns = line.split('\t').map(str::trim);
                    let (Some(query), Some(document), Some(grade), None) = (columns.next(), columns.next(), columns.next(), columns.next())
                    else {
                        return Err(malformed(format!("{} tab-separated columns", line.split('\t').count()), Layout::BEIR_FORM));
                    };
                    (query, document, grade, Layout::BEIR_FORM)
                }
            };
            let Ok(parsed) = grade.parse::<i32>() else {
                // BEIR's header is recognised by its score column; a file without one loses no line.
                if first && chosen == Layout::Beir && grade.parse::<f64>().is_err() {
                    return Ok(());
                }
                return Err(malformed(format!("grade {grade:?} is not an integer"), form));
            };
            if query.is_empty() || document.is_empty() {
                return Err(malformed("an id is empty".to_owned(), form));
            }
            match qrels.insert(query, document, parsed) {
                Some(before) if before != parsed => Err(ReadError::Contradiction {
                    path: path.to_owned(),
                    line: number,
                    query: query.to_owned(),
                    document: document.to_owned(),
                    first: before,
                    second: parsed,
                }),
                _ => Ok(()),
            }
        })?;
        if qrels.is_empty() { Err(ReadError::Empty { path: path.to_owned() }) } else { Ok(qrels) }
    }

    /// Records a grade and returns the one it replaces.
    pub fn insert(&mut self, query: &str, document: &str, grade: i32) -> Option<i32> {
        match self.queries.get_mut(query) {
            Some(judged) => judged.insert(document.to_owned(), grade),
            None => {
                self.queries.insert(query.to_owned(), BTreeMap::from([(document.to_owned(), grade)]));
                None
            }
        }
    }

    /// Query ids in byte order.
    pub fn queries(&self) -> impl Iterator<Item = &str> {
        self.queries.keys().map(String::as_str)
    }

    /// Documents and grades of a query in byte order of the document; nothing for an unknown query.
    pub fn judged(&self, query: &str) -> impl Iterator<Item = (&str, i32)> {
        self.queries.get(query).into_iter().flatten().map(|(document, &grade)| (document.as_str(), grade))
    }

    /// The grade of a document, if it has one.
    pub fn grade(&self, query: &str, document: &str) -> Option<i32> {
        self.queries.get(query)?.get(document).copied()
    }

    /// Number of judgments.
    pub fn len(&self) -> usize {
        self.queries.values().map(BTreeMap::len).sum()
    }

    /// Whether there is no judgment.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }
}
