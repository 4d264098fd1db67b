//! What there is to train on, told before the first step: how many texts, how long they are, and how many of them the encoder does not read to their end.

use serde::Serialize;

use crate::data::Data;

/// An event of the log, and a line for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Account {
    documents: Side,
    queries: Side,
    /// Documents with the text of an earlier one: no negatives of a query that one of them is judged for.
    copies: usize,
    /// Relevant pairs of the training split, before any limit.
    pairs: usize,
}

/// The texts of one side.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Side {
    texts: usize,
    median_tokens: u32,
    /// What longer ones are cut at, special tokens and prompt included.
    limit: usize,
    /// Texts as long as that: nearly all of them are cut.
    at_limit: usize,
}

impl Side {
    fn of(mut lengths: Vec<u32>, limit: usize) -> Self {
        let (texts, middle) = (lengths.len(), lengths.len() / 2);
        let at_limit = lengths.iter().filter(|&&length| length as usize >= limit).count();
        let median_tokens = if texts == 0 { 0 } else { *lengths.select_nth_unstable(middle).1 };
        Self { texts, median_tokens, limit, at_limit }
    }

    fn line(&self, what: &str) -> String {
        let share = 100.0 * self.at_limit as f64 / self.texts.max(1) as f64;
        let cut = if self.at_limit == 0 { "none cut".to_owned() } else { format!("{share:.1} % cut at {}", self.limit) };
        format!("{} {what} of {} tokens (median), {cut}", self.texts, self.median_tokens)
    }
}

impl Account {
    /// `pairs` are what the training split relates; lengths are limits in tokens.
    pub(crate) fn of(data: &Data, pairs: usize, query_length: usize, document_length: usize) -> Self {
        let copies = data.same_text.iter().enumerate().filter(|&(document, &first)| first as usize != document).count();
        Self {
            documents: Side::of(data.tokens.document_lengths(), document_length),
            queries: Side::of(data.tokens.query_lengths(), query_length),
            copies,
            pairs,
        }
    }

    pub(crate) fn line(&self) -> String {
        let copies = if self.copies == 0 { String::new() } else { format!(" ({} have the text of another)", self.copies) };
        format!("data: {}{copies}; {}; {} pairs to train on", self.documents.line("documents"), self.queries.line("queries"), self.pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_with_what_is_cut() {
        let documents = Side::of(vec![8, 3, 8, 5], 8);
        assert_eq!(documents, Side { texts: 4, median_tokens: 8, limit: 8, at_limit: 2 });
        let account = Account { documents, queries: Side::of(vec![2, 4, 3], 8), copies: 1, pairs: 9 };
        let expected = "data: 4 documents of 8 tokens (median), 50.0 % cut at 8 (1 have the text of another); 3 queries of 3 tokens (median), none cut; 9 pairs to train on";
        assert_eq!(account.line(), expected);
        assert_eq!(Side::of(Vec::new(), 8).line("documents"), "0 documents of 0 tokens (median), none cut");
    }
}
