//! The other queries' positives. They are columns of the score matrix whatever the miner does, so this offers no candidates.

use super::Source;

/// A marker: the batch's other positives count.
#[derive(Debug, Clone, Copy)]
pub struct InBatch;

impl Source for InBatch {
    fn name(&self) -> &'static str {
        "in-batch"
    }
}
