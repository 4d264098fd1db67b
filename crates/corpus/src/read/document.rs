//! One JSON document read as a stream: the rows of its list one after the other, whatever its size and its line breaks.
//!
//! A document is a list of rows, or an object whose `data` is one. Nothing but the row at hand is held. Places in messages
//! are the line on which a row begins.

use std::{
    cell::{Cell, RefCell},
    fmt,
    io::{self, BufRead, Read},
    marker::PhantomData,
    path::{Path, PathBuf},
    rc::Rc,
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    json::Text,
    lines::{BYTE_ORDER_MARK, failure, unpacked},
    words::problem_of_stream,
};
use crate::error::{CorpusError, Place};

/// The field that holds the rows of an object.
pub(super) const LIST: &str = "data";

/// What a file starts with.
#[derive(Debug, PartialEq)]
pub(super) enum Start {
    /// Nothing.
    Empty,
    /// Something other than a JSON object or list.
    Other,
    /// An object (a first row, or a whole document), with its keys up to `data`.
    Object(Vec<String>),
    /// A list, with the keys of its first element when that is an object.
    List(Vec<String>),
}

/// Looks at the first JSON value of a file, as far as its keys need.
pub(super) fn start(path: &Path, expected: &'static str) -> Result<Start, CorpusError> {
    let mut stream = Stream::open(path)?;
    let first = match stream.first()? {
        None => return Ok(Start::Empty),
        Some(byte) => byte,
    };
    if first != b'{' && first != b'[' {
        return Ok(Start::Other);
    }
    let state = Rc::clone(&stream.state);
    let (mut keys, mut enough) = (Vec::new(), false);
    let read = Keys { keys: &mut keys, enough: &mut enough }.deserialize(&mut serde_json::Deserializer::from_reader(stream));
    match read {
        // A faulty first object whose keys are known: the reader of its form says better what is wrong with it.
        Err(error) if !enough && (keys.is_empty() || first == b'[' || state.fault.borrow().is_some()) => {
            Err(state.fault(path, &error, expected))
        }
        _ if first == b'{' => Ok(Start::Object(keys)),
        _ => Ok(Start::List(keys)),
    }
}

/// Hands every row of a document to `enter`; the number of rows.
pub(super) fn rows<T, F>(path: &Path, expected: &'static str, mut enter: F) -> Result<usize, CorpusError>
where
    T: Deserialize<'static>,
    F: FnMut(T, Place) -> Result<(), CorpusError>,
{
    let stream = Stream::open(path)?;
    let state = Rc::clone(&stream.state);
    let mut input = serde_json::Deserializer::from_reader(stream);
    let mut stopped = None;
    let mut seen = 0;
    let list = List {
        enter: &mut |(row, line)| {
            seen += 1;
            enter(row, Place::new(path, line))
        },
        state: &state,
        stopped: &mut stopped,
    };
    let read = input.deserialize_any(list).and_then(|()| input.end());
    match (stopped, read) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(state.fault(path, &error, expected)),
        (None, Ok(())) => Ok(seen),
    }
}

/// Bytes for the parser, with the line they stand on. Refuses what is no UTF-8.
struct Stream {
    input: Box<dyn BufRead>,
    path: PathBuf,
    packed: bool,
    /// The start of a character whose end is not read yet.
    begun: Vec<u8>,
    state: Rc<State>,
}

/// What the parser's owner sees of the stream.
struct State {
    /// Line of the byte read last, from 1.
    line: Cell<u64>,
    /// Lines that the parser has not seen: blank ones before the first value.
    skipped: Cell<u64>,
    /// Bytes read.
    offset: Cell<u64>,
    fault: RefCell<Option<CorpusError>>,
}

impl Stream {
    fn open(path: &Path) -> Result<Self, CorpusError> {
        let (mut input, packed) = unpacked(path)?;
        let state = State { line: Cell::new(1), skipped: Cell::new(0), offset: Cell::new(0), fault: RefCell::new(None) };
        if input.fill_buf().map_err(|source| failure(packed, path, 1, source))?.starts_with(BYTE_ORDER_MARK) {
            input.consume(BYTE_ORDER_MARK.len());
            state.offset.set(BYTE_ORDER_MARK.len() as u64);
        }
        Ok(Self { input, path: path.to_owned(), packed, begun: Vec::new(), state: Rc::new(state) })
    }

