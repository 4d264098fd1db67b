//! Negatives that came with a collection or out of an earlier mining run, by query.
//!
//! Compressed rows over dense ids, in the order of the file (best first by convention). Teacher scores of positives, where
//! a file has them, ride along. Nothing is filtered here: what may be drawn is the miner's decision.

/// One document in a list, with the score that the file gave it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Listed {
    /// Dense document id.
    pub document: u32,
    /// Score of the miner or teacher that wrote the file; `None` when the file had none.
    pub score: Option<f32>,
}

/// Lists of negatives by query; a query without list has an empty row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NegativeLists {
    negatives: Rows,
    positives: Rows,
}

impl NegativeLists {
    /// Row `q` of `rows` belongs to query `q`.
    pub fn from_rows(rows: Vec<Vec<Listed>>) -> Self {
        Self { negatives: Rows::new(rows), positives: Rows::default() }
    }

    /// Adds teacher scores of positives; row `q` of `rows` belongs to query `q`.
    #[must_use]
    pub fn with_positive_scores(self, rows: Vec<Vec<Listed>>) -> Self {
        Self { positives: Rows::new(rows), ..self }
    }

    /// Negatives of a query in file order; empty when there are none.
    pub fn row(&self, query: u32) -> &[Listed] {
        self.negatives.row(query)
    }

    /// Positives of a query with the score that the file gave them; empty when it gave none.
    pub fn positive_scores(&self, query: u32) -> &[Listed] {
        self.positives.row(query)
    }

    /// Number of listed negatives over all queries.
    pub fn len(&self) -> usize {
        self.negatives.entries.len()
    }

    /// Whether no query has a negative.
    pub fn is_empty(&self) -> bool {
        self.negatives.entries.is_empty()
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Rows {
    /// End of each row in `entries`; the start is the end of the row before.
    ends: Vec<usize>,
    entries: Vec<Listed>,
}

impl Rows {
    fn new(rows: Vec<Vec<Listed>>) -> Self {
        let mut held = Self { ends: Vec::with_capacity(rows.len()), entries: Vec::with_capacity(rows.iter().map(Vec::len).sum()) };
        for row in rows {
            held.entries.extend(row);
            held.ends.push(held.entries.len());
        }
        held
    }

    fn row(&self, query: u32) -> &[Listed] {
        let query = query as usize;
        let Some(&end) = self.ends.get(query) else { return &[] };
        let start = if query == 0 { 0 } else { self.ends[query - 1] };
        &self.entries[start..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_order_and_unknown_queries_are_empty() {
        let listed = |document, score| Listed { document, score };
        let lists = NegativeLists::from_rows(vec![vec![listed(3, Some(0.5)), listed(1, None)], vec![], vec![listed(2, None)]])
            .with_positive_scores(vec![vec![listed(9, Some(1.0))]]);
        assert_eq!(lists.row(0), [listed(3, Some(0.5)), listed(1, None)]);
        assert_eq!(lists.row(1), []);
        assert_eq!(lists.row(2), [listed(2, None)]);
        assert_eq!(lists.row(3), []);
        assert_eq!(lists.positive_scores(0), [listed(9, Some(1.0))]);
        assert_eq!(lists.positive_scores(2), []);
        assert_eq!(lists.len(), 3);
        assert!(NegativeLists::from_rows(vec![vec![]]).is_empty());
    }
}
