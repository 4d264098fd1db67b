//! The lists of a training run: refreshed when the schedule says so, drawn from at every visit.
//!
//! What a refresh does is `refresh` (with `encode`, `views`, `mining`, `decay`, `curve` and `accounts`), what a visit draws is `visit`, what a
//! checkpoint holds is `keeping`, whether generated texts can be told from others is `shortcut`. All are functions of configuration, seed, weights and their arguments alone. Training itself is the
//! caller's.

mod accounts;
mod curve;
mod decay;
mod encode;
mod histograms;
mod keeping;
mod mining;
mod refresh;
mod shortcut;
mod views;
mod visit;

use std::collections::BTreeMap;
use std::sync::Arc;

use corpus::{Collection, Judgments, NegativeLists, Texts};

use crate::candidate::Candidate;
use crate::config::{DrawConfig, FilterConfig, Merge, Model, NegativesConfig, SourceConfig, SourceKind};
use crate::draws::{self, Draw};
use crate::error::MiningError;
use crate::filters::{AnswerTexts, Chain, Dropped};
use crate::knowledge::Knowledge;
use crate::lists::Lists;
use crate::schedule::{Moment, Schedule};
use crate::sources::{self, Generated, Scale, Source};
use crate::store::{EmbeddingStore, SavedRows, StorePrecision};

pub use shortcut::Shortcut;
pub use visit::Visit;

/// Negatives for every training query.
pub struct Miner {
    config: NegativesConfig,
    seed: u64,
    knowledge: Arc<Knowledge>,
    truth: Option<Judgments>,
    /// Queries with a positive, ascending.
    training: Vec<u32>,
    supplies: Vec<Supply>,
    chain: Chain,
    /// From a union of lists; from one list it is the supply's.
    draw: Box<dyn Draw>,
    version: u64,
    /// Negatives that a visit asks for, as far as the miner was told.
    wanted: usize,
    precision: StorePrecision,
    answers: Option<Arc<AnswerTexts>>,
    /// Fully judged queries, for a draw that fits a curve on them.
    judged: Option<Judgments>,
    /// Document rows by the model that made them. Kept between refreshes when there will be another one: their memory is used again.
    stores: BTreeMap<Model, EmbeddingStore>,
    /// Rows of different ages out of a checkpoint, until a device is known.
    saved_rows: Option<SavedRows>,
    /// Rows of all documents by the encoder in training, for a refresh at the step that they were encoded at.
    given: Option<EmbeddingStore>,
}

/// A source with its lists.
struct Supply {
    config: SourceConfig,
    /// Its own, or that of all sources.
    draw: Box<dyn Draw>,
    /// What kind it is, with a number behind it when it is not the first of that kind.
    name: String,
    scale: Scale,
    /// `None` once its lists are final: an index is no longer needed then.
    source: Option<Box<dyn Source>>,
    schedule: Option<Schedule>,
    last: Option<Moment>,
    /// The next slice of a rolling schedule.
    next_slice: usize,
    /// Weights of ranks; empty unless the draw needs them.
    curve: Vec<f32>,
    decay: Decay,
    lists: Lists,
    /// Of the mining that made the lists, by query: to look at, not part of the state.
    dropped: BTreeMap<u32, Vec<Dropped>>,
}

/// Of a schedule on decay, by training query.
#[derive(Debug, Clone, Default)]
struct Decay {
    /// How often the negatives were replaced.
    replaced: Vec<u32>,
    /// Their mean cosine when they were installed; NaN without negatives.
    installed: Vec<f32>,
}

/// What a refresh has to do for one source.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Job {
    /// All its lists.
    Whole,
    /// These slices of its lists, out of so many.
    Slices(Vec<usize>, usize),
    /// To look which of its lists have become too easy.
    Check,
}

impl Supply {
    fn job(&self, now: Moment, slices: usize) -> Option<Job> {
        let schedule = self.schedule?;
        if !schedule.due(self.last, now, slices) {
            return None;
        }
        Some(match (schedule, self.last) {
            (schedule, Some(last)) if schedule.rolls() => {
                let (count, parts, _) = schedule.slices_due(last, now, slices);
                Job::Slices((0..count).map(|slice| (self.next_slice + slice) % parts).collect(), parts)
            }
            (Schedule::OnDecay(_), Some(_)) => Job::Check,
            _ => Job::Whole,
        })
    }

