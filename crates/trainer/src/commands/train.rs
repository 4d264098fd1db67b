//! `trainer train`: a configuration, a recipe or a run to resume, then the run, then its table.

use std::path::Path;

use anyhow::Result;

use crate::args::{RunArgs, TrainArgs};
use crate::config::{self, Config};
use crate::output;
use crate::recipes;
use crate::runfolder::RunFolder;
use crate::train::{Finished, Session};

pub(super) fn run(args: &TrainArgs) -> Result<()> {
    let json = args.common.json;
    let session = match &args.resume {
        Some(run) => Session::resume(RunFolder::open(run.clone())?, args.common.device.as_deref())?,
        None => start(args)?,
    };
    let finished = session.run()?;
    if json {
        return output::json(&finished);
    }
    print(&finished);
    Ok(())
}

fn start(args: &TrainArgs) -> Result<Session> {
    let (config, recipe) = configured(&args.run, args.common.device.as_ref(), args.out.as_deref())?;
    Session::start(config, &recipe)
}

/// The configuration that the flags ask for, and a name for it.
pub(super) fn configured(args: &RunArgs, device: Option<&String>, out: Option<&Path>) -> Result<(Config, String)> {
    let (name, recipe, text) = match &args.config {
        Some(path) => {
            let stem = path.file_stem().map_or_else(|| "run".to_owned(), |stem| stem.to_string_lossy().into_owned());
            (path.display().to_string(), stem, config::read(path)?)
        }
        None => {
            let recipe = recipes::find(args.recipe.as_deref().unwrap_or(recipes::DEFAULT))?;
            (format!("recipe {}", recipe.name), recipe.name.to_owned(), recipe.text.to_owned())
        }
    };
    // The flags are short forms of --set; an explicit --set comes last and wins.
    let mut values = Vec::new();
    let mut flag = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            values.push((key.to_owned(), toml::Value::String(value).to_string()));
        }
    };
    flag("data.path", args.data.clone());
    flag("encoder.model", args.model.clone());
    flag("output.folder", out.map(|path| path.display().to_string()));
    flag("train.device", device.cloned());
    for set in &args.set {
        values.push(config::split_set(set)?);
    }
    Ok((config::merge(&name, &text, &values)?, recipe))
}

/// What the table shows and nobody likes to see.
fn verdict(finished: &Finished) -> Option<String> {
    let (bm25, before, after) = (finished.bm25.ndcg, finished.before.ndcg, finished.after.ndcg);
    let better = match (before >= after, bm25 > after) {
        (true, true) => "BM25 and the untrained encoder find more than this model",
        (true, false) => "the untrained encoder finds no less than this model",
        (false, true) => "BM25 finds more than this model",
        (false, false) => return None,
    };
    Some(format!("{better} (nDCG@10): more steps, another learning rate or recipe, or a stronger encoder to start from may change that"))
}

fn print(finished: &Finished) {
    output::metrics_table(&[("BM25", finished.bm25), ("before training", finished.before), ("after training", finished.after)]);
    output::line(&format!(
        "\n{} queries of the split `{}`, {} steps in {:.0} s on {}",
        finished.after.queries, finished.split, finished.steps, finished.seconds, finished.device
    ));
    verdict(finished).iter().for_each(|line| output::line(line));
    output::line(&format!("model   {}", finished.model));
    output::line(&format!("report  {}", finished.report));
    let command = std::env::args().next().unwrap_or_else(|| "trainer".to_owned());
    let documents = finished.document_model.as_ref().map_or_else(String::new, |model| format!(" --document-model {model}"));
    output::line(&format!("next    {command} search --data {} --model {}{documents} \"your query\"", finished.data, finished.model));
}
