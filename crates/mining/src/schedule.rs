//! When the lists of a source are found anew.
//!
//! Written as words in the configuration: `once`, `every 500 steps`, `every epoch`, `every 2 epochs`, `rolling 500 steps`,
//! `rolling 60 s`, `on decay every 100 steps`. A list that was never found is always due.

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
    /// One slice of corpus and training queries after another, so that no row and no list is older than this many steps; at least 1.
    Rolling(usize),
    /// The same by the clock, in seconds of training and mining; at least 1. What such a run draws depends on the machine's speed.
    RollingSeconds(usize),
    /// Found once. Whenever this many steps have passed, each query whose negatives have become too easy is moved on to its next draw
    /// (Li et al. 2024, arXiv 2408.15710); at least 1.
    OnDecay(usize),
}

/// A moment of a run. All of it counts over all rounds of training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// Steps done.
    pub step: usize,
    /// Epochs done.
    pub epoch: usize,
    /// Time spent on training and mining, in milliseconds. Only schedules by the clock look at it.
    pub milliseconds: u64,
}

impl Moment {
    /// By steps and epochs alone.
    pub fn new(step: usize, epoch: usize) -> Self {
        Self { step, epoch, milliseconds: 0 }
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
            Self::Rolling(_) | Self::RollingSeconds(_) => self.slices_due(last, now, slices).0 > 0,
        }
    }

    /// Whether a refresh of one list leaves the rest as it is.
    pub(crate) fn rolls(self) -> bool {
        matches!(self, Self::Rolling(_) | Self::RollingSeconds(_))
    }

    /// Whether the passing of time alone makes a refresh due, whatever the steps do.
    pub(crate) fn by_the_clock(self) -> bool {
        matches!(self, Self::RollingSeconds(_))
    }

    /// Of a rolling schedule: how many slices are due, out of how many, and the moment up to which they bring the lists. 0 of 1 for others.
    pub(crate) fn slices_due(self, last: Moment, now: Moment, slices: usize) -> (usize, usize, Moment) {
        let (parts, due, moment);
        match self {
            Self::Rolling(steps) => {
                let interval;
                (parts, interval) = pace(steps, slices);
                due = (now.step.saturating_sub(last.step) / interval).min(parts);
                // In step with the schedule, however late this call came.
                moment = Moment { step: last.step + due * interval, ..now };
            }
            Self::RollingSeconds(seconds) => {
                let interval;
                (parts, interval) = pace(seconds.saturating_mul(1000), slices);
                due = (now.milliseconds.saturating_sub(last.milliseconds) as usize / interval).min(parts);
                moment = Moment { milliseconds: last.milliseconds + (due * interval) as u64, ..now };
            }
            _ => return (0, 1, now),
        }
        // All of them: nothing to be in step with.
        (due, parts, if due < parts { moment } else { now })
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
    "refresh: got \"{got}\", expected \"once\", \"every N steps\", \"every N epochs\", \"every epoch\", \"rolling N steps\", \
     \"rolling N s\" or \"on decay every N steps\" with N at least 1"
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
            ["every", unit @ ("step" | "epoch")] => ("every", 1, *unit),
            ["on", "decay", "every", unit @ "step"] => ("decay", 1, *unit),
            [how @ ("every" | "rolling"), number, unit] => (*how, count(number)?, *unit),
            ["on", "decay", "every", number, unit] => ("decay", count(number)?, *unit),
            _ => return Err(error()),
        };
        match (how, unit) {
            ("every", "step" | "steps") => Ok(Self::EverySteps(number)),
            ("every", "epoch" | "epochs") => Ok(Self::EveryEpochs(number)),
            ("rolling", "step" | "steps") => Ok(Self::Rolling(number)),
            ("rolling", "s" | "seconds") => Ok(Self::RollingSeconds(number)),
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
            Self::Rolling(steps) => write!(formatter, "rolling {steps} steps"),
            Self::RollingSeconds(seconds) => write!(formatter, "rolling {seconds} s"),
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
            ("rolling 50 steps", Schedule::Rolling(50)),
            ("rolling 60 s", Schedule::RollingSeconds(60)),
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
            "rolling 60 m",
            "every 60 s",
            "every round",
            "rolling 3 epochs",
            "on decay",
        ] {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.to_string().contains(&format!("got \"{text}\"")), "{error}");
        }
    }

    #[test]
    fn refreshes_come_when_they_are_due() {
        use Schedule::{EveryEpochs, EverySteps, OnDecay, Once, Rolling, RollingSeconds};
        let at = Moment::new;
        let after = |milliseconds| Moment { step: 0, epoch: 0, milliseconds };
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
            (OnDecay(100), Some(at(0, 0)), at(99, 0), false),
            (OnDecay(100), Some(at(0, 0)), at(100, 0), true),
            // Five slices: one every ten steps.
            (Rolling(50), Some(at(20, 0)), at(29, 0), false),
            (Rolling(50), Some(at(20, 0)), at(30, 0), true),
            (RollingSeconds(60), Some(after(500)), after(12_499), false),
            (RollingSeconds(60), Some(after(500)), after(12_500), true),
        ];
        for (schedule, last, now, due) in cases {
            assert_eq!(schedule.due(last, now, 5), due, "{schedule} {last:?} {now:?}");
        }
    }

    #[test]
    fn slices_that_came_due_together_are_found_together() {
        let after = |milliseconds| Moment { step: 7, epoch: 1, milliseconds };
        let due = |last, now| Schedule::RollingSeconds(60).slices_due(after(last), after(now), 5);
        assert_eq!(due(0, 11_999), (0, 5, after(0)));
        assert_eq!(due(0, 25_000), (2, 5, after(24_000)));
        assert_eq!(due(1_000, 999_000), (5, 5, after(999_000)));
        assert_eq!(Schedule::Rolling(50).slices_due(Moment::new(20, 0), Moment::new(41, 2), 5), (2, 5, Moment::new(40, 2)));
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
