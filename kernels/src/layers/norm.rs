//! Dropout, residual connection and norm on the CPU, one row at a time while it is in the cache: layer norm (Ba et al. 2016, arXiv 1607.06450), or by the root mean square alone (Zhang and Sennrich 2019,
//! arXiv 1910.07467).

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::mask::Dropout;
use super::mixed::biased;
use super::wide::{Lanes, dot, times_plus, total, widest};
use super::{numbers, tensor};

/// Rows of a task. Fixed, so that sums over rows do not depend on the number of threads.
const ROWS: usize = 32;

/// How a norm is computed, beside its tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm {
    /// Added to the variance.
    pub(crate) epsilon: f64,
    /// Of the input, behind its bias.
    pub(crate) dropout: Option<Dropout>,
    /// Whether the input still lacks its bias.
    pub(crate) biased: bool,
    /// Whether there is neither dropout nor a residual; what comes in its place is not looked at.
    pub(crate) alone: bool,
    /// Whether the mean of a row is taken from it first, as layer norm does.
    pub(crate) centered: bool,
}

/// What a row is computed with.
#[derive(Clone, Copy)]
struct Of<'a> {
    gamma: &'a [f32],
    beta: &'a [f32],
    epsilon: f64,
    dropout: Option<Dropout>,
    alone: bool,
    centered: bool,
}

/// `norm(dropout(input + bias) + residual)`, or without dropout and residual, in the memory of `input` when nothing else uses it. When asked to, keeps what the backward pass needs: the rows before scale and
/// shift, and behind them what each was multiplied by, `[rows (width + 1)]`.
pub(super) fn forward(
    input: FlexTensor,
    bias: &FlexTensor,
    residual: &FlexTensor,
    [gamma, beta]: [&FlexTensor; 2],
    norm: Norm,
    save: bool,
) -> (FlexTensor, FlexTensor) {
    let [residual, gamma, beta] = [residual, gamma, beta].map(FlexTensor::to_contiguous);
    let shape = [input.layout().shape()[0], input.layout().shape()[1]];
    let input = if norm.biased { biased(input, bias) } else { input };
    let Norm { epsilon, dropout, alone, centered, .. } = norm;
    let norm = Of { gamma: numbers(&gamma), beta: numbers(&beta), epsilon, dropout, alone, centered };
    let mut output = super::owned(input, shape);
    let mut kept = vec![0.0; shape[0] * if save { shape[1] + 1 } else { 1 }];
    let (normal, inverse) = kept.split_at_mut(if save { shape[0] * shape[1] } else { 0 });
    let size = (ROWS * shape[1]).max(1);
    {
        let residual = numbers(&residual);
        let beside = |task: usize, count: usize| if norm.alone { &[][..] } else { &residual[task * size..][..count] };
        let output = output.storage_mut::<f32>().par_chunks_mut(size).zip(inverse.par_chunks_mut(ROWS)).enumerate();
        if save {
            output.zip(normal.par_chunks_mut(size)).for_each(|((task, (output, inverse)), normal)| {
                let residual = beside(task, output.len());
                rows_forward(output, residual, inverse, normal, norm, task * ROWS);
            });
        } else {
            output.for_each(|(task, (output, inverse))| {
                let residual = beside(task, output.len());
                rows_forward(output, residual, inverse, &mut [], norm, task * ROWS);
            });
        }
    }
    let count = kept.len();
    (output, tensor(kept, [count]))
}

