//! What a comparison was asked for, and `compare.toml`, which remembers it.
//!
//! A folder belongs to one request. Asked for again, it goes on; asked for something else, it is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::arms::Arm;
use crate::config::{self, Config};
use crate::errors::Usage;
use crate::runfolder::write_whole;

const MANIFEST: &str = "compare.toml";

/// What every run may spend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Budget {
    Steps(usize),
    /// Wall time of training and mining, evaluation left out.
    Seconds(f64),
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.trim();
        let number = |suffix: &str| bare.strip_suffix(suffix).map(str::trim);
        let steps = number("steps").or_else(|| number("step")).and_then(|count| count.parse().ok()).filter(|&count: &usize| count > 0);
        let seconds = || number("s").and_then(|count| count.parse().ok()).filter(|&count: &f64| count > 0.0 && count.is_finite());
        steps
            .map(Self::Steps)
            .or_else(|| seconds().map(Self::Seconds))
            .ok_or_else(|| format!("--budget {text}: expected steps or seconds above 0, for instance 500steps or 120s"))
    }
}

impl std::fmt::Display for Budget {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Steps(count) => write!(formatter, "{count}steps"),
            Self::Seconds(count) => write!(formatter, "{count}s"),
        }
    }
}

impl TryFrom<String> for Budget {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> Self {
        budget.to_string()
    }
}

/// A comparison as asked for; two equal requests are the same comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// Recipes and files. The first one is what the others are measured against.
    pub(crate) recipes: Vec<String>,
    /// Recipes and files with values changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) variants: Vec<String>,
    pub(crate) data: String,
    /// Left out: what the recipes say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// Seeds 1 to this.
    pub(crate) seeds: u64,
    /// Left out: the steps of the first recipe, for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget: Option<Budget>,
    pub(crate) device: String,
    pub(crate) set: Vec<String>,
    /// What stood in the files.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) texts: BTreeMap<String, String>,
}

/// Keys that the comparison decides, and the flag that does.
const DECIDED: [(&str, &str); 5] = [
    ("train.seed", "--seeds"),
    ("output.folder", "--out"),
    ("data.path", "--data"),
    ("encoder.model", "--model"),
    ("train.device", "--device"),
];

impl Request {
    /// Checks everything that needs neither data nor device: names, keys, and the configuration of every recipe.
    pub(crate) fn validate(&self) -> Result<(), Usage> {
        if self.recipes.is_empty() || self.seeds == 0 {
            return Err(Usage::new("a comparison needs at least one recipe and one seed"));
        }
        let arms = self.arms()?;
        for (position, arm) in arms.iter().enumerate() {
            if arms[..position].iter().any(|other| other.folder == arm.folder) {
                return Err(Usage::new(format!("--recipes, --variant: `{}` stands twice; name each once", arm.name)));
            }
        }
        for set in &self.set {
            self.free(&config::split_set(set)?.0, &format!("--set {set}"))?;
        }
        for arm in &arms {
            for (key, _) in &arm.set {
                self.free(key, &format!("--variant {}", arm.name))?;
                let decided = ["batch.queries", "train.steps", "train.seconds", "train.epochs"];
                if decided.iter().any(|name| key == name || key.starts_with("round.") && key.ends_with(name)) {
                    return Err(Usage::new(format!(
                        "--variant {}: {key} is the same for all runs, for their budget to be equal; use --budget, or --set for all",
                        arm.name
                    )));
                }
            }
            self.config(arm, 1, None, Path::new("run"))?;
        }
        Ok(())
    }

    /// A key that the comparison does not decide.
    fn free(&self, key: &str, place: &str) -> Result<(), Usage> {
        if let Some((_, flag)) = DECIDED.iter().find(|(decided, _)| *decided == key) {
            return Err(Usage::new(format!("{place}: the comparison decides {key}; use {flag}")));
        }
        if self.budget.is_some() && ["train.steps", "train.seconds", "train.epochs"].contains(&key) {
            return Err(Usage::new(format!("{place}: --budget decides how long a run is; give one of the two")));
        }
        Ok(())
    }

