//! Prompts: texts with `{{placeholders}}` and a version. Ours are files of this crate; a user's file takes their place.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    chat::{Message, Role},
    error::LlmError,
    prompts::Attributes,
};

/// A prompt: an optional `[system]` part, and a `[user]` part; each head stands alone on its line. A text without heads is a `[user]` part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prompt {
    /// `name@hash of the text and its parts`.
    pub version: String,
    /// The whole text.
    pub text: String,
    /// Texts that are put into it beside those of a question, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, String>,
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
        let text = read(path)?;
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
        Self {
            version: version(name, &[text]),
            text: text.to_owned(),
            parts: BTreeMap::new(),
            system: system.trim().to_owned(),
            user: user.trim().to_owned(),
        }
    }

    /// The same with a text that is put into it for every question, and makes it another version.
    fn with(mut self, name: &str, text: &str) -> Self {
        let own = self.version.rsplit_once('@').map_or(self.version.as_str(), |it| it.0).to_owned();
        self.version = version(&own, &[&self.version, name, text]);
        self.parts.insert(name.to_owned(), text.to_owned());
        self
    }

    /// The same with examples of the task, as [`read_examples`](crate::jobs::read_examples) gives them; without any it is what it was.
    ///
    /// # Errors
    /// When it has no place for them.
    pub fn with_examples(self, examples: &str) -> Result<Self, LlmError> {
        match (examples.is_empty(), self.placeholders().contains("examples")) {
            (true, _) => Ok(self),
            (false, true) => Ok(self.with("examples", examples)),
            (false, false) => {
                let why = "has no {{examples}}: put it where the examples are to stand, or leave the examples out";
                Err(LlmError::Setting(format!("the prompt {} {why}", self.version)))
            }
        }
    }

    /// The same with attributes, one of each of which is drawn for a question.
    #[must_use]
    pub fn with_attributes(self, attributes: &Attributes) -> Self {
        self.with("attributes", &attributes.text())
    }

    /// The examples that it shows; none without [`Prompt::with_examples`].
    pub(crate) fn examples(&self) -> &str {
        self.parts.get("examples").map_or("", String::as_str)
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

/// A file of the user's as text. Some editors begin one with a mark that is none of it.
pub(crate) fn read(path: &Path) -> Result<String, LlmError> {
    let text = std::fs::read_to_string(path).map_err(LlmError::io(path))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// `name@hash`, the hash being eight digits of that of some texts.
fn version(name: &str, texts: &[&str]) -> String {
    let bytes: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
    // Between two texts stands what no text has.
    let hash: String = Sha256::digest(bytes.join(&0xff)).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{name}@{hash}")
}

/// The names between double braces, with blanks around them or not. What is no name, as in JSON, is no placeholder.
fn placeholders(text: &str) -> Vec<&str> {
    text.split("{{").skip(1).filter_map(|rest| name_in(rest.split_once("}}")?.0)).collect()
}

fn name_in(braces: &str) -> Option<&str> {
    let name = braces.trim_matches([' ', '\t']);
    (!name.is_empty() && name.chars().all(|it| it.is_alphanumeric() || matches!(it, '_' | '-'))).then_some(name)
}

fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 2..];
        let known = behind.split_once("}}").and_then(|(braces, after)| {
            let name = name_in(braces)?;
            Some((values.iter().find(|it| it.0 == name)?.1, after))
        });
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
        // Blanks inside the braces and a mark in front of the text change nothing.
        let marked = read("\u{feff}[system]\nBe brief.\n[user]\nAbout {{ document }}").unwrap_err().to_string();
        assert!(marked.contains("cannot follow an answer"), "{marked}");
        let blanks = read("About {{ document }}").unwrap();
        assert_eq!(blanks.filled(&[("document", "this")]), [Message::new(Role::User, "About this")]);
        for odd in ["{{Document}}", "{{document2}}", "{{ doc-ument }}", "{{Dokument_Ä}}"] {
            let message = read(&format!("{{{{document}}}}\n\n{odd}")).unwrap_err().to_string();
            assert!(message.contains("mine.txt:3: nothing is put in the place of"), "{message}");
        }
        read("{{document}} {\"a\": {{\"b\": 1}}} {{}}").unwrap();
    }

    #[test]
    fn examples_and_attributes_are_part_of_the_version_and_are_kept() {
        let prompt = Prompt::builtin("p", "{{examples}}{{document}}");
        let shown = prompt.clone().with_examples("one").unwrap();
        assert_eq!(prompt.clone().with_examples("").unwrap(), prompt);
        assert!(shown.version.starts_with("p@") && shown.version.len() == 10);
        let versions: BTreeSet<_> = [&prompt, &shown, &prompt.clone().with_examples("two").unwrap()].map(|it| it.version.clone()).into();
        assert_eq!(versions.len(), 3);
        assert_eq!((shown.examples(), prompt.examples()), ("one", ""));
        assert_eq!(serde_json::to_value(&shown).unwrap()["parts"]["examples"], "one");
        let message = Prompt::builtin("p", "{{document}}").with_examples("one").unwrap_err().to_string();
        assert!(message.contains("p@") && message.contains("has no {{examples}}"), "{message}");
        let drawn = prompt.clone().with_attributes(&Attributes::of_negatives(None).unwrap());
        assert_ne!(drawn.version, prompt.version);
        assert!(drawn.parts["attributes"].contains("\"difficulty\""), "{drawn:?}");
    }
}
