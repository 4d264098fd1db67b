//! Squares on GPUs: a few cubes add up parts of a tensor, one behind the other in one buffer for all tensors.

#![allow(unsafe_code)]

use burn::backend::TensorMetadata;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::{PARTS, Parts};
use crate::layers::cube::{UNITS, owned, vector_width};

/// Every part is written, those without numbers as 0.
#[cube(launch_unchecked)]
fn squares_kernel<N: Size>(input: &[Vector<f32, N>], sums: &mut [f32], count: u32, first: u32) {
    let count = count as usize;
    let unit = UNIT_POS as usize;
    let mut own = Shared::<[f32]>::new_slice(UNITS);
    let mut squares = Vector::<f32, N>::from_int(0);
    let mut at = CUBE_POS * UNITS + unit;
    while at < count {
        squares += input[at] * input[at];
        at += comptime!(UNITS * PARTS);
    }
    let mut sum = 0.0f32;
    #[unroll]
    for lane in 0..N::value() {
        sum += squares.extract(lane);
    }
    own[unit] = sum;
    sync_cube();
    // Sixteen sums of sixteen, then one: short chains, one order.
    let mut sum = 0.0f32;
    if unit < 16 {
        for other in 0..comptime!(UNITS / 16) {
            sum += own[other * 16 + unit];
        }
    }
    sync_cube();
    if unit < 16 {
        own[unit] = sum;
    }
    sync_cube();
    if unit == 0 {
        let mut total = 0.0f32;
        for other in 0..16 {
            total += own[other];
        }
        sums[first as usize + CUBE_POS] = total;
    }
}

impl Parts for CubeBackend {
    fn squares(input: CubeTensor, sums: CubeTensor, place: usize) -> CubeTensor {
        let (input, sums) = (into_contiguous(input), owned(sums));
        let (client, numbers) = (sums.client.clone(), input.shape().num_elements());
        let lanes = vector_width(numbers);
        // SAFETY: vectors are read below their count; `PARTS` sums are written from `place` x `PARTS` on, which the caller has room for.
        unsafe {
            squares_kernel::launch_unchecked(
                &client,
                CubeCount::Static(PARTS as u32, 1, 1),
                CubeDim::new_1d(UNITS as u32),
                lanes,
                input.into_buffer_arg(),
                sums.clone().into_buffer_arg(),
                (numbers / lanes) as u32,
                (place * PARTS) as u32,
            );
        }
        sums
    }
}
