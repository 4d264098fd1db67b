//! The command line as written: every sub-command and flag, declared once.
//!
//! This file owns names, help texts and the shape of values; it validates nothing that needs a file or a device.
//! `commands/` turns each variant into work. Flags of jobs for language models are in `args/language_model.rs`.

mod language_model;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use language_model::{GenerateArgs, Kind, LanguageModelArgs, RelabelArgs, RelabelMethod, WrittenFrom};

/// Trains dense retrievers with live-mined hard negatives, on any GPU or on the CPU.
///
/// Without a sub-command: `trainer train` on the built-in collection.
#[derive(Debug, Parser)]
#[command(name = "trainer", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train an encoder, mining hard negatives inside the run
    Train(TrainArgs),
    /// Compile and tune a run's kernels beforehand, so that its first steps are fast
    Warmup(WarmupArgs),
    /// Train several recipes under equal conditions and write one table
    Compare(CompareArgs),
    /// Mine hard negatives once and write them to a file
    Mine(MineArgs),
    /// Let a language model write queries, triples or hard negatives
    Generate(GenerateArgs),
    /// Let a language model find the relevant ones among mined negatives
    Relabel(RelabelArgs),
    /// Encode texts into a safetensors file
    Encode(EncodeArgs),
    /// Answer one typed query from a collection
    Search(SearchArgs),
    /// Score a model or a TREC run on a collection
    Evaluate(EvaluateArgs),
    /// List the recipes that `train --recipe` knows
    Recipes(RecipesArgs),
    /// Copy the model out of a run as a sentence-transformers folder
    Export(ExportArgs),
    /// Show what the negatives of a query were over a run
    Inspect(InspectArgs),
    /// Write the HTML report of a run
    Report(ReportArgs),
    /// List the devices of this machine and what they can do
    Devices(DevicesArgs),
}

/// Flags of every command that computes.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Common {
    /// Where to compute: auto, gpu, gpu:N or cpu [default: auto]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}

impl Common {
    /// The device asked for.
    pub(crate) fn device(&self) -> &str {
        self.device.as_deref().unwrap_or("auto")
    }
}

/// What a run is: a configuration or a recipe, and changes to it.
#[derive(Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// A configuration file; the flags and --set win over it
    pub(crate) config: Option<PathBuf>,
    /// Start from a built-in recipe (see `trainer recipes`)
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub(crate) recipe: Option<String>,
    /// The collection: a folder, a file, or builtin:demo
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<String>,
    /// The encoder to start from: a folder, a hub id, or builtin:tiny
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Overwrite one configuration value, for instance --set train.steps=200
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Default, Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// The run folder to create [default: runs/COLLECTION-RECIPE-NUMBER]
    #[arg(long, value_name = "DIR", visible_alias = "output")]
    pub(crate) out: Option<PathBuf>,
    /// Go on with an interrupted run from its last checkpoint
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "recipe", "data", "model", "out", "set"])]
    pub(crate) resume: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// A few steps on drawn negatives, some texts encoded and searched; nothing is written but what the device keeps of compiling and tuning. A CPU has nothing
/// to compile.
#[derive(Debug, Args)]
pub(crate) struct WarmupArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Batches to train on: each can bring a shape that none before had
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) steps: usize,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Every recipe is trained with every seed; a comparison that was stopped goes on when it is asked for again.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The recipes (see `trainer recipes`) or configuration files; the first one is what the others are measured against
    #[arg(long, value_name = "NAME,NAME,...", value_delimiter = ',', required = true)]
    pub(crate) recipes: Vec<String>,
    /// One more: a recipe or file with values changed, for instance --variant 'hcl: loss.beta=2; batch.negatives=1'
    #[arg(long, value_name = "NAME: KEY=VALUE; ...")]
    pub(crate) variant: Vec<String>,
    /// The collection: a folder, a file, or builtin:demo
    #[arg(long, value_name = "DIR", default_value = "builtin:demo")]
    pub(crate) data: String,
    /// The encoder to start from: a folder, a hub id, or builtin:tiny [default: what the recipes say]
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Train every recipe with the seeds 1 to N
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) seeds: u64,
    /// What every run may spend: 500steps, or 120s of training and mining [default: the steps of the first recipe]
    #[arg(long, value_name = "BUDGET")]
    pub(crate) budget: Option<String>,
    /// Overwrite one configuration value of every recipe, for instance --set batch.queries=32
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// The folder of the comparison, new or to go on with [default: runs/compare-NUMBER]
    #[arg(long, value_name = "DIR", visible_alias = "output")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DrawRule {
    /// The best-scored survivors
    Top,
    /// A uniform draw among the survivors
    Uniform,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MinedFormat {
    /// Ids with scores and ranks, and where they come from
    Own,
    /// Tevatron: positive_passages and negative_passages
    Tevatron,
    /// FlagEmbedding: query, pos, neg and their scores
    Flagembedding,
    /// One anchor, positive, negative per line
    Triplets,
    /// One anchor, positive, negative_1 .. negative_n per line
    Tuples,
}

