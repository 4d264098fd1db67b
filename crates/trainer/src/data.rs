//! What a run reads: the collection, the token rows of both sides, and which documents share one text.
//!
//! Opened once, then immutable and shared by the batch tasks, the miner and the evaluation. Another encoder reads the same collection
//! through token rows of its own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use corpus::{Collection, TextTokenizer, TokenSpec, Tokens};
use encoder::{Settings, TokenBatch};

use crate::errors::{OrUsage, Usage};

pub(crate) struct Data {
    pub(crate) collection: Collection,
    pub(crate) tokens: Arc<TokenRows>,
    /// For each document the first document with the same text, itself where the text is unique.
    pub(crate) same_text: Vec<u32>,
}

impl Data {
    /// Tokenises both sides of `collection` as the encoder's settings say, through the token cache.
    pub(crate) fn prepare(collection: Collection, tokenizer: &TextTokenizer, settings: &Settings) -> Result<Self> {
        let tokens = Arc::new(TokenRows::prepare(&collection, tokenizer, settings)?);
        let same_text = first_with_same_text(&collection);
        Ok(Self { collection, tokens, same_text })
    }

    /// Documents of the corpus.
    pub(crate) fn documents(&self) -> usize {
        self.collection.documents.len()
    }
}

/// Both sides of a collection as one encoder reads them.
pub(crate) struct TokenRows {
    queries: Tokens,
    documents: Tokens,
    /// The tokenizer's padding id.
    pad: u32,
}

impl TokenRows {
    pub(crate) fn prepare(collection: &Collection, tokenizer: &TextTokenizer, settings: &Settings) -> Result<Self> {
        let cache = token_cache();
        let queries = TokenSpec { prompt: &settings.query_prompt, max_length: settings.query_length };
        let documents = TokenSpec { prompt: &settings.document_prompt, max_length: settings.document_length };
        let queries =
            Tokens::prepare(cache.as_deref(), tokenizer, &queries, collection.queries.texts()).context("tokenising the queries")?;
        let documents =
            Tokens::prepare(cache.as_deref(), tokenizer, &documents, collection.documents.texts()).context("tokenising the documents")?;
        Ok(Self { queries, documents, pad: tokenizer.pad_id() })
    }

    pub(crate) fn query(&self, id: u32) -> &[u32] {
        self.queries.row(id)
    }

    pub(crate) fn document(&self, id: u32) -> &[u32] {
        self.documents.row(id)
    }

    /// Tokens of every document.
    pub(crate) fn document_lengths(&self) -> Vec<u32> {
        (0..self.documents.len() as u32).map(|document| self.documents.row(document).len() as u32).collect()
    }

    /// Rows of tokens as one padded batch.
    pub(crate) fn batch(&self, rows: &[&[u32]]) -> TokenBatch {
        TokenBatch::new(rows, self.pad)
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
