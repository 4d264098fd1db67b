//! The miner through its refreshes: ranks, filters, mixing, reports, schedules, checkpoints.

use std::collections::HashMap;

use burn::tensor::Device;
use corpus::{Collection, Judgments, Listed, NegativeLists};

use super::{Placed, collection, config, documents, judged, line, tensor, texts};
use crate::{Candidate, EmbeddingStore, MineOptions, Miner, MiningError, Moment, NegativesConfig, Only, RefreshReport, Visit, mine};

const DENSE: &str = "[[source]]\nfrom = \"dense\"\ndepth = 6\nrefresh = \"every 10 steps\"\n[draw]\nrule = \"top\"\n";

fn refreshed(config: &NegativesConfig, data: &Collection, judgments: &Judgments, encoder: &mut Placed) -> (Miner, RefreshReport) {
    let mut miner = Miner::new(config, data, judgments, 7).unwrap();
    let report = miner.refresh(Moment::new(0, 0), &mut Only(encoder)).unwrap();
    (miner, report)
}

/// All negatives of query 0 under these filters, best first.
fn survivors(filters: &str) -> Vec<u32> {
    let (data, judgments, mut encoder) = line();
    let (miner, _) = refreshed(&config(&format!("{DENSE}{filters}")), &data, &judgments, &mut encoder);
    documents(&miner.draw(&Visit::new(0, 0, 100, 0)))
}

#[test]
fn the_miner_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Miner>();
}

#[test]
fn ranks_are_those_of_the_whole_corpus_and_judged_documents_use_up_no_depth() {
    let (data, judgments, mut encoder) = line();
    let (miner, report) = refreshed(&config(DENSE), &data, &judgments, &mut encoder);
    let negatives = miner.draw(&Visit::new(0, 0, 100, 0));
    assert_eq!(documents(&negatives), [1, 2, 3, 4, 5, 6]);
    assert_eq!(negatives.iter().map(|it| it.rank).collect::<Vec<_>>(), [1, 3, 4, 5, 6, 7]);
    assert_eq!(negatives.iter().map(|it| it.score).collect::<Vec<_>>(), [0.95, 0.79, 0.77, 0.7, 0.6, 0.3]);
    assert!(negatives.iter().all(|it| it.source == 0 && it.teacher.is_none() && !it.synthetic));
    assert_eq!((report.candidates, report.removed["judged"], report.short_rows, report.queries), (6, 1, 0, 1));
    assert_eq!(report.turnover, None);
    let positive = report.positive_scores.unwrap();
    assert!((positive.p50 - 0.8).abs() < 1e-6);
    assert!((report.negative_scores.unwrap().p50 - 0.735).abs() < 1e-6);
    assert!((report.score_differences.unwrap().p50 - 0.065).abs() < 1e-6);
}

#[test]
fn a_window_counts_raw_ranks_before_and_survivors_after_the_other_filters() {
    let margin = "[[filter]]\nrule = \"margin\"\nrelative = 0.05\n";
    let window = |order: &str, bounds: &str| format!("[[filter]]\nrule = \"rank-window\"\norder = \"{order}\"\n{bounds}\n");
    // Raw order: d1, the positive d0, d2, d3, d4, d5, d6; the margin leaves d4, d5, d6.
    assert_eq!(survivors(&window("before", "skip = 2")), [2, 3, 4, 5, 6]);
    assert_eq!(survivors(&window("after", "skip = 2")), [3, 4, 5, 6]);
    assert_eq!(survivors(&window("before", "skip = 2\nuntil = 4")), [2, 3]);
    assert_eq!(survivors(&window("after", "until = 2")), [1, 2]);
    assert_eq!(survivors(&format!("{margin}{}", window("before", "skip = 2"))), [4, 5, 6]);
    assert_eq!(survivors(&format!("{margin}{}", window("after", "skip = 2"))), [6]);
    // The place in the file does not matter for a window over survivors.
    assert_eq!(survivors(&format!("{}{margin}", window("after", "skip = 2"))), [6]);
}

