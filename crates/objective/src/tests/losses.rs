//! Values and gradients of every loss against finite differences of the `f64` reference, and what holds for all of them.

use super::fixture::{Data, check, config, take, term, unit_rows};
use super::{assert_close, numbers, scalar};
use crate::{Block, LossConfig, LossKind, LossState, Now, Temperature, reference};

fn symmetric(temperature: f64) -> LossConfig {
    LossConfig { symmetric: true, ..config("info-nce", temperature) }
}

/// Every kind at a temperature that its values suit, and their variants.
pub(super) fn every_loss() -> Vec<LossConfig> {
    let mut configs: Vec<LossConfig> = LossKind::names().map(|kind| config(kind, 0.2)).collect();
    configs.extend([
        symmetric(0.1),
        LossConfig { in_batch: true, ..config("margin-mse", 0.5) },
        LossConfig { teacher_scale: Some(0.3), ..config("margin-mse", 1.0) },
        LossConfig { teacher_temperature: Some(2.0), ..config("kl", 0.1) },
        LossConfig { cut: Some(3), ..config("lambda-mrr", 0.2) },
        LossConfig { tau_plus: Some(0.3), ..config("debiased", 0.5) },
        LossConfig { tau_plus: Some(0.2), beta: Some(2.0), ..config("hcl", 0.5) },
        LossConfig { beta: Some(0.0), ..config("hcl", 0.5) },
        LossConfig { beta: Some(0.1), ..config("ccr", 0.5) },
    ]);
    configs
}

