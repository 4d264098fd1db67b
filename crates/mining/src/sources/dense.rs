//! The documents that the encoder itself ranks best: ANCE when refreshed (Xiong et al. 2021, arXiv 2007.00808), a static list when not.
//!
//! Judged documents are left out inside the search, so they use up no depth, and put back at their place afterwards: ranks are those of the
//! whole corpus, and the filter that drops them counts what it drops.

use kernels::Exclusions;

use super::{Block, Scale, Source};
use crate::candidate::Candidate;
use crate::error::MiningError;

/// Exact search of the embedding store.
#[derive(Debug, Clone, Copy)]
pub struct Dense {
    depth: usize,
    below_margin: bool,
    number: u8,
}

impl Dense {
    /// `depth` documents per query besides judged ones, with `below_margin` also besides those above the filters' ceiling; `number` tags the
    /// candidates.
    pub fn new(depth: usize, below_margin: bool, number: u8) -> Self {
        Self { depth, below_margin, number }
    }
}

impl Source for Dense {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn scale(&self) -> Scale {
        Scale::Encoder
    }

    fn candidates(&self, block: &Block<'_>) -> Result<Vec<Vec<Candidate>>, MiningError> {
        let Some(embedded) = &block.embedded else { return Err(MiningError::Unfilled) };
        let exclusions = Exclusions::from_rows(block.judged.iter().cloned());
        let depth = self.depth.min(embedded.store.len());
        let ceilings = self.below_margin.then_some(embedded.ceilings);
        let top = embedded.store.search(embedded.queries.clone(), depth, Some(&exclusions), ceilings)?;
        let rows = block.judged.iter().zip(embedded.judged).enumerate().map(|(row, (judged, scores))| {
            let found: Vec<(u32, f32)> = top.row(row).collect();
            let last = found.last().copied().filter(|_| found.len() == depth);
            let mut merged: Vec<(u32, f32)> = judged.iter().copied().zip(scores.iter().copied()).collect();
            if let Some(ceilings) = ceilings {
                merged.retain(|it| it.1 <= ceilings[row]);
            }
            // Behind a full list there is nothing to keep a place in.
            merged.retain(|&it| last.is_none_or(|last| before(it, last).is_lt()));
            merged.extend(found);
            merged.sort_by(|&a, &b| before(a, b));
            let ranked = merged.into_iter().zip(1..);
            ranked.map(|((document, score), rank)| Candidate::found(document, self.number, rank, score)).collect()
        });
        Ok(rows.collect())
    }
}

/// The order of search: score descending, id ascending.
fn before(a: (u32, f32), b: (u32, f32)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}
