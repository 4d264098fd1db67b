//! Draws through the miner: each gets the scores that it needs, on one scale, of the positive that is trained on.

use corpus::{Judgments, Listed, NegativeLists};

use super::{Placed, collection, config, documents, judged, line, on_a_line, refresh, texts};
use crate::{Candidate, Miner, MiningError, Only, Visit};

const DENSE: &str = "[[source]]\nfrom = \"dense\"\ndepth = 6\n";

fn draw(rule: &str) -> String {
    format!("[draw]\nrule = {rule}\n")
}

/// Inner product, in f64.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

#[test]
fn an_ambiguous_draw_is_around_the_positive_of_the_visit() {
    // Similarities .8 (positive), .95, .79, .77, .7, .6 (positive), .3, .2.
    let (data, _, mut encoder) = line();
    let judgments = judged(1, &[(0, 0), (0, 5)]);
    let recipe = config(&format!("{DENSE}{}", draw("\"simans\"\na = 1e9")));
    let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    refresh(&mut miner, 0, 0, &mut encoder).unwrap();
    for visit in 0..20 {
        assert_eq!(documents(&miner.draw(&Visit::new(0, 0, 2, visit))), [2, 3]);
        assert_eq!(documents(&miner.draw(&Visit::new(0, 5, 1, visit))), [4]);
    }
    // A positive that nobody judged has no score: the draw is uniform.
    let mut firsts: Vec<u32> = (0..60).map(|visit| miner.draw(&Visit::new(0, 2, 1, visit))[0].document).collect();
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(firsts, [1, 3, 4, 6, 7]);
}

#[test]
fn lexical_candidates_are_compared_by_the_encoder_and_teacher_lists_by_the_teacher() {
    let words = ["red apple", "red apple pie", "red apple tree", "red car", "blue sky"];
    let mut data = collection(&words, &["red apple"]);
    let judgments = judged(1, &[(0, 0)]);
    let similarities = [0.5, 0.9, 0.48, 0.1, 0.2];
    let mut encoder = on_a_line(&similarities);
    let narrow = draw("\"simans\"\na = 1e9");
    let recipe = config(&format!("[[source]]\nfrom = \"bm25\"\n{narrow}"));
    let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    refresh(&mut miner, 0, 0, &mut encoder).unwrap();
    let all = miner.draw(&Visit::new(0, 0, 9, 0));
    assert_eq!(miner.draw(&Visit::new(0, 0, 1, 0))[0].document, 2);
    assert!(all.iter().all(|it| it.similarity == similarities[it.document as usize] && it.score != it.similarity), "{all:?}");
    // A draw that reads no score asks for none.
    let mut plain = Miner::new(&config("[[source]]\nfrom = \"bm25\""), &data, &judgments, 7).unwrap();
    encoder.calls.clear();
    refresh(&mut plain, 0, 0, &mut encoder).unwrap();
    assert!(encoder.calls.is_empty() && plain.draw(&Visit::new(0, 0, 9, 0)).iter().all(|it| it.similarity.is_nan()));

    let listed = |document, score| Listed { document, score: Some(score) };
    let lists = NegativeLists::from_rows(vec![vec![listed(1, 4.0), listed(3, 2.5), listed(4, -1.0)]]);
    data.negatives = Some(lists.with_positive_scores(vec![vec![listed(0, 2.0)]]));
    let recipe = config(&format!("[[source]]\nfrom = \"file\"\nscored_by = \"teacher\"\n{narrow}"));
    let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    refresh(&mut miner, 0, 0, &mut encoder).unwrap();
    let nearest = miner.draw(&Visit::new(0, 0, 1, 0))[0];
    assert_eq!((nearest.document, nearest.teacher, nearest.similarity), (3, Some(2.5), 2.5));
    assert!(encoder.calls.is_empty(), "a teacher's scale needs no encoder");
    let mut restored = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    restored.restore(&miner.state().unwrap()).unwrap();
    assert_eq!(restored.draw(&Visit::new(0, 0, 3, 5)), miner.draw(&Visit::new(0, 0, 3, 5)));
}

