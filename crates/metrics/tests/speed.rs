//! The size of a large evaluation: 10,000 queries with 1,000 documents each. The bound is loose, for slow and busy machines; it is
//! there to catch a change of order, not of percent.

#![allow(clippy::print_stderr)]

use std::time::{Duration, Instant};

use metrics::{Options, Qrels, Run, evaluate};

#[test]
fn ten_million_retrieved_documents_take_seconds() {
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
            // Scores in random order, many of them tied.
            run.push(&name, &names[((start + rank * 7) % corpus) as usize], (random() % 5_000) as f32);
        }
        for hit in 0..5 {
            qrels.insert(&name, &names[((start + hit * 77) % corpus) as usize], 1 + (hit % 3) as i32);
        }
    }
    let begin = Instant::now();
    let evaluation = evaluate(&qrels, &run, &Options::default());
    let value = evaluation.get("ndcg@10").unwrap();
    let elapsed = begin.elapsed();
    eprintln!("evaluated {} documents of {} queries in {elapsed:?}", run.len(), evaluation.queries());
    assert!(value > 0.0 && evaluation.get("recall@1000") == Some(1.0));
    assert!(elapsed < Duration::from_secs(20), "{elapsed:?}");
}
