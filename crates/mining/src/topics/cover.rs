//! Every pair once an epoch, batches of one topic where a topic can fill them.

use std::collections::VecDeque;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::Filling;

/// All pairs of the topics, near topics beside one another, in batches.
pub(super) fn epoch(mut topics: Vec<Vec<(u32, u32)>>, size: usize, same_text: &[u32], chance: &mut ChaCha8Rng) -> Vec<Vec<(u32, u32)>> {
    // Another place to begin means other topics together in a batch of leftovers.
    if !topics.is_empty() {
        let begin = chance.random_range(0..topics.len());
        topics.rotate_left(begin);
    }
    let (mut batches, mut left) = (Vec::new(), VecDeque::new());
    for mut pairs in topics {
        pairs.shuffle(chance);
        let mut waiting = VecDeque::from(pairs);
        while waiting.len() >= size {
            let batch = fill(&mut waiting, size, same_text);
            if batch.len() < size {
                waiting.extend(batch);
                break;
            }
            batches.push(batch);
        }
        left.append(&mut waiting);
    }
    while !left.is_empty() {
        batches.push(fill(&mut left, size, same_text));
    }
    batches.shuffle(chance);
    // Stable: those that are short stay in random order too.
    batches.sort_by_key(|batch| batch.len() < size);
    batches
}

/// Takes the first pairs that go together; those passed over stay first in the line.
fn fill(waiting: &mut VecDeque<(u32, u32)>, size: usize, same_text: &[u32]) -> Vec<(u32, u32)> {
    let mut filling = Filling::new(same_text);
    let mut passed = Vec::new();
    while filling.pairs.len() < size {
        let Some(pair) = waiting.pop_front() else { break };
        if !filling.take(pair) {
            passed.push(pair);
        }
    }
    for pair in passed.into_iter().rev() {
        waiting.push_front(pair);
    }
    filling.pairs
}
