//! The secret that an endpoint asks for: it comes from the environment, goes into one header, and is shown to nobody.

use std::fmt;

use crate::error::LlmError;

/// An API key. It has no `Display`, is not serialised, and `Debug` hides it.
#[derive(Clone)]
pub struct Key(String);

impl Key {
    /// Reads the environment variable `variable`; `None` where it is unset or empty, as for endpoints on this machine.
    ///
    /// # Errors
    /// When the value cannot stand in a header. The message names the variable and not its value.
    pub fn from_variable(variable: &str) -> Result<Option<Self>, LlmError> {
        let bad = |problem| LlmError::Key { variable: variable.to_owned(), problem };
        let Some(value) = std::env::var_os(variable) else { return Ok(None) };
        let value = value.into_string().map_err(|_| bad("is not UTF-8"))?;
        Self::new(&value).map_err(bad)
    }

    fn new(value: &str) -> Result<Option<Self>, &'static str> {
        let value = value.trim();
        if !value.chars().all(|it| it.is_ascii_graphic()) {
            return Err("holds blanks or characters that cannot stand in a header");
        }
        Ok((!value.is_empty()).then(|| Self(value.to_owned())))
    }

    #[cfg(test)]
    pub(crate) fn for_tests(value: &str) -> Self {
        Self(value.to_owned())
    }

    /// The value of the `Authorization` header.
    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether it can be told from what models and endpoints say for other reasons. Servers on this machine are given words (`none`, `ollama`) for a
    /// key; those of services are longer and no words.
    fn is_secret(&self) -> bool {
        let (first, rest) = self.0.split_at(1);
        let word = first.bytes().all(|it| it.is_ascii_alphabetic()) && rest.bytes().all(|it| it.is_ascii_lowercase());
        self.0.len() >= SECRET && (!word || self.0.len() >= LONGER_THAN_WORDS)
    }

    /// Whether a URL has the key in it, percent-encoded or not. A word for a key may well be part of a path.
    pub(crate) fn stands_in(&self, url: &str) -> bool {
        self.is_secret() && (url.contains(&self.0) || percent_decoded(url).windows(self.0.len()).any(|part| part == self.0.as_bytes()))
    }

    /// A message without the key: endpoints repeat it in what they say, some as JSON inside of JSON, where `/` may be `\/` and `+` `\u002B`.
    /// Nothing but the key is changed. One that is no secret is taken out where it stands alone, as nobody would read what is left of `error`
    /// without its `r`.
    pub(crate) fn hidden_in(&self, text: &str) -> String {
        let secret = self.is_secret();
        let inside_a_word = |decoded: &str, at: usize| {
            let (before, behind) = (decoded[..at].chars().next_back(), decoded[at + self.0.len()..].chars().next());
            [before, behind].into_iter().flatten().any(char::is_alphanumeric)
        };
        let (mut decoded, mut places) = (text.to_owned(), (0..text.len()).collect::<Vec<_>>());
        let mut found = Vec::new();
        // Two levels down nobody writes.
        for _ in 0..=3 {
            let place = |at: usize| places.get(at).copied().unwrap_or(text.len());
            let keys = decoded.match_indices(&self.0).map(|it| it.0).filter(|at| secret || !inside_a_word(&decoded, *at));
            found.extend(keys.map(|at| (place(at), place(at + self.0.len()))));
            (decoded, places) = unescaped(&decoded, &places);
        }
        // On several levels it is the same place, or one within the other.
        found.sort_unstable();
        let (mut out, mut done) = (String::with_capacity(text.len()), 0);
        for (start, end) in found {
            if start >= done {
                out.push_str(&text[done..start]);
                out.push_str(HIDDEN);
            }
            done = done.max(end);
        }
        out.push_str(&text[done..]);
        out
    }

    /// An answer without the key, if that is a secret. An answer with a word for a key in it stays as it is: it is what the model wrote.
    pub(crate) fn hidden_in_answer(&self, text: &str) -> String {
        if self.is_secret() { self.hidden_in(text) } else { text.to_owned() }
    }
}

/// What stands in the key's place.
const HIDDEN: &str = "[key]";
/// Characters that a key has at least if it is a secret: those of services have more than twice as many.
const SECRET: usize = 12;
/// Letters alone are no word from here on.
const LONGER_THAN_WORDS: usize = 24;

fn percent_decoded(url: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(url.len()), url.as_bytes());
    while let [first, behind @ ..] = rest {
        let code = behind.get(..2).and_then(|it| std::str::from_utf8(it).ok()).and_then(|it| u8::from_str_radix(it, 16).ok());
        let (byte, length) = if *first == b'%' { code.map_or((*first, 1), |code| (code, 3)) } else { (*first, 1) };
        out.push(byte);
        rest = &rest[length..];
    }
    out
}

