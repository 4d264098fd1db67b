//! What distinguishes each recipe of the static family, checked on short runs of the real command.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json as object};

use crate::command::weights;
use crate::matrix::Matrix;
use crate::recipes_dynamic::runs::{
    DEMO, MODELS, Mined, Run, alike, all_documents, assert_alike, assert_apart, columns, dot, encode, known, mined, raw_lists, rows,
    sources, tensors, text, train,
};

fn ranks(run: &Run) -> Vec<usize> {
    run.drawn().iter().flat_map(|row| row.negatives.iter().map(|it| it.rank)).collect()
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
    // The loss of the first step by hand: every query meets the positives and the hard negatives of all.
    let matrix = Matrix::new(folder.path(), &MODELS.start, &run, 0);
    let expected = matrix.info_nce(|row| matrix.negatives(row, &[]));
    assert!(alike(run.losses()[0], expected, 1e-4), "{} logged, {expected} expected", run.losses()[0]);
    let compared = &run.events("step")[0]["compared"];
    let open: u64 = ["in-batch", "bm25", "shared"].iter().map(|source| compared[source]["open"].as_u64().unwrap()).sum();
    assert_eq!(open as usize, matrix.rows().map(|row| matrix.open(row).len()).sum::<usize>(), "{compared}");
    // How hard its own negatives are for every fourth query, 32 of them, by hand; and they lie at the first or the second rank of their lists.
    let below = |row| matrix.own(row).into_iter().map(|column| matrix.target(row) - matrix.score(row, column)).collect::<Vec<_>>();
    let mut below: Vec<f64> = matrix.rows().step_by(4).flat_map(below).collect();
    below.sort_unstable_by(f64::total_cmp);
    let (bm25, harder) = (&compared["bm25"], below.iter().filter(|&&it| it < 0.0).count());
    assert_eq!(bm25["harder_share"].as_f64().unwrap(), harder as f64 / below.len() as f64, "{compared}");
    let median = bm25["below_positive"]["p50"].as_f64().unwrap();
    assert!((median - f64::midpoint(below[15], below[16])).abs() < 1e-5, "{median} logged, of {below:?}");
    let ranks: Vec<usize> = matrix.drawn.iter().flat_map(|row| row.negatives.iter().map(|it| it.rank)).collect();
    let bins = bm25["ranks"].as_array().unwrap();
    assert_eq!(bins[0].as_u64().unwrap() as usize, ranks.iter().filter(|&&rank| rank == 1).count(), "{compared}");
    assert_eq!(bins.iter().map(|bin| bin.as_u64().unwrap()).sum::<u64>(), 128, "{compared}");
    let own = matrix.info_nce(|row| matrix.own(row).into_iter().map(|column| matrix.score(row, column)).collect());
    assert!(!alike(expected, own, 0.1), "{expected} and {own} must differ for this to tell anything");
}

/// The dense lists of a version are those that another command mines with this model, in its order, and not those of the other one.
fn assert_mined_by(folder: &Path, run: &Run, version: usize, [model, other]: [&str; 2], depth: usize) {
    let find = |model: &str| mined(folder, model, &depth.to_string());
    let (expected, other) = (find(model), find(other));
    let same = |it: &Value, mined: &Mined| {
        let score = it["score"].as_f64().unwrap();
        mined.negatives.iter().any(|(id, at)| *id == text(&it["id"]) && (at - score).abs() < 1e-5)
    };
    let (mut all, mut as_expected, mut as_other) = (0, 0, 0);
    for (query, row) in raw_lists(run, version) {
        for it in row["negatives"].as_array().unwrap().iter().filter(|it| it["source"] == "dense") {
            all += 1;
            as_expected += usize::from(same(it, &expected[&query]));
            as_other += usize::from(same(it, &other[&query]));
        }
    }
    // Of equal scores at the end of a list either may be in it.
    assert!(all > 512 * depth * 9 / 10 && as_expected * 1000 > all * 999, "{as_expected} of {all} are what {model} finds");
    assert!(as_other * 10 < all, "{as_other} of {all} are what the other model finds as well");
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
    // The new ones are what the first model finds.
    assert_mined_by(folder.path(), &run, 2, ["run/rounds/round-1", &MODELS.start], 100);
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
    let all = all_documents();
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

    // Which ranks these are shows where a positive is among the first ten: there it uses up one of them, so that ranks 11 to 210 of the whole ranking
    // remain. Had it been taken out first, the eleventh would be the tenth of the others, and dropped.
    let known_model = train(folder.path(), "bge-hn", "known", &["train.steps=1", "--model", &MODELS.trained]);
    let lists = known_model.version(1);
    let queries = encode(folder.path(), &MODELS.trained, "query", lists.keys());
    let documents = encode(folder.path(), &MODELS.trained, "document", &all_documents());
    let mut early = 0;
    for (query, list) in lists {
        let mut ranking: Vec<(f64, &String)> = documents.iter().map(|(id, row)| (dot(&queries[&query], row), id)).collect();
        ranking.sort_by(|a, b| b.0.total_cmp(&a.0));
        if !ranking[..10].iter().any(|it| known(&query, it.1)) {
            continue;
        }
        early += 1;
        let window: Vec<f64> = ranking[10..210].iter().filter(|it| !known(&query, it.1)).map(|it| it.0).collect();
        assert_eq!(list.len(), window.len(), "{query}");
        assert!(list.iter().zip(&window).all(|(it, score)| (it.score - score).abs() < 1e-5), "{query}: {:?}, not {:?}", list[0], window[0]);
        assert_eq!((list[0].rank, list[list.len() - 1].rank), (11, 210), "{query}");
    }
    assert!(early > 50, "{early} positives among the first ten");
}

