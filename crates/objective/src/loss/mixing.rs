//! Synthetic negatives in embedding space (MoCHi, Kalantidis et al. 2020, arXiv 2010.01028).
//!
//! Of each query's hardest document negatives: `normalize(a n_i + (1 - a) n_j)` with `a ~ U(0, 1)` and `i != j` (pairs), and
//! `normalize(b q + (1 - b) n_i)` with `b ~ U(0, 1/2)` (with the query). They become columns of that query alone. Everything mixed is a
//! constant, the query inside the mix too: gradient flows only through the query the column is scored with. Made for vectors of length 1.
//!
//! The draws come from the host, keyed by (seed, step, purpose); which documents they pick is computed on the device, because masks are
//! known only there. A query with fewer than `hardest` negatives mixes those it has; a pair needs two.

use burn::tensor::{Bool, DType, Int, Tensor, TensorData};
use kernels::layers::normalize;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::matrix::exclude;
use super::settings::in_range;
use super::{LossError, Now};

/// The settings of `[loss.mixing]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MixingConfig {
    /// Negatives to mix from, the highest-scoring ones after all masks.
    pub hardest: usize,
    /// Columns that mix two negatives, per query.
    pub pairs: usize,
    /// Columns that mix the query and a negative, per query.
    pub with_query: usize,
    /// First step that has pairs. A known implementation starts at 5000.
    pub pairs_from_step: usize,
    /// First step that mixes with the query. A known implementation starts at 10000.
    pub with_query_from_step: usize,
}

impl Default for MixingConfig {
    fn default() -> Self {
        Self { hardest: 32, pairs: 16, with_query: 16, pairs_from_step: 0, with_query_from_step: 0 }
    }
}

/// The random numbers of one kind of mix, `[queries * columns]` each.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Draws {
    /// Uniform in [0, 1): which negative.
    pub(crate) first: Vec<f32>,
    /// Uniform in [0, 1): which other negative.
    pub(crate) second: Vec<f32>,
    /// Uniform in [0, 1): the share, before it is scaled.
    pub(crate) share: Vec<f32>,
}

/// What the random numbers are for; each purpose has its own, so that switching one on does not change the other.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Pairs,
    WithQuery,
}

impl Draws {
    fn new(now: &Now, purpose: Purpose, count: usize) -> Self {
        let mut key = [0; 32];
        for (part, number) in key.chunks_exact_mut(8).zip([now.seed, now.step as u64, purpose as u64]) {
            part.copy_from_slice(&number.to_le_bytes());
        }
        let mut generator = ChaCha8Rng::from_seed(key);
        let mut numbers = || (0..count).map(|_| generator.random::<f32>()).collect();
        Self { first: numbers(), second: numbers(), share: numbers() }
    }
}

/// The hardest document negatives of each query.
pub(super) struct Hardest {
    /// Columns, `[queries, most]`, hardest first; those past `available` are not negatives.
    columns: Tensor<2, Int>,
    /// How many of them are, `[queries, 1]`.
    available: Tensor<2>,
}

impl Hardest {
    /// `scores` are plain and without a graph, `excluded` marks what is not a negative, targets included. `None` when there is no other
    /// column than the target.
    pub(super) fn new(scores: &Tensor<2>, excluded: Tensor<2, Bool>, hardest: usize) -> Option<Self> {
        let [_, columns] = scores.dims();
        let most = hardest.min(columns - 1);
        if most == 0 {
            return None;
        }
        let negatives = excluded.clone().bool_not().float().cast(DType::F32).sum_dim(1);
        let columns = exclude(scores.clone(), Some(excluded)).argtopk(most, 1);
        Some(Self { columns, available: negatives.clamp_max(most as f64) })
    }

    fn most(&self) -> usize {
        self.columns.dims()[1]
    }

    /// The documents at places `[queries, columns]` (floats) of the list, `[queries, columns, dimension]`.
    fn rows(&self, places: Tensor<2>, documents: &Tensor<2>) -> Tensor<3> {
        let [rows, columns] = places.dims();
        let places = places.clamp(0.0, (self.most() - 1) as f64).int();
        let chosen = self.columns.clone().gather(1, places).reshape([rows * columns]);
        let width = documents.dims()[1];
        documents.clone().select(0, chosen).reshape([rows, columns, width])
    }
}

/// Synthetic vectors and which of them exist.
#[derive(Clone, Debug)]
pub(crate) struct Mixed {
    /// `[queries, columns, dimension]`, of length 1, without a graph.
    pub(crate) vectors: Tensor<3>,
    /// `[queries, columns]`, true where there were too few negatives to mix.
    pub(crate) excluded: Tensor<2, Bool>,
    /// Columns that exist, `[queries, 1]`.
    pub(super) counts: Tensor<2>,
}

