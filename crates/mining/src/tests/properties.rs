//! Properties over random collections and judgments: what no recipe may do, whatever its sources.

use std::sync::Arc;

use burn::tensor::Device;
use corpus::{Collection, Judgments, Listed, NegativeLists, Records};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::{Placed, collection, config};
use crate::{AnswerTexts, Candidate, EncodeError, Encoders, Miner, Moment, NegativesConfig, Only, RowEncoder, Visit};

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

/// The documents judged for a query, or for another of the same text.
fn judged(data: &Collection, judgments: &Judgments, query: u32) -> Vec<u32> {
    let alike = (0..data.queries.len() as u32).filter(|&other| data.queries.text(other) == data.queries.text(query));
    alike.flat_map(|other| judgments.judged(other)).map(|&(document, _)| document).collect()
}

/// Property 1 of the exact ones: judged documents, and texts equal to one, are never served.
fn presents_no_judged_document(world: &World, seed: u64, device: &Device) -> Result<(), TestCaseError> {
    let (data, judgments, mut encoder) = world.build();
    encoder.device = device.clone();
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
                for document in judged(&data, &judgments, query) {
                    prop_assert!(it.document != document, "judged {document} for {query}");
                    prop_assert!(text != data.documents.text(document), "copy of {document} for {query}");
                }
                prop_assert!(text != data.queries.text(query));
                prop_assert!(negatives[..place].iter().all(|other| text != data.documents.text(other.document)), "one text twice");
            }
        }
    }
    Ok(())
}

#[test]
fn no_recipe_presents_a_judged_document_on_a_software_gpu() {
    let Some(device) = kernels::test_gpu() else { return };
    let mut runner = TestRunner::new(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() });
    runner.run(&(worlds(), 0_u64..100), |(world, seed)| presents_no_judged_document(&world, seed, &device)).unwrap();
    // The searched ones: shaders are there by now.
    let searched = [recipes()[0].clone(), config("[[source]]\nfrom = \"dense\"\n[draw]\nrule = \"simans\"")];
    let mut runner = TestRunner::new(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() });
    runner.run(&(worlds(), 0_u64..100), |(world, seed)| draws_alike(&world, seed, &searched, &device)).unwrap();
    // Refreshes that roll or wait for decay, and draws by a curve, by bins and by topics.
    let mut runner = TestRunner::new(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() });
    runner.run(&(worlds(), any_recipe(), 0_u64..100), |(world, recipe, seed)| serves_what_it_may(&world, &recipe, seed, &device)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_recipe_presents_a_judged_document_or_a_text_equal_to_one(world in worlds(), seed in 0_u64..100) {
        presents_no_judged_document(&world, seed, &Device::flex())?;
    }

    #[test]
    fn draws_do_not_depend_on_threads_or_order(world in worlds(), seed in 0_u64..100) {
        draws_alike(&world, seed, &recipes(), &Device::flex())?;
    }
}

/// Property 16: draws are a function of configuration, seed and visit, whatever the threads and whatever was drawn before.
fn draws_alike(world: &World, seed: u64, recipes: &[NegativesConfig], device: &Device) -> Result<(), TestCaseError> {
    let (data, judgments, _) = world.build();
    for recipe in recipes {
        let run = |threads: usize, backwards: bool| {
            let (_, _, mut encoder) = world.build();
            encoder.device = device.clone();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut miner = Miner::new(recipe, &data, &judgments, seed).unwrap();
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
    Ok(())
}

/// One encoder under all names.
struct Any<'a>(&'a mut Placed);

impl Encoders for Any<'_> {
    fn current(&mut self) -> &mut dyn RowEncoder {
        self.0
    }

    fn named(&mut self, _: &str) -> Result<&mut dyn RowEncoder, EncodeError> {
        Ok(self.0)
    }
}

const SOURCES: [&str; 12] = [
    "\"random\"",
    "\"bm25\"",
    "\"bm25\"\nrefresh = \"on decay every 2 steps\"",
    "\"dense\"\ndepth = 4\nrefresh = \"every 3 steps\"\nshare = { from = 0.5, to = 2.0 }",
    "\"dense\"\nrefresh = \"rolling 6 steps\"\npool = { from = 9, to = 2 }",
    "\"dense\"\nrefresh = \"rolling 3 s\"",
    "\"dense\"\nmodel = \"start\"\nrefresh = \"on decay every 2 steps\"",
    "\"dense\"\nmodel = \"previous-round\"",
    "\"file\"",
    "\"file\"\nscored_by = \"teacher\"",
    "\"generated\"\npath = \"x\"",
    "\"dense\"\nbelow_margin = true",
];

const FILTERS: [&str; 9] = [
    "\"answer\"",
    "\"rank-window\"\nskip = 1",
    "\"score\"\nmax = 0.9",
    "\"margin\"\nrelative = 0.05",
    "\"teacher\"\nmax = 0.5",
    "\"teacher\"\nmin = 0.1\nmax = 0.3\nat_least = 3\nceiling = 0.8",
    "\"angle\"\ndegrees = 40",
    "\"sieve\"",
    "\"judged\"",
];

