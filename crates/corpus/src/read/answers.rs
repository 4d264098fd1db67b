//! Answers of queries, for filters that take a document with an answer in it for a false negative.
//!
//! JSON lines `{"query_id": "…", "answers": ["…"]}` or a table `query-id<tab>answer<tab>answer…`; the first line decides.

use std::path::Path;

use serde::Deserialize;

use super::{
    entry::Missing,
    json::{self, Id},
    lines::Lines,
    table::{is_header, not_empty},
    trec::wrong_columns,
};
use crate::{
    collection::Collection,
    error::{CorpusError, Side},
};

const JSON_ROW: &str = r#"{"query_id": "…", "answers": ["…"]} on each line"#;
const TABLE_ROW: &str = "`query-id<tab>answer`, with more answers in more columns";
const EITHER_ROW: &str = r#"{"query_id": "…", "answers": ["…"]} on each line, or `query-id<tab>answer`"#;

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow, alias = "_id", alias = "id", alias = "qid")]
    query_id: Id<'a>,
    #[serde(borrow)]
    answers: Vec<Id<'a>>,
}

/// Reads the answers of queries: row `q` of the result belongs to query `q`, and is empty where the file says nothing. Answers
/// on several lines for one query are joined, equal ones once, in the order of the file.
///
/// # Errors
/// When the file cannot be read, a row is faulty, an answer is empty (it would be found in every document), or a query is
/// unknown to the collection; the message names file and line.
pub fn read_answers(path: &Path, collection: &Collection) -> Result<Vec<Vec<String>>, CorpusError> {
    let mut missing = Missing::default();
    let mut rows: Vec<Vec<String>> = vec![Vec::new(); collection.queries.len()];
    let mut as_json = None;
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let first = as_json.is_none();
        let as_json = *as_json.get_or_insert_with(|| line.text.trim_start().starts_with('{'));
        if !as_json && first && is_header(line, &collection.queries) {
            continue;
        }
        let (expected, row) = if as_json {
            (JSON_ROW, json::row::<Row<'_>>(line, JSON_ROW)?)
        } else {
            let mut cells = line.text.split('\t').map(|cell| Id(cell.into()));
            let (query_id, answers) = (cells.next(), cells.collect::<Vec<_>>());
            match query_id {
                Some(query_id) if !answers.is_empty() => (TABLE_ROW, Row { query_id, answers }),
                _ => return Err(wrong_columns(line, 1, TABLE_ROW)),
            }
        };
        let Some(query) = collection.queries.find(&row.query_id.0) else {
            missing.note(&row.query_id.0, line.number);
            continue;
        };
        let known = &mut rows[query as usize];
        for answer in &row.answers {
            let answer = not_empty(line, "an answer", &answer.0, expected)?.trim();
            if !known.iter().any(|other| other == answer) {
                known.push(answer.to_owned());
            }
        }
    }
    if as_json.is_none() {
        return Err(CorpusError::EmptyFile { path: path.to_owned(), expected: EITHER_ROW });
    }
    missing.check(path, Side::Query)?;
    Ok(rows)
}
