//! The encoders that a refresh may ask for: the one in training, and others by name.

use crate::error::EncodeError;
use crate::row_encoder::RowEncoder;

/// Encoders by name.
pub trait Encoders {
    /// The encoder in training, with its weights of now.
    fn current(&mut self) -> &mut dyn RowEncoder;

    /// Another one: `start`, `previous-round`, or whatever the configuration names.
    ///
    /// # Errors
    /// When there is none of this name.
    fn named(&mut self, model: &str) -> Result<&mut dyn RowEncoder, EncodeError>;
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
