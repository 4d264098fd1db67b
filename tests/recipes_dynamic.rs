//! What distinguishes each dynamic, mitigating and synthetic recipe, checked on short runs of the real command.
//!
//! `runs`       short runs taken apart, rows of their texts
//! `losses`     masks, guides, corrected losses, teachers, mixed columns
//! `decisions`  relabelled negatives
//!
//! Here: which negatives are mined and drawn, and when.

mod decisions;
mod losses;
pub(crate) mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use runs::{DEMO, MODELS, Negative, Rows, TEMPERATURE, alike, all_documents, dot, encode, encode_pairs, mean, text, train};
use serde_json::Value;

use crate::command::weights;

/// Sorted ids.
fn ids(list: &[Negative]) -> BTreeSet<&str> {
    list.iter().map(|it| it.id.as_str()).collect()
}

#[test]
fn ance() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "ance", "run", &["train.steps=12", "negatives.source.1.refresh=\"every 4 steps\""]);
    let refreshes = run.events("refresh");
    assert_eq!(refreshes.iter().map(|it| it["step"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 4, 8]);
    let versions: Vec<_> = (1..=3).map(|number| run.version(number)).collect();
    assert!(refreshes[0]["turnover"].is_null());
    for (number, pair) in versions.windows(2).enumerate() {
        let (mut kept, mut all) = (0, 0);
        for (query, list) in &pair[1] {
            kept += ids(list).intersection(&ids(&pair[0][query])).count();
            all += list.len().max(pair[0][query].len());
        }
        let turnover = refreshes[number + 1]["turnover"].as_f64().unwrap();
        assert!(turnover > 0.1 && alike(turnover, 1.0 - kept as f64 / all as f64, 1e-3), "{turnover} for {kept} of {all}");
    }
    // Every step draws from the newest lists, with their ranks and scores.
    for row in run.drawn() {
        let list = &versions[row.step / 4][&row.query];
        assert!(row.negatives.iter().all(|it| list.contains(it)), "step {}: {:?}", row.step, row.negatives);
    }
}

/// The curve of Prakash et al. (2021) for the share of judged queries with a relevant document at each rank: gains smoothed over 9 ranks,
/// fitted with degree 4.
fn curve(relevant: &[f64]) -> Vec<f64> {
    let gains: Vec<f64> = relevant.iter().enumerate().map(|(rank, share)| (1.0 - share) / (rank as f64 + 2.0).ln()).collect();
    let smoothed: Vec<f64> = gains.windows(9).map(|window| mean(window.iter().copied())).collect();
    let x = |place: usize| 2.0 * place as f64 / (smoothed.len() - 1) as f64 - 1.0;
    // Normal equations, by elimination.
    let sum = |of: &dyn Fn(usize) -> f64| (0..smoothed.len()).map(of).sum::<f64>();
    let mut rows: Vec<Vec<f64>> = (0..5)
        .map(|i| {
            let powers = (0..5).map(|j| sum(&|place| x(place).powi(i + j)));
            powers.chain([sum(&|place| x(place).powi(i) * smoothed[place])]).collect()
        })
        .collect();
    for pivot in 0..5 {
        let scale = rows[pivot][pivot];
        rows[pivot].iter_mut().for_each(|value| *value /= scale);
        let first = rows[pivot].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|it| it.0 != pivot) {
            let factor = row[pivot];
            row.iter_mut().zip(&first).for_each(|(value, first)| *value -= factor * first);
        }
    }
    let fitted = |place: usize| (0..5).map(|power| rows[power][5] * x(place).powi(power as i32)).sum::<f64>();
    let lowest = smoothed.iter().copied().fold(f64::INFINITY, f64::min);
    (0..gains.len()).map(|rank| (fitted(rank.saturating_sub(4).min(smoothed.len() - 1)) - lowest).max(0.0)).collect()
}

/// Chi-squared over the bins that expect enough.
fn chi(got: &[f64; 10], expected: &[f64; 10]) -> f64 {
    let bins = got.iter().zip(expected).filter(|bin| *bin.1 > 5.0);
    bins.map(|(got, expected)| (got - expected).powi(2) / expected).sum()
}

