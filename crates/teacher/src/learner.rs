//! The state that training a reranker changes, and the step that changes it.
//!
//! Made to be driven from outside: one step over given lists, so that a retriever may be trained in turns with its ranker (AR2, arXiv
//! 2110.03611); or a loss of the caller's own over [`RerankerLearner::logits`] and then [`RerankerLearner::update`], so that both may
//! be trained jointly (RocketQAv2, arXiv 2110.07367). The state travels as named tensors. Dropout is a function of (seed, step, chunk).

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use encoder::{CrossEncoder, PairNetwork, PairTokens, TokenPairs};
use objective::{AdamW, Clipping, Schedule, gradient_cache};

use crate::error::TeacherError;
use crate::texts::Group;
use crate::training::RerankerTraining;

/// A reranker in training.
#[derive(Debug)]
pub struct RerankerLearner {
    /// `None` only while a step holds it.
    network: Option<PairNetwork>,
    optimizer: AdamW,
    rates: Schedule,
    config: RerankerTraining,
    step: usize,
    pad_id: u32,
    device: Device,
}

/// What a step leaves, still on the device: reading it waits for the device.
#[derive(Debug)]
pub struct Stepped {
    /// The loss, `[1]`.
    pub loss: Tensor<1>,
    /// Global norm of the gradients before clipping, `[1]`.
    pub gradient_norm: Tensor<1>,
}

/// Everything a learner is, as named tensors: what a checkpoint stores.
#[derive(Debug, Clone)]
pub struct LearnerState {
    /// Weights, as [`PairNetwork::tensors`] gives them.
    pub weights: Vec<(String, TensorData)>,
    /// State of the optimiser, by parameter path.
    pub optimizer: Vec<(String, TensorData)>,
    /// Steps done.
    pub step: usize,
}

impl RerankerLearner {
    /// Trains a copy of `model`, on the autodiff form of the device it lies on.
    ///
    /// # Errors
    /// A setting out of its range, or an optimiser group that holds no parameter.
    pub fn new(model: &CrossEncoder, config: RerankerTraining) -> Result<Self, TeacherError> {
        config.validate()?;
        let device = model.network.device().without_autodiff().autodiff();
        let network = model.network.on_device(&device);
        let optimizer = config.adamw()?;
        optimizer.treatments(&network)?;
        let pad_id = model.pad_id();
        Ok(Self { network: Some(network), optimizer, rates: config.rates()?, config, step: 0, pad_id, device })
    }

    /// The network as it is now, on the autodiff device.
    pub fn network(&self) -> &PairNetwork {
        self.network.as_ref().expect("a step gives the network back")
    }

    /// A snapshot without autodiff and dropout: what is put into a [`CrossEncoder`].
    pub fn snapshot(&self) -> PairNetwork {
        self.network().clone().valid()
    }

    /// Steps done.
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// The settings.
    pub fn config(&self) -> &RerankerTraining {
        &self.config
    }

    /// The autodiff device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Scores `[rows]` on the autodiff device with the graph that leads to the weights; dropout is on.
    pub fn logits(&self, batch: &TokenPairs) -> Tensor<1> {
        self.network().logits(batch, &self.device)
    }

    /// One step on `groups`, each with its positive first, at the learning rate of the schedule.
    ///
    /// # Errors
    /// No groups, or one without a negative; nothing is changed then.
    pub fn step(&mut self, groups: &[Group]) -> Result<Stepped, TeacherError> {
        Ok(self.step_of(groups, 2, self.step)?.0)
    }

    /// The same, and the scores that the step began with, dropout and all, group after group: what a retriever distils from a ranker that is
    /// trained with it. A group without a negative is scored and teaches nothing. The learning rate is that of step `at` of the schedule: under a budget of seconds the one that
    /// corresponds to the time.
    ///
    /// # Errors
    /// No groups, or one without a pair, and nothing is changed; or scores that cannot be read from the device or are not finite: to a
    /// retriever such a score would be an unknown one, and the training would go on with nothing to learn.
    pub fn step_scored(&mut self, groups: &[Group], at: usize) -> Result<(Stepped, Vec<f32>), TeacherError> {
        let (stepped, scores) = self.step_of(groups, 1, at)?;
        let scores = scores.try_into_vec_as::<f32>().map_err(|error| TeacherError::Device { message: format!("{error:?}") })?;
        match scores.iter().find(|score| !score.is_finite()) {
            Some(&got) => Err(TeacherError::Diverged { step: self.step - 1, got }),
            None => Ok((stepped, scores)),
        }
    }

