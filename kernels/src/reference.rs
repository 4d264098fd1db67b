//! The search in plain Rust: every score in float64, every rule on its own line. What the other implementations are tested against.

use crate::exclusions::Exclusions;
use crate::search::TopK;

/// Exact top-k of `queries` `[q, dimension]` over `rows` `[n, dimension]`, both row-major.
///
/// A row is kept when it is not excluded for the query and its score, rounded to f32, does not exceed the query's ceiling. Order: score descending, then id ascending.
///
/// # Panics
/// When a length is no multiple of `dimension`, or `dimension` is 0.
#[must_use]
pub fn search(queries: &[f32], rows: &[f32], dimension: usize, k: usize, exclusions: Option<&Exclusions>, ceiling: Option<&[f32]>) -> TopK {
    assert_eq!((queries.len() % dimension, rows.len() % dimension), (0, 0), "whole rows");
    let mut answer = TopK { k, scores: Vec::new(), ids: Vec::new() };
    for (query, values) in queries.chunks_exact(dimension).enumerate() {
        let mut kept: Vec<(f32, u32)> = Vec::new();
        for (id, row) in (0u32..).zip(rows.chunks_exact(dimension)) {
            let score = values.iter().zip(row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32 + 0.0; // -0 is 0
            let excluded = exclusions.is_some_and(|exclusions| exclusions.row(query).contains(&id));
            let above = ceiling.is_some_and(|ceiling| score > ceiling[query]);
            if !excluded && !above {
                kept.push((score, id));
            }
        }
        kept.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        kept.resize(k.max(kept.len()), (f32::NEG_INFINITY, u32::MAX));
        kept.truncate(k);
        answer.scores.extend(kept.iter().map(|entry| entry.0));
        answer.ids.extend(kept.iter().map(|entry| entry.1));
    }
    answer
}
