//! Files of relabelling decisions, as JSON lines or as a table of three columns; the first line decides.

use std::path::Path;

use serde::Deserialize;

use super::{
    entry::Missing,
    json::{self, Id},
    lines::{Line, Lines},
    table::is_header,
    trec::{columns, wrong_columns},
};
use crate::{
    collection::Collection,
    decisions::{Decision, Decisions},
    error::{CorpusError, Place, Side, excerpt},
};

const JSON_ROW: &str = r#"{"qid": "…", "pid": "…", "decision": "neg", "drop" or "pos"} on each line"#;
const TABLE_ROW: &str = "`query-id<tab>document-id<tab>decision`, where a decision is neg, drop or pos";
const EITHER_ROW: &str = r#"{"qid": "…", "pid": "…", "decision": "pos"} on each line, or `query-id<tab>document-id<tab>decision`"#;

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow, alias = "query_id", alias = "query-id")]
    qid: Id<'a>,
    #[serde(borrow, alias = "document_id", alias = "docid", alias = "corpus_id", alias = "corpus-id")]
    pid: Id<'a>,
    decision: Decision,
}

/// A pair, its decision, and the line it stands on.
type Entry = (u32, u32, Decision, u64);

/// Reads decisions over the dense ids of `collection`.
pub(crate) fn decisions(path: &Path, collection: &Collection) -> Result<Decisions, CorpusError> {
    let (mut missing_queries, mut missing_documents) = (Missing::default(), Missing::default());
    let mut entries: Vec<Entry> = Vec::new();
    let mut as_json = None;
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let first = as_json.is_none();
        let row = if *as_json.get_or_insert_with(|| line.text.trim_start().starts_with('{')) {
            json::row(line, JSON_ROW)?
        } else if first && is_header(line, &collection.queries) {
            continue;
        } else {
            table_row(line)?
        };
        let found = (collection.queries.find(&row.qid.0), collection.documents.find(&row.pid.0));
        if found.0.is_none() {
            missing_queries.note(&row.qid.0, line.number);
        }
        if found.1.is_none() {
            missing_documents.note(&row.pid.0, line.number);
        }
        if let (Some(query), Some(document)) = found {
            entries.push((query, document, row.decision, line.number));
        }
    }
    if as_json.is_none() {
        return Err(CorpusError::EmptyFile { path: path.to_owned(), expected: EITHER_ROW });
    }
    missing_queries.check(path, Side::Query)?;
    missing_documents.check(path, Side::Document)?;
    entries.sort_unstable_by_key(|&(query, document, _, line)| (query, document, line));
    let same = |a: &Entry, b: &Entry| (a.0, a.1) == (b.0, b.1);
    if let Some([first, second]) = entries.array_windows().find(|[a, b]| same(a, b) && a.2 != b.2) {
        return Err(CorpusError::Row {
            place: Place::new(path, second.3),
            problem: format!(
                "query `{}` and document `{}` are decided `{}` here and `{}` on line {}",
                collection.queries.id(first.0),
                collection.documents.id(first.1),
                name(second.2),
                name(first.2),
                first.3
            ),
            expected: "one decision per pair: remove one of the lines",
        });
    }
    Ok(Decisions::from_pairs(entries.into_iter().map(|(query, document, decision, _)| (query, document, decision)).collect()))
}

fn table_row(line: Line<'_>) -> Result<Row<'_>, CorpusError> {
    let tabbed = columns(line.text.split('\t')).or_else(|got| columns(line.text.split_whitespace()).map_err(|_| got));
    let [query, document, decision] = tabbed.map_err(|got| wrong_columns(line, got, TABLE_ROW))?;
    let decision = match decision.trim() {
        "neg" => Decision::Negative,
        "drop" => Decision::Drop,
        "pos" => Decision::Positive,
        other => {
            let problem = format!("the decision `{}` is none of neg, drop, pos", excerpt(other));
            return Err(CorpusError::Row { place: line.place(), problem, expected: TABLE_ROW });
        }
    };
    Ok(Row { qid: Id(query.into()), pid: Id(document.into()), decision })
}

fn name(decision: Decision) -> &'static str {
    match decision {
        Decision::Negative => "neg",
        Decision::Drop => "drop",
        Decision::Positive => "pos",
    }
}
