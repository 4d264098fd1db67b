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
mod nearest;
mod nemo;
mod parquet;
mod queries;
mod roles;
mod rows;
mod scored;
mod sink;
mod table;
mod tevatron;
mod trec;
mod triplets;
mod words;

use std::path::{Path, PathBuf};

pub use answers::read_answers;
pub(crate) use decisions::decisions;
pub(crate) use entry::push;
pub(crate) use folder::split_name;
pub(crate) use generated::generated;
pub use groups::read_groups;
pub use listing::{ListCounts, Unknown};
pub use lists::{read_lists, read_lists_counted};
pub use mined::{read_own, read_provenance};
pub(crate) use queries::queries;
pub use rows::read_rows;

use crate::{collection::Collection, demo, error::CorpusError};
use folder::{Folder, split_of, stem_of};
use inline::{Inline, a_few, file_name};
use lines::Lines;
use roles::{Role, role};
use sink::Sink;
use words::Keys;

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
    for (split, judgments) in collection.splits.iter().filter(|(_, judgments)| !judgments.has_positives()) {
        collection.notes.push(format!(
            "the split `{split}` has no relevant pair: none of its {} judgment(s) has a grade of 1 or more",
            judgments.len()
        ));
    }
    Ok(collection)
}

pub(crate) fn open_documents(source: &str) -> Result<Collection, CorpusError> {
    let path = Path::new(source);
    let corpus = if path.is_dir() {
        let folder = Folder::open(path)?;
        let alone = folder.with_extension(&["jsonl", "json"]).iter().all(|(stem, _)| stem == "corpus");
        folder.text_file("corpus.jsonl").filter(|_| alone)
    } else {
        Some(path.to_owned()).filter(|path| path.is_file() && stem_of(path) == "corpus")
    };
    match corpus {
        Some(corpus) => Ok(Collection { name: name_of(path), documents: read_rows(&corpus)?, ..Collection::default() }),
        None => open(source),
    }
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
        let collection = beir::open(&folder, corpus, &queries, "qrels")?;
        return Ok(with_unread(collection, &folder, "corpus.jsonl, queries.jsonl and qrels/", &DATA, &["corpus", "queries"]));
    }
    if let (Some(corpus), Some(prefix)) = (&corpus, gpl::prefix(&folder))
        && let Some(queries) = folder.text_file(&format!("{prefix}-queries.jsonl"))
    {
        let collection = beir::open(&folder, corpus, &queries, &format!("{prefix}-qrels"))?;
        let what = format!("corpus.jsonl, {prefix}-queries.jsonl and {prefix}-qrels/");
        return Ok(with_unread(collection, &folder, &what, &DATA, &["corpus", &format!("{prefix}-queries")]));
    }
    for (name, with_titles) in [("collection.tsv", false), ("msmarco-docs.tsv", true)] {
        if let Some(texts) = folder.text_file(name) {
            let collection = msmarco::open(&folder, &texts, with_titles)?;
            return Ok(with_unread(collection, &folder, &format!("{name} with its queries and qrels"), &DATA, &[]));
        }
    }
    if let Some(collection) = parquet::open_folder(&folder)? {
        return Ok(with_unread(collection, &folder, "the parquet files", &DATA[..2], &[]));
    }
    let files: Vec<(String, PathBuf)> =
        folder.with_extension(&["jsonl", "json"]).into_iter().filter(|(stem, _)| stem != "corpus").collect();
    // `queries.jsonl` alone is half of a BEIR folder, not a file of training rows.
    if files.is_empty() || (corpus.is_none() && folder.text_file("queries.jsonl").is_some()) {
        return Err(unknown(path, folder.describe(), nearest::nearest(&folder)));
    }
    training_rows(&files, corpus.as_deref())
}

/// Extensions of files that rows may stand in, parquet last.
const DATA: [&str; 3] = ["jsonl", "json", "parquet"];

/// Notes the files in `folder` of these `kinds` (extensions) that look like data and that a collection which is `what` leaves unread.
/// `read` are names, without extension, of files that it does read. Side files are left to whoever names them.
fn with_unread(mut collection: Collection, folder: &Folder, what: &str, kinds: &[&str], read: &[&str]) -> Collection {
    let looks_like_data = |stem: &str, name: &str, path: &Path| {
        let named = ["corpus", "queries"].contains(&stem) || split_of(stem).is_some();
        named || name.contains(".parquet") || (name.contains(".jsonl") && holds_queries(path))
    };
    let mut unread = Vec::new();
    for (stem, path) in folder.with_extension(kinds) {
        let name = file_name(&path);
        if !read.contains(&stem.as_str()) && looks_like_data(&stem, &name, &path) {
            unread.push(name);
        }
    }
    if !unread.is_empty() {
        collection.notes.push(format!(
            "{}: not read as part of the collection, which is {what}: {}; put rows of another form into a folder of their own, and name \
             side files where they are used",
            folder.path().display(),
            a_few(&unread)
        ));
    }
    collection
}

