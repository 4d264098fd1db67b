//! The gradient of rows of a table on GPUs: a cube adds up a chunk of a row's places, then one the chunks of a row.

#![allow(unsafe_code)]

use burn::backend::TensorMetadata;
use burn::tensor::Shape;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::zeros;
use burn_cubecl::tensor::CubeTensor;

use super::{cubes, empty};

/// Units of a cube, over the columns.
const COLUMNS: usize = 128;

#[cube(launch_unchecked)]
fn chunks_kernel(gradient: &[f32], lists: &[i32], parts: &mut [f32], width: u32, rows: u32, chunks: u32) {
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
                sum += gradient[lists[places + at] as usize * width + column];
            }
            parts[chunk * width + column] = sum;
            column += COLUMNS;
        }
    }
}

#[cube(launch_unchecked)]
fn rows_kernel(parts: &[f32], lists: &[i32], table: &mut [f32], width: u32, rows: u32, chunks: u32) {
    let (width, rows, chunks) = (width as usize, rows as usize, chunks as usize);
    let row = CUBE_POS;
    if row < rows {
        let id = lists[chunks + 1 + row] as usize;
        let from = lists[chunks + 1 + rows + row] as usize;
        let to = lists[chunks + 1 + rows + row + 1] as usize;
        let mut column = UNIT_POS as usize;
        while column < width {
            let mut sum = 0.0f32;
            for chunk in from..to {
                sum += parts[chunk * width + column];
            }
            table[id * width + column] = sum;
            column += COLUMNS;
        }
    }
}

/// The gradient of a table of `height` rows, from `lists` as `embedding::Lists` has them.
pub(super) fn backward(gradient: CubeTensor, lists: CubeTensor, height: usize, rows: usize, chunks: usize) -> CubeTensor {
    let [gradient, lists] = [gradient, lists].map(into_contiguous);
    let width = gradient.shape()[1];
    let table = zeros(gradient.device.clone(), Shape::from([height, width]), gradient.dtype);
    if rows == 0 {
        return table;
    }
    let client = gradient.client.clone();
    let parts = empty(&gradient, [chunks, width]);
    // SAFETY: the host made the lists: ends of chunks and rows, row numbers below `height` (checked before the call), places below the gradient's rows; cubes beyond the chunks
    // or rows touch nothing.
    unsafe {
        chunks_kernel::launch_unchecked(
            &client,
            cubes(&client, chunks),
            CubeDim::new_1d(COLUMNS as u32),
            gradient.into_buffer_arg(),
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
            table.clone().into_buffer_arg(),
            width as u32,
            rows as u32,
            chunks as u32,
        );
    }
    table
}
