//! Collections out of rows that carry their texts: equal texts become one document, rows of one query become one query.
//!
//! Records without an id get one (`d0`, `d1`, … and `q0`, `q1`, …). A listed negative that is a positive of its query (the
//! same text under another hat) is left out and counted in the notes: it would teach the wrong thing.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use super::{
    entry::{Missing, push},
    sink::{Sink, not_binary},
};
use crate::{
    collection::Collection,
    error::{CorpusError, Place, Side},
    index::Index,
    judgments::Judgments,
    negatives::{Listed, NegativeLists},
    records::Records,
};

/// A collection in the making.
pub(crate) struct Inline {
    documents: Deduplicated,
    queries: Deduplicated,
    /// Where positives go.
    split: &'static str,
    missing: Missing,
    pairs: BTreeMap<&'static str, Vec<(u32, u32, i32)>>,
    negatives: Vec<Vec<Listed>>,
    positives: Vec<Vec<Listed>>,
    /// What columns are, with the names of the files of which it holds.
    assigned: Vec<(String, Vec<String>)>,
    /// Names of files that say no split.
    of_no_split: Vec<String>,
    notes: Vec<String>,
}

/// Records found again by id or, without id, by text.
struct Deduplicated {
    records: Records,
    by_text: Index,
    side: Side,
    prefix: char,
}

impl Deduplicated {
    fn new(side: Side, prefix: char) -> Self {
        Self { records: Records::new(), by_text: Index::default(), side, prefix }
    }

    /// The record with this id (or, without id, this text), appended when new. `field` names the text in messages.
    fn enter(&mut self, id: Option<&str>, field: &str, text: &str, place: impl Fn() -> Place) -> Result<u32, CorpusError> {
        if text.trim().is_empty() {
            return Err(CorpusError::EmptyText { place: place(), side: self.side, id: id.unwrap_or(field).to_owned() });
        }
        let known = match id {
            Some(id) => self.records.find(id),
            None => self.by_text.find(self.records.texts(), text),
        };
        match (known, id) {
            (Some(known), Some(id)) if self.records.text(known) != text => {
                Err(CorpusError::TwoTexts { place: place(), side: self.side, id: id.to_owned() })
            }
            (Some(known), _) => Ok(known),
            (None, _) => {
                let generated;
                let id = match id {
                    Some(id) => id,
                    None => {
                        generated = self.vacant_id();
                        &generated
                    }
                };
                let index = push(&mut self.records, self.side, id, text, place)?;
                self.by_text.enter_next(self.records.texts());
                Ok(index)
            }
        }
    }

    fn vacant_id(&self) -> String {
        let first = self.records.len();
        let mut ids = (first..).map(|number| format!("{}{number}", self.prefix));
        // The range has no end in practice: fewer than u32::MAX ids are taken.
        ids.find(|id| self.records.find(id).is_none()).unwrap_or_default()
    }
}

