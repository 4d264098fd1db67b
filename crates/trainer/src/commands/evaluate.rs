//! `trainer evaluate`: a model or a TREC run against a split's judgments.

use anyhow::{Context, Result};
use metrics::{Options, Run};
use serde_json::json;

use crate::args::EvaluateArgs;
use crate::data::{self, Data};
use crate::device;
use crate::errors::{OrUsage, Usage};
use crate::evaluation;
use crate::output;
use crate::rows::Rows;
use crate::runfolder::write_whole;

pub(super) fn run(args: &EvaluateArgs) -> Result<()> {
    if args.depth == 0 || args.depth > 1024 {
        return Err(Usage::new(format!("--depth {}: expected 1 to 1024", args.depth)).into());
    }
    let collection = data::open(&args.data)?;
    let (evaluation, summary, run) = match (&args.run, &args.model) {
        (Some(path), _) => {
            let qrels = evaluation::qrels(&collection, collection.split(&args.split).or_usage()?);
            let run = Run::read(path).or_usage()?;
            let evaluation = metrics::evaluate(&qrels, &run, &Options::default());
            let summary = evaluation::summarise(&evaluation);
            (evaluation, summary, None)
        }
        (None, Some(model)) => {
            let chosen = device::choose(args.common.device())?;
            let encoder = crate::setup::encoder_named(model, &collection, 1, &chosen)?;
            let data = Data::prepare(collection, &encoder.tokenizer, &encoder.settings)?;
            let judgments = data.collection.split(&args.split).or_usage()?;
            let mut rows = Rows::new(encoder.network, &chosen.device, &data.tokens);
            let store = crate::rows::store(&mut rows, data.documents(), args.rows_in.as_deref())?;
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
