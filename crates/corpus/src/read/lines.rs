//! Streaming lines of plain or gzipped text files, with the place of each for messages.
//!
//! One buffer is reused for every line. Gzip is recognised by its magic bytes, so a wrong extension does no harm. Blank
//! lines are passed over, a byte order mark and `\r` before the line feed are dropped. Invariant: a line handed out is UTF-8.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;

use crate::error::{CorpusError, Place};

const BUFFER: usize = 256 << 10;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a file line by line.
pub(crate) struct Lines {
    path: PathBuf,
    input: Box<dyn BufRead>,
    packed: bool,
    buffer: Vec<u8>,
    line: u64,
    /// Unpacked bytes before the buffered line.
    offset: u64,
}

/// One line without its end.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) text: &'a str,
    pub(crate) number: u64,
    path: &'a Path,
}

impl Line<'_> {
    pub(crate) fn place(&self) -> Place {
        Place::new(self.path, self.number)
    }
}

impl Lines {
    pub(crate) fn open(path: &Path) -> Result<Self, CorpusError> {
        let (input, packed) = unpacked(path)?;
        Ok(Self { path: path.to_owned(), input, packed, buffer: Vec::new(), line: 0, offset: 0 })
    }

    /// The next line that is not blank.
    pub(crate) fn next(&mut self) -> Result<Option<Line<'_>>, CorpusError> {
        loop {
            self.offset += self.buffer.len() as u64;
            self.buffer.clear();
            let read = self.input.read_until(b'\n', &mut self.buffer);
            self.line += 1;
            if let Err(source) = read {
                return Err(self.failure(source));
            }
            if self.buffer.is_empty() {
                return Ok(None);
            }
            let bytes = self.buffer.as_slice();
            let text = if self.line == 1 { bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes) } else { bytes };
            if !text.iter().all(u8::is_ascii_whitespace) {
                break;
            }
        }
        let mut bytes = self.buffer.as_slice();
        if self.line == 1 {
            bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        }
        bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(Line { text, number: self.line, path: &self.path })),
            Err(bad) => {
                // `bytes` may start behind a byte order mark; its distance from the buffer is that of its end.
                let skipped = bytes.as_ptr().addr() - self.buffer.as_ptr().addr();
                let offset = self.offset + (skipped + bad.valid_up_to()) as u64;
                Err(CorpusError::NotUtf8 { place: Place::new(&self.path, self.line), offset })
            }
        }
    }

    /// The next line, or the error that the file has none; for formats with a first line that decides.
    pub(crate) fn first(&mut self, expected: &'static str) -> Result<Line<'_>, CorpusError> {
        let path = self.path.clone();
        self.next()?.ok_or(CorpusError::EmptyFile { path, expected })
    }

    fn failure(&self, source: io::Error) -> CorpusError {
        failure(self.packed, &self.path, self.line, source)
    }
}

/// The bytes of a file, unpacked if need be, and whether it is packed.
pub(super) fn unpacked(path: &Path) -> Result<(Box<dyn BufRead>, bool), CorpusError> {
    let file = File::open(path).map_err(CorpusError::io(path))?;
    let mut plain = BufReader::with_capacity(BUFFER, file);
    let packed = plain.fill_buf().map_err(CorpusError::io(path))?.starts_with(&GZIP_MAGIC);
    let input: Box<dyn BufRead> =
        if packed { Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(plain))) } else { Box::new(plain) };
    Ok((input, packed))
}

/// What it means that reading stopped on `line`.
pub(super) fn failure(packed: bool, path: &Path, line: u64, source: io::Error) -> CorpusError {
    if packed { CorpusError::Gzip { place: Place::new(path, line), source } } else { CorpusError::Io { path: path.to_owned(), source } }
}
