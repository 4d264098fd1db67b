//! The prompts that come with the program, and the attributes that are drawn for some of them.

use std::{collections::BTreeMap, path::Path};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::{
    error::LlmError,
    prompt::{self, Prompt},
};

macro_rules! prompts {
    ($($(#[$about:meta])* $name:ident = $file:literal needs [$($needed:literal),*];)*) => {
        $($(#[$about])*
        ///
        /// A `file` takes its place.
        ///
        /// # Errors
        /// When the file cannot be read, is empty, uses a placeholder that nothing fills, or lacks one that is needed.
        pub fn $name(file: Option<&Path>) -> Result<Prompt, LlmError> {
            let own = Prompt::builtin($file, include_str!(concat!("../prompts/", $file, ".txt")));
            file.map_or_else(|| Ok(own.clone()), |path| Prompt::read(path, &own, &[$($needed),*]))
        })*

        #[cfg(test)]
        const ALL: &[(&str, &str, &[&str])] = &[$(($file, include_str!(concat!("../prompts/", $file, ".txt")), &[$($needed),*])),*];
    };
}

prompts! {
    /// A query for a document (InPars, arXiv 2202.05144; Promptagator, arXiv 2209.11755).
    queries = "queries" needs ["document"];
    /// A task and a query for a document (Gecko, arXiv 2403.20327).
    gecko_query = "gecko-query" needs ["document"];
    /// How relevant passages are (Gecko's relevance classification).
    gecko_relevance = "gecko-relevance" needs ["query", "passages"];
    /// How likely a query is, given a passage (Gecko's query likelihood).
    gecko_likelihood = "gecko-likelihood" needs ["query", "passages"];
    /// Retrieval tasks (the first step of E5-mistral, arXiv 2401.00368).
    triple_tasks = "triple-tasks" needs ["count"];
    /// A query with a positive and a hard negative (its second step).
    triples = "triples" needs ["task"];
    /// Hard negatives from a query and its positives, with attributes and reflection (SyNeg, arXiv 2412.17250).
    negatives_pair = "negatives-pair" needs ["query", "positives", "count"];
    /// Hard negatives from the query alone (arXiv 2504.21015).
    negatives_query = "negatives-query" needs ["query", "count"];
    /// Which mined negatives are relevant (RLHN, arXiv 2505.16967).
    relabel = "relabel" needs ["query", "passages"];
    /// Answers in passages (the first stage of ARHN, arXiv 2604.11092).
    answers = "answers" needs ["query", "passages"];
    /// A ranking of passages (its second stage).
    ranking = "ranking" needs ["query", "passages"];
    /// What an answer is sent back with that has not the form asked for, in every job. It follows the answer as the user's next turn.
    repair = "repair" needs ["problem"];
}

/// Values of attributes, from which one each is drawn for a question. They fill placeholders of the same names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes(BTreeMap<String, Vec<String>>);

impl Attributes {
    /// `{"name": ["value", …]}`; a `file` takes the place of ours and must have the same names.
    ///
    /// # Errors
    /// When the file cannot be read, is not of that form, or has other names.
    fn load(own: &str, file: Option<&Path>) -> Result<Self, LlmError> {
        let own: BTreeMap<String, Vec<String>> = serde_json::from_str(own).map_err(|error| LlmError::Setting(error.to_string()))?;
        let Some(path) = file else { return Ok(Self(own)) };
        let text = prompt::read(path)?;
        let names = own.keys().cloned().collect::<Vec<_>>().join(", ");
        let fault = |problem: String| LlmError::Text {
            place: path.display().to_string(),
            problem,
            expected: format!("{{\"name\": [\"value\", …]}} with the names {names}"),
        };
        let given: BTreeMap<String, Vec<String>> = serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
        if let Some(odd) = given.keys().find(|name| !own.contains_key(*name)) {
            return Err(fault(format!("no attribute is called `{odd}`")));
        }
        if let Some(lacking) = own.keys().find(|name| given.get(*name).is_none_or(Vec::is_empty)) {
            return Err(fault(format!("`{lacking}` has no values")));
        }
        Ok(Self(given))
    }

    /// Those of hard negatives: `kind`, `length`, `difficulty`.
    ///
    /// # Errors
    /// When the file in their place is faulty.
    pub fn of_negatives(file: Option<&Path>) -> Result<Self, LlmError> {
        Self::load(include_str!("../prompts/negatives.attributes.json"), file)
    }

    /// Those of triples: `query_type`, `query_length`, `document_length`, `difficulty`.
    ///
    /// # Errors
    /// When the file in their place is faulty.
    pub fn of_triples(file: Option<&Path>) -> Result<Self, LlmError> {
        Self::load(include_str!("../prompts/triples.attributes.json"), file)
    }

    /// All of them, as a file has them.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// One value of each, a function of the seed and of what it is for.
    pub(crate) fn draw(&self, seed: u64, what_for: &str) -> Vec<(&str, &str)> {
        let mut random = random(seed, what_for);
        self.0.iter().map(|(name, values)| (name.as_str(), values[random.random_range(0..values.len())].as_str())).collect()
    }
}

/// A generator that is a function of the seed and of what it is for.
pub(crate) fn random(seed: u64, what_for: &str) -> ChaCha8Rng {
    let hash = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(what_for.as_bytes()).finalize();
    ChaCha8Rng::from_seed(hash.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_has_what_it_needs() {
        for (name, text, needed) in ALL {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("own.txt");
            std::fs::write(&path, text).unwrap();
            let own = Prompt::builtin(name, text);
            assert!(Prompt::read(&path, &own, needed).is_ok(), "{name}");
            assert_eq!(own.filled(&[]).len(), if *name == "repair" { 1 } else { 2 }, "{name}: a system part begins a conversation");
        }
    }

    #[test]
    fn attributes_are_drawn_by_seed_and_purpose_and_evenly() {
        let attributes = Attributes::of_negatives(None).unwrap();
        assert_eq!(attributes.draw(1, "q1"), attributes.draw(1, "q1"));
        assert_eq!(attributes.draw(1, "q1").iter().map(|it| it.0).collect::<Vec<_>>(), ["difficulty", "kind", "length"]);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for at in 0..3000 {
            let drawn = attributes.draw(1, &format!("q{at}"));
            *counts.entry(drawn[0].1.to_owned()).or_default() += 1;
        }
        // 1,000 each; the standard deviation is 26.
        assert!(counts.len() == 3 && counts.values().all(|count| count.abs_diff(1000) < 150), "{counts:?}");
    }

    #[test]
    fn a_file_of_attributes_has_the_same_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("attributes.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Attributes::of_negatives(Some(&path)).map_err(|error| error.to_string())
        };
        let good = r#"{"kind": ["a"], "length": ["b"], "difficulty": ["c"]}"#;
        assert_eq!(read(good).unwrap().draw(7, "x"), [("difficulty", "c"), ("kind", "a"), ("length", "b")]);
        assert!(read(r#"{"kind": ["a"]}"#).unwrap_err().contains("`difficulty` has no values"));
        assert!(read(r#"{"style": ["a"]}"#).unwrap_err().contains("`style`"));
        assert!(read("[]").unwrap_err().contains("kind, length"));
    }
}
