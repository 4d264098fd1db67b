//! Mixed negatives: against the reference, unit length, no gradient to what was mixed, short lists.

use proptest::prelude::*;

use super::fixture::{Data, check, config, take, unit_rows};
use super::{numbers, values};
use crate::{LossConfig, MaskConfig, MaskRule, MixingConfig, Now};

fn mixing(hardest: usize, pairs: usize, with_query: usize) -> MixingConfig {
    MixingConfig { hardest, pairs, with_query, ..MixingConfig::default() }
}

fn mixed(kind: &str, mixing: MixingConfig) -> LossConfig {
    LossConfig { mixing: Some(mixing), ..config(kind, 0.2) }
}

/// Mixtures under several losses.
pub(super) fn mixtures() -> [LossConfig; 8] {
    let masked = LossConfig { mask: vec![MaskConfig::new(MaskRule::Student)], ..mixed("info-nce", mixing(4, 3, 2)) };
    [
        mixed("info-nce", mixing(4, 3, 2)),
        mixed("info-nce", mixing(32, 0, 4)),
        mixed("info-nce", mixing(1, 4, 4)),
        mixed("info-nce", mixing(3, 4, 0)),
        mixed("pairwise", mixing(4, 3, 2)),
        mixed("hcl", mixing(4, 3, 2)),
        mixed("ccr", mixing(4, 3, 2)),
        masked,
    ]
}

#[test]
fn mixed_columns_follow_the_reference() {
    let now = Now { step: 3, progress: 0.0, seed: 9 };
    // Rows with all negatives, a few, one and none.
    let mut blocked = vec![false; 5 * 9];
    blocked[9..14].fill(true);
    blocked[18..25].fill(true);
    blocked[27..36].fill(true);
    for config in &mixtures() {
        for blocked in [vec![], blocked.clone()] {
            let data = Data { blocked, positives: vec![], ..Data::full(&[0, 2, 8, 6, 4], 9, 4, 31) };
            config.validate().unwrap();
            check(&format!("{config:?}"), config, &data, &now);
        }
    }
}

#[test]
fn short_rows_mix_what_they_have() {
    // Negatives per row: 8, 4, 1, 0.
    let mut blocked = vec![false; 4 * 9];
    blocked[9..14].fill(true);
    blocked[18..26].fill(true);
    blocked[27..36].fill(true);
    let data = Data { blocked, positives: vec![], ..Data::full(&[0, 0, 0, 0], 9, 4, 41) };
    let matrix = data.matrix(&mixed("info-nce", mixing(32, 2, 3)), &Now::default());
    let excluded: Vec<bool> = matrix.mixed.unwrap().excluded.to_data().iter::<bool>().collect();
    let row = |pairs: bool, with_query: bool| [vec![pairs; 2], vec![with_query; 3]].concat();
    assert_eq!(excluded, [row(false, false), row(false, false), row(true, false), row(true, true)].concat());
}

#[test]
fn a_batch_of_targets_alone_has_nothing_to_mix() {
    let data = Data { positives: vec![], ..Data::full(&[0], 1, 4, 43) };
    assert!(data.matrix(&mixed("info-nce", MixingConfig::default()), &Now::default()).mixed.is_none());
    assert_eq!(take(&mixed("info-nce", MixingConfig::default()), &data, &Now::default()).value, 0.0);
}

#[test]
fn each_kind_of_mix_starts_at_its_step() {
    let data = Data { positives: vec![], ..Data::full(&[0, 1, 2], 9, 4, 45) };
    let late = mixed("info-nce", MixingConfig { pairs_from_step: 5, with_query_from_step: 7, ..mixing(4, 2, 3) });
    let columns = |step| data.matrix(&late, &Now { step, ..Now::default() }).mixed.map_or(0, |mixed| mixed.vectors.dims()[1]);
    assert_eq!([4, 5, 6, 7].map(columns), [0, 2, 2, 5]);
    // The pairs of a step do not change because the other kind has begun.
    let both = mixed("info-nce", MixingConfig { pairs_from_step: 5, ..mixing(4, 2, 3) });
    let pairs =
        |config: &LossConfig| values(&data.matrix(config, &Now { step: 5, ..Now::default() }).mixed.unwrap().vectors.narrow(1, 0, 2));
    assert_eq!(pairs(&late), pairs(&both));
}

#[test]
fn mixes_are_a_function_of_seed_and_step() {
    let data = Data { positives: vec![], ..Data::full(&[0, 1, 2], 9, 4, 47) };
    let config = mixed("info-nce", mixing(6, 2, 2));
    let vectors = |seed, step| values(&data.matrix(&config, &Now { step, progress: 0.0, seed }).mixed.unwrap().vectors);
    assert_eq!(vectors(1, 2), vectors(1, 2));
    assert_ne!(vectors(1, 2), vectors(1, 3));
    assert_ne!(vectors(1, 2), vectors(2, 2));
}

#[test]
fn gradient_reaches_the_outer_query_alone() {
    let data = Data { positives: vec![], ..Data::full(&[0, 1, 2], 9, 4, 49) };
    let plain = take(&config("pairwise", 0.2), &data, &Now::default());
    let with = take(&mixed("pairwise", mixing(6, 4, 4)), &data, &Now::default());
    // 3 * 8 pairs become 3 * 16. The sum over document pairs is unchanged, so a negative's gradient only shrinks by that ratio.
    for (column, (plain, with)) in plain.documents[12..].iter().zip(&with.documents[12..]).enumerate() {
        assert!((with * 2.0 - plain).abs() < 1e-6, "negative {column}: {with} against {plain}");
    }
    assert!(plain.queries.iter().zip(&with.queries).any(|(plain, with)| (with * 2.0 - plain).abs() > 1e-3), "queries feel the mixes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mixed_vectors_have_unit_length_and_no_graph(seed in 0u64..1000, step in 0usize..100, hardest in 1usize..12) {
        let data = Data {
            queries: unit_rows(&numbers(3 * 5, seed), 5),
            documents: unit_rows(&numbers(9 * 5, seed + 7), 5),
            dimension: 5,
            targets: vec![0, 4, 8],
            ..Data::default()
        };
        let matrix = data.matrix(&mixed("info-nce", mixing(hardest, 3, 3)), &Now { step, progress: 0.0, seed });
        let vectors = matrix.mixed.unwrap().vectors;
        prop_assert!(!vectors.is_tracked());
        for vector in values(&vectors).chunks(5) {
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            prop_assert!((length - 1.0).abs() < 1e-5, "{}", length);
        }
    }
}
