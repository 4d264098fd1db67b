//! The layers as a backend extension: what a caller asks for, and the pairs of passes that every gradient is made of.
//!
//! [`Layers`] is what callers reach, with or without a graph. [`Passes`] is what a backend without a graph offers for one with it: a forward pass that hands out
//! what its backward pass needs, as tensors, and that backward pass. So `autodiff` serves every backend with the same code.

#![allow(clippy::type_complexity, reason = "the extension reads tuples of tensors, not names for them")]

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{BoolTensor, FloatTensor, IntTensor};
use burn::backend::{Backend, Flex, backend_extension};
use burn::tensor::{DType, Shape};
use burn_flex::FlexTensor;

use super::attention::Attending;
use super::cube::kept_by_norm;
use super::embedding::{Extent, Factors};
use super::gate::Gate;
use super::heads::Heads;
use super::mask::Dropout;
use super::mixed::Leaves;
use super::norm::Norm;
use super::rotary::Turning;
use super::softmax::Scaled;
use super::{attention, dropout, embedding, feed_forward, gate, gelu, heads, linear, mixed, norm, normalize, rotary, softmax};

/// The layers on one backend.
#[backend_extension(Cube, Flex, Fusion, Autodiff)]
pub(crate) trait Layers: Backend {
    /// Query, key and value come side by side, `[tokens, 3 hidden]`, and the result has their format. `relative` is the bias by distance, not looked at where there is none; `places` is
    /// `Sequences::on_device`, for devices that read it there.
    #[fusion(meta = |joint, _relative, _places, _attending| with_shape(joint, [joint.shape[0], joint.shape[1] / 3]))]
    fn attention_layer(
        joint: FloatTensor<Self>,
        relative: FloatTensor<Self>,
        places: IntTensor<Self>,
        attending: Attending,
    ) -> FloatTensor<Self>;

    /// Query and key of each token turned by the angles of its position.
    #[fusion(dtype = joint, shape = joint)]
    fn rotary_layer(joint: FloatTensor<Self>, angles: FloatTensor<Self>, positions: IntTensor<Self>, turning: Turning)
    -> FloatTensor<Self>;

    /// Heads in groups as attention reads them: normed by their scales where they have norms (the scales are not looked at otherwise), turned, and spread. The format stays.
    #[fusion(meta = |projection, _query_scale, _key_scale, _angles, _positions, heads| with_shape(projection, [projection.shape[0], heads.grouping.joint_width()]))]
    fn heads_layer(
        projection: FloatTensor<Self>,
        query_scale: FloatTensor<Self>,
        key_scale: FloatTensor<Self>,
        angles: FloatTensor<Self>,
        positions: IntTensor<Self>,
        heads: Heads,
    ) -> FloatTensor<Self>;

    /// Rows of the table by their numbers; `lists` for the gradient, the numbers of [`embedding::Lists`], whose extent comes along.
    #[fusion(meta = |table, ids, _lists, _extent| with_shape(table, [ids.shape[0], table.shape[1]]))]
    fn embedding_layer(table: FloatTensor<Self>, ids: IntTensor<Self>, lists: IntTensor<Self>, extent: Extent) -> FloatTensor<Self>;

    /// Sums over lists of rows, `[height, columns]`, with factors as `which` says; `transposed` lists for the gradient.
    #[fusion(meta = |input, _factors, _lists, _transposed, extents, _which| with_shape(input, [extents[0].height, input.shape[1]]))]
    fn list_layer(
        input: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        lists: IntTensor<Self>,
        transposed: IntTensor<Self>,
        extents: [Extent; 2],
        which: Factors,
    ) -> FloatTensor<Self>;

