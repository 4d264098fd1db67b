//! `generate` and `relabel` against an endpoint that plays what endpoints do: kills, budgets, keys, answers that nobody can read, and what training
//! makes of the rows.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::collections::animals;
use crate::command::{failure, json, stderr, trainer};
use crate::double::{Double, Oracle, Play};
use crate::recipes_dynamic::runs::{DEMO, train as training};

const SLOW: Play = Play::Slow(Duration::from_millis(60));

/// Arguments that write queries for 60 documents of the animals.
fn writing<'a>(double: &'a Double, output: &'a str) -> Vec<&'a str> {
    let mut arguments =
        vec!["generate", "--kind", "queries", "--data", "data", "--documents", "60", "--concurrency", "4", "--output", output];
    arguments.extend(["--endpoint", &double.url, "--model", "stand-in"]);
    arguments
}

fn rows(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Ids of the answers in a journal, whose last line a kill may have cut off. An id begins with the seed of its request.
fn answered(journal: &Path) -> HashSet<u64> {
    let text = fs::read_to_string(journal).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |it| it.0);
    let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).filter(|line| line["event"] == "answer");
    lines.map(|line| u64::from_str_radix(&line["id"].as_str().unwrap()[..7], 16).unwrap()).collect()
}

fn seed(record: &crate::double::Record) -> u64 {
    record.request.body["seed"].as_u64().unwrap()
}

/// Killed five times at any moment and resumed: what was answered is not asked again, no row is lost, and the rows are those of a job that was
/// left alone.
#[test]
fn a_job_killed_five_times_loses_and_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let quiet = Double::start(|_| Play::Good);
    json(folder.path(), &[writing(&quiet, "alone"), vec!["--json"]].concat());
    let double = Double::start(|_| SLOW);
    let (journal, mut kills) = (folder.path().join("killed/journal.jsonl"), Vec::new());
    for number in 1..=5 {
        let mut command = trainer(folder.path());
        let mut child = command.args(writing(&double, "killed")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while double.requests() < number * 9 {
            assert!(child.try_wait().unwrap().is_none(), "it ended before kill {number}");
            sleep(Duration::from_millis(number as u64));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills.push((double.requests(), answered(&journal)));
    }
    let told = json(folder.path(), &[writing(&double, "killed"), vec!["--json"]].concat());
    let records = double.records();
    for (at, known) in &kills {
        let again: Vec<u64> = records[*at..].iter().map(seed).filter(|seed| known.contains(seed)).collect();
        assert!(again.is_empty(), "{} answered requests were made again", again.len());
    }
    assert!(kills[0].1.len() >= 4 && kills.array_windows().all(|[a, b]| a.1.is_subset(&b.1)), "answers stay");
    // What was under way at a kill, four at most, has to be asked again.
    assert!((60..=60 + 5 * 4).contains(&records.len()), "{} requests for 60 rows", records.len());
    // One that a kill met between its entry in the journal and its departure counts as made.
    assert!((records.len()..=records.len() + 5 * 4).contains(&(told["requests"].as_u64().unwrap() as usize)), "{told}");
    assert_eq!(rows(&folder.path().join("killed/queries.jsonl")), rows(&folder.path().join("alone/queries.jsonl")));
    assert_eq!(told["rows"], 60);
}

#[test]
fn the_budget_is_kept_over_runs_and_the_estimate_comes_before() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let double = Double::start(|_| Play::Good);
    let told = json(folder.path(), &[writing(&double, "job"), vec!["--dry-run", "--json"]].concat());
    assert_eq!((&told["estimate"]["requests"], double.requests()), (&Value::from(60), 0));
    assert!(!folder.path().join("job").exists());
    let most = told["estimate"]["most_tokens"].as_u64().unwrap();
    // Where not even one request is made, nothing is used up.
    for (flag, part) in [("--max-tokens", "the next request sets aside "), ("--max-requests", "--max-requests is 0")] {
        let (code, line) = failure(folder.path(), &[writing(&double, "none"), vec![flag, "0"]].concat());
        assert_eq!((code, double.requests()), (1, 0), "{line}");
        assert!(line.contains("the budget is too small") && line.contains(part) && line.ends_with(&format!("a greater {flag}")), "{line}");
    }
    let counted = || double.records().iter().map(|record| record.tokens).sum::<u64>();
    for limit in [most / 20, most / 10] {
        let (code, line) = failure(folder.path(), &[writing(&double, "job"), vec!["--max-tokens", &limit.to_string()]].concat());
        assert_eq!(code, 1);
        assert!(
            line.contains("the budget is used up") && line.contains("of 60 have no answer yet") && line.contains("--max-tokens"),
            "{line}"
        );
        assert!(counted() <= limit, "{} of {limit}", counted());
        assert_eq!(rows(&folder.path().join("job/queries.jsonl")).len(), double.requests());
    }
    let (code, line) = failure(folder.path(), &[writing(&double, "job"), vec!["--max-requests", "50"]].concat());
    assert_eq!((code, double.requests()), (1, 50), "{line}");
    let told = json(folder.path(), &[writing(&double, "job"), vec!["--json"]].concat());
    assert_eq!((&told["rows"], &told["requests"], double.requests()), (&Value::from(60), &Value::from(60), 60));
    assert!(counted() <= most);
    assert_eq!(told["tokens"], counted());
}

