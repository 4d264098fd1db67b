//! What the columns of training rows are for, by their names, or by their order where no name says anything.
//!
//! The names are those of sentence-transformers, its data sets on the hub, FlagEmbedding and Tevatron. They are compared without
//! regard to case, and `-` or a space is as good as `_`.
//!
//! 1. `query`, `anchor`, `question`, … is the query. `positive`, `pos`, … is the positive; where there is none of these, `answer`,
//!    `passage`, `document`, … is. Every `negative`, `neg`, `hard_negative`, …, with a number or without, is a negative.
//! 2. With one of query and positive named and one other column of texts left, that one is the missing part. With only
//!    negatives named and two columns left, they are query and positive in this order.
//! 3. With nothing named, the order decides: query, positive, negatives.
//! 4. Anything else is unclear, and refused. Columns left over when query and positive are found are not used.

/// What a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Query,
    Positive,
    /// A positive unless another column is called so outright.
    Answer,
    Negative,
}

/// A name as names are compared: `Hard-Negative` is `hard_negative`.
pub(super) fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace(['-', ' '], "_")
}

/// The part that a column of this name plays in any file.
pub(super) fn role(name: &str) -> Option<Role> {
    let name = plain(name);
    match name.as_str() {
        "query" | "anchor" | "question" | "user_query" | "search_query" | "query_text" | "question_text" | "anchor_text" | "sentence1"
        | "sentence_1" | "text1" | "text_1" => return Some(Role::Query),
        "answer" | "answers" | "response" | "passage" | "passages" | "document" | "documents" | "doc" | "docs" | "context" | "contexts"
        | "chunk" | "content" | "contents" | "sentence2" | "sentence_2" | "text2" | "text_2" => return Some(Role::Answer),
        "sentence3" | "sentence_3" | "text3" | "text_3" => return Some(Role::Negative),
        _ => {}
    }
    // `negative_12`, `neg3`; a positive with a number would be one of several, which no column form has.
    let counted = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if is_any_of(counted.trim_end_matches('_'), &["hard_negative", "hard_neg", "negative", "neg"]) {
        return Some(Role::Negative);
    }
    is_any_of(&name, &["positive", "pos"]).then_some(Role::Positive)
}

/// Whether a name is one of the stems, or one with what kind of text it is: `negatives`, `negative_passage`, `neg_docs`.
fn is_any_of(name: &str, stems: &[&str]) -> bool {
    const KINDS: [&str; 8] = ["", "text", "passage", "document", "doc", "sentence", "answer", "response"];
    stems.iter().any(|stem| {
        name.strip_prefix(stem).is_some_and(|rest| {
            let rest = rest.strip_suffix('s').unwrap_or(rest);
            KINDS.contains(&rest.strip_prefix('_').unwrap_or(rest))
        })
    })
}

/// What a column holds, as far as the first row or the file's schema says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Text,
    /// Nothing in the first row; it may be text in others.
    Nothing,
    Other,
}

/// Positions of columns by part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Roles {
    pub(super) query: usize,
    pub(super) positive: usize,
    pub(super) negatives: Vec<usize>,
    /// Whether no name said anything.
    pub(super) by_order: bool,
}

/// Why columns cannot be assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    /// There are not two of them.
    TooFew(String),
    /// Their names say too little, or too much.
    Unclear(String),
}

/// How unclear columns are made clear.
pub(super) const RENAME: &str = "one column named `query`, one named `positive`, and `negative` or `negative_1`, `negative_2`, … for negatives: rename the columns, or remove those that are not meant";

impl Roles {
    /// Assigns parts to the columns at `texts`, which may hold texts.
    pub(super) fn of(columns: &[(&str, Holds)], texts: &[usize]) -> Result<Self, Unfit> {
        let called = |wanted| texts.iter().copied().filter(|&at| role(columns[at].0) == Some(wanted)).collect::<Vec<_>>();
        let (queries, negatives) = (called(Role::Query), called(Role::Negative));
        let mut positives = called(Role::Positive);
        if positives.is_empty() {
            positives = called(Role::Answer);
        }
        if texts.len() - negatives.len() < 2 {
            return Err(Unfit::TooFew(format!(
                "{} text column(s) for a query and a positive among [{}], two are the least",
                texts.len() - negatives.len(),
                quoted(columns, &(0..columns.len()).collect::<Vec<_>>())
            )));
        }
        if queries.is_empty() && positives.is_empty() && negatives.is_empty() {
            return Ok(Self { query: texts[0], positive: texts[1], negatives: texts[2..].to_vec(), by_order: true });
        }
        // Both have to be there in the first row, so a column that is empty in it is neither.
        let is_left =
            |at: &usize| ![&queries, &positives, &negatives].iter().any(|named| named.contains(at)) && columns[*at].1 == Holds::Text;
        let left: Vec<usize> = texts.iter().copied().filter(is_left).collect();
        let (query, positive) = match (&queries[..], &positives[..], &left[..]) {
            (&[query], &[positive], _) => (query, positive),
            (&[query], &[], &[positive]) => (query, positive),
            (&[], &[positive], &[query]) => (query, positive),
            (&[], &[], &[query, positive]) => (query, positive),
            _ => return Err(Unfit::Unclear(unclear(columns, texts, &queries, &positives, &left))),
        };
        Ok(Self { query, positive, negatives, by_order: false })
    }
}

