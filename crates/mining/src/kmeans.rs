//! Clusters of rows by k-means (Lloyd 1982): assignment on the device, means in float64 on the host.
//!
//! The nearest centre c of a row x is the one with the highest `x . c - |c|^2 / 2`: an inner product once rows have a 1 and centres that
//! number as one more column, so assignment is the exact search of `kernels` at depth 1 and never holds rows x centres. Rows pass through
//! in tiles. Invariants: the assignment is that of the centres, ties go to the lower number, and on one device equal input gives equal
//! bits.

use std::collections::HashSet;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use kernels::SearchRequest;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::error::MiningError;
use crate::store::read;

/// Numbers of a tile of rows: 16 MiB.
const TILE: usize = 4 << 20;
/// Rows looked at together when the first centres are chosen.
const LOOKED_AT: usize = 1024;

/// Centres, and which of them is nearest to each row.
#[derive(Debug, Clone)]
pub struct Clusters {
    /// `[clusters, dimension]`, f32, without gradient.
    pub centres: Tensor<2>,
    /// The nearest centre by row.
    pub assignment: Vec<u32>,
    /// Rows that changed their centre in the last assignment: 0 when the clusters are final, all of them when there was only one
    /// assignment.
    pub moved: usize,
}

/// Clusters `rows`, `[rows, dimension]`, into `k`, by Euclidean distance. At most `iterations` times each centre becomes the mean of its
/// rows and the rows are assigned anew; it ends sooner when no row moves.
///
/// The first centres are `k` different rows drawn uniformly: what faiss does, whose centroids the topics of Hofstätter et al. 2021 (arXiv
/// 2104.06967) are. k-means++ would start lower after k passes over the rows, one after another, which cost more than the few iterations
/// they save. A cluster that loses its last row gets the row that is farthest from its own centre. Where there are fewer than `k` different
/// rows, each is a cluster and there are no others.
///
/// # Errors
/// When there is nothing to cluster, a row is not finite, or the device fails.
pub fn cluster(rows: &Tensor<2>, k: usize, iterations: usize, seed: u64) -> Result<Clusters, MiningError> {
    let [count, dimension] = rows.dims();
    if k == 0 || count == 0 || dimension == 0 {
        return Err(MiningError::NoClusters { k, rows: count, dimension });
    }
    let rows = rows.clone().without_autodiff();
    for (first, tile) in tiles(&rows) {
        if let Some(place) = read(tile, "reading rows")?.iter().position(|value| !value.is_finite()) {
            return Err(MiningError::NotFinite { what: "rows to cluster", row: first + place / dimension });
        }
    }
    let centres = different_rows(&rows, k, seed)?;
    lloyd(&rows, centres, iterations)
}

impl Clusters {
    /// The nearest centre of each of `rows`, `[rows, dimension]`.
    ///
    /// # Errors
    /// When the rows have another width or are not numbers, or the device fails.
    pub fn assign(&self, rows: &Tensor<2>) -> Result<Vec<u32>, MiningError> {
        let ([count, width], [_, dimension]) = (rows.dims(), self.centres.dims());
        if width != dimension {
            return Err(MiningError::Shape { what: "rows to assign", got: [count, width], expected: [count, dimension] });
        }
        nearest(&rows.clone().without_autodiff(), &read(self.centres.clone(), "reading centres")?)
    }
}

/// Lloyd's iterations from these centres, `[clusters, dimension]`, at least one.
pub(crate) fn lloyd(rows: &Tensor<2>, mut centres: Vec<f32>, iterations: usize) -> Result<Clusters, MiningError> {
    let [count, dimension] = rows.dims();
    let mut assignment = nearest(rows, &centres)?;
    let mut moved = count;
    for _ in 0..iterations {
        fill_empty(rows, &centres, &mut assignment)?;
        centres = means(rows, &centres, &assignment)?;
        let next = nearest(rows, &centres)?;
        moved = assignment.iter().zip(&next).filter(|(before, after)| before != after).count();
        assignment = next;
        if moved == 0 {
            break;
        }
    }
    let shape = [centres.len() / dimension, dimension];
    Ok(Clusters { centres: upload(centres, shape, &rows.device()), assignment, moved })
}

/// Up to `k` rows no two of which are equal, in random order.
fn different_rows(rows: &Tensor<2>, k: usize, seed: u64) -> Result<Vec<f32>, MiningError> {
    let [count, dimension] = rows.dims();
    let mut order: Vec<i32> = (0..count as i32).collect();
    order.shuffle(&mut keyed(seed, 0, b"clusters"));
    let mut seen = HashSet::new();
    let mut chosen = Vec::with_capacity(k.min(count) * dimension);
    for some in order.chunks(k.max(LOOKED_AT)) {
        let indices = Tensor::<1, Int>::from_data(TensorData::new(some.to_vec(), [some.len()]), &rows.device());
        for row in read(rows.clone().select(0, indices), "reading rows")?.chunks_exact(dimension) {
            // -0 is 0.
            if seen.len() < k && seen.insert(row.iter().map(|value| (value + 0.0).to_bits()).collect::<Vec<_>>()) {
                chosen.extend_from_slice(row);
            }
        }
        if seen.len() == k {
            break;
        }
    }
    Ok(chosen)
}