    /// What is compared, the one that the others are measured against first.
    pub(crate) fn arms(&self) -> Result<Vec<Arm>, Usage> {
        let plain = self.recipes.iter().map(|name| Arm::plain(name, &self.texts));
        plain.chain(self.variants.iter().map(|text| Arm::variant(text, &self.texts))).collect()
    }

    /// The configuration of one run. `steps` is the length of all runs when the budget does not say. Every arm gets the first one's
    /// queries a batch, in every round, without which steps would not be an equal budget.
    pub(crate) fn config(&self, arm: &Arm, seed: u64, steps: Option<usize>, folder: &Path) -> Result<Config, Usage> {
        let queries = self.merge(&Arm::plain(&self.recipes[0], &self.texts)?, Vec::new())?.batch.queries;
        let text = |value: &str| toml::Value::String(value.to_owned()).to_string();
        let mut values = vec![
            ("batch.queries".to_owned(), queries.to_string()),
            ("train.seed".to_owned(), seed.to_string()),
            ("train.device".to_owned(), text(&self.device)),
            ("output.folder".to_owned(), text(&folder.display().to_string())),
        ];
        // A round of its own size too.
        let rounds = self.merge(arm, Vec::new())?.round;
        let sized = |round: &toml::Table| matches!(round.get("batch"), Some(toml::Value::Table(batch)) if batch.contains_key("queries"));
        let sized = rounds.iter().enumerate().filter(|(_, round)| sized(round));
        values.extend(sized.map(|(number, _)| (format!("round.{number}.batch.queries"), queries.to_string())));
        match (self.budget, steps) {
            (Some(Budget::Steps(steps)), _) | (None, Some(steps)) => values.push(("train.steps".to_owned(), steps.to_string())),
            (Some(Budget::Seconds(seconds)), _) => values.push(("train.seconds".to_owned(), seconds.to_string())),
            (None, None) => {}
        }
        self.merge(arm, values)
    }

    fn merge(&self, arm: &Arm, last: Vec<(String, String)>) -> Result<Config, Usage> {
        let mut values = vec![("data.path".to_owned(), toml::Value::String(self.data.clone()).to_string())];
        values.extend(self.model.iter().map(|model| ("encoder.model".to_owned(), toml::Value::String(model.clone()).to_string())));
        for set in &self.set {
            values.push(config::split_set(set)?);
        }
        values.extend(arm.set.iter().cloned());
        values.extend(last);
        let name = &arm.source;
        config::merge(name, &arm.text, &values).map_err(|error| {
            let message = error.to_string();
            // A value of a variant was not given by --set.
            let own = arm.set.iter().find_map(|(key, value)| message.strip_prefix(&format!("--set {key}={value}: ")));
            if let Some(reason) = own {
                return Usage::new(format!("--variant {}: {reason}", arm.name));
            }
            Usage::new(if message.starts_with(name.as_str()) { message } else { format!("{name}: {message}") })
        })
    }

    /// What differs first, for a person: the part, its value here and there.
    fn difference(&self, other: &Self) -> Option<String> {
        let list = |values: &[String]| if values.is_empty() { "none".to_owned() } else { values.join(", ") };
        let budget = |budget: Option<Budget>| budget.map_or_else(|| "the first recipe's steps".to_owned(), |budget| budget.to_string());
        let model = |model: &Option<String>| model.clone().unwrap_or_else(|| "what the recipes say".to_owned());
        let parts = [
            ("recipes", list(&self.recipes), list(&other.recipes)),
            ("variants", list(&self.variants), list(&other.variants)),
            ("data", self.data.clone(), other.data.clone()),
            ("model", model(&self.model), model(&other.model)),
            ("seeds", self.seeds.to_string(), other.seeds.to_string()),
            ("budget", budget(self.budget), budget(other.budget)),
            ("device", self.device.clone(), other.device.clone()),
            ("set values", list(&self.set), list(&other.set)),
        ];
        let changed = self.texts.iter().find(|(path, text)| other.texts.get(*path) != Some(text));
        let changed = changed.map(|(path, _)| format!("{path} has changed since"));
        parts
            .into_iter()
            .find(|(_, ours, theirs)| ours != theirs)
            .map(|(part, ours, theirs)| format!("{part}: {ours} there, {theirs} asked"))
            .or(changed)
    }
}

