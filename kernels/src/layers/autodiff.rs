//! The layers in a graph, on any backend: what each keeps for its backward pass, and where the gradients go.

use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{BoolTensor, FloatTensor, IntTensor};
use burn::tensor::DType;

use super::attention::Attending;
use super::embedding::{Extent, Factors};
use super::extension::{Layers, Passes};
use super::gate::Gate;
use super::heads::Heads;
use super::mask::Dropout;
use super::mixed::Leaves;
use super::norm::Norm;
use super::rotary::Turning;
use super::softmax::Scaled;

#[derive(Debug)]
struct Attention;

/// What attention keeps beside its input: output, logarithms, places, and the bias by distance where there is one.
type Mixed<B> = ([FloatTensor<B>; 2], IntTensor<B>, Option<FloatTensor<B>>);

impl<B: Passes> Backward<B, 2> for Attention {
    type State = (NodeId, Mixed<B>, Attending);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (input, ([output, logarithms], places, relative), attending) = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        let joint = checkpointer.retrieve_node_output::<FloatTensor<B>>(input);
        let [joint_node, relative_node] = ops.parents;
        // What takes the place of a bias may be a leaf's copy, and tracked as that is.
        let relative_node = relative_node.filter(|_| attending.relative);
        let relative = relative.unwrap_or_else(|| joint.clone());
        let (to_joint, to_relative) = B::attention_backward(gradient, joint, relative, output, logarithms, places, attending);
        for (parent, result) in [(joint_node, to_joint), (relative_node, to_relative)] {
            if let Some(parent) = parent {
                gradients.register::<B>(parent.id, result);
            }
        }
    }
}

#[derive(Debug)]
struct Rotary;

impl<B: Layers> Backward<B, 1> for Rotary {
    /// The angles, the positions.
    type State = (FloatTensor<B>, IntTensor<B>, Turning);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let (angles, positions, turning) = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            let back = Turning { back: !turning.back, ..turning };
            gradients.register::<B>(parent.id, B::rotary_layer(gradient, angles, positions, back));
        }
    }
}

#[derive(Debug)]
struct Embedding;

impl<B: Passes> Backward<B, 1> for Embedding {
    type State = (IntTensor<B>, Extent);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let (lists, extent) = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            gradients.register::<B>(parent.id, B::list_sums(gradient.clone(), gradient, lists, extent, Factors::None));
        }
    }
}

#[derive(Debug)]
struct Sums;

impl<B: Passes> Backward<B, 1> for Sums {
    /// Factors, and the transposed lists.
    type State = (FloatTensor<B>, IntTensor<B>, Extent, Factors);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let (factors, lists, extent, which) = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            gradients.register::<B>(parent.id, B::list_sums(gradient, factors, lists, extent, which.transposed()));
        }
    }
}

#[derive(Debug)]
struct Linear;

impl<B: Passes> Backward<B, 3> for Linear {
    type State = [Option<NodeId>; 2];

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [input, weight] = ops.state.map(|id| id.map(|id| checkpointer.retrieve_node_output::<FloatTensor<B>>(id)));
        let gradient = gradients.consume::<B>(&ops.node);
        let [input_node, weight_node, bias_node] = ops.parents;
        if let (Some(parent), Some(weight)) = (input_node, weight) {
            gradients.register::<B>(parent.id, B::linear_input_backward(weight, gradient.clone()));
        }
        if let (Some(parent), Some(input)) = (weight_node, input) {
            gradients.register::<B>(parent.id, B::linear_weight_backward(input, gradient.clone()));
        }
        if let Some(parent) = bias_node {
            gradients.register::<B>(parent.id, B::linear_bias_backward(gradient));
        }
    }
}

#[derive(Debug)]
struct MixedLinear;

impl<B: Passes> Backward<B, 3> for MixedLinear {
    /// The rounded operands.
    type State = [FloatTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let [input, weight] = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        let (input, weight, bias) = B::linear_mixed_backward(gradient, input, weight);
        for (parent, result) in ops.parents.into_iter().zip([input, weight, bias]) {
            if let Some(parent) = parent {
                gradients.register::<B>(parent.id, result);
            }
        }
    }
}

#[derive(Debug)]
struct SpreadHeads;

