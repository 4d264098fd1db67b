//! Batches whose queries share a topic, so that the other queries' positives are hard negatives (Hofstätter et al. 2021, arXiv 2104.06967).
//!
//! A topic is a cluster of queries, or a group that a file names (one data set per batch). Which pairs go together in an epoch is a
//! function of seed and epoch alone. Invariants of every batch: a query stands in it once, and a positive's text stands in it once.

mod cover;
mod uniform;

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::error::MiningError;
use crate::kmeans::Clusters;
use crate::store::read;

/// The topic of a query that has none.
const NONE: u32 = u32::MAX;

/// The topic of every training query. Serialises as it is, for checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Saved")]
pub struct Topics {
    /// By query id; [`NONE`] for queries that are not trained on.
    topic_of_query: Vec<u32>,
    /// Every topic once, neighbours near to one another.
    path: Vec<u32>,
}

/// Which pairs an epoch visits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TopicDraw {
    /// Topics are drawn uniformly with replacement. Each gives `batch / topics` of its queries, drawn uniformly, or all if it has no more,
    /// each with one of its positives, until the batch is full. So a topic of few queries serves each of them more often, and a batch has
    /// queries of more than `topics` topics only where topics are too small (or `topics` does not divide the batch). An epoch has
    /// `pairs / batch` batches, at least one.
    Uniform {
        /// Topics of a batch.
        topics: usize,
    },
    /// Every pair once an epoch: batches of one topic as long as it can fill one; what is left of each topic goes together with what is
    /// left of near ones. Full batches come first, in random order, then those that are short, because pairs clashed or ran out.
    Cover {},
}

impl Default for TopicDraw {
    fn default() -> Self {
        Self::Cover {}
    }
}

/// What batches look like.
#[derive(Debug, Clone, Copy)]
pub struct TopicBatches<'a> {
    /// Queries of a batch.
    pub batch: usize,
    /// How pairs are chosen.
    pub draw: TopicDraw,
    /// The class of each document's text: equal where texts are.
    pub same_text: &'a [u32],
}

impl Topics {
    /// Topics from clusters of rows, row i being query `queries[i]`. Clusters are put on a path from each to the nearest not yet on it,
    /// beginning with the first: the order in which [`TopicDraw::Cover`] puts together what is left.
    ///
    /// # Errors
    /// When there is not one row per query, a query is listed twice, or the centres cannot be read.
    pub fn from_clusters(queries: &[u32], clusters: &Clusters) -> Result<Self, MiningError> {
        let assignment = &clusters.assignment;
        if queries.len() != assignment.len() {
            return Err(MiningError::Count { what: "queries for the clustered rows", got: queries.len(), expected: assignment.len() });
        }
        let dimension = clusters.centres.dims()[1];
        let path = path(&read(clusters.centres.clone(), "reading centres")?, dimension);
        Ok(Self { topic_of_query: by_query(queries.iter().copied().zip(assignment.iter().copied()))?, path })
    }

    /// Topics from a list of queries with the name of each one's group: data sets, languages, sources. Groups are neighbours in the order
    /// of their names.
    ///
    /// # Errors
    /// When a query is listed twice.
    pub fn from_groups<G: Ord>(groups: &[(u32, G)]) -> Result<Self, MiningError> {
        let names: Vec<&G> = groups.iter().map(|(_, name)| name).collect::<BTreeSet<_>>().into_iter().collect();
        let number = |name: &G| names.partition_point(|other| *other < name) as u32;
        let topic_of_query = by_query(groups.iter().map(|(query, name)| (*query, number(name))))?;
        Ok(Self { topic_of_query, path: (0..names.len() as u32).collect() })
    }

    /// Number of topics, those without queries included.
    pub fn len(&self) -> usize {
        self.path.len()
    }

    /// Whether there are no topics.
    pub fn is_empty(&self) -> bool {
        self.path.is_empty()
    }

    /// The topic of a query; `None` for a query that has none.
    pub fn topic(&self, query: u32) -> Option<u32> {
        self.topic_of_query.get(query as usize).copied().filter(|&topic| topic != NONE)
    }

