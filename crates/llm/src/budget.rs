//! What a job may spend: requests and tokens, set aside before a request is made, so that the limit holds.
//!
//! A request sets aside the most that it can cost: a token for every byte of the prompt, as no tokenizer makes more, some for the chat
//! template around each message, and the longest answer. What the endpoint counted replaces it afterwards. An endpoint may count more than
//! that all the same (a longer template, thoughts that no limit holds for): how much more is learned from its answers, and until a model has
//! given one, only one request to it is under way. So the limit is passed by what one request costs beyond all that was seen before, and by
//! several only where an endpoint changes its ways while several are under way.

use std::{
    collections::HashMap,
    sync::{Condvar, Mutex, PoisonError},
};

use serde::Serialize;

use crate::chat::Message;

/// Tokens that a chat template puts around one message at most, before an endpoint shows that its own takes more.
const AROUND_A_MESSAGE: u64 = 16;
/// Tokens that a template puts before the conversation (a standing system prompt, the date).
const BEFORE: u64 = 128;

/// Limits of one job, over all its runs; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Requests, repeated ones counted each time.
    pub requests: Option<u64>,
    /// Tokens of prompts and answers.
    pub tokens: Option<u64>,
}

/// What was spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// Requests.
    pub requests: u64,
    /// Tokens.
    pub tokens: u64,
}

/// What a budget lacks for another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Requests: as many as it allows are made.
    Requests,
    /// Tokens: so many would be set aside for it.
    Tokens(u64),
}

/// What is set aside for one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Aside {
    /// All of it.
    pub(crate) tokens: u64,
    /// The part of it that is for costs beyond those that the request allows.
    pub(crate) beyond: u64,
}

/// What is known of a model's costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Whether it has answered.
    pub(crate) answered: bool,
    /// Tokens to set aside beyond those that a request allows: twice the most that an answer took.
    pub(crate) beyond: u64,
}

impl Known {
    /// An answer for which `aside` was set aside has cost so much.
    pub(crate) fn learn(&mut self, aside: Aside, cost: u64) {
        self.answered = true;
        if cost > aside.tokens {
            self.beyond = self.beyond.max((cost - (aside.tokens - aside.beyond)).saturating_mul(2));
        }
    }
}

/// What earlier runs of a job have left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) spent: Spent,
    /// By the model's name.
    pub(crate) models: HashMap<String, Known>,
}

#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    past: Past,
    aside: u64,
    /// Requests under way, by model.
    open: HashMap<String, u64>,
}

impl State {
    fn close(&mut self, model: &str, aside: Aside) {
        self.aside -= aside.tokens;
        if let Some(open) = self.open.get_mut(model) {
            *open -= 1;
        }
    }
}

impl Budget {
    pub(crate) fn new(limits: Limits, past: Past) -> Self {
        Self { limits, state: Mutex::new(State { past, ..State::default() }), settled: Condvar::new() }
    }

    pub(crate) fn spent(&self) -> Spent {
        self.lock().past.spent
    }

    /// What is known of a model.
    pub(crate) fn known(&self, model: &str) -> Known {
        self.lock().past.models.get(model).copied().unwrap_or_default()
    }

