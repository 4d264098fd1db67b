//! Attention on GPUs that never stores its weights (Dao et al. 2022, arXiv 2205.14135): float32 throughout, or in mixed precision by matrix units (`matrix`) where there are any.
//!
//! A cube takes a block of queries of one sequence and one head, and goes through that head's keys block by block, with running maxima and sums of the softmax; keys that are
//! padding are left out. What is kept is one logarithm per query. Backward, one kernel goes through the keys of a block of queries for the queries' gradient, another
//! through the queries of a block of keys for those of keys and values; both make the weights again. Of plain units one owns a few rows and columns of a block's scores, and a few numbers of
//! a few rows of its result, all in registers. Scores may have a bias by distance, whose gradient the queries' kernel adds up on its way (`distances`).

#![allow(unsafe_code)]

mod backward;
mod distances;
mod forward;
mod matrix;
mod pieces;

use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, FloatDType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::zeros;
use burn_cubecl::tensor::CubeTensor;

use super::columns::SUMMED;
use super::mask::words;
use super::mixed::rounded;
use super::{UNITS, cubes, empty, empty_in, matrix, vector_width};
use crate::layers::attention::Attending;
use crate::layers::{AttentionShape, Precision};
use backward::{key_kernel, prepare_kernel, query_kernel};
use distances::distance_kernel;
use forward::attention_kernel;
use matrix::{
    SURVEYORS, Tile, attention_kernel as matrix_attention_kernel, key_kernel as matrix_key_kernel, query_kernel as matrix_query_kernel,
    survey_kernel,
};

/// Units along a side of a block.
const SIDE: usize = 8;

/// Below every score. WGSL has no infinities, and two of these must not leave the numbers when subtracted.
const LEAST: f32 = -1e30;

/// Blocks that may fit, largest first.
const BLOCKS: [usize; 3] = [32, 16, 8];

/// A block's vectors, each a number longer than it is, so that units read from different banks; a unit may look a little beyond the last.
const fn slab(block: usize, size: usize) -> usize {
    block * (size + 1) + SIDE
}

/// Shared memory of a kernel that holds so many slabs and so many blocks of weights.
const fn shared_bytes(block: usize, size: usize, slabs: usize, weights: usize) -> usize {
    4 * (slabs * slab(block, size) + weights * block * (block + 1) + 2 * block * SIDE)
}

/// The blocks of the forward kernel, of the queries' and of the keys' backward kernel that fit the shared memory, for heads of that width.
fn blocks(size: usize, shared: usize) -> Option<[usize; 3]> {
    let fitting = |slabs: usize, weights: usize| BLOCKS.into_iter().find(|&block| shared_bytes(block, size, slabs, weights) <= shared);
    Some([fitting(3, 1)?, fitting(4, 1)?, fitting(4, 2)?])
}

/// Whether heads of that width fit the device.
pub(in crate::layers) fn fits(client: &Client, size: usize) -> bool {
    blocks(size, client.properties().hardware.max_shared_memory_size).is_some()
}

/// Whether heads of that width are multiplied by matrix units in mixed precision, by as many planes as it may be.
#[cfg(test)]
pub(in crate::layers) fn rounds(client: &Client, size: usize) -> bool {
    Tile::of(client, size, 1).is_some()
}

/// What multiplies.
#[derive(Clone, Copy)]
enum Engine {
    Matrix(Tile),
    /// Blocks of the forward kernel, of the queries' and of the keys' backward kernel.
    Units([usize; 3]),
}

/// Sizes of a call.
struct Call {
    client: Client,
    tasks: usize,
    tokens: usize,
    width: usize,
    heads: usize,
    size: usize,
    engine: Engine,
}

impl Call {
    fn of(joint: &CubeTensor, shape: &AttentionShape) -> Self {
        let client = joint.client.clone();
        let size = matrix(joint)[1] / (3 * shape.heads);
        let sequences = &shape.sequences;
        let (tasks, tokens, width) = (sequences.rows() * shape.heads, sequences.tokens(), sequences.width());
        let tile = if shape.precision == Precision::Mixed { Tile::of(&client, size, width) } else { None };
        let units = || blocks(size, client.properties().hardware.max_shared_memory_size).expect("asked before: the head fits");
        let engine = tile.map_or_else(|| Engine::Units(units()), Engine::Matrix);
        // Backward kernels read places as floats.
        assert!(tokens <= 1 << 24, "a batch of {tokens} tokens, and attention counts to 2^24: make smaller batches");
        Self { client, tasks, tokens, width, heads: shape.heads, size, engine }
    }

