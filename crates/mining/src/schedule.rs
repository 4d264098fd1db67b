//! When the lists of a source are found anew.
//!
//! Written as words in the configuration: `once`, `every 500 steps`, `every epoch`, `every 2 epochs`, `every round`, `rolling 500 steps`,
//! `on decay every 100 steps`. A list that was never found is always due.

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
    /// Whenever this many rounds of training have begun since the last time; at least 1.
    EveryRounds(usize),
    /// One slice of corpus and training queries after another, so that no row and no list is older than this many steps; at least 1.
    Rolling(usize),
    /// Found once. Whenever this many steps have passed, each query whose negatives have become too easy is moved on to its next draw
    /// (Li et al. 2024, arXiv 2408.15710); at least 1.
    OnDecay(usize),
}

/// A moment of a run. Steps and epochs count over all rounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// Steps done.
    pub step: usize,
    /// Epochs done.
    pub epoch: usize,
    /// Rounds of training done.
    pub round: usize,
}

impl Moment {
    /// In the first round.
    pub fn new(step: usize, epoch: usize) -> Self {
        Self { step, epoch, round: 0 }
    }
}

impl Schedule {
    /// Whether a refresh is due now, the last one having been at `last`; `slices` is the number of parts of a rolling one.
    pub(crate) fn due(self, last: Option<Moment>, now: Moment, slices: usize) -> bool {
        let Some(last) = last else { return true };
        match self {
            Self::Once => false,
            Self::EverySteps(steps) | Self::OnDecay(steps) => now.step >= last.step.saturating_add(steps),
            Self::EveryEpochs(epochs) => now.epoch >= last.epoch.saturating_add(epochs),
            Self::EveryRounds(rounds) => now.round >= last.round.saturating_add(rounds),
            Self::Rolling(steps) => now.step >= last.step.saturating_add(pace(steps, slices).1),
        }
    }
}

/// Parts of a rolling refresh, and steps from one part to the next: after `parts · interval` ≤ `steps` steps every part has had its turn.
pub(crate) fn pace(steps: usize, slices: usize) -> (usize, usize) {
    let parts = slices.clamp(1, steps.max(1));
    (parts, (steps / parts).max(1))
}

/// Words that are no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "refresh: got \"{got}\", expected \"once\", \"every N steps\", \"every N epochs\", \"every N rounds\", \"every epoch\", \"every round\", \
     \"rolling N steps\" or \"on decay every N steps\" with N at least 1"
)]
pub struct ScheduleError {
    /// What was written.
    pub got: String,
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let error = || ScheduleError { got: text.to_owned() };
        let words: Vec<&str> = text.split_whitespace().collect();
        let count = |number: &str| number.parse().ok().filter(|&number: &usize| number > 0).ok_or_else(error);
        let (how, number, unit) = match words.as_slice() {
            ["once"] => return Ok(Self::Once),
            ["every", unit @ ("step" | "epoch" | "round")] => ("every", 1, *unit),
            ["on", "decay", "every", unit @ "step"] => ("decay", 1, *unit),
            [how @ ("every" | "rolling"), number, unit] => (*how, count(number)?, *unit),
            ["on", "decay", "every", number, unit] => ("decay", count(number)?, *unit),
            _ => return Err(error()),
        };
        match (how, unit) {
            ("every", "step" | "steps") => Ok(Self::EverySteps(number)),
            ("every", "epoch" | "epochs") => Ok(Self::EveryEpochs(number)),
            ("every", "round" | "rounds") => Ok(Self::EveryRounds(number)),
            ("rolling", "step" | "steps") => Ok(Self::Rolling(number)),
            ("decay", "step" | "steps") => Ok(Self::OnDecay(number)),
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
            Self::EveryRounds(1) => formatter.write_str("every round"),
            Self::EveryRounds(rounds) => write!(formatter, "every {rounds} rounds"),
            Self::Rolling(steps) => write!(formatter, "rolling {steps} steps"),
            Self::OnDecay(1) => formatter.write_str("on decay every step"),
            Self::OnDecay(steps) => write!(formatter, "on decay every {steps} steps"),
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
            ("every round", Schedule::EveryRounds(1)),
            ("every 3 rounds", Schedule::EveryRounds(3)),
            ("rolling 50 steps", Schedule::Rolling(50)),
            ("on decay every 100 steps", Schedule::OnDecay(100)),
        ];
        for (text, schedule) in cases {
            assert_eq!(text.parse(), Ok(schedule), "{text}");
            assert_eq!(schedule.to_string(), text);
        }
        assert_eq!("  every  1   epochs ".parse(), Ok(Schedule::EveryEpochs(1)));
        for text in [
            "",
            "every",
            "every 0 steps",
            "every -1 steps",
            "every x steps",
            "every 5",
            "every 5 days",
            "5 steps",
            "Once",
            "rolling 60 s",
            "rolling 3 epochs",
            "on decay",
        ] {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.to_string().contains(&format!("got \"{text}\"")), "{error}");
        }
    }

    #[test]
    fn refreshes_come_when_they_are_due() {
        use Schedule::{EveryEpochs, EveryRounds, EverySteps, OnDecay, Once, Rolling};
        let at = Moment::new;
        let round = |step, round| Moment { step, epoch: 0, round };
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
            (EveryRounds(1), Some(round(0, 0)), round(999, 0), false),
            (EveryRounds(1), Some(round(0, 0)), round(999, 1), true),
            (OnDecay(100), Some(at(0, 0)), at(99, 0), false),
            (OnDecay(100), Some(at(0, 0)), at(100, 0), true),
            // Five slices: one every ten steps.
            (Rolling(50), Some(at(20, 0)), at(29, 0), false),
            (Rolling(50), Some(at(20, 0)), at(30, 0), true),
        ];
        for (schedule, last, now, due) in cases {
            assert_eq!(schedule.due(last, now, 5), due, "{schedule} {last:?} {now:?}");
        }
    }
    #[test]
    fn every_slice_has_its_turn_in_time() {
        assert_eq!(pace(50, 5), (5, 10));
        for steps in 1..60 {
            for slices in 1..20 {
                let (parts, interval) = pace(steps, slices);
                assert!(parts * interval <= steps && parts <= slices && interval > 0, "{steps} {slices}");
            }
        }
    }
}
