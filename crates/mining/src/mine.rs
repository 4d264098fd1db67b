//! One-shot mining with the semantics of sentence-transformers' `mine_hard_negatives` (6.2.0), by ids instead of texts.
//!
//! The order of operations is theirs: rows of length 1; search to the depth plus the largest number of positives; drop positives; margins
//! against the lowest positive; highest, then lowest score; keep `depth` survivors, then skip; choose. Identity is exact text, so a copy
//! of a positive goes, and of several documents with one text only the first takes part; what is judged for one query goes for all of its text.
//! Beyond theirs: everything judged goes, also with grade 0.

use std::collections::BTreeMap;
use std::fmt;

use burn::tensor::{DType, Tensor};
use corpus::write::MinedRow;
use corpus::{Collection, Judgments};
use kernels::Exclusions;
use kernels::layers::normalize;
use serde::Serialize;

use crate::candidate::Candidate;
use crate::chance::{Purpose, generator};
use crate::config::{DEEPEST, DrawConfig};
use crate::draws::{self, Draw, DrawContext};
use crate::error::MiningError;
use crate::filters::Margin;
use crate::knowledge::Knowledge;
use crate::report::Quantiles;
use crate::store::{EmbeddingStore, check_shape};

/// Queries searched at a time.
const BLOCK: usize = 1024;
/// Excluded ids in one search at most: collections full of copies are searched in smaller blocks.
const EXCLUDED: usize = 1 << 24;
/// Depth per negative when candidates may be dropped by score.
const SPARE: usize = 10;

/// What to mine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MineOptions {
    /// Negatives per query, at least 1.
    pub negatives: usize,
    /// Survivors kept before skipping (`range_max`). By default skip + 10 · negatives + P with a margin or highest score and skip +
    /// negatives + P without, P being the largest number of positives of a query.
    pub depth: Option<usize>,
    /// Best survivors that are skipped (`range_min`).
    pub skip: usize,
    /// Dropped above p − |p|·margin, p being the lowest positive score.
    pub relative_margin: Option<f32>,
    /// Dropped above p − margin.
    pub absolute_margin: Option<f32>,
    /// Dropped above.
    pub max_score: Option<f32>,
    /// Dropped below.
    pub min_score: Option<f32>,
    /// How negatives are chosen among the survivors: a draw that reads nothing but ranks and similarities.
    pub draw: DrawConfig,
    /// Of the choice.
    pub seed: u64,
}

impl Default for MineOptions {
    /// Three negatives, the best, without conditions.
    fn default() -> Self {
        Self {
            negatives: 3,
            depth: None,
            skip: 0,
            relative_margin: None,
            absolute_margin: None,
            max_score: None,
            min_score: None,
            draw: DrawConfig::Top {},
            seed: 1,
        }
    }
}

/// What was mined.
#[derive(Debug, Clone)]
pub struct Mined {
    /// One row per query, in the order of the queries; a row may be short or without negatives.
    pub rows: Vec<MinedRow>,
    /// What was dropped and what is left.
    pub report: MineReport,
}

/// Figures of one mining.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MineReport {
    /// Queries mined for.
    pub queries: usize,
    /// Documents looked at, positives not counted.
    pub candidates: usize,
    /// Candidates dropped, by reason.
    pub removed: BTreeMap<&'static str, usize>,
    /// Negatives found.
    pub negatives: usize,
    /// Queries with fewer negatives than asked for.
    pub short_rows: usize,
    /// Queries without negatives.
    pub empty_rows: usize,
    /// Scores of positives.
    pub positive_scores: Option<Quantiles>,
    /// Scores of negatives.
    pub negative_scores: Option<Quantiles>,
    /// Lowest positive score less the negative's.
    pub score_differences: Option<Quantiles>,
}

impl fmt::Display for MineReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{} negatives for {} queries; {} queries have fewer than asked for, {} none",
            self.negatives, self.queries, self.short_rows, self.empty_rows
        )?;
        for (reason, count) in &self.removed {
            let share = 100.0 * *count as f64 / self.candidates.max(1) as f64;
            writeln!(formatter, "dropped by {reason}: {count} of {} candidates ({share:.1} %)", self.candidates)?;
        }
        write!(formatter, "{:<12}{:>9}{:>9}{:>9}{:>9}{:>9}", "scores", "5 %", "25 %", "50 %", "75 %", "95 %")?;
        for (name, quantiles) in
            [("positive", self.positive_scores), ("negative", self.negative_scores), ("difference", self.score_differences)]
        {
            if let Some(it) = quantiles {
                write!(formatter, "\n{name:<12}{:>9.4}{:>9.4}{:>9.4}{:>9.4}{:>9.4}", it.p5, it.p25, it.p50, it.p75, it.p95)?;
            }
        }
        Ok(())
    }
}

