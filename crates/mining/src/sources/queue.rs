//! Documents of earlier batches, kept as rows (MoCo, He et al. 2020, arXiv 1911.05722; pre-batch negatives). They are columns that the step
//! itself adds, so this offers no candidates.

use super::Source;

/// A marker: rows of earlier steps count.
#[derive(Debug, Clone, Copy)]
pub struct Queue;

impl Source for Queue {
    fn name(&self) -> &'static str {
        "queue"
    }
}
