//! The filtered candidates of one source, compressed rows by query. Immutable: a refresh makes new ones.

use crate::candidate::Candidate;

/// What a list keeps of a candidate; the source is the same for the whole list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) document: u32,
    pub(crate) rank: u32,
    pub(crate) score: f32,
}

/// One row of entries per query of the collection, best first; rows of other than training queries are empty.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lists {
    /// Row `q` is `entries[offsets[q]..offsets[q + 1]]`.
    offsets: Vec<u64>,
    entries: Vec<Entry>,
}

impl Lists {
    /// Empty lists to which rows are pushed in ascending order of their query.
    pub(crate) fn builder(queries: usize) -> Builder {
        let mut offsets = Vec::with_capacity(queries + 1);
        offsets.push(0);
        Builder { lists: Self { offsets, entries: Vec::new() }, queries }
    }

    /// From raw parts, `None` when they do not belong together.
    pub(crate) fn from_parts(offsets: Vec<u64>, entries: Vec<Entry>) -> Option<Self> {
        let whole = offsets.first() == Some(&0) && offsets.last() == Some(&(entries.len() as u64));
        // Lists that were never found have no rows at all.
        let none = offsets.is_empty() && entries.is_empty();
        ((whole && offsets.is_sorted()) || none).then_some(Self { offsets, entries })
    }

    pub(crate) fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn row(&self, query: u32) -> &[Entry] {
        let query = query as usize;
        match (self.offsets.get(query), self.offsets.get(query + 1)) {
            (Some(&start), Some(&end)) => &self.entries[start as usize..end as usize],
            _ => &[],
        }
    }
}

impl Entry {
    pub(crate) fn candidate(self, source: u8) -> Candidate {
        Candidate::found(self.document, source, self.rank, self.score)
    }
}

impl From<Candidate> for Entry {
    fn from(candidate: Candidate) -> Self {
        Self { document: candidate.document, rank: candidate.rank, score: candidate.score }
    }
}

/// Lists in the making.
#[derive(Debug)]
pub(crate) struct Builder {
    lists: Lists,
    queries: usize,
}

impl Builder {
    /// The row of `query`, which lies above all queries pushed before.
    pub(crate) fn push(&mut self, query: u32, row: impl IntoIterator<Item = Entry>) {
        let end = self.lists.entries.len() as u64;
        debug_assert!(self.lists.offsets.len() <= query as usize + 1, "queries come in ascending order");
        self.lists.offsets.resize(query as usize + 1, end);
        self.lists.entries.extend(row);
        self.lists.offsets.push(self.lists.entries.len() as u64);
    }

    pub(crate) fn finish(mut self) -> Lists {
        let end = self.lists.entries.len() as u64;
        self.lists.offsets.resize((self.queries + 1).max(self.lists.offsets.len()), end);
        self.lists.entries.shrink_to_fit();
        self.lists
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_queries_that_were_left_out_are_empty() {
        let entry = |document| Entry { document, rank: 1, score: 0.5 };
        let mut builder = Lists::builder(5);
        builder.push(1, [entry(7), entry(8)]);
        builder.push(3, [entry(9)]);
        let lists = builder.finish();
        let row = |query| lists.row(query).iter().map(|entry| entry.document).collect::<Vec<_>>();
        assert_eq!([row(0), row(1), row(2), row(3), row(4), row(99)], [vec![], vec![7, 8], vec![], vec![9], vec![], vec![]]);
        assert_eq!(lists.offsets().len(), 6);
        assert!(Lists::from_parts(vec![0, 2, 1], vec![entry(1); 1]).is_none());
        assert!(Lists::from_parts(vec![0, 2], vec![entry(1); 1]).is_none());
    }
}
