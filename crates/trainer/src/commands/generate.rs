//! `trainer generate`: a language model writes queries, triples or hard negatives.

use anyhow::{Context as _, Result, anyhow};
use corpus::{Collection, Texts, TokenSpec, Tokens};
use encoder::Encoder;
use llm::jobs::{self, gecko::Gecko, negatives, negatives::Negatives, queries::Queries, triples::Triples};
use llm::{Attributes, LlmError, Model, Prompt, Quality, Sampling, prompts};
use mining::EmbeddingStore;
use serde_json::json;

use super::language_model::{self as shared, Asked, Desk, file};
use crate::args::{GenerateArgs, Kind, WrittenFrom};
use crate::data::{self, Data};
use crate::device::{self, Chosen};
use crate::errors::{OrUsage, Usage, chain};
use crate::rows::Rows;
use crate::setup;

/// Queries encoded and searched at a time.
const QUERY_BLOCK: usize = 256;

pub(super) fn run(args: &GenerateArgs) -> Result<()> {
    let own = &args.language_model;
    match (args.kind, &args.data) {
        (Kind::Triples, Some(_)) => {
            return Err(Usage::new("--data: triples are written without a collection; say what they are about with --topic").into());
        }
        (Kind::Triples, None) | (_, Some(_)) => belongs(args)?,
        (_, None) => return Err(Usage::new("--data is missing: the collection to write for").into()),
    }
    let counts = [
        ("--documents", args.documents),
        ("--per-document", args.per_document.map(|count| count as usize)),
        ("--per-query", args.per_query.map(|count| count as usize)),
        ("--tasks", args.tasks),
        ("--per-task", args.per_task.map(|count| count as usize)),
    ];
    if let Some((flag, _)) = counts.iter().find(|(_, count)| *count == Some(0)) {
        return Err(Usage::new(format!("{flag} 0: expected at least 1")).into());
    }
    let model = shared::model(own, &Asked::first(own, 0.7, args.logprobs))?;
    let Some(source) = &args.data else { return triples(args, &model) };
    let collection = data::open(source)?;
    match args.kind {
        Kind::Queries => queries(args, &model, &collection),
        Kind::Negatives => hard_negatives(args, &model, &collection),
        _ => gecko(args, &model, &collection, source),
    }
}

/// A flag of another kind would be without effect: it is refused.
fn belongs(args: &GenerateArgs) -> Result<(), Usage> {
    use Kind::{Gecko, Negatives, Queries, Triples};
    let flags: [(&str, bool, &[Kind]); 15] = [
        ("--documents", args.documents.is_some(), &[Queries, Gecko]),
        ("--per-document", args.per_document.is_some(), &[Queries]),
        ("--examples", args.examples.is_some(), &[Queries, Gecko]),
        ("--logprobs", args.logprobs, &[Queries]),
        ("--split", args.split.is_some(), &[Negatives]),
        ("--per-query", args.per_query.is_some(), &[Negatives]),
        ("--from", args.from.is_some(), &[Negatives]),
        ("--attributes", args.attributes.is_some(), &[Negatives, Triples]),
        ("--retriever", args.retriever.is_some(), &[Gecko]),
        ("--candidates", args.candidates.is_some(), &[Gecko]),
        ("--device", args.device.is_some(), &[Gecko]),
        ("--topic", args.topic.is_some(), &[Triples]),
        ("--tasks", args.tasks.is_some(), &[Triples]),
        ("--per-task", args.per_task.is_some(), &[Triples]),
        ("--languages", args.languages.is_some(), &[Triples]),
    ];
    let Some((flag, _, kinds)) = flags.iter().find(|(_, given, kinds)| *given && !kinds.contains(&args.kind)) else { return Ok(()) };
    let name = |kind: &Kind| format!("{kind:?}").to_lowercase();
    let kinds = kinds.iter().map(name).collect::<Vec<_>>().join(", ");
    Err(Usage::new(format!("{flag} has no effect with --kind {}, it is for {kinds}: leave it out", name(&args.kind))))
}

