//! The recipes of `configs/`, compiled into the command.
//!
//! A recipe is a configuration whose comment lines at the top say what it is: `# name: ...`, `# paper: ...`, `# family: ...`,
//! `# cost: ...`, `# needs: ...`. Adding one is adding a file there and a line here.

use serde::Serialize;

use crate::errors::Usage;

/// The recipe of `trainer train` without arguments.
pub(crate) const DEFAULT: &str = "ance";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
}

/// The head of a recipe.
#[derive(Debug, Serialize)]
pub(crate) struct Head {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) paper: &'static str,
    pub(crate) family: &'static str,
    pub(crate) cost: &'static str,
    pub(crate) needs: &'static str,
}

macro_rules! recipes {
    ($($name:literal),* $(,)?) => { &[$(Recipe { name: $name, text: include_str!(concat!("../../../configs/", $name, ".toml")) }),*] };
}

/// All recipes, in the order in which they are listed.
pub(crate) const ALL: &[Recipe] = recipes![
    "random",
    "in-batch",
    "cross-batch",
    "grad-cache",
    "moco-queue",
    "memory-bank",
    "tas-b",
    "cluster-batch",
    "bm25",
    "dpr",
    "dpr-adv-hn",
    "static-dense",
    "bge-hn",
    "star",
    "cocondenser",
    "indi",
    "ensemble-mined",
    "lce",
    "ance",
    "rance",
    "adore",
    "conan-dhnm",
    "simans",
    "trisampler",
    "nv-retriever",
    "qwen3-mask",
    "gistembed",
    "cached-gist",
    "debiased",
    "hcl",
    "ccr",
    "passage-sieve",
    "margin-mse",
    "kl-distill",
    "rlhn",
    "arhn",
    "gpl",
    "inpars",
    "promptagator",
    "e5-synthetic",
    "gecko",
    "syneg",
    "llm-negative",
    "mochi",
    "rocketqa",
    "rocketqa-v2",
    "pair",
    "ar2",
    "simlm",
];

impl Recipe {
    pub(crate) fn head(&self) -> Head {
        let field = |name: &str| {
            let prefix = format!("# {name}: ");
            self.text.lines().find_map(|line| line.strip_prefix(prefix.as_str())).unwrap_or("")
        };
        Head {
            name: self.name,
            what: field("what"),
            paper: field("paper"),
            family: field("family"),
            cost: field("cost"),
            needs: field("needs"),
        }
    }
}

/// A recipe by name; a wrong name is answered with the nearest one.
pub(crate) fn find(name: &str) -> Result<&'static Recipe, Usage> {
    ALL.iter().find(|recipe| recipe.name == name).ok_or_else(|| {
        if name.ends_with(".toml") {
            return Usage::new(format!("there is no recipe `{name}`; a configuration file is given without --recipe"));
        }
        let written = name.to_lowercase().replace(['_', ' '], "-");
        let closeness = |recipe: &Recipe| strsim::jaro_winkler(&written, recipe.name);
        let nearest = ALL.iter().max_by(|a, b| closeness(a).total_cmp(&closeness(b)));
        Usage::new(format!(
            "there is no recipe `{name}`; did you mean `{}`? `trainer recipes` lists all",
            nearest.map_or(DEFAULT, |recipe| recipe.name)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_a_valid_configuration_with_a_full_head() {
        for recipe in ALL {
            // Decisions are a file of the user's.
            let given = [("data.decisions".to_owned(), "decisions.jsonl".to_owned())];
            let given = if recipe.head().needs.contains("data.decisions = FILE") { &given[..] } else { &[] };
            crate::config::merge(recipe.name, recipe.text, given).unwrap_or_else(|error| panic!("{}: {error}", recipe.name));
            let head = recipe.head();
            for (field, value) in
                [("what", head.what), ("paper", head.paper), ("family", head.family), ("cost", head.cost), ("needs", head.needs)]
            {
                assert!(!value.is_empty(), "configs/{}.toml has no `# {field}: ` line", recipe.name);
            }
        }
    }

    /// The words of code, identifiers taken apart, without comments and without its tests.
    fn words(code: &str) -> Vec<String> {
        let code = code.split("\n#[cfg(test)]").next().unwrap_or_default();
        let mut words = vec![String::new()];
        for line in code.lines() {
            // A string that holds two slashes would be cut too; there is none.
            for letter in line.split("//").next().unwrap_or_default().chars() {
                let last = words.len() - 1;
                if !letter.is_ascii_alphanumeric() || letter.is_ascii_uppercase() && words[last].chars().any(|it| it.is_ascii_lowercase()) {
                    words.push(String::new());
                }
                let last = words.len() - 1;
                words[last].extend(letter.to_lowercase().filter(char::is_ascii_alphanumeric));
            }
            words.push(String::new());
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn no_technique_has_a_name_in_the_training_loop() {
        // Recipes that are called after a part of the algebra or a plain word: a source of columns, a way to compose batches, the lexical
        // baseline, a query with its positive.
        const WORDS_OF_THE_ALGEBRA: [&str; 4] = ["in-batch", "random", "bm25", "pair"];
        let loops = [
            ("train.rs", include_str!("train.rs")),
            ("train/milestones.rs", include_str!("train/milestones.rs")),
            ("step.rs", include_str!("step.rs")),
            ("columns.rs", include_str!("columns.rs")),
            ("batches.rs", include_str!("batches.rs")),
            ("plan.rs", include_str!("plan.rs")),
            ("stage.rs", include_str!("stage.rs")),
            ("setup.rs", include_str!("setup.rs")),
            ("labels.rs", include_str!("labels.rs")),
            ("guide.rs", include_str!("guide.rs")),
            ("models.rs", include_str!("models.rs")),
            ("reranker.rs", include_str!("reranker.rs")),
            ("rounds.rs", include_str!("rounds.rs")),
            ("compared.rs", include_str!("compared.rs")),
        ];
        for (file, code) in loops {
            let words = words(code);
            assert!(words.len() > 100, "{file}");
            for recipe in ALL.iter().filter(|recipe| !WORDS_OF_THE_ALGEBRA.contains(&recipe.name)) {
                let name: Vec<&str> = recipe.name.split('-').collect();
                let there = |name: &[&str]| words.windows(name.len()).any(|window| window.iter().zip(name).all(|(a, b)| a == b));
                let joined = name.concat();
                assert!(!there(&name) && !there(&[joined.as_str()]), "{file} names {}", recipe.name);
            }
        }
        let found = words("let x = Ance::new(tas_b, \"grad-cache\"); // star\n#[cfg(test)]\nmod dpr");
        assert_eq!(found, ["let", "x", "ance", "new", "tas", "b", "grad", "cache"]);
    }

    #[test]
    fn a_misspelt_recipe_names_the_nearest() {
        for (written, expected) in [("anse", "`ance`"), ("ANCE", "`ance`"), ("TAS_B", "`tas-b`"), ("my.toml", "without --recipe")] {
            let error = find(written).expect_err("no such recipe").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
