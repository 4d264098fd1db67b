//! What distinguishes each recipe of the random and static families, checked on short runs of the real command.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Value, json as object};

use crate::command::weights;
use crate::recipes_dynamic::runs::{DEMO, MODELS, Run, TEMPERATURE, alike, assert_alike, assert_apart, dot, encode, mean, text, train};

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

/// The logged figures of a chunked run are those of the whole batch, whose every positive is a column for every query.
fn chunks_change_nothing(recipe: &str, queries: u64) {
    let folder = tempfile::tempdir().unwrap();
    let set = ["train.steps=4", "data.limit=2048"];
    let chunked = train(folder.path(), recipe, "chunked", &set);
    let whole = train(folder.path(), recipe, "whole", &[&set[..], &["batch.chunk=0"]].concat());
    assert_alike(&chunked.losses(), &whole.losses(), 1e-4);
    assert_alike(&chunked.steps("gradient_norm"), &whole.steps("gradient_norm"), 1e-3);
    assert_eq!(columns(&chunked), [queries; 4], "one score matrix over all blocks");
    let open = chunked.events("step")[0]["compared"]["in-batch"]["open"].as_u64().unwrap();
    let all = queries * (queries - 1);
    assert!(open <= all && open > all - all / 50, "{open} of {all} cells are open; the rest are known to be no negatives");
}

#[test]
fn cross_batch() {
    chunks_change_nothing("cross-batch", 256);
}

