//! Which tokens of its sequence a query sees, by how far they are.

/// How far a query sees on each side of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Tokens before itself.
    before: usize,
    /// Tokens behind itself.
    behind: usize,
}

/// Farther than any two tokens of a batch are apart; sums of this and a place stay within 32 bits.
const FAR: usize = 1 << 30;

impl Window {
    /// Itself and all that came before: causal attention, of decoders.
    pub const CAUSAL: Self = Self { before: FAR, behind: 0 };

    /// So many tokens on each side.
    #[must_use]
    pub fn around(reach: usize) -> Self {
        Self::of(reach, reach)
    }

    /// So many tokens before itself, and so many behind.
    #[must_use]
    pub fn of(before: usize, behind: usize) -> Self {
        Self { before: before.min(FAR), behind: behind.min(FAR) }
    }

    pub(super) fn before(self) -> usize {
        self.before
    }

    pub(super) fn behind(self) -> usize {
        self.behind
    }

    /// From which places a key is seen, in the place of what a query sees.
    pub(super) fn reversed(self) -> Self {
        Self { before: self.behind, behind: self.before }
    }

    /// Whether every token of so many sees every other.
    pub(super) fn is_all_of(self, width: usize) -> bool {
        self.before.min(self.behind) + 1 >= width
    }

    /// The places that a query sees of so many.
    #[must_use]
    pub fn seen(self, query: usize, count: usize) -> std::ops::Range<usize> {
        let end = (query + self.behind + 1).min(count);
        query.saturating_sub(self.before).min(end)..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_through_windows() {
        assert_eq!(Window::around(2).seen(5, 20), 3..8);
        assert_eq!(Window::around(2).seen(1, 3), 0..3);
        assert_eq!(Window::around(2).seen(9, 4), 4..4);
        assert_eq!(Window::CAUSAL.seen(5, 20), 0..6);
        assert_eq!(Window::CAUSAL.seen(5, 3), 0..3);
        assert_eq!(Window::CAUSAL.reversed().seen(5, 20), 5..20);
        assert!(Window::around(4).is_all_of(5) && !Window::around(4).is_all_of(6));
        assert!(Window::CAUSAL.is_all_of(1) && !Window::CAUSAL.is_all_of(2));
    }
}