    #[fusion(dtype = input, shape = product_shape(input, weight))]
    fn linear_layer(input: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Operands in the format `half`, sums in f32.
    #[fusion(meta = |input, weight, _bias, half, leaves| leaves_of(input, weight, *half, *leaves))]
    fn linear_mixed(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        half: DType,
        leaves: Leaves,
    ) -> FloatTensor<Self>;

    /// A linear layer, GELU and another one, operands in the format `half`. The last bias is left for the next function to add; its gradient is this one's all the same.
    #[fusion(meta = |input, _inner, _inner_bias, outer, _outer_bias, _half| product_of(input, outer))]
    fn feed_forward(
        input: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        inner_bias: FloatTensor<Self>,
        outer: FloatTensor<Self>,
        outer_bias: FloatTensor<Self>,
        half: DType,
    ) -> FloatTensor<Self>;

    #[fusion(dtype = input, shape = input)]
    fn gelu_layer(input: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Rows have both halves side by side.
    #[fusion(meta = |input, _gate| with_shape(input, [input.shape[0], input.shape[1] / 2]))]
    fn gated_layer(input: FloatTensor<Self>, gate: Gate) -> FloatTensor<Self>;

    #[fusion(meta = |input| with_shape(input, [input.shape[0], 1]))]
    fn log_sum_exp_layer(input: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The mask is not looked at where there is none.
    #[fusion(meta = |input, _mask, _targets, _scaled| with_shape(input, [input.shape[0], 1]))]
    fn cross_entropy_layer(input: FloatTensor<Self>, mask: BoolTensor<Self>, targets: IntTensor<Self>, scaled: Scaled)
    -> FloatTensor<Self>;

    #[fusion(dtype = input, shape = input)]
    fn normalize_layer(input: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(dtype = input, shape = input)]
    fn dropout_layer(input: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self>;

    /// `bias` is added first when the norm says so, and is not looked at otherwise; who left it to be added has its gradient.
    #[fusion(dtype = input, shape = input)]
    fn residual_norm(
        input: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        norm: Norm,
    ) -> FloatTensor<Self>;
}

/// Forward passes that keep something, and all backward passes. Dropout's is its forward pass; those of the linear layer are burn's, but for the input's on the CPU.
#[backend_extension(Cube, Flex, Fusion)]
pub(crate) trait Passes: Backend {
    /// The output, and the logarithm of the sum of exponentials of every (row, head, query).
    #[fusion(meta = |joint, _relative, _places, attending| (
        with_shape(joint, [joint.shape[0], joint.shape[1] / 3]),
        in_format(&with_shape(joint, [attending.shape.queries()]), DType::F32),
    ))]
    fn attention_keeping(
        joint: FloatTensor<Self>,
        relative: FloatTensor<Self>,
        places: IntTensor<Self>,
        attending: Attending,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of query, key and value, side by side, and of the bias by distance, in f32; a number that means nothing where there is no such bias.
    #[fusion(meta = |_gradient, joint, _relative, _output, _logarithms, _places, attending| (
        in_format(joint, DType::F32),
        in_format(&with_shape(joint, attending.relative_shape()), DType::F32),
    ))]
    fn attention_backward(
        gradient: FloatTensor<Self>,
        joint: FloatTensor<Self>,
        relative: FloatTensor<Self>,
        output: FloatTensor<Self>,
        logarithms: FloatTensor<Self>,
        places: IntTensor<Self>,
        attending: Attending,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of the projection and of both scales, in f32. Where there are no norms, neither projection nor scales are looked at, and the gradients of the latter are a number that means nothing.
    #[fusion(meta = |gradient, _projection, _query_scale, _key_scale, _angles, _positions, heads| (
        gradient_of(&with_shape(gradient, [gradient.shape[0], heads.grouping.width()])),
        gradient_of(&with_shape(gradient, heads.scale_shape())),
        gradient_of(&with_shape(gradient, heads.scale_shape())),
    ))]
    fn heads_backward(
        gradient: FloatTensor<Self>,
        projection: FloatTensor<Self>,
        query_scale: FloatTensor<Self>,
        key_scale: FloatTensor<Self>,
        angles: FloatTensor<Self>,
        positions: IntTensor<Self>,
        heads: Heads,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Sums over lists of rows, `[height, columns]`.
    #[fusion(meta = |input, _factors, _lists, extent, _which| with_shape(input, [extent.height, input.shape[1]]))]
    fn list_sums(
        input: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        lists: IntTensor<Self>,
        extent: Extent,
        which: Factors,
    ) -> FloatTensor<Self>;

    /// The gradient of a linear layer's input.
    #[fusion(meta = |weight, gradient| with_shape(gradient, [gradient.shape[0], weight.shape[0]]))]
    fn linear_input_backward(weight: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The output, and the rounded operands.
    #[fusion(meta = |input, weight, _bias, half, leaves| (
        leaves_of(input, weight, *half, *leaves), in_format(input, *half), in_format(weight, *half),
    ))]
    fn linear_mixed_keeping(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        half: DType,
        leaves: Leaves,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of input, weight and bias, from the rounded operands, in f32.
    #[fusion(meta = |gradient, input, weight| (gradient_of(input), gradient_of(weight), in_format(&with_shape(gradient, [weight.shape[1]]), DType::F32)))]
    fn linear_mixed_backward(
        gradient: FloatTensor<Self>,
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The output, and what its backward pass reads: input, inner product and hidden numbers, inner and outer weights, all rounded.
    #[fusion(meta = |input, inner, _inner_bias, outer, half| {
        let hidden = in_format(&with_shape(input, [input.shape[0], inner.shape[1]]), *half);
        (product_of(input, outer), in_format(input, *half), hidden.clone(), hidden, in_format(inner, *half), in_format(outer, *half))
    })]
    fn feed_forward_keeping(
        input: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        inner_bias: FloatTensor<Self>,
        outer: FloatTensor<Self>,
        half: DType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of input, inner weights and bias, outer weights and bias, from what was kept, in f32.
    #[fusion(meta = |gradient, input, _product, _hidden, inner, outer, inner_bias| (
        gradient_of(input), gradient_of(inner), gradient_of(inner_bias), gradient_of(outer), gradient_of(&with_shape(gradient, [outer.shape[1]])),
    ))]
    fn feed_forward_backward(
        gradient: FloatTensor<Self>,
        input: FloatTensor<Self>,
        product: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        outer: FloatTensor<Self>,
        inner_bias: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient of the input.
    #[fusion(dtype = gradient, shape = gradient)]
    fn gelu_gradient(gradient: FloatTensor<Self>, input: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of the input.
    #[fusion(meta = |_gradient, input, _gate| input.clone())]
    fn gated_gradient(gradient: FloatTensor<Self>, input: FloatTensor<Self>, gate: Gate) -> FloatTensor<Self>;

    /// The gradient of the input.
    #[fusion(meta = |_gradient, input, _logarithms| input.clone())]
    fn log_sum_exp_gradient(gradient: FloatTensor<Self>, input: FloatTensor<Self>, logarithms: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The cross-entropy, and the logarithms of the sums of exponentials, `[rows, 1]` each.
    #[fusion(meta = |input, _mask, _targets, _scaled| (with_shape(input, [input.shape[0], 1]), with_shape(input, [input.shape[0], 1])))]
    fn cross_entropy_keeping(
        input: FloatTensor<Self>,
        mask: BoolTensor<Self>,
        targets: IntTensor<Self>,
        scaled: Scaled,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient of the input.
    #[fusion(meta = |_gradient, input, _mask, _targets, _logarithms, _scaled| input.clone())]
    fn cross_entropy_gradient(
        gradient: FloatTensor<Self>,
        input: FloatTensor<Self>,
        mask: BoolTensor<Self>,
        targets: IntTensor<Self>,
        logarithms: FloatTensor<Self>,
        scaled: Scaled,
    ) -> FloatTensor<Self>;

    /// The rows, and what each was divided by, `[rows, 1]`.
    #[fusion(meta = |input| (input.clone(), with_shape(input, [input.shape[0], 1])))]
    fn normalize_keeping(input: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient of the input.
    #[fusion(meta = |gradient, _output, _norms| gradient.clone())]
    fn normalize_gradient(gradient: FloatTensor<Self>, output: FloatTensor<Self>, norms: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The output, and in one piece the rows before scale and shift and behind them what each was multiplied by.
    #[fusion(meta = |input, _bias, _residual, _gamma, _beta, _norm| (input.clone(), with_shape(input, [kept_by_norm(input.shape[0], input.shape[1])])))]
    fn residual_norm_keeping(
        input: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        norm: Norm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of input, residual, scale and shift.
    #[fusion(meta = |gradient, gamma, _kept, _norm| (gradient.clone(), gradient.clone(), gamma.clone(), gamma.clone()))]
    fn residual_norm_backward(
        gradient: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        kept: FloatTensor<Self>,
        norm: Norm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

fn with_shape<const D: usize>(like: &TensorSpec, shape: [usize; D]) -> TensorSpec {
    let mut spec = like.clone();
    spec.shape = Shape::from(shape);
    spec
}

/// The f32 product of two matrices, whatever they are made of.
fn product_of(input: &TensorSpec, weight: &TensorSpec) -> TensorSpec {
    in_format(&with_shape(input, [input.shape[0], weight.shape[1]]), DType::F32)
}

/// What a linear layer in mixed precision leaves.
fn leaves_of(input: &TensorSpec, weight: &TensorSpec, half: DType, leaves: Leaves) -> TensorSpec {
    in_format(&product_of(input, weight), if leaves == Leaves::Half { half } else { DType::F32 })
}

/// The gradient of what may be in another format.
fn gradient_of(tensor: &TensorSpec) -> TensorSpec {
    in_format(tensor, DType::F32)
}

fn in_format(like: &TensorSpec, format: DType) -> TensorSpec {
    let mut spec = like.clone();
    spec.dtype = format;
    spec
}

fn product_shape(input: &Shape, weight: &Shape) -> Shape {
    Shape::from([input[0], weight[1]])
}

impl Layers for Flex {
    fn attention_layer(joint: FlexTensor, relative: FlexTensor, _places: FlexTensor, attending: Attending) -> FlexTensor {
        attention::forward(&joint, &relative, &attending).0
    }

    fn rotary_layer(joint: FlexTensor, angles: FlexTensor, positions: FlexTensor, turning: Turning) -> FlexTensor {
        rotary::turned(joint, &angles, &positions, turning)
    }

    fn heads_layer(
        projection: FlexTensor,
        query_scale: FlexTensor,
        key_scale: FlexTensor,
        angles: FlexTensor,
        positions: FlexTensor,
        heads: Heads,
    ) -> FlexTensor {
        heads::forward(&projection, [&query_scale, &key_scale], &angles, &positions, heads)
    }

    fn embedding_layer(table: FlexTensor, ids: FlexTensor, _lists: FlexTensor, _extent: Extent) -> FlexTensor {
        embedding::rows(table, ids)
    }

    fn list_layer(
        input: FlexTensor,
        factors: FlexTensor,
        lists: FlexTensor,
        _transposed: FlexTensor,
        [extent, _]: [Extent; 2],
        which: Factors,
    ) -> FlexTensor {
        embedding::sums(&input, &factors, which, &lists, extent)
    }

    fn linear_layer(input: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        linear::forward(&input, &weight, &bias)
    }

    fn linear_mixed(input: FlexTensor, weight: FlexTensor, bias: FlexTensor, _half: DType, leaves: Leaves) -> FlexTensor {
        let [output, ..] = mixed::forward(input, weight, &bias, leaves);
        output
    }

    fn feed_forward(
        input: FlexTensor,
        inner: FlexTensor,
        inner_bias: FlexTensor,
        outer: FlexTensor,
        _outer_bias: FlexTensor,
        _half: DType,
    ) -> FlexTensor {
        let [output, ..] = feed_forward::forward(input, inner, &inner_bias, outer);
        output
    }

    fn gelu_layer(input: FlexTensor) -> FlexTensor {
        gelu::forward(input)
    }

    fn gated_layer(input: FlexTensor, gate: Gate) -> FlexTensor {
        gate::forward(&input, gate)
    }

    fn log_sum_exp_layer(input: FlexTensor) -> FlexTensor {
        softmax::log_sum_exp(&input)
    }

    fn cross_entropy_layer(input: FlexTensor, mask: FlexTensor, targets: FlexTensor, scaled: Scaled) -> FlexTensor {
        softmax::cross_entropy(&input, &mask, &targets, scaled).0
    }

    fn normalize_layer(input: FlexTensor) -> FlexTensor {
        normalize::forward(input).0
    }

    fn dropout_layer(input: FlexTensor, dropout: Dropout) -> FlexTensor {
        dropout::apply(input, dropout)
    }

    fn residual_norm(
        input: FlexTensor,
        bias: FlexTensor,
        residual: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        norm: Norm,
    ) -> FlexTensor {
        norm::forward(input, &bias, &residual, [&gamma, &beta], norm, false).0
    }
}

impl Passes for Flex {
    fn attention_keeping(joint: FlexTensor, relative: FlexTensor, _places: FlexTensor, attending: Attending) -> (FlexTensor, FlexTensor) {
        attention::forward(&joint, &relative, &attending)
    }

    fn attention_backward(
        gradient: FlexTensor,
        joint: FlexTensor,
        relative: FlexTensor,
        _output: FlexTensor,
        logarithms: FlexTensor,
        _places: FlexTensor,
        attending: Attending,
    ) -> (FlexTensor, FlexTensor) {
        attention::backward(&gradient, &joint, &relative, &logarithms, &attending)
    }

    fn heads_backward(
        gradient: FlexTensor,
        projection: FlexTensor,
        query_scale: FlexTensor,
        key_scale: FlexTensor,
        angles: FlexTensor,
        positions: FlexTensor,
        heads: Heads,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        heads::backward(&gradient, &projection, [&query_scale, &key_scale], &angles, &positions, heads).into()
    }

    fn list_sums(input: FlexTensor, factors: FlexTensor, lists: FlexTensor, extent: Extent, which: Factors) -> FlexTensor {
        embedding::sums(&input, &factors, which, &lists, extent)
    }

    fn linear_input_backward(weight: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        linear::input_backward(weight, gradient)
    }

    fn linear_mixed_keeping(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        _half: DType,
        leaves: Leaves,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [output, input, weight] = mixed::forward(input, weight, &bias, leaves);
        (output, input, weight)
    }

    fn linear_mixed_backward(gradient: FlexTensor, input: FlexTensor, weight: FlexTensor) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [input, weight, bias] = mixed::backward(&gradient, input, weight);
        (input, weight, bias)
    }

    fn feed_forward_keeping(
        input: FlexTensor,
        inner: FlexTensor,
        inner_bias: FlexTensor,
        outer: FlexTensor,
        _half: DType,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        feed_forward::forward(input, inner, &inner_bias, outer).into()
    }

    fn feed_forward_backward(
        gradient: FlexTensor,
        input: FlexTensor,
        product: FlexTensor,
        hidden: FlexTensor,
        inner: FlexTensor,
        outer: FlexTensor,
        inner_bias: FlexTensor,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        feed_forward::backward(&gradient, input, product, hidden, [inner, outer], &inner_bias).into()
    }

    fn gelu_gradient(gradient: FlexTensor, input: FlexTensor) -> FlexTensor {
        gelu::backward(gradient, &input)
    }

    fn gated_gradient(gradient: FlexTensor, input: FlexTensor, gate: Gate) -> FlexTensor {
        gate::backward(&gradient, input, gate)
    }

    fn log_sum_exp_gradient(gradient: FlexTensor, input: FlexTensor, logarithms: FlexTensor) -> FlexTensor {
        softmax::log_sum_exp_backward(&gradient, input, &logarithms)
    }

    fn cross_entropy_keeping(input: FlexTensor, mask: FlexTensor, targets: FlexTensor, scaled: Scaled) -> (FlexTensor, FlexTensor) {
        softmax::cross_entropy(&input, &mask, &targets, scaled)
    }

    fn cross_entropy_gradient(
        gradient: FlexTensor,
        input: FlexTensor,
        mask: FlexTensor,
        targets: FlexTensor,
        logarithms: FlexTensor,
        scaled: Scaled,
    ) -> FlexTensor {
        softmax::cross_entropy_backward(&gradient, input, &mask, &targets, &logarithms, scaled)
    }

    fn normalize_keeping(input: FlexTensor) -> (FlexTensor, FlexTensor) {
        normalize::forward(input)
    }

    fn normalize_gradient(gradient: FlexTensor, output: FlexTensor, norms: FlexTensor) -> FlexTensor {
        normalize::backward(gradient, &output, &norms)
    }

    fn residual_norm_keeping(
        input: FlexTensor,
        bias: FlexTensor,
        residual: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        norm: Norm,
    ) -> (FlexTensor, FlexTensor) {
        norm::forward(input, &bias, &residual, [&gamma, &beta], norm, true)
    }

    fn residual_norm_backward(
        gradient: FlexTensor,
        gamma: FlexTensor,
        kept: FlexTensor,
        norm: Norm,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        norm::backward(gradient, &gamma, &kept, norm).into()
    }
}
