//! Many units of work at once: so many threads as requests may be under way, each taking the next unit, results in the order of the units.
//!
//! When the job has to stop, the units that are left are gone through all the same: what the journal answers has its result.
//! A thread that waits for an answer costs little beside the answer; the client is a blocking one, which an async runtime would give threads too.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use crate::session::{Halt, Stop};

/// Units that end without an answer, one after the other, until the endpoint is taken to be down.
const FAILURES_IN_A_ROW: usize = 10;

/// What became of the units.
#[derive(Debug)]
pub(crate) struct Driven<R> {
    /// One for each unit, `None` where it has no result.
    pub(crate) results: Vec<Option<R>>,
    /// Units without an answer, and why.
    pub(crate) unanswered: Vec<(usize, String)>,
    /// Why the job had to stop: units without a result are those that the journal does not answer.
    pub(crate) stop: Option<Stop>,
}

/// Works on all `units`, `concurrency` at a time. `done` hears of every unit that ended, in any order. `close` hears why the job has to
/// stop; from then on `work` must begin no request.
pub(crate) fn drive<T: Sync, R: Send>(
    concurrency: usize,
    units: &[T],
    work: impl Fn(&T) -> Result<R, Halt> + Sync,
    done: &(dyn Fn() + Sync),
    close: &(dyn Fn(&Stop) + Sync),
) -> Driven<R> {
    let (next, in_a_row) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results: Mutex<Vec<Option<R>>> = Mutex::new(units.iter().map(|_| None).collect());
    let (unanswered, stop) = (Mutex::new(Vec::new()), Mutex::new(None));
    let end = |why: Stop| {
        // The first reason alone: what the others stop for then is that it is closed.
        let mut stop = stop.lock().unwrap_or_else(PoisonError::into_inner);
        if stop.is_none() {
            close(&why);
            *stop = Some(why);
        }
    };
    let worker = || {
        loop {
            let at = next.fetch_add(1, Ordering::SeqCst);
            let Some(unit) = units.get(at) else { return };
            match work(unit) {
                Ok(result) => {
                    in_a_row.store(0, Ordering::SeqCst);
                    results.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(result);
                }
                Err(Halt::Unanswered(why)) => {
                    if in_a_row.fetch_add(1, Ordering::SeqCst) + 1 >= FAILURES_IN_A_ROW {
                        end(Stop::Endpoint(format!("{FAILURES_IN_A_ROW} requests in a row have failed, the last: {why}")));
                    }
                    unanswered.lock().unwrap_or_else(PoisonError::into_inner).push((at, why));
                }
                // An endpoint that refuses a question works: others it may take.
                Err(Halt::Refused { why, .. }) => {
                    in_a_row.store(0, Ordering::SeqCst);
                    unanswered.lock().unwrap_or_else(PoisonError::into_inner).push((at, why));
                }
                Err(Halt::Stop(why)) => end(why),
            }
            done();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..concurrency.clamp(1, units.len().max(1)) {
            scope.spawn(worker);
        }
    });
    let mut unanswered = unanswered.into_inner().unwrap_or_else(PoisonError::into_inner);
    unanswered.sort_unstable_by_key(|it| it.0);
    Driven {
        results: results.into_inner().unwrap_or_else(PoisonError::into_inner),
        unanswered,
        stop: stop.into_inner().unwrap_or_else(PoisonError::into_inner),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, atomic::AtomicBool};

    use super::*;
    use crate::budget::Lack;

    #[test]
    fn results_keep_the_order_and_exactly_so_many_are_under_way() {
        let (now, most, ended) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        // Four must meet before any goes on: fewer than four at once would hang.
        let meet = Barrier::new(4);
        let units: Vec<usize> = (0..40).collect();
        let driven = drive(
            4,
            &units,
            |unit| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                meet.wait();
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(unit * 2)
            },
            &|| {
                ended.fetch_add(1, Ordering::SeqCst);
            },
            &|_| panic!("nothing stops it"),
        );
        assert_eq!(driven.results, units.iter().map(|unit| Some(unit * 2)).collect::<Vec<_>>());
        assert_eq!(most.into_inner(), 4);
        assert_eq!(ended.into_inner(), 40);
        assert!(driven.stop.is_none() && driven.unanswered.is_empty());
    }

    #[test]
    fn a_failed_unit_is_told_many_in_a_row_end_it_and_a_stop_ends_it_at_once() {
        let units: Vec<usize> = (0..100).collect();
        let odd = |unit: &usize| if unit % 2 == 1 { Err(Halt::Unanswered("no".into())) } else { Ok(()) };
        let driven = drive(1, &units, odd, &|| (), &|_| ());
        assert_eq!(driven.unanswered.len(), 50);
        assert!(driven.stop.is_none());

        let refused = |_: &usize| Err::<(), _>(Halt::Refused { why: "too long".into(), paid: false });
        let driven = drive(1, &units, refused, &|| (), &|_| panic!("it goes on"));
        assert!(driven.stop.is_none() && driven.unanswered.len() == 100);

        // Once closed, only what is known has a result; here every tenth.
        let closed = AtomicBool::new(false);
        let close = |_: &Stop| closed.store(true, Ordering::SeqCst);
        let known = |unit: &usize, asked: Halt| match closed.load(Ordering::SeqCst) {
            true if unit.is_multiple_of(10) => Ok(*unit),
            true => Err(Halt::Stop(Stop::Interrupted)),
            false => Err(asked),
        };
        let driven = drive(1, &units, |unit| known(unit, Halt::Unanswered("refused".into())), &|| (), &close);
        assert_eq!(driven.unanswered.len(), FAILURES_IN_A_ROW);
        assert!(matches!(driven.stop, Some(Stop::Endpoint(why)) if why.contains("refused")));

        closed.store(false, Ordering::SeqCst);
        let driven = drive(2, &units, |unit| known(unit, Halt::Stop(Stop::Budget(Lack::Requests))), &|| (), &close);
        assert!(matches!(driven.stop, Some(Stop::Budget(_))), "the first reason is told");
        assert!((9..=10).contains(&driven.results.iter().flatten().count()));
    }
}
