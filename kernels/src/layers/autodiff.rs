//! The layers in a graph: what each keeps for its backward pass, and where the gradients go.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn_flex::FlexTensor;

use super::mask::Dropout;
use super::{AttentionShape, Layers, attention, dropout, gelu, norm};

#[derive(Debug)]
struct Attention;

impl Backward<Flex, 3> for Attention {
    type State = ([NodeId; 3], Vec<f32>, AttentionShape, Option<Dropout>);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (inputs, logarithms, shape, dropout) = ops.state;
        let gradient = gradients.consume::<Flex>(&ops.node);
        let inputs = inputs.map(|id| checkpointer.retrieve_node_output::<FlexTensor>(id));
        let results = attention::backward(&gradient, inputs.each_ref(), &logarithms, &shape, dropout);
        for (parent, result) in ops.parents.into_iter().zip(results) {
            if let Some(parent) = parent {
                gradients.register::<Flex>(parent.id, result);
            }
        }
    }
}

#[derive(Debug)]
struct Linear;

impl Backward<Flex, 3> for Linear {
    type State = [Option<NodeId>; 2];

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [input, weight] = ops.state.map(|id| id.map(|id| checkpointer.retrieve_node_output::<FlexTensor>(id)));
        let gradient = gradients.consume::<Flex>(&ops.node);
        let [input_node, weight_node, bias_node] = ops.parents;
        if let (Some(parent), Some(weight)) = (input_node, weight) {
            gradients.register::<Flex>(parent.id, Flex::linear_x_backward(weight, gradient.clone()));
        }
        if let (Some(parent), Some(input)) = (weight_node, input) {
            gradients.register::<Flex>(parent.id, Flex::linear_weight_backward(input, gradient.clone()));
        }
        if let Some(parent) = bias_node {
            gradients.register::<Flex>(parent.id, Flex::linear_bias_backward(gradient));
        }
    }
}

#[derive(Debug)]
struct Gelu;

impl Backward<Flex, 1> for Gelu {
    type State = NodeId;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let input = checkpointer.retrieve_node_output::<FlexTensor>(ops.state);
        let gradient = gradients.consume::<Flex>(&ops.node);
        if let [Some(parent)] = ops.parents {
            gradients.register::<Flex>(parent.id, gelu::backward(gradient, &input));
        }
    }
}

#[derive(Debug)]
struct Drop;

impl Backward<Flex, 1> for Drop {
    type State = Dropout;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        if let [Some(parent)] = ops.parents {
            gradients.register::<Flex>(parent.id, dropout::apply(gradient, ops.state));
        }
    }
}

#[derive(Debug)]
struct ResidualNorm;

impl Backward<Flex, 4> for ResidualNorm {
    type State = (NodeId, norm::Saved, Option<Dropout>);

    fn backward(self, ops: Ops<Self::State, 4>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (gamma, saved, dropout) = ops.state;
        let gamma = checkpointer.retrieve_node_output::<FlexTensor>(gamma);
        let gradient = gradients.consume::<Flex>(&ops.node);
        for (parent, result) in ops.parents.into_iter().zip(norm::backward(gradient, &gamma, &saved, dropout)) {
            if let Some(parent) = parent {
                gradients.register::<Flex>(parent.id, result);
            }
        }
    }
}

impl<C: CheckpointStrategy> Layers for Autodiff<Flex, C> {
    fn attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        shape: AttentionShape,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        let (output, logarithms) = attention::forward(query.primitive(), key.primitive(), value.primitive(), &shape, dropout);
        match Attention.prepare::<C>([query.node(), key.node(), value.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let inputs = [&query, &key, &value].map(|input| prepared.checkpoint(input));
                prepared.finish((inputs, logarithms, shape, dropout), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn linear_layer(input: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = Flex::linear_layer(input.primitive().clone(), weight.primitive().clone(), bias.primitive().clone());
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

    fn gelu_layer(input: FloatTensor<Self>) -> FloatTensor<Self> {
        match Gelu.prepare::<C>([input.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let kept = prepared.checkpoint(&input);
                prepared.finish(kept, gelu::forward(input.into_primitive()))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(gelu::forward(input.into_primitive())),
        }
    }

    fn dropout_layer(input: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        match Drop.prepare::<C>([input.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(dropout, dropout::apply(input.into_primitive(), dropout)),
            OpsKind::UnTracked(prepared) => prepared.finish(dropout::apply(input.into_primitive(), dropout)),
        }
    }

    fn residual_norm(
        input: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), residual.node(), gamma.node(), beta.node()];
        let parameters = [gamma.primitive(), beta.primitive()];
        match ResidualNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let kept = prepared.checkpoint(&gamma);
                let (output, saved) = norm::forward(input.into_primitive(), residual.primitive(), parameters, epsilon, dropout, true);
                prepared.finish((kept, saved.expect("asked for"), dropout), output)
            }
            OpsKind::UnTracked(prepared) => {
                let (output, _) = norm::forward(input.into_primitive(), residual.primitive(), parameters, epsilon, dropout, false);
                prepared.finish(output)
            }
        }
    }
}
