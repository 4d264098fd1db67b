//! Columns of training rows and what they mean, whatever file they stand in.
//!
//! The order of the columns decides, their names do not, with one exception: the first of `label`, `labels`, `score`,
//! `scores` is the target. A cell may be a list of texts. Columns of ids and of other kinds are passed over with a note.
//! Labels of 1 and 0, alone or one per text, tell positives from negatives, and scores may stand beside them.

use std::{borrow::Cow, path::Path};

use super::sink::{Sink, not_binary};
use crate::error::{CorpusError, Place};

pub(super) const ROW: &str =
    r#"{"anchor": "…", "positive": "…", "negative": "…"} on each line: any names, the order of the columns decides"#;
const TARGETS: [&str; 4] = ["label", "labels", "score", "scores"];

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'a> {
    Text(Cow<'a, str>),
    Texts(Vec<Cow<'a, str>>),
    Number(f64),
    Numbers(Vec<f64>),
    /// `null`, or the column is missing in this row.
    Absent,
    /// Anything that no column of training data holds.
    Other,
}

/// Which column plays which part.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    names: Vec<String>,
    anchor: usize,
    positive: usize,
    negatives: Vec<usize>,
    target: Option<usize>,
    /// Scores that stand beside a target of labels.
    scores: Option<usize>,
    ignored: Vec<usize>,
}

impl Layout {
    /// Assigns the parts; `holds_text` says of each column whether it holds texts or lists of texts.
    pub(super) fn of(columns: &[(&str, bool)]) -> Result<Self, String> {
        let target = TARGETS.iter().filter_map(|name| columns.iter().position(|(column, _)| column == name)).min();
        let labels = target.is_some_and(|at| is_label(columns[at].0));
        let scores = columns.iter().enumerate().find(|&(at, (name, _))| labels && Some(at) != target && ["score", "scores"].contains(name));
        let scores = scores.map(|(at, _)| at);
        let (mut texts, mut ignored) = (Vec::new(), Vec::new());
        for (at, (name, holds_text)) in columns.iter().enumerate() {
            if Some(at) == target || Some(at) == scores {
                continue;
            }
            let is_id = ["id", "_id"].contains(name) || name.ends_with("_id") || name.ends_with("-id");
            if *holds_text && !is_id { texts.push(at) } else { ignored.push(at) }
        }
        let names: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        match texts[..] {
            [anchor, positive, ref negatives @ ..] => {
                Ok(Self { anchor, positive, negatives: negatives.to_vec(), target, scores, ignored, names })
            }
            _ => Err(format!("{} text column(s) among [{}], two are the least (anchor, positive)", texts.len(), names.join(", "))),
        }
    }

    /// Columns that play no part.
    pub(super) fn note_ignored(&self, path: &Path, sink: &mut impl Sink) {
        if !self.ignored.is_empty() {
            let names: Vec<_> = self.ignored.iter().map(|&at| self.names[at].as_str()).collect();
            sink.note(format!("{}: column(s) {} are not used", path.display(), names.join(", ")));
        }
    }

    /// The cells of a row in the order of the layout's columns.
    pub(super) fn arrange<'a>(&self, row: Vec<(Cow<'a, str>, Cell<'a>)>) -> Result<Vec<Cell<'a>>, String> {
        let mut cells = vec![Cell::Absent; self.names.len()];
        for (at, (name, cell)) in row.into_iter().enumerate() {
            let in_place = self.names.get(at).is_some_and(|expected| *expected == name);
            let found = if in_place { Some(at) } else { self.names.iter().position(|expected| *expected == name) };
            match found {
                Some(column) => cells[column] = cell,
                None => return Err(format!("column `{name}` does not stand in the first row")),
            }
        }
        Ok(cells)
    }

