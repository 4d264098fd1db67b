//! From a configuration to the parts of a run: device, encoder, data, and the values that only these can decide.

use std::sync::Arc;

use anyhow::Result;
use corpus::{Collection, Judgments, Relabelled};
use encoder::Encoder;
use serde_json::json;

use crate::batches::Plan;
use crate::config::{Config, Precision};
use crate::data::{self, Data};
use crate::device::{self, Chosen};
use crate::errors::{OrUsage, Usage};
use crate::side_files::SideFiles;

/// Steps of a run that a budget of seconds ends.
const MOST_STEPS: usize = 1_000_000_000;

/// Device, encoder and data of a configuration.
pub(crate) fn open(config: &Config) -> Result<(Chosen, Encoder, Arc<Data>)> {
    let chosen = device::choose(&config.train.device)?;
    let mut collection = data::open(&config.data.path)?;
    // Before written queries are entered: all techniques start from one encoder, whose words (builtin:tiny) are those of the collection.
    let encoder = load_encoder(config, &collection, &chosen)?;
    let fingerprint = config.data.queries.as_ref().map(|_| collection.fingerprint());
    let queries = data::add_queries(&mut collection, &config.data)?;
    let mut side = SideFiles::read(config, &collection)?;
    (side.queries, side.fingerprint) = (queries, fingerprint);
    let data = Data::with(collection, side, &encoder.tokenizer, &encoder.settings)?;
    Ok((chosen, encoder, Arc::new(data)))
}

/// The encoder with the configuration's changes.
pub(crate) fn load_encoder(config: &Config, collection: &Collection, chosen: &Chosen) -> Result<Encoder> {
    let wanted = &config.encoder;
    let mut encoder = encoder_named(&wanted.model, collection, config.train.seed, chosen)?;
    let mut settings = encoder.settings.clone();
    settings.pooling = wanted.pooling.unwrap_or(settings.pooling);
    settings.normalize = wanted.normalize.unwrap_or(settings.normalize);
    settings.query_prompt = wanted.query_prompt.clone().unwrap_or(settings.query_prompt);
    settings.document_prompt = wanted.document_prompt.clone().unwrap_or(settings.document_prompt);
    settings.query_length = wanted.query_length.unwrap_or(settings.query_length);
    settings.document_length = wanted.document_length.unwrap_or(settings.document_length);
    encoder.configure(settings).or_usage()?;
    encoder.network = encoder.network.clone().with_precision(config.train.precision.layers()).or_usage()?;
    encoder.card.datasets = vec![collection.name.clone()];
    Ok(encoder)
}

/// What the device offers and what of it the run uses, for the log; and a line for people, where that is not 32 bits throughout.
pub(crate) fn precision_used(precision: Precision, chosen: &Chosen) -> (serde_json::Value, Option<String>) {
    let limits = kernels::describe(&chosen.device);
    let units = limits.as_ref().map_or_else(|| Err("the CPU has none".to_owned()), |limits| limits.matrix_units.clone());
    let offered = json!({
        "f16": limits.as_ref().is_none_or(|limits| limits.f16), "matrix_units": units.as_ref().ok(), "no_matrix_units": units.as_ref().err(),
    });
    let (linear, rows, note) = match precision {
        Precision::F32 => ("f32", "f32", None),
        Precision::Mixed => {
            let by = match (&units, limits.is_some()) {
                (Ok(shape), _) => format!("matrix units of {shape}"),
                (Err(reason), true) => format!("no matrix units: {reason}"),
                (Err(_), false) => "on the CPU the same roundings, and no gain".to_owned(),
            };
            let note = format!(
                "mixed precision: 16-bit operands in linear layers and in the search for negatives, everything else in 32 bits; {by}"
            );
            ("f16 operands, f32 sums", "f16", Some(note))
        }
    };
    (json!({ "asked": precision, "offered": offered, "linear_layers": linear, "rows_of_negatives": rows, "rest": "f32" }), note)
}

/// A built-in encoder, a folder or a hub id. `builtin:tiny` makes its vocabulary from the collection.
pub(crate) fn encoder_named(model: &str, collection: &Collection, seed: u64, chosen: &Chosen) -> Result<Encoder> {
    let device = chosen.device.clone().without_autodiff();
    match model.strip_prefix("builtin:") {
        Some("tiny") => {
            let texts = collection.documents.texts().iter().chain(collection.queries.texts().iter());
            Ok(Encoder::tiny(texts, seed, &device))
        }
        Some(other) => Err(Usage::new(format!("there is no built-in encoder `{other}`; there is builtin:tiny")).into()),
        None => Ok(Encoder::load(model, &device).or_usage()?),
    }
}

/// The judgments to train on: the training split, relabelled where decisions were made, and what that changed.
pub(crate) fn training_judgments(config: &Config, data: &Data) -> Result<(Judgments, Option<Relabelled>)> {
    let split = data.collection.split(&config.data.train).or_usage()?;
    Ok(data.side.relabel(split, &config.data))
}

/// Fills in what only the data or the model can decide.
pub(crate) fn resolve(config: &mut Config, encoder: &Encoder, data: &Data) -> Result<()> {
    let (judgments, _) = training_judgments(config, data)?;
    let plan = Plan::new(&judgments, config.data.limit, &config.batch, config.train.seed);
    if plan.pairs() == 0 {
        return Err(
            Usage::new(format!("the split `{}` of {} has no relevant pair to train on", config.data.train, data.collection.name)).into()
        );
    }
    let train = &mut config.train;
    let timed = train.seconds.is_some() && train.steps.is_none() && train.epochs.is_none();
    let epochs = train.epochs.unwrap_or(if encoder.network.is_static() { 20.0 } else { 1.0 });
    let steps = *train.steps.get_or_insert_with(|| match timed {
        true => MOST_STEPS,
        false => ((epochs * plan.steps_per_epoch() as f64).round() as usize).max(1),
    });
    let evaluated = data.collection.splits.contains_key(&config.data.evaluate);
    // Under a budget of seconds nobody knows the number of steps: evaluated at the end, saved once an epoch.
    train.evaluate_every.get_or_insert(if evaluated && !timed { (steps / 5).max(1) } else { 0 });
    train.checkpoint_every.get_or_insert(if timed { plan.steps_per_epoch() } else { (steps / 10).max(1) });
    train.learning_rate.get_or_insert(if encoder.network.is_static() { 2e-2 } else { 2e-5 });
    if config.open_temperature && encoder.network.is_static() {
        // An embedding bag cannot reach the sharp scores that 0.05 asks for: on builtin:demo, nDCG@10 .44 with 0.05, .61 with 0.15.
        config.loss.temperature = 0.15.into();
    }
    config.encoder.query_length.get_or_insert(encoder.settings.query_length);
    config.encoder.document_length.get_or_insert(encoder.settings.document_length);
    Ok(())
}
