//! What must hold for every run: bounds, the perfect ranking, independence of input order, agreement with the definitions written
//! out naively.

use std::collections::BTreeSet;

use metrics::{Measure, Options, Qrels, Run, evaluate, report};
use proptest::prelude::*;

/// One query: grades of documents `d0`, `d1`, … (None: not judged) and scores of those retrieved.
#[derive(Clone, Debug)]
struct Topic {
    documents: Vec<(Option<i32>, Option<u8>)>,
}

fn topic() -> impl Strategy<Value = Topic> {
    // Few distinct scores, so that ties are common.
    let document = (proptest::option::of(-1..5_i32), proptest::option::weighted(0.7, 0..12_u8));
    proptest::collection::vec(document, 1..40).prop_map(|documents| Topic { documents })
}

fn built(topic: &Topic) -> (Qrels, Run) {
    let (mut qrels, mut run) = (Qrels::new(), Run::new());
    for (number, &(grade, score)) in topic.documents.iter().enumerate() {
        if let Some(grade) = grade {
            qrels.insert("q", &format!("d{number}"), grade);
        }
        if let Some(score) = score {
            run.push("q", &format!("d{number}"), f32::from(score) / 8.0);
        }
    }
    (qrels, run)
}

fn complete() -> Options {
    Options { complete: true, ..Options::default() }
}

fn bounded() -> Vec<Measure> {
    let names = [
        "map",
        "gm_map",
        "Rprec",
        "bpref",
        "gm_bpref",
        "mrr",
        "infAP",
        "11pt_avg",
        "binG",
        "G",
        "ndcg",
        "ndcg_rel",
        "Rndcg",
        "set_P",
        "set_recall",
        "set_relative_P",
        "set_map",
        "set_F",
        "rbp",
        "rbp_resid",
        "iprec_at_recall_0.30",
        "Rprec_mult_0.40",
        "map_cut_3",
        "relative_P_7",
        "unj_5",
        "ndcg_binary@5",
        "map_capped@5",
    ];
    names.iter().map(|name| name.parse().unwrap()).chain(report::standard(None)).collect()
}

/// Grades in ranked order, straight from the definition of the tie rule.
fn ranked(topic: &Topic) -> Vec<Option<i32>> {
    let mut retrieved: Vec<(u8, String, Option<i32>)> =
        topic.documents.iter().enumerate().filter_map(|(number, &(grade, score))| Some((score?, format!("d{number}"), grade))).collect();
    retrieved.sort_by(|a, b| (b.0, &b.1).cmp(&(a.0, &a.1)));
    retrieved.into_iter().map(|(_, _, grade)| grade).collect()
}