    fn cubes(&self, block: usize) -> CubeCount {
        cubes(&self.client, self.tasks * self.width.div_ceil(block))
    }

    /// Every (row, head, query).
    fn queries(&self) -> usize {
        self.tokens * self.heads
    }

    /// Of the joint matrix and the mixed values.
    fn format(&self) -> DType {
        match self.engine {
            Engine::Matrix(_) => DType::F16,
            Engine::Units(_) => DType::F32,
        }
    }

    fn scaling(&self) -> f32 {
        (1.0 / (self.size as f64).sqrt()) as f32
    }
}

/// The mixed values in the format of the joint matrix, and the logarithm of every (row, head, query).
pub(super) fn forward(joint: CubeTensor, relative: CubeTensor, places: CubeTensor, attending: &Attending) -> [CubeTensor; 2] {
    let Attending { shape, dropout, relative: biased } = attending;
    let (call, format) = (Call::of(&joint, shape), joint.dtype);
    let relative = biases(relative, *biased);
    let joint = cast(joint, call.format());
    let output = empty(&joint, [call.tokens, call.heads * call.size]);
    let logarithms = empty_in(&joint, [call.queries()], DType::F32);
    if call.queries() == 0 {
        return [cast(output, format), logarithms];
    }
    let (threshold, scale, low, high) = words(*dropout);
    macro_rules! launch {
        ($kernel:ident, $rows:expr, $dim:expr, $tile:expr $(, $vector:expr)?) => {
            $kernel::launch_unchecked(
                &call.client,
                call.cubes($rows),
                $dim,
                $($vector,)?
                joint.into_buffer_arg(),
                relative.into_buffer_arg(),
                into_contiguous(places).into_buffer_arg(),
                output.clone().into_buffer_arg(),
                logarithms.clone().into_buffer_arg(),
                call.tasks as u32,
                call.tokens as u32,
                call.width as u32,
                call.heads as u32,
                call.scaling(),
                threshold,
                scale,
                low,
                high,
                call.size,
                $tile,
                dropout.is_some(),
                *biased,
                shape.window,
            )
        };
    }
    // SAFETY: the joint matrix has tokens x 3 hidden numbers, the output a third of them, logarithms tokens x heads, biases heads x (2 width - 1), places 2 rows + 1 numbers (checked before the
    // call), of which a kernel takes none that leads beyond the tokens; a slab has room for every line and a little beyond, or for whole fragments.
    unsafe {
        match call.engine {
            Engine::Matrix(tile) => launch!(matrix_attention_kernel, tile.rows(), tile.dim(), tile, vector_width(call.size)),
            Engine::Units([block, ..]) => launch!(attention_kernel, block, CubeDim::new_1d((SIDE * SIDE) as u32), block),
        }
    }
    [cast(output, format), logarithms]
}

/// The biases in one piece; where there are none, something that no kernel reads.
fn biases(relative: CubeTensor, biased: bool) -> CubeTensor {
    if biased { into_contiguous(relative) } else { empty_in(&relative, [1], DType::F32) }
}

/// In one piece, and in the format: f32, or 16 bits as far as they reach.
fn cast(tensor: CubeTensor, format: DType) -> CubeTensor {
    match format {
        _ if tensor.dtype == format => into_contiguous(tensor),
        DType::F32 => into_contiguous(CubeBackend::float_cast(tensor, FloatDType::F32)),
        _ => rounded(tensor, None, format),
    }
}

