//! Drops documents that are copies: the text of a judged document, or of the query itself, under another id.

use std::sync::Arc;

use super::{Filter, FilterContext, Scored};
use crate::knowledge::Knowledge;

/// Copies of judged documents and of the query are no negatives.
#[derive(Debug)]
pub struct IdenticalText {
    knowledge: Arc<Knowledge>,
}

impl IdenticalText {
    /// By the texts compared in `knowledge`.
    pub fn new(knowledge: Arc<Knowledge>) -> Self {
        Self { knowledge }
    }
}

impl Filter for IdenticalText {
    fn name(&self) -> &'static str {
        "identical-text"
    }

    fn keep(&self, context: &FilterContext<'_>, it: &Scored) -> bool {
        !self.knowledge.is_copy(context.query, it.candidate.document)
    }

    fn is_identity(&self) -> bool {
        true
    }
}