impl Inline {
    pub(crate) fn new() -> Self {
        Self {
            documents: Deduplicated::new(Side::Document, 'd'),
            queries: Deduplicated::new(Side::Query, 'q'),
            split: "train",
            missing: Missing::default(),
            pairs: BTreeMap::new(),
            negatives: Vec::new(),
            positives: Vec::new(),
            assigned: Vec::new(),
            of_no_split: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Rows that name their documents by id, out of a corpus read before.
    pub(crate) fn over(documents: Records) -> Self {
        let mut inline = Self::new();
        inline.documents.records = documents;
        inline
    }

    /// Positives of the rows that follow belong to this split; to `train` where the name of their file says none.
    pub(crate) fn begin(&mut self, file: &Path, split: Option<&'static str>) {
        self.split = split.unwrap_or("train");
        if split.is_none() {
            self.of_no_split.push(file_name(file));
        }
    }

    /// Refuses ids that the corpus lacks; `path` named them.
    pub(crate) fn check(&mut self, path: &Path) -> Result<(), CorpusError> {
        std::mem::take(&mut self.missing).check(path, Side::Document)
    }

    pub(crate) fn finish(self) -> Collection {
        let Self { documents, queries, pairs, mut negatives, mut positives, assigned, of_no_split, notes: warnings, .. } = self;
        let mut notes: Vec<String> = assigned.iter().map(|(assignment, files)| format!("{}: {assignment}", a_few(files))).collect();
        if !of_no_split.is_empty() {
            notes.push(format!(
                "{}: taken as the split `train`; a file is `dev` or `test` when its name is that or ends with it, as in `data-test`",
                a_few(&of_no_split)
            ));
        }
        notes.extend(warnings);
        let count = queries.records.len();
        let splits: BTreeMap<String, Judgments> =
            pairs.into_iter().map(|(split, pairs)| (split.to_owned(), Judgments::from_pairs(count, pairs))).collect();

        let mut contradicted = 0_usize;
        let mut seen = HashSet::new();
        for (query, row) in negatives.iter_mut().enumerate() {
            let query = query as u32;
            seen.clear();
            row.retain(|listed| {
                let positive = splits.values().any(|judgments| judgments.is_positive(query, listed.document));
                contradicted += usize::from(positive);
                !positive && seen.insert(listed.document)
            });
        }
        for row in &mut positives {
            seen.clear();
            row.retain(|listed| seen.insert(listed.document));
        }
        if contradicted > 0 {
            notes.push(format!("{contradicted} listed negative(s) have the text of a positive of their query and were left out"));
        }
        let listed = negatives.iter().chain(&positives).any(|row| !row.is_empty());
        Collection {
            documents: documents.records,
            queries: queries.records,
            splits,
            negatives: listed.then(|| NegativeLists::from_rows(negatives).with_positive_scores(positives)),
            notes,
            ..Collection::default()
        }
    }
}

impl Sink for Inline {
    fn query(&mut self, id: Option<&str>, field: &str, text: &str, place: impl Fn() -> Place) -> Result<Option<u32>, CorpusError> {
        self.queries.enter(id, field, text, place).map(Some)
    }

    fn document(&mut self, id: Option<&str>, field: &str, text: &str, place: impl Fn() -> Place) -> Result<Option<u32>, CorpusError> {
        self.documents.enter(id, field, text, place).map(Some)
    }

    fn known_document(&mut self, id: &str, line: u64) -> Option<u32> {
        let found = self.documents.records.find(id);
        if found.is_none() {
            self.missing.note(id, line);
        }
        found
    }

    fn positive(&mut self, query: u32, document: u32, score: Option<f32>) {
        let score = score.filter(|score| score.is_finite());
        self.pairs.entry(self.split).or_default().push((query, document, 1));
        if score.is_some() {
            row(&mut self.positives, query).push(Listed { document, score });
        }
    }

    fn negative(&mut self, query: u32, document: u32, score: Option<f32>) {
        let score = score.filter(|score| score.is_finite());
        row(&mut self.negatives, query).push(Listed { document, score });
    }

    fn scored(&mut self, query: u32, document: u32, score: f64) -> Result<(), String> {
        // There is nothing else here that says what is relevant.
        match score {
            1.0 => self.positive(query, document, None),
            0.0 => self.negative(query, document, None),
            _ => return Err(not_binary(score)),
        }
        Ok(())
    }

    fn assigned(&mut self, file: &Path, assignment: String) {
        match self.assigned.iter_mut().find(|(known, _)| *known == assignment) {
            Some((_, files)) => files.push(file_name(file)),
            None => self.assigned.push((assignment, vec![file_name(file)])),
        }
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

pub(super) fn file_name(file: &Path) -> String {
    file.file_name().map_or_else(|| file.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Names of files for a note: a folder may hold hundreds of shards.
pub(super) fn a_few(names: &[String]) -> String {
    match names {
        [first, .., last] if names.len() > 3 => format!("{first}, … {last} ({} files)", names.len()),
        _ => names.join(", "),
    }
}

fn row(rows: &mut Vec<Vec<Listed>>, query: u32) -> &mut Vec<Listed> {
    let query = query as usize;
    if rows.len() <= query {
        rows.resize_with(query + 1, Vec::new);
    }
    &mut rows[query]
}
