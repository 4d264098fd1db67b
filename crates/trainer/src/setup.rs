//! From a configuration to the parts of a run: device, encoder, data, and the values that only these can decide.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use corpus::{Collection, Judgments, Relabelled};
use encoder::{CrossEncoder, Encoder, EncoderError, Network, Settings, Similarity};
use mining::{Model, SourceKind};
use serde_json::json;

use crate::args::Meant;
use crate::config::{Config, Precision};
use crate::data::{self, Data};
use crate::device::{self, Chosen};
use crate::errors::{OrUsage, Usage};
use crate::models::{PREVIOUS_ROUND, RERANKER, RETRIEVER, START};
use crate::output;
use crate::plan::Plan;
use crate::rounds::Course;
use crate::side_files::SideFiles;
use crate::splits::{self, Entered};
use crate::stage;

/// The key that names a cross-encoder.
const RERANKER_KEY: &str = "reranker.model";
/// Steps of a run that a budget of seconds ends.
const MOST_STEPS: usize = 1_000_000_000;

/// Device, encoder and data of a configuration whose first `done` rounds are over.
pub(crate) fn open(config: &Config, done: usize) -> Result<(Chosen, Encoder, Arc<Data>)> {
    check_models(config, done)?;
    let mut collection = data::open(&config.data.path)?;
    let chosen = device::choose(&config.train.device)?;
    // Before written queries are entered: all techniques start from one encoder, whose words (builtin:tiny) are those of the collection.
    let encoder = load_encoder(config, &collection, &chosen)?;
    let (side, note) = prepare(config, &mut collection)?;
    note.iter().for_each(|note| output::note(note));
    let data = Data::with(collection, side, &encoder.tokenizer, &encoder.settings)?;
    Ok((chosen, encoder, Arc::new(data)))
}

/// Makes of a collection what a run reads: written queries entered, splits settled, the files beside it; and checks that the collection
/// has what the configuration counts on. With the files, what to tell people about the splits.
///
/// # Errors
/// When it lacks something, or a file does not fit it.
pub(crate) fn prepare(config: &Config, collection: &mut Collection) -> Result<(SideFiles, Option<String>)> {
    let Entered { queries, fingerprint, note } = splits::enter(collection, &config.data)?;
    for round in 0..config.rounds() {
        let config = config.of_round(round)?;
        if let Some(split) = config.negatives.draw.judged_split() {
            collection.split(split).or_usage().map_err(|error| Usage::new(format!("negatives.draw.split: {error}")))?;
        }
        for (number, source) in config.negatives.source.iter().enumerate() {
            if let SourceKind::Generated { path, .. } = &source.kind
                && !path.is_file()
            {
                return Err(Usage::new(format!(
                    "negatives.source.{number}.path: there is no file {}; `trainer generate --kind negatives` writes such texts",
                    path.display()
                ))
                .into());
            }
            let SourceKind::File { path, .. } = &source.kind else { continue };
            let key = format!("negatives.source.{number}.path");
            match path {
                None if collection.negatives.as_ref().is_none_or(|lists| lists.is_empty()) => {
                    return Err(Usage::new(format!(
                        "{} came without lists of negatives: set {key} = FILE, as `trainer mine --output FILE` writes it",
                        collection.name
                    ))
                    .into());
                }
                Some(path) if !path.is_file() => return Err(Usage::new(format!("{key}: there is no file {}", path.display())).into()),
                _ => {}
            }
        }
    }
    let mut side = SideFiles::read(config, collection)?;
    (side.queries, side.fingerprint) = (queries, fingerprint);
    Ok((side, note))
}

/// Whether the models that rounds behind the first `done` name are there, and are what these take them for: found out before the rounds in front of them
/// are trained. Those of the hub are fetched.
pub(crate) fn check_models(config: &Config, done: usize) -> Result<(), Usage> {
    let mut known = BTreeSet::new();
    (done..config.rounds()).try_for_each(|round| check_models_of(&config.of_round(round)?, &mut known))
}

