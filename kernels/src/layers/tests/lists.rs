//! Sums over lists of rows, in both directions: rows of a table, sums of rows, bags.

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Tensor};

use super::{close, differentiate, fused_and_plain, random};
use crate::layers::extension::Layers;
use crate::layers::{bag, embedding, integers, sums};

/// Rows that are used never, once, and far more often than a chunk holds.
fn check_embedding(device: &Device) {
    for (rows, width, places) in [(1, 1, 1), (3, 5, 280), (50, 300, 231)] {
        let ids: Vec<i32> = (0..places).map(|place| if place % 3 == 0 { 0 } else { (place * place % rows) as i32 }).collect();
        let (table, outer) = (random(rows * width, 1), random(places * width, 2));
        let run = |[table]: [Tensor<2>; 1]| {
            let lists = embedding::Lists::of(&ids, rows);
            let (ids, numbers) = (integers(ids.clone(), device), integers(lists.numbers, device));
            Tensor::from_dispatch(<Dispatch as Layers>::embedding_layer(table.into_dispatch(), ids, numbers, lists.extent))
        };
        for (got, [gradient]) in [
            differentiate(device, [(&table, [rows, width])], &outer, run),
            differentiate(device, [(&table, [rows, width])], &outer, |[table]| embedding(table, &ids)),
        ] {
            let expected = ids.iter().flat_map(|&id| &table[id as usize * width..][..width]);
            assert!(got.iter().eq(expected));
            close("gradient of the table", &gradient, &summed(&outer, &ids, rows), 1e-5);
        }
    }
}

/// Sums of rows with the same owner.
fn summed(of: &[f32], owners: &[i32], count: usize) -> Vec<f64> {
    let places: Vec<(i32, usize, f32)> = owners.iter().enumerate().map(|(place, &owner)| (owner, place, 1.0)).collect();
    added(of, of.len() / owners.len(), &places, count)
}

/// Sums in float64 of (row that is added to, row that is added, times what).
fn added(of: &[f32], width: usize, places: &[(i32, usize, f32)], count: usize) -> Vec<f64> {
    let mut sums = vec![0.0f64; count * width];
    for &(owner, row, by) in places {
        let row = &of[row * width..][..width];
        row.iter().enumerate().for_each(|(column, x)| sums[owner as usize * width + column] += f64::from(*x) * f64::from(by));
    }
    sums
}

/// Owners without rows, with one, and with many more than a chunk holds; the gradient of a row is that of its owner.
fn check_sums(device: &Device) {
    for (rows, width, count) in [(1, 1, 1), (200, 7, 5), (333, 300, 200), (30, 8, 40)] {
        let owners: Vec<i32> = (0..rows).map(|row| if row < rows / 2 { 0 } else { (row * row % count) as i32 }).collect();
        let (input, outer, weights) = (random(rows * width, 1), random(count * width, 2), random(rows, 3));
        let places: Vec<(i32, usize, f32)> = owners.iter().zip(&weights).enumerate().map(|(row, (&owner, &by))| (owner, row, by)).collect();
        let expected = added(&input, width, &places, count);
        let back: Vec<(i32, usize, f32)> = places.iter().map(|&(owner, row, by)| (row as i32, owner as usize, by)).collect();
        let slopes = added(&outer, width, &back, rows);
        fused_and_plain(device, (&input, [rows, width]), &outer, [&expected, &slopes], |input| sums(input, &weights, &owners, count));
    }
}

/// Texts without tokens, with one, with many more than a chunk holds, with one token again and again; rows of the table that no text uses.
fn check_bag(device: &Device) {
    let cases = [
        (1usize, 1usize, vec![1]),
        (9, 5, vec![0, 3, 100, 0, 1, 33]),
        (700, 300, vec![40, 1, 2500, 7]),
        (50, 12, vec![3; 60]),
        (4, 8, vec![0, 0]),
    ];
    for (rows, width, lengths) in cases {
        let tokens: usize = lengths.iter().sum();
        let ids: Vec<i32> = (0..tokens).map(|place| if place % 4 == 0 { 0 } else { (place * place % rows.div_ceil(2)) as i32 }).collect();
        let (table, outer) = (random(rows * width, 1), random(lengths.len() * width, 2));
        let owners = lengths.iter().enumerate().flat_map(|(text, &length)| (0..length).map(move |_| (text, 1.0 / length as f32)));
        let places: Vec<(i32, usize, f32)> = owners.zip(&ids).map(|((text, by), &id)| (text as i32, id as usize, by)).collect();
        let expected = added(&table, width, &places, lengths.len());
        let back: Vec<(i32, usize, f32)> = places.iter().map(|&(text, id, by)| (id as i32, text as usize, by)).collect();
        let slopes = added(&outer, width, &back, rows);
        fused_and_plain(device, (&table, [rows, width]), &outer, [&expected, &slopes], |table| bag(table, &ids, &lengths));
    }
}

/// Rows of 16-bit floats, and a gradient in 32 bits.
fn check_half(device: &Device) {
    let (rows, width, ids) = (40, 24, [7, 0, 39, 13]);
    let whole = |count: usize, by: usize| (0..count).map(|at| (at * by % 61) as f32 - 30.0).collect::<Vec<f32>>();
    let (table, outer) = (whole(rows * width, 17), whole(ids.len() * width, 23));
    let (got, [gradient]) = differentiate(device, [(&table, [rows, width])], &outer, |[table]| {
        let chosen = embedding(table.cast(DType::F16), &ids);
        assert_eq!(chosen.dtype(), DType::F16);
        chosen.cast(DType::F32)
    });
    assert!(got.iter().eq(ids.iter().flat_map(|&id| &table[id as usize * width..][..width])));
    close("gradient of the table", &gradient, &summed(&outer, &ids, rows), 0.0);
}

#[test]
fn rows_of_a_table_sums_of_rows_and_bags() {
    let device = Device::flex().autodiff();
    check_embedding(&device);
    check_sums(&device);
    check_bag(&device);
}

#[test]
fn rows_of_a_table_sums_of_rows_and_bags_on_a_software_gpu() {
    if let Some(device) = crate::test_gpu() {
        check_embedding(&device.clone().autodiff());
        check_sums(&device.clone().autodiff());
        if crate::layers::Precision::Mixed.check(&device).is_ok() {
            check_half(&device.clone().autodiff());
        }
        check_bag(&device.autodiff());
    }
}
