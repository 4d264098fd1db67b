//! Clipping by the global norm: all gradients of a module are scaled together, so that the direction of the step is kept.
//!
//! burn clips each tensor by its own norm, which bends the direction. The rule here is PyTorch's `clip_grad_norm_`: factor
//! `max / (norm + 1e-6)`, never above 1. Norm and factor stay on the device; only a caller who reads the norm waits for it.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor};

/// Keeps PyTorch's factor finite when the norm is 0.
const EPSILON: f64 = 1e-6;

/// Scales the gradients so that their global norm is at most `max`, and returns them with the norm they had before, `[1]` in f32 on
/// the device. `max <= 0` clips nothing. A norm that is not finite makes the gradients not finite: the caller who reads it decides.
///
/// Gradients of parameters that are not in `module` are dropped: nothing could use them.
pub fn clip_global_norm<M: Module>(module: &M, gradients: GradientsParams, max: f64) -> (GradientsParams, Tensor<1>) {
    let norm = global_norm(module, &gradients);
    if max <= 0.0 {
        return (gradients, norm);
    }
    let factor = norm.clone().add_scalar(EPSILON).recip().mul_scalar(max).clamp_max(1.0);
    let mut scale = Scale { factor, from: gradients, into: GradientsParams::new() };
    module.visit(&mut scale);
    (scale.into, norm)
}

/// The Euclidean norm of all gradients of the module taken as one vector, `[1]` in f32, still on the device; 0 without gradients.
pub fn global_norm<M: Module>(module: &M, gradients: &GradientsParams) -> Tensor<1> {
    let mut squares = Squares { gradients, seen: Vec::new(), sums: Vec::new(), device: None };
    module.visit(&mut squares);
    match (squares.sums.is_empty(), squares.device) {
        (false, _) => Tensor::cat(squares.sums, 0).sum().sqrt(),
        (true, device) => Tensor::zeros([1], &device.unwrap_or_default()),
    }
}

/// Collects one sum of squares per parameter. Half-precision gradients are squared in f32, where they cannot overflow.
struct Squares<'a> {
    gradients: &'a GradientsParams,
    seen: Vec<ParamId>,
    sums: Vec<Tensor<1>>,
    device: Option<Device>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        self.device.get_or_insert_with(|| parameter.lazy_device().without_autodiff());
        if let Some(gradient) = self.gradients.get::<D>(parameter.id) {
            // A parameter shared by two places of the module has one gradient and counts once.
            if !self.seen.contains(&parameter.id) {
                self.seen.push(parameter.id);
                self.sums.push(gradient.cast(DType::F32).square().sum());
            }
        }
    }
}

/// Moves every gradient from one set to the other, scaled.
struct Scale {
    factor: Tensor<1>,
    from: GradientsParams,
    into: GradientsParams,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.from.remove::<D>(parameter.id) {
            let factor = self.factor.clone().reshape([1; D]).cast(gradient.dtype());
            self.into.register(parameter.id, gradient * factor);
        }
    }
}
