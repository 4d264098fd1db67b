//! What a word is: what stands between blanks, and in scripts that are written without blanks each character.
//!
//! A dictionary would find fewer and longer words in those; limits in words are then limits in characters.

/// Whether a character belongs to a script without blanks between words: Chinese characters, kana and bopomofo; Thai, Lao, Tibetan, Burmese and
/// Khmer. Korean is written with blanks.
fn is_word(character: char) -> bool {
    matches!(character,
        '\u{0e00}'..='\u{0fff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{312f}' | '\u{31a0}'..='\u{31bf}' | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9d}' | '\u{20000}'..='\u{3ffff}')
        && character.is_alphanumeric()
}

/// Whether a character belongs to the one before it: vowels, tones and other marks of the scripts of South-East Asia and Tibet.
fn is_mark(character: char) -> bool {
    matches!(character, '\u{0e00}'..='\u{0fff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}')
        && !character.is_alphanumeric()
        && !is_sign(character)
}

/// Punctuation and the like of those scripts.
fn is_sign(character: char) -> bool {
    matches!(character, '\u{0e2f}' | '\u{0e3f}' | '\u{0e4f}' | '\u{0e5a}'..='\u{0e5b}' | '\u{0f01}'..='\u{0f17}' | '\u{0f34}' | '\u{0f36}' | '\u{0f38}'
        | '\u{0f3a}'..='\u{0f3d}' | '\u{0f85}' | '\u{0fbe}'..='\u{0fff}' | '\u{104a}'..='\u{104f}' | '\u{17d4}'..='\u{17db}')
}

/// Where each word of a text begins. Beside a character that is a word for itself, signs alone are none.
fn starts(text: &str) -> impl Iterator<Item = usize> {
    let mut characters = text.char_indices().peekable();
    std::iter::from_fn(move || {
        loop {
            let (start, first) = characters.next()?;
            if first.is_whitespace() {
                continue;
            }
            if is_word(first) {
                return Some(start);
            }
            let mut letters = first.is_alphanumeric();
            let before = text[..start].chars().next_back().is_some_and(is_word);
            while let Some((_, next)) = characters.next_if(|it| !it.1.is_whitespace() && !is_word(it.1)) {
                letters |= next.is_alphanumeric();
            }
            let behind = characters.peek().is_some_and(|it| is_word(it.1));
            if letters || !(before || behind) {
                return Some(start);
            }
        }
    })
}

/// How many words a text has.
pub(crate) fn count(text: &str) -> usize {
    starts(text).count()
}

/// The first `count` words, as they stand in the text.
pub(crate) fn first(text: &str, count: usize) -> &str {
    let text = text.trim();
    starts(text).nth(count).map_or(text, |end| text[..end].trim_end())
}

/// The words in lower case, without signs.
pub(crate) fn list(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for part in text.split(|it: char| !it.is_alphanumeric() && !is_mark(it)) {
        let mut rest = part;
        while let Some((at, character)) = rest.char_indices().find(|it| is_word(it.1)) {
            words.extend((at > 0).then(|| rest[..at].to_lowercase()));
            let behind = &rest[at + character.len_utf8()..];
            // With its marks, such as the tones of Thai.
            let marks = behind.find(|it| !is_mark(it)).unwrap_or(behind.len());
            words.push(format!("{character}{}", &behind[..marks]));
            rest = &behind[marks..];
        }
        words.extend((!rest.is_empty()).then(|| rest.to_lowercase()));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_with_and_without_blanks() {
        for (text, words) in [
            ("", 0),
            ("  what is  a fox? ", 4),
            ("a - b", 3),
            ("狐狸吃什么？", 5),
            ("狐狸 吃 GPU-3 吗", 5),
            ("GPU吃什么", 4),
            ("キツネは何を食べますか", 11),
            ("여우는 무엇을 먹나요", 3),
            ("หมา", 3),
            ("「狐」", 1),
        ] {
            assert_eq!(count(text), words, "{text}");
        }
    }

    #[test]
    fn first_words_end_at_a_word() {
        assert_eq!(first("  one  two\nthree four ", 3), "one  two\nthree");
        assert_eq!(first("one two", 5), "one two");
        assert_eq!(first("one two", 0), "");
        assert_eq!(first("", 5), "");
        assert_eq!(first("狐狸吃什么？它吃鱼。", 3), "狐狸吃");
        assert_eq!(first("狐狸吃 GPU 吗", 4), "狐狸吃 GPU");
    }

    #[test]
    fn lists_have_neither_case_nor_signs() {
        assert_eq!(list("The FOX-hen, 3!"), ["the", "fox", "hen", "3"]);
        assert_eq!(list("用GPU吃。"), ["用", "gpu", "吃"]);
        // A tone makes another word.
        assert_eq!(list("เข่า"), ["เ", "ข่", "า"]);
        assert!(list("เขา") != list("เข่า"));
    }
}
