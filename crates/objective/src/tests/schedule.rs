//! The schedule against numbers listed by hand from the rules of transformers, and its settings.

use crate::{Schedule, ScheduleError, ScheduleKind, Warmup};

#[test]
fn rates_equal_the_listed_numbers() {
    let half_root = 0.5f64.sqrt() / 2.0;
    // 4 warm-up steps of 12: factors at the named steps.
    let cases: [(ScheduleKind, &[(usize, f64)]); 3] = [
        (ScheduleKind::Constant, &[(0, 0.0), (1, 0.25), (3, 0.75), (4, 1.0), (11, 1.0), (20, 1.0)]),
        (ScheduleKind::Linear, &[(0, 0.0), (1, 0.25), (3, 0.75), (4, 1.0), (5, 0.875), (8, 0.5), (11, 0.125), (12, 0.0), (20, 0.0)]),
        (
            ScheduleKind::Cosine,
            &[(0, 0.0), (2, 0.5), (4, 1.0), (6, 0.5 + half_root), (8, 0.5), (10, 0.5 - half_root), (12, 0.0), (20, 0.0)],
        ),
    ];
    for (kind, expected) in cases {
        let schedule = Schedule::new(kind, 4, 12, 2e-5).unwrap();
        for &(step, factor) in expected {
            assert!((schedule.factor(step) - factor).abs() < 1e-12, "{kind:?} at {step}: {} and not {factor}", schedule.factor(step));
            assert_eq!(schedule.rate(step), 2e-5 * schedule.factor(step));
        }
    }
}

#[test]
fn without_warmup_the_first_step_has_the_peak_rate() {
    for kind in [ScheduleKind::Constant, ScheduleKind::Linear, ScheduleKind::Cosine] {
        let schedule = Schedule::new(kind, Warmup::Share(0.0), 10, 1e-3).unwrap();
        assert_eq!(schedule.rate(0), 1e-3, "{kind:?}");
    }
}

#[test]
fn a_share_is_rounded_up_to_whole_steps() {
    for (share, total, steps) in [(0.1, 100, 10), (0.1, 101, 11), (0.1, 1, 1), (0.0, 50, 0), (0.06, 20, 2)] {
        assert_eq!(Schedule::new(ScheduleKind::Linear, Warmup::Share(share), total, 1.0).unwrap().warmup(), steps, "{share} of {total}");
    }
}

#[test]
fn a_run_that_is_all_warmup_or_empty_has_rates() {
    let schedule = Schedule::new(ScheduleKind::Linear, 3, 3, 1.0).unwrap();
    let factors: Vec<f64> = (0..5).map(|step| schedule.factor(step)).collect();
    assert_eq!(factors, [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0, 0.0]);
    assert_eq!(Schedule::new(ScheduleKind::Cosine, Warmup::Share(0.1), 0, 1.0).unwrap().factor(0), 1.0);
}

#[test]
fn warmup_is_read_as_share_or_steps() {
    let read = |text: &str| serde_json::from_str::<Warmup>(text);
    assert_eq!(read("0.1").unwrap(), Warmup::Share(0.1));
    assert_eq!(read("0").unwrap(), Warmup::Share(0.0));
    assert_eq!(read("1").unwrap(), Warmup::Steps(1));
    assert_eq!(read("500").unwrap(), Warmup::Steps(500));
    for text in ["-1", "1.5"] {
        assert!(read(text).unwrap_err().to_string().contains("share of the steps"), "{text}");
    }
    assert_eq!(serde_json::from_str::<ScheduleKind>(r#""cosine""#).unwrap(), ScheduleKind::Cosine);
}

#[test]
fn impossible_schedules_are_refused() {
    let build = |peak, warmup: Warmup, total| Schedule::new(ScheduleKind::Linear, warmup, total, peak).unwrap_err();
    assert_eq!(build(0.0, Warmup::Steps(0), 10), ScheduleError::Peak { got: 0.0 });
    assert_eq!(build(1.0, Warmup::Steps(11), 10), ScheduleError::WarmupTooLong { warmup: 11, total: 10 });
    assert_eq!(build(1.0, Warmup::Share(1.0), 10), ScheduleError::Warmup { got: 1.0 });
}