/// The nearest of `centres`, `[clusters, dimension]`, for each row.
fn nearest(rows: &Tensor<2>, centres: &[f32]) -> Result<Vec<u32>, MiningError> {
    let [count, dimension] = rows.dims();
    let device = rows.device();
    // Seen from the middle of the centres, numbers are as small as they can be: far from zero, the products would drown the distances.
    let middle: Vec<f32> = column_sums(centres, dimension).iter().map(|sum| (sum / (centres.len() / dimension) as f64) as f32).collect();
    let mut widened = Vec::with_capacity(centres.len() / dimension * (dimension + 1));
    for centre in centres.chunks_exact(dimension) {
        let shifted = centre.iter().zip(&middle).map(|(value, middle)| value - middle);
        let square: f64 = shifted.clone().map(|value| f64::from(value).powi(2)).sum();
        widened.extend(shifted);
        widened.push((-0.5 * square) as f32);
    }
    let per_shard = kernels::max_rows_per_shard(&device, dimension + 1, 4).max(1) * (dimension + 1);
    let shard = |part: &[f32]| upload(part.to_vec(), [part.len() / (dimension + 1), dimension + 1], &device);
    let store: Vec<Tensor<2>> = widened.chunks(per_shard).map(shard).collect();
    let middle = upload(middle, [1, dimension], &device);
    let mut assignment = Vec::with_capacity(count);
    for (_, tile) in tiles(rows) {
        let one = Tensor::ones([tile.dims()[0], 1], (&device, DType::F32));
        let queries = Tensor::cat(vec![tile.cast(DType::F32) - middle.clone(), one], 1);
        let found = kernels::search(SearchRequest::new(queries, &store, 1))?;
        assignment.extend(found.ids);
    }
    Ok(assignment)
}

/// Gives each cluster without rows, in order, the row that is farthest from its own centre; the lower id of two. A cluster's only row
/// stays.
fn fill_empty(rows: &Tensor<2>, centres: &[f32], assignment: &mut [u32]) -> Result<(), MiningError> {
    let dimension = rows.dims()[1];
    let mut sizes = sizes(assignment, centres.len() / dimension);
    if !sizes.contains(&0) {
        return Ok(());
    }
    let mut far: Vec<(f64, usize)> = Vec::with_capacity(assignment.len());
    for (first, tile) in tiles(rows) {
        for (row, values) in (first..).zip(read(tile, "reading rows")?.chunks_exact(dimension)) {
            let centre = &centres[assignment[row] as usize * dimension..][..dimension];
            let distance = values.iter().zip(centre).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
            far.push((distance, row));
        }
    }
    far.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut far = far.into_iter().filter(|&(distance, _)| distance > 0.0);
    for empty in (0..sizes.len()).filter(|&cluster| sizes[cluster] == 0).collect::<Vec<_>>() {
        let Some((_, row)) = far.find(|&(_, row)| sizes[assignment[row] as usize] > 1) else { break };
        sizes[assignment[row] as usize] -= 1;
        sizes[empty] = 1;
        assignment[row] = empty as u32;
    }
    Ok(())
}

/// The mean of each cluster's rows; a cluster without rows keeps its centre.
fn means(rows: &Tensor<2>, centres: &[f32], assignment: &[u32]) -> Result<Vec<f32>, MiningError> {
    let dimension = rows.dims()[1];
    let sizes = sizes(assignment, centres.len() / dimension);
    let mut sums = vec![0.0_f64; centres.len()];
    for (first, tile) in tiles(rows) {
        for (row, values) in (first..).zip(read(tile, "reading rows")?.chunks_exact(dimension)) {
            let sum = &mut sums[assignment[row] as usize * dimension..][..dimension];
            sum.iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value));
        }
    }
    let size = |place: usize| sizes[place / dimension];
    let mean = |(place, sum): (usize, f64)| if size(place) == 0 { centres[place] } else { (sum / size(place) as f64) as f32 };
    Ok(sums.into_iter().enumerate().map(mean).collect())
}

fn sizes(assignment: &[u32], clusters: usize) -> Vec<usize> {
    let mut sizes = vec![0; clusters];
    assignment.iter().for_each(|&cluster| sizes[cluster as usize] += 1);
    sizes
}

fn column_sums(values: &[f32], dimension: usize) -> Vec<f64> {
    let mut sums = vec![0.0; dimension];
    for row in values.chunks_exact(dimension) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    sums
}

/// The rows in pieces that fit a tile, with the number of the first row of each.
fn tiles(rows: &Tensor<2>) -> impl Iterator<Item = (usize, Tensor<2>)> {
    let [count, dimension] = rows.dims();
    let step = (TILE / dimension).max(1);
    (0..count).step_by(step).map(move |first| (first, rows.clone().slice([first..count.min(first + step), 0..dimension])))
}

fn upload(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

/// A generator that is a function of a seed, a number and what it is for.
pub(crate) fn keyed(seed: u64, number: u64, purpose: &[u8; 8]) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (part, bytes) in key.chunks_exact_mut(8).zip([seed.to_le_bytes(), number.to_le_bytes(), *purpose]) {
        part.copy_from_slice(&bytes);
    }
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests;