#[test]
fn scores_and_margins_drop_what_they_say() {
    let cases = [
        ("rule = \"score\"\nmax = 0.78", vec![3, 4, 5, 6]),
        ("rule = \"score\"\nmin = 0.65", vec![1, 2, 3, 4]),
        ("rule = \"score\"\nmin = 0.65\nmax = 0.78", vec![3, 4]),
        ("rule = \"margin\"\nabsolute = 0.15", vec![5, 6]),
        ("rule = \"margin\"\nrelative = 0.0", vec![2, 3, 4, 5, 6]),
        ("rule = \"margin\"\nabsolute = 0.0", vec![2, 3, 4, 5, 6]),
        ("rule = \"margin\"\nrelative = 0.2\nabsolute = 0.3", vec![6]),
    ];
    for (filter, expected) in cases {
        assert_eq!(survivors(&format!("[[filter]]\n{filter}")), expected, "{filter}");
    }
}

#[test]
fn below_the_margin_the_list_is_as_deep_as_asked_for() {
    let (data, judgments, mut encoder) = line();
    let mut mined = |below: bool, filter: &str| {
        let recipe = config(&format!("[[source]]\nfrom = \"dense\"\ndepth = 3\nbelow_margin = {below}\n{filter}[draw]\nrule = \"top\""));
        let (miner, report) = refreshed(&recipe, &data, &judgments, &mut encoder);
        (documents(&miner.draw(&Visit::new(0, 0, 9, 0))), report)
    };
    let margin = "[[filter]]\nrule = \"margin\"\nrelative = 0.05\n";
    assert!(mined(false, margin).0.is_empty());
    let (negatives, report) = mined(true, margin);
    assert_eq!((negatives, report.candidates, report.removed["margin"]), (vec![4, 5, 6], 3, 0));
    assert_eq!(mined(true, "[[filter]]\nrule = \"margin\"\nabsolute = 0.3\n").0, [6, 7]);
    assert_eq!(mined(true, "[[filter]]\nrule = \"score\"\nmax = 0.78\n").0, [3, 4, 5]);
    assert_eq!(mined(true, "").0, [1, 2, 3]);
}

#[test]
fn the_lowest_positive_decides() {
    let (data, _, mut encoder) = line();
    let judgments = judged(1, &[(0, 0), (0, 5)]);
    let filter = "[[filter]]\nrule = \"margin\"\nabsolute = 0.05";
    let (miner, report) = refreshed(&config(&format!("{DENSE}{filter}")), &data, &judgments, &mut encoder);
    assert_eq!(documents(&miner.draw(&Visit::new(0, 0, 9, 0))), [6, 7]);
    assert_eq!(report.removed["margin"], 4);
}

#[test]
fn documents_known_not_to_be_relevant_can_be_kept() {
    let (data, _, mut encoder) = line();
    let judgments = Judgments::from_pairs(1, vec![(0, 0, 1), (0, 1, 0)]);
    let (miner, _) = refreshed(&config(DENSE), &data, &judgments, &mut encoder);
    assert_eq!(documents(&miner.draw(&Visit::new(0, 0, 2, 0))), [2, 3]);
    let keeping = config(&format!("{DENSE}[[filter]]\nrule = \"judged\"\nkeep_nonrelevant = true"));
    let (miner, _) = refreshed(&keeping, &data, &judgments, &mut encoder);
    assert_eq!(documents(&miner.draw(&Visit::new(0, 0, 2, 0))), [1, 2]);
    let off = config(&format!("remove_judged = false\n{DENSE}"));
    let (miner, _) = refreshed(&off, &data, &judgments, &mut encoder);
    // The positive of the visit is no negative of it even so.
    assert_eq!(documents(&miner.draw(&Visit::new(0, 0, 2, 0))), [1, 2]);
}

