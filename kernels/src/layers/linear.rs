//! The linear layer on the CPU: one product that starts from the bias instead of from zeros, so no pass over the output adds it.

#![allow(unsafe_code)]

use burn_flex::FlexTensor;

use super::{numbers, tensor};

/// Multiplications from which a product is worth more than one thread.
const PARALLEL: usize = 192 * 192 * 192;

/// `[rows, in] x [in, out] + [out]`.
pub(super) fn forward(input: &FlexTensor, weight: &FlexTensor, bias: &FlexTensor) -> FlexTensor {
    let [rows, inner] = [input.layout().shape()[0], input.layout().shape()[1]];
    let columns = weight.layout().shape()[1];
    let bias = bias.to_contiguous();
    let mut output = Vec::with_capacity(rows * columns);
    for _ in 0..rows {
        output.extend_from_slice(numbers(&bias));
    }
    let matrix = |of: &FlexTensor| {
        let strides = of.layout().strides();
        (of.storage::<f32>()[of.layout().start_offset()..].as_ptr(), strides[1], strides[0])
    };
    if rows * columns * inner > 0 {
        let ((left, left_column, left_row), (right, right_column, right_row)) = (matrix(input), matrix(weight));
        let threads = if rows * columns * inner >= PARALLEL { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
        // SAFETY: pointers, sizes and strides are those of the two tensors, which live on, and of the output, which is initialised and nobody else's.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                inner,
                output.as_mut_ptr(),
                1,
                columns as isize,
                true,
                left,
                left_column,
                left_row,
                right,
                right_column,
                right_row,
                1.0f32,
                1.0f32,
                false,
                false,
                false,
                threads,
            );
        }
    }
    tensor(output, [rows, columns])
}
