//! Retrieval quality of a model, of BM25 or of a run file on one split: exact search with the training kernels, trec_eval's metrics.

use anyhow::{Context, Result};
use burn::tensor::Tensor;
use corpus::{Collection, Judgments};
use metrics::{Evaluation, Options, Qrels, Run};
use mining::{EmbeddingStore, RowEncoder};
use serde::{Deserialize, Serialize};

use crate::data::Data;
use crate::rows::Rows;

/// Documents retrieved for each query: enough for every metric of [`Summary`].
pub(crate) const DEPTH: usize = 100;
/// Queries encoded at a time, and searched unless the documents are in a file.
pub(crate) const QUERY_BLOCK: usize = 256;

/// The figures every command prints. Means over the queries that have at least one relevant document; one that the run lacks counts as zero.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    #[serde(rename = "ndcg@10")]
    pub(crate) ndcg: f64,
    #[serde(rename = "mrr@10")]
    pub(crate) mrr: f64,
    #[serde(rename = "recall@100")]
    pub(crate) recall: f64,
    #[serde(rename = "map@100")]
    pub(crate) map: f64,
    pub(crate) queries: usize,
}

/// A run and its metrics.
pub(crate) struct Scored {
    pub(crate) run: Run,
    pub(crate) evaluation: Evaluation,
    pub(crate) summary: Summary,
}

/// Encodes the queries with `rows`, searches the documents of `store` exactly and scores the run.
pub(crate) fn of_rows(rows: &mut Rows, store: &EmbeddingStore, data: &Data, judgments: &Judgments, depth: usize) -> Result<Scored> {
    let mut queries: Vec<u32> = judgments.queries().collect();
    // Neighbours of like length are encoded together.
    queries.sort_by_key(|&query| data.tokens.query(query).len());
    let mut run = Run::new();
    // A pass over a file is worth more queries.
    let together = if store.disk_use().is_some() { 64 * QUERY_BLOCK } else { QUERY_BLOCK };
    for block in queries.chunks(together) {
        let embedded = block.chunks(QUERY_BLOCK).map(|some| rows.queries(some)).collect::<Result<Vec<_>, _>>();
        let embedded = Tensor::cat(embedded.context("encoding the queries")?, 0);
        let top = store.search(embedded, depth.min(data.documents()), None, None).context("searching")?;
        for (row, &query) in block.iter().enumerate() {
            for (document, score) in top.row(row) {
                run.push(data.collection.queries.id(query), data.collection.documents.id(document), score);
            }
        }
    }
    Ok(score(run, &data.collection, judgments))
}

/// The lexical baseline.
pub(crate) fn of_bm25(collection: &Collection, judgments: &Judgments, depth: usize) -> Result<Scored> {
    let queries: Vec<u32> = judgments.queries().collect();
    let rows = mining::bm25_run(collection, &queries, depth).context("BM25 baseline")?;
    let mut run = Run::new();
    for (&query, hits) in queries.iter().zip(&rows) {
        for &(document, score) in hits {
            run.push(collection.queries.id(query), collection.documents.id(document), score);
        }
    }
    Ok(score(run, collection, judgments))
}

/// The depth at which rankings were cut, where there are more documents than that.
pub(crate) fn cut(depth: usize, documents: usize) -> Option<usize> {
    (depth < documents).then_some(depth)
}

fn score(run: Run, collection: &Collection, judgments: &Judgments) -> Scored {
    let qrels = qrels(collection, judgments);
    // Queries for which nothing was found count as zero.
    let evaluation = metrics::evaluate(&qrels, &run, &Options { complete: true, ..Options::default() });
    let summary = summarise(&evaluation);
    Scored { run, evaluation, summary }
}

/// The split's judgments under their external ids.
pub(crate) fn qrels(collection: &Collection, judgments: &Judgments) -> Qrels {
    let mut qrels = Qrels::new();
    for query in judgments.queries() {
        for &(document, grade) in judgments.judged(query) {
            qrels.insert(collection.queries.id(query), collection.documents.id(document), grade);
        }
    }
    qrels
}

pub(crate) fn summarise(evaluation: &Evaluation) -> Summary {
    let get = |name: &str| evaluation.get(name).unwrap_or(0.0);
    Summary { ndcg: get("ndcg@10"), mrr: get("mrr@10"), recall: get("recall@100"), map: get("map@100"), queries: evaluation.queries() }
}
