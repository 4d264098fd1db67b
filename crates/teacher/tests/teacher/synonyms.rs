//! Ten notions, each with one word in queries and another in documents. A document names three notions, a query two of them; some pairs
//! of notions are kept for the end. Neither lexical match nor the words of a query alone can tell the documents apart.

use burn::tensor::Device;
use corpus::Collection;
use encoder::{CrossEncoder, Encoder};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use teacher::{List, RerankerLearner, RerankerTraining, tokenize_lists};

const NOTIONS: usize = 10;

struct World {
    collection: Collection,
    /// Notions of each query and of each document.
    queries: Vec<[usize; 2]>,
    documents: Vec<[usize; 3]>,
}

fn world() -> World {
    let mut world = World { collection: Collection::default(), queries: Vec::new(), documents: Vec::new() };
    for a in 0..NOTIONS {
        for b in a + 1..NOTIONS {
            world.collection.queries.push(&format!("{a}{b}"), &format!("ask{b} and ask{a}")).unwrap();
            world.queries.push([a, b]);
            for c in b + 1..NOTIONS {
                world.collection.documents.push(&format!("{a}{b}{c}"), &format!("the say{c} of say{a} with say{b}")).unwrap();
                world.documents.push([a, b, c]);
            }
        }
    }
    world
}

impl World {
    /// A document with both notions of the query, then `negatives` with at most one, drawn by `turn`.
    fn list(&self, query: usize, turn: u64, negatives: usize) -> List {
        let mut random = ChaCha8Rng::seed_from_u64(turn);
        let has = |document: &[usize; 3], notion: usize| document.contains(&notion);
        let [a, b] = self.queries[query];
        let (mut both, mut fewer) = (Vec::new(), Vec::new());
        for (id, document) in self.documents.iter().enumerate() {
            if has(document, a) && has(document, b) { both.push(id as u32) } else { fewer.push(id as u32) }
        }
        let mut documents = vec![both[random.random_range(0..both.len())]];
        documents.extend((0..negatives).map(|_| fewer[random.random_range(0..fewer.len())]));
        List { query: query as u32, documents }
    }

    /// Share of lists whose positive is first, over ten lists for each of `queries`.
    fn accuracy(&self, model: &CrossEncoder, queries: &[usize]) -> f64 {
        let lists: Vec<List> =
            queries.iter().flat_map(|&query| (0..10).map(move |turn| self.list(query, 1 << 40 | turn << 20 | query as u64, 7))).collect();
        let text = |query: u32, document: u32| (self.collection.queries.text(query), self.collection.documents.text(document));
        let pairs: Vec<(&str, &str)> =
            lists.iter().flat_map(|list| list.documents.iter().map(|&document| text(list.query, document))).collect();
        let scores = model.scores(&pairs, 64).unwrap();
        let first = scores.chunks(8).filter(|list| list[1..].iter().all(|&score| score < list[0])).count();
        first as f64 / lists.len() as f64
    }
}

#[test]
fn words_that_never_occur_on_both_sides_are_matched_in_queries_never_seen() {
    let world = world();
    let texts = |records: &corpus::Records| (0..records.len() as u32).map(|id| records.text(id).to_owned()).collect::<Vec<_>>();
    let all: Vec<String> = [texts(&world.collection.documents), texts(&world.collection.queries)].concat();
    let encoder = Encoder::tiny(all.iter().map(String::as_str), 1, &Device::flex());
    let mut model = CrossEncoder::from_encoder(&encoder, 1).unwrap();
    let (held_out, seen): (Vec<usize>, Vec<usize>) = (0..world.queries.len()).partition(|query| query % 4 == 1);
    let before = world.accuracy(&model, &held_out);

    let settings = RerankerTraining { steps: 400, lists: 16, negatives: 3, ..RerankerTraining::small() };
    let mut learner = RerankerLearner::new(&model, settings).unwrap();
    let lists = |step: usize| {
        let turns = (0..16).map(|place| (step * 16 + place) as u64);
        let lists: Vec<List> = turns.map(|turn| world.list(seen[(turn % seen.len() as u64) as usize], turn, 3)).collect();
        tokenize_lists(&model, &world.collection, &lists)
    };
    learner.train(lists, |_, _| {}).unwrap();
    model.network = learner.snapshot();
    let after = world.accuracy(&model, &held_out);
    // Chance is one in eight.
    assert!(before < 0.3 && after > 0.6, "before {before}, after {after}");
}
