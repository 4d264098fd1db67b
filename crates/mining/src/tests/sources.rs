//! Sources together: models by name, rounds, curricula, generated texts, answers, unions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use corpus::{Judgments, Listed, NegativeLists, Records};

use super::{LINE, Placed, collection, config, documents, judged, line, on_a_line, refresh};
use crate::{AnswerTexts, Candidate, EncodeError, Encoders, Line, Miner, MiningError, Moment, PairScorer, Ramp, RowEncoder, Visit};

/// Encoders by name, and which were asked for.
struct Named {
    current: Placed,
    others: BTreeMap<String, Placed>,
}

impl Encoders for Named {
    fn current(&mut self) -> &mut dyn RowEncoder {
        &mut self.current
    }

    fn named(&mut self, model: &str) -> Result<&mut dyn RowEncoder, EncodeError> {
        match self.others.get_mut(model) {
            Some(encoder) => Ok(encoder),
            None => Err(EncodeError::new(format!("no model {model}"))),
        }
    }
}

impl Named {
    /// Times that each other encoder encoded documents.
    fn calls(&self, model: &str) -> usize {
        self.others[model].calls.len()
    }
}

fn reversed() -> Placed {
    let mut scores = LINE;
    scores.reverse();
    on_a_line(&scores)
}

#[test]
fn lists_of_a_fixed_model_are_its_own_and_its_rows_are_encoded_once() {
    let (data, judgments, current) = line();
    let fixed =
        |name: &str, refresh: &str| format!("[[source]]\nfrom = \"dense\"\ndepth = 3\nmodel = \"{name}\"\nrefresh = \"{refresh}\"\n");
    let recipe = config(&format!(
        "{}[[source]]\nfrom = \"dense\"\ndepth = 2\nrefresh = \"every 10 steps\"\n[[filter]]\nrule = \"margin\"\nabsolute = 0.0\n[draw]\nrule = \"top\"",
        fixed("org/other", "once"),
    ));
    let others = BTreeMap::from([("org/other".to_owned(), reversed())]);
    let mut encoders = Named { current, others };
    let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    let at = |step| Moment::new(step, 0);
    let report = miner.refresh(at(0), &mut encoders).unwrap();
    let reported: Vec<_> = report.by_source.iter().map(|it| (it.number, it.model.as_deref(), it.row_age_steps)).collect();
    assert_eq!(reported, [(0, Some("org/other"), Some(0)), (1, Some("current"), Some(0))]);
    // Margins are measured by the model that searched: it has .2 for the positive, so nothing stays; the current one has .8.
    assert_eq!((report.by_source[0].removed["margin"], report.by_source[0].candidates), (3, 0));
    assert_eq!(documents(&miner.draw(&Visit::new(0, 0, 9, 0))), [2]);
    assert!(!miner.due(at(9)) && miner.due(at(10)));
    for step in [10, 20] {
        miner.refresh(at(step), &mut encoders).unwrap();
        assert_eq!(encoders.calls("org/other"), 1);
    }
    let mut anew = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    encoders.others.clear();
    let message = anew.refresh(at(0), &mut encoders).unwrap_err().to_string();
    assert!(message.contains("model = \"org/other\": no model org/other"), "{message}");
}

#[test]
fn shares_and_pools_move_along_their_lines() {
    let (data, judgments, mut encoder) = line();
    let recipe = config(
        "[[source]]\nfrom = \"random\"\nshare = { from = 1.0, to = 0.0 }\n[[source]]\nfrom = \"dense\"\nshare = { from = 0.0, to = 1.0 }\npool = { from = 7, to = 2 }",
    );
    assert_eq!(recipe.source[0].share, Some(Ramp::Linear(Line { from: 1.0, to: 0.0 })));
    let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    refresh(&mut miner, 0, 0, &mut encoder).unwrap();
    for (progress, dense, pool) in [(0.0, 0, vec![]), (0.5, 1000, (1..=5).collect::<Vec<u32>>()), (1.0, 2000, vec![1, 2])] {
        let mut counts: HashMap<u32, usize> = HashMap::new();
        for visit in 0..2000 {
            for it in miner.draw(&Visit { progress, ..Visit::new(0, 0, 1, visit) }) {
                if it.source == 1 {
                    *counts.entry(it.document).or_default() += 1;
                }
            }
        }
        let mut seen: Vec<u32> = counts.keys().copied().collect();
        seen.sort_unstable();
        // 5 standard deviations of 2000 fair coins are 112. Half way, the pool is 4.5, rounded away from zero.
        assert!(counts.values().sum::<usize>().abs_diff(dense) < if progress == 0.5 { 112 } else { 1 }, "{progress} {counts:?}");
        assert_eq!(seen, pool, "{progress}");
    }
}

