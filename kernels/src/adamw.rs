//! One update of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) in one pass over a parameter, for the CPU.
//!
//! A backend extension for Flex that works in the memory of parameter and moments where nothing else uses it. Its arithmetic is, operation by operation, that
//! of the tensor operations it stands for, so that the two give the same bits.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Tensor};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::layers::wide::{Lanes, widest};
use crate::layers::{fused, owned_flat};

/// Numbers of a task.
const CHUNK: usize = 1 << 15;

/// What the update of a step multiplies by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWFactors {
    /// What the gradient is multiplied by first: the factor of clipping, 1 where nothing is clipped.
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
#[backend_extension(Flex)]
pub(crate) trait Update: Backend {
    fn adamw(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        factors: AdamWFactors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl Update for Flex {
    fn adamw(
        parameter: FlexTensor,
        gradient: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        factors: AdamWFactors,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
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

/// Whether [`adamw()`] takes this parameter: f32 on the CPU.
#[must_use]
pub fn updates_in_one_pass<const D: usize>(parameter: &Tensor<D>) -> bool {
    parameter.dtype() == DType::F32 && fused(&parameter.device())
}

/// Parameter, first and second moment after one update. All tensors have one shape.
///
/// # Panics
/// When the shapes differ, or when [`updates_in_one_pass`] says no.
#[must_use]
pub fn adamw<const D: usize>(
    parameter: Tensor<D>,
    gradient: &Tensor<D>,
    first: Tensor<D>,
    second: Tensor<D>,
    factors: AdamWFactors,
) -> [Tensor<D>; 3] {
    assert!(updates_in_one_pass(&parameter), "AdamW is fused for f32 on the CPU only; ask `updates_in_one_pass` first");
    let shape = parameter.dims();
    assert!(
        [gradient.dims(), first.dims(), second.dims()].iter().all(|other| *other == shape),
        "AdamW: a parameter of {shape:?}, its gradient {:?}, its moments {:?} and {:?}",
        gradient.dims(),
        first.dims(),
        second.dims()
    );
    let (parameter, first, second) = <Dispatch as Update>::adamw(
        parameter.into_dispatch(),
        gradient.clone().into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        factors,
    );
    [parameter, first, second].map(Tensor::from_dispatch)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn it_is_the_tensor_operations_to_the_bit() {
        let device = Device::flex();
        let numbers = |seed: u32, low: f32| -> Vec<f32> {
            let hash = |place: u32| (place.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503)) >> 8) as f32 / 16_777_216.0;
            (0..70_001).map(|place| hash(place) * 2.0 - low).collect()
        };
        let tensor = |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [70_001, 1]), &device);
        let (p, g) = (tensor(numbers(1, 1.0)), tensor(numbers(2, 1.0)));
        let (m, v) = (tensor(numbers(3, 1.0)), tensor(numbers(4, 0.0)));
        let factors =
            AdamWFactors { gradient: 0.7, first: 0.1, second: 0.999, squared: 0.001, root: 0.3, epsilon: 1e-8, rate: 2e-3, kept: 0.9999 };
        let scaled = g.clone().mul_scalar(0.7f32);
        let first = m.clone() + (scaled.clone() - m.clone()).mul_scalar(0.1f32);
        let second = v.clone().mul_scalar(0.999f32) + scaled.square().mul_scalar(0.001f32);
        let step = first.clone().div(second.clone().sqrt().div_scalar(0.3f32).add_scalar(1e-8f32)).mul_scalar(2e-3f32);
        let expected = [p.clone().mul_scalar(0.9999f32) - step, first, second];
        let kept = p.clone();
        let updated = adamw(p, &g, m, v, factors);
        let bits = |tensor: &Tensor<2>| -> Vec<u32> { tensor.to_data().iter::<f32>().map(f32::to_bits).collect() };
        for (name, (got, expected)) in ["parameter", "first", "second"].iter().zip(updated.iter().zip(&expected)) {
            assert!(bits(got) == bits(expected), "{name}");
        }
        assert!(bits(&kept) == bits(&tensor(numbers(1, 1.0))), "a tensor in use elsewhere stays as it is");
    }
}
