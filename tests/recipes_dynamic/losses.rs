//! Recipes that differ in the loss: runs that differ only in its settings see the same pairs, so their losses are compared step by step.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::runs::{MODELS, Run, TEMPERATURE, alike, assert_alike, assert_apart, dot, encode_pairs, mean, text, train};
use crate::command::json;

/// Rounding, over a few steps.
const BOUND: f64 = 1e-4;

/// Rows of the queries and of their positives.
type Pairs = (Vec<Vec<f64>>, Vec<Vec<f64>>);

/// InfoNCE over query-document, query-query and document-document cells without those where `seen` scores above the limit of the
/// row: the share of masked cells and the loss, by hand.
fn masked(student: &Pairs, seen: &Pairs, limit: impl Fn(f64) -> f64) -> (f64, f64) {
    let count = student.0.len();
    let cells = |(queries, documents): &Pairs, row: usize| -> Vec<f64> {
        let others = (0..count).filter(move |&other| other != row);
        let block = |left: &[f64], right: &[Vec<f64>]| others.clone().map(|other| dot(left, &right[other])).collect::<Vec<f64>>();
        [block(&queries[row], documents), block(&queries[row], queries), block(&documents[row], documents)].concat()
    };
    let (mut removed, mut losses) = (0, Vec::new());
    for row in 0..count {
        let limit = limit(dot(&seen.0[row], &seen.1[row]));
        let target = dot(&student.0[row], &student.1[row]) / TEMPERATURE;
        let mut total = target.exp();
        for (score, seen) in cells(student, row).iter().zip(cells(seen, row)) {
            if seen > limit {
                removed += 1;
            } else {
                total += (score / TEMPERATURE).exp();
            }
        }
        losses.push(total.ln() - target);
    }
    (f64::from(removed) / (count * 3 * (count - 1)) as f64, mean(losses))
}

#[test]
fn qwen3_mask() {
    let folder = tempfile::tempdir().unwrap();
    // The recipe's mined negative is one more column; without it the matrix is square and quickly made by hand.
    let mined = train(folder.path(), "qwen3-mask", "mined", &["train.steps=2"]);
    assert!(mined.drawn().iter().all(|row| row.negatives.len() == 1));
    let set = ["train.steps=8", "batch.negatives=0"];
    let with = |out: &str, more: &[&str]| train(folder.path(), "qwen3-mask", out, &[&set[..], more].concat());
    let (run, wide) = (with("run", &[]), with("wide", &["loss.mask.0.margin=1e6"]));
    let plain = with("plain", &["loss.mask=[]"]);
    let student = encode_pairs(folder.path(), &MODELS.start, &run.pairs(0));
    let (share, loss) = masked(&student, &student, |positive| positive + 0.1);
    assert!(share > 0.001, "the rule holds somewhere");
    assert!(alike(run.steps("masked_share")[0], share, 1e-3), "{} and {share}", run.steps("masked_share")[0]);
    assert!(alike(run.losses()[0], loss, BOUND), "{} and {loss}", run.losses()[0]);
    assert!(wide.steps("masked_share").iter().all(|&share| share == 0.0));
    assert_alike(&wide.losses(), &plain.losses(), BOUND);
    assert_apart(&run.losses()[..1], &plain.losses()[..1]);
}

#[test]
fn gistembed() {
    let folder = tempfile::tempdir().unwrap();
    let with = |out: &str, more: &[&str]| train(folder.path(), "gistembed", out, &[&["train.steps=8"], more].concat());
    let run = with("run", &[]);
    let shares: Vec<Option<f64>> = run.events("step").iter().map(|step| step["masked_share"].as_f64()).collect();
    assert!(shares[..4].iter().all(Option::is_none) && shares[4..].iter().all(|share| share.is_some_and(|it| it > 0.0)), "{shares:?}");
    // Round 2 starts over; the model of round 1 guides it.
    let pairs = run.pairs(4);
    let student = encode_pairs(folder.path(), &MODELS.start, &pairs);
    let guide = encode_pairs(folder.path(), "run/rounds/round-1", &pairs);
    let (share, loss) = masked(&student, &guide, |positive| positive);
    assert!(alike(shares[4].unwrap(), share, 1e-3), "{} and {share}", shares[4].unwrap());
    assert!(alike(run.losses()[4], loss, BOUND), "{} and {loss}", run.losses()[4]);
    // Its rows of both sides are kept for a later round or a resumed run.
    assert_eq!(fs::read_dir(run.path.join("guides")).unwrap().count(), 2);
    // A guide's margin lowers the limit: an enormous one leaves nothing to contrast with.
    let all = with("all", &["loss.mask.0.margin=1e6"]);
    assert!(all.steps("loss")[4..].iter().all(|loss| loss.abs() < 1e-6), "{:?}", all.losses());
    assert!(all.events("step")[4..].iter().all(|step| alike(step["masked_share"].as_f64().unwrap(), 1.0, 1e-6)));
}

