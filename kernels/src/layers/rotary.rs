//! Rotary positions (Su et al. 2021, arXiv 2104.09864) on the CPU: query and key of a token are turned where they lie, by the angles of its position.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::wide::{Lanes, widest};
use super::{numbers, owned};

/// Numbers of a task, about.
const TASK: usize = 1 << 14;

/// How vectors are turned, beside the angles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turning {
    /// Heads, side by side in query and in key.
    pub(crate) heads: usize,
    /// Whether by the negative angles, as gradients are.
    pub(crate) back: bool,
}

/// `[tokens, 3 hidden]`, in the memory of the input when nothing else uses that; `angles` has cosines, then sines, of each position, `[positions, head width]`.
pub(super) fn turned(joint: FlexTensor, angles: &FlexTensor, positions: &FlexTensor, turning: Turning) -> FlexTensor {
    let shape = [joint.layout().shape()[0], joint.layout().shape()[1]];
    let [angles, positions] = [angles, positions].map(FlexTensor::to_contiguous);
    let positions = positions.as_slice::<i32>().expect("positions are contiguous and i32");
    let (angles, head) = (numbers(&angles), shape[1] / (3 * turning.heads));
    let mut joint = owned(joint, shape);
    let rows = (TASK / shape[1].max(1)).max(1);
    let tasks = joint.storage_mut::<f32>().par_chunks_mut((rows * shape[1]).max(1)).zip(positions.par_chunks(rows));
    tasks.for_each(|(rows, positions)| {
        for (row, &position) in rows.chunks_exact_mut(shape[1]).zip(positions) {
            turn(row, &angles[position as usize * head..][..head], turning);
        }
    });
    joint
}

widest!(fn turn(row: &mut [f32], angles: &[f32], turning: Turning) = turn_body);

#[inline(always)]
fn turn_body<L: Lanes>(row: &mut [f32], angles: &[f32], turning: Turning) {
    let half = angles.len() / 2;
    let (cosines, sines) = angles.split_at(half);
    let sign = if turning.back { -1.0 } else { 1.0 };
    for head in 0..2 * turning.heads {
        let (left, right) = row[head * 2 * half..][..2 * half].split_at_mut(half);
        for place in 0..half {
            let (cosine, sine) = (cosines[place], sign * sines[place]);
            let (x, y) = (left[place], right[place]);
            left[place] = x * cosine - y * sine;
            right[place] = y * cosine + x * sine;
        }
    }
}
