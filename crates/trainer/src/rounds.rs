//! The course of a run: how its steps divide into rounds, and how far along it is.
//!
//! A round (`[[round]]` in the configuration) is a training run of its own inside the run: the learning rate starts over, and with `train.restart` so do the weights,
//! while what the round before has learned lives on as the model that mines for this one (DPR's second training set; RocketQA; coCondenser).
//! Rounds divide the steps evenly, or in proportion to their `share`.
//! A run is measured in steps, or, with `train.seconds`, in seconds of training and mining: then rounds divide the seconds as they
//! divide steps, and whatever changes over the run follows the time. A run that is given both ends with what comes first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Config;

#[derive(Clone, Debug)]
pub(crate) struct Course {
    steps: usize,
    /// How much of the run lies before each round, and all of it at last.
    before: Arc<[f64]>,
    seconds: Option<f64>,
}

/// Seconds of training and mining so far, for those who work ahead of the loop. Runs without `train.seconds` never look at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock(Arc<AtomicU64>);

impl Clock {
    pub(crate) fn set(&self, seconds: f64) {
        self.0.store(seconds.to_bits(), Ordering::Relaxed);
    }

    pub(crate) fn seconds(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Course {
    /// From a resolved configuration.
    pub(crate) fn new(config: &Config) -> Self {
        let steps = config.train.steps.unwrap_or(1).max(1);
        let shares: Vec<f64> = (0..config.rounds().min(steps)).map(|round| config.share_of_round(round)).collect();
        Self::of(steps, &shares, config.train.seconds)
    }

    fn of(steps: usize, shares: &[f64], seconds: Option<f64>) -> Self {
        let all: f64 = shares.iter().sum();
        let before = (0..=shares.len()).map(|round| shares[..round].iter().sum::<f64>() / all).collect();
        Self { steps, before, seconds }
    }

    /// Steps of the run; with a budget of seconds, more than it will do.
    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// Rounds of the run.
    pub(crate) fn rounds(&self) -> usize {
        self.before.len() - 1
    }

    /// The round, from 0, that a step belongs to which begins after `seconds`.
    pub(crate) fn round_of(&self, step: usize, seconds: f64) -> usize {
        let last = |begun: &dyn Fn(usize) -> bool| (0..self.rounds()).rev().find(|&round| begun(round)).unwrap_or(0);
        let by_steps = last(&|round| self.start(round) <= step);
        let by_time = self.seconds.map_or(0, |budget| last(&|round| self.before[round] <= seconds / budget));
        by_steps.max(by_time)
    }

    /// The first step of the round after `round`, or the end of the run, as far as steps tell.
    pub(crate) fn round_end(&self, round: usize) -> usize {
        self.start(round + 1)
    }

    /// Steps of a round, of those with the same share the longest: what the learning rate's schedule spans.
    pub(crate) fn round_steps(&self, round: usize) -> usize {
        whole(self.steps as f64 * self.share(round)).max(1)
    }

    fn share(&self, round: usize) -> f64 {
        self.before[round + 1] - self.before[round]
    }

    /// How much of the whole run is done before a step, 0 to 1.
    pub(crate) fn progress(&self, step: usize, seconds: f64) -> f64 {
        let by_steps = step as f64 / self.steps as f64;
        self.seconds.map_or(by_steps, |budget| by_steps.max(seconds / budget).min(1.0))
    }

    /// The same from 0 at the first step to 1 at the last.
    pub(crate) fn progress_to_last(&self, step: usize, seconds: f64) -> f64 {
        let by_steps = step as f64 / self.steps.saturating_sub(1).max(1) as f64;
        self.seconds.map_or(by_steps, |budget| by_steps.max(seconds / budget)).min(1.0)
    }

    /// The step within `round`, for the learning rate; under a budget of seconds the one that corresponds to the time that has passed.
    pub(crate) fn step_in_round(&self, round: usize, step: usize, seconds: f64) -> usize {
        match self.seconds {
            Some(_) => {
                let passed = ((self.progress(step, seconds) - self.before[round]) / self.share(round)).clamp(0.0, 1.0);
                (passed * self.round_steps(round) as f64) as usize
            }
            None => step - self.start(round),
        }
    }

    /// Whether nothing is left to do after `step` steps that took `seconds`.
    pub(crate) fn is_over(&self, step: usize, seconds: f64) -> bool {
        step >= self.steps || self.seconds.is_some_and(|budget| seconds >= budget)
    }

    /// Every round has a step at least.
    fn start(&self, round: usize) -> usize {
        whole(self.steps as f64 * self.before[round]).clamp(round, self.steps - (self.rounds() - round))
    }
}

/// The next whole number, where not rounding alone has led beyond one.
fn whole(number: f64) -> usize {
    (number - 1e-9 * number.max(1.0)).ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(steps: usize, rounds: usize, seconds: Option<f64>) -> Course {
        Course::of(steps, &vec![1.0; rounds.min(steps)], seconds)
    }

    #[test]
    fn rounds_divide_the_steps_without_gap() {
        for (steps, rounds) in [(10, 1), (10, 2), (10, 3), (7, 7), (3, 9), (1000, 13)] {
            let course = course(steps, rounds, None);
            let of: Vec<usize> = (0..steps).map(|step| course.round_of(step, 1e9)).collect();
            assert!(of.is_sorted() && of[0] == 0 && of[steps - 1] == rounds.min(steps) - 1, "{steps} {rounds}: {of:?}");
            for step in 0..steps {
                let end = (step..steps).find(|&later| of[later] != of[step]).unwrap_or(steps);
                assert_eq!(course.round_end(of[step]), end, "{steps} {rounds} {step}");
                assert!(course.step_in_round(of[step], step, 0.0) < course.round_steps(of[step]));
                assert_eq!(course.round_steps(of[step]), steps.div_ceil(rounds.min(steps)), "{steps} {rounds}");
            }
            let sizes: Vec<usize> = (0..course.rounds()).map(|round| course.round_end(round) - course.start(round)).collect();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
        }
    }

    #[test]
    fn rounds_divide_steps_and_seconds_by_their_shares() {
        let sizes = |steps: usize, shares: &[f64]| -> Vec<usize> {
            let course = Course::of(steps, shares, None);
            (0..shares.len()).map(|round| course.round_end(round) - course.start(round)).collect()
        };
        assert_eq!(sizes(10, &[3.0, 2.0]), [6, 4]);
        assert_eq!(sizes(100, &[0.1, 0.2, 0.7]), [10, 20, 70]);
        // A step at least, however small the share, at either end.
        assert_eq!(sizes(5, &[1e-9, 1.0, 1e-9]), [1, 3, 1]);
        let course = Course::of(1000, &[1.0, 3.0], Some(20.0));
        assert_eq!([0.0, 4.9, 5.0, 19.0].map(|seconds| course.round_of(0, seconds)), [0, 0, 1, 1]);
        assert_eq!((course.round_steps(0), course.round_steps(1)), (250, 750));
        // Half of the second round's fifteen seconds.
        assert_eq!(course.step_in_round(1, 300, 12.5), 375);
    }

    #[test]
    fn a_budget_of_seconds_ends_the_run_and_drives_what_changes_over_it() {
        let course = course(1000, 1, Some(20.0));
        assert!(!course.is_over(10, 19.9) && course.is_over(10, 20.0) && course.is_over(1000, 1.0));
        assert_eq!((course.progress(10, 5.0), course.step_in_round(0, 10, 5.0)), (0.25, 250));
        assert_eq!((course.progress_to_last(10, 5.0), course.progress_to_last(10, 25.0)), (0.25, 1.0));
        // What comes first, where both are given.
        assert_eq!((course.progress(500, 5.0), course.progress_to_last(999, 5.0)), (0.5, 1.0));
    }

    #[test]
    fn rounds_divide_a_budget_of_seconds() {
        let course = course(1_000_000, 3, Some(30.0));
        let rounds = [0.0, 9.9, 10.0, 19.9, 20.0, 29.9, 31.0].map(|seconds| course.round_of(50, seconds));
        assert_eq!(rounds, [0, 0, 1, 1, 2, 2, 2]);
        // The learning rate starts over, and is at its middle in the middle of the round's time.
        let near = |round, seconds, share: f64| {
            let step = course.step_in_round(round, 50, seconds) as f64;
            assert!((step - share * course.round_steps(round) as f64).abs() < 200.0, "{step} in round {round} after {seconds} s");
        };
        near(0, 5.0, 0.5);
        near(1, 10.0, 0.0);
        near(1, 15.0, 0.5);
        near(2, 29.9, 0.99);
        // A round that begins late, the one before it having mined for long, has what is left of its time.
        near(1, 19.0, 0.9);
    }
}
