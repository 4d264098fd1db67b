//! `trainer mine`: hard negatives from a collection and a model into a file, with the semantics of sentence-transformers' miner.

use anyhow::{Context, Result};
use corpus::write::{MinedFormat, write_mined};
use mining::{DrawConfig, MineOptions, MiningError};
use serde_json::json;

use crate::args::{self, MineArgs};
use crate::data::{self, Data};
use crate::device;
use crate::errors::{OrUsage, Usage};
use crate::output;
use crate::rows::Rows;
use crate::setup;

pub(super) fn run(args: &MineArgs) -> Result<()> {
    if args.negatives == 0 {
        return Err(Usage::new("--negatives 0: ask for at least one").into());
    }
    if let (Some(min), Some(max)) = (args.min_score, args.max_score)
        && min > max
    {
        return Err(Usage::new(format!("--min-score {min} is above --max-score {max}: nothing would be left")).into());
    }
    if let Some(depth) = args.depth.filter(|&depth| depth < args.skip + args.negatives) {
        return Err(
            Usage::new(format!("--depth {depth} is less than --skip {} and --negatives {} together", args.skip, args.negatives)).into()
        );
    }
    let chosen = device::choose(args.common.device())?;
    let collection = data::open(&args.data)?;
    let encoder = setup::as_meant(setup::encoder_named(&args.model, &collection, args.seed, &chosen)?, &args.model, &args.meant)?;
    let data = Data::prepare(collection, &encoder.tokenizer, &encoder.settings)?;
    let judgments = data.collection.relevant_split(&args.split).or_usage()?;
    let device = chosen.device.without_autodiff();
    let mut rows = Rows::new(encoder.network.clone(), &device, &data.tokens);
    let store = crate::rows::store(&mut rows, data.documents(), args.rows_in.as_deref(), args.half_rows)?;
    let queries: Vec<u32> = judgments.queries().collect();
    let embedded = rows.queries_in_blocks(&queries).context("encoding the queries")?;
    let options = MineOptions {
        negatives: args.negatives,
        depth: args.depth,
        skip: args.skip,
        relative_margin: args.relative_margin,
        absolute_margin: args.absolute_margin,
        max_score: args.max_score,
        min_score: args.min_score,
        draw: match args.draw {
            args::DrawRule::Top => DrawConfig::Top {},
            args::DrawRule::Uniform => DrawConfig::Uniform {},
        },
        seed: args.seed,
    };
    let mined = mining::mine(&embedded, &store, &queries, judgments, &data.collection, &options).map_err(|error| match error {
        MiningError::Depth { .. } => Usage::new(format!("--negatives {}: {error}", args.negatives)).into(),
        error => anyhow::Error::from(error).context("mining"),
    })?;
    crate::rows::disk_note(&store).iter().for_each(|note| output::note(note));
    let provenance = json!({
        "model": args.model, "model_fingerprint": encoder.fingerprint(), "collection": data.collection.name,
        "collection_fingerprint": data.collection.fingerprint(), "split": args.split, "options": options,
        "query_prompt": encoder.settings.query_prompt, "document_prompt": encoder.settings.document_prompt,
        "query_length": encoder.settings.query_length, "document_length": encoder.settings.document_length,
        "version": env!("CARGO_PKG_VERSION"),
    });
    let format = match args.format {
        args::MinedFormat::Own => MinedFormat::Own,
        args::MinedFormat::Tevatron => MinedFormat::Tevatron,
        args::MinedFormat::Flagembedding => MinedFormat::FlagEmbedding,
        args::MinedFormat::Triplets => MinedFormat::Triplets,
        args::MinedFormat::Tuples => MinedFormat::Tuples { negatives: args.negatives },
    };
    let written = write_mined(&args.output, format, &data.collection, &provenance, &mined.rows)?;
    if args.common.json {
        return output::json(
            &json!({ "output": args.output, "rows": written.rows, "dropped": written.without_negatives + written.short, "negatives": written.negatives, "report": mined.report }),
        );
    }
    output::line(&mined.report.to_string());
    output::line(&format!(
        "{} rows with {} negatives written to {}; {} rows without any left out",
        written.rows,
        written.negatives,
        args.output.display(),
        written.without_negatives + written.short
    ));
    Ok(())
}
