//! Masks: against the reference, what they may never take out, and what they report.

use proptest::prelude::*;

use super::fixture::{Data, check, config, take, unit_rows};
use super::scalar;
use crate::{Block, LossConfig, LossKind, LossState, Marks, MaskConfig, MaskRule, Now};

fn student(margin: f64) -> MaskConfig {
    MaskConfig { margin: Some(margin), ..MaskConfig::new(MaskRule::Student) }
}

fn guide(margin: f64, relative: bool, hard: bool) -> MaskConfig {
    MaskConfig { margin: Some(margin), relative, hard, ..MaskConfig::new(MaskRule::Guide) }
}

fn share(config: &LossConfig, data: &Data, step: usize) -> Option<f32> {
    part("masked_share", config, data, step)
}

fn part(wanted: &str, config: &LossConfig, data: &Data, step: usize) -> Option<f32> {
    let evaluated = config.evaluate(&data.embedded(), &Now { step, ..Now::default() }, &LossState::default());
    evaluated.parts.iter().find(|(name, _)| *name == wanted).map(|(_, share)| scalar(share))
}

#[test]
fn masked_losses_follow_the_reference() {
    let rules = [
        vec![student(0.1)],
        vec![student(0.0)],
        vec![guide(0.0, false, false)],
        vec![guide(0.2, false, false)],
        vec![guide(0.3, true, false)],
        vec![guide(0.0, false, true)],
        vec![student(0.3), guide(0.0, false, false)],
    ];
    let blocks = [vec![], vec![Block::QueryQuery, Block::PositivePositive], vec![Block::DocumentDocument]];
    let generated = (0..9).map(|column| column % 4 == 3).collect::<Vec<bool>>();
    for targets in [vec![0, 1, 2, 3, 4], vec![3, 3, 0, 8, 8]] {
        for blocked in [vec![], (0..45).map(|cell| cell % 4 == 1).collect()] {
            for synthetic in [vec![], generated.clone()] {
                let data = Data { blocked: blocked.clone(), synthetic, ..Data::full(&targets, 9, 4, 11) };
                for mask in &rules {
                    for blocks in &blocks {
                        for kind in ["info-nce", "pairwise", "debiased", "ccr"] {
                            let config = LossConfig { mask: mask.clone(), blocks: blocks.clone(), ..config(kind, 0.2) };
                            config.validate().unwrap();
                            check(&format!("{config:?}"), &config, &data, &Now::default());
                        }
                    }
                    let config = LossConfig { mask: mask.clone(), ..config("lce", 0.2) };
                    check(&format!("{config:?}"), &config, &data, &Now::default());
                    let symmetric = LossConfig { kind: LossKind::default(), symmetric: true, ..config };
                    check(&format!("{symmetric:?}"), &symmetric, &data, &Now::default());
                }
            }
        }
    }
}

/// Query 0 along the first axis. Columns: its positive (cosine 0.8), one above it (0.98), one just above it (0.85), one far below.
fn placed() -> Data {
    Data {
        queries: vec![1.0, 0.0],
        documents: vec![0.8, 0.6, 0.98, 0.198_997_5, 0.85, -0.526_782_7, 0.0, 1.0],
        dimension: 2,
        targets: vec![0],
        ..Data::default()
    }
}

#[test]
fn the_student_rule_takes_out_what_is_above_the_margin_only() {
    let config = LossConfig { mask: vec![student(0.1)], ..config("info-nce", 0.1) };
    let taken = take(&config, &placed(), &Now::default());
    assert_eq!(&taken.documents[2..4], &[0.0; 2], "the column at 0.98 is masked");
    assert!(taken.documents[4] > 1e-3, "the column at 0.85 is within the margin");
    assert!((share(&config, &placed(), 0).unwrap() - 1.0 / 3.0).abs() < 1e-6);
    let blocked = Data { blocked: vec![false, true, false, false], ..placed() };
    assert_eq!(share(&config, &blocked, 0), Some(0.0), "a blocked cell is not counted as masked");
}

#[test]
fn false_negatives_that_masks_leave_are_counted() {
    let config = LossConfig { mask: vec![student(0.1)], ..config("info-nce", 0.1) };
    let left = |relevant: Vec<bool>, blocked: Vec<bool>| {
        let mut batch = Data { blocked, ..placed() }.embedded();
        batch.side.relevant = Marks::from_cells(4, relevant);
        batch.validate().unwrap();
        let evaluated = config.evaluate(&batch, &Now::default(), &LossState::default());
        evaluated.parts.iter().find(|(name, _)| *name == "false_share").map(|(_, share)| scalar(share))
    };
    // The mask takes out column 1; of columns 2 and 3, which it leaves, one is relevant. The target never counts.
    assert_eq!(left(vec![true, true, true, false], vec![]), Some(0.5));
    assert_eq!(left(vec![true, true, false, false], vec![]), Some(0.0));
    assert_eq!(left(vec![true, true, true, false], vec![false, false, true, false]), Some(0.0), "blocked cells are not compared");
    assert_eq!(left(vec![], vec![]), None, "nothing is known");
    let mut batch = placed().embedded();
    batch.side.relevant = Marks::new(1, 3);
    assert!(batch.validate().unwrap_err().to_string().contains("relevant"));
}

