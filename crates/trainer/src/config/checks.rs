//! What can be asked of a configuration before any file or device: its rounds, the files it names, whether its parts fit together.

use std::path::{Path, PathBuf};

use super::merge::check;
use super::{Compose, Config, DocumentEncoder, ROUND_KEYS, ROUND_SECTIONS, ROUND_SHARE};
use crate::errors::Usage;
use crate::models::{RERANKER, RETRIEVER, START};

impl Config {
    /// What a round, from 0, has of the run, beside the others'.
    pub(crate) fn share_of_round(&self, round: usize) -> f64 {
        let share = self.round.get(round).and_then(|changes| changes.get(ROUND_SHARE));
        share.and_then(|share| share.as_float().or_else(|| share.as_integer().map(|share| share as f64))).unwrap_or(1.0)
    }

    /// Rounds of the run, at least 1.
    pub(crate) fn rounds(&self) -> usize {
        self.round.len().max(1)
    }

    /// The file of the teacher's scores: the one named, or the first list that a teacher scored.
    pub(crate) fn teacher_file(&self) -> Option<PathBuf> {
        let listed = || (0..self.rounds()).find_map(|round| self.of_round(round).ok()?.negatives.teacher_file().map(Path::to_path_buf));
        self.data.teacher.as_ref().map(PathBuf::from).or_else(listed)
    }

    /// Whether lists carry a teacher's scores in any round.
    pub(crate) fn teaches(&self) -> bool {
        (0..self.rounds()).any(|round| self.of_round(round).is_ok_and(|config| config.negatives.teaches()))
    }

    /// Whether anything in this round asks its reranker: its teacher, or pseudo-labelling.
    pub(crate) fn asks_reranker(&self) -> bool {
        self.is_taught_by_reranker() || self.train.augment.is_some() && self.teacher.model.as_deref() == Some(RERANKER)
    }

    /// Whether the scores that losses, filters and draws of this round read are its reranker's: not where `data.teacher` or lists give them.
    pub(crate) fn is_taught_by_reranker(&self) -> bool {
        let reads_scores = self.loss.needs().teacher || self.negatives.reads_teacher();
        let given = self.data.teacher.is_some() || self.negatives.teaches();
        reads_scores && !given && self.teacher.model.as_deref() == Some(RERANKER)
    }

    /// The file of generated texts, if a round has them as a source.
    pub(crate) fn generated(&self) -> Option<PathBuf> {
        (0..self.rounds()).find_map(|round| self.of_round(round).ok()?.negatives.generated().map(Path::to_path_buf))
    }

    /// What contradicts itself from round to round, or counts on a file that is not named.
    fn validate_whole(&self) -> Result<(), String> {
        let rounds: Vec<Self> =
            (0..self.rounds()).map(|round| self.of_round(round)).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let files: std::collections::BTreeSet<_> = rounds.iter().filter_map(|it| it.negatives.generated()).collect();
        let faults = [
            (
                self.data.decision_policy.is_some() && self.data.decisions.is_none(),
                "data.decision_policy says what becomes of decisions, and there are none: set data.decisions = FILE, as `trainer relabel` writes it",
            ),
            (files.len() > 1, "rounds name different files of generated texts; a run reads one: put them together"),
            (
                rounds.iter().enumerate().any(|(round, it)| it.asks_untrained(&rounds[..round])),
                "the reranker would be a teacher that has learned nothing: reranker.steps is 0 and reranker.model names no cross-encoder. Set \
                 reranker.steps = 500 to train one here, or reranker.model = MODEL",
            ),
            (
                rounds.windows(2).any(|pair| {
                    let frozen = |it: &Self| it.encoder.documents == DocumentEncoder::Frozen;
                    frozen(&pair[0]) && !frozen(&pair[1]) && !pair[1].train.restart
                }),
                "a round with encoder.documents = \"frozen\" ends with one encoder for queries and another for documents, and the round behind it goes on with one for both: \
                 set train.restart = true in that, or encoder.documents = \"frozen\" there too",
            ),
            (
                self.train.steps.is_some_and(|steps| steps < rounds.len()),
                "train.steps must be at least the number of rounds: they divide the steps among them",
            ),
        ];
        faults.iter().find(|(holds, _)| *holds).map_or(Ok(()), |(_, reason)| Err((*reason).to_owned()))
    }

