//! The layers in plain Rust and float64, values and gradients, for clarity, not for speed. A mask is a function of (row, column), as in [`super::mask`].

use super::AttentionShape;

/// What a number is multiplied by when dropout is done with it.
pub(super) type Mask<'a> = &'a dyn Fn(usize, usize) -> f64;

/// The mask that keeps everything.
pub(super) fn keep(_row: usize, _column: usize) -> f64 {
    1.0
}

/// Attention beside its vectors.
pub(super) struct Attention<'a> {
    pub(super) shape: &'a AttentionShape,
    pub(super) hidden: usize,
    pub(super) mask: Mask<'a>,
    /// A bias by distance, `[heads, 2 width - 1]`.
    pub(super) relative: Option<&'a [f64]>,
}

impl Attention<'_> {
    /// Where the bias of a head, a query and a key is.
    fn bias(&self, head: usize, query: usize, key: usize) -> usize {
        let width = self.shape.sequences.width();
        head * (2 * width - 1) + width - 1 + key - query
    }
}

/// Probabilities of one (row, head, query) over the keys of its row.
fn probabilities(query: &[f64], key: &[f64], attention: &Attention<'_>, at: [usize; 3]) -> Vec<f64> {
    let [row, head, place] = at;
    let Attention { shape, hidden, .. } = *attention;
    let size = hidden / shape.heads;
    let vector = |of: &[f64], token: usize| of[(shape.sequences.starts()[row] + token) * hidden + head * size..][..size].to_vec();
    let query = vector(query, place);
    let scores: Vec<f64> = (0..shape.sequences.lengths()[row])
        .map(|token| {
            if shape.window.is_some_and(|window| !window.seen(place, shape.sequences.width()).contains(&token)) {
                return f64::NEG_INFINITY;
            }
            let bias = attention.relative.map_or(0.0, |relative| relative[attention.bias(head, place, token)]);
            query.iter().zip(vector(key, token)).map(|(a, b)| a * b).sum::<f64>() / (size as f64).sqrt() + bias
        })
        .collect();
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return vec![0.0; scores.len()];
    }
    let sum: f64 = scores.iter().map(|score| (score - most).exp()).sum();
    scores.iter().map(|score| (score - most).exp() / sum).collect()
}

/// Every (row, head, query) with its number, that of its row of the mask.
fn places(shape: &AttentionShape) -> impl Iterator<Item = (usize, [usize; 3])> {
    let (heads, width) = (shape.heads, shape.sequences.width());
    let all =
        (0..shape.sequences.rows() * heads * width).map(move |task| (task, [task / (heads * width), task / width % heads, task % width]));
    all.filter(|(_, at)| at[2] < shape.sequences.extent(at[0]))
}

pub(super) fn attention([query, key, value]: [&[f64]; 3], attention: &Attention<'_>) -> Vec<f64> {
    let mut output = vec![0.0; query.len()];
    let Attention { shape, hidden, mask, .. } = *attention;
    let size = hidden / shape.heads;
    for (task, at) in places(shape) {
        for (token, probability) in probabilities(query, key, attention, at).into_iter().enumerate() {
            for number in at[1] * size..(at[1] + 1) * size {
                output[(shape.sequences.starts()[at[0]] + at[2]) * hidden + number] +=
                    probability * mask(task, token) * value[(shape.sequences.starts()[at[0]] + token) * hidden + number];
            }
        }
    }
    output
}

/// Gradients of query, key, value and bias.
pub(super) fn attention_gradient(inputs: [&[f64]; 3], gradient: &[f64], attention: &Attention<'_>) -> [Vec<f64>; 4] {
    attention_terms(inputs, gradient, attention, false)
}

/// What [`attention_gradient`] is when no term takes anything from another: rounding any factor of a term by a share moves a gradient by no more than that share of this.
pub(super) fn attention_gradient_at_most(inputs: [&[f64]; 3], gradient: &[f64], attention: &Attention<'_>) -> [Vec<f64>; 4] {
    attention_terms(inputs, gradient, attention, true)
}

