//! The figures of a refresh: what changed is counted before the lists are swapped, the rest after.

use std::collections::HashSet;
use std::time::Instant;

use super::refresh::{Outcome, Work};
use super::{Job, Miner};
use crate::config::SourceKind;
use crate::lists::Lists;
use crate::report::{Quantiles, RefreshReport};
use crate::schedule::Moment;
use crate::score_histogram::ScoreHistogram;
use crate::source_report::{SourceReport, Tally, rank_histogram};
use crate::sources::Scale;

/// What is known of one source before its lists are swapped.
pub(super) struct Account {
    number: usize,
    /// Entries that stayed and entries in all, of lists that had a version before.
    change: Option<(usize, usize)>,
    row_age: Option<usize>,
    replaced: Option<usize>,
}

fn share(part: usize, all: usize) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

impl Miner {
    /// Compares new lists with those they will replace.
    pub(super) fn accounts(&self, now: Moment, due: &[(usize, Job)], outcomes: &[Outcome]) -> Vec<Account> {
        let account = |(outcome, (_, job)): (&Outcome, &(usize, Job))| {
            let supply = &self.supplies[outcome.number];
            let change = outcome.lists.as_ref().filter(|_| supply.last.is_some()).map(|lists| self.change(&supply.lists, lists));
            // A check looks at no stored row.
            let row_age = supply.config.model().filter(|_| *job != Job::Check).and_then(|model| self.row_age(model, now));
            Account { number: outcome.number, change, row_age, replaced: outcome.replaced }
        };
        outcomes.iter().zip(due).map(account).collect()
    }

    /// Entries of `after` that `before` has as well, and entries of the longer of both, over all training queries.
    fn change(&self, before: &Lists, after: &Lists) -> (usize, usize) {
        let (mut kept, mut all) = (0, 0);
        for &query in &self.training {
            let known: HashSet<u32> = before.row(query).iter().map(|entry| entry.document).collect();
            kept += after.row(query).iter().filter(|entry| known.contains(&entry.document)).count();
            all += before.row(query).len().max(after.row(query).len());
        }
        (kept, all)
    }

    pub(super) fn report(&self, now: Moment, accounts: &[Account], mut work: Work, begun: Instant) -> RefreshReport {
        let lists: Vec<&Lists> = self.supplies.iter().map(|supply| &supply.lists).collect();
        let lengths = || self.training.iter().map(|&query| lists.iter().map(|lists| lists.row(query).len()).sum::<usize>());
        // Random documents never run out.
        let endless = self.config.source.iter().any(|source| matches!(source.kind, SourceKind::Random {}));
        let shorter = |than: usize| if endless { 0 } else { lengths().filter(|&length| length < than).count() };
        // Generated texts never change: counted, they would only hide what did.
        let found = accounts.iter().filter(|account| !self.supplies[account.number].is_generated());
        let changes: Vec<(usize, usize)> = found.filter_map(|account| account.change).collect();
        let (kept, all) = changes.iter().fold((0, 0), |sum, change| (sum.0 + change.0, sum.1 + change.1));
        let replaced: Vec<usize> = accounts.iter().filter_map(|account| account.replaced).collect();
        // Scores of all sources on the encoder's scale; each source's are moved here once its own figures are made.
        let (mut negatives, mut differences) = (Vec::new(), Vec::new());
        let mut by_source = Vec::with_capacity(accounts.len());
        for account in accounts {
            let mut tally = work.tallies.remove(&account.number).unwrap_or_default();
            by_source.push(self.source_report(account, &mut tally, work.histograms.remove(&account.number)));
            if self.supplies[account.number].scale != Scale::Own {
                negatives.append(&mut tally.scores);
                differences.append(&mut tally.differences);
            }
        }
        RefreshReport {
            version: self.version,
            step: now.step,
            epoch: now.epoch,
            sources: accounts.iter().map(|account| self.supplies[account.number].name.to_owned()).collect(),
            seconds: begun.elapsed().as_secs_f64(),
            encode_seconds: work.encode_seconds,
            search_seconds: work.search_seconds,
            filter_seconds: work.filter_seconds,
            queries: self.training.len(),
            candidates: lengths().sum(),
            turnover: (!changes.is_empty()).then(|| if all == 0 { 0.0 } else { 1.0 - share(kept, all) }),
            negative_scores: Quantiles::of(negatives),
            positive_scores: Quantiles::of(work.positives),
            score_differences: Quantiles::of(differences),
            removed: work.removed.into_map(),
            short_rows: shorter(self.wanted),
            empty_rows: shorter(1),
            false_negative_rate: self.false_negative_rate(&lists),
            replaced: (!replaced.is_empty()).then(|| replaced.iter().sum()),
            oldest_row_steps: accounts.iter().filter_map(|account| account.row_age).max(),
            by_source,
        }
    }

    fn source_report(&self, account: &Account, tally: &mut Tally, score_histogram: Option<ScoreHistogram>) -> SourceReport {
        let supply = &self.supplies[account.number];
        let entries = || self.training.iter().flat_map(|&query| supply.lists.row(query));
        let candidates = entries().count();
        let removed = std::mem::take(&mut tally.removed).into_map();
        SourceReport {
            number: account.number as u8,
            name: supply.name.clone(),
            model: supply.config.model().map(|model| model.name().to_owned()),
            queries: tally.queries,
            found: tally.found,
            candidates,
            removed_shares: removed.iter().map(|(filter, &count)| (filter.clone(), share(count as usize, tally.found as usize))).collect(),
            removed,
            found_relevant: self.truth.is_some().then_some(tally.found_relevant),
            removed_relevant: self.truth.is_some().then(|| std::mem::take(&mut tally.removed_relevant).into_map()),
            spared: std::mem::take(&mut tally.spared).into_map(),
            scores: Quantiles::of_mut(&mut tally.scores),
            score_differences: Quantiles::of_mut(&mut tally.differences),
            score_histogram,
            ranks: rank_histogram(entries().map(|entry| entry.rank())),
            short_rows: self.training.iter().filter(|&&query| supply.lists.row(query).len() < self.wanted).count(),
            filled_share: share(entries().filter(|entry| entry.is_fill()).count(), candidates),
            turnover: account.change.map(|(kept, all)| if all == 0 { 0.0 } else { 1.0 - share(kept, all) }),
            row_age_steps: account.row_age,
            false_negative_rate: self.false_negative_rate(&[&supply.lists]),
            replaced: account.replaced,
        }
    }

    /// Share of the candidates that are relevant, where the truth is known and there are candidates. It is known of documents of the corpus, for
    /// queries with complete judgments: not of generated texts, nor for queries that were written later.
    fn false_negative_rate(&self, lists: &[&Lists]) -> Option<f64> {
        let truth = self.truth.as_ref()?;
        let (mut wrong, mut all) = (0, 0);
        let corpus = self.knowledge.documents();
        for &query in self.training.iter().filter(|&&query| !truth.judged(query).is_empty()) {
            for entry in lists.iter().flat_map(|lists| lists.row(query)).filter(|entry| (entry.document as usize) < corpus) {
                wrong += usize::from(truth.is_positive(query, entry.document));
                all += 1;
            }
        }
        (all > 0).then(|| share(wrong, all))
    }
}