impl MineOptions {
    /// Survivors kept before skipping, with `positives` the largest number of positives of a query.
    fn range_max(&self, positives: usize) -> usize {
        let drops = self.relative_margin.is_some() || self.absolute_margin.is_some() || self.max_score.is_some();
        let spare = if drops { SPARE } else { 1 };
        self.depth.unwrap_or(self.skip + spare * self.negatives + positives)
    }

    fn check(&self) -> Result<(), MiningError> {
        let wrong = |field: &str, got: String, expected: &str| {
            Err(crate::error::ConfigError { field: field.to_owned(), got, expected: expected.to_owned() }.into())
        };
        if self.negatives == 0 {
            return wrong("negatives", "0".into(), "at least 1");
        }
        if let Some(depth) = self.depth.filter(|&depth| depth <= self.skip) {
            return wrong("depth", depth.to_string(), &format!("more than skip, which is {}", self.skip));
        }
        let needs = draws::build(&self.draw).needs();
        if needs.to_positive || needs.curve || matches!(self.draw, DrawConfig::Diverse { .. }) {
            return wrong("draw", format!("\"{}\"", draws::build(&self.draw).name()), "a draw by rank or score, for instance \"uniform\"");
        }
        let numbers = [
            ("relative_margin", self.relative_margin),
            ("absolute_margin", self.absolute_margin),
            ("max_score", self.max_score),
            ("min_score", self.min_score),
        ];
        match numbers.into_iter().find(|(_, number)| number.is_some_and(|number| !number.is_finite())) {
            Some((field, number)) => wrong(field, format!("{}", number.unwrap_or_default()), "a finite number"),
            None => Ok(()),
        }
    }
}

/// Mines negatives for `queries`, whose rows are `embedded`, `[queries, dimension]`, in the same order.
///
/// # Errors
/// When an option makes no sense, shapes or ids do not fit the collection, the depth is beyond what search offers, or search fails.
pub fn mine(
    embedded: &Tensor<2>,
    store: &EmbeddingStore,
    queries: &[u32],
    judgments: &Judgments,
    collection: &Collection,
    options: &MineOptions,
) -> Result<Mined, MiningError> {
    options.check()?;
    check_shape("query rows", embedded, [queries.len(), store.dimension()])?;
    if queries.is_empty() {
        return Ok(Mined { rows: Vec::new(), report: Tally::default().report(&[], options.negatives) });
    }
    let knowledge = Knowledge::new(collection, judgments, false)?;
    let normalised = store.normalised()?;
    let store = normalised.as_ref().unwrap_or(store);
    let embedded = normalize(embedded.clone().cast(DType::F32));

    let most_positives = queries.iter().map(|&query| judgments.positives(query).count()).max().unwrap_or(0);
    let depth = options.range_max(most_positives);
    let copies: Vec<u32> = (0..store.len() as u32).filter(|&document| knowledge.class(document) != document).collect();
    // Found, and dropped, are also the documents of other queries of one text, as far as search goes.
    let most_together = queries.iter().map(|&query| knowledge.judged_together(query)).max().unwrap_or(0);
    let k = (depth + most_positives).max((depth + most_together).min(DEEPEST)).min(store.len() - copies.len());

    let chooser = Chooser { draw: draws::build(&options.draw), knowledge: &knowledge, options, depth };
    let mut tally = Tally::default();
    let mut rows = Vec::with_capacity(queries.len());
    // A pass over a file is worth more queries.
    let most = if store.disk_use().is_some() { 64 * BLOCK } else { BLOCK };
    let block = (EXCLUDED / copies.len().max(1)).clamp(1, most);
    let mut start = 0;
    for queries in queries.chunks(block) {
        let embedded = embedded.clone().slice([start..start + queries.len(), 0..store.dimension()]);
        start += queries.len();
        let positives: Vec<Vec<u32>> = queries.iter().map(|&query| judgments.positives(query).collect()).collect();
        let pairs: Vec<(u32, u32)> = (0..).zip(&positives).flat_map(|(row, ids)| ids.iter().map(move |&id| (row, id))).collect();
        let mut scores = store.similarities(&embedded, &pairs)?.into_iter();
        let exclusions = (!copies.is_empty()).then(|| Exclusions::from_rows(queries.iter().map(|_| copies.clone())));
        let found = store.search(embedded, k, exclusions.as_ref(), None)?;
        for (row, (&query, positives)) in queries.iter().zip(positives).enumerate() {
            let positives: Vec<(u32, f32)> = positives.into_iter().zip(scores.by_ref()).collect();
            rows.push(chooser.choose(query, positives, found.row(row), &mut tally));
        }
    }
    let report = tally.report(&rows, options.negatives);
    Ok(Mined { rows, report })
}

