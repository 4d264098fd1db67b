//! What the built-in collection promises: structure, determinism, and that it is hard for BM25 and learnable from `train`.

use std::{collections::BTreeSet, sync::OnceLock};

use sha2::{Digest, Sha256};

use super::*;

/// Sha256 of the content, as [`digest`] walks it.
const DIGEST: &str = "ede41ce0e1316fc448a97942b49d865cd24d32cd687c58e81eed2ff7508fbfcf";

/// Texts as lists of word numbers, the same over documents and queries.
struct Words {
    numbers: BTreeMap<String, usize>,
    documents: Vec<Vec<usize>>,
    queries: Vec<Vec<usize>>,
}

impl Words {
    fn of(collection: &Collection) -> Self {
        let mut numbers = BTreeMap::new();
        let mut split = |records: &Records| -> Vec<Vec<usize>> {
            records
                .texts()
                .iter()
                .map(|text| {
                    text.to_lowercase()
                        .split(|c: char| !c.is_alphanumeric())
                        .filter(|word| !word.is_empty())
                        .map(|word| {
                            let next = numbers.len();
                            *numbers.entry(word.to_owned()).or_insert(next)
                        })
                        .collect()
                })
                .collect()
        };
        let documents = split(&collection.documents);
        let queries = split(&collection.queries);
        Self { numbers, documents, queries }
    }

    /// Number of documents that hold each word.
    fn frequencies(&self) -> Vec<f64> {
        let mut frequencies = vec![0.0; self.numbers.len()];
        for document in &self.documents {
            for &word in &document.iter().copied().collect::<BTreeSet<_>>() {
                frequencies[word] += 1.0;
            }
        }
        frequencies
    }
}

/// nDCG@10 with binary grades over the first `limit` queries of a split, ties by document number.
fn ndcg(judgments: &Judgments, limit: usize, score: impl Fn(u32) -> Vec<f64>) -> f64 {
    let discount = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
    let (mut sum, mut count) = (0.0, 0_u32);
    for query in judgments.queries().take(limit) {
        let scores = score(query);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        let gain: f64 = (0..10).filter(|&rank| judgments.is_positive(query, order[rank] as u32)).map(discount).sum();
        let ideal: f64 = (0..judgments.positives(query).count().min(10)).map(discount).sum();
        sum += gain / ideal;
        count += 1;
    }
    sum / f64::from(count)
}

/// BM25 as Lucene counts it, k1 0.9, b 0.4.
fn bm25(words: &Words) -> impl Fn(u32) -> Vec<f64> {
    let total = words.documents.len() as f64;
    let mean = words.documents.iter().map(Vec::len).sum::<usize>() as f64 / total;
    let frequencies = words.frequencies();
    move |query| {
        let asked = &words.queries[query as usize];
        let score = |document: &Vec<usize>| {
            asked
                .iter()
                .map(|word| {
                    let tf = document.iter().filter(|held| *held == word).count() as f64;
                    let idf = (1.0 + (total - frequencies[*word] + 0.5) / (frequencies[*word] + 0.5)).ln();
                    idf * tf / (tf + 0.9 * (0.6 + 0.4 * document.len() as f64 / mean))
                })
                .sum()
        };
        words.documents.iter().map(score).collect()
    }
}

/// IBM model 1 (Brown et al. 1993) from the training pairs: the probability that a document word is asked for by a query word.
fn translation(words: &Words, train: &Judgments) -> impl Fn(u32) -> Vec<f64> {
    let size = words.numbers.len();
    let pairs = train.pairs();
    let mut table = vec![1.0f32; size * size];
    for _ in 0..8 {
        let mut counts = vec![0.0f32; size * size];
        for &(query, document) in &pairs {
            let document = &words.documents[document as usize];
            for &asked in &words.queries[query as usize] {
                let sum: f32 = document.iter().map(|held| table[held * size + asked]).sum();
                for held in document {
                    counts[held * size + asked] += table[held * size + asked] / sum;
                }
            }
        }
        for (row, counts) in table.chunks_exact_mut(size).zip(counts.chunks_exact(size)) {
            let total: f32 = counts.iter().sum::<f32>() + 0.5;
            for (cell, count) in row.iter_mut().zip(counts) {
                *cell = count / total;
            }
        }
    }
    let total: f64 = words.documents.iter().map(Vec::len).sum::<usize>() as f64;
    let mut background = vec![0.0; size];
    for word in words.queries.iter().chain(&words.documents).flatten() {
        background[*word] += 1.0 / total;
    }
    move |query| {
        let mut scores = vec![0.0; words.documents.len()];
        for &asked in &words.queries[query as usize] {
            // Names are never seen in training: a word also stands for itself.
            let column: Vec<f64> =
                (0..size).map(|held| f64::from(table[held * size + asked]) + if held == asked { 0.3 } else { 0.0 }).collect();
            for (score, document) in scores.iter_mut().zip(&words.documents) {
                let translated: f64 = document.iter().map(|&held| column[held]).sum();
                *score += (0.9 * translated / document.len() as f64 + 0.1 * background[asked]).ln();
            }
        }
        scores
    }
}

fn demo() -> &'static Collection {
    static DEMO: OnceLock<Collection> = OnceLock::new();
    DEMO.get_or_init(generate)
}

fn digest(collection: &Collection) -> String {
    let mut digest = Sha256::new();
    for records in [&collection.documents, &collection.queries] {
        for index in 0..records.len() as u32 {
            digest.update(format!("{}\t{}\n", records.id(index), records.text(index)));
        }
    }
    for judgments in collection.splits.values().chain(&collection.truth) {
        digest.update(format!("{:?}\n", judgments.pairs()));
    }
    crate::tokenizer::hex(&digest.finalize())
}

