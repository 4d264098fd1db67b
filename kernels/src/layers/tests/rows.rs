//! What is taken of each row by itself, beside float64: softmax, norms, gated GELU, rotary positions.

use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};

use super::{close, differentiate, doubles, fused_and_plain, random};
use crate::layers::reference::{self, keep};
use crate::layers::{Gate, Grouping, Precision, cross_entropy, gated, log_sum_exp, norm, normalize, rms_norm, rotary, spread_heads};

/// Scores as they are, over a temperature of .01, and with excluded cells, which weigh nothing.
fn check_log_sum_exp(device: &Device) {
    for (rows, width, scale) in [(1, 1, 1.0), (3, 5, 1.0), (9, 257, 100.0), (40, 64, 0.0), (70, 1000, 30.0), (2, 9000, 5.0)] {
        let mut input: Vec<f32> = random(rows * width, 1).iter().map(|x| x * scale).collect();
        input.iter_mut().enumerate().filter(|(place, _)| place % 7 == 3).for_each(|(_, x)| *x = -1e30);
        let outer = random(rows, 2);
        let (mut expected, mut slopes) = (Vec::new(), Vec::new());
        for (row, outer) in doubles(&input).chunks(width).zip(doubles(&outer)) {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let logarithm = largest + row.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
            expected.push(logarithm);
            slopes.extend(row.iter().map(|x| outer * (x - logarithm).exp()));
        }
        fused_and_plain(device, (&input, [rows, width]), &outer, [&expected, &slopes], log_sum_exp);
    }
}

#[test]
fn the_logarithm_of_a_sum_of_exponentials() {
    check_log_sum_exp(&Device::flex().autodiff());
    let odd = Tensor::<2>::from_data(TensorData::new(vec![1.0, f32::NAN, 2.0], [1, 3]), &Device::flex());
    assert!(log_sum_exp(odd).into_scalar::<f32>().is_nan());
}

#[test]
fn the_logarithm_of_a_sum_of_exponentials_on_a_software_gpu() {
    if let Some(device) = crate::test_gpu() {
        check_log_sum_exp(&device.autodiff());
    }
}

/// Scores over a temperature, with and without masked cells, of which some hold what would be the largest.
fn check_cross_entropy(device: &Device) {
    for (rows, width, scale, masked) in
        [(1, 1, 1.0, false), (3, 5, 20.0, true), (9, 257, 100.0, true), (40, 64, 0.5, false), (70, 1000, 50.0, true), (2, 9000, 5.0, true)]
    {
        // Beyond 20 a 32-bit logit is rounded by more than what a share is compared with.
        let most = (20.0 / scale as f32).min(1.0);
        let (mut input, outer) = (random(rows * width, 1), random(rows, 2));
        input.iter_mut().for_each(|x| *x *= most);
        let targets: Vec<i32> = (0..rows).map(|row| (row * 7 % width) as i32).collect();
        let mask: Vec<bool> =
            (0..rows * width).map(|place| masked && place % 5 == 3 && targets[place / width] != (place % width) as i32).collect();
        input.iter_mut().zip(&mask).enumerate().filter(|(place, (_, masked))| **masked && place % 2 == 0).for_each(|(_, (x, _))| *x += 9.0);
        let (mut expected, mut slopes) = (Vec::new(), Vec::new());
        for (row, outer) in doubles(&outer).into_iter().enumerate() {
            let cells = row * width..(row + 1) * width;
            let open: Vec<f64> = cells.map(|cell| if mask[cell] { f64::NEG_INFINITY } else { scale * f64::from(input[cell]) }).collect();
            let largest = open.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let logarithm = largest + open.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
            let target = targets[row] as usize;
            expected.push(logarithm - open[target]);
            slopes.extend(open.iter().enumerate().map(|(at, x)| {
                let share = (x - logarithm).exp();
                outer * scale * (share - if at == target { 1.0 } else { 0.0 })
            }));
        }
        let plain = device.clone().without_autodiff();
        let mask = masked.then(|| Tensor::<2, Bool>::from_data(TensorData::new(mask, [rows, width]), &plain));
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [rows]), (&plain, DType::I32));
        fused_and_plain(device, (&input, [rows, width]), &outer, [&expected, &slopes], |x| {
            cross_entropy(x, mask.clone(), targets.clone(), scale)
        });
    }
}