fn queries(args: &GenerateArgs, model: &Model, collection: &Collection) -> Result<()> {
    let own = &args.language_model;
    let files = shared::prompts(own, &["queries"])?;
    let job = Queries {
        documents: documents(args, collection)?,
        per_document: args.per_document.unwrap_or(1),
        prompt: with_examples(args, prompts::queries(file(&files, "queries")))?,
        quality: quality(args, Quality::QUERIES)?,
    };
    let mut settings = shared::settings(model, own);
    settings["documents"] = json!(job.documents.len());
    settings["per_document"] = json!(job.per_document);
    settings["quality"] = json!(job.quality);
    let identity = shared::identity("queries", collection, model, own, json!({}));
    let desk = Desk::open(own, identity, &settings, &[&job.prompt])?;
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
    let with_positives = args.from != Some(WrittenFrom::Query);
    let split = args.split.as_deref().unwrap_or("train");
    let attributes = Attributes::of_negatives(args.attributes.as_deref()).or_usage()?;
    let prompt = if with_positives { prompts::negatives_pair } else { prompts::negatives_query };
    let job = Negatives {
        queries: negatives::queries_of(collection, collection.split(split).or_usage()?, with_positives),
        per_query: args.per_query.unwrap_or(1),
        prompt: prompt(file(&files, "negatives")).or_usage()?.with_attributes(&attributes),
        attributes,
        quality: quality(args, Quality::PASSAGES)?,
    };
    let mut settings = shared::settings(model, own);
    settings["quality"] = json!(job.quality);
    let changing = json!({ "split": split, "per_query": job.per_query, "with_positives": with_positives });
    let desk = Desk::open(own, shared::identity("negatives", collection, model, own, changing), &settings, &[&job.prompt])?;
    desk.work(
        "generated.jsonl",
        None,
        |desk| Ok(job.estimate(&desk.context(model, collection))),
        |desk| Ok(job.run(&desk.context(model, collection))),
    )
}