#[test]
fn sources_of_one_kind_have_names_of_their_own() {
    let (data, judgments, _) = line();
    let sources =
        ["from = \"dense\"\nmodel = \"start\"", "from = \"bm25\"", "from = \"dense\""].map(|source| format!("[[source]]\n{source}\n"));
    let miner = Miner::new(&config(&sources.concat()), &data, &judgments, 7).unwrap();
    assert_eq!([0, 1, 2, 3].map(|source| miner.source_name(source)), [Some("dense"), Some("bm25"), Some("dense-2"), None]);
}

#[test]
fn the_triangle_knows_the_similarity_of_each_candidate_to_the_positive_of_the_visit() {
    let vector = |it: usize| vec![(it as f32 * 0.7).sin(), (it as f32 * 1.3).cos(), 0.5 - 0.03 * it as f32];
    let vectors: Vec<Vec<f32>> = (0..14).map(vector).collect();
    let query = vec![vec![0.6, 0.1, 0.9], vec![-0.2, 0.8, 0.3]];
    let data = collection(&texts("document", 14), &texts("query", 2));
    let judgments = judged(2, &[(0, 3), (0, 8), (1, 5)]);
    let mut encoder = Placed::new(vectors.clone(), query.clone());
    let recipe = config(&format!("[[source]]\nfrom = \"dense\"\ndepth = 9\n{}", draw("\"trisampler\"\ncandidates = 100")));
    let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    refresh(&mut miner, 0, 0, &mut encoder).unwrap();
    let mut nearest = 0;
    for (query_id, positive) in judgments.pairs() {
        let all = miner.draw(&Visit::new(query_id, positive, 99, 0));
        assert_eq!(all.len(), 9);
        for it in &all {
            let row = &vectors[it.document as usize];
            assert!((it.to_positive - dot(&vectors[positive as usize], row)).abs() < 1e-5, "{it:?}");
            assert!((it.similarity - dot(&query[query_id as usize], row)).abs() < 1e-5, "{it:?}");
        }
        // With a set of everything, only candidates nearer to the positive come first.
        let nearer = all.iter().filter(|it| it.to_positive > it.similarity).count();
        nearest += nearer;
        for visit in 0..20 {
            let first = miner.draw(&Visit::new(query_id, positive, nearer, visit));
            assert!(first.iter().all(|it| it.to_positive > it.similarity), "{first:?}");
        }
    }
    assert!((2..26).contains(&nearest), "{nearest}: some are nearer, some are not");
    let mut restored = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    restored.restore(&miner.state().unwrap()).unwrap();
    assert_eq!(restored.draw(&Visit::new(0, 8, 3, 5)), miner.draw(&Visit::new(0, 8, 3, 5)));
}

/// 40 documents on a line, best first; four training queries and twenty judged ones that all look the same way.
fn ranked(relevant_rank: impl Fn(u32) -> u32) -> (corpus::Collection, Judgments, Judgments, Placed) {
    let data = collection(&texts("document", 40), &texts("query", 24));
    let mut encoder = on_a_line(&(0..40).map(|it| 0.9 - 0.01 * it as f32).collect::<Vec<_>>());
    encoder.queries = vec![vec![1.0, 0.0]; 24];
    let training = judged(24, &(0..4).map(|query| (query, 39)).collect::<Vec<_>>());
    let dev = judged(24, &(4..24).map(|query| (query, relevant_rank(query))).collect::<Vec<_>>());
    (data, training, dev, encoder)
}

