//! What the queries of a step were compared with: for each source of columns how many cells of the score matrix were open and, where all
//! relevant documents are known, how many of these were false negatives.
//!
//! Counted from tables that are on the host anyway, so no step waits for the device; and so before the masks of the loss, which go by score:
//! what they leave is the loss's own `false_share`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use corpus::Judgments;
use mining::Miner;
use objective::Embedded;
use serde_json::{Map, Value, json};

use crate::batches::Batch;
use crate::config::Config;
use crate::data::Data;

/// Steps from one count to the next, at least: it costs about as much as putting the batch together.
const EVERY: usize = 10;
/// Queries of a step that are looked at, at most; of more every so manieth.
const MOST_QUERIES: usize = 1024;

/// What is looked at in a round.
pub(crate) struct Watch {
    data: Arc<Data>,
    /// Some loss reads columns that belong to other queries.
    foreign: bool,
    /// Steps from one count to the next: every step that is counted is one that is logged.
    every: usize,
    /// batches.jsonl is written: what it shows of the columns is kept at every step.
    log: bool,
}

/// Where a column came from, as one query sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// Drawn for the query, from the source of this number.
    Drawn(u8),
    /// Another query's positive.
    InBatch,
    /// Drawn for another query.
    Shared,
    /// A row of an earlier step.
    Queue,
    /// Retrieved in the step.
    PerStep,
}

/// Cells of one origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cells {
    open: usize,
    /// Of these, those of which it is known whether the document is relevant.
    known: usize,
    /// Of these, those whose document is.
    wrong: usize,
}

/// The counts of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compared(BTreeMap<Origin, Cells>);

/// The columns of a step, for batches.jsonl.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Documents out of the queue, by slot.
    pub(crate) queue: Vec<u32>,
    /// By query what it retrieved in the step, best first.
    pub(crate) retrieved: Vec<Vec<u32>>,
}

/// The columns of a step as they were handed to the loss.
pub(crate) struct Handed<'a> {
    pub(crate) embedded: &'a Embedded,
    /// The document of each column.
    pub(crate) columns: &'a [u32],
    /// How many of them come before those of the queue.
    pub(crate) before_queue: usize,
    /// Whether those were retrieved in the step.
    pub(crate) retrieved: bool,
}

impl Watch {
    pub(crate) fn new(data: &Arc<Data>, config: &Config) -> Self {
        let every = config.train.log_every * EVERY.div_ceil(config.train.log_every);
        Self { data: Arc::clone(data), foreign: config.loss.reads_foreign_columns(), every, log: config.train.log_batches }
    }

    /// Cells whose document is relevant though not judged so, for the loss to report what its masks left of them; empty where that is not
    /// known, and at steps that are not counted.
    pub(crate) fn relevant(&self, batch: &Batch, columns: &[u32]) -> Vec<bool> {
        let Some(truth) = self.data.collection.truth.as_ref().filter(|_| batch.step.is_multiple_of(self.every)) else { return Vec::new() };
        if batch.pairs.iter().any(|pair| truth.judged(pair.0).is_empty()) {
            return Vec::new();
        }
        batch.pairs.iter().flat_map(|&(query, _)| columns.iter().map(move |&document| truth.is_positive(query, document))).collect()
    }

    /// The counts of a step, if it is one that is counted.
    pub(crate) fn count(&self, batch: &Batch, handed: &Handed<'_>) -> Option<Compared> {
        batch.step.is_multiple_of(self.every).then(|| self.cells(batch, handed, self.data.collection.truth.as_ref()))
    }

