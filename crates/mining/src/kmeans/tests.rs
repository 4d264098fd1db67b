//! Clusters against a plain float64 reference, and what must hold of any of them.

use burn::tensor::{DType, Device, Tensor};
use proptest::prelude::*;
use rand::RngExt;
use rand::seq::SliceRandom;

use super::{Clusters, cluster, different_rows, keyed, lloyd, read};
use crate::MiningError;
use crate::tests::tensor;

/// Lloyd's iterations in plain Rust, by the definition: distances, not products.
mod reference {
    pub(super) struct Answer {
        pub(super) centres: Vec<Vec<f64>>,
        pub(super) assignment: Vec<usize>,
        pub(super) moved: usize,
    }

    pub(super) fn distance(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
    }

    /// The lowest number among the nearest centres.
    fn nearest(row: &[f64], centres: &[Vec<f64>]) -> usize {
        (0..centres.len()).min_by(|&a, &b| distance(row, &centres[a]).total_cmp(&distance(row, &centres[b]))).unwrap()
    }

    pub(super) fn lloyd(rows: &[Vec<f64>], mut centres: Vec<Vec<f64>>, iterations: usize) -> Answer {
        let assign = |centres: &[Vec<f64>]| rows.iter().map(|row| nearest(row, centres)).collect::<Vec<_>>();
        let mut assignment = assign(&centres);
        let mut moved = rows.len();
        for _ in 0..iterations {
            for cluster in 0..centres.len() {
                if !assignment.contains(&cluster) {
                    let alone = |row: usize| assignment.iter().filter(|&&other| other == assignment[row]).count() == 1;
                    let gap = |row: usize| distance(&rows[row], &centres[assignment[row]]);
                    let far = (0..rows.len())
                        .filter(|&row| !alone(row) && gap(row) > 0.0)
                        .max_by(|&a, &b| gap(a).total_cmp(&gap(b)).then(b.cmp(&a)));
                    if let Some(row) = far {
                        assignment[row] = cluster;
                    }
                }
            }
            for (cluster, centre) in centres.iter_mut().enumerate() {
                let own: Vec<&Vec<f64>> = rows.iter().zip(&assignment).filter(|it| *it.1 == cluster).map(|it| it.0).collect();
                if !own.is_empty() {
                    *centre = (0..centre.len()).map(|at| own.iter().map(|row| row[at]).sum::<f64>() / own.len() as f64).collect();
                }
            }
            let next = assign(&centres);
            moved = (0..rows.len()).filter(|&row| assignment[row] != next[row]).count();
            assignment = next;
            if moved == 0 {
                break;
            }
        }
        Answer { centres, assignment, moved }
    }
}

/// `count` rows around `blobs` places, flat, and the same as float64 rows.
fn blobs(count: usize, dimension: usize, blobs: usize, seed: u64) -> (Vec<f32>, Vec<Vec<f64>>) {
    let mut chance = keyed(seed, 1, b"testdata");
    let places: Vec<f32> = (0..blobs * dimension).map(|_| chance.random_range(-3.0..3.0)).collect();
    let mut flat = Vec::new();
    for row in 0..count {
        let place = row % blobs * dimension;
        flat.extend((0..dimension).map(|at| places[place + at] + chance.random_range(-1.5_f32..1.5)));
    }
    let wide = wide(&flat, dimension);
    (flat, wide)
}

fn wide(flat: &[f32], dimension: usize) -> Vec<Vec<f64>> {
    flat.chunks_exact(dimension).map(|row| row.iter().map(|&value| f64::from(value)).collect()).collect()
}

fn assert_as_reference(flat: &[f32], dimension: usize, first: &[f32], iterations: usize, device: &Device) {
    let expected = reference::lloyd(&wide(flat, dimension), wide(first, dimension), iterations);
    let found = lloyd(&tensor(flat.to_vec(), dimension, device), first.to_vec(), iterations).unwrap();
    assert_eq!(found.assignment.iter().map(|&cluster| cluster as usize).collect::<Vec<_>>(), expected.assignment);
    assert_eq!(found.moved, expected.moved);
    let centres = read(found.centres, "reading centres").unwrap();
    assert_eq!(centres.len(), expected.centres.len() * dimension);
    for (place, (&got, want)) in centres.iter().zip(expected.centres.concat()).enumerate() {
        assert!((f64::from(got) - want).abs() <= 1e-6 + 1e-6 * want.abs(), "centre number {place}: {got}, expected {want}");
    }
}