/// The same for one round; `known` are those that were found.
fn check_models_of(config: &Config, known: &mut BTreeSet<(bool, String)>) -> Result<(), Usage> {
    let mut named =
        |key: &str, model: &str, check: fn(&str) -> Result<(), EncoderError>| match known.insert((key == RERANKER_KEY, model.to_owned())) {
            true => check(model).or_usage().map_err(|error| Usage::new(format!("{key}: {error}"))),
            false => Ok(()),
        };
    let mut encoder =
        |key: &str, model: &str| if [START, PREVIOUS_ROUND].contains(&model) { Ok(()) } else { named(key, model, Encoder::check) };
    let taught = (config.loss.needs().teacher || config.negatives.reads_teacher()) && config.data.teacher.is_none();
    let encoders = [
        ("guide.model", &config.guide.model, config.loss.needs().guide),
        ("teacher.model", &config.teacher.model, taught && config.teacher.model.as_deref() != Some(RERANKER)),
        ("teacher.in_batch", &config.teacher.in_batch, config.loss.in_batch()),
    ];
    for (key, model, asked) in encoders {
        model.iter().filter(|_| asked).try_for_each(|model| encoder(key, model))?;
    }
    for (number, source) in config.negatives.source.iter().enumerate() {
        if let SourceKind::Dense { model: Model::Named(model), .. } = &source.kind {
            encoder(&format!("negatives.source.{number}.model"), model)?;
        }
    }
    match config.reranker.model.as_str() {
        _ if !config.asks_reranker() => Ok(()),
        START | RETRIEVER => Ok(()),
        PREVIOUS_ROUND => Err(Usage::new(format!(
            "{RERANKER_KEY} = \"{PREVIOUS_ROUND}\": it says what the first reranker starts as; one that goes on has reranker.restart = false"
        ))),
        model => named(RERANKER_KEY, model, CrossEncoder::check),
    }
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
    if wanted.normalize.is_none() {
        warn_of_products(&wanted.model, &settings, "; set encoder.normalize = true, or false to say that this is meant");
    }
    if !settings.normalize {
        // What is trained by inner products is compared by them.
        settings.similarity = Similarity::Dot;
    }
    encoder.configure(settings).or_usage()?;
    encoder.network = encoder.network.clone().with_precision(config.train.precision.layers()).or_usage()?;
    encoder.card.datasets = vec![collection.name.clone()];
    Ok(encoder)
}

/// Says that scores will be inner products of rows that sentence-transformers would compare by cosine.
pub(crate) fn warn_of_products(model: &str, settings: &Settings, remedy: &str) {
    if settings.similarity == Similarity::Cosine && !settings.normalize {
        tracing::warn!(
            "{model} does not normalise its rows, and its folder does not say that they are compared by inner product: scores will be inner products{remedy}"
        );
    }
}

/// The encoder as a command's flags say that it is meant.
pub(crate) fn as_meant(mut encoder: Encoder, model: &str, meant: &Meant) -> Result<Encoder> {
    let mut settings = encoder.settings.clone();
    settings.normalize |= meant.normalize;
    settings.query_prompt = meant.query_prompt.clone().unwrap_or(settings.query_prompt);
    settings.document_prompt = meant.document_prompt.clone().unwrap_or(settings.document_prompt);
    warn_of_products(model, &settings, "; --normalize makes cosines of them");
    encoder.configure(settings).or_usage()?;
    Ok(encoder)
}

/// The network that encodes documents, where the trained one encodes queries only (`encoder.documents = "frozen"`): a model that reads tokens as
/// the one of the queries does and gives rows of the same width.
pub(crate) fn document_network(model: &str, queries: &Encoder, meant: &Meant, collection: &Collection, chosen: &Chosen) -> Result<Network> {
    let documents = as_meant(encoder_named(model, collection, 1, chosen)?, model, meant)?;
    let (ours, theirs) = (&queries.settings, &documents.settings);
    let alike = documents.tokenizer.fingerprint() == queries.tokenizer.fingerprint()
        && (&ours.document_prompt, ours.document_length) == (&theirs.document_prompt, theirs.document_length)
        && documents.network.dimension() == queries.network.dimension();
    if !alike {
        return Err(Usage::new(format!(
            "--document-model {model}: its tokenizer, document prompt, length or width is another than the query encoder's; the two belong to different runs"
        ))
        .into());
    }
    Ok(documents.network)
}

