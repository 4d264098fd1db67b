//! Mixed precision: linear layers, GELU between them and attention, against the float64 reference with rounded operands.

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Tensor, TensorData, f16};

use super::{
    close, differentiate, doubles, fused_attention, lengths, packed, padded, random, same_bits_without_a_graph, vector,
    views_and_empty_sequences,
};
use crate::layers::extension::Layers;
use crate::layers::mask::Dropout;
use crate::layers::{self, AttentionShape, Precision, reference};

/// Rounded to 16-bit floats.
fn halves(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&number| f16::from_f32(number).to_f64()).collect()
}

/// The linear layer in mixed precision, against the reference with rounded operands; without 16-bit floats (`half`), with all their digits.
fn check_mixed(half: DType, device: &Device) {
    for (rows, inner, columns) in [(1, 1, 1), (5, 3, 7), (33, 64, 20), (300, 192, 130)] {
        let [input, weight, bias] = [(rows * inner, 1), (inner * columns, 2), (columns, 3)].map(|(count, seed)| random(count, seed));
        // Gradients of a mean over many: all of them zero as 16-bit floats.
        let outer: Vec<f32> = random(rows * columns, 4).iter().map(|x| x * 1e-9).collect();
        let inputs = [(input.as_slice(), [rows, inner]), (&weight, [inner, columns]), (&bias, [1, columns])];
        let (got, gradients) = differentiate(device, inputs, &outer, |[x, weight, bias]| {
            let [x, weight, bias] = [x.into_dispatch(), weight.into_dispatch(), vector(bias).into_dispatch()];
            Tensor::from_dispatch(<Dispatch as Layers>::linear_mixed(x, weight, bias, half, false))
        });
        let round = |numbers: &[f32]| if half == DType::F16 { halves(numbers) } else { doubles(numbers) };
        let (input, weight) = (round(&input), round(&weight));
        close("mixed linear", &got, &reference::linear(&input, &weight, &doubles(&bias), inner), 2e-5);
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

/// GELU behind an open linear layer, whose product stands for a table of numbers here: the bias is added, the result rounded, and the gradient that of the sum.
fn check_gelu_mixed(half: DType, device: &Device) {
    let (rows, width) = (37, 53);
    let [input, bias, outer] = [(rows * width, 1), (width, 2), (rows * width, 3)].map(|(count, seed)| random(count, seed));
    let input: Vec<f32> = input.iter().map(|x| 4.0 * x).collect();
    // Numbers of 16 bits, as the gradient of the cast below is one.
    let outer: Vec<f32> = outer.iter().map(|&x| f16::from_f32(x).to_f32()).collect();
    let (got, [gradient]) = differentiate(device, [(&input, [rows, width])], &outer, |[x]| {
        let bias = Tensor::<1>::from_data(TensorData::new(bias.clone(), [width]), device);
        let output: Tensor<2> = Tensor::from_dispatch(<Dispatch as Layers>::gelu_mixed(x.into_dispatch(), bias.into_dispatch(), half));
        output.cast(DType::F32)
    });
    let share = if half == DType::F16 { 1.0 / 2048.0 } else { 0.0 };
    for at in 0..rows * width {
        let sum = f64::from(input[at] + bias[at % width]);
        let (value, slope) = (reference::gelu(sum), reference::gelu_slope(sum));
        assert!(
            (f64::from(got[at]) - value).abs() <= share * value.abs() + 1e-6 * (1.0 + value.abs()),
            "gelu({sum}) = {}, expected {value}",
            got[at]
        );
        let expected = f64::from(outer[at]) * slope;
        assert!(
            (f64::from(gradient[at]) - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
            "gradient at {sum}: {}, expected {expected}",
            gradient[at]
        );
    }
}

#[test]
fn gelu_behind_an_open_linear_layer() {
    check_gelu_mixed(DType::F16, &Device::flex().autodiff());
    linear_gelu_is_its_parts(&Device::flex().autodiff());
}

#[test]
fn gelu_behind_an_open_linear_layer_on_a_software_gpu() {
    let Some(device) = crate::test_gpu() else { return };
    let half = if Precision::Mixed.check(&device).is_ok() { DType::F16 } else { DType::F32 };
    check_gelu_mixed(half, &device.autodiff());
}

/// Two linear layers with GELU between them, in one piece and in parts: the same values, and the same gradients of input, weights and biases.
fn linear_gelu_is_its_parts(device: &Device) {
    let (rows, inner, hidden, columns) = (33, 24, 48, 7);
    let sizes = [[rows, inner], [inner, hidden], [1, hidden], [hidden, columns], [1, columns]];
    let numbers: Vec<Vec<f32>> = sizes.iter().zip(1..).map(|(size, seed)| random(size[0] * size[1], seed)).collect();
    let inputs = std::array::from_fn::<_, 5, _>(|at| (numbers[at].as_slice(), sizes[at]));
    let outer: Vec<f32> = random(rows * columns, 9).iter().map(|x| x * 1e-7).collect();
    let mixed = Precision::Mixed;
    let [fused, parts] = [true, false].map(|fused| {
        differentiate(device, inputs, &outer, |[x, weight, bias, second, second_bias]| {
            let middle = if fused {
                layers::linear_gelu(x, weight, vector(bias), mixed)
            } else {
                layers::gelu(layers::linear(x, weight, vector(bias), mixed))
            };
            layers::linear(middle, second, vector(second_bias), mixed)
        })
    });
    close("value", &fused.0, &doubles(&parts.0), 1e-6);
    for (fused, parts) in fused.1.iter().zip(&parts.1) {
        let largest = parts.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let [fused, parts] = [fused, parts].map(|numbers| numbers.iter().map(|x| x / largest).collect::<Vec<_>>());
        close("gradient", &fused, &doubles(&parts), 1e-6);
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
    check_mixed(half, &device.clone().autodiff());
    if half == DType::F16 {
        linear_gelu_is_its_parts(&device.autodiff());
    }
}

#[test]
fn what_16_bits_cannot_hold_stays_what_it_is_or_becomes_their_largest() {
    let device = Device::flex();
    let input = Tensor::<2>::from_data([[1e6f32, -1e6], [f32::NAN, 1.0], [3.0, 4.0]], &device);
    let weight = Tensor::<2>::from_data([[1.0f32], [0.5]], &device);
    let output = layers::linear(input, weight, Tensor::from_data([0.25f32], &device), Precision::Mixed).into_data();
    let output: Vec<f32> = output.iter::<f32>().collect();
    assert!(output[0] == 32752.25 && output[1].is_nan() && output[2] == 5.25, "{output:?}");
}

/// Attention in mixed precision, values and gradients, against the reference with rounded operands. What it rounds on its way moves each number by a few times 2^-11 of the sum of
/// its terms without their signs. `by` is what all gradients are multiplied by.
fn check_mixed_attention(shape: &AttentionShape, size: usize, dropout: Option<Dropout>, by: f32, device: &Device) {
    let shape = &AttentionShape { precision: Precision::Mixed, ..shape.clone() };
    let hidden = shape.heads * size;
    let dims = [shape.sequences.tokens(), hidden];
    let [query, key, value, outer] = [1, 2, 3, 4].map(|seed| random(dims[0] * hidden, seed));
    let scaled: Vec<f32> = outer.iter().map(|x| x * by).collect();
    let inputs = [(query.as_slice(), dims), (&key, dims), (&value, dims)];
    let (got, gradients) = differentiate(device, inputs, &scaled, |inputs| fused_attention(inputs, shape, dropout));
    let rounds = layers::cube::rounds_attention(device, size);
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
    let at_most = reference::attention([&query, &key, &sizes], shape, hidden, &masked);
    near("value", &got, &reference::attention([&query, &key, &value], shape, hidden, &masked), &at_most, 1.0);
    let expected = reference::attention_gradient([&query, &key, &value], &outer, shape, hidden, &masked);
    let at_most = reference::attention_gradient_at_most([&query, &key, &value], &outer, shape, hidden, &masked);
    for (((name, got), expected), at_most) in ["query", "key", "value"].iter().zip(gradients).zip(expected).zip(at_most) {
        near(&format!("gradient of {name}"), &got, &expected, &at_most, f64::from(by));
    }
}

#[test]
fn mixed_attention_rounds_its_operands() {
    let device = Device::flex().autodiff();
    for (pattern, (heads, width, size)) in [(1, 1, 1), (12, 15, 32), (2, 65, 64), (3, 40, 7)].into_iter().enumerate() {
        for by in [1.0, 1e-9, 1e9] {
            let dropout = (pattern % 2 == 1).then(|| Dropout::new(0.3, pattern as u64));
            check_mixed_attention(&packed(heads, lengths(pattern + 2, 3, width)), size, dropout, by, &device);
        }
    }
    views_and_empty_sequences(&Device::flex(), Precision::Mixed);
    same_bits_without_a_graph(&Device::flex(), Precision::Mixed);
    // What 16 bits cannot hold becomes their largest: one key, so its value is what comes out.
    let shape = AttentionShape { precision: Precision::Mixed, ..packed(1, vec![1]) };
    let inputs = [1.0f32, 1.0, 1e6].map(|x| Tensor::<2>::from_data([[x, 0.1]], &Device::flex()));
    let output: Vec<f32> = fused_attention(inputs, &shape, None).into_data().iter::<f32>().collect();
    assert_eq!(output, [65504.0, f16::from_f32(0.1).to_f32()]);
}

#[test]
fn attention_by_matrix_units_on_a_software_gpu() {
    let Some(device) = crate::test_gpu() else { return };
    let autodiff = device.clone().autodiff();
    // Planes of a cube, dropout and the width of heads are kernels of their own, which software Vulkan compiles slowly. Gradients of a mean over many, and such that 16 bits cannot hold.
    let dropout = |seed: u64| Some(Dropout::new(0.3, seed));
    for (heads, lengths, size, dropout, by) in [
        (1, vec![1], 40, None, 1.0),
        (12, vec![15, 3, 16], 40, None, 1e-9),
        (1, vec![65], 32, dropout(1), 1.0),
        (3, vec![64, 33, 0, 1], 32, dropout(2), 1e-9),
        (2, vec![7, 200, 0, 150, 1], 32, dropout(3), 1e9),
    ] {
        let width = lengths.iter().copied().max().expect("a sequence");
        check_mixed_attention(&packed(heads, lengths.clone()), size, dropout, by, &autodiff);
        check_mixed_attention(&padded(heads, width, lengths), size, dropout, by, &autodiff);
    }
    views_and_empty_sequences(&device, Precision::Mixed);
    same_bits_without_a_graph(&device, Precision::Mixed);
}
