//! Plain rows to encode: `{"_id", "text", "title"?}` on each line, plain or gzipped.
//!
//! Unlike a corpus, an empty text is allowed: whoever asks for the embedding of nothing gets that of the special tokens.

use std::path::Path;

use super::{
    beir::{DOCUMENT, Row},
    entry::{self, joined},
    json,
    lines::Lines,
};
use crate::{
    error::{CorpusError, Side},
    records::Records,
};

/// Reads rows in order; a row's text is `title + " " + text` when it has a title.
///
/// # Errors
/// Names file and line of a row that is not of that form, or of an id that stood there before.
pub fn read_rows(path: &Path) -> Result<Records, CorpusError> {
    let mut records = Records::new();
    let mut scratch = String::new();
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let row: Row<'_> = json::row(line, DOCUMENT)?;
        let text = joined(&mut scratch, &row.title.0, &row.text.0);
        entry::push_any(&mut records, Side::Document, &row.id.0, text, || line.place())?;
    }
    if records.is_empty() {
        return Err(CorpusError::EmptyFile { path: path.to_owned(), expected: DOCUMENT });
    }
    Ok(records)
}
