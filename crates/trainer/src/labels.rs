//! Which pairs a round trains on, where that is not simply the training split: pairs that the model of the round before does not find again are
//! left out (round-trip consistency), and documents that the teacher is sure of become positives of queries without a label (pseudo-labels).

use std::collections::HashSet;

use anyhow::{Context, Result};
use corpus::Judgments;
use mining::{EmbeddingStore, PairScorer};
use serde::Serialize;

use crate::config::{Augment, Config};
use crate::errors::Usage;
use crate::models::{Models, PREVIOUS_ROUND};
use crate::output;
use crate::plan::Plan;
use crate::stage::Surroundings;

/// What a round trip did; an event of the log.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RoundTrip {
    depth: usize,
    pairs: usize,
    refused: usize,
}

/// The judgments without the positives whose text the model of the round before does not rank among the first `depth` (Promptagator, Dai et al. 2022,
/// arXiv 2209.11755). What is refused is neither positive nor negative afterwards.
///
/// # Errors
/// When encoding or searching fails, or nothing is left.
pub(crate) fn consistent(depth: usize, around: &Surroundings, models: &mut Models, round: usize) -> Result<(Judgments, RoundTrip)> {
    let queries: Vec<u32> = around.judgments.queries().collect();
    let top = found(&queries, depth, around, models, round)?;
    // Of documents with one text it does not matter which is found.
    let text = |document: u32| around.data.same_text[document as usize];
    let found: HashSet<(u32, u32)> = top.into_iter().map(|(query, document)| (query, text(document))).collect();
    let (judgments, refused) = around.judgments.keep_pairs(|query, document| found.contains(&(query, text(document))));
    let counts = RoundTrip { depth, pairs: around.judgments.pairs().len(), refused };
    output::note(&format!("round trip: {refused} of {} pairs left out", counts.pairs));
    if judgments.pairs().is_empty() {
        return Err(Usage::new(format!("train.round_trip = {depth} leaves no pair to train on; raise it")).into());
    }
    Ok((judgments, counts))
}

/// What pseudo-labelling did; an event of the log.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Augmented {
    /// Queries without a label.
    unlabelled: usize,
    /// Those of them that got a positive.
    accepted: usize,
    /// Those whose new positive is relevant; known only where complete judgments are.
    right: Option<usize>,
}

/// The training pairs `of` this round, and for each query without a label the document that the teacher scores highest among the first `depth` of the model of the
/// round before, if it scores above `above` (RocketQA's fourth step, Qu et al. 2021, arXiv 2010.08191). Without a label are the queries of the
/// training split that `data.limit` leaves out and those that no split judges; queries of other splits are never touched, nor those whose labels were refused or dropped.
///
/// # Errors
/// When encoding, searching or the teacher fails.
pub(crate) fn augmented(
    config: &Config,
    augment: Augment,
    of: &Judgments,
    around: &Surroundings,
    models: &mut Models,
    round: usize,
    teacher: &mut dyn PairScorer,
) -> Result<(Judgments, Augmented)> {
    let collection = &around.data.collection;
    let plan = Plan::new(of, config.data.limit, &config.batch, config.train.seed);
    let labelled = plan.judgments(of, collection.queries.len());
    let limited: HashSet<u32> = of.queries().filter(|&query| labelled.judged(query).is_empty()).collect();
    let elsewhere =
        |query: u32| collection.splits.iter().any(|(name, split)| *name != config.data.train && !split.judged(query).is_empty());
    let train = collection.find_split(&config.data.train);
    let judged_here =
        |query: u32| [Some(around.judgments.as_ref()), train].into_iter().flatten().any(|judgments| !judgments.judged(query).is_empty());
    let without = |query: &u32| !elsewhere(*query) && (limited.contains(query) || !judged_here(*query));
    let unlabelled: Vec<u32> = (0..collection.queries.len() as u32).filter(without).collect();
    let mut pairs = found(&unlabelled, augment.depth, around, models, round)?;
    // What is judged not to be relevant stays so.
    let refused: Vec<(u32, u32, i32)> = of.iter().filter(|&(query, _, grade)| grade <= 0 && limited.contains(&query)).collect();
    let known: HashSet<(u32, u32)> = refused.iter().map(|&(query, document, _)| (query, document)).collect();
    pairs.retain(|pair| !known.contains(pair));
    let scores = teacher.scores(&pairs).map_err(anyhow::Error::from).context("asking the teacher about queries without a label")?;
    let mut judged: Vec<(u32, u32, i32)> = labelled.iter().chain(refused).collect();
    let (mut accepted, mut right) = (0, 0);
    for (pairs, scores) in grouped(&pairs, &scores) {
        // The first of equals is the one that the retriever ranks higher.
        let mut best = (f32::NEG_INFINITY, pairs[0]);
        for (&pair, &score) in pairs.iter().zip(scores) {
            best = if score > best.0 { (score, pair) } else { best };
        }
        let (score, (query, document)) = best;
        if f64::from(score) > augment.above {
            judged.push((query, document, 1));
            accepted += 1;
            right += usize::from(collection.truth.as_ref().is_some_and(|truth| truth.is_positive(query, document)));
        }
    }
    let augmented = Augmented { unlabelled: unlabelled.len(), accepted, right: collection.truth.is_some().then_some(right) };
    let known = augmented.right.map_or_else(String::new, |right| format!(", {right} of them relevant"));
    output::note(&format!("pseudo-labels: {accepted} of {} queries without a label{known}", unlabelled.len()));
    Ok((Judgments::from_pairs(collection.queries.len(), judged), augmented))
}

/// Pairs of each query and its first `depth` documents by the model of the round before, query by query, best first.
fn found(queries: &[u32], depth: usize, around: &Surroundings, models: &mut Models, round: usize) -> Result<Vec<(u32, u32)>> {
    if queries.is_empty() {
        return Ok(Vec::new());
    }
    let rows = models.rows(PREVIOUS_ROUND, round)?;
    let device = around.chosen.device.clone().without_autodiff();
    let store = EmbeddingStore::encode(rows, around.data.documents(), &device).context("encoding the documents")?;
    let top = store.search(rows.queries_in_blocks(queries)?, depth.min(store.len()), None, None).context("searching")?;
    Ok(queries.iter().enumerate().flat_map(|(row, &query)| top.row(row).map(move |(document, _)| (query, document))).collect())
}

/// Runs of pairs of one query with their scores.
fn grouped<'a>(pairs: &'a [(u32, u32)], scores: &'a [f32]) -> impl Iterator<Item = (&'a [(u32, u32)], &'a [f32])> {
    let mut start = 0;
    pairs.chunk_by(|a, b| a.0 == b.0).map(move |pairs| {
        let scores = &scores[start..start + pairs.len()];
        start += pairs.len();
        (pairs, scores)
    })
}
