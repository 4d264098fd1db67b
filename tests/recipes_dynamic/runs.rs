//! Short runs of a recipe on builtin:demo, taken apart; and rows of its texts, so that a test can compute what a run should have done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use corpus::Collection;
use safetensors::SafeTensors;
use serde_json::{Value, json as object};

use crate::command::{json, stderr, trainer};

/// The temperature of a static encoder where the recipe leaves it out.
pub(crate) const TEMPERATURE: f64 = 0.15;

/// What builtin:demo is.
pub(crate) static DEMO: LazyLock<Collection> = LazyLock::new(corpus::demo::generate);

/// What a run left behind.
pub(crate) struct Run {
    pub(crate) path: PathBuf,
    pub(crate) events: Vec<Value>,
    /// The lines of batches.jsonl.
    pub(crate) batches: Vec<Value>,
}

/// Trains a recipe on 512 pairs of builtin:demo, without evaluation on the way, into the folder `out`. `set` are values,
/// or flags that start with `--`, each with its word.
pub(crate) fn train(folder: &Path, recipe: &str, out: &str, set: &[&str]) -> Run {
    let common = ["data.limit=512", "train.evaluate_every=0", "train.checkpoint_every=0", "train.log_batches=true"];
    let mut arguments = vec!["train", "--recipe", recipe, "--out", out, "--device", "cpu", "--json"];
    let mut plain = false;
    for &word in common.iter().chain(set) {
        // A flag, and the word after it.
        if word.starts_with("--") || plain {
            plain = word.starts_with("--");
            arguments.push(word);
        } else {
            arguments.extend(["--set", word]);
        }
    }
    // One cache of tokens for all runs: the collection is always the same.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recipes-cache");
    let output = trainer(folder).args(&arguments).env("DREDGE_CACHE", cache).output().expect("the command starts");
    assert!(output.status.success(), "{arguments:?} failed: {}", stderr(&output));
    let path = folder.join(out);
    Run { events: lines(&path.join("run.jsonl")), batches: lines(&path.join("batches.jsonl")), path }
}

/// Encoders that several tests start from, as absolute paths of model folders; trained once.
pub(crate) struct Models {
    /// What runs start from: a single step has the learning rate 0.
    pub(crate) start: String,
    /// One that knows something of builtin:demo.
    pub(crate) trained: String,
}

pub(crate) static MODELS: LazyLock<Models> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recipes");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let model = |out: &str, set: &[&str]| train(&folder, "in-batch", out, set).path.join("model").display().to_string();
    Models { start: model("start", &["train.steps=1"]), trained: model("trained", &["train.steps=200", "data.limit=0"]) }
});

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

impl Run {
    /// The lists of a version with the teacher's score of each candidate, by query.
    pub(crate) fn lists(&self, version: usize) -> BTreeMap<String, BTreeMap<String, f64>> {
        let lists = lines(&self.path.join(format!("negatives/version-{version}.jsonl")));
        let score = |it: &Value| (it["id"].as_str().unwrap().to_owned(), it["teacher"].as_f64().unwrap());
        let row =
            |row: &Value| (row["query_id"].as_str().unwrap().to_owned(), row["negatives"].as_array().unwrap().iter().map(score).collect());
        lists.iter().skip(1).map(row).collect()
    }

    /// The events of one kind.
    pub(crate) fn events(&self, kind: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["event"] == kind).collect()
    }

    /// A number of every step.
    pub(crate) fn steps(&self, key: &str) -> Vec<f64> {
        self.events("step").iter().map(|step| step[key].as_f64().unwrap_or_else(|| panic!("no {key} in {step}"))).collect()
    }

    pub(crate) fn losses(&self) -> Vec<f64> {
        self.steps("loss")
    }

    /// The lists of one version of the negatives, by query.
    pub(crate) fn version(&self, number: usize) -> BTreeMap<String, Vec<Negative>> {
        let rows = lines(&self.path.join(format!("negatives/version-{number}.jsonl")));
        rows.iter().skip(1).map(|row| (text(&row["query_id"]), negatives(row))).collect()
    }

    /// Everything that was drawn: step, query, positive, negatives.
    pub(crate) fn drawn(&self) -> Vec<Drawn> {
        let rows = self.batches.iter().flat_map(|line| line["rows"].as_array().unwrap().iter().map(|row| (&line["step"], row)));
        rows.map(|(step, row)| Drawn {
            step: step.as_u64().unwrap() as usize,
            query: text(&row["query"]),
            positive: text(&row["positive"]),
            negatives: negatives(row),
        })
        .collect()
    }

    /// (query, positive) of every row of one step.
    pub(crate) fn pairs(&self, step: usize) -> Vec<(String, String)> {
        self.drawn().into_iter().filter(|row| row.step == step).map(|row| (row.query, row.positive)).collect()
    }
}

