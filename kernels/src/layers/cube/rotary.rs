//! Rotary positions on GPUs: a unit turns one pair of numbers where it lies.

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#![allow(clippy::collapsible_if)]

use burn::tensor::{DType, f16};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::{UNITS, cubes, matrix, owned};
use crate::layers::rotary::Turning;

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn rotary_kernel<E: Float>(
    joint: &mut [E],
    angles: &[f32],
    positions: &[i32],
    pairs: u32,
    heads: u32,
    half: u32,
    known: u32,
    #[comptime] back: bool,
) {
    let (heads, half) = (heads as usize, half as usize);
    if ABSOLUTE_POS < pairs as usize {
        // Of the heads of a token's query and key, the number within the half.
        let place = ABSOLUTE_POS % half;
        let head = ABSOLUTE_POS / half % (2 * heads);
        let token = ABSOLUTE_POS / half / (2 * heads);
        let at = (token * 3 * heads + head) * 2 * half + place;
        let position = positions[token];
        if position >= 0 {
            if (position as u32) < known {
                let angle = position as usize * 2 * half + place;
                let cosine = angles[angle];
                let mut sine = angles[angle + half];
                if comptime!(back) {
                    sine = 0.0f32 - sine;
                }
                let x = f32::cast_from(joint[at]);
                let y = f32::cast_from(joint[at + half]);
                joint[at] = E::cast_from(x * cosine - y * sine);
                joint[at + half] = E::cast_from(y * cosine + x * sine);
            }
        }
    }
}

/// `[tokens, 3 hidden]` in its format, in the memory of the input when nothing else uses that.
pub(super) fn turned(joint: CubeTensor, angles: CubeTensor, positions: CubeTensor, turning: Turning) -> CubeTensor {
    let joint = owned(joint);
    let [angles, positions] = [angles, positions].map(into_contiguous);
    let ([tokens, width], [known, head]) = (matrix(&joint), matrix(&angles));
    // Two of three parts, two numbers a pair.
    let pairs = tokens * width / 3;
    if pairs == 0 {
        return joint;
    }
    let client = joint.client.clone();
    macro_rules! launch {
        ($format:ty) => {
            rotary_kernel::launch_unchecked::<$format>(
                &client,
                cubes(&client, pairs.div_ceil(UNITS)),
                CubeDim::new_1d(UNITS as u32),
                joint.clone().into_buffer_arg(),
                angles.into_buffer_arg(),
                positions.into_buffer_arg(),
                pairs as u32,
                turning.heads as u32,
                (head / 2) as u32,
                known as u32,
                turning.back,
            )
        };
    }
    // SAFETY: the matrix has `tokens` x 3 `heads` heads, of which the kernel touches each pair of the first two thirds once; there is a position for each token, and none beyond the angles is followed.
    unsafe {
        if joint.dtype == DType::F16 {
            launch!(f16);
        } else {
            launch!(f32);
        }
    }
    joint
}
