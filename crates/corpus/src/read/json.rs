//! JSON rows that borrow from the line they stand on.
//!
//! [`Text`] and [`Id`] copy nothing unless a string has escapes; `null` texts count as empty, numeric ids as their digits.
//! No tree of values is ever built.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

use super::{lines::Line, words};
use crate::error::CorpusError;

/// Parses a line, which must be an object; `expected` describes a row for the message.
pub(crate) fn row<'a, T: Deserialize<'a>>(line: Line<'a>, expected: &'static str) -> Result<T, CorpusError> {
    // Asked here because the parser takes a list for an object whose fields it gives in order.
    if !line.text.trim_start().starts_with('{') {
        return Err(words::no_object(line, expected));
    }
    serde_json::from_str(line.text).map_err(|error| CorpusError::Row {
        place: line.place(),
        problem: words::problem(line.text, &error),
        expected,
    })
}

/// A string that may be `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

/// A list of strings. One string counts as a list of one: triplets are often written so under the names of lists.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Texts<'a>(pub(crate) Vec<Text<'a>>);

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

impl<'de: 'a, 'a> Deserialize<'de> for Texts<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(OneOrMore).map(Self)
    }
}

struct OneOrMore;

impl<'de> Visitor<'de> for OneOrMore {
    type Value = Vec<Text<'de>>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list of strings, or one string,")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(vec![Text(Cow::Borrowed(text))])
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(vec![Text(Cow::Owned(text.to_owned()))])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(texts)
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
