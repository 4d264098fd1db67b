//! Mixed precision: linear layers, GELU between them and attention, against the float64 reference with rounded operands.

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Tensor, f16};

use super::attention::{distances, fused_attention, joint_attention, lengths, packed, padded, views_and_empty_sequences, within};
use super::{close, differentiate, doubles, random, same_bits_without_a_graph, vector};
use crate::layers::extension::Layers;
use crate::layers::mask::Dropout;
use crate::layers::mixed::Leaves;
use crate::layers::{self, AttentionShape, Precision, Window, reference};

/// Rounded to 16-bit floats.
fn halves(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&number| f16::from_f32(number).to_f64()).collect()
}

/// The linear layer in mixed precision, against the reference with rounded operands; without 16-bit floats (`half`), with all their digits.
fn check_mixed(half: DType, device: &Device) {
    for (rows, inner, columns) in [(1, 1, 1), (5, 3, 7), (33, 64, 20), (300, 192, 130)] {
        let leaves = if columns == 7 { Leaves::Open } else { Leaves::All };
        let [input, weight, bias] = [(rows * inner, 1), (inner * columns, 2), (columns, 3)].map(|(count, seed)| random(count, seed));
        // Gradients of a mean over many: all of them zero as 16-bit floats.
        let outer: Vec<f32> = random(rows * columns, 4).iter().map(|x| x * 1e-9).collect();
        let inputs = [(input.as_slice(), [rows, inner]), (&weight, [inner, columns]), (&bias, [1, columns])];
        let (got, gradients) = differentiate(device, inputs, &outer, |[x, weight, bias]| {
            let [x, weight, bias] = [x.into_dispatch(), weight.into_dispatch(), vector(bias).into_dispatch()];
            Tensor::from_dispatch(<Dispatch as Layers>::linear_mixed(x, weight, bias, half, leaves))
        });
        let round = |numbers: &[f32]| if half == DType::F16 { halves(numbers) } else { doubles(numbers) };
        let (input, weight) = (round(&input), round(&weight));
        let added = if leaves == Leaves::Open { vec![0.0; columns] } else { doubles(&bias) };
        close("mixed linear", &got, &reference::linear(&input, &weight, &added, inner), 2e-5);
        let by = f64::from(layers::mixed::scale(outer.iter().fold(0.0, |largest, x| x.abs().max(largest))));
        let scaled: Vec<f32> = outer.iter().map(|&x| (f64::from(x) * by) as f32).collect();
        let [to_input, to_weight, _] = reference::linear_gradient(&input, &weight, &round(&scaled), inner);
        let [.., to_bias] = reference::linear_gradient(&input, &weight, &doubles(&outer), inner);
        let unscaled = [to_input, to_weight].map(|gradient| gradient.iter().map(|x| x / by).collect::<Vec<_>>());
        let [to_input, to_weight] = unscaled;
        for ((name, got), expected) in ["input", "weight", "bias"].iter().zip(gradients).zip([to_input, to_weight, to_bias]) {
            let largest = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
            let error = got.iter().zip(&expected).map(|(got, expected)| (f64::from(*got) - expected).abs()).fold(0.0, f64::max);
            assert!(error <= 1e-5 * largest, "gradient of {name}, {rows} x {inner} x {columns}: off by {error} of {largest}");
        }
    }
}