#[test]
fn a_curve_is_fitted_on_judged_queries_and_goes_with_the_state() {
    // In all judged queries one of the ten best documents is the relevant one.
    let (data, training, dev, mut encoder) = ranked(|query| query % 10);
    let recipe = config(&format!("[[source]]\nfrom = \"dense\"\ndepth = 30\n{}", draw("\"rank-curve\"")));
    let without = &mut Miner::new(&recipe, &data, &training, 7).unwrap();
    assert!(matches!(refresh(without, 0, 0, &mut encoder), Err(MiningError::NoJudged { split }) if split == "dev"));
    let mut miner = Miner::new(&recipe, &data, &training, 7).unwrap().judging(dev);
    refresh(&mut miner, 0, 0, &mut encoder).unwrap();
    let relevant: Vec<f64> = (0..30).map(|rank| if rank < 10 { 0.1 } else { 0.0 }).collect();
    let curve = crate::draws::rank_curve(&relevant, 2.0);
    let mut counts = vec![0.0; 30];
    let mut drawn = 0;
    for (query, visit) in (0..4).flat_map(|query| (0..1000).map(move |visit| (query, visit))) {
        let first = miner.draw(&Visit::new(query, 39, 1, visit));
        counts[first[0].rank as usize - 1] += 1.0;
        drawn += 1;
    }
    assert_eq!(drawn, 4000);
    let likely: Vec<usize> = (0..30).filter(|&rank| f64::from(curve[rank]) * 4000.0 > 5.0).collect();
    let weights: Vec<f64> = likely.iter().map(|&rank| f64::from(curve[rank])).collect();
    crate::draws::tests::assert_follows(&likely.iter().map(|&rank| counts[rank]).collect::<Vec<_>>(), &weights);
    assert!((0..30).all(|rank| curve[rank] > 0.0 || counts[rank] == 0.0), "{counts:?}");
    let mut restored = Miner::new(&recipe, &data, &training, 7).unwrap();
    restored.restore(&miner.state().unwrap()).unwrap();
    assert_eq!(restored.draw(&Visit::new(1, 39, 8, 5)), miner.draw(&Visit::new(1, 39, 8, 5)));
}

#[test]
fn windows_walk_down_the_list_with_the_epochs() {
    let (data, training, _, mut encoder) = ranked(|_| 0);
    let recipe = config(&format!("[[source]]\nfrom = \"dense\"\ndepth = 30\n{}", draw("\"window\"\nskip = 4\nsize = 3")));
    let mut miner = Miner::new(&recipe, &data, &training, 7).unwrap();
    refresh(&mut miner, 0, 0, &mut encoder).unwrap();
    for epoch in 0..8 {
        let first = 4 + 3 * epoch as u32;
        assert_eq!(documents(&miner.draw(&Visit::new(2, 39, 3, epoch))), [first, first + 1, first + 2]);
    }
}

