//! Attention in float32 against the float64 reference and against the composition of tensor operations, with and without a bias by distance.

use burn::backend::Dispatch;
use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use proptest::prelude::*;

use super::{close, differentiate, doubles, random, same_bits_without_a_graph};
use crate::layers::attention::Attending;
use crate::layers::extension::Layers;
use crate::layers::mask::Dropout;
use crate::layers::reference::{self, keep};
use crate::layers::{AttentionShape, Precision, Sequences, Window};

pub(super) fn fused_attention(
    inputs: [Tensor<2>; 3],
    relative: Option<Tensor<2>>,
    shape: &AttentionShape,
    dropout: Option<Dropout>,
) -> Tensor<2> {
    joint_attention(Tensor::cat(inputs.into(), 1), relative, shape, dropout)
}

pub(super) fn joint_attention(
    joint: Tensor<2>,
    relative: Option<Tensor<2>>,
    shape: &AttentionShape,
    dropout: Option<Dropout>,
) -> Tensor<2> {
    let places = shape.sequences.on_device(&joint.device()).into_dispatch();
    let attending = Attending { shape: shape.clone(), dropout, relative: relative.is_some() };
    let relative = relative.unwrap_or_else(|| joint.clone().detach()).into_dispatch();
    Tensor::from_dispatch(<Dispatch as Layers>::attention_layer(joint.into_dispatch(), relative, places, attending))
}

/// Of padded sequences.
fn composed_attention([query, key, value]: [Tensor<2>; 3], relative: Tensor<2>, shape: &AttentionShape) -> Tensor<2> {
    let [tokens, hidden] = query.dims();
    let head = hidden / shape.heads;
    let (rows, width) = (shape.sequences.rows(), shape.sequences.width());
    let split = |flat: Tensor<2>| flat.reshape([rows, width, shape.heads, head]).swap_dims(1, 2);
    let lengths = shape.sequences.lengths().iter();
    let bias: Vec<f32> = lengths.flat_map(|&length| (0..width).map(move |at| if at < length { 0.0 } else { -1e9 })).collect();
    let bias = Tensor::<4>::from_data(TensorData::new(bias, [rows, 1, 1, width]), &query.device());
    let distances: Vec<i32> = (0..width * width).map(|pair| (width - 1 + pair % width - pair / width) as i32).collect();
    let distances = Tensor::<1, Int>::from_data(TensorData::new(distances, [width * width]), (&query.device(), DType::I32));
    let relative = relative.select(1, distances).reshape([1, shape.heads, width, width]);
    let scores = split(query).matmul(split(key).swap_dims(2, 3)) / (head as f64).sqrt() + bias + relative;
    softmax(scores, 3).matmul(split(value)).swap_dims(1, 2).reshape([tokens, hidden])
}

pub(super) fn padded(heads: usize, width: usize, lengths: Vec<usize>) -> AttentionShape {
    AttentionShape { sequences: Sequences::padded(lengths, width).into(), heads, window: None, precision: Precision::F32 }
}

pub(super) fn packed(heads: usize, lengths: Vec<usize>) -> AttentionShape {
    AttentionShape { sequences: Sequences::packed(lengths).into(), heads, window: None, precision: Precision::F32 }
}

/// The shape where a query sees so much.
pub(super) fn within(window: Window, shape: AttentionShape) -> AttentionShape {
    AttentionShape { window: Some(window), ..shape }
}

/// Lengths of a batch: all full, one token each, or all different.
pub(super) fn lengths(pattern: usize, rows: usize, width: usize) -> Vec<usize> {
    (0..rows).map(|row| [width, 1, width - (row * width / rows.max(1)).min(width - 1)][pattern % 3]).collect()
}

/// The shape of a bias by distance.
pub(super) fn distances(shape: &AttentionShape) -> [usize; 2] {
    [shape.heads, (2 * shape.sequences.width()).saturating_sub(1)]
}

