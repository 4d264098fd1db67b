//! What losses take of the softmax of each row, on GPUs: the logarithm of its sum of exponentials, the cross-entropy with a target, and the gradients of both.

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skip work there.
#![allow(clippy::collapsible_if)]

use burn::backend::ops::FloatTensorOps;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::columns::LANES;
use super::gelu::exponential;
use super::{UNITS, cubes, empty, matrix, vector_width};
use crate::layers::softmax::{MASKED, Scaled};

/// Rows of a cube, each of which [`LANES`] units share.
const ROWS: usize = 4;

/// e^x for x of at most about 0, and 0 far below.
#[cube]
fn share(x: f32) -> f32 {
    let mut share = exponential(x);
    if x < -87.3f32 {
        share = 0.0f32;
    }
    share
}

/// The width is in vectors here. `losses`, the logarithms less the number of the target, only where there are `targets`.
#[cube(launch_unchecked)]
fn logarithms_kernel<N: Size>(
    input: &[Vector<f32, N>],
    targets: &[i32],
    logarithms: &mut [f32],
    losses: &mut [f32],
    rows: u32,
    width: u32,
    scale: f32,
    #[comptime] targeted: bool,
) {
    let (rows, width) = (rows as usize, width as usize);
    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let first = unit - lane;
    let row = CUBE_POS * ROWS + unit / LANES;
    let start = row * width;
    let mut parts = Shared::<[f32]>::new_slice(LANES * ROWS);
    let mut sums = Shared::<[f32]>::new_slice(LANES * ROWS);
    let mut owns = Shared::<[f32]>::new_slice(LANES * ROWS);

    let mut most = f32::new(-3.402_823_5e38);
    if row < rows {
        let mut column = lane;
        while column < width {
            let values = input[start + column];
            #[unroll]
            for at in 0..N::value() {
                if values.extract(at) * scale > most {
                    most = values.extract(at) * scale;
                }
            }
            column += LANES;
        }
    }
    parts[unit] = most;
    sync_cube();
    for other in 0..LANES {
        if parts[first + other] > most {
            most = parts[first + other];
        }
    }

    let mut sum = 0.0f32;
    let mut own = 0.0f32;
    if row < rows {
        let mut target = 0usize;
        if comptime!(targeted) {
            target = targets[row] as usize;
        }
        let mut column = lane;
        while column < width {
            let values = input[start + column];
            #[unroll]
            for at in 0..N::value() {
                sum += share(values.extract(at) * scale - most);
                if comptime!(targeted) {
                    if column * N::value() + at == target {
                        own = values.extract(at) * scale;
                    }
                }
            }
            column += LANES;
        }
    }
    sums[unit] = sum;
    if comptime!(targeted) {
        owns[unit] = own;
    }
    sync_cube();
    if lane == 0 {
        if row < rows {
            let mut all = 0.0f32;
            for other in 0..LANES {
                all += sums[first + other];
            }
            let logarithm = most + all.ln();
            logarithms[row] = logarithm;
            if comptime!(targeted) {
                // All but one are zero.
                let mut own = 0.0f32;
                for other in 0..LANES {
                    own += owns[first + other];
                }
                losses[row] = logarithm - own;
            }
        }
    }
}

/// The width is in vectors here.
#[cube(launch_unchecked)]
fn shares_kernel<N: Size>(
    gradient: &[f32],
    input: &[Vector<f32, N>],
    logarithms: &[f32],
    targets: &[i32],
    output: &mut [Vector<f32, N>],
    width: u32,
    count: u32,
    scale: f32,
    #[comptime] targeted: bool,
) {
    if ABSOLUTE_POS < count as usize {
        let row = ABSOLUTE_POS / width as usize;
        let mut values = input[ABSOLUTE_POS];
        let by = gradient[row] * scale;
        let mut target = 0usize;
        if comptime!(targeted) {
            target = targets[row] as usize;
        }
        #[unroll]
        for at in 0..N::value() {
            let mut part = by * share(values.extract(at) * scale - logarithms[row]);
            if comptime!(targeted) {
                if (ABSOLUTE_POS % width as usize) * N::value() + at == target {
                    part -= by;
                }
            }
            values.insert(at, part);
        }
        output[ABSOLUTE_POS] = values;
    }
}

