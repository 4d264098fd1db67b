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

/// Whether a character belongs to the one before it: vowels, tones and other marks of the scripts of South-East Asia, Tibet and India, points of
/// Hebrew and Arabic, accents that stand for themselves, and what joins letters or keeps them apart within a word.
fn is_mark(character: char) -> bool {
    matches!(character, '\u{0300}'..='\u{036f}' | '\u{0591}'..='\u{05bd}' | '\u{05bf}' | '\u{05c1}'..='\u{05c2}' | '\u{05c4}'..='\u{05c5}' | '\u{05c7}'
        | '\u{064b}'..='\u{065f}' | '\u{0670}' | '\u{06d6}'..='\u{06dc}' | '\u{06df}'..='\u{06e4}' | '\u{06e7}'..='\u{06e8}' | '\u{06ea}'..='\u{06ed}'
        | '\u{0900}'..='\u{0fff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{200c}'..='\u{200d}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
        && !character.is_alphanumeric()
        && !is_sign(character)
}

/// Punctuation and the like of those scripts.
fn is_sign(character: char) -> bool {
    matches!(character, '\u{0964}'..='\u{0965}' | '\u{0970}' | '\u{09f2}'..='\u{09f3}' | '\u{09fa}'..='\u{09fd}' | '\u{0a76}' | '\u{0af0}'..='\u{0af1}' | '\u{0b70}' | '\u{0bf3}'..='\u{0bfa}'
        | '\u{0c77}' | '\u{0c7f}' | '\u{0c84}' | '\u{0d4f}' | '\u{0d79}' | '\u{0df4}' | '\u{0e2f}' | '\u{0e3f}' | '\u{0e4f}' | '\u{0e5a}'..='\u{0e5b}' | '\u{0f01}'..='\u{0f17}' | '\u{0f34}' | '\u{0f36}' | '\u{0f38}'
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
            words.extend(rest[..at].contains(char::is_alphanumeric).then(|| rest[..at].to_lowercase()));
            let behind = &rest[at + character.len_utf8()..];
            // With its marks, such as the tones of Thai.
            let marks = behind.find(|it| !is_mark(it)).unwrap_or(behind.len());
            words.push(format!("{character}{}", &behind[..marks]));
            rest = &behind[marks..];
        }
        // A mark behind a sign, as in a picture put together of several, is no word.
        words.extend(rest.contains(char::is_alphanumeric).then(|| rest.to_lowercase()));
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
            ("विश्व स्वास्थ्य संगठन", 3),
            ("cafe\u{301} au lait", 3),
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
        // Marks within words, and a danda behind them.
        assert_eq!(list("विश्व स्वास्थ्य संगठन।"), ["विश्व", "स्वास्थ्य", "संगठन"]);
        assert_eq!(list("می\u{200c}خواهم cafe\u{301} \u{1f468}\u{200d}\u{1f469}"), ["می\u{200c}خواهم", "cafe\u{301}"]);
    }
}
