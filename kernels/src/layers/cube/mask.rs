//! The mask of dropout in kernels, number by number that of `mask.rs`: its 64-bit products in halves, as WGSL has no 64-bit integers. And dropout by itself.

#![allow(unsafe_code)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::{UNITS, cubes, empty, matrix};
use crate::layers::mask::Dropout;

/// What a kernel takes: threshold, scale, and the key in halves. Without dropout the kernel never looks at it.
pub(super) fn words(dropout: Option<Dropout>) -> (u32, f32, u32, u32) {
    dropout.map_or((0, 1.0, 0, 0), Dropout::words)
}

/// The upper half of the product of two 32-bit numbers.
#[cube]
fn upper(a: u32, b: u32) -> u32 {
    let (a_low, a_high) = (a & 0xffffu32, a >> 16u32);
    let (b_low, b_high) = (b & 0xffffu32, b >> 16u32);
    // Neither sum passes 32 bits: (2^16 - 1)^2 + 2^16 - 1 < 2^32.
    let first = a_high * b_low + ((a_low * b_low) >> 16u32);
    let second = a_low * b_high + (first & 0xffffu32);
    a_high * b_high + (first >> 16u32) + (second >> 16u32)
}

/// The lower 64 bits of a product of two 64-bit numbers in (lower, upper) halves.
#[cube]
fn product(low: u32, high: u32, by_low: u32, by_high: u32) -> (u32, u32) {
    (low * by_low, upper(low, by_low) + low * by_high + high * by_low)
}

/// The key of a row's mask, (lower, upper): `Dropout::row`.
#[cube]
pub(super) fn row_key(row: u32, key_low: u32, key_high: u32) -> (u32, u32) {
    let (step_low, step_high) = product(row + 1u32, 0u32, 0x7f4a_7c15u32, 0x9e37_79b9u32);
    let low = key_low + step_low;
    let mut high = key_high + step_high;
    if low < step_low {
        high += 1u32;
    }
    let (low, high) = product(low ^ ((low >> 30u32) | (high << 2u32)), high ^ (high >> 30u32), 0x1ce4_e5b9u32, 0xbf58_476du32);
    let (low, high) = product(low ^ ((low >> 27u32) | (high << 5u32)), high ^ (high >> 27u32), 0x1331_11ebu32, 0x94d0_49bbu32);
    (low ^ ((low >> 31u32) | (high << 1u32)), high ^ (high >> 31u32))
}

/// What the number in this column of the row is multiplied by: `RowMask::factor`.
#[cube]
pub(super) fn factor(column: u32, row_low: u32, row_high: u32, threshold: u32, scale: f32) -> f32 {
    let mut bits = (column * 0x9e37_79b9u32) ^ row_low;
    bits = ((bits ^ (bits >> 16u32)) * 0x85eb_ca6bu32) ^ row_high;
    bits = (bits ^ (bits >> 13u32)) * 0xc2b2_ae35u32;
    bits = bits ^ (bits >> 16u32);
    let mut factor = scale;
    if bits < threshold {
        factor = 0.0f32;
    }
    factor
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn dropout_kernel(input: &[f32], output: &mut [f32], count: u32, width: u32, threshold: u32, scale: f32, key_low: u32, key_high: u32) {
    let at = ABSOLUTE_POS;
    if at < count as usize {
        let row = at / width as usize;
        let (low, high) = row_key(row as u32, key_low, key_high);
        output[at] = input[at] * factor((at - row * width as usize) as u32, low, high, threshold, scale);
    }
}

/// Rows `[rows, width]` times their mask.
pub(super) fn apply(input: CubeTensor, dropout: Dropout) -> CubeTensor {
    let input = into_contiguous(input);
    let [rows, width] = matrix(&input);
    let output = empty(&input, [rows, width]);
    let count = rows * width;
    if count == 0 {
        return output;
    }
    let (threshold, scale, low, high) = dropout.words();
    let client = input.client.clone();
    // SAFETY: both buffers have `count` numbers, and no unit beyond touches them.
    unsafe {
        dropout_kernel::launch_unchecked(
            &client,
            cubes(&client, count.div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            input.into_buffer_arg(),
            output.clone().into_buffer_arg(),
            count as u32,
            width as u32,
            threshold,
            scale,
            low,
            high,
        );
    }
    output
}