#[test]
fn what_is_judged_for_one_of_two_queries_with_one_text_is_no_negative_of_the_other() {
    let (_, _, mut encoder) = line();
    encoder.queries = vec![vec![1.0, 0.0]; 2];
    let data = collection(&texts("document", 8), &["which", "which"].map(str::to_owned));
    let judgments = judged(2, &[(0, 0), (1, 1)]);
    let sources =
        ["from = \"random\"", "from = \"dense\"\ndepth = 6"].map(|source| format!("[[source]]\n{source}\n[draw]\nrule = \"top\"\n"));
    for source in sources {
        let mut miner = Miner::new(&config(&source), &data, &judgments, 7).unwrap();
        if miner.due(Moment::new(0, 0)) {
            miner.refresh(Moment::new(0, 0), &mut Only(&mut encoder)).unwrap();
        }
        for (query, positive) in judgments.pairs() {
            let mut negatives = documents(&miner.draw(&Visit::new(query, positive, 9, 0)));
            negatives.sort_unstable();
            // All others: the two use up no depth.
            assert_eq!(negatives, [2, 3, 4, 5, 6, 7], "{source}");
        }
    }
    let store = EmbeddingStore::encode(&mut encoder, 8, &Device::flex()).unwrap();
    let rows = tensor(encoder.queries.concat(), 2, &Device::flex());
    let mined = mine(&rows, &store, &[0, 1], &judgments, &data, &MineOptions { negatives: 6, ..MineOptions::default() }).unwrap();
    for row in &mined.rows {
        let mut negatives: Vec<u32> = row.negatives.iter().map(|it| it.0).collect();
        negatives.sort_unstable();
        assert_eq!((negatives, row.positives.len()), (vec![2, 3, 4, 5, 6, 7], 1));
    }
}

#[test]
fn short_rows_serve_fewer_or_nothing_or_are_filled_and_say_so() {
    let (data, judgments, mut encoder) = line();
    let filter = "[[filter]]\nrule = \"score\"\nmax = 0.65";
    let mut draw = |short: &str| {
        let config = config(&format!("short = \"{short}\"\n{DENSE}{filter}"));
        let mut miner = Miner::new(&config, &data, &judgments, 7).unwrap().expecting(4);
        let report = miner.refresh(Moment::new(0, 0), &mut Only(&mut encoder)).unwrap();
        assert_eq!((report.short_rows, report.empty_rows), (1, 0));
        miner.draw(&Visit::new(0, 0, 4, 3))
    };
    assert_eq!(documents(&draw("fewer")), [5, 6]);
    assert!(draw("drop").is_empty());
    let filled = draw("random");
    assert_eq!(documents(&filled[..2]), [5, 6]);
    assert_eq!(filled.len(), 4);
    for it in &filled[2..] {
        assert!(it.source == Candidate::FILL && it.rank == 0 && it.score.is_nan() && ![0, 5, 6].contains(&it.document), "{it:?}");
    }
}

#[test]
fn turnover_is_nothing_when_nothing_changed_and_whole_when_everything_did() {
    let data = collection(&texts("document", 20), &texts("query", 1));
    let judgments = judged(1, &[(0, 0)]);
    let place = |near: std::ops::Range<usize>| -> Vec<Vec<f32>> {
        (0..20).map(|it| vec![if near.contains(&it) { 0.9 } else { 0.1 }, 1.0]).collect()
    };
    let mut encoder = Placed::new(place(1..7), vec![vec![1.0, 0.0]]);
    let mut miner = Miner::new(&config(DENSE), &data, &judgments, 7).unwrap();
    assert_eq!(miner.refresh(Moment::new(0, 0), &mut Only(&mut encoder)).unwrap().turnover, None);
    assert_eq!(miner.refresh(Moment::new(10, 0), &mut Only(&mut encoder)).unwrap().turnover, Some(0.0));
    encoder.documents = place(7..13);
    assert_eq!(miner.refresh(Moment::new(20, 0), &mut Only(&mut encoder)).unwrap().turnover, Some(1.0));
    encoder.documents = place(10..16);
    let report = miner.refresh(Moment::new(30, 1), &mut Only(&mut encoder)).unwrap();
    assert_eq!((report.turnover, report.version, report.step, report.epoch), (Some(0.5), 4, 30, 1));
    assert!(report.line().contains("version 4 at step 30") && report.line().contains("changed 50.0 %"), "{}", report.line());
}

