//! The scale of a gradient in 16 bits on GPUs, found by a look at all of it, which also adds up its columns, the gradient of a bias.
//!
//! One kernel goes through the gradient, where it goes on through other weights another through these, and a third settles sums and scale: [`surveyed()`]. What comes of the gradient is divided by
//! the scale again: [`unscaled()`].

#![allow(unsafe_code)]
// A kernel computes both sides of `&&` when they have no effects: nested ifs are what skips work there.
#![allow(clippy::collapsible_if)]

use burn::backend::cubecl::dtype_to_elem_type;
use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::columns::{self, DOWN, Division, LANES, SUMMED, gather, summed, total, totals};
use super::mixed::rounded;
use super::{UNITS, cubes, empty, matrix, vector_width};
use crate::layers::feed_forward::STEEPEST;

/// The exponent of a largest number as `mixed::scale` takes it; 0 where it scales nothing.
#[cube]
fn exponent(largest: f32) -> u32 {
    let mut exponent = u32::reinterpret(largest) >> 23u32;
    if exponent < 14u32 {
        exponent = 14u32;
    }
    if exponent >= 255u32 {
        exponent = 0u32;
    }
    if largest == 0.0f32 {
        exponent = 0u32;
    }
    exponent
}

/// The power of two that brings a largest number to [2^13, 2^14): `mixed::scale`.
#[cube]
pub(super) fn scale_of(largest: f32) -> f32 {
    let exponent = exponent(largest);
    let mut by = 1.0f32;
    if exponent > 0u32 {
        by = f32::reinterpret((267u32 - exponent) << 23u32);
    }
    by
}

/// The inverse of [`scale_of()`].
#[cube]
pub(super) fn scale_back(largest: f32) -> f32 {
    let exponent = exponent(largest);
    let mut back = 1.0f32;
    if exponent > 0u32 {
        back = f32::reinterpret((exponent - 13u32) << 23u32);
    }
    back
}

/// Each number times `scales[1]`.
#[cube(launch_unchecked)]
fn unscale_kernel<N: Size>(output: &mut [Vector<f32, N>], scales: &[f32], count: u32) {
    if ABSOLUTE_POS < count as usize {
        output[ABSOLUTE_POS] *= Vector::new(scales[1]);
    }
}

/// The largest sum of sizes in a row of a matrix, of the rows of each cube, behind `from` other numbers. The width is in vectors.
#[cube(launch_unchecked)]
fn reach_kernel<H: Float, N: Size>(
    weight: &[Vector<H, N>],
    parts: &mut [f32],
    rows: u32,
    width: u32,
    from: u32,
    #[define(H)] _half: ElemType,
) {
    let (rows, width) = (rows as usize, width as usize);
    let unit = UNIT_POS as usize;
    let row = CUBE_POS * DOWN + unit / LANES;
    let mut sums = Shared::<[f32]>::new_slice(UNITS);
    let mut sum = 0.0f32;
    if row < rows {
        let mut column = unit % LANES;
        while column < width {
            let values = Vector::<f32, N>::cast_from(weight[row * width + column]);
            #[unroll]
            for lane in 0..N::value() {
                sum += values.extract(lane).abs();
            }
            column += LANES;
        }
    }
    sums[unit] = sum;
    sync_cube();
    let mut own = 0.0f32;
    if unit < DOWN {
        for lane in 0..LANES {
            own += sums[unit * LANES + lane];
        }
    }
    let largest = columns::largest(own, &mut sums);
    if unit == 0 {
        // A cube beyond the last row has nothing to say.
        if row < rows {
            parts[from as usize + CUBE_POS] = largest;
        }
    }
}