fn unclear(columns: &[(&str, Holds)], texts: &[usize], queries: &[usize], positives: &[usize], left: &[usize]) -> String {
    let one_of = |what: &str, named: &[usize]| match named {
        [] if left.is_empty() => format!("none is the {what}"),
        [] => format!("the {what} may be any of {}", quoted(columns, left)),
        &[at] => format!("`{}` is the {what}", columns[at].0),
        _ => format!("the {what} may be any of {}", quoted(columns, named)),
    };
    format!("of the text columns {}, {} and {}", quoted(columns, texts), one_of("query", queries), one_of("positive", positives))
}

/// Names for a message, those in the middle left out when they are many.
pub(super) fn quoted(columns: &[(&str, Holds)], which: &[usize]) -> String {
    let name = |&at: &usize| format!("`{}`", columns[at].0);
    match which {
        [first, second, .., last] if which.len() > 8 => {
            format!("{}, {}, … {} ({} columns)", name(first), name(second), name(last), which.len())
        }
        _ => which.iter().map(name).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `query positive | negatives`, by name, or why not; `?` marks a column that is empty in the first row, `#` one without text.
    fn assigned(names: &str) -> String {
        let columns: Vec<(&str, Holds)> = names
            .split(' ')
            .map(|name| match name.as_bytes()[0] {
                b'?' => (&name[1..], Holds::Nothing),
                b'#' => (&name[1..], Holds::Other),
                _ => (name, Holds::Text),
            })
            .collect();
        let texts: Vec<usize> = (0..columns.len()).filter(|&at| columns[at].1 != Holds::Other).collect();
        let name = |at: usize| columns[at].0;
        match Roles::of(&columns, &texts) {
            Ok(roles) => {
                let negatives: Vec<_> = roles.negatives.iter().map(|&at| name(at)).collect();
                let order = if roles.by_order { " by order" } else { "" };
                format!("{} {} | {}{order}", name(roles.query), name(roles.positive), negatives.join(" "))
            }
            Err(Unfit::TooFew(_)) => "too few".into(),
            Err(Unfit::Unclear(problem)) => problem,
        }
    }

    #[test]
    fn names_decide_before_the_order() {
        let cases = [
            ("positive query negative", "query positive | negative"),
            ("source query positive", "query positive | "),
            ("negative_2 Anchor POS negative-1", "Anchor POS | negative_2 negative-1"),
            ("question answer hard_neg neg_3 hard_negative_10", "question answer | hard_neg neg_3 hard_negative_10"),
            ("answer question", "question answer | "),
            ("answer positive query", "query positive | "),
            ("user_query positive_document hard_negative_document", "user_query positive_document | hard_negative_document"),
            ("query docs", "query docs | "),
            ("sentence2 sentence1", "sentence1 sentence2 | "),
            ("query text", "query text | "),
            ("summary document", "summary document | "),
            ("text query ?negative", "query text | negative"),
            ("query text ?source", "query text | "),
            ("query text #label", "query text | "),
            ("sent0 sent1 hard_neg", "sent0 sent1 | hard_neg"),
            ("negative a b", "a b | negative"),
            ("document positive negative", "document positive | negative"),
            ("premise hypothesis", "premise hypothesis |  by order"),
            ("a b ?c d", "a b | c d by order"),
            ("title body", "title body |  by order"),
        ];
        for (names, expected) in cases {
            assert_eq!(assigned(names), expected, "{names}");
        }
    }

    #[test]
    fn what_is_unclear_is_refused_with_the_columns_there_are() {
        let cases = [
            (
                "query question positive",
                "of the text columns `query`, `question`, `positive`, the query may be any of `query`, `question` and `positive` is the positive",
            ),
            ("question answer context", "the positive may be any of `answer`, `context`"),
            ("query a b", "`query` is the query and the positive may be any of `a`, `b`"),
            ("positive a b", "the query may be any of `a`, `b` and `positive` is the positive"),
            ("a b c negative", "the query may be any of `a`, `b`, `c`"),
            ("query ?a negative", "`query` is the query and none is the positive"),
            ("query negative", "too few"),
            ("query", "too few"),
            ("#a #b", "too few"),
        ];
        for (names, expected) in cases {
            assert!(assigned(names).contains(expected), "{names}: {}", assigned(names));
        }
    }

    #[test]
    fn only_names_that_say_so_are_negatives() {
        for name in
            ["negative", "negatives", "neg", "negs", "neg_1", "neg1", "negative_12", "hard-negative 3", "negative_passages", "hard_negs"]
        {
            assert_eq!(role(name), Some(Role::Negative), "{name}");
        }
        for name in ["negation", "neg_scores", "negative_type", "position", "pos_scores", "posts", "text", "title", "positive_2", "_", ""] {
            assert_eq!(role(name), None, "{name}");
        }
    }
}
