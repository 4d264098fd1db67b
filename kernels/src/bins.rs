//! Bins of equal width for counting scores.

/// `count` bins between `low` and `high`, and one on either side for what lies beyond: scores are counted as `[below, bin 0, ..., bin count - 1, at high or above]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bins {
    /// Lower end of the first bin, which belongs to it.
    pub low: f32,
    /// Upper end of the last bin, which does not.
    pub high: f32,
    /// Number of bins, 1 to [`Bins::MOST`].
    pub count: usize,
}

impl Bins {
    /// The most bins. On a GPU every score is an atomic addition to its counter, which lies in memory.
    pub const MOST: usize = 510;

    /// Counters of a query: one more at either end.
    #[must_use]
    pub fn counters(&self) -> usize {
        self.count + 2
    }

    /// Bins per unit of score.
    pub(crate) fn density(&self) -> f32 {
        self.count as f32 / (self.high - self.low)
    }

    /// The counter of a score that is a number. One subtraction and one multiplication in f32, rounded one by one, so that every device counts alike.
    #[inline(always)]
    #[must_use]
    pub fn counter(&self, score: f32) -> usize {
        if score < self.low {
            0
        } else if score >= self.high {
            self.count + 1
        } else {
            1 + (((score - self.low) * self.density()) as usize).min(self.count - 1)
        }
    }

    /// What is wrong with them.
    pub(crate) fn fault(&self) -> Option<String> {
        let range = self.low.is_finite() && self.high.is_finite() && self.low < self.high && (self.high - self.low).is_finite();
        if !range {
            return Some(format!("bins from {} to {}, expected finite ends, the lower first", self.low, self.high));
        }
        let usable = (1..=Self::MOST).contains(&self.count) && self.density().is_finite();
        (!usable).then(|| format!("{} bins, expected 1 to {} of a width that f32 can tell apart", self.count, Self::MOST))
    }
}
