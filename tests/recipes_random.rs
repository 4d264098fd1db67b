//! What distinguishes each recipe of the random family, checked on short runs of the real command.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;

use crate::matrix::Matrix;
use crate::recipes_dynamic::runs::{
    DEMO, MODELS, Rows, Run, TEMPERATURE, alike, assert_alike, columns, dot, encode, known, mean, rows, sources, tensors, text, train,
};

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

    // The loss of the first step by hand: a mean over pairs, and each query meets what was drawn for any of them, but no other query's positive.
    let matrix = Matrix::new(folder.path(), &MODELS.start, &run, 0);
    let drawn: BTreeSet<usize> = matrix.rows().flat_map(|row| matrix.own(row)).collect();
    let shared = |row: usize| matrix.open(row).into_iter().filter(|column| drawn.contains(column)).collect::<Vec<_>>();
    let pairs: usize = matrix.rows().map(|row| shared(row).len()).sum();
    assert!(pairs > 64 * 60, "{pairs} pairs");
    let (got, expected) = (run.losses()[0], matrix.pairwise(shared));
    assert!(alike(got, expected, 1e-4), "{got} logged, {expected} expected");
    let open = |source: &str| run.events("step")[0]["compared"][source]["open"].as_u64().unwrap_or(0) as usize;
    assert_eq!((open("random") + open("shared"), open("in-batch")), (pairs, 0));
}

#[test]
fn in_batch() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "in-batch", "run", &["train.steps=4"]);
    assert!(sources(&run, 0..4).is_empty() && run.events("refresh").is_empty());
    assert_eq!(columns(&run), [64; 4]);
}

/// How far apart two weights may be that the same steps made, of which each moves a weight by up to the learning rate, .02. Adam makes full steps of
/// gradients that are rounding alone, but those of a static encoder are either 0 or of a size.
const CLOSE: f64 = 1e-4;

