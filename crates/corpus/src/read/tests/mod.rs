//! Tests of the readers as users meet them, through `Collection::open` on files in a temporary folder.
//! Here: making such folders, and one small BEIR collection.

mod columns;
mod faults;
mod formats;
mod hints;
mod lists;
mod panics;
mod parquet;
mod queries;
mod real;
mod round_trip;
mod side;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

use crate::{Collection, CorpusError};

/// A folder with these files; a name may have sub-folders, and content of `*.gz` is packed.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        put(folder.path(), name, content.as_bytes());
    }
    folder
}

fn put(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    if name.ends_with(".gz") {
        fs::write(&path, gzip(content)).unwrap();
    } else {
        fs::write(&path, content).unwrap();
    }
    path
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(content).unwrap();
    packed.finish().unwrap()
}

fn open(path: &Path) -> Result<Collection, CorpusError> {
    Collection::open(path.to_str().unwrap())
}

/// `query -> document grade` by external ids, in order.
fn judged(collection: &Collection, split: &str) -> Vec<String> {
    let judgments = collection.split(split).unwrap();
    judgments.iter().map(|(q, d, grade)| format!("{} {} {grade}", collection.queries.id(q), collection.documents.id(d))).collect()
}

const CORPUS: &str = r#"{"_id": "a", "title": "Ants", "text": "carry leaves."}
{"_id": "b", "title": "", "text": "Bees fly."}
{"_id": "c", "text": "Cats \"sleep\"."}
"#;
const QUERIES: &str = r#"{"_id": "1", "text": "who carries"}
{"_id": "2", "text": "who sleeps"}
"#;
const QRELS: &str = "query-id\tcorpus-id\tscore\n1\ta\t2\n1\tb\t0\n2\tc\t1\n";

fn beir() -> Vec<(&'static str, &'static str)> {
    vec![("corpus.jsonl", CORPUS), ("queries.jsonl", QUERIES), ("qrels/test.tsv", QRELS)]
}
