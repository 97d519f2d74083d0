//! Threads that make batches ahead, and a queue that hands them over in the order in which they were asked for. Some
//! threads read, and may wait for a disk or a network; others decode, and never do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::job::{Batch, Job, Options};
use crate::error::{Error, Result};
use crate::pool;
use crate::stage::{self, Spent, Stage, timed};

/// How often to look up from waiting, to notice Ctrl-C.
const TICK: Duration = Duration::from_millis(100);

/// Threads that read.
const READERS: usize = 8;
/// Samples that one of them takes at a time.
const STRIDE: usize = 4;

type Task = (Arc<Job>, usize);

#[derive(Default)]
struct State {
    /// Samples that are to be read.
    unread: VecDeque<Task>,
    /// Samples that were read and are to be made.
    read: VecDeque<Task>,
    /// Batches that were not handed over yet.
    jobs: VecDeque<Arc<Job>>,
    stopped: bool,
    /// By all threads together.
    spent: Spent,
}

struct Shared {
    state: Mutex<State>,
    /// There is something to read, or nothing any more.
    reading: Condvar,
    /// There is something to make, or nothing any more.
    making: Condvar,
    /// A batch is done.
    done: Condvar,
    options: Options,
    /// Nanoseconds that were waited for batches.
    waited: AtomicU64,
}

pub struct Engine {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    process: u32,
}

impl Engine {
    /// `threads` 0: one for each core.
    pub fn start(threads: usize, options: Options) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            reading: Condvar::new(),
            making: Condvar::new(),
            done: Condvar::new(),
            options,
            waited: AtomicU64::new(0),
        });
        let spawn = |work: fn(&Shared)| {
            let shared = Arc::clone(&shared);
            let started = Builder::new().name("datago-loader".into()).spawn(move || work(&shared));
            started.map_err(|e| Error::Storage(format!("could not start a thread: {e}")))
        };
        let makers = pool::threads(threads, usize::MAX);
        let readers = (0..READERS).map(|_| spawn(Shared::read));
        let threads = readers.chain((0..makers).map(|_| spawn(Shared::make))).collect::<Result<_>>()?;
        Ok(Engine { shared, threads: Mutex::new(threads), process: std::process::id() })
    }

    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// A forked child has none of the threads, and locks that may be held for ever.
    pub fn check_process(&self) -> Result<()> {
        if self.process == std::process::id() {
            return Ok(());
        }
        Err(Error::Config(
            "this stream was begun in another process, and its threads are there: begin it in the process that uses \
             it (pass the stream on before its first batch, or make a new one with resume=token)"
                .into(),
        ))
    }

    /// Asks for a batch.
    pub fn submit(&self, job: Job) -> Result<()> {
        let job = Arc::new(job);
        let mut state = self.shared.lock();
        if state.stopped {
            return Err(Error::Config("the stream is closed".into()));
        }
        state.unread.extend((0..job.len()).map(|index| (Arc::clone(&job), index)));
        state.jobs.push_back(job);
        drop(state);
        self.shared.reading.notify_all();
        Ok(())
    }

    /// What all threads together spent until now, and how long batches were waited for.
    pub fn spent(&self) -> (Spent, Duration) {
        let waited = Duration::from_nanos(self.shared.waited.load(Ordering::Relaxed));
        (self.shared.lock().spent, waited)
    }

    /// The next batch that was asked for. After a timeout it can be waited for again.
    pub fn next(&self, timeout: Option<Duration>, tick: impl FnMut() -> Result<()>) -> Result<Batch> {
        let start = Instant::now();
        let job = self.wait(timeout, tick);
        let waited = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.shared.waited.fetch_add(waited, Ordering::Relaxed);
        let job = job?;
        job.finish(self.shared.options.wanted.payloads.len())
    }

    fn wait(&self, timeout: Option<Duration>, mut tick: impl FnMut() -> Result<()>) -> Result<Arc<Job>> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.shared.lock();
        loop {
            match state.jobs.pop_front() {
                _ if state.stopped => return Err(Error::Config("the stream is closed".into())),
                None => return Err(Error::Config("no batch was asked for".into())),
                Some(job) if job.is_done() => return Ok(job),
                Some(job) => state.jobs.push_front(job),
            }
            let left = until.map_or(TICK, |until| until.saturating_duration_since(Instant::now()).min(TICK));
            if left.is_zero() {
                let seconds = timeout.unwrap_or_default().as_secs_f64();
                return Err(Error::Timeout(format!(
                    "no batch was ready within {seconds} s; the stream goes on: ask again, or give it longer"
                )));
            }
            let (held, waited) =
                self.shared.done.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state = held;
            if waited.timed_out() {
                drop(state);
                tick()?;
                state = self.shared.lock();
            }
        }
    }

    /// Lets the threads go, and drops what they had not done.
    pub fn stop(&self) {
        let mut state = self.shared.lock();
        state.stopped = true;
        state.unread.clear();
        state.read.clear();
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        self.shared.reading.notify_all();
        self.shared.making.notify_all();
        self.shared.done.notify_all();
        jobs.iter().for_each(|job| job.stop());
    }

    /// Waits until the threads are gone.
    pub fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.check_process().is_ok() {
            return self.stop();
        }
        // In a forked child these are its parent's threads: letting go of them would detach those that have their places by now.
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::mem::forget(std::mem::take(threads));
    }
}

impl Shared {
    fn read(&self) {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return;
            }
            let count = state.unread.len().min(STRIDE);
            if count == 0 {
                state = self.reading.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let tasks: Vec<Task> = state.unread.drain(..count).collect();
            drop(state);
            timed(Stage::Read, || {
                tasks.iter().for_each(|(job, index)| job.read(*index, &self.options));
            });
            state = self.lock();
            state.spent += stage::take();
            if !state.stopped {
                state.read.extend(tasks);
                self.making.notify_all();
            }
        }
    }

    fn make(&self) {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return;
            }
            let Some((job, index)) = state.read.pop_front() else {
                state = self.making.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let last = job.make(index, &self.options);
            state = self.lock();
            state.spent += stage::take();
            if last {
                // Under the lock, so that who waits either saw it or is woken.
                self.done.notify_all();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
