//! What the small tables beside a collection share: an optional header, and refusing a second, different value.

use super::lines::Line;
use crate::{
    error::{CorpusError, excerpt},
    records::Records,
};

const QUERY_COLUMNS: [&str; 6] = ["query-id", "query_id", "query", "qid", "_id", "id"];

/// Whether a line names columns: its first column is the name of one, and no query of the collection.
pub(super) fn is_header(line: Line<'_>, queries: &Records) -> bool {
    let first = line.text.split(['\t', ' ']).next().unwrap_or_default();
    QUERY_COLUMNS.contains(&first.to_ascii_lowercase().as_str()) && queries.find(first).is_none()
}

/// The problem with a cell that must not be empty.
pub(super) fn not_empty<'a>(line: Line<'_>, what: &str, cell: &'a str, expected: &'static str) -> Result<&'a str, CorpusError> {
    if cell.trim().is_empty() {
        let problem = format!("{what} is empty in `{}`", excerpt(line.text));
        return Err(CorpusError::Row { place: line.place(), problem, expected });
    }
    Ok(cell)
}
