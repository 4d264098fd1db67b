//! What a job may spend: requests and tokens, set aside before a request is made, so that the limit is never passed.
//!
//! A request sets aside the most that it can cost: a token for every byte of the prompt, as no tokenizer makes more, some for the chat
//! template around each message, and the longest answer. What the endpoint counted replaces it afterwards.

use std::sync::{Condvar, Mutex, PoisonError};

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

#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    spent: Spent,
    aside: u64,
    /// Requests under way.
    open: u64,
    /// Tokens by which an endpoint's count passed what was set aside: its template is longer than ours is taken for.
    excess: u64,
}

impl Budget {
    pub(crate) fn new(limits: Limits, spent: Spent) -> Self {
        Self { limits, state: Mutex::new(State { spent, ..State::default() }), settled: Condvar::new() }
    }

    pub(crate) fn spent(&self) -> Spent {
        self.lock().spent
    }

    /// Sets aside what a request can cost and counts it, waiting for requests under way where these may leave enough. `None`: the budget
    /// does not allow it any more. Every amount set aside must be settled.
    pub(crate) fn set_aside(&self, messages: &[Message], answer: u64) -> Option<u64> {
        let mut state = self.lock();
        loop {
            let most = at_most(messages, answer).saturating_add(state.excess);
            let tokens = state.spent.tokens.saturating_add(state.aside).saturating_add(most);
            if self.limits.requests.is_some_and(|limit| state.spent.requests >= limit) {
                return None;
            }
            if self.limits.tokens.is_none_or(|limit| tokens <= limit) {
                state.aside += most;
                state.open += 1;
                state.spent.requests += 1;
                return Some(most);
            }
            if state.open == 0 {
                return None;
            }
            state = self.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes back a request that is not made after all.
    pub(crate) fn give_back(&self, aside: u64) {
        let mut state = self.lock();
        state.aside -= aside;
        state.open -= 1;
        state.spent.requests -= 1;
        drop(state);
        self.settled.notify_all();
    }

    /// Replaces what was set aside by what it cost.
    pub(crate) fn settle(&self, aside: u64, cost: u64) {
        let mut state = self.lock();
        state.aside -= aside;
        state.open -= 1;
        state.spent.tokens = state.spent.tokens.saturating_add(cost);
        if cost > aside {
            state.excess = state.excess.max(2 * (cost - aside));
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
    fn what_is_set_aside_covers_every_byte_and_the_longest_answer() {
        assert_eq!(at_most(&messages(100), 50), 128 + 100 + 16 + 50);
    }

    #[test]
    fn tokens_and_requests_end_it() {
        let budget = Budget::new(Limits { requests: Some(2), tokens: None }, Spent { requests: 1, tokens: 7 });
        let aside = budget.set_aside(&messages(1), 1).unwrap();
        budget.settle(aside, 3);
        assert_eq!(budget.set_aside(&messages(1), 1), None);
        assert_eq!(budget.spent(), Spent { requests: 2, tokens: 10 });

        let budget = Budget::new(Limits { requests: None, tokens: Some(295) }, Spent::default());
        let aside = budget.set_aside(&messages(100), 50).unwrap();
        assert_eq!(aside, 294);
        budget.settle(aside, 2);
        assert_eq!(budget.set_aside(&messages(100), 50), None, "2 + 294 is more than 295");
        // What is given back can be set aside again.
        let budget = Budget::new(Limits { requests: Some(1), tokens: None }, Spent::default());
        let aside = budget.set_aside(&messages(1), 1).unwrap();
        budget.give_back(aside);
        assert_eq!(budget.spent(), Spent::default());
        assert_eq!(budget.set_aside(&messages(1), 1), Some(aside));
        // A template longer than thought raises what later requests set aside.
        let budget = Budget::new(Limits { requests: None, tokens: Some(10_000) }, Spent::default());
        let aside = budget.set_aside(&messages(100), 50).unwrap();
        budget.settle(aside, aside + 5);
        assert_eq!(budget.set_aside(&messages(100), 50), Some(aside + 10));
    }

    /// Many threads, true costs anywhere up to what was set aside: the limit holds at every moment, and is used as far as one request can use it.
    #[test]
    fn the_limit_holds_under_concurrency() {
        let limit = 20_000;
        let budget = Budget::new(Limits { requests: None, tokens: Some(limit) }, Spent::default());
        let cost = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (budget, cost) = (&budget, &cost);
                scope.spawn(move || {
                    for turn in 0.. {
                        let Some(aside) = budget.set_aside(&messages(200), 100) else { return };
                        let true_cost = (thread * 37 + turn * 11) % (aside + 1);
                        cost.fetch_add(true_cost, Ordering::SeqCst);
                        budget.settle(aside, true_cost);
                    }
                });
            }
        });
        let spent = budget.spent().tokens;
        assert_eq!(spent, cost.load(Ordering::SeqCst));
        assert!(spent <= limit && spent + at_most(&messages(200), 100) > limit, "{spent}");
    }
}
