//! Localised contrastive estimation: the negative log-likelihood of the target inside the query's own group.
//!
//! `mean_i ( log sum_j exp(s_ij / t) - s_i,target / t )` over the query's own columns `j` (Gao et al. 2021, arXiv 2101.08751). Other
//! queries' documents, extra blocks and mixed vectors have no part in it.

use super::matrix::Scored;
use super::{Entry, Evaluated, Loss, Needs, Reach};

pub(super) const ENTRY: Entry = Entry {
    name: "lce",
    build: |_| Ok(Box::new(Lce)),
    settings: &[],
    reach: Reach::Group,
    needs: Needs { own: true, ..Needs::NOTHING },
    by_query: true,
};

/// See the head of the file.
#[derive(Debug)]
struct Lce;

impl Loss for Lce {
    fn value(&self, scored: &Scored<'_>) -> Evaluated {
        scored.group_cross_entropy().mean().into()
    }
}
