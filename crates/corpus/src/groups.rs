//! Groups of queries, such as the data set that each came from: a batch may then be drawn from one group alone.

/// A group for each query, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    /// Index into `names` for each query; [`Self::NONE`] for a query without group.
    pub of_query: Vec<u32>,
    /// Names of the groups, in the order of the file.
    pub names: Vec<String>,
}

impl Groups {
    /// Stands in `of_query` for a query without group.
    pub const NONE: u32 = u32::MAX;

    /// The group of a query; `None` when it has none, or there is no such query.
    pub fn of(&self, query: u32) -> Option<u32> {
        self.of_query.get(query as usize).copied().filter(|&group| group != Self::NONE)
    }

    /// The first of `queries` that has no group, for those who need one for each.
    pub fn first_without(&self, queries: impl IntoIterator<Item = u32>) -> Option<u32> {
        queries.into_iter().find(|&query| self.of(query).is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_without_group_is_found() {
        let groups = Groups { of_query: vec![1, Groups::NONE, 0], names: vec!["a".into(), "b".into()] };
        assert_eq!((groups.of(0), groups.of(1), groups.of(2), groups.of(3)), (Some(1), None, Some(0), None));
        assert_eq!((groups.first_without([0, 2]), groups.first_without([2, 3, 1])), (None, Some(3)));
    }
}
