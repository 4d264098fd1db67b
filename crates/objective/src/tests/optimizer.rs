//! AdamW against an `f64` reference, its checkpoints, and the global clip against a hand computation.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};

use super::{assert_close, device, numbers, scalar, tensor, values};
use crate::{AdamW, AdamWConfig, Clipping, OptimizerError, ParameterGroup, clip_global_norm};

/// Parameters of three ranks, one of them nested, and one that never has a gradient.
#[derive(Module, Debug)]
struct Weights {
    matrix: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
    inner: Inner,
    unused: Param<Tensor<1>>,
}

#[derive(Module, Debug)]
struct Inner {
    cube: Param<Tensor<3>>,
}

const SIZES: [usize; 3] = [6, 3, 8];

impl Weights {
    fn new(device: &Device) -> Self {
        Self {
            matrix: Param::from_tensor(tensor(&numbers(6, 1), [2, 3], device)),
            bias: Param::from_tensor(tensor(&numbers(3, 2), [3], device)),
            inner: Inner { cube: Param::from_tensor(tensor(&numbers(8, 3), [2, 2, 2], device)) },
            unused: Param::from_tensor(tensor(&numbers(2, 4), [2], device)),
        }
    }

    fn flat(&self) -> [Vec<f32>; 4] {
        [values(&self.matrix.val()), values(&self.bias.val()), values(&self.inner.cube.val()), values(&self.unused.val())]
    }

    /// Gradients that a step of the given number would have.
    fn gradients(&self, step: u64) -> GradientsParams {
        let [matrix, bias, cube] = gradient_values(step);
        let mut gradients = GradientsParams::new();
        gradients.register(self.matrix.id, tensor(&matrix, [2, 3], &Device::flex()));
        gradients.register(self.bias.id, tensor(&bias, [3], &Device::flex()));
        gradients.register(self.inner.cube.id, tensor(&cube, [2, 2, 2], &Device::flex()));
        gradients
    }
}

fn gradient_values(step: u64) -> [Vec<f32>; 3] {
    [0, 1, 2].map(|i| numbers(SIZES[i], 100 + 10 * step + i as u64).iter().map(|x| x * 0.1f32.powi(i as i32)).collect())
}

/// torch.optim.AdamW, one tensor, in f64.
struct Reference {
    parameter: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
    step: i32,
}

impl Reference {
    fn new(parameter: &[f32]) -> Self {
        let zeros = vec![0.0; parameter.len()];
        Self { parameter: parameter.iter().map(|&x| x.into()).collect(), first: zeros.clone(), second: zeros, step: 0 }
    }

    fn update(&mut self, gradient: &[f32], rate: f64, decay: f64, config: &AdamWConfig) {
        self.step += 1;
        for (i, &gradient) in gradient.iter().enumerate() {
            let gradient = f64::from(gradient);
            self.parameter[i] *= 1.0 - rate * decay;
            self.first[i] = config.beta_1 * self.first[i] + (1.0 - config.beta_1) * gradient;
            self.second[i] = config.beta_2 * self.second[i] + (1.0 - config.beta_2) * gradient * gradient;
            let corrected_first = self.first[i] / (1.0 - config.beta_1.powi(self.step));
            let corrected_second = self.second[i] / (1.0 - config.beta_2.powi(self.step));
            self.parameter[i] -= rate * corrected_first / (corrected_second.sqrt() + config.epsilon);
        }
    }
}

