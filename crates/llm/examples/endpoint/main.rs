//! Serves the stand-in of the tests: an endpoint without a model, which knows a collection's labels.
//!
//!     cargo run --release -p llm --example endpoint -- [--port N] [--oracle DATA] [--error-rate X | MODEL=X,MODEL=X] [--delay MILLISECONDS]
//!
//! With `--oracle` it answers questions about relevance from all that is known to be relevant in the collection (`builtin:demo` knows all of
//! it), wrong at the stated rate. It prints its base URL and runs until it is killed.
#![allow(clippy::print_stdout, reason = "it is a program")]

#[expect(dead_code, reason = "tests use more of it")]
mod double;

use std::time::Duration;

use double::{Double, Oracle, Play};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut port, mut data, mut rates, mut delay) = (0, None, Vec::new(), Duration::ZERO);
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--port" => port = value.parse()?,
            "--oracle" => data = Some(value),
            "--delay" => delay = Duration::from_millis(value.parse()?),
            "--error-rate" => {
                for part in value.split(',') {
                    let (model, rate) = part.split_once('=').unwrap_or(("", part));
                    rates.push((model.to_owned(), rate.parse()?));
                }
            }
            _ => return Err(format!("{flag}: expected --port, --oracle, --error-rate or --delay").into()),
        }
    }
    let mut oracle = Oracle { error_rates: rates, ..Oracle::default() };
    if let Some(data) = data {
        let collection = corpus::Collection::open(&data)?;
        let known: Vec<_> = collection.truth.iter().chain(collection.splits.values()).collect();
        for judgments in known {
            for (query, document, grade) in judgments.iter().filter(|it| it.2 > 0) {
                debug_assert!(grade > 0);
                let texts = oracle.relevant.entry(collection.queries.text(query).to_owned()).or_default();
                texts.insert(collection.documents.text(document).to_owned());
            }
        }
    }
    let served = Double::on(port, oracle, move |_| if delay.is_zero() { Play::Good } else { Play::Slow(delay) });
    println!("{}", served.url);
    loop {
        std::thread::sleep(Duration::from_secs(60));
        println!("{} requests", served.requests());
    }
}
