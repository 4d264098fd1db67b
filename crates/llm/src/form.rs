//! Whether a model gives the form asked for at all. One that never does (a wrong chat template, a model that follows no instructions, a limit that
//! cuts every answer off) would be paid for a whole job of nothing: after so many questions without one answer that can be read nobody is asked any
//! more.
//!
//! Each kind of question counts for itself: a model that writes queries well may be unable to score passages. An answer that can be read and is not
//! good enough counts as read: how much is left out for its quality is for the user to say.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Questions of one kind without an answer that can be read, where none had one, until nobody is asked them any more. A model that gives the form to
/// one question in ten, too few for any job, gives it to none of 40 with a probability of 1.5 %; and 40 questions, each asked twice, cost little
/// beside a job.
const UNREAD: u32 = 40;
/// So many of them were asked in this run. The rest may have come out of the journal: that costs nothing any more, and something may have been mended
/// since.
const ASKED_NOW: u32 = 10;

/// What became of the questions of a run, by kind.
#[derive(Debug, Default)]
pub(crate) struct Form(Mutex<HashMap<&'static str, Tally>>);

#[derive(Debug, Default)]
struct Tally {
    /// Whether one had an answer of the form asked for, in the journal or now.
    read: bool,
    /// Those that had none.
    unread: u32,
    /// Those among them that were asked in this run.
    asked_now: u32,
    last: Option<Unread>,
}

/// An answer that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unread {
    /// Why.
    pub(crate) reason: String,
    /// How it begins; empty where there is no text.
    pub(crate) begins: String,
    /// Whether it ended because it was as long as it may be.
    pub(crate) cut: bool,
}

impl Form {
    /// A question of a kind has an answer of the form asked for.
    pub(crate) fn read(&self, kind: &'static str) {
        self.lock().entry(kind).or_default().read = true;
    }

    /// A question of a kind has none; `asked_now` says whether it was asked in this run.
    pub(crate) fn unread(&self, kind: &'static str, asked_now: bool, last: Unread) {
        let mut tallies = self.lock();
        let tally = tallies.entry(kind).or_default();
        tally.unread += 1;
        tally.asked_now += u32::from(asked_now);
        tally.last = Some(last);
    }

    /// How many questions of a kind had no answer that can be read, and the last of these, where that is reason enough to ask no more of them.
    pub(crate) fn hopeless(&self, kind: &'static str) -> Option<(u32, Unread)> {
        let tallies = self.lock();
        let tally = tallies.get(kind).filter(|it| !it.read && it.unread >= UNREAD && it.asked_now >= ASKED_NOW)?;
        tally.last.clone().map(|last| (tally.unread, last))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<&'static str, Tally>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_json(number: u32) -> Unread {
        Unread { reason: format!("no JSON {number}"), begins: "well".into(), cut: false }
    }

    #[test]
    fn forty_questions_without_one_that_is_read_are_enough_and_the_last_is_told() {
        let form = Form::default();
        for number in 1..40 {
            form.unread("verdicts", true, no_json(number));
            assert_eq!(form.hopeless("verdicts"), None, "{number}");
        }
        form.unread("verdicts", true, no_json(40));
        assert_eq!(form.hopeless("verdicts"), Some((40, no_json(40))));
        assert_eq!(form.hopeless("second verdicts"), None, "another kind of question");
        // One that was under way meanwhile has an answer after all.
        form.read("verdicts");
        assert_eq!(form.hopeless("verdicts"), None);
    }

    #[test]
    fn one_that_is_read_is_enough_to_go_on() {
        let form = Form::default();
        form.read("queries");
        (0..400).for_each(|number| form.unread("queries", true, no_json(number)));
        assert_eq!(form.hopeless("queries"), None);
    }

    /// What the journal holds counts, but does not end a run that has asked little itself.
    #[test]
    fn a_run_asks_some_itself_before_it_ends() {
        let form = Form::default();
        (0..70).for_each(|number| form.unread("queries", false, no_json(number)));
        for number in 70..79 {
            form.unread("queries", true, no_json(number));
            assert_eq!(form.hopeless("queries"), None, "{number}");
        }
        form.unread("queries", true, no_json(79));
        assert_eq!(form.hopeless("queries"), Some((80, no_json(79))));
    }
}
