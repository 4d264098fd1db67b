//! Every fused layer against the float64 reference, against the composition of tensor operations, and the reference against finite differences.

mod attention;
mod lists;
mod mixed;
mod rows;

use burn::backend::Dispatch;
use burn::tensor::activation::gelu as plain_gelu;
use burn::tensor::module::{layer_norm, linear as plain_linear};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use proptest::prelude::*;

use super::extension::Layers;
use super::mask::Dropout;
use super::norm::Norm;
use super::panels::{self, Matrix};
use super::product::{Target, View, product};
use super::reference::{self, keep};
use super::wide::{Lanes, dot, exponential, largest, total};
use super::{AttentionShape, Precision};
use attention::{fused_attention, padded};

/// Gaussian-like numbers, the same for the same seed: sums of four uniform ones, variance 1.
fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| (uniform() + uniform() + uniform() + uniform()) * 3f32.sqrt()).collect()
}

fn doubles(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&number| f64::from(number)).collect()
}

#[track_caller]
fn close(what: &str, got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    for (at, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(got) - expected).abs();
        assert!(error <= tolerance * (1.0 + expected.abs()), "{what}[{at}]: {got}, expected {expected}");
    }
}

/// The value of a function of matrices and vectors on an autodiff device, and the gradients of its product with `outer`.
fn differentiate<const N: usize>(
    device: &Device,
    inputs: [(&[f32], [usize; 2]); N],
    outer: &[f32],
    run: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) -> (Vec<f32>, [Vec<f32>; N]) {
    let leaves = inputs.map(|(numbers, shape)| Tensor::<2>::from_data(TensorData::new(numbers.to_vec(), shape), device).require_grad());
    let output = run(leaves.clone());
    let value = output.clone().into_data().iter::<f32>().collect();
    let outer = Tensor::<2>::from_data(TensorData::new(outer.to_vec(), output.dims()), device);
    let gradients = (output * outer).sum().backward();
    (value, leaves.map(|leaf| leaf.grad(&gradients).expect("tracked").into_data().iter::<f32>().collect()))
}

#[test]
fn a_pass_without_a_graph_gives_the_same_bits() {
    same_bits_without_a_graph(&Device::flex(), Precision::F32);
}

fn same_bits_without_a_graph(device: &Device, precision: Precision) {
    let shape = AttentionShape { precision, ..padded(2, 9, vec![9, 4]) };
    let dropout = Dropout::new(0.2, 5);
    let mask = Some(dropout);
    let [plain, graph] = [device.clone(), device.clone().autodiff()].map(|device| {
        let input = |seed: u64| {
            let input = Tensor::<2>::from_data(TensorData::new(random(18 * 16, seed), [18, 16]), &device);
            if device.is_autodiff() { input.require_grad() } else { input }
        };
        let vector = |seed: u64| Tensor::<1>::from_data(TensorData::new(random(16, seed), [16]), &device);
        let mixed = fused_attention([input(1), input(2), input(3)], None, &shape, mask);
        let (mixed, residual) = (mixed.into_dispatch(), input(4).into_dispatch());
        let [bias, gamma, beta] = [7, 5, 6].map(|seed| vector(seed).into_dispatch());
        let norm = Norm { epsilon: 1e-12, dropout: mask, biased: true, alone: false, centered: true };
        let norm = <Dispatch as Layers>::residual_norm(mixed, bias, residual, gamma, beta, norm);
        let dropped = <Dispatch as Layers>::dropout_layer(norm, dropout);
        super::gelu(Tensor::from_dispatch(dropped)).into_data()
    });
    assert_eq!(plain, graph);
}

