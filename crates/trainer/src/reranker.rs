//! The cross-encoder of a round (`[reranker]`): made, trained on what the retriever finds, asked, and trained on at every step where that is wanted.
//!
//! Its lists come from the encoder of the round before, because a ranker must see its retriever's own distribution (RocketQA, Qu et al. 2021, arXiv
//! 2010.08191). Trained, it is kept in the run folder, so that a resumed run and the next round find it; its scores are kept there too. What joint
//! training makes of it is kept beside it: a run that is killed later and goes on before the round's end must begin with what the round began with.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use corpus::Judgments;
use encoder::{CrossEncoder, Encoder, probability};
use mining::{EncodeError, Miner, Moment, NegativesConfig, PairScorer, Visit};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use teacher::{LearnerState, List, PairTexts, RerankerLearner, RerankerTraining, ScoreCache, Stepped, tokenize_lists};

use crate::batches::Batch;
use crate::checkpoint::{Parts, from_safetensors, to_safetensors};
use crate::config::Config;
use crate::data::Data;
use crate::errors::{OrUsage, Usage};
use crate::models::{Models, PREVIOUS_ROUND, RETRIEVER, START, Views};
use crate::output;
use crate::plan::{self, Turn};
use crate::rows::Rows;
use crate::runfolder::{RunFolder, write_whole};
use crate::setup;
use crate::stage::Surroundings;

/// Tokens of a pair, for rerankers made here.
const LENGTH: usize = 160;
/// Files of a checkpoint.
const WEIGHTS: &str = "reranker.safetensors";
const OPTIMIZER: &str = "reranker-optimizer.safetensors";
const STEP: &str = "reranker-step.json";

/// The cross-encoder of a round.
pub(crate) struct Reranker {
    /// It, with the weights of its last training, and its scores so far.
    scorer: teacher::PairScorer,
    /// While it is trained at every step.
    learner: Option<RerankerLearner>,
    /// What its last step alongside the retriever did, until it is logged.
    stepped: Option<Stepped>,
    data: Arc<Data>,
}

/// What its training did; an event of the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trained {
    /// What it started as.
    model: String,
    steps: usize,
    lists: usize,
    negatives: usize,
    /// Mean loss of the first and of the last tenth of the steps.
    first_loss: f32,
    last_loss: f32,
    seconds: f64,
}

impl Reranker {
    /// The reranker of a round: out of the run folder where it was trained before, else made as configured.
    ///
    /// # Errors
    /// When a model cannot be read, lists cannot be mined, or training fails.
    pub(crate) fn new(
        config: &Config,
        judgments: &Judgments,
        around: &Surroundings,
        models: &mut Models,
        round: usize,
    ) -> Result<(Self, Option<Trained>)> {
        let (settings, folder) = (&config.reranker, models.folder().clone());
        let (made, device) = (folder.reranker(round), around.chosen.device.clone().without_autodiff());
        // What its training did, beside it.
        let account = made.with_extension("json");
        let (model, trained) = if made.join("config.json").is_file() {
            // A run that was killed before it could say what the training did says it now.
            let trained = std::fs::read(&account).ok().map(|text| serde_json::from_slice(&text));
            (load(&made, &device)?, trained.transpose().context("reading what the reranker's training did")?)
        } else {
            let (mut model, from) = start(config, around, &folder, round, &device)?;
            if let Some(length) = settings.length {
                model.set_max_length(length.min(model.network.max_length())).or_usage()?;
            }
            let (model, trained) = match settings.steps {
                0 => (model, None),
                _ => train(model, from, config, judgments, around, models, round).map(|(model, trained)| (model, Some(trained)))?,
            };
            std::fs::create_dir_all(folder.rerankers()).with_context(|| format!("making {}", folder.rerankers().display()))?;
            if let Some(trained) = &trained {
                write_whole(&account, &serde_json::to_vec(trained)?)?;
            }
            model.save(&made).context("writing the reranker")?;
            (model, trained)
        };
        let learner = match settings.jointly {
            true => Some(RerankerLearner::new(&model, training(config, &model, models, around.course.round_steps(round))).or_usage()?),
            false => None,
        };
        let cache = ScoreCache::open(&folder.path().join("reranker-scores.bin")).context("opening the reranker's scores")?;
        let texts: Arc<dyn PairTexts + Send> = Arc::clone(&around.data) as _;
        Ok((
            Self { scorer: teacher::PairScorer::new(model, Some(cache), texts), learner, stepped: None, data: Arc::clone(&around.data) },
            trained,
        ))
    }

