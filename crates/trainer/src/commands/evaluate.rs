//! `trainer evaluate`: a model or a TREC run against a split's judgments.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result};
use corpus::Collection;
use encoder::Similarity;
use kernels::MAX_K;
use metrics::{Options, Qrels, Run, report};
use serde_json::json;

use crate::args::{EvaluateArgs, Meant};
use crate::config::DataConfig;
use crate::data::{self, Data};
use crate::device;
use crate::errors::{OrUsage, Usage};
use crate::evaluation;
use crate::output;
use crate::rows::Rows;
use crate::runfolder::write_whole;
use crate::setup;
use crate::splits;

pub(super) fn run(args: &EvaluateArgs) -> Result<()> {
    if !(evaluation::DEPTH..=MAX_K).contains(&args.depth) {
        return Err(
            Usage::new(format!("--depth {}: expected {} to {MAX_K}: Recall@100 looks that far", args.depth, evaluation::DEPTH)).into()
        );
    }
    if args.run.is_some() && args.meant != Meant::default() {
        return Err(Usage::new("--normalize and prompts are for --model: a ranking of --run has been made").into());
    }
    if args.relevance_level < 1 {
        return Err(Usage::new(format!("--relevance-level {}: expected a grade of at least 1", args.relevance_level)).into());
    }
    if !(0.0..1.0).contains(&args.hold_out) {
        return Err(Usage::new(format!("--hold-out {}: expected a share from 0 to below 1", args.hold_out)).into());
    }
    let mut collection = data::open(&args.data)?;
    // The queries that a run on the same data holds out, where no split came with them.
    let usual = DataConfig { hold_out: args.hold_out, ..DataConfig::default() };
    if collection.find_split(&args.split).is_none()
        && [&usual.test, &usual.evaluate].iter().any(|name| *name == Collection::split_name(&args.split))
    {
        let note = splits::settle(&mut collection, &usual)?;
        note.iter().for_each(|note| output::note(note));
    }
    collection.relevant_split(&args.split).or_usage()?;
    // As trec_eval -c, for runs and for models: a query without a ranking counts as zero.
    let options =
        Options { complete: true, relevance_level: args.relevance_level, drop_identical_ids: args.drop_identical, ..Options::default() };
    let qrels = evaluation::qrels(&collection, collection.split(&args.split).or_usage()?);
    let found = match (&args.run, &args.model) {
        (Some(path), _) => {
            let run = Run::read(path).or_usage()?;
            check(&run, &qrels, &collection, path)?;
            let deepest = run.queries().map(|query| run.ranking(query).count()).max().unwrap_or(0);
            Found { cut: evaluation::cut(deepest, collection.documents.len()), run, similarity: None }
        }
        (None, Some(model)) => retrieve(model, args, collection)?,
        (None, None) => return Err(Usage::new("give --model or --run").into()),
    };
    let evaluation = metrics::evaluate(&qrels, &found.run, &options);
    let summary = evaluation::summarise(&evaluation);
    if let Some(folder) = &args.output {
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let file = |name: &str| folder.join(name);
        let all = json!({ "summary": summary, "all": evaluation.to_json(found.cut) });
        write_whole(&file("metrics.json"), serde_json::to_string_pretty(&all)?.as_bytes())?;
        write_whole(&file("beir.json"), serde_json::to_string_pretty(&report::beir_json(&evaluation, found.cut))?.as_bytes())?;
        if let Some(similarity) = found.similarity {
            let table = format!("{}\n{}\n", report::csv_header(similarity), report::csv_row(&evaluation, -1.0, -1));
            write_whole(&file(&format!("Information-Retrieval_evaluation_{}_results.csv", args.split)), table.as_bytes())?;
            found.run.write_trec(file("run.trec"), "dredge").with_context(|| format!("writing {}", file("run.trec").display()))?;
        }
    }
    if args.common.json {
        return output::json(&summary);
    }
    output::metrics_table(&[(args.split.as_str(), summary)]);
    let level = if args.relevance_level > 1 { format!(", relevant from grade {}", args.relevance_level) } else { String::new() };
    output::line(&format!(
        "{} queries; linear gains, ties by document id descending, identical ids {}{level}",
        summary.queries,
        if args.drop_identical { "left out" } else { "kept" }
    ));
    Ok(())
}