    /// Drops the source when its lists will not be found again.
    fn retire(&mut self) {
        if matches!(self.schedule, Some(Schedule::Once | Schedule::OnDecay(_))) && self.last.is_some() {
            self.source = None;
        }
    }

    /// Whether its lists will be found again.
    fn comes_again(&self) -> bool {
        self.source.is_some() && self.schedule.is_some()
    }

    /// Whether the source's own scores are on a scale that it has positives on.
    fn comparable(&self) -> bool {
        self.scale != Scale::Foreign
    }

    fn is_generated(&self) -> bool {
        matches!(self.config.kind, SourceKind::Generated { .. })
    }
}

impl Miner {
    /// Prepares the parts that `config` names. Training queries are those of `judgments` with a positive. Nothing is mined yet.
    ///
    /// # Errors
    /// When the configuration makes no sense, a source cannot be opened, or judgments and collection do not belong together.
    pub fn new(config: &NegativesConfig, collection: &Collection, judgments: &Judgments, seed: u64) -> Result<Self, MiningError> {
        Self::among(config, collection, [judgments; 2], seed)
    }

    /// As [`Miner::new`] for the queries of the first judgments, where the second are also known: what they judge for a query of the same text as one of these is no negative of that.
    ///
    /// # Errors
    /// As [`Miner::new`].
    pub fn among(
        config: &NegativesConfig,
        collection: &Collection,
        [judgments, all]: [&Judgments; 2],
        seed: u64,
    ) -> Result<Self, MiningError> {
        config.validate()?;
        let keep_nonrelevant = config.filter.iter().any(|filter| matches!(filter, FilterConfig::Judged { keep_nonrelevant: true }));
        let knowledge = Arc::new(Knowledge::among(collection, [judgments, all], keep_nonrelevant)?);
        let training: Vec<u32> = judgments.queries().collect();
        // Of queries that were written later nobody knows all that is relevant.
        let known = |truth: &&Judgments| training.iter().any(|&query| !truth.judged(query).is_empty());
        let truth = collection.truth.as_ref().filter(known);
        let mut supplies: Vec<Supply> = Vec::with_capacity(config.source.len());
        for (number, source) in (0..u8::MAX).zip(&config.source) {
            let built = sources::build(source, number, collection, &knowledge, &training)?;
            let of_kind = supplies.iter().filter(|supply| supply.source.as_ref().is_some_and(|other| other.name() == built.name())).count();
            supplies.push(Supply {
                config: source.clone(),
                draw: draws::build(source.draw.as_ref().unwrap_or(&config.draw)),
                name: if of_kind == 0 { built.name().to_owned() } else { format!("{}-{}", built.name(), of_kind + 1) },
                scale: built.scale(),
                source: Some(built),
                schedule: source.kind.refresh(),
                last: None,
                next_slice: 0,
                curve: Vec::new(),
                decay: Decay::default(),
                lists: Lists::default(),
                dropped: BTreeMap::new(),
            });
        }
        Ok(Self {
            chain: Chain::new(config, &knowledge, None, truth, seed),
            draw: draws::build(&config.draw),
            config: config.clone(),
            seed,
            knowledge,
            truth: truth.cloned(),
            training,
            supplies,
            version: 0,
            wanted: 1,
            precision: StorePrecision::default(),
            answers: None,
            judged: None,
            stores: BTreeMap::new(),
            saved_rows: None,
            given: None,
        })
    }

    /// Tells how many negatives a visit will ask for, so that reports can count short rows, short rows be filled, and current negatives be
    /// looked at.
    #[must_use]
    pub fn expecting(self, negatives: usize) -> Self {
        Self { wanted: negatives.max(1), ..self }
    }

    /// Says that the teacher's scores are probabilities: a draw by its margins takes their logits.
    #[must_use]
    pub fn taught_with_probabilities(mut self) -> Self {
        let taught = |config: &DrawConfig, draw: &mut Box<dyn Draw>| {
            if let DrawConfig::MarginBins { bins } = *config {
                *draw = Box::new(draws::MarginBins { bins, probabilities: true });
            }
        };
        taught(&self.config.draw, &mut self.draw);
        for supply in &mut self.supplies {
            taught(supply.config.draw.as_ref().unwrap_or(&self.config.draw), &mut supply.draw);
        }
        self
    }