#[test]
fn rance() {
    let folder = tempfile::tempdir().unwrap();
    // Weights that stay as they are: the run file on the judged split shows the ranks that the curve is made of.
    let set = ["train.steps=40", "batch.negatives=1", "negatives.source.1.depth=100", "data.test=dev", "train.learning_rate=1e-30"];
    let run = train(folder.path(), "rance", "run", &[&set[..], &["--model", &MODELS.trained]].concat());
    let judgments = DEMO.split("dev").unwrap();
    let mut relevant = [0.0; 100];
    for line in fs::read_to_string(run.path.join("evaluation/run.trec")).unwrap().lines() {
        let part: Vec<&str> = line.split_whitespace().collect();
        let (query, document) = (DEMO.queries.find(part[0]).unwrap(), DEMO.documents.find(part[2]).unwrap());
        let rank = part[3].parse::<usize>().unwrap();
        // Ranks of a run file count from 1, as trec_eval's do.
        relevant[rank - 1] += f64::from(judgments.is_positive(query, document)) / judgments.queries().count() as f64;
    }
    assert!(relevant[0] > 0.1, "the encoder finds something: {relevant:?}");
    let curve = curve(&relevant);
    let lists = run.version(1);
    let (mut got, mut expected, mut uniform) = ([0.0; 10], [0.0; 10], [0.0; 10]);
    for row in run.drawn() {
        let list: Vec<usize> = lists[&row.query].iter().map(|it| it.rank - 1).filter(|&rank| rank < 100).collect();
        let total: f64 = list.iter().map(|&rank| curve[rank]).sum();
        for &rank in &list {
            expected[rank / 10] += curve[rank] / total;
            uniform[rank / 10] += 1.0 / list.len() as f64;
        }
        got[(row.negatives[0].rank - 1) / 10] += 1.0;
    }
    // 9 degrees of freedom: above 40 in fewer than one of 100,000.
    assert!(chi(&got, &expected) < 40.0, "{got:?} drawn, {expected:?} expected");
    assert!(chi(&got, &uniform) > 400.0, "{got:?} is about uniform");
}

#[test]
fn adore() {
    let folder = tempfile::tempdir().unwrap();
    // A constant rate: seven steps, four and three in the rounds, are the first seven of eight.
    let set = |steps: &'static str| ["train.schedule=\"constant\"", "train.warmup=0", steps];
    let run = train(folder.path(), "adore", "run", &set("train.steps=8"));
    let short = train(folder.path(), "adore", "short", &set("train.steps=7"));
    assert_eq!(run.losses()[..7], short.losses()[..]);
    let [first, documents, queries] = ["rounds/round-1", "document-model", "model"].map(|model| weights(&run.path.join(model)));
    assert!(first == documents, "the documents are those of round 1");
    assert!(first != queries, "the query side learns");

    // The losses of the first and the last step of round 2, from a search of all documents: the columns are what it finds.
    let all = all_documents();
    let documents = |model: &str| encode(folder.path(), model, "document", &all);
    let expected = |step: usize, queries: &str, documents: &Rows| {
        let (rows, _) = encode_pairs(folder.path(), queries, &run.pairs(step));
        mean(run.pairs(step).into_iter().zip(&rows).map(|((_, positive), query)| {
            let mut found: Vec<(f64, bool)> = documents.iter().map(|(id, row)| (dot(query, row) / TEMPERATURE, *id == positive)).collect();
            found.sort_by(|a, b| b.0.total_cmp(&a.0));
            let rank = found.iter().position(|it| it.1).unwrap();
            let gain = if rank < 200 { 1.0 / (rank + 1) as f64 } else { 0.0 };
            let pairs = found[..200].iter().enumerate().filter(|(place, _)| *place != rank);
            mean(pairs.map(|(place, other)| (gain - 1.0 / (place + 1) as f64).abs() * (other.0 - found[rank].0).exp().ln_1p()))
        }))
    };
    let frozen = documents("run/rounds/round-1");
    let (first, last) = (expected(4, "run/rounds/round-1", &frozen), expected(7, "short/model", &frozen));
    assert!(alike(run.losses()[4], first, 1e-3), "{} logged, {first} expected", run.losses()[4]);
    // After three steps the queries are those of the newest weights and the documents still those of round 1: encoded anew, they would give
    // another loss.
    assert!(alike(run.losses()[7], last, 1e-3), "{} logged, {last} expected", run.losses()[7]);
    let again = expected(7, "short/model", &documents("short/model"));
    assert!(!alike(run.losses()[7], again, 1e-2), "{} logged, {again} with documents encoded anew", run.losses()[7]);
    // What was retrieved is logged, best first, and nothing else is compared.
    let retrieved: Vec<&Value> = run.batches[4]["rows"].as_array().unwrap().iter().map(|row| &row["retrieved"]).collect();
    // Where the positive is not among the 200 it stands behind them.
    assert!(retrieved.iter().all(|list| (200..=201).contains(&list.as_array().unwrap().len())));
    assert!(run.drawn().iter().all(|row| row.negatives.is_empty()), "nothing else is drawn");
}

