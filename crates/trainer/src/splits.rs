//! Which queries a run is measured on: the splits that came with the collection, or training queries that are held out where none did.

use corpus::{Collection, Judgments, QueryCounts};
use sha2::{Digest, Sha256};

use crate::config::DataConfig;
use crate::data;
use crate::errors::{OrUsage, Usage};

/// Most queries that are held out for one split: beyond that, figures hardly become surer.
const MOST: usize = 1000;

/// The split that the run is measured on at the start and at the end: `data.test`, else `data.evaluate`.
pub(crate) fn test_name<'a>(collection: &Collection, config: &'a DataConfig) -> &'a str {
    if collection.find_split(&config.test).is_some() { &config.test } else { &config.evaluate }
}

/// Makes a collection what a run reads: splits settled, written queries entered. Queries are held out from the collection's own, so that they are
/// the same with written ones and without; only where it has none of its own from those.
///
/// # Errors
/// When the file of queries does not fit the collection, or there is nothing to measure on.
pub(crate) fn enter(collection: &mut Collection, config: &DataConfig) -> Result<Entered, Usage> {
    let own = collection.find_split(&config.train).is_some();
    let mut note = if own { settle(collection, config)? } else { None };
    let fingerprint = config.queries.as_ref().map(|_| collection.fingerprint());
    let queries = data::add_queries(collection, config)?;
    if !own {
        collection.split(&config.train).or_usage()?;
        note = settle(collection, config)?;
    }
    Ok(Entered { queries, fingerprint, note })
}

/// What [`enter`] did.
pub(crate) struct Entered {
    pub(crate) queries: Option<QueryCounts>,
    /// Of the collection without the written queries, where there are some.
    pub(crate) fingerprint: Option<String>,
    /// What to tell people about the splits.
    pub(crate) note: Option<String>,
}

/// Makes sure that there is a split to measure on, and that those there are can be measured on. Where the collection has none, a share of
/// the training queries becomes one: half for `data.evaluate`, half for `data.test`, chosen by a hash of their texts, so that they are the
/// same for every seed, in whatever order they come, and for who opens the collection later. Returns what to tell people about that.
///
/// # Errors
/// When a split that was asked for by name is missing, has no relevant document, or none can be made.
pub(crate) fn settle(collection: &mut Collection, config: &DataConfig) -> Result<Option<String>, Usage> {
    let usual = DataConfig::default();
    for (asked, usual) in [(&config.test, &usual.test), (&config.evaluate, &usual.evaluate)] {
        if Collection::split_name(asked) != usual || collection.find_split(asked).is_some() {
            collection.relevant_split(asked).or_usage()?;
        }
    }
    if [&config.test, &config.evaluate].iter().any(|name| collection.find_split(name).is_some()) {
        return Ok(None);
    }
    hold_out(collection, config).map(Some)
}

