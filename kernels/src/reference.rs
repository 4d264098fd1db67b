//! The search in plain Rust: every score in float64, every rule on its own line. What the other implementations are tested against.

use crate::bins::Bins;
use crate::exclusions::Exclusions;
use crate::key::{Key, words};
use crate::search::{Choice, TopK};

/// What keeps rows out, which of the others are chosen, and what is counted; the fields of [`crate::SearchRequest`].
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Documents per query.
    pub k: usize,
    /// Documents that a query may not get.
    pub exclusions: Option<&'a Exclusions>,
    /// Scores above it are left out, per query.
    pub ceiling: Option<&'a [f32]>,
    /// Scores below it are left out, per query.
    pub floor: Option<&'a [f32]>,
    /// The best, or a draw.
    pub choice: Choice<'a>,
    /// Counts scores.
    pub bins: Option<Bins>,
}

/// The answer, and the keys that its rows were ordered by (the scores, unless they were drawn).
#[derive(Clone, Debug)]
pub struct Solution {
    /// The answer.
    pub top: TopK,
    /// `[queries, k]`, and the key of the row behind the last, `[queries]` of them at the end; negative infinity where there is none.
    pub keys: Vec<f64>,
}

/// Exact top-k, or a draw, of `queries` `[q, dimension]` over `rows` `[n, dimension]`, both row-major.
///
/// A row is kept when it is not excluded for the query and its score, rounded to f32, does not exceed the query's ceiling and is not below its floor. Order: key
/// descending, then id ascending.
///
/// # Panics
/// When a length is no multiple of `dimension`, or `dimension` is 0.
#[must_use]
pub fn search(queries: &[f32], rows: &[f32], dimension: usize, rules: Rules<'_>) -> Solution {
    assert_eq!((queries.len() % dimension, rows.len() % dimension), (0, 0), "whole rows");
    let Rules { k, exclusions, ceiling, floor, choice, bins } = rules;
    let mut top = TopK { k, scores: Vec::new(), ids: Vec::new(), counts: Vec::new() };
    let (mut keys, mut next) = (Vec::new(), Vec::new());
    for (query, values) in queries.chunks_exact(dimension).enumerate() {
        let mut kept: Vec<(f64, f32, u32)> = Vec::new();
        let mut counts = vec![0u32; bins.map_or(0, |bins| bins.counters())];
        for (id, row) in (0u32..).zip(rows.chunks_exact(dimension)) {
            let exact = values.iter().zip(row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let score = exact as f32 + 0.0; // -0 is 0
            if exclusions.is_some_and(|exclusions| exclusions.row(query).contains(&id)) {
                continue;
            }
            if let Some(bins) = bins {
                counts[bins.counter(score)] += 1;
            }
            let above = ceiling.is_some_and(|ceiling| score > ceiling[query]);
            let below = floor.is_some_and(|floor| score < floor[query]);
            if above || below {
                continue;
            }
            let key = match choice {
                Choice::Best { .. } => f64::from(score),
                Choice::Uniform { seed, keys } => Key::Uniform.exact(exact, 0.0, id, words(seed, keys[query])),
                Choice::Near { seed, keys, sharpness, centres } => {
                    Key::Race { sharpness }.exact(exact, centres[query], id, words(seed, keys[query]))
                }
            };
            kept.push((key, score, id));
        }
        kept.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(&b.2)));
        let skip = if let Choice::Best { skip } = choice { skip.min(kept.len()) } else { 0 };
        kept.drain(..skip);
        kept.resize((k + 1).max(kept.len()), (f64::NEG_INFINITY, f32::NEG_INFINITY, u32::MAX));
        next.push(kept[k].0);
        kept.truncate(k);
        keys.extend(kept.iter().map(|entry| entry.0));
        top.scores.extend(kept.iter().map(|entry| entry.1));
        top.ids.extend(kept.iter().map(|entry| entry.2));
        top.counts.extend(counts);
    }
    keys.extend(next);
    Solution { top, keys }
}
