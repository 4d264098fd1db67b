//! `trainer export`: the model folder out of a run, finished or not.

use anyhow::{Context, Result};
use serde_json::json;

use crate::args::ExportArgs;
use crate::errors::Usage;
use crate::output;
use crate::runfolder::RunFolder;
use crate::train;

pub(super) fn run(args: &ExportArgs) -> Result<()> {
    let run = RunFolder::open(args.run.clone())?;
    if args.output.exists() {
        return Err(Usage::new(format!("{} exists already; choose another --output", args.output.display())).into());
    }
    let from = train::export(&run, &args.output).with_context(|| format!("exporting {}", args.run.display()))?;
    if args.json {
        return output::json(&json!({ "model": args.output, "from": from }));
    }
    output::line(&format!("{} written from {from}", args.output.display()));
    Ok(())
}