/// Two cross-entropies of the same scores, which come as a view, as does the mask of one; what is masked may be NaN.
fn check_views_and_sums(device: &Device) {
    let (rows, width) = (7, 20);
    let plain = device.clone().without_autodiff();
    let targets = Tensor::<1, Int>::from_data(TensorData::new((0..7).collect::<Vec<i32>>(), [rows]), (&plain, DType::I32));
    let wide: Vec<bool> = (0..rows * 2 * width).map(|place| place % 40 == 32).collect();
    let mask = Tensor::<2, Bool>::from_data(TensorData::new(wide, [rows, 2 * width]), &plain).narrow(1, width, width);
    let mut scores = random(width * rows, 5);
    scores[12 * rows..13 * rows].fill(f32::NAN);
    let outer = random(rows, 6);
    let one = |x: Tensor<2>| cross_entropy(x.transpose(), Some(mask.clone()), targets.clone(), 20.0);
    let (value, [gradient]) = differentiate(device, [(&scores, [width, rows])], &outer, |[x]| one(x));
    assert!(value.iter().chain(&gradient).all(|x| x.is_finite()), "{value:?} {gradient:?}");
    // The same laid out in order.
    let inner = Tensor::<2>::from_data(TensorData::new(scores.clone(), [width, rows]), &plain).transpose();
    let ordered: Vec<f32> = inner.into_data().iter::<f32>().collect();
    let flat = Tensor::<2, Bool>::from_data(mask.clone().into_data(), &plain);
    let (same, [across]) =
        differentiate(device, [(&ordered, [rows, width])], &outer, |[x]| cross_entropy(x, Some(flat.clone()), targets.clone(), 20.0));
    assert_eq!(same, value);
    assert!((0..rows * width).all(|cell| across[cell] == gradient[cell % width * rows + cell / width]));
    // The last one to be asked for its gradient must not have found the first one's in the place of the scores.
    scores[12 * rows..13 * rows].fill(0.25);
    let other = |x: Tensor<2>| cross_entropy(x.transpose(), None, targets.clone(), 5.0);
    let [(_, [first]), (_, [second])] = [
        differentiate(device, [(&scores, [width, rows])], &outer, |[x]| one(x)),
        differentiate(device, [(&scores, [width, rows])], &outer, |[x]| other(x)),
    ];
    let (_, [both]) = differentiate(device, [(&scores, [width, rows])], &outer, |[x]| {
        // What both read is no leaf.
        let x = x.mul_scalar(1.0);
        one(x.clone()) + other(x)
    });
    let expected: Vec<f64> = first.iter().zip(&second).map(|(a, b)| f64::from(*a) + f64::from(*b)).collect();
    close("gradient of two", &both, &expected, 1e-6);
}

#[test]
fn the_cross_entropy_with_a_target() {
    check_cross_entropy(&Device::flex().autodiff());
    check_views_and_sums(&Device::flex().autodiff());
}

#[test]
fn the_cross_entropy_with_a_target_on_a_software_gpu() {
    if let Some(device) = crate::test_gpu() {
        check_cross_entropy(&device.clone().autodiff());
        check_views_and_sums(&device.autodiff());
    }
}

/// Rows of usual, large and small norms, a zero row, and one shorter than the least norm.
fn check_normalize(device: &Device) {
    for (rows, width) in [(1, 1), (1, 2), (3, 5), (33, 64), (65, 384), (100, 31), (3, 1536), (700, 40)] {
        let norms = |row: usize| [1.0, 1e6, 1e-6, 1.0, 0.0, 1e-13][row % 6];
        let input: Vec<f32> = random(rows * width, 1).iter().enumerate().map(|(place, x)| x * norms(place / width)).collect();
        // A gradient in proportion to what is divided by, so that the input's is about 1.
        let outer: Vec<f32> = random(rows * width, 2).iter().enumerate().map(|(place, x)| x * norms(place / width).max(1e-12)).collect();
        let (mut expected, mut slopes) = (Vec::new(), Vec::new());
        for (row, outer) in doubles(&input).chunks(width).zip(doubles(&outer).chunks(width)) {
            let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            let norm = length.max(1e-12);
            let along = if length < 1e-12 { 0.0 } else { row.iter().zip(outer).map(|(x, g)| x * g).sum::<f64>() / (norm * norm) };
            expected.extend(row.iter().map(|x| x / norm));
            slopes.extend(row.iter().zip(outer).map(|(x, g)| (g - x * along) / norm));
        }
        fused_and_plain(device, (&input, [rows, width]), &outer, [&expected, &slopes], normalize);
    }
    for none in [[0, 5], [3, 0]] {
        assert_eq!(normalize(Tensor::zeros(none, device)).dims(), none);
    }
}

