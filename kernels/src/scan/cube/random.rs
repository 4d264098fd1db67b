//! Random keys: what `key.rs` does, in kernels. Uniform keys are exact on every device; those of a race differ by the rounding of its logarithm.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// One of the two permutations of `key::shuffle`.
#[cube]
fn permute(bits: u32) -> u32 {
    let mut x = bits ^ (bits >> 16u32);
    x *= 0x7feb_352du32;
    x = x ^ (x >> 15u32);
    x *= 0x846c_a68bu32;
    x ^ (x >> 16u32)
}

/// The key of a row within bounds: uniform, or that of a race where scores near the centre are early.
#[cube]
pub(super) fn random_key(
    score: f32,
    centre: f32,
    id: i32,
    first_word: u32,
    second_word: u32,
    sharpness: f32,
    #[comptime] near: bool,
) -> f32 {
    let bits = permute(permute(u32::reinterpret(id) + first_word) ^ second_word);
    let mut key = f32::reinterpret((bits >> 2u32) + 0x0080_0000u32);
    if comptime!(near) {
        let mut v = (f32::cast_from(bits) + 0.5f32) * 2.328_306_4e-10f32;
        if v > 0.999_999_94f32 {
            v = 0.999_999_94f32;
        }
        let mut time = v * (1.0f32 + v * (0.5f32 + v * (0.333_333_34f32 + v * 0.25f32)));
        if v >= 0.015_625f32 {
            time = -(1.0f32 - v).ln();
        }
        let distance = score - centre;
        key = -time.ln() - sharpness * (distance * distance);
    }
    key
}