widest!(
    fn rows_forward(output: &mut [f32], residual: &[f32], inverse: &mut [f32], normal: &mut [f32], norm: Of<'_>, first: usize) = rows_forward_body
);

#[inline(always)]
fn rows_forward_body<L: Lanes>(output: &mut [f32], residual: &[f32], inverse: &mut [f32], normal: &mut [f32], norm: Of<'_>, first: usize) {
    let width = norm.gamma.len();
    let (gamma, beta) = (norm.gamma, &norm.beta[..width]);
    for (place, inverse) in inverse.iter_mut().enumerate() {
        let part = place * width..(place + 1) * width;
        let row = &mut output[part.clone()];
        if !norm.alone {
            let residual = &residual[part.clone()];
            match norm.dropout.map(|dropout| dropout.row(first + place)) {
                None => {
                    for column in 0..width {
                        row[column] += residual[column];
                    }
                }
                Some(mask) => {
                    for column in 0..width {
                        row[column] = times_plus::<L>(row[column], mask.factor(column as u32), residual[column]);
                    }
                }
            }
        }
        if norm.centered {
            let mean = total::<L>(row) / width as f32;
            for x in row.iter_mut() {
                *x -= mean;
            }
        }
        let variance = f64::from(dot::<L>(row, row)) / width as f64;
        let factor = (1.0 / (variance + norm.epsilon).sqrt()) as f32;
        *inverse = factor;
        for x in row.iter_mut() {
            *x *= factor;
        }
        if !normal.is_empty() {
            normal[part].copy_from_slice(row);
        }
        for column in 0..width {
            row[column] = times_plus::<L>(row[column], gamma[column], beta[column]);
        }
    }
}

/// Gradients of input, residual, scale and shift.
pub(super) fn backward(gradient: FlexTensor, gamma: &FlexTensor, kept: &FlexTensor, norm: Norm) -> [FlexTensor; 4] {
    let Norm { dropout, centered, .. } = norm;
    let gamma = gamma.to_contiguous();
    let shape = [gradient.layout().shape()[0], gradient.layout().shape()[1]];
    let (normal, inverse) = numbers(kept).split_at(shape[0] * shape[1]);
    let mut residual = super::owned(gradient, shape);
    let mut input = vec![0.0; if dropout.is_some() { shape[0] * shape[1] } else { 0 }];
    let norm = Of { gamma: numbers(&gamma), beta: &[], epsilon: 0.0, dropout, alone: true, centered };
    let size = (ROWS * shape[1]).max(1);
    let sums: Vec<Vec<f32>> = {
        let rows = residual.storage_mut::<f32>().par_chunks_mut(size).zip(normal.par_chunks(size));
        let rows = rows.zip(inverse.par_chunks(ROWS)).enumerate();
        if dropout.is_some() {
            let rows = rows.zip(input.par_chunks_mut(size));
            rows.map(|((task, ((gradient, normal), inverse)), input)| rows_backward(gradient, normal, inverse, input, norm, task * ROWS))
                .collect()
        } else {
            rows.map(|(task, ((gradient, normal), inverse))| rows_backward(gradient, normal, inverse, &mut [], norm, task * ROWS)).collect()
        }
    };
    let mut all = vec![0.0; 2 * shape[1]];
    for sums in sums {
        all.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
    }
    let beta = all.split_off(shape[1]);
    let input = if dropout.is_some() { tensor(input, shape) } else { residual.clone() };
    [input, residual, tensor(all, [shape[1]]), tensor(beta, [shape[1]])]
}

widest!(
    /// Gives the sums over these rows: gradient of the scale, then of the shift.
    fn rows_backward(gradient: &mut [f32], normal: &[f32], inverse: &[f32], input: &mut [f32], norm: Of<'_>, first: usize) -> Vec<f32> = rows_backward_body
);

#[inline(always)]
fn rows_backward_body<L: Lanes>(
    gradient: &mut [f32],
    normal: &[f32],
    inverse: &[f32],
    input: &mut [f32],
    norm: Of<'_>,
    first: usize,
) -> Vec<f32> {
    let width = norm.gamma.len();
    let mut sums = vec![0.0; 2 * width];
    let (scale, shift) = sums.split_at_mut(width);
    let (gamma, shift) = (norm.gamma, &mut shift[..width]);
    for (place, &inverse) in inverse.iter().enumerate() {
        let part = place * width..(place + 1) * width;
        let (row, normal) = (&mut gradient[part.clone()], &normal[part.clone()]);
        for column in 0..width {
            scale[column] = times_plus::<L>(row[column], normal[column], scale[column]);
            shift[column] += row[column];
            row[column] *= gamma[column];
        }
        let mean = if norm.centered { total::<L>(row) / width as f32 } else { 0.0 };
        let slope = dot::<L>(row, normal) / width as f32;
        for column in 0..width {
            row[column] = inverse * (row[column] - times_plus::<L>(normal[column], slope, mean));
        }
        if let Some(mask) = norm.dropout.map(|dropout| dropout.row(first + place)) {
            let input = &mut input[part];
            for column in 0..width {
                input[column] = row[column] * mask.factor(column as u32);
            }
        }
    }
    sums
}