#[test]
fn generated_texts_are_exempt_from_filters_by_score_which_is_counted() {
    let (data, judgments, mut encoder) = line();
    // Behind the corpus: document 8 scores above the positive, 9 is a copy of it, 10 scores below.
    encoder.documents.extend([vec![0.99, 1.0], vec![0.8, 1.0], vec![0.1, 1.0]]);
    let mut written = Records::new();
    for (id, text) in [("a", "something else"), ("b", data.documents.text(0)), ("c", "something new")] {
        written.push(id, text).unwrap();
    }
    let listed = |document| Listed { document, score: None };
    let lists = |ids: &[u32]| NegativeLists::from_rows(vec![ids.iter().map(|&id| listed(id)).collect()]);
    let recipe = config(
        "[[source]]\nfrom = \"generated\"\npath = \"x\"\n[[source]]\nfrom = \"dense\"\ndepth = 6\n[[filter]]\nrule = \"margin\"\nrelative = 0.05\n\
         [[filter]]\nrule = \"score\"\nmax = 0.9\n[[filter]]\nrule = \"sieve\"\n[draw]\nrule = \"top\"",
    );
    let new = || Miner::new(&recipe, &data, &judgments, 7).unwrap();
    assert!(matches!(refresh(&mut new(), 0, 0, &mut encoder), Err(MiningError::NoGenerated)));
    for wrong in [7, 11] {
        let error = new().generated(&data, written.texts(), lists(&[8, wrong])).err().unwrap();
        assert!(matches!(error, MiningError::NotGenerated { first: 8, last: 10, .. }), "{error}");
    }
    let mut miner = new().generated(&data, written.texts(), lists(&[8, 9, 10])).unwrap();
    let report = refresh(&mut miner, 0, 0, &mut encoder).unwrap();
    let synthetic = &report.by_source[0];
    assert_eq!((synthetic.found, synthetic.removed["identical-text"], synthetic.candidates), (3, 1, 2));
    assert_eq!((synthetic.spared["margin"], synthetic.spared["score"], synthetic.spared["sieve"]), (1, 1, 1));
    assert!(!synthetic.removed.contains_key("margin"));
    let negatives = miner.draw(&Visit::new(0, 0, 9, 0));
    assert_eq!(documents(&negatives[..2]), [8, 10]);
    assert!(negatives.iter().all(|it| it.synthetic == (it.source == 0)) && negatives.len() > 2);
    // The collection has no ids for them.
    assert!(!miner.lists_jsonl(&data).unwrap().contains("generated\",\"rank"));
    let state = miner.state().unwrap();
    let mut restored = new().generated(&data, written.texts(), lists(&[8, 9, 10])).unwrap();
    restored.restore(&state).unwrap();
    assert_eq!(restored.draw(&Visit::new(0, 0, 9, 0)), negatives);
    let message = new().restore(&state).unwrap_err().to_string();
    assert!(message.contains("the number of generated texts differs"), "{message}");
}

