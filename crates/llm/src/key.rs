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

    /// A message without the key, however short it is: endpoints repeat it in what they say, some as JSON inside of JSON, where `/` may be `\/` and
    /// `+` `\u002B`. Nothing but the key is changed.
    pub(crate) fn hidden_in(&self, text: &str) -> String {
        let (mut decoded, mut places) = (text.to_owned(), (0..text.len()).collect::<Vec<_>>());
        let mut found = Vec::new();
        // Two levels down nobody writes.
        for _ in 0..=3 {
            let place = |at: usize| places.get(at).copied().unwrap_or(text.len());
            found.extend(decoded.match_indices(&self.0).map(|(at, key)| (place(at), place(at + key.len()))));
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

    /// An answer without the key. One so short that it is a word or a number (servers on this machine are given such) is no secret, and an answer
    /// that has it stays as it is.
    pub(crate) fn hidden_in_answer(&self, text: &str) -> String {
        if self.0.len() < SECRET { text.to_owned() } else { self.hidden_in(text) }
    }
}

/// What stands in the key's place.
const HIDDEN: &str = "[key]";
/// Characters that a key has at least if it is a secret: those of services have more than twice as many.
const SECRET: usize = 12;

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
    fn a_word_is_no_secret_in_an_answer() {
        for word in ["1", "x", "null", "none", "not-needed", "sk-12345678"] {
            let key = Key::new(word).unwrap().unwrap();
            let answer = format!("{{\"answers\": [null, \"1 x none\", \"{word}\"]}}");
            assert_eq!(key.hidden_in_answer(&answer), answer);
            assert!(!key.hidden_in(&format!("bad key {word}")).ends_with(word), "messages hide it all the same");
        }
        let key = Key::new("sk-123456789").unwrap().unwrap();
        assert_eq!(key.hidden_in_answer("it is sk-123456789 or sk\\u002d123456789, not sk-1234"), "it is [key] or [key], not sk-1234");
        // Where two copies overlap, what is left of the second is no key.
        let key = Key::new("abababababab").unwrap().unwrap();
        assert_eq!(key.hidden_in_answer("abababababababab c"), "[key]abab c");
    }
}