/// The gradients of query, key and value, side by side, and of the bias by distance; without one, something to be dropped.
pub(super) fn backward(
    gradient: CubeTensor,
    joint: CubeTensor,
    relative: CubeTensor,
    [output, logarithms]: [CubeTensor; 2],
    places: CubeTensor,
    attending: &Attending,
) -> [CubeTensor; 2] {
    let Attending { shape, dropout, relative: biased } = attending;
    let call = Call::of(&joint, shape);
    let relative = biases(relative, *biased);
    let [joint, output] = [joint, output].map(|tensor| cast(tensor, call.format()));
    let gradient = into_contiguous(gradient);
    let result = empty(&gradient, matrix(&joint));
    let to_relative = empty(&gradient, attending.relative_shape());
    let count = call.queries();
    if count == 0 {
        return [result, zeros(to_relative.device, Shape::from(attending.relative_shape()), DType::F32)];
    }
    let rows = shape.sequences.rows();
    let facts = empty(&gradient, [2 * count + 3 * rows + 4 * call.tasks]);
    let parts = match call.engine {
        Engine::Matrix(tile) => tile.parts(),
        Engine::Units([_, query_block, _]) => backward::parts(query_block),
    };
    let sums = empty(&gradient, [if *biased { parts.all(call.tasks, call.width) } else { 1 }]);
    let (threshold, scale, low, high) = words(*dropout);
    macro_rules! launch {
        ($kernel:ident, $rows:expr, $dim:expr, $tile:expr $(, by $vector:expr)? $(, into $sums:expr)?) => {
            $kernel::launch_unchecked(
                &call.client,
                call.cubes($rows),
                $dim,
                $($vector,)?
                joint.clone().into_buffer_arg(),
                gradient.clone().into_buffer_arg(),
                relative.clone().into_buffer_arg(),
                facts.clone().into_buffer_arg(),
                result.clone().into_buffer_arg(),
                $($sums.clone().into_buffer_arg(),)?
                call.tasks as u32,
                call.width as u32,
                call.heads as u32,
                count as u32,
                call.scaling(),
                threshold,
                scale,
                low,
                high,
                call.size,
                $tile,
                dropout.is_some(),
                *biased,
                shape.window,
            )
        };
    }
    // SAFETY: as in the forward pass; facts are two numbers for every (row, head, query), three for every row and four for every (row, head), sums those of every block of queries of every (row, head).
    unsafe {
        match call.engine {
            Engine::Matrix(tile) => {
                survey_kernel::launch_unchecked(
                    &call.client,
                    cubes(&call.client, call.tasks),
                    CubeDim::new_1d(SURVEYORS as u32),
                    joint.clone().into_buffer_arg(),
                    gradient.clone().into_buffer_arg(),
                    output.into_buffer_arg(),
                    logarithms.into_buffer_arg(),
                    into_contiguous(places).into_buffer_arg(),
                    facts.clone().into_buffer_arg(),
                    call.tasks as u32,
                    call.tokens as u32,
                    call.width as u32,
                    call.heads as u32,
                    scale,
                    call.size,
                );
                let vector = vector_width(call.size);
                launch!(matrix_query_kernel, tile.rows(), tile.dim(), tile, by vector, into sums);
                launch!(matrix_key_kernel, tile.rows(), tile.dim(), tile, by vector);
            }
            Engine::Units([_, query_block, key_block]) => {
                prepare_kernel::launch_unchecked(
                    &call.client,
                    cubes(&call.client, count.max(rows).div_ceil(UNITS)),
                    CubeDim::new_1d(UNITS as u32),
                    gradient.clone().into_buffer_arg(),
                    output.into_buffer_arg(),
                    logarithms.into_buffer_arg(),
                    into_contiguous(places).into_buffer_arg(),
                    facts.clone().into_buffer_arg(),
                    count as u32,
                    rows as u32,
                    call.tokens as u32,
                    call.width as u32,
                    call.size as u32,
                );
                launch!(query_kernel, query_block, CubeDim::new_1d((SIDE * SIDE) as u32), query_block, into sums);
                launch!(key_kernel, key_block, CubeDim::new_1d((SIDE * SIDE) as u32), key_block);
            }
        }
        if *biased {
            distance_kernel::launch_unchecked(
                &call.client,
                cubes(&call.client, matrix(&to_relative).into_iter().product::<usize>().div_ceil(SUMMED)),
                CubeDim::new_1d(UNITS as u32),
                sums.into_buffer_arg(),
                facts.into_buffer_arg(),
                to_relative.clone().into_buffer_arg(),
                call.tasks as u32,
                call.width as u32,
                call.heads as u32,
                count as u32,
                matches!(call.engine, Engine::Matrix(_)),
                parts,
            );
        }
    }
    [result, to_relative]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_heads_fit_what_webgpu_promises_and_large_blocks_what_cards_have() {
        assert_eq!(blocks(64, 48 << 10), Some([32, 32, 32]));
        assert_eq!(blocks(32, 32 << 10), Some([32, 32, 32]));
        assert_eq!(blocks(64, 16 << 10), Some([16, 8, 8]));
        assert_eq!(blocks(128, 32 << 10), Some([16, 8, 8]));
        assert_eq!(blocks(512, 16 << 10), None);
        for size in [1, 31, 32, 64, 96, 128] {
            for shared in [16 << 10, 32 << 10, 48 << 10] {
                for (block, (slabs, weights)) in blocks(size, shared).into_iter().flatten().zip([(3, 1), (4, 1), (4, 2)]) {
                    assert!(shared_bytes(block, size, slabs, weights) <= shared);
                }
            }
        }
    }
}
