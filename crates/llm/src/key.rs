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

    /// `text` without the key: endpoints repeat it in their messages, some as JSON inside of JSON, where `/` may be `\/` and `+` `\u002B`.
    pub(crate) fn hidden_in(&self, text: &str) -> String {
        let mut text = text.replace(&self.0, HIDDEN);
        let mut decoded = unescaped(&text);
        // Two levels down nobody writes.
        for _ in 0..3 {
            if decoded.contains(&self.0) {
                text = decoded.replace(&self.0, HIDDEN);
                decoded.clone_from(&text);
            }
            decoded = unescaped(&decoded);
        }
        text
    }
}

/// What stands in the key's place.
const HIDDEN: &str = "[key]";

/// `text` with the escapes of JSON that a key may be written with taken back, whether it is JSON or not.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let code = behind.strip_prefix('u').and_then(|it| it.get(..4)).and_then(|it| u8::from_str_radix(it, 16).ok());
        let (character, length) = match (code.filter(u8::is_ascii_graphic), behind.chars().next()) {
            (Some(code), _) => (Some(char::from(code)), 5),
            (None, Some(character @ ('/' | '"' | '\\'))) => (Some(character), 1),
            (None, _) => (None, 0),
        };
        out.push(character.unwrap_or('\\'));
        rest = &behind[length..];
    }
    out.push_str(rest);
    out
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
        // What has no key in it stays as it is.
        for plain in [r"C:\new\u00e9 \/ \", r"\u", r"\\", "é\\u12é"] {
            assert_eq!(key.hidden_in(plain), plain);
        }
        assert!(Key::new("  ").unwrap().is_none());
        assert!(Key::new("a b").is_err());
        assert!(Key::from_variable("DREDGE_NO_SUCH_VARIABLE").unwrap().is_none());
    }
}
