//! Training rows in columns, as sentence-transformers takes them: anchor, positive, then any number of negatives.
//!
//! The order of the columns decides, their names do not, with one exception: the first of `label`, `labels`, `score`,
//! `scores` is the target. A cell may be a list of texts. Columns of ids and of other kinds are passed over with a note.
//! The layout is shared with `parquet.rs`; this file reads it from JSON lines.

use std::{borrow::Cow, fmt, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    inline::Inline,
    json::{self, Text},
    lines::Lines,
};
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

/// A JSON object with its keys in order.
pub(super) struct Row<'a>(pub(super) Vec<(Cow<'a, str>, Cell<'a>)>);

/// Which column plays which part.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    names: Vec<String>,
    anchor: usize,
    positive: usize,
    negatives: Vec<usize>,
    target: Option<usize>,
    ignored: Vec<usize>,
}

impl Layout {
    /// Assigns the parts; `holds_text` says of each column whether it holds texts or lists of texts.
    pub(super) fn of(columns: &[(&str, bool)]) -> Result<Self, String> {
        let target = TARGETS.iter().filter_map(|name| columns.iter().position(|(column, _)| column == name)).min();
        let (mut texts, mut ignored) = (Vec::new(), Vec::new());
        for (at, (name, holds_text)) in columns.iter().enumerate() {
            if Some(at) == target {
                continue;
            }
            let is_id = ["id", "_id"].contains(name) || name.ends_with("_id") || name.ends_with("-id");
            if *holds_text && !is_id { texts.push(at) } else { ignored.push(at) }
        }
        let names: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        match texts[..] {
            [anchor, positive, ref negatives @ ..] => Ok(Self { anchor, positive, negatives: negatives.to_vec(), target, ignored, names }),
            _ => Err(format!("{} text column(s) among [{}], two are the least (anchor, positive)", texts.len(), names.join(", "))),
        }
    }

    /// Columns that play no part.
    pub(super) fn note_ignored(&self, path: &Path, inline: &mut Inline) {
        if !self.ignored.is_empty() {
            let names: Vec<_> = self.ignored.iter().map(|&at| self.names[at].as_str()).collect();
            inline.note(format!("{}: column(s) {} are not used", path.display(), names.join(", ")));
        }
    }

    /// The cells of a row in the order of the layout's columns.
    fn arrange<'a>(&self, row: Row<'a>) -> Result<Vec<Cell<'a>>, String> {
        let mut cells = vec![Cell::Absent; self.names.len()];
        for (at, (name, cell)) in row.0.into_iter().enumerate() {
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
    pub(super) fn enter(
        &self,
        cells: &[Cell<'_>],
        split: &'static str,
        inline: &mut Inline,
        place: impl Fn() -> Place,
    ) -> Result<(), CorpusError> {
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
        let mut negatives = Vec::new();
        for &column in &self.negatives {
            negatives.extend(texts(column)?.iter().map(|text| (column, text)));
        }

        let mut scores: &[f64] = &[];
        if let Some(target) = self.target {
            match &cells[target] {
                Cell::Number(label) if self.negatives.is_empty() => {
                    // A pair with a label: 1 says relevant, 0 says not.
                    let query = inline.queries.enter(None, &self.names[self.anchor], anchor, &place)?;
                    for text in positives {
                        let document = inline.documents.enter(None, &self.names[self.positive], text, &place)?;
                        match *label {
                            1.0 => inline.positive(split, query, document, None),
                            0.0 => inline.negative(query, document, None),
                            _ => return Err(fault(format!("the label {label} is neither 0 nor 1 (graded similarity is no judgment)"))),
                        }
                    }
                    return Ok(());
                }
                Cell::Numbers(listed) if listed.len() == positives.len() + negatives.len() => scores = listed,
                Cell::Absent => {}
                Cell::Number(_) | Cell::Numbers(_) => inline.note(format!(
                    "{}: column `{}` is not used: it does not hold one score per positive and negative",
                    place().path.display(),
                    self.names[target]
                )),
                _ => return Err(fault(format!("column `{}` holds no number", self.names[target]))),
            }
        }
        let score = |at: usize| scores.get(at).map(|&score| score as f32);
        let query = inline.queries.enter(None, &self.names[self.anchor], anchor, &place)?;
        for (at, text) in positives.iter().enumerate() {
            let document = inline.documents.enter(None, &self.names[self.positive], text, &place)?;
            inline.positive(split, query, document, score(at));
        }
        for (at, (column, text)) in negatives.into_iter().enumerate() {
            let document = inline.documents.enter(None, &self.names[column], text, &place)?;
            inline.negative(query, document, score(positives.len() + at));
        }
        Ok(())
    }
}

pub(super) fn rows(path: &Path, split: &'static str, inline: &mut Inline) -> Result<(), CorpusError> {
    let mut lines = Lines::open(path)?;
    let mut layout: Option<Layout> = None;
    while let Some(line) = lines.next()? {
        let row: Row<'_> = json::row(line, ROW)?;
        let fault = |problem| CorpusError::Row { place: line.place(), problem, expected: ROW };
        if layout.is_none() {
            let columns: Vec<(&str, bool)> = row.0.iter().map(|(name, cell)| (&**name, cell.holds_text())).collect();
            let first = Layout::of(&columns).map_err(fault)?;
            first.note_ignored(path, inline);
            layout = Some(first);
        }
        if let Some(layout) = &layout {
            let cells = layout.arrange(row).map_err(fault)?;
            layout.enter(&cells, split, inline, || line.place())?;
        }
    }
    Ok(())
}

impl Cell<'_> {
    fn holds_text(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Texts(_) | Self::Absent)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Row<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(RowVisitor).map(Row)
    }
}

struct RowVisitor;

impl<'de> Visitor<'de> for RowVisitor {
    type Value = Vec<(Cow<'de, str>, Cell<'de>)>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut columns: Self::Value = Vec::new();
        while let Some((name, cell)) = map.next_entry::<Text<'de>, Cell<'de>>()? {
            if columns.iter().any(|(known, _)| *known == name.0) {
                return Err(A::Error::custom(format!("duplicate field `{}`", name.0)));
            }
            columns.push((name.0, cell));
        }
        Ok(columns)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Cell<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(CellVisitor)
    }
}

struct CellVisitor;

impl<'de> Visitor<'de> for CellVisitor {
    type Value = Cell<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a text, a number or a list of either")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cell::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cell::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Cell::Number(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Cell::Number(number as f64))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Cell::Number(number as f64))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(Cell::Number(f64::from(u8::from(flag))))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Cell::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let (mut texts, mut numbers, mut others) = (Vec::new(), Vec::new(), 0);
        while let Some(element) = list.next_element::<Cell<'de>>()? {
            match element {
                Cell::Text(text) => texts.push(text),
                Cell::Number(number) => numbers.push(number),
                _ => others += 1,
            }
        }
        Ok(match (texts.len(), numbers.len(), others) {
            (_, 0, 0) => Cell::Texts(texts),
            (0, _, 0) => Cell::Numbers(numbers),
            _ => Cell::Other,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Cell::Other)
    }
}
