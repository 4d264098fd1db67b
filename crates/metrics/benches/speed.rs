//! How long a large evaluation takes: 10,000 queries with 1,000 documents each, scores in random order and many of them tied.
//!
//! usage: cargo bench --profile release -p metrics --bench speed

#![allow(clippy::print_stdout, missing_docs)]

use std::time::Instant;

use metrics::{Options, Qrels, Run, evaluate};

fn main() {
    let (queries, depth, corpus) = (10_000_u64, 1_000_u64, 200_000_u64);
    let (mut qrels, mut run) = (Qrels::new(), Run::new());
    let names: Vec<String> = (0..corpus).map(|document| format!("doc-{document}")).collect();
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    for query in 0..queries {
        let name = format!("query-{query}");
        let start = random();
        for rank in 0..depth {
            run.push(&name, &names[((start + rank * 7) % corpus) as usize], (random() % 5_000) as f32);
        }
        for hit in 0..5 {
            qrels.insert(&name, &names[((start + hit * 77) % corpus) as usize], 1 + (hit % 3) as i32);
        }
    }
    for _ in 0..3 {
        let begin = Instant::now();
        let evaluation = evaluate(&qrels, &run, &Options::default());
        let seconds = begin.elapsed().as_secs_f64();
        let (ndcg, recall) = (evaluation.get("ndcg@10").unwrap(), evaluation.get("recall@1000").unwrap());
        println!("{} documents of {} queries: {seconds:.2} s, ndcg@10 {ndcg:.4}, recall@1000 {recall:.4}", run.len(), evaluation.queries());
    }
}