    /// Whether this round, behind `earlier` ones, asks a reranker whose head nobody has trained.
    fn asks_untrained(&self, earlier: &[Self]) -> bool {
        let made_here = [START, RETRIEVER].contains(&self.reranker.model.as_str());
        let goes_on = !self.reranker.restart && earlier.iter().any(Self::asks_reranker);
        self.asks_reranker() && made_here && !goes_on && self.reranker.steps == 0 && !self.reranker.jointly
    }

    /// Whether thresholds of this round read the scores of a reranker that learned the order of lists and nothing else.
    fn trusts_an_order(&self) -> bool {
        let thresholds = self.train.augment.is_some() || self.negatives.thresholds_of_teacher();
        self.asks_reranker() && thresholds && self.reranker.steps > 0 && self.reranker.loss == teacher::ListLoss::Lce
    }

    /// Whether a rank window leaves fewer candidates than a query is to get.
    fn window_is_narrow(&self) -> bool {
        self.negatives.narrowest_window().is_some_and(|ranks| ranks < self.batch.negatives)
    }

    /// What is set and read by no round, or can hardly be meant. No fault: a comparison sets values for all of its recipes.
    ///
    /// # Errors
    /// When a round makes no sense.
    pub(crate) fn doubts(&self) -> Result<Vec<&'static str>, Usage> {
        let rounds: Vec<Self> = (0..self.rounds()).map(|round| self.of_round(round)).collect::<Result<_, _>>()?;
        let some = |reads: &dyn Fn(&Self) -> bool| rounds.iter().any(reads);
        let asked = |it: &Self| it.loss.needs().teacher || it.negatives.reads_teacher() || it.train.augment.is_some();
        let doubts = [
            (
                some(&|it| it.teacher.model.is_some() && it.data.teacher.is_none()) && !some(&asked),
                "teacher.model is set, but no loss, filter or draw reads a teacher's scores",
            ),
            (
                some(&|it| it.teacher.in_batch.is_some()) && !some(&|it| it.loss.in_batch()),
                "teacher.in_batch is set, but no loss has in_batch = true",
            ),
            (
                self.data.groups.is_some() && !some(&|it| it.batch.compose == Compose::Groups),
                "data.groups is set, but no batch is composed by it: batch.compose = \"groups\"",
            ),
            (
                !some(&|it| it.batch.negatives > 0) && some(&|it| it.negatives.offers_candidates()),
                "sources offer negatives that nobody draws: batch.negatives is 0",
            ),
            (
                some(&|it| it.guide.model.is_some()) && !some(&|it| it.loss.needs().guide),
                "guide.model is set, but no [[loss.mask]] has rule = \"guide\"",
            ),
            (
                some(&|it| it.reranker != super::RerankerConfig::default()) && !some(&|it| it.teacher.model.as_deref() == Some(RERANKER)),
                "[reranker] is set, but no round has teacher.model = \"reranker\"",
            ),
            (
                some(&Self::trusts_an_order),
                "reranker.loss = \"lce\" teaches the order of a list: its scores are no probabilities, so a filter `teacher` and train.augment have nothing to \
                 set a threshold on; binary-cross-entropy gives probabilities",
            ),
            (
                some(&Self::window_is_narrow),
                "a filter `rank-window` leaves fewer candidates than batch.negatives asks for; the rest is filled in or missing (negatives.short): raise its `until`",
            ),
        ];
        Ok(doubts.into_iter().filter(|(holds, _)| *holds).map(|(_, what)| what).collect())
    }

    /// The configuration of a round, from 0: a key that the round names takes the place of the run's whole value.
    ///
    /// # Errors
    /// When what comes out makes no sense.
    pub(crate) fn of_round(&self, round: usize) -> Result<Self, Usage> {
        let Some(changes) = self.round.get(round) else { return Ok(self.clone()) };
        let fault = |reason: String| Usage::new(format!("[[round]] number {}: {reason}", round + 1));
        let share = self.share_of_round(round);
        let number = changes.get(ROUND_SHARE).is_none_or(|share| share.is_float() || share.is_integer());
        if !(number && share > 0.0 && share.is_finite()) {
            return Err(fault(format!("{ROUND_SHARE} must be a number above 0")));
        }
        let mut table = toml::Table::try_from(Self { round: Vec::new(), ..self.clone() }).map_err(|error| fault(error.to_string()))?;
        for (section, keys) in changes.iter().filter(|(section, _)| *section != ROUND_SHARE) {
            let toml::Value::Table(keys) = keys else {
                return Err(fault(format!(
                    "`{section}` is no section; write {section}.KEY = ... with one of {}",
                    ROUND_SECTIONS.join(", ")
                )));
            };
            if !ROUND_SECTIONS.contains(&section.as_str()) {
                return Err(fault(format!("a round cannot change `{section}`, only {}", ROUND_SECTIONS.join(", "))));
            }
            if let Some((_, own)) = ROUND_KEYS.iter().find(|(name, _)| name == section)
                && let Some(key) = keys.keys().find(|key| !own.contains(&key.as_str()))
            {
                return Err(fault(format!("a round cannot change `{section}.{key}`; of `{section}` it can change {}", own.join(", "))));
            }
            let place = table.entry(section.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(place) = place {
                place.extend(keys.clone());
            }
        }
        let config = check(&table).map_err(fault)?;
        config.validate_parts().map_err(fault)?;
        Ok(config)
    }

    /// Checks what parts of a technique ask of one another.
    fn validate_techniques(&self) -> Result<(), String> {
        let needs = self.loss.needs();
        let (per_step, queue) = (self.negatives.per_step().is_some(), self.negatives.queue().is_some());
        let frozen = self.encoder.documents == DocumentEncoder::Frozen;
        let taught = self.teacher.model.is_some() || self.data.teacher.is_some() || self.negatives.teaches();
        let faults = [
            (needs.guide && self.guide.model.is_none(), "[[loss.mask]] with rule = \"guide\" needs guide.model"),
            (
                needs.teacher && !taught,
                "this loss needs a teacher: data.teacher = FILE, teacher.model = MODEL, or lists with scored_by = \"teacher\"",
            ),
            (
                self.negatives.reads_teacher() && !taught,
                "the filter `teacher` and the draw `margin-bins` need a teacher: data.teacher = FILE, teacher.model = MODEL, or lists with \
                 scored_by = \"teacher\"",
            ),
            (
                needs.own && self.batch.negatives == 0 && !per_step && !self.loss.in_batch(),
                "this loss, or a term of it, compares a query's positive with its own drawn negatives alone, and batch.negatives is 0: set batch.negatives",
            ),
            (needs.ranks && !per_step, "loss.kind = \"lambda-mrr\" needs [[negatives.source]] with from = \"per-step\""),
            (per_step && !frozen, "from = \"per-step\" searches a frozen document matrix: set encoder.documents = \"frozen\""),
            (
                self.negatives.generated().is_some() && (queue || frozen),
                "from = \"generated\" gives texts that are encoded in the step that uses them: it goes with neither from = \"queue\" nor \
                 encoder.documents = \"frozen\"",
            ),
            (
                // What is retrieved in the step is in no file.
                per_step && needs.teacher && (self.data.teacher.is_some() || self.negatives.teaches()),
                "from = \"per-step\" finds documents that no file has scores of: name a teacher that can be asked, teacher.model = MODEL, in place of data.teacher",
            ),
            (
                per_step && !self.batch.share_negatives,
                "batch.share_negatives = false is about drawn negatives, and from = \"per-step\" has none: leave it out",
            ),
            (per_step && queue, "from = \"per-step\" and from = \"queue\" cannot be combined"),
            (per_step && self.batch.negatives > 0, "with from = \"per-step\" nothing else is drawn: set batch.negatives = 0"),
            (self.batch.compose == Compose::Groups && self.data.groups.is_none(), "batch.compose = \"groups\" needs data.groups = FILE"),
            (
                // It is asked about own pairs alone: the term would have no pair and say 0.
                self.is_taught_by_reranker() && self.loss.in_batch() && self.teacher.in_batch.is_none(),
                "in_batch = true of `margin-mse` needs a teacher's scores of other queries' documents, and the reranker scores a query's own pairs \
                 alone: name an encoder for them (teacher.in_batch = \"previous-round\"), or take the term out (loss.term = [])",
            ),
            (
                self.teacher.in_batch.as_deref() == Some(RERANKER),
                "teacher.in_batch takes an encoder: a reranker would have to read every pair of the batch",
            ),
            (
                self.batch.compose == Compose::Topics
                    && matches!(self.batch.topics.draw, mining::TopicDraw::Uniform { topics } if topics == 0 || topics > self.batch.queries),
                "batch.topics.draw.topics must be 1 to batch.queries: each topic gives a batch at least one query",
            ),
            (self.train.round_trip.is_some_and(|depth| depth == 0 || depth > 1024), "train.round_trip must be 1 to 1024"),
            (self.data.queries_keep == Some(0), "data.queries_keep must be at least 1"),
            (
                self.train.augment.is_some() && self.teacher.model.as_deref() != Some(RERANKER),
                "train.augment asks the reranker: set teacher.model = \"reranker\"",
            ),
            (self.train.augment.is_some_and(|augment| augment.depth == 0 || augment.depth > 1024), "train.augment.depth must be 1 to 1024"),
            (
                self.reranker.lists == 0 || self.reranker.negatives == 0 || self.reranker.depth == 0 || self.reranker.depth > 1024,
                "reranker.lists and reranker.negatives must be at least 1, reranker.depth 1 to 1024",
            ),
            (self.reranker.learning_rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())), "reranker.learning_rate must be above 0"),
            (self.reranker.length.is_some_and(|length| length < 8), "reranker.length must be at least 8 tokens"),
            (
                self.reranker.jointly
                    && (self.teacher.model.as_deref() != Some(RERANKER)
                        || self.is_taught_by_reranker() && (!needs.teacher || self.batch.negatives == 0)),
                "reranker.jointly needs teacher.model = \"reranker\", a loss that distils it and batch.negatives of at least 1",
            ),
        ];
        match faults.iter().find(|(holds, _)| *holds) {
            Some((_, reason)) => Err((*reason).to_owned()),
            None => Ok(()),
        }
    }

    /// Checks what needs neither file nor device.
    pub(super) fn validate(&self) -> Result<(), String> {
        self.validate_parts()?;
        self.validate_whole()
    }

    /// The same for one round.
    fn validate_parts(&self) -> Result<(), String> {
        self.loss.validate().map_err(|error| error.to_string())?;
        self.negatives.validate().map_err(|error| error.to_string())?;
        let bounds = [
            (self.batch.queries >= 1, "batch.queries must be at least 1"),
            (self.data.hold_out >= 0.0 && self.data.hold_out < 1.0, "data.hold_out must be a share from 0 to below 1"),
            (self.train.steps != Some(0), "train.steps must be at least 1"),
            (self.train.seconds.is_none_or(|seconds| seconds > 0.0 && seconds.is_finite()), "train.seconds must be above 0"),
            ((0.0..=1.0).contains(&self.encoder.momentum), "encoder.momentum must be 0 to 1, for instance 0.999"),
            (self.train.epochs.is_none_or(|epochs| epochs > 0.0 && epochs.is_finite()), "train.epochs must be above 0"),
            (self.train.learning_rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()), "train.learning_rate must be above 0"),
            (self.train.rate_factor > 0.0 && self.train.rate_factor.is_finite(), "train.rate_factor must be above 0"),
            (self.train.warmup >= 0.0 && self.train.warmup.is_finite(), "train.warmup must be 0 or more"),
            (
                self.train.warmup < 1.0 || self.train.seconds.is_none() || self.train.steps.is_some() || self.train.epochs.is_some(),
                "train.warmup counts steps, and under train.seconds nobody knows how many there will be; give it as a share, for instance 0.1",
            ),
            (self.train.weight_decay >= 0.0 && self.train.weight_decay.is_finite(), "train.weight_decay must be 0 or more"),
            (self.train.clip >= 0.0 && self.train.clip.is_finite(), "train.clip must be 0 (off) or more"),
            (self.train.keep_checkpoints >= 1, "train.keep_checkpoints must be at least 1"),
            (self.train.log_every >= 1, "train.log_every must be at least 1"),
            (self.encoder.query_length != Some(0) && self.encoder.document_length != Some(0), "encoder lengths must be at least 1"),
        ];
        if let Some((_, reason)) = bounds.iter().find(|(holds, _)| !holds) {
            return Err((*reason).to_owned());
        }
        if self.batch.negatives > 0 && !self.negatives.offers_candidates() {
            return Err(
                "batch.negatives asks for hard negatives, but no [[negatives.source]] offers any; add one, for instance from = \"dense\""
                    .into(),
            );
        }
        let columns = self.negatives.in_batch() || self.negatives.queue().is_some() || self.negatives.per_step().is_some();
        if self.batch.negatives == 0 && !columns {
            return Err(
                "nothing to contrast with: batch.negatives is 0 and no [[negatives.source]] has from = \"in-batch\", \"queue\" or \"per-step\""
                    .into(),
            );
        }
        if self.batch.negatives == 0 && self.negatives.in_batch() && self.batch.queries < 2 {
            return Err("in-batch negatives need batch.queries of at least 2".into());
        }
        self.validate_techniques()
    }
}
