//! What a run reads: the collection, the tokens of both sides, and which documents share one text.
//!
//! Opened once, then immutable and shared by the batch tasks, the miner and the evaluation.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use corpus::{Collection, TextTokenizer, TokenSpec, Tokens};
use encoder::Settings;

use crate::errors::{OrUsage, Usage};

pub(crate) struct Data {
    pub(crate) collection: Collection,
    pub(crate) queries: Tokens,
    pub(crate) documents: Tokens,
    /// For each document the first document with the same text, itself where the text is unique.
    pub(crate) same_text: Vec<u32>,
    /// The tokenizer's padding id.
    pub(crate) pad: u32,
}

impl Data {
    /// Tokenises both sides of `collection` as the encoder's settings say, through the token cache.
    pub(crate) fn prepare(collection: Collection, tokenizer: &TextTokenizer, settings: &Settings) -> Result<Self> {
        let cache = token_cache();
        let queries = TokenSpec { prompt: &settings.query_prompt, max_length: settings.query_length };
        let documents = TokenSpec { prompt: &settings.document_prompt, max_length: settings.document_length };
        let queries =
            Tokens::prepare(cache.as_deref(), tokenizer, &queries, collection.queries.texts()).context("tokenising the queries")?;
        let documents =
            Tokens::prepare(cache.as_deref(), tokenizer, &documents, collection.documents.texts()).context("tokenising the documents")?;
        let same_text = first_with_same_text(&collection);
        Ok(Self { collection, queries, documents, same_text, pad: tokenizer.pad_id() })
    }
}

/// Opens a collection by the name on the command line; a wrong name is a wrong request.
pub(crate) fn open(source: &str) -> Result<Collection, Usage> {
    let collection = Collection::open(source).or_usage()?;
    for note in &collection.notes {
        tracing::warn!("{note}");
    }
    Ok(collection)
}

fn first_with_same_text(collection: &Collection) -> Vec<u32> {
    let mut first: HashMap<&str, u32> = HashMap::with_capacity(collection.documents.len());
    (0..collection.documents.len() as u32).map(|document| *first.entry(collection.documents.text(document)).or_insert(document)).collect()
}

/// Where tokens are kept between runs: $DREDGE_CACHE, else the user's cache folder. None when there is no home: tokens stay in memory.
fn token_cache() -> Option<PathBuf> {
    let base = std::env::var_os("DREDGE_CACHE").map(PathBuf::from).or_else(|| {
        std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .map(|cache| cache.join("dredge"))
    })?;
    Some(base.join("tokens"))
}
