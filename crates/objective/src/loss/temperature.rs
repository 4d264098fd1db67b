//! The divisor of the scores: a number, a line from one number to another over the run, or a parameter.

use burn::tensor::Tensor;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

use super::settings::in_range;
use super::{LossError, Now};

/// In a configuration `0.05`, `{ from = 0.1, to = 0.02 }` or `{ learned = 0.05, min = 0.005, learning_rate = 0.001 }`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Temperature {
    /// The same at every step.
    Fixed(f64),
    /// On a straight line from the first step to the last.
    Linear {
        /// At the first step.
        from: f64,
        /// At the last step.
        to: f64,
    },
    /// A parameter: its logarithm is trained beside the encoder, as in CLIP (Radford et al. 2021, arXiv 2103.00020).
    Learned {
        /// At the start.
        learned: f64,
        /// Never below this.
        min: f64,
        /// Of its own Adam, constant. The logarithm is what moves: 0.001 is about 0.1 % of the temperature a step.
        learning_rate: f64,
    },
}

impl From<f64> for Temperature {
    fn from(temperature: f64) -> Self {
        Self::Fixed(temperature)
    }
}

impl Temperature {
    /// Whether it changes along a line.
    pub fn is_scheduled(&self) -> bool {
        matches!(self, Self::Linear { .. })
    }

    pub(crate) fn is_learned(&self) -> bool {
        matches!(self, Self::Learned { .. })
    }

    /// The temperature of a step; the start of a learned one.
    pub fn at(&self, now: &Now) -> f64 {
        match *self {
            Self::Fixed(temperature) | Self::Learned { learned: temperature, .. } => temperature,
            Self::Linear { from, to } => from + (to - from) * now.progress.clamp(0.0, 1.0),
        }
    }
}

pub(super) fn check_temperature(place: &str, temperature: &Temperature) -> Result<(), LossError> {
    const EXPECTED: &str = "a positive number such as 0.05 (cosine scores) or 1 (dot products)";
    let positive = |setting: &str, got: f64, expected| in_range(format!("{place}{setting}"), got, got.is_finite() && got > 0.0, expected);
    match *temperature {
        Temperature::Fixed(got) => positive("", got, EXPECTED)?,
        Temperature::Linear { from, to } => positive(".from", from, EXPECTED).and(positive(".to", to, EXPECTED))?,
        Temperature::Learned { learned, min, learning_rate } => {
            positive(".min", min, "a positive number such as 0.005")?;
            positive(".learning_rate", learning_rate, "a positive number such as 0.001")?;
            in_range(format!("{place}.learned"), learned, learned.is_finite() && learned >= min, "a number from `min`")?
        }
    };
    Ok(())
}

/// The table form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    from: Option<f64>,
    to: Option<f64>,
    learned: Option<f64>,
    min: Option<f64>,
    learning_rate: Option<f64>,
}

impl<'de> Deserialize<'de> for Temperature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Forms)
    }
}

struct Forms;

impl<'de> Visitor<'de> for Forms {
    type Value = Temperature;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, { from = 0.1, to = 0.02 } or { learned = 0.05 }")
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Temperature, E> {
        Ok(Temperature::Fixed(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Temperature, E> {
        Ok(Temperature::Fixed(number as f64))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Temperature, E> {
        Ok(Temperature::Fixed(number as f64))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Temperature, A::Error> {
        match Table::deserialize(MapAccessDeserializer::new(map))? {
            Table { from: Some(from), to: Some(to), learned: None, min: None, learning_rate: None } => Ok(Temperature::Linear { from, to }),
            Table { from: None, to: None, learned: Some(learned), min, learning_rate } => {
                let (min, learning_rate) = (min.unwrap_or(0.005), learning_rate.unwrap_or(0.001));
                Ok(Temperature::Learned { learned, min, learning_rate })
            }
            _ => Err(de::Error::custom(
                "a temperature in braces is { from = 0.1, to = 0.02 } or { learned = 0.05 } with min and learning_rate if wanted",
            )),
        }
    }
}

impl Serialize for Temperature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = match *self {
            Self::Fixed(temperature) => return serializer.serialize_f64(temperature),
            Self::Linear { from, to } => vec![("from", from), ("to", to)],
            Self::Learned { learned, min, learning_rate } => vec![("learned", learned), ("min", min), ("learning_rate", learning_rate)],
        };
        let mut table = serializer.serialize_struct("Temperature", fields.len())?;
        for (name, value) in fields {
            table.serialize_field(name, &value)?;
        }
        table.end()
    }
}

/// A temperature at one step, as the losses divide by it.
#[derive(Clone, Debug)]
pub(super) enum Divisor {
    Constant(f64),
    /// `[1]`, on the device and in the graph.
    Learned(Box<Tensor<1>>),
}

impl Divisor {
    pub(super) fn divide(&self, scores: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Constant(temperature) => scores.div_scalar(*temperature),
            Self::Learned(temperature) => scores.div(temperature.as_ref().clone().unsqueeze()),
        }
    }
}
