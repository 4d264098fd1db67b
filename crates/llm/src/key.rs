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

    /// `text` without the key: endpoints repeat it in their messages.
    pub(crate) fn hidden_in(&self, text: &str) -> String {
        text.replace(&self.0, "[key]")
    }
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
        assert!(Key::new("  ").unwrap().is_none());
        assert!(Key::new("a b").is_err());
        assert!(Key::from_variable("DREDGE_NO_SUCH_VARIABLE").unwrap().is_none());
    }
}