#[test]
fn no_window_of_ranks_drops_a_generated_text() {
    let (data, judgments, mut encoder) = line();
    encoder.documents.extend([vec![0.5, 1.0], vec![0.1, 1.0]]);
    let mut written = Records::new();
    for text in ["something new", "something else"] {
        written.push(text, text).unwrap();
    }
    let lists = NegativeLists::from_rows(vec![[8, 9].map(|document| Listed { document, score: None }).to_vec()]);
    let sources = "[[source]]\nfrom = \"generated\"\npath = \"x\"\n[[source]]\nfrom = \"dense\"\ndepth = 6\n";
    let filter = |order: &str| format!("[[filter]]\nrule = \"rank-window\"\nskip = 3\norder = \"{order}\"\n[draw]\nrule = \"top\"");
    // The positive has rank 2 of the raw ones.
    for (window, found) in [
        (filter("before"), vec![3, 4, 5, 6]),
        (filter("after"), vec![4, 5, 6]),
        ("[draw]\nrule = \"window\"\nskip = 3".to_owned(), vec![4, 5, 6]),
    ] {
        let miner = Miner::new(&config(&format!("{sources}{window}")), &data, &judgments, 7).unwrap();
        let mut miner = miner.generated(&data, written.texts(), lists.clone()).unwrap();
        let report = refresh(&mut miner, 0, 0, &mut encoder).unwrap();
        assert_eq!(documents(&miner.draw(&Visit::new(0, 0, 9, 0))), [vec![8, 9], found].concat(), "{window}");
        let spared = window.contains("filter").then_some(2);
        assert_eq!(report.by_source[0].spared.get("rank-window").copied(), spared, "{window}");
    }
}

/// A teacher that finds everything relevant.
struct Strict;

impl PairScorer for Strict {
    fn scores(&mut self, pairs: &[(u32, u32)]) -> Result<Vec<f32>, EncodeError> {
        Ok(vec![1.0; pairs.len()])
    }
}

struct Taught<'a>(&'a mut dyn RowEncoder, Strict);

impl Encoders for Taught<'_> {
    fn current(&mut self) -> &mut dyn RowEncoder {
        self.0
    }

    fn named(&mut self, model: &str) -> Result<&mut dyn RowEncoder, EncodeError> {
        Err(EncodeError::new(model.to_owned()))
    }

    fn teacher(&mut self) -> Option<&mut dyn PairScorer> {
        Some(&mut self.1)
    }
}

#[test]
fn filters_count_anew_what_they_would_drop_of_generated_texts() {
    let (mut data, judgments, mut encoder) = line();
    // Everything relevant is known, and nothing of it is unjudged.
    data.truth = Some(judgments.clone());
    let mut written = Records::new();
    for id in ["a", "b"] {
        written.push(id, &format!("generated {id}")).unwrap();
    }
    let lists = NegativeLists::from_rows(vec![vec![Listed { document: 8, score: None }, Listed { document: 9, score: None }]]);
    let recipe = |refresh: &str| {
        config(&format!(
            "[[source]]\nfrom = \"generated\"\npath = \"x\"\nrefresh = \"{refresh}\"\n[[source]]\nfrom = \"dense\"\ndepth = 6\n\
             refresh = \"every 10 steps\"\n[[filter]]\nrule = \"margin\"\nrelative = 0.05\n[[filter]]\nrule = \"teacher\"\nbelow = 0.9"
        ))
    };
    for (refresh, again) in [("every 10 steps", true), ("once", false)] {
        encoder.documents.truncate(8);
        encoder.documents.extend([vec![0.9, 1.0], vec![0.1, 1.0]]);
        let miner = Miner::new(&recipe(refresh), &data, &judgments, 7).unwrap();
        let mut miner = miner.generated(&data, written.texts(), lists.clone()).unwrap();
        let report = miner.refresh(Moment::new(0, 0), &mut Taught(&mut encoder, Strict)).unwrap();
        let generated = &report.by_source[0];
        assert_eq!((generated.spared["margin"], generated.spared["teacher"], generated.candidates), (1, 2, 2));
        assert!(report.by_source[1].spared.is_empty() && report.by_source[1].candidates == 0, "documents are not exempt");
        assert!(report.line().ends_with("; of 2 generated texts filters would have dropped: margin 1, teacher 2"), "{}", report.line());
        // Of generated texts nobody knows what is relevant.
        assert_eq!((generated.false_negative_rate, report.false_negative_rate), (None, None));
        // The encoder has moved: now both lie above the margin.
        encoder.documents[9] = vec![0.99, 1.0];
        let report = miner.refresh(Moment::new(10, 1), &mut Taught(&mut encoder, Strict)).unwrap();
        assert_eq!(report.by_source.len(), if again { 2 } else { 1 });
        if again {
            let generated = &report.by_source[0];
            assert_eq!((generated.name.as_str(), generated.spared["margin"], generated.candidates), ("generated", 2, 2));
            assert_eq!(generated.turnover, Some(0.0));
        }
    }
}