fn naive_dcg(grades: &[i32], k: usize) -> f64 {
    grades.iter().take(k).enumerate().map(|(index, &grade)| f64::from(grade.max(0)) / (index as f64 + 2.0).log2()).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_are_between_zero_and_one(topic in topic()) {
        let (qrels, run) = built(&topic);
        let evaluation = evaluate(&qrels, &run, &complete());
        for measure in bounded() {
            let value = evaluation.mean(measure);
            prop_assert!((0.0..=1.0 + 1e-12).contains(&value), "{} is {}", measure, value);
        }
    }

    #[test]
    fn definitions_written_out_agree(topic in topic(), k in 1..12_usize) {
        let (qrels, run) = built(&topic);
        prop_assume!(!qrels.is_empty());
        let evaluation = evaluate(&qrels, &run, &complete());
        let found: Vec<i32> = ranked(&topic).into_iter().map(|grade| grade.unwrap_or(0)).collect();
        let mut ideal: Vec<i32> = topic.documents.iter().filter_map(|document| document.0).collect();
        ideal.sort_unstable_by(|a, b| b.cmp(a));
        let relevant = ideal.iter().filter(|&&grade| grade >= 1).count() as f64;
        let hits = found.iter().take(k).filter(|&&grade| grade >= 1).count() as f64;
        let precisions: f64 = (0..k.min(found.len()))
            .filter(|&at| found[at] >= 1)
            .map(|at| found[..=at].iter().filter(|&&grade| grade >= 1).count() as f64 / (at + 1) as f64)
            .sum();
        let first = found.iter().take(k).position(|&grade| grade >= 1).map_or(0.0, |at| 1.0 / (at + 1) as f64);
        let over = |value: f64, of: f64| if of > 0.0 { value / of } else { 0.0 };
        for (name, expected) in [
            ("ndcg", over(naive_dcg(&found, k), naive_dcg(&ideal, k))),
            ("map", over(precisions, relevant)),
            ("map_capped", over(precisions, relevant.min(k as f64))),
            ("mrr", first),
            ("recall", over(hits, relevant)),
            ("p", hits / k as f64),
            ("success", f64::from(u8::from(hits > 0.0))),
        ] {
            let got = evaluation.get(&format!("{name}@{k}")).unwrap();
            prop_assert!((got - expected).abs() < 1e-12, "{}@{}: got {}, expected {}", name, k, got, expected);
        }
    }

    #[test]
    fn the_order_of_input_does_not_matter(topic in topic(), rotation in 0..40_usize) {
        let (qrels, run) = built(&topic);
        let mut pushes: Vec<(String, f32)> = run.ranking("q").map(|(document, score)| (document.to_owned(), score as f32)).collect();
        let length = pushes.len().max(1);
        pushes.rotate_left(rotation % length);
        pushes.reverse();
        let mut shuffled = Run::new();
        shuffled.push("other", "d1", 1.0);
        for (document, score) in &pushes {
            shuffled.push("q", document, *score);
        }
        prop_assert_eq!(evaluate(&qrels, &run, &complete()), evaluate(&qrels, &shuffled, &complete()));
    }

    #[test]
    fn the_perfect_run_reaches_one(grades in proptest::collection::vec(0..5_i32, 1..30)) {
        prop_assume!(grades.iter().any(|&grade| grade > 0));
        let (mut qrels, mut run) = (Qrels::new(), Run::new());
        for (number, &grade) in grades.iter().enumerate() {
            qrels.insert("q", &format!("d{number}"), grade);
            run.push("q", &format!("d{number}"), grade as f32);
        }
        let evaluation = evaluate(&qrels, &run, &Options::default());
        for name in [
            "ndcg", "ndcg@1", "ndcg@10", "map", "mrr", "mrr@10", "recall@100", "p@1", "success@1", "Rprec", "bpref", "set_recall",
            "iprec_at_recall_1.00", "relative_P_10", "ndcg_rel", "Rndcg", "binG", "ndcg_binary@10", "map_capped@3",
        ] {
            let value = evaluation.get(name).unwrap();
            prop_assert!((value - 1.0).abs() < 1e-12, "{} is {}", name, value);
        }
    }

    #[test]
    fn a_written_run_reads_back_identically(scores in proptest::collection::vec(proptest::num::f32::ANY, 1..40)) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("run.trec");
        let (mut qrels, mut run) = (Qrels::new(), Run::new());
        for (number, &score) in scores.iter().enumerate() {
            run.push(&format!("q{}", number % 3), &format!("d{number}"), score);
            qrels.insert(&format!("q{}", number % 3), &format!("d{number}"), number as i32 % 4);
        }
        run.write_trec(&path, "tag").unwrap();
        let again = Run::read(&path).unwrap();
        for query in run.queries() {
            let expected: Vec<(&str, u32)> = run.ranking(query).map(|(document, score)| (document, (score as f32).to_bits())).collect();
            let got: Vec<(&str, u32)> = again.ranking(query).map(|(document, score)| (document, (score as f32).to_bits())).collect();
            prop_assert_eq!(expected, got);
        }
        prop_assert_eq!(evaluate(&qrels, &run, &complete()), evaluate(&qrels, &again, &complete()));
    }
}

fn small() -> (Qrels, Run) {
    let (mut qrels, mut run) = (Qrels::new(), Run::new());
    for (query, document, grade) in [("1", "a", 1), ("1", "b", 2), ("2", "a", 1), ("3", "c", 0)] {
        qrels.insert(query, document, grade);
    }
    for (query, document, score) in [("1", "1", 9.0), ("1", "a", 3.0), ("1", "b", 2.0), ("3", "c", 1.0), ("unjudged", "a", 1.0)] {
        run.push(query, document, score);
    }
    (qrels, run)
}