/// One row of a batch.
pub(crate) struct Drawn {
    pub(crate) step: usize,
    pub(crate) query: String,
    pub(crate) positive: String,
    pub(crate) negatives: Vec<Negative>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Negative {
    pub(crate) id: String,
    pub(crate) rank: usize,
    pub(crate) score: f64,
}

fn negatives(row: &Value) -> Vec<Negative> {
    let negative = |it: &Value| Negative {
        id: text(&it["id"]),
        rank: it["rank"].as_u64().unwrap() as usize,
        score: it["score"].as_f64().unwrap_or(f64::NAN),
    };
    row["negatives"].as_array().unwrap().iter().map(negative).collect()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The rows of batches.jsonl in these steps.
pub(crate) fn rows(run: &Run, steps: std::ops::Range<usize>) -> Vec<&Value> {
    let lines = run.batches.iter().filter(|line| steps.contains(&(line["step"].as_u64().unwrap() as usize)));
    lines.flat_map(|line| line["rows"].as_array().unwrap()).collect()
}

/// Names of the sources of everything drawn in these steps.
pub(crate) fn sources(run: &Run, steps: std::ops::Range<usize>) -> BTreeSet<String> {
    rows(run, steps).iter().flat_map(|row| row["negatives"].as_array().unwrap()).map(|it| text(&it["source"])).collect()
}

/// How many columns each step had.
pub(crate) fn columns(run: &Run) -> Vec<u64> {
    run.batches.iter().map(|line| line["columns"].as_u64().unwrap()).collect()
}

/// The rows of a version by query, as written.
pub(crate) fn raw_lists(run: &Run, version: usize) -> BTreeMap<String, Value> {
    let rows = lines(&run.path.join(format!("negatives/version-{version}.jsonl")));
    rows.into_iter().skip(1).map(|row| (text(&row["query_id"]), row)).collect()
}

/// Float tensors of a safetensors file by name.
pub(crate) fn tensors(path: &Path) -> BTreeMap<String, Vec<f64>> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |data: &[u8]| data.chunks_exact(4).map(|it| f64::from(f32::from_le_bytes(it.try_into().unwrap()))).collect();
    file.iter()
        .filter(|(_, view)| view.dtype() == safetensors::Dtype::F32)
        .map(|(name, view)| (name.to_owned(), floats(view.data())))
        .collect()
}

/// Whether the document of builtin:demo has the text of one that is judged for the query, or the query's own.
pub(crate) fn known(query: &str, document: &str) -> bool {
    let text = |id: u32| DEMO.documents.text(id);
    let (query, document) = (DEMO.queries.find(query).unwrap(), DEMO.documents.find(document).unwrap());
    let judged = DEMO.split("train").unwrap().judged(query);
    judged.iter().any(|&(other, _)| text(other) == text(document)) || DEMO.queries.text(query) == text(document)
}

/// Ids of all documents of builtin:demo.
pub(crate) fn all_documents() -> Vec<String> {
    (0..DEMO.documents.len() as u32).map(|document| DEMO.documents.id(document).to_owned()).collect()
}

/// What `trainer mine` finds for a query: its negatives with their scores, and the score of its positive.
pub(crate) struct Mined {
    pub(crate) positive: f64,
    pub(crate) negatives: Vec<(String, f64)>,
}

impl Mined {
    pub(crate) fn score(&self, id: &str) -> f64 {
        self.negatives.iter().find(|it| it.0 == id).expect("it was mined").1
    }
}

/// What a model finds in builtin:demo by another command, by query; the file is `mined.jsonl`.
pub(crate) fn mined(folder: &Path, model: &str, negatives: &str) -> BTreeMap<String, Mined> {
    let output = "mined.jsonl";
    let data = ["mine", "--data", "builtin:demo", "--model", model, "--output", output];
    json(folder, &[&data[..], &["--negatives", negatives, "--device", "cpu", "--json"]].concat());
    let row = |row: &Value| {
        let negatives = row["negatives"].as_array().unwrap().iter().map(|it| (text(&it["id"]), it["score"].as_f64().unwrap()));
        (text(&row["query_id"]), Mined { positive: row["positive_score"].as_f64().unwrap(), negatives: negatives.collect() })
    };
    lines(&folder.join(output)).iter().skip(1).map(row).collect()
}

/// Rows of a model, by id, in f64.
pub(crate) type Rows = BTreeMap<String, Vec<f64>>;

/// The rows of these texts of builtin:demo; `kind` is `query` or `document`.
pub(crate) fn encode<'a>(folder: &Path, model: &str, kind: &str, ids: impl IntoIterator<Item = &'a String>) -> Rows {
    let texts = if kind == "query" { &DEMO.queries } else { &DEMO.documents };
    let ids: BTreeSet<&String> = ids.into_iter().collect();
    let texts = ids.into_iter().map(|id| (id.clone(), texts.text(texts.find(id).unwrap()).to_owned()));
    encode_texts(folder, model, kind, &texts.collect::<Vec<_>>())
}