#[test]
fn false_negatives_are_counted_exactly_where_the_truth_is_known() {
    let (mut data, judgments, mut encoder) = line();
    let (_, report) = refreshed(&config(DENSE), &data, &judgments, &mut encoder);
    assert_eq!(report.false_negative_rate, None);
    // Of the six candidates 1 to 6, documents 1 and 4 are relevant; 7 is relevant but not a candidate, 2 is not relevant.
    data.truth = Some(Judgments::from_pairs(1, vec![(0, 0, 1), (0, 1, 1), (0, 2, 0), (0, 4, 2), (0, 7, 1)]));
    let (_, report) = refreshed(&config(DENSE), &data, &judgments, &mut encoder);
    assert_eq!(report.false_negative_rate, Some(2.0 / 6.0));
    let (_, report) = refreshed(&config(&format!("{DENSE}[[filter]]\nrule = \"score\"\nmax = 0.8")), &data, &judgments, &mut encoder);
    assert_eq!(report.false_negative_rate, Some(1.0 / 5.0));
}

#[test]
fn shares_hold_over_many_visits_and_random_documents_are_new_at_each() {
    let (data, judgments, mut encoder) = line();
    let mixed = config(
        "[[source]]\nfrom = \"in-batch\"\n[[source]]\nfrom = \"dense\"\ndepth = 3\nshare = 3.0\n[[source]]\nfrom = \"random\"\nshare = 1.0\n",
    );
    let (miner, report) = refreshed(&mixed, &data, &judgments, &mut encoder);
    assert_eq!(report.short_rows, 0);
    let mut counts: HashMap<u8, usize> = HashMap::new();
    let mut draws = Vec::new();
    for visit in 0..2000 {
        let negatives = miner.draw(&Visit::new(0, 0, 2, visit));
        assert_eq!(negatives.len(), 2);
        for it in &negatives {
            *counts.entry(it.source).or_default() += 1;
        }
        draws.push(documents(&negatives));
    }
    // 4000 negatives, a quarter of them random; 5 standard deviations of independent draws are 137.
    assert!(counts[&2].abs_diff(1000) < 137 && counts[&1] + counts[&2] == 4000, "{counts:?}");
    assert_eq!(miner.draw(&Visit::new(0, 0, 2, 5)), miner.draw(&Visit::new(0, 0, 2, 5)));
    draws.dedup();
    assert!(draws.len() > 1000);
    // Exactly divisible shares are exact at every visit.
    for visit in 0..50 {
        assert_eq!(miner.draw(&Visit::new(0, 0, 4, visit)).iter().filter(|it| it.source == 2).count(), 1);
    }
}

#[test]
fn what_one_source_lacks_the_others_make_up_for() {
    let (mut data, judgments, mut encoder) = line();
    data.negatives = Some(NegativeLists::from_rows(vec![vec![Listed { document: 7, score: None }]]));
    let mixed = config("[[source]]\nfrom = \"file\"\n[[source]]\nfrom = \"dense\"\ndepth = 6\n[draw]\nrule = \"top\"");
    let (miner, _) = refreshed(&mixed, &data, &judgments, &mut encoder);
    let negatives = miner.draw(&Visit::new(0, 0, 6, 0));
    assert_eq!(documents(&negatives), [7, 1, 2, 3, 4, 5]);
    assert_eq!(negatives.iter().map(|it| it.source).collect::<Vec<_>>(), [0, 1, 1, 1, 1, 1]);
}

