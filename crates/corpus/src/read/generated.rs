//! Generated negatives: `{"qid", "query"?, "pos"?, "neg_synth": [{"text", "attr"?}]}` on each line.
//!
//! `pos` is not looked at: the judgments say what is relevant.

use std::path::Path;

use serde::Deserialize;

use super::{
    entry::Missing,
    json::{self, Id, Text},
    lines::Lines,
};
use crate::{
    collection::Collection,
    error::{CorpusError, Side},
    generated::{Generated, GeneratedCounts},
    index::Index,
    negatives::{Listed, NegativeLists},
    texts::Texts,
};

const ROW: &str = r#"{"qid": "…", "neg_synth": [{"text": "…", "attr": "…" (optional)}]} on each line"#;

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow, alias = "query_id")]
    qid: Id<'a>,
    #[serde(borrow, default)]
    query: Text<'a>,
    #[serde(borrow)]
    neg_synth: Vec<Negative<'a>>,
}

#[derive(Deserialize)]
struct Negative<'a> {
    #[serde(borrow)]
    text: Text<'a>,
    #[serde(default)]
    attr: serde_json::Value,
}

/// Reads generated negatives of the queries of `collection`.
pub(crate) fn generated(path: &Path, collection: &Collection) -> Result<Generated, CorpusError> {
    let documents = collection.documents.texts();
    let in_corpus = Index::over(documents);
    let (mut texts, mut attributes, mut by_text) = (Texts::new(), Texts::new(), Index::default());
    let mut rows: Vec<Vec<Listed>> = vec![Vec::new(); collection.queries.len()];
    let mut counts = GeneratedCounts::default();
    let mut missing = Missing::default();
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let row: Row<'_> = json::row(line, ROW)?;
        counts.rows += 1;
        let Some(query) = collection.queries.find(&row.qid.0) else {
            missing.note(&row.qid.0, line.number);
            continue;
        };
        let question = collection.queries.text(query);
        counts.other_texts += usize::from(!row.query.0.is_empty() && row.query.0 != question);
        let listed = &mut rows[query as usize];
        for negative in &row.neg_synth {
            let text = &*negative.text.0;
            if text.trim().is_empty() {
                return Err(CorpusError::EmptyText { place: line.place(), side: Side::Document, id: "neg_synth".into() });
            }
            if text == question {
                counts.copied_queries += 1;
                continue;
            }
            if in_corpus.find(documents, text).is_some() {
                // One of several documents with this text may be the one that was judged.
                let positive = |document| collection.documents.text(document) == text;
                let copied = collection.splits.values().any(|judgments| judgments.positives(query).any(positive));
                *(if copied { &mut counts.copied_positives } else { &mut counts.copied_documents }) += 1;
                continue;
            }
            let at = match by_text.find(&texts, text) {
                Some(at) => at,
                None if collection.documents.len() + texts.len() >= u32::MAX as usize => {
                    return Err(CorpusError::TooMany { place: line.place(), side: Side::Document });
                }
                None => {
                    let at = texts.push(text);
                    by_text.enter_next(&texts);
                    match &negative.attr {
                        serde_json::Value::Null => attributes.push(""),
                        serde_json::Value::String(attribute) => attributes.push(attribute),
                        other => attributes.push(&other.to_string()),
                    };
                    at
                }
            };
            let document = collection.documents.len() as u32 + at;
            if listed.iter().any(|known| known.document == document) {
                counts.repeated += 1;
            } else {
                listed.push(Listed { document, score: None });
                counts.negatives += 1;
            }
        }
    }
    if counts.rows == 0 {
        return Err(CorpusError::EmptyFile { path: path.to_owned(), expected: ROW });
    }
    missing.check(path, Side::Query)?;
    if counts.other_texts > 0 {
        tracing::warn!(
            file = %path.display(),
            count = counts.other_texts,
            "queries of this file have another text than the collection has under their id: is it the right collection?"
        );
    }
    let offset = collection.documents.len() as u32;
    Ok(Generated { offset, texts, attributes, lists: NegativeLists::from_rows(rows), counts })
}