    /// The first byte that is no white space, left to be read.
    fn first(&mut self) -> Result<Option<u8>, CorpusError> {
        loop {
            let next = self.input.fill_buf().map(|bytes| bytes.first().copied());
            match next.map_err(|source| failure(self.packed, &self.path, self.state.line.get(), source))? {
                Some(byte) if byte.is_ascii_whitespace() => {
                    self.input.consume(1);
                    self.state.passed(byte);
                }
                other => {
                    self.state.skipped.set(self.state.line.get() - 1);
                    return Ok(other);
                }
            }
        }
    }

    fn stop(&self, fault: CorpusError) -> io::Error {
        self.state.fault.replace(Some(fault));
        io::ErrorKind::InvalidData.into()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte at a time is how the parser asks anyway, and keeps the line exact.
        let Some(slot) = buffer.first_mut() else { return Ok(0) };
        if self.state.fault.borrow().is_some() {
            // The parser looks for the ends of open lists after an error; the first fault is the one to report.
            return Err(io::ErrorKind::InvalidData.into());
        }
        let line = self.state.line.get();
        let byte = match self.input.fill_buf().map(|bytes| bytes.first().copied()) {
            Ok(Some(byte)) => byte,
            Ok(None) => return Ok(0),
            Err(source) => return Err(self.stop(failure(self.packed, &self.path, line, source))),
        };
        self.input.consume(1);
        if !byte.is_ascii() || !self.begun.is_empty() {
            self.begun.push(byte);
            match std::str::from_utf8(&self.begun) {
                Ok(_) => self.begun.clear(),
                Err(bad) if bad.error_len().is_none() => {}
                Err(_) => {
                    let offset = self.state.offset.get() + 1 - self.begun.len() as u64;
                    return Err(self.stop(CorpusError::NotUtf8 { place: Place::new(&self.path, line), offset }));
                }
            }
        }
        self.state.passed(byte);
        *slot = byte;
        Ok(1)
    }
}

impl State {
    fn passed(&self, byte: u8) {
        self.offset.set(self.offset.get() + 1);
        // The byte after a line feed is the first of the next line; the parser has not asked for it yet.
        self.line.set(self.line.get() + u64::from(byte == b'\n'));
    }

    fn fault(&self, path: &Path, error: &serde_json::Error, expected: &'static str) -> CorpusError {
        if let Some(fault) = self.fault.take() {
            return fault;
        }
        CorpusError::Row {
            place: Place::new(path, self.skipped.get() + error.line().max(1) as u64),
            problem: problem_of_stream(error),
            expected,
        }
    }
}

/// Collects keys and stops at the list of a document.
struct Keys<'k> {
    keys: &'k mut Vec<String>,
    enough: &'k mut bool,
}

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            let is_list = key == LIST;
            self.keys.push(key.into_owned());
            if is_list {
                *self.enough = true;
                return Err(A::Error::custom("seen enough"));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let enough = &mut *self.enough;
        let keys = &mut *self.keys;
        if list.next_element_seed(Keys { keys, enough })?.is_some() {
            *self.enough = true;
            return Err(A::Error::custom("seen enough"));
        }
        Ok(())
    }
}

type Enter<'f, T> = &'f mut dyn FnMut((T, u64)) -> Result<(), CorpusError>;

/// The list of a document.
struct List<'f, T> {
    enter: Enter<'f, T>,
    state: &'f State,
    stopped: &'f mut Option<CorpusError>,
}

impl<T: Deserialize<'static>> DeserializeSeed<'static> for List<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'static>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<T: Deserialize<'static>> Visitor<'static> for List<'_, T> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a list of rows, or an object with one under `{LIST}`")
    }

    fn visit_seq<A: SeqAccess<'static>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(row) = list.next_element_seed(Numbered { state: self.state, row: PhantomData })? {
            if let Err(error) = (self.enter)(row) {
                *self.stopped = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'static>>(self, mut map: A) -> Result<(), A::Error> {
        let mut list = Some(self);
        while let Some(Text(key)) = map.next_key()? {
            match list.take_if(|_| key == LIST) {
                Some(list) => map.next_value_seed(list)?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        match list {
            None => Ok(()),
            Some(_) => Err(A::Error::custom(format!("no field `{LIST}`"))),
        }
    }
}

/// A row with the line on which it begins: the parser has read its first byte when this is called.
struct Numbered<'s, T> {
    state: &'s State,
    row: PhantomData<T>,
}

impl<T: Deserialize<'static>> DeserializeSeed<'static> for Numbered<'_, T> {
    type Value = (T, u64);

    fn deserialize<D: Deserializer<'static>>(self, input: D) -> Result<Self::Value, D::Error> {
        let line = self.state.line.get();
        T::deserialize(input).map(|row| (row, line))
    }
}