/// The endpoint repeats the key in whatever it says; it stands in no file, on no output, and in no other process's sight.
#[test]
fn the_key_comes_from_the_environment_and_goes_nowhere_else() {
    const KEY: &str = "sk-integration-0123456789abcdef";
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let double = Double::start(|request| match request.earlier {
        0 => Play::EchoesKey(500),
        _ if request.hash.starts_with('0') => Play::EchoesKey(400),
        _ => Play::Says("is sk-integration-0123456789abcdef the secret word"),
    });
    for (variable, flags) in [("OPENAI_API_KEY", vec![]), ("MY_KEY", vec!["--key-variable", "MY_KEY"])] {
        let mut command = trainer(folder.path());
        command.env_remove("OPENAI_API_KEY").env(variable, KEY).env("DREDGE_LOG", "debug");
        let output = command.args(writing(&double, variable)).args(flags).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
        assert!(!said.contains(KEY), "{said}");
    }
    // Nor does it come from the command line: a body stands in job.json, and in messages about it.
    for body in [format!(r#"{{"user":"{KEY}"}}"#), KEY.to_owned()] {
        let mut command = trainer(folder.path());
        let output = command.env("OPENAI_API_KEY", KEY).args(writing(&double, "body")).args(["--body", &body]).output().unwrap();
        let said = stderr(&output);
        assert!(output.status.code() == Some(2) && said.contains("--body carries the key") && !said.contains(KEY), "{said}");
    }
    assert!(double.records().iter().all(|record| record.request.authorization.as_deref() == Some(&format!("Bearer {KEY}"))));
    assert!(double.requests() >= 170, "{} requests", double.requests());
    let mut files = 0;
    let mut open = vec![folder.path().to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes()), "{}", path.display());
            files += 1;
        }
    }
    assert!(files >= 8, "{files} files");
}

#[test]
#[cfg(unix)]
fn ctrl_c_waits_for_what_is_under_way_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let double = Double::start(|_| SLOW);
    let mut command = trainer(folder.path());
    let child = command.args(writing(&double, "job")).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while double.requests() < 6 {
        sleep(Duration::from_millis(5));
    }
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let (text, asked) = (stderr(&output), double.requests());
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("waiting for the requests under way") && text.contains("go on with the same command"), "{text}");
    assert_eq!(rows(&folder.path().join("job/queries.jsonl")).len(), asked, "what was asked is not lost");
    json(folder.path(), &[writing(&double, "job"), vec!["--json"]].concat());
    assert_eq!(double.requests(), 60);
}

