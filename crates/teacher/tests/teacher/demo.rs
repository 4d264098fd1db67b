//! A reranker for `builtin:demo`, made from a trained encoder and trained on what that encoder ranks high and has no label: on queries
//! about entities never seen in training it must rank better than the encoder. Minutes of computing, so only on request: run with
//! `DREDGE_DEMO_ENCODER=FOLDER`, the `model` folder of `trainer --output RUN` or any static encoder.

use burn::tensor::Device;
use corpus::Collection;
use encoder::{CrossEncoder, Encoder, Role};
use mining::bm25_run;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use teacher::{List, RerankerLearner, RerankerTraining, tokenize_lists};

/// Negatives of a list in the evaluation.
const NEGATIVES: usize = 15;

struct Rows {
    width: usize,
    values: Vec<f32>,
}

impl Rows {
    fn new(encoder: &Encoder, texts: &[&str], role: Role) -> Self {
        let rows = encoder.embed(texts, role, 256).unwrap();
        Self { width: encoder.network.dimension(), values: rows.iter::<f32>().collect() }
    }

    fn dot(&self, row: usize, other: &Self, other_row: usize) -> f32 {
        let at = |rows: &'_ Self, row: usize| row * rows.width..(row + 1) * rows.width;
        self.values[at(self, row)].iter().zip(&other.values[at(other, other_row)]).map(|(a, b)| a * b).sum()
    }

    /// The `count` rows nearest to row `row` of `queries`, best first.
    fn nearest(&self, queries: &Self, row: usize, count: usize) -> Vec<u32> {
        let mut scored: Vec<(f32, u32)> =
            (0..self.values.len() / self.width).map(|document| (self.dot(document, queries, row), document as u32)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.truncate(count);
        scored.into_iter().map(|it| it.1).collect()
    }
}

/// Shares of lists whose first document has the highest score.
fn first_places(scores: &[f32]) -> f64 {
    let lists = scores.chunks(NEGATIVES + 1);
    let count = lists.len() as f64;
    lists.filter(|list| list[1..].iter().all(|&score| score < list[0])).count() as f64 / count
}

#[test]
fn a_reranker_made_from_an_encoder_ranks_better_than_it() {
    let Ok(folder) = std::env::var("DREDGE_DEMO_ENCODER") else {
        eprintln!("skipped: reranker for the built-in collection (DREDGE_DEMO_ENCODER names no folder)");
        return;
    };
    let device = Device::flex();
    let demo = Collection::open("builtin:demo").unwrap();
    let encoder = Encoder::load(&folder, &device).unwrap();
    let (query_text, document_text) = (|query: u32| demo.queries.text(query), |document: u32| demo.documents.text(document));
    let documents: Vec<&str> = (0..demo.documents.len() as u32).map(document_text).collect();
    let queries: Vec<&str> = (0..demo.queries.len() as u32).map(query_text).collect();
    let (document_rows, query_rows) = (Rows::new(&encoder, &documents, Role::Document), Rows::new(&encoder, &queries, Role::Query));

    // Training lists: the judged document, three of the encoder's best forty, four at random.
    let judged: Vec<(u32, u32)> = demo.split("train").unwrap().iter().map(|(query, document, _)| (query, document)).collect();
    let lists = |step: usize| -> Vec<List> {
        let mut random = ChaCha8Rng::seed_from_u64(step as u64);
        let mut list = || {
            let (query, positive) = judged[random.random_range(0..judged.len())];
            let near = document_rows.nearest(&query_rows, query as usize, 40);
            let mut chosen = vec![positive];
            while chosen.len() < 8 {
                let document =
                    if chosen.len() < 4 { near[random.random_range(0..40)] } else { random.random_range(0..documents.len() as u32) };
                if !chosen.contains(&document) {
                    chosen.push(document);
                }
            }
            List { query, documents: chosen }
        };
        (0..16).map(|_| list()).collect()
    };
    let mut model = CrossEncoder::from_encoder(&encoder, 1).unwrap();
    let mut learner = RerankerLearner::new(&model, RerankerTraining { steps: 200, ..RerankerTraining::small() }).unwrap();
    learner.train(|step| tokenize_lists(&model, &demo, &lists(step)), |_, _| {}).unwrap();
    model.network = learner.snapshot();

    let truth = demo.truth.as_ref().unwrap();
    let mut held_out: Vec<u32> = demo.split("test").unwrap().iter().map(|(query, _, _)| query).collect();
    held_out.dedup();
    let lexical = bm25_run(&demo, &held_out, 60).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(u64::MAX);
    for kind in ["random", "bm25", "dense"] {
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        for (place, &query) in held_out.iter().enumerate() {
            let relevant: Vec<u32> = truth.iter().filter(|&(of, _, _)| of == query).map(|(_, document, _)| document).collect();
            let pool: Vec<u32> = match kind {
                "random" => (0..60).map(|_| random.random_range(0..documents.len() as u32)).collect(),
                "bm25" => lexical[place].iter().map(|it| it.0).collect(),
                _ => document_rows.nearest(&query_rows, query as usize, 60),
            };
            let negatives: Vec<u32> = pool.into_iter().filter(|document| !relevant.contains(document)).take(NEGATIVES).collect();
            if negatives.len() == NEGATIVES {
                pairs.push((query, relevant[0]));
                pairs.extend(negatives.into_iter().map(|document| (query, document)));
            }
        }
        let retriever: Vec<f32> =
            pairs.iter().map(|&(query, document)| query_rows.dot(query as usize, &document_rows, document as usize)).collect();
        let texts: Vec<(&str, &str)> = pairs.iter().map(|&(query, document)| (query_text(query), document_text(document))).collect();
        let reranker = model.scores(&texts, 64).unwrap();
        let (retriever, reranker) = (first_places(&retriever), first_places(&reranker));
        eprintln!("{kind}: positive first among 16 in {retriever:.3} of the lists by the encoder, {reranker:.3} by the reranker");
        // The encoder's own hardest negatives are what the reranker is for.
        assert!(reranker > 0.8 && (kind != "dense" || reranker > retriever + 0.2), "{kind}: {reranker} against {retriever}");
    }
}