/// Whether the first row of a file holds the text of a query, as training rows do and most side files do not.
fn holds_queries(path: &Path) -> bool {
    let Ok(mut lines) = Lines::open(path) else { return false };
    let Ok(Some(line)) = lines.next() else { return false };
    let keys = Keys::of(line.text).all;
    keys.iter().any(|key| role(key) == Some(Role::Query)) && !keys.contains(&"neg_synth")
}

fn open_file(path: &Path) -> Result<Collection, CorpusError> {
    if parquet::is_parquet(path)? {
        return parquet::open_columns(&[(stem_of(path), path.to_owned())]);
    }
    let corpus = Folder::around(path).text_file("corpus.jsonl");
    training_rows(&[(stem_of(path), path.to_owned())], corpus.as_deref())
}

/// Reads files of training rows into one collection; `corpus` serves rows that name documents by id.
fn training_rows(files: &[(String, PathBuf)], corpus: Option<&Path>) -> Result<Collection, CorpusError> {
    let forms = files.iter().map(|(_, path)| RowForm::of(path)).collect::<Result<Vec<_>, _>>()?;
    let by_id = forms.contains(&RowForm::TevatronIds);
    if let (true, Some(at)) = (by_id, forms.iter().position(|form| *form != RowForm::TevatronIds)) {
        let found = "rows with texts inside, beside files whose rows name documents by id".to_owned();
        return Err(unknown(&files[at].1, found, "put the two kinds of files into two folders".to_owned()));
    }
    let mut inline = match (by_id, corpus) {
        (true, Some(corpus)) => Inline::over(tevatron::corpus(corpus)?),
        _ => Inline::new(),
    };
    if let (false, Some(corpus)) = (by_id, corpus) {
        inline.note(format!(
            "{}: not read: the rows beside it have their texts inside, and these are all documents there are; to search this file, give \
             rows that name documents by id, or queries.jsonl and qrels/",
            corpus.display()
        ));
    }
    for ((stem, path), form) in files.iter().zip(forms.iter().copied()) {
        inline.begin(path, split_of(stem));
        match form {
            RowForm::FlagEmbedding => flagembedding::rows(path, &mut inline)?,
            RowForm::TevatronTexts => tevatron::text_rows(path, &mut inline)?,
            RowForm::TevatronIds if corpus.is_none() => {
                let found = "rows that name documents by id, and no corpus.jsonl beside them".to_owned();
                let nearest = r#"nearest is Tevatron, which lacks that file: {"docid": "…", "text": "…"} on each line"#;
                return Err(unknown(path, found, nearest.to_owned()));
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

fn unknown(path: &Path, found: String, nearest: String) -> CorpusError {
    CorpusError::UnknownFormat { path: path.to_owned(), found, nearest }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowForm {
    FlagEmbedding,
    TevatronTexts,
    TevatronIds,
    Columns,
}

impl RowForm {
    /// Recognises a file of JSON lines by the keys of its first row; what is wrong with that row is for the reader of its form to say.
    fn of(path: &Path) -> Result<Self, CorpusError> {
        let mut lines = Lines::open(path)?;
        let line = lines.first("JSON rows, one object on each line")?;
        if !line.text.trim_start().starts_with('{') {
            return Err(words::no_object(line, layout::ROW));
        }
        let keys = Keys::of(line.text).all;
        let has = |key: &str| keys.contains(&key);
        let refuse = |found: &str, remedy: &str| Err(unknown(path, found.to_owned(), remedy.to_owned()));
        if has("positive_passages") {
            Ok(Self::TevatronTexts)
        } else if has("positive_document_ids") {
            Ok(Self::TevatronIds)
        } else if flagembedding::fits(&keys) {
            Ok(Self::FlagEmbedding)
        } else if has("format") && has("provenance") {
            refuse(
                "mined negatives of this program",
                "they belong to a collection and are no collection: give the data they were mined from",
            )
        } else if has("text") && (has("_id") || has("docid") || has("id")) && !keys.iter().any(|key| role(key) == Some(Role::Query)) {
            refuse("a corpus or a list of queries", "give the folder with corpus.jsonl, queries.jsonl and qrels/")
        } else {
            Ok(Self::Columns)
        }
    }
}

#[cfg(test)]
mod tests;
