//! Training rows in columns, as sentence-transformers takes them: a query, a positive and any number of negatives, as JSON lines.
//!
//! What the columns mean is in `layout.rs`. The first row assigns them; later rows may lack negatives and may have more.

use std::{borrow::Cow, fmt, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    json::{self, Text},
    layout::{Cell, Layout, ROW},
    lines::Lines,
    roles::{Holds, RENAME, Unfit},
    sink::Sink,
};
use crate::error::CorpusError;

/// A JSON object with its keys in order.
pub(super) struct Row<'a>(pub(super) Vec<(Cow<'a, str>, Cell<'a>)>);

pub(super) fn rows(path: &Path, sink: &mut impl Sink) -> Result<(), CorpusError> {
    let mut lines = Lines::open(path)?;
    let mut layout: Option<Layout> = None;
    while let Some(line) = lines.next()? {
        let row: Row<'_> = json::row(line, ROW)?;
        let fault = |problem| CorpusError::Row { place: line.place(), problem, expected: ROW };
        if layout.is_none() {
            let columns: Vec<(&str, Holds)> = row.0.iter().map(|(name, cell)| (&**name, cell.holds())).collect();
            let first = Layout::of(&columns).map_err(|unfit| match unfit {
                Unfit::TooFew(problem) => fault(problem),
                Unfit::Unclear(problem) => CorpusError::Row { place: line.place(), problem, expected: RENAME },
            })?;
            first.report(path, sink);
            layout = Some(first);
        }
        if let Some(layout) = &mut layout {
            let cells = layout.arrange(row.0, path, sink).map_err(fault)?;
            layout.enter(&cells, sink, || line.place())?;
        }
    }
    Ok(())
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
        let (mut texts, mut numbers, mut nulls, mut others) = (Vec::new(), Vec::new(), 0, 0);
        while let Some(element) = list.next_element::<Cell<'de>>()? {
            match element {
                Cell::Text(text) => texts.push(text),
                Cell::Number(number) => numbers.push(number),
                Cell::Absent => nulls += 1,
                _ => others += 1,
            }
        }
        // A null among texts is a text that is not there; among numbers it would shift those behind it.
        Ok(match (texts.len(), numbers.len(), nulls, others) {
            (_, 0, _, 0) => Cell::Texts(texts),
            (0, _, 0, 0) => Cell::Numbers(numbers),
            _ => Cell::Other,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Cell::Other)
    }
}