/// What [`layers::linear_for_attention`] leaves, and its gradients, which come in f32 and here from a cast in 16 bits.
fn check_half(half: DType, device: &Device) {
    let (rows, inner, columns) = (33, 48, 20);
    let share = if half == DType::F16 { 1.0 / 2048.0 } else { 1e-6 };
    let numbers = [(rows * inner, 1), (inner * columns, 2), (columns, 3), (rows * columns, 4)].map(|(count, seed)| random(count, seed));
    let [input, weight, bias, outer] = numbers.map(|numbers| numbers.iter().map(|&x| f16::from_f32(x).to_f32()).collect::<Vec<_>>());
    let inputs = [(input.as_slice(), [rows, inner]), (&weight, [inner, columns]), (&bias, [1, columns])];
    let (got, gradients) = differentiate(device, inputs, &outer, |[x, weight, bias]| {
        let [x, weight, bias] = [x.into_dispatch(), weight.into_dispatch(), vector(bias).into_dispatch()];
        Tensor::<2>::from_dispatch(<Dispatch as Layers>::linear_mixed(x, weight, bias, half, Leaves::Half)).cast(DType::F32)
    });
    let [input, weight, bias, outer] = [&input, &weight, &bias, &outer].map(|numbers| doubles(numbers));
    let products = reference::linear(&input, &weight, &vec![0.0; columns], inner);
    for (at, (&got, product)) in got.iter().zip(products).enumerate() {
        let expected = product + bias[at % columns];
        let error = (f64::from(got) - expected).abs();
        assert!(error <= share * (product.abs() + expected.abs()) + 1e-5, "[{at}]: {got}, expected {expected}");
        // The CPU rounds too.
        assert!(half != DType::F16 || got == f16::from_f32(got).to_f32(), "{got} is no 16-bit float");
    }
    for (got, expected) in gradients.iter().zip(reference::linear_gradient(&input, &weight, &outer, inner)) {
        close("gradient", got, &expected, 2e-5);
    }
}

/// Two linear layers with GELU between them, values and gradients, against the reference. `by` is what all gradients are multiplied by, `steep` the outer weights.
fn check_feed_forward([rows, width, middle, columns]: [usize; 4], by: f32, steep: f32, half: DType, device: &Device) {
    let sizes = [[rows, width], [width, middle], [1, middle], [middle, columns], [1, columns]];
    let mut numbers: Vec<Vec<f32>> = sizes.iter().zip(1..).map(|(size, seed)| random(size[0] * size[1], seed)).collect();
    numbers[1].iter_mut().for_each(|x| *x /= (width as f32).sqrt());
    numbers[3].iter_mut().for_each(|x| *x *= steep);
    let inputs = std::array::from_fn::<_, 5, _>(|at| (numbers[at].as_slice(), sizes[at]));
    let outer = random(rows * columns, 9);
    let scaled: Vec<f32> = outer.iter().map(|x| x * by).collect();
    let (got, gradients) = differentiate(device, inputs, &scaled, |[x, inner, inner_bias, outer, outer_bias]| {
        let [x, inner, outer] = [x, inner, outer].map(Tensor::into_dispatch);
        let [inner_bias, outer_bias] = [inner_bias, outer_bias].map(|bias| vector(bias).into_dispatch());
        Tensor::from_dispatch(<Dispatch as Layers>::feed_forward(x, inner, inner_bias, outer, outer_bias, half))
    });
    let rounds = half == DType::F16;
    let round = |numbers: &[f32]| if rounds { halves(numbers) } else { doubles(numbers) };
    let share = if rounds { 1.1 / 2048.0 } else { 2e-6 };
    let [input, inner, outer_weight] = [0, 1, 3].map(|at| round(&numbers[at]));
    let bias = doubles(&numbers[2]);
    let reference = reference::FeedForward { operands: [&input, &inner, &bias, &outer_weight], width, share };
    let near = |name: &str, got: &[f32], (expected, off): (Vec<f64>, Vec<f64>), by: f64| {
        let largest = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        for (at, ((&got, expected), off)) in got.iter().zip(expected).zip(off).enumerate() {
            let error = (f64::from(got) / by - expected).abs();
            assert!(
                error <= off + 1e-5 * largest,
                "{name}[{at}] of {rows} x {width} x {middle} x {columns}: {got} / {by}, expected {expected}, off by at most {off}"
            );
        }
    };
    near("value", &got, reference.forward(), 1.0);
    let names = ["input", "inner weights", "inner bias", "outer weights", "outer bias"];
    for ((name, got), expected) in names.iter().zip(gradients).zip(reference.gradient(&doubles(&outer))) {
        near(&format!("gradient of {name}"), &got, expected, f64::from(by));
    }
}

/// Gradients of a mean over many, and such that 16 bits cannot hold, times weights that would lead beyond what they hold.
fn check_feed_forwards(half: DType, device: &Device) {
    for (sizes, by, steep) in [
        ([1, 1, 1, 1], 1.0, 1.0),
        ([5, 3, 7, 2], 1e-9, 1.0),
        ([33, 24, 48, 7], 1e9, 30.0),
        ([300, 40, 130, 36], 1e-7, 0.1),
        ([9, 8, 300, 260], 1.0, 100.0),
    ] {
        check_feed_forward(sizes, by, steep, half, device);
    }
}