#[test]
fn gelu_and_its_slope_keep_their_digits_everywhere() {
    let device = Device::flex().autodiff();
    check_gelu(&device);
    let odd = Tensor::<2>::from_data(TensorData::new(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY], [1, 3]), &Device::flex());
    let odd: Vec<f32> = super::gelu(odd).into_data().iter::<f32>().collect();
    assert!(odd[0].is_nan() && odd[1] == f32::INFINITY && odd[2].abs() < 1e-30);
    let inputs: Vec<f32> = (-10_000..10_000).map(|step| step as f32 * 1e-3).collect();
    let (plain, [plain_slopes]) = differentiate(&device, [(&inputs, [20, 1000])], &vec![1.0; 20_000], |[x]| plain_gelu(x));
    let (got, [slopes]) = differentiate(&device, [(&inputs, [20, 1000])], &vec![1.0; 20_000], |[x]| super::gelu(x));
    close("gelu", &got, &doubles(&plain), 1e-6);
    close("slope", &slopes, &doubles(&plain_slopes), 1e-6);
}

fn check_gelu(device: &Device) {
    let mut inputs: Vec<f32> = (-20_000..=20_000).map(|step| step as f32 * 1e-3).collect();
    inputs.extend([1e-30, -1e-30, 100.0, -100.0, 1e30, -1e30]);
    let dims = [1, inputs.len()];
    let (got, [slopes]) = differentiate(device, [(&inputs, dims)], &vec![1.0; inputs.len()], |[x]| super::gelu(x));
    for ((&x, got), slope) in inputs.iter().zip(got).zip(slopes) {
        // Rounding the square of x costs digits of e^(-x^2 / 2); below the smallest normal number only the size counts.
        let relative = 1e-6 + 1.5e-7 * f64::from(x * x).min(200.0);
        let near = |got: f32, expected: f64| (f64::from(got) - expected).abs() <= relative * expected.abs() + 1e-36;
        assert!(near(got, reference::gelu(f64::from(x))), "gelu({x}) = {got}, expected {}", reference::gelu(f64::from(x)));
        // The slope crosses 0 near -0.75, where only the absolute error is small.
        let expected = reference::gelu_slope(f64::from(x));
        assert!((f64::from(slope) - expected).abs() <= 2e-7 + 2e-7 * expected.abs(), "slope({x}) = {slope}, expected {expected}");
    }
}

fn vector(tensor: Tensor<2>) -> Tensor<1> {
    let width = tensor.dims()[1];
    tensor.reshape([width])
}

/// One shape of the norm, values and gradients, against the reference.
fn check_norm(rows: usize, width: usize, dropout: Option<Dropout>, device: &Device) {
    let (matrix, line, biased) = ([rows, width], [1, width], rows % 3 != 2);
    let [input, residual, outer] = [1, 2, 3].map(|seed| random(rows * width, seed));
    let [gamma, beta, bias] = [4, 5, 6].map(|seed| random(width, seed));
    let inputs = [(input.as_slice(), matrix), (&residual, matrix), (&gamma, line), (&beta, line)];
    let (got, gradients) = differentiate(device, inputs, &outer, |[input, residual, gamma, beta]| {
        let [gamma, beta] = [gamma, beta].map(|line| vector(line).into_dispatch());
        let (input, residual) = (input.into_dispatch(), residual.into_dispatch());
        let bias = Tensor::<1>::from_data(TensorData::new(bias.clone(), [width]), device).into_dispatch();
        let norm = Norm { epsilon: 1e-5, dropout, biased, alone: false, centered: true };
        Tensor::from_dispatch(<Dispatch as Layers>::residual_norm(input, bias, residual, gamma, beta, norm))
    });
    let input: Vec<f32> = input.iter().enumerate().map(|(at, x)| if biased { x + bias[at % width] } else { *x }).collect();
    let masked = |row: usize, column: usize| dropout.map_or(1.0, |dropout| f64::from(dropout.row(row).factor(column as u32)));
    let [input, residual, outer, gamma, beta] = [&input, &residual, &outer, &gamma, &beta].map(|numbers| doubles(numbers));
    let what = format!("norm of {rows} x {width}, dropout {}", dropout.is_some());
    close(&what, &got, &reference::residual_norm([&input, &residual, &gamma, &beta], 1e-5, &masked), 2e-5);
    let expected = reference::residual_norm_gradient([&input, &residual, &gamma], &outer, 1e-5, &masked);
    // Two numbers that are nearly equal have a steep norm: relative to the largest gradient.
    for ((name, got), expected) in ["input", "residual", "scale", "shift"].iter().zip(gradients).zip(expected) {
        let largest = expected.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
        close(&format!("gradient of {name}, {what}"), &got, &expected, 2e-5 * largest);
    }
}

