//! `trainer export`: the model folder out of a run, finished or not.

use std::path::Path;

use anyhow::{Context, Result};
use encoder::Encoder;
use serde_json::json;

use crate::args::ExportArgs;
use crate::checkpoint::Checkpoint;
use crate::errors::Usage;
use crate::runfolder::RunFolder;
use crate::{config, data, device, output, setup};

pub(super) fn run(args: &ExportArgs) -> Result<()> {
    let run = RunFolder::open(args.run.clone())?;
    if args.output.exists() {
        return Err(Usage::new(format!("{} exists already; choose another --output", args.output.display())).into());
    }
    let from = export(&run, &args.output).with_context(|| format!("exporting {}", args.run.display()))?;
    if args.json {
        return output::json(&json!({ "model": args.output, "from": from }));
    }
    output::line(&format!("{} written from {from}", args.output.display()));
    Ok(())
}

/// Writes the model of a run to `output`: the finished model, else the best or newest weights of the last checkpoint.
/// Says where they came from.
fn export(run: &RunFolder, output: &Path) -> Result<String> {
    let path = run.config();
    let config = config::merge(&path.display().to_string(), &config::read(&path)?, &[])?;
    let device = device::cpu();
    if run.model().join("modules.json").is_file() {
        Encoder::load(&run.model().display().to_string(), &device.device)?.save(output)?;
        // With what the run says about it.
        let card = run.model().join("README.md");
        std::fs::copy(&card, output.join("README.md")).with_context(|| format!("copying {}", card.display()))?;
        if run.document_model().is_dir() {
            output::note(&format!(
                "it encodes queries; documents of this run have an encoder of their own: {}",
                run.document_model().display()
            ));
        }
        return Ok(run.model().display().to_string());
    }
    let checkpoint = Checkpoint::newest(&run.checkpoints())?
        .ok_or_else(|| Usage::new(format!("{} has neither a model nor a checkpoint yet", run.path().display())))?;
    let collection = data::open_of_run(run, &config.data)?;
    let mut encoder = setup::load_encoder(&config, &collection, &device)?;
    let (weights, from) = match (checkpoint.best, checkpoint.position.best) {
        (Some(best), Some((_, step))) => (best, step),
        _ => (checkpoint.weights, checkpoint.position.step),
    };
    encoder.network = encoder.network.clone().with_tensors(weights)?;
    encoder.save(output)?;
    Ok(format!("the weights after step {from}"))
}
