//! For a folder that no format fits: which format comes nearest, and what it lacks.

use std::path::Path;

use super::folder::Folder;

/// What training data looks like at its simplest.
pub(super) const SIMPLEST: &str = r#"expected for example train.jsonl with {"query": "…", "positive": "…"} on each line, or corpus.jsonl, queries.jsonl and qrels/train.tsv (BEIR)"#;

/// One sentence about `folder`.
pub(super) fn nearest(folder: &Folder) -> String {
    let has = |name: &str| folder.text_file(name).is_some();
    if has("corpus.jsonl") {
        return "nearest are BEIR, which lacks queries.jsonl, and Tevatron, which lacks a file of rows with positive_document_ids"
            .to_owned();
    }
    if has("queries.jsonl") {
        return "nearest is BEIR, which lacks corpus.jsonl".to_owned();
    }
    let tables = folder.with_extension(&["tsv", "txt", "csv"]);
    if tables.iter().any(|(stem, _)| stem.starts_with("queries.") || stem.starts_with("qrels.")) {
        return "nearest is MS MARCO, which lacks collection.tsv".to_owned();
    }
    if let Some(inner) = folder.folders().into_iter().find(|inner| holds_data(inner)) {
        return format!("the data may be in a folder of it: try {}", inner.display());
    }
    match tables.first() {
        Some((_, path)) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let separator = if name.contains(".csv") { "','" } else { r"'\t'" };
            format!(
                "nearest are training rows, which are JSON lines: convert {name}, for example with pandas: \
                 `read_csv(FILE, sep={separator}).to_json(OUT, orient='records', lines=True)`"
            )
        }
        None => SIMPLEST.to_owned(),
    }
}

/// Whether a folder looks as if it could be opened.
fn holds_data(path: &Path) -> bool {
    let Ok(folder) = Folder::open(path) else { return false };
    folder.text_file("collection.tsv").is_some() || !folder.with_extension(&["jsonl", "parquet"]).is_empty()
}
