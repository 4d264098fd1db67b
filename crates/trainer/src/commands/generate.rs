//! `trainer generate`: a language model writes queries, triples or hard negatives.

use anyhow::{Context as _, Result, anyhow};
use corpus::{Collection, Texts, TokenSpec, Tokens};
use llm::jobs::{self, gecko::Gecko, negatives, negatives::Negatives, queries::Queries, triples::Triples};
use llm::{Attributes, Model, Quality, prompts};
use mining::EmbeddingStore;
use serde_json::json;

use super::language_model::{self as shared, Desk, file};
use crate::args::{GenerateArgs, Kind, WrittenFrom};
use crate::data::{self, Data};
use crate::device;
use crate::errors::{OrUsage, Usage};
use crate::rows::Rows;

/// Queries encoded and searched at a time.
const QUERY_BLOCK: usize = 256;

pub(super) fn run(args: &GenerateArgs) -> Result<()> {
    let own = &args.language_model;
    if args.logprobs && args.kind != Kind::Queries {
        return Err(Usage::new("--logprobs: only queries are written with log-probabilities").into());
    }
    let counts = [
        ("--documents", args.documents.unwrap_or(1)),
        ("--per-document", args.per_document as usize),
        ("--per-query", args.per_query as usize),
        ("--tasks", args.tasks),
        ("--per-task", args.per_task as usize),
    ];
    if let Some((flag, _)) = counts.iter().find(|(_, count)| *count == 0) {
        return Err(Usage::new(format!("{flag} 0: expected at least 1")).into());
    }
    let model = shared::model(own, &own.model, &own.endpoint, &own.key_variable, 0.7, args.logprobs)?;
    match (args.kind, &args.data) {
        (Kind::Triples, None) if args.topic.as_deref().is_none_or(|topic| topic.trim().is_empty()) => {
            Err(Usage::new("--topic is missing: what the triples are about, in words").into())
        }
        (Kind::Triples, None) if args.languages.iter().any(|name| name.trim().is_empty()) => {
            Err(Usage::new("--languages: a name is empty; expected names such as English,German").into())
        }
        (Kind::Triples, None) => triples(args, &model),
        (Kind::Triples, Some(_)) => {
            Err(Usage::new("--data: triples are written without a collection; say what they are about with --topic").into())
        }
        (_, None) => Err(Usage::new("--data is missing: the collection to write for").into()),
        (kind, Some(source)) => {
            let collection = data::open(source)?;
            match kind {
                Kind::Queries => queries(args, &model, &collection),
                Kind::Negatives => hard_negatives(args, &model, &collection),
                _ => gecko(args, &model, &collection, source),
            }
        }
    }
}

fn queries(args: &GenerateArgs, model: &Model, collection: &Collection) -> Result<()> {
    let own = &args.language_model;
    let files = shared::prompts(own, &["queries"])?;
    let job = Queries {
        documents: documents(args, collection)?,
        per_document: args.per_document,
        prompt: prompts::queries(file(&files, "queries")).or_usage()?,
        examples: examples(args)?,
        quality: quality(args, Quality::QUERIES)?,
    };
    let mut settings = shared::settings(model, own);
    settings["documents"] = json!(job.documents.len());
    settings["per_document"] = json!(job.per_document);
    settings["quality"] = json!(job.quality);
    let desk = Desk::open(own, shared::identity("queries", collection, model), &settings, &[&job.prompt])?;
    desk.work(
        "queries.jsonl",
        None,
        |desk| Ok(job.estimate(&desk.context(model, collection))),
        |desk| Ok(job.run(&desk.context(model, collection))),
    )
}

fn hard_negatives(args: &GenerateArgs, model: &Model, collection: &Collection) -> Result<()> {
    let own = &args.language_model;
    let files = shared::prompts(own, &["negatives"])?;
    let with_positives = args.from == WrittenFrom::Pair;
    let prompt = if with_positives { prompts::negatives_pair } else { prompts::negatives_query };
    let job = Negatives {
        queries: negatives::queries_of(collection, collection.split(&args.split).or_usage()?, with_positives),
        per_query: args.per_query,
        prompt: prompt(file(&files, "negatives")).or_usage()?,
        attributes: Attributes::of_negatives(args.attributes.as_deref()).or_usage()?,
        quality: quality(args, Quality::PASSAGES)?,
    };
    let mut settings = shared::settings(model, own);
    settings["split"] = json!(args.split);
    settings["per_query"] = json!(job.per_query);
    settings["quality"] = json!(job.quality);
    let desk = Desk::open(own, shared::identity("negatives", collection, model), &settings, &[&job.prompt])?;
    desk.work(
        "generated.jsonl",
        None,
        |desk| Ok(job.estimate(&desk.context(model, collection))),
        |desk| Ok(job.run(&desk.context(model, collection))),
    )
}

