//! What a large corpus costs in memory: generates documents into a temporary BEIR folder, reads it as users do, and prints
//! bytes a document over its text (heap of `Records`, and growth of the process) and peak resident memory.
//!
//!     cargo bench -p corpus --bench memory [-- DOCUMENTS]      10,000,000 documents unless given; 3.5 GB of temporary files
//!
//! With `--test` it reads 20,000 documents. It fails when a document costs more than 40 bytes over its text.
#![allow(clippy::print_stdout, missing_docs, reason = "a bench talks to the person who runs it")]

use std::{
    error::Error,
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    time::Instant,
};

use corpus::Collection;

/// Bytes a document may cost over its text, its external id of 8 characters included.
const BUDGET: f64 = 40.0;

fn main() -> Result<(), Box<dyn Error>> {
    let mut documents = 10_000_000_u32;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--test" => documents = 20_000,
            number => documents = number.parse().unwrap_or(documents),
        }
    }
    let folder = tempfile::tempdir()?;
    generate(folder.path(), documents)?;

    let before = resident("VmRSS:");
    let start = Instant::now();
    let collection = Collection::open(&folder.path().to_string_lossy())?;
    let seconds = start.elapsed().as_secs_f64();
    let (after, peak) = (resident("VmRSS:"), resident("VmHWM:"));

    let count = collection.documents.len() as f64;
    let text = collection.documents.texts().bytes() as f64;
    let over = (collection.documents.memory() as f64 - text) / count;
    println!("documents                   {count}");
    println!("text                        {:.1} MB, {:.1} bytes a document", text / 1e6, text / count);
    println!("over the text, heap         {over:.2} bytes a document");
    if let (Some(before), Some(after), Some(peak)) = (before, after, peak) {
        println!("over the text, resident     {:.2} bytes a document", (after - before - text) / count);
        println!("over the text, at the peak  {:.2} bytes a document", (peak - before - text) / count);
        println!("peak resident memory        {:.1} MB", peak / 1e6);
    }
    println!("read in                     {seconds:.2} s, {:.0} documents/s, {:.0} MB/s", count / seconds, text / seconds / 1e6);

    // A small corpus is dominated by the room kept for growth, which is bounded by one chunk on each side.
    if documents >= 1_000_000 && over > BUDGET {
        return Err(format!("a document costs {over:.2} bytes over its text, more than {BUDGET}").into());
    }
    Ok(())
}

/// Documents of 30 to 70 words with ids of 8 characters.
fn generate(folder: &Path, documents: u32) -> Result<(), Box<dyn Error>> {
    const WORDS: [&str; 16] = [
        "river", "stone", "letter", "window", "paper", "garden", "engine", "signal", "copper", "market", "winter", "thread", "bridge",
        "harbor", "candle", "mirror",
    ];
    let mut out = BufWriter::with_capacity(1 << 20, File::create(folder.join("corpus.jsonl"))?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for document in 0..documents {
        write!(out, "{{\"_id\": \"{document:08}\", \"title\": \"\", \"text\": \"")?;
        for _ in 0..30 + document % 41 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            out.write_all(WORDS[(state >> 60) as usize].as_bytes())?;
            out.write_all(b" ")?;
        }
        out.write_all(b".\"}\n")?;
    }
    out.flush()?;
    fs::write(folder.join("queries.jsonl"), "{\"_id\": \"q\", \"text\": \"river stone\"}\n")?;
    Ok(())
}

/// A figure of `/proc/self/status` in bytes; `None` where there is no such file.
fn resident(field: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? * 1024.0)
}