#[test]
fn content_is_the_same_every_time_and_everywhere() {
    assert_eq!(digest(&generate()), digest(demo()));
    assert_eq!(generate().fingerprint(), demo().fingerprint());
    // Published figures hold for this content only: whoever changes it measures them again.
    assert_eq!(digest(demo()), DIGEST);
}

#[test]
fn sizes_are_as_documented() {
    let demo = demo();
    assert!((5800..6200).contains(&demo.documents.len()), "{} documents", demo.documents.len());
    let counts: Vec<(&str, usize)> = demo.splits.iter().map(|(name, split)| (name.as_str(), split.queries().count())).collect();
    assert_eq!(counts, [("dev", HELD_OUT_QUERIES), ("test", HELD_OUT_QUERIES), ("train", TRAIN_QUERIES)]);
    assert_eq!(demo.queries.len(), TRAIN_QUERIES + 2 * HELD_OUT_QUERIES);
    let words = Words::of(demo).numbers.len();
    assert!(words < 6000, "{words} words");
}

#[test]
fn texts_are_distinct_and_filled_in() {
    let demo = demo();
    let mut texts = BTreeSet::new();
    for text in demo.documents.texts().iter().chain(demo.queries.texts().iter()) {
        assert!(texts.insert(text), "twice: {text}");
        assert!(!text.contains(['{', '}', '|']) && !text.contains("  "), "{text}");
    }
}

#[test]
fn every_judgment_is_true_and_only_train_lacks_some() {
    let demo = demo();
    let truth = demo.truth.as_ref().expect("the truth is known");
    assert_eq!(truth.queries().count(), demo.queries.len());
    let (mut queries, mut pairs) = (0, 0);
    for (name, split) in &demo.splits {
        for query in split.queries() {
            let (judged, relevant) = (split.judged(query), truth.judged(query));
            assert!(relevant.iter().all(|&(document, _)| (document as usize) < demo.documents.len()));
            if name == "train" {
                assert_eq!(judged.len(), 1);
                assert!(relevant.contains(&judged[0]));
                queries += usize::from(relevant.len() > 1);
                pairs += relevant.len() - 1;
            } else {
                assert_eq!(judged, relevant);
            }
        }
    }
    assert_eq!((queries, pairs), (UNLABELLED_QUERIES, UNLABELLED_PAIRS));
    assert!((0.33..0.37).contains(&(queries as f64 / TRAIN_QUERIES as f64)));
}

#[test]
fn held_out_documents_answer_no_training_query() {
    let demo = demo();
    let truth = demo.truth.as_ref().expect("the truth is known");
    let of = |split: &str| -> BTreeSet<u32> { demo.splits[split].queries().flat_map(|query| truth.positives(query)).collect() };
    let (train, dev, test) = (of("train"), of("dev"), of("test"));
    assert!(train.is_disjoint(&dev) && train.is_disjoint(&test) && dev.is_disjoint(&test));
}

#[test]
fn facts_of_a_query_single_out_its_entity() {
    let mut dice = Dice::new(1);
    let world = World::new(&mut dice);
    let mut found = 0;
    for (number, entity) in world.entities.iter().enumerate() {
        let Some(facts) = identifying(&world, entity, &mut dice) else { continue };
        found += 1;
        assert!((2..=4).contains(&facts.len()));
        for (other, rival) in world.entities.iter().enumerate() {
            let holds = rival.kind == entity.kind && facts.iter().all(|&fact| world.alike(entity, rival, fact));
            assert_eq!(holds, other == number, "{} and {}", entity.name, rival.name);
        }
    }
    assert!(found * 100 > world.entities.len() * 95, "{found} of {} can be asked for", world.entities.len());
}

#[test]
fn families_differ_in_one_fact() {
    let world = World::new(&mut Dice::new(1));
    let close =
        |one: &Entity, other: &Entity| one.kind == other.kind && (0..FACTS).filter(|&f| one.facts[f] != other.facts[f]).count() == 1;
    let near = world.entities.iter().filter(|one| world.of_kind(one.kind).iter().any(|other| close(one, other))).count();
    assert!(near * 100 > world.entities.len() * 80, "{near} of {} have a near-duplicate", world.entities.len());
}

#[test]
fn wordings_of_a_value_share_no_word_and_stand_for_it_alone() {
    const SMALL: [&str; 24] = [
        "a", "an", "the", "of", "in", "on", "at", "to", "by", "for", "with", "and", "or", "under", "from", "is", "into", "up", "that",
        "who", "no", "being", "what", "abroad",
    ];
    for fact in KINDS.iter().flat_map(|kind| &kind.facts) {
        let Filler::Value(table) = fact.filler else { continue };
        let mut alternatives = BTreeSet::new();
        for (documents, queries) in table {
            for alternative in documents.split('|').chain(queries.split('|')) {
                assert!(alternatives.insert(alternative), "`{alternative}` says two values");
            }
            let words = |side: &'static str| -> BTreeSet<&str> { side.split(['|', ' ']).filter(|word| !SMALL.contains(word)).collect() };
            let (told, asked) = (words(documents), words(queries));
            assert!(told.is_disjoint(&asked), "shared: {:?}", told.intersection(&asked).collect::<Vec<_>>());
        }
    }
}

#[test]
fn matching_words_finds_little_and_a_learned_mapping_much() {
    let demo = demo();
    let words = Words::of(demo);
    let lexical = ndcg(&demo.splits["test"], usize::MAX, bm25(&words));
    assert!((0.15..0.30).contains(&lexical), "BM25 {lexical:.4}");
    let learned = ndcg(&demo.splits["test"], 200, translation(&words, &demo.splits["train"]));
    assert!(learned > 0.8, "translation {learned:.4}");
}
