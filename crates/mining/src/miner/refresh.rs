//! One refresh: encode if any part needs it, search block by block, filter, swap the lists, report.
//!
//! Lists change only when everything has worked. Nothing here draws.

use std::collections::HashSet;
use std::time::Instant;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::Miner;
use crate::candidate::Candidate;
use crate::config::SourceConfig;
use crate::error::MiningError;
use crate::filters::Removed;
use crate::lists::{self, Entry, Lists};
use crate::report::{Quantiles, RefreshReport};
use crate::row_encoder::RowEncoder;
use crate::schedule::Moment;
use crate::sources::{Block, Embedded, Scale, Source};
use crate::store::{EmbeddingStore, encode_queries};

/// Queries searched and filtered at a time.
const BLOCK: usize = 512;

impl Miner {
    /// Finds all due lists anew with the weights that `encoder` has now.
    ///
    /// # Errors
    /// When encoding or searching fails; the lists are as before then.
    pub fn refresh(&mut self, step: usize, epoch: usize, encoder: &mut dyn RowEncoder) -> Result<RefreshReport, MiningError> {
        let begun = Instant::now();
        let now = Moment { step, epoch };
        let due: Vec<usize> = (0..self.supplies.len()).filter(|&number| self.supplies[number].due(now)).collect();
        let mut work = Work::default();
        if self.due_needs_encoder(&due) && !self.training.is_empty() {
            self.encode(step, encoder)?;
            work.encode_seconds = begun.elapsed().as_secs_f64();
        }
        work.removed = self.chain.counters();
        let mut found: Vec<lists::Builder> = due.iter().map(|_| Lists::builder(self.knowledge.queries())).collect();
        let with_encoder = self.due_needs_encoder(&due);
        for queries in self.training.chunks(BLOCK) {
            let encoding = Instant::now();
            let rows = if with_encoder { Some(encode_queries(encoder, queries)?) } else { None };
            work.encode_seconds += encoding.elapsed().as_secs_f64();
            self.mine_block(queries, rows.as_ref(), &due, &mut found, &mut work)?;
        }
        let found: Vec<Lists> = found.into_iter().map(lists::Builder::finish).collect();
        let turnover = self.turnover(&due, &found);
        for (&number, lists) in due.iter().zip(found) {
            let supply = &mut self.supplies[number];
            (supply.lists, supply.last) = (lists, Some(now));
            supply.retire();
        }
        if !self.supplies.iter().any(|supply| supply.source.as_ref().is_some_and(|source| source.needs_encoder())) {
            self.store = None;
        }
        self.version += 1;
        Ok(self.report(now, &due, work, turnover, begun))
    }

    fn due_needs_encoder(&self, due: &[usize]) -> bool {
        let reads = self.chain.reads_similarity();
        let sources = due.iter().filter_map(|&number| self.supplies[number].source.as_ref());
        sources.into_iter().any(|source| source.needs_encoder() || (reads && source.scale() == Scale::Foreign))
    }

    fn encode(&mut self, step: usize, encoder: &mut dyn RowEncoder) -> Result<(), MiningError> {
        let mut store = match self.store.take() {
            Some(store) => store,
            // Where the encoder's rows are is where the store belongs.
            None => {
                let device = encode_queries(encoder, &self.training[..1])?.device();
                EmbeddingStore::new(self.knowledge.documents(), encoder.dimension(), self.precision, &device)
            }
        };
        store.fill(encoder, Some(step))?;
        self.store = Some(store);
        Ok(())
    }

    /// Searches and filters one block of queries for every due source.
    fn mine_block(
        &self,
        queries: &[u32],
        rows: Option<&Tensor<2>>,
        due: &[usize],
        found: &mut [lists::Builder],
        work: &mut Work,
    ) -> Result<(), MiningError> {
        let searching = Instant::now();
        let judged: Vec<Vec<u32>> = if self.config.remove_judged {
            queries.iter().map(|&query| self.knowledge.judged(query).collect()).collect()
        } else {
            vec![Vec::new(); queries.len()]
        };
        let positives: Vec<Vec<u32>> = queries.iter().map(|&query| self.knowledge.judgments().positives(query).collect()).collect();
        let view = rows.zip(self.store.as_ref());
        let score = |documents: &[Vec<u32>]| view.map(|(rows, store)| scores(store, rows, documents)).transpose();
        let judged_scores = score(&judged)?;
        let positive_scores = score(&positives)?;
        let lowest: Vec<f32> = match &positive_scores {
            Some(scores) => scores.iter().map(|scores| scores.iter().copied().fold(f32::NAN, f32::min)).collect(),
            None => vec![f32::NAN; queries.len()],
        };
        let ceilings: Vec<f32> = lowest.iter().map(|&lowest| self.chain.ceiling(lowest)).collect();
        let embedded =
            view.zip(judged_scores.as_deref()).map(|((queries, store), judged)| Embedded { queries, store, judged, ceilings: &ceilings });
        let block = Block { queries, judged: &judged, embedded };
        if let Some(scores) = &positive_scores {
            work.positives.extend(scores.iter().flatten());
        }
        work.search_seconds += searching.elapsed().as_secs_f64();

        for (&number, found) in due.iter().zip(found) {
            let Some(source) = &self.supplies[number].source else { continue };
            let searching = Instant::now();
            let candidates = source.candidates(&block)?;
            let similarities = self.similarities(source.as_ref(), &candidates, view)?;
            work.search_seconds += searching.elapsed().as_secs_f64();

            let filtering = Instant::now();
            let filtered: Vec<_> = candidates
                .into_par_iter()
                .zip(similarities)
                .zip(queries.par_iter().zip(&lowest))
                .map(|((candidates, similarities), (&query, &lowest))| {
                    let bound = if source.scale() == Scale::Own { source.lowest_positive(query) } else { lowest };
                    let mut removed = Removed::default();
                    let kept = self.chain.run(query, bound, candidates.into_iter().zip(similarities), &mut removed);
                    (kept, removed)
                })
                .collect();
            for ((&query, (kept, removed)), &lowest) in queries.iter().zip(filtered).zip(&lowest) {
                work.removed.add(&removed);
                if source.scale() != Scale::Own {
                    work.negatives.extend(kept.iter().map(|it| it.1));
                    work.differences.extend(kept.iter().map(|it| lowest - it.1));
                }
                found.push(query, kept.into_iter().map(|(candidate, _)| Entry::from(candidate)));
            }
            work.filter_seconds += filtering.elapsed().as_secs_f64();
        }
        Ok(())
    }

