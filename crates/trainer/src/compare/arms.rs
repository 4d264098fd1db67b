//! What a comparison sets side by side: recipes, configuration files of one's own, and either with values changed.
//!
//! An arm is written `hcl`, `my/technique.toml`, or as a variant `hcl: loss.beta=2; batch.negatives=1`.

use std::collections::BTreeMap;
use std::fs;

use crate::config;
use crate::errors::Usage;
use crate::recipes;

/// One configuration of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Arm {
    /// As it stands in the table.
    pub(crate) name: String,
    /// Its runs' folders are called this and `-seedN`.
    pub(crate) folder: String,
    /// The recipe or file that it is made of, for messages.
    pub(crate) source: String,
    pub(crate) text: String,
    /// Values changed in this arm alone.
    pub(crate) set: Vec<(String, String)>,
}

impl Arm {
    /// Of a recipe or a file whose text is among `texts`, with the values of a variant.
    fn new(name: String, source: &str, set: Vec<(String, String)>, texts: &BTreeMap<String, String>) -> Result<Self, Usage> {
        let (source, text) = match texts.get(source) {
            Some(text) => (source.to_owned(), text.clone()),
            None => (format!("recipe {source}"), recipes::find(source)?.text.to_owned()),
        };
        let plain = |letter: char| if letter.is_ascii_alphanumeric() || "-.".contains(letter) { letter } else { '_' };
        let folder: String = name.trim_end_matches(".toml").replace(": ", "_").replace("; ", "_").chars().map(plain).collect();
        Ok(Self { name, folder, source, text, set })
    }

    /// A recipe's name, or a file.
    pub(super) fn plain(name: &str, texts: &BTreeMap<String, String>) -> Result<Self, Usage> {
        Self::new(name.to_owned(), name, Vec::new(), texts)
    }

    /// `RECIPE: KEY=VALUE; KEY=VALUE`.
    pub(super) fn variant(text: &str, texts: &BTreeMap<String, String>) -> Result<Self, Usage> {
        let (source, values) = parts(text)?;
        let values: Vec<&str> = values.split(';').map(str::trim).filter(|value| !value.is_empty()).collect();
        if values.is_empty() {
            return Err(malformed(text));
        }
        let set = values.iter().map(|value| config::split_set(value).map_err(|_| malformed(text))).collect::<Result<Vec<_>, _>>()?;
        Self::new(format!("{source}: {}", values.join("; ")), source, set, texts)
    }
}

fn parts(variant: &str) -> Result<(&str, &str), Usage> {
    variant.split_once(':').map(|(source, values)| (source.trim(), values)).ok_or_else(|| malformed(variant))
}

fn malformed(text: &str) -> Usage {
    Usage::new(format!(
        "--variant {text}: expected a recipe or a file, a colon and values, for instance --variant 'hcl: loss.beta=2; batch.negatives=1'"
    ))
}

/// The files among recipes and variants, as text: whatever ends in `.toml`.
///
/// # Errors
/// When one cannot be read or a variant has no recipe.
pub(crate) fn texts(recipes: &[String], variants: &[String]) -> Result<BTreeMap<String, String>, Usage> {
    let sources = variants.iter().map(|variant| parts(variant).map(|(source, _)| source)).collect::<Result<Vec<_>, _>>()?;
    let files = recipes.iter().map(String::as_str).chain(sources).filter(|name| name.ends_with(".toml"));
    files
        .map(|path| match fs::read_to_string(path) {
            Ok(text) => Ok((path.to_owned(), text)),
            Err(error) => Err(Usage::new(format!("{path}: {error}; expected the name of a recipe or a configuration file"))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_files_and_variants() {
        let texts = BTreeMap::from([("my/own.toml".to_owned(), "[batch]\n".to_owned())]);
        let arm = Arm::plain("hcl", &texts).unwrap();
        assert_eq!((arm.name.as_str(), arm.folder.as_str(), arm.source.as_str()), ("hcl", "hcl", "recipe hcl"));
        let arm = Arm::plain("my/own.toml", &texts).unwrap();
        assert_eq!((arm.folder.as_str(), arm.text.as_str()), ("my_own", "[batch]\n"));
        let arm = Arm::variant(" hcl :loss.beta=2;  batch.negatives = 1;", &texts).unwrap();
        assert_eq!(
            (arm.name.as_str(), arm.folder.as_str()),
            ("hcl: loss.beta=2; batch.negatives = 1", "hcl_loss.beta_2_batch.negatives___1")
        );
        assert_eq!(arm.set, [("loss.beta".to_owned(), "2".to_owned()), ("batch.negatives".to_owned(), "1".to_owned())]);
        for (text, part) in [
            ("hcl", "expected a recipe"),
            ("hcl:", "expected a recipe"),
            ("hlc: a.b=1", "`hcl`"),
            ("hcl: nothing", "--variant hcl: nothing: expected a recipe"),
        ] {
            let message = Arm::variant(text, &texts).expect_err(text).to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn files_are_read_once_and_a_missing_one_is_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("own.toml").display().to_string();
        fs::write(&path, "# text\n").unwrap();
        let found = super::texts(&["ance".into(), path.clone()], &[format!("{path}: batch.queries=8")]).unwrap();
        assert_eq!(found, BTreeMap::from([(path, "# text\n".to_owned())]));
        let error = super::texts(&["nowhere.toml".into()], &[]).unwrap_err().to_string();
        assert!(error.starts_with("nowhere.toml: "), "{error}");
    }
}
