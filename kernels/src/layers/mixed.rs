//! Mixed precision, and the linear layer in it: operands rounded to 16-bit floats, products added up in f32, on the CPU the same numbers in f32.
//!
//! Attention rounds the operands of its products too where matrix units compute it, and on the CPU, which shows what that does. In 16 bits are also what lies between the products of a
//! feed-forward, and query, key and value. Everything else stays f32: master weights, bias, residual stream, norms, softmax, loss and optimiser. Operands beyond the largest 16-bit number, 65504, become
//! that; products that are kept in 16 bits become infinite, to be seen.
//! Gradients of a mean loss can be too small for 16 bits, so each is first multiplied by the power of two that brings its largest number to [2^13, 2^14), and the
//! products are divided by it again, which is exact: nothing finite becomes infinite, and what loses digits is below 2^-27 of the largest (in the feed-forward, whose gradients have one scale, by what its outer weights can make of
//! it more). So no scale of the loss is needed. What is infinite or not a number stays so.

use std::fmt;

use burn::backend::Flex;
use burn::backend::ops::ModuleOps;
use burn::tensor::{DType, Device};
use burn_flex::FlexTensor;
use rayon::prelude::*;
use thiserror::Error;

use super::{linear, numbers, owned, owned_flat};

/// Numbers of a task.
const CHUNK: usize = 1 << 14;

/// What linear layers and attention multiply in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// Operands as 16-bit floats, sums in 32 bits.
    Mixed,
}

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::Mixed => "mixed",
        })
    }
}

/// What a linear layer in mixed precision leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// The output, in f32.
    All,
    /// The product alone, in f32: the next function adds the bias, whose gradient is the layer's all the same.
    Open,
    /// The output in 16 bits, rounded before the bias and behind it.
    Half,
}

/// A device that cannot do it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("mixed precision needs 16-bit floats, and {adapter} (through {compiler}) does not compute with them; use f32")]
pub struct PrecisionError {
    /// What the driver calls the device.
    pub adapter: String,
    /// The shader language kernels are compiled to.
    pub compiler: String,
}

impl Precision {
    /// Whether a device can do it. Opens the device.
    ///
    /// # Errors
    /// Names what the device lacks.
    pub fn check(self, device: &Device) -> Result<(), PrecisionError> {
        match (self, crate::describe(device)) {
            (Self::Mixed, Some(limits)) if !limits.f16 => Err(PrecisionError { adapter: limits.name, compiler: limits.compiler }),
            _ => Ok(()),
        }
    }

    /// The format of operands; `None` when they stay as they are.
    pub(super) fn half(self) -> Option<DType> {
        match self {
            Self::F32 => None,
            Self::Mixed => Some(DType::F16),
        }
    }
}

/// The power of two that brings `largest` to [2^13, 2^14), as far as both it and its inverse are normal numbers; 1 for 0, infinity and NaN.
pub(super) fn scale(largest: f32) -> f32 {
    let exponent = (largest.to_bits() >> 23) & 0xff;
    if largest == 0.0 || exponent == 255 {
        return 1.0;
    }
    f32::from_bits((267 - exponent.max(14)) << 23)
}

/// As a 16-bit float, widened again. NaN and infinity stay what they are, to be seen. By arithmetic that the compiler makes vectors of.
#[inline(always)]
fn half(value: f32) -> f32 {
    const SIGN: u32 = 1 << 31;
    // 13 bits of the fraction go: half of the last that stays is added, less one where that is even.
    const LOST: u32 = (1 << 13) - 1;
    let bits = value.to_bits();
    let size = f32::from_bits(bits & !SIGN);
    let normal = f32::from_bits((size.to_bits() + (LOST >> 1) + ((bits >> 13) & 1)) & !LOST);
    // Below 2^-14 numbers are multiples of 2^-24, as those of f32 are from 1/2 on.
    let rounded = if size < 6.103_515_6e-5 { (size + 0.5) - 0.5 } else { normal };
    let held = if rounded > 65504.0 { 65504.0 } else { rounded };
    let kept = if size <= f32::MAX { held } else { size };
    f32::from_bits(kept.to_bits() | (bits & SIGN))
}

/// A product rounded to 16-bit floats and widened again: infinite beyond their largest.
pub(super) fn kept_product(input: &FlexTensor, weight: &FlexTensor) -> FlexTensor {
    let mut output = product(input, weight);
    let infinite = |x: f32| if x.abs() < 65520.0 { half(x) } else { x * f32::INFINITY };
    output.storage_mut::<f32>().par_chunks_mut(CHUNK).for_each(|chunk| chunk.iter_mut().for_each(|x| *x = infinite(*x)));
    output
}

/// The numbers times `by`, rounded to 16-bit floats and widened again.
pub(super) fn rounded(input: FlexTensor, by: f32) -> FlexTensor {
    let shape = [input.layout().shape()[0], input.layout().shape()[1]];
    let mut output = owned(input, shape);
    output.storage_mut::<f32>().par_chunks_mut(CHUNK).for_each(|chunk| chunk.iter_mut().for_each(|x| *x = half(*x * by)));
    output
}

/// What the numbers times `by`, a power of two, are as 16-bit floats, divided by it again.
#[inline(always)]
pub(super) fn halved(numbers: &mut [f32], by: f32) {
    let back = 1.0 / by;
    for place in 0..numbers.len() {
        numbers[place] = half(numbers[place] * by) * back;
    }
}

/// [`scale`] of the largest of many numbers, on all cores. A NaN is passed over here and stays in the product.
pub(super) fn scale_of_all(numbers: &[f32]) -> f32 {
    scale(largest_of_all(numbers))
}