/// `[rows, 1]`.
pub(super) fn log_sum_exp(input: CubeTensor) -> CubeTensor {
    logarithms(input, None, 1.0).1
}

/// The gradient of the input.
pub(super) fn log_sum_exp_backward(gradient: CubeTensor, input: CubeTensor, logarithms: CubeTensor) -> CubeTensor {
    shares(gradient, input, logarithms, None, 1.0)
}

/// The cross-entropy of each row with its target, and the logarithm of its sum of exponentials, `[rows, 1]` each.
pub(super) fn cross_entropy(input: CubeTensor, mask: CubeTensor, targets: CubeTensor, by: Scaled) -> (CubeTensor, CubeTensor) {
    logarithms(masked(input, mask, by), Some(targets), by.scale)
}

/// The gradient of the input.
pub(super) fn cross_entropy_backward(
    gradient: CubeTensor,
    input: CubeTensor,
    mask: CubeTensor,
    targets: CubeTensor,
    logarithms: CubeTensor,
    by: Scaled,
) -> CubeTensor {
    // What is masked has no share, and so no gradient.
    shares(gradient, masked(input, mask, by), logarithms, Some(targets), by.scale)
}

/// In the memory of the input when nothing else uses that. Masked again for the gradient, rather than kept.
fn masked(input: CubeTensor, mask: CubeTensor, by: Scaled) -> CubeTensor {
    if by.masked { CubeBackend::float_mask_fill(input, mask, (MASKED / by.scale).into()) } else { input }
}

/// The losses, where there are targets, and the logarithms.
fn logarithms(input: CubeTensor, targets: Option<CubeTensor>, scale: f32) -> (CubeTensor, CubeTensor) {
    let input = into_contiguous(input);
    let [rows, width] = matrix(&input);
    let (logarithms, targeted) = (empty(&input, [rows, 1]), targets.is_some());
    let losses = if targeted { empty(&input, [rows, 1]) } else { logarithms.clone() };
    let (client, lanes) = (input.client.clone(), vector_width(width));
    if rows * width > 0 {
        // Where there are none, neither targets nor losses are looked at, and something must be bound.
        let targets = targets.map_or_else(|| empty(&input, [1, 1]), into_contiguous);
        let unused = if targeted { losses.clone() } else { empty(&input, [1, 1]) };
        // SAFETY: the input has `rows` x `width` numbers, and there is a logarithm for each row, and where they are used a target and a loss; rows and columns beyond are left out.
        unsafe {
            logarithms_kernel::launch_unchecked(
                &client,
                cubes(&client, rows.div_ceil(ROWS)),
                CubeDim::new_1d((LANES * ROWS) as u32),
                lanes,
                input.into_buffer_arg(),
                targets.into_buffer_arg(),
                logarithms.clone().into_buffer_arg(),
                unused.into_buffer_arg(),
                rows as u32,
                (width / lanes) as u32,
                scale,
                targeted,
            );
        }
    }
    (losses, logarithms)
}

fn shares(gradient: CubeTensor, input: CubeTensor, logarithms: CubeTensor, targets: Option<CubeTensor>, scale: f32) -> CubeTensor {
    let [gradient, input, logarithms] = [gradient, input, logarithms].map(into_contiguous);
    let [rows, width] = matrix(&input);
    let (output, targeted) = (empty(&input, [rows, width]), targets.is_some());
    let (client, lanes) = (input.client.clone(), vector_width(width));
    let count = rows * width / lanes;
    if count > 0 {
        let targets = targets.map_or_else(|| empty(&input, [1, 1]), into_contiguous);
        // SAFETY: input and output have `count` vectors, and no unit beyond touches them; the others have a number for each row, but for targets that are not looked at.
        unsafe {
            shares_kernel::launch_unchecked(
                &client,
                cubes(&client, count.div_ceil(UNITS)),
                CubeDim::new_1d(UNITS as u32),
                lanes,
                gradient.into_buffer_arg(),
                input.into_buffer_arg(),
                logarithms.into_buffer_arg(),
                targets.into_buffer_arg(),
                output.clone().into_buffer_arg(),
                (width / lanes) as u32,
                count as u32,
                scale,
                targeted,
            );
        }
    }
    output
}