/// Two rounds over frozen documents, the second going on from the first: at no refresh is a document read by the encoder that learns.
#[test]
fn frozen_documents_are_mined_by_their_own_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let set =
        ["train.steps=8", "encoder.documents=frozen", "negatives.source.1.refresh=\"every 2 steps\"", "round=[{},{train={restart=false}}]"];
    let run = train(folder.path(), "ance", "run", &set);
    let [first, documents, queries, last] =
        ["rounds/round-1", "rounds/round-1-documents", "model", "document-model"].map(|model| weights(&run.path.join(model)));
    assert!(documents == last && documents != first && first != queries);
    // The first refresh of the second round: queries of the first one's weights.
    let lists = run.version(3);
    let queries = encode(folder.path(), "run/rounds/round-1", "query", lists.keys());
    let ids: BTreeSet<String> = lists.values().flatten().map(|it| it.id.clone()).collect();
    let [frozen, learned] =
        ["run/rounds/round-1-documents", "run/rounds/round-1"].map(|model| encode(folder.path(), model, "document", &ids));
    let mut apart = 0.0f64;
    for (query, list) in &lists {
        for it in list {
            let score = dot(&queries[query], &frozen[&it.id]);
            assert!((it.score - score).abs() < 1e-4, "{query} and {}: {}, expected {score}", it.id, it.score);
            apart = apart.max((score - dot(&queries[query], &learned[&it.id])).abs());
        }
    }
    assert!(apart > 0.01, "the encoder that learns would find other scores: {apart}");
}

#[test]
fn conan_dhnm() {
    let folder = tempfile::tempdir().unwrap();
    // A constant rate: four steps of the short run are the first four of the long one.
    let set = [
        "train.schedule=\"constant\"",
        "train.warmup=0",
        "train.learning_rate=0.004",
        "negatives.source.1.refresh=\"on decay every 4 steps\"",
    ];
    let with = |out: &str, more: &[&str]| train(folder.path(), "conan-dhnm", out, &[&set[..], more].concat());
    let (run, short) = (with("run", &["train.steps=8"]), with("short", &["train.steps=4"]));
    assert_eq!(run.losses()[..4], short.losses()[..]);

    // The rule by hand: the mean cosine of ranks 11 to 14 before step 0 and before step 4.
    let lists = run.version(1);
    let block = |query: &String, number: usize| lists[query][10 + 4 * number..14 + 4 * number].to_vec();
    let queries = encode(folder.path(), "short/model", "query", lists.keys());
    let first: Vec<String> = lists.keys().flat_map(|query| block(query, 0)).map(|it| it.id).collect();
    let documents = encode(folder.path(), "short/model", "document", &first);
    let fires: BTreeMap<&String, bool> = lists
        .keys()
        .map(|query| {
            let (then, now) = (
                mean(block(query, 0).iter().map(|it| it.score)),
                mean(block(query, 0).iter().map(|it| dot(&queries[query], &documents[&it.id]))),
            );
            (query, 1.15 * now < then && now.abs() < 0.8)
        })
        .collect();
    let replaced = fires.values().filter(|&&fires| fires).count();
    assert!(replaced > 30 && replaced < fires.len() - 30, "{replaced} of {} queries move on", fires.len());
    assert_eq!(run.events("refresh")[1]["replaced"], replaced);
    for row in run.drawn() {
        let moved = row.step >= 4 && fires[&row.query];
        assert_eq!(row.negatives, block(&row.query, usize::from(moved)), "step {}, query {}", row.step, row.query);
    }

    // No cosine is that near to 0: a rule that can never hold.
    let never = with("never", &["train.steps=8", "negatives.decay.below=1e-9"]);
    assert_eq!(never.events("refresh")[1]["replaced"], 0);
    assert!(never.drawn().iter().all(|row| row.negatives == block(&row.query, 0)));
}