    fn cells(&self, batch: &Batch, handed: &Handed<'_>, truth: Option<&Judgments>) -> Compared {
        let (embedded, columns) = (handed.embedded, handed.columns);
        let flag = |table: &[bool], cell: usize| table.get(cell).is_some_and(|&flag| flag);
        let mut target = vec![false; columns.len()];
        embedded.targets.iter().for_each(|&column| target[column] = true);
        let mut counts: BTreeMap<Origin, Cells> = BTreeMap::new();
        for row in (0..batch.pairs.len()).step_by(batch.pairs.len().div_ceil(MOST_QUERIES)) {
            let query = batch.pairs[row].0;
            // Of a query that was written later nobody knows all that is relevant, nor of a generated text.
            let truth = truth.filter(|truth| !truth.judged(query).is_empty());
            let drawn: HashMap<u32, u8> = batch.drawn[row].iter().map(|it| (it.document, it.source)).collect();
            for (column, &document) in columns.iter().enumerate() {
                let cell = row * columns.len() + column;
                let own = embedded.side.own.is_empty() || embedded.side.own[cell];
                let barred = flag(&embedded.blocked, cell) || flag(&embedded.side.positives, cell);
                if column == embedded.targets[row] || barred || !(own || self.foreign) {
                    continue;
                }
                let origin = match drawn.get(&document) {
                    _ if column >= handed.before_queue => Origin::Queue,
                    _ if handed.retrieved => Origin::PerStep,
                    Some(&source) => Origin::Drawn(source),
                    None if target[column] => Origin::InBatch,
                    None => Origin::Shared,
                };
                let cells = counts.entry(origin).or_default();
                cells.open += 1;
                if let Some(truth) = truth.filter(|_| (document as usize) < self.data.documents()) {
                    cells.known += 1;
                    cells.wrong += usize::from(truth.is_positive(query, document));
                }
            }
        }
        Compared(counts)
    }

    /// What batches.jsonl shows of the columns, where it is written.
    pub(crate) fn see(&self, handed: &Handed<'_>) -> Option<Seen> {
        let (before, all) = (handed.before_queue, handed.columns.len());
        let ranked = |ranks: &[u32]| {
            let mut found: Vec<(u32, u32)> = ranks.iter().zip(handed.columns).map(|(&rank, &document)| (rank, document)).collect();
            found.retain(|it| it.0 > 0);
            found.sort_unstable();
            found.into_iter().map(|it| it.1).collect()
        };
        self.log.then(|| Seen {
            queue: handed.columns[before..].to_vec(),
            retrieved: if handed.retrieved { handed.embedded.side.ranks.chunks(all).map(ranked).collect() } else { Vec::new() },
        })
    }
}

impl Compared {
    /// Share of the open cells whose document is relevant, where that is known.
    pub(crate) fn false_negative_rate(&self) -> Option<f64> {
        let (wrong, known) = self.0.values().fold((0, 0), |sum, cells| (sum.0 + cells.wrong, sum.1 + cells.known));
        (known > 0).then(|| wrong as f64 / known as f64)
    }

    /// Whether no query had anything to be told from its positive.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.values().all(|cells| cells.open == 0)
    }

    /// For the log: by source the open cells, and the false ones among those that are known.
    pub(crate) fn json(&self, miner: &Miner) -> Value {
        let mut by_source: BTreeMap<&str, Cells> = BTreeMap::new();
        for (origin, cells) in &self.0 {
            let name = match *origin {
                Origin::Drawn(source) => miner.source_name(source).unwrap_or("unknown"),
                Origin::InBatch => "in-batch",
                Origin::Shared => "shared",
                Origin::Queue => "queue",
                Origin::PerStep => "per-step",
            };
            let sum = by_source.entry(name).or_default();
            (sum.open, sum.known, sum.wrong) = (sum.open + cells.open, sum.known + cells.known, sum.wrong + cells.wrong);
        }
        let line = |cells: &Cells| match cells.known {
            0 => json!({ "open": cells.open }),
            known => json!({ "open": cells.open, "known": known, "false": cells.wrong }),
        };
        by_source.iter().map(|(name, cells)| ((*name).to_owned(), line(cells))).collect::<Map<_, _>>().into()
    }
}