    /// The batches of one epoch over `pairs` of (query, positive document): a function of these arguments alone, the order of `pairs`
    /// included.
    ///
    /// # Errors
    /// When a query has no topic, a document no text class, or a batch could not be filled by its topics.
    pub fn epoch(&self, pairs: &[(u32, u32)], how: &TopicBatches<'_>, seed: u64, epoch: u64) -> Result<Vec<Vec<(u32, u32)>>, MiningError> {
        let &TopicBatches { batch, draw, same_text } = how;
        let topics = if let TopicDraw::Uniform { topics } = draw { topics } else { 1 };
        if topics == 0 || batch < topics {
            return Err(MiningError::TopicSizes { batch, topics });
        }
        // Pairs of each topic, in the order of the path.
        let mut place = vec![0; self.path.len()];
        self.path.iter().enumerate().for_each(|(at, &topic)| place[topic as usize] = at);
        let mut supply = vec![Vec::new(); self.path.len()];
        for &(query, document) in pairs {
            if document as usize >= same_text.len() {
                return Err(MiningError::Beyond { side: "document", id: document, count: same_text.len() });
            }
            let topic = self.topic(query).ok_or(MiningError::NoTopic { query })?;
            supply[place[topic as usize]].push((query, document));
        }
        supply.retain(|pairs| !pairs.is_empty());
        let mut chance = crate::kmeans::keyed(seed, epoch, b"topics  ");
        Ok(match draw {
            TopicDraw::Uniform { topics } => uniform::epoch(&supply, pairs.len(), batch, topics, same_text, &mut chance),
            TopicDraw::Cover {} => cover::epoch(supply, batch, same_text, &mut chance),
        })
    }
}

/// A batch that is being filled.
struct Filling<'a> {
    pairs: Vec<(u32, u32)>,
    queries: HashSet<u32>,
    texts: HashSet<u32>,
    same_text: &'a [u32],
}

impl<'a> Filling<'a> {
    fn new(same_text: &'a [u32]) -> Self {
        Self { pairs: Vec::new(), queries: HashSet::new(), texts: HashSet::new(), same_text }
    }

    /// Takes the pair, unless its query or the text of its document is there already.
    fn take(&mut self, (query, document): (u32, u32)) -> bool {
        let text = self.same_text[document as usize];
        let takes = !self.queries.contains(&query) && !self.texts.contains(&text);
        if takes {
            self.queries.insert(query);
            self.texts.insert(text);
            self.pairs.push((query, document));
        }
        takes
    }
}

fn by_query(topics: impl Iterator<Item = (u32, u32)>) -> Result<Vec<u32>, MiningError> {
    let mut topic_of_query = Vec::new();
    for (query, topic) in topics {
        if topic_of_query.len() <= query as usize {
            topic_of_query.resize(query as usize + 1, NONE);
        }
        if std::mem::replace(&mut topic_of_query[query as usize], topic) != NONE {
            return Err(MiningError::TwoTopics { query });
        }
    }
    Ok(topic_of_query)
}

/// From each centre to the nearest one not yet visited; the lower number of two.
fn path(centres: &[f32], dimension: usize) -> Vec<u32> {
    let mut rest: Vec<(u32, &[f32])> = (0..).zip(centres.chunks_exact(dimension)).collect();
    let mut path = Vec::with_capacity(rest.len());
    let mut next = 0;
    while !rest.is_empty() {
        // In order, so that the first of the nearest has the lowest number.
        let (number, from) = rest.remove(next);
        path.push(number);
        let distance = |to: &[f32]| from.iter().zip(to).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        let gaps = rest.iter().map(|(_, to)| distance(to)).enumerate();
        next = gaps.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(at, _)| at);
    }
    path
}

/// Topics as they were written, before they are known to fit together.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    topic_of_query: Vec<u32>,
    path: Vec<u32>,
}

impl TryFrom<Saved> for Topics {
    type Error = MiningError;

    fn try_from(Saved { topic_of_query, path }: Saved) -> Result<Self, MiningError> {
        let faulty = |problem: String| Err(MiningError::State { problem });
        let mut sorted = path.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..path.len() as u32) {
            return faulty("the path of the topics does not hold every topic once".into());
        }
        match topic_of_query.iter().position(|&topic| topic != NONE && topic as usize >= path.len()) {
            Some(query) => faulty(format!("query {query} has topic {}, and there are {} topics", topic_of_query[query], path.len())),
            None => Ok(Self { topic_of_query, path }),
        }
    }
}

#[cfg(test)]
mod tests;