#[test]
fn the_feed_forward_rounds_what_lies_between_its_products() {
    let device = Device::flex().autodiff();
    check_feed_forwards(DType::F16, &device);
    check_half(DType::F16, &device);
    for device in [device.clone(), device.gradient_checkpointing()] {
        calls_are_their_parts(Precision::F32, 1e-6, &device);
        calls_are_their_parts(Precision::Mixed, 5e-3, &device);
    }
}

/// Through the functions that models call, with biases, dropout and norm: the values and gradients of their parts, but for the rounding that parts do not do.
fn calls_are_their_parts(precision: Precision, tolerance: f64, device: &Device) {
    let (rows, width, middle) = (19, 12, 20);
    let sizes = [[rows, width], [rows, width], [width, middle], [1, middle], [middle, width], [1, width], [1, width], [1, width]];
    let numbers: Vec<Vec<f32>> = sizes.iter().zip(1..).map(|(size, seed)| random(size[0] * size[1], seed)).collect();
    let inputs = std::array::from_fn::<_, 8, _>(|at| (numbers[at].as_slice(), sizes[at]));
    let outer = random(rows * width, 9);
    let [whole, open, parts] = [0, 1, 2].map(|way| {
        layers::seed(device, 3);
        differentiate(device, inputs, &outer, |[x, residual, inner, inner_bias, outer, outer_bias, gamma, beta]| {
            let [inner_bias, outer_bias, gamma, beta] = [inner_bias, outer_bias, gamma, beta].map(vector);
            let middle = |x| layers::gelu(layers::linear(x, inner.clone(), inner_bias.clone(), precision));
            let fed: layers::Projection = match way {
                0 => layers::feed_forward(x, (inner, inner_bias), (outer, outer_bias), precision),
                1 => layers::linear_for_norm(middle(x), outer, outer_bias, precision),
                _ => layers::linear(middle(x), outer, outer_bias, precision).into(),
            };
            layers::residual_norm(fed, residual, gamma, beta, 1e-5, 0.2)
        })
    });
    for (name, way, tolerance) in [("whole", whole, tolerance), ("open", open, 1e-6)] {
        close(name, &way.0, &doubles(&parts.0), tolerance);
        for (got, expected) in way.1.iter().zip(&parts.1) {
            let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let [got, expected] = [got, expected].map(|numbers| numbers.iter().map(|x| x / largest).collect::<Vec<_>>());
            close(&format!("gradient, {name}"), &got, &doubles(&expected), 2.0 * tolerance);
        }
    }
}

#[test]
fn mixed_precision_is_the_reference_with_rounded_operands() {
    check_mixed(DType::F16, &Device::flex().autodiff());
}

#[test]
fn mixed_precision_on_a_software_gpu() {
    let Some(device) = crate::test_gpu() else { return };
    // Software Vulkan through WGSL has no 16-bit floats: there everything but the rounding is tested.
    let half = if Precision::Mixed.check(&device).is_ok() { DType::F16 } else { DType::F32 };
    let device = device.autodiff();
    check_mixed(half, &device);
    check_half(half, &device);
    // A product is compiled for each size and format where there are 16-bit floats, for minutes.
    if half == DType::F16 {
        check_feed_forward([33, 24, 48, 7], 1e9, 30.0, half, &device);
    } else {
        check_feed_forwards(half, &device);
    }
    let beyond = Tensor::<2>::from_data([[300.0f32, 1.0]], &device);
    let weight = Tensor::<2>::from_data([[400.0f32], [1.0]], &device);
    let precision = if half == DType::F16 { Precision::Mixed } else { Precision::F32 };
    let output = layers::linear(beyond, weight, Tensor::from_data([0.5f32], &device), precision).into_data();
    assert_eq!(output.iter::<f32>().collect::<Vec<_>>(), [120_001.5], "what stays in 32 bits is cut by nothing");
}

