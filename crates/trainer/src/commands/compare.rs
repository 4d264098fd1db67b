//! `trainer compare`: recipes side by side, under equal conditions.

use anyhow::{Context, Result};

use crate::args::CompareArgs;
use crate::compare::{self, Budget, Measured, Request, Table};
use crate::data;
use crate::device;
use crate::errors::{OrUsage, Usage};
use crate::evaluation;
use crate::output;
use crate::setup;
use crate::splits;

pub(super) fn run(args: &CompareArgs) -> Result<()> {
    let recipes: Vec<String> = args.recipes.iter().map(|name| name.trim().to_owned()).collect();
    let request = Request {
        texts: compare::texts(&recipes, &args.variant)?,
        recipes,
        variants: args.variant.clone(),
        data: args.data.clone(),
        model: args.model.clone(),
        seeds: args.seeds,
        budget: args.budget.as_deref().map(str::parse::<Budget>).transpose().map_err(Usage::new)?,
        device: args.common.device().to_owned(),
        set: args.set.clone(),
    };
    request.validate()?;
    let measured = prepare(&request)?;
    device::choose(&request.device)?;
    let folder = compare::open_folder(args.out.as_deref(), &request)?;
    let attempts = compare::run_all(&request, &folder)?;
    let table = Table::read(&request, &folder, &attempts, &measured)?;
    compare::write(&table, &folder)?;
    compare::export(&table, &measured.qrels, &folder)?;
    if args.common.json {
        output::json(&table)?;
    } else {
        print(&table);
    }
    match table.failures().as_slice() {
        [] => Ok(()),
        failures => {
            let list: Vec<String> = failures.iter().map(|(name, reason)| format!("{name} ({reason})")).collect();
            anyhow::bail!("{} of {} configurations failed: {}", failures.len(), request.arms()?.len(), list.join(", "))
        }
    }
}

/// Checks that the data have what every arm counts on, so that none fails after others have trained for hours; and what all are measured on.
fn prepare(request: &Request) -> Result<Measured> {
    let mut collection = data::open(&request.data)?;
    let mut first = None;
    for arm in request.arms()? {
        let config = request.config(&arm, 1, None, "run".as_ref())?;
        // Written queries are one arm's own; what else is made of a collection is the same for all.
        let mut own = config.data.queries.is_some().then(|| collection.clone());
        let collection = own.as_mut().unwrap_or(&mut collection);
        setup::check_models(&config, 0).map_err(|error| Usage::new(format!("{}: {error:#}", arm.name)))?;
        setup::prepare(&config, collection).map_err(|error| Usage::new(format!("{}: {error:#}", arm.name)))?;
        if first.is_none() {
            let split = splits::test_name(collection, &config.data).to_owned();
            let judgments = collection.split(&split).or_usage()?;
            let chosen_apart = collection.find_split(&config.data.evaluate).is_some_and(|other| !std::ptr::eq(other, judgments));
            first = Some(Measured { qrels: evaluation::qrels(collection, judgments), split, chosen_apart });
        }
    }
    first.context("a comparison has at least one recipe")
}

fn print(table: &Table) {
    let (conditions, rows, notes) = compare::text_table(table);
    output::line(&format!("{conditions}\n"));
    output::table(&rows);
    output::line("");
    for note in notes {
        output::line(&note);
    }
    output::line(&format!(
        "\ntable  {0}/compare.md, {0}/compare.json, {0}/runs.csv, {0}/queries.csv\nplot   {0}/compare.svg, {0}/compare.html",
        table.folder
    ));
}