impl<B: Passes> Backward<B, 3> for SpreadHeads {
    /// Projection and scales where heads have norms, for nothing else reads them; then angles and positions.
    type State = (Option<[NodeId; 3]>, FloatTensor<B>, IntTensor<B>, Heads);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (nodes, angles, positions, heads) = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        let kept = nodes.map(|nodes| nodes.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node)));
        let [projection, query, key] = kept.unwrap_or_else(|| [(); 3].map(|()| gradient.clone()));
        let (projection, query, key) = B::heads_backward(gradient, projection, query, key, angles, positions, heads);
        for (parent, result) in ops.parents.into_iter().zip([projection, query, key]) {
            if let Some(parent) = parent {
                gradients.register::<B>(parent.id, result);
            }
        }
    }
}

#[derive(Debug)]
struct Gelu;

impl<B: Passes> Backward<B, 1> for Gelu {
    type State = NodeId;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let input = checkpointer.retrieve_node_output::<FloatTensor<B>>(ops.state);
        let gradient = gradients.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            gradients.register::<B>(parent.id, B::gelu_gradient(gradient, input));
        }
    }
}

#[derive(Debug)]
struct Gated;

impl<B: Passes> Backward<B, 1> for Gated {
    type State = (NodeId, Gate);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (input, gate) = ops.state;
        let input = checkpointer.retrieve_node_output::<FloatTensor<B>>(input);
        let gradient = gradients.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            gradients.register::<B>(parent.id, B::gated_gradient(gradient, input, gate));
        }
    }
}

#[derive(Debug)]
struct LogSumExp;

impl<B: Passes> Backward<B, 1> for LogSumExp {
    /// The input, and the output.
    type State = (NodeId, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (input, logarithms) = ops.state;
        let input = checkpointer.retrieve_node_output::<FloatTensor<B>>(input);
        let gradient = gradients.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            gradients.register::<B>(parent.id, B::log_sum_exp_gradient(gradient, input, logarithms));
        }
    }
}

#[derive(Debug)]
struct CrossEntropy;

impl<B: Passes> Backward<B, 1> for CrossEntropy {
    /// The input, mask, targets, and the logarithms.
    type State = (NodeId, BoolTensor<B>, IntTensor<B>, FloatTensor<B>, Scaled);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (input, mask, targets, logarithms, scaled) = ops.state;
        let input = checkpointer.retrieve_node_output::<FloatTensor<B>>(input);
        let gradient = gradients.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            gradients.register::<B>(parent.id, B::cross_entropy_gradient(gradient, input, mask, targets, logarithms, scaled));
        }
    }
}

#[derive(Debug)]
struct Normalize;

impl<B: Passes> Backward<B, 1> for Normalize {
    /// The output, and what its rows were divided by.
    type State = [FloatTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let [output, norms] = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            gradients.register::<B>(parent.id, B::normalize_gradient(gradient, output, norms));
        }
    }
}

#[derive(Debug)]
struct FeedForward;

impl<B: Passes> Backward<B, 5> for FeedForward {
    /// Input, inner product and hidden numbers, inner and outer weights, all rounded, and the inner bias.
    type State = ([FloatTensor<B>; 5], FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 5>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let ([input, product, hidden, inner, outer], bias) = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        let (input, inner, inner_bias, outer, outer_bias) = B::feed_forward_backward(gradient, input, product, hidden, inner, outer, bias);
        for (parent, result) in ops.parents.into_iter().zip([input, inner, inner_bias, outer, outer_bias]) {
            if let Some(parent) = parent {
                gradients.register::<B>(parent.id, result);
            }
        }
    }
}

#[derive(Debug)]
struct Drop;

impl<B: Layers> Backward<B, 1> for Drop {
    type State = Dropout;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            gradients.register::<B>(parent.id, B::dropout_layer(gradient, ops.state));
        }
    }
}

#[derive(Debug)]
struct ResidualNorm;

impl<B: Passes> Backward<B, 4> for ResidualNorm {
    type State = (NodeId, FloatTensor<B>, Norm);

