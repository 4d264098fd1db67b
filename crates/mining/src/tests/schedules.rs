//! Lists that are found slice by slice, and lists that move on when they have become too easy.

use burn::tensor::Device;
use corpus::{Listed, NegativeLists};

use super::{LINE, Placed, collection, config, documents, judged, line, on_a_line, refresh, tensor, texts, values};
use crate::store::{EmbeddingStore, StorePrecision};
use crate::{Candidate, Miner, MiningError, Moment, Visit};

const DOCUMENTS: usize = 23;
const QUERIES: usize = 7;

/// Weights that change with the step: every row turns.
fn turned(step: usize) -> Placed {
    let turn = step as f32 * 0.11;
    let row = |it: usize| vec![(it as f32 * 0.7 + turn).sin(), (it as f32 * 1.3 - turn).cos(), 0.5 + (it as f32 * 0.3 + turn).sin()];
    Placed::new((0..DOCUMENTS).map(row).collect(), (50..50 + QUERIES).map(row).collect())
}

fn pairs() -> Vec<(u32, u32)> {
    (0..QUERIES as u32).map(|query| (query, query * 2)).collect()
}

fn rolling() -> Miner {
    let data = collection(&texts("document", DOCUMENTS), &texts("query", QUERIES));
    let recipe = config("slices = 4\n[[source]]\nfrom = \"dense\"\ndepth = 5\nrefresh = \"rolling 20 steps\"\n[draw]\nrule = \"top\"");
    Miner::new(&recipe, &data, &judged(QUERIES, &pairs()), 7).unwrap()
}

fn all(miner: &Miner) -> Vec<Vec<Candidate>> {
    pairs().into_iter().map(|(query, positive)| miner.draw(&Visit::new(query, positive, 99, 3))).collect()
}

#[test]
fn no_row_and_no_list_is_older_than_it_may_be() {
    let mut miner = rolling();
    // What a slice by slice refresh should hold: the step of each document's row, each query's list over such rows.
    let part = |slice: usize, count: usize| slice * count / 4..(slice + 1) * count / 4;
    let mut rows = turned(0).documents;
    let mut lists: Vec<Vec<u32>> = vec![Vec::new(); QUERIES];
    let (mut row_steps, mut list_steps) = ([0; DOCUMENTS], [0; QUERIES]);
    let mut next = 0;
    for step in 0..70 {
        if !miner.due(Moment::new(step, 0)) {
            assert!(step % 5 != 0, "{step}");
            continue;
        }
        assert!(step % 5 == 0, "{step}");
        let mut encoder = turned(step);
        let report = refresh(&mut miner, step, 0, &mut encoder).unwrap();
        let (documents_here, queries_here) =
            if step == 0 { (0..DOCUMENTS, 0..QUERIES) } else { (part(next, DOCUMENTS), part(next, QUERIES)) };
        next = if step == 0 { 0 } else { (next + 1) % 4 };
        let encoded: usize = encoder.calls.iter().map(Vec::len).sum();
        assert_eq!((encoded, report.by_source[0].queries), (documents_here.len(), queries_here.len()));
        for document in documents_here {
            rows[document] = turned(step).documents[document].clone();
            row_steps[document] = step;
        }
        for query in queries_here {
            let mut order: Vec<(f32, u32)> = rows
                .iter()
                .zip(0..)
                .filter(|it| it.1 != pairs()[query].1)
                .map(|(row, id)| (row.iter().zip(&turned(step).queries[query]).map(|(a, b)| a * b).sum::<f32>(), id))
                .collect();
            order.sort_by(|a, b| b.0.total_cmp(&a.0));
            lists[query] = order[..5].iter().map(|it| it.1).collect();
            list_steps[query] = step;
        }
        assert_eq!(all(&miner).iter().map(|row| documents(row)).collect::<Vec<_>>(), lists, "{step}");
        assert_eq!(report.by_source[0].row_age_steps, row_steps.iter().map(|then| step - then).max());
        assert!(row_steps.iter().chain(&list_steps).all(|then| step - then <= 20), "{step}");
    }
}

#[test]
fn a_late_call_makes_up_for_the_slices_it_missed() {
    let mut miner = rolling();
    refresh(&mut miner, 0, 0, &mut turned(0)).unwrap();
    let mut encoder = turned(12);
    refresh(&mut miner, 12, 0, &mut encoder).unwrap();
    // Slices of steps 5 and 10; the next is due at step 15.
    assert_eq!(encoder.calls.iter().map(Vec::len).sum::<usize>(), DOCUMENTS * 2 / 4);
    assert!(!miner.due(Moment::new(14, 0)) && miner.due(Moment::new(15, 0)));
    let mut encoder = turned(99);
    let report = refresh(&mut miner, 99, 0, &mut encoder).unwrap();
    assert_eq!((encoder.calls.iter().map(Vec::len).sum::<usize>(), report.by_source[0].row_age_steps), (DOCUMENTS, Some(0)));
}