    /// Stores document rows in this precision.
    #[must_use]
    pub fn storing(self, precision: StorePrecision) -> Self {
        Self { precision, ..self }
    }

    /// Gives the filter `answer` what it looks for, and where.
    #[must_use]
    pub fn answering(mut self, answers: AnswerTexts) -> Self {
        self.answers = Some(Arc::new(answers));
        self.rebuild_chain();
        self
    }

    /// Gives the draw `rank-curve` the judged queries that it fits its curve on: those of `judgments` with a positive, all of whose relevant
    /// documents should be judged.
    #[must_use]
    pub fn judging(self, judgments: Judgments) -> Self {
        Self { judged: Some(judgments), ..self }
    }

    /// Gives the source `generated` its texts and lists. Text i has the id `collection.documents.len() + i`; so the lists name it.
    ///
    /// # Errors
    /// When a list names another id.
    pub fn generated(mut self, collection: &Collection, texts: &Texts, lists: NegativeLists) -> Result<Self, MiningError> {
        let first = self.knowledge.documents();
        let ids = first..first + texts.len();
        let listed = self.training.iter().flat_map(|&query| lists.row(query)).map(|it| it.document);
        if let Some(id) = listed.into_iter().find(|&id| !ids.contains(&(id as usize))) {
            return Err(MiningError::NotGenerated { id, first, last: ids.end.saturating_sub(1) });
        }
        // The filters share the knowledge: without them it is changed in place.
        self.chain = Chain::empty();
        Arc::make_mut(&mut self.knowledge).add_generated(collection, texts);
        self.rebuild_chain();
        let place = self.supplies.iter().position(Supply::is_generated);
        if let Some((number, supply)) = place.and_then(|place| Some((u8::try_from(place).ok()?, &mut self.supplies[place]))) {
            supply.source = Some(Box::new(Generated::new(lists, number)));
        }
        Ok(self)
    }

    fn rebuild_chain(&mut self) {
        self.chain = Chain::new(&self.config, &self.knowledge, self.answers.as_ref(), self.truth.as_ref(), self.seed);
    }

    /// What is known about judgments and equal texts.
    pub fn knowledge(&self) -> &Arc<Knowledge> {
        &self.knowledge
    }

    /// Refreshes so far.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether any list is due at this moment.
    pub fn due(&self, now: Moment) -> bool {
        self.supplies.iter().any(|supply| supply.job(now, self.config.slices).is_some())
    }

    /// Gives the next refresh the rows of all documents by the encoder in training, which it need not encode then; `documents` was filled at the step of that refresh, or
    /// it counts for nothing.
    pub fn give(&mut self, documents: EmbeddingStore) {
        self.given = Some(documents);
    }

    /// Whether refreshes come due by the clock, so that the next one's step is not known beforehand.
    pub fn by_the_clock(&self) -> bool {
        self.supplies.iter().any(|supply| supply.schedule.is_some_and(Schedule::by_the_clock))
    }

    /// The name of a candidate's source: its kind, with a number behind it when it is not the first of that kind (`dense`, `dense-2`); `None` for a number that no source has.
    pub fn source_name(&self, source: u8) -> Option<&str> {
        if source == Candidate::FILL { Some("fill") } else { self.supplies.get(usize::from(source)).map(|supply| supply.name.as_str()) }
    }

    /// Numbers of all sources that list a candidate.
    pub fn sources_of(&self, candidate: &Candidate) -> impl Iterator<Item = u8> + use<> {
        let found_by = candidate.found_by;
        (0..64).filter(move |&number| found_by >> number & 1 == 1)
    }

    fn united(&self) -> bool {
        self.config.merge == Merge::Union
    }

    /// Place of a positive among the positives of its query.
    fn place_of(&self, query: u32, positive: u32) -> Option<usize> {
        self.knowledge.judgments().positives(query).position(|document| document == positive)
    }
}
