//! Columns of training rows and what they mean, whatever file they stand in.
//!
//! Names decide, and the order where no name says anything (`roles.rs`); the first of `label`, `labels`, `score`, `scores` that there is, is
//! the target. A cell may be a list of texts. Columns of ids and of other kinds, and those that nothing calls for, are passed over with a
//! note. Labels of 1 and 0, alone or one per text, tell positives from negatives, as do whole grades, one per text, and scores may
//! stand beside them; beside negatives, lists of either give the positives first.

use std::{borrow::Cow, path::Path};

use super::{
    roles::{Holds, Role, Roles, Unfit, plain, quoted, role},
    sink::{Sink, not_binary},
};
use crate::error::{CorpusError, Place};

pub(super) const ROW: &str = r#"{"query": "…", "positive": "…", "negative": "…" (optional)} on each line"#;
const TARGETS: [&str; 4] = ["label", "labels", "score", "scores"];
const IDS: [&str; 7] = ["id", "_id", "qid", "pid", "docid", "uid", "uuid"];

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
    query: usize,
    positive: usize,
    negatives: Vec<usize>,
    target: Option<usize>,
    /// Scores that stand beside a target of labels.
    scores: Option<usize>,
    ignored: Vec<usize>,
    /// How the parts were found, for the report.
    assignment: String,
    by_order: bool,
}

impl Layout {
    /// Assigns the parts.
    pub(super) fn of(columns: &[(&str, Holds)]) -> Result<Self, Unfit> {
        let names: Vec<String> = columns.iter().map(|(name, _)| plain(name)).collect();
        let target = TARGETS.iter().find_map(|target| names.iter().position(|name| name == target));
        let labels = target.is_some_and(|at| is_label(columns[at].0));
        let scores = names.iter().position(|name| labels && ["score", "scores"].contains(&name.as_str()));
        let is_id = |name: &str| IDS.contains(&name) || name.ends_with("_id");
        let taken = |at: usize| Some(at) == target || Some(at) == scores;
        let others = (0..columns.len()).filter(|&at| !taken(at));
        let (texts, mut ignored): (Vec<usize>, Vec<usize>) = others.partition(|&at| columns[at].1 != Holds::Other && !is_id(&names[at]));
        let named = [Some(Role::Positive), Some(Role::Negative)];
        if let Some((name, _)) = columns.iter().find(|(name, holds)| *holds == Holds::Other && named.contains(&role(name))) {
            return Err(Unfit::Unclear(format!("the column `{name}` has neither a text nor a list of texts")));
        }
        let Roles { query, positive, negatives, by_order } = Roles::of(columns, &texts)?;
        ignored.extend(texts.iter().filter(|at| ![query, positive].contains(at) && !negatives.contains(at)));
        ignored.sort_unstable();
        let assignment = describe(columns, &Roles { query, positive, negatives: negatives.clone(), by_order });
        let names = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        Ok(Self { names, query, positive, negatives, target, scores, ignored, assignment, by_order })
    }

    /// Tells which column plays which part, and which play none.
    pub(super) fn report(&self, path: &Path, sink: &mut impl Sink) {
        sink.assigned(path, self.assignment.clone());
        if !self.ignored.is_empty() {
            let names: Vec<_> = self.ignored.iter().map(|&at| self.names[at].as_str()).collect();
            not_used(path, &names.join(", "), sink);
        }
    }