/// The folder of a comparison, made or found again. Without a name: `runs/compare-N`, the first that holds this request or nothing.
pub(crate) fn open_folder(asked: Option<&Path>, request: &Request) -> Result<PathBuf> {
    let folder = match asked {
        Some(folder) => folder.to_owned(),
        None => {
            let mut candidates = (1u32..).map(|number| PathBuf::from("runs").join(format!("compare-{number}")));
            candidates.find(|folder| !folder.exists() || read(folder).is_ok_and(|found| found == *request)).context("no folder is free")?
        }
    };
    let manifest = folder.join(MANIFEST);
    if manifest.is_file() {
        if let Some(difference) = read(&folder)?.difference(request) {
            return Err(Usage::new(format!(
                "{} holds another comparison ({difference}); choose another --out, or ask for the same again to go on with it",
                folder.display()
            ))
            .into());
        }
        return Ok(folder);
    }
    let in_use = folder.exists() && fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?.next().is_some();
    if in_use {
        return Err(Usage::new(format!("{} is not empty and holds no comparison; choose another --out", folder.display())).into());
    }
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    write_whole(&manifest, toml::to_string(request).context("writing the manifest")?.as_bytes())?;
    Ok(folder)
}

fn read(folder: &Path) -> Result<Request, Usage> {
    let path = folder.join(MANIFEST);
    let fault = |reason: String| Usage::new(format!("{}: {reason}", path.display()));
    let text = fs::read_to_string(&path).map_err(|error| fault(error.to_string()))?;
    toml::from_str(&text).map_err(|error| fault(error.message().replace('\n', "; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut Request);

    fn request() -> Request {
        Request {
            recipes: vec!["ance".into(), "in-batch".into()],
            variants: Vec::new(),
            texts: BTreeMap::new(),
            data: "builtin:demo".into(),
            model: None,
            seeds: 2,
            budget: Some(Budget::Steps(20)),
            device: "cpu".into(),
            set: vec!["train.learning_rate=0.01".into()],
        }
    }

    #[test]
    fn a_budget_is_steps_or_seconds() {
        for (text, budget) in [
            ("500steps", Budget::Steps(500)),
            (" 1 step", Budget::Steps(1)),
            ("500 steps", Budget::Steps(500)),
            ("120s", Budget::Seconds(120.0)),
            ("1.5 s", Budget::Seconds(1.5)),
        ] {
            assert_eq!(text.parse(), Ok(budget), "{text}");
            assert_eq!(budget.to_string().parse(), Ok(budget));
        }
        for text in ["", "500", "0steps", "-1s", "0s", "infs", "nans", "2.5steps", "steps", "10 epochs", "1h"] {
            let error = text.parse::<Budget>().expect_err(text);
            assert!(error.contains("500steps or 120s"), "{error}");
        }
    }

    #[test]
    fn the_manifest_reads_back_and_the_first_difference_is_named() {
        let request = request();
        let text = toml::to_string(&request).unwrap();
        assert_eq!(toml::from_str::<Request>(&text).unwrap(), request);
        assert_eq!(request.difference(&request.clone()), None);
        let changes: [(Change, &str); 8] = [
            (|it| it.variants.push("ance: batch.negatives=2".into()), "variants: none there, ance: batch.negatives=2 asked"),
            (|it| it.recipes.swap(0, 1), "recipes: ance, in-batch there, in-batch, ance asked"),
            (|it| it.data = "x".into(), "data: builtin:demo there, x asked"),
            (|it| it.model = Some("m".into()), "model: what the recipes say there, m asked"),
            (|it| it.seeds = 3, "seeds: 2 there, 3 asked"),
            (|it| it.budget = None, "budget: 20steps there, the first recipe's steps asked"),
            (|it| it.device = "gpu".into(), "device: cpu there, gpu asked"),
            (|it| it.set.clear(), "set values: train.learning_rate=0.01 there, none asked"),
        ];
        let with_file = |text: &str| Request { texts: BTreeMap::from([("own.toml".into(), text.into())]), ..request.clone() };
        assert_eq!(with_file("a").difference(&with_file("b")).as_deref(), Some("own.toml has changed since"));
        for (change, message) in changes {
            let mut other = request.clone();
            change(&mut other);
            assert_eq!(request.difference(&other).as_deref(), Some(message));
        }
    }

    #[test]
    fn a_folder_belongs_to_one_request() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("c");
        open_folder(Some(&folder), &request()).unwrap();
        open_folder(Some(&folder), &request()).unwrap();
        let error = open_folder(Some(&folder), &Request { seeds: 5, ..request() }).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("seeds: 2 there, 5 asked"), "{error}");
        let other = place.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("precious"), "x").unwrap();
        assert!(open_folder(Some(&other), &request()).unwrap_err().to_string().contains("not empty"));
    }

    #[test]
    fn every_recipe_gets_the_same_batch_size_seed_and_budget() {
        let mut request = request();
        request.set.push("batch.queries=48".into());
        request.validate().unwrap();
        request.variants.push("in-batch: train.weight_decay=0.5".into());
        for arm in request.arms().unwrap() {
            let config = request.config(&arm, 2, Some(99), Path::new("x")).unwrap();
            assert_eq!((config.batch.queries, config.train.seed, config.train.steps), (48, 2, Some(20)), "{}", arm.name);
            assert_eq!(config.train.weight_decay == 0.5, arm.name.contains(':'), "{}", arm.name);
            assert_eq!((config.train.learning_rate, config.output.folder.as_deref()), (Some(0.01), Some("x")));
        }
        let open = Request { budget: None, ..request };
        // Rounds of another size are brought to it too.
        let rounds = Request { recipes: vec!["in-batch".into(), "ar2".into()], ..open.clone() };
        let config = rounds.config(&rounds.arms().unwrap()[1], 1, Some(7), Path::new("x")).unwrap();
        let sizes: Vec<usize> = (0..config.rounds()).map(|round| config.of_round(round).unwrap().batch.queries).collect();
        assert_eq!(sizes, [48; 4]);
        let config = open.config(&open.arms().unwrap()[1], 1, Some(7), Path::new("x")).unwrap();
        assert_eq!(config.train.steps, Some(7));
    }

    #[test]
    fn wrong_requests_say_what_is_wrong() {
        let cases: [(Change, &str); 11] = [
            (|it| it.variants.push("ance".into()), "expected a recipe"),
            (|it| it.variants.push("ance: train.seed=3".into()), "--seeds"),
            (|it| it.variants.push("ance: batch.queries=3".into()), "the same for all runs"),
            (|it| it.variants.push("ance: batch.negativez=3".into()), "--variant ance: batch.negativez=3: unknown key `negativez`"),
            (|it| it.recipes.push("anse".into()), "`ance`"),
            (|it| it.recipes.push("ance".into()), "stands twice"),
            (|it| it.seeds = 0, "one seed"),
            (|it| it.set.push("train.seed=3".into()), "--seeds"),
            (|it| it.set.push("train.steps=3".into()), "--budget"),
            (|it| it.set.push("train.stepz=3".into()), "recipe ance: --set train.stepz=3"),
            (|it| it.set.push("negatives.source.1.depth=3".into()), "recipe in-batch: --set negatives.source.1.depth=3"),
        ];
        for (change, part) in cases {
            let mut wrong = request();
            change(&mut wrong);
            let message = wrong.validate().expect_err(part).to_string();
            assert!(message.contains(part), "expected {part:?} in: {message}");
        }
    }
}
