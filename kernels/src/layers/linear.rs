//! The linear layer on the CPU: one product that starts from the bias instead of from zeros, so no pass over the output adds it; and the gradient of its input.

#![allow(unsafe_code)]

use burn::backend::Flex;
use burn::backend::ops::ModuleOps;
use burn_flex::FlexTensor;

use super::panels::{self, Matrix};
use super::{numbers, tensor};

/// Multiplications from which a product is worth more than one thread.
const PARALLEL: usize = 192 * 192 * 192;

/// `[rows, in] x [in, out] + [out]`.
pub(super) fn forward(input: &FlexTensor, weight: &FlexTensor, bias: &FlexTensor) -> FlexTensor {
    let [rows, inner] = [input.layout().shape()[0], input.layout().shape()[1]];
    let columns = weight.layout().shape()[1];
    let bias = bias.to_contiguous();
    if panels::is_faster([rows, columns, inner]) && ascends(weight) {
        let input = side_by_side(input);
        return tensor(
            panels::multiply([rows, columns, inner], lying(&input, [0, 1]), lying(weight, [0, 1]), Some(numbers(&bias))),
            [rows, columns],
        );
    }
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

/// The gradient of the input, `[rows, in]`, from that of the output, `[rows, out]`, and the weight, `[in, out]`.
pub(super) fn input_backward(weight: FlexTensor, gradient: FlexTensor) -> FlexTensor {
    let ([rows, inner], columns) = ([gradient.layout().shape()[0], gradient.layout().shape()[1]], weight.layout().shape()[0]);
    if !(panels::is_faster([rows, columns, inner]) && ascends(&weight)) {
        return Flex::linear_x_backward(weight, gradient);
    }
    let gradient = side_by_side(&gradient);
    tensor(panels::multiply([rows, columns, inner], lying(&gradient, [0, 1]), lying(&weight, [1, 0]), None), [rows, columns])
}

/// The same matrix with the numbers of a row side by side.
fn side_by_side(matrix: &FlexTensor) -> FlexTensor {
    if matrix.layout().strides()[1] == 1 && ascends(matrix) { matrix.clone() } else { matrix.to_contiguous() }
}

/// Whether neither rows nor columns lie backwards.
fn ascends(matrix: &FlexTensor) -> bool {
    matrix.layout().strides().iter().all(|&stride| stride >= 0)
}

/// The matrix where it lies, its dimensions in this order.
fn lying(matrix: &FlexTensor, [row, column]: [usize; 2]) -> Matrix<'_> {
    let strides = matrix.layout().strides();
    Matrix {
        numbers: &matrix.storage::<f32>()[matrix.layout().start_offset()..],
        row: strides[row] as usize,
        column: strides[column] as usize,
    }
}
