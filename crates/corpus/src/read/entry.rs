//! Checked entry of records and judgments: what every format has to refuse, refused in one place.
//!
//! Records: empty id, an id that TREC files or a line cannot hold, empty text, duplicate id, too many. Judgments: ids that the collection
//! lacks, contradicting grades.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    error::{CorpusError, Place, Side, excerpt},
    judgments::Judgments,
    records::Records,
};

/// A title and a text joined as every peer does: `title + " " + text`, or the text alone when there is no title.
/// `scratch` is reused from record to record.
pub(crate) fn joined<'a>(scratch: &'a mut String, title: &str, text: &'a str) -> &'a str {
    if title.is_empty() {
        return text;
    }
    scratch.clear();
    scratch.push_str(title);
    scratch.push(' ');
    scratch.push_str(text);
    scratch
}

/// Enters the judgments of a file as a split.
///
/// # Errors
/// When the collection has that split already.
pub(crate) fn enter_split(
    splits: &mut BTreeMap<String, Judgments>,
    split: &str,
    judgments: Judgments,
    path: &Path,
) -> Result<(), CorpusError> {
    match splits.insert(split.to_owned(), judgments) {
        None => Ok(()),
        Some(_) => Err(CorpusError::SameSplit { path: path.to_owned(), split: split.to_owned() }),
    }
}

/// Appends a record; `place` is evaluated for messages only.
pub(crate) fn push(records: &mut Records, side: Side, id: &str, text: &str, place: impl Fn() -> Place) -> Result<u32, CorpusError> {
    if text.trim().is_empty() {
        return Err(CorpusError::EmptyText { place: place(), side, id: id.to_owned() });
    }
    // Said here: else it would come up when a run is written, after the training.
    let fault = match id {
        // Empty, which is said below.
        id if id.trim().is_empty() => None,
        id if id.contains(char::is_whitespace) => Some("has white space in it, which no TREC file of rankings can hold"),
        // A line of a run begins with the query.
        id if side == Side::Query && id.starts_with('#') => Some("starts with `#`, which no TREC file of rankings can hold"),
        _ => None,
    };
    if let Some(fault) = fault {
        return Err(CorpusError::UnfitId { place: place(), side, id: excerpt(id), fault });
    }
    push_any(records, side, id, text, place)
}

/// Appends a record whose text may be empty, and whose id may have white space as long as it stays on one line.
pub(crate) fn push_any(records: &mut Records, side: Side, id: &str, text: &str, place: impl Fn() -> Place) -> Result<u32, CorpusError> {
    if id.trim().is_empty() {
        return Err(CorpusError::EmptyId { place: place(), side });
    }
    // Rows are written with their ids beside them, one on each line, and readers differ in what ends a line.
    if id.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        let fault = "has a line break or another control character in it, which no file with an id on each line can hold";
        return Err(CorpusError::UnfitId { place: place(), side, id: excerpt(id), fault });
    }
    if !records.texts().has_room() {
        return Err(CorpusError::TooMany { place: place(), side });
    }
    records.push(id, text).map_err(|duplicate| CorpusError::DuplicateId {
        place: place(),
        side,
        id: duplicate.id,
        first: u64::from(duplicate.first) + 1,
    })
}

/// Ids that a collection lacks: a count and the first few.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    count: usize,
    examples: Vec<String>,
}

impl Missing {
    const SHOWN: usize = 5;

    pub(crate) fn note(&mut self, id: &str, line: u64) {
        self.count += 1;
        if self.examples.len() < Self::SHOWN {
            self.examples.push(format!("`{}` (line {line})", excerpt(id)));
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn check(self, path: &Path, side: Side) -> Result<(), CorpusError> {
        if self.count == 0 {
            return Ok(());
        }
        Err(CorpusError::Dangling { path: path.to_owned(), side, count: self.count, examples: self.examples() })
    }

    /// As [`Self::check`], for texts that were looked up instead of ids.
    pub(crate) fn check_texts(self, path: &Path, side: Side) -> Result<(), CorpusError> {
        if self.count == 0 {
            return Ok(());
        }
        Err(CorpusError::UnknownText { path: path.to_owned(), side, count: self.count, examples: self.examples() })
    }

    fn examples(&self) -> String {
        let more = if self.count > Self::SHOWN { ", …" } else { "" };
        format!("{}{more}", self.examples.join(", "))
    }
}

/// Collects the judgments of one split, from a file or several.
pub(crate) struct JudgmentRows<'a> {
    /// In the order in which they are read.
    files: Vec<PathBuf>,
    queries: &'a Records,
    documents: &'a Records,
    /// Query, document, grade, and how many files there were then.
    pairs: Vec<(u32, u32, i32, u32)>,
    missing_queries: Missing,
    missing_documents: Missing,
}

impl<'a> JudgmentRows<'a> {
    pub(crate) fn new(queries: &'a Records, documents: &'a Records) -> Self {
        Self {
            files: Vec::new(),
            queries,
            documents,
            pairs: Vec::new(),
            missing_queries: Missing::default(),
            missing_documents: Missing::default(),
        }
    }

    /// The rows that follow are of this file; those of the one before are checked, so that what they lack is reported under its name.
    pub(crate) fn begin(&mut self, path: &Path) -> Result<(), CorpusError> {
        self.check()?;
        self.files.push(path.to_owned());
        Ok(())
    }

    /// Refuses ids of the file at hand that the collection lacks.
    fn check(&mut self) -> Result<(), CorpusError> {
        let Some(path) = self.files.last() else { return Ok(()) };
        std::mem::take(&mut self.missing_queries).check(path, Side::Query)?;
        std::mem::take(&mut self.missing_documents).check(path, Side::Document)
    }

    pub(crate) fn push(&mut self, line: u64, query: &str, document: &str, grade: i32) {
        let found = (self.queries.find(query), self.documents.find(document));
        if found.0.is_none() {
            self.missing_queries.note(query, line);
        }
        if found.1.is_none() {
            self.missing_documents.note(document, line);
        }
        if let (Some(query), Some(document)) = found {
            self.pairs.push((query, document, grade, self.files.len() as u32));
        }
    }

    pub(crate) fn finish(mut self) -> Result<Judgments, CorpusError> {
        self.check()?;
        self.pairs.sort_by_key(|&(query, document, ..)| (query, document));
        let twice = self.pairs.windows(2).find(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1) && pair[0].2 != pair[1].2);
        if let Some(&[(query, document, first, _), (.., second, file)]) = twice {
            return Err(CorpusError::Contradiction {
                path: self.files.swap_remove(file as usize - 1),
                query: self.queries.id(query).to_owned(),
                document: self.documents.id(document).to_owned(),
                first,
                second,
            });
        }
        let pairs = self.pairs.into_iter().map(|(query, document, grade, _)| (query, document, grade)).collect();
        Ok(Judgments::from_pairs(self.queries.len(), pairs))
    }
}
