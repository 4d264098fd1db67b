//! The sum of the squares of a tensor in one pass, on the CPU and on GPUs.
//!
//! On the CPU the square of an f32 is exact in f64, and squares are added there in one order: sixteen running sums over a task of fixed length, then the sixteen in order,
//! then the tasks in order. So the result depends neither on the number of threads nor on the width of the processor's registers. A GPU has no f64:
//! there [`squares_on_device`] takes many tensors at once, adds up parts of each in f32, in one order too, and leaves the sum on the device.

mod cube;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Bytes, DType, Shape, Tensor};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

use crate::layers::wide::{Lanes, widest};
use crate::layers::{fused_for, numbers, on_cpu, owned_flat};

/// Numbers of a task.
const CHUNK: usize = 1 << 15;

/// Running sums of a task.
const SUMS: usize = 16;

/// The sum on one backend: `[1]` in f64.
#[backend_extension(Flex)]
pub(crate) trait Squares: Backend {
    fn sum_of_squares(input: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Squares for Flex {
    fn sum_of_squares(input: FlexTensor) -> FlexTensor {
        let input = input.to_contiguous();
        let mut sums = Vec::new();
        numbers(&input).par_chunks(CHUNK).map(squares).collect_into_vec(&mut sums);
        let total = sums.iter().sum::<f64>();
        FlexTensor::new(Bytes::from_elems(vec![total]), Layout::contiguous(Shape::from([1])), DType::F64)
    }
}

/// Parts that a GPU adds a tensor up in.
const PARTS: usize = 256;

/// Tensors of a launch: with the sums, all the buffers that WebGPU promises a kernel, but for that of its numbers.
const TOGETHER: usize = 6;

/// The parts of a few of many tensors.
#[backend_extension(Cube, Flex, Fusion)]
#[allow(clippy::too_many_arguments)]
pub(crate) trait Parts: Backend {
    /// `sums`, all of it, with the parts of the first `count` of these tensors from `place` x [`PARTS`] on.
    #[fusion(meta = |_a, _b, _c, _d, _e, _f, sums, _place, _count| sums.clone())]
    fn squares(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        f: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        place: usize,
        count: usize,
    ) -> FloatTensor<Self>;
}

impl Parts for Flex {
    fn squares(
        a: FlexTensor,
        b: FlexTensor,
        c: FlexTensor,
        d: FlexTensor,
        e: FlexTensor,
        f: FlexTensor,
        sums: FlexTensor,
        place: usize,
        count: usize,
    ) -> FlexTensor {
        let mut sums = owned_flat(sums);
        let parts = sums.storage_mut::<f32>()[place * PARTS..].chunks_exact_mut(PARTS);
        for (input, parts) in [a, b, c, d, e, f].into_iter().take(count).zip(parts) {
            parts.fill(0.0);
            parts[0] = numbers(&input.to_contiguous()).chunks(CHUNK).map(squares).sum::<f64>() as f32;
        }
        sums
    }
}

widest!(fn squares(numbers: &[f32]) -> f64 = squares_body);

#[inline(always)]
fn squares_body<L: Lanes>(numbers: &[f32]) -> f64 {
    let mut running = [0.0; SUMS];
    let (whole, rest) = numbers.as_chunks::<SUMS>();
    for part in whole {
        for lane in 0..SUMS {
            running[lane] += f64::from(part[lane]) * f64::from(part[lane]);
        }
    }
    for lane in 0..rest.len() {
        running[lane] += f64::from(rest[lane]) * f64::from(rest[lane]);
    }
    running.iter().sum()
}

/// Whether [`sum_of_squares`] takes this tensor: f32 on the CPU.
#[must_use]
pub fn sums_in_one_pass<const D: usize>(tensor: &Tensor<D>) -> bool {
    fused_for(tensor) && on_cpu(&tensor.device())
}

/// The sum of the squares of all numbers of these flat f32 tensors, `[1]` in f32, still on their device: a launch for every six, and one for all.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn squares_on_device(tensors: &[Tensor<1>]) -> Tensor<1> {
    let device = tensors.first().expect("one tensor at least").device();
    let count = tensors.len() * PARTS;
    let mut sums = Tensor::<1>::empty([count], (&device, DType::F32)).into_dispatch();
    for (group, tensors) in tensors.chunks(TOGETHER).enumerate() {
        // Where there are fewer, the first stands in for the others.
        let tensors: Vec<_> = tensors.iter().map(|tensor| tensor.clone().cast(DType::F32)).collect();
        let [a, b, c, d, e, f] = std::array::from_fn(|at| tensors.get(at).unwrap_or(&tensors[0]).clone().into_dispatch());
        sums = <Dispatch as Parts>::squares(a, b, c, d, e, f, sums, group * TOGETHER, tensors.len());
    }
    Tensor::<1>::from_dispatch(sums).sum()
}

/// The sum of the squares of all numbers, in f64. Does not make the CPU wait: the numbers are there already.
///
/// # Panics
/// When [`sums_in_one_pass`] says no.
#[must_use]
pub fn sum_of_squares<const D: usize>(tensor: Tensor<D>) -> f64 {
    assert!(sums_in_one_pass(&tensor), "squares are summed in one pass for f32 on the CPU only; ask `sums_in_one_pass` first");
    let sum = Tensor::<1>::from_dispatch(<Dispatch as Squares>::sum_of_squares(tensor.into_dispatch()));
    sum.into_data().iter::<f64>().sum()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use proptest::prelude::*;

    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let hash = |place: u32| place.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503)) >> 8;
        (0..count as u32).map(|place| hash(place) as f32 / 8_388_608.0 - 1.0).collect()
    }

    fn tensor(values: Vec<f32>) -> Tensor<1> {
        let count = values.len();
        Tensor::from_data(TensorData::new(values, [count]), &Device::flex())
    }

    fn reference(values: &[f32]) -> f64 {
        values.iter().map(|&value| f64::from(value).powi(2)).sum()
    }

    #[test]
    fn it_is_the_sum_in_float64() {
        for count in [1, 2, 15, 16, 17, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5] {
            let values = numbers(count, 3);
            let (got, expected) = (sum_of_squares(tensor(values.clone())), reference(&values));
            // What roundings of a sum in sequence can amount to, the reference's.
            let bound = count as f64 * f64::EPSILON * expected;
            assert!((got - expected).abs() <= bound, "{count} numbers: got {got}, expected {expected}");
        }
    }

    #[test]
    fn a_transposed_tensor_has_the_same_numbers() {
        let values = numbers(600, 5);
        let whole = tensor(values.clone()).reshape([20, 30]);
        let (got, expected) = (sum_of_squares(whole.transpose()), reference(&values));
        assert!((got - expected).abs() <= 1e-13 * expected, "got {got}, expected {expected}");
        let part = tensor(values.clone()).reshape([20, 30]).slice([3..7, 0..30]);
        let (got, expected) = (sum_of_squares(part), reference(&values[90..210]));
        assert!((got - expected).abs() <= 1e-13 * expected, "a part: got {got}, expected {expected}");
    }

    #[test]
    fn numbers_whose_squares_leave_f32_are_summed_and_others_stay_what_they_are() {
        let (large, small) = (sum_of_squares(tensor(vec![1e30; 4])), sum_of_squares(tensor(vec![1e-30; 4])));
        assert!((large / 4e60 - 1.0).abs() < 1e-6 && (small / 4e-60 - 1.0).abs() < 1e-6, "{large} {small}");
        assert!(sum_of_squares(tensor(vec![1.0, f32::NAN])).is_nan());
        assert_eq!(sum_of_squares(tensor(vec![1.0, f32::NEG_INFINITY])), f64::INFINITY);
    }

    fn check_on(device: &Device) {
        let tensors: Vec<Vec<f32>> =
            [4, 12, 256, 1024, 260, 16_384, 1, 3, 255, 256, 257, 16_384, 70_001, 8].map(|count| numbers(count, count as u32)).to_vec();
        let expected: f64 = tensors.iter().map(|values| reference(values)).sum();
        let tensors = tensors.into_iter().map(|values| {
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), device)
        });
        let got: f32 = squares_on_device(&tensors.collect::<Vec<_>>()).into_data().iter::<f32>().sum();
        assert!((f64::from(got) / expected - 1.0).abs() < 2e-6, "got {got}, expected {expected}");
    }

    #[test]
    fn many_tensors_have_one_sum() {
        check_on(&Device::flex());
    }

    #[test]
    fn many_tensors_have_one_sum_on_the_software_device() {
        if let Some(device) = crate::test_gpu() {
            check_on(&device);
        }
    }

    proptest! {
        #[test]
        fn neither_threads_nor_registers_change_a_bit(count in 1usize..100_000, seed in 0u32..100, threads in 1usize..5) {
            let values = numbers(count, seed);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let sum = sum_of_squares(tensor(values.clone()));
            prop_assert_eq!(pool.install(|| sum_of_squares(tensor(values.clone()))).to_bits(), sum.to_bits());
            let narrow: f64 = values.chunks(CHUNK).map(squares_body::<[f32; 4]>).sum();
            prop_assert_eq!(narrow.to_bits(), sum.to_bits());
        }
    }
}