    /// Sets aside what a request can cost and counts it, waiting for requests under way where these may leave enough, or show what one costs.
    /// An error: the budget does not allow it any more. Every amount set aside must be settled.
    pub(crate) fn set_aside(&self, model: &str, messages: &[Message], answer: u64) -> Result<Aside, Lack> {
        let mut state = self.lock();
        loop {
            let known = state.past.models.get(model).copied().unwrap_or_default();
            let aside = Aside { tokens: at_most(messages, answer).saturating_add(known.beyond), beyond: known.beyond };
            let tokens = state.past.spent.tokens.saturating_add(state.aside).saturating_add(aside.tokens);
            // One that is under way may be given back.
            let room = self.limits.requests.is_none_or(|limit| state.past.spent.requests < limit);
            let first = state.open.get(model).is_none_or(|open| *open == 0);
            if room && self.limits.tokens.is_none_or(|limit| tokens <= limit && (first || known.answered)) {
                state.aside += aside.tokens;
                *state.open.entry(model.to_owned()).or_default() += 1;
                state.past.spent.requests += 1;
                return Ok(aside);
            }
            if state.open.values().all(|open| *open == 0) {
                return Err(if room { Lack::Tokens(aside.tokens) } else { Lack::Requests });
            }
            state = self.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes back a request that is not made after all.
    pub(crate) fn give_back(&self, model: &str, aside: Aside) {
        let mut state = self.lock();
        state.close(model, aside);
        state.past.spent.requests -= 1;
        drop(state);
        self.settled.notify_all();
    }

    /// Replaces what was set aside by what it cost; `answered` says whether an answer has shown that.
    pub(crate) fn settle(&self, model: &str, aside: Aside, cost: u64, answered: bool) {
        let mut state = self.lock();
        state.close(model, aside);
        state.past.spent.tokens = state.past.spent.tokens.saturating_add(cost);
        if answered {
            state.past.models.entry(model.to_owned()).or_default().learn(aside, cost);
        }
        drop(state);
        self.settled.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most tokens that a request can cost.
pub(crate) fn at_most(messages: &[Message], answer: u64) -> u64 {
    let prompt: u64 = messages.iter().map(|message| message.content.len() as u64 + AROUND_A_MESSAGE).sum();
    BEFORE + prompt + answer
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::chat::Role;

    fn messages(bytes: usize) -> Vec<Message> {
        vec![Message::new(Role::User, "x".repeat(bytes))]
    }

    #[test]
    fn a_request_that_is_given_back_is_anothers() {
        let budget = Budget::new(Limits { requests: Some(1), tokens: None }, Past::default());
        let aside = budget.set_aside("m", &messages(10), 10).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| budget.set_aside("m", &messages(10), 10));
            std::thread::sleep(std::time::Duration::from_millis(20));
            budget.give_back("m", aside);
            let second = waiting.join().unwrap().unwrap();
            budget.settle("m", second, 5, true);
        });
        assert_eq!(budget.set_aside("m", &messages(10), 10), Err(Lack::Requests));
        assert_eq!(budget.spent().requests, 1);
    }

    #[test]
    fn what_is_set_aside_covers_every_byte_and_the_longest_answer() {
        assert_eq!(at_most(&messages(100), 50), 128 + 100 + 16 + 50);
    }

    fn budget(requests: Option<u64>, tokens: Option<u64>) -> Budget {
        Budget::new(Limits { requests, tokens }, Past::default())
    }

    #[test]
    fn tokens_and_requests_end_it() {
        let past = Past { spent: Spent { requests: 1, tokens: 7 }, ..Past::default() };
        let two = Budget::new(Limits { requests: Some(2), tokens: None }, past);
        let aside = two.set_aside("m", &messages(1), 1).unwrap();
        two.settle("m", aside, 3, true);
        assert_eq!(two.set_aside("m", &messages(1), 1), Err(Lack::Requests));
        assert_eq!(two.spent(), Spent { requests: 2, tokens: 10 });

        let few = budget(None, Some(295));
        let aside = few.set_aside("m", &messages(100), 50).unwrap();
        assert_eq!(aside, Aside { tokens: 294, beyond: 0 });
        few.settle("m", aside, 2, true);
        assert_eq!(few.set_aside("m", &messages(100), 50), Err(Lack::Tokens(294)), "2 + 294 is more than 295");
        // What is given back can be set aside again.
        let one = budget(Some(1), None);
        let aside = one.set_aside("m", &messages(1), 1).unwrap();
        one.give_back("m", aside);
        assert_eq!(one.spent(), Spent::default());
        assert_eq!(one.set_aside("m", &messages(1), 1), Ok(aside));
    }

    /// Costs beyond what a request allows raise what later requests to that model set aside, and only those.
    #[test]
    fn what_a_model_costs_beyond_is_learned() {
        let budget = budget(None, Some(10_000));
        let first = budget.set_aside("m", &messages(100), 50).unwrap();
        budget.settle("m", first, first.tokens + 5, true);
        let second = budget.set_aside("m", &messages(100), 50).unwrap();
        assert_eq!(second, Aside { tokens: first.tokens + 10, beyond: 10 });
        // What an endpoint that does not count is charged teaches nothing, nor does what stays within.
        budget.settle("m", second, second.tokens, true);
        assert_eq!(budget.known("m"), Known { answered: true, beyond: 10 });
        // 15 beyond what the request itself allows.
        let third = budget.set_aside("m", &messages(100), 50).unwrap();
        budget.settle("m", third, third.tokens + 5, true);
        assert_eq!(budget.known("m").beyond, 30);
        assert_eq!(budget.set_aside("other", &messages(100), 50), Ok(first));
    }

    /// Every answer costs ten times what its request allows. Eight threads: the limit is passed by one request, wherever it lies.
    #[test]
    fn one_request_alone_shows_what_a_model_costs() {
        for limit in [300, 3_000, 5_000, 20_000] {
            let budget = budget(None, Some(limit));
            let (open, most) = (AtomicU64::new(0), AtomicU64::new(0));
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        while let Ok(aside) = budget.set_aside("m", &messages(100), 50) {
                            let now = open.fetch_add(1, Ordering::SeqCst) + 1;
                            if !budget.known("m").answered {
                                most.fetch_max(now, Ordering::SeqCst);
                            }
                            std::thread::sleep(std::time::Duration::from_millis(2));
                            open.fetch_sub(1, Ordering::SeqCst);
                            budget.settle("m", aside, 2_940, true);
                        }
                    });
                }
            });
            assert_eq!(most.into_inner(), 1);
            let spent = budget.spent();
            assert!(spent.tokens <= limit.max(2_940), "{spent:?} of {limit}");
        }
    }

    /// Many threads, true costs anywhere up to what was set aside: the limit holds at every moment, and is used as far as one request can use it.
    #[test]
    fn the_limit_holds_under_concurrency() {
        let limit = 20_000;
        let budget = budget(None, Some(limit));
        let cost = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (budget, cost) = (&budget, &cost);
                scope.spawn(move || {
                    for turn in 0.. {
                        let Ok(aside) = budget.set_aside("m", &messages(200), 100) else { return };
                        let true_cost = (thread * 37 + turn * 11) % (aside.tokens + 1);
                        cost.fetch_add(true_cost, Ordering::SeqCst);
                        budget.settle("m", aside, true_cost, true);
                    }
                });
            }
        });
        let spent = budget.spent().tokens;
        assert_eq!(spent, cost.load(Ordering::SeqCst));
        assert!(spent <= limit && spent + at_most(&messages(200), 100) > limit, "{spent}");
    }
}