/// Sums over a part of the rows, `[parts, width]`, and behind them the largest absolute number of each cube. Widths are in vectors here.
#[cube(launch_unchecked)]
fn survey_kernel<N: Size>(gradient: &[Vector<f32, N>], parts: &mut [f32], rows: u32, width: u32, height: u32, count: u32) {
    let (rows, width, height) = (rows as usize, width as usize, height as usize);
    let unit = UNIT_POS as usize;
    let column = CUBE_POS_X as usize * LANES + unit % LANES;
    let part = CUBE_POS_Y as usize;
    let mut sums = Shared::<[Vector<f32, N>]>::new_slice(UNITS);
    let mut largests = Shared::<[f32]>::new_slice(UNITS);
    let mut end = (part + 1) * height;
    if end > rows {
        end = rows;
    }
    let mut sum = Vector::<f32, N>::from_int(0);
    let mut largest = 0.0f32;
    if column < width {
        let mut row = part * height + unit / LANES;
        while row < end {
            let values = gradient[row * width + column];
            sum += values;
            #[unroll]
            for lane in 0..N::value() {
                let size = values.extract(lane).abs();
                if size > largest {
                    largest = size;
                }
            }
            row += DOWN;
        }
    }
    let largest = columns::largest(largest, &mut largests);
    gather(sum, &mut sums, parts, (part * width + column) * N::value(), column < width);
    if unit == 0 {
        parts[count as usize * width * N::value() + CUBE_POS] = largest;
    }
}

/// The largest of `count` numbers from `first` on, for every unit of the cube. Called by all of them, outside of branches.
#[cube]
fn largest_of(numbers: &[f32], own: &mut Shared<[f32]>, first: usize, count: usize) -> f32 {
    let unit = UNIT_POS as usize;
    let mut largest = 0.0f32;
    let mut at = unit;
    while at < count {
        if numbers[first + at] > largest {
            largest = numbers[first + at];
        }
        at += UNITS;
    }
    columns::largest(largest, own)
}

/// The sums of the parts, and `[2]`: the scale of the largest number times how far what follows reaches, as `feed_forward::reaching`, and its inverse. Behind the parts lie the
/// largest numbers, behind them those of `reach_kernel`.
#[cube(launch_unchecked)]
fn settle_kernel(parts: &[f32], sums: &mut [f32], scales: &mut [f32], count: u32, width: u32, largests: u32, reaches: u32) {
    let (count, width, largests) = (count as usize, width as usize, largests as usize);
    let unit = UNIT_POS as usize;
    let mut own = Shared::<[f32]>::new_slice(UNITS);
    let sum = total(parts, &mut own, 0usize, width, count, width);
    if unit < SUMMED {
        if summed() < width {
            sums[summed()] = sum;
        }
    }
    let mut largest = largest_of(parts, &mut own, count * width, largests);
    let reach = largest_of(parts, &mut own, count * width + largests, reaches as usize) * STEEPEST;
    if reach > 1.0f32 {
        largest *= reach;
        if largest > 3.402_823_5e38f32 {
            largest = f32::new(3.402_823_5e38);
        }
    }
    if CUBE_POS == 0 {
        if unit == 0 {
            scales[0] = scale_of(largest);
            scales[1] = scale_back(largest);
        }
    }
}

/// A gradient in the format, times the first of the scales that come along with the sums of its columns: such that neither it nor, where it goes on through `outer` weights in the format
/// and GELU, what comes of it can exceed 2^14.
pub(super) fn surveyed(gradient: CubeTensor, outer: Option<&CubeTensor>, half: DType) -> [CubeTensor; 3] {
    let gradient = into_contiguous(gradient);
    let ([rows, width], client) = (matrix(&gradient), gradient.client.clone());
    let (division, lanes) = (Division::of(rows, width), vector_width(width));
    let largests = division.parts * division.across;
    let reaches = outer.map_or(0, |outer| matrix(outer)[0].div_ceil(DOWN));
    let parts = empty(&gradient, [(division.parts * width + largests + reaches).max(1)]);
    let (sums, scales) = (empty(&gradient, [width]), empty(&gradient, [2]));
    // SAFETY: the gradient has rows x width numbers, the parts as many times `width`, one for every cube of the survey, and one for every `DOWN` rows of the weights; what lies beyond is left out.
    unsafe {
        survey_kernel::launch_unchecked(
            &client,
            division.cubes(),
            CubeDim::new_1d(UNITS as u32),
            lanes,
            gradient.clone().into_buffer_arg(),
            parts.clone().into_buffer_arg(),
            rows as u32,
            (width / lanes) as u32,
            division.height as u32,
            division.parts as u32,
        );
        if let Some(outer) = outer {
            let [rows, columns] = matrix(outer);
            let lanes = vector_width(columns);
            reach_kernel::launch_unchecked(
                &client,
                cubes(&client, reaches),
                CubeDim::new_1d(UNITS as u32),
                lanes,
                outer.clone().into_buffer_arg(),
                parts.clone().into_buffer_arg(),
                rows as u32,
                (columns / lanes) as u32,
                (division.parts * width + largests) as u32,
                dtype_to_elem_type(half),
            );
        }
        settle_kernel::launch_unchecked(
            &client,
            totals(width),
            CubeDim::new_1d(UNITS as u32),
            parts.into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            scales.clone().into_buffer_arg(),
            division.parts as u32,
            width as u32,
            largests as u32,
            reaches as u32,
        );
    }
    [rounded(gradient, Some(&scales), half), scales, sums]
}

