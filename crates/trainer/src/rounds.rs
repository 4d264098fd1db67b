//! The course of a run: how its steps divide into rounds, and how far along it is.
//!
//! A round (`[[round]]` in the configuration) is a training run of its own inside the run: the learning rate starts over, and with `train.restart` so do the weights,
//! while what the round before has learned lives on as the model that mines for this one (DPR's second training set; RocketQA; coCondenser).
//! A run is measured in steps, or, with `train.seconds`, in seconds of training and mining.

use crate::config::Config;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    steps: usize,
    rounds: usize,
    seconds: Option<f64>,
}

impl Course {
    /// From a resolved configuration.
    pub(crate) fn new(config: &Config) -> Self {
        let steps = config.train.steps.unwrap_or(1).max(1);
        Self { steps, rounds: config.rounds().min(steps), seconds: config.train.seconds }
    }

    /// Steps of the run; with a budget of seconds, more than it will do.
    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// The round of a step, from 0. Rounds differ by at most one step.
    pub(crate) fn round_of(&self, step: usize) -> usize {
        (0..self.rounds).rev().find(|&round| self.start(round) <= step).unwrap_or(0)
    }

    /// Whether a round other than the first begins with this step.
    pub(crate) fn begins_round(&self, step: usize) -> bool {
        step > 0 && step < self.steps && self.start(self.round_of(step)) == step
    }

    /// The first step of the next round, or the end of the run.
    pub(crate) fn round_end(&self, step: usize) -> usize {
        self.start(self.round_of(step) + 1)
    }

    /// Steps of the longest round: what the learning rate's schedule spans.
    pub(crate) fn round_steps(&self) -> usize {
        self.steps.div_ceil(self.rounds)
    }

    /// How much of the whole run is done, 0 to 1.
    pub(crate) fn progress(&self, step: usize, seconds: f64) -> f64 {
        match self.seconds {
            Some(budget) => (seconds / budget).min(1.0),
            None => step as f64 / self.steps as f64,
        }
    }

    /// The step within its round, for the learning rate; under a budget of seconds the one that corresponds to the time that has passed.
    pub(crate) fn step_in_round(&self, step: usize, seconds: f64) -> usize {
        match self.seconds {
            Some(_) => (self.progress(step, seconds) * self.round_steps() as f64) as usize,
            None => step - self.start(self.round_of(step)),
        }
    }

    /// Whether nothing is left to do after `step` steps that took `seconds`.
    pub(crate) fn is_over(&self, step: usize, seconds: f64) -> bool {
        step >= self.steps || self.seconds.is_some_and(|budget| seconds >= budget)
    }

    fn start(&self, round: usize) -> usize {
        (self.steps * round).div_ceil(self.rounds).min(self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(steps: usize, rounds: usize, seconds: Option<f64>) -> Course {
        Course { steps, rounds: rounds.min(steps), seconds }
    }

    #[test]
    fn rounds_divide_the_steps_without_gap() {
        for (steps, rounds) in [(10, 1), (10, 2), (10, 3), (7, 7), (3, 9), (1000, 13)] {
            let course = course(steps, rounds, None);
            let of: Vec<usize> = (0..steps).map(|step| course.round_of(step)).collect();
            assert!(of.is_sorted() && of[0] == 0 && of[steps - 1] == rounds.min(steps) - 1, "{steps} {rounds}: {of:?}");
            for step in 0..steps {
                assert_eq!(course.begins_round(step), step > 0 && of[step] != of[step - 1], "{steps} {rounds} {step}");
                let end = (step..steps).find(|&later| of[later] != of[step]).unwrap_or(steps);
                assert_eq!(course.round_end(step), end, "{steps} {rounds} {step}");
                assert!(course.step_in_round(step, 0.0) < course.round_steps());
            }
        }
    }

    #[test]
    fn a_budget_of_seconds_ends_the_run_and_drives_the_learning_rate() {
        let course = course(1000, 1, Some(20.0));
        assert!(!course.is_over(10, 19.9) && course.is_over(10, 20.0) && course.is_over(1000, 1.0));
        assert_eq!((course.progress(10, 5.0), course.step_in_round(10, 5.0)), (0.25, 250));
    }
}
