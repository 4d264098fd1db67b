//! `trainer evaluate`: a model or a TREC run against a split's judgments.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result};
use corpus::Collection;
use metrics::{Options, Qrels, Run};
use serde_json::json;

use crate::args::EvaluateArgs;
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
    if args.depth == 0 || args.depth > 1024 {
        return Err(Usage::new(format!("--depth {}: expected 1 to 1024", args.depth)).into());
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
    let (evaluation, summary, run) = match (&args.run, &args.model) {
        (Some(path), _) => {
            let qrels = evaluation::qrels(&collection, collection.split(&args.split).or_usage()?);
            let run = Run::read(path).or_usage()?;
            check(&run, &qrels, &collection, path)?;
            // As trec_eval -c, and as a model is measured: a query that the run lacks counts as zero.
            let evaluation = metrics::evaluate(&qrels, &run, &Options { complete: true, ..Options::default() });
            let summary = evaluation::summarise(&evaluation);
            (evaluation, summary, None)
        }
        (None, Some(model)) => {
            let chosen = device::choose(args.common.device())?;
            let encoder = setup::encoder_named(model, &collection, 1, &chosen)?;
            let documents = match &args.document_model {
                Some(model) => setup::document_network(model, &encoder, &collection, &chosen)?,
                None => encoder.network.clone(),
            };
            let data = Data::prepare(collection, &encoder.tokenizer, &encoder.settings)?;
            let judgments = data.collection.split(&args.split).or_usage()?;
            let mut documents = Rows::new(documents, &chosen.device, &data.tokens);
            let store = crate::rows::store(&mut documents, data.documents(), args.rows_in.as_deref(), args.half_rows)?;
            let mut rows = Rows::new(encoder.network, &chosen.device, &data.tokens);
            let scored = evaluation::of_rows(&mut rows, &store, &data, judgments, args.depth)?;
            crate::rows::disk_note(&store).iter().for_each(|note| output::note(note));
            (scored.evaluation, scored.summary, Some(scored.run))
        }
        (None, None) => return Err(Usage::new("give --model or --run").into()),
    };
    if let Some(folder) = &args.output {
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let all = json!({ "summary": summary, "all": evaluation.to_json() });
        write_whole(&folder.join("metrics.json"), serde_json::to_string_pretty(&all)?.as_bytes())?;
        if let Some(run) = &run {
            run.write_trec(folder.join("run.trec"), "dredge").context("writing run.trec")?;
        }
    }
    if args.common.json {
        return output::json(&summary);
    }
    output::metrics_table(&[(args.split.as_str(), summary)]);
    output::line(&format!("{} queries; linear gains, ties by document id descending, identical ids kept", summary.queries));
    Ok(())
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
