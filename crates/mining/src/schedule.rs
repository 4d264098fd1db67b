//! When the lists of a source are found anew.
//!
//! Written as words in the configuration: `once`, `every 500 steps`, `every epoch`, `every 2 epochs`. A list that was never
//! found is always due.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The times of refreshes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Schedule {
    /// Before the first step, and never again.
    #[default]
    Once,
    /// Whenever this many steps have passed since the last time; at least 1.
    EverySteps(usize),
    /// Whenever this many epochs have begun since the last time; at least 1.
    EveryEpochs(usize),
}

/// When something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// Steps done.
    pub(crate) step: usize,
    /// Epochs done.
    pub(crate) epoch: usize,
}

impl Schedule {
    /// Whether a refresh is due now, the last one having been at `last`.
    pub(crate) fn due(self, last: Option<Moment>, now: Moment) -> bool {
        let Some(last) = last else { return true };
        match self {
            Self::Once => false,
            Self::EverySteps(steps) => now.step >= last.step.saturating_add(steps),
            Self::EveryEpochs(epochs) => now.epoch >= last.epoch.saturating_add(epochs),
        }
    }
}

/// Words that are no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refresh: got \"{got}\", expected \"once\", \"every N steps\", \"every epoch\" or \"every N epochs\" with N at least 1")]
pub struct ScheduleError {
    /// What was written.
    pub got: String,
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let error = || ScheduleError { got: text.to_owned() };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (number, unit) = match words.as_slice() {
            ["once"] => return Ok(Self::Once),
            ["every", unit @ ("step" | "epoch")] => (1, *unit),
            ["every", number, unit] => (number.parse().ok().filter(|&number: &usize| number > 0).ok_or_else(error)?, *unit),
            _ => return Err(error()),
        };
        match unit {
            "step" | "steps" => Ok(Self::EverySteps(number)),
            "epoch" | "epochs" => Ok(Self::EveryEpochs(number)),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Once => formatter.write_str("once"),
            Self::EverySteps(1) => formatter.write_str("every step"),
            Self::EverySteps(steps) => write!(formatter, "every {steps} steps"),
            Self::EveryEpochs(1) => formatter.write_str("every epoch"),
            Self::EveryEpochs(epochs) => write!(formatter, "every {epochs} epochs"),
        }
    }
}

impl TryFrom<String> for Schedule {
    type Error = ScheduleError;

    fn try_from(text: String) -> Result<Self, ScheduleError> {
        text.parse()
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> Self {
        schedule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_mean_what_they_say_and_are_written_back() {
        let cases = [
            ("once", Schedule::Once),
            ("every step", Schedule::EverySteps(1)),
            ("every 500 steps", Schedule::EverySteps(500)),
            ("every epoch", Schedule::EveryEpochs(1)),
            ("every 2 epochs", Schedule::EveryEpochs(2)),
        ];
        for (text, schedule) in cases {
            assert_eq!(text.parse(), Ok(schedule), "{text}");
            assert_eq!(schedule.to_string(), text);
        }
        assert_eq!("  every  1   epochs ".parse(), Ok(Schedule::EveryEpochs(1)));
        for text in
            ["", "every", "every 0 steps", "every -1 steps", "every x steps", "every 5", "every 5 days", "5 steps", "Once", "rolling 60 s"]
        {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.to_string().contains(&format!("got \"{text}\"")), "{error}");
        }
    }

    #[test]
    fn refreshes_come_when_they_are_due() {
        use Schedule::{EveryEpochs, EverySteps, Once};
        let at = |step, epoch| Moment { step, epoch };
        // schedule, last, now, due
        let cases = [
            (Once, None, at(0, 0), true),
            (Once, Some(at(0, 0)), at(9999, 99), false),
            (EverySteps(100), None, at(7, 0), true),
            (EverySteps(100), Some(at(0, 0)), at(99, 3), false),
            (EverySteps(100), Some(at(0, 0)), at(100, 0), true),
            (EverySteps(100), Some(at(100, 0)), at(100, 0), false),
            (EverySteps(100), Some(at(70, 0)), at(169, 0), false),
            (EverySteps(100), Some(at(70, 0)), at(170, 0), true),
            (EveryEpochs(1), Some(at(0, 0)), at(500, 0), false),
            (EveryEpochs(1), Some(at(0, 0)), at(501, 1), true),
            (EveryEpochs(2), Some(at(0, 0)), at(900, 1), false),
            (EveryEpochs(2), Some(at(0, 0)), at(1000, 2), true),
        ];
        for (schedule, last, now, due) in cases {
            assert_eq!(schedule.due(last, now), due, "{schedule} {last:?} {now:?}");
        }
    }
}
