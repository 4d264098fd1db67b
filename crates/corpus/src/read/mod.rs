//! Readers, one file per format, and the choice among them.
//!
//! The choice looks at content (names in a folder, the first row of a file), never at an option. Every reader streams; what
//! it must refuse is refused in `entry.rs` (records, judgments) and `lines.rs` (bytes). Ids and texts are strings throughout.

mod answers;
mod beir;
mod decisions;
mod document;
mod entry;
mod flagembedding;
mod folder;
mod generated;
mod gpl;
mod groups;
mod inline;
mod json;
mod layout;
mod lines;
mod listing;
mod lists;
mod mined;
mod msmarco;
mod nemo;
mod parquet;
mod queries;
mod rows;
mod scored;
mod sink;
mod table;
mod tevatron;
mod trec;
mod triplets;

use std::path::{Path, PathBuf};

pub use answers::read_answers;
pub(crate) use decisions::decisions;
pub(crate) use entry::push;
pub(crate) use generated::generated;
pub use groups::read_groups;
pub use listing::{ListCounts, Unknown};
pub use lists::{read_lists, read_lists_counted};
pub use mined::{read_own, read_provenance};
pub(crate) use queries::queries;
pub use rows::read_rows;

use crate::{
    collection::Collection,
    demo,
    error::{CorpusError, excerpt},
};
use folder::{Folder, split_of};
use inline::Inline;
use lines::Lines;

const FOLDER_FORMATS: &str =
    "    BEIR: corpus.jsonl and queries.jsonl, with qrels/<split>.tsv (GPL: <prefix>-queries.jsonl, <prefix>-qrels/)
    MS MARCO: collection.tsv (or msmarco-docs.tsv), queries.<split>.tsv, qrels.<split>.tsv
    parquet: corpus, queries and qrels as files or folders of .parquet, or .parquet files with columns anchor, positive, negative
    Tevatron: corpus.jsonl beside rows with positive_document_ids, or rows with positive_passages
    training rows: .jsonl files of FlagEmbedding (query, pos, neg) or of columns anchor, positive, negative
    (each text file plain or .gz)";
const FILE_FORMATS: &str = "    FlagEmbedding rows: query, pos, neg
    Tevatron rows: query, positive_passages, negative_passages; or positive_document_ids beside a corpus.jsonl
    columns: anchor, positive, negative, in this order under any name, as JSON lines or parquet
    (text files plain or .gz; for BEIR and MS MARCO give the folder)";

pub(crate) fn open(source: &str) -> Result<Collection, CorpusError> {
    let path = Path::new(source);
    let missing = || CorpusError::NoSource { given: source.to_owned() };
    if source == "builtin:demo" {
        return Ok(demo::generate());
    }
    if source.starts_with("builtin:") {
        return Err(missing());
    }
    let mut collection = if path.is_dir() {
        open_folder(path)?
    } else if path.is_file() {
        open_file(path)?
    } else {
        return Err(missing());
    };
    collection.name = name_of(path);
    Ok(collection)
}

/// The folder's or file's own name, without extensions.
fn name_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match name.split_once('.') {
        Some((stem, _)) if path.is_file() && !stem.is_empty() => stem.to_owned(),
        _ => name,
    }
}

fn open_folder(path: &Path) -> Result<Collection, CorpusError> {
    let folder = Folder::open(path)?;
    let corpus = folder.text_file("corpus.jsonl");
    if let (Some(corpus), Some(queries)) = (&corpus, folder.text_file("queries.jsonl")) {
        return beir::open(&folder, corpus, &queries, "qrels");
    }
    if let (Some(corpus), Some(prefix)) = (&corpus, gpl::prefix(&folder))
        && let Some(queries) = folder.text_file(&format!("{prefix}-queries.jsonl"))
    {
        return beir::open(&folder, corpus, &queries, &format!("{prefix}-qrels"));
    }
    for (name, with_titles) in [("collection.tsv", false), ("msmarco-docs.tsv", true)] {
        if let Some(texts) = folder.text_file(name) {
            return msmarco::open(&folder, &texts, with_titles);
        }
    }
    if let Some(collection) = parquet::open_folder(&folder)? {
        return Ok(collection);
    }
    let files: Vec<(String, PathBuf)> =
        folder.with_extension(&["jsonl", "json"]).into_iter().filter(|(stem, _)| stem != "corpus").collect();
    if files.is_empty() {
        return Err(unknown(path, folder.describe(), FOLDER_FORMATS));
    }
    training_rows(&files, corpus.as_deref())
}