#[test]
fn twenty_steps_equal_the_reference() {
    let group = |path: &str, rate, weight_decay| ParameterGroup { path: path.into(), rate, weight_decay };
    // Per case the decay and the rate factor of matrix, bias and cube.
    let cases = [
        (AdamWConfig::default(), [0.01, 0.0, 0.01], [1.0, 1.0, 1.0]),
        (AdamWConfig { decay_all: true, weight_decay: 0.5, ..AdamWConfig::default() }, [0.5; 3], [1.0; 3]),
        (AdamWConfig { beta_1: 0.5, beta_2: 0.9, epsilon: 1e-3, ..AdamWConfig::default() }, [0.01, 0.0, 0.01], [1.0; 3]),
        (
            AdamWConfig { groups: vec![group("inner.", 0.1, Some(0.0)), group("bias", 0.0, None)], ..AdamWConfig::default() },
            [0.01, 0.0, 0.0],
            [1.0, 0.0, 0.1],
        ),
    ];
    for (config, decays, factors) in cases {
        let mut weights = Weights::new(&device());
        let before = weights.flat();
        let mut references: Vec<Reference> = before[..3].iter().map(|parameter| Reference::new(parameter)).collect();
        let mut optimizer = AdamW::new(config.clone()).unwrap();
        for step in 0..20 {
            let rate = 0.05 / (1.0 + step as f64);
            let gradients = weights.gradients(step);
            weights = optimizer.step(rate, weights, gradients);
            for (i, reference) in references.iter_mut().enumerate().filter(|&(i, _)| factors[i] > 0.0) {
                reference.update(&gradient_values(step)[i], rate * factors[i], decays[i], &config);
            }
        }
        let after = weights.flat();
        for (i, reference) in references.iter().enumerate() {
            assert_close(&format!("{config:?}: parameter {i}"), &after[i], &reference.parameter, 2e-6, 1e-5);
            assert_eq!(after[i] != before[i], factors[i] > 0.0, "{config:?}: parameter {i} moves unless frozen");
        }
        assert_eq!(after[3], before[3], "a parameter without gradient is left alone, decay included");
    }
}