fn triples(args: &GenerateArgs, model: &Model) -> Result<()> {
    let own = &args.language_model;
    let files = shared::prompts(own, &["tasks", "triples"])?;
    let job = Triples {
        tasks: args.tasks,
        per_task: args.per_task,
        topic: args.topic.clone().unwrap_or_default(),
        languages: args.languages.clone(),
        task_prompt: prompts::triple_tasks(file(&files, "tasks")).or_usage()?,
        prompt: prompts::triples(file(&files, "triples")).or_usage()?,
        attributes: Attributes::of_triples(args.attributes.as_deref()).or_usage()?,
        queries: quality(args, Quality::QUERIES)?,
        passages: Quality { max_copied: args.max_copied.unwrap_or(Quality::PASSAGES.max_copied), ..Quality::PASSAGES },
    };
    let mut settings = shared::settings(model, own);
    settings["tasks"] = json!(job.tasks);
    settings["per_task"] = json!(job.per_task);
    settings["languages"] = json!(job.languages);
    let identity = json!({ "kind": "triples", "topic": job.topic, "model": model.name });
    let desk = Desk::open(own, identity, &settings, &[&job.task_prompt, &job.prompt])?;
    let none = Collection::default();
    let columns: (&str, &[&str]) = ("collection/train.jsonl", &["query", "positive", "negative"]);
    desk.work(
        "triples.jsonl",
        Some(columns),
        |desk| Ok(job.estimate(&desk.context(model, &none))),
        |desk| Ok(job.run(&desk.context(model, &none))),
    )
}

fn gecko(args: &GenerateArgs, model: &Model, collection: &Collection, source: &str) -> Result<()> {
    let own = &args.language_model;
    let files = shared::prompts(own, &["query", "relevance", "likelihood"])?;
    if !(2..=100).contains(&args.candidates) {
        return Err(Usage::new(format!("--candidates {}: expected 2 to 100", args.candidates)).into());
    }
    let job = Gecko {
        documents: documents(args, collection)?,
        candidates: args.candidates,
        query_prompt: prompts::gecko_query(file(&files, "query")).or_usage()?,
        score_prompts: [
            prompts::gecko_relevance(file(&files, "relevance")).or_usage()?,
            prompts::gecko_likelihood(file(&files, "likelihood")).or_usage()?,
        ],
        examples: examples(args)?,
        quality: quality(args, Quality::QUERIES)?,
    };
    let mut settings = shared::settings(model, own);
    settings["documents"] = json!(job.documents.len());
    settings["candidates"] = json!(job.candidates);
    settings["retriever"] = json!(args.retriever);
    settings["quality"] = json!(job.quality);
    let [relevance, likelihood] = &job.score_prompts;
    let desk = Desk::open(own, shared::identity("gecko", collection, model), &settings, &[&job.query_prompt, relevance, likelihood])?;
    let retrieve = |texts: &[String], k: usize| retrieve(args, collection, source, texts, k).map_err(|error| format!("{error:#}"));
    desk.work(
        "queries.jsonl",
        None,
        |desk| job.estimate(&desk.context(model, collection), &retrieve).map_err(|error| anyhow!(error)),
        |desk| job.run(&desk.context(model, collection), &retrieve).map_err(|error| anyhow!(error)),
    )
}

/// The best documents for each text, by BM25 or an encoder.
fn retrieve(args: &GenerateArgs, collection: &Collection, source: &str, texts: &[String], k: usize) -> Result<Vec<Vec<u32>>> {
    if args.retriever == "bm25" {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let found = mining::bm25_of_texts(collection, &texts, k)?;
        return Ok(found.into_iter().map(|row| row.into_iter().map(|(document, _)| document).collect()).collect());
    }
    let chosen = device::choose(&args.device)?;
    let encoder = crate::setup::encoder_named(&args.retriever, collection, args.language_model.seed, &chosen)?;
    let data = Data::prepare(data::open(source)?, &encoder.tokenizer, &encoder.settings)?;
    let device = chosen.device.without_autodiff();
    let mut queries = Texts::new();
    for text in texts {
        queries.push(text);
    }
    let spec = TokenSpec { prompt: &encoder.settings.query_prompt, max_length: encoder.settings.query_length };
    let tokens = Tokens::prepare(None, &encoder.tokenizer, &spec, &queries)?;
    let mut rows = Rows::new(encoder.network.clone(), &device, &data.tokens);
    let store = EmbeddingStore::encode(&mut rows, data.documents(), &device).context("encoding the documents")?;
    let all: Vec<u32> = (0..texts.len() as u32).collect();
    let mut found = Vec::with_capacity(texts.len());
    for block in all.chunks(QUERY_BLOCK) {
        let block: Vec<&[u32]> = block.iter().map(|&text| tokens.row(text)).collect();
        let embedded = encoder.network.encode(&data.tokens.batch(&block), &device);
        let top = store.search(embedded, k.min(data.documents()), None, None).context("searching")?;
        found.extend((0..block.len()).map(|row| top.row(row).map(|(document, _)| document).collect::<Vec<_>>()));
    }
    Ok(found)
}

fn documents(args: &GenerateArgs, collection: &Collection) -> Result<Vec<u32>, Usage> {
    let documents = jobs::draw_documents(collection, args.documents, 1, args.language_model.seed);
    if documents.is_empty() {
        Err(Usage::new(format!("`{}` has no document with a text to write for", collection.name)))
    } else {
        Ok(documents)
    }
}

fn examples(args: &GenerateArgs) -> Result<String, Usage> {
    args.examples.as_deref().map_or_else(|| Ok(String::new()), |path| jobs::read_examples(path).or_usage())
}

fn quality(args: &GenerateArgs, own: Quality) -> Result<Quality, Usage> {
    let quality = Quality {
        min_words: args.min_words.unwrap_or(own.min_words),
        max_words: args.max_words.unwrap_or(own.max_words),
        max_copied: args.max_copied.unwrap_or(own.max_copied),
        min_logprob: args.min_logprob,
    };
    quality.validate().or_usage()?;
    Ok(quality)
}
