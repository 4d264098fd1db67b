//! One update of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) in one pass over a parameter, on the CPU and on GPUs.
//!
//! A backend extension that works in the memory of parameter and moments where nothing else uses it. Its arithmetic is, operation by operation, that
//! of the tensor operations it stands for, so that on the CPU the two give the same bits; a GPU may multiply and add in one rounding.

mod cube;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Tensor};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::layers::wide::{Lanes, widest};
use crate::layers::{fused_for, numbers, owned_flat};

/// Numbers of a task.
const CHUNK: usize = 1 << 15;

/// What the update of a step multiplies by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWFactors {
    /// What the gradient is multiplied by first: the factor of clipping where it is a number, else 1.
    pub gradient: f32,
    /// `1 - beta_1`.
    pub first: f32,
    /// `beta_2`.
    pub second: f32,
    /// `1 - beta_2`.
    pub squared: f32,
    /// Root of the correction of the second moment, `sqrt(1 - beta_2^t)`.
    pub root: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Learning rate over the correction of the first moment, `1 - beta_1^t`.
    pub rate: f32,
    /// What decay leaves of the parameter, `1 - learning rate x decay`.
    pub kept: f32,
}

/// The update on one backend.
#[backend_extension(Cube, Flex, Fusion)]
pub(crate) trait Update: Backend {
    /// The gradient is multiplied by `clip` `[1]` as well.
    #[fusion(meta = updated)]
    fn adamw(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        factors: AdamWFactors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// Parameter and moments keep their shapes.
fn updated(
    parameter: &TensorSpec,
    _gradient: &TensorSpec,
    first: &TensorSpec,
    second: &TensorSpec,
    _clip: &TensorSpec,
    _factors: &AdamWFactors,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (parameter.clone(), first.clone(), second.clone())
}

impl Update for Flex {
    fn adamw(
        parameter: FlexTensor,
        gradient: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        clip: FlexTensor,
        factors: AdamWFactors,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let factors = AdamWFactors { gradient: factors.gradient * numbers(&clip)[0], ..factors };
        let gradient = gradient.to_contiguous();
        let gradient: &[f32] = gradient.as_slice().expect("the gradient is contiguous and f32");
        let [mut parameter, mut first, mut second] = [parameter, first, second].map(owned_flat);
        let chunks = parameter.storage_mut::<f32>().par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK));
        let moments = first.storage_mut::<f32>().par_chunks_mut(CHUNK).zip(second.storage_mut::<f32>().par_chunks_mut(CHUNK));
        chunks.zip(moments).for_each(|((parameter, gradient), (first, second))| update(parameter, gradient, first, second, factors));
        (parameter, first, second)
    }
}

widest!(
    fn update(parameter: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], factors: AdamWFactors) = update_body
);

#[inline(always)]
fn update_body<L: Lanes>(parameter: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], factors: AdamWFactors) {
    let count = parameter.len();
    let (gradient, first, second) = (&gradient[..count], &mut first[..count], &mut second[..count]);
    for place in 0..count {
        let slope = gradient[place] * factors.gradient;
        let one = first[place] + (slope - first[place]) * factors.first;
        let two = second[place] * factors.second + slope * slope * factors.squared;
        (first[place], second[place]) = (one, two);
        let step = one / (two.sqrt() / factors.root + factors.epsilon) * factors.rate;
        parameter[place] = parameter[place] * factors.kept - step;
    }
}

/// Whether [`adamw()`] takes this parameter: f32, on the CPU or a GPU.
#[must_use]
pub fn updates_in_one_pass<const D: usize>(parameter: &Tensor<D>) -> bool {
    fused_for(parameter)
}

