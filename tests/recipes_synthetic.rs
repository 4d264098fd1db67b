//! What distinguishes the recipes whose queries or negatives a language model wrote, checked on short runs of the real command. The files that it
//! would write are made out of builtin:demo.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use corpus::Collection;
use serde_json::{Value, json as object};

use crate::command::{failure, json, weights};
use crate::parts::resume;
use crate::recipes_dynamic::runs::{DEMO, Drawn, MODELS, Run, alike, dot, encode_texts, mean, text, train};

/// A written query: its id, its text, its positive.
#[derive(Clone)]
struct Written {
    id: String,
    text: String,
    positive: String,
}

/// The first words of a document.
fn beginning(document: u32, words: usize) -> String {
    DEMO.documents.text(document).split_whitespace().take(words).collect::<Vec<_>>().join(" ")
}

/// Queries for every seventh document, which ask with its first words.
fn queries(count: u32) -> Vec<Written> {
    let query = |number: u32| {
        let document = number * 7;
        Written { id: format!("w{number}"), text: beginning(document, 9), positive: DEMO.documents.id(document).to_owned() }
    };
    (0..count).map(query).collect()
}

/// Writes them as `queries.jsonl`; `more` adds fields to the row of a query.
fn write(folder: &Path, queries: &[Written], more: impl Fn(usize) -> Value) {
    let mut rows = String::new();
    for (number, Written { id, text, positive }) in queries.iter().enumerate() {
        let mut row = object!({ "_id": id, "text": text, "positive": [positive], "source": positive });
        row.as_object_mut().unwrap().extend(more(number).as_object().unwrap().clone());
        writeln!(rows, "{row}").unwrap();
    }
    fs::write(folder.join("queries.jsonl"), rows).unwrap();
}

/// Writes `count` texts for every query of builtin:demo as `generated.jsonl`.
fn generate(folder: &Path, count: u32, text: impl Fn(u32, u32) -> String) {
    let mut rows = String::new();
    for query in 0..DEMO.queries.len() as u32 {
        let texts: Vec<Value> = (0..count).map(|number| object!({ "text": text(query, number) })).collect();
        writeln!(rows, "{}", object!({ "qid": DEMO.queries.id(query), "neg_synth": texts })).unwrap();
    }
    fs::write(folder.join("generated.jsonl"), rows).unwrap();
}

/// A text that no document is like.
fn odd(query: u32, number: u32) -> String {
    format!("written by a machine for {} as number {number}", DEMO.queries.id(query))
}

/// A text that is like a document: one with its last two words in the other order.
fn like_a_document(query: u32, number: u32) -> String {
    let document = (query * 13 + number * 4001 + 5) % DEMO.documents.len() as u32;
    let mut words: Vec<&str> = DEMO.documents.text(document).split_whitespace().collect();
    let last = words.len() - 1;
    words.swap(last - 1, last);
    words.join(" ")
}

const QUERIES: &str = "data.queries=queries.jsonl";

fn sources(run: &Run) -> BTreeSet<String> {
    let rows = run.batches.iter().flat_map(|line| line["rows"].as_array().unwrap());
    rows.flat_map(|row| row["negatives"].as_array().unwrap()).map(|it| text(&it["source"])).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|it| (*it).to_owned()).collect()
}

/// All documents by id, as a model reads them.
fn documents(folder: &Path, model: &str) -> BTreeMap<String, Vec<f64>> {
    let all = |document: u32| (DEMO.documents.id(document).to_owned(), DEMO.documents.text(document).to_owned());
    encode_texts(folder, model, "document", &(0..DEMO.documents.len() as u32).map(all).collect::<Vec<_>>())
}

fn rows_of(folder: &Path, model: &str, queries: &[Written]) -> BTreeMap<String, Vec<f64>> {
    let texts: Vec<(String, String)> = queries.iter().map(|it| (it.id.clone(), it.text.clone())).collect();
    encode_texts(folder, model, "query", &texts)
}

fn pair(row: &Drawn) -> (String, String) {
    (row.query.clone(), row.positive.clone())
}