impl Mixed {
    /// The score of each query with its own vectors, `[queries, columns]`.
    pub(super) fn scores(&self, queries: &Tensor<2>) -> Tensor<2> {
        queries.clone().unsqueeze_dim::<3>(1).matmul(self.vectors.clone().swap_dims(1, 2)).squeeze_dim(1)
    }
}

impl MixingConfig {
    pub(super) fn validate(&self) -> Result<(), LossError> {
        let hardest = (1..=1024).contains(&self.hardest);
        in_range("loss.mixing.hardest".into(), self.hardest as f64, hardest, "a number from 1 to 1024, such as 32")?;
        let columns = self.pairs + self.with_query;
        in_range("loss.mixing.pairs + with_query".into(), columns as f64, columns > 0, "at least 1: leave [loss.mixing] out for none")?;
        Ok(())
    }

    /// The draws of a step for pairs and for mixes with the query; empty before they start.
    pub(crate) fn draws(&self, now: &Now, queries: usize) -> [Draws; 2] {
        let columns = |columns: usize, from: usize| if now.step >= from { queries * columns } else { 0 };
        [
            Draws::new(now, Purpose::Pairs, columns(self.pairs, self.pairs_from_step)),
            Draws::new(now, Purpose::WithQuery, columns(self.with_query, self.with_query_from_step)),
        ]
    }

    /// The mixed vectors of a step; `None` before they start.
    pub(super) fn mix(&self, hardest: &Hardest, queries: &Tensor<2>, documents: &Tensor<2>, now: &Now) -> Option<Mixed> {
        let (queries, documents) = (queries.clone().inner(), documents.clone().inner());
        let rows = queries.dims()[0];
        let [pairs, with_query] = self.draws(now, rows);
        let mut all = Vec::new();
        if !pairs.share.is_empty() {
            let place = places(&pairs.first, &hardest.available);
            let [_, columns] = place.dims();
            // A step of 1 to available - 1 places onwards, round the end, gives every other negative the same chance.
            let onwards = place.clone() + places(&pairs.second, &hardest.available.clone().sub_scalar(1.0)).add_scalar(1.0);
            let available = hardest.available.clone().expand([rows, columns]);
            let wraps = onwards.clone().greater_equal(available.clone()).float().cast(DType::F32);
            let (first, second) = (hardest.rows(place, &documents), hardest.rows(onwards - wraps * available, &documents));
            all.push(mixed(first, second, shares(&pairs.share, rows, 1.0, &queries), hardest.available.clone().lower_scalar(1.5)));
        }
        if !with_query.share.is_empty() {
            let negatives = hardest.rows(places(&with_query.first, &hardest.available), &documents);
            let share = shares(&with_query.share, rows, 0.5, &queries);
            let itself = queries.unsqueeze_dim::<3>(1).expand(negatives.shape());
            all.push(mixed(itself, negatives, share, hardest.available.clone().lower_scalar(0.5)));
        }
        let last = all.pop()?;
        Some(match all.pop() {
            None => last,
            Some(first) => Mixed {
                vectors: Tensor::cat(vec![first.vectors, last.vectors], 1),
                excluded: Tensor::cat(vec![first.excluded, last.excluded], 1),
                counts: first.counts + last.counts,
            },
        })
    }
}

/// Places below `available`, `[queries, columns]`, from uniform numbers.
fn places(uniform: &[f32], available: &Tensor<2>) -> Tensor<2> {
    let rows = available.dims()[0];
    let uniform = Tensor::<2>::from_data(TensorData::new(uniform.to_vec(), [rows, uniform.len() / rows]), &available.device());
    (uniform * available.clone()).floor()
}

/// `[queries, columns, 1]`, uniform below `highest`.
fn shares(uniform: &[f32], rows: usize, highest: f32, like: &Tensor<2>) -> Tensor<3> {
    let shares: Vec<f32> = uniform.iter().map(|share| share * highest).collect();
    let columns = shares.len() / rows;
    Tensor::from_data(TensorData::new(shares, [rows, columns, 1]), &like.device())
}

/// `normalize(share * first + (1 - share) * second)`; `short` rows `[queries, 1]` have too few negatives.
fn mixed(first: Tensor<3>, second: Tensor<3>, share: Tensor<3>, short: Tensor<2, Bool>) -> Mixed {
    let [rows, columns, width] = first.dims();
    let vectors = second.clone() + (first - second) * share;
    let vectors = normalize(vectors.reshape([rows * columns, width])).reshape([rows, columns, width]);
    let excluded = short.expand([rows, columns]);
    let counts = excluded.clone().bool_not().float().cast(DType::F32).sum_dim(1);
    Mixed { vectors, excluded, counts }
}