#[test]
fn what_16_bits_cannot_hold_stays_what_it_is_or_becomes_their_largest() {
    let device = Device::flex();
    let input = Tensor::<2>::from_data([[1e6f32, -1e6], [f32::NAN, 1.0], [3.0, 4.0]], &device);
    let weight = Tensor::<2>::from_data([[1.0f32], [0.5]], &device);
    let output = layers::linear(input, weight, Tensor::from_data([0.25f32], &device), Precision::Mixed).into_data();
    let output: Vec<f32> = output.iter::<f32>().collect();
    assert!(output[0] == 32752.25 && output[1].is_nan() && output[2] == 5.25, "{output:?}");
    // Products that stay in 16 bits are infinite beyond.
    let product = |by: f32| {
        let [input, weight] = [250.0, by].map(|x| Tensor::<2>::from_data([[x]], &device));
        let output = layers::linear_for_attention(input, weight, Tensor::from_data([-1.0f32], &device), Precision::Mixed);
        output.into_data().iter::<f32>().next()
    };
    assert_eq!([240.0, 263.0, -263.0].map(product), [Some(60000.0), Some(f32::INFINITY), Some(f32::NEG_INFINITY)]);
}

/// Attention in mixed precision, values and gradients, against the reference with rounded operands. What it rounds on its way moves each number by a few times 2^-11 of the sum of
/// its terms without their signs. `by` is what all gradients are multiplied by.
/// A joint matrix of `format` gives values of that format.
fn check_mixed_attention(
    shape: &AttentionShape,
    size: usize,
    dropout: Option<Dropout>,
    relative: bool,
    by: f32,
    format: DType,
    device: &Device,
) {
    let shape = &AttentionShape { precision: Precision::Mixed, ..shape.clone() };
    let hidden = shape.heads * size;
    let dims = [shape.sequences.tokens(), hidden];
    let [query, key, value, outer] = [1, 2, 3, 4].map(|seed| random(dims[0] * hidden, seed));
    // What is cast comes back with gradients of 16 bits, which shall be these.
    let outer: Vec<f32> = if format == DType::F16 { outer.iter().map(|&x| f16::from_f32(x).to_f32()).collect() } else { outer };
    let scaled: Vec<f32> = outer.iter().map(|x| x * by).collect();
    let by_distance = distances(shape);
    let bias = random(by_distance[0] * by_distance[1], 5);
    let inputs = [(query.as_slice(), dims), (&key, dims), (&value, dims), (&bias, by_distance)];
    let (got, gradients) = differentiate(device, inputs, &scaled, |[query, key, value, bias]| {
        let joint = Tensor::cat(vec![query, key, value], 1).cast(format);
        let output = joint_attention(joint, relative.then_some(bias.clone()), shape, dropout);
        assert_eq!(output.dtype(), format);
        // Every leaf has a gradient: where scores have no bias, this one's is zero.
        output.cast(DType::F32) + bias.sum().reshape([1, 1]) * 0.0
    });
    let rounds = format == DType::F16 || layers::cube::rounds_attention(device, size);
    let round = |numbers: &[f32]| if rounds { halves(numbers) } else { doubles(numbers) };
    let [query, key, value, outer] = [&query, &key, &value, &outer].map(|numbers| round(numbers));
    let masked = |row: usize, column: usize| dropout.map_or(1.0, |dropout| f64::from(dropout.row(row).factor(column as u32)));
    let what = format!("{shape:?} x {size}, dropout {}", dropout.is_some());
    let share = if rounds { 4.0 / 2048.0 } else { 2e-5 };
    let near = |name: &str, got: &[f32], expected: &[f64], at_most: &[f64], by: f64| {
        let largest = at_most.iter().copied().fold(0.0, f64::max);
        for (at, ((&got, expected), at_most)) in got.iter().zip(expected).zip(at_most).enumerate() {
            let error = (f64::from(got) / by - expected).abs();
            assert!(
                error <= share * at_most + 1e-5 * largest,
                "{name}[{at}], {what}: {got} / {by}, expected {expected}, of at most {at_most}"
            );
        }
    };
    let sizes: Vec<f64> = value.iter().map(|x| x.abs()).collect();
    let bias = doubles(&bias);
    let attention = reference::Attention { shape, hidden, mask: &masked, relative: relative.then_some(&bias) };
    let at_most = reference::attention([&query, &key, &sizes], &attention);
    near("value", &got, &reference::attention([&query, &key, &value], &attention), &at_most, 1.0);
    let expected = reference::attention_gradient([&query, &key, &value], &outer, &attention);
    let at_most = reference::attention_gradient_at_most([&query, &key, &value], &outer, &attention);
    for (((name, got), expected), at_most) in ["query", "key", "value", "bias"].iter().zip(gradients).zip(expected).zip(at_most) {
        near(&format!("gradient of {name}"), &got, &expected, &at_most, f64::from(by));
    }
}

