//! The layers as a backend extension: what a caller asks for, and the pairs of passes that every gradient is made of.
//!
//! [`Layers`] is what callers reach, with or without a graph. [`Passes`] is what a backend without a graph offers for one with it: a forward pass that hands out
//! what its backward pass needs, as tensors, and that backward pass. So `autodiff` serves every backend with the same code.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Flex, backend_extension};
use burn::tensor::{DType, Shape};
use burn_flex::FlexTensor;

use super::mask::Dropout;
use super::{AttentionShape, attention, dropout, embedding, gelu, linear, mixed, norm};

/// The layers on one backend.
#[backend_extension(Cube, Flex, Fusion, Autodiff)]
pub(crate) trait Layers: Backend {
    /// Query, key and value come side by side, `[tokens, 3 hidden]`. `places` is `Sequences::on_device`, for devices that read it there.
    #[fusion(meta = |joint, _places, _shape, _dropout| with_shape(joint, [joint.shape[0], joint.shape[1] / 3]))]
    fn attention_layer(
        joint: FloatTensor<Self>,
        places: IntTensor<Self>,
        shape: AttentionShape,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self>;

    /// Rows of the table by their numbers; `lists` for the gradient, `[numbers]` of [`embedding::Lists`], of which the numbers of rows and chunks come along.
    #[fusion(meta = |table, ids, _lists, _rows, _chunks| with_shape(table, [ids.shape[0], table.shape[1]]))]
    fn embedding_layer(
        table: FloatTensor<Self>,
        ids: IntTensor<Self>,
        lists: IntTensor<Self>,
        rows: usize,
        chunks: usize,
    ) -> FloatTensor<Self>;

    /// Sums of the rows that have the same owner, `[height, columns]`: the transpose of [`Layers::embedding_layer`]. `lists` are those of the owners.
    #[fusion(meta = |input, _owners, _lists, height, _rows, _chunks| with_shape(input, [*height, input.shape[1]]))]
    fn sums_layer(
        input: FloatTensor<Self>,
        owners: IntTensor<Self>,
        lists: IntTensor<Self>,
        height: usize,
        rows: usize,
        chunks: usize,
    ) -> FloatTensor<Self>;

    #[fusion(dtype = input, shape = product_shape(input, weight))]
    fn linear_layer(input: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Operands in the format `half`, sums in f32. When `open` the bias is left for the next function to add; its gradient is this one's all the same.
    #[fusion(meta = |input, weight, _bias, _half, _open| product_of(input, weight))]
    fn linear_mixed(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        half: DType,
        open: bool,
    ) -> FloatTensor<Self>;

    #[fusion(dtype = input, shape = input)]
    fn gelu_layer(input: FloatTensor<Self>) -> FloatTensor<Self>;

    /// GELU of the input and a bias that an open [`Layers::linear_mixed`] left, which has its gradient; in the format `half`, as the next linear layer reads it.
    #[fusion(meta = |input, _bias, half| in_format(input, *half))]
    fn gelu_mixed(input: FloatTensor<Self>, bias: FloatTensor<Self>, half: DType) -> FloatTensor<Self>;

    #[fusion(dtype = input, shape = input)]
    fn dropout_layer(input: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self>;

    #[fusion(dtype = input, shape = input)]
    fn residual_norm(
        input: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self>;
}

/// Forward passes that keep something, and all backward passes. Dropout's is its forward pass; those of the linear layer are burn's.
#[backend_extension(Cube, Flex, Fusion)]
pub(crate) trait Passes: Backend {
    /// The output, and the logarithm of the sum of exponentials of every (row, head, query).
    #[fusion(meta = |joint, _places, shape, _dropout| (with_shape(joint, [joint.shape[0], joint.shape[1] / 3]), with_shape(joint, [shape.queries()])))]
    fn attention_keeping(
        joint: FloatTensor<Self>,
        places: IntTensor<Self>,
        shape: AttentionShape,
        dropout: Option<Dropout>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of query, key and value, side by side.
    #[fusion(meta = |_gradient, joint, _output, _logarithms, _places, _shape, _dropout| joint.clone())]
    fn attention_backward(
        gradient: FloatTensor<Self>,
        joint: FloatTensor<Self>,
        output: FloatTensor<Self>,
        logarithms: FloatTensor<Self>,
        places: IntTensor<Self>,
        shape: AttentionShape,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self>;

    /// The gradient of a table of `height` rows.
    #[fusion(meta = |gradient, _lists, height, _rows, _chunks| with_shape(gradient, [*height, gradient.shape[1]]))]
    fn embedding_gradient(
        gradient: FloatTensor<Self>,
        lists: IntTensor<Self>,
        height: usize,
        rows: usize,
        chunks: usize,
    ) -> FloatTensor<Self>;

    /// The output, and the rounded operands.
    #[fusion(meta = |input, weight, _bias, half, _open| (product_of(input, weight), in_format(input, *half), in_format(weight, *half)))]
    fn linear_mixed_keeping(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        half: DType,
        open: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of input, weight and bias, from the rounded operands.
    #[fusion(meta = |gradient, input, weight| {
        let bias = with_shape(gradient, [weight.shape[1]]);
        (with_shape(gradient, [input.shape[0], input.shape[1]]), with_shape(gradient, [weight.shape[0], weight.shape[1]]), bias)
    })]
    fn linear_mixed_backward(
        gradient: FloatTensor<Self>,
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient of the input.
    #[fusion(dtype = gradient, shape = gradient)]
    fn gelu_gradient(gradient: FloatTensor<Self>, input: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of the input alone, in its format.
    #[fusion(dtype = input, shape = gradient)]
    fn gelu_mixed_gradient(gradient: FloatTensor<Self>, input: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The output, the rows before scale and shift, and what each was multiplied by, `[rows]`.
    #[fusion(meta = |input, _residual, _gamma, _beta, _epsilon, _dropout| (input.clone(), input.clone(), with_shape(input, [input.shape[0]])))]
    fn residual_norm_keeping(
        input: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        dropout: Option<Dropout>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of input, residual, scale and shift.
    #[fusion(meta = |gradient, gamma, _normal, _inverse, _dropout| (gradient.clone(), gradient.clone(), gamma.clone(), gamma.clone()))]
    fn residual_norm_backward(
        gradient: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        normal: FloatTensor<Self>,
        inverse: FloatTensor<Self>,
        dropout: Option<Dropout>,
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

fn in_format(like: &TensorSpec, format: DType) -> TensorSpec {
    let mut spec = like.clone();
    spec.dtype = format;
    spec
}

fn product_shape(input: &Shape, weight: &Shape) -> Shape {
    Shape::from([input[0], weight[1]])
}

impl Layers for Flex {
    fn attention_layer(joint: FlexTensor, _places: FlexTensor, shape: AttentionShape, dropout: Option<Dropout>) -> FlexTensor {
        attention::forward(&joint, &shape, dropout).0
    }

    fn embedding_layer(table: FlexTensor, ids: FlexTensor, _lists: FlexTensor, _rows: usize, _chunks: usize) -> FlexTensor {
        embedding::forward(table, ids)
    }

    fn sums_layer(input: FlexTensor, _owners: FlexTensor, lists: FlexTensor, height: usize, rows: usize, chunks: usize) -> FlexTensor {
        embedding::backward(&input, &lists, height, rows, chunks)
    }

    fn linear_layer(input: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        linear::forward(&input, &weight, &bias)
    }

    fn linear_mixed(input: FlexTensor, weight: FlexTensor, bias: FlexTensor, _half: DType, open: bool) -> FlexTensor {
        let [output, ..] = mixed::forward(input, weight, &bias, open);
        output
    }

    fn gelu_layer(input: FlexTensor) -> FlexTensor {
        gelu::forward(input)
    }

    fn gelu_mixed(input: FlexTensor, bias: FlexTensor, _half: DType) -> FlexTensor {
        mixed::rounded(gelu::forward(mixed::biased(input, &bias)), 1.0)
    }

    fn dropout_layer(input: FlexTensor, dropout: Dropout) -> FlexTensor {
        dropout::apply(input, dropout)
    }

    fn residual_norm(
        input: FlexTensor,
        residual: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        epsilon: f64,
        dropout: Option<Dropout>,
    ) -> FlexTensor {
        norm::forward(input, &residual, [&gamma, &beta], epsilon, dropout, false).0
    }
}

impl Passes for Flex {
    fn attention_keeping(
        joint: FlexTensor,
        _places: FlexTensor,
        shape: AttentionShape,
        dropout: Option<Dropout>,
    ) -> (FlexTensor, FlexTensor) {
        attention::forward(&joint, &shape, dropout)
    }

    fn attention_backward(
        gradient: FlexTensor,
        joint: FlexTensor,
        _output: FlexTensor,
        logarithms: FlexTensor,
        _places: FlexTensor,
        shape: AttentionShape,
        dropout: Option<Dropout>,
    ) -> FlexTensor {
        attention::backward(&gradient, &joint, &logarithms, &shape, dropout)
    }

    fn embedding_gradient(gradient: FlexTensor, lists: FlexTensor, height: usize, rows: usize, chunks: usize) -> FlexTensor {
        embedding::backward(&gradient, &lists, height, rows, chunks)
    }

    fn linear_mixed_keeping(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        _half: DType,
        open: bool,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [output, input, weight] = mixed::forward(input, weight, &bias, open);
        (output, input, weight)
    }

    fn linear_mixed_backward(gradient: FlexTensor, input: FlexTensor, weight: FlexTensor) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [input, weight, bias] = mixed::backward(&gradient, input, weight);
        (input, weight, bias)
    }

    fn gelu_gradient(gradient: FlexTensor, input: FlexTensor) -> FlexTensor {
        gelu::backward(gradient, &input)
    }

    fn gelu_mixed_gradient(gradient: FlexTensor, input: FlexTensor, bias: FlexTensor) -> FlexTensor {
        gelu::backward(gradient, &mixed::biased(input, &bias))
    }

    fn residual_norm_keeping(
        input: FlexTensor,
        residual: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        epsilon: f64,
        dropout: Option<Dropout>,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (output, kept) = norm::forward(input, &residual, [&gamma, &beta], epsilon, dropout, true);
        let [normal, inverse] = kept.expect("asked for");
        (output, normal, inverse)
    }

    fn residual_norm_backward(
        gradient: FlexTensor,
        gamma: FlexTensor,
        normal: FlexTensor,
        inverse: FlexTensor,
        dropout: Option<Dropout>,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let [input, residual, scale, shift] = norm::backward(gradient, &gamma, [&normal, &inverse], dropout);
        (input, residual, scale, shift)
    }
}