#[test]
fn a_diverse_list_holds_one_document_of_every_group() {
    // Six groups of four documents around different points. The six best documents are of two groups.
    let centre = |group: usize| [(group as f32).cos(), (group as f32).sin()];
    let vectors: Vec<Vec<f32>> = (0..25)
        .map(|it| match it {
            24 => vec![0.1, 0.1, 0.8],
            _ => vec![5.0 * centre(it / 4)[0], 5.0 * centre(it / 4)[1] + 0.01 * (it % 4) as f32, 1.0 - 0.01 * it as f32],
        })
        .collect();
    let data = collection(&texts("document", 25), &texts("query", 1));
    let mut encoder = Placed::new(vectors, vec![vec![0.0, 0.0, 1.0]]);
    let by = |by: &str| {
        config(&format!("[[source]]\nfrom = \"dense\"\n{}", draw(&format!("\"diverse\"\nper_visit = 2\nvisits = 3\nby = \"{by}\""))))
    };
    let mut mined = |by: &crate::NegativesConfig| {
        let mut miner = Miner::new(by, &data, &judged(1, &[(0, 24)]), 7).unwrap();
        let report = refresh(&mut miner, 0, 0, &mut encoder).unwrap();
        assert_eq!(report.candidates, 6);
        miner
    };
    let miner = mined(&by("documents"));
    let cycle: Vec<u32> = (0..3).flat_map(|visit| documents(&miner.draw(&Visit::new(0, 24, 2, visit)))).collect();
    let mut groups: Vec<u32> = cycle.iter().map(|it| it / 4).collect();
    groups.sort_unstable();
    groups.dedup();
    // One start in a group that has another can leave a group out.
    assert!(groups.len() >= 5, "{cycle:?}");
    // By gradient: scores run evenly from 1.00 to .77, so every sixth of the list gives one.
    let miner = mined(&by("gradient"));
    let mut sixths: Vec<u32> = (0..3).flat_map(|visit| documents(&miner.draw(&Visit::new(0, 24, 2, visit)))).map(|it| it / 4).collect();
    sixths.sort_unstable();
    assert_eq!(sixths, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_walk_below_the_teachers_bound_is_filled_from_deeper_ranks_and_says_so() {
    let mut data = collection(&texts("document", 200), &texts("query", 2));
    // Teacher scores in list order: of the first fifty, ranks 10, 20, … 50 lie below .1 for query 0, only rank 30 for query 1.
    let row = |query: u32| -> Vec<Listed> {
        let score = |rank: u32| if rank.is_multiple_of(10) && (query == 0 || rank == 30) { 0.05 } else { 0.1 + 0.004 * rank as f32 };
        (1..=150).map(|rank| Listed { document: rank, score: Some(score(rank)) }).collect()
    };
    data.negatives = Some(NegativeLists::from_rows(vec![row(0), row(1)]));
    // Document 60 is judged for query 1: it must not fill.
    let judgments = judged(2, &[(0, 0), (1, 0), (1, 60)]);
    let recipe = config(
        "short = { fill = \"beyond\", from = 51, until = 100 }\n[[source]]\nfrom = \"file\"\nscored_by = \"teacher\"\n\
         [[filter]]\nrule = \"rank-window\"\nuntil = 50\norder = \"before\"\n[[filter]]\nrule = \"teacher\"\nbelow = 0.1\n\
         [[filter]]\nrule = \"rank-window\"\nuntil = 4\n[draw]\nrule = \"top\"",
    );
    let mut encoder = Placed::new(vec![vec![1.0]; 200], vec![vec![1.0]; 2]);
    let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap().expecting(4);
    let report = refresh(&mut miner, 0, 0, &mut encoder).unwrap();
    assert_eq!(documents(&miner.draw(&Visit::new(0, 0, 4, 0))), [10, 20, 30, 40]);
    let filled = miner.draw(&Visit::new(1, 0, 4, 0));
    assert_eq!((filled.len(), filled[0].document, filled[0].source), (4, 30, 0));
    for it in &filled[1..] {
        assert!(it.source == Candidate::FILL && (51..=100).contains(&it.rank) && it.document != 60, "{it:?}");
        assert_eq!((it.found_by, miner.source_name(it.source)), (1, Some("fill")));
    }
    assert_eq!((report.by_source[0].filled_share, report.short_rows), (3.0 / 8.0, 0));
    let mut restored = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    restored.restore(&miner.state().unwrap()).unwrap();
    assert_eq!(restored.draw(&Visit::new(1, 0, 4, 9)), miner.draw(&Visit::new(1, 0, 4, 9)));
}

#[test]
fn cosines_are_those_of_rows_of_any_length_and_the_mean_is_that_of_the_list() {
    // Angles to the query; lengths differ.
    let angles = [10.0_f32, 20.0, 75.0, 35.0, 60.0, 71.0];
    let row = |(&angle, length): (&f32, f32)| vec![length * angle.to_radians().cos(), length * angle.to_radians().sin()];
    let vectors: Vec<Vec<f32>> = angles.iter().zip([3.0, 1.0, 9.0, 2.0, 5.0, 30.0]).map(row).collect();
    let data = collection(&texts("document", 6), &texts("query", 1));
    let mut encoder = Placed::new(vectors, vec![vec![4.0, 0.0]]);
    let mut kept = |filter: &str| {
        let recipe = config(&format!("[[source]]\nfrom = \"dense\"\n[[filter]]\n{filter}\n[draw]\nrule = \"top\""));
        let mut miner = Miner::new(&recipe, &data, &judged(1, &[(0, 0)]), 7).unwrap();
        refresh(&mut miner, 0, 0, &mut encoder).unwrap();
        let mut documents = documents(&miner.draw(&Visit::new(0, 0, 9, 0)));
        documents.sort_unstable();
        documents
    };
    assert_eq!(kept("rule = \"angle\"\ndegrees = 60.5"), [1, 3, 4]);
    assert_eq!(kept("rule = \"angle\"\ndegrees = 64"), [1, 3, 4, 5]);
    // Mean of cos 10°, 20°, 75°, 35°, 60°, 71° is .64: below lie 75°, 60° and 71°.
    assert_eq!(kept("rule = \"sieve\""), [2, 4, 5]);
}

#[test]
fn only_the_encoder_in_training_is_there_by_default() {
    let (data, judgments, mut encoder) = line();
    let recipe = config("[[source]]\nfrom = \"dense\"\nmodel = \"start\"");
    let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    let before = miner.state().unwrap();
    let message = miner.refresh(crate::Moment::default(), &mut Only(&mut encoder)).unwrap_err().to_string();
    assert!(message.contains("model = \"start\"") && message.contains("only the one in training"), "{message}");
    assert_eq!(miner.state().unwrap(), before);
}
