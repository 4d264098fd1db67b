//! Properties over random collections and judgments: what no recipe may do, whatever its sources.

use corpus::{Collection, Judgments, Listed, NegativeLists};
use proptest::prelude::*;

use super::{Placed, collection, config};
use crate::{Candidate, Miner, Moment, NegativesConfig, Only, Visit};

/// A collection with few different texts, random judgments (grade 0 among them), negatives lists, and vectors.
#[derive(Debug, Clone)]
struct World {
    documents: Vec<String>,
    queries: Vec<String>,
    judgments: Vec<(u32, u32, i32)>,
    lists: Vec<Vec<u32>>,
    vectors: Vec<(f32, f32)>,
}

const WORDS: [&str; 7] = ["alpha", "beta", "gamma", "delta", "alpha beta", "beta gamma", "delta alpha"];

fn worlds() -> impl Strategy<Value = World> {
    (3_usize..30, 1_usize..8).prop_flat_map(|(documents, queries)| {
        let text = || prop::sample::select(WORDS.to_vec()).prop_map(str::to_owned);
        (
            prop::collection::vec(text(), documents),
            prop::collection::vec(text(), queries),
            prop::collection::vec((0..queries as u32, 0..documents as u32, 0..3_i32), 1..12),
            prop::collection::vec(prop::collection::vec(0..documents as u32, 0..6), queries),
            prop::collection::vec((-1.0_f32..1.0, 0.1_f32..1.0), documents + queries),
        )
            .prop_map(|(documents, queries, judgments, lists, vectors)| World { documents, queries, judgments, lists, vectors })
    })
}

impl World {
    fn build(&self) -> (Collection, Judgments, Placed) {
        let mut data = collection(&self.documents, &self.queries);
        let listed = |&document| Listed { document, score: None };
        // Never empty as a whole: an empty file source is an error of its own.
        let mut lists: Vec<Vec<Listed>> = self.lists.iter().map(|row| row.iter().map(listed).collect()).collect();
        lists[0].push(listed(&0));
        data.negatives = Some(NegativeLists::from_rows(lists));
        let judgments = Judgments::from_pairs(self.queries.len(), self.judgments.clone());
        let rows: Vec<Vec<f32>> = self.vectors.iter().map(|&(x, y)| vec![x, y]).collect();
        let (documents, queries) = rows.split_at(self.documents.len());
        (data, judgments, Placed::new(documents.to_vec(), queries.to_vec()))
    }
}

fn recipes() -> Vec<NegativesConfig> {
    let filters = "[[filter]]\nrule = \"rank-window\"\nskip = 1\norder = \"before\"\n[[filter]]\nrule = \"margin\"\nrelative = 0.05\n";
    let source = |from: &str| format!("[[source]]\nfrom = \"{from}\"\n");
    let all: String = ["random", "bm25", "dense", "file", "in-batch"].map(source).concat();
    let mut recipes = vec![config(&all), config(&format!("short = \"random\"\n{all}{filters}[draw]\nrule = \"top\""))];
    recipes.extend(["random", "bm25", "dense", "file"].map(|from| config(&format!("short = \"random\"\n{}", source(from)))));
    recipes.push(config(&format!("{}{filters}", source("dense"))));
    recipes.push(config(&format!("{}{filters}", source("bm25"))));
    recipes
}

fn draws(miner: &Miner, judgments: &Judgments) -> Vec<((u32, u32, u64), Vec<Candidate>)> {
    let visits = judgments.pairs().into_iter().flat_map(|(query, positive)| (0..3).map(move |visit| (query, positive, visit)));
    visits.map(|(query, positive, visit)| ((query, positive, visit), miner.draw(&Visit::new(query, positive, 4, visit)))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_recipe_presents_a_judged_document_or_a_text_equal_to_one(world in worlds(), seed in 0_u64..100) {
        let (data, judgments, mut encoder) = world.build();
        for recipe in recipes() {
            let mut miner = Miner::new(&recipe, &data, &judgments, seed).unwrap();
            if miner.due(Moment::new(0, 0)) {
                miner.refresh(Moment::new(0, 0), &mut Only(&mut encoder)).unwrap();
            }
            for ((query, positive, _), negatives) in draws(&miner, &judgments) {
                prop_assert!(negatives.len() <= 4);
                for (place, it) in negatives.iter().enumerate() {
                    let text = data.documents.text(it.document);
                    prop_assert!(it.document != positive);
                    for &(document, _) in judgments.judged(query) {
                        prop_assert!(it.document != document, "judged {document} for {query}");
                        prop_assert!(text != data.documents.text(document), "copy of {document} for {query}");
                    }
                    prop_assert!(text != data.queries.text(query));
                    prop_assert!(negatives[..place].iter().all(|other| text != data.documents.text(other.document)), "one text twice");
                }
            }
        }
    }

    #[test]
    fn draws_do_not_depend_on_threads_or_order(world in worlds(), seed in 0_u64..100) {
        let (data, judgments, _) = world.build();
        for recipe in recipes() {
            let run = |threads: usize, backwards: bool| {
                let (_, _, mut encoder) = world.build();
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let mut miner = Miner::new(&recipe, &data, &judgments, seed).unwrap();
                    if miner.due(Moment::new(0, 0)) {
                        miner.refresh(Moment::new(0, 0), &mut Only(&mut encoder)).unwrap();
                    }
                    if backwards {
                        for (query, positive) in judgments.pairs().into_iter().rev() {
                            miner.draw(&Visit::new(query, positive, 2, 1));
                        }
                    }
                    draws(&miner, &judgments)
                })
            };
            prop_assert_eq!(run(1, false), run(4, true));
        }
    }
}