#[test]
fn false_negatives_are_counted_for_queries_whose_relevant_documents_are_known() {
    let (mut data, _, mut encoder) = line();
    // A second query, written later: nobody judged it completely. Document 1 is relevant for the first one without being judged so.
    data.queries.push("written", "another query").unwrap();
    encoder.queries.push(vec![1.0, 0.0]);
    let judgments = judged(2, &[(0, 0), (1, 2)]);
    data.truth = Some(judged(1, &[(0, 0), (0, 1)]));
    let recipe = config("[[source]]\nfrom = \"dense\"\ndepth = 4");
    let mut both = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    let report = refresh(&mut both, 0, 0, &mut encoder).unwrap();
    assert_eq!((report.candidates, report.false_negative_rate), (8, Some(0.25)));
    let mut later = Miner::new(&recipe, &data, &judged(2, &[(1, 2)]), 7).unwrap();
    let report = refresh(&mut later, 0, 0, &mut encoder).unwrap();
    assert_eq!((report.false_negative_rate, report.by_source[0].found_relevant), (None, None));
}

#[test]
fn documents_with_an_answer_are_no_negatives() {
    let data = collection(&["Paris, city of light", "in PARIS  they", "the Parisian way", "Lyon"], &["capital of France"; 1]);
    let mut encoder = on_a_line(&[0.5, 0.4, 0.3, 0.2]);
    let recipe = config("[[source]]\nfrom = \"dense\"\n[[filter]]\nrule = \"answer\"\n[draw]\nrule = \"top\"");
    let texts = Arc::new(data.clone());
    let mut miner =
        Miner::new(&recipe, &data, &judged(1, &[(0, 0)]), 7).unwrap().answering(AnswerTexts::new(vec![vec!["paris".into()]], texts));
    let report = refresh(&mut miner, 0, 0, &mut encoder).unwrap();
    assert_eq!(documents(&miner.draw(&Visit::new(0, 0, 9, 0))), [2, 3]);
    assert_eq!(report.by_source[0].removed["answer"], 1);
    assert_eq!(report.by_source[0].removed_shares["answer"], 0.25);
}

