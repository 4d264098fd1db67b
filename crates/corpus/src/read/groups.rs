//! Groups of queries: a table `query-id<tab>group`.

use std::{collections::HashMap, path::Path};

use super::{
    entry::Missing,
    lines::Lines,
    table::{is_header, not_empty},
    trec::{columns, wrong_columns},
};
use crate::{
    collection::Collection,
    error::{CorpusError, Side, excerpt},
    groups::Groups,
};

const ROW: &str = "`query-id<tab>group`";

/// Reads the group of each query, for training on one group (a data set, a cluster) per batch. Queries that the file does not name
/// have no group.
///
/// # Errors
/// When the file cannot be read, a row is faulty, a query has two groups, or a query is unknown to the collection; the message
/// names file and line.
pub fn read_groups(path: &Path, collection: &Collection) -> Result<Groups, CorpusError> {
    let queries = &collection.queries;
    let mut groups = Groups { of_query: vec![Groups::NONE; queries.len()], names: Vec::new() };
    let mut numbers: HashMap<String, u32> = HashMap::new();
    let mut stands_on: Vec<u64> = vec![0; queries.len()];
    let mut missing = Missing::default();
    let mut empty = true;
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        if std::mem::take(&mut empty) && is_header(line, queries) {
            continue;
        }
        let [query, name] = columns(line.text.split('\t')).map_err(|got| wrong_columns(line, got, ROW))?;
        let name = not_empty(line, "the group", name, ROW)?.trim();
        let Some(query) = queries.find(query) else {
            missing.note(query, line.number);
            continue;
        };
        let group = match numbers.get(name) {
            Some(&group) => group,
            None => {
                let group = groups.names.len() as u32;
                groups.names.push(name.to_owned());
                numbers.insert(name.to_owned(), group);
                group
            }
        };
        let (held, first) = (&mut groups.of_query[query as usize], &mut stands_on[query as usize]);
        if *held != Groups::NONE && *held != group {
            return Err(CorpusError::Row {
                place: line.place(),
                problem: format!(
                    "query `{}` is in group `{}` here and in group `{}` on line {first}",
                    excerpt(queries.id(query)),
                    excerpt(name),
                    excerpt(&groups.names[*held as usize])
                ),
                expected: "one group per query: remove one of the lines",
            });
        }
        (*held, *first) = (group, line.number);
    }
    if empty {
        return Err(CorpusError::EmptyFile { path: path.to_owned(), expected: ROW });
    }
    missing.check(path, Side::Query)?;
    Ok(groups)
}
