//! Training pairs in line for batches that hold no query and no text of a positive twice.
//!
//! A batch takes the first pairs of the line that go together; a pair that clashes with one before it keeps its place for the next batch. Where few
//! texts have many pairs, a walk down the line would pass over nearly all of it for every batch. So there is one line for each text, or for each query
//! where one of these has more pairs than any text, and a batch takes whichever comes first of their fronts: the same pairs, and of a line that gave one nothing is
//! looked at. Where a text and a query have many pairs each, one of the two is still passed over pair by pair.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// Behind the last pair of a line.
const NONE: u32 = u32::MAX;

/// Pairs of (query, positive document) that wait.
#[derive(Debug)]
pub struct Waiting<'a> {
    pairs: Vec<(u32, u32)>,
    same_text: &'a [u32],
    /// Whether a line is one text's, or one query's.
    by_text: bool,
    /// The place of the first pair that waits, by line.
    front: Vec<u32>,
    /// The place of the next pair of the same line, by place.
    next: Vec<u32>,
    /// The fronts, the lowest place first, each with its line.
    fronts: BinaryHeap<Reverse<(u32, u32)>>,
    left: usize,
}

impl<'a> Waiting<'a> {
    /// `pairs` in this order. `same_text` is the class of each document's text, equal where texts are.
    ///
    /// # Panics
    /// When a document has no class.
    pub fn new(pairs: Vec<(u32, u32)>, same_text: &'a [u32]) -> Self {
        let texts = numbered(pairs.iter().map(|pair| same_text[pair.1 as usize]));
        let queries = numbered(pairs.iter().map(|pair| pair.0));
        let longest = |of: &(Vec<u32>, usize)| {
            let mut pairs = vec![0u32; of.1];
            of.0.iter().for_each(|&line| pairs[line as usize] += 1);
            pairs.into_iter().max()
        };
        let by_text = longest(&texts) >= longest(&queries);
        let (line, lines) = if by_text { texts } else { queries };
        let (mut front, mut next) = (vec![NONE; lines], vec![NONE; pairs.len()]);
        for place in (0..pairs.len()).rev() {
            next[place] = std::mem::replace(&mut front[line[place] as usize], place as u32);
        }
        let fronts = front.iter().copied().zip(0..).map(Reverse).collect();
        Self { left: pairs.len(), pairs, same_text, by_text, front, next, fronts }
    }

    /// Pairs that wait.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Takes up to `most` pairs: the first that waits, then each next one whose query and text are not there yet.
    pub fn take(&mut self, most: usize) -> Vec<(u32, u32)> {
        let mut batch = Vec::with_capacity(most.min(self.left));
        // Of a line one pair is taken, so only what lines are not by can stand there already.
        let mut there = HashSet::new();
        // Lines whose fronts were looked at; and of those whose fronts clash the next pair, with the line and the pair before it.
        let (mut looked_at, mut behind) = (Vec::new(), BinaryHeap::<Reverse<(u32, u32, u32)>>::new());
        while batch.len() < most {
            let front_is_next = match (self.fronts.peek(), behind.peek()) {
                (Some(Reverse((front, _))), Some(Reverse((other, ..)))) => front < other,
                (front, _) => front.is_some(),
            };
            let found = if front_is_next {
                self.fronts.pop().map(|Reverse((place, line))| (place, line, NONE))
            } else {
                behind.pop().map(|Reverse(found)| found)
            };
            let Some((place, line, before)) = found else { break };
            if front_is_next {
                looked_at.push(line);
            }
            let (query, document) = self.pairs[place as usize];
            let next = self.next[place as usize];
            let other = if self.by_text { query } else { self.same_text[document as usize] };
            if there.insert(other) {
                batch.push((query, document));
                match before {
                    NONE => self.front[line as usize] = next,
                    _ => self.next[before as usize] = next,
                }
            } else if next != NONE {
                behind.push(Reverse((next, line, place)));
            }
        }
        let fronts = looked_at.into_iter().map(|line| (self.front[line as usize], line));
        self.fronts.extend(fronts.filter(|&(place, _)| place != NONE).map(Reverse));
        self.left -= batch.len();
        batch
    }