fn every_case(device: &Device) {
    for (count, dimension, k, seed) in [(60, 2, 4, 1), (200, 5, 7, 2), (500, 16, 20, 3), (40, 3, 40, 4), (30, 1, 3, 5)] {
        let (flat, _) = blobs(count, dimension, k.min(9), seed);
        let first = different_rows(&tensor(flat.clone(), dimension, device), k, seed).unwrap();
        assert_eq!(first.len(), k * dimension);
        for iterations in [0, 1, 3, 50] {
            assert_as_reference(&flat, dimension, &first, iterations, device);
        }
    }
}

#[test]
fn centres_and_assignment_are_the_references() {
    every_case(&Device::flex());
}

#[test]
fn centres_and_assignment_are_the_references_on_a_software_gpu() {
    let Some(device) = kernels::test_gpu() else { return };
    every_case(&device);
}

#[test]
fn an_empty_cluster_gets_the_farthest_row() {
    // All rows are nearer to the first centre; 9 is farthest from it, then 5.
    let (rows, device) = (vec![0.0, 1.0, 5.0, 9.0], Device::flex());
    let first = [2.0, 100.0, -100.0];
    assert_as_reference(&rows, 1, &first, 1, &device);
    assert_as_reference(&rows, 1, &first, 9, &device);
    let found = lloyd(&tensor(rows, 1, &device), first.to_vec(), 1).unwrap();
    assert_eq!(read(found.centres, "reading centres").unwrap(), [0.5, 9.0, 5.0]);
    assert_eq!((found.assignment, found.moved), (vec![0, 0, 2, 1], 0));
}

#[test]
fn fewer_different_rows_than_clusters_are_one_cluster_each() {
    let device = Device::flex();
    // 0 and -0 are one place.
    let rows = tensor(vec![1.0, 2.0, 0.0, 4.0, 1.0, 2.0, -0.0, 4.0, 1.0, 2.0], 2, &device);
    for k in [2, 3, 50] {
        let found = cluster(&rows, k, 10, 7).unwrap();
        assert_eq!((found.centres.dims(), found.moved), ([2, 2], 0));
        let [a, b] = [found.assignment[0], found.assignment[1]];
        assert!(a != b);
        assert_eq!(found.assignment, [a, b, a, b, a]);
    }
    let one = cluster(&rows, 1, 10, 7).unwrap();
    assert_eq!(one.assignment, [0; 5]);
    for (got, want) in read(one.centres, "reading centres").unwrap().into_iter().zip([0.6, 2.8]) {
        assert!((got - want).abs() < 1e-6, "{got} {want}");
    }
}

#[test]
fn rows_far_from_zero_are_told_apart() {
    let device = Device::flex();
    // Squares are near 1e10, where neighbouring f32 numbers are 1024 apart.
    let flat: Vec<f32> = (0..40).flat_map(|row| [1e5 + (row % 4) as f32 * 2.0, -1e5 + (row / 20) as f32]).collect();
    let found = cluster(&tensor(flat.clone(), 2, &device), 4, 30, 1).unwrap();
    assert_as_reference(&flat, 2, &different_rows(&tensor(flat.clone(), 2, &device), 4, 1).unwrap(), 30, &device);
    assert_eq!(found.moved, 0);
}

