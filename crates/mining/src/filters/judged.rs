//! Drops every document judged for the query, or for another of the same text, not only the positive that it is trained with.

use std::sync::Arc;

use super::{Filter, FilterContext, Scored};
use crate::knowledge::Knowledge;

/// Judged documents are no negatives.
#[derive(Debug)]
pub struct Judged {
    knowledge: Arc<Knowledge>,
}

impl Judged {
    /// By the judgments in `knowledge`.
    pub fn new(knowledge: Arc<Knowledge>) -> Self {
        Self { knowledge }
    }
}

impl Filter for Judged {
    fn name(&self) -> &'static str {
        "judged"
    }

    fn keep(&self, context: &FilterContext<'_>, it: &Scored) -> bool {
        !self.knowledge.is_judged(context.query, it.candidate.document)
    }

    fn is_identity(&self) -> bool {
        true
    }
}
