//! What distinguishes each recipe of the random and static families, checked on short runs of the real command.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::Value;

use crate::command::weights;
use crate::recipes_dynamic::runs::{Run, assert_alike, assert_apart, text, train};

/// Names of the sources of everything drawn in these steps.
fn sources(run: &Run, steps: std::ops::Range<usize>) -> BTreeSet<String> {
    rows(run, steps).iter().flat_map(|row| row["negatives"].as_array().unwrap()).map(|it| text(&it["source"])).collect()
}

fn rows(run: &Run, steps: std::ops::Range<usize>) -> Vec<&Value> {
    let lines = run.batches.iter().filter(|line| steps.contains(&(line["step"].as_u64().unwrap() as usize)));
    lines.flat_map(|line| line["rows"].as_array().unwrap()).collect()
}

fn ranks(run: &Run) -> Vec<usize> {
    run.drawn().iter().flat_map(|row| row.negatives.iter().map(|it| it.rank)).collect()
}

/// Float tensors of a safetensors file by name.
fn tensors(path: &Path) -> BTreeMap<String, Vec<f64>> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |data: &[u8]| data.chunks_exact(4).map(|it| f64::from(f32::from_le_bytes(it.try_into().unwrap()))).collect();
    file.iter()
        .filter(|(_, view)| view.dtype() == safetensors::Dtype::F32)
        .map(|(name, view)| (name.to_owned(), floats(view.data())))
        .collect()
}

fn columns(run: &Run) -> Vec<u64> {
    run.batches.iter().map(|line| line["columns"].as_u64().unwrap()).collect()
}

#[test]
fn random() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "random", "run", &["train.steps=64"]);
    assert_eq!(sources(&run, 0..64), BTreeSet::from(["random".to_owned()]));
    // 4,096 draws from 5,924 documents in 16 stretches of ids: chi-squared with 15 degrees of freedom, 37.7 at p = 0.001.
    let mut counts = [0_f64; 16];
    for row in run.drawn() {
        assert_eq!(row.negatives.len(), 1);
        let number: usize = row.negatives[0].id[1..].parse().unwrap();
        counts[number * 16 / 5924] += 1.0;
    }
    let expected = counts.iter().sum::<f64>() / 16.0;
    let statistic: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
    assert!(statistic < 37.7, "{counts:?}");
}

#[test]
fn in_batch() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "in-batch", "run", &["train.steps=4"]);
    assert!(sources(&run, 0..4).is_empty() && run.events("refresh").is_empty());
    assert_eq!(columns(&run), [64; 4]);
}

/// The logged figures of a chunked run are those of the whole batch.
fn chunks_change_nothing(recipe: &str) {
    let folder = tempfile::tempdir().unwrap();
    let chunked = train(folder.path(), recipe, "chunked", &["train.steps=4"]);
    let whole = train(folder.path(), recipe, "whole", &["train.steps=4", "batch.chunk=0"]);
    assert_alike(&chunked.losses(), &whole.losses(), 1e-4);
    assert_alike(&chunked.steps("gradient_norm"), &whole.steps("gradient_norm"), 1e-3);
    assert!(columns(&chunked).iter().all(|&columns| columns >= 100), "one score matrix over all blocks");
}

#[test]
fn cross_batch() {
    chunks_change_nothing("cross-batch");
}

#[test]
fn grad_cache() {
    chunks_change_nothing("grad-cache");
}

#[test]
fn moco_queue() {
    let folder = tempfile::tempdir().unwrap();
    let set =
        ["train.steps=5", "train.checkpoint_every=1", "train.keep_checkpoints=9", "encoder.momentum=0.75", "negatives.source.0.size=150"];
    let run = train(folder.path(), "moco-queue", "run", &set);
    let state = |step: usize, file: &str| tensors(&run.path.join(format!("checkpoints/step-{step}/{file}")));
    // Before step n + 1 the key encoder follows the weights that step n left.
    for step in 2..=5 {
        let (before, trained) = (state(step - 1, "key-encoder.safetensors"), state(step - 1, "weights.safetensors"));
        for (name, after) in state(step, "key-encoder.safetensors") {
            let expected: Vec<f64> = before[&name].iter().zip(&trained[&name]).map(|(key, query)| 0.75 * key + 0.25 * query).collect();
            let far = after.iter().zip(&expected).filter(|(got, expected)| (*got - *expected).abs() > 1e-6).count();
            assert_eq!(far, 0, "step {step}: {name}");
        }
    }
    // The queue holds the last 150 documents: steps 2, 3, 4 have 192, so none of steps 0 and 1 unless it came again.
    let bytes = fs::read(run.path.join("checkpoints/step-5/queue.safetensors")).unwrap();
    let ids = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(ids.tensor("queue.ids").unwrap().shape(), [150]);
    assert_eq!(run.losses()[0], 0.0, "with an empty queue there is nothing to tell the positive from");
    assert!(run.losses()[1] > 1.0);
}

