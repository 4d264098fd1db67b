//! Linear layers as those that read their results want them: a product with or without a bias, for attention, for a norm, two with GELU between them; and inner products of rows.

use burn::backend::Dispatch;
use burn::tensor::module::linear as plain_linear;
use burn::tensor::{DType, Tensor};

use super::extension::Layers;
use super::mixed::{Leaves, Precision};
use super::{gelu, on_cpu, takes};

/// What a linear layer gave, as [`residual_norm`](super::residual_norm) reads it: in mixed precision the bias is still to be added.
#[derive(Clone, Debug)]
pub struct Projection {
    pub(super) product: Tensor<2>,
    pub(super) bias: Option<Tensor<1>>,
}

impl From<Tensor<2>> for Projection {
    fn from(product: Tensor<2>) -> Self {
        Self { product, bias: None }
    }
}

/// `input x weight + bias`: `[rows, in]`, `[in, out]`, `[out]`, or without a bias. Mixed precision is for f32 operands and 16-bit input; [`Precision::check`] says whether the device
/// has it.
///
/// # Panics
/// When the shapes do not fit.
pub fn linear(input: Tensor<2>, weight: Tensor<2>, bias: impl Into<Option<Tensor<1>>>, precision: Precision) -> Tensor<2> {
    linear_leaving(input, weight, bias.into(), precision, Leaves::All)
}

fn linear_leaving(input: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, precision: Precision, leaves: Leaves) -> Tensor<2> {
    match mixed_for(&input, precision) {
        Some(half) => {
            // A product in 32 bits without a bias is what the norm's layer leaves: no pass adds zeros to it.
            let leaves = if bias.is_none() && leaves == Leaves::All { Leaves::Open } else { leaves };
            let bias = bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[1]], &weight.device()));
            linear_mixed(input, weight, bias, half, leaves)
        }
        None => linear_f32(input, weight, bias),
    }
}

/// [`linear()`] for [`attention()`](super::attention()) to read: on a GPU in mixed precision the numbers are 16-bit floats, and infinite where the product is beyond 65504.
///
/// # Panics
/// When the shapes do not fit.
pub fn linear_for_attention(input: Tensor<2>, weight: Tensor<2>, bias: impl Into<Option<Tensor<1>>>, precision: Precision) -> Tensor<2> {
    linear_leaving(input, weight, bias.into(), precision, Leaves::Half)
}

/// [`linear()`] for [`residual_norm()`](super::residual_norm()) to read, which in mixed precision adds the bias on its way.
///
/// # Panics
/// When the shapes do not fit.
pub fn linear_for_norm(input: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, precision: Precision) -> Projection {
    match mixed_for(&input, precision) {
        Some(half) => Projection { product: linear_mixed(input, weight, bias.clone(), half, Leaves::Open), bias: Some(bias) },
        None => linear_f32(input, weight, Some(bias)).into(),
    }
}

/// `gelu(input x inner + its bias) x outer + its bias`, for [`residual_norm()`](super::residual_norm()) to read: weights `[in, hidden]` and `[hidden, out]`, each with its bias. In mixed precision
/// the numbers between the products are 16-bit ones, infinite where the inner product is beyond 65504.
///
/// # Panics
/// When the shapes do not fit.
pub fn feed_forward(
    input: Tensor<2>,
    (inner, inner_bias): (Tensor<2>, Tensor<1>),
    (outer, outer_bias): (Tensor<2>, Tensor<1>),
    precision: Precision,
) -> Projection {
    let Some(half) = mixed_for(&input, precision) else {
        return linear_f32(gelu(linear_f32(input, inner, Some(inner_bias))), outer, Some(outer_bias)).into();
    };
    assert_fit(&input, &inner, &inner_bias);
    assert_fit(&inner, &outer, &outer_bias);
    let bias = Some(outer_bias.clone());
    let [input, inner, outer] = [input, inner, outer].map(Tensor::into_dispatch);
    let (inner_bias, outer_bias) = (inner_bias.into_dispatch(), outer_bias.into_dispatch());
    let product = <Dispatch as Layers>::feed_forward(input, inner, inner_bias, outer, outer_bias, half);
    Projection { product: Tensor::from_dispatch(product), bias }
}

/// Inner products of the rows of two matrices, `[rows, width]` and `[columns, width]`: `[rows, columns]`. On the CPU a linear layer's product, elsewhere burn's.
///
/// # Panics
/// When the widths differ.
pub fn similarities(left: Tensor<2>, right: Tensor<2>) -> Tensor<2> {
    if left.dtype() != DType::F32 || !on_cpu(&left.device()) {
        return left.matmul(right.transpose());
    }
    linear_f32(left, right.transpose(), None)
}

/// The format to round operands to, when this input is multiplied in mixed precision.
fn mixed_for(input: &Tensor<2>, precision: Precision) -> Option<DType> {
    precision.half().filter(|_| takes(input, precision))
}

fn linear_mixed(input: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, half: DType, leaves: Leaves) -> Tensor<2> {
    assert_fit(&input, &weight, &bias);
    let (input, weight, bias) = (input.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Layers>::linear_mixed(input, weight, bias, half, leaves))
}

fn linear_f32(input: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    if input.dtype() != DType::F32 || !on_cpu(&input.device()) {
        return plain_linear(input, weight, bias);
    }
    // What has no numbers is no bias there.
    let bias = match bias {
        Some(bias) => {
            assert_fit(&input, &weight, &bias);
            bias
        }
        None => {
            assert!(input.dims()[1] == weight.dims()[0], "linear layer: {:?} x {:?}", input.dims(), weight.dims());
            Tensor::zeros([0], &weight.device())
        }
    };
    Tensor::from_dispatch(<Dispatch as Layers>::linear_layer(input.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()))
}

fn assert_fit(input: &Tensor<2>, weight: &Tensor<2>, bias: &Tensor<1>) {
    assert!(
        input.dims()[1] == weight.dims()[0] && bias.dims()[0] == weight.dims()[1],
        "linear layer: {:?} x {:?} + {:?}",
        input.dims(),
        weight.dims(),
        bias.dims()
    );
}
