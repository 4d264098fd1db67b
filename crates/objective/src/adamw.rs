//! AdamW with PyTorch's rule and defaults, its state keyed by the path of each parameter.
//!
//! Loshchilov and Hutter 2019, arXiv 1711.05101, in the order of operations of `torch.optim.AdamW`: decoupled decay first, then the
//! bias-corrected step with `epsilon` outside the corrected root. Decay acts on matrices only unless asked otherwise, as is usual for
//! transformers. State travels as named tensors (`state.rs`), so that a checkpoint outlives burn's parameter numbers and a resumed
//! run repeats an uninterrupted one bit for bit. Parameters are f32 master weights; a parameter without gradient is left alone.

mod state;

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};
use kernels::AdamWFactors;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clip::Clipping;
use crate::path::Path;
use state::{Moments, Slot};

/// The constants of the optimiser; the defaults are PyTorch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay rate of the first moment.
    pub beta_1: f64,
    /// Decay rate of the second moment.
    pub beta_2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay; multiplied by the learning rate.
    pub weight_decay: f64,
    /// Decay biases and normalisation weights too, not only parameters of rank 2 and above.
    pub decay_all: bool,
    /// Exceptions by path; the first group that matches a parameter applies.
    pub groups: Vec<ParameterGroup>,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.01, decay_all: false, groups: Vec::new() }
    }
}

/// Parameters that are treated differently.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterGroup {
    /// The group holds every parameter whose path contains this text.
    pub path: String,
    /// Factor on the learning rate; 0 freezes the group: no step, no decay, no state.
    #[serde(default = "one")]
    pub rate: f64,
    /// Weight decay of the group, whatever the rank of the parameter; left out: as everywhere else.
    #[serde(default)]
    pub weight_decay: Option<f64>,
}

fn one() -> f64 {
    1.0
}

/// Settings that cannot be used, or a state that belongs to another module.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum OptimizerError {
    /// A constant out of its range.
    #[error("optimiser setting {setting} is {got}, expected {expected}")]
    Setting {
        /// Name of the setting.
        setting: String,
        /// The value given.
        got: f64,
        /// The range it must lie in.
        expected: &'static str,
    },
    /// A group that holds no parameter: most likely a misspelt path.
    #[error("no parameter path contains `{path}`; paths look like: {}", examples.join(", "))]
    EmptyGroup {
        /// Text of the group.
        path: String,
        /// Some paths of the module.
        examples: Vec<String>,
    },
    /// The names in the state are not those of the module.
    #[error("the optimiser state does not belong to this model: missing [{}], unknown [{}]", missing.join(", "), unknown.join(", "))]
    Names {
        /// Tensors the module needs and the state lacks.
        missing: Vec<String>,
        /// Tensors of the state that fit no parameter.
        unknown: Vec<String>,
    },
    /// A state tensor of the wrong shape or type.
    #[error("optimiser state `{name}` is {got}, expected {expected}: the checkpoint belongs to another model")]
    Layout {
        /// Name of the tensor.
        name: String,
        /// Its type and shape.
        got: String,
        /// The type and shape that fit.
        expected: String,
    },
}

/// How one parameter is treated.
#[derive(Clone, Debug, PartialEq)]
pub struct Treatment {
    /// Path of the parameter in its module.
    pub path: String,
    /// Shape of the parameter.
    pub shape: Vec<usize>,
    /// Factor on the learning rate.
    pub rate: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

/// The optimiser: its constants, and one slot of state per parameter path.
#[derive(Clone, Debug)]
pub struct AdamW {
    config: AdamWConfig,
    slots: BTreeMap<String, Slot>,
}

impl AdamWConfig {
    /// Checks the range of every constant.
    ///
    /// # Errors
    /// [`OptimizerError::Setting`] for the first one out of range.
    pub fn validate(&self) -> Result<(), OptimizerError> {
        let below_one = |beta: f64| (0.0..1.0).contains(&beta);
        let not_negative = |value: f64| value.is_finite() && value >= 0.0;
        let mut checks = vec![
            ("beta_1".to_owned(), self.beta_1, below_one(self.beta_1), "a number in [0, 1)"),
            ("beta_2".to_owned(), self.beta_2, below_one(self.beta_2), "a number in [0, 1)"),
            ("epsilon".to_owned(), self.epsilon, not_negative(self.epsilon) && self.epsilon > 0.0, "a positive number"),
            ("weight_decay".to_owned(), self.weight_decay, not_negative(self.weight_decay), "a number from 0"),
        ];
        for group in &self.groups {
            let decay = group.weight_decay.unwrap_or(0.0);
            checks.push((format!("rate of the group `{}`", group.path), group.rate, not_negative(group.rate), "a number from 0"));
            checks.push((format!("weight_decay of the group `{}`", group.path), decay, not_negative(decay), "a number from 0"));
        }
        match checks.into_iter().find(|&(_, _, good, _)| !good) {
            Some((setting, got, _, expected)) => Err(OptimizerError::Setting { setting, got, expected }),
            None => Ok(()),
        }
    }