/// The gradients as sums of terms, or of the sizes of these.
fn attention_terms([query, key, value]: [&[f64]; 3], gradient: &[f64], attention: &Attention<'_>, sizes: bool) -> [Vec<f64>; 4] {
    let Attention { shape, hidden, mask, relative } = *attention;
    let [mut to_query, mut to_key, mut to_value] = [(); 3].map(|()| vec![0.0; query.len()]);
    let mut to_relative = vec![0.0; relative.map_or(0, <[f64]>::len)];
    let size = hidden / shape.heads;
    let term = |x: f64| if sizes { x.abs() } else { x };
    for (task, at) in places(shape) {
        let start = shape.sequences.starts()[at[0]];
        let own = (start + at[2]) * hidden;
        let other = |token: usize| (start + token) * hidden;
        let numbers = at[1] * size..(at[1] + 1) * size;
        let probabilities = probabilities(query, key, attention, at);
        let product = |token: usize| numbers.clone().map(|number| term(gradient[own + number] * value[other(token) + number])).sum::<f64>();
        let back: Vec<f64> = (0..probabilities.len()).map(|token| mask(task, token) * product(token)).collect();
        let mean: f64 = probabilities.iter().zip(&back).map(|(p, b)| p * b).sum();
        for (token, (probability, back)) in probabilities.iter().zip(&back).enumerate() {
            let difference = if sizes { back + mean } else { back - mean };
            let score = probability * difference / (size as f64).sqrt();
            for number in numbers.clone() {
                to_query[own + number] += score * term(key[other(token) + number]);
                to_key[other(token) + number] += score * term(query[own + number]);
                to_value[other(token) + number] += probability * mask(task, token) * term(gradient[own + number]);
            }
            if relative.is_some() {
                to_relative[attention.bias(at[1], at[2], token)] += probability * difference;
            }
        }
    }
    [to_query, to_key, to_value, to_relative]
}

/// Rotary positions of `[tokens, 3 heads x head]`, with the angle of number `i` of a head at position `p` being `p / base^(2 i / head)`, `sign` of it.
pub(super) fn rotary(joint: &[f64], positions: &[usize], heads: usize, base: f64, sign: f64) -> Vec<f64> {
    let width = joint.len() / positions.len();
    let head = width / (3 * heads);
    let mut output = joint.to_vec();
    for (token, &position) in positions.iter().enumerate() {
        for at in 0..2 * heads * head {
            let (start, place) = (token * width + at / head * head, at % head);
            let angle = sign * position as f64 / base.powf((place % (head / 2)) as f64 * 2.0 / head as f64);
            let across = if place < head / 2 { -joint[start + place + head / 2] } else { joint[start + place - head / 2] };
            output[start + place] = joint[start + place] * angle.cos() + across * angle.sin();
        }
    }
    output
}

/// `[rows, inner] x [inner, columns] + [columns]`.
pub(super) fn linear(input: &[f64], weight: &[f64], bias: &[f64], inner: usize) -> Vec<f64> {
    let columns = bias.len();
    let rows = input.len() / inner;
    let entry =
        |row: usize, column: usize| (0..inner).map(|i| input[row * inner + i] * weight[i * columns + column]).sum::<f64>() + bias[column];
    (0..rows * columns).map(|at| entry(at / columns, at % columns)).collect()
}

