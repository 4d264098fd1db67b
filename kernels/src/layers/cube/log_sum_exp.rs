//! The logarithm of the sum of exponentials of each row on GPUs, and its gradient.

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skip work there.
#![allow(clippy::collapsible_if)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::columns::LANES;
use super::gelu::exponential;
use super::{UNITS, cubes, empty, matrix, vector_width};

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

/// The width is in vectors here.
#[cube(launch_unchecked)]
fn log_sum_exp_kernel<N: Size>(input: &[Vector<f32, N>], logarithms: &mut [f32], rows: u32, width: u32) {
    let (rows, width) = (rows as usize, width as usize);
    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let first = unit - lane;
    let row = CUBE_POS * ROWS + unit / LANES;
    let start = row * width;
    let mut parts = Shared::<[f32]>::new_slice(LANES * ROWS);
    let mut sums = Shared::<[f32]>::new_slice(LANES * ROWS);

    let mut most = f32::new(-3.402_823_5e38);
    if row < rows {
        let mut column = lane;
        while column < width {
            let values = input[start + column];
            #[unroll]
            for at in 0..N::value() {
                if values.extract(at) > most {
                    most = values.extract(at);
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
    if row < rows {
        let mut column = lane;
        while column < width {
            let values = input[start + column];
            #[unroll]
            for at in 0..N::value() {
                sum += share(values.extract(at) - most);
            }
            column += LANES;
        }
    }
    sums[unit] = sum;
    sync_cube();
    if lane == 0 {
        if row < rows {
            let mut all = 0.0f32;
            for other in 0..LANES {
                all += sums[first + other];
            }
            logarithms[row] = most + all.ln();
        }
    }
}

/// The width is in vectors here.
#[cube(launch_unchecked)]
fn shares_kernel<N: Size>(
    gradient: &[f32],
    input: &[Vector<f32, N>],
    logarithms: &[f32],
    output: &mut [Vector<f32, N>],
    width: u32,
    count: u32,
) {
    if ABSOLUTE_POS < count as usize {
        let row = ABSOLUTE_POS / width as usize;
        let mut values = input[ABSOLUTE_POS];
        #[unroll]
        for at in 0..N::value() {
            values.insert(at, gradient[row] * share(values.extract(at) - logarithms[row]));
        }
        output[ABSOLUTE_POS] = values;
    }
}

/// `[rows, 1]`.
pub(super) fn forward(input: CubeTensor) -> CubeTensor {
    let input = into_contiguous(input);
    let [rows, width] = matrix(&input);
    let logarithms = empty(&input, [rows, 1]);
    let (client, lanes) = (input.client.clone(), vector_width(width));
    if rows * width > 0 {
        // SAFETY: the input has `rows` x `width` numbers, and there is a logarithm for each row; rows and columns beyond are left out.
        unsafe {
            log_sum_exp_kernel::launch_unchecked(
                &client,
                cubes(&client, rows.div_ceil(ROWS)),
                CubeDim::new_1d((LANES * ROWS) as u32),
                lanes,
                input.into_buffer_arg(),
                logarithms.clone().into_buffer_arg(),
                rows as u32,
                (width / lanes) as u32,
            );
        }
    }
    logarithms
}

/// The gradient of the input.
pub(super) fn backward(gradient: CubeTensor, input: CubeTensor, logarithms: CubeTensor) -> CubeTensor {
    let [gradient, input, logarithms] = [gradient, input, logarithms].map(into_contiguous);
    let [rows, width] = matrix(&input);
    let output = empty(&input, [rows, width]);
    let (client, lanes) = (input.client.clone(), vector_width(width));
    let count = rows * width / lanes;
    if count > 0 {
        // SAFETY: input and output have `count` vectors, and no unit beyond touches them; the others have a number for each row.
        unsafe {
            shares_kernel::launch_unchecked(
                &client,
                cubes(&client, count.div_ceil(UNITS)),
                CubeDim::new_1d(UNITS as u32),
                lanes,
                gradient.into_buffer_arg(),
                input.into_buffer_arg(),
                logarithms.into_buffer_arg(),
                output.clone().into_buffer_arg(),
                (width / lanes) as u32,
                count as u32,
            );
        }
    }
    output
}