    /// Its logits for each query of the batch with its positive and its drawn negatives, `[queries, columns]`, NaN elsewhere. Trained jointly, it first
    /// gives them, dropout and all, and then learns from them: the positive among its list, as RocketQAv2's released code does (the distillation sends it
    /// no gradient). `at` is the step in the round as its learning rate counts, which under a budget of seconds follows the time.
    ///
    /// # Errors
    /// When the device or the cache fails.
    pub(crate) fn table(&mut self, batch: &Batch, columns: &[u32], at: usize) -> Result<Vec<f32>> {
        let lists: Vec<List> = batch
            .pairs
            .iter()
            .zip(&batch.drawn)
            .map(|(&(query, positive), drawn)| List {
                query,
                documents: std::iter::once(positive).chain(drawn.iter().map(|it| it.document)).collect(),
            })
            .collect();
        let scores = match &mut self.learner {
            Some(learner) => {
                let groups = tokenize_lists(self.scorer.model(), self.data.as_ref(), &lists)?;
                let (stepped, scores) = learner.step_scored(&groups, at).context("training the reranker")?;
                self.stepped = Some(stepped);
                scores
            }
            None => {
                let pairs = lists.iter().flat_map(|list| list.documents.iter().map(|&document| (list.query, document)));
                self.scorer.scores(&pairs.collect::<Vec<_>>()).context("asking the reranker")?
            }
        };
        let mut table = vec![f32::NAN; lists.len() * columns.len()];
        let mut scores = scores.into_iter();
        for (list, row) in lists.iter().zip(table.chunks_exact_mut(columns.len())) {
            for (document, score) in list.documents.iter().zip(scores.by_ref()) {
                if let Some(column) = columns.iter().position(|column| column == document) {
                    row[column] = score;
                }
            }
        }
        Ok(table)
    }

    /// For the log: loss and gradient norm of the step that it made with the retriever, if it made one since it was last asked.
    pub(crate) fn take_step(&mut self) -> Vec<(Cow<'static, str>, Tensor<1>)> {
        let parts = |stepped: Stepped| [("reranker_loss", stepped.loss), ("reranker_gradient_norm", stepped.gradient_norm)];
        self.stepped.take().into_iter().flat_map(parts).map(|(name, value)| (name.into(), value)).collect()
    }

    /// At the end of a round in which it was trained at every step: keeps what it has learned, beside what the round began with.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn keep(&self, folder: &RunFolder, round: usize) -> Result<()> {
        if let Some(learner) = &self.learner {
            let mut model = load(&folder.reranker(round), &learner.device().clone().without_autodiff())?;
            model.network = learner.snapshot();
            model.save(&folder.reranker_end(round)).context("writing the reranker")?;
        }
        Ok(())
    }

    /// What a checkpoint has to hold.
    ///
    /// # Errors
    /// When tensors cannot be read.
    pub(crate) fn state(&self) -> Result<Parts> {
        let mut parts = Parts::new();
        if let Some(learner) = &self.learner {
            let state = learner.state();
            parts.insert(WEIGHTS.to_owned(), to_safetensors(&state.weights)?);
            parts.insert(OPTIMIZER.to_owned(), to_safetensors(&state.optimizer)?);
            parts.insert(STEP.to_owned(), serde_json::to_vec(&state.step)?);
        }
        Ok(parts)
    }

    /// Goes back to a saved state.
    ///
    /// # Errors
    /// When the checkpoint lacks it or it fits another run.
    pub(crate) fn restore(&mut self, parts: &Parts) -> Result<()> {
        let Some(learner) = &mut self.learner else { return Ok(()) };
        let part = |name: &str| parts.get(name).with_context(|| format!("the checkpoint has no {name}"));
        let state = LearnerState {
            weights: from_safetensors(part(WEIGHTS)?)?,
            optimizer: from_safetensors(part(OPTIMIZER)?)?,
            step: serde_json::from_slice(part(STEP)?).context("reading the reranker's step")?,
        };
        learner.load_state(state).context("restoring the reranker")
    }
}

/// Probabilities of relevance: what thresholds such as RocketQA's 0.1 and 0.9 are meant for.
impl PairScorer for Reranker {
    fn scores(&mut self, pairs: &[(u32, u32)]) -> Result<Vec<f32>, EncodeError> {
        let logits = self.scorer.scores(pairs).map_err(|error| EncodeError::new(error.to_string()))?;
        Ok(logits.into_iter().map(probability).collect())
    }
}

