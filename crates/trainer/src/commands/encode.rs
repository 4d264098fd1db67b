//! `trainer encode`: texts in a JSONL file to rows in a safetensors file, in input order.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use burn::tensor::TensorData;
use corpus::write::Target;
use corpus::{Records, TokenSpec, Tokens};
use encoder::{Encoder, TokenBatch};
use serde_json::json;

use crate::args::{EncodeArgs, TextKind};
use crate::checkpoint::to_safetensors;
use crate::device;
use crate::errors::{OrUsage, Usage};
use crate::output;
use crate::runfolder::write_whole;
use crate::setup;

/// Texts encoded at a time, neighbours in length.
const BATCH: usize = 64;

pub(super) fn run(args: &EncodeArgs) -> Result<()> {
    if matches!(Target::of(&args.output), Target::InPlace) {
        return Err(
            Usage::new(format!("--output {}: rows and ids are two files, so this must be a file's name", args.output.display())).into()
        );
    }
    let chosen = device::choose(args.common.device())?;
    let device = chosen.device.without_autodiff();
    let encoder = setup::as_meant(Encoder::load(&args.model, &device).or_usage()?, &args.model, &args.meant)?;
    let records: Records = corpus::read_rows(&args.input).or_usage()?;
    let settings = &encoder.settings;
    let (prompt, max_length) = match args.kind {
        TextKind::Plain => ("", settings.document_length),
        TextKind::Query => (settings.query_prompt.as_str(), settings.query_length),
        TextKind::Document => (settings.document_prompt.as_str(), settings.document_length),
    };
    let tokens = Tokens::prepare(None, &encoder.tokenizer, &TokenSpec { prompt, max_length }, records.texts())?;
    let dimension = encoder.network.dimension();
    let mut embeddings = vec![0f32; records.len() * dimension];
    let mut order: Vec<u32> = (0..records.len() as u32).collect();
    order.sort_by_key(|&row| std::cmp::Reverse(tokens.row(row).len()));
    let bar = output::progress(records.len(), "texts");
    for block in order.chunks(BATCH) {
        let rows: Vec<&[u32]> = block.iter().map(|&row| tokens.row(row)).collect();
        let data = encoder.network.encode(&TokenBatch::new(&rows, encoder.tokenizer.pad_id()), &device).into_data();
        encoder::check_rows(&data).with_context(|| format!("encoding {}", args.input.display()))?;
        let values = data.as_slice::<f32>().map_err(|error| anyhow::anyhow!("reading embeddings: {error:?}"))?;
        for (&row, value) in block.iter().zip(values.chunks_exact(dimension)) {
            embeddings[row as usize * dimension..][..dimension].copy_from_slice(value);
        }
        bar.inc(block.len() as u64);
    }
    bar.finish_and_clear();
    let tensor = vec![("embeddings".to_owned(), TensorData::new(embeddings, [records.len(), dimension]))];
    write_whole(&args.output, &to_safetensors(&tensor)?)?;
    let mut ids = String::new();
    for row in 0..records.len() as u32 {
        writeln!(ids, "{}", records.id(row))?;
    }
    let ids_path = args.output.with_file_name(format!("{}.ids", args.output.file_name().unwrap_or_default().to_string_lossy()));
    write_whole(&ids_path, ids.as_bytes())?;
    if args.common.json {
        return output::json(
            &json!({ "output": args.output, "ids": ids_path, "rows": records.len(), "dimension": dimension, "device": chosen.name }),
        );
    }
    output::line(&format!(
        "{} rows of {dimension} written to {}, their ids to {}",
        records.len(),
        args.output.display(),
        ids_path.display()
    ));
    Ok(())
}