    /// What still waits, in line.
    pub fn rest(self) -> Vec<(u32, u32)> {
        let follow = |&place: &u32| Some(self.next[place as usize]).filter(|&next| next != NONE);
        let fronts = self.front.iter().copied().filter(|&place| place != NONE);
        let mut places: Vec<u32> = fronts.flat_map(|front| std::iter::successors(Some(front), follow)).collect();
        places.sort_unstable();
        places.into_iter().map(|place| self.pairs[place as usize]).collect()
    }
}

/// The number of each value, in the order in which they first come, and how many there are.
fn numbered(values: impl Iterator<Item = u32>) -> (Vec<u32>, usize) {
    let mut numbers = HashMap::new();
    let mut of = Vec::with_capacity(values.size_hint().0);
    for value in values {
        let next = numbers.len() as u32;
        of.push(*numbers.entry(value).or_insert(next));
    }
    (of, numbers.len())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// The same by walking down one line.
    fn walk(line: &mut VecDeque<(u32, u32)>, most: usize, same_text: &[u32]) -> Vec<(u32, u32)> {
        let (mut batch, mut passed) = (Vec::new(), Vec::new());
        let (mut queries, mut texts) = (HashSet::new(), HashSet::new());
        while batch.len() < most {
            let Some((query, document)) = line.pop_front() else { break };
            let text = same_text[document as usize];
            if queries.contains(&query) || texts.contains(&text) {
                passed.push((query, document));
            } else {
                queries.insert(query);
                texts.insert(text);
                batch.push((query, document));
            }
        }
        passed.into_iter().rev().for_each(|pair| line.push_front(pair));
        batch
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn batches_are_those_of_a_walk_down_the_line(
            pairs in prop::collection::vec((0_u32..9, 0_u32..12), 0..60), classes in 1_u32..13, sizes in prop::collection::vec(0_usize..7, 1..20),
        ) {
            let same_text: Vec<u32> = (0..12).map(|document| document % classes).collect();
            let (mut line, mut waiting) = (VecDeque::from(pairs.clone()), Waiting::new(pairs, &same_text));
            for size in sizes {
                prop_assert_eq!(waiting.take(size), walk(&mut line, size, &same_text));
                prop_assert_eq!((waiting.len(), waiting.is_empty()), (line.len(), line.is_empty()));
            }
            prop_assert_eq!(waiting.rest(), Vec::from(line));
        }
    }

    /// A walk would look at 40,000,000,000 pairs.
    #[test]
    fn few_texts_or_few_queries_with_many_pairs_take_no_longer_than_many() {
        const PAIRS: u32 = 400_000;
        let texts: Vec<u32> = (0..PAIRS).collect();
        let few_texts: Vec<(u32, u32)> = (0..PAIRS).map(|number| (number, number % 2)).collect();
        let few_queries: Vec<(u32, u32)> = (0..PAIRS).map(|number| (number % 2, number)).collect();
        for pairs in [few_texts, few_queries] {
            let mut waiting = Waiting::new(pairs, &texts);
            let mut batches = 0;
            while !waiting.is_empty() {
                assert_eq!(waiting.take(32).len(), 2);
                batches += 1;
            }
            assert_eq!(batches, PAIRS / 2);
        }
    }

    /// Few queries, of three texts each, and one text that many others have: those would be passed over for every batch.
    #[test]
    fn one_text_of_many_queries_is_one_line_though_there_are_more_texts() {
        const QUERIES: u32 = 60_000;
        let own = (0..QUERIES).flat_map(|query| (0..3).map(move |place| (query, 1 + query * 3 + place)));
        let pairs: Vec<(u32, u32)> = (QUERIES..QUERIES + 50_000).map(|query| (query, 0)).chain(own).collect();
        let texts: Vec<u32> = (0..=3 * QUERIES).collect();
        let mut waiting = Waiting::new(pairs, &texts);
        assert!(waiting.by_text);
        while waiting.len() > 50_000 {
            assert!(waiting.take(32).len() > 1);
        }
    }
}