#[test]
fn memory_bank() {
    let folder = tempfile::tempdir().unwrap();
    let bank = train(folder.path(), "memory-bank", "bank", &["train.steps=6", "negatives.source.1.start_after=3"]);
    let plain = train(folder.path(), "in-batch", "plain", &["train.steps=6"]);
    assert_eq!(bank.losses()[..3], plain.losses()[..3]);
    assert!(bank.losses()[3] > plain.losses()[3], "more columns, a larger loss: {:?} {:?}", bank.losses(), plain.losses());
}

#[test]
fn tas_b() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "tas-b", "run", &["train.steps=8", "data.limit=2048"]);
    assert_eq!(run.events("round").len(), 1);
    let topics = |step: usize| rows(&run, step..step + 1).iter().map(|row| row["topic"].as_u64()).collect::<BTreeSet<_>>();
    let sizes = run.events("topics")[0]["topics"].as_u64().unwrap() as usize;
    for step in 4..8 {
        // A topic has about 200 of 2,048 queries, so one or two fill a batch of 64.
        assert!(topics(step).len() <= 3 && !topics(step).contains(&None), "{:?} of {sizes}", topics(step));
    }
    assert!((0..4).all(|step| topics(step) == BTreeSet::from([None])));
    // A query has one negative, whose margin the teacher gives; both terms of the loss are there.
    assert!(rows(&run, 4..8).iter().all(|row| row["negatives"].as_array().unwrap().len() == 1));
    let steps = run.events("step");
    assert!(steps[5]["margin-mse"].as_f64().is_some() && steps[1]["margin-mse"].is_null(), "{}", steps[5]);
    // Each bin of the teacher's margins that is not empty is drawn alike: the place of a draw's bin among them has the mean 1/2.
    let lists = run.lists(1);
    let places: Vec<f64> = rows(&run, 4..8)
        .iter()
        .map(|row| {
            let scores = &lists[row["query"].as_str().unwrap()];
            let drawn = scores[row["negatives"][0]["id"].as_str().unwrap()];
            let low = scores.values().copied().fold(f64::INFINITY, f64::min);
            let high = scores.values().copied().fold(f64::NEG_INFINITY, f64::max);
            let bin = |score: f64| (((score - low) / (high - low) * 10.0) as usize).min(9);
            let bins: BTreeSet<usize> = scores.values().map(|&score| bin(score)).collect();
            (bins.range(..bin(drawn)).count() as f64 + 0.5) / bins.len() as f64
        })
        .collect();
    let mean = places.iter().sum::<f64>() / places.len() as f64;
    // Five standard deviations of the mean of 256 uniform numbers are .09; draws uniform over candidates would have it near .3.
    assert!(places.len() == 256 && (mean - 0.5).abs() < 0.09, "{mean} of {}", places.len());
}

#[test]
fn cluster_batch() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "cluster-batch", "run", &["train.steps=32", "data.limit=2048"]);
    let topics = |step: usize| rows(&run, step..step + 1).iter().map(|row| row["topic"].as_u64().unwrap()).collect::<BTreeSet<_>>().len();
    let single = (0..32).filter(|&step| topics(step) == 1).count();
    assert!(single >= 16, "{single} of 32 batches are of one topic; the others hold what is left of several");
    // Every pair once an epoch.
    let drawn = run.drawn();
    let pairs: BTreeSet<_> = drawn.iter().map(|row| (&row.query, &row.positive)).collect();
    assert!(pairs.len() * 100 >= drawn.len() * 97, "{} different pairs in {}", pairs.len(), drawn.len());
}

#[test]
fn bm25() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "bm25", "run", &["train.steps=4"]);
    assert_eq!(sources(&run, 0..4), BTreeSet::from(["bm25".to_owned()]));
    // A hundred ranks, and a few more for judged documents among them.
    assert!(ranks(&run).iter().all(|&rank| (1..=110).contains(&rank)));
    assert_eq!(run.events("refresh").len(), 1);
}

#[test]
fn dpr() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "dpr", "run", &["train.steps=4"]);
    let lists = run.version(1);
    for row in run.drawn() {
        let best = lists[&row.query].iter().find(|it| it.id != row.positive).unwrap();
        assert_eq!(row.negatives, std::slice::from_ref(best), "the best lexical one of {}", row.query);
    }
    assert!(columns(&run).iter().all(|&columns| columns > 128 && columns <= 256));
}

