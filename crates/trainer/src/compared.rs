//! What the queries of a step were compared with: for each source of columns how many cells of the score matrix were open, at which ranks they
//! were found, how hard they were and, where all relevant documents are known, how many of them were false negatives.
//!
//! Counted from tables that are on the host anyway, and before the masks of the loss, which go by score: what they leave is the loss's own
//! `false_share`. How hard they were is measured on a sample (hardness.rs), whose scores come with the step's loss: no step waits for the device.

mod hardness;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use corpus::Judgments;
use mining::{Miner, rank_histogram};
use objective::{BatchError, Embedded, Marks};
use serde_json::{Map, Value, json};

use hardness::{Hardness, Sample};

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
pub(crate) enum Origin {
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cells {
    open: usize,
    /// Where a search found them, from 1; of columns that no search found there are none.
    ranks: Vec<u32>,
    /// Of these, those of which it is known whether the document is relevant.
    known: usize,
    /// Of these, those whose document is.
    wrong: usize,
}

/// An open cell of the score matrix: the column, where it came from, and the rank at which it was found, 0 where no search found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) column: usize,
    pub(crate) origin: Origin,
    rank: u32,
}

impl Cell {
    pub(crate) fn new(column: usize, origin: Origin, rank: u32) -> Self {
        Self { column, origin, rank }
    }
}

/// The accounts of one step.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    cells: BTreeMap<Origin, Cells>,
    /// Steps since the newest and the oldest row of the queue were encoded.
    queue_age: Option<(u32, u32)>,
    /// Some queries whose scores are asked for.
    pub(crate) sample: Sample,
}

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
    /// Steps since the newest and the oldest of the queue's rows were encoded.
    pub(crate) queue_age: Option<(u32, u32)>,
}

impl Watch {
    pub(crate) fn new(data: &Arc<Data>, config: &Config) -> Self {
        let every = config.train.log_every * EVERY.div_ceil(config.train.log_every);
        Self { data: Arc::clone(data), foreign: config.loss.reads_foreign_columns(), every, log: config.train.log_batches }
    }

    /// Cells whose document is relevant though not judged so, for the loss to report what its masks left of them; empty where that is not
    /// known, and at steps that are not counted.
    pub(crate) fn relevant(&self, batch: &Batch, columns: &[u32]) -> Marks {
        let Some(truth) = self.data.collection.truth.as_ref().filter(|_| batch.step.is_multiple_of(self.every)) else {
            return Marks::default();
        };
        if batch.pairs.iter().any(|pair| truth.judged(pair.0).is_empty()) {
            return Marks::default();
        }
        // A document of a queue may be several columns.
        let mut places: HashMap<u32, Vec<usize>> = HashMap::with_capacity(columns.len());
        columns.iter().enumerate().for_each(|(column, &document)| places.entry(document).or_default().push(column));
        let mut relevant = Marks::new(batch.pairs.len(), columns.len());
        for (row, &(query, _)) in batch.pairs.iter().enumerate() {
            let found = truth.positives(query).filter_map(|document| places.get(&document)).flatten();
            found.for_each(|&column| relevant.set(row, column, true));
        }
        relevant
    }

    /// The accounts of a step, if it is one that is counted.
    ///
    /// # Errors
    /// When the parts of the batch do not fit together.
    pub(crate) fn count(&self, batch: &Batch, handed: &Handed<'_>) -> Result<Option<Compared>, BatchError> {
        if !batch.step.is_multiple_of(self.every) {
            return Ok(None);
        }
        handed.embedded.validate()?;
        let mut positives = vec![false; handed.columns.len()];
        handed.embedded.targets.iter().for_each(|&column| positives[column] = true);
        let open = |row| self.open(batch, handed, &positives, row);
        let cells = self.cells(batch, handed.columns, open, self.data.collection.truth.as_ref());
        Ok(Some(Compared { cells, queue_age: handed.queue_age, sample: Sample::of(handed.embedded, open) }))
    }