#[test]
fn grad_cache() {
    chunks_change_nothing("grad-cache", 128);
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
    // The queue holds the last 150 documents: all of steps 3 and 4, which have 128, and 22 of step 2.
    let bytes = fs::read(run.path.join("checkpoints/step-5/queue.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let ids = file.tensor("queue.ids").unwrap();
    let mut held: Vec<String> =
        ids.data().chunks_exact(8).map(|id| DEMO.documents.id(i64::from_le_bytes(id.try_into().unwrap()) as u32).to_owned()).collect();
    assert_eq!(held.len(), 150);
    let pushed = |step: usize| run.pairs(step).into_iter().map(|pair| pair.1).collect::<Vec<_>>();
    for document in [pushed(3), pushed(4)].concat() {
        let place = held.iter().position(|it| *it == document).unwrap_or_else(|| panic!("{document} is not in the queue"));
        held.swap_remove(place);
    }
    assert!(held.len() == 22 && held.iter().all(|document| pushed(2).contains(document)), "{held:?}");
    // What a step compared with is what the steps before have left: 64 columns at step 1, then 128, then all the queue holds.
    let queued: Vec<usize> = run.batches.iter().map(|line| line["queue"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(queued, [0, 64, 128, 150, 150]);
    let first: BTreeSet<String> = run.batches[1]["queue"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(first, pushed(0).into_iter().collect());
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

    // With weights that stay as they are, the rows of steps 1 and 2 are those of the start encoder: the loss of step 3 by hand.
    let still = ["train.steps=4", "negatives.source.1.start_after=3", "train.learning_rate=1e-30", "--model", &MODELS.start];
    let still = train(folder.path(), "memory-bank", "still", &still);
    let queue: Vec<String> = still.batches[3]["queue"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(queue.len(), 128);
    let earlier: BTreeSet<String> = [still.pairs(1), still.pairs(2)].concat().into_iter().map(|pair| pair.1).collect();
    assert_eq!(queue.iter().cloned().collect::<BTreeSet<_>>(), earlier);
    let pairs = still.pairs(3);
    let own: Vec<String> = pairs.iter().map(|pair| pair.1.clone()).collect();
    let queries = encode(folder.path(), &MODELS.start, "query", pairs.iter().map(|pair| &pair.0));
    let documents = encode(folder.path(), &MODELS.start, "document", own.iter().chain(&queue));
    let expected = mean(pairs.iter().map(|(query, positive)| {
        let logit = |document: &String| dot(&queries[query], &documents[document]) / TEMPERATURE;
        let columns = own.iter().chain(queue.iter().filter(|it| !own.contains(it)));
        let open = columns.filter(|it| *it == positive || !known(query, it));
        open.map(|it| (logit(it) - logit(positive)).exp()).sum::<f64>().ln()
    }));
    assert!(alike(still.losses()[3], expected, 1e-4), "{} and {expected}", still.losses()[3]);
}

/// Whether the document has the text of one that is judged for the query, or the query's own.
fn known(query: &str, document: &str) -> bool {
    let text = |id: u32| DEMO.documents.text(id);
    let (query, document) = (DEMO.queries.find(query).unwrap(), DEMO.documents.find(document).unwrap());
    let judged = DEMO.split("train").unwrap().judged(query);
    judged.iter().any(|&(other, _)| text(other) == text(document)) || DEMO.queries.text(query) == text(document)
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
    assert!(steps[1]["margin-mse"].is_null(), "{}", steps[1]);
    for step in &steps[4..8] {
        let part = |key: &str| step[key].as_f64().unwrap_or_else(|| panic!("no {key} in {step}"));
        let sum = part("margin-mse") + 0.75 * part("margin-mse-2");
        assert!(alike(part("loss"), sum, 1e-5) && part("margin-mse") != part("margin-mse-2"), "{step}");
    }
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
    assert_eq!(run.events("refresh").len(), 1);
    // The lists are the lexical ranking of another command, without what is known.
    let lists = run.version(1);
    let queries: Vec<u32> = lists.keys().map(|query| DEMO.queries.find(query).unwrap()).collect();
    for ((query, list), found) in lists.iter().zip(mining::bm25_run(&DEMO, &queries, 110).unwrap()) {
        assert!(list.len() >= 100.min(found.len() - 5), "{query}: {} of {}", list.len(), found.len());
        let scores: BTreeMap<&str, f32> = found.iter().map(|&(document, score)| (DEMO.documents.id(document), score)).collect();
        for it in list {
            // Of equal scores either may come first.
            let at_rank = f64::from(found[it.rank - 1].1);
            assert!(
                alike(it.score, at_rank, 1e-5) && alike(it.score, f64::from(scores[it.id.as_str()]), 1e-5),
                "{query}: {it:?}, {at_rank}"
            );
            assert!(!known(query, &it.id));
        }
    }
    assert!(run.drawn().iter().all(|row| row.negatives.len() == 1 && lists[&row.query].contains(&row.negatives[0])));
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
    // The best of each list, new and old.
    let (lists, raw) = (run.version(2), raw_lists(&run, 2));
    for row in run.drawn().iter().filter(|row| row.step >= 4) {
        let listed = raw[&row.query]["negatives"].as_array().unwrap();
        // Lists are best first, and the positive is in none.
        let best = |source: &str| text(&listed.iter().find(|it| it["source"] == source).unwrap()["id"]);
        let (lexical, dense) = (best("bm25"), best("dense"));
        let drawn: Vec<&String> = row.negatives.iter().map(|it| &it.id).collect();
        assert!(drawn.contains(&&lexical) || drawn.contains(&&dense), "{drawn:?}, {lexical}, {dense}");
        if lexical != dense {
            assert!(drawn.contains(&&lexical) && drawn.contains(&&dense), "{drawn:?}, {lexical}, {dense}");
        }
        assert!(row.negatives.iter().all(|it| lists[&row.query].contains(it)));
    }
}

/// The rows of a version by query, as written.
fn raw_lists(run: &Run, version: usize) -> BTreeMap<String, Value> {
    let text = fs::read_to_string(run.path.join(format!("negatives/version-{version}.jsonl"))).unwrap();
    let rows = text.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.map(|row| (row["query_id"].as_str().unwrap().to_owned(), row)).collect()
}

#[test]
fn static_dense() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "static-dense", "run", &["train.steps=12", "--model", &MODELS.start]);
    let refreshes: Vec<_> = run.events("refresh").iter().map(|it| it["step"].as_u64()).collect();
    assert_eq!(refreshes, [Some(0)]);
    let lists = run.version(1);
    assert!(run.drawn().iter().all(|row| row.negatives.iter().all(|it| lists[&row.query].contains(it))));
    // A full search by hand: nothing is left out but what is known.
    let all: Vec<String> = (0..DEMO.documents.len() as u32).map(|document| DEMO.documents.id(document).to_owned()).collect();
    let some: Vec<&String> = lists.keys().take(16).collect();
    let queries = encode(folder.path(), &MODELS.start, "query", some.iter().copied());
    let documents = encode(folder.path(), &MODELS.start, "document", &all);
    for query in some {
        let mut found: Vec<(f64, &String)> = documents.iter().map(|(id, row)| (dot(&queries[query], row), id)).collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        found.truncate(110);
        found.retain(|it| !known(query, it.1));
        let list = &lists[query];
        assert!((95..=100).contains(&list.len()), "{} of 100", list.len());
        // Neighbours may change places where rounding decides.
        for (it, (score, _)) in list.iter().zip(&found) {
            assert!((it.score - score).abs() < 1e-5, "{query}: {it:?} and {score}");
        }
        let ids: BTreeSet<&String> = found.iter().map(|it| it.1).collect();
        assert!(list.iter().all(|it| ids.contains(&it.id)), "{query}");
    }
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
    let run = train(folder.path(), "star", "run", &["train.steps=3", "--model", &MODELS.start]);
    assert!(run.drawn().iter().all(|row| row.negatives.len() == 1));
    assert_eq!(sources(&run, 0..3), BTreeSet::from(["dense".to_owned()]));
    // The loss of the first step by hand: over all queries and all documents of the batch, the hard ones of every query among them, pairs of
    // equal weight.
    let rows: Vec<_> = run.drawn().into_iter().filter(|row| row.step == 0).collect();
    let columns: BTreeSet<String> = rows.iter().flat_map(|row| [row.positive.clone(), row.negatives[0].id.clone()]).collect();
    let queries = encode(folder.path(), &MODELS.start, "query", rows.iter().map(|row| &row.query));
    let documents = encode(folder.path(), &MODELS.start, "document", &columns);
    let score = |query: &String, document: &String| dot(&queries[query], &documents[document]) / TEMPERATURE;
    let pairs = rows.iter().flat_map(|row| {
        let others = columns.iter().filter(|it| **it != row.positive && !known(&row.query, it));
        others.map(|it| (score(&row.query, it) - score(&row.query, &row.positive)).exp().ln_1p()).collect::<Vec<_>>()
    });
    let expected = mean(pairs);
    assert!(alike(run.losses()[0], expected, 1e-4), "{} logged, {expected} expected", run.losses()[0]);
}

#[test]
fn cocondenser() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["train.steps=8", "train.checkpoint_every=1", "train.keep_checkpoints=9"];
    let run = train(folder.path(), "cocondenser", "run", &set);
    // A restart: the first step has the learning rate 0 in both rounds, so its weights are the start weights.
    let after = |step: usize| tensors(&run.path.join(format!("checkpoints/step-{step}/weights.safetensors")));
    assert!(after(5) == after(1) && after(4) != after(1));
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

    // One of each stratum of σ(s_n − s_p): the 21 stand for the pool better than 21 at random, by the distance from each candidate of the pool
    // to the nearest of them.
    let pool = train(folder.path(), "indi", "pool", &["train.steps=1", "data.limit=64", "negatives.draw={rule=\"uniform\"}"]);
    let (chosen, pools) = (raw_lists(&run, 1), raw_lists(&pool, 1));
    let (mut compared, mut better) = (0, 0);
    for (query, row) in &pools {
        let positive = row["positive_score"].as_f64().unwrap();
        let weights = |row: &Value| -> Vec<f64> {
            let scores = row["negatives"].as_array().unwrap().iter().map(|it| it["score"].as_f64().unwrap());
            scores.map(|score| 1.0 / (1.0 + (positive - score).exp())).collect()
        };
        let (all, few) = (weights(row), weights(&chosen[query]));
        if all.len() < 100 {
            continue;
        }
        let error = |few: &[f64]| -> f64 {
            all.iter().map(|weight| few.iter().map(|it| (it - weight).powi(2)).fold(f64::INFINITY, f64::min)).sum()
        };
        // A hundred choices at random, by steps through the pool that share no factor with its length more often than not.
        for step in 1..=100 {
            let random: Vec<f64> = (0..21).map(|number| all[(number * (2 * step + 1) * 7919 + step * 104_729) % all.len()]).collect();
            better += usize::from(error(&few) < error(&random));
            compared += 1;
        }
    }
    assert!(compared > 3000 && better * 20 > compared * 19, "{better} of {compared} choices");
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
    // Each list by itself, from a run with that source alone: the union holds both, and says who found what.
    let alone = |out: &str, source: &str| {
        let sources = format!("negatives.source=[{{from=\"in-batch\"}},{source}]");
        raw_lists(&train(folder.path(), "ensemble-mined", out, &["train.steps=1", &sources]), 1)
    };
    let ids = |row: &Value| row["negatives"].as_array().unwrap().iter().map(|it| text(&it["id"])).collect::<BTreeSet<_>>();
    let (lexical, dense) = (alone("lexical", "{from=\"bm25\",depth=100}"), alone("dense", "{from=\"dense\",model=\"start\",depth=100}"));
    let empty = object!({ "negatives": [] });
    let mut by_both = 0;
    for (query, row) in raw_lists(&run, 1) {
        let of = |lists: &BTreeMap<String, Value>| ids(lists.get(&query).unwrap_or(&empty));
        let (lexical, dense) = (of(&lexical), of(&dense));
        // Copies of one text are one candidate, under the id with the best rank.
        assert!(ids(&row).is_subset(&lexical.union(&dense).cloned().collect()) && ids(&row).len() + 5 > lexical.union(&dense).count());
        for it in row["negatives"].as_array().unwrap() {
            let id = text(&it["id"]);
            let expected: Vec<&str> =
                [("bm25", lexical.contains(&id)), ("dense", dense.contains(&id))].iter().filter(|it| it.1).map(|it| it.0).collect();
            let got: Vec<String> = it["sources"].as_array().unwrap().iter().map(text).collect();
            assert!(expected.iter().all(|it| got.iter().any(|name| name == it)), "{query}, {id}: {got:?} and {expected:?}");
            by_both += usize::from(got.len() == 2);
        }
    }
    assert!(by_both > 100, "{by_both} found by both");
    // A draw tells the same.
    let drawn = rows(&run, 0..4).iter().flat_map(|row| row["negatives"].as_array().unwrap()).filter(|it| it["sources"].is_array()).count();
    assert!(drawn > 3, "{drawn} drawn that both found");
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