impl PairTexts for Data {
    fn query(&self, id: u32) -> Option<Cow<'_, str>> {
        PairTexts::query(&self.collection, id)
    }

    fn document(&self, id: u32) -> Option<Cow<'_, str>> {
        let generated = || {
            let generated = self.side.generated.as_ref()?;
            let place = id.checked_sub(generated.offset)?;
            ((place as usize) < generated.texts.len()).then(|| Cow::Borrowed(generated.texts.get(place)))
        };
        PairTexts::document(&self.collection, id).or_else(generated)
    }
}

fn load(model: &Path, device: &Device) -> Result<CrossEncoder> {
    Ok(CrossEncoder::load(&model.display().to_string(), device).or_usage()?)
}

/// What the reranker starts as, and its name.
fn start(config: &Config, around: &Surroundings, folder: &RunFolder, round: usize, device: &Device) -> Result<(CrossEncoder, String)> {
    let earlier = || (0..round).rev().flat_map(|round| [folder.reranker_end(round), folder.reranker(round)]).find(|folder| folder.is_dir());
    if let Some(earlier) = (!config.reranker.restart).then(earlier).flatten() {
        return Ok((load(&earlier, device)?, earlier.display().to_string()));
    }
    let under_a_new_head = |encoder: &Encoder| -> Result<CrossEncoder> {
        let mut made = CrossEncoder::from_encoder(encoder, config.train.seed).or_usage()?;
        made.set_max_length(LENGTH.min(made.network.max_length())).or_usage()?;
        Ok(made)
    };
    let made = match config.reranker.model.as_str() {
        RETRIEVER if round > 0 => under_a_new_head(&Encoder::load(&folder.round(round - 1).display().to_string(), device).or_usage()?),
        START | RETRIEVER => under_a_new_head(&setup::load_encoder(config, &around.data.collection, &around.chosen)?),
        path => Ok(CrossEncoder::load(path, device).or_usage()?),
    };
    Ok((made?, config.reranker.model.clone()))
}

fn training(config: &Config, model: &CrossEncoder, models: &Models, steps: usize) -> RerankerTraining {
    let settings = &config.reranker;
    let from_word_vectors = models.start().is_static() && [START, RETRIEVER].contains(&settings.model.as_str());
    let usual = match from_word_vectors {
        true => RerankerTraining::small(),
        false => RerankerTraining { learning_rate: 3e-5, ..RerankerTraining::default() },
    };
    let learning_rate = settings.learning_rate.unwrap_or(usual.learning_rate);
    // A step of joint training has as many pairs as the retriever's batch: of a transformer one chunk's graph is kept at a time.
    let cache_gradients = settings.jointly && model.network.architecture().layers >= 3;
    let (lists, negatives, loss, seed) = (settings.lists, settings.negatives, settings.loss, config.train.seed);
    RerankerTraining { steps, lists, negatives, loss, learning_rate, seed, cache_gradients, ..usual }
}