/// A ranking to be scored.
struct Found {
    run: Run,
    /// Where it was cut.
    cut: Option<usize>,
    /// Of the model, by the name that sentence-transformers has for it.
    similarity: Option<&'static str>,
}

/// What a model finds for the queries of the split.
fn retrieve(model: &str, args: &EvaluateArgs, collection: Collection) -> Result<Found> {
    let chosen = device::choose(args.common.device())?;
    let encoder = setup::as_meant(setup::encoder_named(model, &collection, 1, &chosen)?, model, &args.meant)?;
    let documents = match &args.document_model {
        Some(model) => setup::document_network(model, &encoder, &args.meant, &collection, &chosen)?,
        None => encoder.network.clone(),
    };
    let data = Data::prepare(collection, &encoder.tokenizer, &encoder.settings)?;
    let judgments = data.collection.split(&args.split).or_usage()?;
    let mut documents = Rows::new(documents, &chosen.device, &data.tokens);
    let store = crate::rows::store(&mut documents, data.documents(), args.rows_in.as_deref(), args.half_rows)?;
    // What the ranking was made by, whatever the folder says.
    let similarity = match (encoder.settings.normalize, encoder.settings.similarity) {
        (true, Similarity::Cosine) => "cosine",
        _ => "dot",
    };
    let mut rows = Rows::new(encoder.network, &chosen.device, &data.tokens);
    // One more for the document that is left out.
    let depth = (args.depth + usize::from(args.drop_identical)).min(MAX_K);
    let scored = evaluation::of_rows(&mut rows, &store, &data, judgments, depth)?;
    crate::rows::disk_note(&store).iter().for_each(|note| output::note(note));
    let run = if args.drop_identical { without_identical(&scored.run, args.depth) } else { scored.run };
    Ok(Found { run, cut: evaluation::cut(args.depth, data.documents()), similarity: Some(similarity) })
}

/// The first `depth` of each ranking behind the query's own document.
fn without_identical(run: &Run, depth: usize) -> Run {
    let mut kept = Run::new();
    for query in run.queries() {
        for (document, score) in run.ranking(query).filter(|(document, _)| *document != query).take(depth) {
            kept.push(query, document, score as f32);
        }
    }
    kept
}

/// Says what of the run does not fit the judgments: a run of another split or collection would be told from a bad one by nothing else.
fn check(run: &Run, qrels: &Qrels, collection: &Collection, path: &Path) -> Result<(), Usage> {
    let there: HashSet<&str> = run.queries().collect();
    let relevant = |query: &str| qrels.judged(query).any(|(_, grade)| grade > 0);
    let judged: Vec<&str> = qrels.queries().filter(|query| relevant(query)).collect();
    let missing: Vec<&str> = judged.iter().copied().filter(|query| !there.contains(query)).collect();
    let file = path.display();
    if missing.len() == judged.len() {
        let first = run.queries().next().map_or_else(|| "it is empty".to_owned(), |query| format!("its first one is {query}"));
        return Err(Usage::new(format!(
            "{file} has no query of the split's {}, the first of which is {}; {first}",
            judged.len(),
            judged[0]
        )));
    }
    if let Some(first) = missing.first() {
        tracing::warn!(
            "{file} lacks {} of the {} judged queries, which count as zero; the first one is {first}",
            missing.len(),
            judged.len()
        );
    }
    let listed = || judged.iter().flat_map(|query| run.ranking(query)).map(|(document, _)| document);
    let unknown = || listed().filter(|document| collection.documents.find(document).is_none());
    if let Some(first) = unknown().next() {
        tracing::warn!(
            "{} of {} documents that {file} lists are not in {}; the first one is {first}",
            unknown().count(),
            listed().count(),
            collection.name
        );
    }
    Ok(())
}