#[test]
fn simans() {
    let folder = tempfile::tempdir().unwrap();
    let with = |out: &str, a: &str| train(folder.path(), "simans", out, &["train.steps=24", a]);
    let (narrow, wide) = (with("narrow", "negatives.draw.a=1e9"), with("wide", "negatives.draw.a=0"));
    let lists = narrow.version(1);
    let rows = narrow.drawn();
    let queries = encode(folder.path(), &MODELS.start, "query", rows.iter().map(|row| &row.query));
    let documents = encode(folder.path(), &MODELS.start, "document", rows.iter().map(|row| &row.positive));
    let distance = |query: &String, positive: &String, it: &Negative| (it.score - dot(&queries[query], &documents[positive])).abs();
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    for row in rows.iter().filter(|row| row.step < 8) {
        let of = |list: &[Negative]| sorted(list.iter().map(|it| distance(&row.query, &row.positive, it)).collect());
        let (got, all) = (of(&row.negatives), of(&lists[&row.query]));
        assert!(got.len() == 7 && got.iter().zip(&all).all(|(got, best)| got - best < 1e-4), "{got:?} are not the nearest of {all:?}");
    }
    // The recipe's own constants, one draw a visit: how often a candidate is drawn, by tenths of the list in the order of the weights.
    let run = train(folder.path(), "simans", "run", &["--model", &MODELS.trained, "train.steps=24", "batch.negatives=1"]);
    let listed = fs::read_to_string(run.path.join("negatives/version-1.jsonl")).unwrap();
    let listed = listed.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
    let positives: BTreeMap<String, f64> = listed.map(|row| (text(&row["query_id"]), row["positive_score"].as_f64().unwrap())).collect();
    let lists_of_trained = run.version(1);
    let (mut got, mut expected, mut uniform) = ([0.0; 10], [0.0; 10], [0.0; 10]);
    for row in run.drawn() {
        let weight = |it: &Negative| (-0.5 * ((it.score - positives[&row.query]) / TEMPERATURE).powi(2)).exp();
        let mut list = lists_of_trained[&row.query].clone();
        list.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
        let total: f64 = list.iter().map(weight).sum();
        for (place, it) in list.iter().enumerate() {
            expected[place * 10 / list.len()] += weight(it) / total;
            uniform[place * 10 / list.len()] += 1.0 / list.len() as f64;
        }
        got[list.iter().position(|it| *it == row.negatives[0]).unwrap() * 10 / list.len()] += 1.0;
    }
    // 9 degrees of freedom: above 40 in fewer than one of 100,000.
    assert!(chi(&got, &expected) < 40.0, "{got:?} drawn, {expected:?} expected");
    assert!(chi(&got, &uniform) > 400.0, "{got:?} is about uniform");

    // a = 0: every place of the list as often as any other.
    let mut places = [0.0; 10];
    for row in wide.drawn() {
        let list = &lists[&row.query];
        row.negatives.iter().for_each(|it| places[list.iter().position(|other| other == it).unwrap() / 10] += 1.0);
    }
    let expected = 24.0 * 64.0 * 0.7;
    // Five standard deviations.
    assert!(places.iter().all(|count: &f64| (count - expected).abs() < 5.0 * expected.sqrt()), "{places:?} instead of {expected} each");
}

