//! Lists of other tools as side files over a collection: mined negatives and teachers' scores, by id or by text.
//!
//! The form is recognised from the content, as with collections. What the rows become is in `listing.rs`.

use std::path::Path;

use super::{
    document::{self, LIST, Start},
    flagembedding, gpl,
    listing::{ListCounts, Listing, Unknown},
    mined, nemo, parquet, queries,
    roles::{Role, role},
    scored, tevatron, triplets, unknown,
};
use crate::{collection::Collection, error::CorpusError, negatives::NegativeLists};

const EXPECTED: &str = "lists of negatives or scores, as JSON rows, parquet or a table";

/// Reads lists of negatives, with scores where the file has them, over the dense ids of `collection`. The form is recognised
/// from the content: the own form, Tevatron, FlagEmbedding, sentence-transformers (columns or labelled pairs, JSON lines or
/// parquet; lists by system), queries written for documents, NeMo retriever, a table `query-id document-id score`, or a TREC run; plain or gzipped.
///
/// Rows that give ids are taken by id, others by text: exact, the first record with that text. Lists keep the order of the
/// file; tables are sorted by score, higher first. Scores of positives become
/// [`positive_scores`](NegativeLists::positive_scores), sorted by document. Where a file does not say what is relevant (tables,
/// pairs with a score), documents with a grade above 0 in any split of the collection are positives. A document that a file
/// lists for one query as positive and as negative is left out of the negatives; nothing else is filtered.
///
/// # Errors
/// When the file cannot be read, no form fits, a row is faulty, or queries or documents are unknown to the collection;
/// the message names file and line.
pub fn read_lists(path: &Path, collection: &Collection) -> Result<NegativeLists, CorpusError> {
    read_lists_counted(path, collection, Unknown::Refuse).map(|(lists, _)| lists)
}

/// As [`read_lists`], with a choice for queries and documents that the collection lacks, and with counts for the log.
///
/// # Errors
/// As [`read_lists`]; with [`Unknown::Skip`] not for unknown queries and documents.
pub fn read_lists_counted(path: &Path, collection: &Collection, unknown: Unknown) -> Result<(NegativeLists, ListCounts), CorpusError> {
    let form = Form::of(path)?;
    let mut listing = Listing::new(collection, unknown);
    match form {
        Form::Own => mined::rows(path, &mut listing)?,
        Form::TevatronTexts => tevatron::text_rows(path, &mut listing)?,
        Form::TevatronIds => tevatron::id_rows(path, &mut listing)?,
        Form::FlagEmbedding => flagembedding::rows(path, &mut listing)?,
        Form::BySystem => gpl::rows(path, &mut listing)?,
        Form::Queries => queries::rows(path, &mut listing)?,
        Form::Nemo => nemo::rows(path, &mut listing)?,
        Form::NemoList => nemo::list(path, &mut listing)?,
        Form::Columns => triplets::rows(path, &mut listing)?,
        Form::Parquet => {
            if parquet::training_columns(path, &mut listing)? == 0 {
                return Err(CorpusError::EmptyFile { path: path.to_owned(), expected: "rows with a query and a positive" });
            }
        }
        Form::Table => scored::rows(path, &mut listing)?,
    }
    let (lists, counts) = listing.finish(path)?;
    if counts.other_texts > 0 {
        tracing::warn!(
            file = %path.display(),
            count = counts.other_texts,
            "records of this file have another text than the collection has under their id: is it the right collection?"
        );
    }
    Ok((lists, counts))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Own,
    TevatronTexts,
    TevatronIds,
    FlagEmbedding,
    BySystem,
    Queries,
    Nemo,
    NemoList,
    Columns,
    Parquet,
    Table,
}

impl Form {
    fn of(path: &Path) -> Result<Self, CorpusError> {
        if parquet::is_parquet(path)? {
            return Ok(Self::Parquet);
        }
        let (keys, is_list) = match document::start(path, EXPECTED)? {
            Start::Empty => return Err(CorpusError::EmptyFile { path: path.to_owned(), expected: EXPECTED }),
            Start::Other => return Ok(Self::Table),
            Start::Object(keys) => (keys, false),
            Start::List(keys) => (keys, true),
        };
        let has = |key: &str| keys.iter().any(|name| name == key);
        let unfit = |found: &str, remedy: &str| Err(unknown(path, found.to_owned(), remedy.to_owned()));
        if is_list {
            return if has("pos_doc") {
                Ok(Self::NemoList)
            } else {
                unfit("one JSON list, whose rows are not NeMo's", "write one row on each line, for example with `jq -c '.[]' FILE`")
            };
        }
        match () {
            () if has("format") && has("provenance") => Ok(Self::Own),
            () if has("positive_passages") => Ok(Self::TevatronTexts),
            () if has("positive_document_ids") => Ok(Self::TevatronIds),
            () if has("pos_doc") => Ok(Self::Nemo),
            () if has(LIST) => Ok(Self::NemoList),
            () if has("neg_synth") => unfit("generated texts", "they are no documents of the collection: read them as generated texts"),
            () if has("decision") => unfit("relabelling decisions", "read them as decisions"),
            () if has("qid") && has("neg") => Ok(Self::BySystem),
            () if flagembedding::fits(&keys) => Ok(Self::FlagEmbedding),
            () if has("_id") && has("text") && has("positive") => Ok(Self::Queries),
            () if has("text") && !keys.iter().any(|key| role(key) == Some(Role::Query)) && (has("_id") || has("docid") || has("id")) => {
                unfit(
                    "a corpus or a list of queries",
                    "give lists of negatives, for example rows {\"query\", \"pos\", \"neg\"} or a TREC run",
                )
            }
            () => Ok(Self::Columns),
        }
    }
}
