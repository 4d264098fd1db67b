//! `trainer warmup`: what a device compiles and tunes at first use, done before a run.
//!
//! Steps of the configured batches, with uniformly drawn negatives in place of mined ones: chunks have the shapes that the run's will have, as these follow from
//! the lengths of texts. A loss that needs a teacher, ranks or a guide is replaced by InfoNCE, since those would have to be made first; documents are encoded in
//! the step, with the queries, also where a run has other rows for them. Then a part of the corpus is encoded and searched as evaluation and mining do it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use kernels::Bins;
use mining::{EmbeddingStore, Miner, RowEncoder};
use objective::{AdamW, AdamWConfig, LossConfig, Now};
use serde_json::json;

use super::train::configured;
use crate::args::WarmupArgs;
use crate::batches::Assembler;
use crate::columns::{Columns, DocumentSide};
use crate::compared::Watch;
use crate::config::{Compose, Config};
use crate::errors::{OrUsage, Usage};
use crate::evaluation;
use crate::output;
use crate::plan::Plan;
use crate::rounds::{Clock, Course};
use crate::rows::Rows;
use crate::setup;
use crate::step::{Learner, Rate};

/// Documents to encode and search, at most.
const DOCUMENTS: usize = 2048;
/// A learning rate that changes little: the weights are thrown away, but must stay finite.
const RATE: f64 = 1e-6;

pub(super) fn run(args: &WarmupArgs) -> Result<()> {
    if args.steps == 0 {
        return Err(Usage::new("--steps 0: expected at least one batch to train on".to_owned()).into());
    }
    let (config, _) = configured(&args.run, args.common.device.as_ref(), None)?;
    let begun = Instant::now();
    let mut config = config.of_round(0)?;
    // Before anything is opened: lists that are still to be mined are not asked for.
    plain(&mut config)?;
    let (chosen, encoder, data) = setup::open(&config, 0)?;
    setup::resolve(&mut config, &encoder, &data)?;
    let (judgments, _) = setup::training_judgments(&config, &data)?;
    let plan = Arc::new(Plan::new(&judgments, config.data.limit, &config.batch, config.train.seed));
    let mined = plan.judgments(&judgments, data.collection.queries.len());
    let miner = Miner::new(&config.negatives, &data.collection, &mined, config.train.seed).context("preparing the negatives")?;
    let columns = Columns {
        documents: DocumentSide::Shared,
        bank: None,
        guide: None,
        teacher: None,
        distils: false,
        in_batch_teacher: None,
        knowledge: Arc::clone(miner.knowledge()),
        watch: Watch::new(&data, &config),
    };
    let optimizer = AdamW::new(AdamWConfig { weight_decay: config.train.weight_decay, ..AdamWConfig::default() }).or_usage()?;
    let mut learner = Learner::new(&encoder.network, optimizer, columns, &chosen.device, &config);
    let assembler = Arc::new(Assembler {
        data: Arc::clone(&data),
        plan,
        miner: Arc::new(miner),
        config: config.batch.clone(),
        together: learner.columns.are_encoded(),
        packed: learner.packs(),
        in_batch: config.negatives.in_batch(),
        course: Course::new(&config),
        clock: Clock::default(),
        topics: None,
    });
    output::note(&format!("warming up {} with {} batches of {}", chosen.name, args.steps, data.collection.name));
    let prepared = begun.elapsed().as_secs_f64();
    let mut seconds = Vec::with_capacity(args.steps);
    for step in 0..args.steps {
        let batch = assembler.batch(step)?;
        let begun = Instant::now();
        let now = Now { step, progress: 0.0, seed: config.train.seed };
        let outcome = learner.step(&batch, &config.loss, &now, Rate { rate: RATE, at: 0 })?;
        outcome.loss.try_into_scalar::<f32>().map_err(|error| anyhow::anyhow!("reading the loss from the device: {error:?}"))?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    let begun = Instant::now();
    let documents = data.documents().min(DOCUMENTS);
    let device = chosen.device.clone().without_autodiff();
    let mut rows = Rows::new(learner.snapshot(), &device, &data.tokens);
    // In the format that mining will search.
    let mut store = EmbeddingStore::new(documents, rows.dimension(), config.train.precision.rows(), &device);
    store.fill(&mut rows, None).context("encoding the documents")?;
    let queries: Vec<u32> = assembler.plan.queries().into_iter().map(|pair| pair.0).take(evaluation::QUERY_BLOCK).collect();
    let embedded = rows.queries(&queries).context("encoding the queries")?;
    store.search(embedded.clone(), evaluation::DEPTH.min(documents), None, None).context("searching")?;
    // As the report of a refresh does it.
    store.count_scores(embedded, None, Bins { low: -1.0, high: 1.0, count: 100 }).context("counting scores")?;
    let searching = begun.elapsed().as_secs_f64();

    let (first, last) = (seconds[0], seconds[seconds.len() - 1]);
    let slowest = seconds.iter().copied().fold(0.0, f64::max);
    let kept = (chosen.name != "cpu").then(|| kernels::tuning_file().display().to_string());
    if args.common.json {
        return output::json(&json!({
            "device": chosen.name, "steps": seconds.len(), "prepare_seconds": prepared, "step_seconds": seconds, "encode_and_search_seconds": searching, "kept": kept,
        }));
    }
    output::line(&format!(
        "{} steps on {}: the first took {first:.2} s, the slowest {slowest:.2} s, the last {last:.2} s; encoding and searching {documents} documents {searching:.2} s",
        seconds.len(),
        chosen.name
    ));
    match kept {
        Some(file) => output::line(&format!(
            "kept in {file} and in the driver's own cache; a step as slow as the first means that more --steps would help"
        )),
        None => output::line("a CPU has nothing to compile or to keep"),
    }
    Ok(())
}

/// Takes out what would have to be mined, trained or read first, and leaves what decides shapes.
fn plain(config: &mut Config) -> Result<()> {
    let in_batch = if config.negatives.in_batch() { "[[source]]\nfrom = \"in-batch\"\n" } else { "" };
    let random = "[[source]]\nfrom = \"random\"\n";
    config.negatives = toml::from_str(&format!("{in_batch}{random}")).context("the negatives of a warm-up")?;
    let needs = config.loss.needs();
    if needs.teacher || needs.ranks || needs.guide {
        config.loss = LossConfig { temperature: config.loss.temperature, ..LossConfig::default() };
    }
    if matches!(config.batch.compose, Compose::Topics | Compose::Groups) {
        config.batch.compose = Compose::NoDuplicates;
    }
    Ok(())
}
