//! Plain tables of scores: `qid pid score`, or TREC runs `qid Q0 pid rank score tag`.
//!
//! White space or tabs; the first line decides between the two and may be a header. Higher is better: a query's rows are
//! sorted by score, the rank of a run is not looked at. Documents that the collection judged relevant are positives.

use std::path::Path;

use super::{
    lines::{Line, Lines},
    listing::Listing,
    sink::Sink,
    table::is_header,
    trec::{columns, wrong_columns},
};
use crate::error::{CorpusError, Place, excerpt};

const TABLE_ROW: &str = "`query-id document-id score`, separated by tabs or spaces";
const RUN_ROW: &str = "`query-id Q0 document-id rank score tag`, separated by spaces or tabs";
pub(super) const EITHER_ROW: &str = "`query-id document-id score`, or a TREC run `query-id Q0 document-id rank score tag`";

struct Entry {
    query: u32,
    document: u32,
    score: f32,
    line: u32,
}

/// Reads a table into `listing`.
pub(super) fn rows(path: &Path, listing: &mut Listing<'_>) -> Result<(), CorpusError> {
    let queries = &listing.collection.queries;
    let mut entries: Vec<Entry> = Vec::new();
    let mut run = None;
    // Rows so far of each query, while all third columns count 1, 2, 3, …
    let mut counted: Option<Vec<u32>> = Some(vec![0; queries.len()]);
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        if line.text.starts_with('#') && run != Some(false) {
            continue;
        }
        let is_run = match run {
            Some(is_run) => is_run,
            None => {
                let is_run = columns::<6>(line.text.split_whitespace()).is_ok();
                run = Some(is_run);
                if is_header(line, queries) {
                    continue;
                }
                is_run
            }
        };
        let (query, document, score) = split(line, is_run)?;
        let score = score.trim();
        let number: f32 = score.parse().ok().filter(|number: &f32| number.is_finite()).ok_or_else(|| CorpusError::Row {
            place: line.place(),
            problem: format!("the score `{}` is no finite number", excerpt(score)),
            expected: EITHER_ROW,
        })?;
        let (query, document) = (listing.known_query(query, line.number), listing.known_document(document, line.number));
        let (Some(query), Some(document)) = (query, document) else { continue };
        let rank = counted.as_mut().map(|rows| {
            rows[query as usize] += 1;
            rows[query as usize]
        });
        if is_run || rank.is_some_and(|rank| number != rank as f32) {
            counted = None;
        }
        entries.push(Entry { query, document, score: number, line: u32::try_from(line.number).unwrap_or(u32::MAX) });
    }
    if run.is_none() {
        return Err(CorpusError::EmptyFile { path: path.to_owned(), expected: EITHER_ROW });
    }
    if counted.is_some_and(|rows| rows.iter().any(|&rows| rows > 1)) {
        return Err(CorpusError::Row {
            place: Place::new(path, u64::from(entries[0].line)),
            problem: "the third column counts 1, 2, 3, … for every query: these are ranks".into(),
            expected: "scores, where higher is better; give the run with its scores",
        });
    }
    enter(path, entries, listing)
}

fn split<'a>(line: Line<'a>, is_run: bool) -> Result<(&'a str, &'a str, &'a str), CorpusError> {
    if is_run {
        let [query, _, document, _, score, _] = columns(line.text.split_whitespace()).map_err(|got| wrong_columns(line, got, RUN_ROW))?;
        return Ok((query, document, score));
    }
    let tabbed = columns(line.text.split('\t')).or_else(|got| columns(line.text.split_whitespace()).map_err(|_| got));
    let [query, document, score] = tabbed.map_err(|got| wrong_columns(line, got, if line.number == 1 { EITHER_ROW } else { TABLE_ROW }))?;
    Ok((query, document, score))
}

fn enter(path: &Path, mut entries: Vec<Entry>, listing: &mut Listing<'_>) -> Result<(), CorpusError> {
    entries.sort_unstable_by_key(|entry| (entry.query, entry.document, entry.line));
    let same = |a: &Entry, b: &Entry| (a.query, a.document) == (b.query, b.document);
    if let Some([first, second]) = entries.array_windows().find(|[a, b]| same(a, b) && a.score != b.score) {
        return Err(CorpusError::Row {
            place: Place::new(path, u64::from(second.line)),
            problem: format!(
                "query `{}` and document `{}` have the score {} here and {} on line {}",
                listing.collection.queries.id(first.query),
                listing.collection.documents.id(first.document),
                second.score,
                first.score,
                first.line
            ),
            expected: "one score per pair: remove one of the lines",
        });
    }
    entries.dedup_by(|b, a| same(a, b));
    entries.sort_unstable_by(|a, b| a.query.cmp(&b.query).then(b.score.total_cmp(&a.score)).then(a.line.cmp(&b.line)));
    for entry in entries {
        // A sink that looks relevance up never refuses a score.
        let _ = listing.scored(entry.query, entry.document, f64::from(entry.score));
    }
    Ok(())
}