#[test]
fn trisampler() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["--model", &MODELS.trained, "train.steps=8", "negatives.draw.a=1e9", "negatives.filter.0.degrees=25.0"];
    let run = train(folder.path(), "trisampler", "run", &set);
    let (lists, rows) = (run.version(1), run.drawn());
    let model = &MODELS.trained;
    let queries = encode(folder.path(), model, "query", rows.iter().map(|row| &row.query));
    let listed: Vec<String> = rows.iter().flat_map(|row| lists.get(&row.query).into_iter().flatten().map(|it| it.id.clone())).collect();
    let documents = encode(folder.path(), model, "document", rows.iter().map(|row| &row.positive).chain(&listed));
    assert!(run.events("refresh")[0]["removed"]["angle"].as_u64().unwrap() > 0);
    let mut inside = 0;
    for row in &rows {
        let (query, positive) = (&queries[&row.query], &documents[&row.positive]);
        let at = dot(query, positive);
        let angle = |cosine: f64| cosine.clamp(-1.0, 1.0).acos().to_degrees();
        // The filter can leave nothing.
        let Some(list) = lists.get(&row.query) else { continue };
        assert!(list.iter().all(|it| (angle(it.score) - angle(at)).abs() < 25.01), "{list:?} around {at}");
        // The set: the 30 nearest to the positive's score.
        let mut distances: Vec<f64> = list.iter().map(|it| (it.score - at).abs()).collect();
        distances.sort_by(f64::total_cmp);
        let edge = distances.get(29).copied().unwrap_or(f64::INFINITY) + 1e-4;
        assert!(row.negatives.iter().all(|it| (it.score - at).abs() <= edge), "{:?} around {at}, up to {edge}", row.negatives);
        // Inside it, those that lie nearer to the positive than to the query come first.
        let surplus = |it: &Negative| dot(positive, &documents[&it.id]) - dot(query, &documents[&it.id]);
        let nearer = list.iter().filter(|it| (it.score - at).abs() < edge - 2e-4 && surplus(it) > 1e-4).count();
        let drawn = row.negatives.iter().filter(|it| surplus(it) > -1e-4).count();
        assert!(drawn >= nearer.min(7), "{drawn} of {nearer} for {}", row.query);
        inside += usize::from((7..25).contains(&nearer));
    }
    assert!(inside > 100, "the second stage had a choice in {inside} rows only");
}

#[test]
fn nv_retriever() {
    let folder = tempfile::tempdir().unwrap();
    let model = &MODELS.trained;
    let run = train(folder.path(), "nv-retriever", "run", &["--model", model, "train.steps=6"]);
    let lists = run.version(1);
    let rows = run.drawn();
    let queries = encode(folder.path(), model, "query", rows.iter().map(|row| &row.query));
    let all = all_documents();
    let documents = encode(folder.path(), model, "document", &all);
    for row in &rows {
        let query = &queries[&row.query];
        let positive = dot(query, &documents[&row.positive]);
        let bound = positive - 0.05 * positive.abs();
        let list = &lists[&row.query];
        assert!(list.iter().all(|it| it.score <= bound + 1e-5), "{list:?} above {bound}");
        // The ten best below the bound, of the whole corpus.
        let mut below: Vec<f64> = documents.values().map(|row| dot(query, row)).filter(|&score| score <= bound).collect();
        below.sort_by(|a, b| b.total_cmp(a));
        assert!(list.len() == 10 && list.iter().zip(&below).all(|(it, best)| (it.score - best).abs() < 1e-4), "{list:?} and {below:?}");
        assert_eq!(row.negatives, list[..4]);
    }
    // A stronger miner by the name of its folder finds the same for an encoder that knows nothing.
    let miner = format!("negatives.source.1.model=\"{model}\"");
    let named = train(folder.path(), "nv-retriever", "named", &[&miner, "train.steps=2"]);
    assert!(named.version(1) == lists, "{model} as the miner, and as what is trained");
    assert_ne!(named.losses()[0], run.losses()[0]);
}
