//! What a refresh did, for the run log: how long it took, how much it changed, what it dropped, and how wrong it is where that can be
//! known.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::source_report::SourceReport;

/// Five points of a distribution, linearly interpolated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// 5 %.
    pub p5: f64,
    /// 25 %.
    pub p25: f64,
    /// The median.
    pub p50: f64,
    /// 75 %.
    pub p75: f64,
    /// 95 %.
    pub p95: f64,
}

impl Quantiles {
    /// Of all values that are numbers; `None` when there is none.
    pub fn of(mut values: Vec<f32>) -> Option<Self> {
        Self::of_mut(&mut values)
    }

    /// The same; `values` are sorted and without what is no number afterwards.
    pub(crate) fn of_mut(values: &mut Vec<f32>) -> Option<Self> {
        values.retain(|value| !value.is_nan());
        values.sort_unstable_by(f32::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |share: f64| {
            let place = share * last as f64;
            let (below, part) = (place.floor() as usize, place.fract());
            let (low, high) = (f64::from(values[below]), f64::from(values[(below + 1).min(last)]));
            low + (high - low) * part
        };
        Some(Self { p5: at(0.05), p25: at(0.25), p50: at(0.5), p75: at(0.75), p95: at(0.95) })
    }
}

/// One refresh of the lists.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RefreshReport {
    /// Counts refreshes, from 1.
    pub version: u64,
    /// Steps done when it happened.
    pub step: usize,
    /// Epochs done when it happened.
    pub epoch: usize,
    /// Sources whose lists are new.
    pub sources: Vec<String>,
    /// Seconds in all.
    pub seconds: f64,
    /// Of these, encoding documents and queries.
    pub encode_seconds: f64,
    /// Of these, searching.
    pub search_seconds: f64,
    /// Of these, filtering.
    pub filter_seconds: f64,
    /// Training queries.
    pub queries: usize,
    /// Candidates in all lists.
    pub candidates: usize,
    /// Share of the refreshed lists that was not there in the version before; `None` for first lists.
    pub turnover: Option<f64>,
    /// Similarities of the candidates kept, where the encoder scored them.
    pub negative_scores: Option<Quantiles>,
    /// Similarities of the judged positives.
    pub positive_scores: Option<Quantiles>,
    /// Lowest positive similarity of the query less the candidate's.
    pub score_differences: Option<Quantiles>,
    /// Candidates dropped, by filter.
    pub removed: BTreeMap<String, u64>,
    /// Training queries with fewer candidates than a visit asks for.
    pub short_rows: usize,
    /// Training queries without any candidate.
    pub empty_rows: usize,
    /// Share of the candidates kept that are relevant but not judged so; known only where complete judgments are.
    pub false_negative_rate: Option<f64>,
    /// Queries whose negatives had become too easy and were replaced, where a schedule looks for that.
    pub replaced: Option<usize>,
    /// Steps since the oldest document row was encoded, where lists came from rows.
    pub oldest_row_steps: Option<usize>,
    /// What happened to each source whose turn it was.
    pub by_source: Vec<SourceReport>,
}

impl RefreshReport {
    /// One line for people.
    pub fn line(&self) -> String {
        let mut line = format!(
            "negatives version {} at step {}: {} candidates for {} queries from {} in {:.1} s",
            self.version,
            self.step,
            self.candidates,
            self.queries,
            self.sources.join(", "),
            self.seconds
        );
        // Writing to a string cannot fail.
        let mut part = |name: &str, share: Option<f64>| {
            if let Some(share) = share {
                let _ = write!(line, ", {name} {:.1} %", 100.0 * share);
            }
        };
        part("changed", self.turnover);
        part("false negatives", self.false_negative_rate);
        if let Some(replaced) = self.replaced {
            let _ = write!(line, ", {replaced} queries replaced");
        }
        if self.short_rows > 0 {
            let _ = write!(line, ", {} short rows", self.short_rows);
        }
        for source in self.by_source.iter().filter(|source| source.filled_share > 0.0) {
            let _ = write!(line, ", {:.1} % of {}'s lists filled up", 100.0 * source.filled_share, source.name);
        }
        for source in self.by_source.iter().filter(|source| !source.spared.is_empty()) {
            let by_filter: Vec<String> = source.spared.iter().map(|(filter, count)| format!("{filter} {count}")).collect();
            let _ = write!(line, "; of {} generated texts filters would have dropped: {}", source.found, by_filter.join(", "));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_and_pass_over_what_is_no_number() {
        let values: Vec<f32> = (0..=100).rev().map(|value| value as f32).chain([f32::NAN]).collect();
        let got = Quantiles::of(values).unwrap();
        assert_eq!(got, Quantiles { p5: 5.0, p25: 25.0, p50: 50.0, p75: 75.0, p95: 95.0 });
        assert_eq!(Quantiles::of(vec![1.0, 2.0]).unwrap().p25, 1.25);
        assert_eq!(Quantiles::of(vec![3.0]).unwrap().p95, 3.0);
        assert_eq!(Quantiles::of(vec![f32::NAN]), None);
    }
}