#[test]
fn rows_of_unit_length() {
    check_normalize(&Device::flex().autodiff());
    let odd = Tensor::<2>::from_data(TensorData::new(vec![1.0, f32::NAN, 3.0, 4.0], [2, 2]), &Device::flex());
    let odd: Vec<f32> = normalize(odd).into_data().iter::<f32>().collect();
    assert!(odd[..2].iter().all(|x| x.is_nan()) && odd[2..] == [0.6, 0.8]);
}

#[test]
fn rows_of_unit_length_on_a_software_gpu() {
    if let Some(device) = crate::test_gpu() {
        check_normalize(&device.autodiff());
    }
}

/// The norm of one input, with a shift and without, values and gradients.
fn check_norm_alone(device: &Device) {
    for (rows, width) in [(1, 2), (3, 5), (33, 64), (65, 384), (100, 31)] {
        let (input, outer) = (random(rows * width, 1), random(rows * width, 2));
        let [gamma, beta] = [3, 4].map(|seed| random(width, seed));
        let leaves = [(input.as_slice(), [rows, width]), (&gamma, [1, width]), (&beta, [1, width])];
        let shifted =
            differentiate(device, leaves, &outer, |[x, gamma, beta]| norm(x, gamma.reshape([width]), Some(beta.reshape([width])), 1e-5));
        let plain = differentiate(device, [leaves[0], leaves[1]], &outer, |[x, gamma]| norm(x, gamma.reshape([width]), None, 1e-5));
        let [x, outer, gamma, beta] = [&input, &outer, &gamma, &beta].map(|numbers| doubles(numbers));
        let zeros = vec![0.0; rows * width];
        let [to_input, _, to_gamma, to_beta] = reference::residual_norm_gradient([&x, &zeros, &gamma], &outer, 1e-5, &keep);
        close("norm", &shifted.0, &reference::residual_norm([&x, &zeros, &gamma, &beta], 1e-5, &keep), 2e-5);
        close("norm without a shift", &plain.0, &reference::residual_norm([&x, &zeros, &gamma, &zeros[..width]], 1e-5, &keep), 2e-5);
        for (name, got, expected) in [
            ("input", &shifted.1[0], &to_input),
            ("scale", &shifted.1[1], &to_gamma),
            ("shift", &shifted.1[2], &to_beta),
            ("input", &plain.1[0], &to_input),
            ("scale", &plain.1[1], &to_gamma),
        ] {
            // Numbers that are nearly equal have a steep norm: relative to the largest gradient.
            let largest = expected.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
            close(&format!("gradient of the {name}"), got, expected, 2e-5 * largest);
        }
    }
}

/// Rows of usual, large and small size, values and gradients.
fn check_rms_norm(device: &Device) {
    for (rows, width) in [(1, 1), (3, 5), (33, 64), (65, 384), (100, 31), (700, 128)] {
        let size = |row: usize| [1.0, 1e4, 1e-2, 0.0][row % 4];
        let input: Vec<f32> = random(rows * width, 1).iter().enumerate().map(|(at, x)| x * size(at / width)).collect();
        let outer: Vec<f32> = random(rows * width, 2).iter().enumerate().map(|(at, x)| x * size(at / width)).collect();
        let gamma = random(width, 3);
        let leaves = [(input.as_slice(), [rows, width]), (&gamma, [1, width])];
        let (got, [to_input, to_gamma]) = differentiate(device, leaves, &outer, |[x, gamma]| rms_norm(x, gamma.reshape([width]), 1e-5));
        let [x, outer, gamma] = [&input, &outer, &gamma].map(|numbers| doubles(numbers));
        let (mut expected, mut slopes, mut scales) = (Vec::new(), Vec::new(), vec![0.0; width]);
        for (row, outer) in x.chunks(width).zip(outer.chunks(width)) {
            let by = 1.0 / (row.iter().map(|x| x * x).sum::<f64>() / width as f64 + 1e-5).sqrt();
            let along = (0..width).map(|at| outer[at] * gamma[at] * row[at] * by).sum::<f64>() / width as f64;
            expected.extend((0..width).map(|at| row[at] * by * gamma[at]));
            slopes.extend((0..width).map(|at| by * (outer[at] * gamma[at] - row[at] * by * along)));
            (0..width).for_each(|at| scales[at] += outer[at] * row[at] * by);
        }
        close("norm by the root mean square", &got, &expected, 2e-6);
        close("gradient of its input", &to_input, &slopes, 1e-5);
        let largest = scales.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
        close("gradient of its scale", &to_gamma, &scales, 1e-5 * largest);
    }
}

