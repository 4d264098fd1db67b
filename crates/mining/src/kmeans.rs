//! Stand-in: clusters of rows.

use burn::tensor::Tensor;

use crate::error::MiningError;

/// Centres and, for each row, the number of its centre.
#[derive(Debug)]
pub struct Clusters {
    /// `[k, dimension]`.
    pub centres: Tensor<2>,
    /// By row.
    #[allow(dead_code)]
    pub assignment: Vec<u32>,
}

/// Lloyd's algorithm on the host.
///
/// # Errors
/// When rows cannot be read.
pub fn cluster(rows: &Tensor<2>, k: usize, iterations: usize, seed: u64) -> Result<Clusters, MiningError> {
    let [count, dimension] = rows.dims();
    let device = rows.device();
    let values = crate::store::read(rows.clone(), "reading rows")?;
    let row = |it: usize| &values[it * dimension..(it + 1) * dimension];
    let mut centres: Vec<Vec<f32>> = vec![row(seed as usize % count).to_vec()];
    while centres.len() < k {
        let distance = |it: usize, centre: &Vec<f32>| row(it).iter().zip(centre).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let nearest = |it: usize| centres.iter().map(|centre| distance(it, centre)).fold(f32::INFINITY, f32::min);
        let farthest = (0..count).max_by(|&a, &b| nearest(a).total_cmp(&nearest(b))).unwrap_or(0);
        centres.push(row(farthest).to_vec());
    }
    let mut assignment = vec![0; count];
    for _ in 0..iterations {
        for (it, to) in assignment.iter_mut().enumerate() {
            let distance = |centre: &Vec<f32>| row(it).iter().zip(centre).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
            *to = (0..k).min_by(|&a, &b| distance(&centres[a]).total_cmp(&distance(&centres[b]))).unwrap_or(0) as u32;
        }
        for (cluster, centre) in centres.iter_mut().enumerate() {
            let members: Vec<usize> = (0..count).filter(|&it| assignment[it] as usize == cluster).collect();
            if !members.is_empty() {
                *centre = (0..dimension).map(|at| members.iter().map(|&it| row(it)[at]).sum::<f32>() / members.len() as f32).collect();
            }
        }
    }
    let centres = Tensor::from_data(burn::tensor::TensorData::new(centres.concat(), [k, dimension]), &device);
    Ok(Clusters { centres, assignment })
}
