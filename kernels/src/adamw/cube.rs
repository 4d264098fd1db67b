//! The update on GPUs: one kernel, in the memory of parameter and moments where nothing else uses it.

#![allow(unsafe_code)]

use burn::backend::TensorMetadata;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::{AdamWFactors, Update};
use crate::layers::cube::{UNITS, cubes, owned, vector_width};

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn adamw_kernel<N: Size>(
    parameter: &mut [Vector<f32, N>],
    gradient: &[Vector<f32, N>],
    first: &mut [Vector<f32, N>],
    second: &mut [Vector<f32, N>],
    clip: &[f32],
    count: u32,
    scale: f32,
    by_first: f32,
    by_second: f32,
    by_square: f32,
    root: f32,
    epsilon: f32,
    rate: f32,
    kept: f32,
) {
    let at = ABSOLUTE_POS;
    if at < count as usize {
        let slope = gradient[at] * Vector::new(scale) * Vector::new(clip[0]);
        let one = first[at] + (slope - first[at]) * Vector::new(by_first);
        let two = second[at] * Vector::new(by_second) + slope * slope * Vector::new(by_square);
        first[at] = one;
        second[at] = two;
        parameter[at] =
            parameter[at] * Vector::new(kept) - one / (two.sqrt() / Vector::new(root) + Vector::new(epsilon)) * Vector::new(rate);
    }
}

impl Update for CubeBackend {
    fn adamw(
        parameter: CubeTensor,
        gradient: CubeTensor,
        first: CubeTensor,
        second: CubeTensor,
        clip: CubeTensor,
        factors: AdamWFactors,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let gradient = into_contiguous(gradient);
        let [parameter, first, second] = [parameter, first, second].map(owned);
        let (client, numbers) = (parameter.client.clone(), parameter.shape().num_elements());
        let lanes = vector_width(numbers);
        let count = numbers / lanes;
        if count > 0 {
            // SAFETY: four buffers of `count` vectors, of which nothing else uses those that are written, and the factor; no unit beyond touches them.
            unsafe {
                adamw_kernel::launch_unchecked(
                    &client,
                    cubes(&client, count.div_ceil(UNITS)),
                    CubeDim::new_1d(UNITS as u32),
                    lanes,
                    parameter.clone().into_buffer_arg(),
                    gradient.into_buffer_arg(),
                    first.clone().into_buffer_arg(),
                    second.clone().into_buffer_arg(),
                    clip.into_buffer_arg(),
                    count as u32,
                    factors.gradient,
                    factors.first,
                    factors.second,
                    factors.squared,
                    factors.root,
                    factors.epsilon,
                    factors.rate,
                    factors.kept,
                );
            }
        }
        (parameter, first, second)
    }
}
