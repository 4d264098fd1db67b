//! Exact top-k inner-product search and draws of negatives on the device, [`search()`], and the layers of an encoder, fused.
//!
//! | part | owns |
//! |---|---|
//! | [`search()`], [`SearchRequest`], [`TopK`] | the call: checked before, checked after, answers on the host |
//! | [`Exclusions`] | the documents each query may not get |
//! | [`Choice`], `key` | the best, or a draw: the same search by a random key |
//! | [`Bins`] | counting scores |
//! | [`Store`], [`DiskStore`], [`DiskWriter`] | rows on the device, or in a file that is streamed through it |
//! | [`search_rescored`] | a search of rounded rows, its survivors scored again from the full ones |
//! | `scan` | the backend extension: running top-k of one shard; `scan/cube` has the GPU kernels, `scan/flex` the CPU path |
//! | [`mod@reference`] | the same in plain Rust and float64, for clarity, not for speed |
//! | [`catalogue`] | problems as data, for the tests of every implementation and for benchmarks |
//! | [`layers`] | linear, attention, GELU, dropout and residual norm with hand-written gradients, for the CPU and for GPUs |
//! | [`adamw()`] | one update of the optimiser in one pass |
//! | [`sum_of_squares`], [`squares_on_device`] | a gradient's share of the norm in one pass |
//! | [`keep_freed_memory`], [`device_memory`] | the allocator's habits, and what the pools of a device hold |
//! | [`keep_tuning`] | where a GPU's tuning is kept between runs |
//! | [`adapters()`], [`describe`], [`rows_per_shard`], [`max_rows_per_shard`] | the GPUs of this machine and what they can do |
//! | [`software_device`], [`test_gpu()`] | a software Vulkan driver through WGSL; the GPU that tests are asked to use |
//!
//! The only crate that knows CubeCL, and the only one with `unsafe`. Invariants of the search: exact, deterministic (score descending, then id ascending, ties at the
//! boundary of k included), and memory beyond inputs and answer that the number of rows does not touch. README.md has the formulas, the layout and the limits.

#![recursion_limit = "256"]

mod adamw;
mod adapters;
mod bins;
pub mod catalogue;
mod disk;
mod exclusions;
mod fragments;
mod key;
pub mod layers;
mod memory;
mod pairs;
pub mod reference;
mod rescore;
mod scan;
mod search;
mod software;
mod squares;
mod stream;
mod test_gpu;
#[cfg(test)]
mod tests;
mod tuning;

pub use adamw::{AdamWFactors, adamw, updates_in_one_pass};
pub use adapters::{Adapter, AdapterKind, AdapterLimits, adapters, describe, max_rows_per_shard, rows_per_shard};
pub use bins::Bins;
pub use disk::{DiskError, DiskStore, DiskUse, DiskWriter, RowFormat};
pub use exclusions::Exclusions;
pub use memory::{DeviceMemory, device_memory, keep_freed_memory};
pub use rescore::search_rescored;
pub use search::{Choice, MAX_K, SearchError, SearchRequest, TopK, search};
pub use software::{SoftwareError, device as software_device};
pub use squares::{squares_on_device, sum_of_squares, sums_in_one_pass};
pub use stream::Store;
pub use test_gpu::test_gpu;
pub use tuning::{keep_tuning, tuning_file};
