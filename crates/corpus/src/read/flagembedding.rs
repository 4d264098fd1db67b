//! FlagEmbedding training rows: `{query, pos: [text], neg: [text]}` with optional `pos_scores`, `neg_scores`, `prompt`, `type`.
//!
//! One text may stand without its list. Scores (a teacher's) must be as many as their texts. `prompt` becomes a note: prompts are part of the encoder's settings,
//! not of the data. `type` steers FlagEmbedding's own sampling and is ignored.

use std::path::Path;

use serde::Deserialize;

use super::{
    json::{self, Text, Texts},
    layout::is_target,
    lines::{Line, Lines},
    roles::{Role, role},
    sink::Sink,
};
use crate::error::{CorpusError, excerpt};

const ROW: &str = r#"{"query": "…", "pos": ["…"], "neg": ["…"]} on each line, with optional "pos_scores" and "neg_scores""#;

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    query: Text<'a>,
    #[serde(borrow)]
    pos: Texts<'a>,
    #[serde(borrow, default)]
    neg: Option<Texts<'a>>,
    #[serde(default)]
    pos_scores: Option<Vec<f32>>,
    #[serde(default)]
    neg_scores: Option<Vec<f32>>,
    #[serde(borrow, default)]
    prompt: Option<Text<'a>>,
}

/// Whether a row with these keys is one: with negatives under further names, or with labels, it is one of columns, where those count.
pub(super) fn fits<K: AsRef<str>>(keys: &[K]) -> bool {
    let has = |name: &str| keys.iter().any(|key| key.as_ref() == name);
    let further = |key: &K| key.as_ref() != "neg" && (role(key.as_ref()) == Some(Role::Negative) || is_target(key.as_ref()));
    has("query") && has("pos") && !keys.iter().any(further)
}

pub(super) fn rows(path: &Path, sink: &mut impl Sink) -> Result<(), CorpusError> {
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let place = || line.place();
        let row: Row<'_> = json::row(line, ROW)?;
        let (positives, negatives) = (row.pos.0, row.neg.unwrap_or_default().0);
        if positives.is_empty() {
            return Err(CorpusError::Row { place: place(), problem: "`pos` is empty".into(), expected: ROW });
        }
        let positive_scores = aligned(line, "pos", positives.len(), row.pos_scores)?;
        let negative_scores = aligned(line, "neg", negatives.len(), row.neg_scores)?;
        if let Some(prompt) = row.prompt.filter(|prompt| !prompt.0.is_empty()) {
            sink.note(format!(
                "{} asks for the query prompt `{}`: set `encoder.query_prompt` if the encoder should use it",
                path.display(),
                excerpt(&prompt.0)
            ));
        }
        let Some(query) = sink.query(None, "query", &row.query.0, place)? else { continue };
        for (at, text) in positives.iter().enumerate() {
            if let Some(document) = sink.document(None, "pos", &text.0, place)? {
                sink.positive(query, document, positive_scores.get(at).copied());
            }
        }
        for (at, text) in negatives.iter().enumerate() {
            if let Some(document) = sink.document(None, "neg", &text.0, place)? {
                sink.negative(query, document, negative_scores.get(at).copied());
            }
        }
    }
    Ok(())
}

/// The scores, one per text, or none at all.
fn aligned(line: Line<'_>, field: &str, texts: usize, scores: Option<Vec<f32>>) -> Result<Vec<f32>, CorpusError> {
    let scores = scores.unwrap_or_default();
    if scores.is_empty() || scores.len() == texts {
        return Ok(scores);
    }
    let problem = format!("`{field}_scores` has {} number(s) for {texts} text(s) in `{field}`", scores.len());
    Err(CorpusError::Row { place: line.place(), problem, expected: "one score per text" })
}
