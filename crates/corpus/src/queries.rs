//! Queries that a language model wrote for documents of a collection: they join its training split, or become it.
//!
//! Once entered they are queries like any other; what else a row says (negatives) comes along as lists do. Reading is `read/queries.rs`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    collection::Collection,
    error::{CorpusError, Place, Side},
    judgments::Judgments,
    negatives::{Listed, NegativeLists},
    read,
    records::Records,
};

/// What becomes of the training split when written queries come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueryUse {
    /// They are added to it.
    #[default]
    Add,
    /// It consists of them alone (InPars, arXiv 2202.05144; GPL, arXiv 2112.07577; Promptagator, arXiv 2209.11755).
    Replace,
}

/// What a file of written queries held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct QueryCounts {
    /// Rows of the file.
    pub rows: usize,
    /// Queries taken.
    pub queries: usize,
    /// Their positives.
    pub positives: usize,
    /// Their listed negatives.
    pub negatives: usize,
    /// Listed negatives left out because the same row has them as positives.
    pub contradicted: usize,
}

/// Rows of a file, checked against a collection but not yet part of it.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Ids and texts.
    pub(crate) records: Records,
    /// What each record's row says, in the same order.
    pub(crate) rows: Vec<WrittenRow>,
    pub(crate) contradicted: usize,
}

#[derive(Debug)]
pub(crate) struct WrittenRow {
    pub(crate) positives: Vec<u32>,
    /// In the order of the file, none of them a positive.
    pub(crate) negatives: Vec<u32>,
    pub(crate) logprob: Option<f64>,
    pub(crate) line: u64,
}

impl Collection {
    /// Reads JSON lines `{"_id": "…", "text": "…", "positive": ["document id", …], "negatives": ["document id", …], "logprob": -0.4}`,
    /// plain or gzipped, and enters them as queries whose positives are judged with grade 1 in `split`, which is made where it is missing.
    /// `negatives` and `logprob` may be missing, and other fields are not looked at. Negatives join those that came with the collection.
    ///
    /// With `keep`, only the rows of highest `logprob` are taken, so many of them and the earlier of equal ones (InPars, arXiv 2202.05144,
    /// keeps 10,000 of 100,000); they stay in the order of the file.
    ///
    /// # Errors
    /// When the file cannot be read, a row is faulty, a query has no text or no positive, an id is taken, a document is unknown to the
    /// collection, or `keep` is given and a row has no `logprob`; the message names file and line. The collection is as before then.
    pub fn add_queries(&mut self, path: &Path, split: &str, how: QueryUse, keep: Option<usize>) -> Result<QueryCounts, CorpusError> {
        let written = read::queries(path, self)?;
        let kept = match keep {
            Some(keep) => written.likeliest(keep, path)?,
            None => (0..written.rows.len()).collect(),
        };
        let first = self.queries.len();
        if let Some(&at) = kept.get(u32::MAX as usize - first) {
            return Err(CorpusError::TooMany { place: Place::new(path, written.rows[at].line), side: Side::Query });
        }
        let mut counts =
            QueryCounts { rows: written.rows.len(), queries: kept.len(), contradicted: written.contradicted, ..QueryCounts::default() };
        let mut pairs: Vec<(u32, u32, i32)> = match (how, self.find_split(split)) {
            (QueryUse::Add, Some(judgments)) => judgments.iter().collect(),
            _ => Vec::new(),
        };
        let mut lists: Vec<Vec<Listed>> = Vec::with_capacity(kept.len());
        for at in kept {
            let (row, id) = (&written.rows[at], at as u32);
            let place = || Place::new(path, row.line);
            let query = read::push(&mut self.queries, Side::Query, written.records.id(id), written.records.text(id), place)?;
            pairs.extend(row.positives.iter().map(|&document| (query, document, 1)));
            counts.positives += row.positives.len();
            counts.negatives += row.negatives.len();
            lists.push(row.negatives.iter().map(|&document| Listed { document, score: None }).collect());
        }
        // Under the name that `find_split` finds it by: a second split beside the old one would be shadowed.
        let split = if self.splits.contains_key(split) { split } else { read::split_name(split) };
        self.splits.insert(split.to_owned(), Judgments::from_pairs(self.queries.len(), pairs));
        if counts.negatives > 0 {
            let before = self.negatives.take().unwrap_or_default();
            let old = || 0..first as u32;
            let rows = old().map(|query| before.row(query).to_vec()).chain(lists).collect();
            let scores = old().map(|query| before.positive_scores(query).to_vec()).collect();
            self.negatives = Some(NegativeLists::from_rows(rows).with_positive_scores(scores));
        }
        Ok(counts)
    }
}

impl Written {
    /// Places of the `keep` rows with the highest log-probability, ascending.
    fn likeliest(&self, keep: usize, path: &Path) -> Result<Vec<usize>, CorpusError> {
        let mut ordered: Vec<(f64, usize)> = Vec::with_capacity(self.rows.len());
        for (at, row) in self.rows.iter().enumerate() {
            let Some(logprob) = row.logprob else {
                return Err(CorpusError::Row {
                    place: Place::new(path, row.line),
                    problem: format!(
                        "the query `{}` has no `logprob`, by which the best {keep} are to be kept",
                        self.records.id(at as u32)
                    ),
                    expected: "a number in every row; write the queries with their log-probabilities, or keep all of them",
                });
            };
            ordered.push((logprob, at));
        }
        // Stable: of equal ones the first comes first.
        ordered.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut kept: Vec<usize> = ordered.into_iter().take(keep).map(|it| it.1).collect();
        kept.sort_unstable();
        Ok(kept)
    }
}
