//! A small collection with a real pattern: each document names a colour and an animal, each query says the same in other words.

use std::collections::HashSet;
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

/// [`animals`] with everything that must not become a negative: copies of documents, some of them judged as well, documents with the text of a query, and
/// documents that are judged as not relevant.
pub(crate) fn animals_with_copies(folder: &Path) {
    animals(folder);
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let (mut corpus, queries, mut train) = (read("corpus.jsonl"), read("queries.jsonl"), read("qrels/train.tsv"));
    let documents: Vec<String> = corpus.lines().map(str::to_owned).collect();
    let trained: HashSet<String> = train.lines().skip(1).map(|row| row.split('\t').next().unwrap().to_owned()).collect();
    for (number, (document, query)) in documents.iter().zip(queries.lines()).enumerate() {
        if number % 3 == 0 {
            writeln!(corpus, "{}", document.replacen(&format!("\"d{number}\""), &format!("\"c{number}\""), 1)).unwrap();
        }
        // Of a few, since they stand before every relevant document.
        if number % 16 == 1 && trained.contains(&format!("q{number}")) {
            writeln!(corpus, "{}", query.replacen(&format!("\"q{number}\""), &format!("\"t{number}\""), 1)).unwrap();
        }
        if trained.contains(&format!("q{number}")) {
            let other = (number + 1) % 144;
            writeln!(train, "q{number}\td{other}\t0").unwrap();
            if number % 12 == 0 {
                writeln!(train, "q{number}\tc{number}\t1").unwrap();
            }
        }
    }
    fs::write(folder.join("corpus.jsonl"), corpus).unwrap();
    fs::write(folder.join("qrels/train.tsv"), train).unwrap();
}

/// What a language model might have written for [`animals`], into the folder above `data`: `queries.jsonl`, `generated.jsonl` and `decisions.jsonl`.
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
    let decisions = [("q2", "d50", "pos"), ("q3", "d51", "drop"), ("q4", "d52", "neg")]
        .map(|(query, document, decision)| format!(r#"{{"qid": "{query}", "pid": "{document}", "decision": "{decision}"}}"#) + "\n");
    fs::write(folder.join("decisions.jsonl"), decisions.concat()).unwrap();
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