    /// Enters one row.
    pub(super) fn enter(&self, cells: &[Cell<'_>], sink: &mut impl Sink, place: impl Fn() -> Place) -> Result<(), CorpusError> {
        let fault = |problem: String| CorpusError::Row { place: place(), problem, expected: ROW };
        let texts = |column: usize| -> Result<&[Cow<'_, str>], CorpusError> {
            match &cells[column] {
                Cell::Text(text) => Ok(std::slice::from_ref(text)),
                Cell::Texts(texts) => Ok(texts),
                Cell::Absent => Ok(&[]),
                _ => Err(fault(format!("column `{}` holds no text", self.names[column]))),
            }
        };
        let [anchor] = texts(self.anchor)? else {
            return Err(fault(format!("column `{}` holds no single text", self.names[self.anchor])));
        };
        let positives = texts(self.positive)?;
        if positives.is_empty() {
            return Err(fault(format!("column `{}` holds no positive", self.names[self.positive])));
        }
        let mut passages: Vec<(usize, &str)> = positives.iter().map(|text| (self.positive, &**text)).collect();
        for &column in &self.negatives {
            passages.extend(texts(column)?.iter().map(|text| (column, &**text)));
        }

        let marks = self.marks(cells, positives.len(), passages.len());
        if let Marks::Unused(column) = marks {
            sink.note(format!(
                "{}: column `{}` is not used: it does not hold one score per positive and negative",
                place().path.display(),
                self.names[column]
            ));
        }
        if let Marks::NoNumber(column) = marks {
            return Err(fault(format!("column `{}` holds no number", self.names[column])));
        }
        let Some(query) = sink.query(None, &self.names[self.anchor], anchor, &place)? else { return Ok(()) };
        for (at, (column, text)) in passages.into_iter().enumerate() {
            let Some(document) = sink.document(None, &self.names[column], text, &place)? else { continue };
            let is_positive = at < positives.len();
            match &marks {
                Marks::Labels(labels, scores) => {
                    // A single label counts for all texts of its row: 1 says relevant, 0 says not.
                    let score = scores.get(at).map(|&score| score as f32);
                    match *labels.get(at).unwrap_or(&labels[0]) {
                        1.0 => sink.positive(query, document, score),
                        0.0 => sink.negative(query, document, score),
                        other => return Err(fault(not_binary(other))),
                    }
                }
                Marks::Score(score) => sink.scored(query, document, *score).map_err(&fault)?,
                Marks::Scores(scores) if is_positive => sink.positive(query, document, scores.get(at).map(|&score| score as f32)),
                Marks::Scores(scores) => sink.negative(query, document, scores.get(at).map(|&score| score as f32)),
                _ if is_positive => sink.positive(query, document, None),
                _ => sink.negative(query, document, None),
            }
        }
        Ok(())
    }

    /// What the numbers of a row say about its texts.
    fn marks<'c>(&self, cells: &'c [Cell<'_>], positives: usize, passages: usize) -> Marks<'c> {
        let Some(target) = self.target else { return Marks::None };
        let pair = positives == passages;
        let labels = is_label(&self.names[target]);
        let beside = || -> &[f64] {
            match self.scores.map(|column| &cells[column]) {
                Some(Cell::Number(score)) if passages == 1 => std::slice::from_ref(score),
                Some(Cell::Numbers(scores)) if scores.len() == passages => scores,
                _ => &[],
            }
        };
        match &cells[target] {
            Cell::Number(label) if pair && labels => Marks::Labels(std::slice::from_ref(label), beside()),
            Cell::Number(score) if pair => Marks::Score(*score),
            Cell::Numbers(listed)
                if pair && labels && listed.len() == passages && listed.iter().all(|&label| label == 0.0 || label == 1.0) =>
            {
                Marks::Labels(listed, beside())
            }
            Cell::Numbers(listed) if listed.len() == passages => Marks::Scores(listed),
            Cell::Absent => Marks::None,
            Cell::Number(_) | Cell::Numbers(_) => Marks::Unused(target),
            _ => Marks::NoNumber(target),
        }
    }
}

/// The meaning of a row's target; the positives of a row come before its negatives.
enum Marks<'c> {
    None,
    /// One for all texts or one for each, 1 or 0; and the scores beside them, one for each or none.
    Labels(&'c [f64], &'c [f64]),
    /// One score of a pair that nothing says the relevance of.
    Score(f64),
    /// One for each text.
    Scores(&'c [f64]),
    Unused(usize),
    NoNumber(usize),
}

fn is_label(name: &str) -> bool {
    ["label", "labels"].contains(&name)
}

impl Cell<'_> {
    pub(super) fn holds_text(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Texts(_) | Self::Absent)
    }
}