fn triples(args: &GenerateArgs, model: &Model) -> Result<()> {
    let own = &args.language_model;
    let Some(topic) = args.topic.as_deref().filter(|topic| !topic.trim().is_empty()) else {
        return Err(Usage::new("--topic is missing: what the triples are about, in words").into());
    };
    if args.languages.iter().flatten().any(|name| name.trim().is_empty()) {
        return Err(Usage::new("--languages: a name is empty; expected names such as English,German").into());
    }
    let files = shared::prompts(own, &["tasks", "triples"])?;
    let attributes = Attributes::of_triples(args.attributes.as_deref()).or_usage()?;
    let passages = quality(args, Quality::PASSAGES)?;
    let job = Triples {
        tasks: args.tasks.unwrap_or(20),
        per_task: args.per_task.unwrap_or(5),
        topic: topic.to_owned(),
        languages: args.languages.clone().unwrap_or_else(|| vec!["English".into()]),
        task_prompt: prompts::triple_tasks(file(&files, "tasks")).or_usage()?,
        prompt: prompts::triples(file(&files, "triples")).or_usage()?.with_attributes(&attributes),
        attributes,
        // A limit for documents is one for the query as well where it is less than the query's own.
        queries: Quality {
            min_words: passages.min_words.min(Quality::QUERIES.min_words),
            max_words: passages.max_words.min(Quality::QUERIES.max_words),
            max_copied: args.max_copied.unwrap_or(Quality::QUERIES.max_copied),
            ..passages
        },
        passages,
    };
    let mut settings = shared::settings(model, own);
    settings["per_task"] = json!(job.per_task);
    settings["quality"] = json!({ "queries": job.queries, "passages": job.passages });
    // How many tasks there are to be stands in the questions about them.
    let changing = json!({ "seed": own.seed, "tasks": job.tasks, "languages": job.languages });
    let identity = json!({ "kind": "triples", "topic": job.topic, "model": model.name, "settings": changing });
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
    let candidates = args.candidates.unwrap_or(20);
    if !(2..=100).contains(&candidates) {
        return Err(Usage::new(format!("--candidates {candidates}: expected 2 to 100")).into());
    }
    // Opened before the first query is written and paid.
    let retriever = open_retriever(args, collection)?;
    let judge = Sampling { temperature: own.temperature.unwrap_or(0.0), ..model.sampling.clone() };
    let job = Gecko {
        documents: documents(args, collection)?,
        candidates,
        query_prompt: with_examples(args, prompts::gecko_query(file(&files, "query")))?,
        score_prompts: [
            prompts::gecko_relevance(file(&files, "relevance")).or_usage()?,
            prompts::gecko_likelihood(file(&files, "likelihood")).or_usage()?,
        ],
        judge: Model { sampling: judge, ..model.clone() },
        quality: quality(args, Quality::QUERIES)?,
    };
    let mut settings = shared::settings(model, own);
    settings["documents"] = json!(job.documents.len());
    settings["judge_temperature"] = json!(job.judge.sampling.temperature);
    settings["quality"] = json!(job.quality);
    let [relevance, likelihood] = &job.score_prompts;
    let changing = json!({ "candidates": candidates, "retriever": retriever_name(args) });
    let identity = shared::identity("gecko", collection, model, own, changing);
    let desk = Desk::open(own, identity, &settings, &[&job.query_prompt, relevance, likelihood])?;
    let retrieve = |texts: &[String], k: usize| retrieve(retriever.as_ref(), collection, source, texts, k).map_err(|error| chain(&error));
    desk.work(
        "queries.jsonl",
        None,
        |desk| job.estimate(&desk.context(model, collection), &retrieve).map_err(|error| anyhow!(error)),
        |desk| job.run(&desk.context(model, collection), &retrieve).map_err(|error| anyhow!(error)),
    )
}

/// What finds passages.
fn retriever_name(args: &GenerateArgs) -> &str {
    args.retriever.as_deref().unwrap_or("bm25")
}

/// The encoder that finds passages, and its device; none for BM25.
fn open_retriever(args: &GenerateArgs, collection: &Collection) -> Result<Option<(Chosen, Encoder)>> {
    if retriever_name(args) == "bm25" {
        return Ok(None);
    }
    let chosen = device::choose(args.device.as_deref().unwrap_or("auto"))?;
    let encoder = setup::encoder_named(retriever_name(args), collection, args.language_model.seed, &chosen)?;
    setup::warn_of_products(retriever_name(args), &encoder.settings, "");
    Ok(Some((chosen, encoder)))
}

/// The best documents for each text, by BM25 or an encoder.
fn retrieve(
    retriever: Option<&(Chosen, Encoder)>,
    collection: &Collection,
    source: &str,
    texts: &[String],
    k: usize,
) -> Result<Vec<Vec<u32>>> {
    let Some((chosen, encoder)) = retriever else {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let found = mining::bm25_of_texts(collection, &texts, k)?;
        return Ok(found.into_iter().map(|row| row.into_iter().map(|(document, _)| document).collect()).collect());
    };
    let data = Data::prepare(data::open(source)?, &encoder.tokenizer, &encoder.settings)?;
    let device = chosen.device.clone().without_autodiff();
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

/// A prompt with the user's examples, if there are some.
fn with_examples(args: &GenerateArgs, prompt: Result<Prompt, LlmError>) -> Result<Prompt, Usage> {
    let examples = args.examples.as_deref().map(jobs::read_examples).transpose().or_usage()?;
    prompt.or_usage()?.with_examples(examples.as_deref().unwrap_or_default()).map_err(|error| Usage::new(format!("--examples: {error}")))
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