#[test]
fn dpr_adv_hn() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "dpr-adv-hn", "run", &["train.steps=8", "train.checkpoint_every=1", "train.keep_checkpoints=9"]);
    let names = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(sources(&run, 0..4), names(&["bm25"]));
    assert_eq!(sources(&run, 4..8), names(&["bm25", "dense"]));
    assert_eq!(run.events("round")[0]["restart"], true);
    // From scratch: the first step has the learning rate 0 in both rounds, so its weights are the start weights.
    let after = |step: usize| tensors(&run.path.join(format!("checkpoints/step-{step}/weights.safetensors")));
    assert_eq!(run.steps("learning_rate")[4], run.steps("learning_rate")[0]);
    assert!(after(5) == after(1) && after(4) != after(1));
}

#[test]
fn static_dense() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "static-dense", "run", &["train.steps=12"]);
    let refreshes: Vec<_> = run.events("refresh").iter().map(|it| it["step"].as_u64()).collect();
    assert_eq!(refreshes, [Some(0)]);
    let lists = run.version(1);
    assert!(run.drawn().iter().all(|row| row.negatives.iter().all(|it| lists[&row.query].contains(it))));
}

#[test]
fn bge_hn() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "bge-hn", "run", &["train.steps=6"]);
    let found = ranks(&run);
    assert!(
        found.len() == 6 * 32 * 7 && found.iter().all(|rank| (11..=210).contains(rank)),
        "{:?} to {:?}",
        found.iter().min(),
        found.iter().max()
    );
    assert!(found.iter().any(|&rank| rank > 150), "drawn over the whole window");
}

#[test]
fn star() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "star", "run", &["train.steps=3"]);
    assert!(run.drawn().iter().all(|row| row.negatives.len() == 1));
    assert_eq!(sources(&run, 0..3), BTreeSet::from(["dense".to_owned()]));
    // Without the other queries' positives, or without pairs of equal weight, the loss is another one.
    let alone = train(folder.path(), "star", "alone", &["train.steps=3", "negatives.source=[{from=\"dense\",model=\"start\",depth=200}]"]);
    let joint = train(folder.path(), "star", "joint", &["train.steps=3", "loss.kind=info-nce"]);
    assert_apart(&run.losses()[..1], &alone.losses()[..1]);
    assert_apart(&run.losses()[..1], &joint.losses()[..1]);
}

#[test]
fn cocondenser() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "cocondenser", "run", &["train.steps=8"]);
    assert_eq!(sources(&run, 0..4).len(), 1);
    assert_eq!(sources(&run, 4..8).len(), 2, "the second round draws from both lists");
    // Half of the negatives from each.
    let dense = rows(&run, 4..8).iter().flat_map(|row| row["negatives"].as_array().unwrap()).filter(|it| it["source"] == "dense").count();
    assert!((dense as f64 / (4.0 * 32.0 * 7.0) - 0.5).abs() < 0.05, "{dense}");
    assert!(run.path.join("rounds/round-1/modules.json").is_file());
    assert!(weights(&run.path.join("rounds/round-1")) != weights(&run.path.join("model")));
}

#[test]
fn indi() {
    let folder = tempfile::tempdir().unwrap();
    // Two steps an epoch: three visits of each query.
    let run = train(folder.path(), "indi", "run", &["train.steps=6", "data.limit=64"]);
    assert!(run.version(1).values().all(|list| list.len() <= 21));
    let mut visits: BTreeMap<(String, String), Vec<BTreeSet<String>>> = BTreeMap::new();
    for row in run.drawn() {
        visits.entry((row.query, row.positive)).or_default().push(row.negatives.into_iter().map(|it| it.id).collect());
    }
    let three: Vec<_> = visits.values().filter(|visits| visits.len() == 3).collect();
    assert!(three.len() > 32, "{} queries were visited three times", three.len());
    for visits in three {
        let all: BTreeSet<_> = visits.iter().flatten().collect();
        assert_eq!(all.len(), visits.iter().map(BTreeSet::len).sum::<usize>(), "no negative is served twice in three visits");
    }
}

#[test]
fn ensemble_mined() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "ensemble-mined", "run", &["train.steps=4"]);
    assert_eq!(sources(&run, 0..4), BTreeSet::from(["bm25".to_owned(), "dense".to_owned()]));
    for row in run.drawn() {
        let different: BTreeSet<_> = row.negatives.iter().map(|it| &it.id).collect();
        assert_eq!(different.len(), row.negatives.len(), "what both miners found is one candidate");
    }
}

#[test]
fn lce() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "lce", "run", &["train.steps=4"]);
    let groups = train(folder.path(), "lce", "groups", &["train.steps=4", "loss.kind=info-nce"]);
    assert_alike(&run.losses(), &groups.losses(), 1e-5);
    let shared = train(folder.path(), "lce", "shared", &["train.steps=4", "loss.kind=info-nce", "batch.share_negatives=true"]);
    assert_apart(&run.losses(), &shared.losses());
}