#[test]
fn the_norm_agrees_with_the_reference() {
    let device = Device::flex().autodiff();
    for (rows, width) in [(1, 1), (1, 2), (2, 3), (31, 16), (32, 17), (33, 64), (65, 384), (100, 31), (3, 1536)] {
        check_norm(rows, width, None, &device);
        check_norm(rows, width, Some(Dropout::new(0.25, 8)), &device);
    }
    check_norm(40, 48, Some(Dropout::new(0.25, 8)), &device.gradient_checkpointing());
}

#[test]
fn norm_linear_and_dropout_agree_with_the_compositions() {
    let device = Device::flex().autodiff();
    for (rows, inner, columns) in [(1, 1, 1), (5, 3, 7), (33, 64, 20), (300, 192, 130), (303, 20, 21)] {
        let [input, residual] = [1, 2].map(|seed| random(rows * inner, seed));
        let [gamma, beta] = [3, 4].map(|seed| random(inner, seed));
        let norm = [(input.as_slice(), [rows, inner]), (&residual, [rows, inner]), (&gamma, [1, inner]), (&beta, [1, inner])];
        let outer = random(rows * inner, 5);
        let fused =
            differentiate(&device, norm, &outer, |[x, y, gamma, beta]| super::residual_norm(x, y, vector(gamma), vector(beta), 1e-5, 0.0));
        let plain = differentiate(&device, norm, &outer, |[x, y, gamma, beta]| layer_norm(x + y, vector(gamma), Some(vector(beta)), 1e-5));
        close("norm", &fused.0, &doubles(&plain.0), 1e-4);
        for (fused, plain) in fused.1.iter().zip(&plain.1) {
            let largest = plain.iter().fold(1.0f32, |largest, x| largest.max(x.abs()));
            close("gradient of the norm", fused, &doubles(plain), 1e-4 * f64::from(largest));
        }

        let (weight, bias, outer) = (random(inner * columns, 6), random(columns, 7), random(rows * columns, 8));
        let linear = [(input.as_slice(), [rows, inner]), (&weight, [inner, columns]), (&bias, [1, columns])];
        let fused = differentiate(&device, linear, &outer, |[x, weight, bias]| super::linear(x, weight, vector(bias), Precision::F32));
        let plain = differentiate(&device, linear, &outer, |[x, weight, bias]| plain_linear(x, weight, Some(vector(bias))));
        close("linear", &fused.0, &doubles(&plain.0), 1e-5);
        let [input, weight, bias, outer] = [&input, &weight, &bias, &outer].map(|numbers| doubles(numbers));
        close("linear", &fused.0, &reference::linear(&input, &weight, &bias, inner), 1e-5);
        let expected = reference::linear_gradient(&input, &weight, &outer, inner);
        for ((fused, plain), expected) in fused.1.iter().zip(&plain.1).zip(expected) {
            close("gradient of linear", fused, &doubles(plain), 2e-5);
            close("gradient of linear", fused, &expected, 2e-5);
        }
    }
    // A transposed weight is read where it lies.
    let [input, weight] = [(1, [4, 3]), (2, [5, 3])].map(|(seed, dims): (u64, [usize; 2])| {
        Tensor::<2>::from_data(TensorData::new(random(dims[0] * dims[1], seed), dims), &Device::flex())
    });
    let bias = Tensor::<1>::zeros([5], &Device::flex());
    let got: Vec<f32> = super::linear(input.clone(), weight.clone().transpose(), bias, Precision::F32).into_data().iter::<f32>().collect();
    let plain: Vec<f32> = input.matmul(weight.transpose()).into_data().iter::<f32>().collect();
    close("transposed", &got, &doubles(&plain), 1e-6);

    check_dropout(&device);
}

