//! GELU in its exact form (Hendrycks and Gimpel 2016, arXiv 1606.08415) on the CPU: x P(X < x) for a standard normal X.
//!
//! Both signs go through the tail q(a) = P(X > a) of a = |x|, so that small results on the negative side keep their digits: gelu(x) = max(x, 0) - a q(a).

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::wide::{Lanes, exponential, polynomial, times_plus, widest};
use super::{numbers, owned, tensor};

/// Numbers of a task.
const CHUNK: usize = 1 << 14;

/// Beyond it the tail is below every normal f32.
const FARTHEST: f32 = 14.0;

/// e^(-a^2 / 2), and q(a) over it.
#[inline(always)]
#[allow(clippy::excessive_precision)]
fn tail<L: Lanes>(a: f32) -> (f32, f32) {
    let bell = exponential::<L>(-0.5 * a * a);
    // Minimax fit, relative error 1.6e-8 over [0, 14], of q(a) e^(a^2 / 2) / t as a polynomial of 2 t - 1, with t = 1 / (1 + 0.21 a).
    let t = 1.0 / times_plus::<L>(0.21, a, 1.0);
    let fit = polynomial::<L, 9>(
        times_plus::<L>(2.0, t, -1.0),
        [
            0.160_977_013_3,
            0.137_378_628_1,
            0.099_376_881_6,
            0.059_980_353_0,
            0.029_270_672_0,
            0.010_808_958_5,
            0.002_511_131_8,
            -2.372_415_7e-5,
            -2.799_073_3e-4,
        ],
    );
    (bell, t * fit)
}

#[inline(always)]
pub(super) fn gelu<L: Lanes>(x: f32) -> f32 {
    let a = x.abs();
    // Not `min`, which would lose NaN.
    let a = if a > FARTHEST { FARTHEST } else { a };
    let (bell, fit) = tail::<L>(a);
    (if x > 0.0 { x } else { 0.0 }) - a * (bell * fit)
}

/// P(X < x) + x times the density at x.
#[inline(always)]
pub(super) fn slope<L: Lanes>(x: f32) -> f32 {
    let a = x.abs();
    let far = a > FARTHEST;
    let (bell, fit) = tail::<L>(if far { FARTHEST } else { a });
    let beyond = bell * fit;
    let below = if x > 0.0 { 1.0 - beyond } else { beyond };
    // 1 / sqrt(2 pi).
    times_plus::<L>(if far { 0.0 } else { x * 0.398_942_3 }, bell, below)
}

/// In the memory of the input when nothing else uses it.
pub(super) fn forward(input: FlexTensor) -> FlexTensor {
    let shape = [input.layout().shape()[0], input.layout().shape()[1]];
    if input.is_unique() {
        let mut output = owned(input, shape);
        output.storage_mut::<f32>().par_chunks_mut(CHUNK).for_each(in_place);
        return output;
    }
    let input = input.to_contiguous();
    let mut output = vec![0.0; shape[0] * shape[1]];
    output.par_chunks_mut(CHUNK).zip(numbers(&input).par_chunks(CHUNK)).for_each(|(output, input)| beside(output, input));
    tensor(output, shape)
}

/// The gradient of the input, in the memory of the output's when nothing else uses that.
pub(super) fn backward(gradient: FlexTensor, input: &FlexTensor) -> FlexTensor {
    let input = input.to_contiguous();
    let mut gradient = owned(gradient, [input.layout().shape()[0], input.layout().shape()[1]]);
    gradient
        .storage_mut::<f32>()
        .par_chunks_mut(CHUNK)
        .zip(numbers(&input).par_chunks(CHUNK))
        .for_each(|(gradient, input)| times_slope(gradient, input));
    gradient
}

widest!(fn in_place(numbers: &mut [f32]) = in_place_body);
widest!(fn beside(output: &mut [f32], input: &[f32]) = beside_body);
widest!(fn times_slope(gradient: &mut [f32], input: &[f32]) = times_slope_body);

#[inline(always)]
fn in_place_body<L: Lanes>(numbers: &mut [f32]) {
    for x in numbers {
        *x = gelu::<L>(*x);
    }
}

#[inline(always)]
fn beside_body<L: Lanes>(output: &mut [f32], input: &[f32]) {
    let input = &input[..output.len()];
    for place in 0..output.len() {
        output[place] = gelu::<L>(input[place]);
    }
}

#[inline(always)]
fn times_slope_body<L: Lanes>(gradient: &mut [f32], input: &[f32]) {
    let input = &input[..gradient.len()];
    for place in 0..gradient.len() {
        gradient[place] *= slope::<L>(input[place]);
    }
}