/// Values and gradients; the projection also in 16 bits where the device has them.
fn check_heads(device: &Device) {
    for (heads, key_heads, head, normed) in [(4, 2, 6, true), (3, 1, 4, true), (2, 2, 80, false), (6, 3, 2, false), (16, 8, 128, true)] {
        // More tokens than a task of the CPU or a part of a GPU's sum has.
        let positions: Vec<usize> = (0..75).map(|token| token * 7 % 41).collect();
        let (tokens, base) = (positions.len(), 100.0);
        let (width, joint) = ((heads + 2 * key_heads) * head, 3 * heads * head);
        let (input, outer) = (random(tokens * width, 1), random(tokens * joint, 2));
        let scales = [3, 4].map(|seed| random(head, seed));
        let grouping = Grouping { heads, key_heads, head, epsilon: 1e-6 };
        let known = 41;
        let turned = |x: Tensor<2>, norms: Option<[Tensor<1>; 2]>, precision: Precision| {
            let device = x.device();
            let angles = Tensor::<2>::from_data(TensorData::new(angles(known, head, base), [known, head]), (&device, DType::F32));
            let numbers: Vec<i32> = positions.iter().map(|&position| position as i32).collect();
            let positions = Tensor::<1, Int>::from_data(TensorData::new(numbers, [tokens]), (&device, DType::I32));
            spread_heads(x, norms, angles, positions, grouping, precision)
        };
        let (outer_numbers, input_numbers) = (outer.clone(), input.clone());
        let leaves_of_input = (input_numbers.as_slice(), [tokens, width]);
        let leaves = [(input.as_slice(), [tokens, width]), (&scales[0], [1, head]), (&scales[1], [1, head])];
        let (got, gradients) = differentiate(device, leaves, &outer, |[x, query, key]| {
            let norms = normed.then(|| [query.clone(), key.clone()].map(|scale| scale.reshape([head])));
            // So that both have a gradient in any case.
            turned(x, norms, Precision::F32) + (query.sum() + key.sum()).mul_scalar(0.0).unsqueeze()
        });
        let [x, outer] = [&input, &outer].map(|numbers| doubles(numbers));
        let wide = scales.each_ref().map(|scale| doubles(scale));
        // What attention would read if nothing were turned; turning is the reference's, and so is turning back.
        let outer = reference::rotary(&outer, &positions, heads, base, -1.0);
        let mut straight = Vec::new();
        let (mut to_input, mut to_scales) = (vec![0.0; x.len()], [vec![0.0; head], vec![0.0; head]]);
        for at in 0..tokens * 3 * heads {
            let (token, part, own) = (at / (3 * heads), at / heads % 3, at % heads);
            let source = if part == 0 { own } else { heads + (part - 1) * key_heads + own / (heads / key_heads) };
            let first = token * width + source * head;
            let (row, outer) = (&x[first..first + head], &outer[at * head..][..head]);
            if part == 2 || !normed {
                straight.extend(row);
                (0..head).for_each(|i| to_input[first + i] += outer[i]);
                continue;
            }
            let by = 1.0 / (row.iter().map(|x| x * x).sum::<f64>() / head as f64 + 1e-6).sqrt();
            straight.extend((0..head).map(|i| row[i] * by * wide[part][i]));
            let along = (0..head).map(|i| outer[i] * wide[part][i] * row[i] * by).sum::<f64>() / head as f64;
            for i in 0..head {
                to_input[first + i] += by * (outer[i] * wide[part][i] - row[i] * by * along);
                to_scales[part][i] += outer[i] * row[i] * by;
            }
        }
        let expected = reference::rotary(&straight, &positions, heads, base, 1.0);
        close("heads", &got, &expected, 5e-6);
        for (got, expected) in gradients.iter().zip([&to_input, &to_scales[0], &to_scales[1]]) {
            close("gradient of heads", got, expected, 2e-5 * expected.iter().fold(1.0f64, |largest, x| largest.max(x.abs())));
        }
        let plain = device.clone().without_autodiff();
        let projection = Tensor::<2>::from_data(TensorData::new(input, [tokens, width]), &plain);
        let norms =
            || normed.then(|| scales.each_ref().map(|scale| Tensor::<1>::from_data(TensorData::new(scale.clone(), [head]), &plain)));
        let same = turned(projection.clone(), norms(), Precision::F32).into_data();
        assert_eq!(same.iter::<f32>().collect::<Vec<_>>(), got, "without a graph");
        if !super::super::on_cpu(device) && Precision::Mixed.check(device).is_ok() {
            let half = turned(projection.cast(DType::F16), norms(), Precision::Mixed);
            assert_eq!(half.dtype(), DType::F16);
            let half: Vec<f32> = half.cast(DType::F32).into_data().iter::<f32>().collect();
            let largest = expected.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
            // Numbers, their partners and the result are rounded by up to 2^-11.
            let near = |what: &str, got: &[f32], expected: &[f64], largest: f64| {
                for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
                    let error = (f64::from(*got) - expected).abs();
                    assert!(error <= (expected.abs() + 3.0 * largest) / 2048.0, "{what}[{at}]: {got}, expected {expected}");
                }
            };
            near("16 bits", &half, &expected, largest);
            let (_, [gradient]) = differentiate(device, [leaves_of_input], &outer_numbers, |[x]| {
                let scales = scales.each_ref().map(|scale| Tensor::<1>::from_data(TensorData::new(scale.clone(), [head]), device));
                turned(x.cast(DType::F16), normed.then_some(scales), Precision::Mixed).cast(DType::F32)
            });
            let largest = to_input.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
            near("gradient in 16 bits", &gradient, &to_input, 2.0 * largest);
        }
    }
}

