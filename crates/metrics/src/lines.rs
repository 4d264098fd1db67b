//! Content lines of a text file, one at a time in a reused buffer: blank lines and lines that start with `#` are left out, as
//! trec_eval 10 leaves them out. A `#` inside a line is content.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::error::ReadError;

/// Calls `visit` with the number (from 1) and text of every content line, without its line ending.
pub(crate) fn for_each_line(path: &Path, mut visit: impl FnMut(usize, &str) -> Result<(), ReadError>) -> Result<(), ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let mut reader = BufReader::with_capacity(1 << 18, File::open(path).map_err(io)?);
    let mut buffer = Vec::new();
    let mut number = 0;
    loop {
        buffer.clear();
        if reader.read_until(b'\n', &mut buffer).map_err(io)? == 0 {
            return Ok(());
        }
        number += 1;
        let bytes = if number == 1 { buffer.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&buffer) } else { &buffer };
        let line = std::str::from_utf8(bytes).map_err(|_| ReadError::Malformed {
            path: path.to_owned(),
            line: number,
            problem: "the line is not UTF-8".to_owned(),
            expected: "text in UTF-8",
        })?;
        let line = line.trim_end_matches(['\n', '\r']);
        if !line.trim_start().is_empty() && !line.trim_start().starts_with('#') {
            visit(number, line)?;
        }
    }
}
