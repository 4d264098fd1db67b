//! The models that a refresh may ask for: the encoder in training, others by name, and a teacher that judges pairs.

use crate::error::EncodeError;
use crate::row_encoder::RowEncoder;

/// Judges (query, document) pairs one by one: a cross-encoder, or an encoder other than those that search.
pub trait PairScorer {
    /// One score a pair, in the order of `pairs`; on one scale for all queries (a cross-encoder's probabilities, an encoder's similarities).
    /// Documents are corpus ids or those of generated texts. NaN for a pair that it does not know.
    ///
    /// # Errors
    /// When the model fails.
    fn scores(&mut self, pairs: &[(u32, u32)]) -> Result<Vec<f32>, EncodeError>;
}

/// Encoders by name.
pub trait Encoders {
    /// The encoder in training, with its weights of now.
    fn current(&mut self) -> &mut dyn RowEncoder;

    /// Another one: `start`, `previous-round`, or whatever the configuration names.
    ///
    /// # Errors
    /// When there is none of this name.
    fn named(&mut self, model: &str) -> Result<&mut dyn RowEncoder, EncodeError>;

    /// The teacher whose scores filters and draws read where a list brings none.
    fn teacher(&mut self) -> Option<&mut dyn PairScorer> {
        None
    }
}

/// One encoder and no other.
pub struct Only<'a>(pub &'a mut dyn RowEncoder);

impl Encoders for Only<'_> {
    fn current(&mut self) -> &mut dyn RowEncoder {
        self.0
    }

    fn named(&mut self, model: &str) -> Result<&mut dyn RowEncoder, EncodeError> {
        Err(EncodeError::new(format!("there is no encoder \"{model}\" here, only the one in training")))
    }
}