#[test]
fn gpl() {
    let folder = tempfile::tempdir().unwrap();
    let written = queries(48);
    write(folder.path(), &written, |_| object!({}));
    // A teacher that knows nothing, so that its margins cannot be the student's by accident.
    let teacher = |query: &str, document: &str| {
        let number = |id: &str| id[1..].parse::<u32>().unwrap();
        f64::from((number(query) * 31 + number(document) * 17) % 97) / 8.0
    };
    let mut scores = String::new();
    for Written { id, .. } in &written {
        for document in 0..DEMO.documents.len() as u32 {
            let document = DEMO.documents.id(document);
            writeln!(scores, "{id}\t{document}\t{}", teacher(id, document)).unwrap();
        }
    }
    fs::write(folder.path().join("teacher.tsv"), scores).unwrap();
    let set = [QUERIES, "data.teacher=teacher.tsv", "train.steps=6", "batch.queries=16"];
    let run = train(folder.path(), "gpl", "run", &set);
    assert_eq!(run.events("queries")[0]["queries"], 48);
    assert_eq!(run.events("start")[0]["pairs"], 48, "the collection's own queries are not trained on");
    let pairs: BTreeSet<_> = run.drawn().iter().map(pair).collect();
    assert_eq!(pairs, written.iter().map(|it| (it.id.clone(), it.positive.clone())).collect(), "all pairs in two epochs of three batches");
    // One negative, of the union of both miners.
    assert_eq!(sources(&run), names(&["bm25", "dense"]));
    let lists = run.version(1);
    for row in run.drawn() {
        let list = &lists[&row.query];
        let different: BTreeSet<_> = list.iter().map(|it| &it.id).collect();
        assert!(different.len() == list.len() && (51..=100).contains(&list.len()), "{} candidates", list.len());
        assert!(row.negatives.len() == 1 && list.contains(&row.negatives[0]));
    }
    // The loss of the first step, whose weights are those of the start encoder: a tenth of the teacher's margin is the target.
    let (query_rows, document_rows) = (rows_of(folder.path(), &MODELS.start, &written), documents(folder.path(), &MODELS.start));
    let losses = run.drawn().into_iter().filter(|row| row.step == 0).map(|row| {
        let (positive, negative) = (&row.positive, &row.negatives[0].id);
        let student = |document: &String| dot(&query_rows[&row.query], &document_rows[document]);
        let margin = 0.1 * (teacher(&row.query, positive) - teacher(&row.query, negative));
        (student(positive) - student(negative) - margin).powi(2)
    });
    let (got, expected) = (run.losses()[0], mean(losses));
    assert!(alike(got, expected, 1e-3), "{got} logged, {expected} expected");
}

/// The same with a cross-encoder of the run's own: the loss follows it, and nothing else does.
#[test]
fn gpl_with_a_cross_encoder_at_work() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &queries(48), |_| object!({}));
    let run = |name: &str, steps: &str| {
        let reranker = ["reranker.model=retriever", "reranker.lists=4", "reranker.negatives=3", "reranker.length=64", "reranker.depth=100"];
        let set = [&reranker[..], &[QUERIES, "train.steps=2", "batch.queries=16", steps]].concat();
        train(folder.path(), "gpl", name, &set)
    };
    let (one, other) = (run("one", "reranker.steps=5"), run("other", "reranker.steps=15"));
    assert_eq!(one.events("reranker")[0]["steps"], 5);
    assert_eq!(one.batches[0]["rows"], other.batches[0]["rows"], "both draw the same");
    let losses = [one.losses()[0], other.losses()[0]];
    assert!(losses[0] != losses[1] && losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
}