fn check_gates(device: &Device) {
    let share = |x: f64| 1.0 / (1.0 + (-x).exp());
    let silu = |x: f64| x * share(x);
    let silu_slope = |x: f64| share(x) * (1.0 + x * share(-x));
    type Function<'a> = &'a dyn Fn(f64) -> f64;
    let gates: [(Gate, Function<'_>, Function<'_>); 2] =
        [(Gate::Gelu, &reference::gelu, &reference::gelu_slope), (Gate::Silu, &silu, &silu_slope)];
    for ((rows, width), (gate, function, slope)) in
        [(1, 1), (3, 5), (33, 64), (70, 1000)].into_iter().flat_map(|shape| gates.map(|gate| (shape, gate)))
    {
        // Of SiLU also far from zero, where GELU is a line.
        let far = if gate == Gate::Silu { 20.0 } else { 3.0 };
        let input: Vec<f32> = random(rows * 2 * width, 1).iter().map(|x| far * x).collect();
        let outer = random(rows * width, 2);
        let (mut expected, mut slopes) = (Vec::new(), Vec::new());
        for (row, outer) in doubles(&input).chunks(2 * width).zip(doubles(&outer).chunks(width)) {
            let (left, right) = row.split_at(width);
            expected.extend(left.iter().zip(right).map(|(&x, gate)| function(x) * gate));
            slopes.extend((0..width).map(|at| outer[at] * right[at] * slope(left[at])));
            slopes.extend((0..width).map(|at| outer[at] * function(left[at])));
        }
        fused_and_plain(device, (&input, [rows, 2 * width]), &outer, [&expected, &slopes], |x| gated(x, gate));
    }
    assert_eq!(gated(Tensor::zeros([0, 6], device), Gate::Gelu).dims(), [0, 3]);
}

/// Angles of `positions` positions for heads of a width, cosines then sines.
fn angles(positions: usize, head: usize, base: f64) -> Vec<f32> {
    let angle = |position: usize, place: usize| position as f64 / base.powf(2.0 * place as f64 / head as f64);
    let row = |position: usize| {
        let places = move || (0..head / 2).map(move |place| angle(position, place));
        places().map(f64::cos).chain(places().map(f64::sin)).map(|x| x as f32).collect::<Vec<_>>()
    };
    (0..positions).flat_map(row).collect()
}

