//! Sums over lists of rows on GPUs: a cube adds up a chunk of a list, then one the chunks of a list.

#![allow(unsafe_code, clippy::collapsible_if)]

use burn::tensor::Shape;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::zeros;
use burn_cubecl::tensor::CubeTensor;

use super::super::embedding::{Extent, Factors};
use super::{cubes, empty, matrix, vector_width};

/// Units of a cube, over the columns.
const COLUMNS: usize = 128;

/// Sums of chunks, `[chunks, width]`, or when no list has two, of `whole` lists in their places. Each row times its factor when there are such, each whole sum times its. The width is in vectors here.
#[cube(launch_unchecked)]
fn chunks_kernel<N: Size>(
    input: &[Vector<f32, N>],
    factors: &[f32],
    lists: &[i32],
    parts: &mut [Vector<f32, N>],
    width: u32,
    rows: u32,
    chunks: u32,
    #[comptime] which: Factors,
    #[comptime] whole: bool,
) {
    let (width, rows, chunks) = (width as usize, rows as usize, chunks as usize);
    let chunk = CUBE_POS;
    if chunk < chunks {
        let places = chunks + 1 + 2 * rows + 1;
        let from = lists[chunk] as usize;
        let to = lists[chunk + 1] as usize;
        let mut into = chunk;
        if whole {
            into = lists[chunks + 1 + chunk] as usize;
        }
        let mut column = UNIT_POS as usize;
        while column < width {
            let mut sum = Vector::<f32, N>::from_int(0);
            for at in from..to {
                let row = lists[places + at] as usize;
                let mut numbers = input[row * width + column];
                if comptime!(which == Factors::OfRows) {
                    numbers *= Vector::new(factors[row]);
                }
                sum += numbers;
            }
            if comptime!(whole && which == Factors::OfSums) {
                sum *= Vector::new(factors[into]);
            }
            parts[into * width + column] = sum;
            column += COLUMNS;
        }
    }
}

/// Sums of the chunks of each row, times its factor when there are such. The width is in vectors here.
#[cube(launch_unchecked)]
fn rows_kernel<N: Size>(
    parts: &[Vector<f32, N>],
    factors: &[f32],
    lists: &[i32],
    sums: &mut [Vector<f32, N>],
    width: u32,
    rows: u32,
    chunks: u32,
    #[comptime] which: Factors,
) {
    let (width, rows, chunks) = (width as usize, rows as usize, chunks as usize);
    let row = CUBE_POS;
    if row < rows {
        let owner = lists[chunks + 1 + row] as usize;
        let from = lists[chunks + 1 + rows + row] as usize;
        let to = lists[chunks + 1 + rows + row + 1] as usize;
        let mut column = UNIT_POS as usize;
        while column < width {
            let mut sum = Vector::<f32, N>::from_int(0);
            for chunk in from..to {
                sum += parts[chunk * width + column];
            }
            if comptime!(which == Factors::OfSums) {
                sum *= Vector::new(factors[owner]);
            }
            sums[owner * width + column] = sum;
            column += COLUMNS;
        }
    }
}

/// Rows added up as `embedding::Lists` say, `[height, width]`. There is a factor for each sum or each row of the input, as `which` says.
pub(super) fn sums(input: CubeTensor, factors: CubeTensor, which: Factors, lists: CubeTensor, extent: Extent) -> CubeTensor {
    let [input, lists] = [input, lists].map(into_contiguous);
    let factors = if which == Factors::None { empty(&input, [1]) } else { into_contiguous(factors) };
    let Extent { height, rows, chunks } = extent;
    let [_, width] = matrix(&input);
    assert!(chunks * width < 1 << 32, "{chunks} sums of {width} numbers, and kernels count to 2^32: make smaller batches");
    let sums = if rows == height {
        empty(&input, [height, width])
    } else {
        zeros(input.device.clone(), Shape::from([height, width]), input.dtype)
    };
    if rows * width == 0 {
        return sums;
    }
    let (client, lanes) = (input.client.clone(), vector_width(width));
    let whole = chunks == rows;
    let parts = if whole { sums.clone() } else { empty(&input, [chunks, width]) };
    // SAFETY: the host made the lists: ends of chunks and rows, rows below `height`, places below the input's rows (checked before the call), of which each has a factor where they are read, or each
    // sum; cubes beyond the chunks or rows touch nothing.
    unsafe {
        chunks_kernel::launch_unchecked(
            &client,
            cubes(&client, chunks),
            CubeDim::new_1d(COLUMNS as u32),
            lanes,
            input.into_buffer_arg(),
            factors.clone().into_buffer_arg(),
            lists.clone().into_buffer_arg(),
            parts.clone().into_buffer_arg(),
            (width / lanes) as u32,
            rows as u32,
            chunks as u32,
            which,
            whole,
        );
        if whole {
            return sums;
        }
        rows_kernel::launch_unchecked(
            &client,
            cubes(&client, rows),
            CubeDim::new_1d(COLUMNS as u32),
            lanes,
            parts.into_buffer_arg(),
            factors.into_buffer_arg(),
            lists.into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            (width / lanes) as u32,
            rows as u32,
            chunks as u32,
            which,
        );
    }
    sums
}
