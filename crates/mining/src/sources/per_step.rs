//! The best documents of a frozen document matrix, searched with the query encoder of every step (ADORE, Zhan et al. 2021, arXiv
//! 2104.08051). They are columns that the step itself adds, so this offers no candidates.

use super::Source;

/// A marker: every step searches.
#[derive(Debug, Clone, Copy)]
pub struct PerStep;

impl Source for PerStep {
    fn name(&self) -> &'static str {
        "per-step"
    }
}
