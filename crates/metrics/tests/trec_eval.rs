//! Against trec_eval itself: every line of its stored outputs that we have a measure for must come out with the same digits.

#![allow(clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use metrics::{Evaluation, Measure, Options, Qrels, Run, evaluate, trec_eval_text};

fn fixtures() -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures"));
    if folder.is_dir() {
        return Some(folder.to_owned());
    }
    eprintln!("skipped: comparison with trec_eval (../shared is not there)");
    None
}

/// One stored output: qrels, run, expected text, options, lines that must be compared at least.
struct Case {
    qrels: &'static str,
    run: &'static str,
    expected: &'static str,
    options: fn() -> Options,
    lines: usize,
}

const CASES: [Case; 16] = [
    Case {
        qrels: "trec_eval/qrels.test",
        run: "trec_eval/results.test",
        expected: "trec_eval/out.test",
        options: Options::default,
        lines: 29,
    },
    Case {
        qrels: "trec_eval/qrels.test.with-comments",
        run: "trec_eval/results.test",
        expected: "trec_eval/out.test",
        options: Options::default,
        lines: 29,
    },
    Case {
        qrels: "trec_eval/qrels.test",
        run: "trec_eval/results.test",
        expected: "trec_eval/out.test.a",
        options: Options::default,
        lines: 98,
    },
    Case {
        qrels: "trec_eval/qrels.test",
        run: "trec_eval/results.test",
        expected: "trec_eval/out.test.aq",
        options: Options::default,
        lines: 383,
    },
    Case {
        qrels: "trec_eval/qrels.test",
        run: "trec_eval/results.test",
        expected: "trec_eval/out.test.aq",
        options: || Options { double_scores: true, ..Options::default() },
        lines: 383,
    },
    Case {
        qrels: "trec_eval/qrels.test",
        run: "trec_eval/results.trunc",
        expected: "trec_eval/out.test.aqc",
        options: || Options { complete: true, ..Options::default() },
        lines: 383,
    },
    Case {
        qrels: "trec_eval/qrels.test",
        run: "trec_eval/results.trunc",
        expected: "trec_eval/out.test.aqcM",
        options: || Options { complete: true, depth: Some(100), ..Options::default() },
        lines: 383,
    },
    Case {
        qrels: "trec_eval/qrels.rel_level",
        run: "trec_eval/results.test",
        expected: "trec_eval/out.test.aql",
        options: || Options { relevance_level: 2, ..Options::default() },
        lines: 383,
    },
    Case {
        qrels: "trec_eval/qrels.test",
        run: "trec_eval/results.test",
        expected: "trec_eval/out.test.meas_params",
        options: Options::default,
        lines: 70,
    },
    Case {
        qrels: "runs/scifact.test.qrels",
        run: "runs/scifact.test.bm25.run",
        expected: "runs/scifact.test.trec_eval.out",
        options: Options::default,
        lines: 98,
    },
    Case {
        qrels: "runs/scifact.test.qrels",
        run: "runs/scifact.test.bm25.run",
        expected: "runs/scifact.test.per_query.out",
        options: Options::default,
        lines: 1204,
    },
    Case {
        qrels: "runs/cranfield.test_graded.qrels",
        run: "runs/cranfield.test_graded.bm25.run",
        expected: "runs/cranfield.test_graded.per_query.out",
        options: Options::default,
        lines: 904,
    },
    Case {
        qrels: "runs/med.test.qrels",
        run: "runs/med.test.bm25.run",
        expected: "runs/med.test.per_query.out",
        options: Options::default,
        lines: 124,
    },
    Case {
        qrels: "anserini_cacm/qrels.cacm.txt",
        run: "anserini_cacm/cacm-bm25.run",
        expected: "anserini_cacm/trec_eval.out",
        options: Options::default,
        lines: 98,
    },
    Case {
        qrels: "runs/cranfield.test_graded.qrels",
        run: "runs/cranfield.test_graded.bm25.run",
        expected: "runs/cranfield.test_graded.trec_eval.out",
        options: Options::default,
        lines: 98,
    },
    Case {
        qrels: "runs/med.test.qrels",
        run: "runs/med.test.bm25.run",
        expected: "runs/med.test.trec_eval.out",
        options: Options::default,
        lines: 98,
    },
];

