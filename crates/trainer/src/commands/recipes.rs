//! `trainer recipes`: what `train --recipe` knows.

use anyhow::Result;
use serde_json::json;

use crate::args::RecipesArgs;
use crate::output;
use crate::recipes::{ALL, find};

pub(super) fn run(args: &RecipesArgs) -> Result<()> {
    if let Some(name) = &args.name {
        let recipe = find(name)?;
        if args.json {
            return output::json(&json!({ "head": recipe.head(), "text": recipe.text }));
        }
        output::line(recipe.text.trim_end());
        return Ok(());
    }
    let heads: Vec<_> = ALL.iter().map(|recipe| recipe.head()).collect();
    if args.json {
        return output::json(&json!({ "recipes": heads }));
    }
    for head in heads {
        output::line(&format!(
            "{}  ({}, {})\n    {}\n    paper: {}\n    needs: {}",
            head.name, head.family, head.cost, head.what, head.paper, head.needs
        ));
    }
    Ok(())
}
