//! Which pairs go together: how often, how mixed, and that none is lost.

use burn::tensor::Device;
use proptest::prelude::*;
use rand::RngExt;

use super::{TopicBatches, TopicDraw, Topics};
use crate::MiningError;
use crate::kmeans::{Clusters, keyed};
use crate::tests::tensor;

const COVER: TopicDraw = TopicDraw::Cover {};

fn uniform(topics: usize) -> TopicDraw {
    TopicDraw::Uniform { topics }
}

/// `sizes[t]` queries in topic t, numbered on; query i has document i.
fn world(sizes: &[usize]) -> (Topics, Vec<(u32, u32)>, Vec<u32>) {
    let groups: Vec<(u32, usize)> = (0..).zip(sizes.iter().enumerate().flat_map(|(topic, &size)| vec![topic; size])).collect();
    let pairs: Vec<(u32, u32)> = groups.iter().map(|&(query, _)| (query, query)).collect();
    let texts = (0..pairs.len() as u32).collect();
    (Topics::from_groups(&groups).unwrap(), pairs, texts)
}

fn topics_of(topics: &Topics, batch: &[(u32, u32)]) -> usize {
    let mut found: Vec<u32> = batch.iter().map(|&(query, _)| topics.topic(query).unwrap()).collect();
    found.sort_unstable();
    found.dedup();
    found.len()
}

/// Pearson's statistic of counts that should be equal, and a value that it exceeds in about one of 10,000 cases (Wilson and Hilferty 1931).
fn unevenness(counts: &[f64]) -> (f64, f64) {
    let expected = counts.iter().sum::<f64>() / counts.len() as f64;
    let free = counts.len() as f64 - 1.0;
    let spread = 2.0 / (9.0 * free);
    (counts.iter().map(|count| (count - expected).powi(2) / expected).sum(), free * (1.0 - spread + 3.72 * spread.sqrt()).powi(3))
}

#[test]
fn one_topic_draws_uniformly_over_all_queries() {
    let (topics, pairs, same_text) = world(&[60]);
    let how = TopicBatches { batch: 4, draw: uniform(1), same_text: &same_text };
    let mut counts = vec![0.0; 60];
    let mut together = vec![0.0; 60 * 60];
    for epoch in 0..400 {
        for batch in topics.epoch(&pairs, &how, 3, epoch).unwrap() {
            assert_eq!(batch.len(), 4);
            for &(query, document) in &batch {
                assert_eq!(query, document);
                counts[query as usize] += 1.0;
                batch.iter().filter(|other| other.0 > query).for_each(|other| together[(query * 60 + other.0) as usize] += 1.0);
            }
        }
    }
    assert_eq!(counts.iter().sum::<f64>(), 400.0 * 60.0);
    // Without replacement the counts vary less than Pearson's statistic expects, by the factor (60 - 4) / (60 - 1).
    let (statistic, limit) = unevenness(&counts);
    assert!(statistic / (56.0 / 59.0) < limit, "{statistic} {limit}");
    let met: Vec<f64> = (0..60).flat_map(|a| (a + 1..60).map(move |b| a * 60 + b)).map(|pair| together[pair]).collect();
    let (statistic, limit) = unevenness(&met);
    assert!(statistic < limit, "{statistic} {limit}");
    // And the test can fail: half the queries a tenth more often is too uneven.
    let tilted: Vec<f64> = counts.iter().enumerate().map(|(query, count)| count * if query < 30 { 1.1 } else { 1.0 }).collect();
    let (statistic, limit) = unevenness(&tilted);
    assert!(statistic > limit, "{statistic} {limit}");
}

#[test]
fn topics_are_drawn_uniformly_whatever_their_size() {
    let (topics, pairs, same_text) = world(&[10, 100, 30, 20, 60]);
    let how = TopicBatches { batch: 5, draw: uniform(1), same_text: &same_text };
    let mut counts = vec![0.0; 5];
    for epoch in 0..100 {
        for batch in topics.epoch(&pairs, &how, 8, epoch).unwrap() {
            assert_eq!((batch.len(), topics_of(&topics, &batch)), (5, 1));
            counts[topics.topic(batch[0].0).unwrap() as usize] += 1.0;
        }
    }
    let (statistic, limit) = unevenness(&counts);
    assert!(statistic < limit, "{counts:?}");
}

