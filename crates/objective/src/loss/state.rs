//! What a loss learns beside the encoder: the temperature. Its own Adam, its own place in a checkpoint.
//!
//! The gradient leaves a step through [`gradient_cache`](crate::gradient_cache), which takes [`leaves`](LossState::leaves) and gives back
//! one gradient for each; [`update`](LossState::update) takes those. A loss without anything to learn has an empty state, and the same
//! calls do nothing.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::Temperature;
use crate::adamw::{AdamW, AdamWConfig, OptimizerError};

const NAME: &str = "log_temperature";

/// The learned state of a loss, made by [`LossConfig::state`](crate::LossConfig::state).
#[derive(Debug, Default)]
pub struct LossState(Option<Learned>);

#[derive(Debug)]
struct Learned {
    parameters: Parameters,
    optimizer: AdamW,
    learning_rate: f64,
    min: f64,
}

#[derive(Module, Debug)]
struct Parameters {
    /// `[1]`.
    log_temperature: Param<Tensor<1>>,
}

impl LossState {
    pub(super) fn new(temperature: &Temperature, device: &Device) -> Self {
        let Temperature::Learned { learned, min, learning_rate } = *temperature else { return Self(None) };
        let log_temperature = Param::from_tensor(Tensor::from_floats([learned.ln() as f32], device));
        let config = AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() };
        let optimizer = AdamW::new(config).expect("the defaults without decay are in range");
        Self(Some(Learned { parameters: Parameters { log_temperature }, optimizer, learning_rate, min }))
    }

    /// The tensors whose gradient [`update`](Self::update) wants: none, or the logarithm of the temperature.
    pub fn leaves(&self) -> Vec<Tensor<1>> {
        self.0.iter().map(|learned| learned.parameters.log_temperature.val()).collect()
    }

    /// One step of Adam. `gradients` are those of [`leaves`](Self::leaves), in order; where there is none nothing changes. Does not
    /// wait for the device.
    pub fn update(&mut self, gradients: Vec<Option<Tensor<1>>>) {
        let (Some(learned), Some(Some(gradient))) = (&mut self.0, gradients.into_iter().next()) else { return };
        let mut registered = GradientsParams::new();
        registered.register(learned.parameters.log_temperature.id, gradient);
        let parameters = learned.optimizer.step(learned.learning_rate, learned.parameters.clone(), registered);
        let lowest = learned.min.ln();
        learned.parameters = Parameters { log_temperature: with_value(&parameters.log_temperature, |value| value.clamp_min(lowest)) };
    }

    /// The learned temperature, `[1]`, without a graph and still on the device; `None` when it is not learned.
    pub fn temperature(&self) -> Option<Tensor<1>> {
        self.0.as_ref().map(|learned| learned.parameters.log_temperature.val().inner().exp())
    }

    /// The learned temperature in the graph, `[1]`.
    pub(super) fn tracked_temperature(&self) -> Option<Tensor<1>> {
        self.leaves().pop().map(Tensor::exp)
    }

    /// Begins with the temperature that `before` has learned, where both learn one, and no lower than this one may go; its Adam starts over.
    pub fn begin_with(&mut self, before: &Self) {
        let (Some(learned), Some(before)) = (&mut self.0, &before.0) else { return };
        let value = before.parameters.log_temperature.val().inner().clamp_min(learned.min.ln());
        learned.parameters = Parameters { log_temperature: with_value(&learned.parameters.log_temperature, |_| value) };
    }

    /// The state as named tensors for a checkpoint, sorted by name; empty when nothing is learned.
    pub fn state(&self) -> Vec<(String, TensorData)> {
        let Some(learned) = &self.0 else { return Vec::new() };
        let mut state = learned.optimizer.state();
        state.push((NAME.to_owned(), learned.parameters.log_temperature.val().into_data()));
        state.sort_by(|a, b| a.0.cmp(&b.0));
        state
    }

    /// Replaces the state by one that [`state`](Self::state) gave under the same configuration. On an error nothing is changed.
    ///
    /// # Errors
    /// Names that are missing or unknown, or a tensor that is not one f32.
    pub fn load_state(&mut self, mut state: Vec<(String, TensorData)>) -> Result<(), OptimizerError> {
        let Some(learned) = &mut self.0 else {
            let unknown: Vec<String> = state.into_iter().map(|(name, _)| name).collect();
            return if unknown.is_empty() { Ok(()) } else { Err(OptimizerError::Names { missing: Vec::new(), unknown }) };
        };
        let Some(place) = state.iter().position(|(name, _)| name == NAME) else {
            return Err(OptimizerError::Names { missing: vec![NAME.to_owned()], unknown: Vec::new() });
        };
        let (_, value) = state.remove(place);
        if value.dtype() != DType::F32 || value.shape()[..] != [1] {
            let got = format!("{:?} {:?}", value.dtype(), value.shape().to_vec());
            return Err(OptimizerError::Layout { name: NAME.to_owned(), got, expected: "F32 [1]".to_owned() });
        }
        learned.optimizer.load_state(&learned.parameters, state)?;
        let log_temperature = with_value(&learned.parameters.log_temperature, |old| Tensor::from_data(value, &old.device()));
        learned.parameters = Parameters { log_temperature };
        Ok(())
    }
}

/// The same parameter with another value, a leaf as before.
fn with_value(parameter: &Param<Tensor<1>>, change: impl FnOnce(Tensor<1>) -> Tensor<1>) -> Param<Tensor<1>> {
    let (id, value, mapper) = parameter.clone().consume();
    let strategy = value.gradient_checkpointing_strategy();
    let changed = change(value.inner());
    let changed = match strategy {
        Some(strategy) => Tensor::from_inner(changed).with_gradient_checkpointing_strategy(strategy).require_grad(),
        None => changed,
    };
    Param::from_mapped_value(id, changed, mapper)
}