#[test]
fn cached_gist() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["train.steps=4", "batch.queries=128"];
    let chunked = train(folder.path(), "cached-gist", "chunked", &set);
    let whole = train(folder.path(), "cached-gist", "whole", &[&set[..], &["batch.chunk=0"]].concat());
    let other = train(folder.path(), "gistembed", "other", &set);
    let all = |run: &Run| [run.losses(), run.steps("gradient_norm")].concat();
    assert_alike(&all(&chunked), &all(&whole), BOUND);
    assert_eq!(whole.losses(), other.losses());
    let share = |run: &Run| run.events("step")[2..].iter().map(|step| step["masked_share"].as_f64().unwrap()).collect::<Vec<_>>();
    assert_alike(&share(&chunked), &share(&whole), 1e-3);
}

#[test]
fn debiased() {
    let folder = tempfile::tempdir().unwrap();
    let with = |recipe: &str, out: &str, more: &[&str]| train(folder.path(), recipe, out, &[&["train.steps=8"], more].concat());
    let plain = with("in-batch", "plain", &[]);
    assert_alike(&with("debiased", "zero", &["loss.tau_plus=0"]).losses(), &plain.losses(), BOUND);
    let run = with("debiased", "run", &["loss.tau_plus=0.02"]);
    // What is subtracted makes the loss smaller.
    assert!(run.losses()[0] < plain.losses()[0] - 1e-3, "{:?} {:?}", run.losses(), plain.losses());
    assert!(run.steps("floor_share").iter().all(|share| (0.0..=1.0).contains(share)));
}

#[test]
fn hcl() {
    let folder = tempfile::tempdir().unwrap();
    let with = |recipe: &str, out: &str, more: &[&str]| train(folder.path(), recipe, out, &[&["train.steps=8"], more].concat());
    let debiased = with("debiased", "debiased", &[]);
    assert_alike(&with("hcl", "zero", &["loss.beta=0"]).losses(), &debiased.losses(), BOUND);
    let run = with("hcl", "run", &[]);
    // Hard negatives weigh more, so the loss is larger.
    assert!(run.losses()[0] > debiased.losses()[0] + 1e-2, "{:?} {:?}", run.losses(), debiased.losses());
}

#[test]
fn ccr() {
    let folder = tempfile::tempdir().unwrap();
    let with = |out: &str, more: &[&str]| train(folder.path(), "ccr", out, &[&["train.steps=12"], more].concat());
    let (run, zero) = (with("run", &[]), with("zero", &["round.1.loss.beta=0.0"]));
    let plain = with("plain", &["round.1.loss={ kind = \"info-nce\" }"]);
    assert_alike(&zero.losses(), &plain.losses(), BOUND);
    assert_eq!(run.losses()[..6], plain.losses()[..6], "round 1 is ordinary training");
    // The regulariser is a mean of logarithms of shares: negative, and proportional to beta.
    let one = with("one", &["round.1.loss.beta=1.0"]);
    let [half, one] = [&run, &one].map(|run| run.losses()[6] - plain.losses()[6]);
    assert!(half < -0.1 && alike(one, 2.0 * half, 1e-3), "{half} {one}");
}

#[test]
fn passage_sieve() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "passage-sieve", "run", &["train.steps=12"]);
    let refreshes = run.events("refresh");
    let refresh = refreshes.iter().find(|refresh| refresh["step"] == 6).expect("round 2 mines");
    // The model of round 1 mines the same lists with another command.
    let (lists, whole) = (run.version(refreshes.len()), mined(folder.path(), "run/rounds/round-1", "100"));
    assert!(!lists.is_empty());
    let mut dropped = 0;
    for (query, list) in &lists {
        let row = &whole[query];
        let mean = mean(row.negatives.iter().map(|it| it.1).chain([row.positive]));
        // Where one lies on the mean, rounding decides.
        let near = row.negatives.iter().any(|it| (it.1 - mean).abs() < 1e-6);
        let below = row.negatives.iter().filter(|it| it.1 < mean).count();
        assert!(list.iter().all(|it| it.score < mean + 1e-6), "{query}: {list:?} below {mean}");
        assert!(near || list.len() == below, "{query}: {} of {below} below {mean}", list.len());
        dropped += row.negatives.len() - list.len();
    }
    assert!(dropped > 1000);
    assert_eq!(refresh["removed"]["sieve"], dropped);
}

/// A query's mined negatives with their scores, and the score of its positive.
struct Mined {
    positive: f64,
    negatives: Vec<(String, f64)>,
}

impl Mined {
    fn score(&self, id: &str) -> f64 {
        self.negatives.iter().find(|it| it.0 == id).expect("it was mined").1
    }
}

