//! How many requests an endpoint is asked at once, and when. One that sends somebody away is asked by half as many, and by nobody before the
//! moment that it names; as it answers, by more again, one at a time. Who waited for that moment comes back spread over a while behind it.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rand::RngExt;

/// Sleepers look up this often, to hear that the job is to stop.
const NAP: Duration = Duration::from_millis(50);

/// What is known of an endpoint's capacity.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Before this moment nobody asks, and those who waited come back within so long after it.
    not_before: Option<(Instant, Duration)>,
    /// Requests that may be under way; no limit until somebody is sent away.
    most: Option<f64>,
    under_way: usize,
    /// When `most` was lowered last. What was sent off before belongs to the same crowd and does not lower it again.
    lowered: Option<Instant>,
    /// Crowds that were sent away since somebody was answered.
    in_vain: u32,
    /// Requests that were answered so far.
    answers: u64,
}

/// A place among the requests under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pace: &'a Pace,
    began: Instant,
}

impl Pace {
    /// Waits for a place; none once `is_over`.
    pub(crate) fn turn(&self, is_over: impl Fn() -> bool) -> Option<Turn<'_>> {
        let mut state = self.lock();
        let mut own: Option<(Instant, Instant)> = None;
        loop {
            if is_over() {
                return None;
            }
            let now = Instant::now();
            if let Some((moment, spread)) = state.not_before.filter(|it| it.0 > now)
                && own.is_none_or(|(known, _)| known != moment)
            {
                own = Some((moment, moment + spread.mul_f64(rand::rng().random())));
            }
            let until = own.map(|it| it.1).filter(|until| *until > now);
            if until.is_none() && state.most.is_none_or(|most| state.under_way < (most as usize).max(1)) {
                state.under_way += 1;
                return Some(Turn { pace: self, began: now });
            }
            let nap = until.map_or(NAP, |until| (until - now).min(NAP));
            state = self.changed.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Requests that were answered so far.
    pub(crate) fn answers(&self) -> u64 {
        self.lock().answers
    }

    /// Whether nobody is to ask now.
    pub(crate) fn is_held(&self) -> bool {
        self.lock().not_before.is_some_and(|it| it.0 > Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// The endpoint worked on it: one more may be under way when as many as may be now have been answered.
    pub(crate) fn answered(&self) {
        let mut state = self.pace.lock();
        state.in_vain = 0;
        state.answers += 1;
        state.most = state.most.map(|most| most + 1.0 / most);
    }

    /// The endpoint has more to do than it takes: half as many from now on. Says how many crowds were sent away since somebody was answered.
    pub(crate) fn sent_away(&self) -> u32 {
        let mut state = self.pace.lock();
        if state.lowered.is_none_or(|lowered| self.began >= lowered) {
            let most = state.most.unwrap_or(f64::INFINITY).min(state.under_way as f64);
            (state.most, state.lowered) = (Some((most / 2.0).max(1.0)), Some(Instant::now()));
            state.in_vain += 1;
        }
        state.in_vain
    }

    /// Nobody asks for so long; then they come spread over `spread`.
    pub(crate) fn hold(&self, time: Duration, spread: Duration) {
        let mut state = self.pace.lock();
        let until = Instant::now() + time;
        if state.not_before.is_none_or(|known| known.0 < until) {
            state.not_before = Some((until, spread));
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.pace.lock().under_way -= 1;
        self.pace.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_as_many_after_a_crowd_was_sent_away_and_one_more_for_every_round_of_answers() {
        let pace = Pace::default();
        let crowd: Vec<_> = (0..16).map(|_| pace.turn(|| false).unwrap()).collect();
        assert!(crowd.iter().all(|turn| turn.sent_away() == 1), "a crowd counts once");
        let most = || pace.lock().most.unwrap();
        assert!((most() - 8.0).abs() < 1e-9, "{}", most());
        drop(crowd);
        let eight: Vec<_> = (0..8).map(|_| pace.turn(|| false).unwrap()).collect();
        // A ninth would wait.
        let looks = std::cell::Cell::new(0);
        let is_over = || looks.replace(looks.get() + 1) == 1;
        assert!(pace.turn(is_over).is_none());
        eight.iter().for_each(Turn::answered);
        assert!((8.9..=9.0).contains(&most()), "{}", most());
        drop(eight);
        for times in 1..=9 {
            assert_eq!(pace.turn(|| false).unwrap().sent_away(), times);
        }
        assert!((most() - 1.0).abs() < 1e-9, "{}: one always may", most());
    }

    #[test]
    fn who_waits_comes_back_spread_over_a_while() {
        let pace = Pace::default();
        let begun = Instant::now();
        pace.turn(|| false).unwrap().hold(Duration::from_millis(50), Duration::from_millis(100));
        assert!(pace.is_held());
        let moments: Vec<Duration> = std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..20)
                .map(|_| {
                    scope.spawn(|| {
                        drop(pace.turn(|| false));
                        begun.elapsed()
                    })
                })
                .collect();
            waiting.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (first, last) = (moments.iter().min().unwrap(), moments.iter().max().unwrap());
        // All of twenty within half of the time: one in a million.
        assert!(*first >= Duration::from_millis(50) && *last - *first > Duration::from_millis(50), "{moments:?}");
    }
}