    /// The cells of a row in the order of the layout's columns. A negative that no earlier row had is one all the same.
    pub(super) fn arrange<'a>(
        &mut self,
        row: Vec<(Cow<'a, str>, Cell<'a>)>,
        path: &Path,
        sink: &mut impl Sink,
    ) -> Result<Vec<Cell<'a>>, String> {
        let mut cells = vec![Cell::Absent; self.names.len()];
        let mut stray = None;
        for (at, (name, cell)) in row.into_iter().enumerate() {
            let in_place = self.names.get(at).is_some_and(|expected| *expected == name);
            let found = if in_place { Some(at) } else { self.names.iter().position(|expected| *expected == name) };
            if let Some(column) = found {
                cells[column] = cell;
                continue;
            }
            if role(&name) == Some(Role::Negative) {
                self.negatives.push(cells.len());
            } else if self.by_order || is_target(&name) {
                return Err(not_before(&name));
            } else {
                stray = Some(cells.len());
                self.ignored.push(cells.len());
                not_used(path, &name, sink);
            }
            self.names.push(name.into_owned());
            cells.push(cell);
        }
        match stray {
            // It may be the query or the positive that the row lacks, under another name.
            Some(at) if [self.query, self.positive].iter().any(|&part| cells[part] == Cell::Absent) => Err(not_before(&self.names[at])),
            _ => Ok(cells),
        }
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
        let [query_text] = texts(self.query)? else {
            return Err(fault(format!("column `{}` holds no single text", self.names[self.query])));
        };
        let positives = texts(self.positive)?;
        if positives.is_empty() {
            return Err(fault(format!("column `{}` holds no positive", self.names[self.positive])));
        }
        let mut passages: Vec<(usize, &str)> = positives.iter().map(|text| (self.positive, &**text)).collect();
        for &column in &self.negatives {
            passages.extend(texts(column)?.iter().map(|text| (column, &**text)));
        }

        let marks = self.marks(cells, positives.len(), passages.len()).map_err(&fault)?;
        if let Marks::Unused(column) = marks {
            sink.note(format!(
                "{}: column `{}` is not used: it does not hold one score per positive and negative",
                place().path.display(),
                self.names[column]
            ));
        }
        let Some(query) = sink.query(None, &self.names[self.query], query_text, &place)? else { return Ok(()) };
        for (at, (column, text)) in passages.into_iter().enumerate() {
            let Some(document) = sink.document(None, &self.names[column], text, &place)? else { continue };
            let is_positive = at < positives.len();
            match &marks {
                Marks::Labels(labels, scores) => {
                    // A single label counts for all texts of its row: above 0 says relevant, 0 says not.
                    let score = scores.get(at).map(|&score| score as f32);
                    if *labels.get(at).unwrap_or(&labels[0]) > 0.0 {
                        sink.positive(query, document, score);
                    } else {
                        sink.negative(query, document, score);
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

    /// What the numbers of a row say about its texts, or what is wrong with them.
    fn marks<'c>(&self, cells: &'c [Cell<'_>], positives: usize, passages: usize) -> Result<Marks<'c>, String> {
        let Some(target) = self.target else { return Ok(Marks::None) };
        let (name, pair) = (&self.names[target], positives == passages);
        let labels = is_label(name);
        let beside = || -> &[f64] {
            match self.scores.map(|column| &cells[column]) {
                Some(Cell::Number(score)) if passages == 1 => std::slice::from_ref(score),
                Some(Cell::Numbers(scores)) if scores.len() == passages => scores,
                _ => &[],
            }
        };
        Ok(match &cells[target] {
            Cell::Number(label) if pair && labels && ![0.0, 1.0].contains(label) => return Err(not_binary(*label)),
            Cell::Number(label) if pair && labels => Marks::Labels(std::slice::from_ref(label), beside()),
            Cell::Number(score) if pair => Marks::Score(*score),
            Cell::Numbers(listed) if pair && labels && are_grades(name, listed, passages)? => Marks::Labels(listed, beside()),
            Cell::Numbers(listed) if listed.len() == passages => Marks::Scores(listed),
            // A pair without its score would be a positive without a word.
            Cell::Absent if labels || pair => {
                return Err(format!(
                    "the row has no `{name}`: is its text relevant or not? Write 1 or 0, or leave the column out of all rows"
                ));
            }
            Cell::Absent => Marks::None,
            Cell::Number(_) | Cell::Numbers(_) => Marks::Unused(target),
            _ => return Err(format!("column `{name}` holds no number")),
        })
    }
}

/// Whether the labels of a row without negatives say which of its texts are the positives: whole numbers do, and those with a fraction
/// are a teacher's scores.
fn are_grades(name: &str, labels: &[f64], texts: usize) -> Result<bool, String> {
    if labels.len() != texts {
        return Err(format!("`{name}` has {} number(s) for {texts} text(s), and null is no text: write one for each", labels.len()));
    }
    if let Some(at) = labels.iter().position(|label| !label.is_finite()) {
        return Err(format!("`{name}` has no number for text {} of {texts}: is it relevant or not? Write 1 or 0", at + 1));
    }
    if labels.iter().any(|label| label.fract() != 0.0) {
        return Ok(false);
    }
    match labels.iter().find(|&&label| label < 0.0) {
        Some(label) => Err(format!("`{name}` has {label}, below 0: write 0 for a text that is not relevant, 1 or more for one that is")),
        None => Ok(true),
    }
}

/// The meaning of a row's target; the positives of a row come before its negatives.
enum Marks<'c> {
    None,
    /// One for all texts or one for each, 0 or above; and the scores beside them, one for each or none.
    Labels(&'c [f64], &'c [f64]),
    /// One score of a pair that nothing says the relevance of.
    Score(f64),
    /// One for each text.
    Scores(&'c [f64]),
    Unused(usize),
}

fn is_label(name: &str) -> bool {
    ["label", "labels"].contains(&plain(name).as_str())
}

/// Whether a column of this name says how relevant the texts of its row are.
pub(super) fn is_target(name: &str) -> bool {
    TARGETS.contains(&plain(name).as_str())
}

/// In one line, what each column is.
fn describe(columns: &[(&str, Holds)], roles: &Roles) -> String {
    let mut words = format!("`{}` is the query, `{}` its positive", columns[roles.query].0, columns[roles.positive].0);
    match roles.negatives.len() {
        0 => {}
        1 => words += &format!(", `{}` a negative", columns[roles.negatives[0]].0),
        _ => words += &format!(", {} negatives", quoted(columns, &roles.negatives)),
    }
    if roles.by_order {
        words += " (by the order of the columns, as no name says so; `query`, `positive` and `negative` would)";
    }
    words
}

fn not_before(name: &str) -> String {
    format!("column `{name}` does not stand in the first row (only negatives may come later: `negative`, `negative_2`, …)")
}

fn not_used(path: &Path, names: &str, sink: &mut impl Sink) {
    sink.note(format!("{}: column(s) {names} are not used", path.display()));
}

impl Cell<'_> {
    pub(super) fn holds(&self) -> Holds {
        match self {
            Self::Text(_) | Self::Texts(_) => Holds::Text,
            Self::Absent => Holds::Nothing,
            _ => Holds::Other,
        }
    }
}