#[test]
fn a_file_that_scores_its_positives_sets_the_scale_of_margins() {
    let (mut data, judgments, mut encoder) = line();
    let listed = |document, score| Listed { document, score: Some(score) };
    // A teacher's logits. The encoder has .3 for document 6, .79 for 2, .95 for 1, and .8 for the positive.
    let lists = NegativeLists::from_rows(vec![vec![listed(6, 9.5), listed(2, 8.0), listed(1, 3.0), listed(0, 2.0)]]);
    let filter = "[[filter]]\nrule = \"margin\"\nrelative = 0.1\n[draw]\nrule = \"top\"";
    let file = config(&format!("[[source]]\nfrom = \"file\"\n{filter}"));
    data.negatives = Some(lists.clone());
    let (miner, _) = refreshed(&file, &data, &judgments, &mut encoder);
    assert_eq!(documents(&miner.draw(&Visit::new(0, 0, 9, 0))), [6]);
    assert!(!encoder.calls.is_empty(), "without positive scores the encoder measures");

    encoder.calls.clear();
    data.negatives = Some(lists.with_positive_scores(vec![vec![listed(0, 9.0)]]));
    let (miner, report) = refreshed(&file, &data, &judgments, &mut encoder);
    assert_eq!(documents(&miner.draw(&Visit::new(0, 0, 9, 0))), [2, 1]);
    assert_eq!((report.removed["judged"], report.removed["margin"]), (1, 1));
    assert!(encoder.calls.is_empty(), "a teacher's scale needs no encoder");

    data.negatives = None;
    assert!(matches!(Miner::new(&file, &data, &judgments, 1), Err(MiningError::NoNegatives { .. })));
}

#[test]
fn bm25_finds_words_not_syntax_and_judged_documents_use_up_no_depth() {
    let documents_ = ["red apple", "red apple pie", "green apple", "red car", "blue sky", "a:b AND (c"];
    let data = collection(&documents_, &["Red APPLE!", "c) OR b:* \"a", "???"]);
    let judgments = judged(3, &[(0, 0), (1, 4), (2, 4)]);
    let lexical = config("[[source]]\nfrom = \"bm25\"\ndepth = 2\n[draw]\nrule = \"top\"");
    let mut encoder = Placed::new(vec![vec![1.0]; 6], vec![vec![1.0]; 3]);
    let (miner, report) = refreshed(&lexical, &data, &judgments, &mut encoder);
    let negatives = miner.draw(&Visit::new(0, 0, 9, 0));
    assert_eq!((documents(&negatives), negatives[0].rank), (vec![1, 2], 2));
    assert!(negatives[0].score > negatives[1].score);
    assert_eq!(documents(&miner.draw(&Visit::new(1, 4, 9, 0))), [5]);
    assert!(miner.draw(&Visit::new(2, 4, 9, 0)).is_empty());
    assert!(encoder.calls.is_empty() && report.negative_scores.is_none());
    assert_eq!((report.removed["judged"], report.empty_rows), (1, 1));

    let run = crate::bm25_run(&data, &[2, 0], 100).unwrap();
    assert!(run[0].is_empty());
    let order: Vec<u32> = run[1].iter().map(|it| it.0).collect();
    assert_eq!((order[0], order[1]), (0, 1));
    assert_eq!(order.len(), 4);
    // Worth of "red" (3 of 6 documents) in "red car": idf · tf (1 + k1) / (tf + k1 (1 − b + b · 2 / average)), average 2.5.
    let red = (1.0 + (6.0 - 3.0 + 0.5) / (3.0 + 0.5_f32)).ln() * 2.2 / (1.0 + 1.2 * (0.25 + 0.75 * 2.0 / (15.0 / 6.0)));
    let got = run[1].iter().find(|it| it.0 == 3).unwrap().1;
    assert!((got - red).abs() < 1e-5, "{got} {red}");
}