#[test]
fn by_the_clock_slices_come_when_their_time_has_passed() {
    let data = collection(&texts("document", DOCUMENTS), &texts("query", QUERIES));
    let recipe = config("slices = 4\n[[source]]\nfrom = \"dense\"\ndepth = 5\nrefresh = \"rolling 2 s\"\n[draw]\nrule = \"top\"");
    let mut miner = Miner::new(&recipe, &data, &judged(QUERIES, &pairs()), 7).unwrap();
    assert!(miner.by_the_clock() && !rolling().by_the_clock());
    let at = |step, milliseconds| Moment { step, epoch: 0, milliseconds };
    let first = (DOCUMENTS / 4, QUERIES / 4);
    let others = (DOCUMENTS - first.0, QUERIES - first.1);
    // Step, time, documents and queries of the slices that are due: one every half second.
    let cases = [
        (0, 40, (DOCUMENTS, QUERIES)),
        (3, 539, (0, 0)),
        (4, 540, first),
        (9, 1039, (0, 0)),
        (10, 2041, others),
        (11, 9000, (DOCUMENTS, QUERIES)),
    ];
    for (step, milliseconds, (rows, lists)) in cases {
        let now = at(step, milliseconds);
        assert_eq!(miner.due(now), rows > 0, "{now:?}");
        if rows > 0 {
            let mut encoder = turned(step);
            let report = miner.refresh(now, &mut crate::Only(&mut encoder)).unwrap();
            let encoded: usize = encoder.calls.iter().map(Vec::len).sum();
            assert_eq!((encoded, report.by_source[0].queries), (rows, lists), "{now:?}");
        }
    }
}

#[test]
fn rows_of_different_ages_go_on_from_a_checkpoint() {
    let mut miner = rolling();
    for step in [0, 5, 10] {
        refresh(&mut miner, step, 0, &mut turned(step)).unwrap();
    }
    let state = miner.state().unwrap();
    let mut restored = rolling();
    restored.restore(&state).unwrap();
    assert_eq!(restored.state().unwrap(), state);
    for step in [15, 20, 25] {
        let mut reports = [&mut miner, &mut restored].map(|miner| refresh(miner, step, 0, &mut turned(step)).unwrap());
        for report in &mut reports {
            (report.seconds, report.encode_seconds, report.search_seconds, report.filter_seconds) = (0.0, 0.0, 0.0, 0.0);
        }
        assert_eq!(reports[0], reports[1]);
        assert_eq!(all(&miner), all(&restored));
        assert_eq!(miner.state().unwrap(), restored.state().unwrap());
    }
}

#[test]
fn a_stretch_of_rows_is_encoded_anew_and_the_others_stay() {
    let device = Device::flex();
    for shard in [1, 4, 1 << 16] {
        let mut store = EmbeddingStore::in_shards(DOCUMENTS, 3, StorePrecision::F32, &device, shard);
        assert!(matches!(store.refill(0..3, &mut turned(1), None), Err(MiningError::Unfilled)));
        store.fill(&mut turned(0), Some(10)).unwrap();
        let mut expected = turned(0).documents;
        for (stretch, step, oldest) in [(5..9, 20, 10), (0..5, 30, 10), (8..8, 35, 10), (9..DOCUMENTS, 40, 20), (3..12, 50, 30)] {
            let mut encoder = turned(step);
            encoder.lengths = Some((0..DOCUMENTS as u32).map(|it| (it * 5) % 9 + 3).collect());
            store.refill(stretch.clone(), &mut encoder, Some(step)).unwrap();
            for document in stretch.clone() {
                expected[document] = encoder.documents[document].clone();
            }
            assert_eq!(store.shards().iter().cloned().flat_map(values).collect::<Vec<_>>(), expected.concat(), "{stretch:?}");
            assert_eq!(store.oldest_step(), Some(oldest), "{stretch:?}");
        }
        let saved = store.save().unwrap();
        let again = EmbeddingStore::restored(&saved, StorePrecision::F32, &device);
        assert_eq!(again.save().unwrap(), saved);
        assert_eq!(values(again.rows(&[22, 0, 7]).unwrap()), values(store.rows(&[22, 0, 7]).unwrap()));
        let mut broken = turned(60);
        broken.documents[8][1] = f32::NAN;
        assert!(matches!(store.refill(6..10, &mut broken, None), Err(MiningError::BadRows { document: 8, .. })));
        assert!(matches!(store.rows(&[0]), Err(MiningError::Unfilled)));
    }
    // Cosines of rows of any length, and products between documents.
    let mut store = EmbeddingStore::in_shards(3, 2, StorePrecision::F32, &device, 1);
    store.fill(&mut Placed::new(vec![vec![3.0, 0.0], vec![0.0, 2.0], vec![1.0, 1.0]], Vec::new()), None).unwrap();
    assert_eq!(store.cosines(&tensor(vec![0.0, 5.0], 2, &device), &[(0, 0), (0, 1)]).unwrap(), [0.0, 1.0]);
    assert_eq!(store.between(&[(0, 2), (2, 1), (1, 1)]).unwrap(), [3.0, 2.0, 4.0]);
}

