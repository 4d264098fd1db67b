//! Clipping by the global norm: all gradients of a module are scaled together, so that the direction of the step is kept.
//!
//! burn clips each tensor by its own norm, which bends the direction. The rule here is PyTorch's `clip_grad_norm_`: factor
//! `max / (norm + 1e-6)`, never above 1. The norm is one pass over the gradients, and the factor is applied by
//! [`AdamW::step_clipped`](crate::AdamW::step_clipped) on its way through them. On the CPU the sum is in f64 and the factor a number; on other devices norm and factor
//! stay there: only a caller who reads the norm waits for it.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};

/// Keeps PyTorch's factor finite when the norm is 0.
const EPSILON: f32 = 1e-6;

/// The norm of the gradients, and what each is to be multiplied by.
#[derive(Clone, Debug)]
pub struct Clipping {
    /// The global norm before clipping, `[1]` in f32 on the device.
    pub norm: Tensor<1>,
    factor: Factor,
}

#[derive(Clone, Debug)]
enum Factor {
    Number(f32),
    /// `[1]` in f32.
    OnDevice(Box<Tensor<1>>),
}

impl Clipping {
    /// Measures the gradients for a norm of at most `max`; `max <= 0` clips nothing. A norm that is not finite makes the gradients not
    /// finite or zero: the caller who reads it decides.
    pub fn measure<M: Module>(module: &M, gradients: &GradientsParams, max: f64) -> Self {
        match squares(module, gradients) {
            Sum::Number(sum, device) => {
                let norm = sum.sqrt() as f32;
                let factor = if max > 0.0 { factor(norm, max) } else { 1.0 };
                Self { norm: Tensor::from_data(TensorData::new(vec![norm], [1]), &device), factor: Factor::Number(factor) }
            }
            Sum::OnDevice(sum) => {
                let norm = sum.sqrt();
                let factor = match max > 0.0 {
                    true => Factor::OnDevice(Box::new(norm.clone().add_scalar(EPSILON).recip().mul_scalar(max).clamp_max(1.0))),
                    false => Factor::Number(1.0),
                };
                Self { norm, factor }
            }
        }
    }

    /// The factor where it is a number.
    pub(crate) fn number(&self) -> Option<f32> {
        match self.factor {
            Factor::Number(factor) => Some(factor),
            Factor::OnDevice(_) => None,
        }
    }

    /// The factor where it is not a number yet, `[1]`.
    pub(crate) fn on_device(&self) -> Option<&Tensor<1>> {
        match &self.factor {
            Factor::Number(_) => None,
            Factor::OnDevice(factor) => Some(factor),
        }
    }

    /// A gradient times the factor.
    pub(crate) fn scale<const D: usize>(&self, gradient: Tensor<D>) -> Tensor<D> {
        match &self.factor {
            Factor::Number(1.0) => gradient,
            Factor::Number(factor) => gradient.mul_scalar(*factor),
            Factor::OnDevice(factor) => {
                let factor = Tensor::clone(factor).reshape([1; D]).cast(gradient.dtype());
                gradient * factor
            }
        }
    }
}

/// PyTorch's factor, in the operations of the tensor form. NaN stays NaN.
fn factor(norm: f32, max: f64) -> f32 {
    let factor = (norm + EPSILON).recip() * max as f32;
    if factor > 1.0 { 1.0 } else { factor }
}

/// Scales the gradients so that their global norm is at most `max`, and returns them with the norm they had before, as
/// [`Clipping::measure`] does. For callers who want the gradients themselves; a training step spares the pass over them with
/// [`AdamW::step_clipped`](crate::AdamW::step_clipped).
///
/// Gradients of parameters that are not in `module` are dropped: nothing could use them.
pub fn clip_global_norm<M: Module>(module: &M, gradients: GradientsParams, max: f64) -> (GradientsParams, Tensor<1>) {
    let clipping = Clipping::measure(module, &gradients, max);
    if clipping.number() == Some(1.0) {
        return (gradients, clipping.norm);
    }
    let mut scale = Scale { clipping: &clipping, from: gradients, into: GradientsParams::new() };
    module.visit(&mut scale);
    let scaled = scale.into;
    (scaled, clipping.norm)
}

/// A sum of squares, and the device it is for.
enum Sum {
    Number(f64, Device),
    OnDevice(Tensor<1>),
}

fn squares<M: Module>(module: &M, gradients: &GradientsParams) -> Sum {
    let mut squares = Squares { gradients, seen: Vec::new(), sum: 0.0, others: Vec::new(), device: None };
    module.visit(&mut squares);
    match squares.others.is_empty() {
        true => Sum::Number(squares.sum, squares.device.unwrap_or_default()),
        false => Sum::OnDevice(kernels::squares_on_device(&squares.others)),
    }
}

/// Collects the sum of squares of every parameter's gradient. Half-precision gradients are squared in f32, where they cannot overflow.
struct Squares<'a> {
    gradients: &'a GradientsParams,
    seen: Vec<ParamId>,
    /// Of those that are summed on the CPU at once.
    sum: f64,
    /// The others, flat.
    others: Vec<Tensor<1>>,
    device: Option<Device>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        self.device.get_or_insert_with(|| parameter.lazy_device().without_autodiff());
        // A parameter shared by two places of the module has one gradient and counts once.
        if self.seen.contains(&parameter.id) {
            return;
        }
        if let Some(gradient) = self.gradients.get::<D>(parameter.id) {
            self.seen.push(parameter.id);
            let gradient = gradient.cast(DType::F32);
            match kernels::sums_in_one_pass(&gradient) {
                true => self.sum += kernels::sum_of_squares(gradient),
                false => self.others.push(gradient.flatten(0, D - 1)),
            }
        }
    }
}

/// Moves every gradient from one set to the other, scaled.
struct Scale<'a> {
    clipping: &'a Clipping,
    from: GradientsParams,
    into: GradientsParams,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.from.remove::<D>(parameter.id) {
            self.into.register(parameter.id, self.clipping.scale(gradient));
        }
    }
}
