//! Whether an endpoint cuts prompts. Some take a part out of a prompt that is longer than their context, answer what is left, and say nothing; what they
//! count of it tells, where that is less than any tokenizer makes of the whole.
//!
//! Nothing is concluded from a count that may mean something else. Some endpoints leave out of it what they have cached: what all prompts of a job
//! share, and all of a prompt that they have just seen. So only the part that is a question's own is reckoned with; a model whose count of any prompt
//! was as large is taken to count in full; and one prompt alone is no sign.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::{chat::Message, prompt::Prompt, words};

/// Letters (with digits) that stand for one token, on average over a prompt, at most. Texts in the languages that a vocabulary was made for have three to
/// five letters to a token, Chinese not even two characters, and a vocabulary of whole phrases about six.
const LETTERS: u64 = 8;
/// Words that stand for one token at most. Tokenizers split at blanks, so that each word is a token or more; those that do not put one blank in
/// about five inside of a token. It holds where words are longer than any: for a text of one long name, over and over.
const WORDS: u64 = 2;
/// Prompts counted with too few tokens, before it is said. Servers keep a handful of prompts, one for each request that they work on at once, and
/// those that a stopped job had just asked may be asked once more.
const PROMPTS: u32 = 5;

/// What endpoints counted, by model.
#[derive(Debug, Default)]
pub(crate) struct Cuts(Mutex<HashMap<String, Counts>>);

#[derive(Debug, Default)]
struct Counts {
    /// The most that a prompt was counted with.
    most: u64,
    /// Prompts that cannot have so few tokens, where none was counted with as many as they must have.
    short: u32,
}

impl Cuts {
    /// A prompt that has `fewest` tokens at least was `counted`. Says whether the model's prompts seem to be cut.
    pub(crate) fn seen(&self, model: &str, fewest: u64, counted: u64) -> bool {
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = models.entry(model.to_owned()).or_default();
        counts.most = counts.most.max(counted);
        counts.short += u32::from(counts.most < fewest);
        counts.short >= PROMPTS && counts.most < fewest
    }
}

/// Tokens that a question's own part of a conversation has at least, whatever the tokenizer: by its letters or by its words, whichever is less. Blanks,
/// lines drawn with signs and the like count for none: a token may hold dozens of them.
pub(crate) fn fewest_tokens(prompt: &Prompt, messages: &[Message]) -> u64 {
    let (letters, words) = measured(messages.iter().map(|message| message.content.as_str()));
    // With its placeholders, which are not there any more, it is a little more than all questions share.
    let (shared_letters, shared_words) = measured([prompt.text.as_str()].into_iter().chain(prompt.parts.values().map(String::as_str)));
    (letters.saturating_sub(shared_letters) / LETTERS).min(words.saturating_sub(shared_words) / WORDS)
}

/// Letters and words of texts; where blanks do not part words each character is one.
fn measured<'t>(texts: impl Iterator<Item = &'t str>) -> (u64, u64) {
    let each = texts.map(|text| (text.chars().filter(|it| it.is_alphanumeric()).count() as u64, words::count(text) as u64));
    each.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Role;

    fn fewest(text: &str) -> u64 {
        fewest_tokens(&Prompt::builtin("p", "{{document}}"), &[Message::new(Role::User, text)])
    }

    /// Beside each text the tokens that it would have if every word of it, of Chinese every pair of characters, were one.
    #[test]
    fn no_text_has_fewer_tokens() {
        let english = "The fox eats what it finds in the field, and sleeps by day. ";
        let german = "Donaudampfschifffahrtsgesellschaftskapitänsmützen sind Kleidungsstücke. ";
        let (chinese, thai) = ("狐狸在田里找到什么就吃什么，白天睡觉。", "สุนัขจิ้งจอกกินสิ่งที่มันพบในทุ่งนา");
        for (text, tokens, found) in
            [(english, 13 * 50, 200..400), (german, 3 * 50, 40..150), (chinese, 17 * 25, 80..120), (thai, 8 * 50, 50..250)]
        {
            let least = fewest(&text.repeat(50));
            assert!(least <= tokens && found.contains(&least), "{least} of {tokens}: {text}");
        }
        // A token of 80 blanks or of 60 dashes is nothing unusual.
        for text in [" ".repeat(5000), "-".repeat(5000), "| --- | --- |\n".repeat(300), ". ".repeat(5000), "\n\n\t".repeat(999)] {
            assert_eq!(fewest(&text), 0, "{:?}", &text[..20]);
        }
        assert_eq!(fewest(""), 0);
    }

    #[test]
    fn what_all_questions_share_is_left_out() {
        let text = "[system]\nYou judge search results.\n[user]\n{{examples}}Document:\n{{document}}\n\nHow relevant is it to the query?";
        let examples = "an example of the task that is at hand ".repeat(100);
        let (bare, document) = (Prompt::builtin("p", text), "one two three four five six seven eight nine ten ".repeat(10));
        let prompt = bare.clone().with_examples(&examples).unwrap();
        let asked = |prompt: &Prompt| fewest_tokens(prompt, &prompt.filled(&[("examples", prompt.examples()), ("document", &document)]));
        // The document has 390 letters and 100 words; 26 and 3 are those of the heads and the placeholders.
        assert_eq!((asked(&prompt), asked(&bare)), (364 / 8, 364 / 8));
        assert_eq!(fewest_tokens(&prompt, &prompt.filled(&[("examples", prompt.examples()), ("document", "")])), 0);
    }

    #[test]
    fn several_short_counts_are_a_sign_and_one_that_is_full_takes_it_back() {
        let cuts = Cuts::default();
        for prompt in 1..=7 {
            // 4,096 tokens are all that the server takes; prompts that fit are counted in full.
            assert!(!cuts.seen("m", 900, 2500), "{prompt}: one that fits");
            assert_eq!(cuts.seen("m", 5000, 4096), prompt >= 5, "{prompt}");
        }
        assert!(!cuts.seen("other", 5000, 4096), "each model counts for itself");

        // What is cached is not counted: of the first prompt nothing was.
        let cuts = Cuts::default();
        assert!(!cuts.seen("m", 1000, 2500));
        assert!((0..50).all(|_| !cuts.seen("m", 1000, 30)));
        // A few prompts that a stopped job had asked before, then others.
        let cuts = Cuts::default();
        assert!((0..4).all(|_| !cuts.seen("m", 1000, 1)));
        assert!(!cuts.seen("m", 1000, 2500) && (0..50).all(|_| !cuts.seen("m", 1000, 30)));
    }
}