#[test]
fn each_source_keeps_its_own_schedule() {
    let (mut data, judgments, mut encoder) = line();
    data.negatives = Some(NegativeLists::from_rows(vec![vec![Listed { document: 7, score: None }]]));
    let mixed = config(
        "[[source]]\nfrom = \"file\"\n[[source]]\nfrom = \"dense\"\nrefresh = \"every 10 steps\"\n[[source]]\nfrom = \"dense\"\nrefresh = \"every epoch\"",
    );
    let mut miner = Miner::new(&mixed, &data, &judgments, 7).unwrap();
    let mut refreshes = Vec::new();
    for step in 0..40 {
        let epoch = step / 15;
        if miner.due(Moment::new(step, epoch)) {
            let report = miner.refresh(Moment::new(step, epoch), &mut Only(&mut encoder)).unwrap();
            refreshes.push((step, report.sources.len()));
            assert!(!miner.due(Moment::new(step, epoch)));
        }
    }
    assert_eq!(refreshes, [(0, 3), (10, 1), (15, 1), (20, 1), (30, 2)]);
    for quiet in ["[[source]]\nfrom = \"random\"", "[[source]]\nfrom = \"in-batch\""] {
        assert!(!Miner::new(&config(quiet), &data, &judgments, 7).unwrap().due(Moment::new(0, 0)));
    }
}

#[test]
fn a_restored_miner_goes_on_as_if_it_had_never_stopped() {
    let data = collection(&texts("document", 30), &texts("query", 5));
    let judgments = judged(5, &[(0, 0), (1, 7), (1, 9), (3, 4), (4, 29)]);
    let vectors =
        |shift: f32| -> Vec<Vec<f32>> { (0..30).map(|it| vec![(it as f32 * 0.7 + shift).sin(), (it as f32 * 1.3).cos(), 0.5]).collect() };
    let encoder = |shift| Placed::new(vectors(shift), (0..5).map(|it| vec![(it as f32).cos(), (it as f32).sin(), 0.1]).collect());
    let recipe = config(
        "short = \"random\"\n[[source]]\nfrom = \"dense\"\ndepth = 9\nrefresh = \"every 10 steps\"\n[[source]]\nfrom = \"bm25\"\ndepth = 4\n[[source]]\nfrom = \"random\"\n\
         [[filter]]\nrule = \"score\"\nmax = 0.9",
    );
    let new = || Miner::new(&recipe, &data, &judgments, 11).unwrap();
    let all = |miner: &Miner| -> Vec<Candidate> {
        (0..6).flat_map(|visit| judgments.pairs().into_iter().flat_map(move |(q, p)| miner.draw(&Visit::new(q, p, 5, visit)))).collect()
    };

    let mut miner = new();
    miner.refresh(Moment::new(0, 0), &mut Only(&mut encoder(0.0))).unwrap();
    let state = miner.state().unwrap();
    let mut restored = new();
    restored.restore(&state).unwrap();
    assert_eq!(restored.state().unwrap(), state);
    assert_eq!(all(&restored), all(&miner));
    for step in 0..12 {
        assert_eq!(restored.due(Moment::new(step, 0)), miner.due(Moment::new(step, 0)), "{step}");
    }
    let (mut first, mut second) = (
        miner.refresh(Moment::new(10, 1), &mut Only(&mut encoder(0.4))).unwrap(),
        restored.refresh(Moment::new(10, 1), &mut Only(&mut encoder(0.4))).unwrap(),
    );
    assert!(first.turnover.is_some_and(|share| share > 0.0));
    for report in [&mut first, &mut second] {
        (report.seconds, report.encode_seconds, report.search_seconds, report.filter_seconds) = (0.0, 0.0, 0.0, 0.0);
    }
    assert_eq!(first, second);
    assert_eq!(all(&restored), all(&miner));
    assert_eq!(restored.state().unwrap(), miner.state().unwrap());
}

