//! Heads in groups on GPUs: normed where they have norms, turned, and laid where attention reads them, in one kernel; [`LANES`] units share a head of the projection and [`ROWS`] heads a cube.

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#![allow(clippy::collapsible_if)]

use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, f16};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::columns::{DOWN, Division, LANES, SUMMED, gather, summed, total, totals};
use super::norm::{ROWS, gathered};
use super::{UNITS, cubes, empty, empty_in, matrix, vector_width};
use crate::layers::heads::{Grouping, Heads};

/// Where a head of the projection goes.
#[derive(CubeType, Clone, Copy)]
struct Place {
    /// The token; beyond the last in a row beyond the last.
    token: usize,
    /// 0 for queries, 1 for keys, 2 for values.
    part: usize,
    /// Where its first copy begins in the joint matrix.
    at: usize,
    copies: usize,
}

#[cube]
fn place(row: usize, heads: usize, key_heads: usize, head: usize) -> Place {
    let all = heads + 2 * key_heads;
    let token = row / all;
    let source = row % all;
    let mut part = 0usize;
    let mut own = source;
    let mut copies = 1usize;
    if source >= heads {
        part = (source - heads) / key_heads + 1;
        copies = heads / key_heads;
        own = (source - heads) % key_heads * copies;
    }
    Place { token, part, at: ((token * 3 + part) * heads + own) * head, copies }
}

/// Cosine and sine of a pair at a position; those of no turn beyond the angles.
#[cube]
fn angle(angles: &[f32], positions: &[i32], token: usize, pair: usize, half: usize, known: u32) -> (f32, f32) {
    let mut cosine = 1.0f32;
    let mut sine = 0.0f32;
    let position = positions[token];
    if position >= 0 {
        if (position as u32) < known {
            cosine = angles[position as usize * 2 * half + pair];
            sine = angles[position as usize * 2 * half + half + pair];
        }
    }
    (cosine, sine)
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn heads_kernel<E: Float>(
    projection: &[E],
    scales: &[f32],
    angles: &[f32],
    positions: &[i32],
    joint: &mut [E],
    rows: u32,
    heads: u32,
    key_heads: u32,
    half: u32,
    known: u32,
    epsilon: f32,
    #[comptime] normed: bool,
) {
    let (rows, heads, key_heads, half) = (rows as usize, heads as usize, key_heads as usize, half as usize);
    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let row = CUBE_POS * ROWS + unit / LANES;
    let start = row * 2 * half;
    let own = place(row, heads, key_heads, 2 * half);
    let mut by = 1.0f32;
    if comptime!(normed) {
        let mut squares = Shared::<[f32]>::new_slice(LANES * ROWS);
        let mut sum = 0.0f32;
        if row < rows {
            let mut number = lane;
            while number < 2 * half {
                let value = f32::cast_from(projection[start + number]);
                sum += value * value;
                number += LANES;
            }
        }
        squares[unit] = sum;
        sync_cube();
        by = 1.0f32 / (gathered(&squares, unit - lane) / f32::cast_from((2 * half) as u32) + epsilon).sqrt();
    }
    if row < rows {
        let mut pair = lane;
        while pair < half {
            let mut x = f32::cast_from(projection[start + pair]);
            let mut y = f32::cast_from(projection[start + half + pair]);
            if own.part < 2 {
                if comptime!(normed) {
                    x *= by * scales[own.part * 2 * half + pair];
                    y *= by * scales[own.part * 2 * half + half + pair];
                }
                let (cosine, sine) = angle(angles, positions, own.token, pair, half, known);
                let turned = x * cosine - y * sine;
                y = y * cosine + x * sine;
                x = turned;
            }
            for copy in 0..own.copies {
                joint[own.at + copy * 2 * half + pair] = E::cast_from(x);
                joint[own.at + copy * 2 * half + half + pair] = E::cast_from(y);
            }
            pair += LANES;
        }
    }
}

/// The gradient of a pair of a normed, turned head before it was turned, summed over its copies.
#[cube]
fn given(gradient: &[f32], own: &Place, pair: usize, half: usize, cosine: f32, sine: f32) -> (f32, f32) {
    let mut x = 0.0f32;
    let mut y = 0.0f32;
    for copy in 0..own.copies {
        x += gradient[own.at + copy * 2 * half + pair];
        y += gradient[own.at + copy * 2 * half + half + pair];
    }
    (x * cosine + y * sine, y * cosine - x * sine)
}

/// What a number of a head adds to the gradient of its scale is left in `shares`, `[tokens, (heads + key_heads) head]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn heads_backward_kernel<E: Float>(
    gradient: &[f32],
    projection: &[E],
    scales: &[f32],
    angles: &[f32],
    positions: &[i32],
    output: &mut [f32],
    shares: &mut [f32],
    rows: u32,
    heads: u32,
    key_heads: u32,
    half: u32,
    known: u32,
    epsilon: f32,
    #[comptime] normed: bool,
) {
    let (rows, heads, key_heads, half) = (rows as usize, heads as usize, key_heads as usize, half as usize);
    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let row = CUBE_POS * ROWS + unit / LANES;
    let start = row * 2 * half;
    let own = place(row, heads, key_heads, 2 * half);
    let mut by = 1.0f32;
    let mut along = 0.0f32;
    if comptime!(normed) {
        let mut squares = Shared::<[f32]>::new_slice(LANES * ROWS);
        let mut products = Shared::<[f32]>::new_slice(LANES * ROWS);
        let mut square = 0.0f32;
        let mut product = 0.0f32;
        if row < rows {
            if own.part < 2 {
                let mut pair = lane;
                while pair < half {
                    let (cosine, sine) = angle(angles, positions, own.token, pair, half, known);
                    let (to_x, to_y) = given(gradient, &own, pair, half, cosine, sine);
                    let x = f32::cast_from(projection[start + pair]);
                    let y = f32::cast_from(projection[start + half + pair]);
                    square += x * x + y * y;
                    product += to_x * scales[own.part * 2 * half + pair] * x;
                    product += to_y * scales[own.part * 2 * half + half + pair] * y;
                    pair += LANES;
                }
            }
        }
        squares[unit] = square;
        products[unit] = product;
        sync_cube();
        let count = f32::cast_from((2 * half) as u32);
        by = 1.0f32 / (gathered(&squares, unit - lane) / count + epsilon).sqrt();
        along = gathered(&products, unit - lane) * by / count;
    }
    if row < rows {
        let mut pair = lane;
        while pair < half {
            let mut cosine = 1.0f32;
            let mut sine = 0.0f32;
            if own.part < 2 {
                let (known_cosine, known_sine) = angle(angles, positions, own.token, pair, half, known);
                cosine = known_cosine;
                sine = known_sine;
            }
            let (mut to_x, mut to_y) = given(gradient, &own, pair, half, cosine, sine);
            if comptime!(normed) {
                if own.part < 2 {
                    let x = f32::cast_from(projection[start + pair]) * by;
                    let y = f32::cast_from(projection[start + half + pair]) * by;
                    // Without the heads of values, which have no scale.
                    let share = start - own.token * key_heads * 2 * half;
                    shares[share + pair] = to_x * x;
                    shares[share + half + pair] = to_y * y;
                    to_x = by * (to_x * scales[own.part * 2 * half + pair] - x * along);
                    to_y = by * (to_y * scales[own.part * 2 * half + half + pair] - y * along);
                }
            }
            output[start + pair] = to_x;
            output[start + half + pair] = to_y;
            pair += LANES;
        }
    }
}