#[test]
fn wrong_requests_are_told_before_anybody_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    fs::write(folder.path().join("bad.txt"), "Ask about {{documnet}}").unwrap();
    fs::write(folder.path().join("empty.jsonl"), "").unwrap();
    fs::write(folder.path().join("bare.txt"), "Ask about {{document}}").unwrap();
    fs::write(folder.path().join("examples.jsonl"), r#"{"document": "a hen", "query": "what is a hen"}"#).unwrap();
    let own: Vec<u8> = fs::read(folder.path().join("data/queries.jsonl")).unwrap();
    let double = Double::start(|_| Play::Good);
    json(folder.path(), &[writing(&double, "other"), vec!["--json"]].concat());
    let before = double.requests();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--prompt", "bad.txt"], &["bad.txt:1", "{{documnet}}", "{{document}}"]),
        (&["--prompt", "a=b=c"], &["a=b=c"]),
        (&["--documents", "0"], &["--documents 0", "at least 1"]),
        (&["--timeout", "0"], &["--timeout 0"]),
        (&["--concurrency", "0"], &["--concurrency"]),
        (&["--temperature", "3"], &["--temperature 3", "0 to 2"]),
        (&["--body", "[1]"], &["--body [1]", "a JSON object"]),
        (&["--body", r#"{"max_tokens":null}"#], &["--body", "`max_tokens`", "`max_completion_tokens`"]),
        (&["--body", r#"{"n":2}"#], &["--body", "`n` is 2"]),
        (&["--body", r#"{"stream":true}"#], &["--body", "`stream`"]),
        (&["--output", "other", "--model", "another", "--dry-run"], &["a job with model stand-in, asked for is another"]),
        (&["--min-words", "9", "--max-words", "3"], &["at least 9 and at most 3"]),
        (&["--examples", "bad.txt"], &["bad.txt:1", "\"query\""]),
        (&["--seed", "1", "--output", "other", "--model", "another"], &["a job with model stand-in, asked for is another"]),
        // What would change every question, in a folder that has answers.
        (&["--output", "other", "--seed", "2"], &["a job with --seed 1, asked for is 2"]),
        (&["--output", "other", "--document-words", "9"], &["a job with --document-words 350, asked for is 9"]),
        (&["--output", "other", "--examples", "examples.jsonl"], &["a job with prompts", "asked for is"]),
        (&["--prompt", "bare.txt", "--examples", "examples.jsonl"], &["--examples", "bare@", "has no {{examples}}"]),
        (&["--examples", "empty.jsonl"], &["empty.jsonl: it has no example"]),
        (&["--document-words", "0"], &["--document-words"]),
        // A collection has a queries.jsonl as well, which must not be written over.
        (&["--output", "data"], &["data: is no folder of a job and not empty"]),
        (&["--output", "bad.txt", "--dry-run"], &["bad.txt: is a file"]),
        (&["--candidates", "5"], &["--candidates has no effect with --kind queries, it is for gecko"]),
        (&["--split", "train"], &["--split", "it is for negatives"]),
        (&["--from", "query"], &["--from", "it is for negatives"]),
        (&["--tasks", "3"], &["--tasks", "it is for triples"]),
        (&["--topic", "x"], &["--topic", "it is for triples"]),
    ];
    for (flags, parts) in cases {
        let mut arguments = vec!["generate", "--kind", "queries", "--data", "data", "--endpoint", &double.url];
        let flag_missing = |name: &str| !flags.contains(&name);
        if flag_missing("--model") {
            arguments.extend(["--model", "stand-in"]);
        }
        if flag_missing("--output") {
            arguments.extend(["--output", "fresh"]);
        }
        let (code, line) = failure(folder.path(), &[arguments, flags.to_vec()].concat());
        assert_eq!(code, 2, "{flags:?}: {line}");
        parts.iter().for_each(|part| assert!(line.contains(part), "{flags:?}: expected {part:?} in: {line}"));
    }
    let model = ["--model", "stand-in", "--output", "fresh"];
    // What finds passages is looked at before the first query is paid for.
    let strong = ["--strong-model", "x", "--endpoint", &double.url];
    let gecko = |more: &[&'static str]| [&["generate", "--kind", "gecko", "--data", "data", "--endpoint", &double.url][..], more].concat();
    for (arguments, part) in [
        (vec!["generate", "--kind", "queries", "--data", "data", "--endpoint", "http://me:pw@host/v1"], "in the environment"),
        (vec!["generate", "--kind", "triples", "--data", "data", "--endpoint", &double.url], "--topic"),
        (vec!["generate", "--kind", "triples", "--topic", " ", "--endpoint", &double.url], "--topic is missing"),
        (vec!["generate", "--kind", "triples", "--topic", "x", "--languages", "", "--endpoint", &double.url], "a name is empty"),
        (vec!["generate", "--kind", "triples", "--topic", "x", "--tasks", "0", "--endpoint", &double.url], "--tasks 0"),
        (vec!["generate", "--kind", "queries", "--topic", "x", "--endpoint", &double.url], "--data is missing"),
        (vec!["generate", "--kind", "negatives", "--data", "data", "--split", "trian", "--endpoint", &double.url], "trian"),
        (gecko(&["--retriever", "builtin:huge", "--device", "cpu"]), "there is no built-in encoder `huge`"),
        (gecko(&["--retriever", "builtin:huge", "--device", "cpu", "--dry-run"]), "there is no built-in encoder `huge`"),
        (gecko(&["--retriever", "builtin:tiny", "--device", "tpu"]), "--device tpu"),
        (vec!["relabel", "--data", "data", "--endpoint", &double.url], "--negatives is missing"),
        (vec!["relabel", "--data", "data", "--negatives", "empty.jsonl", "--endpoint", &double.url], "empty.jsonl"),
        (
            vec![
                "relabel",
                "--data",
                "data",
                "--negatives",
                "empty.jsonl",
                "--strong-model",
                "x",
                "--strong-endpoint",
                "https://other.example/v1",
                "--endpoint",
                &double.url,
            ],
            "--strong-key-variable is missing",
        ),
        (
            [&["relabel", "--data", "data", "--negatives", "empty.jsonl"][..], &strong, &["--strong-temperature", "3"]].concat(),
            "--strong-temperature 3: expected 0 to 2",
        ),
        (
            [&["relabel", "--data", "data", "--negatives", "empty.jsonl"][..], &strong, &["--strong-body", r#"{"n":2}"#]].concat(),
            "--strong-body: the field `n` is 2",
        ),
        (
            vec![
                "relabel",
                "--data",
                "data",
                "--negatives",
                "empty.jsonl",
                "--method",
                "ranking",
                "--strong-model",
                "x",
                "--endpoint",
                &double.url,
            ],
            "--strong-model",
        ),
    ] {
        let (code, line) = failure(folder.path(), &[arguments.clone(), model.to_vec()].concat());
        assert!(code == 2 && line.contains(part) && !line.contains("pw@"), "{arguments:?}: {line}");
    }
    assert_eq!(double.requests(), before, "nobody was asked");
    assert_eq!(fs::read(folder.path().join("data/queries.jsonl")).unwrap(), own);
}

/// Every answer is left out: that is no success, and the message says where the reasons are. What the rows lack is said as well.
#[test]
fn a_job_without_rows_says_so() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let double = Double::start(|_| Play::Says("what"));
    let (code, line) = failure(folder.path(), &writing(&double, "job"));
    assert!(code == 1 && line.contains("no row came out") && line.contains("rejected.jsonl"), "{line}");

    let said = r#"{"choices":[{"message":{"content":"[]"}}]}"#;
    let double = Double::start(move |request| {
        let text = request.text();
        match () {
            () if text.contains("JSON list of") => Play::Status(200, None, r#"{"choices":[{"message":{"content":"[\"Find it\"]"}}]}"#),
            () if text.contains("Task: ") => Play::Good,
            () => Play::Status(200, None, said),
        }
    });
    // Limits of triples are those of their documents, and of the query where they are less than its own.
    let triples = ["generate", "--kind", "triples", "--topic", "x", "--tasks", "1", "--endpoint", &double.url, "--model", "m"];
    json(folder.path(), &[&triples[..], &["--output", "triples", "--json"]].concat());
    let (_, line) = failure(folder.path(), &[&triples[..], &["--min-words", "40", "--output", "long"]].concat());
    let rejected = rows(&folder.path().join("long/rejected.jsonl"));
    assert!(rejected.iter().all(|row| row["reason"].as_str().unwrap().starts_with("too short")), "{line} {rejected:?}");
    let job: Value = serde_json::from_str(&fs::read_to_string(folder.path().join("long/job.json")).unwrap()).unwrap();
    let least = |part: &str| job["settings"]["quality"][part]["min_words"].as_u64().unwrap();
    assert_eq!((least("queries"), least("passages")), (3, 40));
    let (_, line) = failure(folder.path(), &[&triples[..], &["--min-words", "100", "--output", "longer"]].concat());
    assert!(!line.contains("nothing is both"), "{line}");
    let attributes = job["prompts"][1]["parts"]["attributes"].as_str().unwrap();
    assert!(attributes.contains("\"query_type\""), "{job}");
}

/// A job whose every answer is of another form ends before it is all paid, in one line that says what came and what to do; the same command goes on once
/// the server is mended.
#[test]
fn a_model_that_gives_no_json_ends_the_job_early() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let gecko =
        ["generate", "--kind", "gecko", "--data", "data", "--documents", "100", "--concurrency", "2", "--output", "job", "--model", "m"];
    let double = Double::start(|_| Play::Says("Sure! Here is a query on it."));
    let (code, line) = failure(folder.path(), &[&gecko[..], &["--endpoint", &double.url]].concat());
    assert_eq!(code, 1, "{line}");
    for part in [
        "questions in a row (queries) have no answer that can be read",
        "it is not the JSON asked for",
        "(it begins `Sure! Here is a query on it.`)",
        "response_format",
        "of 100 have no answer yet",
        "rejected.jsonl",
        "the same command goes on with the rest",
    ] {
        assert!(line.contains(part), "expected {part:?} in: {line}");
    }
    // Forty questions, each sent back once, and the one that was under way.
    assert!((80..=82).contains(&double.requests()), "{}", double.requests());
    assert!(rows(&folder.path().join("job/rejected.jsonl")).len() >= 80);
    let mended = Double::start(|_| Play::Good);
    let told = json(folder.path(), &[&gecko[..], &["--endpoint", &mended.url, "--json"]].concat());
    assert!(told["rows"].as_u64().unwrap() >= 40 && told["open"] == 0, "{told}");
}

/// What a server makes of prompts that it cuts is said while the job is at work, once, and stands in what it came to.
#[test]
fn cut_prompts_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    // Of a hundred words and more, of which no tokenizer makes two tokens.
    let path = folder.path().join("data/corpus.jsonl");
    let begin = "\"text\": \"a ";
    let longer = format!("\"text\": \"{}a ", "it is told of many of them ".repeat(20));
    fs::write(&path, fs::read_to_string(&path).unwrap().replace(begin, &longer)).unwrap();
    let said = r#"{"choices":[{"message":{"content":"what is it about animals"}}],"usage":{"prompt_tokens":2,"completion_tokens":5}}"#;
    let double = Double::start(move |_| Play::Status(200, None, said));
    let output = trainer(folder.path()).args(writing(&double, "job")).arg("--json").output().unwrap();
    let text = stderr(&output);
    let warnings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("warning: ")).collect();
    assert_eq!(warnings.len(), 1, "{text}");
    assert!(warnings[0].contains("counted 2 tokens in a prompt of ") && warnings[0].contains("OLLAMA_CONTEXT_LENGTH"), "{text}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["notes"], serde_json::json!(warnings), "{text}");
}

/// Each of two models is asked as the flags say for it, in one job: what the second gets is its own where it is said, and the first's where it is not.
/// Neither changes what is asked: with other flags a job goes on, and asks nobody again.
#[test]
fn two_models_are_asked_each_in_its_own_way() {
    const KEY: &str = "sk-two-models-0123456789abcdef";
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let train = fs::read_to_string(folder.path().join("data/qrels/train.tsv")).unwrap();
    let queries = train.lines().skip(1).take(4).map(|row| row[1..row.find('\t').unwrap()].parse::<usize>().unwrap());
    let list = |query: usize| {
        let run = |rank: usize| format!("q{query} Q0 d{} {rank} {} run\n", (query + rank) % 144, 9 - rank);
        [run(1), run(2)].concat()
    };
    fs::write(folder.path().join("run.trec"), queries.map(list).collect::<String>()).unwrap();
    let double = Double::start(|_| Play::Says(r#"{"relevant": [1]}"#));
    let own = ["relabel", "--data", "data", "--negatives", "run.trec", "--endpoint", &double.url, "--model", "cheap"];
    let shared = ["--strong-model", "strong", "--temperature", "0.25", "--body", r#"{"top_p":0.5}"#, "--json", "--output"];
    // What the cheap model was sent, and the strong one.
    let run = |output: &str, more: &[&str]| {
        let before = double.requests();
        json(folder.path(), &[&own[..], &shared, &[output], more].concat());
        let bodies: Vec<Value> = double.records().split_off(before).into_iter().map(|record| record.request.body).collect();
        bodies.into_iter().partition::<Vec<Value>, _>(|body| body["model"] == "cheap")
    };
    let like = |bodies: &[Value], temperature: f64, top_p: &Value, effort: &Value| {
        let right = |body: &Value| body["temperature"] == temperature && body["top_p"] == *top_p && body["reasoning_effort"] == *effort;
        assert!(bodies.len() == 4 && bodies.iter().all(right), "{bodies:?}");
    };
    let (half, high, none) = (Value::from(0.5), Value::from("high"), Value::Null);
    let other = ["--strong-temperature", "1", "--strong-body", r#"{"reasoning_effort":"high","max_tokens":4000}"#];
    let (cheap, strong) = run("other", &other);
    like(&cheap, 0.25, &half, &none);
    like(&strong, 1.0, &none, &high);
    assert!(cheap.iter().all(|body| body["max_tokens"] == 1024) && strong.iter().all(|body| body["max_tokens"] == 4000));
    let job: Value = serde_json::from_str(&fs::read_to_string(folder.path().join("other/job.json")).unwrap()).unwrap();
    let settings = |which: &str| (&job["settings"][which]["temperature"], &job["settings"][which]["body"]);
    assert_eq!(settings("sampling"), (&Value::from(0.25), &serde_json::json!({ "top_p": 0.5 })));
    assert_eq!(settings("strong_sampling"), (&Value::from(1.0), &serde_json::json!({ "reasoning_effort": "high", "max_tokens": 4000 })));
    assert_eq!(run("other", &[]), (Vec::new(), Vec::new()), "nothing is asked again");
    let (cheap, strong) = run("shared", &[]);
    like(&cheap, 0.25, &half, &none);
    like(&strong, 0.25, &half, &none);

    // It stands in job.json as the other body does, and may carry a key no more than that.
    let before = double.requests();
    for body in [format!(r#"{{"user":"{KEY}"}}"#), KEY.to_owned()] {
        let mut command = trainer(folder.path());
        let output = command.env("OPENAI_API_KEY", KEY).args(own).args(shared).args(["key", "--strong-body", &body]).output().unwrap();
        let said = stderr(&output);
        assert!(output.status.code() == Some(2) && said.contains("--strong-body carries the key") && !said.contains(KEY), "{said}");
    }
    assert!(double.requests() == before && !folder.path().join("key").exists());
}

/// All that is relevant in builtin:demo, by text.
fn oracle(error_rates: Vec<(String, f64)>) -> Oracle {
    let mut oracle = Oracle { error_rates, ..Oracle::default() };
    for (query, document, grade) in DEMO.truth.as_ref().unwrap().iter() {
        if grade > 0 {
            let texts = oracle.relevant.entry(DEMO.queries.text(query).to_owned()).or_default();
            texts.insert(DEMO.documents.text(document).to_owned());
        }
    }
    oracle
}

/// Decisions of an oracle: exact without errors; with errors as precise as the rate says; and a run trains on them.
#[test]
fn relabelling_finds_the_false_negatives_of_the_demo_and_rlhn_trains_on_them() {
    let folder = tempfile::tempdir().unwrap();
    let truth = DEMO.truth.as_ref().unwrap();
    // A list for each of 300 training queries: two relevant documents that are not judged, if there are two, and eight others.
    let train = DEMO.split("train").unwrap();
    let mut lists = String::new();
    for query in train.queries().take(300) {
        let hidden = truth.positives(query).filter(|document| train.positives(query).all(|judged| judged != *document)).take(2);
        let others = (0..8).map(|number| (query * 31 + number * 613) % DEMO.documents.len() as u32);
        let all: Vec<u32> = hidden.chain(others).collect();
        let positives: Vec<&str> = train.positives(query).map(|it| DEMO.documents.id(it)).collect();
        let negatives: Vec<&str> = all.iter().map(|it| DEMO.documents.id(*it)).collect();
        let row = serde_json::json!({ "query_id": DEMO.queries.id(query), "query_text": DEMO.queries.text(query), "positive_document_ids": positives, "negative_document_ids": negatives });
        lists.push_str(&format!("{row}\n"));
    }
    fs::write(folder.path().join("lists.jsonl"), lists).unwrap();
    let relabel = |oracle: Oracle, output: &str, more: &[&str]| -> (Double, Vec<(bool, String)>) {
        let double = Double::on(0, oracle, |_| Play::Good);
        let mut arguments =
            vec!["relabel", "--data", "builtin:demo", "--negatives", "lists.jsonl", "--endpoint", &double.url, "--model", "cheap"];
        arguments.extend(["--output", output, "--json"]);
        arguments.extend(more);
        json(folder.path(), &arguments);
        let decided = rows(&folder.path().join(output).join("decisions.jsonl")).into_iter().map(|row| {
            let find = |records: &corpus::Records, name: &str| records.find(row[name].as_str().unwrap()).unwrap();
            let (query, document) = (find(&DEMO.queries, "qid"), find(&DEMO.documents, "pid"));
            (truth.positives(query).any(|relevant| relevant == document), row["decision"].as_str().unwrap().to_owned())
        });
        let decided = decided.collect();
        (double, decided)
    };
    let count = |decided: &[(bool, String)], relevant: bool, decision: &str| {
        decided.iter().filter(|it| **it == (relevant, decision.to_owned())).count()
    };

    let (_, exact) = relabel(oracle(vec![]), "exact", &[]);
    let [hidden, missed, wrong] = [count(&exact, true, "pos"), count(&exact, true, "neg"), count(&exact, false, "pos")];
    assert!(hidden >= 100 && missed == 0 && wrong == 0, "{hidden} {missed} {wrong}");

    // One in ten wrong: recall is about 90 %, and one in ten of the many others is flagged.
    let (_, noisy) = relabel(oracle(vec![(String::new(), 0.1)]), "noisy", &[]);
    let (hidden, others) = (hidden as f64, count(&exact, false, "neg") as f64);
    let recall = count(&noisy, true, "pos") as f64 / hidden;
    let flagged = count(&noisy, false, "pos") as f64 / others;
    // Five standard deviations of a binomial.
    assert!(
        (recall - 0.9).abs() < 5.0 * (0.09 / hidden).sqrt() && (flagged - 0.1).abs() < 5.0 * (0.09 / others).sqrt(),
        "{recall} {flagged}"
    );

    // A second look by a model that does not err takes the false alarms back.
    let cascade = oracle(vec![("cheap".into(), 0.1), (String::new(), 0.0)]);
    let (double, sure) = relabel(cascade, "cascade", &["--strong-model", "strong"]);
    assert_eq!(count(&sure, false, "pos"), 0);
    assert_eq!(count(&sure, true, "pos"), count(&noisy, true, "pos"));
    let strong = double.records().iter().filter(|record| record.request.body["model"] == "strong").count();
    assert!(strong > 100 && strong <= 300, "{strong} second looks");

    // By ranking the same ones end above the positive or are dropped.
    let (_, ranked) = relabel(oracle(vec![]), "ranked", &["--method", "ranking"]);
    assert!(count(&ranked, true, "neg") == 0 && count(&ranked, false, "neg") as f64 == others);

    // Every pair that was found is trained on, none is mined, and nothing else changes.
    let pairs_of = |name: &str| -> HashSet<(String, String)> {
        let decided = rows(&folder.path().join(name)).into_iter().filter(|row| row["decision"] == "pos");
        decided.map(|row| (row["qid"].as_str().unwrap().to_owned(), row["pid"].as_str().unwrap().to_owned())).collect()
    };
    let found = pairs_of("exact/decisions.jsonl");
    let set = ["data.decisions=exact/decisions.jsonl", "data.limit=0", "train.steps=4", "batch.queries=512", "batch.negatives=1"];
    let run = training(folder.path(), "rlhn", "run", &set);
    let relabelled = run.events("relabelled")[0];
    let counts = ["promoted", "removed", "demoted", "dropped_queries"].map(|key| relabelled[key].as_u64().unwrap() as usize);
    assert_eq!(counts, [found.len(), 0, 0, 0], "{relabelled}");
    assert_eq!(run.events("start")[0]["pairs"], train.pairs().len() + found.len());
    let judged = |query: &str, document: &str| train.is_positive(DEMO.queries.find(query).unwrap(), DEMO.documents.find(document).unwrap());
    let drawn: HashSet<(String, String)> = run.drawn().into_iter().map(|row| (row.query, row.positive)).collect();
    assert!(drawn.iter().all(|pair| judged(&pair.0, &pair.1) || found.contains(pair)));
    assert!(drawn.intersection(&found).count() * 3 > found.len(), "half of an epoch");
    let lists = run.version(1);
    assert!(found.iter().all(|(query, document)| lists[query].iter().all(|it| it.id != *document)));
}

/// Queries with log-probabilities become the training split of a run.
#[test]
fn written_queries_train() {
    let folder = tempfile::tempdir().unwrap();
    animals(&folder.path().join("data"));
    let double = Double::start(|_| Play::Good);
    let told = json(folder.path(), &[writing(&double, "written"), vec!["--logprobs", "--json"]].concat());
    assert_eq!(told["rows"], 60);
    let set = ["--data", "data", "data.queries=written/queries.jsonl", "data.queries_keep=40", "train.steps=10", "batch.queries=8"];
    let run = training(folder.path(), "inpars", "run", &set);
    assert_eq!((&run.events("queries")[0]["rows"], &run.events("start")[0]["pairs"]), (&60.into(), &40.into()));
    // The forty that the model was surest of, each with the document that it was written for.
    let written = rows(&folder.path().join("written/queries.jsonl"));
    let logprob = |row: &Value| row["logprob"].as_f64().unwrap();
    let mut sure: Vec<f64> = written.iter().map(logprob).collect();
    sure.sort_by(|a, b| b.total_cmp(a));
    assert!(sure[0] > sure[59]);
    let kept: HashSet<(&str, &str)> = written
        .iter()
        .filter(|row| logprob(row) >= sure[39])
        .map(|row| (row["_id"].as_str().unwrap(), row["positive"][0].as_str().unwrap()))
        .collect();
    let drawn = run.drawn();
    assert!(drawn.iter().all(|row| row.negatives.len() == 1 && kept.contains(&(row.query.as_str(), row.positive.as_str()))));
    assert!(drawn.iter().map(|row| &row.query).collect::<HashSet<_>>().len() > 32, "nearly all in two epochs");

    // Gecko's candidates come from an encoder as well as from BM25.
    let mut found = BTreeMap::new();
    for retriever in ["bm25", "builtin:tiny"] {
        let arguments = [
            "generate",
            "--kind",
            "gecko",
            "--data",
            "data",
            "--documents",
            "10",
            "--endpoint",
            &double.url,
            "--model",
            "stand-in",
            "--retriever",
            retriever,
            "--device",
            "cpu",
            "--candidates",
            "5",
            "--output",
            &format!("gecko-{}", retriever.len()),
            "--json",
        ];
        let told = json(folder.path(), &arguments);
        found.insert(retriever, told["rows"].as_u64().unwrap());
        let rows = rows(&folder.path().join(told["output"].as_str().unwrap()));
        assert!(rows.iter().all(|row| row["positive"] != row["negatives"] && row["negatives"].as_array().unwrap().len() == 1), "{rows:?}");
    }
    assert!(found.values().all(|rows| *rows >= 8), "{found:?}");
    for request in double.records().into_iter().map(|record| record.request) {
        let expected = if request.text().contains("Passages:\n") { 0.0 } else { 0.7 };
        assert_eq!(request.body["temperature"], expected, "it writes at 0.7 and judges at 0");
    }
}
