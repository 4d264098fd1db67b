//! Squares on GPUs: cubes add up parts of a few tensors at once, one behind the other in one buffer for all.

#![allow(unsafe_code)]

use burn::backend::TensorMetadata;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::{PARTS, Parts};
use crate::layers::cube::{UNITS, owned, vector_width};

/// What this unit adds up of a tensor of `count` vectors.
#[cube]
fn part<N: Size>(input: &[Vector<f32, N>], count: u32) -> f32 {
    let mut squares = Vector::<f32, N>::from_int(0);
    let mut at = CUBE_POS_X as usize * UNITS + UNIT_POS as usize;
    while at < count as usize {
        squares += input[at] * input[at];
        at += comptime!(UNITS * PARTS);
    }
    let mut sum = 0.0f32;
    #[unroll]
    for lane in 0..N::value() {
        sum += squares.extract(lane);
    }
    sum
}

/// The parts of a tensor for each row of cubes. Every part is written, those without numbers as 0.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn squares_kernel<N: Size>(
    a: &[Vector<f32, N>],
    b: &[Vector<f32, N>],
    c: &[Vector<f32, N>],
    d: &[Vector<f32, N>],
    e: &[Vector<f32, N>],
    f: &[Vector<f32, N>],
    sums: &mut [f32],
    count_a: u32,
    count_b: u32,
    count_c: u32,
    count_d: u32,
    count_e: u32,
    count_f: u32,
    first: u32,
) {
    let unit = UNIT_POS as usize;
    let mut own = Shared::<[f32]>::new_slice(UNITS);
    let mut sum = 0.0f32;
    if CUBE_POS_Y == 0 {
        sum = part(a, count_a);
    } else if CUBE_POS_Y == 1 {
        sum = part(b, count_b);
    } else if CUBE_POS_Y == 2 {
        sum = part(c, count_c);
    } else if CUBE_POS_Y == 3 {
        sum = part(d, count_d);
    } else if CUBE_POS_Y == 4 {
        sum = part(e, count_e);
    } else if CUBE_POS_Y == 5 {
        sum = part(f, count_f);
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
        sums[first as usize + CUBE_POS_Y as usize * comptime!(PARTS) + CUBE_POS_X as usize] = total;
    }
}

impl Parts for CubeBackend {
    fn squares(
        a: CubeTensor,
        b: CubeTensor,
        c: CubeTensor,
        d: CubeTensor,
        e: CubeTensor,
        f: CubeTensor,
        sums: CubeTensor,
        place: usize,
        count: usize,
    ) -> CubeTensor {
        let sums = owned(sums);
        let inputs = [a, b, c, d, e, f].map(into_contiguous);
        let numbers = inputs.each_ref().map(|input| input.shape().num_elements());
        let lanes = if numbers.iter().all(|&numbers| vector_width(numbers) == 4) { 4 } else { 1 };
        let [in_a, in_b, in_c, in_d, in_e, in_f] = numbers.map(|numbers| (numbers / lanes) as u32);
        let client = sums.client.clone();
        let [a, b, c, d, e, f] = inputs.map(CubeTensor::into_buffer_arg);
        // SAFETY: vectors are read below their count; `count` x `PARTS` sums are written from `place` x `PARTS` on, which the caller has room for.
        unsafe {
            squares_kernel::launch_unchecked(
                &client,
                CubeCount::Static(PARTS as u32, count as u32, 1),
                CubeDim::new_1d(UNITS as u32),
                lanes,
                a,
                b,
                c,
                d,
                e,
                f,
                sums.clone().into_buffer_arg(),
                in_a,
                in_b,
                in_c,
                in_d,
                in_e,
                in_f,
                (place * PARTS) as u32,
            );
        }
        sums
    }
}