    /// A step on groups of at least so many pairs, at the rate of step `at`, and the scores `[pairs]` before it.
    fn step_of(&mut self, groups: &[Group], fewest: usize, at: usize) -> Result<(Stepped, Tensor<1>), TeacherError> {
        if groups.is_empty() {
            return Err(TeacherError::NoLists);
        }
        if let Some((list, group)) = groups.iter().enumerate().find(|(_, group)| group.pairs.len() < fewest) {
            return Err(TeacherError::ShortList { list, got: group.pairs.len() });
        }
        let sizes: Vec<usize> = groups.iter().map(|group| group.pairs.len()).collect();
        let Chunked { chunks, places } = self.chunked(groups);
        let seeds: Vec<u64> = match self.network().has_dropout() {
            true => (0..chunks.len() as u64).map(|chunk| gradient_cache::chunk_seed(self.config.seed, self.step as u64, chunk)).collect(),
            false => Vec::new(),
        };
        let device = &self.device;
        let encode = |network: &PairNetwork, chunk: &TokenPairs| network.logits(chunk, device).unsqueeze_dim::<2>(1);
        let mut scores = None;
        let loss = |rows: Vec<Tensor<2>>| {
            let sorted: Tensor<1> = Tensor::cat(rows, 0).squeeze_dim(1);
            let places = Tensor::<1, Int>::from_data(TensorData::new(places, [sizes.iter().sum::<usize>()]), device);
            let logits = sorted.select(0, places);
            scores = Some(logits.clone().inner());
            self.config.loss.value(logits, &sizes, device)
        };
        let backward = if self.config.cache_gradients { gradient_cache::step } else { gradient_cache::whole_step };
        let made = backward(self.network(), &chunks, &seeds, device, encode, loss, &[]);
        let gradient_norm = self.update_at(made.gradients, at);
        Ok((Stepped { loss: made.value, gradient_norm }, scores.expect("the loss was taken")))
    }

    /// Clips gradients that the caller took and makes the optimiser's step at the learning rate of the schedule; returns their global
    /// norm `[1]` before clipping.
    pub fn update(&mut self, gradients: GradientsParams) -> Tensor<1> {
        self.update_at(gradients, self.step)
    }

    fn update_at(&mut self, gradients: GradientsParams, at: usize) -> Tensor<1> {
        let network = self.network.take().expect("a step gives the network back");
        let clipping = Clipping::measure(&network, &gradients, self.config.clip);
        self.network = Some(self.optimizer.step_clipped(self.rates.rate(at), network, gradients, &clipping));
        self.step += 1;
        clipping.norm
    }

    /// Trains up to the last step of the settings. `lists` gives the groups of step `i` (a function of the step, so that a resumed
    /// training sees the same ones); `seen` hears of every step and its loss. Returns the last loss, none when nothing was left to do.
    ///
    /// # Errors
    /// What `lists` and [`RerankerLearner::step`] say, or a loss that is not finite.
    pub fn train<E: From<TeacherError>>(
        &mut self,
        mut lists: impl FnMut(usize) -> Result<Vec<Group>, E>,
        mut seen: impl FnMut(usize, f32),
    ) -> Result<Option<f32>, E> {
        let mut last = None;
        while self.step < self.config.steps {
            let step = self.step;
            let groups = lists(step)?;
            let loss = self.step(&groups)?.loss;
            let loss = loss.try_into_vec_as::<f32>().map_err(|error| TeacherError::Device { message: format!("{error:?}") })?[0];
            if !loss.is_finite() {
                return Err(TeacherError::Diverged { step, got: loss }.into());
            }
            seen(step, loss);
            last = Some(loss);
        }
        Ok(last)
    }

    /// The state, read from the device.
    pub fn state(&self) -> LearnerState {
        LearnerState { weights: self.network().tensors(), optimizer: self.optimizer.state(), step: self.step }
    }

    /// Goes back to such a state.
    ///
    /// # Errors
    /// The state belongs to another model; the learner is as before then.
    pub fn load_state(&mut self, state: LearnerState) -> Result<(), TeacherError> {
        let network = self.network().clone().with_tensors(state.weights)?.on_device(&self.device);
        self.optimizer.load_state(&network, state.optimizer)?;
        self.network = Some(network);
        self.step = state.step;
        Ok(())
    }

    /// All pairs, longest first, in chunks.
    fn chunked(&self, groups: &[Group]) -> Chunked {
        let rows: Vec<&PairTokens> = groups.iter().flat_map(|group| &group.pairs).collect();
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&row| std::cmp::Reverse(rows[row].ids.len()));
        let mut places = vec![0i32; rows.len()];
        for (place, &row) in order.iter().enumerate() {
            places[row] = place as i32;
        }
        let sorted: Vec<&PairTokens> = order.iter().map(|&row| rows[row]).collect();
        Chunked { chunks: sorted.chunks(self.config.chunk).map(|chunk| TokenPairs::new(chunk, self.pad_id)).collect(), places }
    }
}

/// Pairs of a step, sorted by length.
struct Chunked {
    chunks: Vec<TokenPairs>,
    /// Where each pair of the groups stands in the sorted order.
    places: Vec<i32>,
}