    /// What the query of a row is compared with; `positives` says which columns are some query's positive.
    fn open(&self, batch: &Batch, handed: &Handed<'_>, positives: &[bool], row: usize) -> Vec<Cell> {
        let (embedded, columns) = (handed.embedded, handed.columns);
        let drawn: HashMap<u32, (u8, u32)> = batch.drawn[row].iter().map(|it| (it.document, (it.source, it.rank))).collect();
        let open = |(column, document): (usize, &u32)| {
            let cell = row * columns.len() + column;
            let own = embedded.side.own.is_empty() || embedded.side.own.get(row, column);
            let barred = embedded.blocked.get(row, column) || embedded.side.positives.get(row, column);
            if column == embedded.targets[row] || barred || !(own || self.foreign) {
                return None;
            }
            let (origin, rank) = match drawn.get(document) {
                _ if column >= handed.before_queue => (Origin::Queue, 0),
                _ if handed.retrieved => (Origin::PerStep, embedded.side.ranks.get(cell).copied().unwrap_or(0)),
                Some(&(source, rank)) => (Origin::Drawn(source), rank),
                None if positives[column] => (Origin::InBatch, 0),
                None => (Origin::Shared, 0),
            };
            Some(Cell::new(column, origin, rank))
        };
        columns.iter().enumerate().filter_map(open).collect()
    }

    fn cells(
        &self,
        batch: &Batch,
        columns: &[u32],
        open: impl Fn(usize) -> Vec<Cell>,
        truth: Option<&Judgments>,
    ) -> BTreeMap<Origin, Cells> {
        let mut counts: BTreeMap<Origin, Cells> = BTreeMap::new();
        for row in (0..batch.pairs.len()).step_by(batch.pairs.len().div_ceil(MOST_QUERIES)) {
            let query = batch.pairs[row].0;
            // Of a query that was written later nobody knows all that is relevant, nor of a generated text.
            let truth = truth.filter(|truth| !truth.judged(query).is_empty());
            for Cell { column, origin, rank } in open(row) {
                let document = columns[column];
                let cells = counts.entry(origin).or_default();
                cells.open += 1;
                cells.ranks.extend((rank > 0).then_some(rank));
                if let Some(truth) = truth.filter(|_| (document as usize) < self.data.documents()) {
                    cells.known += 1;
                    cells.wrong += usize::from(truth.is_positive(query, document));
                }
            }
        }
        counts
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
        let (wrong, known) = self.cells.values().fold((0, 0), |sum, cells| (sum.0 + cells.wrong, sum.1 + cells.known));
        (known > 0).then(|| wrong as f64 / known as f64)
    }

    /// Whether no query had anything to be told from its positive.
    pub(crate) fn is_empty(&self) -> bool {
        self.cells.values().all(|cells| cells.open == 0)
    }

    /// For the log, by source: the open cells, the false ones among those that are known, their ranks by powers of two, how hard they were, and
    /// how old. `scores` are those that the sample asked for.
    pub(crate) fn json(&self, scores: &[f32], miner: &Miner) -> Value {
        let name = |origin: Origin| match origin {
            Origin::Drawn(source) => miner.source_name(source).unwrap_or("unknown"),
            Origin::InBatch => "in-batch",
            Origin::Shared => "shared",
            Origin::Queue => "queue",
            Origin::PerStep => "per-step",
        };
        let mut hardness = self.sample.measure(scores);
        let line = |(&origin, cells): (&Origin, &Cells)| {
            let mut line = json!({ "open": cells.open });
            if cells.known > 0 {
                (line["known"], line["false"]) = (cells.known.into(), cells.wrong.into());
            }
            if !cells.ranks.is_empty() {
                line["ranks"] = rank_histogram(cells.ranks.iter().copied()).into();
            }
            if let Some(Hardness { below_positive, harder_share }) = hardness.remove(&origin) {
                line["below_positive"] = json!(below_positive);
                line["harder_share"] = harder_share.into();
            }
            if let Some((newest, oldest)) = self.queue_age.filter(|_| origin == Origin::Queue) {
                line["age_steps"] = json!([newest, oldest]);
            }
            (name(origin).to_owned(), line)
        };
        self.cells.iter().map(line).collect::<Map<_, _>>().into()
    }
}