/// On the CPU; a GPU has burn's product.
#[test]
fn similarities_and_their_gradients_agree_with_float64() {
    let device = &Device::flex().autodiff();
    for [rows, columns, width] in [[1, 1, 1], [5, 7, 3], [300, 290, 33], [290, 9, 400]] {
        let (left, right, outer) = (random(rows * width, 1), random(columns * width, 2), random(rows * columns, 3));
        let both = [(left.as_slice(), [rows, width]), (&right, [columns, width])];
        let got = differentiate(device, both, &outer, |[left, right]| super::similarities(left, right));
        let expected = |row: usize, column: usize, place: usize| [left[row * width + place], right[column * width + place]];
        assert_sums("similarities", &got.0, [columns, width], &expected);
        let of_left = |row: usize, place: usize, column: usize| [outer[row * columns + column], right[column * width + place]];
        assert_sums("gradient of the left", &got.1[0], [width, columns], &of_left);
        let of_right = |column: usize, place: usize, row: usize| [outer[row * columns + column], left[row * width + place]];
        assert_sums("gradient of the right", &got.1[1], [width, rows], &of_right);
    }
}

/// Each number of a matrix is a sum of so many products, up to what rounding can add to it.
#[track_caller]
fn assert_sums(what: &str, got: &[f32], [columns, count]: [usize; 2], factors: &dyn Fn(usize, usize, usize) -> [f32; 2]) {
    for (at, &got) in got.iter().enumerate() {
        let term = |place: usize| factors(at / columns, at % columns, place).map(f64::from).iter().product::<f64>();
        let (sum, sizes) = (0..count).map(term).fold((0.0, 0.0), |(sum, sizes), term| (sum + term, sizes + term.abs()));
        assert!((f64::from(got) - sum).abs() <= 5e-7 * sizes, "{what}[{at}]: {got}, expected {sum}");
    }
}

/// On every processor, whether or not it takes them: rows beyond whole blocks, columns beyond whole panels, more of the inner dimension than goes at once, either matrix in
/// a larger one, weights transposed, with and without bias, on one thread and on several.
#[test]
fn products_in_panels_agree_with_float64() {
    for [rows, columns, inner] in [[1, 1, 1], [72, 64, 384], [75, 37, 385], [145, 21, 800], [300, 130, 20]] {
        for (transposed, with_bias) in [(false, true), (true, false)] {
            let (wide, tall) = (inner + 3, if transposed { inner } else { columns } + 5);
            let [left, right] = [(rows * wide, 1), ((columns.max(inner)) * tall, 2)].map(|(count, seed)| random(count, seed));
            let bias = random(columns, 3);
            let strides = if transposed { [1, tall] } else { [tall, 1] };
            let matrices =
                [Matrix { numbers: &left, row: wide, column: 1 }, Matrix { numbers: &right, row: strides[0], column: strides[1] }];
            let multiply = || panels::multiply([rows, columns, inner], matrices[0], matrices[1], with_bias.then_some(bias.as_slice()));
            let got = multiply();
            for (at, got) in got.iter().enumerate() {
                let (row, column) = (at / columns, at % columns);
                let term = |place: usize| f64::from(left[row * wide + place]) * f64::from(right[place * strides[0] + column * strides[1]]);
                let terms = (0..inner).map(term).chain(with_bias.then(|| f64::from(bias[column])));
                let (sum, sizes) = terms.fold((0.0, 0.0), |(sum, sizes), term| (sum + term, sizes + term.abs()));
                assert!(
                    (f64::from(*got) - sum).abs() <= 5e-7 * sizes,
                    "{rows} x {columns} x {inner}, at {row}, {column}: {got}, expected {sum}"
                );
            }
            let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(multiply);
            assert!(got == alone, "threads change no digit");
        }
    }
}