/// The largest absolute number, on all cores.
pub(super) fn largest_of_all(numbers: &[f32]) -> f32 {
    numbers.par_iter().map(|x| x.abs()).reduce(|| 0.0, f32::max)
}

/// [`scale`] of the largest of a few numbers; NaN is the largest of all.
#[inline(always)]
pub(super) fn scale_of(numbers: &[f32]) -> f32 {
    let mut largest = 0;
    for place in 0..numbers.len() {
        largest = largest.max(numbers[place].to_bits() & (u32::MAX >> 1));
    }
    scale(f32::from_bits(largest))
}

/// What the layer leaves, and the rounded operands.
pub(super) fn forward(input: FlexTensor, weight: FlexTensor, bias: &FlexTensor, leaves: Leaves) -> [FlexTensor; 3] {
    let [input, weight] = [input, weight].map(|operand| rounded(operand, 1.0));
    let output = match leaves {
        Leaves::All => linear::forward(&input, &weight, bias),
        Leaves::Open => product(&input, &weight),
        Leaves::Half => rounded(biased(kept_product(&input, &weight), bias), 1.0),
    };
    [output, input, weight]
}

/// The product without any bias.
pub(super) fn product(input: &FlexTensor, weight: &FlexTensor) -> FlexTensor {
    let width = weight.layout().shape()[1];
    linear::forward(input, weight, &super::tensor(vec![0.0; width], [width]))
}

/// Each row and the bias.
pub(super) fn biased(input: FlexTensor, bias: &FlexTensor) -> FlexTensor {
    let (shape, bias) = ([input.layout().shape()[0], input.layout().shape()[1]], bias.to_contiguous());
    let mut output = owned(input, shape);
    output.storage_mut::<f32>().par_chunks_mut(shape[1].max(1)).for_each(|row| {
        row.iter_mut().zip(numbers(&bias)).for_each(|(x, bias)| *x += bias);
    });
    output
}

/// The gradients of input, weight and bias.
pub(super) fn backward(gradient: &FlexTensor, input: FlexTensor, weight: FlexTensor) -> [FlexTensor; 3] {
    let gradient = gradient.to_contiguous();
    let by = scale_of_all(numbers(&gradient));
    let to_bias = Flex::linear_bias_backward(gradient.clone());
    let scaled = rounded(gradient, by);
    let to_input = divided(linear::input_backward(weight, scaled.clone()), by);
    [to_input, divided(Flex::linear_weight_backward(input, scaled), by), to_bias]
}

/// Each number divided by a power of two.
pub(super) fn divided(input: FlexTensor, by: f32) -> FlexTensor {
    let mut output = owned_flat(input);
    output.storage_mut::<f32>().par_chunks_mut(CHUNK).for_each(|chunk| chunk.iter_mut().for_each(|x| *x *= 1.0 / by));
    output
}

#[cfg(test)]
mod tests {
    use burn::tensor::f16;

    use super::*;

    #[test]
    fn the_scale_is_a_power_of_two_that_brings_the_largest_near_the_top() {
        for largest in [1e-37f32, 1e-30, 6e-8, 0.1, 1.0, 3.7, 65504.0, 1e9, 3e38] {
            let by = scale(largest);
            assert!(by.to_bits().trailing_zeros() >= 23 && by.is_normal() && (1.0 / by).is_normal(), "{largest}: {by}");
            let top = largest * by;
            assert!((8192.0..16384.0).contains(&top) || (largest < 1e-33 && top < 8192.0), "{largest}: {top}");
        }
        assert_eq!([0.0, f32::INFINITY, f32::NAN].map(scale), [1.0; 3]);
        assert!(scale(1e-42) > 1e30);
    }

    #[test]
    fn rounding_by_arithmetic_is_that_of_16_bit_floats() {
        // Every 16-bit float, and what lies between it and the next: just before the middle, the middle, just behind it.
        let all = (0..0x7c00u16).flat_map(|bits| {
            let [this, next] = [bits, bits + 1].map(|bits| f16::from_bits(bits).to_f64());
            let next = if next.is_finite() { next } else { 65536.0 };
            let middle = f64::midpoint(this, next) as f32;
            [this as f32, middle, middle.next_down(), middle.next_up()]
        });
        for value in all.chain([1e-30, 1e-45, 65504.0, 65519.9, 65520.0, 1e30, f32::MAX]) {
            let expected = f16::from_f32(value.clamp(-65504.0, 65504.0)).to_f32();
            assert_eq!([half(value), half(-value)].map(f32::to_bits), [expected, -expected].map(f32::to_bits), "{value}");
        }
    }

    #[test]
    fn what_is_finite_stays_finite_and_what_is_not_is_seen() {
        let row = |values: &[f32]| super::super::tensor(values.to_vec(), [1, values.len()]);
        let of = |tensor: &FlexTensor| numbers(tensor).to_vec();
        assert_eq!(
            of(&rounded(row(&[1e9, -1e9, f32::INFINITY, f32::NEG_INFINITY]), 1.0)),
            [65504.0, -65504.0, f32::INFINITY, f32::NEG_INFINITY]
        );
        assert!(of(&rounded(row(&[f32::NAN]), 1.0))[0].is_nan());
        let weight = || super::super::tensor(vec![1.0, 2.0], [1, 2]);
        let [to_input, to_weight, _] = backward(&row(&[f32::INFINITY, 1e-9]), row(&[3.0]), weight());
        assert!(of(&to_input)[0].is_infinite() && of(&to_weight)[0].is_infinite());
    }

    #[test]
    fn the_cpu_has_both_precisions() {
        assert_eq!([Precision::F32, Precision::Mixed].map(|precision| precision.check(&Device::flex())), [Ok(()), Ok(())]);
    }
}
