//! `trainer report`: the HTML report of a run, finished or under way.

use anyhow::Result;
use serde_json::json;

use crate::args::ReportArgs;
use crate::output;
use crate::report;
use crate::runfolder::RunFolder;

pub(super) fn run(args: &ReportArgs) -> Result<()> {
    let run = RunFolder::open(args.run.clone())?;
    report::write(&run)?;
    if args.json {
        return output::json(&json!({ "report": run.report() }));
    }
    output::line(&run.report().display().to_string());
    Ok(())
}
