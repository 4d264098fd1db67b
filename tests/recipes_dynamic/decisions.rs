//! Recipes that relabel negatives. What a language model would say is what builtin:demo knows to be true.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::json as object;

use super::runs::{DEMO, MODELS, Run, dot, encode, text, train};
use crate::collections::animals;
use crate::command::json;

/// A pair of ids and what is decided about it.
type Decisions = BTreeMap<(String, String), &'static str>;

/// All queries, and the lists of an encoder that knows something.
fn set<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["--model", &MODELS.trained, "train.steps=24", "data.limit=0"], more].concat()
}

/// The false negatives in the first lists of a run.
fn false_negatives(folder: &Path, run: &str) -> BTreeSet<(String, String)> {
    let shown = json(folder, &["inspect", run, "--queries", "4000", "--limit", "1", "--json"]);
    let mut found = BTreeSet::new();
    for query in shown["queries"].as_array().unwrap() {
        let negatives = query["versions"][0]["negatives"].as_array().unwrap();
        found.extend(negatives.iter().filter(|it| it["relevant"] == true).map(|it| (text(&query["id"]), text(&it["id"]))));
    }
    found
}

fn write(folder: &Path, decisions: &Decisions) {
    let row = |((query, document), decision): (&(String, String), &&str)| {
        object!({ "qid": query, "pid": document, "decision": decision }).to_string() + "\n"
    };
    fs::write(folder.join("decisions.jsonl"), decisions.iter().map(row).collect::<String>()).unwrap();
}

/// A file that finds nothing wrong with this negative, and what to set to read it.
fn nothing(folder: &Path, query: &str, document: &str) -> &'static str {
    fs::write(folder.join("nothing.jsonl"), object!({ "qid": query, "pid": document, "decision": "neg" }).to_string() + "\n").unwrap();
    "data.decisions=nothing.jsonl"
}

/// How often decided pairs were drawn as negatives.
fn drawn(run: &Run, decisions: &Decisions) -> usize {
    let pairs = run.drawn().into_iter().flat_map(|row| row.negatives.into_iter().map(move |it| (row.query.clone(), it.id)));
    pairs.filter(|pair| decisions.contains_key(pair)).count()
}

/// How often pairs decided so were trained on as positives.
fn positives(run: &Run, decisions: &Decisions, decision: &str) -> usize {
    run.drawn().into_iter().filter(|row| decisions.get(&(row.query.clone(), row.positive.clone())) == Some(&decision)).count()
}

fn pairs(run: &Run) -> u64 {
    run.events("start")[0]["pairs"].as_u64().unwrap()
}

fn false_negative_rate(run: &Run) -> f64 {
    run.events("refresh")[0]["false_negative_rate"].as_f64().unwrap()
}

#[test]
fn rlhn() {
    let folder = tempfile::tempdir().unwrap();
    let plain = train(folder.path(), "rlhn", "plain", &set(&[nothing(folder.path(), "q00000", "d00000")]));
    let decisions: Decisions = false_negatives(folder.path(), "plain").into_iter().map(|pair| (pair, "pos")).collect();
    let count = decisions.len() as u64;
    assert!(count > 100 && drawn(&plain, &decisions) > 0, "{count} false negatives, {} drawn", drawn(&plain, &decisions));
    let untouched = plain.events("relabelled")[0];
    assert!(["promoted", "removed", "demoted", "dropped_queries"].iter().all(|key| untouched[*key] == 0), "{untouched}");
    write(folder.path(), &decisions);

    let with = |out: &str, policy: &str| train(folder.path(), "rlhn", out, &set(&["data.decisions=decisions.jsonl", policy]));
    let promote = with("promote", "data.decision_policy=promote");
    let relabelled = promote.events("relabelled")[0];
    assert_eq!((&relabelled["promoted"], &relabelled["removed"]), (&count.into(), &0.into()));
    assert_eq!(pairs(&promote), pairs(&plain) + count);
    assert_eq!(drawn(&promote, &decisions), 0);
    assert!(positives(&promote, &decisions, "pos") > 0, "promoted documents are trained on");
    let rates = (false_negative_rate(&plain), false_negative_rate(&promote));
    assert!(rates.0 > 0.0 && rates.1 < 0.5 * rates.0, "{rates:?}");

    let drop = with("drop", "data.decision_policy=drop-query");
    let queries: BTreeSet<&String> = decisions.keys().map(|pair| &pair.0).collect();
    assert_eq!(drop.events("relabelled")[0]["dropped_queries"], queries.len());
    // Every training query has one positive.
    assert_eq!(pairs(&drop), pairs(&plain) - queries.len() as u64);
    assert!(drop.drawn().iter().all(|row| !queries.contains(&row.query)));
}

