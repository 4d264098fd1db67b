//! Scores of pairs for those who filter or distil: out of the cache where it has them, else from the device.
//!
//! What the cache lacks is tokenised in parallel, sorted by length and cut into batches of a token budget, those of like length together,
//! and a batch fits whatever the lengths. Scores reach the cache batch by batch: a run that is killed loses at most one batch. A score
//! is a function of its pair up to the last bits of a float; which pairs share a batch changes no more than that.

use std::collections::HashMap;
use std::sync::Arc;

use encoder::{CrossEncoder, PairTokens};

use crate::error::TeacherError;
use crate::scores::{ScoreCache, ScoreKey, ScoreKeys};
use crate::texts::PairTexts;

/// Tokens of a batch, counted as if all pairs of it were as long as the longest, unless set otherwise.
const TOKENS: usize = 8192;
/// Pairs that are tokenised at once: bounds memory on large requests.
const BLOCK: usize = 16_384;

/// What a scorer did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pairs whose score was known.
    pub hits: u64,
    /// Pairs that the device scored.
    pub misses: u64,
}

/// A reranker with the cache of its scores.
pub struct PairScorer {
    model: CrossEncoder,
    keys: ScoreKeys,
    cache: Option<ScoreCache>,
    texts: Arc<dyn PairTexts + Send>,
    tokens: usize,
    counts: Counts,
}

impl std::fmt::Debug for PairScorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PairScorer").field("model", &self.model).field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl PairScorer {
    /// A scorer over these texts; without a cache every request is computed. Reads the model's weights once for their fingerprint.
    pub fn new(model: CrossEncoder, cache: Option<ScoreCache>, texts: Arc<dyn PairTexts + Send>) -> Self {
        let keys = ScoreKeys::new(&model.fingerprint(), model.max_length());
        Self { model, keys, cache, texts, tokens: TOKENS, counts: Counts::default() }
    }

    /// Sets the tokens of a batch, counted as if all pairs of it were as long as the longest; a batch has at least one pair.
    #[must_use]
    pub fn with_batch_tokens(mut self, tokens: usize) -> Self {
        self.tokens = tokens.max(1);
        self
    }

    /// Logits of (query, document) pairs, in order; [`encoder::probability`] makes probabilities of them.
    ///
    /// # Errors
    /// An id has no text, the tokenizer or the device fails, a score is not finite, or the cache cannot be written.
    pub fn scores(&mut self, pairs: &[(u32, u32)]) -> Result<Vec<f32>, TeacherError> {
        let mut scores = Vec::with_capacity(pairs.len());
        for block in pairs.chunks(BLOCK) {
            self.block(block, &mut scores)?;
        }
        Ok(scores)
    }

    fn block(&mut self, pairs: &[(u32, u32)], scores: &mut Vec<f32>) -> Result<(), TeacherError> {
        let texts = Arc::clone(&self.texts);
        let texts: Vec<_> = pairs.iter().map(|&pair| texts.pair(pair)).collect::<Result<_, _>>()?;
        let keys: Vec<ScoreKey> = texts.iter().map(|(query, document)| self.keys.key(query, document)).collect();
        // A pair that is asked for twice is scored once.
        let mut known: HashMap<ScoreKey, f32> = HashMap::new();
        let mut wanted: Vec<usize> = Vec::new();
        let mut asked: HashMap<ScoreKey, ()> = HashMap::new();
        for (place, &key) in keys.iter().enumerate() {
            match self.cache.as_ref().and_then(|cache| cache.get(key)) {
                Some(score) => drop(known.insert(key, score)),
                None if asked.insert(key, ()).is_none() => wanted.push(place),
                None => {}
            }
        }
        self.counts.misses += wanted.len() as u64;
        self.counts.hits += (pairs.len() - wanted.len()) as u64;
        let rows = self.model.tokenize(&wanted.iter().map(|&place| &texts[place]).map(|(q, d)| (&**q, &**d)).collect::<Vec<_>>())?;
        for batch in batches(&rows, self.tokens) {
            let chosen: Vec<&PairTokens> = batch.iter().map(|&row| &rows[row]).collect();
            let made: Vec<(ScoreKey, f32)> = batch.iter().map(|&row| keys[wanted[row]]).zip(self.model.score_rows(&chosen)?).collect();
            if let Some(cache) = &mut self.cache {
                cache.put_many(&made)?;
            }
            known.extend(made);
        }
        if let Some(cache) = self.cache.as_mut().filter(|_| !wanted.is_empty()) {
            cache.flush()?;
        }
        scores.extend(keys.iter().map(|key| known[key]));
        Ok(())
    }

    /// Hits and misses so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The model.
    pub fn model(&self) -> &CrossEncoder {
        &self.model
    }

    /// Another model, or the same one after training, on the same cache and texts.
    pub fn set_model(&mut self, model: CrossEncoder) {
        self.keys = ScoreKeys::new(&model.fingerprint(), model.max_length());
        self.model = model;
    }

    /// Gives model and cache back.
    pub fn into_parts(self) -> (CrossEncoder, Option<ScoreCache>) {
        (self.model, self.cache)
    }
}

/// Places of `rows`, longest first, in batches of at most `tokens` tokens, counted as if all of a batch were as long as its longest.
fn batches(rows: &[PairTokens], tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&row| std::cmp::Reverse(rows[row].ids.len()));
    let mut batches = Vec::new();
    let mut rest = order.as_slice();
    while let Some(&longest) = rest.first() {
        let fit = (tokens / rows[longest].ids.len().max(1)).clamp(1, rest.len());
        let (batch, after) = rest.split_at(fit);
        batches.push(batch.to_vec());
        rest = after;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_sorted_complete_and_within_the_budget() {
        let lengths = [3usize, 9, 1, 4, 4, 30, 2];
        let rows: Vec<PairTokens> = lengths.iter().map(|&length| PairTokens { ids: vec![1; length], types: Vec::new() }).collect();
        let batches = batches(&rows, 12);
        assert_eq!(batches, [vec![5], vec![1], vec![3, 4, 0], vec![6, 2]]);
        assert!(super::batches(&[], 12).is_empty());
    }
}