/// `text` with the escapes of JSON that a key may be written with taken back, whether it is JSON or not, and for each byte of it the place where
/// it began; `places` are those of `text`.
fn unescaped(text: &str, places: &[usize]) -> (String, Vec<usize>) {
    let (mut out, mut origins) = (String::with_capacity(text.len()), Vec::with_capacity(text.len()));
    let mut at = 0;
    while let Some(plain) = text[at..].find('\\') {
        out.push_str(&text[at..at + plain]);
        origins.extend_from_slice(&places[at..at + plain]);
        at += plain;
        let behind = &text[at + 1..];
        let code = behind.strip_prefix('u').and_then(|it| it.get(..4)).and_then(|it| u8::from_str_radix(it, 16).ok());
        let (character, length) = match (code.filter(u8::is_ascii_graphic), behind.chars().next()) {
            (Some(code), _) => (char::from(code), 6),
            (None, Some(character @ ('/' | '"' | '\\'))) => (character, 2),
            (None, _) => ('\\', 1),
        };
        // ASCII: one byte.
        out.push(character);
        origins.push(places[at]);
        at += length;
    }
    out.push_str(&text[at..]);
    origins.extend_from_slice(&places[at..]);
    (out, origins)
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Key([hidden])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_trimmed_hidden_and_refused_where_it_cannot_be_sent() {
        let key = Key::new(" sk-1\n").unwrap().unwrap();
        assert_eq!(key.header(), "Bearer sk-1");
        assert_eq!(format!("{key:?}"), "Key([hidden])");
        assert_eq!(key.hidden_in("no sk-1, sk-1!"), "no [key], [key]!");
        let key = Key::new("sk/a+b").unwrap().unwrap();
        for told in ["sk/a+b", r"sk\/a+b", r"sk\/a\u002Bb", r"\u0073k\u002fa\u002bb", r"sk\\/a\\u002Bb", r"sk\\\/a\\u002Bb"] {
            assert_eq!(key.hidden_in(&format!("é no {told}!")), "é no [key]!", "{told}");
        }
        // What stands around it, escapes too, stays as it is.
        let answer = r#"{"a": "C:\\new \"q\" \u00e9", "b": "sk\/a\u002Bb", "c": "sk/a+b\/"}"#;
        assert_eq!(key.hidden_in(answer), r#"{"a": "C:\\new \"q\" \u00e9", "b": "[key]", "c": "[key]\/"}"#);
        // What has no key in it as well.
        for plain in [r"C:\new\u00e9 \/ \", r"\u", r"\\", "é\\u12é"] {
            assert_eq!(key.hidden_in(plain), plain);
        }
        assert!(Key::new("  ").unwrap().is_none());
        assert!(Key::new("a b").is_err());
        assert!(Key::from_variable("DREDGE_NO_SUCH_VARIABLE").unwrap().is_none());
    }

    #[test]
    fn a_word_is_no_secret_and_stays_in_answers() {
        for word in ["1", "e", "key", "sk", "null", "none", "ollama", "not-needed", "sk-12345678", "administrator", "Documentation"] {
            let key = Key::new(word).unwrap().unwrap();
            let answer = format!("{{\"answers\": [null, \"1 key of none\", \"{word}\", \"x{word}x\"]}}");
            assert_eq!(key.hidden_in_answer(&answer), answer);
            // In messages it is hidden all the same, where it is no part of another word.
            assert_eq!(key.hidden_in(&format!("Bearer {word}: x{word}x, ({word})")), format!("Bearer [key]: x{word}x, ([key])"));
        }
        for secret in ["sk-123456789", "correct-horse", "aBcDeFgHiJkL", "abcdefghijklmnopqrstuvwx"] {
            let key = Key::new(secret).unwrap().unwrap();
            let escaped = format!("\\u00{:02x}{}", secret.as_bytes()[0], &secret[1..]);
            for text in [secret, &escaped, &format!("x{secret}x")] {
                let hidden = key.hidden_in_answer(&format!("it is {text}, not sk-1234"));
                assert!(hidden.contains("[key]") && !hidden.contains(&secret[1..]) && hidden.ends_with(", not sk-1234"), "{hidden}");
            }
        }
        // Where two copies overlap, what is left of the second is no key.
        let key = Key::new("ab-ab-ab-ab-").unwrap().unwrap();
        assert_eq!(key.hidden_in_answer("ab-ab-ab-ab-ab- c"), "[key]ab- c");
    }
}