/// Gradients of input, weight and bias.
pub(super) fn linear_gradient(input: &[f64], weight: &[f64], gradient: &[f64], inner: usize) -> [Vec<f64>; 3] {
    let rows = input.len() / inner;
    let columns = gradient.len() / rows;
    let to_input = |row: usize, i: usize| (0..columns).map(|c| gradient[row * columns + c] * weight[i * columns + c]).sum();
    let to_weight = |i: usize, c: usize| (0..rows).map(|row| gradient[row * columns + c] * input[row * inner + i]).sum();
    [
        (0..rows * inner).map(|at| to_input(at / inner, at % inner)).collect(),
        (0..inner * columns).map(|at| to_weight(at / columns, at % columns)).collect(),
        (0..columns).map(|c| (0..rows).map(|row| gradient[row * columns + c]).sum()).collect(),
    ]
}

/// Probability that a standard normal exceeds `a`, for `a` of at least 0: the Taylor series near 0, else the continued fraction of Laplace.
pub(super) fn tail(a: f64) -> f64 {
    let density = (-0.5 * a * a).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if a > 3.0 {
        return density / (1..200).rev().fold(a, |fraction, k| a + f64::from(k) / fraction);
    }
    let (mut term, mut sum) = (a, a);
    for k in 1..100 {
        term *= a * a / (2.0 * f64::from(k) + 1.0);
        sum += term;
    }
    0.5 - density * sum
}

pub(super) fn gelu(x: f64) -> f64 {
    if x > 0.0 { x * (1.0 - tail(x)) } else { x * tail(-x) }
}

pub(super) fn gelu_slope(x: f64) -> f64 {
    let below = if x > 0.0 { 1.0 - tail(x) } else { tail(-x) };
    below + x * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// The operands of two linear layers with GELU between them, and what rounding moves.
pub(super) struct FeedForward<'a> {
    /// `[rows, width]`, `[width, hidden]`, `[hidden]`, `[hidden, out]`.
    pub(super) operands: [&'a [f64]; 4],
    pub(super) width: usize,
    /// What rounding moves a number by, as a share of it.
    pub(super) share: f64,
}

impl FeedForward<'_> {
    /// The output without the outer bias, and how far it may be off when the inner product and the hidden numbers are rounded: to first order, no error taking from another.
    pub(super) fn forward(&self) -> (Vec<f64>, Vec<f64>) {
        let [.., outer] = self.operands;
        let [_, hidden, off] = self.hidden();
        let middle = self.operands[2].len();
        let zeros = vec![0.0; outer.len() / middle];
        (linear(&hidden, outer, &zeros, middle), linear(&off, &sizes(outer), &zeros, middle))
    }

    /// What GELU reads, what it gives, and how far that may be off.
    fn hidden(&self) -> [Vec<f64>; 3] {
        let [input, inner, bias, _] = self.operands;
        let sums = linear(input, inner, bias, self.width);
        let hidden: Vec<f64> = sums.iter().map(|&x| gelu(x)).collect();
        let at_most = self.products();
        let off = hidden.iter().zip(at_most).map(|(h, at_most)| self.share * (STEEPEST * at_most + h.abs())).collect();
        [sums, hidden, off]
    }

    /// The inner products when no term takes from another.
    fn products(&self) -> Vec<f64> {
        let [input, inner, bias, _] = self.operands;
        linear(&sizes(input), &sizes(inner), &vec![0.0; bias.len()], self.width)
    }

    /// Gradients of input, inner weights and bias, outer weights and bias, each with how far it may be off.
    pub(super) fn gradient(&self, gradient: &[f64]) -> [(Vec<f64>, Vec<f64>); 5] {
        let [input, inner, bias, outer] = self.operands;
        let middle = bias.len();
        let [sums, hidden, off] = self.hidden();
        let [to_hidden, to_outer, to_outer_bias] = linear_gradient(&hidden, outer, gradient, middle);
        let [hidden_at_most, off_outer, _] = linear_gradient(&off, &sizes(outer), &sizes(gradient), middle);
        let [_, rounded_outer, _] = linear_gradient(&sizes(&hidden), outer, &sizes(gradient), middle);
        let to_middle: Vec<f64> = to_hidden.iter().zip(&sums).map(|(g, &x)| g * gelu_slope(x)).collect();
        let products = self.products();
        // The gradient and its product are rounded, then the sum that the slope is taken at was: slopes grow by at most .8.
        let before = |at: usize| self.share * hidden_at_most[at] * (2.0 * STEEPEST + 0.8 * products[at]);
        let off_middle: Vec<f64> = (0..to_middle.len()).map(before).collect();
        let rounded: Vec<f64> = (0..to_middle.len()).map(|at| before(at) + self.share * to_middle[at].abs()).collect();
        let [to_input, to_inner, to_bias] = linear_gradient(input, inner, &to_middle, self.width);
        let [.., off_bias] = linear_gradient(input, inner, &off_middle, self.width);
        let [off_input, off_inner, _] = linear_gradient(&sizes(input), &sizes(inner), &rounded, self.width);
        let off_outer = off_outer.iter().zip(rounded_outer).map(|(off, at_most)| off + self.share * at_most).collect();
        let none = vec![0.0; to_outer_bias.len()];
        [(to_input, off_input), (to_inner, off_inner), (to_bias, off_bias), (to_outer, off_outer), (to_outer_bias, none)]
    }
}