#[test]
fn a_batch_has_queries_of_so_many_topics_at_most() {
    let (topics, pairs, same_text) = world(&[40, 50, 60, 70, 80]);
    for (batch, most) in [(8, 1), (8, 2), (12, 3), (8, 8)] {
        let how = TopicBatches { batch, draw: uniform(most), same_text: &same_text };
        let mut mixed = 0;
        for (epoch, batches) in (0..20).map(|epoch| (epoch, topics.epoch(&pairs, &how, 1, epoch).unwrap())) {
            assert_eq!(batches.len(), 300 / batch, "epoch {epoch}");
            for found in &batches {
                assert_eq!(found.len(), batch);
                assert!(topics_of(&topics, found) <= most);
                mixed += usize::from(topics_of(&topics, found) > 1);
            }
        }
        assert_eq!(mixed > 0, most > 1);
    }
    // The whole of a topic that is smaller than its share, then another one.
    let (topics, pairs, same_text) = world(&[2, 2, 2, 2]);
    let how = TopicBatches { batch: 6, draw: uniform(1), same_text: &same_text };
    let found = &topics.epoch(&pairs, &how, 1, 0).unwrap()[0];
    assert_eq!((found.len(), topics_of(&topics, found)), (6, 3));
    // And all there is, where that is less than a batch.
    let how = TopicBatches { batch: 50, draw: uniform(1), same_text: &same_text };
    let mut found = topics.epoch(&pairs, &how, 1, 0).unwrap().concat();
    found.sort_unstable();
    assert_eq!(found, pairs);
}

#[test]
fn a_query_with_several_positives_comes_with_each_of_them_equally_often() {
    let topics = Topics::from_groups(&[(0, "a"), (1, "a")]).unwrap();
    let pairs = [(0, 0), (0, 1), (0, 2), (1, 3)];
    let how = TopicBatches { batch: 1, draw: uniform(1), same_text: &[0, 1, 2, 3] };
    let mut counts = vec![0.0; 4];
    for epoch in 0..1500 {
        topics.epoch(&pairs, &how, 4, epoch).unwrap().concat().iter().for_each(|pair| counts[pair.1 as usize] += 1.0);
    }
    let (statistic, limit) = unevenness(&counts[..3]);
    assert!(statistic < limit, "{counts:?}");
    let (statistic, limit) = unevenness(&[counts[..3].iter().sum(), counts[3]]);
    assert!(statistic < limit, "{counts:?}");
}

#[test]
fn leftovers_go_with_near_topics() {
    // On a line the topics lie as 0, 2, 4, 1, 3.
    let centres = tensor(vec![0.0, 30.0, 10.0, 40.0, 20.0], 1, &Device::flex());
    let assignment: Vec<u32> = [0, 1, 2, 3, 4].into_iter().flat_map(|topic| [topic; 7]).collect();
    let queries: Vec<u32> = (0..35).collect();
    let topics = Topics::from_clusters(&queries, &Clusters { centres, assignment, moved: 0 }).unwrap();
    assert_eq!(topics.path, [0, 2, 4, 1, 3]);
    let pairs: Vec<(u32, u32)> = queries.iter().map(|&query| (query, query)).collect();
    let how = TopicBatches { batch: 5, draw: COVER, same_text: &queries };
    for epoch in 0..30 {
        let batches = topics.epoch(&pairs, &how, 1, epoch).unwrap();
        let pure = batches.iter().filter(|batch| topics_of(&topics, batch) == 1).count();
        assert_eq!((batches.len(), pure), (7, 5), "five of five each, then ten pairs left");
        for batch in batches {
            // 2 + 2 + 1 of topics in a row on the path, which is a ring here.
            let mut places: Vec<usize> =
                batch.iter().map(|pair| topics.path.iter().position(|&topic| Some(topic) == topics.topic(pair.0)).unwrap()).collect();
            places.sort_unstable();
            places.dedup();
            let row = |begin: usize| (0..places.len()).all(|step| places.contains(&((begin + step) % 5)));
            assert!((0..5).any(row), "{places:?}");
        }
    }
}

#[test]
fn the_order_of_batches_is_random_and_full_ones_come_first() {
    let (topics, pairs, same_text) = world(&[10, 10, 10, 3]);
    let how = TopicBatches { batch: 5, draw: COVER, same_text: &same_text };
    let mut firsts = Vec::new();
    for epoch in 0..40 {
        let batches = topics.epoch(&pairs, &how, 1, epoch).unwrap();
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [5, 5, 5, 5, 5, 5, 3]);
        firsts.push(topics.topic(batches[0][0].0).unwrap());
    }
    for topic in 0..3 {
        assert!(firsts.contains(&topic), "{firsts:?}");
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (topics, pairs, same_text) = world(&[3, 3]);
    let ask = |batch, draw, pairs: &[(u32, u32)]| {
        topics.epoch(pairs, &TopicBatches { batch, draw, same_text: &same_text }, 1, 0).map(|batches| batches.len())
    };
    assert!(matches!(ask(4, uniform(0), &pairs), Err(MiningError::TopicSizes { batch: 4, topics: 0 })));
    assert!(matches!(ask(4, uniform(5), &pairs), Err(MiningError::TopicSizes { batch: 4, topics: 5 })));
    assert!(matches!(ask(0, COVER, &pairs), Err(MiningError::TopicSizes { batch: 0, .. })));
    assert!(matches!(ask(2, COVER, &[(6, 0)]), Err(MiningError::NoTopic { query: 6 })));
    assert!(matches!(ask(2, COVER, &[(0, 6)]), Err(MiningError::Beyond { id: 6, count: 6, .. })));
    assert!(matches!(ask(2, COVER, &[]), Ok(0)));
    assert!(matches!(ask(2, uniform(1), &[]), Ok(0)));
    assert!(matches!(Topics::from_groups(&[(4, 'a'), (5, 'a'), (4, 'b')]), Err(MiningError::TwoTopics { query: 4 })));
    let clusters = Clusters { centres: tensor(vec![0.0], 1, &Device::flex()), assignment: vec![0, 0], moved: 0 };
    assert!(matches!(Topics::from_clusters(&[1], &clusters), Err(MiningError::Count { got: 1, expected: 2, .. })));
    assert_eq!(Topics::from_clusters(&[7, 3], &clusters).unwrap().topic(3), Some(0));
    assert_eq!(Topics::from_clusters(&[7, 3], &clusters).unwrap().topic(5), None);
}

