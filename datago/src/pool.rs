//! Many threads work, one thread receives, in order, and never gets far behind.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Result;
use crate::stage::{self, Spent, Stage, timed};

/// How often the receiver looks up from waiting, to notice Ctrl-C.
const TICK: Duration = Duration::from_millis(100);

struct State<T> {
    next: usize,
    received: usize,
    stopped: bool,
    done: BTreeMap<usize, T>,
    /// Of the workers.
    spent: Spent,
}

/// The number of threads to use: 0 means one for each core, and never more than there is work.
pub fn threads(asked: usize, count: usize) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    (if asked == 0 { cores() } else { asked }).min(count).max(1)
}

/// Calls `work(0..count)` on `threads` threads and hands the results to `receive` in order, on this thread.
/// At most `window` results wait or are worked on at any time. `tick` runs while waiting; an error from it or from
/// `receive` stops everything: `stop` is called before the threads are waited for, to wake those that wait for
/// something else. `work` must not panic. Returns what all threads spent in each stage.
pub fn ordered<T: Send>(
    count: usize,
    threads: usize,
    window: usize,
    work: impl Fn(usize) -> T + Sync,
    mut receive: impl FnMut(usize, T) -> Result<()>,
    mut tick: impl FnMut() -> Result<()>,
    stop: impl FnOnce(),
) -> Result<Spent> {
    let spent = Spent::default();
    let state = Mutex::new(State { next: 0, received: 0, stopped: false, done: BTreeMap::new(), spent });
    // This thread's account may hold what others left in it.
    stage::take();
    let changed = Condvar::new();
    let window = window.max(threads);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let mut held = lock(&state);
                    while !held.stopped && held.next < count && held.next >= held.received + window {
                        let wait = || changed.wait(held).unwrap_or_else(PoisonError::into_inner);
                        held = timed(Stage::Blocked, wait);
                    }
                    held.spent += stage::take();
                    if held.stopped || held.next >= count {
                        return;
                    }
                    let index = held.next;
                    held.next += 1;
                    drop(held);
                    let value = work(index);
                    lock(&state).done.insert(index, value);
                    changed.notify_all();
                }
            });
        }
        let outcome = (0..count).try_for_each(|index| {
            let mut held = lock(&state);
            let value = loop {
                if let Some(value) = held.done.remove(&index) {
                    break value;
                }
                let (again, waited) =
                    changed.wait_timeout(held, TICK).unwrap_or_else(PoisonError::into_inner);
                held = again;
                if waited.timed_out() {
                    drop(held);
                    tick()?;
                    held = lock(&state);
                }
            };
            held.received = index + 1;
            drop(held);
            changed.notify_all();
            receive(index, value)
        });
        lock(&state).stopped = true;
        changed.notify_all();
        stop();
        outcome
    })?;
    let mut spent = lock(&state).spent;
    spent += stage::take();
    Ok(spent)
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn results_arrive_in_order_whatever_the_threads() {
        for threads in [1, 4] {
            let mut seen = Vec::new();
            let push = |index, value: usize| {
                seen.push((index, value));
                Ok(())
            };
            ordered(100, threads, 3, |i| i * i, push, || Ok(()), || ()).expect("no error");
            assert_eq!(seen, (0..100).map(|i| (i, i * i)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_while_receiving_stops_the_workers() {
        let fail = |_, _| Err(Error::Storage("full".into()));
        assert!(ordered(1000, 4, 4, |i| i, fail, || Ok(()), || ()).is_err());
    }
}
