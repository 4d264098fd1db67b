//! Hidden states of a batch's tokens, without padding, and the ways to one vector or one matrix per text.

use std::sync::Arc;

use burn::tensor::Tensor;
use kernels::layers::{self, Sequences};

/// One token of each text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    First,
    Last,
}

impl Token {
    /// Its row in each text, which all have tokens.
    pub(crate) fn places(self, sequences: &Sequences) -> Vec<i32> {
        let of = |(start, length): (&usize, &usize)| match self {
            Self::First => *start as i32,
            Self::Last => (start + length - 1) as i32,
        };
        sequences.starts().iter().zip(sequences.lengths()).map(of).collect()
    }
}

/// The last hidden states of several texts.
pub(crate) struct States {
    /// `[tokens, hidden]`, the tokens of one text behind those of the one before.
    flat: Tensor<2>,
    /// Packed, each with at least one token.
    sequences: Arc<Sequences>,
}

impl States {
    /// Of these rows; those of padding are left out.
    pub(crate) fn new(flat: Tensor<2>, sequences: Arc<Sequences>) -> Self {
        if sequences.is_packed() {
            return Self { flat, sequences };
        }
        let kept = sequences.places().enumerate().filter(|&(_, (row, position))| position < sequences.lengths()[row]);
        let kept: Vec<i32> = kept.map(|(token, _)| token as i32).collect();
        Self { flat: layers::embedding(flat, &kept), sequences: Arc::new(Sequences::packed(sequences.lengths().to_vec())) }
    }

    /// Tokens of each text.
    pub(crate) fn lengths(&self) -> &[usize] {
        self.sequences.lengths()
    }

    /// States of one token of each text, `[rows, hidden]`.
    pub(crate) fn one_each(&self, token: Token) -> Tensor<2> {
        layers::embedding(self.flat.clone(), &token.places(&self.sequences))
    }

    /// Sums of the states of each text, each times `weight(position, tokens of the text)`: `[rows, hidden]`. Weights come before the sum, as in a matrix product.
    pub(crate) fn weighted_sums(&self, weight: impl Fn(usize, f64) -> f64) -> Tensor<2> {
        let weight = |(row, position)| weight(position, self.lengths()[row] as f64) as f32;
        let weights: Vec<f32> = self.sequences.places().map(weight).collect();
        let owners: Vec<i32> = self.sequences.places().map(|(row, _)| row as i32).collect();
        layers::sums(self.flat.clone(), &weights, &owners, self.sequences.rows())
    }

    /// States as a matrix per text, `[rows, width, hidden]`. A text's first state stands again in place of those that it lacks.
    ///
    /// # Panics
    /// When a text is longer than `width`.
    pub(crate) fn padded(&self, width: usize) -> Tensor<3> {
        assert!(self.sequences.width() <= width, "a text of {} tokens in {width} places", self.sequences.width());
        let place = |(start, &length): (&usize, &usize)| {
            let (start, length) = (*start, length);
            (0..width).map(move |position| (start + if position < length { position } else { 0 }) as i32)
        };
        let places: Vec<i32> = self.sequences.starts().iter().zip(self.lengths()).flat_map(place).collect();
        let hidden = self.flat.dims()[1];
        layers::embedding(self.flat.clone(), &places).reshape([self.sequences.rows(), width, hidden])
    }
}