#[test]
fn star() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "star", "run", &["train.steps=3", "--model", &MODELS.start]);
    assert!(run.drawn().iter().all(|row| row.negatives.len() == 1));
    assert_eq!(sources(&run, 0..3), BTreeSet::from(["dense".to_owned()]));
    // The loss of the first step by hand: over all queries and all documents of the batch, the hard ones of every query among them, pairs of
    // equal weight.
    let matrix = Matrix::new(folder.path(), &MODELS.start, &run, 0);
    let expected = matrix.pairwise(|row| matrix.open(row));
    assert!(alike(run.losses()[0], expected, 1e-4), "{} logged, {expected} expected", run.losses()[0]);
}

#[test]
fn cocondenser() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["train.steps=10", "train.checkpoint_every=1", "train.keep_checkpoints=11"];
    let run = train(folder.path(), "cocondenser", "run", &set);
    // Six steps and four. A restart: the first step has the learning rate 0 in both rounds, so its weights are the start weights.
    let after = |step: usize| tensors(&run.path.join(format!("checkpoints/step-{step}/weights.safetensors")));
    assert!(after(7) == after(1) && after(6) != after(1));
    assert_eq!(sources(&run, 0..6).len(), 1);
    assert_eq!(sources(&run, 6..10).len(), 2, "the second round draws from both lists");
    // Half of the negatives from each.
    let dense = rows(&run, 6..10).iter().flat_map(|row| row["negatives"].as_array().unwrap()).filter(|it| it["source"] == "dense").count();
    assert!((dense as f64 / (4.0 * 32.0 * 7.0) - 0.5).abs() < 0.05, "{dense}");
    assert!(run.path.join("rounds/round-1/modules.json").is_file());
    assert!(weights(&run.path.join("rounds/round-1")) != weights(&run.path.join("model")));
    assert_mined_by(folder.path(), &run, 2, ["run/rounds/round-1", &MODELS.start], 200);
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
    let run = train(folder.path(), "lce", "run", &["train.steps=4", "--model", &MODELS.start]);
    // Groups of eight: a positive, and seven of the first hundred that the start encoder finds.
    assert_eq!(sources(&run, 0..4), BTreeSet::from(["dense".to_owned()]));
    assert!(run.drawn().iter().all(|row| row.negatives.len() == 7 && row.negatives.iter().all(|it| it.rank <= 101)));
    assert!(ranks(&run).iter().any(|&rank| rank > 80), "drawn from the whole list");
    assert_mined_by(folder.path(), &run, 1, [&MODELS.start, &MODELS.trained], 100);
    let matrix = Matrix::new(folder.path(), &MODELS.start, &run, 0);
    let expected = matrix.info_nce(|row| matrix.own(row).into_iter().map(|column| matrix.score(row, column)).collect());
    assert!(alike(run.losses()[0], expected, 1e-4), "{} logged, {expected} expected", run.losses()[0]);
    let groups = train(folder.path(), "lce", "groups", &["train.steps=4", "loss.kind=info-nce", "--model", &MODELS.start]);
    assert_alike(&run.losses(), &groups.losses(), 1e-5);
    let set = ["train.steps=4", "loss.kind=info-nce", "batch.share_negatives=true", "--model", &MODELS.start];
    let shared = train(folder.path(), "lce", "shared", &set);
    assert_apart(&run.losses(), &shared.losses());
}