/// What the device offers and what of it the run uses, for the log; and a line for people, where that is not 32 bits throughout.
pub(crate) fn precision_used(precision: Precision, chosen: &Chosen) -> (serde_json::Value, Option<String>) {
    let limits = kernels::describe(&chosen.device);
    let units = limits.as_ref().map_or_else(|| Err("the CPU has none".to_owned()), |limits| limits.matrix_units.clone());
    let offered = json!({
        "f16": limits.as_ref().is_none_or(|limits| limits.f16), "matrix_units": units.as_ref().ok(), "no_matrix_units": units.as_ref().err(),
    });
    let half = "f16 operands, f32 sums";
    let (linear, attention, rows, note) = match precision {
        Precision::F32 => ("f32", "f32", "f32", None),
        Precision::Mixed => {
            let by = match (&units, limits.is_some()) {
                (Ok(shape), _) => format!("matrix units of {shape}"),
                (Err(reason), true) => format!("no matrix units: {reason}"),
                (Err(_), false) => "on the CPU the same roundings, and no gain".to_owned(),
            };
            // Matrix units compute attention too, and the CPU shows what that rounds.
            let (attention, layers) = match (&units, limits.is_some()) {
                (Err(_), true) => ("f32", "linear layers"),
                _ => (half, "linear layers, in attention"),
            };
            let note = format!(
                "mixed precision: 16-bit operands in {layers} and in the search for negatives, weights, norms, loss and optimiser in 32 bits; {by}"
            );
            (half, attention, "f16", Some(note))
        }
    };
    let used = json!({
        "asked": precision, "offered": offered, "linear_layers": linear, "attention": attention, "rows_of_negatives": rows, "rest": "f32",
    });
    (used, note)
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
        None => Ok(Encoder::load(model, &device).or_usage().map_err(|error| {
            let of_run = std::path::Path::new(model).join("model");
            match of_run.is_dir() {
                true => Usage::new(format!("{model} is a run folder; its model is {}", of_run.display())),
                false => error,
            }
        })?),
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
    if steps > MOST_STEPS {
        return Err(Usage::new(format!("train.epochs = {epochs} comes to more than {MOST_STEPS} steps; give fewer, or train.steps")).into());
    }
    let evaluated = data.collection.find_split(&config.data.evaluate).is_some();
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
    check_rounds(config, encoder)
}

/// What a round would otherwise find out when its turn comes, the rounds before it being trained by then.
fn check_rounds(config: &Config, encoder: &Encoder) -> Result<()> {
    let (course, width) = (Course::new(config), encoder.network.dimension());
    for round in 0..course.rounds() {
        let of = config.of_round(round)?;
        let wide = of.loss.matryoshka.iter().find(|&&wide| wide > width);
        let wide = wide.map(|wide| Usage::new(format!("loss.matryoshka names a width of {wide}, and rows of this encoder have {width}")));
        let fault = match wide {
            Some(fault) => Err(fault),
            None if of.asks_reranker() && [START, RETRIEVER].contains(&of.reranker.model.as_str()) => CrossEncoder::check_encoder(encoder)
                .map_err(|fault| Usage::new(format!("{RERANKER_KEY} = {:?}: {fault}", of.reranker.model))),
            None => Ok(()),
        };
        let fault = match fault {
            Err(fault) => Err(fault),
            Ok(()) => stage::schedule(&of, &course, round).map(drop),
        };
        fault.map_err(|fault| match config.round.is_empty() {
            true => fault,
            false => Usage::new(format!("[[round]] number {}: {fault}", round + 1)),
        })?;
    }
    Ok(())
}
