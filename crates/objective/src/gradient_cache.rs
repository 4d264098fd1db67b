//! One training step over a batch too large for one graph, with exactly the gradients of the whole batch.
//!
//! Gradient caching (Gao et al. 2021, arXiv 2101.06983): encode every chunk without a graph, take the loss over all embeddings at
//! once and keep its gradient with respect to each, then encode every chunk again with a graph and send that gradient through it.
//! Memory holds one chunk's activations; the price is a second forward pass.
//!
//! The invariant: both passes compute the same embeddings. That asks for training-time dropout in the first pass too (which a
//! module in validation mode does not have) and for the same random numbers, hence a seed per chunk. Nothing else may draw random
//! numbers on the device meanwhile. Not for modules whose forward pass changes them, such as batch normalisation.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{DType, Device, Tensor};

/// A seed for the random numbers of a chunk: SplitMix64 over the three numbers, so that neighbouring steps and chunks get unrelated ones.
pub fn chunk_seed(seed: u64, step: u64, chunk: u64) -> u64 {
    let mut value =
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ step.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ chunk.wrapping_mul(0x94d0_49bb_1331_11eb);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// What a step gives back.
#[derive(Debug)]
pub struct Stepped {
    /// The loss, `[1]`, still on the device and without a graph.
    pub value: Tensor<1>,
    /// The gradient of every parameter that the loss depends on.
    pub gradients: GradientsParams,
    /// The gradient of each leaf, in order; `None` for one that the loss does not depend on.
    pub leaves: Vec<Option<Tensor<1>>>,
}

/// The step with gradient caching: memory for one chunk's graph at a time.
///
/// `encode` maps a chunk to its embeddings `[rows, dimension]`; its inputs must lie on the autodiff `device`, in both passes. A chunk
/// whose embeddings are constants (rows read from a store) is allowed and gets no second pass. `loss` sees the embeddings of all
/// chunks, in order, and returns `[1]`. `seeds` has one seed per chunk, or none when the module draws no random numbers: seeding
/// makes some devices wait.
///
/// `leaves` are further tensors that the loss reads and whose gradient is wanted, such as a learned temperature.
///
/// # Panics
/// When seeds and chunks differ in number, or when no parameter requires a gradient.
pub fn step<M: Module, C>(
    module: &M,
    chunks: &[C],
    seeds: &[u64],
    device: &Device,
    encode: impl Fn(&M, &C) -> Tensor<2>,
    loss: impl FnOnce(Vec<Tensor<2>>) -> Tensor<1>,
    leaves: &[Tensor<1>],
) -> Stepped {
    let seeds = Seeds::new(seeds, chunks.len(), device);
    let Cached { value, embeddings, leaves } = cache(module, chunks, &seeds, &encode, loss, leaves);
    let gradients = replay(module, chunks, &seeds, &encode, embeddings);
    Stepped { value, gradients, leaves }
}

/// The same step in one graph: faster when the batch fits into memory. Seeds are set as [`step`] sets them, so that both give the
/// same result for the same chunks.
///
/// # Panics
/// As [`step`].
pub fn whole_step<M: Module, C>(
    module: &M,
    chunks: &[C],
    seeds: &[u64],
    device: &Device,
    encode: impl Fn(&M, &C) -> Tensor<2>,
    loss: impl FnOnce(Vec<Tensor<2>>) -> Tensor<1>,
    leaves: &[Tensor<1>],
) -> Stepped {
    let seeds = Seeds::new(seeds, chunks.len(), device);
    let embeddings = chunks.iter().enumerate().map(|(index, chunk)| {
        seeds.set(index);
        encode(module, chunk)
    });
    let value = loss(embeddings.collect());
    assert!(value.is_tracked(), "{UNTRACKED}");
    let mut gradients = value.backward();
    let leaves = leaves.iter().map(|leaf| leaf.grad_remove(&mut gradients)).collect();
    Stepped { value: value.inner(), gradients: GradientsParams::from_grads(gradients, module), leaves }
}

const UNTRACKED: &str = "the loss depends on no parameter that requires a gradient: was the module put into validation mode or frozen?";

/// What the first pass leaves for the second.
struct Cached {
    value: Tensor<1>,
    /// The gradient of each chunk's embeddings; `None` for constants.
    embeddings: Vec<Option<Tensor<2>>>,
    leaves: Vec<Option<Tensor<1>>>,
}

/// First pass: embeddings without a graph, the loss over all of them, and its gradient for each chunk's embeddings and each leaf.
fn cache<M: Module, C>(
    module: &M,
    chunks: &[C],
    seeds: &Seeds<'_>,
    encode: &impl Fn(&M, &C) -> Tensor<2>,
    loss: impl FnOnce(Vec<Tensor<2>>) -> Tensor<1>,
    wanted: &[Tensor<1>],
) -> Cached {
    // Clones share a parameter that was never used, and `no_grad` on such a clone would freeze the original too.
    module.visit(&mut Materialize);
    let untracked = module.clone().no_grad();
    let embeddings = chunks.iter().enumerate().map(|(index, chunk)| {
        seeds.set(index);
        let rows = encode(&untracked, chunk);
        if rows.is_autodiff() { rows.detach().require_grad() } else { rows }
    });
    let embeddings: Vec<Tensor<2>> = embeddings.collect();
    let value = loss(embeddings.clone());
    assert!(value.is_tracked(), "{UNTRACKED}");
    let mut gradients = value.backward();
    let embeddings = embeddings.iter().map(|rows| rows.grad_remove(&mut gradients)).collect();
    let leaves = wanted.iter().map(|leaf| leaf.grad_remove(&mut gradients)).collect();
    Cached { value: value.inner(), embeddings, leaves }
}

/// Second pass: each chunk again, with a graph, under the same seed. The gradient of the inner product of its embeddings with their
/// cached gradient is the chunk's share of the whole gradient.
fn replay<M: Module, C>(
    module: &M,
    chunks: &[C],
    seeds: &Seeds<'_>,
    encode: &impl Fn(&M, &C) -> Tensor<2>,
    embedding_gradients: Vec<Option<Tensor<2>>>,
) -> GradientsParams {
    let mut sum = GradientsAccumulator::new();
    let mut tracked = false;
    for (index, (chunk, gradient)) in chunks.iter().zip(embedding_gradients).enumerate() {
        let Some(gradient) = gradient else { continue };
        seeds.set(index);
        let rows = encode(module, chunk);
        if !rows.is_tracked() {
            continue;
        }
        tracked = true;
        let product = (rows.cast(DType::F32) * gradient.cast(DType::F32)).sum();
        sum.accumulate(module, GradientsParams::from_grads(product.backward(), module));
    }
    assert!(tracked, "{UNTRACKED}");
    sum.grads()
}

/// One seed per chunk, or none at all.
struct Seeds<'a> {
    seeds: &'a [u64],
    device: &'a Device,
}

impl<'a> Seeds<'a> {
    fn new(seeds: &'a [u64], chunks: usize, device: &'a Device) -> Self {
        assert!(seeds.is_empty() || seeds.len() == chunks, "{} seeds for {chunks} chunks", seeds.len());
        Self { seeds, device }
    }

    fn set(&self, chunk: usize) {
        if let Some(&seed) = self.seeds.get(chunk) {
            kernels::layers::seed(self.device, seed);
        }
    }
}

/// Initialises every parameter that was never used.
struct Materialize;

impl ModuleVisitor for Materialize {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        drop(parameter.base());
    }
}