#[test]
fn a_rule_acts_from_its_step_on() {
    let late = LossConfig { mask: vec![MaskConfig { from_step: 5, ..student(0.1) }], ..config("info-nce", 0.1) };
    let never = config("info-nce", 0.1);
    let at = |config: &LossConfig, step| take(config, &placed(), &Now { step, ..Now::default() });
    assert_eq!(at(&late, 4), at(&never, 4));
    assert_eq!(share(&late, &placed(), 4), None);
    assert_ne!(at(&late, 5), at(&never, 5));
    assert!(share(&late, &placed(), 5).is_some());
}

#[test]
fn generated_documents_are_spared_unless_asked_for() {
    let data = Data { synthetic: vec![false, true, false, false], ..placed() };
    let mask = |synthetic| LossConfig { mask: vec![MaskConfig { synthetic, ..student(0.1) }], ..config("info-nce", 0.1) };
    assert_eq!(share(&mask(false), &data, 0), Some(0.0));
    assert!(share(&mask(true), &data, 0).unwrap() > 0.3);
}

#[test]
fn what_a_mask_would_take_out_of_the_generated_is_counted() {
    let data = Data { synthetic: vec![false, true, true, false], ..placed() };
    let spared =
        |mask: Vec<MaskConfig>, data: &Data, step| part("spared_share", &LossConfig { mask, ..config("info-nce", 0.1) }, data, step);
    // Of the two generated columns one lies above the margin.
    assert_eq!(spared(vec![student(0.1)], &data, 0), Some(0.5));
    assert_eq!(spared(vec![student(0.0)], &data, 0), Some(1.0));
    let blocked = Data { blocked: vec![false, true, false, false], ..data.clone() };
    assert_eq!(spared(vec![student(0.1)], &blocked, 0), Some(0.0), "a blocked cell is not counted");
    let taken = MaskConfig { synthetic: true, ..student(0.1) };
    assert_eq!(spared(vec![taken], &data, 0), None, "nothing is exempt");
    assert_eq!(spared(vec![student(0.0), taken], &data, 0), Some(0.5), "what another rule takes out was not spared");
    assert_eq!(spared(vec![MaskConfig { from_step: 3, ..student(0.0) }], &data, 2), None);
    assert_eq!(spared(vec![student(0.1)], &placed(), 0), None, "nothing is generated");
}

#[test]
fn spared_and_masked_cells_are_those_that_the_rule_finds() {
    let generated: Vec<bool> = (0..9).map(|column| column % 3 == 2).collect();
    let targets = [0, 1, 4, 2];
    for (seed, rule) in (0..20).flat_map(|seed| [student(0.0), guide(0.1, false, false), guide(0.0, false, true)].map(|rule| (seed, rule)))
    {
        let data = Data { synthetic: generated.clone(), positives: Vec::new(), ..Data::full(&targets, 9, 4, seed) };
        let figures = |rule| {
            let config = LossConfig { mask: vec![rule], ..config("info-nce", 0.1) };
            (f64::from(share(&config, &data, 0).unwrap()), part("spared_share", &config, &data, 0).map(f64::from))
        };
        let ((masked, spared), (all, none)) = (figures(rule), figures(MaskConfig { synthetic: true, ..rule }));
        // 4 rows of 8 negatives; 3 generated columns a row, one of which is a target.
        let (negatives, open) = (32.0, 11.0);
        assert!((masked * negatives + spared.unwrap() * open - all * negatives).abs() < 1e-4, "{seed} {rule:?} {masked} {spared:?} {all}");
        assert_eq!(none, None);
    }
}

#[test]
fn identical_texts_do_not_unmask_the_diagonals() {
    // Queries and positives are the same texts for the guide: its cosine of a pair is 1, and no self-similarity is above it.
    let rows = unit_rows(&[1.0, 0.2, -0.3, 1.0, 0.5, -1.0], 2);
    let data = Data {
        queries: unit_rows(&[1.0, 0.0, 0.3, 1.0, 1.0, -1.0], 2),
        documents: rows.clone(),
        dimension: 2,
        targets: vec![0, 1, 2],
        guide_queries: rows.clone(),
        guide_documents: rows,
        ..Data::default()
    };
    let blocks = vec![Block::QueryQuery, Block::PositivePositive];
    let config = LossConfig { blocks, mask: vec![MaskConfig::new(MaskRule::Guide)], ..config("info-nce", 0.1) };
    check("identical texts", &config, &data, &Now::default());
    assert_eq!(share(&config, &data, 0), Some(0.0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_target_survives_every_rule(seed in 0u64..1000, margin in 0.0f64..1.0) {
        // Everything that can go goes: what is left is at least the target, so the loss is finite and never negative.
        let data = Data::full(&[0, 3, 5], 7, 4, seed);
        let mask = vec![guide(margin, false, true), student(0.0)];
        let taken = take(&LossConfig { mask, ..config("info-nce", 0.05) }, &data, &Now::default());
        prop_assert!(taken.value.is_finite() && taken.value >= -1e-5);
        prop_assert!(taken.gradients().all(|gradient| gradient.is_finite()));
    }

    #[test]
    fn a_tighter_guide_masks_more(seed in 0u64..1000, margin in 0.0f64..0.5, more in 0.0f64..0.5) {
        let data = Data::full(&[0, 3, 5], 7, 4, seed);
        let masked = |margin| share(&LossConfig { mask: vec![guide(margin, false, false)], ..config("info-nce", 0.1) }, &data, 0).unwrap();
        prop_assert!(masked(margin) <= masked(margin + more));
    }
}
