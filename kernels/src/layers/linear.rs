//! The linear layer on the CPU: one product that starts from the bias, if there is one, instead of from zeros, so no pass over the output adds it; and the gradient of its input.

#![allow(unsafe_code)]

use burn::backend::Flex;
use burn::backend::ops::ModuleOps;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::panels::{self, Matrix};
use super::{numbers, tensor};

/// Multiplications from which a product is worth more than one thread.
const PARALLEL: usize = 192 * 192 * 192;

/// Numbers of the output that a task fills with the bias.
const FILLED: usize = 1 << 16;

/// `[rows, in] x [in, out] + [out]`, or without a bias where that has no numbers.
pub(super) fn forward(input: &FlexTensor, weight: &FlexTensor, bias: &FlexTensor) -> FlexTensor {
    let [rows, inner] = [input.layout().shape()[0], input.layout().shape()[1]];
    let columns = weight.layout().shape()[1];
    let bias = bias.to_contiguous();
    let bias = (bias.layout().num_elements() > 0).then(|| numbers(&bias));
    if panels::is_faster([rows, columns, inner]) && ascends(weight) {
        let input = side_by_side(input);
        return tensor(panels::multiply([rows, columns, inner], lying(&input, [0, 1]), lying(weight, [0, 1]), bias), [rows, columns]);
    }
    let empty = rows * columns * inner == 0;
    let mut output = match bias {
        Some(bias) => in_each_row(bias, rows),
        None if empty => vec![0.0; rows * columns],
        None => Vec::with_capacity(rows * columns),
    };
    let matrix = |of: &FlexTensor| {
        let strides = of.layout().strides();
        (of.storage::<f32>()[of.layout().start_offset()..].as_ptr(), strides[1], strides[0])
    };
    if !empty {
        let ((left, left_column, left_row), (right, right_column, right_row)) = (matrix(input), matrix(weight));
        let threads = if rows * columns * inner >= PARALLEL { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
        // SAFETY: pointers, sizes and strides are those of the two tensors, which live on, and of the output, which is nobody else's and has room for all its numbers: it is read where the bias was written, and
        // else only written, every number of it.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                inner,
                output.as_mut_ptr(),
                1,
                columns as isize,
                bias.is_some(),
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
            output.set_len(rows * columns);
        }
    }
    tensor(output, [rows, columns])
}

/// The bias as every row of a matrix, written by all cores: one alone takes a tenth of the product's time.
fn in_each_row(bias: &[f32], rows: usize) -> Vec<f32> {
    let count = rows * bias.len();
    let mut output = Vec::with_capacity(count);
    let task = (FILLED / bias.len().max(1)).max(1) * bias.len();
    output.spare_capacity_mut()[..count].par_chunks_mut(task.max(1)).for_each(|task| {
        for row in task.chunks_exact_mut(bias.len()) {
            for (number, &bias) in row.iter_mut().zip(bias) {
                number.write(bias);
            }
        }
    });
    // SAFETY: tasks are whole rows, and have written them all.
    unsafe { output.set_len(count) };
    output
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