#[test]
fn topics_are_saved_and_checked_when_read() {
    let topics = Topics::from_groups(&[(2, "nq"), (0, "fever"), (5, "nq")]).unwrap();
    let saved = serde_json::to_string(&topics).unwrap();
    assert_eq!(serde_json::from_str::<Topics>(&saved).unwrap(), topics);
    assert_eq!([0, 1, 2, 5, 9].map(|query| topics.topic(query)), [Some(0), None, Some(1), Some(1), None]);
    for (broken, told) in [
        (r#"{"topic_of_query":[0,2],"path":[0,1]}"#, "query 1 has topic 2"),
        (r#"{"topic_of_query":[0],"path":[1,1]}"#, "every topic once"),
        (r#"{"topic_of_query":[0],"path":[0],"more":1}"#, "unknown field"),
    ] {
        let error = serde_json::from_str::<Topics>(broken).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
    let draw: TopicDraw = toml::from_str("rule = \"uniform\"\ntopics = 2").unwrap();
    assert_eq!(draw, uniform(2));
    assert!(toml::from_str::<TopicDraw>("rule = \"cover\"\ntopics = 2").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_batch_repeats_a_query_or_a_text_and_cover_loses_no_pair(
        pairs in prop::collection::btree_set((0_u32..12, 0_u32..20), 0..60), topics in 1_u32..5,
        per_batch in 1_usize..3, batch in 2_usize..8, classes in 1_u32..20, seed in 0_u64..1000, epoch in 0_u64..5,
    ) {
        let pairs: Vec<(u32, u32)> = pairs.into_iter().collect();
        let mut chance = keyed(seed, 0, b"testdata");
        let groups: Vec<(u32, u32)> = (0..12).map(|query| (query, chance.random_range(0..topics))).collect();
        let same_text: Vec<u32> = (0..20).map(|document| document % classes).collect();
        let topics = Topics::from_groups(&groups).unwrap();
        for draw in [COVER, uniform(per_batch)] {
            let how = TopicBatches { batch, draw, same_text: &same_text };
            let batches = topics.epoch(&pairs, &how, seed, epoch).unwrap();
            for batch in &batches {
                prop_assert!(!batch.is_empty());
                for (place, pair) in batch.iter().enumerate() {
                    prop_assert!(pairs.contains(pair));
                    for other in &batch[..place] {
                        prop_assert!(pair.0 != other.0 && same_text[pair.1 as usize] != same_text[other.1 as usize]);
                    }
                }
            }
            prop_assert_eq!(&topics.epoch(&pairs, &how, seed, epoch).unwrap(), &batches);
            match draw {
                COVER => {
                    let mut all = batches.concat();
                    all.sort_unstable();
                    prop_assert_eq!(&all, &pairs);
                    prop_assert!(batches.iter().all(|it| it.len() <= batch));
                }
                TopicDraw::Uniform { .. } if !pairs.is_empty() => prop_assert_eq!(batches.len(), (pairs.len() / batch).max(1)),
                TopicDraw::Uniform { .. } => prop_assert!(batches.is_empty()),
            }
        }
    }

    #[test]
    fn seed_and_epoch_change_the_batches(seed in 0_u64..1000, epoch in 0_u64..1000) {
        let (topics, pairs, same_text) = world(&[30, 30]);
        for draw in [COVER, uniform(1)] {
            let how = TopicBatches { batch: 5, draw, same_text: &same_text };
            let batches = |seed, epoch| topics.epoch(&pairs, &how, seed, epoch).unwrap();
            prop_assert_ne!(batches(seed, epoch), batches(seed, epoch + 1));
            prop_assert_ne!(batches(seed, epoch), batches(seed + 1, epoch));
        }
    }
}