#[test]
fn a_union_is_one_list_without_duplicates_that_remembers_who_found_what() {
    let (mut data, judgments, mut encoder) = line();
    let listed = |document, score| Listed { document, score: Some(score) };
    // Document 1 is the best of both; document 7 is in the file only.
    data.negatives = Some(NegativeLists::from_rows(vec![vec![listed(1, 9.0), listed(7, 8.0), listed(3, 1.0)]]));
    let lists = "[[source]]\nfrom = \"dense\"\ndepth = 4\n[[source]]\nfrom = \"file\"\nscored_by = \"teacher\"\n";
    let recipe = config(&format!("merge = \"union\"\n{lists}[draw]\nrule = \"top\""));
    let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    refresh(&mut miner, 0, 0, &mut encoder).unwrap();
    let union = miner.draw(&Visit::new(0, 0, 9, 0));
    let of = |document| union.iter().find(|it| it.document == document).unwrap();
    assert_eq!(union.len(), 5);
    let found = |it: &Candidate| miner.sources_of(it).collect::<Vec<u8>>();
    assert_eq!((found(of(1)), of(1).source, of(1).teacher, of(1).score), (vec![0, 1], 0, Some(9.0), 0.95));
    assert_eq!((found(of(7)), of(7).source), (vec![1], 1));
    assert_eq!((found(of(2)), of(2).teacher), (vec![0], None));
    assert_eq!((found(of(3)), of(3).source, of(3).rank), (vec![0, 1], 1, 3));
    // One draw over all: the three best ranks are those of documents 1, 7 (rank 2 of the file) and 2 (rank 3 of the corpus).
    assert_eq!(documents(&miner.draw(&Visit::new(0, 0, 3, 0))), [1, 2, 7]);
    let text = miner.lists_jsonl(&data).unwrap();
    assert!(text.contains("\"sources\":[\"dense\",\"file\"]") && text.matches("\"id\"").count() == 5, "{text}");

    // A draw by score compares all by the encoder, whatever the file's scale.
    let recipe = config(&format!("merge = \"union\"\n{lists}[draw]\nrule = \"simans\"\na = 1e9"));
    data.negatives = data.negatives.map(|lists| lists.with_positive_scores(vec![vec![listed(0, 8.0)]]));
    let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    refresh(&mut miner, 0, 0, &mut encoder).unwrap();
    let union = miner.draw(&Visit::new(0, 0, 9, 0));
    assert!(union.iter().all(|it| it.similarity == LINE[it.document as usize]), "{union:?}");
    assert_eq!(documents(&miner.draw(&Visit::new(0, 0, 2, 4))), [2, 3]);
}

#[test]
fn a_union_of_two_models_is_drawn_from_by_the_scores_of_the_first() {
    let (data, judgments, _) = line();
    let source = |model: &str| format!("[[source]]\nfrom = \"dense\"\ndepth = 3\nmodel = \"{model}\"\n");
    for (first, second, scores) in [
        ("current", "other", LINE),
        ("other", "current", {
            let mut it = LINE;
            it.reverse();
            it
        }),
    ] {
        let recipe = format!("merge = \"union\"\n{}{}[draw]\nrule = \"simans\"", source(first), source(second));
        let others = BTreeMap::from([("other".to_owned(), reversed())]);
        let mut encoders = Named { current: on_a_line(&LINE), others };
        let mut miner = Miner::new(&config(&recipe), &data, &judgments, 7).unwrap();
        miner.refresh(Moment::default(), &mut encoders).unwrap();
        let union = miner.draw(&Visit::new(0, 0, 9, 0));
        let mut found = documents(&union);
        found.sort_unstable();
        // The current one ranks 1, 2, 3 first, the other one 6, 7, 5.
        assert_eq!(found, [1, 2, 3, 5, 6, 7]);
        assert!(union.iter().all(|it| it.similarity == scores[it.document as usize]), "{first} {union:?}");
    }
}

#[test]
fn a_source_may_draw_in_its_own_way() {
    let (data, judgments, current) = line();
    let recipe = config(
        "[[source]]\nfrom = \"dense\"\ndepth = 6\ndraw = { rule = \"top\" }\n[[source]]\nfrom = \"dense\"\ndepth = 6\nmodel = \"other\"\n[draw]\nrule = \"uniform\"",
    );
    let mut encoders = Named { current, others: BTreeMap::from([("other".to_owned(), reversed())]) };
    let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    miner.refresh(Moment::new(0, 0), &mut encoders).unwrap();
    let mut uniform: Vec<u32> = Vec::new();
    for visit in 0..60 {
        for it in miner.draw(&Visit::new(0, 0, 2, visit)) {
            match it.source {
                0 => assert_eq!(it.document, 1, "its best in every visit"),
                _ => uniform.push(it.document),
            }
        }
    }
    uniform.sort_unstable();
    uniform.dedup();
    assert!(uniform.len() >= 5, "{uniform:?}");
    // A visit after a checkpoint is the same.
    let mut again = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    again.restore(&miner.state().unwrap()).unwrap();
    assert_eq!(again.draw(&Visit::new(0, 0, 2, 3)), miner.draw(&Visit::new(0, 0, 2, 3)));
}

