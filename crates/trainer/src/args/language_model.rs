//! Flags of `trainer generate` and `trainer relabel`, and of what they have in common: a model, an endpoint, a budget.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Flags of every command that speaks to a language model.
#[derive(Debug, Args)]
pub(crate) struct LanguageModelArgs {
    /// The base URL of an OpenAI-compatible endpoint, for instance http://localhost:8080/v1
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: String,
    /// The model's name at the endpoint
    #[arg(long, value_name = "NAME")]
    pub(crate) model: String,
    /// The folder of the job, new or to go on with
    #[arg(long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Name of the environment variable that holds the endpoint's key
    #[arg(long, value_name = "VARIABLE", default_value = "OPENAI_API_KEY")]
    pub(crate) key_variable: String,
    /// Say what it would cost and ask nobody
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Requests under way at once
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) concurrency: usize,
    /// Requests that the job may make, over all its runs [default: no limit]
    #[arg(long, value_name = "N")]
    pub(crate) max_requests: Option<u64>,
    /// Tokens of prompts and answers that the job may use, over all its runs [default: no limit]
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u64>,
    /// Seconds that a request may take
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0)]
    pub(crate) timeout: f64,
    /// Tries of one request, with growing waits between them; being sent away (429) is none
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub(crate) attempts: u32,
    /// The model's temperature [default: 0.7 to write, 0 to judge]
    #[arg(long, value_name = "X")]
    pub(crate) temperature: Option<f64>,
    /// Tokens of one answer at most
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) max_answer_tokens: u64,
    /// Further fields of every request; null takes a field out, for instance {"max_tokens":null,"max_completion_tokens":2000}. The larger of the two
    /// is the longest answer then, in the place of --max-answer-tokens
    #[arg(long, value_name = "JSON")]
    pub(crate) body: Option<String>,
    /// A prompt of your own in the place of ours; may be given once for each stage, as STAGE=FILE; `repair` is
    /// the stage of the prompt that sends an answer back which has not the form asked for
    #[arg(long, value_name = "[STAGE=]FILE")]
    pub(crate) prompt: Vec<String>,
    /// Words of a document that a prompt shows at most; where blanks do not part words each character is one
    #[arg(long, value_name = "N", default_value_t = 350)]
    pub(crate) document_words: usize,
    /// Seed of every draw
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Queries for documents (InPars, Promptagator, GPL)
    Queries,
    /// Query, positive and hard negative, without a collection (E5)
    Triples,
    /// Hard negatives for queries (SyNeg, llm-negative)
    Negatives,
    /// Queries for documents whose positive and negative the model chooses among what is retrieved (Gecko)
    Gecko,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WrittenFrom {
    /// The query alone
    Query,
    /// The query and its positives
    Pair,
}