#[test]
fn inpars() {
    let folder = tempfile::tempdir().unwrap();
    let written = queries(60);
    let logprob = |number: usize| -0.1 * ((number * 7 % 60) as f64) - 0.05;
    write(folder.path(), &written, |number| object!({ "logprob": logprob(number) }));
    let set = [QUERIES, "data.queries_keep=20", "train.steps=20", "batch.queries=10"];
    let run = train(folder.path(), "inpars", "run", &set);
    assert_eq!((&run.events("queries")[0]["rows"], &run.events("queries")[0]["queries"]), (&60.into(), &20.into()));
    // The twenty of the highest log-probability.
    let kept: BTreeSet<_> = (0..60).filter(|number| number * 7 % 60 < 20).map(|number| format!("w{number}")).collect();
    assert_eq!(run.drawn().into_iter().map(|row| row.query).collect::<BTreeSet<_>>(), kept);
    // Uniform over the ranks of the lists, which are up to 1,000 deep.
    assert_eq!(sources(&run), names(&["bm25"]));
    let lists = run.version(1);
    assert!(lists.values().any(|list| list.len() == 1000), "{:?}", lists.values().map(Vec::len).collect::<Vec<_>>());
    let drawn = run.drawn();
    let part = |row: &Drawn| {
        assert_eq!(row.negatives.len(), 1);
        let list = &lists[&row.query];
        (list.iter().position(|it| *it == row.negatives[0]).unwrap() as f64 + 0.5) / list.len() as f64
    };
    let middle = mean(drawn.iter().map(part));
    // Five deviations of the mean of uniform numbers.
    assert!((middle - 0.5).abs() < 5.0 / (12.0 * drawn.len() as f64).sqrt(), "{middle} of {}", drawn.len());

    let shown = json(folder.path(), &["inspect", "run", "--query", "w0", "--json"]);
    assert_eq!(shown["queries"][0]["text"], written[0].text.as_str());
    assert_eq!(shown["queries"][0]["versions"][0]["false_negatives"], Value::Null, "nobody knows all that is relevant for it");

    // Without a file, or with one that says no log-probability, the recipe is refused.
    let ask = |more: &[&str]| {
        let arguments = [&["train", "--recipe", "inpars", "--device", "cpu", "--out", "none"][..], more].concat();
        failure(folder.path(), &arguments)
    };
    let (code, line) = ask(&[]);
    assert!(code == 2 && line.contains("data.queries_use = \"replace\" needs data.queries = FILE"), "{line}");
    write(folder.path(), &written, |number| if number == 30 { object!({}) } else { object!({ "logprob": 0.0 }) });
    let (code, line) = ask(&["--set", QUERIES]);
    assert!(code == 2 && line.contains("queries.jsonl:31: the query `w30` has no `logprob`"), "{line}");
}

#[test]
fn promptagator() {
    let folder = tempfile::tempdir().unwrap();
    // A third of the queries are about another document than the one that they are paired with.
    let mut written = queries(240);
    for number in (0..240).step_by(3) {
        written[number].positive = DEMO.documents.id(3000 + number as u32).to_owned();
    }
    write(folder.path(), &written, |_| object!({}));
    // A low rate: what is wrong must not be learned by heart in so many passes.
    let set = [QUERIES, "train.steps=60", "batch.queries=24", "train.learning_rate=0.001"];
    let run = train(folder.path(), "promptagator", "run", &set);
    assert!(sources(&run).is_empty() && run.events("refresh").is_empty(), "in-batch negatives only");
    // What the model of the first round finds first.
    let (query_rows, document_rows) =
        (rows_of(folder.path(), "run/rounds/round-1", &written), documents(folder.path(), "run/rounds/round-1"));
    let first = |it: &&Written| {
        let score = |document: &String| dot(&query_rows[&it.id], &document_rows[document]);
        document_rows.keys().all(|other| *other == it.positive || score(other) <= score(&it.positive) + 1e-6)
    };
    let told = run.events("round_trip")[0];
    let consistent: BTreeSet<_> = written.iter().filter(first).map(|it| (it.id.clone(), it.positive.clone())).collect();
    let trained =
        |steps: std::ops::Range<usize>| -> BTreeSet<_> { run.drawn().iter().filter(|row| steps.contains(&row.step)).map(pair).collect() };
    let (all, kept) = (trained(0..30), trained(30..60));
    assert_eq!(all.len(), 240, "the first round trains on everything");
    assert_eq!((told["pairs"].as_u64(), told["refused"].as_u64()), (Some(240), Some(240 - consistent.len() as u64)), "{told}");
    assert!(kept.is_subset(&consistent), "{:?}", kept.difference(&consistent).collect::<Vec<_>>());
    // Batches that are not full are left out, so a few may never come.
    assert!(kept.len() + 24 > consistent.len() && kept.len() > 24 && consistent.len() < 200, "{} of {}", kept.len(), consistent.len());
}

