//! Two linear layers with GELU between them in mixed precision, on the CPU: the numbers that `cube::feed_forward` has in 16 bits, rounded and widened again.
//!
//! In 16 bits are the operands of all four kinds of products, the inner product without its bias, and the gradient of the hidden numbers. One power of two scales all gradients: it brings the largest
//! that can come of them, by the rows of the outer weights, below 2^14, so nobody has to look at the products before rounding them.

use burn::backend::Flex;
use burn::backend::ops::ModuleOps;
use burn_flex::FlexTensor;

use super::mixed::{biased, divided, kept_product, largest_of_all, product, rounded, scale};
use super::{gelu, numbers};

/// No slope of GELU is larger: 1.1289 at the square root of 2.
pub(super) const STEEPEST: f32 = 1.13;

/// The output without its bias, and rounded: input, inner product, hidden numbers, inner and outer weights.
pub(super) fn forward(input: FlexTensor, inner: FlexTensor, bias: &FlexTensor, outer: FlexTensor) -> [FlexTensor; 6] {
    let [input, inner, outer] = [input, inner, outer].map(|operand| rounded(operand, 1.0));
    let middle = kept_product(&input, &inner);
    let hidden = rounded(gelu::forward(biased(middle.clone(), bias)), 1.0);
    [product(&hidden, &outer), input, middle, hidden, inner, outer]
}

/// The scale of gradients of which `largest` is the largest: also what the outer weights and GELU make of them comes below 2^14.
pub(super) fn reaching(largest: f32, outer: &[f32], columns: usize) -> f32 {
    let reach = outer.chunks_exact(columns.max(1)).map(|row| row.iter().map(|x| x.abs()).sum::<f32>()).fold(0.0, f32::max);
    scale((largest * (STEEPEST * reach).max(1.0)).min(f32::MAX))
}

/// The gradients of input, inner weights and bias, outer weights and bias.
pub(super) fn backward(
    gradient: &FlexTensor,
    input: FlexTensor,
    middle: FlexTensor,
    hidden: FlexTensor,
    [inner, outer]: [FlexTensor; 2],
    bias: &FlexTensor,
) -> [FlexTensor; 5] {
    let gradient = gradient.to_contiguous();
    let by = reaching(largest_of_all(numbers(&gradient)), numbers(&outer), outer.layout().shape()[1]);
    let to_outer_bias = Flex::linear_bias_backward(gradient.clone());
    let gradient = rounded(gradient, by);
    let to_outer = divided(Flex::linear_weight_backward(hidden, gradient.clone()), by);
    let to_hidden = rounded(Flex::linear_x_backward(outer, gradient), 1.0);
    let to_middle = gelu::backward(to_hidden, &biased(middle, bias));
    let to_inner_bias = divided(Flex::linear_bias_backward(to_middle.clone()), by);
    let to_middle = rounded(to_middle, 1.0);
    let to_inner = divided(Flex::linear_weight_backward(input, to_middle.clone()), by);
    [divided(Flex::linear_x_backward(inner, to_middle), by), to_inner, to_inner_bias, to_outer, to_outer_bias]
}