/// The mask on the device is that of the host, number by number.
fn check_dropout(device: &Device) {
    // Keys and rows that carry from the lower half to the upper.
    for (mask, rows) in [(Dropout::new(0.4, 3), 70), (Dropout::new(0.1, 0x0123_4567_ffff_fff0), 3), (Dropout::new(0.7, u64::MAX), 5)] {
        let (numbers, outer) = (random(rows * 19, 1), random(rows * 19, 2));
        let (got, [gradient]) = differentiate(device, [(&numbers, [rows, 19])], &outer, |[x]| {
            Tensor::from_dispatch(<Dispatch as Layers>::dropout_layer(x.into_dispatch(), mask))
        });
        for at in 0..rows * 19 {
            let factor = mask.row(at / 19).factor((at % 19) as u32);
            assert_eq!((got[at], gradient[at]), (numbers[at] * factor, outer[at] * factor));
        }
    }
}

#[test]
fn inputs_that_others_still_use_are_left_alone() {
    inputs_are_left_alone(&Device::flex());
}

fn inputs_are_left_alone(device: &Device) {
    let input = Tensor::<2>::from_data(TensorData::new(random(40 * 8, 1), [40, 8]), device);
    let before = input.clone().into_data();
    let line = Tensor::<1>::ones([8], device);
    super::gelu(input.clone());
    super::residual_norm(input.clone(), input.clone(), line.clone(), line.clone(), 1e-5, 0.5);
    super::dropout(input.clone(), 0.5);
    super::normalize(input.clone());
    super::gated(input.clone(), super::Gate::Silu);
    super::norm(input.clone(), line, None, 1e-5);
    let targets = Tensor::<1, Int>::zeros([40], (device, DType::I32));
    let mask = input.clone().greater_elem(0.3).bool_and(input.clone().lower_elem(0.4));
    let leaf = input.clone().autodiff().require_grad();
    let mask = mask.slice_assign([0..40, 0..1], Tensor::full([40, 1], false, device));
    super::cross_entropy(leaf.clone(), Some(mask), targets, 20.0).sum().backward();
    assert_eq!(leaf.into_data(), before);
    assert_eq!(input.into_data(), before);
}

/// Value and gradient of a function are as expected: fused, the same without a graph, and by tensor operations, which numbers of 64 bits take on the CPU.
fn fused_and_plain(
    device: &Device,
    input: (&[f32], [usize; 2]),
    outer: &[f32],
    expected: [&[f64]; 2],
    run: impl Fn(Tensor<2>) -> Tensor<2>,
) {
    let (got, [gradient]) = differentiate(device, [input], outer, |[input]| run(input));
    close("fused", &got, expected[0], 1e-5);
    close("gradient of the fused one", &gradient, expected[1], 1e-5);
    let tensor = |device: &Device| Tensor::<2>::from_data(TensorData::new(input.0.to_vec(), input.1), device);
    assert_eq!(run(tensor(&device.clone().without_autodiff())).into_data().iter::<f32>().collect::<Vec<_>>(), got);
    if super::on_cpu(device) {
        let (got, [gradient]) = differentiate(device, [input], outer, |[input]| run(input.cast(DType::F64)).cast(DType::F32));
        close("composed", &got, expected[0], 1e-6);
        close("gradient of the composed one", &gradient, expected[1], 1e-6);
    }
}

#[test]
fn norm_gelu_and_dropout_agree_with_the_reference_on_a_software_gpu() {
    let Some(device) = crate::test_gpu() else { return };
    let autodiff = device.clone().autodiff();
    check_dropout(&autodiff);
    check_gelu(&autodiff);
    for (rows, width) in [(1, 1), (1, 2), (2, 3), (31, 16), (32, 17), (33, 64), (65, 384), (100, 31), (3, 1536), (700, 40), (2100, 8)] {
        check_norm(rows, width, None, &autodiff);
        check_norm(rows, width, Some(Dropout::new(0.25, 8)), &autodiff);
    }
    inputs_are_left_alone(&device);
}