#[test]
fn e5_synthetic() {
    let folder = tempfile::tempdir().unwrap();
    let triples = |numbers: std::ops::Range<u32>| -> String {
        let row = |number: u32| {
            let [positive, negative] = [number * 5, number * 5 + 2000].map(|document| DEMO.documents.text(document));
            object!({ "query": beginning(number * 5, 7), "positive": positive, "negative": negative }).to_string() + "\n"
        };
        numbers.map(row).collect()
    };
    let data = folder.path().join("triples");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("train.jsonl"), triples(0..300)).unwrap();
    fs::write(data.join("test.jsonl"), triples(300..360)).unwrap();
    let run = train(folder.path(), "e5-synthetic", "run", &["--data", "triples", "train.steps=6", "batch.queries=32"]);
    let collection = Collection::open(data.to_str().unwrap()).unwrap();
    let negatives: BTreeMap<String, String> = triples(0..300)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| (text(&row["query"]), text(&row["negative"])))
        .collect();
    let text_of = |id: &String| collection.documents.text(collection.documents.find(id).unwrap());
    for row in run.drawn() {
        let query = collection.queries.text(collection.queries.find(&row.query).unwrap());
        assert_eq!(row.negatives.iter().map(|it| text_of(&it.id)).collect::<Vec<_>>(), [negatives[query].as_str()]);
    }
    assert_eq!(sources(&run), names(&["file"]));
    assert!(run.batches.iter().all(|line| line["columns"].as_u64().unwrap() > 32), "beside the other queries' positives");
}

#[test]
fn gecko() {
    let folder = tempfile::tempdir().unwrap();
    let written = queries(500);
    let listed = |number: usize| [1, 2].map(|other| DEMO.documents.id((number as u32 * 7 + 700 * other) % 5924).to_owned());
    write(folder.path(), &written, |number| object!({ "negatives": listed(number) }));
    let run = train(folder.path(), "gecko", "run", &[QUERIES, "data.limit=0", "train.steps=16"]);
    assert_eq!(run.events("queries")[0]["negatives"], 1000);
    assert_eq!(run.events("start")[0]["pairs"], 4500, "added to the judged pairs");
    let (mut new, mut old) = (0, 0);
    for row in run.drawn() {
        match row.query.strip_prefix('w') {
            Some(number) => {
                let number: usize = number.parse().unwrap();
                assert_eq!(row.positive, written[number].positive);
                assert!(row.negatives.len() == 1 && listed(number).contains(&row.negatives[0].id), "{:?}", row.negatives);
                new += 1;
            }
            None => {
                assert!(row.negatives.is_empty(), "nothing was chosen for it");
                old += 1;
            }
        }
    }
    assert!(new > 50 && old > 500, "{new} written and {old} judged pairs");
    assert_eq!(sources(&run), names(&["file"]));
}

/// The shortcut checks of a run: step, AUC, and what generated texts were set against.
fn checks(run: &Run) -> Vec<(u64, f64, String)> {
    let check = |event: &&Value| (event["step"].as_u64().unwrap(), event["auc"].as_f64().unwrap(), text(&event["against"]));
    run.events("shortcut").iter().map(check).collect()
}

