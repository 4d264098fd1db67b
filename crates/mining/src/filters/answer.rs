//! Drops candidates that contain an answer of the query: for question answering they are as good as positives (Karpukhin et al. 2020,
//! arXiv 2004.04906).
//!
//! Text and answers are compared in lower case, every run of white space being one space, and an answer must not begin or end inside a
//! word: what stands before and behind it is no letter or digit. An answer without any character matches nothing.

use std::sync::Arc;

use corpus::Collection;

use super::{Filter, FilterContext, Scored};

/// Strings that answer each query, by query; queries beyond have none.
pub type Answers = Vec<Vec<String>>;

/// Texts of documents by dense id.
pub trait DocumentTexts: Send + Sync {
    /// The text, `None` when there is no such document.
    fn text(&self, document: u32) -> Option<&str>;
}

impl DocumentTexts for Collection {
    fn text(&self, document: u32) -> Option<&str> {
        ((document as usize) < self.documents.len()).then(|| self.documents.text(document))
    }
}

/// Answers beside the texts that they are looked for in.
pub struct AnswerTexts {
    /// Normalised.
    answers: Answers,
    texts: Arc<dyn DocumentTexts>,
}

impl AnswerTexts {
    /// `answers` by query; `texts` of all documents, looked up at a refresh.
    pub fn new(answers: Answers, texts: Arc<dyn DocumentTexts>) -> Self {
        let clean = |answers: Vec<String>| answers.iter().map(|it| normalised(it)).filter(|it| !it.is_empty()).collect();
        Self { answers: answers.into_iter().map(clean).collect(), texts }
    }

    /// Whether the text of `document` contains an answer of `query`.
    fn answers(&self, query: u32, document: u32) -> bool {
        let Some(answers) = self.answers.get(query as usize).filter(|answers| !answers.is_empty()) else { return false };
        self.texts.text(document).map(normalised).is_some_and(|text| answers.iter().any(|answer| contains(&text, answer)))
    }
}

/// Lower case, one space for every run of white space, none at the ends.
fn normalised(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !clean.is_empty() {
            clean.push(' ');
        }
        clean.extend(word.chars().flat_map(char::to_lowercase));
    }
    clean
}

/// Whether `text` has `answer` with no letter or digit next to it.
fn contains(text: &str, answer: &str) -> bool {
    let inside = |neighbour: Option<char>| neighbour.is_some_and(char::is_alphanumeric);
    let step = answer.chars().next().map_or(1, char::len_utf8);
    // Matches may overlap, so the search goes on one character behind the last.
    let mut from = 0;
    while let Some(found) = text[from..].find(answer) {
        let start = from + found;
        if !inside(text[..start].chars().next_back()) && !inside(text[start + answer.len()..].chars().next()) {
            return true;
        }
        from = start + step;
    }
    false
}

/// Documents with the answer are no negatives.
pub struct Answer {
    known: Option<Arc<AnswerTexts>>,
}

impl Answer {
    /// Without answers nothing is dropped.
    pub fn new(known: Option<Arc<AnswerTexts>>) -> Self {
        Self { known }
    }
}

impl Filter for Answer {
    fn name(&self) -> &'static str {
        "answer"
    }

    fn keep(&self, context: &FilterContext<'_>, it: &Scored) -> bool {
        !self.known.as_ref().is_some_and(|known| known.answers(context.query, it.candidate.document))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_whatever_its_case_and_spacing_but_not_inside_a_word() {
        let found = |text: &str, answer: &str| contains(&normalised(text), &normalised(answer));
        assert!(found("Born in  New\nYork, 1932.", " new york"));
        assert!(found("ÉCOLE normale", "école"));
        assert!(found("the cat; concatenate", "cat"));
        assert!(found("x(42)", "42") && found("cat", "cat"));
        assert!(!found("concatenate", "cat") && !found("1942", "42") && !found("42nd", "42"));
        assert!(found("aXa a", "a") && found("xa a a", "a a"), "a later match counts too");
    }

    #[test]
    fn queries_without_answers_and_documents_without_texts_have_none() {
        let mut collection = Collection::default();
        collection.documents.push("d", "Paris is a city").unwrap();
        let known = AnswerTexts::new(vec![vec!["paris".into()], vec!["  ".into()]], Arc::new(collection));
        assert!(known.answers(0, 0));
        assert!(!known.answers(0, 1) && !known.answers(1, 0) && !known.answers(9, 0));
    }
}