#[derive(Debug, Args)]
pub(crate) struct MineArgs {
    /// The collection: a folder, a file, or builtin:demo
    #[arg(long, value_name = "DIR")]
    pub(crate) data: String,
    /// The encoder: a folder, a hub id, or builtin:tiny
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) meant: Meant,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Hard negatives for each (query, positive) pair
    #[arg(long, value_name = "N")]
    pub(crate) negatives: usize,
    /// The split whose judgments give the pairs
    #[arg(long, default_value = "train")]
    pub(crate) split: String,
    /// How many ranks to look at [default: 10 times the negatives with a margin, else just enough]
    #[arg(long, value_name = "K")]
    pub(crate) depth: Option<usize>,
    /// Drop a candidate that scores above p - |p|*X, p the lowest positive score of the query
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) relative_margin: Option<f32>,
    /// Drop a candidate whose score + X exceeds the lowest positive score of the query
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) absolute_margin: Option<f32>,
    /// Drop candidates that score above X
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) max_score: Option<f32>,
    /// Drop candidates that score below X
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) min_score: Option<f32>,
    /// Pass over the best N survivors
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) skip: usize,
    /// How to choose among the survivors
    #[arg(long, value_enum, default_value = "top")]
    pub(crate) draw: DrawRule,
    /// The form of the output file
    #[arg(long, value_enum, default_value = "own")]
    pub(crate) format: MinedFormat,
    /// Seed of the uniform draw
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Keep the documents' rows in a file in this folder while working, rather than in the device's memory
    #[arg(long, value_name = "DIR")]
    pub(crate) rows_in: Option<PathBuf>,
    /// Keep them as 16-bit floats: half the room, and what a GPU's matrix units multiply
    #[arg(long)]
    pub(crate) half_rows: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum TextKind {
    /// No prompt
    Plain,
    /// The model's query prompt and length
    Query,
    /// The model's document prompt and length
    Document,
}

/// How a model is meant to be used, where its folder does not say so.
#[derive(Debug, Default, PartialEq, Args)]
pub(crate) struct Meant {
    /// Divide every vector by its length: for a model that is compared by cosine and whose folder has no Normalize
    #[arg(long)]
    pub(crate) normalize: bool,
    /// What stands before every query, in place of what the model's folder says
    #[arg(long, value_name = "TEXT")]
    pub(crate) query_prompt: Option<String>,
    /// What stands before every document, in place of what the model's folder says
    #[arg(long, value_name = "TEXT")]
    pub(crate) document_prompt: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct EncodeArgs {
    /// The encoder: a folder or a hub id
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) meant: Meant,
    /// Rows {"_id", "text", "title"?}, one JSON object a line (.gz too)
    #[arg(long, value_name = "ROWS.jsonl")]
    pub(crate) input: PathBuf,
    /// Where to write the tensor `embeddings` [n, d]; the ids go to OUTPUT.ids
    #[arg(long, value_name = "FILE.safetensors")]
    pub(crate) output: PathBuf,
    /// Which prompt goes in front
    #[arg(long, value_enum, default_value = "plain")]
    pub(crate) kind: TextKind,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// The collection: a folder, a file, or builtin:demo; a folder with nothing but corpus.jsonl will do
    #[arg(long, value_name = "DIR")]
    pub(crate) data: String,
    /// The encoder: a folder, a hub id, or builtin:tiny
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) meant: Meant,
    /// The encoder of the documents, where a run left one of its own (RUN/document-model)
    #[arg(long, value_name = "MODEL")]
    pub(crate) document_model: Option<String>,
    /// How many documents to show
    #[arg(long, default_value_t = 10)]
    pub(crate) k: usize,
    /// The query
    pub(crate) query: String,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// The collection: a folder, a file, or builtin:demo
    #[arg(long, value_name = "DIR")]
    pub(crate) data: String,
    /// The split whose judgments count
    #[arg(long, default_value = "test")]
    pub(crate) split: String,
    /// The encoder to evaluate
    #[arg(long, value_name = "MODEL", required_unless_present = "run", conflicts_with = "run")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) meant: Meant,
    /// The encoder of the documents, where a run left one of its own (RUN/document-model)
    #[arg(long, conflicts_with = "run", value_name = "MODEL")]
    pub(crate) document_model: Option<String>,
    /// A TREC run to score instead of a model
    #[arg(long, value_name = "FILE.trec")]
    pub(crate) run: Option<PathBuf>,
    /// The share of training queries that the run held out, where no split came with the data (data.hold_out)
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub(crate) hold_out: f64,
    /// A folder for metrics.json, the same as BEIR and sentence-transformers write it, and run.trec
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Documents retrieved for each query, 100 to 1024; measures that look further are not given
    #[arg(long, default_value_t = 100, value_name = "K", conflicts_with = "run")]
    pub(crate) depth: usize,
    /// The lowest grade that counts as relevant (trec_eval's -l; 2 for TREC DL); nDCG weighs all grades
    #[arg(long, value_name = "GRADE", default_value_t = 1)]
    pub(crate) relevance_level: i32,
    /// Leave out retrieved documents whose id is the query's own (as BEIR does: ArguAna, Quora)
    #[arg(long)]
    pub(crate) drop_identical: bool,
    /// Keep the documents' rows in a file in this folder while working, rather than in the device's memory
    #[arg(long, conflicts_with = "run", value_name = "DIR")]
    pub(crate) rows_in: Option<PathBuf>,
    /// Keep them as 16-bit floats: half the room, and what a GPU's matrix units multiply
    #[arg(long, conflicts_with = "run")]
    pub(crate) half_rows: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct RecipesArgs {
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the text of one recipe
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The run folder
    pub(crate) run: PathBuf,
    /// The model folder to create
    #[arg(long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The run folder
    pub(crate) run: PathBuf,
    /// A training query: its id, or words that stand in it [default: the queries whose negatives changed most]
    #[arg(long, value_name = "ID|TEXT")]
    pub(crate) query: Option<String>,
    /// Negatives to show of each version, best first; 0 = all. False negatives are shown whatever their rank
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) limit: usize,
    /// Queries to show when none is named
    #[arg(long, value_name = "N", default_value_t = 3, conflicts_with = "query")]
    pub(crate) queries: usize,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The run folder
    pub(crate) run: PathBuf,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}
