//! A loss taken a few rows of the score matrix at a time: the same value, gradients and parts as over the whole matrix.

use super::fixture::{Data, check, config, take, term};
use super::{assert_close, device, scalar, values};
use crate::{Block, LossConfig, LossKind, LossState, MaskConfig, MaskRule, MixingConfig, Now, Temperature};

/// Losses that may be taken so.
pub(super) fn losses_by_rows() -> Vec<LossConfig> {
    let mut configs: Vec<LossConfig> = ["info-nce", "lce", "debiased", "hcl", "ccr", "lambda-mrr"].map(|kind| config(kind, 0.2)).into();
    configs.push(LossConfig { matryoshka: vec![2, 4], matryoshka_weights: vec![1.0, 3.0], ..config("info-nce", 0.1) });
    configs.push(LossConfig { weight: 0.9, term: vec![term("lce", 0.5), term("lambda-mrr", 0.3)], ..config("hcl", 0.3) });
    let mask = |margin: f64, rule| MaskConfig { margin: Some(margin), ..MaskConfig::new(rule) };
    configs.push(LossConfig { mask: vec![mask(0.3, MaskRule::Student), mask(0.0, MaskRule::Guide)], ..config("info-nce", 0.2) });
    configs
}

#[test]
fn value_and_gradients_follow_the_reference_whatever_the_number_of_rows() {
    for targets in [vec![0, 1, 2, 3, 4], vec![3, 3, 0, 8, 8]] {
        for blocked in [vec![], super::losses::some_blocked()] {
            let data = Data { blocked, synthetic: (0..9).map(|column| column % 4 == 3).collect(), ..Data::full(&targets, 9, 4, 91) };
            for config in losses_by_rows() {
                for rows_at_once in [1, 2, 5, 64] {
                    let config = LossConfig { rows_at_once, ..config.clone() };
                    config.validate().unwrap();
                    check(&format!("{config:?}"), &config, &data, &Now::default());
                }
            }
        }
    }
}

/// Rows of equal number in every part: what the log shows is the same as well. The learned temperature has its gradient.
#[test]
fn parts_and_the_temperature_are_those_of_the_whole() {
    let data = Data { positives: vec![], ..Data::full(&[0, 2, 4, 6, 1, 3], 9, 4, 93) };
    let learned = Temperature::Learned { learned: 0.3, min: 0.01, learning_rate: 0.05 };
    for config in losses_by_rows() {
        let config = LossConfig { temperature: learned, ..config };
        let all = |rows_at_once: usize| {
            let config = LossConfig { rows_at_once, ..config.clone() };
            let state: LossState = config.state(&device());
            let batch = data.embedded();
            let evaluated = config.evaluate(&batch, &Now::default(), &state);
            let mut gradients = evaluated.value.backward();
            let temperature = state.leaves()[0].grad_remove(&mut gradients).map(|gradient| scalar(&gradient));
            let parts: Vec<_> = evaluated.parts.iter().map(|(name, part)| (name.clone(), scalar(part))).collect();
            (temperature.expect("it has a gradient"), parts)
        };
        let (whole, parted) = (all(0), all(2));
        assert_close(&format!("{config:?}: temperature"), &[parted.0], &[f64::from(whole.0)], 1e-6, 1e-5);
        assert_eq!(parted.1.iter().map(|it| &it.0).collect::<Vec<_>>(), whole.1.iter().map(|it| &it.0).collect::<Vec<_>>());
        for ((name, got), (_, expected)) in parted.1.iter().zip(&whole.1) {
            // Shares of cells are means of the parts' shares, which have other numbers of cells.
            let tolerance = if name.ends_with("_share") { 0.2 } else { 1e-6 };
            assert_close(&format!("{config:?}: {name}"), &[*got], &[f64::from(*expected)], tolerance, 1e-5);
        }
    }
}

#[test]
fn a_loss_that_reads_the_whole_matrix_is_refused() {
    let refused = |config: LossConfig, part: &str| {
        LossConfig { rows_at_once: 0, ..config.clone() }.validate().unwrap();
        let message = LossConfig { rows_at_once: 8, ..config }.validate().unwrap_err().to_string();
        assert!(message.contains("loss.rows_at_once = 8") && message.contains(part), "{message}");
    };
    for kind in ["pairwise", "margin-mse", "kl", "adversarial", "passage-centric"] {
        refused(config(kind, 0.2), kind);
        refused(LossConfig { term: vec![term(kind, 0.5)], ..LossConfig::default() }, kind);
    }
    refused(LossConfig { symmetric: true, ..LossConfig::default() }, "info-nce");
    refused(LossConfig { blocks: vec![Block::QueryQuery], ..LossConfig::default() }, "blocks");
    refused(LossConfig { mixing: Some(MixingConfig::default()), ..LossConfig::default() }, "mixing");
    assert!(LossKind::names().filter(|kind| LossConfig { rows_at_once: 1, ..config(kind, 0.2) }.validate().is_ok()).count() == 6);
}

/// A batch whose rows are constants on one side, as frozen documents are.
#[test]
fn constants_get_no_gradient() {
    let data = Data::full(&[0, 2, 4], 7, 4, 95);
    let mut batch = data.embedded();
    batch.documents = burn::tensor::Tensor::from_inner(batch.documents.inner());
    let config = LossConfig { rows_at_once: 2, ..config("info-nce", 0.2) };
    let value = config.evaluate(&batch, &Now::default(), &LossState::default()).value;
    let gradients = value.backward();
    let queries = values(&batch.queries.grad(&gradients).unwrap());
    let expected: Vec<f64> = take(&config, &data, &Now::default()).queries.into_iter().map(f64::from).collect();
    assert_close("queries", &queries, &expected, 1e-6, 1e-5);
    assert!(batch.documents.grad(&gradients).is_none());
}