#[test]
fn syneg() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), 2, odd);
    let every = ["negatives.source.1.refresh=\"every 3 steps\"", "negatives.source.2.refresh=\"every 3 steps\""];
    let run = train(folder.path(), "syneg", "run", &[&every[..], &["train.steps=6"]].concat());
    let mut seen = 0;
    for row in run.batches.iter().flat_map(|line| line["rows"].as_array().unwrap()) {
        let negatives = row["negatives"].as_array().unwrap();
        let generated: Vec<String> = negatives.iter().filter(|it| it["source"] == "generated").map(|it| text(&it["id"])).collect();
        let query = DEMO.queries.find(row["query"].as_str().unwrap()).unwrap();
        // Its own texts: two for each query, in the order of the file.
        assert_eq!(generated, [format!("generated:{}", 2 * query), format!("generated:{}", 2 * query + 1)]);
        assert_eq!(negatives.iter().filter(|it| it["source"] == "dense").count(), 2, "half and half inside each instance");
        seen += 1;
    }
    assert_eq!(seen, 6 * 64);
    // At every refresh: what the margin would have dropped, and whether the texts give themselves away, which these do. At the end as well.
    let refreshes = run.events("refresh");
    assert_eq!(refreshes.len(), 2);
    let mut spared = Vec::new();
    for event in refreshes {
        let generated = event["by_source"].as_array().unwrap().iter().find(|source| source["name"] == "generated").unwrap();
        spared.push(generated["spared"]["margin"].as_u64().unwrap());
        assert!(generated["found"] == 1024 && generated["candidates"] == 1024, "{generated}");
        assert!(generated["removed"].as_object().unwrap().get("margin").is_none(), "{generated}");
    }
    // The untrained encoder has many above the positive; three steps later it has learned that they are negatives.
    assert!(spared[0] > 0 && spared[1] < spared[0], "{spared:?}");
    let checks = checks(&run);
    assert_eq!(checks.iter().map(|it| it.0).collect::<Vec<_>>(), [0, 3, 6]);
    assert!(checks.iter().all(|it| it.1 > 0.95 && it.2 == "retrieved"), "{checks:?}");
    let report = fs::read_to_string(run.path.join("report.html")).unwrap();
    for part in ["shortcut check", "machine-written = negative", "<td>margin</td>"] {
        assert!(report.contains(part), "{part} is missing");
    }

    // Masks of the loss exempt them too, and count.
    let masked = train(folder.path(), "syneg", "masked", &["train.steps=2", "loss.mask=[{rule=\"student\",margin=0.0}]"]);
    let shares = masked.steps("spared_share");
    assert!(shares.len() == 2 && shares.iter().all(|share| (0.0..=1.0).contains(share)), "{shares:?}");
    let taken = train(folder.path(), "syneg", "taken", &["train.steps=1", "loss.mask=[{rule=\"student\",margin=0.0,synthetic=true}]"]);
    let (share, all) = (masked.steps("masked_share")[0], taken.steps("masked_share")[0]);
    assert!(all > share && taken.events("step")[0]["spared_share"].is_null(), "{all} {share}");
}

#[test]
fn llm_negative() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), 1, like_a_document);
    let run = train(folder.path(), "llm-negative", "run", &["train.steps=4"]);
    assert_eq!(sources(&run), names(&["generated"]));
    assert!(run.drawn().iter().all(|row| row.negatives.len() == 1 && row.negatives[0].id.starts_with("generated:")));
    // Texts that are like documents cannot be told from them: about 500 of each are looked at, half of them held out; five deviations of the AUC.
    let checks = checks(&run);
    assert_eq!(checks.iter().map(|it| it.0).collect::<Vec<_>>(), [0, 4]);
    let bound = 5.0 * (513.0_f64 / (12.0 * 256.0 * 256.0)).sqrt();
    assert!(checks.iter().all(|it| (it.1 - 0.5).abs() < bound && it.2 == "random"), "{checks:?}, bound {bound}");
}

#[test]
fn runs_on_written_queries_with_generated_negatives_resume_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let written = queries(300);
    write(folder.path(), &written, |_| object!({}));
    let mut rows = String::new();
    for Written { id, .. } in &written {
        writeln!(
            rows,
            "{}",
            object!({ "qid": id, "neg_synth": [{ "text": format!("one text for {id}") }, { "text": format!("another for {id}") }] })
        )
        .unwrap();
    }
    fs::write(folder.path().join("generated.jsonl"), rows).unwrap();
    let set = [
        QUERIES,
        "data.queries_use=replace",
        "train.steps=8",
        "train.checkpoint_every=1",
        "train.keep_checkpoints=9",
        "batch.queries=32",
        "negatives.source.1.refresh=\"every 3 steps\"",
        "negatives.source.2.refresh=\"every 3 steps\"",
    ];
    let first = train(folder.path(), "syneg", "run", &set);
    assert!(first.drawn().iter().all(|row| row.query.starts_with('w')));
    assert_eq!(first.events("refresh")[0]["false_negative_rate"], Value::Null);
    let (whole, found) = (weights(&first.path.join("model")), checks(&first));
    resume(folder.path(), "run", 5);
    assert!(weights(&first.path.join("model")) == whole, "resumed after step 5 it has other weights");
    let log = fs::read_to_string(first.path.join("run.jsonl")).unwrap();
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(checks(&Run { events, ..first }), found, "every check stands once in the log");
}