/// The value trec_eval prints for `name` and `query`, computed by us; None when we do not know the measure.
fn ours(evaluation: &Evaluation, run: &Run, name: &str, query: &str) -> Option<String> {
    if query == "all" && name == "runid" {
        return Some(run.tag().unwrap_or_default().to_owned());
    }
    if query == "all" && name == "num_q" {
        return Some(evaluation.queries().to_string());
    }
    if let Some(length) = name.strip_prefix("relstring") {
        let length = length.strip_prefix('_').map_or(10, |length| length.parse().unwrap());
        return Some(format!("'{}'", evaluation.per_query[query].relevance_string(length)));
    }
    let measure: Measure = name.parse().ok()?;
    let value = if query == "all" { evaluation.mean(measure) } else { evaluation.per_query[query].value(measure) };
    Some(if name.starts_with("num_") { format!("{value:.0}") } else { format!("{value:6.4}") })
}

#[test]
fn every_printed_digit_of_trec_eval_is_reproduced() {
    let Some(folder) = fixtures() else { return };
    let mut unknown = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut total = 0;
    for case in &CASES {
        let run = Run::read(folder.join(case.run)).unwrap();
        let evaluation = evaluate(&Qrels::read(folder.join(case.qrels)).unwrap(), &run, &(case.options)());
        let mut compared = 0;
        for line in std::fs::read_to_string(folder.join(case.expected)).unwrap().lines() {
            let columns: Vec<&str> = line.split('\t').map(str::trim).collect();
            let [name, query, expected] = columns[..] else { panic!("{}: {line:?}", case.expected) };
            match ours(&evaluation, &run, name, query) {
                None => {
                    unknown.insert(name.to_owned());
                }
                Some(got) => {
                    compared += 1;
                    if got.trim() != expected {
                        wrong.push(format!("{} {name} {query}: expected {expected}, got {got}", case.expected));
                    }
                }
            }
        }
        assert!(compared >= case.lines, "{}: {compared} lines compared, expected at least {}", case.expected, case.lines);
        total += compared;
    }
    eprintln!("{total} lines of trec_eval compared; no measure of ours for: {unknown:?}");
    assert!(wrong.is_empty(), "{} of {total} lines differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_text_form_is_trec_evals_output() {
    let Some(folder) = fixtures() else { return };
    for (run, expected, options) in [
        ("trec_eval/results.test", "trec_eval/out.test.aq", Options::default()),
        ("trec_eval/results.trunc", "trec_eval/out.test.aqc", Options { complete: true, ..Options::default() }),
    ] {
        let run = Run::read(folder.join(run)).unwrap();
        let evaluation = evaluate(&Qrels::read(folder.join("trec_eval/qrels.test")).unwrap(), &run, &options);
        let text = trec_eval_text(&evaluation, run.tag().unwrap(), true);
        let expected = std::fs::read_to_string(folder.join(expected)).unwrap();
        for (number, (got, expected)) in text.lines().zip(expected.lines()).enumerate() {
            assert_eq!(got, expected, "line {}", number + 1);
        }
        assert_eq!(text.lines().count(), expected.lines().count());
    }
}

/// The fixture run has tied scores, so it can tell trec_eval's tie rule from the opposite one.
#[test]
fn the_fixture_decides_the_tie_rule() {
    let Some(folder) = fixtures() else { return };
    let qrels = Qrels::read(folder.join("trec_eval/qrels.test")).unwrap();
    let run = Run::read(folder.join("trec_eval/results.test")).unwrap();
    let mut ascending = Run::new();
    let mut tied = 0;
    for query in run.queries() {
        let mut ranking: Vec<(&str, f64)> = run.ranking(query).collect();
        let scores: BTreeMap<u64, usize> = ranking.iter().fold(BTreeMap::new(), |mut counts, (_, score)| {
            *counts.entry(score.to_bits()).or_default() += 1;
            counts
        });
        tied += scores.values().filter(|&&count| count > 1).count();
        ranking.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        for (position, (document, _)) in ranking.into_iter().enumerate() {
            ascending.push(query, document, -(position as f32));
        }
    }
    eprintln!("{tied} groups of tied scores");
    let options = Options::default();
    let (right, other) = (evaluate(&qrels, &run, &options), evaluate(&qrels, &ascending, &options));
    assert!(tied > 0);
    assert_ne!(right.per_query, other.per_query, "the fixture cannot tell the tie rules apart");
}

#[test]
fn a_written_run_evaluates_to_the_same_digits() {
    let Some(folder) = fixtures() else { return };
    let place = tempfile::tempdir().unwrap();
    let qrels = Qrels::read(folder.join("trec_eval/qrels.test")).unwrap();
    let run = Run::read(folder.join("trec_eval/results.test")).unwrap();
    let path = place.path().join("again.trec");
    run.write_trec(&path, "again").unwrap();
    let again = Run::read(&path).unwrap();
    for double_scores in [false, true] {
        let options = Options { double_scores, ..Options::default() };
        assert_eq!(evaluate(&qrels, &run, &options), evaluate(&qrels, &again, &options));
    }
    assert_eq!(again.tag(), Some("again"));
}