    /// Learning-rate factor and weight decay of a parameter.
    fn treatment(&self, path: &str, rank: usize) -> (f64, f64) {
        let usual = if rank >= 2 || self.decay_all { self.weight_decay } else { 0.0 };
        match self.groups.iter().find(|group| path.contains(&group.path)) {
            Some(group) => (group.rate, group.weight_decay.unwrap_or(usual)),
            None => (1.0, usual),
        }
    }
}

impl AdamW {
    /// An optimiser that has made no step.
    ///
    /// # Errors
    /// When [`AdamWConfig::validate`] finds fault.
    pub fn new(config: AdamWConfig) -> Result<Self, OptimizerError> {
        config.validate()?;
        Ok(Self { config, slots: BTreeMap::new() })
    }

    /// How every parameter of the module will be treated, by path: what to show a user who configured groups.
    ///
    /// # Errors
    /// [`OptimizerError::EmptyGroup`] when a group holds no parameter.
    pub fn treatments<M: Module>(&self, module: &M) -> Result<Vec<Treatment>, OptimizerError> {
        let mut plan = Plan { config: &self.config, path: Path::default(), rows: Vec::new() };
        module.visit(&mut plan);
        let mut rows = plan.rows;
        rows.sort_by(|a, b| a.path.cmp(&b.path));
        match self.config.groups.iter().find(|group| !rows.iter().any(|row| row.path.contains(&group.path))) {
            Some(group) => Err(OptimizerError::EmptyGroup {
                path: group.path.clone(),
                examples: rows.into_iter().take(5).map(|row| row.path).collect(),
            }),
            None => Ok(rows),
        }
    }

    /// One update of every parameter that has a gradient. Works on tensors without autodiff and gives the parameters back as it found
    /// them: same identifier, same gradient requirement, same checkpointing strategy. Does not wait for the device.
    pub fn step<M: Module>(&mut self, learning_rate: f64, module: M, gradients: GradientsParams) -> M {
        self.update(learning_rate, module, gradients, None)
    }

    /// [`step`](Self::step) with clipped gradients, to the bit what it makes of those of [`clip_global_norm`](crate::clip_global_norm); where the
    /// update is one pass, the factor is part of it.
    pub fn step_clipped<M: Module>(&mut self, learning_rate: f64, module: M, gradients: GradientsParams, clipping: &Clipping) -> M {
        self.update(learning_rate, module, gradients, Some(clipping))
    }

    fn update<M: Module>(&mut self, learning_rate: f64, module: M, gradients: GradientsParams, clipping: Option<&Clipping>) -> M {
        let Self { config, slots } = self;
        module.map(&mut Update { config, slots, learning_rate, gradients, clipping, path: Path::default() })
    }
}

struct Plan<'a> {
    config: &'a AdamWConfig,
    path: Path,
    rows: Vec<Treatment>,
}

impl ModuleVisitor for Plan<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let path = self.path.dotted();
        let (rate, weight_decay) = self.config.treatment(&path, D);
        self.rows.push(Treatment { path, shape: parameter.lazy_shape().to_vec(), rate, weight_decay });
    }
}

