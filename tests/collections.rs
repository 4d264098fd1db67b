//! A small collection with a real pattern: each document names a colour and an animal, each query says the same in other words.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const COLOURS: [(&str, &str); 6] =
    [("red", "crimson"), ("blue", "azure"), ("green", "emerald"), ("yellow", "golden"), ("black", "ebony"), ("white", "ivory")];
const ANIMALS: [(&str, &str); 6] =
    [("dog", "hound"), ("cat", "feline"), ("horse", "steed"), ("bird", "fowl"), ("snake", "serpent"), ("wolf", "lupine")];
const PLACES: [&str; 4] = ["north", "south", "east", "west"];

/// Writes a BEIR folder: 144 documents, one query each, three splits.
pub(crate) fn animals(folder: &Path) {
    let (mut corpus, mut queries) = (String::new(), String::new());
    let mut splits = [("train", String::new()), ("dev", String::new()), ("test", String::new())];
    for (_, rows) in &mut splits {
        rows.push_str("query-id\tcorpus-id\tscore\n");
    }
    let mut number = 0;
    for place in PLACES {
        for (colour, other_colour) in COLOURS {
            for (animal, other_animal) in ANIMALS {
                writeln!(corpus, r#"{{"_id": "d{number}", "title": "", "text": "a {colour} {animal} living in the {place}"}}"#).unwrap();
                writeln!(queries, r#"{{"_id": "q{number}", "text": "where in the {place} is the {other_colour} {other_animal}"}}"#)
                    .unwrap();
                // Every colour and every animal stands in every split, in other pairs.
                let split = match (number * 7 + number / 6) % 6 {
                    0 => 1,
                    1 => 2,
                    _ => 0,
                };
                writeln!(splits[split].1, "q{number}\td{number}\t1").unwrap();
                number += 1;
            }
        }
    }
    fs::create_dir_all(folder.join("qrels")).unwrap();
    fs::write(folder.join("corpus.jsonl"), corpus).unwrap();
    fs::write(folder.join("queries.jsonl"), queries).unwrap();
    for (name, rows) in splits {
        fs::write(folder.join("qrels").join(format!("{name}.tsv")), rows).unwrap();
    }
}

/// What a language model might have written for [`animals`], into the folder above `data`: `queries.jsonl` and `generated.jsonl`.
pub(crate) fn written_for_animals(folder: &Path) {
    let (mut queries, mut generated) = (String::new(), String::new());
    for number in 0..144 {
        let [(colour, other_colour), (animal, _)] = [COLOURS[number / 6 % 6], ANIMALS[number % 6]];
        let other = (number + 1) % 144;
        writeln!(
            queries,
            r#"{{"_id": "w{number}", "text": "{other_colour} {animal}", "positive": ["d{number}"], "negatives": ["d{other}"], "logprob": -0.{number}}}"#
        )
        .unwrap();
        writeln!(generated, r#"{{"qid": "q{number}", "neg_synth": [{{"text": "no {colour} {animal} at all, number {number}"}}]}}"#)
            .unwrap();
    }
    fs::write(folder.join("queries.jsonl"), queries).unwrap();
    fs::write(folder.join("generated.jsonl"), generated).unwrap();
}

/// Flags of a short training run on [`animals`] in the folder `data`.
pub(crate) const SHORT_RUN: [&str; 10] = [
    "--data",
    "data",
    "--device",
    "cpu",
    "--set",
    "batch.queries=16",
    "--set",
    "train.steps=40",
    "--set",
    "negatives.source.1.refresh=\"every 10 steps\"",
];