/// One query on the first axis and 40 documents, d0 the positive, the others falling from .79; `faded` multiplies the cosines of all but the
/// positive.
fn fading(faded: f32) -> Placed {
    let unit = |cosine: f32| vec![cosine, (1.0 - cosine * cosine).sqrt()];
    Placed::new((0..40).map(|it| unit(if it == 0 { 0.9 } else { (0.8 - 0.01 * it as f32) * faded })).collect(), vec![vec![2.0, 0.0]])
}

fn decaying() -> Miner {
    let data = collection(&texts("document", 40), &texts("query", 1));
    let recipe =
        config("[[source]]\nfrom = \"dense\"\ndepth = 39\nrefresh = \"on decay every 100 steps\"\n[draw]\nrule = \"window\"\nskip = 10");
    Miner::new(&recipe, &data, &judged(1, &[(0, 0)]), 7).unwrap().expecting(4)
}

/// Ranks behind the positive, which is first: block i of four behind ten survivors.
fn block(replacements: u32) -> Vec<u32> {
    (11 + 4 * replacements..15 + 4 * replacements).collect()
}

#[test]
fn negatives_that_have_become_easy_give_way_to_the_next_block_of_ranks() {
    let mut miner = decaying();
    refresh(&mut miner, 0, 0, &mut fading(1.0)).unwrap();
    let served = |miner: &Miner| documents(&miner.draw(&Visit::new(0, 0, 4, 17)));
    assert_eq!(served(&miner), block(0));
    let mut encoder = fading(0.8);
    for (step, faded, replacements, replaced) in [
        // 1.15 · .87 > 1.
        (100, 0.87, 0, 0),
        (200, 0.86, 1, 1),
        // Measured from what was installed at .86.
        (300, 0.86, 1, 0),
        (400, 0.75, 1, 0),
        (500, 0.7, 2, 1),
        (600, -0.5, 3, 1),
    ] {
        assert!(!miner.due(Moment::new(step - 1, 9)) && miner.due(Moment::new(step, 0)), "{step}");
        encoder = fading(faded);
        let report = refresh(&mut miner, step, 0, &mut encoder).unwrap();
        assert_eq!((report.replaced, report.by_source[0].replaced), (Some(replaced), Some(replaced)), "{step}");
        assert_eq!(served(&miner), block(replacements), "{step}");
        assert_eq!((report.turnover, report.candidates), (None, 39));
    }
    // Only the current negatives were encoded, and the new ones.
    assert_eq!(encoder.calls, [vec![19, 20, 21, 22], vec![23, 24, 25, 26]]);
    let mut restored = decaying();
    restored.restore(&miner.state().unwrap()).unwrap();
    assert_eq!(served(&restored), block(3));
    for miner in [&mut miner, &mut restored] {
        // Cosines fell from −.27 to −.53: easier again.
        assert_eq!(refresh(miner, 700, 0, &mut fading(-1.0)).unwrap().replaced, Some(1));
        assert_eq!(served(miner), block(4));
    }
}