#[test]
fn mixed_attention_rounds_its_operands() {
    let device = Device::flex().autodiff();
    for (pattern, (heads, width, size)) in [(1, 1, 1), (12, 15, 32), (2, 65, 64), (3, 40, 7)].into_iter().enumerate() {
        for by in [1.0, 1e-9, 1e9] {
            let dropout = (pattern % 2 == 1).then(|| Dropout::new(0.3, pattern as u64));
            for relative in [false, true] {
                check_mixed_attention(&packed(heads, lengths(pattern + 2, 3, width)), size, dropout, relative, by, DType::F32, &device);
            }
        }
    }
    check_mixed_attention(
        &within(Window::around(9), packed(3, vec![40, 1, 0, 33])),
        7,
        Some(Dropout::new(0.3, 9)),
        false,
        1.0,
        DType::F32,
        &device,
    );
    views_and_empty_sequences(&Device::flex(), Precision::Mixed);
    same_bits_without_a_graph(&Device::flex(), Precision::Mixed);
    // What 16 bits cannot hold becomes their largest: one key, so its value is what comes out.
    let shape = AttentionShape { precision: Precision::Mixed, ..packed(1, vec![1]) };
    let inputs = [1.0f32, 1.0, 1e6].map(|x| Tensor::<2>::from_data([[x, 0.1]], &Device::flex()));
    let output: Vec<f32> = fused_attention(inputs, None, &shape, None).into_data().iter::<f32>().collect();
    assert_eq!(output, [65504.0, f16::from_f32(0.1).to_f32()]);
}

#[test]
fn attention_by_matrix_units_on_a_software_gpu() {
    let Some(device) = crate::test_gpu() else { return };
    let autodiff = device.clone().autodiff();
    // Planes of a cube, dropout, a bias and the width of heads are kernels of their own, which software Vulkan compiles slowly. Gradients of a mean over many, and such that 16 bits cannot hold.
    let dropout = |seed: u64| Some(Dropout::new(0.3, seed));
    for (heads, lengths, size, dropout, relative, by) in [
        (1, vec![1], 40, None, false, 1.0),
        (12, vec![15, 3, 16], 40, None, false, 1e-9),
        (1, vec![65], 32, dropout(1), true, 1.0),
        (3, vec![64, 33, 0, 1], 32, dropout(2), true, 1e-9),
        (2, vec![7, 200, 0, 150, 1], 32, dropout(3), true, 1e9),
    ] {
        let width = lengths.iter().copied().max().expect("a sequence");
        check_mixed_attention(&packed(heads, lengths.clone()), size, dropout, relative, by, DType::F32, &autodiff);
        check_mixed_attention(&padded(heads, width, lengths.clone()), size, dropout, relative, by, DType::F32, &autodiff);
        if Precision::Mixed.check(&device).is_ok() {
            check_mixed_attention(&packed(heads, lengths), size, dropout, relative, 1.0, DType::F16, &autodiff);
        }
    }
    for (window, dropout) in
        [(Window::around(20), None), (Window::around(64), dropout(4)), (Window::CAUSAL, None), (Window::of(40, 3), dropout(5))]
    {
        check_mixed_attention(&within(window, packed(2, vec![7, 200, 0, 150, 1])), 32, dropout, false, 1.0, DType::F32, &autodiff);
        check_mixed_attention(&within(window, padded(2, 200, vec![200, 0, 50])), 32, dropout, false, 1e-9, DType::F32, &autodiff);
    }
    views_and_empty_sequences(&device, Precision::Mixed);
    same_bits_without_a_graph(&device, Precision::Mixed);
}
