//! Settings of a reranker's training.

use objective::{AdamW, AdamWConfig, ParameterGroup, Schedule, ScheduleKind, Warmup};
use serde::{Deserialize, Serialize};

use crate::error::TeacherError;
use crate::loss::ListLoss;

/// How a reranker is trained. The defaults are for a pretrained transformer; see [`RerankerTraining::small`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RerankerTraining {
    /// Steps of the whole training: the length of the schedule.
    pub steps: usize,
    /// Lists of a step.
    pub lists: usize,
    /// Negatives of a list, for those who make the lists.
    pub negatives: usize,
    /// The loss.
    pub loss: ListLoss,
    /// Largest learning rate.
    pub learning_rate: f64,
    /// The rate after the warm-up.
    pub schedule: ScheduleKind,
    /// Length of the warm-up: below 1 a share of the steps, from 1 on a number of steps.
    pub warmup: Warmup,
    /// Constants of AdamW.
    pub optimizer: AdamWConfig,
    /// Largest global norm of the gradients; 0 clips nothing.
    pub clip: f64,
    /// Pairs of one forward pass; a step sorts its pairs by length before it cuts them.
    pub chunk: usize,
    /// Keep one chunk's activations at a time and compute every chunk twice (gradient caching): for lists that do not fit into memory.
    pub cache_gradients: bool,
    /// Decides dropout, and the head of a reranker that is made new.
    pub seed: u64,
}

impl Default for RerankerTraining {
    fn default() -> Self {
        Self {
            steps: 500,
            lists: 16,
            negatives: 7,
            loss: ListLoss::Lce,
            learning_rate: 2e-5,
            schedule: ScheduleKind::Linear,
            warmup: Warmup::Share(0.1),
            optimizer: AdamWConfig::default(),
            clip: 1.0,
            chunk: 64,
            cache_gradients: false,
            seed: 0,
        }
    }
}

impl RerankerTraining {
    /// The defaults with what suits a reranker made from word vectors (`CrossEncoder::from_encoder` of a static encoder): a larger
    /// learning rate, and positions left as they are, since such a reranker compares words wherever they stand.
    pub fn small() -> Self {
        let frozen = ParameterGroup { path: "position".to_owned(), rate: 0.0, weight_decay: None };
        let optimizer = AdamWConfig { groups: vec![frozen], ..AdamWConfig::default() };
        Self { learning_rate: 1e-3, optimizer, ..Self::default() }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting out of its range.
    pub fn validate(&self) -> Result<(), TeacherError> {
        let counts = [("steps", self.steps), ("lists", self.lists), ("negatives", self.negatives), ("chunk", self.chunk)];
        for (setting, got) in counts {
            if got == 0 {
                return Err(TeacherError::Setting { setting, got: got.to_string(), expected: "a whole number from 1" });
            }
        }
        if !(self.clip.is_finite() && self.clip >= 0.0) {
            return Err(TeacherError::Setting { setting: "clip", got: self.clip.to_string(), expected: "a number from 0" });
        }
        self.optimizer.validate()?;
        self.rates().map(|_| ())
    }

    pub(crate) fn rates(&self) -> Result<Schedule, TeacherError> {
        Ok(Schedule::new(self.schedule, self.warmup, self.steps, self.learning_rate)?)
    }

    pub(crate) fn adamw(&self) -> Result<AdamW, TeacherError> {
        Ok(AdamW::new(self.optimizer.clone())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_checked() {
        let read = |text: &str| toml::from_str::<RerankerTraining>(text);
        assert_eq!(read("").unwrap(), RerankerTraining::default());
        RerankerTraining::default().validate().unwrap();
        let given = read("loss = \"binary-cross-entropy\"\nwarmup = 10\nlearning_rate = 1e-3").unwrap();
        assert_eq!((given.loss, given.warmup), (ListLoss::BinaryCrossEntropy, Warmup::Steps(10)));
        assert!(read("lerning_rate = 1").unwrap_err().to_string().contains("lerning_rate"));
        for (text, part) in [
            ("steps = 0", "steps is 0"),
            ("chunk = 0", "chunk is 0"),
            ("clip = -1.0", "clip is -1"),
            ("learning_rate = 0.0", "learning rate is 0"),
            ("steps = 5\nwarmup = 6", "warm-up takes 6 steps"),
            ("optimizer = { beta_1 = 1.0 }", "beta_1 is 1"),
        ] {
            let message = read(text).unwrap().validate().unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