    fn backward(self, ops: Ops<Self::State, 4>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (gamma, kept, norm) = ops.state;
        let gamma = checkpointer.retrieve_node_output::<FloatTensor<B>>(gamma);
        let gradient = gradients.consume::<B>(&ops.node);
        let (input, residual, scale, shift) = B::residual_norm_backward(gradient, gamma, kept, norm);
        for (parent, result) in ops.parents.into_iter().zip([input, residual, scale, shift]) {
            if let Some(parent) = parent {
                gradients.register::<B>(parent.id, result);
            }
        }
    }
}

impl<B: Layers + Passes, C: CheckpointStrategy> Layers for Autodiff<B, C> {
    fn attention_layer(
        joint: FloatTensor<Self>,
        relative: FloatTensor<Self>,
        places: IntTensor<Self>,
        attending: Attending,
    ) -> FloatTensor<Self> {
        let nodes = [joint.node(), relative.node()];
        let relative = relative.into_primitive();
        match Attention.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let node = prepared.checkpoint(&joint);
                let (output, logarithms) =
                    B::attention_keeping(joint.into_primitive(), relative.clone(), places.clone(), attending.clone());
                let relative = attending.relative.then_some(relative);
                prepared.finish((node, ([output.clone(), logarithms], places, relative), attending), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::attention_layer(joint.into_primitive(), relative, places, attending)),
        }
    }

    fn rotary_layer(
        joint: FloatTensor<Self>,
        angles: FloatTensor<Self>,
        positions: IntTensor<Self>,
        turning: Turning,
    ) -> FloatTensor<Self> {
        let (node, angles) = (joint.node(), angles.into_primitive());
        match Rotary.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = B::rotary_layer(joint.into_primitive(), angles.clone(), positions.clone(), turning);
                prepared.finish((angles, positions, turning), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::rotary_layer(joint.into_primitive(), angles, positions, turning)),
        }
    }

    fn heads_layer(
        projection: FloatTensor<Self>,
        query_scale: FloatTensor<Self>,
        key_scale: FloatTensor<Self>,
        angles: FloatTensor<Self>,
        positions: IntTensor<Self>,
        heads: Heads,
    ) -> FloatTensor<Self> {
        let nodes = [projection.node(), query_scale.node(), key_scale.node()];
        let angles = angles.into_primitive();
        match SpreadHeads.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let kept = heads.normed.then(|| [&projection, &query_scale, &key_scale].map(|tensor| prepared.checkpoint(tensor)));
                let [projection, query, key] = [projection, query_scale, key_scale].map(|tensor| tensor.into_primitive());
                let output = B::heads_layer(projection, query, key, angles.clone(), positions.clone(), heads);
                prepared.finish((kept, angles, positions, heads), output)
            }
            OpsKind::UnTracked(prepared) => {
                let [projection, query, key] = [projection, query_scale, key_scale].map(|tensor| tensor.into_primitive());
                prepared.finish(B::heads_layer(projection, query, key, angles, positions, heads))
            }
        }
    }

    fn embedding_layer(table: FloatTensor<Self>, ids: IntTensor<Self>, lists: IntTensor<Self>, extent: Extent) -> FloatTensor<Self> {
        let node = table.node();
        let output = B::embedding_layer(table.into_primitive(), ids, lists.clone(), extent);
        match Embedding.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((lists, extent), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn list_layer(
        input: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        lists: IntTensor<Self>,
        transposed: IntTensor<Self>,
        extents: [Extent; 2],
        which: Factors,
    ) -> FloatTensor<Self> {
        let (node, factors) = (input.node(), factors.into_primitive());
        let output = B::list_layer(input.into_primitive(), factors.clone(), lists, transposed.clone(), extents, which);
        match Sums.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((factors, transposed, extents[1], which), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn linear_layer(input: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = B::linear_layer(input.primitive().clone(), weight.primitive().clone(), bias.primitive().clone());
        match Linear.prepare::<C>([input.node(), weight.node(), bias.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                // Each is needed for the other's gradient only.
                let kept_input = weight.is_tracked().then(|| prepared.checkpoint(&input));
                let kept_weight = input.is_tracked().then(|| prepared.checkpoint(&weight));
                prepared.finish([kept_input, kept_weight], output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn linear_mixed(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        half: DType,
        leaves: Leaves,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), weight.node(), bias.node()];
        let (input, weight, bias) = (input.into_primitive(), weight.into_primitive(), bias.into_primitive());
        match MixedLinear.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (output, input, weight) = B::linear_mixed_keeping(input, weight, bias, half, leaves);
                prepared.finish([input, weight], output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::linear_mixed(input, weight, bias, half, leaves)),
        }
    }

    fn feed_forward(
        input: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        inner_bias: FloatTensor<Self>,
        outer: FloatTensor<Self>,
        outer_bias: FloatTensor<Self>,
        half: DType,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), inner.node(), inner_bias.node(), outer.node(), outer_bias.node()];
        let [input, inner, bias, outer] = [input, inner, inner_bias, outer].map(|tensor| tensor.into_primitive());
        match FeedForward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (output, input, product, hidden, inner, outer) = B::feed_forward_keeping(input, inner, bias.clone(), outer, half);
                prepared.finish(([input, product, hidden, inner, outer], bias), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::feed_forward(input, inner, bias, outer, outer_bias.into_primitive(), half)),
        }
    }

    fn gelu_layer(input: FloatTensor<Self>) -> FloatTensor<Self> {
        match Gelu.prepare::<C>([input.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let kept = prepared.checkpoint(&input);
                prepared.finish(kept, B::gelu_layer(input.into_primitive()))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::gelu_layer(input.into_primitive())),
        }
    }

    fn gated_layer(input: FloatTensor<Self>, gate: Gate) -> FloatTensor<Self> {
        match Gated.prepare::<C>([input.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let kept = prepared.checkpoint(&input);
                prepared.finish((kept, gate), B::gated_layer(input.into_primitive(), gate))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::gated_layer(input.into_primitive(), gate)),
        }
    }

    fn log_sum_exp_layer(input: FloatTensor<Self>) -> FloatTensor<Self> {
        match LogSumExp.prepare::<C>([input.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let kept = prepared.checkpoint(&input);
                let logarithms = B::log_sum_exp_layer(input.into_primitive());
                prepared.finish((kept, logarithms.clone()), logarithms)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::log_sum_exp_layer(input.into_primitive())),
        }
    }

    fn cross_entropy_layer(
        input: FloatTensor<Self>,
        mask: BoolTensor<Self>,
        targets: IntTensor<Self>,
        scaled: Scaled,
    ) -> FloatTensor<Self> {
        match CrossEntropy.prepare::<C>([input.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let kept = prepared.checkpoint(&input);
                let (losses, logarithms) = B::cross_entropy_keeping(input.into_primitive(), mask.clone(), targets.clone(), scaled);
                prepared.finish((kept, mask, targets, logarithms, scaled), losses)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::cross_entropy_layer(input.into_primitive(), mask, targets, scaled)),
        }
    }

    fn normalize_layer(input: FloatTensor<Self>) -> FloatTensor<Self> {
        match Normalize.prepare::<C>([input.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (output, norms) = B::normalize_keeping(input.into_primitive());
                prepared.finish([output.clone(), norms], output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::normalize_layer(input.into_primitive())),
        }
    }

    fn dropout_layer(input: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        match Drop.prepare::<C>([input.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(dropout, B::dropout_layer(input.into_primitive(), dropout)),
            OpsKind::UnTracked(prepared) => prepared.finish(B::dropout_layer(input.into_primitive(), dropout)),
        }
    }

    fn residual_norm(
        input: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        norm: Norm,
    ) -> FloatTensor<Self> {
        // The bias has its gradient from the function that left it.
        let nodes = [input.node(), residual.node(), gamma.node(), beta.node()];
        let others = [&bias, &residual, &gamma, &beta].map(|other| other.primitive().clone());
        match ResidualNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let gamma_node = prepared.checkpoint(&gamma);
                let [bias, residual, gamma, beta] = others;
                let (output, kept) = B::residual_norm_keeping(input.into_primitive(), bias, residual, gamma, beta, norm);
                prepared.finish((gamma_node, kept, norm), output)
            }
            OpsKind::UnTracked(prepared) => {
                let [bias, residual, gamma, beta] = others;
                prepared.finish(B::residual_norm(input.into_primitive(), bias, residual, gamma, beta, norm))
            }
        }
    }
}