fn mined(folder: &Path, model: &str, negatives: &str) -> BTreeMap<String, Mined> {
    let output = "mined.jsonl";
    let data = ["mine", "--data", "builtin:demo", "--model", model, "--output", output];
    json(folder, &[&data[..], &["--negatives", negatives, "--device", "cpu", "--json"]].concat());
    let rows = fs::read_to_string(folder.join(output)).unwrap();
    let rows = rows.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.map(|row| {
        let negatives = row["negatives"].as_array().unwrap().iter().map(|it| (text(&it["id"]), it["score"].as_f64().unwrap()));
        (text(&row["query_id"]), Mined { positive: row["positive_score"].as_f64().unwrap(), negatives: negatives.collect() })
    })
    .collect()
}

/// A teacher that is the start encoder itself.
const TAUGHT: [&str; 4] = ["train.steps=4", "data.teacher=mined.jsonl", "negatives.source.0.path=mined.jsonl", "loss.temperature=1.0"];

#[test]
fn margin_mse() {
    let folder = tempfile::tempdir().unwrap();
    let scores = mined(folder.path(), "builtin:tiny", "8");
    let with = |out: &str, scale: &str| train(folder.path(), "margin-mse", out, &[&TAUGHT[..], &[scale]].concat());
    let run = with("run", "loss.teacher_scale=1.0");
    assert!(run.losses()[0] < 1e-9, "the student agrees with itself: {:?}", run.losses());
    // A teacher whose margins are three times as wide: twice a margin is missing.
    let other = with("other", "loss.teacher_scale=3.0");
    let rows = other.drawn().into_iter().filter(|row| row.step == 0);
    let expected = mean(rows.map(|row| {
        let taught = &scores[&row.query];
        assert_eq!(row.negatives.len(), 1);
        (2.0 * (taught.positive - taught.score(&row.negatives[0].id))).powi(2)
    }));
    assert!(expected > 1e-4 && alike(other.losses()[0], expected, BOUND), "{} and {expected}", other.losses()[0]);
}

#[test]
fn kl_distill() {
    let folder = tempfile::tempdir().unwrap();
    let scores = mined(folder.path(), "builtin:tiny", "8");
    let source = "negatives.source.1.path=mined.jsonl";
    let set: Vec<&str> = TAUGHT.into_iter().filter(|it| !it.starts_with("negatives")).chain([source]).collect();
    let with = |out: &str, sharp: &str| train(folder.path(), "kl-distill", out, &[&set[..], &[sharp]].concat());
    let run = with("run", "loss.teacher_temperature=1.0");
    assert!(run.steps("kl")[0].abs() < 1e-6, "the student agrees with itself: {:?}", run.steps("kl"));
    // A teacher that is surer of the same order.
    let other = with("other", "loss.teacher_temperature=0.05");
    let rows = other.drawn().into_iter().filter(|row| row.step == 0);
    let expected = mean(rows.map(|row| {
        let taught = &scores[&row.query];
        let list: Vec<f64> = [taught.positive].into_iter().chain(row.negatives.iter().map(|it| taught.score(&it.id))).collect();
        assert_eq!(list.len(), 8);
        let log_shares = |temperature: f64| -> Vec<f64> {
            let total = list.iter().map(|score| (score / temperature).exp()).sum::<f64>().ln();
            list.iter().map(|score| score / temperature - total).collect()
        };
        log_shares(0.05).iter().zip(log_shares(1.0)).map(|(teacher, student)| teacher.exp() * (teacher - student)).sum()
    }));
    assert!(expected > 1e-2 && alike(other.steps("kl")[0], expected, 1e-3), "{} and {expected}", other.steps("kl")[0]);
    // Next to a fifth of InfoNCE over all columns.
    for run in [&run, &other] {
        let sum: Vec<f64> = run.steps("kl").iter().zip(run.steps("info-nce")).map(|(kl, nce)| kl + 0.2 * nce).collect();
        assert_alike(&run.losses(), &sum, BOUND);
    }
    assert!(run.batches[0]["columns"].as_u64().unwrap() > 32 * 5, "mined and in-batch columns");
}

#[test]
fn mochi() {
    let folder = tempfile::tempdir().unwrap();
    let with = |recipe: &str, out: &str, more: &[&str]| train(folder.path(), recipe, out, &[&["train.steps=8"], more].concat());
    let at_once = ["loss.mixing.pairs_from_step=0", "loss.mixing.with_query_from_step=0"];
    let (run, plain) = (with("mochi", "run", &at_once), with("in-batch", "plain", &[]));
    assert!(run.losses()[0] > plain.losses()[0] + 0.1, "more columns, and hard ones: {:?} {:?}", run.losses(), plain.losses());
    let off = with("mochi", "off", &["loss.mixing.pairs_from_step=8", "loss.mixing.with_query_from_step=8"]);
    assert_alike(&off.losses(), &plain.losses(), BOUND);
    // Each kind from its own step on.
    let late = with("mochi", "late", &["loss.mixing.pairs_from_step=3", "loss.mixing.with_query_from_step=5"]);
    assert_alike(&late.losses()[..3], &plain.losses()[..3], BOUND);
    assert!(late.losses()[3] > plain.losses()[3] + 1e-2);
}