/// The logged figures of a chunked run are those of the whole batch, whose every positive is a column for every query.
fn chunks_change_nothing(recipe: &str, queries: u64) {
    let folder = tempfile::tempdir().unwrap();
    let set = ["train.steps=4", "data.limit=2048"];
    let chunked = train(folder.path(), recipe, "chunked", &set);
    let whole = train(folder.path(), recipe, "whole", &[&set[..], &["batch.chunk=0"]].concat());
    assert_alike(&chunked.losses(), &whole.losses(), 1e-4);
    assert_alike(&chunked.steps("gradient_norm"), &whole.steps("gradient_norm"), 1e-3);
    assert_eq!(columns(&chunked), [queries; 4], "one score matrix over all blocks");
    // The same gradients, so the same weights, one by one.
    let [one, other] = [&chunked, &whole].map(|run| tensors(&run.path.join("model/0_StaticEmbedding/model.safetensors")));
    let (start, mut moved) = (tensors(Path::new(&MODELS.start).join("0_StaticEmbedding/model.safetensors").as_path()), 0);
    for (name, weights) in &one {
        for ((got, expected), start) in weights.iter().zip(&other[name]).zip(&start[name]) {
            assert!((got - expected).abs() <= CLOSE, "{name}: {got} in chunks, {expected} at once");
            moved += usize::from((expected - start).abs() > 10.0 * CLOSE);
        }
    }
    assert!(moved > 1000, "{moved} weights moved");
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

    // A queue of ten steps, looked at in every tenth.
    let long =
        train(folder.path(), "memory-bank", "long", &["train.steps=21", "negatives.source.1.size=640", "negatives.source.1.start_after=3"]);
    let queue = |step: usize| long.events("step")[step]["compared"]["queue"].clone();
    assert!(queue(0).is_null(), "before there is any row");
    assert_eq!([10, 20].map(|step| queue(step)["age_steps"].to_string()), ["[1,10]", "[1,10]"]);
    assert!(queue(20)["below_positive"]["p50"].as_f64().unwrap() > queue(20)["below_positive"]["p5"].as_f64().unwrap());

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

/// The topic of each query in these steps.
fn topics_of(run: &Run, steps: std::ops::Range<usize>) -> BTreeMap<String, u64> {
    rows(run, steps).iter().map(|row| (text(&row["query"]), row["topic"].as_u64().unwrap())).collect()
}

/// The share of the queries whose row is nearer to the mean of their own topic than to that of any other, all of them left out of their own topic's
/// mean. Topics made of rows have nearly all, topics at random one in as many as there are.
fn at_home(topics: &BTreeMap<String, u64>, rows: &Rows) -> f64 {
    let mut sums: BTreeMap<u64, (Vec<f64>, f64)> = BTreeMap::new();
    for (query, topic) in topics {
        let (sum, count) = sums.entry(*topic).or_insert_with(|| (vec![0.0; rows[query].len()], 0.0));
        sum.iter_mut().zip(&rows[query]).for_each(|(sum, value)| *sum += value);
        *count += 1.0;
    }
    assert!(sums.len() > 2, "{} topics", sums.len());
    let nearest = |query: &String, own: u64| {
        let row = &rows[query];
        let distance = |topic: u64| -> f64 {
            let (sum, count) = &sums[&topic];
            let (without, count) = if topic == own { (1.0, count - 1.0) } else { (0.0, *count) };
            row.iter().zip(sum).map(|(value, sum)| (value - (sum - without * value) / count.max(1.0)).powi(2)).sum()
        };
        sums.keys().copied().min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
    };
    let home = topics.iter().filter(|(query, topic)| nearest(query, **topic) == Some(**topic)).count();
    home as f64 / topics.len() as f64
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
    // Topics are of like queries, as the encoder of the moment sees them: the one that the first round made.
    let grouped = topics_of(&run, 4..8);
    let queries = encode(folder.path(), "run/rounds/round-1", "query", grouped.keys());
    assert!(at_home(&grouped, &queries) > 0.9, "{}", at_home(&grouped, &queries));
    // A query has one negative, whose margin the teacher gives; both terms of the loss are there. The round begins as its own teacher, and so there is nothing to learn but rounding.
    assert!(rows(&run, 4..8).iter().all(|row| row["negatives"].as_array().unwrap().len() == 1));
    let steps = run.events("step");
    assert!(steps[1]["margin-mse"].is_null(), "{}", steps[1]);
    for step in &steps[4..8] {
        let part = |key: &str| step[key].as_f64().unwrap_or_else(|| panic!("no {key} in {step}"));
        let sum = part("margin-mse") + 0.75 * part("margin-mse-2");
        assert!(alike(part("loss"), sum, 1e-5) && part("loss") < 1e-6, "{step}");
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
fn tas_b_with_two_teachers() {
    let folder = tempfile::tempdir().unwrap();
    let changes = [
        "train.steps=8",
        "data.limit=96",
        "teacher.model=reranker",
        "teacher.in_batch=previous-round",
        "reranker.steps=2",
        "reranker.lists=4",
        "round.1.negatives.source=[{from=\"in-batch\"},{from=\"dense\",model=\"previous-round\",depth=12}]",
    ];
    let run = train(folder.path(), "tas-b", "run", &changes);
    let steps = run.events("step");
    let part = |step: usize, key: &str| steps[step][key].as_f64().unwrap_or_else(|| panic!("no {key} in {}", steps[step]));
    let sum = |step: usize| part(step, "margin-mse") + 0.75 * part(step, "margin-mse-2");
    assert!((4..8).all(|step| alike(part(step, "loss"), sum(step), 1e-5)), "{:?}", &steps[4..8]);
    // The second round starts as its own in-batch teacher, so there is nothing to learn from it yet, and from the cross-encoder there is.
    assert!(part(4, "margin-mse-2") < 1e-10 && part(4, "margin-mse") > 1e-4, "{}", steps[4]);
    assert!(part(7, "margin-mse-2") > 1e-10, "{}", steps[7]);
}

#[test]
fn cluster_batch() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "cluster-batch", "run", &["train.steps=32", "data.limit=2048"]);
    let topics = |step: usize| rows(&run, step..step + 1).iter().map(|row| row["topic"].as_u64().unwrap()).collect::<BTreeSet<_>>().len();
    let single = (0..32).filter(|&step| topics(step) == 1).count();
    assert!(single >= 16, "{single} of 32 batches are of one topic; the others hold what is left of several");
    // Topics are of like queries, as the start encoder sees them.
    let grouped = topics_of(&run, 0..32);
    let queries = encode(folder.path(), &MODELS.start, "query", grouped.keys());
    assert!(at_home(&grouped, &queries) > 0.9, "{}", at_home(&grouped, &queries));
    // Every pair once an epoch.
    let drawn = run.drawn();
    let pairs: BTreeSet<_> = drawn.iter().map(|row| (&row.query, &row.positive)).collect();
    assert!(pairs.len() * 100 >= drawn.len() * 97, "{} different pairs in {}", pairs.len(), drawn.len());
}

/// The rows of the queries or of their positives, by query.
fn rows_of(folder: &Path, model: &str, run: &Run, kind: &str) -> Rows {
    let pairs: BTreeMap<String, String> = run.drawn().into_iter().map(|row| (row.query, row.positive)).collect();
    match kind {
        "query" => encode(folder, model, kind, pairs.keys()),
        _ => {
            let documents = encode(folder, model, kind, pairs.values());
            pairs.into_iter().map(|(query, positive)| (query, documents[&positive].clone())).collect()
        }
    }
}

#[test]
fn topics_are_made_anew_after_so_many_epochs_with_the_weights_of_the_moment() {
    let folder = tempfile::tempdir().unwrap();
    // Eight batches an epoch. A constant rate: the first two epochs of the run are those of the short one.
    let with = |out: &str, steps: &str| {
        let set = ["train.schedule=\"constant\"", "train.warmup=0", "batch.topics.every_epochs=2", steps];
        train(folder.path(), "cluster-batch", out, &set)
    };
    let (run, short) = (with("run", "train.steps=24"), with("short", "train.steps=16"));
    assert_eq!(run.losses()[..16], short.losses()[..]);
    let made: Vec<u64> = run.events("topics").iter().map(|event| event["step"].as_u64().unwrap()).collect();
    assert_eq!(made, [0, 16]);
    let (first, second) = (topics_of(&run, 0..8), topics_of(&run, 8..16));
    // A pair whose batch was short may be left out of an epoch.
    assert!(
        second.iter().all(|(query, topic)| first.get(query).is_none_or(|it| it == topic)),
        "the second epoch has the topics of the first"
    );
    let (old, new) = (topics_of(&run, 0..16), topics_of(&run, 16..24));
    let [start, later] = [&MODELS.start, "short/model"].map(|model| rows_of(folder.path(), model, &run, "query"));
    let fits = [at_home(&old, &start), at_home(&new, &later)];
    assert!(fits.iter().all(|&share| share > 0.85), "{fits:?}");
    let crossed = [at_home(&old, &later), at_home(&new, &start)];
    assert!(crossed[0] < fits[0] - 0.1 && crossed[1] < fits[1] - 0.1, "{crossed:?} with the other weights, {fits:?} with their own");
}

#[test]
fn topics_can_be_those_of_the_positives() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "cluster-batch", "run", &["train.steps=8", "batch.topics.by=positives"]);
    let topics = topics_of(&run, 0..8);
    let [queries, positives] = ["query", "document"].map(|kind| at_home(&topics, &rows_of(folder.path(), &MODELS.start, &run, kind)));
    assert!(positives > 0.85 && queries < positives - 0.1, "{positives} by the positives, {queries} by the queries");
}
