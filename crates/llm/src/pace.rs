//! How many requests an endpoint is asked at once, and when. One that sends somebody away is asked by half as many, and by nobody before the
//! moment that it names; as it answers, by more again, one at a time. Who waited for that moment comes back spread over a while behind it, and
//! in the order of their tickets: what was sent away goes before what was never asked, so that nobody is sent away again and again.

use std::{
    collections::BTreeSet,
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
    /// Tickets given out so far.
    tickets: u64,
    /// Tickets of those who wait. The oldest goes first.
    waiting: BTreeSet<u64>,
    /// Before this moment nobody asks.
    not_before: Option<Instant>,
    /// Who waits for that moment is back by this one.
    back_by: Option<Instant>,
    /// Before this moment the next of them does not ask.
    next: Option<Instant>,
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
    /// A place in the order of those who wait, behind all others. A request keeps it while it may be the limit that sends it away.
    pub(crate) fn ticket(&self) -> u64 {
        let mut state = self.lock();
        state.tickets += 1;
        state.tickets
    }

    /// Waits for a place among the requests under way; none once `is_over`. No ticket waits twice at once.
    pub(crate) fn turn(&self, ticket: u64, is_over: impl Fn() -> bool) -> Option<Turn<'_>> {
        let mut state = self.lock();
        state.waiting.insert(ticket);
        loop {
            if is_over() {
                state.waiting.remove(&ticket);
                self.changed.notify_all();
                return None;
            }
            let now = Instant::now();
            let Err(nap) = state.admit(ticket, now) else {
                self.changed.notify_all();
                return Some(Turn { pace: self, began: now });
            };
            state = self.changed.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Requests that were answered so far.
    pub(crate) fn answers(&self) -> u64 {
        self.lock().answers
    }

    /// Whether nobody is to ask now.
    pub(crate) fn is_held(&self) -> bool {
        self.lock().not_before.is_some_and(|it| it > Instant::now())
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
        self.pace.lock().hold(Instant::now(), time, spread);
    }
}

impl State {
    /// Whether a ticket that waits may ask now, and then counts it; if not, after how long it is to look again, unless something changes before.
    fn admit(&mut self, ticket: u64, now: Instant) -> Result<(), Duration> {
        let until = self.next.max(self.not_before).filter(|until| *until > now);
        let has_place = self.most.is_none_or(|most| self.under_way < (most as usize).max(1));
        match (self.waiting.first() == Some(&ticket), until) {
            (true, None) if has_place => {
                self.waiting.remove(&ticket);
                self.under_way += 1;
                let left = self.back_by.map(|end| end.saturating_duration_since(now)).filter(|_| !self.waiting.is_empty());
                self.next = left.map(|left| now + gap(left, self.waiting.len()));
                Ok(())
            }
            (true, Some(until)) => Err((until - now).min(NAP)),
            _ => Err(NAP),
        }
    }

    fn hold(&mut self, now: Instant, time: Duration, spread: Duration) {
        let until = now + time;
        if self.not_before.is_none_or(|known| known < until) {
            self.not_before = Some(until);
            self.back_by = Some(until + spread);
            // The first not at once either: others than we may wait for the same moment.
            self.next = Some(until + gap(spread, self.under_way + self.waiting.len()));
        }
    }
}

/// The time between two who come back while `waiting` more do, so that they fill what is `left`: half as long to half as long again as equal
/// parts would be.
fn gap(left: Duration, waiting: usize) -> Duration {
    left.mul_f64(rand::rng().random_range(0.5..1.5) / (waiting as f64 + 1.0))
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

    fn turn(pace: &Pace) -> Option<Turn<'_>> {
        pace.turn(pace.ticket(), || false)
    }

    #[test]
    fn half_as_many_after_a_crowd_was_sent_away_and_one_more_for_every_round_of_answers() {
        let pace = Pace::default();
        let crowd: Vec<_> = (0..16).map(|_| turn(&pace).unwrap()).collect();
        assert!(crowd.iter().all(|turn| turn.sent_away() == 1), "a crowd counts once");
        let most = || pace.lock().most.unwrap();
        assert!((most() - 8.0).abs() < 1e-9, "{}", most());
        drop(crowd);
        let eight: Vec<_> = (0..8).map(|_| turn(&pace).unwrap()).collect();
        // A ninth would wait.
        let looks = std::cell::Cell::new(0);
        let is_over = || looks.replace(looks.get() + 1) == 1;
        assert!(pace.turn(pace.ticket(), is_over).is_none());
        eight.iter().for_each(Turn::answered);
        assert!((8.9..=9.0).contains(&most()), "{}", most());
        drop(eight);
        for times in 1..=9 {
            assert_eq!(turn(&pace).unwrap().sent_away(), times);
        }
        assert!((most() - 1.0).abs() < 1e-9, "{}: one always may", most());
    }

    #[test]
    fn who_waits_comes_back_in_order_spread_over_a_while() {
        let (start, milli) = (Instant::now(), Duration::from_millis(1));
        for _ in 0..100 {
            let mut state = State { waiting: (0..20).collect(), ..State::default() };
            state.hold(start, 50 * milli, 100 * milli);
            let mut back: Vec<(u64, u32)> = Vec::new();
            for time in 0..200 {
                for ticket in (0..20).rev().filter(|ticket| !back.iter().any(|it| it.0 == *ticket)).collect::<Vec<_>>() {
                    match state.admit(ticket, start + time * milli) {
                        Ok(()) => back.push((ticket, time)),
                        Err(nap) => assert!(nap <= NAP && !nap.is_zero()),
                    }
                }
            }
            assert!(back.iter().map(|it| it.0).eq(0..20), "{back:?}");
            let (first, last) = (back[0].1, back[19].1);
            assert!((50..60).contains(&first) && last <= 150 && last - first > 50, "{back:?}");
            assert!(state.waiting.is_empty() && state.under_way == 20);
        }
    }

    /// One place; sixteen wait for it, and the one that came first and was sent away is the next, whoever else has waited longer by then.
    #[test]
    fn who_was_sent_away_goes_before_who_was_never_asked() {
        let pace = Pace::default();
        let tickets: Vec<u64> = (0..16).map(|_| pace.ticket()).collect();
        let order = Mutex::new(Vec::new());
        let away = pace.turn(tickets[0], || false).unwrap();
        away.sent_away();
        std::thread::scope(|scope| {
            let join = |at: usize| {
                let waiting = pace.lock().waiting.len();
                let (pace, order, tickets) = (&pace, &order, &tickets);
                scope.spawn(move || {
                    let turn = pace.turn(tickets[at], || false).unwrap();
                    order.lock().unwrap().push(at);
                    drop(turn);
                });
                while pace.lock().waiting.len() == waiting {
                    std::thread::yield_now();
                }
            };
            (1..16).rev().for_each(&join);
            join(0);
            drop(away);
        });
        assert_eq!(order.into_inner().unwrap(), (0..16).collect::<Vec<_>>());
    }
}
