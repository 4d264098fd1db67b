//! One refresh: encode if any part needs it, search block by block, filter, swap the lists, report.
//!
//! Lists change only when everything has worked. Nothing here draws.

use std::collections::BTreeMap;
use std::time::Instant;

use super::decay::Lot;
use super::encode::stretch;
use super::histograms::Sample;
use super::{Decay, Job, Miner};
use crate::encoders::Encoders;
use crate::error::MiningError;
use crate::filters::{Dropped, Removed};
use crate::lists::{Lists, Row};
use crate::report::RefreshReport;
use crate::schedule::{Moment, Schedule};
use crate::score_histogram::ScoreHistogram;
use crate::source_report::Tally;

/// Queries searched and filtered at a time.
const BLOCK: usize = 512;

/// What adds up over the blocks of a refresh.
#[derive(Default)]
pub(super) struct Work {
    pub(super) encode_seconds: f64,
    pub(super) search_seconds: f64,
    pub(super) filter_seconds: f64,
    pub(super) removed: Removed,
    pub(super) positives: Vec<f32>,
    /// By number of the source, by query.
    pub(super) dropped: BTreeMap<usize, BTreeMap<u32, Vec<Dropped>>>,
    /// By number of the source.
    pub(super) tallies: BTreeMap<usize, Tally>,
    /// By number of the source.
    pub(super) histograms: BTreeMap<usize, ScoreHistogram>,
}

/// What a source will have once the refresh has worked.
pub(super) struct Outcome {
    pub(super) number: usize,
    /// `None` when its lists stay.
    pub(super) lists: Option<Lists>,
    curve: Vec<f32>,
    decay: Decay,
    pub(super) replaced: Option<usize>,
    last: Moment,
    next_slice: usize,
}

impl Miner {
    /// Finds all due lists anew with the weights that the encoders have now.
    ///
    /// # Errors
    /// When an encoder is not there, or encoding or searching fails; the lists are as before then.
    pub fn refresh(&mut self, now: Moment, encoders: &mut dyn Encoders) -> Result<RefreshReport, MiningError> {
        let begun = Instant::now();
        let due: Vec<(usize, Job)> =
            (0..self.supplies.len()).filter_map(|number| Some((number, self.supplies[number].job(now, self.config.slices)?))).collect();
        let given = self.given.take();
        self.check_judged()?;
        if due.iter().any(|&(number, _)| self.supplies[number].is_generated()) && self.knowledge.generated() == 0 {
            return Err(MiningError::NoGenerated);
        }
        let mut work = Work { removed: self.chain.counters(), ..Work::default() };
        if !self.training.is_empty() {
            self.encode(now, &due, given, encoders)?;
        }
        work.encode_seconds = begun.elapsed().as_secs_f64();
        let mut found: BTreeMap<usize, Vec<(u32, Row)>> = BTreeMap::new();
        let mut samples: BTreeMap<usize, Sample> = BTreeMap::new();
        for (numbers, queries) in self.passes(&due) {
            let all = queries.len();
            for (block, queries) in queries.chunks(BLOCK).enumerate() {
                let encoding = Instant::now();
                let known = self.know(queries, &numbers, encoders)?;
                work.encode_seconds += encoding.elapsed().as_secs_f64();
                work.positives.extend(known.reference_positives(&self.reference()));
                for &number in &numbers {
                    let rows = self.mine_block(number, &known, encoders, &mut work)?;
                    found.entry(number).or_default().extend(rows);
                    if let Some(model) = self.supplies[number].config.model() {
                        samples.entry(number).or_default().extend(&known, model, block * BLOCK, all);
                    }
                }
            }
        }
        let mut outcomes = Vec::with_capacity(due.len());
        for (number, job) in &due {
            let rows = found.remove(number).unwrap_or_default();
            outcomes.push(self.outcome(*number, job, rows, now, encoders)?);
        }
        let counting = Instant::now();
        work.histograms = self.histograms(samples, &outcomes)?;
        work.search_seconds += counting.elapsed().as_secs_f64();
        let accounts = self.accounts(now, &due, &outcomes);
        for outcome in outcomes {
            let supply = &mut self.supplies[outcome.number];
            if let Some(dropped) = work.dropped.remove(&outcome.number) {
                // Of slices only the queries that were mined again.
                supply.dropped.extend(dropped);
            }
            if let Some(lists) = outcome.lists {
                supply.lists = lists;
            }
            (supply.curve, supply.decay) = (outcome.curve, outcome.decay);
            (supply.last, supply.next_slice) = (Some(outcome.last), outcome.next_slice);
            supply.retire();
        }
        self.version += 1;
        let report = self.report(now, &accounts, work, begun);
        self.drop_stores();
        Ok(report)
    }

    /// Sources that are mined together, with their queries: those with whole lists, then the slices of each other one.
    fn passes(&self, due: &[(usize, Job)]) -> Vec<(Vec<usize>, Vec<u32>)> {
        let whole: Vec<usize> = due.iter().filter(|it| it.1 == Job::Whole).map(|it| it.0).collect();
        let mut passes = Vec::new();
        if !whole.is_empty() {
            passes.push((whole, self.training.clone()));
        }
        for (number, job) in due {
            if let Job::Slices(slices, parts) = job {
                let mut queries: Vec<u32> =
                    slices.iter().flat_map(|&slice| &self.training[stretch(slice, *parts, self.training.len())]).copied().collect();
                queries.sort_unstable();
                passes.push((vec![*number], queries));
            }
        }
        passes
    }

    fn outcome(
        &self,
        number: usize,
        job: &Job,
        rows: Vec<(u32, Row)>,
        now: Moment,
        encoders: &mut dyn Encoders,
    ) -> Result<Outcome, MiningError> {
        let supply = &self.supplies[number];
        let decays = matches!(supply.schedule, Some(Schedule::OnDecay(_)));
        let mut outcome = Outcome {
            number,
            lists: None,
            curve: supply.curve.clone(),
            decay: Decay::default(),
            replaced: decays.then_some(0),
            last: now,
            next_slice: supply.next_slice,
        };
        match job {
            Job::Whole => {
                let lists = Lists::of(self.knowledge.queries(), rows);
                outcome.curve = if self.training.is_empty() { Vec::new() } else { self.fit_curve(number, encoders)? };
                if decays {
                    outcome.decay = self.install(Lot { number, lists: &lists, curve: &outcome.curve }, encoders)?;
                }
                (outcome.lists, outcome.next_slice) = (Some(lists), 0);
            }
            Job::Slices(slices, parts) => {
                let mut rows: BTreeMap<u32, Row> = rows.into_iter().collect();
                let merged =
                    self.training.iter().map(|&query| (query, rows.remove(&query).unwrap_or_else(|| supply.lists.whole_row(query))));
                outcome.lists = Some(Lists::of(self.knowledge.queries(), merged));
                outcome.curve = if self.training.is_empty() { Vec::new() } else { self.fit_curve(number, encoders)? };
                outcome.next_slice = (supply.next_slice + slices.len()) % parts;
                if let (Some(last), Some(schedule)) = (supply.last, supply.schedule) {
                    outcome.last = schedule.slices_due(last, now, self.config.slices).2;
                }
            }
            Job::Check => {
                let (decay, replaced) = self.check(number, encoders)?;
                (outcome.decay, outcome.replaced) = (decay, Some(replaced));
            }
        }
        Ok(outcome)
    }
}