fn hold_out(collection: &mut Collection, config: &DataConfig) -> Result<String, Usage> {
    let name = collection.name.clone();
    let judgments = collection.split(&config.train).or_usage()?.clone();
    let queries = collection.queries.len();
    if config.hold_out == 0.0 {
        return Err(Usage::new(format!(
            "{name} has neither a split `{}` nor `{}` to measure on, and data.hold_out = 0 keeps no training query for it; set data.hold_out = 0.1, or \
             data.test = \"{}\" to measure on what is trained on",
            config.test, config.evaluate, config.train
        )));
    }
    let mut trained: Vec<u32> = judgments.queries().filter(|&query| judgments.positives(query).next().is_some()).collect();
    let each = ((trained.len() as f64 * config.hold_out / 2.0).round() as usize).clamp(1, MOST);
    if trained.len() < 3 {
        return Err(Usage::new(format!(
            "{name} has neither a split `{}` nor `{}` to measure on, and with {} training queries there are too few to hold some out; add a split, or \
             set data.test = \"{}\" to measure on what is trained on",
            config.test,
            config.evaluate,
            trained.len(),
            config.train
        )));
    }
    trained.sort_by_cached_key(|&query| {
        (<[u8; 32]>::from(Sha256::digest(collection.queries.text(query).as_bytes())), collection.queries.id(query).to_owned())
    });
    let (test, rest) = trained.split_at(each);
    let evaluate = &rest[..each.min(rest.len() - 1)];
    let of = |chosen: &[u32]| {
        let mut chosen = chosen.to_vec();
        chosen.sort_unstable();
        let rows = judgments.iter().filter(|(query, _, _)| chosen.binary_search(query).is_ok()).collect();
        Judgments::from_pairs(queries, rows)
    };
    let (test, evaluate, rest) = (of(test), of(evaluate), of(&rest[evaluate.len()..]));
    let held_out = test.queries().chain(evaluate.queries()).count();
    for (name, judgments) in [(&config.test, test), (&config.evaluate, evaluate), (&config.train, rest)] {
        collection.splits.insert(name.clone(), judgments);
    }
    Ok(format!(
        "{name} has neither a split `{}` nor `{}`: {held_out} training queries are held out and measured on instead (data.hold_out = {})",
        config.test, config.evaluate, config.hold_out
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn collection(queries: u32, reversed: bool) -> Collection {
        let mut collection = Collection::default();
        let mut numbers: Vec<u32> = (0..queries).collect();
        if reversed {
            numbers.reverse();
        }
        for number in numbers {
            collection.queries.push(&format!("q{number}"), &format!("text {number}")).unwrap();
        }
        collection.documents.push("d", "text").unwrap();
        let judged = (0..queries).map(|query| (query, 0, 1)).collect();
        collection.splits.insert("train".into(), Judgments::from_pairs(queries as usize, judged));
        collection
    }

    fn ids(collection: &Collection, split: &str) -> BTreeSet<String> {
        collection.splits[split].queries().map(|query| collection.queries.id(query).to_owned()).collect()
    }

    #[test]
    fn the_same_queries_are_held_out_in_whatever_order_they_came_and_none_is_lost() {
        let (mut one, mut other) = (collection(200, false), collection(200, true));
        for collection in [&mut one, &mut other] {
            assert!(settle(collection, &DataConfig::default()).unwrap().is_some_and(|note| note.contains("20 training queries")));
        }
        let splits = ["test", "dev", "train"].map(|split| ids(&one, split));
        assert_eq!(splits.each_ref().map(BTreeSet::len), [10, 10, 180]);
        assert_eq!(splits, ["test", "dev", "train"].map(|split| ids(&other, split)));
        assert_eq!(splits.into_iter().flatten().collect::<BTreeSet<_>>().len(), 200);
    }

    #[test]
    fn another_name_of_dev_asks_for_no_split_that_has_to_be_there() {
        let config = DataConfig { evaluate: "valid".into(), ..DataConfig::default() };
        let mut collection = collection(200, false);
        assert!(settle(&mut collection, &config).unwrap().is_some());
        assert!(["test", "valid"].iter().all(|name| collection.relevant_split(name).is_ok()));
    }

    #[test]
    fn a_collection_with_a_split_keeps_its_training_queries() {
        for split in ["dev", "test"] {
            let mut collection = collection(50, false);
            collection.splits.insert(split.into(), Judgments::from_pairs(50, vec![(0, 0, 1)]));
            assert_eq!(settle(&mut collection, &DataConfig::default()).unwrap(), None);
            assert_eq!((collection.splits.len(), ids(&collection, "train").len()), (2, 50));
        }
    }

    #[test]
    fn what_cannot_be_measured_on_is_refused() {
        let config = DataConfig::default;
        let mut without_relevant = collection(50, false);
        without_relevant.splits.insert("test".into(), Judgments::from_pairs(50, vec![(0, 0, 0)]));
        for (mut collection, config, part) in [
            (without_relevant, config(), "`test` of"),
            (collection(50, false), DataConfig { test: "exam".into(), ..config() }, "no split `exam`"),
            (collection(50, false), DataConfig { hold_out: 0.0, ..config() }, "data.hold_out"),
            (collection(2, false), config(), "too few"),
        ] {
            let error = settle(&mut collection, &config).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