/// Numeric gradient of the sum of `outer` times the function, by central differences.
fn differences(inputs: &[f64], outer: &[f64], run: &dyn Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let at = |place: usize, step: f64| {
        let mut moved = inputs.to_vec();
        moved[place] += step;
        run(&moved).iter().zip(outer).map(|(a, b)| a * b).sum::<f64>()
    };
    (0..inputs.len()).map(|place| (at(place, 1e-5) - at(place, -1e-5)) / 2e-5).collect()
}

#[test]
fn the_reference_gradients_are_those_of_finite_differences() {
    let near = |got: &[f64], expected: &[f64]| {
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-7 * (1.0 + expected.abs()), "{got} {expected}");
        }
    };
    let mask = Dropout::new(0.3, 1);
    let masked = |row: usize, column: usize| f64::from(mask.row(row).factor(column as u32));
    for mask in [&keep as reference::Mask<'_>, &masked] {
        let shape = padded(2, 3, vec![3, 2]);
        let [q, k, v, outer] = [1, 2, 3, 4].map(|seed| doubles(&random(24, seed)));
        let bias = doubles(&random(2 * 5, 5));
        let attention = reference::Attention { shape: &shape, hidden: 4, mask, relative: Some(&bias) };
        let got = reference::attention_gradient([&q, &k, &v], &outer, &attention);
        near(&got[0], &differences(&q, &outer, &|q| reference::attention([q, &k, &v], &attention)));
        near(&got[1], &differences(&k, &outer, &|k| reference::attention([&q, k, &v], &attention)));
        near(&got[2], &differences(&v, &outer, &|v| reference::attention([&q, &k, v], &attention)));
        let with = |relative: &[f64]| reference::attention([&q, &k, &v], &reference::Attention { relative: Some(relative), ..attention });
        near(&got[3], &differences(&bias, &outer, &with));
        let (gamma, beta) = (&q[..6], &k[..6]);
        let got = reference::residual_norm_gradient([&q, &v, gamma], &outer, 1e-5, mask);
        near(&got[0], &differences(&q, &outer, &|x| reference::residual_norm([x, &v, gamma, beta], 1e-5, mask)));
        near(&got[1], &differences(&v, &outer, &|y| reference::residual_norm([&q, y, gamma, beta], 1e-5, mask)));
        near(&got[2], &differences(gamma, &outer, &|gamma| reference::residual_norm([&q, &v, gamma, beta], 1e-5, mask)));
        near(&got[3], &differences(beta, &outer, &|beta| reference::residual_norm([&q, &v, gamma, beta], 1e-5, mask)));
    }
    let [input, weight, outer] = [(8, 1), (12, 2), (6, 3)].map(|(count, seed)| doubles(&random(count, seed)));
    let got = reference::linear_gradient(&input, &weight, &outer, 4);
    near(&got[0], &differences(&input, &outer, &|x| reference::linear(x, &weight, &[0.0; 3], 4)));
    near(&got[1], &differences(&weight, &outer, &|w| reference::linear(&input, w, &[0.0; 3], 4)));
    near(&got[2], &differences(&[0.0; 3], &outer, &|b| reference::linear(&input, &weight, b, 4)));
    for x in [-5.0, -3.01, -1.0, -0.1, 0.0, 0.1, 1.0, 2.99, 3.01, 5.0] {
        near(&[reference::gelu_slope(x)], &differences(&[x], &[1.0], &|x| vec![reference::gelu(x[0])]));
    }
    // Values of the normal distribution from a table, to all its digits.
    for (a, expected) in [(0.0, 0.5), (1.0, 0.158_655_253_931_457), (2.0, 0.022_750_131_948_179_2), (6.0, 9.865_876_450_377e-10)] {
        assert!((reference::tail(a) / expected - 1.0).abs() < 1e-12, "{a}");
    }
}

