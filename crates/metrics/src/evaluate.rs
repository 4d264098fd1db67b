//! Joins a run with qrels, query by query and in parallel. What is kept per query is [`QueryMetrics`]: small, and enough for every
//! measure; means are taken when asked for.

use std::collections::{BTreeMap, HashSet};

use rayon::prelude::*;

use crate::measure::Measure;
use crate::qrels::Qrels;
use crate::query::{Hit, QueryMetrics};
use crate::run::Run;

/// How a run is evaluated. The default is trec_eval's, but for scores, which are compared as f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Average over every query of the qrels; one that is missing in the run counts as zero (trec_eval `-c`).
    pub complete: bool,
    /// Lowest grade that counts as relevant (trec_eval `-l`). nDCG uses the grades themselves whatever this says.
    pub relevance_level: i32,
    /// Look at no more than this many documents per query (trec_eval `-M`).
    pub depth: Option<usize>,
    /// Leave out retrieved documents whose id is the query's id (BEIR's habit).
    pub drop_identical_ids: bool,
    /// Compare scores as f64 (trec_eval 10) instead of as the f32 they round to (trec_eval up to 9, and every f32 encoder).
    pub double_scores: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { complete: false, relevance_level: 1, depth: None, drop_identical_ids: false, double_scores: false }
    }
}

/// The result of [`evaluate()`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Every evaluated query by its id: those in run and qrels, or all of the qrels with [`Options::complete`].
    pub per_query: BTreeMap<String, QueryMetrics>,
}

/// Evaluates `run` against `qrels`. Queries without judgments are left out; see [`Options::complete`] for those without a ranking.
pub fn evaluate(qrels: &Qrels, run: &Run, options: &Options) -> Evaluation {
    let queries: Vec<&str> = qrels.queries().collect();
    let evaluated: Vec<(String, QueryMetrics)> = queries
        .into_par_iter()
        .filter_map(|query| {
            let ranked = match run.ranked(query, options.double_scores) {
                Some(ranked) => ranked,
                None if options.complete => Vec::new(),
                None => return None,
            };
            Some((query.to_owned(), judge(qrels, run, query, ranked, options)))
        })
        .collect();
    Evaluation { per_query: evaluated.into_iter().collect() }
}

/// Looks up the grades of one query's ranking.
fn judge(qrels: &Qrels, run: &Run, query: &str, mut ranked: Vec<(f64, u32)>, options: &Options) -> QueryMetrics {
    let mut seen = HashSet::with_capacity(ranked.len());
    let own = if options.drop_identical_ids { run.document_number(query) } else { None };
    ranked.retain(|&(_, document)| Some(document) != own && seen.insert(document));
    if let Some(depth) = options.depth {
        ranked.truncate(depth);
    }

    let mut counts = BTreeMap::new();
    let mut grades = Vec::new();
    for (document, grade) in qrels.judged(query) {
        if grade >= 0 {
            *counts.entry(grade).or_insert(0) += 1;
        }
        if let Some(number) = run.document_number(document) {
            grades.push((number, grade));
        }
    }
    grades.sort_unstable();
    let hits = ranked
        .iter()
        .zip(1..)
        .filter_map(|(&(_, document), rank)| {
            let found = grades.binary_search_by_key(&document, |&(number, _)| number).ok()?;
            Some(Hit { rank, grade: grades[found].1 })
        })
        .collect();
    QueryMetrics::new(ranked.len(), hits, counts.into_iter().collect(), options.relevance_level)
}

impl Evaluation {
    /// Number of queries evaluated.
    pub fn queries(&self) -> usize {
        self.per_query.len()
    }

    /// The value over all queries of a measure given by name, e.g. `ndcg@10`, `map`, `ndcg_cut_10` (see [`Measure`]); None for an
    /// unknown name.
    pub fn get(&self, name: &str) -> Option<f64> {
        name.parse().ok().map(|measure| self.mean(measure))
    }

    /// The value of a measure over all queries: the arithmetic mean, for `gm_*` the geometric mean, for `num_*` the sum. 0 when there
    /// is no query.
    pub fn mean(&self, measure: Measure) -> f64 {
        measure.summarise(self.per_query.values().map(|query| query.value(measure)))
    }

    /// A measure's value for every query, in the order of [`Evaluation::per_query`].
    pub fn values(&self, measure: Measure) -> Vec<f64> {
        self.per_query.values().map(|query| query.value(measure)).collect()
    }

    /// A measure's values of this and another evaluation for the queries both have, query by query: what
    /// [`crate::significance::compare`] takes.
    pub fn paired(&self, other: &Self, measure: Measure) -> (Vec<f64>, Vec<f64>) {
        self.per_query.iter().filter_map(|(query, ours)| Some((ours.value(measure), other.per_query.get(query)?.value(measure)))).unzip()
    }
}
