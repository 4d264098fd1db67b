//! The linear layers of a model on flat hidden states, `[tokens, features]`, as `kernels::layers` computes them for what reads the result.

use burn::nn::Linear;
use burn::tensor::Tensor;

use kernels::layers::{self, Precision, Projection};

/// The layer's output.
pub(crate) fn linear(layer: &Linear, x: Tensor<2>, precision: Precision) -> Tensor<2> {
    let (weight, bias) = parameters(layer);
    layers::linear(x, weight, bias, precision)
}

/// The output for fused attention to read.
pub(crate) fn linear_for_attention(layer: &Linear, x: Tensor<2>, precision: Precision) -> Tensor<2> {
    let (weight, bias) = parameters(layer);
    layers::linear_for_attention(x, weight, bias, precision)
}

/// The output for the norm behind it to read.
pub(crate) fn linear_for_norm(layer: &Linear, x: Tensor<2>, precision: Precision) -> Projection {
    let (weight, bias) = with_bias(layer);
    layers::linear_for_norm(x, weight, bias, precision)
}

/// Two layers with GELU between them, for the norm behind them to read.
pub(crate) fn feed_forward(inner: &Linear, outer: &Linear, x: Tensor<2>, precision: Precision) -> Projection {
    layers::feed_forward(x, with_bias(inner), with_bias(outer), precision)
}

fn parameters(layer: &Linear) -> (Tensor<2>, Option<Tensor<1>>) {
    (layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()))
}

fn with_bias(layer: &Linear) -> (Tensor<2>, Tensor<1>) {
    let (weight, bias) = parameters(layer);
    (weight, bias.expect("layers behind each other with GELU between them have biases: `Weights::linear`"))
}