#[test]
fn parameters_keep_their_identity_and_their_graph() {
    let device = Device::flex().autodiff().gradient_checkpointing();
    let weights = Weights::new(&device);
    let (id, strategy) = (weights.matrix.id, weights.matrix.val().gradient_checkpointing_strategy());
    let gradients = weights.gradients(0);
    let weights = AdamW::new(AdamWConfig::default()).unwrap().step(0.1, weights, gradients);
    assert_eq!(weights.matrix.id, id);
    assert_eq!(weights.matrix.val().gradient_checkpointing_strategy(), strategy);
    // The next forward and backward work, and reach every parameter.
    let input = tensor(&numbers(2, 9), [1, 2], &device);
    let loss = (input.matmul(weights.matrix.val()) * weights.bias.val().unsqueeze()).sum();
    assert_eq!(GradientsParams::from_grads(loss.backward(), &weights).len(), 2);
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one_bit_for_bit() {
    let run = |optimizer: &mut AdamW, mut weights: Weights, steps: std::ops::Range<u64>| {
        for step in steps {
            let gradients = weights.gradients(step);
            weights = optimizer.step(0.01, weights, gradients);
        }
        weights
    };
    let mut uninterrupted = AdamW::new(AdamWConfig::default()).unwrap();
    let expected = run(&mut uninterrupted, Weights::new(&device()), 0..12);

    let mut first = AdamW::new(AdamWConfig::default()).unwrap();
    let stopped = run(&mut first, Weights::new(&device()), 0..7);
    let state = first.state();
    // Another process: new parameter identifiers, same values.
    let [matrix, bias, cube, unused] = stopped.flat();
    let restored = Weights {
        matrix: Param::from_tensor(tensor(&matrix, [2, 3], &device())),
        bias: Param::from_tensor(tensor(&bias, [3], &device())),
        inner: Inner { cube: Param::from_tensor(tensor(&cube, [2, 2, 2], &device())) },
        unused: Param::from_tensor(tensor(&unused, [2], &device())),
    };
    let mut second = AdamW::new(AdamWConfig::default()).unwrap();
    second.load_state(&restored, state.clone()).unwrap();
    assert_eq!(second.state(), state, "what was loaded is what is saved");
    let resumed = run(&mut second, restored, 7..12);
    assert_eq!(resumed.flat(), expected.flat());
    assert_eq!(second.state(), uninterrupted.state());

    // Without the state the run goes elsewhere: the comparison above can fail.
    let mut forgetful = AdamW::new(AdamWConfig::default()).unwrap();
    let stopped = run(&mut AdamW::new(AdamWConfig::default()).unwrap(), Weights::new(&device()), 0..7);
    assert_ne!(run(&mut forgetful, stopped, 7..12).flat(), expected.flat());
}

#[test]
fn the_state_names_every_parameter_by_its_path() {
    let weights = Weights::new(&device());
    let mut optimizer = AdamW::new(AdamWConfig::default()).unwrap();
    assert!(optimizer.state().is_empty(), "no step, no state");
    let gradients = weights.gradients(0);
    let _ = optimizer.step(0.01, weights, gradients);
    let state = optimizer.state();
    let listed: Vec<(&str, Vec<usize>)> = state.iter().map(|(name, data)| (&name[..], data.shape().to_vec())).collect();
    let expected = [
        ("bias.exp_avg", vec![3]),
        ("bias.exp_avg_sq", vec![3]),
        ("bias.step", vec![1]),
        ("inner.cube.exp_avg", vec![2, 2, 2]),
        ("inner.cube.exp_avg_sq", vec![2, 2, 2]),
        ("inner.cube.step", vec![1]),
        ("matrix.exp_avg", vec![2, 3]),
        ("matrix.exp_avg_sq", vec![2, 3]),
        ("matrix.step", vec![1]),
        ("unused.step", vec![1]),
    ];
    assert_eq!(listed, expected);
}

#[test]
fn a_state_of_another_model_is_refused_and_changes_nothing() {
    let weights = Weights::new(&device());
    let mut optimizer = AdamW::new(AdamWConfig::default()).unwrap();
    let gradients = weights.gradients(0);
    let weights = optimizer.step(0.01, weights, gradients);
    let good = optimizer.state();

    let mut renamed = good.clone();
    renamed[6].0 = "matrx.exp_avg".into();
    let error = optimizer.load_state(&weights, renamed).unwrap_err();
    let names = |name: &str| vec![name.to_owned()];
    assert_eq!(error, OptimizerError::Names { missing: names("matrix.exp_avg"), unknown: names("matrx.exp_avg") });

    let without_unused: Vec<_> = good.iter().filter(|(name, _)| name != "unused.step").cloned().collect();
    let error = optimizer.load_state(&weights, without_unused).unwrap_err();
    assert_eq!(error, OptimizerError::Names { missing: names("unused.step"), unknown: vec![] });

    let mut transposed = good.clone();
    transposed[6].1 = TensorData::new(vec![0.0f32; 6], [3, 2]);
    let message = optimizer.load_state(&weights, transposed).unwrap_err().to_string();
    assert!(message.contains("matrix.exp_avg") && message.contains("F32 [3, 2]") && message.contains("F32 [2, 3]"), "{message}");

    assert_eq!(optimizer.state(), good, "a refused state changes nothing");
    optimizer.load_state(&weights, vec![]).unwrap();
    assert!(optimizer.state().is_empty());
}

#[test]
fn treatments_show_what_groups_do_and_refuse_a_misspelt_one() {
    let weights = Weights::new(&device());
    let with_group = |path: &str| {
        let groups = vec![ParameterGroup { path: path.into(), rate: 0.5, weight_decay: None }];
        AdamW::new(AdamWConfig { groups, ..AdamWConfig::default() }).unwrap()
    };
    let rows = with_group("inner").treatments(&weights).unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (&row.path[..], row.rate, row.weight_decay)).collect();
    assert_eq!(rows, [("bias", 1.0, 0.0), ("inner.cube", 0.5, 0.01), ("matrix", 1.0, 0.01), ("unused", 1.0, 0.0)]);
    let message = with_group("iner").treatments(&weights).unwrap_err().to_string();
    assert!(message.contains("`iner`") && message.contains("inner.cube"), "{message}");
}

/// Gradients 3, 4 and 12 in two parameters: the global norm is 13, the norms of the parameters 5 and 12.
fn three_four_twelve(weights: &Weights) -> GradientsParams {
    let mut gradients = GradientsParams::new();
    gradients.register(weights.matrix.id, tensor(&[3.0, 0.0, 0.0, 0.0, 4.0, 0.0], [2, 3], &Device::flex()));
    gradients.register(weights.bias.id, tensor(&[0.0, -12.0, 0.0], [3], &Device::flex()));
    gradients
}