#[test]
fn a_state_that_is_damaged_or_of_another_run_is_refused() {
    let (data, judgments, mut encoder) = line();
    let (miner, _) = refreshed(&config(DENSE), &data, &judgments, &mut encoder);
    let state = miner.state().unwrap();
    let refuse = |mut other: Miner, state: &[u8], part: &str| {
        let before = other.state().unwrap();
        let message = other.restore(state).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
        assert_eq!(other.state().unwrap(), before);
    };
    let same = || Miner::new(&config(DENSE), &data, &judgments, 7).unwrap();
    refuse(same(), &state[..state.len() - 1], "too early");
    refuse(same(), &[&state[..], &[0]].concat(), "1 bytes are left over");
    refuse(same(), b"something else", "not written by this version");
    refuse(same(), &[], "too early");
    refuse(Miner::new(&config(DENSE), &data, &judgments, 8).unwrap(), &state, "the seed differs");
    refuse(Miner::new(&config("[[source]]\nfrom = \"random\""), &data, &judgments, 7).unwrap(), &state, "[negatives] differs");
    let larger = collection(&texts("document", 9), &texts("query", 1));
    refuse(Miner::new(&config(DENSE), &larger, &judgments, 7).unwrap(), &state, "the collection differs");
}

#[test]
fn the_lists_are_written_in_a_form_that_can_be_read_back() {
    let (data, judgments, mut encoder) = line();
    let (miner, _) = refreshed(&config(DENSE), &data, &judgments, &mut encoder);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("version-1.jsonl");
    std::fs::write(&path, miner.lists_jsonl(&data).unwrap()).unwrap();
    let row: Vec<(u32, Option<f32>)> = corpus::read_own(&path, &data).unwrap().row(0).iter().map(|it| (it.document, it.score)).collect();
    let expected: Vec<(u32, Option<f32>)> = miner.draw(&Visit::new(0, 0, 9, 0)).iter().map(|it| (it.document, Some(it.score))).collect();
    assert_eq!(row, expected);
    assert_eq!(corpus::read_own(&path, &data).unwrap().positive_scores(0)[0].score, Some(0.8), "the positive's, on the same scale");
    assert_eq!(corpus::read_provenance(&path).unwrap()["negatives_version"], 1);
    // And it is a source.
    let file = config(&format!("[[source]]\nfrom = \"file\"\npath = {:?}\ndepth = 3\n[draw]\nrule = \"top\"", path.to_str().unwrap()));
    let (miner, _) = refreshed(&file, &data, &judgments, &mut encoder);
    assert_eq!(documents(&miner.draw(&Visit::new(0, 0, 9, 0))), [1, 2, 3]);
}

#[test]
fn a_failed_refresh_leaves_the_lists_as_they_were() {
    let (data, judgments, mut encoder) = line();
    let (mut miner, _) = refreshed(&config(DENSE), &data, &judgments, &mut encoder);
    let before = miner.state().unwrap();
    encoder.documents[3][0] = f32::NAN;
    assert!(matches!(miner.refresh(Moment::new(10, 0), &mut Only(&mut encoder)), Err(MiningError::BadRows { document: 3, .. })));
    assert_eq!(miner.state().unwrap(), before);
    encoder.documents[3][0] = 0.77;
    assert_eq!(miner.refresh(Moment::new(10, 0), &mut Only(&mut encoder)).unwrap().turnover, Some(0.0));
}

#[test]
fn judgments_of_another_collection_are_refused() {
    let (data, _, _) = line();
    let judgments = judged(1, &[(0, 8)]);
    assert!(matches!(Miner::new(&config(DENSE), &data, &judgments, 1), Err(MiningError::Beyond { id: 8, count: 8, .. })));
}