/// Values and gradients; the joint matrix also in 16 bits where the device has them.
fn check_rotary(device: &Device) {
    for (heads, head, positions) in [(1, 2, vec![0]), (2, 8, vec![0, 1, 2, 0, 1]), (12, 64, (0..300).collect()), (3, 6, vec![999, 0, 7])] {
        let (tokens, width, base) = (positions.len(), 3 * heads * head, 10_000.0);
        let (input, outer) = (random(tokens * width, 1), random(tokens * width, 2));
        let known = positions.iter().max().expect("a token") + 1;
        let numbers: Vec<i32> = positions.iter().map(|&position| position as i32).collect();
        let run = |joint: Tensor<2>, precision: Precision| {
            let device = joint.device();
            let angles = Tensor::<2>::from_data(TensorData::new(angles(known, head, base), [known, head]), (&device, DType::F32));
            let positions = Tensor::<1, Int>::from_data(TensorData::new(numbers.clone(), [tokens]), (&device, DType::I32));
            rotary(joint, angles, positions, heads, precision)
        };
        let (got, [gradient]) = differentiate(device, [(&input, [tokens, width])], &outer, |[joint]| run(joint, Precision::F32));
        let [input_, outer] = [&input, &outer].map(|numbers| doubles(numbers));
        // Angles are f32 like the numbers: 1e-6 of a number and of its partner.
        let expected = reference::rotary(&input_, &positions, heads, base, 1.0);
        close("rotary", &got, &expected, 1e-6);
        close("gradient of rotary", &gradient, &reference::rotary(&outer, &positions, heads, base, -1.0), 1e-6);
        assert_eq!(got[2 * heads * head..width], input[2 * heads * head..width], "values are not turned");
        let joint = Tensor::<2>::from_data(TensorData::new(input.clone(), [tokens, width]), &device.clone().without_autodiff());
        assert_eq!(run(joint.clone(), Precision::F32).into_data().iter::<f32>().collect::<Vec<_>>(), got, "without a graph");
        assert_eq!(joint.clone().into_data().iter::<f32>().collect::<Vec<_>>(), input, "what others still use is left alone");
        if !super::super::on_cpu(device) && Precision::Mixed.check(device).is_ok() {
            let turned = run(joint.cast(DType::F16), Precision::Mixed);
            assert_eq!(turned.dtype(), DType::F16);
            let got: Vec<f32> = turned.cast(DType::F32).into_data().iter::<f32>().collect();
            for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
                // The number, its partner and the result are rounded by up to 2^-11.
                let error = (f64::from(*got) - expected).abs();
                assert!(error <= (expected.abs() + 8.0) / 2048.0, "16 bits[{at}]: {got}, expected {expected}");
            }
        }
    }
}

#[test]
fn norms_gates_and_turns() {
    let device = Device::flex().autodiff();
    check_norm_alone(&device);
    check_rms_norm(&device);
    check_heads(&device);
    check_gates(&device);
    check_rotary(&device);
}

#[test]
fn norms_gates_and_turns_on_a_software_gpu() {
    if let Some(device) = crate::test_gpu() {
        let device = device.autodiff();
        check_norm_alone(&device);
        check_rms_norm(&device);
        check_heads(&device);
        check_gates(&device);
        check_rotary(&device);
    }
}

/// Scores depend on how far tokens are from each other, not on where they are.
#[test]
fn turned_products_know_distances_only() {
    let device = Device::flex();
    let (head, row) = (8, random(24, 1));
    let score = |query: i32, key: i32| {
        let joint = Tensor::<2>::from_data(TensorData::new([row.clone(), row.clone()].concat(), [2, 24]), &device);
        let angles = Tensor::<2>::from_data(TensorData::new(angles(200, head, 100.0), [200, head]), &device);
        let positions = Tensor::<1, Int>::from_data(TensorData::new(vec![query, key], [2]), (&device, DType::I32));
        let turned: Vec<f32> = rotary(joint, angles, positions, 1, Precision::F32).into_data().iter::<f32>().collect();
        (0..head).map(|at| turned[at] * turned[24 + head + at]).sum::<f32>()
    };
    assert!((score(3, 10) - score(103, 110)).abs() < 1e-4 && (score(3, 10) - score(3, 30)).abs() > 1e-2);
}

#[test]
#[should_panic(expected = "a target beyond the 2 columns")]
fn a_target_that_is_no_column_is_refused() {
    let device = Device::flex();
    let targets = Tensor::<1, Int>::from_data(TensorData::new(vec![1, 2], [2]), (&device, DType::I32));
    cross_entropy(Tensor::ones([2, 2], &device), None, targets, 1.0);
}
