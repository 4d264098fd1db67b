//! What a run reads: the collection, the token rows of both sides, and which documents share one text.
//!
//! Opened once, then immutable and shared by the batch tasks, the miner and the evaluation. Another encoder reads the same collection
//! through token rows of its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use corpus::{Collection, CorpusError, QueryCounts, QueryUse, TextTokenizer, Texts, TokenSpec, Tokens};
use encoder::{Settings, TokenBatch};
use mining::DocumentTexts;

use crate::config::DataConfig;
use crate::errors::{OrUsage, Usage};
use crate::runfolder::RunFolder;
use crate::side_files::SideFiles;

pub(crate) struct Data {
    pub(crate) collection: Collection,
    pub(crate) side: SideFiles,
    pub(crate) tokens: Arc<TokenRows>,
    /// For each document the first document with the same text, itself where the text is unique.
    pub(crate) same_text: Vec<u32>,
}

impl Data {
    /// Tokenises both sides of `collection` as the encoder's settings say, through the token cache.
    pub(crate) fn prepare(collection: Collection, tokenizer: &TextTokenizer, settings: &Settings) -> Result<Self> {
        Self::with(collection, SideFiles::default(), tokenizer, settings)
    }

    /// The same, with files beside the collection.
    pub(crate) fn with(collection: Collection, side: SideFiles, tokenizer: &TextTokenizer, settings: &Settings) -> Result<Self> {
        Self::cached(token_cache().as_deref(), collection, side, tokenizer, settings)
    }

    /// The same with this folder for tokens; without one they stay in memory.
    pub(crate) fn cached(
        cache: Option<&Path>,
        collection: Collection,
        side: SideFiles,
        tokenizer: &TextTokenizer,
        settings: &Settings,
    ) -> Result<Self> {
        let tokens = Arc::new(TokenRows::prepare_in(cache, &collection, &side, tokenizer, settings)?);
        let same_text = first_with_same_text(&collection);
        Ok(Self { collection, side, tokens, same_text })
    }

    /// Documents of the corpus.
    pub(crate) fn documents(&self) -> usize {
        self.collection.documents.len()
    }
}

impl DocumentTexts for Data {
    fn text(&self, document: u32) -> Option<&str> {
        ((document as usize) < self.documents()).then(|| self.collection.documents.text(document))
    }
}

/// Both sides of a collection as one encoder reads them.
pub(crate) struct TokenRows {
    queries: Tokens,
    documents: Tokens,
    /// Texts outside the corpus, whose ids follow its documents.
    generated: Option<Tokens>,
    /// The tokenizer's padding id.
    pad: u32,
}

impl TokenRows {
    pub(crate) fn prepare(collection: &Collection, side: &SideFiles, tokenizer: &TextTokenizer, settings: &Settings) -> Result<Self> {
        Self::prepare_in(token_cache().as_deref(), collection, side, tokenizer, settings)
    }

    fn prepare_in(
        cache: Option<&Path>,
        collection: &Collection,
        side: &SideFiles,
        tokenizer: &TextTokenizer,
        settings: &Settings,
    ) -> Result<Self> {
        let queries = TokenSpec { prompt: &settings.query_prompt, max_length: settings.query_length };
        let spec = TokenSpec { prompt: &settings.document_prompt, max_length: settings.document_length };
        let prepare = |spec: &TokenSpec<'_>, texts: &Texts| match Tokens::prepare(cache, tokenizer, spec, texts) {
            Err(CorpusError::Cache { path, source }) => {
                tracing::warn!(
                    "tokens are not kept for the next run: {}: {source}; DREDGE_CACHE names another folder for them",
                    path.display()
                );
                Tokens::prepare(None, tokenizer, spec, texts)
            }
            prepared => prepared,
        };
        let queries = prepare(&queries, collection.queries.texts()).context("tokenising the queries")?;
        let documents = prepare(&spec, collection.documents.texts()).context("tokenising the documents")?;
        let generated = side.generated.as_ref().map(|generated| prepare(&spec, &generated.texts)).transpose();
        let generated = generated.context("tokenising the generated texts")?;
        Ok(Self { queries, documents, generated, pad: tokenizer.pad_id() })
    }

    pub(crate) fn query(&self, id: u32) -> &[u32] {
        self.queries.row(id)
    }

    /// Of a document of the corpus, or of a generated text.
    pub(crate) fn document(&self, id: u32) -> &[u32] {
        match &self.generated {
            Some(generated) => self.documents.row_beyond(generated, id),
            None => self.documents.row(id),
        }
    }

    /// Tokens of every document.
    pub(crate) fn document_lengths(&self) -> Vec<u32> {
        lengths(&self.documents)
    }

    /// Tokens of every query.
    pub(crate) fn query_lengths(&self) -> Vec<u32> {
        lengths(&self.queries)
    }

    /// Rows of tokens as one batch.
    pub(crate) fn batch(&self, rows: &[&[u32]]) -> TokenBatch {
        TokenBatch::new(rows, self.pad)
    }
}

fn lengths(tokens: &Tokens) -> Vec<u32> {
    (0..tokens.len() as u32).map(|text| tokens.row(text).len() as u32).collect()
}

/// Opens a collection by the name on the command line; a wrong name is a wrong request.
pub(crate) fn open(source: &str) -> Result<Collection, Usage> {
    noted(Collection::open(source).or_usage()?)
}

/// The same where only documents are needed.
pub(crate) fn open_documents(source: &str) -> Result<Collection, Usage> {
    noted(Collection::open_documents(source).or_usage()?)
}

/// The collection of a run that is there already.
///
/// # Errors
/// As [`open`]; a relative path that leads nowhere from here says where it comes from.
pub(crate) fn open_of_run(run: &RunFolder, config: &DataConfig) -> Result<Collection, Usage> {
    look_for(run, config)?;
    open(&config.path)
}

/// Whether the data of a run are where its configuration says.
///
/// # Errors
/// When a relative path leads nowhere from here.
pub(crate) fn look_for(run: &RunFolder, config: &DataConfig) -> Result<(), Usage> {
    let path = Path::new(&config.path);
    if config.path.starts_with("builtin:") || path.is_absolute() || path.exists() {
        return Ok(());
    }
    Err(Usage::new(format!(
        "no data at {}, which is where {} has them, seen from the folder in which the run began; go there first, or write the whole path into data.path",
        config.path,
        run.config().display()
    )))
}

fn noted(collection: Collection) -> Result<Collection, Usage> {
    for note in &collection.notes {
        tracing::warn!("{note}");
    }
    Ok(collection)
}

/// Enters the queries of `data.queries` into the collection of a run, and says what the file held.
///
/// # Errors
/// When the file does not fit the collection, or the configuration counts on a file and names none.
pub(crate) fn add_queries(collection: &mut Collection, config: &DataConfig) -> Result<Option<QueryCounts>, Usage> {
    let Some(path) = &config.queries else {
        let counts_on_it = [
            (config.queries_use == QueryUse::Replace, "data.queries_use = \"replace\""),
            (config.queries_keep.is_some(), "data.queries_keep"),
        ];
        return match counts_on_it.iter().find(|(holds, _)| *holds) {
            Some((_, key)) => Err(Usage::new(format!(
                "{key} needs data.queries = FILE: JSON lines {{\"_id\", \"text\", \"positive\": [\"document id\"]}}"
            ))),
            None => Ok(None),
        };
    };
    collection.add_queries(path.as_ref(), &config.train, config.queries_use, config.queries_keep).or_usage().map(Some)
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