fn open_file(path: &Path) -> Result<Collection, CorpusError> {
    if parquet::is_parquet(path)? {
        return parquet::open_columns(&[(name_of(path), path.to_owned())]);
    }
    let corpus = Folder::around(path).text_file("corpus.jsonl");
    training_rows(&[(name_of(path), path.to_owned())], corpus.as_deref())
}

/// Reads files of training rows into one collection; `corpus` serves rows that name documents by id.
fn training_rows(files: &[(String, PathBuf)], corpus: Option<&Path>) -> Result<Collection, CorpusError> {
    let forms = files.iter().map(|(_, path)| RowForm::of(path)).collect::<Result<Vec<_>, _>>()?;
    let by_id = forms.contains(&RowForm::TevatronIds);
    if let (true, Some(at)) = (by_id, forms.iter().position(|form| *form != RowForm::TevatronIds)) {
        let found = "rows with texts inside, beside files whose rows name documents by id".to_owned();
        return Err(unknown(&files[at].1, found, FOLDER_FORMATS));
    }
    let mut inline = match (by_id, corpus) {
        (true, Some(corpus)) => Inline::over(tevatron::corpus(corpus)?),
        _ => Inline::new(),
    };
    for ((stem, path), form) in files.iter().zip(forms.iter().copied()) {
        inline.begin(split_of(stem));
        match form {
            RowForm::FlagEmbedding => flagembedding::rows(path, &mut inline)?,
            RowForm::TevatronTexts => tevatron::text_rows(path, &mut inline)?,
            RowForm::TevatronIds if corpus.is_none() => {
                let found = "rows that name documents by id, and no corpus.jsonl beside them".to_owned();
                return Err(unknown(path, found, FILE_FORMATS));
            }
            RowForm::TevatronIds => {
                tevatron::id_rows(path, &mut inline)?;
                inline.check(path)?;
            }
            RowForm::Columns => triplets::rows(path, &mut inline)?,
        }
    }
    Ok(inline.finish())
}

fn unknown(path: &Path, found: String, looked_for: &str) -> CorpusError {
    CorpusError::UnknownFormat { path: path.to_owned(), found, looked_for: looked_for.to_owned() }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowForm {
    FlagEmbedding,
    TevatronTexts,
    TevatronIds,
    Columns,
}

impl RowForm {
    /// Recognises a file of JSON lines by the keys of its first row.
    fn of(path: &Path) -> Result<Self, CorpusError> {
        let mut lines = Lines::open(path)?;
        let line = lines.first("JSON rows, one object on each line")?;
        if !line.text.trim_start().starts_with('{') {
            return Err(unknown(path, format!("a first line that is no JSON object: `{}`", excerpt(line.text)), FILE_FORMATS));
        }
        let row: triplets::Row<'_> = json::row(line, layout::ROW)?;
        let has = |key: &str| row.0.iter().any(|(name, _)| name == key);
        if has("positive_passages") {
            Ok(Self::TevatronTexts)
        } else if has("positive_document_ids") {
            Ok(Self::TevatronIds)
        } else if has("query") && has("pos") {
            Ok(Self::FlagEmbedding)
        } else if has("format") && has("provenance") {
            Err(unknown(path, "mined negatives of this program; they belong to a collection and are no collection".into(), FILE_FORMATS))
        } else if has("text") && (has("_id") || has("docid") || has("id")) {
            Err(unknown(path, "a corpus or a list of queries; give its folder".into(), FILE_FORMATS))
        } else {
            Ok(Self::Columns)
        }
    }
}

#[cfg(test)]
mod tests;