#[test]
fn clipping_scales_all_gradients_by_the_global_norm() {
    let weights = Weights::new(&device());
    // max, and the factor max / (13 + 1e-6) capped at 1; no clipping at 0.
    for (max, factor) in [(1.0, 1.0 / 13.000_001), (6.5, 6.5 / 13.000_001), (13.5, 1.0), (0.0, 1.0)] {
        let (clipped, norm) = clip_global_norm(&weights, three_four_twelve(&weights), max);
        assert_close(&format!("norm before clipping to {max}"), &[scalar(&norm)], &[13.0], 0.0, 1e-6);
        let matrix = values(&clipped.get::<2>(weights.matrix.id).unwrap());
        assert_close(&format!("matrix at {max}"), &matrix, &[3.0 * factor, 0.0, 0.0, 0.0, 4.0 * factor, 0.0], 0.0, 1e-6);
        let bias = values(&clipped.get::<1>(weights.bias.id).unwrap());
        assert_close(&format!("bias at {max}"), &bias, &[0.0, -12.0 * factor, 0.0], 0.0, 1e-6);
        assert_eq!(clipped.len(), 2);
    }
}

#[test]
fn the_norm_of_no_gradients_is_zero() {
    let weights = Weights::new(&device());
    assert_eq!(scalar(&Clipping::measure(&weights, &GradientsParams::new(), 0.0).norm), 0.0);
    let (clipped, norm) = clip_global_norm(&weights, GradientsParams::new(), 1.0);
    assert_eq!((clipped.len(), scalar(&norm)), (0, 0.0));
}

#[test]
fn a_step_that_clips_on_its_way_is_the_step_after_clipping_to_the_bit() {
    // Norms of these gradients lie between 1 and 3: every step is clipped at .5, none at 100; 0 asks for no clipping.
    for (max, clips) in [(0.5, true), (100.0, false), (0.0, false)] {
        let [mut after, mut on_its_way] = [Weights::new(&device()), Weights::new(&device())];
        let [mut first, mut second] = [0, 1].map(|_| AdamW::new(AdamWConfig::default()).unwrap());
        for step in 0..6 {
            let gradients = after.gradients(step);
            let (clipped, norm) = clip_global_norm(&after, gradients, max);
            after = first.step(0.05, after, clipped);
            let gradients = on_its_way.gradients(step);
            let clipping = Clipping::measure(&on_its_way, &gradients, max);
            on_its_way = second.step_clipped(0.05, on_its_way, gradients, &clipping);
            assert_eq!(values(&clipping.norm), values(&norm), "step {step} at {max}");
            assert_eq!(scalar(&norm) > 0.5 && max == 0.5, clips, "step {step} at {max}: a norm of {}", scalar(&norm));
        }
        assert_eq!(after.flat(), on_its_way.flat(), "clipped to {max}");
        assert_eq!(first.state(), second.state(), "clipped to {max}");
    }
}

#[test]
fn the_factor_of_a_norm_is_that_of_tensor_operations_to_the_bit() {
    let weights = Weights::new(&device());
    for (size, max) in [(1e-9, 1.0), (0.3, 1.0), (3.0, 1.0), (7.7, 0.1), (1e12, 5.0), (1e30, 1.0)] {
        let numbers = numbers(6, 77).iter().map(|x| x * size).collect::<Vec<f32>>();
        let gradients = || {
            let mut gradients = GradientsParams::new();
            gradients.register(weights.matrix.id, tensor(&numbers, [2, 3], &Device::flex()));
            gradients
        };
        let (clipped, norm) = clip_global_norm(&weights, gradients(), max);
        let exact = numbers.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        assert_eq!(scalar(&norm), exact as f32, "the norm of numbers around {size}, beyond f32 when squared or not");
        let factor = norm.add_scalar(1e-6).recip().mul_scalar(max).clamp_max(1.0);
        let expected = values(&(tensor(&numbers, [2, 3], &Device::flex()) * factor.reshape([1, 1])));
        assert_eq!(values(&clipped.get::<2>(weights.matrix.id).unwrap()), expected, "numbers around {size} clipped to {max}");
    }
}

#[test]
fn a_norm_that_is_no_number_reaches_the_gradients() {
    let weights = Weights::new(&device());
    let mut gradients = GradientsParams::new();
    gradients.register(weights.bias.id, tensor(&[1.0, f32::NAN, 2.0], [3], &Device::flex()));
    let (clipped, norm) = clip_global_norm(&weights, gradients, 1.0);
    assert!(scalar(&norm).is_nan());
    assert!(values(&clipped.get::<1>(weights.bias.id).unwrap()).iter().all(|x| x.is_nan()));
}
