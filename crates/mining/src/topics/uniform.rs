//! Topics drawn uniformly, then queries within them: the batches of Hofstätter et al. 2021 (arXiv 2104.06967, section 3.2).
//!
//! Unlike the released code, which may repeat a query when its topic is drawn twice, a batch takes a query once; a topic with nothing left
//! to give to a batch is not drawn again for it.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Filling;

/// A query with its positives.
type Supply = (u32, Vec<u32>);

/// `pairs / batch` batches from the pairs of each topic.
pub(super) fn epoch(
    topics: &[Vec<(u32, u32)>],
    pairs: usize,
    batch: usize,
    topics_per_batch: usize,
    same_text: &[u32],
    chance: &mut ChaCha8Rng,
) -> Vec<Vec<(u32, u32)>> {
    if pairs == 0 {
        return Vec::new();
    }
    let mut topics: Vec<Vec<Supply>> = topics.iter().map(|pairs| by_query(pairs)).collect();
    let share = batch / topics_per_batch;
    (0..(pairs / batch).max(1))
        .map(|_| {
            let mut filling = Filling::new(same_text);
            let mut open: Vec<usize> = (0..topics.len()).collect();
            while filling.pairs.len() < batch && !open.is_empty() {
                let drawn = chance.random_range(0..open.len());
                let wanted = share.min(batch - filling.pairs.len());
                if take(&mut topics[open[drawn]], wanted, &mut filling, chance) < wanted {
                    // It gave all it can give to this batch.
                    open.swap_remove(drawn);
                }
            }
            filling.pairs
        })
        .collect()
}

/// Moves up to `wanted` queries of a topic into the batch and says how many.
///
/// The topic is shuffled no further than needed, and stays shuffled: a uniform draw does not mind the order it starts from.
fn take(topic: &mut [Supply], wanted: usize, filling: &mut Filling<'_>, chance: &mut ChaCha8Rng) -> usize {
    let mut taken = 0;
    for next in 0..topic.len() {
        if taken == wanted {
            break;
        }
        let drawn = chance.random_range(next..topic.len());
        topic.swap(next, drawn);
        let (query, positives) = &mut topic[next];
        for next in 0..positives.len() {
            let drawn = chance.random_range(next..positives.len());
            positives.swap(next, drawn);
            if filling.take((*query, positives[next])) {
                taken += 1;
                break;
            }
        }
    }
    taken
}

fn by_query(pairs: &[(u32, u32)]) -> Vec<Supply> {
    let mut queries: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for &(query, document) in pairs {
        queries.entry(query).or_default().push(document);
    }
    queries.into_iter().collect()
}
