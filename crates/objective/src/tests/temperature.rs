//! Temperatures that change: over the run, and learned.

use burn::tensor::{Device, Tensor, TensorData};

use super::fixture::{Data, config, take, term};
use super::{assert_close, device, scalar};
use crate::{LossConfig, LossState, MaskConfig, MaskRule, Now, OptimizerError, Temperature, reference};

fn learned(kind: &str, temperature: f64, min: f64) -> LossConfig {
    LossConfig { temperature: Temperature::Learned { learned: temperature, min, learning_rate: 0.05 }, ..config(kind, 1.0) }
}

/// The gradient of the only leaf.
fn gradient(config: &LossConfig, data: &Data, state: &LossState) -> Option<Tensor<1>> {
    let leaf = state.leaves().pop().unwrap();
    let value = config.evaluate(&data.embedded(), &Now::default(), state).value;
    leaf.grad(&value.backward())
}

#[test]
fn a_line_runs_from_the_first_step_to_the_last() {
    let data = Data::full(&[0, 1, 2], 6, 4, 71);
    let line = LossConfig { temperature: Temperature::Linear { from: 0.1, to: 0.02 }, ..config("info-nce", 1.0) };
    for (step, temperature) in [(0, 0.1), (5, 0.06), (10, 0.02), (99, 0.02)] {
        let now = Now { step, progress: step as f64 / 10.0, seed: 0 };
        let (got, expected) = (take(&line, &data, &now), take(&config("info-nce", temperature), &data, &now));
        assert!((got.value - expected.value).abs() < 1e-5, "step {step}: {} against {}", got.value, expected.value);
    }
}

#[test]
fn the_gradient_of_the_temperature_equals_finite_differences() {
    const STEP: f64 = 1e-6;
    let data = Data::full(&[0, 2, 4, 6, 8], 9, 4, 73);
    let mut sum = learned("info-nce", 0.3, 0.01);
    sum.term = vec![term("kl", 0.5), term("margin-mse", 0.2)];
    sum.term[1].temperature = Some(Temperature::Fixed(0.7));
    let mut truncated = learned("info-nce", 0.3, 0.01);
    truncated.matryoshka = vec![2, 4];
    let mut masked = learned("pairwise", 0.3, 0.01);
    masked.mask = vec![MaskConfig::new(MaskRule::Student)];
    let mut configs: Vec<LossConfig> =
        ["lce", "debiased", "hcl", "ccr", "lambda-mrr", "passage-centric"].map(|k| learned(k, 0.5, 0.01)).into();
    configs.extend([sum, truncated, masked, LossConfig { tau_plus: Some(0.4), ..learned("debiased", 0.9, 0.01) }]);
    for config in configs {
        config.validate().unwrap();
        let Temperature::Learned { learned, .. } = config.temperature else { unreachable!() };
        let state = config.state(&device());
        let value = config.evaluate(&data.embedded(), &Now::default(), &state);
        let at = |log: f64| reference::evaluate(&config, &data.reference(), &Now::default(), Some(log.exp()), &[]);
        let expected = (at(learned.ln() + STEP) - at(learned.ln() - STEP)) / (2.0 * STEP);
        assert!(expected.abs() > 1e-3, "{config:?}: the test needs a gradient above rounding, {expected}");
        assert_close(&format!("{config:?}: loss"), &[scalar(&value.value)], &[at(learned.ln())], 1e-5, 1e-5);
        assert_close(&format!("{config:?}"), &[scalar(&gradient(&config, &data, &state).unwrap())], &[expected], 1e-5, 1e-4);
        let (name, temperature) = value.parts.last().unwrap();
        assert!(*name == "temperature" && (f64::from(scalar(temperature)) - learned).abs() < 1e-6);
    }
}