/// Layouts of targets over nine columns.
fn layouts() -> [(&'static str, Vec<usize>); 3] {
    [("first columns", vec![0, 1, 2, 3, 4]), ("interleaved", vec![0, 2, 4, 6, 8]), ("shared", vec![3, 3, 0, 8, 8])]
}

pub(super) fn some_blocked() -> Vec<bool> {
    (0..5 * 9).map(|cell| cell % 4 == 1).collect()
}

#[test]
fn gradients_equal_finite_differences_of_the_reference() {
    for (layout, targets) in layouts() {
        for blocked in [vec![], some_blocked()] {
            let data = Data { blocked: blocked.clone(), ..Data::full(&targets, 9, 4, 1) };
            let bare = Data { positives: vec![], own: vec![], ..data.clone() };
            for config in every_loss() {
                let what = format!("{config:?}, {layout}, {} blocked", blocked.iter().filter(|&&b| b).count());
                check(&what, &config, &data, &Now::default());
                check(&format!("{what}, all own"), &config, &bare, &Now::default());
            }
        }
    }
}

#[test]
fn dot_products_of_any_length_are_followed_too() {
    let data = Data { queries: numbers(5 * 4, 1), documents: numbers(9 * 4, 2), dimension: 4, ..Data::default() };
    for (layout, targets) in layouts() {
        for blocked in [vec![], some_blocked()] {
            let data = Data { targets: targets.clone(), blocked, ..data.clone() };
            for config in
                [config("info-nce", 0.05), config("info-nce", 1.0), symmetric(0.1), config("pairwise", 0.05), config("pairwise", 1.0)]
            {
                check(&format!("{config:?}, {layout}"), &config, &data, &Now::default());
            }
        }
    }
}

/// Sums of losses, blocks of further similarities, and truncations.
pub(super) fn sums_blocks_and_truncations() -> Vec<LossConfig> {
    let blocks = |blocks: &[Block]| LossConfig { blocks: blocks.to_vec(), ..config("info-nce", 0.2) };
    let with_terms = |terms: &[(&str, f64)]| LossConfig {
        weight: 0.9,
        term: terms.iter().map(|&(kind, weight)| term(kind, weight)).collect(),
        ..config("info-nce", 0.2)
    };
    let mut other_temperature = with_terms(&[("margin-mse", 0.75), ("margin-mse", 0.5)]);
    other_temperature.term[0].temperature = Some(Temperature::Fixed(1.0));
    other_temperature.term[1].in_batch = true;
    let truncated = |normalize: bool, weights: &[f64]| LossConfig {
        matryoshka: vec![2, 4],
        matryoshka_weights: weights.to_vec(),
        matryoshka_normalize: normalize,
        ..with_terms(&[("kl", 0.5)])
    };
    vec![
        blocks(&[Block::QueryQuery]),
        blocks(&[Block::PositivePositive]),
        blocks(&[Block::DocumentDocument]),
        blocks(&[Block::QueryQuery, Block::DocumentDocument]),
        LossConfig { symmetric: true, ..blocks(&[Block::QueryQuery]) },
        LossConfig { kind: LossKind::named("hcl").unwrap(), ..blocks(&[Block::QueryQuery, Block::PositivePositive]) },
        LossConfig { kind: LossKind::named("pairwise").unwrap(), ..blocks(&[Block::QueryQuery, Block::PositivePositive]) },
        with_terms(&[("passage-centric", 0.1)]),
        with_terms(&[("lce", 0.5)]),
        with_terms(&[("kl", 1.0), ("lambda-mrr", 0.3)]),
        other_temperature,
        truncated(true, &[]),
        truncated(true, &[1.0, 3.0]),
        truncated(false, &[]),
    ]
}

#[test]
fn sums_blocks_and_truncations_follow_the_reference() {
    let configs = sums_blocks_and_truncations();
    for (layout, targets) in layouts() {
        for blocked in [vec![], some_blocked()] {
            let data = Data { blocked, ..Data::full(&targets, 9, 4, 21) };
            for config in &configs {
                config.validate().unwrap();
                check(&format!("{config:?}, {layout}"), config, &data, &Now::default());
            }
        }
    }
}

#[test]
fn a_target_is_never_blocked() {
    let targets = [0, 4, 2];
    let data = Data { positives: vec![], ..Data::full(&targets, 5, 4, 3) };
    let only_targets: Vec<bool> = (0..15).map(|cell| targets[cell / 5] == cell % 5).collect();
    for config in every_loss() {
        let blocked = Data { blocked: only_targets.clone(), own: only_targets.iter().map(|target| !target).collect(), ..data.clone() };
        let open = Data { own: vec![], ..data.clone() };
        assert_eq!(take(&config, &blocked, &Now::default()), take(&config, &open, &Now::default()), "{config:?}");
    }
}

#[test]
fn with_nothing_but_the_target_left_there_is_nothing_to_learn() {
    let data = Data { blocked: vec![true; 15], ..Data::full(&[0, 4, 2], 5, 4, 3) };
    let one = Data { positives: vec![], ..Data::full(&[0], 1, 4, 3) };
    for config in every_loss() {
        for data in [&data, &one] {
            let taken = take(&config, data, &Now::default());
            // A second positive that is marked is no negative, and lambda-mrr has none to compare it with.
            assert!(taken.value.abs() < 1e-6, "{config:?}: {}", taken.value);
            assert!(taken.gradients().all(|gradient| gradient.abs() < 1e-5), "{config:?}: {taken:?}");
        }
    }
}

#[test]
fn one_row_without_candidates_adds_nothing() {
    // Row 1 is fully blocked: the loss is that of the other rows, and its query has no gradient.
    let data = Data { blocked: (0..15).map(|cell| cell / 5 == 1).collect(), positives: vec![], ..Data::full(&[0, 4, 2], 5, 4, 5) };
    for config in every_loss().into_iter().filter(|config| !config.symmetric && config.kind.name() != "passage-centric") {
        let taken = take(&config, &data, &Now::default());
        assert!(taken.value.is_finite() && taken.value != 0.0, "{config:?}: {}", taken.value);
        assert!(taken.queries[4..8].iter().all(|gradient| gradient.abs() < 1e-5), "{config:?}: {taken:?}");
    }
}

#[test]
fn a_column_blocked_for_every_query_has_no_gradient_and_no_effect() {
    let data = Data { blocked: (0..15).map(|cell| cell % 5 == 4).collect(), positives: vec![], ..Data::full(&[0, 1, 2], 5, 4, 5) };
    let mut moved = data.clone();
    moved.documents[16..].iter_mut().for_each(|x| *x *= -50.0);
    for config in every_loss() {
        let taken = take(&config, &data, &Now::default());
        assert_eq!(&taken.documents[16..], &[0.0; 4], "{config:?}");
        assert_eq!(taken.value, take(&config, &moved, &Now::default()).value, "{config:?}");
    }
}

#[test]
fn another_positive_is_a_negative_for_no_loss() {
    // Column 4 is a second positive of query 0 and blocked for the others. Only lambda-mrr may look at it.
    let data = Data::full(&[0, 1, 2], 5, 4, 5);
    let data = Data { own: vec![], ranks: (1..=15).collect(), ..data };
    let data = Data { positives: (0..15).map(|cell| cell == 4).collect(), blocked: (0..15).map(|cell| cell % 5 == 4).collect(), ..data };
    let open = Data { blocked: (0..15).map(|cell| cell % 5 == 4 && cell != 4).collect(), ..data.clone() };
    for config in every_loss() {
        assert_eq!(take(&config, &data, &Now::default()), take(&config, &open, &Now::default()), "{config:?}: blocked or not");
        let gradient = &take(&config, &data, &Now::default()).documents[16..];
        assert_eq!(gradient == [0.0; 4], config.kind.name() != "lambda-mrr", "{config:?}: {gradient:?}");
    }
}

#[test]
fn huge_scores_give_finite_losses_and_gradients() {
    let data = Data { blocked: (0..18).map(|cell| cell % 6 == 5).collect(), ..Data::full(&[0, 1, 2], 6, 4, 7) };
    let huge = Data {
        queries: numbers(12, 7).iter().map(|x| x * 300.0).collect(),
        documents: numbers(24, 8).iter().map(|x| x * 300.0).collect(),
        ..data
    };
    for config in every_loss() {
        let config = LossConfig { temperature: 0.01.into(), ..config };
        let taken = take(&config, &huge, &Now::default());
        assert!(taken.value.is_finite(), "{config:?}: {}", taken.value);
        assert!(taken.value >= 0.0 || config.kind.name() == "ccr", "{config:?}: {}", taken.value);
        assert!(taken.gradients().all(|gradient| gradient.is_finite()), "{config:?}");
    }
}

#[test]
fn the_share_at_the_floor_is_counted() {
    // The first query is next to its positive and far from the negative: the corrected mass is below what cosines allow.
    let data = Data {
        queries: unit_rows(&[1.0, 0.0, 1.0, 0.0], 2),
        documents: unit_rows(&[1.0, 0.0, -1.0, 0.01, 1.0, 0.1], 2),
        dimension: 2,
        targets: vec![0, 2],
        blocked: vec![false, false, true, false, false, false],
        ..Data::default()
    };
    let config = LossConfig { tau_plus: Some(0.1), ..config("debiased", 0.5) };
    let evaluated = config.evaluate(&data.embedded(), &Now::default(), &LossState::default());
    let share = &evaluated.parts.iter().find(|(name, _)| *name == "floor_share").unwrap().1;
    assert_eq!(scalar(share), 0.5);
    check("at the floor", &config, &data, &Now::default());
}

#[test]
fn scores_below_what_cosines_allow_keep_the_correction_finite() {
    // Every document points away from the query, and is longer than 1.
    let opposed = |length: f32| Data {
        queries: vec![1.0, 0.0, 1.0, 0.1],
        documents: [-1.0, 0.2, -0.8, 0.1, -1.2, 0.3, -0.9, -0.2].iter().map(|x| x * length).collect(),
        dimension: 2,
        targets: vec![0, 2],
        ..Data::default()
    };
    for kind in ["debiased", "hcl"] {
        let config = LossConfig { tau_plus: Some(0.2), ..config(kind, 0.5) };
        // The cap is a constant like the floor itself, so only the value can be compared with the reference.
        let expected = reference::evaluate(&config, &opposed(4.0).reference(), &Now::default(), None, &[]);
        assert_close(kind, &[take(&config, &opposed(4.0), &Now::default()).value], &[expected], 1e-5, 1e-5);
        let taken = take(&config, &opposed(1e4), &Now::default());
        assert!(taken.value.is_finite() && taken.gradients().all(|gradient| gradient.is_finite()), "{kind}: {taken:?}");
    }
}

#[test]
fn terms_are_reported_unweighted_under_their_kind() {
    let data = Data::full(&[0, 1, 2], 6, 4, 9);
    let config = LossConfig { weight: 0.9, term: vec![term("kl", 0.5)], ..config("info-nce", 0.2) };
    let evaluated = config.evaluate(&data.embedded(), &Now::default(), &LossState::default());
    let parts: Vec<(&str, f32)> = evaluated.parts.iter().map(|(name, value)| (name.as_ref(), scalar(value))).collect();
    assert_eq!(parts.iter().map(|part| part.0).collect::<Vec<_>>(), ["info-nce", "kl"]);
    assert!((0.9 * parts[0].1 + 0.5 * parts[1].1 - scalar(&evaluated.value)).abs() < 1e-6);
    // Terms of one kind are told apart by number.
    let mut again =
        LossConfig { term: vec![term("margin-mse", 0.75), term("margin-mse", 0.5)], ..super::fixture::config("margin-mse", 0.5) };
    (again.term[0].in_batch, again.term[1].temperature) = (true, Some(Temperature::Fixed(2.0)));
    let evaluated = again.evaluate(&data.embedded(), &Now::default(), &LossState::default());
    let parts: Vec<(&str, f32)> = evaluated.parts.iter().map(|(name, value)| (name.as_ref(), scalar(value))).collect();
    assert_eq!(parts.iter().map(|part| part.0).collect::<Vec<_>>(), ["margin-mse", "margin-mse-2", "margin-mse-3"]);
    assert!((parts[0].1 + 0.75 * parts[1].1 + 0.5 * parts[2].1 - scalar(&evaluated.value)).abs() < 1e-5, "{parts:?}");
}

#[test]
fn truncated_embeddings_go_with_every_loss() {
    let data = Data { blocked: some_blocked(), ..Data::full(&[0, 2, 4, 6, 8], 9, 4, 33) };
    for loss in every_loss() {
        for (normalize, weights) in [(true, vec![]), (false, vec![1.0, 3.0])] {
            let config =
                LossConfig { matryoshka: vec![2, 4], matryoshka_weights: weights, matryoshka_normalize: normalize, ..loss.clone() };
            config.validate().unwrap_or_else(|error| panic!("{config:?}: {error}"));
            check(&format!("{config:?}"), &config, &data, &Now::default());
        }
    }
}

#[test]
fn losses_say_whether_they_read_other_groups() {
    for (kind, foreign) in [("info-nce", true), ("pairwise", true), ("hcl", true), ("lce", false), ("kl", false), ("lambda-mrr", false)] {
        assert_eq!(config(kind, 1.0).reads_foreign_columns(), foreign, "{kind}");
    }
    assert!(!config("margin-mse", 1.0).reads_foreign_columns());
    assert!(LossConfig { in_batch: true, ..config("margin-mse", 1.0) }.reads_foreign_columns());
    assert!(LossConfig { term: vec![term("info-nce", 0.2)], ..config("kl", 1.0) }.reads_foreign_columns());
}