    /// What the filters measure each candidate by: its own score where that is on the scale of the positives, otherwise the encoder's.
    fn similarities(
        &self,
        source: &dyn Source,
        candidates: &[Vec<Candidate>],
        view: Option<(&Tensor<2>, &EmbeddingStore)>,
    ) -> Result<Vec<Vec<f32>>, MiningError> {
        if source.scale() != Scale::Foreign {
            return Ok(candidates.iter().map(|row| row.iter().map(|it| it.score).collect()).collect());
        }
        match view {
            Some((rows, store)) => {
                let documents: Vec<Vec<u32>> = candidates.iter().map(|row| row.iter().map(|it| it.document).collect()).collect();
                scores(store, rows, &documents)
            }
            None => Ok(candidates.iter().map(|row| vec![f32::NAN; row.len()]).collect()),
        }
    }

    /// Share of new entries in the lists that had a version before.
    fn turnover(&self, due: &[usize], found: &[Lists]) -> Option<f64> {
        let again = || due.iter().zip(found).filter(|&(&number, _)| self.supplies[number].last.is_some());
        again().next()?;
        let (mut kept, mut all) = (0, 0);
        for (&number, lists) in again() {
            for &query in &self.training {
                let (before, after) = (self.supplies[number].lists.row(query), lists.row(query));
                let known: HashSet<u32> = before.iter().map(|entry| entry.document).collect();
                kept += after.iter().filter(|entry| known.contains(&entry.document)).count();
                all += before.len().max(after.len());
            }
        }
        Some(if all == 0 { 0.0 } else { 1.0 - kept as f64 / all as f64 })
    }

    fn report(&self, now: Moment, due: &[usize], work: Work, turnover: Option<f64>, begun: Instant) -> RefreshReport {
        let lists: Vec<&Lists> = self.supplies.iter().map(|supply| &supply.lists).collect();
        let lengths = || self.training.iter().map(|&query| lists.iter().map(|lists| lists.row(query).len()).sum::<usize>());
        let candidates = lengths().sum();
        let false_negative_rate = self.truth.as_ref().filter(|_| candidates > 0).map(|truth| {
            let wrong = |query: u32| {
                lists.iter().flat_map(|lists| lists.row(query)).filter(|entry| truth.is_positive(query, entry.document)).count()
            };
            self.training.iter().map(|&query| wrong(query)).sum::<usize>() as f64 / candidates as f64
        });
        // Random documents never run out.
        let endless = self.config.source.iter().any(|source| matches!(source, SourceConfig::Random { .. }));
        let shorter = |than: usize| if endless { 0 } else { lengths().filter(|&length| length < than).count() };
        RefreshReport {
            version: self.version,
            step: now.step,
            epoch: now.epoch,
            sources: due.iter().map(|&number| self.supplies[number].name.to_owned()).collect(),
            seconds: begun.elapsed().as_secs_f64(),
            encode_seconds: work.encode_seconds,
            search_seconds: work.search_seconds,
            filter_seconds: work.filter_seconds,
            queries: self.training.len(),
            candidates,
            turnover,
            negative_scores: Quantiles::of(work.negatives),
            positive_scores: Quantiles::of(work.positives),
            score_differences: Quantiles::of(work.differences),
            removed: work.removed.into_map(),
            short_rows: shorter(self.wanted),
            empty_rows: shorter(1),
            false_negative_rate,
        }
    }
}

/// Similarity of row `i` of `rows` to each of `documents[i]`.
fn scores(store: &EmbeddingStore, rows: &Tensor<2>, documents: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, MiningError> {
    let pairs: Vec<(u32, u32)> =
        (0..).zip(documents).flat_map(|(row, documents)| documents.iter().map(move |&document| (row, document))).collect();
    let mut flat = store.similarities(rows, &pairs)?.into_iter();
    Ok(documents.iter().map(|documents| flat.by_ref().take(documents.len()).collect()).collect())
}

/// What adds up over the blocks of a refresh.
#[derive(Default)]
struct Work {
    encode_seconds: f64,
    search_seconds: f64,
    filter_seconds: f64,
    removed: Removed,
    negatives: Vec<f32>,
    positives: Vec<f32>,
    differences: Vec<f32>,
}