/// Sums over a part of the tokens, `[heads + key_heads, parts, head]`. Widths are in vectors.
#[cube(launch_unchecked)]
fn shares_kernel<N: Size>(shares: &[Vector<f32, N>], parts: &mut [f32], tokens: u32, width: u32, head: u32, height: u32, count: u32) {
    let (tokens, width, head, height, count) = (tokens as usize, width as usize, head as usize, height as usize, count as usize);
    let unit = UNIT_POS as usize;
    let column = CUBE_POS_X as usize * LANES + unit % LANES;
    let part = CUBE_POS_Y as usize;
    let mut sums = Shared::<[Vector<f32, N>]>::new_slice(UNITS);
    let end = min((part + 1) * height, tokens);
    let mut sum = Vector::<f32, N>::from_int(0);
    if column < width {
        let mut token = part * height + unit / LANES;
        while token < end {
            sum += shares[token * width + column];
            token += DOWN;
        }
    }
    let at = ((column / head * count + part) * head + column % head) * N::value();
    gather(sum, &mut sums, parts, at, column < width);
}

/// The sums of the parts of all heads of queries, and of keys.
#[cube(launch_unchecked)]
fn scales_kernel(parts: &[f32], query: &mut [f32], key: &mut [f32], heads: u32, key_heads: u32, count: u32, head: u32) {
    let (heads, key_heads, count, head) = (heads as usize, key_heads as usize, count as usize, head as usize);
    let mut own = Shared::<[f32]>::new_slice(UNITS);
    let first = total(parts, &mut own, 0usize, head, heads * count, head);
    let second = total(parts, &mut own, heads * count * head, head, key_heads * count, head);
    if (UNIT_POS as usize) < SUMMED {
        if summed() < head {
            query[summed()] = first;
            key[summed()] = second;
        }
    }
}

/// The gradients of both scales out of every number's share.
fn added(shares: CubeTensor, Grouping { heads, key_heads, head, .. }: Grouping) -> [CubeTensor; 2] {
    let [tokens, width] = matrix(&shares);
    let to_scales = [(); 2].map(|()| empty(&shares, [head]));
    // Vectors that hold numbers of one head.
    let lanes = vector_width(head);
    let division = Division { across: (width / lanes).div_ceil(LANES), ..Division::of(tokens, width) };
    let parts = empty(&shares, [(heads + key_heads) * division.parts.max(1), head]);
    let client = shares.client.clone();
    let [query, key] = to_scales.each_ref().map(|scale| scale.clone().into_buffer_arg());
    // SAFETY: shares have `tokens` x `width` numbers, parts as many times `width`, scales `head`; units leave out what lies beyond. Without tokens there are no parts, and the sums are 0.
    unsafe {
        if tokens > 0 {
            shares_kernel::launch_unchecked(
                &client,
                division.cubes(),
                CubeDim::new_1d(UNITS as u32),
                lanes,
                shares.into_buffer_arg(),
                parts.clone().into_buffer_arg(),
                tokens as u32,
                (width / lanes) as u32,
                (head / lanes) as u32,
                division.height as u32,
                division.parts as u32,
            );
        }
        scales_kernel::launch_unchecked(
            &client,
            totals(head),
            CubeDim::new_1d(UNITS as u32),
            parts.into_buffer_arg(),
            query,
            key,
            heads as u32,
            key_heads as u32,
            division.parts as u32,
            head as u32,
        );
    }
    to_scales
}