/// Each number times the second of the scales, in place.
pub(super) fn unscaled(product: CubeTensor, scales: &CubeTensor) -> CubeTensor {
    let [rows, width] = matrix(&product);
    let (client, lanes) = (product.client.clone(), vector_width(width));
    let count = rows * width / lanes;
    // SAFETY: the product has `count` vectors and is nobody else's yet.
    unsafe {
        unscale_kernel::launch_unchecked(
            &client,
            cubes(&client, count.div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            lanes,
            product.clone().into_buffer_arg(),
            scales.clone().into_buffer_arg(),
            count as u32,
        );
    }
    product
}

#[cfg(test)]
mod tests {
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::TensorData;
    use burn_cubecl::CubeBackend;

    use super::*;
    use crate::layers::feed_forward::reaching;
    use crate::layers::mixed::scale;

    /// The largest numbers stand where the last unit of the last cube finds them, and every loop goes round more than once.
    #[test]
    fn the_scale_and_the_sums_of_a_survey_on_a_software_gpu() {
        let Some(device) = crate::test_gpu() else { return };
        let device = crate::adapters::cube_device(&device).expect("a GPU");
        let put = |numbers: &[f32], shape: [usize; 2]| CubeBackend::float_from_data(TensorData::new(numbers.to_vec(), shape), &device);
        let read = |tensor: CubeTensor| {
            let data = burn::backend::try_read_sync(CubeBackend::float_into_data(tensor)).expect("at once").expect("computed");
            data.iter::<f32>().collect::<Vec<_>>()
        };
        for (rows, columns, hidden, steep) in [(1, 1, 1, 1e-3), (2100, 36, 2100, 70.0), (300, 259, 7, 1.0), (9, 260, 2100, 70.0)] {
            let mut gradient: Vec<f32> = (0..rows * columns).map(|at| (at % 13) as f32 * 1e-9 - 6e-9).collect();
            let mut outer: Vec<f32> = (0..hidden * columns).map(|at| (at % 7) as f32 * 0.01 - 0.03).collect();
            *gradient.last_mut().expect("a number") = -3e-6;
            outer[(hidden - 1) * columns..].fill(steep);
            for outer in [None, Some(&outer)] {
                let weight = outer.map(|outer| put(outer, [hidden, columns]));
                let [scaled, scales, sums] = surveyed(put(&gradient, [rows, columns]), weight.as_ref(), DType::F32);
                let by = outer.map_or(scale(3e-6), |outer| reaching(3e-6, outer, columns));
                let what = format!("{rows} x {columns}, {hidden} outer rows: {}", outer.is_some());
                assert_eq!(read(scales), [by, 1.0 / by], "{what}");
                assert!(read(scaled).iter().zip(&gradient).all(|(scaled, x)| *scaled == x * by), "{what}");
                for (column, sum) in read(sums).into_iter().enumerate() {
                    let terms = gradient[column..].iter().step_by(columns).map(|&x| f64::from(x));
                    let (expected, size) = terms.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
                    assert!((f64::from(sum) - expected).abs() <= 1e-5 * size, "{what}: column {column} is {sum}, expected {expected}");
                }
            }
        }
    }
}
