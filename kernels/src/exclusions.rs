//! Documents that a query may not get: its judged ones, as a rule.

/// Sorted document ids by query, compressed rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusions {
    /// Row `i` is `ids[offsets[i]..offsets[i + 1]]`.
    offsets: Vec<u32>,
    ids: Vec<u32>,
}

impl Exclusions {
    /// Nothing is excluded for any of `queries` queries.
    #[must_use]
    pub fn none(queries: usize) -> Self {
        Self { offsets: vec![0; queries + 1], ids: Vec::new() }
    }

    /// One row per query, in any order, repeats allowed.
    ///
    /// # Panics
    /// When there are 2^30 ids or more in all.
    #[must_use]
    pub fn from_rows(rows: impl IntoIterator<Item = Vec<u32>>) -> Self {
        let (mut offsets, mut ids) = (vec![0], Vec::new());
        for mut row in rows {
            row.sort_unstable();
            row.dedup();
            ids.append(&mut row);
            assert!(ids.len() < 1 << 30, "2^30 or more excluded pairs");
            offsets.push(ids.len() as u32);
        }
        Self { offsets, ids }
    }

    /// Number of queries.
    #[must_use]
    pub fn queries(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The ids excluded for a query, ascending.
    ///
    /// # Panics
    /// When there is no such query.
    #[must_use]
    pub fn row(&self, query: usize) -> &[u32] {
        &self.ids[self.offsets[query] as usize..self.offsets[query + 1] as usize]
    }

    /// The largest id, if any.
    pub(crate) fn largest(&self) -> Option<u32> {
        self.ids.iter().copied().max()
    }

    /// Offsets, random words and ids of some queries in one array, as the device takes them: row i is what stands from `[i]` to `[i + 1]`.
    pub(crate) fn part(&self, queries: std::ops::Range<usize>, words: &[[u32; 2]]) -> Vec<i32> {
        let (first, last) = (self.offsets[queries.start], self.offsets[queries.end]);
        let head = (queries.len() + 1 + 2 * words.len()) as u32;
        let offsets = self.offsets[queries.start..=queries.end].iter().map(|offset| (offset - first + head) as i32);
        let words = words.iter().flatten().map(|&word| word as i32);
        offsets.chain(words).chain(self.ids[first as usize..last as usize].iter().map(|&id| id as i32)).collect()
    }
}