/// Every pair of a training query and a relevant document that is not judged.
fn unjudged() -> impl Iterator<Item = (u32, u32)> {
    let (truth, judged) = (DEMO.truth.as_ref().unwrap(), DEMO.split("train").unwrap());
    truth.pairs().into_iter().filter(|&(query, document)| judged.positives(query).next().is_some() && !judged.is_positive(query, document))
}

#[test]
fn what_is_removed_is_no_negative_of_any_kind() {
    let folder = tempfile::tempdir().unwrap();
    let pair = |(query, document)| ((DEMO.queries.id(query).to_owned(), DEMO.documents.id(document).to_owned()), "pos");
    let decisions: Decisions = unjudged().map(pair).collect();
    write(folder.path(), &decisions);
    // False cells by source, over the steps that are counted.
    let wrong = |run: &Run, source: &str| -> u64 {
        let counts: Vec<u64> = run.events("step").iter().filter_map(|step| step["compared"][source]["false"].as_u64()).collect();
        assert_eq!(counts.len(), 3, "{source}");
        counts.iter().sum()
    };
    for recipe in ["rlhn", "arhn"] {
        // Wide batches: the other queries' positives are often relevant.
        let more = ["batch.queries=512", "batch.negatives=1", "negatives.filter=[]", "negatives.source.1.below_margin=false"];
        let with =
            |out: &str, policy: &[&str]| train(folder.path(), recipe, &format!("{recipe}-{out}"), &set(&[&more[..], policy].concat()));
        let plain = with("plain", &[nothing(folder.path(), "q00000", "d00000")]);
        let counts = ["in-batch", "shared"].map(|source| wrong(&plain, source));
        assert!(counts.iter().all(|&count| count > 3), "{counts:?}");
        let removed = with("remove", &["data.decisions=decisions.jsonl", "data.decision_policy=remove"]);
        assert_eq!(removed.events("relabelled")[0]["removed"], decisions.len());
        assert_eq!(pairs(&removed), pairs(&plain), "no positive comes or goes");
        assert_eq!((drawn(&removed, &decisions), positives(&removed, &decisions, "pos")), (0, 0));
        // As drawn, as another query's positive, as drawn for another query.
        assert_eq!(["in-batch", "dense", "shared"].map(|source| wrong(&removed, source)), [0; 3]);
    }
}

#[test]
fn arhn() {
    let folder = tempfile::tempdir().unwrap();
    // Whole lists: a margin would hide what ranks above the positive.
    let whole = set(&["negatives.filter=[]", "negatives.source.1.below_margin=false"]);
    let plain = train(folder.path(), "arhn", "plain", &[&whole[..], &[nothing(folder.path(), "q00000", "d00000")]].concat());
    let flagged = false_negatives(folder.path(), "plain");
    let judged = DEMO.split("train").unwrap();
    let positive = |query: &String| {
        let positive = judged.positives(DEMO.queries.find(query).unwrap()).next().unwrap();
        DEMO.documents.id(positive).to_owned()
    };
    let rows = encode(folder.path(), &MODELS.trained, "query", flagged.iter().map(|pair| &pair.0));
    let golds: Vec<String> = flagged.iter().map(|pair| positive(&pair.0)).collect();
    let documents = encode(folder.path(), &MODELS.trained, "document", flagged.iter().map(|pair| &pair.1).chain(&golds));
    // What ranks above the judged positive becomes one too; what ranks below it and answers is dropped.
    let decide = |(query, document): (String, String)| {
        let score = |id: &String| dot(&rows[&query], &documents[id]);
        let decision = if score(&document) > score(&positive(&query)) { "pos" } else { "drop" };
        ((query, document), decision)
    };
    let decisions: Decisions = flagged.iter().cloned().map(decide).collect();
    let count = |decision: &str| decisions.values().filter(|&&it| it == decision).count() as u64;
    assert!(count("pos") > 50 && count("drop") > 50, "{} above, {} below", count("pos"), count("drop"));
    assert!(drawn(&plain, &decisions) > 10, "{} drawn", drawn(&plain, &decisions));
    write(folder.path(), &decisions);

    let run = train(folder.path(), "arhn", "run", &[&whole[..], &["data.decisions=decisions.jsonl"]].concat());
    let relabelled = run.events("relabelled")[0];
    assert_eq!((&relabelled["promoted"], &relabelled["removed"]), (&count("pos").into(), &count("drop").into()));
    assert_eq!(pairs(&run), pairs(&plain) + count("pos"));
    assert_eq!((drawn(&run, &decisions), positives(&run, &decisions, "drop")), (0, 0));
    assert!(positives(&run, &decisions, "pos") > 0);
    let listed = run.version(1);
    assert!(decisions.keys().all(|(query, document)| listed[query].iter().all(|it| it.id != *document)), "what was decided is not mined");
    let rates = (false_negative_rate(&plain), false_negative_rate(&run));
    assert!(rates.0 > 0.0 && rates.1 < 0.5 * rates.0, "{rates:?}");
}