/// One shape, values and gradients, against the reference.
fn check_attention(shape: &AttentionShape, size: usize, dropout: Option<Dropout>, relative: bool, device: &Device) {
    let hidden = shape.heads * size;
    let dims = [shape.sequences.tokens(), hidden];
    let by_distance = distances(shape);
    let inputs = [1, 2, 3, 4].map(|seed| random(dims[0] * hidden, seed));
    let bias = random(by_distance[0] * by_distance[1], 5);
    let [query, key, value, outer] = &inputs;
    let leaves = [(query.as_slice(), dims), (key, dims), (value, dims)];
    let (got, gradients) = if relative {
        let leaves = [leaves[0], leaves[1], leaves[2], (&bias, by_distance)];
        let (got, gradients) =
            differentiate(device, leaves, outer, |[q, k, v, bias]| fused_attention([q, k, v], Some(bias), shape, dropout));
        (got, gradients.to_vec())
    } else {
        let (got, gradients) = differentiate(device, leaves, outer, |inputs| fused_attention(inputs, None, shape, dropout));
        (got, gradients.to_vec())
    };
    let [query, key, value, outer] = inputs.each_ref().map(|numbers| doubles(numbers));
    let bias = doubles(&bias);
    let masked = |row: usize, column: usize| dropout.map_or(1.0, |dropout| f64::from(dropout.row(row).factor(column as u32)));
    let attention = reference::Attention { shape, hidden, mask: &masked, relative: relative.then_some(&bias) };
    let what = format!("{shape:?} x {size}, dropout {}, bias {relative}", dropout.is_some());
    close(&what, &got, &reference::attention([&query, &key, &value], &attention), 5e-6);
    let expected = reference::attention_gradient([&query, &key, &value], &outer, &attention);
    for ((name, got), expected) in ["query", "key", "value", "bias"].iter().zip(gradients).zip(expected) {
        close(&format!("gradient of {name}, {what}"), &got, &expected, 2e-5);
    }
}

#[test]
fn attention_agrees_with_the_reference_over_the_catalogue() {
    let device = Device::flex().autodiff();
    let mut pattern = 0;
    for width in [1, 2, 31, 32, 33, 63, 64, 65] {
        for heads in [1, 2, 12] {
            for size in [1, 32, 64] {
                for rows in [1, 3] {
                    // Which lengths, whether with dropout and whether with a bias rotates over the cases: 3 and 4 are prime to each other.
                    pattern += 1;
                    let dropout = (pattern % 2 == 0).then(|| Dropout::new(0.3, pattern as u64));
                    let (lengths, relative) = (lengths(pattern, rows, width), pattern % 4 < 2);
                    check_attention(&packed(heads, lengths.clone()), size, dropout, relative, &device);
                    check_attention(&padded(heads, width, lengths), size, dropout, relative, &device);
                }
            }
        }
    }
    for pattern in 0..3 {
        let shapes = [packed(2, lengths(pattern, 2, 512)), padded(2, 512, lengths(pattern, 2, 512))];
        check_attention(&shapes[pattern % 2], 32, (pattern == 2).then(|| Dropout::new(0.1, 9)), pattern > 0, &device);
    }
}

#[test]
fn attention_within_a_window_agrees_with_the_reference() {
    let device = Device::flex().autodiff();
    let mut pattern = 0;
    for width in [2, 17, 33, 65, 130] {
        let around = [0, 1, 15, 16, 31, 64, 200].map(Window::around);
        for window in around.into_iter().chain([Window::CAUSAL, Window::of(16, 1), Window::of(0, 40)]) {
            pattern += 1;
            let dropout = (pattern % 2 == 0).then(|| Dropout::new(0.3, pattern as u64));
            let lengths = lengths(pattern, 3, width);
            check_attention(&within(window, packed(2, lengths.clone())), 8, dropout, false, &device);
            check_attention(&within(window, padded(2, width, lengths)), 8, dropout, false, &device);
        }
    }
    for window in [Window::around(64), Window::CAUSAL] {
        check_attention(&within(window, packed(3, vec![500, 0, 70, 1])), 32, None, false, &device);
    }
}

#[test]
fn a_window_over_all_tokens_changes_no_bit() {
    let run = |window: Window| {
        let joint = Tensor::<2>::from_data(TensorData::new(random(40 * 24, 1), [40, 24]), &Device::flex());
        let shape = within(window, packed(2, vec![33, 7]));
        let places = shape.sequences.on_device(&joint.device());
        crate::layers::attention(joint, None, places, shape, 0.0).into_data()
    };
    let all = run(Window::around(1000));
    assert_eq!(run(Window::around(32)), all);
    assert_ne!(run(Window::around(31)), all);
    assert_eq!(run(Window::of(32, 1000)), all);
    assert_ne!(run(Window::CAUSAL), all);
}