/// Trains `model`, called `from`, on lists that the encoder of the round before finds.
fn train(
    mut model: CrossEncoder,
    from: String,
    config: &Config,
    judgments: &Judgments,
    around: &Surroundings,
    models: &mut Models,
    round: usize,
) -> Result<(CrossEncoder, Trained)> {
    let (settings, begun) = (&config.reranker, Instant::now());
    let lists = mine(config, judgments, around, models, round)?;
    let mut learner = RerankerLearner::new(&model, training(config, &model, models, settings.steps)).or_usage()?;
    let mut pairs = judgments.pairs();
    pairs.retain(|&(query, positive)| !lists.draw(&Visit::new(query, positive, 1, 0)).is_empty());
    if pairs.is_empty() {
        return Err(Usage::new(format!(
            "the reranker has nothing to learn from: every document that the encoder finds for a query of `{}` is judged for it; a collection needs more \
             documents than judged ones",
            config.data.train
        ))
        .into());
    }
    let per_epoch = pairs.len().div_ceil(settings.lists).max(1);
    let bar = output::progress(settings.steps, "steps of the reranker");
    let mut losses = Vec::with_capacity(settings.steps);
    let mut composed: Option<(usize, Vec<Vec<Turn>>)> = None;
    let groups = |step: usize| -> Result<Vec<teacher::Group>> {
        let (epoch, place) = (step / per_epoch, step % per_epoch);
        if composed.as_ref().is_none_or(|(of, _)| *of != epoch) {
            composed = Some((epoch, lists_of_epoch(&pairs, settings.lists, config.train.seed, epoch)));
        }
        let turns = composed.as_ref().map_or(&[][..], |(_, steps)| &steps[place][..]);
        let lists: Vec<List> = turns
            .iter()
            .map(|&Turn { query, positive, visit }| {
                let drawn = lists.draw(&Visit::new(query, positive, settings.negatives, visit));
                List { query, documents: std::iter::once(positive).chain(drawn.iter().map(|it| it.document)).collect() }
            })
            .filter(|list| list.documents.len() > 1)
            .collect();
        Ok(tokenize_lists(&model, around.data.as_ref(), &lists)?)
    };
    learner.train(groups, |_, loss| {
        losses.push(loss);
        bar.inc(1);
    })?;
    bar.finish_and_clear();
    let tenth = (losses.len() / 10).max(1);
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len().max(1) as f32;
    let trained = Trained {
        model: from,
        steps: settings.steps,
        lists: settings.lists,
        negatives: settings.negatives,
        first_loss: mean(&losses[..tenth.min(losses.len())]),
        last_loss: mean(&losses[losses.len().saturating_sub(tenth)..]),
        seconds: begun.elapsed().as_secs_f64(),
    };
    output::note(&format!(
        "reranker: {} steps, loss {:.3} to {:.3}, {:.1} s",
        trained.steps, trained.first_loss, trained.last_loss, trained.seconds
    ));
    model.network = learner.snapshot();
    Ok((model, trained))
}

/// The lists of an epoch, step by step: every pair once in an order that is a function of seed and epoch, and where the last step has room the first
/// ones again. Each is a visit of its query with a number of its own, as in the plan of a round, so that no two lists of a query have the same draw.
fn lists_of_epoch(pairs: &[(u32, u32)], lists: usize, seed: u64, epoch: usize) -> Vec<Vec<Turn>> {
    let mut order = pairs.to_vec();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ (epoch as u64 + 1) << 32));
    let size = lists.min(order.len());
    let step = |step: usize| (0..size).map(|at| order[(step * size + at) % order.len()]).collect();
    plan::numbered(epoch, &plan::visits(pairs), (0..order.len().div_ceil(size)).map(step).collect())
}

/// A miner of the lists to train on: uniform draws from what the encoder of the round before finds.
fn mine(config: &Config, judgments: &Judgments, around: &Surroundings, models: &mut Models, round: usize) -> Result<Miner> {
    let text = format!(
        "[[source]]\nfrom = \"dense\"\nmodel = \"{PREVIOUS_ROUND}\"\ndepth = {}\n[draw]\nrule = \"uniform\"\n",
        config.reranker.depth
    );
    let recipe: NegativesConfig = toml::from_str(&text).context("the lists of the reranker")?;
    let mut miner =
        Miner::new(&recipe, &around.data.collection, judgments, config.train.seed).or_usage()?.expecting(config.reranker.negatives);
    let current = Rows::new(models.start(), &around.chosen.device, &around.data.tokens);
    let mut encoders = Views { current, models, round, teacher: None };
    miner.refresh(Moment::default(), &mut encoders).context("mining the lists of the reranker")?;
    Ok(miner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_lists_of_a_query_are_the_same_visit() {
        // Query 0 has two positives, and the second step of an epoch has room for one pair more.
        let pairs = [(0, 5), (0, 6), (1, 7), (2, 8), (3, 9)];
        let mut seen = HashSet::new();
        for epoch in 0..20 {
            let steps = lists_of_epoch(&pairs, 3, 7, epoch);
            assert_eq!(steps.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
            let turns = steps.concat();
            let mut once: Vec<(u32, u32)> = turns[..5].iter().map(|turn| (turn.query, turn.positive)).collect();
            once.sort_unstable();
            assert_eq!(once, pairs);
            assert_eq!((turns[5].query, turns[5].positive), (turns[0].query, turns[0].positive));
            // A query with one positive has the epoch's number, as ever.
            assert!(turns[..5].iter().all(|turn| turn.query == 0 || turn.visit == epoch as u64));
            assert!(turns.iter().all(|turn| seen.insert((turn.query, turn.visit))), "epoch {epoch}: {turns:?}");
        }
        assert_eq!(lists_of_epoch(&pairs, 16, 7, 0).iter().map(Vec::len).collect::<Vec<_>>(), [5]);
    }
}
