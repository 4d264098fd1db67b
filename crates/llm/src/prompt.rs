//! Prompts: texts with `{{placeholders}}` and a version. Ours are files of this crate; a user's file takes their place.

use std::{collections::BTreeSet, path::Path};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    chat::{Message, Role},
    error::LlmError,
};

/// A prompt: an optional `[system]` part, and a `[user]` part; each head stands alone on its line. A text without heads is a `[user]` part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prompt {
    /// `name@hash of the text`.
    pub version: String,
    /// The whole text.
    pub text: String,
    #[serde(skip)]
    system: String,
    #[serde(skip)]
    user: String,
}

impl Prompt {
    /// One of ours; `text` is part of the program.
    pub(crate) fn builtin(name: &str, text: &str) -> Self {
        Self::new(name, text)
    }

    /// A user's file in the place of `own`: it may use the placeholders that `own` uses, and must use the ones in `needed`.
    ///
    /// # Errors
    /// When the file cannot be read, is empty, has a `[system]` part where `own` has none, or has a placeholder that nothing fills, or lacks one;
    /// the message names the line.
    pub(crate) fn read(path: &Path, own: &Self, needed: &[&str]) -> Result<Self, LlmError> {
        let text = std::fs::read_to_string(path).map_err(LlmError::io(path))?;
        let name = path.file_stem().map_or_else(|| "prompt".to_owned(), |it| it.to_string_lossy().into_owned());
        let prompt = Self::new(&name, &text);
        let known = own.placeholders();
        let listed = known.iter().map(|name| format!("{{{{{name}}}}}")).collect::<Vec<_>>().join(", ");
        let fault =
            |place: String, problem: String| LlmError::Text { place, problem, expected: format!("a text with the placeholders {listed}") };
        if prompt.user.trim().is_empty() {
            return Err(fault(path.display().to_string(), "the prompt asks nothing".into()));
        }
        // Only what begins a conversation has one, and many chat templates refuse others.
        if own.system.is_empty() && !prompt.system.is_empty() {
            return Err(fault(path.display().to_string(), "a [system] part cannot follow an answer".into()));
        }
        for (number, line) in text.lines().enumerate() {
            if let Some(odd) = placeholders(line).into_iter().find(|name| !known.contains(name)) {
                return Err(fault(format!("{}:{}", path.display(), number + 1), format!("nothing is put in the place of {{{{{odd}}}}}")));
            }
        }
        let used = prompt.placeholders();
        match needed.iter().find(|name| !used.contains(**name)) {
            Some(lacking) => Err(fault(path.display().to_string(), format!("{{{{{lacking}}}}} is missing"))),
            None => Ok(prompt),
        }
    }

    fn new(name: &str, text: &str) -> Self {
        let (mut system, mut user) = (String::new(), String::new());
        let mut part = &mut user;
        for line in text.lines() {
            match line.trim() {
                "[system]" => part = &mut system,
                "[user]" => part = &mut user,
                _ => {
                    part.push_str(line);
                    part.push('\n');
                }
            }
        }
        let hash = Sha256::digest(text.as_bytes());
        let hash: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Self { version: format!("{name}@{hash}"), text: text.to_owned(), system: system.trim().to_owned(), user: user.trim().to_owned() }
    }

    fn placeholders(&self) -> BTreeSet<&str> {
        placeholders(&self.system).into_iter().chain(placeholders(&self.user)).collect()
    }

    /// The conversation with every placeholder replaced. What is put in is not searched for placeholders again.
    pub(crate) fn filled(&self, values: &[(&str, &str)]) -> Vec<Message> {
        let system = fill(&self.system, values);
        let system = (!system.is_empty()).then(|| Message::new(Role::System, system));
        system.into_iter().chain([Message::new(Role::User, fill(&self.user, values))]).collect()
    }
}

fn placeholders(text: &str) -> Vec<&str> {
    let inside = text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|it| it.0);
    inside.filter(|name| !name.is_empty() && name.chars().all(|it| it.is_ascii_lowercase() || it == '_')).collect()
}

fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 2..];
        let known = behind.split_once("}}").and_then(|(name, after)| Some((values.iter().find(|it| it.0 == name)?.1, after)));
        match known {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push_str("{{");
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_placeholders_are_filled_once() {
        let prompt = Prompt::builtin("p", "[system]\nYou are {{role}}.\n[user]\nAbout {{document}}: {\"a\": {{}} }\n");
        let filled = prompt.filled(&[("role", "brief"), ("document", "{{role}}")]);
        assert_eq!(filled[0], Message::new(Role::System, "You are brief."));
        assert_eq!(filled[1], Message::new(Role::User, "About {{role}}: {\"a\": {{}} }"));
        assert_eq!(Prompt::builtin("p", "just {{document}}").filled(&[("document", "this")]), [Message::new(Role::User, "just this")]);
        assert!(prompt.version.starts_with("p@") && prompt.version.len() == 10);
        assert_ne!(prompt.version, Prompt::builtin("p", "x").version);
    }

    #[test]
    fn a_file_must_use_what_is_needed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.txt");
        let own = Prompt::builtin("queries", "{{examples}}{{document}}");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Prompt::read(&path, &own, &["document"])
        };
        assert!(read("Ask about {{document}}").unwrap().version.starts_with("mine@"));
        let message = read("Ask\nabout {{documents}}").unwrap_err().to_string();
        assert!(message.contains("mine.txt:2: nothing is put in the place of {{documents}}"), "{message}");
        assert!(message.contains("{{document}}, {{examples}}"), "{message}");
        assert!(read("Ask {{examples}}").unwrap_err().to_string().contains("{{document}} is missing"));
        assert!(read("[system]\n{{document}}").unwrap_err().to_string().contains("asks nothing"));
        assert!(read("[system]\nBe brief.\n[user]\n{{document}}").unwrap_err().to_string().contains("cannot follow an answer"));
        assert!(Prompt::read(&folder.path().join("none"), &own, &[]).is_err());
    }
}