struct Update<'a> {
    config: &'a AdamWConfig,
    slots: &'a mut BTreeMap<String, Slot>,
    learning_rate: f64,
    gradients: GradientsParams,
    clipping: Option<&'a Clipping>,
    path: Path,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.dotted();
        let (rate, weight_decay) = self.config.treatment(&path, D);
        let slot = self.slots.entry(path).or_default();
        let gradient = self.gradients.remove::<D>(parameter.id);
        let Some(gradient) = gradient.filter(|_| rate > 0.0) else {
            return parameter;
        };
        let learning_rate = self.learning_rate * rate;
        let (id, value, mapper) = parameter.consume();
        let (requires_gradient, checkpointing) = (value.is_require_grad(), value.gradient_checkpointing_strategy());
        let rates = Rates { learning_rate, weight_decay, clipping: self.clipping };
        let value = slot.update(self.config, rates, value.inner(), gradient.cast(DType::F32));
        // Without the strategy it was created with, a parameter would refuse to meet its inputs in the next forward pass.
        let value = match checkpointing {
            Some(strategy) => Tensor::from_inner(value).with_gradient_checkpointing_strategy(strategy).set_require_grad(requires_gradient),
            None => value,
        };
        Param::from_mapped_value(id, value, mapper)
    }
}

/// What the update of one parameter multiplies by.
#[derive(Clone, Copy)]
struct Rates<'a> {
    learning_rate: f64,
    weight_decay: f64,
    /// The gradient first.
    clipping: Option<&'a Clipping>,
}

impl Slot {
    /// The update of one parameter, all on the device: in one pass where that is fused, else in tensor operations; on the CPU the bits are the same.
    fn update<const D: usize>(&mut self, config: &AdamWConfig, rates: Rates<'_>, parameter: Tensor<D>, gradient: Tensor<D>) -> Tensor<D> {
        let AdamWConfig { beta_1, beta_2, epsilon, .. } = *config;
        let Rates { learning_rate, weight_decay, clipping } = rates;
        let scaled = |gradient: Tensor<D>| match clipping {
            Some(clipping) => clipping.scale(gradient),
            None => gradient,
        };
        let shape = gradient.shape();
        self.step += 1;
        let correction_1 = 1.0 - beta_1.powf(self.step as f64);
        let correction_2 = 1.0 - beta_2.powf(self.step as f64);
        let (rate, kept) = (learning_rate / correction_1, 1.0 - learning_rate * weight_decay);
        let Some(Moments { first, second, .. }) = self.moments.take() else {
            let gradient = scaled(gradient);
            let first = gradient.clone().mul_scalar(1.0 - beta_1);
            let second = gradient.square().mul_scalar(1.0 - beta_2);
            return self.stepped(parameter, first, second, [correction_2.sqrt(), epsilon, rate, kept]);
        };
        let (first, second) = (first.reshape(shape.clone()), second.reshape(shape));
        if kernels::updates_in_one_pass(&parameter) {
            let factors = AdamWFactors {
                gradient: clipping.and_then(Clipping::number).unwrap_or(1.0),
                first: (1.0 - beta_1) as f32,
                second: beta_2 as f32,
                squared: (1.0 - beta_2) as f32,
                root: correction_2.sqrt() as f32,
                epsilon: epsilon as f32,
                rate: rate as f32,
                kept: kept as f32,
            };
            let on_device = clipping.and_then(Clipping::on_device);
            let [parameter, first, second] = kernels::adamw(parameter, &gradient, first, second, on_device, factors);
            self.keep(first, second);
            return parameter;
        }
        let gradient = scaled(gradient);
        let squared = gradient.clone().square().mul_scalar(1.0 - beta_2);
        let first = first.clone() + (gradient - first).mul_scalar(1.0 - beta_1);
        let second = second.mul_scalar(beta_2) + squared;
        self.stepped(parameter, first, second, [correction_2.sqrt(), epsilon, rate, kept])
    }

    /// The parameter after a step with these moments, which are kept.
    fn stepped<const D: usize>(
        &mut self,
        parameter: Tensor<D>,
        first: Tensor<D>,
        second: Tensor<D>,
        [root, epsilon, rate, kept]: [f64; 4],
    ) -> Tensor<D> {
        let denominator = second.clone().sqrt().div_scalar(root).add_scalar(epsilon);
        let step = first.clone().div(denominator).mul_scalar(rate);
        self.keep(first, second);
        let decayed = if kept == 1.0 { parameter } else { parameter.mul_scalar(kept) };
        decayed - step
    }

    fn keep<const D: usize>(&mut self, first: Tensor<D>, second: Tensor<D>) {
        let shape = first.shape().to_vec();
        self.moments = Some(Moments { first: first.flatten(0, D - 1), second: second.flatten(0, D - 1), shape });
    }
}
