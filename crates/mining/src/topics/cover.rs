//! Every pair once an epoch, batches of one topic where a topic can fill them.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::waiting::Waiting;

/// All pairs of the topics, near topics beside one another, in batches.
pub(super) fn epoch(mut topics: Vec<Vec<(u32, u32)>>, size: usize, same_text: &[u32], chance: &mut ChaCha8Rng) -> Vec<Vec<(u32, u32)>> {
    // Another place to begin means other topics together in a batch of leftovers.
    if !topics.is_empty() {
        let begin = chance.random_range(0..topics.len());
        topics.rotate_left(begin);
    }
    let (mut batches, mut left) = (Vec::new(), Vec::new());
    for mut pairs in topics {
        pairs.shuffle(chance);
        let mut waiting = Waiting::new(pairs, same_text);
        let mut short = Vec::new();
        while waiting.len() >= size && short.is_empty() {
            let batch = waiting.take(size);
            if batch.len() < size {
                short = batch;
            } else {
                batches.push(batch);
            }
        }
        left.extend(waiting.rest());
        left.append(&mut short);
    }
    let mut left = Waiting::new(left, same_text);
    while !left.is_empty() {
        batches.push(left.take(size));
    }
    batches.shuffle(chance);
    // Stable: those that are short stay in random order too.
    batches.sort_by_key(|batch| batch.len() < size);
    batches
}
