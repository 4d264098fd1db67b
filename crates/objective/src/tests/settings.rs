//! Settings and batches that must be refused, with messages that say what to do.

use super::{device, tensor};
use crate::{AdamW, AdamWConfig, BatchError, Embedded, LossConfig, ParameterGroup};

#[test]
fn loss_settings_are_read_with_defaults() {
    let read = |text: &str| serde_json::from_str::<LossConfig>(text).unwrap();
    let default = read("{}");
    assert_eq!(default, LossConfig::default());
    assert_eq!((default.kind.name(), default.temperature, default.symmetric), ("info-nce", 0.05, false));
    let pairwise = read(r#"{"kind": "pairwise", "temperature": 1}"#);
    assert_eq!(serde_json::from_str::<LossConfig>(&serde_json::to_string(&pairwise).unwrap()).unwrap(), pairwise);
    pairwise.validate().unwrap();
}

#[test]
fn wrong_loss_settings_are_refused_by_name() {
    let unreadable = [(r#"{"kind": "tripletz"}"#, "known: info-nce, pairwise"), (r#"{"temprature": 1}"#, "temprature")];
    for (text, expected) in unreadable {
        let message = serde_json::from_str::<LossConfig>(text).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let invalid = [
        (r#"{"temperature": 0}"#, "loss.temperature is 0"),
        (r#"{"temperature": -1}"#, "loss.temperature is -1"),
        (r#"{"kind": "pairwise", "symmetric": true}"#, "loss.symmetric cannot be used"),
    ];
    for (text, expected) in invalid {
        let message = serde_json::from_str::<LossConfig>(text).unwrap().validate().unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn malformed_batches_are_refused() {
    let rows = |rows: usize, width: usize| tensor(&vec![0.5; rows * width], [rows, width], &device());
    let build = |queries, documents, targets: &[usize], blocked: usize| {
        Embedded::new(queries, documents, targets.to_vec(), vec![false; blocked]).map(drop).unwrap_err()
    };
    assert_eq!(build(rows(2, 4), rows(3, 5), &[0, 1], 0), BatchError::Dimensions { queries: 4, documents: 5 });
    assert_eq!(build(rows(2, 4), rows(3, 4), &[0], 0), BatchError::TargetCount { targets: 1, queries: 2 });
    assert_eq!(build(rows(2, 4), rows(3, 4), &[0, 3], 0), BatchError::TargetRange { query: 1, target: 3, columns: 3 });
    assert_eq!(build(rows(2, 4), rows(3, 4), &[0, 1], 5), BatchError::BlockedLength { got: 5, expected: 6, queries: 2, columns: 3 });
    let batch = Embedded::new(rows(2, 4), rows(3, 4), vec![0, 1], vec![]).unwrap();
    assert_eq!(batch.block_foreign(&[0, 1]).map(drop).unwrap_err(), BatchError::OwnerCount { owners: 2, columns: 3 });
}

#[test]
fn optimizer_settings_out_of_range_are_refused() {
    let group = |rate| vec![ParameterGroup { path: "head".into(), rate, weight_decay: None }];
    let cases = [
        (AdamWConfig { beta_1: 1.0, ..AdamWConfig::default() }, "beta_1 is 1"),
        (AdamWConfig { epsilon: 0.0, ..AdamWConfig::default() }, "epsilon is 0"),
        (AdamWConfig { weight_decay: f64::NAN, ..AdamWConfig::default() }, "weight_decay is NaN"),
        (AdamWConfig { groups: group(-1.0), ..AdamWConfig::default() }, "rate of the group `head` is -1"),
    ];
    for (config, expected) in cases {
        let message = AdamW::new(config).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}