#[test]
fn a_training_step_moves_the_temperature_downhill_and_not_below_its_bound() {
    let data = Data::full(&[0, 1, 2], 6, 4, 75);
    let config = learned("info-nce", 0.3, 0.25);
    let mut state = config.state(&device());
    let before = scalar(&config.evaluate(&data.embedded(), &Now::default(), &state).value);
    let first = gradient(&config, &data, &state);
    let sign = scalar(first.as_ref().unwrap()).signum();
    state.update(vec![first]);
    let moved = scalar(&state.temperature().unwrap());
    assert!((moved.ln() - (0.3f32.ln() - sign * 0.05)).abs() < 1e-4, "the first step of Adam is the learning rate: {moved}");
    let after = scalar(&config.evaluate(&data.embedded(), &Now::default(), &state).value);
    assert!(after < before, "{after} against {before}");
    // Pushed down for long enough it stops at the bound, and can come back from there.
    let push = |state: &mut LossState, gradient: f32| state.update(vec![Some(Tensor::from_floats([gradient], &Device::flex()))]);
    (0..30).for_each(|_| push(&mut state, 1.0));
    assert!((scalar(&state.temperature().unwrap()) - 0.25).abs() < 1e-6);
    (0..60).for_each(|_| push(&mut state, -1.0));
    assert!(scalar(&state.temperature().unwrap()) > 0.26);
    state.update(vec![None]);
    assert!(gradient(&config, &data, &state).is_some(), "it is still a leaf of the graph");
}

#[test]
fn a_restored_state_goes_on_with_the_same_bits() {
    let data = Data::full(&[0, 1, 2], 6, 4, 77);
    let config = learned("info-nce", 0.3, 0.01);
    let step = |state: &mut LossState| {
        let gradient = gradient(&config, &data, state);
        state.update(vec![gradient]);
    };
    let mut straight = config.state(&device());
    assert_eq!(straight.state().len(), 1, "before any step there is the temperature alone");
    (0..3).for_each(|_| step(&mut straight));
    let saved = straight.state();
    let names: Vec<&str> = saved.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["log_temperature", "log_temperature.exp_avg", "log_temperature.exp_avg_sq", "log_temperature.step"]);
    let mut restored = config.state(&device());
    restored.load_state(saved).unwrap();
    (0..3).for_each(|_| step(&mut straight));
    (0..3).for_each(|_| step(&mut restored));
    assert_eq!(scalar(&straight.temperature().unwrap()), scalar(&restored.temperature().unwrap()));
}

#[test]
fn a_state_begins_where_another_one_has_got_to() {
    let data = Data::full(&[0, 1, 2], 6, 4, 77);
    let config = learned("info-nce", 0.3, 0.01);
    let mut before = config.state(&device());
    for _ in 0..3 {
        let gradient = gradient(&config, &data, &before);
        before.update(vec![gradient]);
    }
    let reached = scalar(&before.temperature().unwrap());
    let mut state = config.state(&device());
    state.begin_with(&before);
    assert!(reached != 0.3 && scalar(&state.temperature().unwrap()) == reached, "{reached}");
    assert_eq!(state.state().len(), 1, "the temperature alone");
    assert!(gradient(&config, &data, &state).is_some(), "it is a leaf of the graph");
    // Not below its own bound; and nothing where one of the two learns none.
    let mut bounded = learned("info-nce", 0.6, 0.5).state(&device());
    bounded.begin_with(&before);
    assert!((scalar(&bounded.temperature().unwrap()) - f32::max(reached, 0.5)).abs() < 1e-6);
    state.begin_with(&LossState::default());
    assert_eq!(scalar(&state.temperature().unwrap()), reached);
    let mut none = LossState::default();
    none.begin_with(&before);
    assert!(none.temperature().is_none());
}

#[test]
fn a_state_of_another_configuration_is_refused() {
    let mut learns = learned("info-nce", 0.3, 0.01).state(&device());
    let mut fixed = config("info-nce", 0.3).state(&device());
    assert!(fixed.leaves().is_empty() && fixed.state().is_empty() && fixed.temperature().is_none());
    fixed.update(vec![]);
    fixed.load_state(vec![]).unwrap();
    assert!(matches!(fixed.load_state(learns.state()), Err(OptimizerError::Names { .. })));
    assert!(matches!(learns.load_state(vec![]), Err(OptimizerError::Names { .. })));
    let wrong = vec![("log_temperature".to_owned(), TensorData::new(vec![1.0f32, 2.0], [2]))];
    assert!(matches!(learns.load_state(wrong), Err(OptimizerError::Layout { .. })));
}

#[test]
#[should_panic(expected = "made by another configuration")]
fn a_learned_temperature_needs_its_state() {
    let data = Data::full(&[0, 1, 2], 6, 4, 79);
    learned("info-nce", 0.3, 0.01).evaluate(&data.embedded(), &Now::default(), &LossState::default());
}