/// What is the same for all queries of one mining.
struct Chooser<'a> {
    draw: Box<dyn Draw>,
    knowledge: &'a Knowledge,
    options: &'a MineOptions,
    depth: usize,
}

impl Chooser<'_> {
    /// Filters and draws for one query. `found` is best first.
    fn choose(&self, query: u32, positives: Vec<(u32, f32)>, found: impl Iterator<Item = (u32, f32)>, tally: &mut Tally) -> MinedRow {
        let (knowledge, options) = (self.knowledge, self.options);
        let lowest = positives.iter().map(|it| it.1).fold(f32::NAN, f32::min);
        let relative = Margin::new(options.relative_margin.map(f64::from), None);
        let absolute = Margin::new(None, options.absolute_margin.map(f64::from));
        let (max, min) = (options.max_score, options.min_score);

        let mut survivors = Vec::new();
        for ((document, score), rank) in found.zip(1..) {
            if knowledge.is_copy_of_judged(query, document) {
                continue;
            }
            tally.candidates += 1;
            let reason = if !absolute.admits(score, lowest) {
                Some("absolute margin")
            } else if !relative.admits(score, lowest) {
                Some("relative margin")
            } else if max.is_some_and(|max| score > max) {
                Some("highest score")
            } else if min.is_some_and(|min| score < min) {
                Some("lowest score")
            } else {
                None
            };
            match reason {
                Some(reason) => *tally.removed.entry(reason).or_default() += 1,
                None => survivors.push(Candidate { similarity: score, ..Candidate::found(document, 0, rank, score) }),
            }
        }
        survivors.truncate(self.depth);
        survivors.drain(..options.skip.min(survivors.len()));

        let context = DrawContext {
            seed: options.seed,
            query,
            positive: positives.first().map_or(u32::MAX, |it| it.0),
            visit: 0,
            wanted: options.negatives,
            source: 0,
            positive_score: lowest,
            curve: &[],
        };
        let mut order = self.draw.order(&mut generator(options.seed, query, 0, Purpose::Source(0)), &context, &survivors);
        order.truncate(options.negatives);
        order.sort_unstable();
        let negatives: Vec<(u32, f32, u32)> =
            order.into_iter().map(|place| survivors[place]).map(|it| (it.document, it.score, it.rank)).collect();
        tally.positives.extend(positives.iter().map(|it| it.1));
        tally.negatives.extend(negatives.iter().map(|it| it.1));
        tally.differences.extend(negatives.iter().map(|it| lowest - it.1));
        MinedRow { query, positives, negatives }
    }
}

#[derive(Default)]
struct Tally {
    candidates: usize,
    removed: BTreeMap<&'static str, usize>,
    positives: Vec<f32>,
    negatives: Vec<f32>,
    differences: Vec<f32>,
}

impl Tally {
    fn report(self, rows: &[MinedRow], wanted: usize) -> MineReport {
        MineReport {
            queries: rows.len(),
            candidates: self.candidates,
            removed: self.removed,
            negatives: self.negatives.len(),
            short_rows: rows.iter().filter(|row| row.negatives.len() < wanted).count(),
            empty_rows: rows.iter().filter(|row| row.negatives.is_empty()).count(),
            positive_scores: Quantiles::of(self.positives),
            negative_scores: Quantiles::of(self.negatives),
            score_differences: Quantiles::of(self.differences),
        }
    }
}