#[test]
fn rows_of_a_fixed_model_that_the_draw_reads_stay_when_its_own_lists_are_final() {
    let (data, judgments, current) = line();
    for refresh in ["every 10 steps", "rolling 40 steps"] {
        let recipe = config(&format!(
            "merge = \"union\"\nslices = 4\n[[source]]\nfrom = \"dense\"\ndepth = 3\nmodel = \"other\"\nrefresh = \"once\"\n\
             [[source]]\nfrom = \"dense\"\ndepth = 3\nrefresh = \"{refresh}\"\n[draw]\nrule = \"simans\""
        ));
        let others = BTreeMap::from([("other".to_owned(), reversed())]);
        let mut encoders = Named { current: Placed::new(current.documents.clone(), current.queries.clone()), others };
        let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap();
        for step in [0, 10, 20] {
            assert!(miner.due(Moment::new(step, 0)), "{refresh} {step}");
            miner.refresh(Moment::new(step, 0), &mut encoders).unwrap();
            assert_eq!(encoders.calls("other"), 1, "{refresh} {step}");
        }
    }
}

#[test]
fn a_union_keeps_the_share_of_sources_without_lists() {
    let (data, judgments, mut encoder) = line();
    let recipe = config(
        "merge = \"union\"\n[[source]]\nfrom = \"random\"\nshare = 2\n[[source]]\nfrom = \"dense\"\ndepth = 3\n[[source]]\nfrom = \"dense\"\ndepth = 4",
    );
    let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    refresh(&mut miner, 0, 0, &mut encoder).unwrap();
    for visit in 0..50 {
        let negatives = miner.draw(&Visit::new(0, 0, 2, visit));
        assert_eq!(negatives.iter().filter(|it| it.source == 0).count(), 1, "{negatives:?}");
    }
}

#[test]
fn a_report_says_what_happened_to_each_source() {
    let (mut data, judgments, mut encoder) = line();
    data.truth = Some(Judgments::from_pairs(1, vec![(0, 0, 1), (0, 1, 1), (0, 7, 1)]));
    data.negatives = Some(NegativeLists::from_rows(vec![vec![Listed { document: 7, score: None }, Listed { document: 2, score: None }]]));
    let recipe = config(
        "[[source]]\nfrom = \"file\"\n[[source]]\nfrom = \"dense\"\ndepth = 6\nrefresh = \"every 10 steps\"\n[[filter]]\nrule = \"score\"\nmax = 0.94",
    );
    let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap().expecting(3);
    let report = refresh(&mut miner, 0, 0, &mut encoder).unwrap();
    let [file, dense] = &report.by_source[..] else { panic!("two sources") };
    assert_eq!((file.name.as_str(), file.found, file.candidates, file.short_rows, file.row_age_steps), ("file", 2, 2, 1, None));
    assert_eq!((dense.name.as_str(), dense.found, dense.candidates, dense.short_rows, dense.row_age_steps), ("dense", 7, 5, 0, Some(0)));
    assert_eq!((file.false_negative_rate, dense.false_negative_rate, report.false_negative_rate), (Some(0.5), Some(0.0), Some(1.0 / 7.0)));
    assert_eq!((dense.removed["judged"], dense.removed["score"]), (1, 1));
    assert_eq!(dense.removed_shares["score"], 1.0 / 7.0);
    // Ranks 3 to 7, and 1 to 2.
    assert_eq!((dense.ranks.clone(), file.ranks.clone()), (vec![0, 1, 4], vec![1, 1]));
    assert!((dense.scores.unwrap().p50 - 0.7).abs() < 1e-6 && (dense.score_differences.unwrap().p50 - 0.1).abs() < 1e-6);
    let report = refresh(&mut miner, 10, 0, &mut encoder).unwrap();
    assert_eq!((report.by_source.len(), report.by_source[0].turnover), (1, Some(0.0)));
    assert!(serde_json::to_value(&report).unwrap()["by_source"][0]["removed_shares"]["score"].is_number());
}
