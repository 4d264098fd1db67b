//! Sums over lists of rows on GPUs: a cube adds up a chunk of a row's places, then one the chunks of a row.

#![allow(unsafe_code)]

use burn::backend::TensorMetadata;
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::tensor::{Shape, Slice};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::zeros;
use burn_cubecl::tensor::CubeTensor;

use super::super::embedding::{Extent, Factors};
use super::{cubes, empty, matrix};

/// Units of a cube, over the columns.
const COLUMNS: usize = 128;

#[cube(launch_unchecked)]
fn chunks_kernel(input: &[f32], lists: &[i32], parts: &mut [f32], width: u32, rows: u32, chunks: u32) {
    let (width, rows, chunks) = (width as usize, rows as usize, chunks as usize);
    let chunk = CUBE_POS;
    if chunk < chunks {
        let places = chunks + 1 + 2 * rows + 1;
        let from = lists[chunk] as usize;
        let to = lists[chunk + 1] as usize;
        let mut column = UNIT_POS as usize;
        while column < width {
            let mut sum = 0.0f32;
            for at in from..to {
                sum += input[lists[places + at] as usize * width + column];
            }
            parts[chunk * width + column] = sum;
            column += COLUMNS;
        }
    }
}

#[cube(launch_unchecked)]
fn rows_kernel(parts: &[f32], lists: &[i32], sums: &mut [f32], width: u32, rows: u32, chunks: u32) {
    let (width, rows, chunks) = (width as usize, rows as usize, chunks as usize);
    let row = CUBE_POS;
    if row < rows {
        let owner = lists[chunks + 1 + row] as usize;
        let from = lists[chunks + 1 + rows + row] as usize;
        let to = lists[chunks + 1 + rows + row + 1] as usize;
        let mut column = UNIT_POS as usize;
        while column < width {
            let mut sum = 0.0f32;
            for chunk in from..to {
                sum += parts[chunk * width + column];
            }
            sums[owner * width + column] = sum;
            column += COLUMNS;
        }
    }
}

/// Rows added up as `embedding::Lists` say, `[height, width]`. There is a factor for each sum or each row of the input, as `which` says.
pub(super) fn sums(input: CubeTensor, factors: CubeTensor, which: Factors, lists: CubeTensor, extent: Extent) -> CubeTensor {
    if which == Factors::None {
        return added(input, lists, extent);
    }
    let count = factors.shape().num_elements();
    let factors = CubeBackend::float_reshape(factors, Shape::from([count, 1]));
    match which {
        Factors::OfRows => added(CubeBackend::float_mul(input, factors), lists, extent),
        _ => CubeBackend::float_mul(added(input, lists, extent), factors),
    }
}

fn added(input: CubeTensor, lists: CubeTensor, Extent { height, rows, chunks }: Extent) -> CubeTensor {
    let [input, lists] = [input, lists].map(into_contiguous);
    let width = matrix(&input)[1];
    assert!(chunks * width < 1 << 31, "{chunks} sums of {width} numbers, and kernels count to 2^31: make smaller batches");
    let first = chunks + 1 + 2 * rows + 1;
    let end = lists.shape().num_elements();
    if rows == height && end - first == height {
        // One row in each list, as in the gradient of pooling: nothing to add up.
        return CubeBackend::float_select(input, 0, CubeBackend::int_slice(lists, &[Slice::from(first..end)]));
    }
    let sums = zeros(input.device.clone(), Shape::from([height, width]), input.dtype);
    if rows * width == 0 {
        return sums;
    }
    let client = input.client.clone();
    let parts = empty(&input, [chunks, width]);
    // SAFETY: the host made the lists: ends of chunks and rows, row numbers below `height` (checked before the call), places below the input's rows; cubes beyond the chunks
    // or rows touch nothing.
    unsafe {
        chunks_kernel::launch_unchecked(
            &client,
            cubes(&client, chunks),
            CubeDim::new_1d(COLUMNS as u32),
            input.into_buffer_arg(),
            lists.clone().into_buffer_arg(),
            parts.clone().into_buffer_arg(),
            width as u32,
            rows as u32,
            chunks as u32,
        );
        rows_kernel::launch_unchecked(
            &client,
            cubes(&client, rows),
            CubeDim::new_1d(COLUMNS as u32),
            parts.into_buffer_arg(),
            lists.into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            width as u32,
            rows as u32,
            chunks as u32,
        );
    }
    sums
}