#[test]
fn attention_agrees_with_the_composition_of_tensor_operations() {
    for device in [Device::flex().autodiff(), Device::flex().autodiff().gradient_checkpointing()] {
        for (rows, width, heads, size) in [(3, 17, 2, 8), (2, 64, 12, 32), (1, 1, 1, 1)] {
            let shape = padded(heads, width, lengths(2, rows, width));
            let (dims, bias_dims) = ([rows * width, heads * size], distances(&shape));
            let [query, key, value] = [1, 2, 3].map(|seed| random(dims[0] * dims[1], seed));
            let bias = random(bias_dims[0] * bias_dims[1], 5);
            let inputs = [(query.as_slice(), dims), (&key, dims), (&value, dims), (&bias, bias_dims)];
            let outer = random(dims[0] * dims[1], 4);
            let (value, gradients) =
                differentiate(&device, inputs, &outer, |[q, k, v, bias]| fused_attention([q, k, v], Some(bias), &shape, None));
            let (plain, plain_gradients) =
                differentiate(&device, inputs, &outer, |[q, k, v, bias]| composed_attention([q, k, v], bias, &shape));
            close("value", &value, &doubles(&plain), 1e-5);
            for (got, expected) in gradients.iter().zip(plain_gradients) {
                close("gradient", got, &doubles(&expected), 3e-5);
            }
        }
    }
}

#[test]
fn attention_of_views_and_of_sequences_without_tokens() {
    views_and_empty_sequences(&Device::flex(), Precision::F32);
}

pub(super) fn views_and_empty_sequences(device: &Device, precision: Precision) {
    let shape = AttentionShape { precision, ..padded(1, 3, vec![0, 2]) };
    let wide = Tensor::<2>::from_data(TensorData::new(random(6 * 16, 1), [6, 16]), device);
    let view = wide.slice([0..6, 3..15]);
    let copy = Tensor::<2>::from_data(view.clone().into_data(), device);
    let [got, expected] = [view, copy].map(|joint| joint_attention(joint, None, &shape, None).into_data());
    assert_eq!(got, expected);
    let got: Vec<f32> = got.iter::<f32>().collect();
    assert!(got[..12].iter().all(|&x| x == 0.0) && got[12..].iter().all(|&x| x != 0.0));
    // Not-a-number in a token must be seen, in padding it must not.
    let poisoned = |token: usize| {
        let mut numbers = random(24, 1);
        numbers[token * 4] = f32::NAN;
        let input = Tensor::<2>::from_data(TensorData::new(numbers, [6, 4]), device);
        let query = Tensor::<2>::from_data(TensorData::new(random(24, 2), [6, 4]), device);
        let output = fused_attention([query, input.clone(), input], None, &shape, None).into_data();
        output.iter::<f32>().any(f32::is_nan)
    };
    assert!(poisoned(3) && poisoned(4) && !poisoned(5) && !poisoned(0));
}

#[test]
fn a_bias_by_distance_that_is_a_view_or_alone_has_its_gradient() {
    biases_of_their_own(&Device::flex());
}

fn biases_of_their_own(device: &Device) {
    let (shape, autodiff) = (packed(2, vec![5, 3]), device.clone().autodiff());
    let [joint, outer, bias] = [(24, 1), (8, 2), (2, 3)].map(|(columns, seed)| random(if columns == 2 { 18 } else { 8 * columns }, seed));
    let tensor = |numbers: &[f32], dims: [usize; 2]| Tensor::<2>::from_data(TensorData::new(numbers.to_vec(), dims), &autodiff);
    let run = |joint: &Tensor<2>, bias: &Tensor<2>| {
        let output = joint_attention(joint.clone(), Some(bias.clone().transpose()), &shape, None);
        (output * tensor(&outer, [8, 8])).sum().backward()
    };
    let numbers = |tensor: Tensor<2>| tensor.into_data().iter::<f32>().collect::<Vec<_>>();
    let (joint_leaf, bias_leaf) = (tensor(&joint, [8, 24]).require_grad(), tensor(&bias, [9, 2]).require_grad());
    let both = run(&joint_leaf, &bias_leaf);
    let (joint_alone, bias_alone) = (run(&joint_leaf, &tensor(&bias, [9, 2])), run(&tensor(&joint, [8, 24]), &bias_leaf));
    let [query, key, value] = [0, 8, 16].map(|from| joint.chunks(24).flat_map(|row| doubles(&row[from..from + 8])).collect::<Vec<f64>>());
    let turned: Vec<f64> = (0..18).map(|at| f64::from(bias[at % 9 * 2 + at / 9])).collect();
    let attention = reference::Attention { shape: &shape, hidden: 8, mask: &keep, relative: Some(&turned) };
    let [.., expected] = reference::attention_gradient([&query, &key, &value], &doubles(&outer), &attention);
    let got = numbers(bias_leaf.grad(&both).expect("tracked").transpose());
    close("gradient of a view", &got, &expected, 2e-5);
    assert_eq!(got, numbers(bias_leaf.grad(&bias_alone).expect("tracked").transpose()));
    assert_eq!(numbers(joint_leaf.grad(&both).expect("tracked")), numbers(joint_leaf.grad(&joint_alone).expect("tracked")));
}