/// The pieces on one width of registers.
#[inline(always)]
fn pieces<L: Lanes>() -> (Vec<f32>, Vec<f32>) {
    let (a, b) = (random(1000, 1), random(1000, 2));
    let mut results: Vec<f32> =
        (0..200).flat_map(|n| [dot::<L>(&a[..n], &b[..n]), total::<L>(&a[..n]), largest::<L>(&a[..n]).max(-9.0)]).collect();
    results.extend((0..3000).map(|step| exponential::<L>(step as f32 * -0.03)));
    results.push(exponential::<L>(f32::NAN));
    let mut products = Vec::new();
    for [m, n, k] in [[1, 1, 1], [8, 32, 4], [13, 37, 5], [3, 16, 0], [9, 71, 11]] {
        let mut into = vec![1.0; m * n];
        for add in [false, true] {
            let target = Target { at: into.as_mut_ptr(), row: n, add };
            // The left side is read as the transpose of `[k, m]`.
            let (left, right) = (View { at: a.as_ptr(), row: 1, column: m }, View { at: b.as_ptr(), row: n, column: 1 });
            // SAFETY: 1000 numbers hold both sides, and the caller runs on a processor with these lanes.
            #[allow(unsafe_code)]
            unsafe {
                product::<L>([m, n, k], left, right, target);
            }
        }
        products.extend(into);
    }
    (results, products)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn pieces_with_avx2() -> (Vec<f32>, Vec<f32>) {
    pieces::<std::arch::x86_64::__m256>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn pieces_with_avx512() -> (Vec<f32>, Vec<f32>) {
    pieces::<std::arch::x86_64::__m512>()
}

#[test]
fn every_width_of_registers_gives_the_same_numbers() {
    let (a, b) = (doubles(&random(1000, 1)), doubles(&random(1000, 2)));
    let mut expected: Vec<f64> = (0..200)
        .flat_map(|n| {
            let dot = a[..n].iter().zip(&b).map(|(a, b)| a * b).sum();
            [dot, a[..n].iter().sum(), a[..n].iter().copied().fold(-9.0, f64::max)]
        })
        .collect();
    expected.extend((0..3000).map(|step| f64::from(step as f32 * -0.03).exp()));
    let mut expected_products = Vec::new();
    for [m, n, k] in [[1usize, 1, 1], [8, 32, 4], [13, 37, 5], [3, 16, 0], [9, 71, 11]] {
        let entry = |row: usize, column: usize| (0..k).map(|i| a[i * m + row] * b[i * n + column]).sum::<f64>();
        expected_products.extend((0..m * n).map(|at| 2.0 * entry(at / n, at % n)));
    }
    let check = |(mut results, products): (Vec<f32>, Vec<f32>)| {
        assert!(results.pop().unwrap().is_nan());
        close("pieces", &results, &expected, 2e-6);
        for (got, expected) in results[600..].iter().zip(&expected[600..]).filter(|(_, expected)| **expected > 1.3e-38) {
            assert!((f64::from(*got) / expected - 1.0).abs() < 3e-7, "{got} {expected}");
        }
        close("products", &products, &expected_products, 2e-6);
    };
    check(pieces::<[f32; 4]>());
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    {
        let fused = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        if fused {
            // SAFETY: just detected.
            check(unsafe { pieces_with_avx2() });
        }
        let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        if fused && wide && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: just detected.
            check(unsafe { pieces_with_avx512() });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn norm_of_any_shape(rows in 1usize..80, width in 4usize..200, seed in 0u64..1000, drop in any::<bool>()) {
        check_norm(rows, width, drop.then(|| Dropout::new(0.2, seed)), &Device::flex().autodiff());
    }
}
