//! What a written text must be before it may train anything: neither too short nor too long, likely enough, and not copied.

use std::collections::HashSet;

use serde::Serialize;

use crate::{error::LlmError, session::Fault};

/// Words in a row that two texts share before they count as copied: shorter runs are names and phrases.
const RUN: usize = 6;

/// Limits for written texts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quality {
    /// Words at least (InPars-v2, arXiv 2301.01820, drops queries below 3 tokens).
    pub min_words: usize,
    /// Words at most.
    pub max_words: usize,
    /// Share of the words that may stand in runs of six or more copied from the text they were written from.
    pub max_copied: f64,
    /// Mean log-probability at least; needs an endpoint that gives it.
    pub min_logprob: Option<f64>,
}

impl Quality {
    /// For queries.
    pub const QUERIES: Self = Self { min_words: 3, max_words: 64, max_copied: 0.7, min_logprob: None };
    /// For passages.
    pub const PASSAGES: Self = Self { min_words: 5, max_words: 600, max_copied: 0.5, min_logprob: None };

    /// # Errors
    /// When nothing could pass.
    pub fn validate(&self) -> Result<(), LlmError> {
        let bad = |message: String| Err(LlmError::Setting(message));
        if self.min_words > self.max_words {
            return bad(format!("at least {} and at most {} words: nothing is both", self.min_words, self.max_words));
        }
        if !(0.0..=1.0).contains(&self.max_copied) {
            return bad(format!("a copied share of {}: expected 0 to 1", self.max_copied));
        }
        if self.min_logprob.is_some_and(|it| it.is_nan() || it > 0.0) {
            return bad("the least mean log-probability must be 0 or below".into());
        }
        Ok(())
    }

    /// Looks at `text`, which was written from `sources` with mean log-probability `logprob`.
    pub(crate) fn check(&self, text: &str, sources: &[&str], logprob: Option<f64>) -> Result<(), Fault> {
        let words = text.split_whitespace().count();
        let bad = |reason: String| Err(Fault::Quality(reason));
        if words < self.min_words {
            return bad(format!("too short: {words} words, at least {}", self.min_words));
        }
        if words > self.max_words {
            return bad(format!("too long: {words} words, at most {}", self.max_words));
        }
        if let Some(least) = self.min_logprob {
            match logprob {
                None => return bad("no log-probability: the endpoint gave none".into()),
                Some(logprob) if logprob < least => return bad(format!("log-probability {logprob:.3} below {least}")),
                Some(_) => {}
            }
        }
        for source in sources {
            let copied = copied_share(text, source);
            if copied > self.max_copied {
                return bad(format!("copied: {:.0} % of its words", copied * 100.0));
            }
        }
        Ok(())
    }
}

/// Share of the words of `text` that lie in runs of at least six that `source` has too.
pub(crate) fn copied_share(text: &str, source: &str) -> f64 {
    let (text, source) = (words(text), words(source));
    let runs: HashSet<&[String]> = source.windows(RUN).collect();
    let mut copied = vec![false; text.len()];
    for (at, run) in text.windows(RUN).enumerate() {
        if runs.contains(run) {
            copied[at..at + RUN].fill(true);
        }
    }
    copied.iter().filter(|it| **it).count() as f64 / text.len().max(1) as f64
}

fn words(text: &str) -> Vec<String> {
    text.split(|it: char| !it.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// Texts seen, alike where they differ in case, punctuation and blanks alone.
#[derive(Debug, Default)]
pub(crate) struct Seen(HashSet<String>);

impl Seen {
    pub(crate) fn with<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        Self(texts.map(|text| words(text).join(" ")).collect())
    }

    /// Whether it is the first of its like.
    pub(crate) fn first(&mut self, text: &str) -> bool {
        self.0.insert(words(text).join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copied_words_are_those_in_long_runs() {
        let source = "The quick brown fox jumps over the lazy dog and sleeps.";
        assert_eq!(copied_share("quick brown fox jumps over", source), 0.0, "five words are a phrase");
        assert_eq!(copied_share("Quick, brown fox JUMPS over the", source), 1.0);
        assert_eq!(copied_share("does the quick brown fox jumps over ever rest so", source), 0.6);
        assert_eq!(copied_share("", source), 0.0);
    }

    #[test]
    fn each_limit_speaks_for_itself() {
        let quality = Quality { min_words: 2, max_words: 8, max_copied: 0.5, min_logprob: Some(-1.0) };
        quality.validate().unwrap();
        let reason = |text: &str, source: &str, logprob| match quality.check(text, &[source], logprob) {
            Ok(()) => String::new(),
            Err(Fault::Quality(reason)) => reason,
            Err(Fault::Form(_)) => panic!("quality is no fault of form"),
        };
        assert_eq!(reason("two words", "other", Some(-0.5)), "");
        assert!(reason("one", "", Some(0.0)).starts_with("too short: 1 words"));
        assert!(reason("a b c d e f g h i", "", Some(0.0)).starts_with("too long: 9"));
        assert!(reason("two words", "", None).contains("gave none"));
        assert!(reason("two words", "", Some(-1.5)).contains("-1.500 below -1"));
        assert!(reason("a b c d e f", "x a b c d e f y", Some(0.0)).contains("copied: 100 %"));
        assert!(Quality { min_words: 9, ..quality }.validate().is_err());
        assert!(Quality { max_copied: 1.5, ..quality }.validate().is_err());
        assert!(Quality { min_logprob: Some(0.5), ..quality }.validate().is_err());
    }

    #[test]
    fn likes_are_seen_once() {
        let mut seen = Seen::with(["What is  a fox?"].into_iter());
        assert!(!seen.first("what is a fox"));
        assert!(seen.first("what is a hen"));
        assert!(!seen.first("What is a hen!"));
    }
}
