//! What a written text must be before it may train anything: neither too short nor too long, likely enough, and not copied.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::{error::LlmError, session::Fault, words};

/// Words in a row that two texts share before they count as copied: shorter runs are names and phrases.
const RUN: usize = 6;
/// Share of their words that two texts of about the same length have in common, wherever these stand, before one is a copy of the other.
const ALIKE: f64 = 5.0 / 6.0;

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
        let words = words::count(text);
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

    /// Looks whether `text`, which is to say something else than `whole`, has too much of it inside. A text of fewer than six words is too short
    /// for that.
    pub(crate) fn holds_not(&self, text: &str, whole: &str) -> Result<(), Fault> {
        let held = if words::count(whole) < RUN { 0.0 } else { copied_share(whole, text) };
        if held > self.max_copied {
            return Err(Fault::Quality(format!("copied: it has {:.0} % of the words of a text that does answer", held * 100.0)));
        }
        Ok(())
    }
}

/// Share of the words of `text` that lie in runs of at least six that `source` has too; all of a text that has nearly the same words as `source`,
/// or, if it is shorter than a run, the very same ones.
pub(crate) fn copied_share(text: &str, source: &str) -> f64 {
    let (text, source) = (words::list(text), words::list(source));
    if text.is_empty() {
        return 0.0;
    }
    if text.len() < RUN {
        return f64::from(u8::from(text == source));
    }
    let alike = alike(&text, &source);
    if alike >= ALIKE {
        return 1.0;
    }
    let runs: HashSet<&[String]> = source.windows(RUN).collect();
    let mut copied = vec![false; text.len()];
    for (at, run) in text.windows(RUN).enumerate() {
        if runs.contains(run) {
            copied[at..at + RUN].fill(true);
        }
    }
    copied.iter().filter(|it| **it).count() as f64 / text.len() as f64
}

/// Words that two texts have in common, of those of the longer one.
fn alike(a: &[String], b: &[String]) -> f64 {
    let mut left: HashMap<&str, usize> = HashMap::new();
    b.iter().for_each(|word| *left.entry(word).or_default() += 1);
    let mut common = 0;
    for word in a {
        if let Some(count) = left.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    f64::from(common) / a.len().max(b.len()).max(1) as f64
}

/// Texts seen, alike where they differ in case, punctuation and blanks alone. `+`, `#` and the signs within numbers are no punctuation: C, C++ and C#
/// are three, 1/2 and 1.2 are two.
#[derive(Debug, Default)]
pub(crate) struct Seen(HashSet<String>);

impl Seen {
    pub(crate) fn with<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        Self(texts.map(likeness).collect())
    }

    /// Whether it is the first of its like.
    pub(crate) fn first(&mut self, text: &str) -> bool {
        self.0.insert(likeness(text))
    }
}

fn likeness(text: &str) -> String {
    let words = text.split_whitespace().flat_map(|part| {
        let bare = part.trim_matches(|it: char| !it.is_alphanumeric() && !"+#".contains(it));
        let number = |it: &[u8]| it[0].is_ascii_digit() && it[1].is_ascii_punctuation() && it[2].is_ascii_digit();
        let signed = bare.contains(['+', '#']) || bare.as_bytes().windows(3).any(number);
        if signed { vec![bare.to_lowercase()] } else { words::list(part) }
    });
    words.collect::<Vec<_>>().join(" ")
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
        // Characters are words where words have no blanks.
        assert_eq!(copied_share("它说狐狸在田里找到", "狐狸在田里找到什么就吃什么，白天睡觉。"), 7.0 / 9.0);
    }

    #[test]
    fn a_text_that_says_the_same_in_nearly_the_same_words_is_a_copy() {
        let source = "The fox sleeps by day and eats at night.";
        assert_eq!(copied_share("the FOX sleeps by night and eats at night", source), 1.0, "one word of nine is another");
        assert_eq!(copied_share("The hen sleeps by night and runs at noon", source), 0.0);
        // Shorter than a run: the same words in the same order, whatever the case and the signs.
        assert_eq!(copied_share("what IS a fox", "What is a fox?"), 1.0);
        assert_eq!(copied_share("what is a hen", "What is a fox?"), 0.0);
        assert_eq!(copied_share("is what a fox", "What is a fox?"), 0.0);

        let quality = Quality::PASSAGES;
        let longer =
            format!("It is told in many books and in many lands that {source} Nobody has seen it, and who asks hears another tale.");
        assert!(quality.check(&longer, &[source], None).is_ok());
        assert!(matches!(quality.holds_not(&longer, source), Err(Fault::Quality(why)) if why.starts_with("copied: it has 100 %")));
        quality.holds_not(&longer, "It is told").unwrap();
    }

    #[test]
    fn texts_without_blanks_have_as_many_words_as_characters() {
        let quality = Quality::QUERIES;
        for text in ["狐狸吃什么？", "キツネは何を食べますか", "สุนัขจิ้งจอกกินอะไร", "여우는 무엇을 먹나요"]
        {
            quality.check(text, &[], None).unwrap();
        }
        assert!(matches!(quality.check("狐狸", &[], None), Err(Fault::Quality(why)) if why.starts_with("too short: 2 words")));
        assert!(quality.check(&"狐".repeat(65), &[], None).is_err());
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
        assert!(["what is C", "what is C++", "what is C#?"].into_iter().all(|text| seen.first(text)));
        assert!(!seen.first("What is c++?"));
        for text in ["is C++ faster than C", "is C faster than C++", "what is 1/2", "what is (1.2)"] {
            assert!(seen.first(text), "{text}");
        }
        assert!(!seen.first("What is 1.2?"));
    }
}