/// Both scales, one behind the other; where there are none, something that no kernel reads.
fn both(scales: [CubeTensor; 2], normed: bool, like: &CubeTensor) -> CubeTensor {
    if !normed {
        return empty_in(like, [1], DType::F32);
    }
    into_contiguous(CubeBackend::float_cat(scales.into(), 0))
}

/// `[tokens, 3 heads x head]` in the projection's format.
pub(super) fn forward(
    projection: CubeTensor,
    scales: [CubeTensor; 2],
    angles: CubeTensor,
    positions: CubeTensor,
    heads: Heads,
) -> CubeTensor {
    let Heads { grouping, normed } = heads;
    let scales = both(scales, normed, &projection);
    let [projection, angles, positions] = [projection, angles, positions].map(into_contiguous);
    let ([tokens, _], [known, head]) = (matrix(&projection), matrix(&angles));
    let joint = empty(&projection, [tokens, grouping.joint_width()]);
    matrix(&joint);
    let rows = tokens * (grouping.heads + 2 * grouping.key_heads);
    if rows * head == 0 {
        return joint;
    }
    let (client, format) = (projection.client.clone(), projection.dtype);
    macro_rules! launch {
        ($format:ty) => {
            heads_kernel::launch_unchecked::<$format>(
                &client,
                cubes(&client, rows.div_ceil(ROWS)),
                CubeDim::new_1d((LANES * ROWS) as u32),
                projection.into_buffer_arg(),
                scales.into_buffer_arg(),
                angles.into_buffer_arg(),
                positions.into_buffer_arg(),
                joint.clone().into_buffer_arg(),
                rows as u32,
                grouping.heads as u32,
                grouping.key_heads as u32,
                (head / 2) as u32,
                known as u32,
                grouping.epsilon as f32,
                normed,
            )
        };
    }
    // SAFETY: the projection has `rows` heads, the joint matrix three times as many as queries have for each token, of which each is written by the one head that goes there; there is a position for each token,
    // and none beyond the angles is followed.
    unsafe {
        if format == DType::F16 {
            launch!(f16);
        } else {
            launch!(f32);
        }
    }
    joint
}

/// The gradients of the projection and of both scales, in f32; without norms neither is looked at, and the latter are something to be dropped.
pub(super) fn backward(
    gradient: CubeTensor,
    projection: CubeTensor,
    scales: [CubeTensor; 2],
    angles: CubeTensor,
    positions: CubeTensor,
    heads: Heads,
) -> [CubeTensor; 3] {
    let Heads { grouping, normed } = heads;
    let Grouping { heads, key_heads, head, .. } = grouping;
    let scales = both(scales, normed, &projection);
    let [gradient, projection, angles, positions] = [gradient, projection, angles, positions].map(into_contiguous);
    let ([tokens, _], [known, _]) = (matrix(&gradient), matrix(&angles));
    let output = empty(&gradient, [tokens, grouping.width()]);
    let shares = empty(&gradient, if normed { [tokens, (heads + key_heads) * head] } else { [1, 1] });
    let rows = tokens * (heads + 2 * key_heads);
    let (client, format) = (projection.client.clone(), projection.dtype);
    macro_rules! launch {
        ($format:ty) => {
            heads_backward_kernel::launch_unchecked::<$format>(
                &client,
                cubes(&client, rows.div_ceil(ROWS)),
                CubeDim::new_1d((LANES * ROWS) as u32),
                gradient.into_buffer_arg(),
                projection.into_buffer_arg(),
                scales.into_buffer_arg(),
                angles.into_buffer_arg(),
                positions.into_buffer_arg(),
                output.clone().into_buffer_arg(),
                shares.clone().into_buffer_arg(),
                rows as u32,
                heads as u32,
                key_heads as u32,
                (head / 2) as u32,
                known as u32,
                grouping.epsilon as f32,
                normed,
            )
        };
    }
    if rows * head > 0 {
        // SAFETY: as in the forward pass; the gradient has the shape of the joint matrix, the output that of the projection, and shares one number for each of a head with a scale.
        unsafe {
            if format == DType::F16 {
                launch!(f16);
            } else {
                launch!(f32);
            }
        }
    }
    if !normed {
        let nothing = empty(&output, [1]);
        return [output, nothing.clone(), nothing];
    }
    let [to_query, to_key] = added(shares, grouping);
    [output, to_query, to_key]
}
