//! The ring against a plain list; gradients, known positives and checkpoints.

use std::collections::VecDeque;

use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;

use super::Queue;
use crate::tests::{collection, judged, tensor, values};
use crate::{Knowledge, MiningError};

/// Rows of two numbers that tell the document and when it was pushed.
fn rows(ids: &[u32], time: usize, device: &Device) -> Tensor<2> {
    tensor(ids.iter().flat_map(|&id| [id as f32, time as f32]).collect(), 2, device)
}

/// Id, then the row, of everything held.
fn held(queue: &Queue) -> Vec<(u32, f32, f32)> {
    let (rows, ids) = queue.columns();
    assert_eq!(rows.dims(), [ids.len(), 2]);
    values(rows).chunks_exact(2).zip(ids).map(|(row, &id)| (id, row[0], row[1])).collect()
}

fn pushes_are_held_in_their_slots(device: &Device, capacity: usize, pushes: &[Vec<u32>]) {
    let mut queue = Queue::new(capacity, 2, device).unwrap();
    assert!(queue.is_empty() && queue.columns().0.dims() == [0, 2]);
    let mut all = VecDeque::new();
    let mut slots = vec![(0, 0.0, 0.0); capacity];
    for (time, ids) in pushes.iter().enumerate() {
        queue.push(rows(ids, time, device), ids).unwrap();
        for &id in ids {
            let entry = (id, id as f32, time as f32);
            slots[all.len() % capacity] = entry;
            all.push_back(entry);
        }
        // Exactly the last rows, and by slot as if they had come one by one.
        let found = held(&queue);
        assert_eq!(found, slots[..all.len().min(capacity)]);
        let sorted = |mut entries: Vec<(u32, f32, f32)>| {
            entries.sort_by(|a, b| a.partial_cmp(b).unwrap());
            entries
        };
        let last = all.iter().skip(all.len().saturating_sub(capacity)).copied().collect();
        assert_eq!(sorted(found), sorted(last));
        assert_eq!(queue.len(), all.len().min(capacity));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_holds_exactly_the_last_rows(
        capacity in 1_usize..9, pushes in prop::collection::vec(prop::collection::vec(0_u32..100, 0..20), 0..10),
    ) {
        pushes_are_held_in_their_slots(&Device::flex(), capacity, &pushes);
    }

    #[test]
    fn a_restored_queue_goes_on_alike(
        capacity in 1_usize..9, before in prop::collection::vec(prop::collection::vec(0_u32..100, 0..9), 0..6),
        after in prop::collection::vec(0_u32..100, 0..9),
    ) {
        let device = Device::flex();
        let mut queue = Queue::new(capacity, 2, &device).unwrap();
        for (time, ids) in before.iter().enumerate() {
            queue.push(rows(ids, time, &device), ids).unwrap();
        }
        let mut restored = Queue::new(capacity, 2, &device).unwrap();
        restored.push(rows(&[7], 7, &device), &[7]).unwrap();
        restored.restore(queue.state().unwrap()).unwrap();
        prop_assert_eq!(held(&restored), held(&queue));
        for queue in [&mut queue, &mut restored] {
            queue.push(rows(&after, 50, &device), &after).unwrap();
        }
        prop_assert_eq!(held(&restored), held(&queue));
        prop_assert_eq!(restored.state().unwrap(), queue.state().unwrap());
        prop_assert_eq!(restored.age_range(), queue.age_range());
    }
}

#[test]
fn the_ring_on_a_software_gpu() {
    let Some(device) = kernels::test_gpu() else { return };
    pushes_are_held_in_their_slots(&device, 5, &[vec![1, 2, 3], vec![4, 5, 6, 7], vec![], (10..22).collect(), vec![30]]);
    no_gradient_passes(&device);
}

#[test]
fn rows_age_by_a_step_with_every_push() {
    let device = Device::flex();
    let mut queue = Queue::new(5, 2, &device).unwrap();
    assert_eq!(queue.age_range(), None);
    let mut ages = Vec::new();
    for (time, ids) in [&[1, 2][..], &[3, 4], &[5, 6], &[7], &[8, 9, 10, 11, 12, 13]].into_iter().enumerate() {
        queue.push(rows(ids, time, &device), ids).unwrap();
        ages.push(queue.age_range().unwrap());
    }
    // Row 1 goes at the third push, row 2 at the fourth, and the last push fills the queue alone.
    assert_eq!(ages, [(1, 1), (1, 2), (1, 3), (1, 3), (1, 1)]);
}

#[test]
fn columns_handed_out_before_do_not_change() {
    let device = Device::flex();
    let mut queue = Queue::new(2, 2, &device).unwrap();
    queue.push(rows(&[1, 2], 0, &device), &[1, 2]).unwrap();
    let before = queue.columns().0;
    queue.push(rows(&[3], 1, &device), &[3]).unwrap();
    assert_eq!(values(before), [1.0, 0.0, 2.0, 0.0]);
    assert_eq!(held(&queue), [(3, 3.0, 1.0), (2, 2.0, 0.0)]);
}

#[test]
fn no_gradient_enters_or_leaves() {
    no_gradient_passes(&Device::flex());
}

fn no_gradient_passes(device: &Device) {
    let device = device.clone().autodiff();
    let weights = tensor(vec![1.0, 2.0, 3.0, 4.0], 2, &device).require_grad();
    let mut queue = Queue::new(4, 2, &device).unwrap();
    queue.push(weights.clone() * 2.0, &[5, 6]).unwrap();
    let (columns, _) = queue.columns();
    assert!(!columns.is_autodiff() && !columns.is_require_grad());
    // Beside columns with gradients, lifted: the gradient is that of constants.
    let lifted = Tensor::cat(vec![weights.clone(), Tensor::from_inner(columns)], 0);
    let query = tensor(vec![1.0, -1.0], 2, &device).require_grad();
    let gradients = query.clone().matmul(lifted.transpose()).sum().backward();
    assert_eq!(values(query.grad(&gradients).unwrap()), [1.0 + 3.0 + 2.0 + 6.0, 2.0 + 4.0 + 4.0 + 8.0]);
    assert_eq!(values(weights.grad(&gradients).unwrap()), [1.0, -1.0, 1.0, -1.0]);
}

#[test]
fn no_known_positive_and_no_copy_of_one_is_a_negative() {
    let collection = collection(&["one", "two", "one", "three", "which"], &["which", "other", "third"]);
    let knowledge = Knowledge::new(&collection, &judged(3, &[(0, 0), (1, 1), (1, 3)]), false).unwrap();
    let device = Device::flex();
    let mut queue = Queue::new(6, 2, &device).unwrap();
    let ids = [4, 3, 2, 1, 0, 2];
    queue.push(rows(&ids, 0, &device), &ids).unwrap();
    let blocked = queue.blocked(&[1, 0, 2], &knowledge).unwrap();
    let open = |row: usize| (0..6).filter(|column| !blocked[row].contains(column)).map(|column| ids[column]).collect::<Vec<_>>();
    assert_eq!(open(0), [4, 2, 0, 2]);
    // 2 is a copy of the positive 0, and 4 is the query's own text.
    assert_eq!(open(1), [3, 1]);
    assert_eq!(open(2), ids);
    assert!(matches!(queue.blocked(&[3], &knowledge), Err(MiningError::Beyond { side: "query", id: 3, count: 3 })));
    queue.push(rows(&[9], 0, &device), &[9]).unwrap();
    assert!(matches!(queue.blocked(&[0], &knowledge), Err(MiningError::Beyond { side: "document", id: 9, count: 5 })));
}

#[test]
fn what_does_not_fit_is_an_error_and_changes_nothing() {
    let device = Device::flex();
    assert!(matches!(Queue::new(0, 2, &device), Err(MiningError::NoQueue { capacity: 0, dimension: 2 })));
    let mut queue = Queue::new(3, 2, &device).unwrap();
    queue.push(rows(&[1, 2], 4, &device), &[1, 2]).unwrap();
    assert!(matches!(queue.push(rows(&[1, 2], 0, &device), &[1]), Err(MiningError::Count { got: 1, expected: 2, .. })));
    assert!(matches!(queue.push(tensor(vec![0.0; 3], 3, &device), &[1]), Err(MiningError::Shape { got: [1, 3], expected: [1, 2], .. })));
    let state = queue.state().unwrap();
    let replaced = |name: &str, data: TensorData| {
        let mut state = state.clone();
        state.iter_mut().find(|it| it.0 == name).unwrap().1 = data;
        state
    };
    let broken = [
        (state[..2].to_vec(), "queue.rows"),
        (state.iter().cloned().chain([("more".to_owned(), state[0].1.clone())]).collect(), "more"),
        (replaced("queue.next", TensorData::new(vec![0_i64], [1])), "queue.next is 0"),
        (replaced("queue.next", TensorData::new(vec![0.5_f32], [1])), "F32"),
        (replaced("queue.ids", TensorData::new(vec![-1_i64, 0], [2])), "no document"),
        (replaced("queue.ids", TensorData::new(vec![0_i64; 4], [4])), "4 ids"),
        (replaced("queue.rows", TensorData::new(vec![0_f32; 6], [2, 3])), "[2, 3]"),
    ];
    for (state, told) in broken {
        let error = queue.restore(state).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert_eq!(held(&queue), [(1, 1.0, 4.0), (2, 2.0, 4.0)]);
    }
    queue.restore(Vec::new()).unwrap();
    assert!(queue.is_empty());
}
