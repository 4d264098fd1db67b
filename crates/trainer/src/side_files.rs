//! Files beside the collection that some techniques need: teacher scores, answers, groups, decisions of a relabelling, generated texts. (Written
//! queries become part of the collection: `data`.)
//!
//! Each is read once, against the collection's ids; what they do is the business of those who use them.

use std::path::Path;

use anyhow::Result;
use corpus::{Collection, Decisions, Generated, Groups, Judgments, Policy, QueryCounts, Relabelled, TeacherScores};

use crate::config::{Config, DataConfig};
use crate::errors::OrUsage;

#[derive(Default)]
pub(crate) struct SideFiles {
    pub(crate) teacher: Option<TeacherScores>,
    /// Answer strings by query.
    pub(crate) answers: Option<Vec<Vec<String>>>,
    pub(crate) groups: Option<Groups>,
    pub(crate) generated: Option<Generated>,
    decisions: Option<Decisions>,
    /// What was entered from `data.queries`.
    pub(crate) queries: Option<QueryCounts>,
    /// The fingerprint of the collection without them: they belong to the technique, not to what it is measured on.
    pub(crate) fingerprint: Option<String>,
}

impl SideFiles {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// When a file cannot be read or does not fit the collection; the message names file and line.
    pub(crate) fn read(config: &Config, collection: &Collection) -> Result<Self> {
        let (generated, teacher, teaches, config) = (config.generated(), config.teacher_file(), config.teaches(), &config.data);
        fn open<T>(path: Option<&String>, read: impl FnOnce(&Path) -> Result<T, corpus::CorpusError>) -> Result<Option<T>> {
            Ok(path.map(|path| read(Path::new(path))).transpose().or_usage()?)
        }
        // Lists that came with the data may carry a teacher's scores themselves.
        let came_along = || {
            let lists = collection.negatives.as_ref().filter(|_| teaches)?;
            Some(TeacherScores::from_lists(collection.queries.len(), lists)).filter(|scores| !scores.is_empty())
        };
        Ok(Self {
            teacher: teacher.map(|path| TeacherScores::read(&path, collection)).transpose().or_usage()?.or_else(came_along),
            answers: open(config.answers.as_ref(), |path| corpus::read_answers(path, collection))?,
            groups: open(config.groups.as_ref(), |path| corpus::read_groups(path, collection))?,
            generated: generated.map(|path| Generated::read(&path, collection)).transpose().or_usage()?,
            decisions: open(config.decisions.as_ref(), |path| Decisions::read(path, collection))?,
            ..Self::default()
        })
    }

    /// The judgments after relabelling, and what that changed.
    pub(crate) fn relabel(&self, judgments: &Judgments, config: &DataConfig) -> (Judgments, Option<Relabelled>) {
        match &self.decisions {
            Some(decisions) => {
                let (judgments, changed) = decisions.apply(judgments, config.decision_policy.unwrap_or(Policy::Promote));
                (judgments, Some(changed))
            }
            None => (judgments.clone(), None),
        }
    }
}
