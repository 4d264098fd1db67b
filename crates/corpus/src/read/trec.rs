//! Judgment files, TREC (`qid iteration docid grade`, white space) or BEIR (header, then `qid<tab>docid<tab>grade`).
//!
//! The first line decides. BEIR's own loader drops the first line unseen and so loses a judgment when the header is
//! missing; here that is an error. TREC files may have `#` comment lines, as trec_eval 10 allows.

use std::path::Path;

use super::{
    entry::JudgmentRows,
    lines::{Line, Lines},
};
use crate::{
    error::{CorpusError, excerpt},
    judgments::Judgments,
    records::Records,
};

const TREC_ROW: &str = "`query-id 0 document-id grade`, separated by spaces or tabs";
const BEIR_ROW: &str = "`query-id<tab>corpus-id<tab>grade`";
const EITHER_ROW: &str = "the header `query-id<tab>corpus-id<tab>score` (BEIR), or `query-id 0 document-id grade` (TREC)";

/// Reads a judgment file against the queries and documents it is about.
pub(crate) fn judgments(path: &Path, queries: &Records, documents: &Records) -> Result<Judgments, CorpusError> {
    let mut rows = JudgmentRows::new(queries, documents);
    rows.begin(path)?;
    let mut lines = Lines::open(path)?;
    let mut form = None;
    while let Some(line) = lines.next()? {
        match form {
            None if line.text.starts_with('#') => {}
            None => {
                let recognised = Form::of(line, path)?;
                if recognised == Form::Trec {
                    recognised.push(line, &mut rows)?;
                }
                form = Some(recognised);
            }
            Some(Form::Trec) if line.text.starts_with('#') => {}
            Some(form) => form.push(line, &mut rows)?,
        }
    }
    if form.is_none() {
        return Err(CorpusError::EmptyFile { path: path.to_owned(), expected: EITHER_ROW });
    }
    rows.finish()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Trec,
    Beir,
}

impl Form {
    fn of(line: Line<'_>, path: &Path) -> Result<Self, CorpusError> {
        let spaced = columns::<4>(line.text.split_whitespace());
        let [first, _, last] = match columns::<3>(line.text.split('\t')).or_else(|_| columns(line.text.split_whitespace())) {
            Ok(header) => header,
            Err(_) if spaced.is_ok() => return Ok(Self::Trec),
            Err(got) => return Err(wrong_columns(line, got, EITHER_ROW)),
        };
        if last.trim().parse::<f64>().is_ok() {
            return Err(CorpusError::NoHeader { path: path.to_owned(), got: excerpt(line.text) });
        }
        let first = first.to_ascii_lowercase();
        if first.contains("doc") || first.contains("corpus") {
            return Err(wrong_columns(line, 3, "the query id in the first column: `query-id<tab>corpus-id<tab>score`"));
        }
        Ok(Self::Beir)
    }

    fn push(self, line: Line<'_>, rows: &mut JudgmentRows<'_>) -> Result<(), CorpusError> {
        let (query, document, grade) = match self {
            Self::Trec => {
                let [query, _, document, grade] =
                    columns(line.text.split_whitespace()).map_err(|got| wrong_columns(line, got, TREC_ROW))?;
                (query, document, grade)
            }
            Self::Beir => {
                let tabbed = columns(line.text.split('\t')).or_else(|got| columns(line.text.split_whitespace()).map_err(|_| got));
                let [query, document, grade] = tabbed.map_err(|got| wrong_columns(line, got, BEIR_ROW))?;
                (query, document, grade)
            }
        };
        let grade = grade.trim();
        let grade = whole(grade).ok_or_else(|| CorpusError::Grade { place: line.place(), got: excerpt(grade) })?;
        rows.push(line.number, query, document, grade);
        Ok(())
    }
}

/// A whole number, which tables that had gaps once write with a point: `1.0`.
fn whole(grade: &str) -> Option<i32> {
    let (whole, fraction) = grade.split_once('.').unwrap_or((grade, ""));
    whole.parse().ok().filter(|_| fraction.bytes().all(|digit| digit == b'0'))
}

/// Exactly `N` columns, or the number there are.
pub(super) fn columns<'a, const N: usize>(mut parts: impl Iterator<Item = &'a str>) -> Result<[&'a str; N], usize> {
    let mut taken = [""; N];
    for (at, slot) in taken.iter_mut().enumerate() {
        *slot = parts.next().ok_or(at)?;
    }
    match parts.count() {
        0 => Ok(taken),
        more => Err(N + more),
    }
}

pub(super) fn wrong_columns(line: Line<'_>, got: usize, expected: &'static str) -> CorpusError {
    CorpusError::Columns { place: line.place(), got, row: excerpt(line.text), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grades_are_whole_numbers_however_they_are_written() {
        let read = ["1", "0", "-1", "2.0", "1.00", "1.5", "0.9", "", ".0", "x", "1e0"].map(whole);
        assert_eq!(read, [Some(1), Some(0), Some(-1), Some(2), Some(1), None, None, None, None, None, None]);
    }
}