/// The rows of these texts, given with their ids; `kind` is `query` or `document`.
pub(crate) fn encode_texts(folder: &Path, model: &str, kind: &str, texts: &[(String, String)]) -> Rows {
    let mut input = String::new();
    for (id, text) in texts {
        writeln!(input, "{}", object!({ "_id": id, "text": text })).unwrap();
    }
    fs::write(folder.join("texts.jsonl"), input).unwrap();
    let output = "rows.safetensors";
    json(folder, &["encode", "--model", model, "--input", "texts.jsonl", "--output", output, "--kind", kind, "--device", "cpu", "--json"]);
    let bytes = fs::read(folder.join(output)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("embeddings").unwrap();
    let values: Vec<f64> = tensor.data().chunks_exact(4).map(|it| f64::from(f32::from_le_bytes(it.try_into().unwrap()))).collect();
    texts.iter().map(|it| it.0.clone()).zip(values.chunks(tensor.shape()[1]).map(<[f64]>::to_vec)).collect()
}

/// The rows of the queries and positives of a step, in its order.
pub(crate) fn encode_pairs(folder: &Path, model: &str, pairs: &[(String, String)]) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let queries = encode(folder, model, "query", pairs.iter().map(|pair| &pair.0));
    let documents = encode(folder, model, "document", pairs.iter().map(|pair| &pair.1));
    pairs.iter().map(|(query, positive)| (queries[query].clone(), documents[positive].clone())).unzip()
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

/// Equal within a relative bound.
pub(crate) fn alike(got: f64, expected: f64, bound: f64) -> bool {
    (got - expected).abs() <= bound * expected.abs().max(1e-3)
}

/// All numbers alike, one by one.
pub(crate) fn assert_alike(got: &[f64], expected: &[f64], bound: f64) {
    assert!(got.len() == expected.len() && !got.is_empty(), "{} and {} numbers", got.len(), expected.len());
    assert!(got.iter().zip(expected).all(|(got, expected)| alike(*got, *expected, bound)), "{got:?}\nis not\n{expected:?}");
}

/// No numbers alike.
pub(crate) fn assert_apart(got: &[f64], other: &[f64]) {
    assert!(got.iter().zip(other).all(|(got, other)| !alike(*got, *other, 1e-3)), "{got:?}\nis about\n{other:?}");
}