/// Every answer is kept at once; a job that was stopped, by whatever, goes on when the same command is given again.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// What to write
    #[arg(long, value_enum)]
    pub(crate) kind: Kind,
    /// The collection: a folder, a file, or builtin:demo (not for triples)
    #[arg(long, value_name = "DIR", required_unless_present = "topic")]
    pub(crate) data: Option<String>,
    #[command(flatten)]
    pub(crate) language_model: LanguageModelArgs,
    /// Queries, gecko: documents to write for, drawn at random [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) documents: Option<usize>,
    /// Queries: queries for each document [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) per_document: Option<u32>,
    /// Queries, gecko: examples of the task, JSON lines {"document", "query"}
    #[arg(long, value_name = "FILE")]
    pub(crate) examples: Option<PathBuf>,
    /// Queries: ask for log-probabilities and write their mean into the rows
    #[arg(long)]
    pub(crate) logprobs: bool,
    /// Leave out what has a lower mean log-probability
    #[arg(long, value_name = "X", allow_negative_numbers = true, requires = "logprobs")]
    pub(crate) min_logprob: Option<f64>,
    /// Leave out texts of fewer words; where blanks do not part words each character is one. Of triples it holds for the documents, and for the
    /// query where that is less than its own limit [default: 3 for queries, 5 for passages]
    #[arg(long, value_name = "N")]
    pub(crate) min_words: Option<usize>,
    /// Leave out texts of more words; of triples as with --min-words [default: 64 for queries, 600 for passages]
    #[arg(long, value_name = "N")]
    pub(crate) max_words: Option<usize>,
    /// Leave out texts of which a greater share is copied, in runs of six words [default: 0.7 for queries, 0.5 for passages]
    #[arg(long, value_name = "SHARE")]
    pub(crate) max_copied: Option<f64>,
    /// Negatives: the split whose queries get some [default: train]
    #[arg(long)]
    pub(crate) split: Option<String>,
    /// Negatives: negatives for each query; syneg trains on 2 [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) per_query: Option<u32>,
    /// Negatives: what the model sees [default: pair]
    #[arg(long, value_enum)]
    pub(crate) from: Option<WrittenFrom>,
    /// Negatives, triples: attributes to draw from, {"name": ["value", ...]}, in the place of ours
    #[arg(long, value_name = "FILE")]
    pub(crate) attributes: Option<PathBuf>,
    /// Gecko: what finds the passages to choose among, bm25 or an encoder (a folder, a hub id) [default: bm25]
    #[arg(long, value_name = "MODEL")]
    pub(crate) retriever: Option<String>,
    /// Gecko: passages to choose among [default: 20]
    #[arg(long, value_name = "N")]
    pub(crate) candidates: Option<usize>,
    /// Gecko: where the encoder computes: auto, gpu, gpu:N or cpu [default: auto]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// Triples: what they are about, in words
    #[arg(long, value_name = "TEXT")]
    pub(crate) topic: Option<String>,
    /// Triples: retrieval tasks to think of [default: 20]
    #[arg(long, value_name = "N")]
    pub(crate) tasks: Option<usize>,
    /// Triples: triples for each task [default: 5]
    #[arg(long, value_name = "N")]
    pub(crate) per_task: Option<u32>,
    /// Triples: languages, one of which is drawn for each [default: English]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) languages: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RelabelMethod {
    /// The model names the relevant ones; a stronger model may look again (RLHN)
    Verdict,
    /// The model looks for answers and ranks the passages with the positives (ARHN)
    Ranking,
}

/// Writes a decision for every listed negative: neg, drop or pos. What a run makes of them is its `data.decision_policy`.
#[derive(Debug, Args)]
pub(crate) struct RelabelArgs {
    /// The collection: a folder, a file, or builtin:demo
    #[arg(long, value_name = "DIR")]
    pub(crate) data: String,
    /// Mined negatives, in any form that `trainer mine` writes [default: those that came with the collection]
    #[arg(long, value_name = "FILE")]
    pub(crate) negatives: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) language_model: LanguageModelArgs,
    /// How it is decided
    #[arg(long, value_enum, default_value = "verdict")]
    pub(crate) method: RelabelMethod,
    /// A stronger model, which looks again at what the first did not find irrelevant
    #[arg(long, value_name = "NAME")]
    pub(crate) strong_model: Option<String>,
    /// Its endpoint [default: the same]
    #[arg(long, value_name = "URL", requires = "strong_model")]
    pub(crate) strong_endpoint: Option<String>,
    /// Name of the environment variable with that endpoint's key [default: the same, on the same host alone]
    #[arg(long, value_name = "VARIABLE", requires = "strong_endpoint")]
    pub(crate) strong_key_variable: Option<String>,
    /// Its temperature [default: that of --temperature, else 0]
    #[arg(long, value_name = "X", requires = "strong_model")]
    pub(crate) strong_temperature: Option<f64>,
    /// Further fields of its requests, in the place of those of --body, none of which it gets then; {} for no fields at all [default: those of --body]
    #[arg(long, value_name = "JSON", requires = "strong_model")]
    pub(crate) strong_body: Option<String>,
    /// The split whose queries are looked at
    #[arg(long, default_value = "train")]
    pub(crate) split: String,
    /// Negatives of each query to look at, best first
    #[arg(long, value_name = "N", default_value_t = 25)]
    pub(crate) depth: usize,
    /// Passages that one request shows at most
    #[arg(long, value_name = "N", default_value_t = 25)]
    pub(crate) passages: usize,
}