/// Parameter, first and second moment after one update. All tensors have one shape, but for `clip` `[1]`: a factor of the gradient that is still on the device.
///
/// # Panics
/// When the shapes differ, or when [`updates_in_one_pass`] says no.
#[must_use]
pub fn adamw<const D: usize>(
    parameter: Tensor<D>,
    gradient: &Tensor<D>,
    first: Tensor<D>,
    second: Tensor<D>,
    clip: Option<&Tensor<1>>,
    factors: AdamWFactors,
) -> [Tensor<D>; 3] {
    assert!(updates_in_one_pass(&parameter), "AdamW is fused for f32 on some devices only; ask `updates_in_one_pass` first");
    let shape = parameter.dims();
    assert!(
        [gradient.dims(), first.dims(), second.dims()].iter().all(|other| *other == shape),
        "AdamW: a parameter of {shape:?}, its gradient {:?}, its moments {:?} and {:?}",
        gradient.dims(),
        first.dims(),
        second.dims()
    );
    let clip = clip.cloned().unwrap_or_else(|| Tensor::ones([1], (&parameter.device(), DType::F32)));
    let (parameter, first, second) = <Dispatch as Update>::adamw(
        parameter.into_dispatch(),
        gradient.clone().into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        clip.into_dispatch(),
        factors,
    );
    [parameter, first, second].map(Tensor::from_dispatch)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    const FACTORS: AdamWFactors =
        AdamWFactors { gradient: 0.7, first: 0.1, second: 0.999, squared: 0.001, root: 0.3, epsilon: 1e-8, rate: 2e-3, kept: 0.9999 };

    fn numbers(seed: u32, low: f32) -> Vec<f32> {
        let hash = |place: u32| (place.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503)) >> 8) as f32 / 16_777_216.0;
        (0..70_001).map(|place| hash(place) * 2.0 - low).collect()
    }

    /// Parameter, gradient and moments on a device.
    fn tensors(device: &Device) -> [Tensor<2>; 4] {
        [(1, 1.0), (2, 1.0), (3, 1.0), (4, 0.0)]
            .map(|(seed, low)| Tensor::from_data(TensorData::new(numbers(seed, low), [70_001, 1]), device))
    }

    /// The update in tensor operations.
    fn composed([p, g, m, v]: [Tensor<2>; 4]) -> [Tensor<2>; 3] {
        let scaled = g.mul_scalar(0.7f32);
        let first = m.clone() + (scaled.clone() - m).mul_scalar(0.1f32);
        let second = v.mul_scalar(0.999f32) + scaled.square().mul_scalar(0.001f32);
        let step = first.clone().div(second.clone().sqrt().div_scalar(0.3f32).add_scalar(1e-8f32)).mul_scalar(2e-3f32);
        [p.mul_scalar(0.9999f32) - step, first, second]
    }

    #[test]
    fn it_is_the_tensor_operations_to_the_bit() {
        let device = Device::flex();
        let expected = composed(tensors(&device));
        let bits = |tensor: &Tensor<2>| -> Vec<u32> { tensor.to_data().iter::<f32>().map(f32::to_bits).collect() };
        // The factor of clipping as a number, and as a tensor.
        for (clip, gradient) in [(None, 0.7), (Some(Tensor::from_data([0.7f32], &device)), 1.0)] {
            let [p, g, m, v] = tensors(&device);
            let kept = p.clone();
            let updated = adamw(p, &g, m, v, clip.as_ref(), AdamWFactors { gradient, ..FACTORS });
            for (name, (got, expected)) in ["parameter", "first", "second"].iter().zip(updated.iter().zip(&expected)) {
                assert!(bits(got) == bits(expected), "{name}");
            }
            assert!(bits(&kept) == bits(&tensors(&device)[0]), "a tensor in use elsewhere stays as it is");
        }
    }

    #[test]
    fn on_the_software_device_it_is_the_same_update() {
        let Some(device) = crate::test_gpu() else { return };
        let expected = composed(tensors(&Device::flex()));
        for (clip, gradient) in [(None, 0.7), (Some(Tensor::from_data([0.7f32], &device)), 1.0)] {
            let [p, g, m, v] = tensors(&device);
            let kept = m.clone();
            let updated = adamw(p, &g, m, v, clip.as_ref(), AdamWFactors { gradient, ..FACTORS });
            for (name, (got, expected)) in ["parameter", "first", "second"].iter().zip(updated.iter().zip(&expected)) {
                let (got, expected) = (got.to_data(), expected.to_data());
                for (at, (got, expected)) in got.iter::<f32>().zip(expected.iter::<f32>()).enumerate() {
                    assert!((got - expected).abs() <= 2e-6 * (1e-3 + expected.abs()), "{name}[{at}]: {got}, expected {expected}");
                }
            }
            assert!(kept.into_data().iter::<f32>().eq(numbers(3, 1.0)), "a tensor in use elsewhere stays as it is");
        }
    }
}