const DRAWS: [&str; 10] = [
    "\"top\"",
    "\"uniform\"",
    "\"simans\"\ntemperature = 0.1",
    "\"simans\"\na = 3\nabsolute = true",
    "\"trisampler\"\ncandidates = 4",
    "\"rank-curve\"",
    "\"margin-bins\"\nbins = 3",
    "\"window\"\nskip = 1\nsize = 2",
    "\"diverse\"\nper_visit = 2\nvisits = 2",
    "\"diverse\"\nper_visit = 1\nvisits = 3\nby = \"documents\"\nrandom_below = 0.5",
];

/// Any recipe that makes sense.
fn any_recipe() -> impl Strategy<Value = NegativesConfig> {
    let short = prop::sample::select(vec!["\"fewer\"", "\"drop\"", "\"random\"", "{ fill = \"beyond\", from = 2, until = 9 }"]);
    let merge = prop::sample::select(vec!["shares", "union"]);
    let sources = prop::sample::subsequence(SOURCES.to_vec(), 1..4);
    let filters = prop::sample::subsequence(FILTERS.to_vec(), 0..3);
    (sources, filters, prop::sample::select(DRAWS.to_vec()), short, merge)
        .prop_map(|(sources, filters, draw, short, merge)| {
            let sources: String = sources.iter().map(|it| format!("[[source]]\nfrom = {it}\n")).collect();
            let filters: String = filters.iter().map(|it| format!("[[filter]]\nrule = {it}\n")).collect();
            let text = format!("short = {short}\nmerge = \"{merge}\"\nslices = 3\n{sources}{filters}[draw]\nrule = {draw}");
            toml::from_str::<NegativesConfig>(&text).unwrap()
        })
        .prop_filter("a recipe that makes sense", |recipe| recipe.validate().is_ok())
}

/// What a run of ten steps serves: draws after every refresh.
fn run(world: &World, recipe: &NegativesConfig, seed: u64, device: &Device) -> Vec<(Visit, Vec<Candidate>)> {
    let (data, judgments, mut encoder) = world.build();
    encoder.device = device.clone();
    // Generated texts, some of them copies.
    let mut written = Records::new();
    for (number, text) in ["alpha", "written", "beta gamma"].into_iter().enumerate() {
        written.push(&format!("g{number}"), text).unwrap();
        encoder.documents.push(vec![0.3 * number as f32, 0.5]);
    }
    let first = data.documents.len() as u32;
    let lists = world.queries.iter().map(|_| (0..3).map(|it| Listed { document: first + it, score: None }).collect()).collect();
    let answers = AnswerTexts::new(vec![vec!["gamma".into()]], Arc::new(data.clone()));
    let dev = Judgments::from_pairs(world.queries.len(), vec![(0, 0, 1)]);
    let miner = Miner::new(recipe, &data, &judgments, seed).unwrap().expecting(4).answering(answers).judging(dev);
    let mut miner = miner.generated(&data, written.texts(), NegativeLists::from_rows(lists)).unwrap();
    let mut served = Vec::new();
    for step in 0..10 {
        let now = Moment { step, epoch: step / 4, milliseconds: 700 * step as u64 };
        if !miner.due(now) {
            continue;
        }
        encoder.documents.iter_mut().for_each(|row| row[0] += 0.01 * step as f32);
        miner.refresh(now, &mut Any(&mut encoder)).unwrap();
        for (query, positive) in judgments.pairs() {
            let visit = Visit { query, positive, n: 4, visit: step as u64, progress: 0.1 * step as f64 };
            served.push((visit, miner.draw(&visit)));
        }
    }
    served
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_configuration_presents_a_judged_document_or_a_text_equal_to_one(world in worlds(), recipe in any_recipe(), seed in 0_u64..100) {
        serves_what_it_may(&world, &recipe, seed, &Device::flex())?;
    }
}

/// Properties 1 and 16 of a run: whatever its sources, filters, draws and schedules.
fn serves_what_it_may(world: &World, recipe: &NegativesConfig, seed: u64, device: &Device) -> Result<(), TestCaseError> {
    let (data, judgments, _) = world.build();
    let first = data.documents.len() as u32;
    let text = |document: u32| match document.checked_sub(first) {
        None => data.documents.text(document),
        Some(written) => ["alpha", "written", "beta gamma"][written as usize],
    };
    let served = run(world, recipe, seed, device);
    for (visit, negatives) in &served {
        prop_assert!(negatives.len() <= 4);
        for (place, it) in negatives.iter().enumerate() {
            prop_assert_eq!(it.synthetic, it.document >= first);
            for document in judged(&data, &judgments, visit.query) {
                prop_assert!(text(it.document) != text(document), "copy of {document} for {visit:?}");
            }
            prop_assert!(text(it.document) != data.queries.text(visit.query));
            prop_assert!(negatives[..place].iter().all(|other| text(it.document) != text(other.document)), "one text twice");
        }
    }
    let threads = |threads: usize| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    prop_assert_eq!(threads(1).install(|| run(world, recipe, seed, device)), served);
    Ok(())
}
