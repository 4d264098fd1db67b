//! Which document rows a refresh needs, by model, and bringing them up to date.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Job, Miner, Supply};
use crate::config::Model;
use crate::encoders::Encoders;
use crate::error::MiningError;
use crate::row_encoder::{RowEncoder, encode_queries};
use crate::schedule::{Moment, Schedule};
use crate::sources::Scale;
use crate::store::EmbeddingStore;

/// The rows that must be new.
enum Fresh {
    All,
    Parts(Vec<Range<usize>>),
}

/// Part `slice` of `parts` of `count` things in a row.
pub(super) fn stretch(slice: usize, parts: usize, count: usize) -> Range<usize> {
    slice * count / parts..(slice + 1) * count / parts
}

/// The encoder that a model is.
pub(super) fn encoder<'a>(encoders: &'a mut dyn Encoders, model: &Model) -> Result<&'a mut dyn RowEncoder, MiningError> {
    match model {
        Model::Current => Ok(encoders.current()),
        _ => encoders.named(model.name()).map_err(|source| MiningError::Model { model: model.name().to_owned(), source }),
    }
}

impl Miner {
    /// The model that measures what no dense source scored: that of the first dense source, or the one in training.
    pub(super) fn reference(&self) -> Model {
        self.supplies.iter().filter_map(|supply| supply.config.model()).next().cloned().unwrap_or_default()
    }

    /// The model whose view filters have of a source's candidates, when they need one.
    pub(super) fn filter_model(&self, supply: &Supply) -> Option<Model> {
        match supply.config.model() {
            Some(model) => Some(model.clone()),
            None => {
                let measured = supply.scale == Scale::Foreign && (self.chain.reads_similarity() || self.measures_for_draw(supply));
                (self.chain.reads_cosine() || measured).then(|| self.reference())
            }
        }
    }

    /// The model whose view the draw has of a source's candidates, when it needs one.
    pub(super) fn draw_model(&self, supply: &Supply) -> Option<Model> {
        let needs = supply.draw.needs();
        let model = supply.config.model().filter(|_| !self.united()).cloned().unwrap_or_else(|| self.reference());
        (needs.rows || needs.to_positive || self.measures_for_draw(supply)).then_some(model)
    }

    /// Whether the draw reads similarities that are not the source's own scores.
    pub(super) fn measures_for_draw(&self, supply: &Supply) -> bool {
        let needs = supply.draw.needs();
        let own = match supply.scale {
            Scale::Encoder => !self.united() || supply.config.model() == Some(&self.reference()),
            Scale::Own => !self.united() && !needs.to_positive,
            Scale::Foreign => false,
        };
        needs.similarity && !own
    }

    /// Models that mining this source takes.
    pub(super) fn models(&self, supply: &Supply) -> impl Iterator<Item = Model> + use<> {
        [self.filter_model(supply), self.draw_model(supply)].into_iter().flatten()
    }

    /// Whether a refresh at this moment encodes all documents by the encoder in training, so that [`Miner::give`] spares it that.
    pub fn takes_rows(&self, now: Moment) -> bool {
        let takes = |supply: &Supply| {
            let whole = supply.job(now, self.config.slices) == Some(Job::Whole);
            whole && self.models(supply).any(|model| model == Model::Current)
        };
        !self.training.is_empty() && self.supplies.iter().any(takes)
    }

    /// Encodes what the jobs need and is not there. `given` are rows of all documents by the encoder in training, as it was at their step.
    pub(super) fn encode(
        &mut self,
        now: Moment,
        jobs: &[(usize, Job)],
        given: Option<EmbeddingStore>,
        encoders: &mut dyn Encoders,
    ) -> Result<(), MiningError> {
        let mut wanted: BTreeMap<Model, Fresh> = BTreeMap::new();
        let documents = self.knowledge.documents();
        for (number, job) in jobs {
            for model in self.models(&self.supplies[*number]) {
                match job {
                    Job::Whole => drop(wanted.insert(model, Fresh::All)),
                    Job::Slices(slices, parts) => {
                        let more = slices.iter().map(|&slice| stretch(slice, *parts, documents));
                        if let Fresh::Parts(stretches) = wanted.entry(model).or_insert(Fresh::Parts(Vec::new())) {
                            stretches.extend(more);
                        }
                    }
                    Job::Check => {}
                }
            }
        }
        let fits = |store: &EmbeddingStore| store.is_complete() && store.encoded_at_step() == Some(now.step) && store.len() == documents;
        if let (Some(store), Some(Fresh::All)) = (given.filter(fits), wanted.get(&Model::Current)) {
            // Given back first: the new rows may take a second copy while their format changes.
            self.stores.remove(&Model::Current);
            let store = store.stored_as(self.precision, encoders.current().document_lengths())?;
            self.stores.insert(Model::Current, store);
            self.saved_rows = None;
            wanted.remove(&Model::Current);
        }
        for (model, fresh) in wanted {
            self.encode_model(now, &model, &fresh, encoder(encoders, &model)?)?;
        }
        Ok(())
    }

    fn encode_model(&mut self, now: Moment, model: &Model, fresh: &Fresh, encoder: &mut dyn RowEncoder) -> Result<(), MiningError> {
        let known = self.stores.get(model).is_some_and(EmbeddingStore::is_complete);
        if known && model.is_fixed() {
            return Ok(());
        }
        // Where the encoder's rows are is where the store belongs.
        let mut device = || encode_queries(encoder, &self.training[..1]).map(|rows| rows.device());
        let saved = if *model == Model::Current { self.saved_rows.take() } else { None };
        let mut store = match (self.stores.remove(model), &saved, fresh) {
            (Some(store), ..) => store,
            (None, Some(saved), Fresh::Parts(_)) => EmbeddingStore::restored(saved, self.precision, &device()?),
            (None, ..) => {
                let device = device()?;
                EmbeddingStore::new(self.knowledge.documents(), encoder.dimension(), self.precision, &device)
            }
        };
        match fresh {
            Fresh::Parts(stretches) if store.is_complete() => {
                for stretch in stretches {
                    store.refill(stretch.clone(), encoder, Some(now.step))?;
                }
            }
            _ => store.fill(encoder, Some(now.step))?,
        }
        self.stores.insert(model.clone(), store);
        Ok(())
    }

    /// Steps since the oldest row of a model was encoded.
    pub(super) fn row_age(&self, model: &Model, now: Moment) -> Option<usize> {
        self.stores.get(model).and_then(EmbeddingStore::oldest_step).map(|step| now.step.saturating_sub(step))
    }

    /// Gives back the rows that no later refresh will look at, be it only for a filter or the draw.
    pub(super) fn drop_stores(&mut self) {
        // Rows that a source only measures by, and that change, are made anew as a whole each time, unless it rolls.
        let kept = |supply: &Supply, model: &Model| {
            supply.config.model().is_some() || model.is_fixed() || supply.schedule.is_some_and(Schedule::rolls)
        };
        let again = self.supplies.iter().filter(|supply| supply.comes_again());
        let needed: Vec<Model> = again.flat_map(|supply| self.models(supply).filter(|model| kept(supply, model))).collect();
        let unneeded: Vec<Model> = self.stores.keys().filter(|model| !needed.contains(model)).cloned().collect();
        unneeded.iter().for_each(|model| drop(self.stores.remove(model)));
    }
}
