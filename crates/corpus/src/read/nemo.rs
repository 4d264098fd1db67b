//! NeMo retriever rows: `{question_id, question, corpus_id, pos_doc: [{id, score}], neg_doc: [{id, score}]}`.
//!
//! One document `{corpus, data: [rows]}`, a list of rows, or rows as JSON lines. In rows with a `corpus_id` a plain string is
//! a document's id, in others (the inline form) its text. A query is found by `question_id` or, without it, by its text.
//! Which corpus a row belongs to is not looked at: there is one collection.

use std::path::Path;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    document,
    entry::joined,
    json::{self, Id, Text},
    lines::Lines,
    sink::Sink,
};
use crate::error::{CorpusError, Place};

pub(super) const ROW: &str = r#"rows {"question_id": "…", "question": "…", "corpus_id": "…", "pos_doc": [{"id": "…", "score": 0.9}], "neg_doc": [{"id": "…", "score": 0.5}]}"#;

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow, default)]
    question_id: Option<Id<'a>>,
    #[serde(borrow, default, alias = "query")]
    question: Option<Text<'a>>,
    #[serde(borrow, default)]
    corpus_id: Option<Id<'a>>,
    #[serde(borrow)]
    pos_doc: Vec<Passage<'a>>,
    #[serde(borrow, default)]
    neg_doc: Option<Vec<Passage<'a>>>,
}

enum Passage<'a> {
    Plain(Id<'a>),
    Fields(Fields<'a>),
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    id: Option<Id<'a>>,
    #[serde(borrow, default)]
    title: Text<'a>,
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(default)]
    score: Option<f32>,
}

/// Reads rows, one on each line.
pub(super) fn rows(path: &Path, sink: &mut impl Sink) -> Result<(), CorpusError> {
    let mut scratch = String::new();
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let row: Row<'_> = json::row(line, ROW)?;
        enter(&row, &mut scratch, sink, || line.place())?;
    }
    Ok(())
}

/// Reads the rows of one document.
pub(super) fn list(path: &Path, sink: &mut impl Sink) -> Result<(), CorpusError> {
    let mut scratch = String::new();
    let rows = document::rows(path, ROW, |row: Row<'static>, place| enter(&row, &mut scratch, sink, || place.clone()))?;
    if rows == 0 {
        return Err(CorpusError::EmptyFile { path: path.to_owned(), expected: ROW });
    }
    Ok(())
}

fn enter<S: Sink>(row: &Row<'_>, scratch: &mut String, sink: &mut S, place: impl Fn() -> Place) -> Result<(), CorpusError> {
    let fault = |problem: &str| CorpusError::Row { place: place(), problem: problem.to_owned(), expected: ROW };
    let text = row.question.as_ref().map_or("", |text| &*text.0);
    if row.question_id.is_none() && row.question.is_none() {
        return Err(fault("neither `question_id` nor `question`"));
    }
    let Some(query) = sink.query(row.question_id.as_ref().map(|id| &*id.0), "question", text, &place)? else { return Ok(()) };
    let by_id = row.corpus_id.is_some();
    let mut find = |sink: &mut S, field: &str, passage: &Passage<'_>| match passage {
        Passage::Plain(id) if by_id => Ok((sink.known_document(&id.0, place().line), None)),
        Passage::Plain(text) => Ok((sink.document(None, field, &text.0, &place)?, None)),
        Passage::Fields(Fields { id: Some(id), text: None, score, .. }) => Ok((sink.known_document(&id.0, place().line), *score)),
        Passage::Fields(Fields { id, title, text: Some(text), score }) => {
            let text = joined(scratch, &title.0, &text.0);
            Ok((sink.document(id.as_ref().map(|id| &*id.0), field, text, &place)?, *score))
        }
        Passage::Fields(_) => Err(fault(&format!("a passage in `{field}` has neither `id` nor `text`"))),
    };
    for passage in &row.pos_doc {
        if let (Some(document), score) = find(sink, "pos_doc", passage)? {
            sink.positive(query, document, score);
        }
    }
    for passage in row.neg_doc.iter().flatten() {
        if let (Some(document), score) = find(sink, "neg_doc", passage)? {
            sink.negative(query, document, score);
        }
    }
    Ok(())
}

impl<'de: 'a, 'a> Deserialize<'de> for Passage<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(PassageVisitor)
    }
}

struct PassageVisitor;

impl<'de> Visitor<'de> for PassageVisitor {
    type Value = Passage<'de>;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("an id, a text or an object with one of them")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Passage::Plain(Id(text.into())))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Passage::Plain(Id(text.to_owned().into())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Passage::Plain(Id(number.to_string().into())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Passage::Plain(Id(number.to_string().into())))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Fields::deserialize(MapAccessDeserializer::new(map)).map(Passage::Fields)
    }
}