/// Over a small collection whose lists hold everything: pairs and lists are those of a run without decisions but for what was decided.
#[test]
fn decisions_change_exactly_the_pairs_that_they_name() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let pair = |query: &str, document: &str| (query.to_owned(), document.to_owned());
    // Of q9 it is the judged positive.
    let (promoted, dropped, own) = (pair("q2", "d50"), pair("q3", "d51"), pair("q9", "d9"));
    let decided = [(&promoted, "pos"), (&dropped, "drop"), (&own, "drop"), (&pair("q4", "d52"), "neg")];
    write(folder.path(), &decided.map(|(pair, decision)| (pair.clone(), decision)).into());
    let set = [
        "--data",
        "data",
        "data.limit=0",
        "batch.queries=16",
        "batch.negatives=1",
        "train.steps=30",
        "negatives.filter=[]",
        "negatives.source.1.below_margin=false",
        "negatives.source.1.depth=144",
    ];
    for recipe in ["rlhn", "arhn"] {
        let with = |out: &str, more: &[&str]| train(folder.path(), recipe, &format!("{recipe}-{out}"), &[&set[..], more].concat());
        let pairs = |run: &Run| run.drawn().into_iter().map(|row| (row.query, row.positive)).collect::<BTreeSet<_>>();
        let plain = with("plain", &[nothing(folder.path(), "q4", "d52")]);
        let (judged, whole) = (pairs(&plain), plain.version(1));
        assert!(judged.len() == 96 && judged.contains(&own) && whole.len() == 96, "{} pairs", judged.len());
        assert!(whole["q2"].iter().any(|it| it.id == "d50") && whole["q3"].iter().any(|it| it.id == "d51"));
        for (policy, counts) in [("promote", [1, 1, 1, 0]), ("remove", [0, 2, 1, 0]), ("drop-query", [0, 0, 0, 3])] {
            let run = with(policy, &["data.decisions=decisions.jsonl", &format!("data.decision_policy={policy}")]);
            let relabelled = run.events("relabelled")[0];
            assert_eq!(
                ["promoted", "removed", "demoted", "dropped_queries"].map(|key| relabelled[key].as_u64().unwrap()),
                counts,
                "{policy}"
            );
            let mut expected = judged.clone();
            expected.remove(&own);
            match policy {
                "promote" => expected.extend([promoted.clone()]),
                "drop-query" => expected.retain(|pair| ![&promoted.0, &dropped.0].contains(&&pair.0)),
                _ => {}
            }
            assert_eq!(pairs(&run), expected, "{recipe}, {policy}");
            let lists = run.version(1);
            assert_eq!(lists.keys().collect::<BTreeSet<_>>(), expected.iter().map(|pair| &pair.0).collect(), "{recipe}, {policy}");
            for (query, list) in &lists {
                let gone = |id: &String| [&promoted, &dropped].iter().any(|pair| (&pair.0, &pair.1) == (query, id));
                let left: Vec<&String> = whole[query].iter().map(|it| &it.id).filter(|id| !gone(id)).collect();
                assert_eq!(list.iter().map(|it| &it.id).collect::<Vec<_>>(), left, "{recipe}, {policy}: {query}");
            }
        }
    }
}
