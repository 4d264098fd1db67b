//! Typed access to the keys of one JSON file, with messages that name file and key.

use std::path::Path;

use serde_json::Value;

use crate::EncoderError;

/// A parsed JSON file, and where it lies.
pub(crate) struct Keys<'a> {
    pub(crate) path: &'a Path,
    pub(crate) config: &'a Value,
}

impl Keys<'_> {
    pub(crate) fn wrong(&self, field: &str, expected: &str) -> EncoderError {
        EncoderError::Field {
            path: self.path.to_owned(),
            field: field.to_owned(),
            got: self.config.get(field).map_or("absent".to_owned(), Value::to_string),
            expected: expected.to_owned(),
        }
    }

    pub(crate) fn text(&self, field: &str) -> Result<String, EncoderError> {
        let value = self.config.get(field).and_then(Value::as_str);
        value.map(str::to_owned).ok_or_else(|| self.wrong(field, "a string"))
    }

    pub(crate) fn size(&self, field: &str, least: u64) -> Result<usize, EncoderError> {
        // The upper bound keeps every product of two sizes within 64 bits.
        match self.config.get(field).and_then(Value::as_u64) {
            Some(size) if (least..=1 << 31).contains(&size) => Ok(size as usize),
            _ => Err(self.wrong(field, &format!("an integer of at least {least}"))),
        }
    }

    /// A number of layers. What is made for each of them comes before a look at the weights, so that the bound is one of memory.
    pub(crate) fn layers(&self, field: &str) -> Result<usize, EncoderError> {
        match self.size(field, 1)? {
            layers if layers <= 10_000 => Ok(layers),
            _ => Err(self.wrong(field, "at most 10,000 layers")),
        }
    }

    pub(crate) fn size_or(&self, field: &str, default: usize, least: u64) -> Result<usize, EncoderError> {
        if self.config.get(field).is_none() { Ok(default) } else { self.size(field, least) }
    }

    pub(crate) fn number_or(&self, field: &str, default: f64) -> Result<f64, EncoderError> {
        match self.config.get(field) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(number) if number > 0.0 => Ok(number),
                _ => Err(self.wrong(field, "a positive number")),
            },
        }
    }

    pub(crate) fn probability(&self, field: &str) -> Result<f64, EncoderError> {
        self.probability_or(field, 0.1)
    }

    pub(crate) fn probability_or(&self, field: &str, default: f64) -> Result<f64, EncoderError> {
        match self.config.get(field) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(p) if (0.0..1.0).contains(&p) => Ok(p),
                _ => Err(self.wrong(field, "a number from 0 to below 1")),
            },
        }
    }
}