#[test]
fn attention_of_scores_far_from_zero_on_the_cpu() {
    scores_far_from_zero(&Device::flex());
}

fn scores_far_from_zero(device: &Device) {
    // All scores near -300, then near 300, and 3 of 16 lanes in use: neither the padding of a vector nor an overflow may show.
    let shape = packed(1, vec![3]);
    for sign in [-1.0f32, 1.0] {
        let inputs = [(1, 25.0), (2, 25.0 * sign), (3, 0.0)]
            .map(|(seed, shift)| random(12, seed).iter().map(|x| x * 0.1 + shift * 0.5).collect::<Vec<_>>());
        let tensors = inputs.each_ref().map(|numbers| Tensor::<2>::from_data(TensorData::new(numbers.clone(), [3, 4]), device));
        let got: Vec<f32> = fused_attention(tensors, None, &shape, None).into_data().iter::<f32>().collect();
        let [query, key, value] = inputs.each_ref().map(|numbers| doubles(numbers));
        let attention = reference::Attention { shape: &shape, hidden: 4, mask: &keep, relative: None };
        // Scores of 300 in f32 are exact to 3e-5.
        close("output", &got, &reference::attention([&query, &key, &value], &attention), 1e-4);
    }
}

#[test]
fn attention_agrees_with_the_reference_on_a_software_gpu() {
    let Some(device) = crate::test_gpu() else { return };
    let autodiff = device.clone().autodiff();
    let mut pattern = 0;
    // A width of heads is three kernels, with dropout and without.
    for (size, heads) in [(32, &[1, 12][..]), (64, &[2]), (4, &[1])] {
        for width in [1, 2, 31, 32, 33, 64, 65] {
            for &heads in heads {
                pattern += 1;
                let rows = 1 + 2 * (pattern % 2);
                let dropout = (size == 64 || pattern % 4 < 2 && size == 32).then(|| Dropout::new(0.3, pattern as u64));
                let (lengths, relative) = (lengths(pattern, rows, width), size == 64);
                check_attention(&packed(heads, lengths.clone()), size, dropout, relative, &autodiff);
                check_attention(&padded(heads, width, lengths), size, dropout, relative, &autodiff);
            }
        }
    }
    check_attention(&padded(2, 200, vec![200, 150]), 32, None, false, &autodiff);
    check_attention(&packed(2, vec![7, 200, 0, 150, 1]), 32, None, false, &autodiff);
    check_attention(&padded(2, 200, vec![200, 0, 150]), 64, Some(Dropout::new(0.3, 1)), true, &autodiff);
    check_attention(&packed(2, vec![7, 200, 0, 150, 1]), 4, None, true, &autodiff);
    // Windows that end within a block of keys and between two, and queries that see no token.
    for (window, dropout) in [
        (Window::around(20), None),
        (Window::around(64), Some(Dropout::new(0.3, 2))),
        (Window::CAUSAL, None),
        (Window::of(40, 3), Some(Dropout::new(0.3, 3))),
    ] {
        check_attention(&within(window, packed(2, vec![7, 200, 0, 150, 1])), 32, dropout, false, &autodiff);
        check_attention(&within(window, padded(2, 200, vec![200, 0, 50])), 32, dropout, false, &autodiff);
    }
    // More sequences than units that add up a distance.
    check_attention(&packed(1, (0..70).map(|row| row % 5).collect()), 4, None, true, &autodiff);
    biases_of_their_own(&device);
    views_and_empty_sequences(&device, Precision::F32);
    scores_far_from_zero(&device);
    same_bits_without_a_graph(&device, Precision::F32);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn attention_of_any_shape(rows in 1usize..5, width in 1usize..90, heads in 1usize..5, size in 1usize..40, seed in 0u64..1000, drop in any::<bool>(), relative in any::<bool>(), window in prop::option::of((0usize..100, 0usize..100))) {
        let lengths: Vec<usize> = (0..rows).map(|row| (seed as usize * 31 + row * 17) % (width + 1)).collect();
        let shape = if seed % 3 == 0 { padded(heads, width, lengths) } else { packed(heads, lengths) };
        let window = window.map(|(before, behind)| Window::of(before, behind));
        let shape = AttentionShape { window, ..shape };
        let relative = relative && shape.sequences.width() > 0 && window.is_none();
        check_attention(&shape, size, drop.then(|| Dropout::new(0.2, seed)), relative, &Device::flex().autodiff());
    }
}
