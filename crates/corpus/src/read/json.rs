//! JSON rows that borrow from the line they stand on.
//!
//! [`Text`] and [`Id`] copy nothing unless a string has escapes; `null` texts count as empty, numeric ids as their digits.
//! No tree of values is ever built.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use super::lines::Line;
use crate::error::CorpusError;

/// Parses a line; `expected` describes a row for the message.
pub(crate) fn row<'a, T: Deserialize<'a>>(line: Line<'a>, expected: &'static str) -> Result<T, CorpusError> {
    serde_json::from_str(line.text).map_err(|error| {
        let message = error.to_string();
        // A line is a document of its own to the parser: its "line 1" would only mislead.
        let problem = match message.rsplit_once(" at line ") {
            Some((problem, _)) => format!("column {}: {problem}", error.column()),
            None => message,
        };
        CorpusError::Row { place: line.place(), problem, expected }
    })
}

/// A string that may be `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

/// A string or a whole number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Id<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(Strings { numbers: false, null: true }).map(Self)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Id<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(Strings { numbers: true, null: false }).map(Self)
    }
}

struct Strings {
    numbers: bool,
    null: bool,
}

impl<'de> Visitor<'de> for Strings {
    type Value = Cow<'de, str>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.numbers { "a string or a whole number" } else { "a string" })
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        if self.numbers { Ok(Cow::Owned(number.to_string())) } else { Err(E::invalid_type(serde::de::Unexpected::Unsigned(number), &self)) }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        if self.numbers { Ok(Cow::Owned(number.to_string())) } else { Err(E::invalid_type(serde::de::Unexpected::Signed(number), &self)) }
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        if self.null { Ok(Cow::Borrowed("")) } else { Err(E::invalid_type(serde::de::Unexpected::Unit, &self)) }
    }
}