/// Whatever the draw, and beside another source that gives its half of a visit.
#[test]
fn what_is_measured_is_what_visits_are_served() {
    let mut data = collection(&texts("document", 40), &texts("query", 1));
    data.negatives = Some(NegativeLists::from_rows(vec![[38, 39].map(|document| Listed { document, score: None }).to_vec()]));
    let decaying = "[[source]]\nfrom = \"dense\"\ndepth = 30\nrefresh = \"on decay every 100 steps\"\n";
    let beside = "[[source]]\nfrom = \"file\"\ndraw = { rule = \"top\" }\n";
    let uneven = "[[source]]\nfrom = \"file\"\ndraw = { rule = \"top\" }\nshare = { from = 1, to = 9 }\n";
    for draw in [
        "\"window\"\nskip = 10",
        "\"uniform\"",
        "\"rank-curve\"",
        "\"simans\"\na = 1e9\ntemperature = 1.0",
        "\"diverse\"\nper_visit = 4\nvisits = 2",
    ] {
        for (others, number, most) in [("", 0, 4), (beside, 1, 2), (uneven, 1, 2)] {
            let recipe = config(&format!("{others}{decaying}[draw]\nrule = {draw}"));
            let judgments = judged(1, &[(0, 0), (0, 20)]);
            let miner = Miner::new(&recipe, &data, &judgments, 7).unwrap();
            let mut miner = miner.expecting(4).judging(judged(1, &[(0, 3)]));
            for (step, faded) in [(0, 1.0), (100, 0.5), (200, 0.2)] {
                let mut encoder = fading(faded);
                let report = refresh(&mut miner, step, 0, &mut encoder).unwrap();
                assert_eq!(report.replaced, Some(usize::from(step > 0)));
                let mut served: Vec<u32> = Vec::new();
                for (_, positive) in judgments.pairs() {
                    let visit = miner.draw(&Visit::new(0, positive, 4, 17));
                    let own = visit.iter().filter(|it| it.source == number).map(|it| it.document);
                    assert_eq!(own.clone().count(), most, "{recipe:?}");
                    served.extend(own);
                }
                served.sort_unstable();
                served.dedup();
                assert_eq!(encoder.calls.last(), Some(&served), "{draw} at step {step}");
            }
        }
    }
}

#[test]
fn a_schedule_that_never_fires_leaves_the_static_list_alone() {
    let mut miner = decaying();
    refresh(&mut miner, 0, 0, &mut fading(1.0)).unwrap();
    let before = miner.draw(&Visit::new(0, 0, 4, 0));
    for step in 1..8 {
        assert_eq!(refresh(&mut miner, 100 * step, 0, &mut fading(1.0)).unwrap().replaced, Some(0));
        assert_eq!(miner.draw(&Visit::new(0, 0, 4, step as u64)), before);
    }
    // However easy, negatives whose mean cosine is .8 or more stay: the paper's second condition.
    let decay = crate::DecayConfig::default();
    assert!(decay.fires(0.95, 0.79) && !decay.fires(0.95, 0.83) && !decay.fires(1.9, 0.8) && !decay.fires(0.0, -0.8));
    assert!(!decay.fires(f32::NAN, 0.1) && !decay.fires(0.5, f32::NAN));
}

#[test]
fn rows_that_were_encoded_for_something_else_serve_a_refresh_at_their_step() {
    let (data, judgments, encoder) = line();
    let config = config("[[source]]\nfrom = \"dense\"\ndepth = 6\nrefresh = \"every 5 steps\"\n[draw]\nrule = \"top\"\n");
    let given = |step: usize, documents: usize| {
        let mut store = EmbeddingStore::new(documents, encoder.dimension, StorePrecision::F32, &encoder.device);
        store.fill(&mut on_a_line(&LINE[..documents]), Some(step)).unwrap();
        store
    };
    let lists = |miner: &Miner| miner.draw(&Visit::new(0, 0, 100, 0));
    for precision in [StorePrecision::F32, StorePrecision::F16] {
        let miner = || Miner::new(&config, &data, &judgments, 7).unwrap().storing(precision);
        let mut alone = miner();
        refresh(&mut alone, 0, 0, &mut on_a_line(&LINE)).unwrap();
        // Of this step; of another one, and of too few documents, which are of no use.
        for (store, encodes) in [(given(0, 8), false), (given(3, 8), true), (given(0, 7), true)] {
            let (mut miner, mut encoder) = (miner(), on_a_line(&LINE));
            assert!(miner.takes_rows(Moment::new(0, 0)));
            miner.give(store);
            let report = refresh(&mut miner, 0, 0, &mut encoder).unwrap();
            assert_eq!((encoder.calls.is_empty(), report.oldest_row_steps), (!encodes, Some(0)));
            assert_eq!(lists(&miner), lists(&alone));
            // Nothing is due until step 5, and then the rows are new.
            assert!(!miner.takes_rows(Moment::new(4, 0)) && miner.takes_rows(Moment::new(5, 0)));
            refresh(&mut miner, 5, 0, &mut encoder).unwrap();
            assert!(!encoder.calls.is_empty());
        }
    }
    let mut sliced = rolling();
    assert!(sliced.takes_rows(Moment::new(0, 0)));
    refresh(&mut sliced, 0, 0, &mut turned(0)).unwrap();
    assert!(sliced.due(Moment::new(50, 0)) && !sliced.takes_rows(Moment::new(50, 0)), "slice by slice");
}