/// No slope of GELU is larger.
const STEEPEST: f64 = 1.13;

fn sizes(numbers: &[f64]) -> Vec<f64> {
    numbers.iter().map(|x| x.abs()).collect()
}

/// `norm(input x mask + residual)` over rows as wide as `gamma`.
pub(super) fn residual_norm([input, residual, gamma, beta]: [&[f64]; 4], epsilon: f64, mask: Mask<'_>) -> Vec<f64> {
    let width = gamma.len();
    normal(input, residual, width, epsilon, mask)
        .into_iter()
        .flat_map(|(row, _)| row.into_iter().enumerate().map(|(column, x)| x * gamma[column] + beta[column]).collect::<Vec<_>>())
        .collect()
}

/// The rows with mean 0 and variance 1, and one over the standard deviation of each.
fn normal(input: &[f64], residual: &[f64], width: usize, epsilon: f64, mask: Mask<'_>) -> Vec<(Vec<f64>, f64)> {
    let row = |row: usize| {
        let sum: Vec<f64> =
            (0..width).map(|column| input[row * width + column] * mask(row, column) + residual[row * width + column]).collect();
        let mean = sum.iter().sum::<f64>() / width as f64;
        let variance = sum.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
        let inverse = 1.0 / (variance + epsilon).sqrt();
        (sum.iter().map(|x| (x - mean) * inverse).collect(), inverse)
    };
    (0..input.len() / width).map(row).collect()
}

/// Gradients of input, residual, scale and shift.
pub(super) fn residual_norm_gradient(
    [input, residual, gamma]: [&[f64]; 3],
    gradient: &[f64],
    epsilon: f64,
    mask: Mask<'_>,
) -> [Vec<f64>; 4] {
    let width = gamma.len();
    let (mut to_input, mut to_residual) = (Vec::new(), Vec::new());
    let (mut to_gamma, mut to_beta) = (vec![0.0; width], vec![0.0; width]);
    for (row, (normal, inverse)) in normal(input, residual, width, epsilon, mask).into_iter().enumerate() {
        let gradient = &gradient[row * width..][..width];
        let scaled: Vec<f64> = gradient.iter().zip(gamma).map(|(gradient, gamma)| gradient * gamma).collect();
        let mean = scaled.iter().sum::<f64>() / width as f64;
        let slope = scaled.iter().zip(&normal).map(|(a, b)| a * b).sum::<f64>() / width as f64;
        for column in 0..width {
            to_gamma[column] += gradient[column] * normal[column];
            to_beta[column] += gradient[column];
            let sum = inverse * (scaled[column] - mean - normal[column] * slope);
            to_residual.push(sum);
            to_input.push(sum * mask(row, column));
        }
    }
    [to_input, to_residual, to_gamma, to_beta]
}