#[test]
fn options_change_what_they_name() {
    let (qrels, run) = small();
    let with = |options: Options| evaluate(&qrels, &run, &options);
    let default = with(Options::default());
    assert_eq!(default.per_query.keys().collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!(default.get("mrr"), Some(0.25));
    assert_eq!(with(complete()).queries(), 3);
    assert!((with(complete()).get("mrr").unwrap() - 0.5 / 3.0).abs() < 1e-15);
    assert_eq!(with(Options { drop_identical_ids: true, ..Options::default() }).get("mrr"), Some(0.5));
    assert_eq!(with(Options { depth: Some(1), ..Options::default() }).get("mrr"), Some(0.0));
    let strict = with(Options { relevance_level: 2, ..Options::default() });
    assert!((strict.get("mrr").unwrap() - 1.0 / 6.0).abs() < 1e-15);
    assert_eq!(strict.get("ndcg@10"), default.get("ndcg@10"), "nDCG looks at grades, not at the level");
    assert_eq!(default.get("no_such_measure"), None);
}

/// 0.1 and the next f64 are one f32: tied in single precision, ordered in double.
#[test]
fn scores_are_compared_as_f32_unless_asked() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    std::fs::write(&path, "q Q0 a 1 0.10000000000000002 t\nq Q0 b 2 0.1 t\n").unwrap();
    let run = Run::read(&path).unwrap();
    let mut qrels = Qrels::new();
    qrels.insert("q", "b", 1);
    assert_eq!(evaluate(&qrels, &run, &Options::default()).get("mrr"), Some(1.0));
    assert_eq!(evaluate(&qrels, &run, &Options { double_scores: true, ..Options::default() }).get("mrr"), Some(0.5));
}

#[test]
fn a_document_pushed_twice_counts_once_and_nan_ranks_last() {
    let (mut qrels, mut run) = (Qrels::new(), Run::new());
    qrels.insert("q", "a", 1);
    qrels.insert("q", "b", 1);
    for (document, score) in [("x", f32::NAN), ("a", 2.0), ("a", 5.0), ("c", 4.0), ("b", 3.0)] {
        run.push("q", document, score);
    }
    let query = &evaluate(&qrels, &run, &Options::default()).per_query["q"];
    assert_eq!(query.relevance_string(9), "1-1-");
    assert_eq!(query.get("recall@3"), Some(1.0));
}

#[test]
fn no_query_at_all_gives_zeros() {
    let evaluation = evaluate(&Qrels::new(), &small().1, &complete());
    assert_eq!((evaluation.queries(), evaluation.get("ndcg@10"), evaluation.get("gm_map")), (0, Some(0.0), Some(0.0)));
}

#[test]
fn pairs_are_of_common_queries() {
    let (qrels, run) = small();
    let (all, some) = (evaluate(&qrels, &run, &complete()), evaluate(&qrels, &run, &Options::default()));
    let (ours, theirs) = all.paired(&some, Measure::ReciprocalRank(None));
    assert_eq!(ours, [0.5, 0.0]);
    assert_eq!(ours, theirs);
    assert_eq!(all.values(Measure::ReciprocalRank(None)), [0.5, 0.0, 0.0]);
}

#[test]
fn reports_have_the_forms_of_the_tools() {
    let (qrels, run) = small();
    let evaluation = evaluate(&qrels, &run, &Options::default());
    let beir = report::beir_json(&evaluation, None);
    assert_eq!(beir.as_object().unwrap().keys().collect::<Vec<_>>(), ["ndcg", "map", "recall", "precision", "mrr"]);
    assert_eq!(beir["recall"]["Recall@1000"], 0.5);
    // map: (1/2 + 2/3) / 2 over two queries = 0.291666…, rounded to five places.
    assert_eq!(beir["map"]["MAP@10"], 0.29167);
    assert_eq!(beir["precision"]["P@3"], 0.33333);
    assert_eq!(beir["mrr"]["MRR@1"], 0.0);
    assert_eq!(beir["ndcg"].as_object().unwrap().len(), 6);

    assert_eq!(
        report::csv_header("cosine"),
        "epoch,steps,cosine-Accuracy@1,cosine-Accuracy@3,cosine-Accuracy@5,cosine-Accuracy@10,cosine-Precision@1,cosine-Recall@1,\
         cosine-Precision@3,cosine-Recall@3,cosine-Precision@5,cosine-Recall@5,cosine-Precision@10,cosine-Recall@10,cosine-MRR@10,\
         cosine-NDCG@10,cosine-MAP@100"
    );
    let row = report::csv_row(&evaluation, 1.0, 200);
    let cells: Vec<&str> = row.split(',').collect();
    assert_eq!(cells.len(), report::csv_header("cosine").split(',').count());
    assert_eq!(cells[..4], ["1", "200", "0", "0.5"]);

    let shallow = report::beir_json(&evaluation, Some(100));
    assert_eq!((shallow["ndcg"].as_object().unwrap().len(), shallow["recall"].get("Recall@1000")), (5, None));
    let shallow = evaluation.to_json(Some(10));
    assert!(shallow.get("recall@10").is_some() && shallow.get("recall@20").is_none());

    let flat = evaluation.to_json(None);
    assert_eq!(flat["queries"], 2);
    assert_eq!(flat["mrr@10"].as_f64(), evaluation.get("mrr@10"));
    let names: BTreeSet<&String> = flat.as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 1 + report::standard(None).count());
}