#[test]
fn what_cannot_be_clustered_is_an_error() {
    let device = Device::flex();
    let rows = tensor(vec![0.0; 6], 2, &device);
    assert!(matches!(cluster(&rows, 0, 5, 0), Err(MiningError::NoClusters { k: 0, rows: 3, dimension: 2 })));
    let empty = Tensor::zeros([0, 2], (&device, DType::F32));
    assert!(matches!(cluster(&empty, 2, 5, 0), Err(MiningError::NoClusters { rows: 0, .. })));
    for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let rows = tensor(vec![0.0, 1.0, 2.0, 3.0, 4.0, broken], 2, &device);
        let error = cluster(&rows, 2, 5, 0).unwrap_err();
        assert!(matches!(error, MiningError::NotFinite { row: 2, .. }), "{error}");
    }
    let found = cluster(&tensor(vec![0.0, 1.0], 1, &device), 2, 5, 0).unwrap();
    assert!(matches!(found.assign(&rows), Err(MiningError::Shape { got: [3, 2], expected: [3, 1], .. })));
}

#[test]
fn rows_of_a_training_device_are_clustered_without_gradient() {
    let (flat, _) = blobs(50, 3, 4, 8);
    let plain = cluster(&tensor(flat.clone(), 3, &Device::flex()), 4, 20, 2).unwrap();
    let training = cluster(&tensor(flat, 3, &Device::flex().autodiff()).require_grad(), 4, 20, 2).unwrap();
    assert!(!training.centres.is_autodiff());
    assert_eq!(
        (training.assignment, read(training.centres, "reading centres").unwrap()),
        (plain.assignment, read(plain.centres, "reading centres").unwrap())
    );
}

fn within(rows: &[Vec<f64>], clusters: &Clusters) -> f64 {
    let centres = wide(&read(clusters.centres.clone(), "reading centres").unwrap(), rows[0].len());
    rows.iter().zip(&clusters.assignment).map(|(row, &cluster)| reference::distance(row, &centres[cluster as usize])).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_clusters_keep_their_promises(
        count in 1_usize..80, dimension in 1_usize..6, k in 1_usize..12, places in 1_usize..6, seed in 0_u64..1000,
    ) {
        let (flat, rows) = blobs(count, dimension, places, seed);
        let device = Device::flex();
        let table = tensor(flat.clone(), dimension, &device);
        // The sum of squares never grows, whatever the number of iterations.
        let mut before = f64::INFINITY;
        for iterations in 0..8 {
            let now = within(&rows, &cluster(&table, k, iterations, seed).unwrap());
            prop_assert!(now <= before * (1.0 + 1e-6) + 1e-9, "{before} then {now}");
            before = now;
        }
        let found = cluster(&table, k, 300, seed).unwrap();
        prop_assert_eq!(found.moved, 0);
        prop_assert_eq!(found.centres.dims(), [k.min(count), dimension]);
        prop_assert_eq!(&found.assign(&table).unwrap(), &found.assignment);
        // Every row is nearest to its centre, and every centre is the mean of its rows.
        let centres = wide(&read(found.centres.clone(), "reading centres").unwrap(), dimension);
        for (row, &own) in rows.iter().zip(&found.assignment) {
            let own = reference::distance(row, &centres[own as usize]);
            prop_assert!(centres.iter().all(|centre| own <= reference::distance(row, centre) + 1e-5));
        }
        for (number, centre) in centres.iter().enumerate() {
            let own: Vec<_> = rows.iter().zip(&found.assignment).filter(|it| *it.1 as usize == number).map(|it| it.0).collect();
            prop_assert!(!own.is_empty());
            for at in 0..dimension {
                let mean = own.iter().map(|row| row[at]).sum::<f64>() / own.len() as f64;
                prop_assert!((mean - centre[at]).abs() < 1e-5, "{mean} {}", centre[at]);
            }
        }
        // Again the same bits; another order of the rows, the same partition.
        let again = cluster(&table, k, 300, seed).unwrap();
        prop_assert_eq!(read(again.centres, "reading centres").unwrap(), read(found.centres, "reading centres").unwrap());
        let first = different_rows(&table, k, seed).unwrap();
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(&mut keyed(seed, 2, b"testdata"));
        let permuted = order.iter().flat_map(|&row| flat[row * dimension..][..dimension].to_vec()).collect();
        let permuted = lloyd(&tensor(permuted, dimension, &device), first, 300).unwrap();
        let expected: Vec<u32> = order.iter().map(|&row| found.assignment[row]).collect();
        prop_assert_eq!(permuted.assignment, expected);
    }
}
